// Formulas as MathML: in symbols, or with numbers for them.

const DIGITS = data.digits, MOST_DIGITS = 17, SHOWN_TERMS = 8, EDGE_TERMS = 3, SHOWN_ARGUMENTS = 4;
const SUM = 0, PRODUCT = 1, ATOM = 2; // how tightly a printed formula holds together

const escaped = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const math = (inner, display = "inline") => `<math display="${display}"><mrow>${inner}</mrow></math>`;
const row = (inner) => `<mrow>${inner}</mrow>`;
const minus = '<mo form="prefix">−</mo>';

const PHASE = {
  a: "forward", h: "forward", loss: "loss", losses: "loss", Delta: "back", delta: "back", grad: "back",
  W: "given", y: "given", learning_rate: "given", updated: "update",
};
for (const { array, phase } of data.steps) PHASE[arrays[array].kind] ??= phase; // of what there is within units

// As explain prints numbers: a short whole one as it is, of others significant digits as Python has them with "g",
// 0.0001 in full, and from 1e-5 with an exponent. What follows from a function without a formula may be unknown.
function written(number, digits = DIGITS) {
  if (Number.isNaN(number)) return hasOpaque ? UNKNOWN : "NaN";
  if (!Number.isFinite(number)) return number < 0 ? "−∞" : "∞";
  if (isWhole(number)) return String(number + 0).replaceAll("-", "−");
  const [mantissa, exponent] = rounded(number, digits).split("e");
  if (+exponent < -4 || +exponent >= digits) return `${tidy(mantissa)}e${exponent.replace("+", "")}`.replaceAll("-", "−");
  return tidy((+`${mantissa}e${exponent}`).toFixed(Math.max(0, digits - 1 - +exponent))).replaceAll("-", "−");
}

// A number that lies exactly between two is rounded to the even one, as Python does.
function rounded(number, digits) {
  const [all, exponent] = number.toExponential(40).split("e"), kept = all.indexOf(".") + digits;
  const halfway = /^50*$/.test(all.slice(kept)), even = /[02468]\.?$/.test(all.slice(0, kept));
  return halfway && even ? `${all.slice(0, kept)}e${exponent}` : number.toExponential(digits - 1);
}

function tidy(decimal) {
  return decimal.includes(".") ? decimal.replace(/\.?0+$/, "") : decimal;
}

const UNKNOWN = "–";
const isWhole = (number) => Math.abs(number) < 1e6 && number === Math.round(number);
const plain = (text) => +text.replaceAll("−", "-").replace("∞", "Infinity");
const asPrinted = (number, digits = DIGITS) => plain(written(number, digits));
const isRounded = (number, digits = DIGITS) => Math.abs(asPrinted(number, digits) - number) > 1e-12 * Math.abs(number);

function numberShown(number, digits) {
  const text = written(number, digits), negative = text.startsWith("−");
  const [mantissa, exponent] = text.replace("−", negative ? "" : "−").split("e");
  if (exponent === undefined) return { m: `<mn>${mantissa}</mn>`, negative, p: ATOM };
  const power = exponent.startsWith("−") ? `${minus}<mn>${exponent.slice(1)}</mn>` : `<mn>${exponent}</mn>`;
  return { m: row(`<mn>${mantissa}</mn><mo>×</mo><msup><mn>10</mn>${row(power)}</msup>`), negative, p: PRODUCT };
}

const signed = ({ m, negative }) => (negative ? row(minus + m) : m);
const parenthesised = (m) => row(`<mo fence="true">(</mo>${m}<mo fence="true">)</mo>`);
const atLeast = (p, shown) => (shown.p >= p ? shown : { m: parenthesised(signed(shown)), negative: false, p: ATOM });
const positive = (p, shown) => (shown.p >= p && !shown.negative ? shown.m : parenthesised(signed(shown)));

// A formula, with `leaf` for its quantities; its own constants have as many digits as a formula in numbers.
function shown(e, leaf, digits) {
  const show = (part) => shown(part, leaf, digits);
  if (typeof e === "number") return numberShown(e, digits || DIGITS);
  switch (e[0]) {
    case "Q":
      return leaf(e[1], e[2]);
    case "+": {
      if (e.length === 2) return show(e[1]);
      const [first, ...rest] = shownTerms(e, leaf, digits);
      const tail = rest.map((term) => `<mo form="infix">${term.negative ? "−" : "+"}</mo>${term.m}`).join("");
      return { m: row(signed(first) + tail), negative: false, p: SUM };
    }
    case "*": {
      if (e.length === 2) return show(e[1]);
      const [first, ...rest] = e.slice(1).map(show);
      const head = atLeast(PRODUCT, first), between = digits ? "<mo>·</mo>" : '<mspace width="0.2em"/>';
      return { m: row(head.m + rest.map((factor) => between + positive(PRODUCT, factor)).join("")), negative: head.negative, p: PRODUCT };
    }
    case "/":
      return { m: `<mfrac>${signed(show(e[1]))}${signed(show(e[2]))}</mfrac>`, negative: false, p: PRODUCT };
    case "^":
      return { m: `<msup>${row(positive(ATOM, show(e[1])))}${row(signed(show(e[2])))}</msup>`, negative: false, p: ATOM };
    case "-": {
      const term = show(e[1]);
      if (term.negative && term.p === ATOM) return { m: term.m, negative: false, p: ATOM }; // −(−0.3) is 0.3
      return { m: positive(PRODUCT, term), negative: true, p: PRODUCT };
    }
    case "r":
      if (!digits) return { m: "<mo>⋯</mo>", negative: false, p: ATOM };
      return { m: parenthesised(`<mo>⋯</mo><mo>=</mo>${signed(numberShown(evaluate(e), digits))}`), negative: false, p: ATOM };
    case "f":
    case "o":
      return { m: called(e[1], e.slice(2), (part) => signed(show(part))), negative: false, p: ATOM };
    case "[": {
      const [first, ...rest] = e.slice(2).map((part) => signed(show(part)));
      const tail = rest.map((part, i) => `<mo>${escaped(e[1][i])}</mo>${part}`).join("");
      return { m: row(`<mo>[</mo>${first}${tail}<mo>]</mo>`), negative: false, p: ATOM };
    }
    case "d": {
      const [of, by] = [e[1], e[2]].map((part) => `${row(`<mo>∂</mo>${symbolOf(part[1], part[2])}`)}`);
      return { m: `<mfrac>${of}${by}</mfrac>`, negative: false, p: PRODUCT };
    }
    default:
      throw new Error(`a formula of unknown kind ${e[0]}`);
  }
}

