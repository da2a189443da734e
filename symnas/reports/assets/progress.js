// The objective over the trials: each one, and the best until then.

function progressSection() {
  const body = byId("progress-body");
  if (!objectives.length || !total || data.axes[1] === null) { // or the first plot shows the same
    byId("progress").remove();
    return;
  }
  const state = { up: objectives[0], zoom: false };
  const chart = plot(progressPlot(state));
  const update = () => chart.update(progressPlot(state));
  body.append(
    h("div", { class: "controls" },
      objectives.length > 1 ? choose("Objective", objectives.map((i) => [i, measures[i].label]), state.up,
        (i) => { state.up = i; update(); }) : null,
      tick("zoom in on the better half", false, (on) => { state.zoom = on; update(); })),
    chart.frame,
    h("div", { class: "legend" }, h("span", {}, h("i", { class: "mark line" }), "best so far"),
      h("span", {}, h("i", { class: "mark plain" }), "a trial"),
      h("span", {}, h("i", { class: "mark bad" }), "a trial that failed")));
}

function progressPlot({ up, zoom }) {
  const all = plotted({ up, right: NUMBER });
  const shown = zoom ? betterHalf(all, up) : all;
  const best = records(all, up);
  const visible = new Set(shown), leading = new Set(best);
  const line = steps(best.filter((i) => visible.has(i)).map((i) => [numberOf(i), valueOf(i, up)]), false);
  if (line.length) line.push([data.trials.number[total - 1], line[line.length - 1][1]]);
  return {
    label: `${measures[up].label} of each trial in order, and the best so far`,
    height: 300,
    points: shown.map((i) => ({ index: i, x: numberOf(i), y: valueOf(i, up),
      kind: numberOf(i) === data.best ? "best" : leading.has(i) ? "front" : "plain" })),
    x: { label: "trial" }, y: { label: axisLabel(up) }, whole: true,
    shades: limitsOf(up, "y"), line, walk: best.filter((i) => visible.has(i)),
    rug: failedNumbers(),
    describe: (i) => describeTrial(i, [up]),
  };
}

// The best trial's network; with several objectives that of the front's best in the first one.
function networkSection(index) {
  const body = byId("network-body");
  if (index === null) { byId("network").remove(); return; }
  const drawing = drawingOf(index);
  if (data.best === null) byId("network-title").textContent =
    `The network of the front with the best ${measures[objectives[0]].name}`;
  body.append(h("p", {}, `Trial ${numberOf(index)}: ` + objectives.map((i) =>
    `${measures[i].name} ${withUnit(valueOf(index, i), measures[i])}`).join(", ") + ". " + (drawing
    ? "Each card is a block; operations run from top to bottom, cards from left to right and row by row."
    : "Its network could not be drawn, so these are its choices. " + missing(index))));
  body.append(drawing || choiceCards(index));
}
