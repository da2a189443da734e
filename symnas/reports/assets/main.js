// Puts the sections together.

function tiles() {
  const states = data.trials.state;
  const done = states.filter((state) => state === "done").length;
  const failed = states.filter((state) => !["done", "running"].includes(state)).length;
  const items = [];
  if (data.best !== null) {
    const index = place.get(data.best);
    for (const i of objectives) items.push(["best " + measures[i].name, withUnit(valueOf(index, i), measures[i])]);
  } else if (data.front.length) items.push(["not beaten", count(data.front.length, "trial")]);
  for (const [name, value] of Object.entries(data.final)) items.push([name, format(value), "final training"]);
  items.push(["finished", format(done)], ["failed", failed ? `${format(failed)}` : "none"]);
  return items.map(([name, value, kind]) => h("div", { class: kind ? "tile final" : "tile" },
    h("div", { class: "tile-name" }, shorten(name, 40)), h("div", { class: "tile-value" }, value),
    kind ? h("div", { class: "tile-kind" }, kind) : null));
}

// A section that fails says so, and leaves the others alone.
function attempt(id, section) {
  try {
    section();
  } catch (error) {
    console.error(error);
    byId(id).append(h("p", { class: "note" }, "This part could not be drawn: " + error.message));
  }
}

async function main() {
  byId("tiles").append(...tiles());
  try {
    await unpack();
  } catch (error) {
    byId("main").prepend(h("p", { class: "note" },
      "Choices, sources and drawings are left out: this browser could not unpack them (" + error.message + ")."));
  }
  const front = betterFirst(data.front.map((number) => place.get(number)), objectives[0]);
  const first = data.best !== null ? place.get(data.best) : front.length ? front[0] : null;
  attempt("trade", tradeSection);
  attempt("progress", progressSection);
  attempt("network", () => networkSection(first));
  attempt("training", trainingSection);
  attempt("costs", () => costsSection(first));
  attempt("decisions", decisionsSection);
  attempt("trials", tableSection);
  attempt("failures", failuresSection);
  if (first !== null) select(first);
  attempt("record", recordSection);
  say("");
  document.documentElement.dataset.ready = "yes";
}

main();
