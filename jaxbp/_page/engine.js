// Quantities and their formulas: what is given, and what follows from it when it is asked for.
//
// A formula is a shape and integers, as _folding.py makes them. `["q", k]` takes as many integers as array k has axes;
// `["Q", k, flat]`, an element without integers, is what the page itself makes of one.

const data = JSON.parse(document.getElementById("data").textContent);
const arrays = data.arrays.map(decoded);

// What the page says, in its language: English words are the keys.
const t = (english, ...parts) => (data.words[english] ?? english).replace(/\{(\d)\}/g, (_, i) => parts[i]);

const byName = new Map(arrays.map((array, k) => [array.name, k]));
const frozen = data.still, hasOpaque = data.opaque.length > 0;

function decoded(about) {
  const shape = about.shape, size = shape.reduce((a, b) => a * b, 1), strides = [];
  for (let axis = shape.length - 1, step = 1; axis >= 0; step *= shape[axis--]) strides[axis] = step;
  const start = about.values === undefined ? null : unpacked(about.values);
  const given = start !== null && about.all === undefined && about.each === undefined;
  const values = start === null ? new Float64Array(size) : start.slice();
  return { ...about, size, strides, start, given, values, known: new Uint8Array(size).fill(start === null ? 0 : 1) };
}

function unpacked(values) {
  if (Array.isArray(values)) return Float64Array.from(values.map(numberOf));
  const bytes = Uint8Array.from(atob(values.f4 ?? values.f6), (c) => c.charCodeAt(0));
  // float32 stands for the shortest decimal that rounds to it, as jaxbp reads it
  if (values.f4 !== undefined) return Float64Array.from(new Float32Array(bytes.buffer), shortest);
  const view = new DataView(new ArrayBuffer(8)), numbers = new Float64Array(bytes.length / 6);
  for (let i = 0; i < numbers.length; i++) {
    for (let j = 0; j < 6; j++) view.setUint8(j, bytes[6 * i + j]);
    numbers[i] = view.getFloat64(0);
  }
  return numbers;
}

function numberOf(value) {
  return typeof value === "number" ? value : { inf: Infinity, "-inf": -Infinity }[value] ?? NaN;
}

function shortest(narrow) {
  for (let digits = 1; digits < 9; digits++) {
    const value = +narrow.toPrecision(digits);
    if (Math.fround(value) === narrow) return value;
  }
  return +narrow.toPrecision(9);
}

const functions = {
  exp: Math.exp,
  ln: Math.log,
  sqrt: Math.sqrt,
  abs: Math.abs,
  max: Math.max,
  min: Math.min,
  tanh: Math.tanh,
  sigmoid: (a) => (a < 0 ? Math.exp(a) / (1 + Math.exp(a)) : 1 / (1 + Math.exp(-a))),
};

const relations = { "<": (a, b) => a < b, "≤": (a, b) => a <= b, ">": (a, b) => a > b, "≥": (a, b) => a >= b, "≠": (a, b) => a !== b };

// The evaluator. `at` is how many integers are used up.

let read = value, at = 0;

function evaluate(shape, integers) {
  at = 0;
  return evaluated(shape, integers);
}

function evaluated(e, I) {
  if (typeof e === "number") return e;
  switch (e[0]) {
    case "q": {
      const strides = arrays[e[1]].strides;
      let flat = 0;
      for (let axis = 0; axis < strides.length; axis++) flat += I[at++] * strides[axis];
      return read(e[1], flat);
    }
    case "Q":
      return read(e[1], e[2]);
    case "+": {
      let sum = 0;
      for (let i = 1; i < e.length; i++) {
        const term = e[i];
        if (term[0] === "S") looped(term, I, (body, inner) => (sum += evaluated(body, inner)));
        else sum += evaluated(term, I);
      }
      return sum;
    }
    case "*": {
      let product = 1, zero = false;
      for (let i = 1; i < e.length; i++) {
        const factor = evaluated(e[i], I);
        zero ||= factor === 0;
        product *= factor;
      }
      return zero ? 0 : product; // 0 · log 0 is 0
    }
    case "/": {
      const numerator = evaluated(e[1], I);
      return numerator / evaluated(e[2], I);
    }
    case "^": {
      const base = evaluated(e[1], I);
      return base ** evaluated(e[2], I);
    }
    case "-":
      return -evaluated(e[1], I);
    case "f":
      return functions[e[1]](...parts(e, 2, I));
    case "[": {
      const numbers = parts(e, 2, I);
      return [...e[1]].every((relation, i) => relations[relation](numbers[i], numbers[i + 1])) ? 1 : 0;
    }
    case "d":
      return derivative(element(e[1], I), element(e[2], I));
    case "o":
      return opaque(concrete(e, I));
    case "r": // a part of a sum that is left out in print
      return e.slice(1).reduce((sum, term) => sum + evaluated(term, I), 0);
    default:
      throw new Error(`a formula of unknown kind ${e[0]}`);
  }
}

