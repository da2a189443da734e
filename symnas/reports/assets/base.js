// Elements, numbers and small controls. Text from the study only ever becomes text nodes.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child.nodeType ? child : String(child));
  }
  return element;
}

const h = (tag, attributes, ...children) =>
  fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);
const byId = (id) => document.getElementById(id);
const say = (text) => { byId("live").textContent = text; };

// A number to four digits, long ones grouped; "–" where there is none.
function format(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value);
  if (size >= 1e9 || (size > 0 && size < 1e-4)) return value.toExponential(2).replace("e+", "e");
  if (size >= 1e3 && !Number.isInteger(value)) return Math.round(value).toLocaleString("en-US");
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  return String(Number(value.toPrecision(4)));
}

// The numbers of a column with the same decimals, so that they can be compared by eye.
function columnFormat(values, digits = 4) {
  const there = values.filter((value) => value !== null);
  const most = Math.max(...there.map(Math.abs), 0);
  if (!there.length || there.every(Number.isInteger) || most >= 1e6 || most < 1e-6) return format;
  const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(most)));
  const options = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  return (value) => value === null ? "–" : value.toLocaleString("en-US", options);
}

function withUnit(value, measure) {
  return format(value) + (measure.unit && value !== null ? " " + measure.unit : "");
}

// 1234567 as "1.23 M".
function brief(value) {
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]])
    if (value >= size) return Number((value / size).toPrecision(3)) + " " + unit;
  return format(value);
}

const count = (number, noun) => format(number) + " " + noun + (number === 1 ? "" : "s");

function shorten(text, length) {
  return text.length <= length ? text : text.slice(0, length - 1) + "…";
}

async function copy(text, button) {
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch (refused) { // no permission, or no clipboard for files in this browser
    const area = h("textarea", { class: "hidden" });
    area.value = text;
    document.body.append(area);
    area.select();
    done = document.execCommand("copy");
    area.remove();
    button.focus();
  }
  const before = button.dataset.label;
  button.textContent = done ? "Copied" : "Not allowed to copy";
  say(button.textContent);
  setTimeout(() => { button.textContent = before; }, 1500);
}

// A button that copies what `text()` gives; disabled, with the reason, where there is nothing.
function copyButton(label, text, missing) {
  const button = h("button", { type: "button", class: "small", disabled: text === null,
    title: text === null ? missing : null }, label);
  button.dataset.label = label;
  button.addEventListener("click", () => copy(text, button));
  return button;
}

function choose(label, options, selected, changed) {
  const select = h("select", {}, options.map(([value, text]) =>
    h("option", { value, selected: value === selected }, shorten(text, 40))));
  select.addEventListener("change", () => changed(Number(select.value)));
  return h("label", { class: "choose" }, label + " ", select);
}

function tick(label, checked, changed) {
  const box = h("input", { type: "checkbox", checked });
  box.addEventListener("change", () => changed(box.checked));
  return h("label", { class: "tick" }, box, " " + label);
}
