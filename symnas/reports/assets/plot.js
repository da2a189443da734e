// A scatter plot in SVG: points to hover, click and walk along with the arrow keys.

const MARGIN = { left: 70, right: 16, top: 14, bottom: 46 };

// options: label, points [{index, x, y, kind}], x and y {label, log}, line [[x, y]] drawn as
// given, shades [{axis, relation, value, label}], walk: indices in the order of the arrow keys,
// describe(index): lines of the tooltip, rug [x]: marks at the bottom, whole: x has no fractions.
function plot(options) {
  const frame = h("div", { class: "plot" });
  const tip = h("div", { class: "tip", hidden: true });
  const state = { frame, tip, options, width: 0, mark: () => {} };
  const draw = () => {
    state.width = Math.round(frame.clientWidth);
    tip.hidden = true;
    if (state.width) frame.replaceChildren(drawPlot(state), tip);
  };
  new ResizeObserver(() => { if (Math.round(frame.clientWidth) !== state.width) draw(); }).observe(frame);
  selection.watchers.push((index) => state.mark(index));
  state.update = (changed) => { state.options = changed; draw(); };
  return state;
}

function drawPlot(state) {
  const { options, width } = state;
  const height = options.height || Math.round(Math.min(430, Math.max(280, width * 0.5)));
  const { points } = options;
  const limits = (axis) => (options.shades || []).filter((d) => d.axis === axis).map((d) => d.value);
  const near = (axis, values) => limits(axis).filter((v) => { // far limits would squash the points
    const low = Math.min(...values), high = Math.max(...values), span = high - low || Math.abs(high);
    return v >= low - span && v <= high + span;
  });
  const xs = points.map((p) => p.x).concat(options.rug || []);
  const ys = points.map((p) => p.y);
  const x = makeScale(xs.concat(near("x", xs)), MARGIN.left, width - MARGIN.right,
    { log: options.x.log, count: width / 110, zero: false });
  const y = makeScale(ys.concat(near("y", ys)), height - MARGIN.bottom, MARGIN.top,
    { log: options.y.log, count: 6 });
  if (options.whole) x.ticks = x.ticks.filter(Number.isInteger);

  const box = { x0: MARGIN.left, x1: width - MARGIN.right, y0: MARGIN.top, y1: height - MARGIN.bottom };
  const root = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group",
    tabindex: options.walk ? 0 : null, "aria-label": options.label });
  root.append(...drawAxes(options, x, y, box), ...(options.shades || []).flatMap((d) => drawShade(d, x, y, box)));
  if (options.rug) root.append(s("path", { class: "rug",
    d: options.rug.map((v) => `M${x(v).toFixed(1)} ${box.y1}v-9`).join("") }));
  if (options.line && options.line.length)
    root.append(s("path", { class: "front-line", d: options.line.map(([a, b], i) =>
      `${i ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("") }));

  const spots = new Map();
  const order = { plain: 0, front: 1, best: 2 };
  const small = points.length > 800;
  for (const point of [...points].sort((a, b) => order[a.kind] - order[b.kind])) {
    const [px, py] = [x(point.x), y(point.y)];
    spots.set(point.index, [px, py]);
    root.append(drawPoint(point, px, py, small));
  }
  const ring = s("circle", { class: "ring", r: 11, hidden: true });
  const cursor = s("circle", { class: "cursor", r: 8, hidden: true });
  root.append(ring, cursor);
  watch(state, root, spots, ring, cursor);
  return root;
}

function drawPoint(point, px, py, small) {
  const attributes = { class: "point " + point.kind, "data-trial": numberOf(point.index) };
  if (point.kind !== "best")
    return s("circle", { ...attributes, cx: px.toFixed(1), cy: py.toFixed(1),
      r: point.kind === "front" ? 5 : small ? 2.2 : 3.6 });
  const star = Array.from({ length: 10 }, (_, i) => {
    const [angle, radius] = [Math.PI * (i / 5 - 0.5), i % 2 ? 4.2 : 9.5];
    return `${(px + radius * Math.cos(angle)).toFixed(1)},${(py + radius * Math.sin(angle)).toFixed(1)}`;
  });
  return s("polygon", { ...attributes, points: star.join(" ") });
}

function drawAxes(options, x, y, box) {
  const parts = [];
  for (const value of y.ticks) {
    const at = y(value).toFixed(1);
    parts.push(s("line", { class: "grid", x1: box.x0, x2: box.x1, y1: at, y2: at }),
      s("text", { class: "tick-label", x: box.x0 - 8, y: at, dy: "0.32em", "text-anchor": "end" }, y.format(value)));
  }
  for (const value of x.ticks) {
    const at = x(value).toFixed(1);
    parts.push(s("line", { class: "grid", x1: at, x2: at, y1: box.y0, y2: box.y1 }),
      s("text", { class: "tick-label", x: at, y: box.y1 + 18, "text-anchor": "middle" }, x.format(value)));
  }
  const middle = (box.y0 + box.y1) / 2;
  parts.push(
    s("line", { class: "axis", x1: box.x0, x2: box.x1, y1: box.y1, y2: box.y1 }),
    s("text", { class: "axis-label", x: (box.x0 + box.x1) / 2, y: box.y1 + 39, "text-anchor": "middle" },
      shorten(options.x.label, 60) + (x.log ? ", logarithmic" : "")),
    s("text", { class: "axis-label", x: 14, y: middle, "text-anchor": "middle",
      transform: `rotate(-90 14 ${middle})` }, shorten(options.y.label, 40)));
  return parts;
}

// A constraint: its line, and the side that breaks it.
function drawShade(shade, x, y, box) {
  const horizontal = shade.axis === "y";
  const [low, high] = horizontal ? [box.y0, box.y1] : [box.x0, box.x1];
  const at = (horizontal ? y : x)(shade.value);
  const above = shade.relation.startsWith("<"); // larger values break it
  const towardsHigh = horizontal ? !above : above; // in pixels
  const from = Math.max(low, towardsHigh ? at : low), to = Math.min(high, towardsHigh ? high : at);
  const parts = [];
  if (to > from) parts.push(s("rect", horizontal
    ? { class: "shade", x: box.x0, y: from, width: box.x1 - box.x0, height: to - from }
    : { class: "shade", x: from, y: box.y0, width: to - from, height: box.y1 - box.y0 }));
  if (at < low || at > high) { // beyond the axis: said in words
    return [...parts, s("text", { class: "limit-label", x: box.x1 - 6, y: box.y0 + 14, "text-anchor": "end" },
      shade.label + " (off this axis)")];
  }
  parts.push(s("line", horizontal
    ? { class: "limit", x1: box.x0, x2: box.x1, y1: at, y2: at }
    : { class: "limit", x1: at, x2: at, y1: box.y0, y2: box.y1 }));
  const left = at > (box.x0 + box.x1) / 2;
  parts.push(horizontal
    ? s("text", { class: "limit-label", x: box.x1 - 6, y: at - 6, "text-anchor": "end" }, shade.label)
    : s("text", { class: "limit-label", x: at + (left ? -6 : 6), y: box.y1 - 8, "text-anchor": left ? "end" : "start" },
      shade.label));
  return parts;
}

function watch(state, root, spots, ring, cursor) {
  const { options, tip, width } = state;
  let current = null;
  const put = (circle, index) => {
    const spot = spots.get(index);
    circle.toggleAttribute("hidden", !spot);
    if (spot) { circle.setAttribute("cx", spot[0]); circle.setAttribute("cy", spot[1]); }
  };
  const show = (index, spoken) => {
    current = index;
    put(cursor, index);
    const spot = spots.get(index);
    tip.hidden = !spot;
    if (!spot) return;
    const lines = options.describe(index);
    tip.replaceChildren(...lines.map((line, i) => h(i ? "div" : "strong", {}, line)));
    const left = spot[0] > width / 2;
    tip.style.left = left ? "auto" : spot[0] + 14 + "px";
    tip.style.right = left ? width - spot[0] + 14 + "px" : "auto";
    tip.style.top = Math.max(0, spot[1] - 20) + "px";
    if (spoken) say(lines.join(", "));
  };
  const nearest = (event) => {
    const area = root.getBoundingClientRect();
    const [px, py] = [event.clientX - area.left, event.clientY - area.top];
    let [found, least] = [null, 26 * 26];
    for (const [index, [a, b]] of spots) {
      const distance = (a - px) ** 2 + (b - py) ** 2;
      if (distance < least) [found, least] = [index, distance];
    }
    return found;
  };
  root.addEventListener("pointermove", (event) => show(nearest(event)));
  root.addEventListener("pointerleave", () => show(null));
  root.addEventListener("click", (event) => {
    const index = nearest(event);
    if (index !== null) select(index);
  });
  const walk = (options.walk || []).filter((index) => spots.has(index));
  const begin = () => walk.includes(selection.index) ? selection.index : walk[0];
  root.addEventListener("focus", () => { if (root.matches(":focus-visible") && walk.length) show(begin(), true); });
  root.addEventListener("blur", () => show(null));
  root.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, Home: -Infinity, End: Infinity };
    if (event.key in steps && walk.length) {
      const at = walk.includes(current) ? walk.indexOf(current) : walk.indexOf(begin());
      show(walk[Math.min(walk.length - 1, Math.max(0, at + steps[event.key]))], true);
    } else if ((event.key === "Enter" || event.key === " ") && current !== null) select(current);
    else if (event.key === "Escape") show(null);
    else return;
    event.preventDefault();
  });
  state.mark = (index) => put(ring, index);
  put(ring, selection.index);
}