// A function without a formula: known as long as what it is of is what it was.
function opaque(e) {
  const leaves = leavesOf(e), place = leaves.length ? key(...leaves[0]) : "";
  const start = data.opaqueValues[`${e[1]}:${place}`];
  return start !== undefined && start !== null && leaves.every(isAsItWas) ? numberOf(start) : NaN;
}

const alike = new Map(); // by array, whether all of it is what it was

function areAsTheyWere(k) {
  if (read !== value) return arrays[k].start.every((_, flat) => isAsItWas([k, flat]));
  if (!alike.has(k)) alike.set(k, arrays[k].start.every((_, flat) => isAsItWas([k, flat])));
  return alike.get(k);
}

function isAsItWas([k, flat]) {
  const now = read(k, flat), before = arrays[k].start[flat];
  return Object.is(now, before) || Math.abs(now - before) <= 1e-12 + 1e-10 * Math.max(Math.abs(now), Math.abs(before));
}

function parts(e, from, I) {
  const found = [];
  for (let i = from; i < e.length; i++) {
    if (e[i][0] === "S") looped(e[i], I, (body, inner) => found.push(evaluated(body, inner)));
    else found.push(evaluated(e[i], I));
  }
  return found;
}

function looped([, n, body], I, visit) {
  const k = count(body), start = at, inner = new Array(k);
  for (let t = 0; t < n; t++) {
    for (let i = 0; i < k; i++) inner[i] = I[start + i] + t * I[start + k + i];
    at = 0;
    visit(body, inner);
  }
  at = start + 2 * k;
}

const counts = new Map();

function count(e) {
  if (typeof e !== "object") return 0;
  if (e[0] === "q") return arrays[e[1]].shape.length;
  if (!counts.has(e)) {
    let n = 0;
    for (const part of e) n += count(part);
    counts.set(e, e[0] === "S" ? 2 * n : n);
  }
  return counts.get(e);
}

function element(e, I) {
  if (e[0] === "Q") return [e[1], e[2]];
  let flat = 0;
  for (const stride of arrays[e[1]].strides) flat += I[at++] * stride;
  return [e[1], flat];
}

// Values.

function value(k, flat) {
  const array = arrays[k];
  if (!array.known[flat]) {
    const before = at, tree = treeOf(k, flat), general = tree.shape[tree.shape[1] + 1];
    at = 0;
    for (let i = 2; i <= tree.shape[1]; i++) at += count(tree.shape[i]);
    array.values[flat] = evaluated(general, tree.integers);
    array.known[flat] = 1;
    at = before;
  }
  return array.values[flat];
}

function treeOf(k, flat) {
  const { all, each, strides, shape } = arrays[k];
  if (each) return { shape: data.shapes[each[flat][0]], integers: each[flat].slice(1) };
  const integers = all[1].slice();
  for (let axis = 0; axis < shape.length; axis++) {
    const index = Math.floor(flat / strides[axis]) % shape[axis];
    if (index) all[2][axis].forEach((stride, i) => (integers[i] += index * stride));
  }
  return { shape: data.shapes[all[0]], integers };
}

function forget() {
  if (frozen) return;
  alike.clear();
  for (const array of arrays) if (!array.given) array.known.fill(0);
}

function given(k, flat, number) {
  arrays[k].values[flat] = number;
  forget();
}

// A tree without loops and integers, as it is shown and changed.

function concrete(e, I) {
  if (typeof e === "number") return e;
  if (e[0] === "q") return ["Q", ...element(e, I)];
  const tree = [e[0]];
  for (let i = 1; i < e.length; i++) {
    if (typeof e[i] === "string" || e[0] === "Q") tree.push(e[i]);
    else if (e[i][0] === "S") looped(e[i], I, (body, inner) => tree.push(concrete(body, inner)));
    else tree.push(concrete(e[i], I));
  }
  return tree;
}

function treeAt([shape, ...integers]) {
  at = 0;
  return concrete(data.shapes[shape], integers);
}

