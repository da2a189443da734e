// A network as cards: a block each, its operations from top to bottom, skips as curves beside them.

const NODE = { width: 178, height: 42, gap: 18, lane: 16 };
const CARD = { side: 14, head: 30, port: 14, foot: 0, skip: 14, gapX: 30, gapY: 36 };

// What `drawing.py` made: cards [{title, times, nodes, edges}], a node being
// [label, kind, shape, parameters, MACs, layer, lane, what is folded into it]; edges [[from, to]], -1 for the card's input.
function network(drawing) {
  const frame = h("div", { class: "network" });
  let width = 0;
  const draw = () => {
    const now = Math.round(frame.clientWidth);
    if (!now || now === width) return;
    width = now;
    frame.replaceChildren(drawNetwork(drawing, width));
  };
  new ResizeObserver(draw).observe(frame);
  return h("div", {}, legend(drawing), frame);
}

function legend(drawing) {
  const kinds = new Set(drawing.cards.flatMap((card) => card.nodes.map((node) => node[1])));
  const items = Object.entries(drawing.kinds).filter(([kind]) => kinds.has(kind));
  const totals = [];
  if (drawing.params) totals.push(brief(drawing.params) + " parameters");
  if (drawing.macs) totals.push(brief(drawing.macs) + " MACs; the bar under an operation is its share of them");
  return h("div", { class: "legend" },
    items.map(([kind, name]) => h("span", {}, h("i", { class: "swatch " + kind }), name)),
    totals.length ? h("span", { class: "muted" }, totals.join(", ")) : null);
}

function cardSize(card) {
  const lanes = 1 + Math.max(0, ...card.nodes.map((node) => node[6]));
  const layers = 1 + Math.max(0, ...card.nodes.map((node) => node[5]));
  const skips = card.edges.filter((edge) => sideways(card, edge)).length;
  return {
    width: 2 * CARD.side + lanes * NODE.width + (lanes - 1) * NODE.lane + (skips ? 6 + CARD.skip * skips : 0),
    height: CARD.head + CARD.port + layers * (NODE.height + NODE.gap) + CARD.foot,
  };
}

const layerOf = (card, index) => index < 0 ? -1 : card.nodes[index][5];
const laneOf = (card, index) => index < 0 ? 0 : card.nodes[index][6];

// Whether an edge passes other operations of its lane.
function sideways(card, [from, to]) {
  return laneOf(card, from) === laneOf(card, to) && layerOf(card, to) - layerOf(card, from) > 1;
}

function drawNetwork(drawing, width) {
  const placed = [];
  let [x, y, row] = [1, 1, 0];
  for (const card of drawing.cards) {
    const size = cardSize(card);
    if (x > 1 && x + size.width > width) { x = 1; y += row + CARD.gapY; row = 0; }
    placed.push({ card, x, y, ...size });
    x += size.width + CARD.gapX;
    row = Math.max(row, size.height);
  }
  const wide = Math.max(width, ...placed.map((p) => p.x + p.width + 2));
  const root = s("svg", { width: wide, height: y + row + 4, viewBox: `0 0 ${wide} ${y + row + 4}`,
    role: "img", "aria-label": describeNetwork(drawing) });
  const most = Math.max(1, ...drawing.cards.flatMap((card) => card.nodes.map((node) => node[4] || 0)));
  placed.forEach((box, i) => {
    root.append(drawCard(box, most));
    if (i + 1 < placed.length) root.append(drawLink(box, placed[i + 1], placed));
  });
  return root;
}

function describeNetwork(drawing) {
  return "Network: " + drawing.cards.map((card) =>
    card.title + (card.times > 1 ? " times " + card.times : "") + " (" +
    card.nodes.map((node) => node[0]).join(", ") + ")").join("; then ");
}

function drawCard({ card, x, y, width, height }, most) {
  const group = s("g", { transform: `translate(${x} ${y})` });
  if (card.times > 1) group.append(s("rect", { class: "card under", x: 4, y: 4, width, height, rx: 10 }));
  group.append(s("rect", { class: "card", width, height, rx: 10 }),
    s("text", { class: "card-title", x: CARD.side, y: 20 },
      shorten(card.title, Math.floor((width - (card.times > 1 ? 70 : 28)) / 7.4)), s("title", {}, card.title)));
  if (card.times > 1) group.append(s("text", { class: "card-times", x: width - CARD.side, y: 20,
    "text-anchor": "end" }, "× " + card.times));
  const port = [CARD.side + NODE.width / 2, CARD.head + 4];
  const corner = (index) => [CARD.side + laneOf(card, index) * (NODE.width + NODE.lane),
    CARD.head + CARD.port + layerOf(card, index) * (NODE.height + NODE.gap)];
  const hasPort = card.edges.some(([from]) => from < 0);
  const lanes = 1 + Math.max(0, ...card.nodes.map((node) => node[6]));
  let out = CARD.side + lanes * NODE.width + (lanes - 1) * NODE.lane + 4;
  const span = ([from, to]) => layerOf(card, to) - layerOf(card, from);
  for (const edge of [...card.edges].sort((a, b) => span(a) - span(b))) { // short skips inside long ones
    if (sideways(card, edge)) out += CARD.skip;
    group.append(drawEdge(card, edge, corner, port, out));
  }
  if (hasPort) group.append(s("circle", { class: "port", cx: port[0], cy: port[1], r: 3.5 }));
  card.nodes.forEach((node, index) => group.append(drawNode(node, corner(index), most)));
  return group;
}

