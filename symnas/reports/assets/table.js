// All trials: sorted by a click on a header, filtered by words, a click selects one.

const PAGE = 100;

function tableSection() {
  const body = byId("trials-body");
  const columns = [
    { name: "trial", of: numberOf, number: true },
    { name: "state", of: stateOf },
    ...measures.map((measure, i) => ({ name: measure.label, of: (index) => valueOf(index, i), number: true })),
    ...(data.trials.budget ? [{ name: "budget", of: (index) => data.trials.budget[index], number: true }] : []),
    ...(data.trials.stage ? [{ name: "stage", of: (index) => data.trials.stage[index] }] : []),
    { name: "seconds", of: (index) => data.trials.seconds[index], number: true },
  ];
  for (const column of columns.slice(2)) column.format = columnFormat(data.trials.number.map((_, i) => column.of(i)));
  const view = { column: 0, down: false, words: [], rows: PAGE };
  const text = data.trials.number.map((number, i) => searchText(i));
  const head = h("tr", {}, columns.map((column, i) => h("th", { scope: "col", class: column.number ? "number" : null },
    h("button", { type: "button", title: column.name,
      onclick: () => { view.down = view.column === i ? !view.down : betterDown(i); view.column = i; update(); } },
      shorten(column.name, 28)))));
  const rows = h("tbody", {});
  const status = h("span", { class: "muted", role: "status" });
  const more = h("button", { type: "button", onclick: () => { view.rows = Infinity; update(); } });
  const box = h("input", { type: "search", placeholder: "state, reason, a choice …", "aria-label": "Filter the trials",
    oninput: () => { view.words = box.value.toLowerCase().split(/\s+/).filter(Boolean); view.rows = PAGE; update(); } });
  const update = () => {
    const indices = sorted(columns[view.column], view.down)
      .filter((i) => view.words.every((word) => text[i].includes(word)));
    [...head.children].forEach((cell, i) => cell.setAttribute("aria-sort",
      i !== view.column ? "none" : view.down ? "descending" : "ascending"));
    rows.replaceChildren(...indices.slice(0, view.rows).map((i) => tableRow(columns, i)));
    status.textContent = indices.length === total ? count(total, "trial") : `${format(indices.length)} of ${count(total, "trial")}`;
    more.hidden = indices.length <= view.rows;
    more.textContent = `Show all ${format(indices.length)}`;
  };
  selection.watchers.push((index) => {
    for (const row of rows.children) row.setAttribute("aria-selected", String(row.dataset.index === String(index)));
  });
  body.append(h("div", { class: "controls" }, h("label", { class: "choose" }, "Filter ", box), status),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of trials" },
      h("table", { class: "trials" }, h("thead", {}, head), rows)), more);
  update();
}

// A first click on a measure that is maximised shows the largest.
function betterDown(column) {
  const measure = column >= 2 ? measures[column - 2] : null;
  return Boolean(measure && measure.direction === "maximize");
}

function searchText(index) {
  const choices = choicesOf(index).map(([decision, label]) => `${decisionName(decision)}=${label}`);
  const reason = data.trials.reason[numberOf(index)] || "";
  return [numberOf(index), stateOf(index), reason, ...choices].join(" ").toLowerCase();
}

// Missing numbers come last whichever way.
function sorted(column, down) {
  const sign = down ? -1 : 1;
  return data.trials.number.map((_, i) => i).sort((a, b) => {
    const [x, y] = [column.of(a), column.of(b)];
    if (x === null || y === null) return (x === null) - (y === null) || a - b;
    return sign * (x < y ? -1 : x > y ? 1 : 0) || a - b;
  });
}

function tableRow(columns, index) {
  const show = () => { select(index); byId("panel").scrollIntoView({ block: "nearest" }); };
  return h("tr", { "data-index": index, "aria-selected": String(index === selection.index), onclick: show },
    columns.map((column, i) => {
      const value = column.of(index);
      if (i === 0) return h("td", { class: "number" }, h("button", { type: "button", class: "link",
        "aria-label": "Show trial " + value }, String(value)));
      if (i === 1) return h("td", { title: data.trials.reason[numberOf(index)] || null },
        h("span", { class: "state " + (value === "done" ? "done" : value === "running" ? "running" : "bad") }, value));
      return h("td", { class: "number" }, column.format(value));
    }));
}