// All formulas of an element that hold at these numbers, the simplest last.
function formsOf(k, flat) {
  if (arrays[k].given) return [];
  const { shape, integers } = treeOf(k, flat);
  at = 0;
  const found = shape.slice(2).map((form) => concrete(form, integers));
  const truth = value(k, flat);
  return found.filter((form, i) => i === shape[1] - 1 || frozen || close(evaluate(form), truth));
}

function mainForm(k, flat) {
  const { shape, integers } = treeOf(k, flat);
  at = 0;
  return shape.slice(2).map((form) => concrete(form, integers))[shape[1] - 1];
}

function leavesOf(e, found = []) {
  if (typeof e !== "object") return found;
  if (e[0] === "Q") found.push([e[1], e[2]]);
  else for (const part of e.slice(1)) leavesOf(part, found);
  return found;
}

function mapped(e, leaf) {
  if (typeof e !== "object") return e;
  return e[0] === "Q" ? leaf(e) : e.map((part) => mapped(part, leaf));
}

// The value if these elements, by their key, were other numbers.
function evaluateWith(tree, others) {
  const before = read;
  read = (k, flat) => others.get(key(k, flat)) ?? before(k, flat);
  try {
    return evaluate(tree);
  } finally {
    read = before;
  }
}

// The value at other numbers altogether: everything that is given is moved, by an amount that depends on the seed.
function elsewhere(seed, work) {
  const kept = arrays.map((array) => [array.values, array.known]);
  let state = seed;
  const random = () => ((state = (state * 1103515245 + 12345) % 2147483648) / 2147483648) * 2 - 1;
  for (const array of arrays) {
    array.values = array.values.slice();
    array.known = array.known.slice();
    if (!array.given || array.ids) continue;
    // targets are any that a loss takes; the others are near
    array.values.forEach((v, i) => (array.values[i] = array.kind === "y" ? 0.5 + 0.4 * random() : v + random()));
  }
  forget();
  try {
    return work();
  } finally {
    arrays.forEach((array, k) => ([array.values, array.known] = kept[k]));
    alike.clear();
  }
}

// What rounding errors are relative to: the value if no terms cancelled.
function magnitude(e) {
  if (e[0] === "+") return e.slice(1).reduce((sum, term) => sum + magnitude(term), 0);
  if (e[0] === "*") return e.slice(1).reduce((product, factor) => product * magnitude(factor), 1);
  if (e[0] === "-") return magnitude(e[1]);
  if (e[0] === "/") return Math.abs(magnitude(e[1]) / (evaluate(e[2]) || Infinity));
  return Math.abs(evaluate(e));
}

function close(claimed, truth, precision = 0) {
  if (!Number.isFinite(claimed) || !Number.isFinite(truth)) return claimed === truth;
  return Math.abs(claimed - truth) <= precision + 1e-9 * Math.max(Math.abs(claimed), Math.abs(truth));
}

function derivative([k, i], [l, j]) {
  const about = data.partials[`d(${nameOf(k, i)})/d(${nameOf(l, j)})`];
  if (about?.tree) {
    const [shape, ...integers] = about.tree, before = at, root = data.shapes[shape];
    at = 0;
    for (let n = 2; n < root.length - 1; n++) at += count(root[n]);
    const number = evaluated(root[root.length - 1], integers);
    at = before;
    return number;
  }
  if (about === undefined) return NaN;
  const still = about.on ? about.on.every(areAsTheyWere) : !changed();
  return still ? numberOf(about.value) : about.on ? NaN : slope([k, i], [l, j]);
}

function changed() {
  return arrays.some((array) => array.given && array.values.some((v, i) => v !== array.start[i]));
}

// Names and indices.

const key = (k, flat) => `${k}:${flat}`;

function indexOf(k, flat) {
  const { shape, strides } = arrays[k];
  return shape.map((n, axis) => Math.floor(flat / strides[axis]) % n);
}

function flatOf(k, index) {
  return index.reduce((flat, i, axis) => flat + i * arrays[k].strides[axis], 0);
}

function nameOf(k, flat) {
  const index = indexOf(k, flat);
  return index.length ? `${arrays[k].name}[${index.join(", ")}]` : arrays[k].name;
}

function filled(template, index) {
  return template.replace(/[\ue000-\ue0ff]/g, (slot) => index[slot.charCodeAt(0) - 0xe000]);
}

function textOf(k, flat) {
  return arrays[k].texts?.[flat] ?? filled(arrays[k].text, indexOf(k, flat));
}

function symbolOf(k, flat) {
  return arrays[k].own?.[flat] ?? filled(arrays[k].symbol, indexOf(k, flat));
}
