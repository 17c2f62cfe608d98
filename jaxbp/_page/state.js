// Where the reader is and what was changed: steps, answers, and the link that keeps them.

const FEW = 24; // elements of a quantity that are steps of their own
const PHASES = [["forward", t("Forward")], ["loss", t("Loss")], ["back", t("Backward")], ["gradient", t("Gradients")], ["update", t("Update")]];
const COLOR = { forward: "forward", loss: "loss", back: "back", gradient: "back", update: "update", given: "given" };
const examples = data.batch.reduce((a, b) => a * b, 1);
const rate = byName.get("learning_rate");

const state = { stop: 0, example: 0, fill: data.fill, ops: [], open: {}, answers: new Map(), losses: [] };
let stops = [], positions = new Map();

const $ = (id) => document.getElementById(id);
const exampleIndex = () => {
  let rest = state.example;
  return data.batch.map((n, axis) => {
    const size = data.batch.slice(axis + 1).reduce((a, b) => a * b, 1), i = Math.floor(rest / size);
    rest -= i * size;
    return i;
  });
};

// Steps and elements.

function elementsOf(step) {
  const shape = arrays[step.array].shape;
  let start = step.example ? [...step.prefix, ...exampleIndex()] : step.prefix;
  start = start.slice(0, shape.length);
  const rest = shape.slice(start.length), size = rest.reduce((a, b) => a * b, 1);
  const first = flatOf(step.array, [...start, ...rest.map(() => 0)]);
  if (!step.rows) return Array.from({ length: size }, (_, i) => first + i);
  const wide = size / rest[0];
  return step.rows.flatMap((r) => Array.from({ length: wide }, (_, i) => first + r * wide + i));
}

function makeStops() {
  stops = [];
  positions = new Map();
  data.steps.forEach((step, s) => {
    if (step.phase === "given") return;
    const elements = elementsOf(step), few = elements.length <= FEW;
    elements.forEach((flat) => positions.set(key(step.array, flat), few ? stops.length + elements.indexOf(flat) : stops.length));
    if (few) elements.forEach((flat) => stops.push({ step, s, flat, elements }));
    else stops.push({ step, s, flat: null, elements });
  });
  state.stop = Math.max(0, Math.min(state.stop, stops.length - 1));
}

function currentElement() {
  const { step, s, flat, elements } = stops[state.stop];
  return [step.array, flat ?? elements[Math.min(state.open[s] ?? 0, elements.length - 1)]];
}

const revealed = (k, flat) => arrays[k].given || (positions.get(key(k, flat)) ?? Infinity) <= state.stop;

// In the exercise, what this step and those after it are to find; skipping a step shows its number.
function hidden(k, flat) {
  const at = positions.get(key(k, flat));
  if (state.fill === "nothing" || at === undefined || arrays[k].given) return false;
  return at >= state.stop && stops[at].flat !== null && state.answers.get(key(k, flat))?.right !== true;
}

// What was done, and undone: a list that the link carries.

function apply(op) {
  if (op[0] === "e") given(op[1], op[2], op[3]);
  else for (let n = 0; n < op[1]; n++) takeStep();
}

function takeStep() {
  const loss = byName.get("loss"), updates = [];
  if (!state.losses.length) state.losses.push(value(loss, 0));
  arrays.forEach((array, k) => {
    if (array.kind !== "updated") return;
    const weight = byName.get(array.name.replace(/^updated/, "W"));
    updates.push([weight, Float64Array.from({ length: array.size }, (_, flat) => value(k, flat))]);
  });
  for (const [k, numbers] of updates) arrays[k].values = numbers;
  forget();
  state.losses.push(value(loss, 0));
}

function act(op) {
  const last = state.ops.at(-1);
  if (op[0] === "e" && last?.[0] === "e" && last[1] === op[1] && last[2] === op[2]) last[3] = op[3];
  else if (op[0] === "s" && last?.[0] === "s") last[1] += op[1];
  else state.ops.push(op);
  apply(op);
  if (op[0] === "e") state.answers.clear();
}

