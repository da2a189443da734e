// The study: columns of the trials, and what the compressed part holds of them.

const data = JSON.parse(byId("data").textContent);
const measures = data.measures;
const decisions = data.record.decisions || [];
const total = data.trials.number.length;
const place = new Map(data.trials.number.map((number, index) => [number, index]));
const objectives = measures.map((m, i) => i).filter((i) => measures[i].objective);
const packed = { choices: [], details: {} };

async function unpack() {
  const bytes = Uint8Array.from(atob(byId("packed").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  Object.assign(packed, JSON.parse(await new Response(stream).text()));
}

const valueOf = (index, measure) => data.trials.values[measure][index];
const stateOf = (index) => data.trials.state[index];
const numberOf = (index) => data.trials.number[index];
const detailOf = (index) => packed.details[numberOf(index)] || null;
const decisionName = (decision) => decision.name || decision.id;

// With several budgets, trials of the highest that was finished at are compared, as in study.best.
const budgetOf = (index) => data.trials.budget ? data.trials.budget[index] ?? Infinity : null;
const budgets = [...new Set(data.trials.number.map((_, i) => i).filter((i) => stateOf(i) === "done").map(budgetOf))].sort((a, b) => a - b);
const comparable = (index) => budgetOf(index) === budgets[budgets.length - 1];

// Pairs (decision, label) of what is active in a trial.
function choicesOf(index) {
  return (packed.choices[index] || []).flatMap((value, column) => value === -1 ? [] :
    [[decisions[column], typeof value === "number" ? decisions[column].labels[value] : value]]);
}

// Whether a point breaks a limit of a measure.
function breaks(value, [relation, limit]) {
  return !({ "<=": value <= limit, "<": value < limit, ">=": value >= limit, ">": value > limit })[relation];
}

// Indices of the trials that none beats in both measures, from left to right: as measures.front.
function frontOf(indices, right, up) {
  const xSign = measures[right].direction === "minimize" ? 1 : -1;
  const ySign = measures[up].direction === "minimize" ? 1 : -1;
  if (!measures[right].direction || !measures[up].direction) return [];
  const points = indices.filter(comparable).map((i) => [xSign * valueOf(i, right), ySign * valueOf(i, up), i]);
  points.sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
  const kept = [];
  let best = Infinity;
  for (const [, y, index] of points) if (y < best) { best = y; kept.push(index); }
  return xSign === 1 ? kept : kept.reverse();
}

// The trial that is selected, and who wants to know.
const selection = { index: null, watchers: [] };
function select(index) {
  selection.index = index;
  for (const watcher of selection.watchers) watcher(index);
}
