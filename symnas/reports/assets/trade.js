// The trade-off: one measure against another, with its front; a click shows the architecture.

const NUMBER = -1; // the x axis that counts trials

function tradeSection() {
  const body = byId("trade-body");
  if (!objectives.length || !total) {
    body.append(h("p", { class: "note" }, "No trial has begun yet: there is nothing to show."));
    return;
  }
  const axes = { up: data.axes[0], right: data.axes[1] === null ? NUMBER : data.axes[1], zoom: false };
  const chart = plot(tradePlot(axes));
  const note = h("div", {});
  const explain = () => note.replaceChildren(tradeKey(axes), h("p", { class: "muted" }, tradeNote(axes)));
  const update = () => { chart.update(tradePlot(axes)); explain(); };
  const options = measures.map((measure, i) => [i, measure.label]);
  body.append(
    h("div", { class: "controls" },
      choose("Upward", options, axes.up, (i) => { axes.up = i; update(); }),
      choose("Rightward", [[NUMBER, "trial number"], ...options], axes.right, (i) => { axes.right = i; update(); }),
      tick("zoom in on the better half", false, (on) => { axes.zoom = on; update(); })),
    chart.frame, note, panel());
  explain();
}

// Trials with a number on both axes.
function plotted({ up, right }) {
  const there = (i) => valueOf(i, up) !== null && (right === NUMBER || valueOf(i, right) !== null);
  return data.trials.number.map((_, i) => i).filter((i) => stateOf(i) === "done" && there(i));
}

function tradePlot(axes) {
  const { up, right, zoom } = axes;
  const all = plotted(axes);
  const shown = zoom ? betterHalf(all, up) : all;
  const xOf = (i) => right === NUMBER ? numberOf(i) : valueOf(i, right);
  const front = right === NUMBER ? records(all, up) : frontOf(all, right, up);
  const onFront = new Set(right === NUMBER ? front : [...front, ...data.front.map((n) => place.get(n))]);
  const kind = (i) => numberOf(i) === data.best ? "best" : onFront.has(i) ? "front" : "plain";
  const visible = new Set(shown);
  return {
    label: `Scatter plot of ${measures[up].label} against ${right === NUMBER ? "trial number" : measures[right].label}, ` +
      `${count(shown.length, "trial")}. Arrow keys move along the front, Enter shows a trial below.`,
    points: shown.map((i) => ({ index: i, x: xOf(i), y: valueOf(i, up), kind: kind(i) })),
    x: right === NUMBER ? { label: "trial" } : { label: axisLabel(right), log: spread(all, right) },
    y: { label: axisLabel(up), log: false },
    whole: right === NUMBER,
    shades: [...limitsOf(up, "y"), ...(right === NUMBER ? [] : limitsOf(right, "x"))],
    line: steps(front.filter((i) => visible.has(i)).map((i) => [xOf(i), valueOf(i, up)]),
      right !== NUMBER && measures[right].direction === "maximize"),
    walk: front.filter((i) => visible.has(i)),
    rug: right === NUMBER ? failedNumbers() : null,
    describe: (i) => describeTrial(i, [up, right]),
  };
}

function axisLabel(measure) {
  const better = { maximize: ", higher is better", minimize: ", lower is better" };
  return measures[measure].label + (better[measures[measure].direction] || "");
}

const failedNumbers = () => data.trials.number.filter((_, i) => !["done", "running"].includes(stateOf(i)));

// Whether values span so much that a logarithmic axis shows them better.
function spread(indices, measure) {
  const values = indices.map((i) => valueOf(i, measure));
  return values.length > 1 && Math.min(...values) > 0 && Math.max(...values) / Math.min(...values) > 100;
}

function betterFirst(indices, measure) {
  const sign = measure !== undefined && measures[measure].direction === "minimize" ? 1 : -1;
  return [...indices].sort((a, b) => sign * (valueOf(a, measure) - valueOf(b, measure)));
}

function betterHalf(indices, up) {
  return betterFirst(indices, up).slice(0, Math.ceil(indices.length / 2));
}

function limitsOf(measure, axis) {
  return measures[measure].limits.map(([relation, value]) => ({ axis, relation, value,
    label: `limit ${relation.replace("<=", "≤").replace(">=", "≥")} ${withUnit(value, measures[measure])}` }));
}

// The trials that beat all before them.
function records(indices, up) {
  const sign = measures[up].direction === "minimize" ? -1 : 1;
  let best = -Infinity;
  return indices.filter((i) => comparable(i) && sign * valueOf(i, up) > best && ((best = sign * valueOf(i, up)), true));
}

// The corners between points from left to right: what is reached at each x.
function steps(points, fromRight) {
  return points.flatMap((point, i) => i === 0 ? [point] :
    [fromRight ? [points[i - 1][0], point[1]] : [point[0], points[i - 1][1]], point]);
}

function describeTrial(index, shown) {
  const own = [...new Set([...shown, ...objectives])].filter((i) => i !== NUMBER);
  const budget = data.trials.budget ? ["budget: " + format(data.trials.budget[index])] : [];
  return ["Trial " + numberOf(index), ...budget, ...own.map((i) => `${measures[i].name}: ${withUnit(valueOf(index, i), measures[i])}`)];
}

function tradeKey({ up, right }) {
  const limited = [up, right].some((i) => i !== NUMBER && measures[i].limits.length);
  const item = (kind, text) => h("span", {}, h("i", { class: "mark " + kind }), text);
  return h("div", { class: "legend" }, data.best === null ? null : item("best", "best"),
    item("front", right === NUMBER ? "beat all before it"
      : data.front.length ? "on the Pareto front" : "not beaten in both"),
    item("plain", "other finished trial"),
    right === NUMBER && data.failures.length ? item("bad", "failed") : null,
    limited ? item("limit", "outside a constraint") : null);
}

function tradeNote(axes) {
  const parts = [];
  if (axes.right === NUMBER)
    parts.push("The line is the best so far.");
  else if (measures[axes.up].direction && measures[axes.right].direction)
    parts.push("The steps show the best that was reached: no trial lies beyond them.");
  if (budgets.length > 1) parts.push(`Only trials of the highest budget are compared: ${format(budgets[budgets.length - 1])}.`);
  const done = data.trials.state.filter((state) => state === "done").length;
  const without = done - plotted(axes).length;
  if (without) parts.push(`${count(without, "finished trial")} without a number on these axes ${without === 1 ? "is" : "are"} left out.`);
  parts.push("Click a point, or move along the line with the arrow keys and press Enter, to see its architecture.");
  return parts.join(" ");
}
