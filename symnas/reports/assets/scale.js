// Scales of axes: numbers to pixels, and where the ticks stand.

function makeScale(values, from, to, options = {}) {
  let [low, high] = values.length ? [Infinity, -Infinity] : [0, 1];
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  const log = Boolean(options.log) && low > 0;
  if (low === high) { const pad = Math.abs(low) * 0.05 || 0.5; low -= pad; high += pad; }
  const f = log ? Math.log10 : (x) => x;
  let [a, b] = [f(low), f(high)];
  const pad = (b - a) * 0.05;
  a = options.zero ? a : a - pad;
  b += pad;
  const scale = (value) => from + (f(value) - a) / (b - a) * (to - from);
  scale.ticks = log ? logTicks(a, b) : linearTicks(a, b, options.count || 6);
  scale.format = log ? briefTick : tickFormat(scale.ticks);
  scale.log = log;
  return scale;
}

function linearTicks(low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((m) => m >= rough);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++)
    ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

function logTicks(low, high) {
  for (const steps of [[1], [1, 3], [1, 2, 5]]) {
    const ticks = [];
    for (let power = Math.floor(low); power <= Math.ceil(high); power++)
      for (const step of steps) ticks.push(Number((step * 10 ** power).toPrecision(6)));
    const inside = ticks.filter((t) => Math.log10(t) >= low && Math.log10(t) <= high);
    if (inside.length >= 4 || steps.length === 3)
      return inside.length >= 2 ? inside : linearTicks(10 ** low, 10 ** high, 4);
  }
}

// As many digits as tell the ticks apart.
function tickFormat(ticks) {
  const largest = Math.max(...ticks.map(Math.abs));
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e4]])
    if (largest >= size) {
      const divisor = unit === "k" ? 1e3 : size;
      return (value) => value === 0 ? "0" : Number((value / divisor).toPrecision(4)) + unit;
    }
  return (value) => value !== 0 && Math.abs(value) < 1e-4 ? value.toExponential() : String(value);
}

// A tick of a logarithmic axis, whose ticks differ too much for one unit.
function briefTick(value) {
  return value >= 1e4 ? brief(value).replace(" ", "") : value < 1e-3 ? value.toExponential() : String(value);
}
