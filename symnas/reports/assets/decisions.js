// How the first objective differs between the labels of each decision.

const SHOWN = 8;

function decisionsSection() {
  const body = byId("decisions-body");
  if (!data.associations.length) {
    body.append(h("p", { class: "note" }, "No decision was tried with two labels in finished trials."));
    return;
  }
  const measure = measures[objectives[0]];
  body.append(h("p", {}, `Mean ${measure.label} of the trials with each label, as the difference from ` +
    "the mean of all trials in which the decision is active, with the number of trials. " +
    (budgets.length > 1 ? `Trials of the lowest budget alone count (${format(budgets[0])}). ` : "") +
    "This is association, not causation: the algorithm chose which labels to try, and with which others, so a label " +
    "can look good for the company it kept. Few trials say little."));
  const most = Math.max(...data.associations.flatMap(differences).map(Math.abs)) || 1;
  const cards = data.associations.map((found) => associationCard(found, measure, most));
  const grid = (some) => h("div", { class: "associations" }, some);
  body.append(grid(cards.slice(0, SHOWN)));
  if (cards.length > SHOWN) body.append(h("details", {},
    h("summary", {}, `${count(cards.length - SHOWN, "more decision")}, with weaker association`), grid(cards.slice(SHOWN))));
}

// Of each label's mean from the mean of all trials in which the decision is active.
function differences({ means, counts }) {
  const trials = counts.reduce((a, b) => a + b, 0);
  const mean = means.reduce((sum, value, i) => sum + value * counts[i], 0) / trials;
  return means.map((value) => value - mean);
}

function associationCard(found, measure, most) {
  const decision = decisions[found.decision];
  const all = differences(found);
  const show = columnFormat(all, 2);
  const sign = measure.direction === "minimize" ? -1 : 1;
  const rows = found.labels.map((label, i) => {
    const difference = all[i];
    const half = 50 * Math.abs(difference) / most;
    const good = sign * difference >= 0;
    return h("tr", {}, h("th", { scope: "row", title: label }, shorten(label, 28)),
      h("td", { class: "bar-cell" }, s("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
        s("rect", { class: good ? "bar good" : "bar poor", x: difference >= 0 ? 50 : 50 - half, y: 1, width: half, height: 8 }),
        s("line", { class: "axis", x1: 50, x2: 50, y1: 0, y2: 10 }))),
      h("td", { class: "number" }, (difference >= 0 ? "+" : "−") + show(Math.abs(difference))),
      h("td", { class: "number muted" }, "n = " + format(found.counts[i])));
  });
  return h("div", { class: "association" },
    h("h3", { title: decision.id }, decisionName(decision), " ",
      h("span", { class: "muted" }, Math.round(100 * found.share) + " % of the variance")),
    h("table", {}, h("tbody", {}, rows)));
}
