// How the supernet of a one-shot search was trained, and what its relaxed solution became.

function trainingSection() {
  const body = byId("training-body");
  const epochs = (data.training || {}).epochs || [];
  if (!epochs.length) { byId("training").remove(); return; }
  const names = [...new Set(epochs.flatMap((epoch) => Object.keys(epoch)))].filter((name) => name !== "seconds");
  const seconds = epochs.reduce((sum, epoch) => sum + (epoch.seconds || 0), 0);
  body.append(h("p", {}, `One supernet, which shares the weights of all networks, was trained for ${count(epochs.length, "epoch")} in ${format(seconds)} s.`));
  const costs = relaxedCosts(data.training.result || {});
  if (costs.length) body.append(relaxedTable(costs));
  body.append(h("div", { class: "histograms" }, names.map((name) => curve(name, epochs.map((epoch) => epoch[name])))));
  const others = Object.entries(data.training.result || {}).filter(([name]) => !/^(relaxed|discrete|target) /.test(name));
  if (others.length) body.append(h("p", { class: "muted" }, others.map(([name, value]) => `${name}: ${format(value)}`).join(" · ")));
}

// The numbers that are named "relaxed c", "discrete c" and "target c".
function relaxedCosts(result) {
  const names = [...new Set(Object.keys(result).filter((key) => /^(relaxed|discrete|target) /.test(key)).map((key) => key.replace(/^\S+ /, "")))];
  return names.map((name) => ({ name, unit: (measures.find((m) => m.source === "costs" && m.name === name) || {}).unit || "",
    ...Object.fromEntries(["target", "relaxed", "discrete"].map((kind) => [kind, `${kind} ${name}` in result ? result[`${kind} ${name}`] : null])) }));
}

function relaxedTable(costs) {
  const head = ["cost", "limit", "relaxed solution", "the network"].map((text) => h("th", { scope: "col" }, text));
  const rows = costs.map((cost) => h("tr", {}, h("th", { scope: "row" }, cost.name + (cost.unit ? ` (${cost.unit})` : "")),
    [cost.target, cost.relaxed, cost.discrete].map((value) => h("td", { class: "number" }, format(value)))));
  return h("table", { class: "relaxed" }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows));
}

function curve(name, values) {
  const [width, height] = [340, 150], box = { x0: 46, x1: width - 12, y0: 12, y1: height - 24 };
  const known = values.map((value, i) => [i + 1, value]).filter(([, value]) => typeof value === "number");
  if (!known.length) return null;
  const x = makeScale([1, Math.max(2, values.length)], box.x0, box.x1, { count: 5 });
  const y = makeScale(known.map(([, value]) => value), box.y1, box.y0, { count: 4 });
  const path = known.map(([i, value], k) => `${k ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const last = known[known.length - 1][1];
  return h("figure", { class: "histogram" }, h("figcaption", {}, h("strong", {}, name)),
    s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${name} in each epoch, ${format(last)} in the last` },
      y.ticks.filter((value) => y(value) > box.y0 && y(value) < box.y1).map((value) => [
        s("line", { class: "grid", x1: box.x0, x2: box.x1, y1: y(value), y2: y(value) }),
        s("text", { class: "tick-label", x: box.x0 - 6, y: y(value) + 4, "text-anchor": "end" }, y.format(value))]),
      s("line", { class: "axis", x1: box.x0, x2: box.x1, y1: box.y1, y2: box.y1 }),
      x.ticks.filter((value) => Number.isInteger(value) && value >= 1).map((value) =>
        s("text", { class: "tick-label", x: x(value).toFixed(1), y: box.y1 + 16, "text-anchor": "middle" }, x.format(value))),
      s("path", { class: "curve", d: path })),
    h("div", { class: "muted" }, `${format(last)} in the last epoch`));
}