function drawNode([label, kind, shape, params, macs, , , tail], [x, y], most) {
  const lines = [label, tail, shape ? "gives " + shape : null,
    params ? format(params) + " parameters" : null, macs ? format(macs) + " MACs" : null];
  const group = s("g", { class: "node " + kind, transform: `translate(${x} ${y})` },
    s("title", {}, lines.filter(Boolean).join("\n")),
    s("rect", { class: "body", width: NODE.width, height: NODE.height, rx: 6 }),
    s("text", { class: "node-label", x: 10, y: shape || tail ? 17 : 25 }, shorten(label, 27)));
  if (shape) group.append(s("text", { class: "node-shape", x: 10, y: 32 }, shorten(shape, tail ? 14 : 28)));
  if (tail) group.append(s("text", { class: "node-shape", x: NODE.width - 10, y: 32, "text-anchor": "end" },
    shorten(tail, Math.max(10, 27 - shape.length))));
  if (macs) group.append(s("rect", { class: "share", x: 3, y: NODE.height - 5, height: 3, rx: 1.5,
    width: Math.max(2, (NODE.width - 6) * macs / most).toFixed(1) }));
  return group;
}

function drawEdge(card, [from, to], corner, port, out) {
  const [bx, by] = corner(to);
  const start = from < 0 ? port : [corner(from)[0] + NODE.width / 2, corner(from)[1] + NODE.height];
  const [la, lb] = [laneOf(card, from), laneOf(card, to)];
  const end = [bx + NODE.width / 2, by];
  if (sideways(card, [from, to])) return skipEdge(start, from < 0 ? 0 : NODE.gap / 2, end, out);
  if (la === lb) return arrow(`M${start}L${end}`, end, 90);
  if (lb > la) { // a branch begins: over to its lane below the source, then down it
    const y = start[1] + (from < 0 ? 0 : 6);
    return arrow(`M${start}${turns([[start[0], y], [end[0], y], end])}`, end, 90);
  }
  const enter = [end[0] + 12, end[1]], y = end[1] - 10; // it ends: down its lane, over above the target
  return arrow(`M${start}${turns([[start[0], y], [enter[0], y], enter])}`, enter, 90);
}

// A skip: in the gap below its source to the right of all lanes, down, and back above its target.
function skipEdge([x, y], drop, [ex, ey], out) {
  const enter = ex + 24, a = y + drop, b = ey - NODE.gap / 2 - 2;
  return arrow(`M${x} ${y}${turns([[x, a], [out, a], [out, b], [enter, b], [enter, ey]])}`, [enter, ey], 90, "skip-edge");
}

// Straight lines through points, the corners rounded.
function turns(points) {
  return points.map(([x, y], i) => {
    if (!i || i === points.length - 1) return `L${x} ${y}`;
    const [before, after] = [points[i - 1], points[i + 1]];
    const at = ([px, py]) => { // on the way to a neighbour, at most half of it
      const length = Math.hypot(px - x, py - y) || 1, r = Math.min(7, length / 2);
      return `${(x + (px - x) * r / length).toFixed(1)} ${(y + (py - y) * r / length).toFixed(1)}`;
    };
    return `L${at(before)}Q${x} ${y} ${at(after)}`;
  }).join("");
}

function arrow(path, [x, y], angle, kind = "") {
  return s("g", { class: "edge " + kind }, s("path", { d: path }),
    s("path", { class: "head", d: "M0 0L-7 -3.5L-7 3.5Z", transform: `translate(${x} ${y}) rotate(${angle})` }));
}

// From one card to the next: beside it, or round into the row below.
function drawLink(a, b, placed) {
  const y = a.y + 15;
  if (b.y === a.y) return arrow(`M${a.x + a.width} ${y}H${b.x}`, [b.x, y], 0);
  const bottom = Math.max(...placed.filter((p) => p.y === a.y).map((p) => p.y + p.height));
  const middle = bottom + CARD.gapY / 2;
  const into = b.x + CARD.side + NODE.width / 2;
  if (a.x === b.x) return arrow(`M${into} ${a.y + a.height}V${b.y}`, [into, b.y], 90);
  const out = a.x + a.width / 2, r = 10;
  return arrow(`M${out} ${a.y + a.height}V${middle - r}Q${out} ${middle} ${out - r} ${middle}` +
    `H${into + r}Q${into} ${middle} ${into} ${middle + r}V${b.y}`, [into, b.y], 90);
}
