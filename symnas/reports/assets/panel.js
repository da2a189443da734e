// The details of the trial that is selected.

function panel() {
  const box = h("section", { class: "panel", id: "panel", "aria-label": "Details of the selected trial" });
  let open = false; // whether the drawing is shown, kept from trial to trial
  selection.watchers.push((index) => {
    const drawing = drawingOf(index);
    const more = drawing && h("details", { open }, h("summary", {}, "Network"), drawing);
    if (more) more.addEventListener("toggle", () => { open = more.open; });
    box.replaceChildren(panelHead(index), h("div", { class: "panel-columns" },
      facts(index), choiceTable(index)), more || h("p", { class: "muted" }, missing(index)));
    say("Trial " + numberOf(index) + " is shown");
  });
  return box;
}

function panelHead(index) {
  const detail = detailOf(index) || {};
  const marks = [];
  if (numberOf(index) === data.best) marks.push(h("span", { class: "badge best" }, "best"));
  if (data.front.includes(numberOf(index))) marks.push(h("span", { class: "badge front" }, "not beaten"));
  if (stateOf(index) !== "done") marks.push(h("span", { class: "badge bad" }, stateOf(index)));
  const json = detail.json === undefined ? null : detail.json;
  const source = detail.source === undefined ? null : detail.source;
  return h("div", { class: "panel-head" },
    h("h3", {}, "Trial " + numberOf(index) + " ", marks),
    h("div", { class: "buttons" },
      copyButton("Copy source", source, missing(index, "source")), copyButton("Copy JSON", json, missing(index, "json"))));
}

function missing(index, what = "drawing") {
  const detail = detailOf(index);
  if (!detail)
    return `Source, JSON and drawing are on this page for the ${count(data.detailed, "best trial")} only` +
      ` (with those of the front). Of this one: ${recall(index)}`;
  return "Not available: " + detail.why[what] + ".";
}

// How to get the architecture of a trial in Python.
function recall(index) {
  const study = data.file ? `sn.Study.open(${JSON.stringify(data.file)}, ${JSON.stringify(data.name)})` : "study";
  return `${study}.trial(${numberOf(index)}).architecture`;
}

function facts(index) {
  const rows = measures.map((measure, i) => {
    const value = valueOf(index, i);
    const bad = value !== null && measure.limits.some((limit) => breaks(value, limit));
    return h("tr", {}, h("th", { scope: "row" }, measure.name),
      h("td", { class: bad ? "number bad" : "number" }, withUnit(value, measure), bad ? " breaks its limit" : ""));
  });
  if (data.trials.stage) rows.push(h("tr", {}, h("th", { scope: "row" }, "stage of the flow"), h("td", {}, data.trials.stage[index])));
  if (data.trials.budget) rows.push(h("tr", {}, h("th", { scope: "row" }, "budget"), h("td", { class: "number" }, format(data.trials.budget[index]))));
  const seconds = data.trials.seconds[index];
  if (seconds !== null) rows.push(h("tr", {}, h("th", { scope: "row" }, "evaluation"), h("td", { class: "number" }, format(seconds) + " s")));
  const reused = data.trials.reused[numberOf(index)];
  const reason = data.trials.reason[numberOf(index)];
  return h("div", {}, h("h4", {}, "Metrics and costs"), h("table", { class: "facts" }, h("tbody", {}, rows)),
    reused ? h("p", { class: "muted" }, `Result of trial ${reused[1]} of “${reused[0]}”, reused.`) : null,
    reason ? h("pre", { class: "reason" }, reason) : null);
}

function choiceTable(index) {
  const chosen = choicesOf(index);
  const inactive = decisions.length - chosen.length;
  return h("div", {}, h("h4", {}, "Choices"),
    h("dl", { class: "choices" }, chosen.map(([decision, label]) =>
      h("div", { title: decision.id }, h("dt", {}, decisionName(decision)), h("dd", {}, label)))),
    inactive ? h("p", { class: "muted" }, `${count(inactive, "decision")} ${inactive === 1 ? "is" : "are"} inactive in this architecture.`) : null);
}

// The drawing of a trial's network; of its choices alone where the network could not be traced.
function drawingOf(index) {
  const detail = detailOf(index);
  return detail && detail.drawing ? network(detail.drawing) : null;
}

// The choices as blocks, in the order of the program: decisions whose ids share a beginning.
function choiceCards(index) {
  const cards = new Map();
  for (const [decision, label] of choicesOf(index)) {
    const [, block, field] = decision.id.match(/^(?:(.*)\.)?([^.]*)$/s);
    const title = block || "network";
    if (!cards.has(title)) cards.set(title, []);
    cards.get(title).push([field, label]);
  }
  return h("div", { class: "choice-cards" }, [...cards].map(([title, entries]) =>
    h("div", { class: "choice-card" }, h("strong", {}, title),
      entries.map(([field, label]) => h("div", {}, h("span", { class: "muted" }, field + " "), label)))));
}