const shownTerms = (e, leaf, digits) => e.slice(1).map((term) => atLeast(PRODUCT, shown(term, leaf, digits)));

// The same formula with the terms in the middle of its long sums together, as one number in print.
function abridged(e) {
  if (typeof e !== "object" || e[0] === "Q") return e;
  if (e[0] !== "+" || e.length - 1 <= SHOWN_TERMS) return e.map(abridged);
  const [kind, ...terms] = e, ends = [terms.slice(0, EDGE_TERMS), terms.slice(-EDGE_TERMS)].map((some) => some.map(abridged));
  return [kind, ...ends[0], ["r", ...terms.slice(EDGE_TERMS, -EDGE_TERMS)], ...ends[1]];
}

function called(name, args, show) {
  if (name === "exp") return `<msup><mi>e</mi>${row(show(args[0]))}</msup>`;
  if (name === "sqrt") return `<msqrt>${show(args[0])}</msqrt>`;
  const long = args.length > SHOWN_ARGUMENTS;
  const inner = (long ? [...args.slice(0, 2), null, args.at(-1)] : args).map((arg) => (arg === null ? "<mo>⋯</mo>" : show(arg)));
  return row(`<mi>${name === "sigmoid" ? "σ" : escaped(name)}</mi>${parenthesised(inner.join("<mo>,</mo>"))}`);
}

const marked = (k, flat, inner) => `<mrow class="${PHASE[arrays[k].kind]}" data-key="${key(k, flat)}">${inner}</mrow>`;

// A formula as `math` elements, one for each term of a sum, so that a line can break between them.
function lineOf(e, leaf, digits) {
  if (e[0] !== "+" || e.length === 2) return math(signed(shown(e, leaf, digits)));
  return shownTerms(e, leaf, digits)
    .map(({ m, negative }, i) => math((i ? `<mo form="prefix" rspace="0.22em">${negative ? "−" : "+"}</mo>` : negative ? minus : "") + m))
    .join(" ");
}

function inSymbols(e) {
  return lineOf(abridged(e), (k, flat) => ({ m: marked(k, flat, symbolOf(k, flat)), negative: false, p: ATOM }), 0);
}

function inNumbers(e, digits) {
  const leaf = (k, flat) => {
    const number = numberShown(value(k, flat), digits);
    return { ...number, m: marked(k, flat, number.m) };
  };
  return lineOf(abridged(e), leaf, digits);
}

// How the numbers in a formula are shown, as explain does: the fewest digits with which a calculator gives the result
// as it is shown, and whether they give just that.
function operandsOf(form, number) {
  const result = asPrinted(number), e = abridged(form);
  if (!Number.isFinite(result)) return { digits: DIGITS, exact: true };
  if (JSON.stringify(e).includes('["o",')) return { digits: DIGITS, exact: false };
  const size = magnitude(form), unit = result ? 10 ** (Math.floor(Math.log10(Math.abs(result))) + 1 - DIGITS) : 10 ** -DIGITS * size;
  for (let digits = DIGITS; ; digits++) {
    const off = Math.abs(evaluate(inPrint(e, digits)) - result);
    if (off <= 0.5 * unit * (1 + 1e-6) || digits === MOST_DIGITS) return { digits, exact: off <= 1e-12 * Math.max(size, Math.abs(result)) };
  }
}

function inPrint(e, digits) {
  if (typeof e === "string") return e;
  if (typeof e === "number" || "Qdr".includes(e[0])) return asPrinted(evaluate(e), digits);
  return e.map((part, i) => (i ? inPrint(part, digits) : part));
}

// A number of a quantity, as text with all of it beside: what a reader sees and what a test reads.
function numberOfElement(k, flat, tag = "data", attributes = "") {
  const number = exact(k, flat);
  const about = `data-q="${escaped(nameOf(k, flat))}" data-value="${number}" class="number ${PHASE[arrays[k].kind]}"`;
  return `<${tag} ${about} ${attributes}>${written(number)}</${tag}>`;
}

// The value, but 0 where the terms of a sum, or of a mean, cancel up to what float64 makes of it.
function exact(k, flat) {
  const number = value(k, flat);
  if (Number.isNaN(number) || arrays[k].given || frozen || number === 0 || Math.abs(number) >= 1e-12) return number;
  const form = mainForm(k, flat), adds = form[0] === "+" || (form[0] === "/" && form[1][0] === "+");
  return adds && Math.abs(number) < 1e-15 * magnitude(form) ? 0 : number;
}
