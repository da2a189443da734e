// Where the costs of the best network come from, and how costs vary over the space.

const BARS = 24; // blocks that have a bar

function costsSection(index) {
  const body = byId("costs-body");
  const parts = [spaceCosts(index), index === null ? null : blockCosts(index)].filter((part) => part);
  if (!parts.length) byId("costs").remove();
  body.append(...parts);
}

// Histograms of costs of random architectures, as they were recorded when the search began.
function spaceCosts(index) {
  const drawn = data.record.drawn;
  if (!drawn || !Object.keys(drawn.costs).length) return null;
  const charts = Object.entries(drawn.costs).map(([name, found]) => {
    const place = measures.findIndex((m) => m.source === "costs" && m.name === name);
    return place < 0 ? null : histogram(measures[place], found, index === null ? null : valueOf(index, place), index === null ? null : numberOf(index));
  }).filter((chart) => chart);
  if (!charts.length) return null;
  const kept = drawn.kept === null ? "" :
    ` The ${data.record.limits.length === 1 ? "limit is" : "limits together are"} kept by ${keptShare(drawn.kept)} of them.`;
  return h("div", {},
    h("p", {}, `Costs of ${format(drawn.n)} random architectures of the space, as predicted when the search began.` + kept),
    h("div", { class: "histograms" }, charts));
}

function keptShare([low, high]) {
  const text = (value) => value === 0 ? "none" : value >= 0.001 ? Number((100 * value).toPrecision(3)) + " %" : "a share of " + value.toPrecision(2);
  return high - low <= 0.02 * high ? text(high) : `${text(low)} to ${text(high)}`;
}

// own: the cost of the trial that is shown, or null.
function histogram(measure, { edges, counts, median }, own, trial) {
  const [width, height] = [340, 150], box = { x0: 12, x1: width - 12, y0: 12, y1: height - 24 };
  const limits = measure.limits.map(([relation, value]) => ({ relation, value }));
  const marks = limits.map((limit) => limit.value).concat(own === null ? [] : [own]);
  const x = makeScale([edges[0], edges[edges.length - 1], ...marks], box.x0, box.x1, { count: 5 });
  const most = Math.max(...counts);
  const bars = counts.map((n, i) => n ? s("rect", { class: "hist", x: x(edges[i]).toFixed(1), y: (box.y1 - (box.y1 - box.y0) * n / most).toFixed(1),
    width: Math.max(0.5, x(edges[i + 1]) - x(edges[i])).toFixed(1), height: ((box.y1 - box.y0) * n / most).toFixed(1) }) : null);
  const shades = limits.flatMap(({ relation, value }) => {
    const at = x(value), above = relation.startsWith("<");
    return [s("rect", { class: "shade", x: above ? at : box.x0, y: box.y0, width: Math.max(0, above ? box.x1 - at : at - box.x0), height: box.y1 - box.y0 }),
      s("line", { class: "limit", x1: at, x2: at, y1: box.y0 - 6, y2: box.y1 })];
  });
  const words = limits.map(({ relation, value }) => `limit ${relation.replace("<=", "≤").replace(">=", "≥")} ${withUnit(value, measure)}`);
  if (own !== null) words.push(`trial ${trial}: ${withUnit(own, measure)}`);
  words.push(`median ${withUnit(median, measure)}`);
  const ticks = x.ticks.filter((value) => x(value) > box.x0 + 8 && x(value) < box.x1 - 8);
  return h("figure", { class: "histogram" },
    h("figcaption", {}, h("strong", {}, measure.label)),
    s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Histogram of ${measure.label} of random architectures: ${words.join(", ")}` },
      bars, shades, s("line", { class: "axis", x1: box.x0, x2: box.x1, y1: box.y1, y2: box.y1 }),
      ticks.map((value) => s("text", { class: "tick-label", x: x(value).toFixed(1), y: box.y1 + 16, "text-anchor": "middle" }, x.format(value))),
      own === null ? null : s("path", { class: "own", d: `M${x(own).toFixed(1)} ${box.y1}l-6 11h12z` })),
    h("div", { class: "muted" }, words.join(" · ")));
}

// The blocks of a network, each with its share of the operations or the parameters.
function blockCosts(index) {
  const drawing = (detailOf(index) || {}).drawing;
  if (!drawing) return null;
  const kinds = [["MACs", 4, drawing.macs], ["parameters", 3, drawing.params]].filter(([, , total]) => total);
  if (!kinds.length) return null;
  const rows = h("div", {});
  const show = (i) => rows.replaceChildren(blockTable(drawing, ...kinds[i]));
  show(0);
  return h("div", { class: "blocks" }, h("h3", {}, "Where they come from in trial " + numberOf(index)),
    kinds.length > 1 ? h("div", { class: "controls" }, choose("Of each block its", kinds.map(([name], i) => [i, name]), 0, show)) : null, rows);
}

function blockTable(drawing, name, field, total) {
  const blocks = drawing.cards.map((card, i) => {
    const parts = {};
    for (const node of card.nodes) parts[node[1]] = (parts[node[1]] || 0) + card.times * (node[field] || 0);
    const sum = Object.values(parts).reduce((a, b) => a + b, 0);
    return { title: `${i + 1}. ${card.title}` + (card.times > 1 ? ` × ${card.times}` : ""), parts, sum };
  }).filter((block) => block.sum > 0);
  const least = [...blocks].sort((a, b) => b.sum - a.sum)[BARS - 1];
  const shown = blocks.length > BARS ? blocks.filter((block) => block.sum >= least.sum).slice(0, BARS) : blocks;
  const most = Math.max(...shown.map((block) => block.sum));
  const kinds = Object.entries(drawing.kinds).filter(([kind]) => shown.some((block) => block.parts[kind]));
  const rows = shown.map((block) => {
    let at = 0;
    const bars = kinds.filter(([kind]) => block.parts[kind]).map(([kind]) => {
      const width = 100 * block.parts[kind] / most;
      const bar = s("rect", { class: "kind-bar " + kind, x: at, y: 1, width, height: 8 });
      at += width;
      return bar;
    });
    const share = 100 * block.sum / total;
    return h("tr", {}, h("th", { scope: "row", title: block.title }, shorten(block.title, 40)),
      h("td", { class: "bar-cell" }, s("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" }, bars)),
      h("td", { class: "number" }, brief(block.sum)),
      h("td", { class: "number muted" }, share < 0.05 ? "<0.1 %" : share.toFixed(1) + " %"));
  });
  return h("div", {},
    h("div", { class: "legend" }, kinds.map(([kind, text]) => h("span", {}, h("i", { class: "swatch " + kind }), text)),
      h("span", { class: "muted" }, `${brief(total)} ${name} in all` + (shown.length < blocks.length ? `; the ${BARS} largest of ${blocks.length} blocks` : ""))),
    h("table", { class: "block-costs" }, h("tbody", {}, rows)));
}