function replay(ops) {
  for (const array of arrays) if (array.given) array.values = array.start.slice();
  forget();
  state.losses = [];
  state.ops = ops;
  ops.forEach(apply);
}

// The link.

const LONGEST_LINK = 16000;
let waiting = 0;

// Browsers refuse addresses that change too often.
function rememberSoon() {
  clearTimeout(waiting);
  waiting = setTimeout(remember, 400);
}

// Whether it fits into a link.
function remember() {
  clearTimeout(waiting);
  const text = encodeURIComponent(JSON.stringify(kept())), fits = text.length <= LONGEST_LINK;
  const hash = fits ? `#${text}` : "#";
  if (hash === location.hash) return fits;
  try {
    history.replaceState(null, "", hash);
  } catch {
    // a page inside another one may have no address
  }
  return fits;
}

const kept = () => ({ s: state.stop, x: state.example, f: state.fill, o: state.ops, w: state.open });

function recall() {
  try {
    restore(JSON.parse(decodeURIComponent(location.hash.slice(1))));
  } catch {
    // an address that somebody else has made
  }
}

function restore(found) {
  if (found === null || typeof found !== "object") return;
  const number = (n, most) => (Number.isInteger(n) && n >= 0 && n < most ? n : 0);
  state.example = number(found.x, examples);
  state.fill = ["nothing", "numbers", "formulas"].includes(found.f) ? found.f : data.fill;
  state.open = Object.fromEntries(Object.entries(found.w ?? {}).filter(([s, i]) => data.steps[s] && Number.isInteger(i) && i >= 0));
  const ops = (Array.isArray(found.o) ? found.o : []).filter(
    (op) => Array.isArray(op) && ((op[0] === "s" && number(op[1], 1000) > 0) || (op[0] === "e" && arrays[op[1]]?.given && !arrays[op[1]].ids && number(op[2], arrays[op[1]].size) === op[2] && Number.isFinite(op[3]))),
  );
  if (!frozen) replay(ops);
  state.answers.clear();
  state.stop = number(found.s, Infinity);
}

// The file: the same, with what was filled in, and of which network it is.

const KIND = "jaxbp page";
const ofNetwork = () => arrays.map((array) => `${array.name}[${array.shape}]`).join(" ");

function saved() {
  const answers = [...state.answers].map(([place, { text, shown }]) => [place, shown ? null : text]);
  return JSON.stringify({ kind: KIND, network: ofNetwork(), ...kept(), a: answers });
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([saved()], { type: "application/json" }));
  link.download = `${document.title.replaceAll(/[^\p{L}\p{N}]+/gu, "-").replaceAll(/^-|-$/g, "").slice(0, 60) || "page"}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  say(t("Saved as {0}.", link.download));
}

function opening(text) {
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    found = null;
  }
  if (found?.kind !== KIND) return say(t("This is no file that such a page has saved."));
  if (found.network !== ofNetwork()) return say(t("This file is of a page with another network."));
  restore(found);
  anew();
  for (const [place, written] of (Array.isArray(found.a) ? found.a : []).filter(Array.isArray)) {
    const at = positions.get(place);
    if (at === undefined || (written !== null && typeof written !== "string")) continue;
    const [k, flat] = place.split(":").map(Number);
    const verdict = written === null ? { right: true, shown: true } : judgedAnswer(written, k, flat, state.fill === "formulas", wrongBefore());
    state.answers.set(place, { ...verdict, text: written ?? "" });
  }
  render();
  say(t("Opened."));
}

// What was filled in wrongly, from which other numbers may follow.
function wrongBefore() {
  return new Map([...state.answers].filter(([, a]) => !a.right && Number.isFinite(a.number)).map(([place, a]) => [place, a.number]));
}
