// Failures, and what is needed to repeat the search.

function failuresSection() {
  const body = byId("failures-body");
  if (!data.failures.length) { body.append(h("p", {}, "No trial failed.")); return; }
  const failed = data.failures.reduce((sum, group) => sum + group.count, 0);
  body.append(h("p", {}, `${count(failed, "trial")} failed, for ${count(data.failures.length, "reason")}; numbers within a reason aside.`));
  for (const group of data.failures) {
    const [first, ...rest] = group.first.split("\n");
    const links = group.numbers.map((number) => h("button", { type: "button", class: "link", onclick: () => {
      select(place.get(number));
      byId("panel").scrollIntoView({ block: "nearest" });
    } }, String(number)));
    body.append(h("div", { class: "failure" },
      h("strong", { class: "number" }, format(group.count)),
      h("div", {}, h("div", { class: "reason-line" }, first),
        h("div", { class: "muted" }, "trials ", links.flatMap((link, i) => i ? [", ", link] : [link]),
          group.count > links.length ? ", …" : null),
        rest.length ? h("details", {}, h("summary", {}, "the first one in full"), h("pre", {}, group.first)) : null)));
  }
}

function recordSection() {
  const body = byId("record-body");
  const record = data.record;
  const items = [
    ["Objectives", (record.objectives || []).map((o) => `${o.direction} ${o.name}${o.unit ? ` (${o.unit})` : ""}`)],
    ["Constraints", data.constraints.length ? data.constraints : ["none"]],
    ["Reward", record.reward ? rewardText(record.reward) : null],
    ["Algorithm", [record.flow ? h("pre", { class: "record" }, plain(record.flow)) : plain(record.algorithm)]],
    ["Task", [plain(record.task)]],
    ["Seed", [plain(record.seed)]],
    ["Ahead", [`${plain(record.ahead)}: a proposal uses the results up to that many before it`]],
    ["Versions", Object.entries(record.versions || {}).map(([name, version]) => `${name} ${version}`)],
    ["Study", [`${data.file ? data.file + ", " : ""}search “${data.name}”` +
      (data.searches.length ? `; other searches of it: ${data.searches.join(", ")}` : "")]],
  ];
  const text = JSON.stringify(record, null, 1);
  body.append(
    h("dl", { class: "settings" }, items.filter(([, values]) => values).map(([name, values]) =>
      h("div", {}, h("dt", {}, name), h("dd", {}, values.map((value) => h("div", {}, value)))))),
    h("p", {}, "The same space, task, objectives, constraints, algorithm, seed and number of proposals ahead give the same " +
      "trials. In Python an architecture of this page is ", h("code", {}, recall(selection.index === null ? 0 : selection.index)), "."),
    h("details", {}, h("summary", {}, "The exact record"),
      h("div", { class: "buttons" }, copyButton("Copy the record", text, "")), h("pre", { class: "record" }, text)));
}

// The formulas of `symnas.rewards`, a line each; of another reward what is recorded.
function rewardText(reward) {
  if (Array.isArray(reward.rewards))
    return reward.rewards.flatMap((part, i) => rewardText(part).map((text) => (i ? "then " : "") + text));
  const { cost, target, beta } = reward;
  if (!cost || typeof target !== "number" || typeof beta !== "number") return [plain(reward)];
  const unit = cost.unit && cost.unit.toLowerCase() !== cost.name.toLowerCase() ? " " + cost.unit : "";
  const ratio = `${cost.name} / ${format(target)}${unit}`;
  const power = `(${ratio}) to the power of ${format(beta)}`;
  const formulas = {
    Absolute: `quality − ${format(Math.abs(beta))} × |${ratio} − 1|`,
    Mnas: `quality × ${power}`,
    MnasHard: `quality × ${power}, at most the quality`,
  };
  return [reward.reward in formulas ? `${reward.reward}: ${formulas[reward.reward]}` : plain(reward)];
}

const plain = (value) => typeof value === "string" ? value : JSON.stringify(value);
