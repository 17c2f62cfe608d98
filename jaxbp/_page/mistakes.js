// What somebody fills in: a number or a formula, judged; and which mistake gives exactly that.

class Unreadable extends Error {}

// A formula as people write it, as a tree: numbers, names of quantities, + − * / ^, parentheses and functions.
function parsed(text) {
  const tokens = [...text.replaceAll("**", "^").matchAll(/\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)|([^\s\d+\-−*·/^(),[\]][^\s+\-−*·/^(),[\]]*)(\[[\d,\s]*\])?|(.))/gu)];
  let i = 0;
  const peek = () => tokens[i]?.[4];
  const take = (sign) => {
    if (peek() !== sign) throw new Unreadable(t("a {0} is missing", sign));
    i++;
  };
  const is = (...signs) => signs.includes(peek());

  function sum() {
    const terms = [product()];
    while (is("+", "-", "−")) {
      const negative = tokens[i++][4] !== "+", term = product();
      terms.push(negative ? ["-", term] : term);
    }
    return terms.length === 1 ? terms[0] : ["+", ...terms];
  }
  function product() {
    let left = sign();
    while (is("*", "·", "/")) left = [tokens[i++][4] === "/" ? "/" : "*", left, sign()];
    return left;
  }
  function sign() {
    if (is("-", "−", "+")) return tokens[i++][4] === "+" ? sign() : ["-", sign()];
    const base = atom();
    if (!is("^")) return base;
    i++;
    return ["^", base, sign()];
  }
  function atom() {
    const token = tokens[i++];
    if (token === undefined) throw new Unreadable(t("it ends too early"));
    const [, number, name, index, other] = token;
    if (number !== undefined) return +number;
    if (other === "(") {
      const inner = sum();
      take(")");
      return inner;
    }
    if (name === undefined) throw new Unreadable(t("{0} does not belong there", other));
    if (is("(") && index === undefined) return call({ log: "ln", σ: "sigmoid" }[name] ?? name);
    return quantity(name + (index ?? ""));
  }
  function call(name) {
    if (!Object.hasOwn(functions, name)) throw new Unreadable(t("{0} is none of {1}", name, Object.keys(functions).join(", ")));
    take("(");
    const args = [sum()];
    while (is(",")) {
      i++;
      args.push(sum());
    }
    take(")");
    return ["f", name, ...args];
  }

  const tree = sum();
  if (i < tokens.length && tokens[i][0].trim()) throw new Unreadable(t("{0} does not belong there", tokens[i][0].trim()));
  return tree;
}

let names = null;

// A quantity by its name or by the symbol that it has on the page.
function quantity(text) {
  const wanted = text.replaceAll(/\s/g, "");
  if (names === null) {
    names = new Map();
    arrays.forEach((array, k) => {
      if (array.size > 5000) return;
      for (let flat = array.size; flat-- > 0; ) {
        if (array.kind !== "updated") names.set(textOf(k, flat).replaceAll(/\s/g, ""), [k, flat]);
      }
    });
    arrays.forEach((array, k) => {
      for (let flat = 0; flat < Math.min(array.size, 5000); flat++) {
        const name = nameOf(k, flat).replaceAll(/\s/g, "");
        names.set(name, [k, flat]);
        if (array.given && array.kind === "h") names.set(name.slice(2), [k, flat]);
      }
    });
    if (byName.has("learning_rate")) names.set("eta", [byName.get("learning_rate"), 0]);
  }
  const found = names.get(wanted);
  if (found === undefined) throw new Unreadable(t("{0} is no quantity of this page", text));
  return ["Q", ...found];
}

const NUMBER = /^[+\-−]?(\d+\.?\d*|\.\d+)(?:[eE]([+\-−]?\d+))?$/;

// Half a unit of the last digit that is written; a whole number is exact.
function precisionOf(text) {
  const [, mantissa, exponent] = NUMBER.exec(text);
  if (!mantissa.includes(".") && exponent === undefined) return 0;
  return 0.5 * 10 ** (+(exponent ?? "0").replace("−", "-") - (mantissa.split(".")[1] ?? "").length);
}

// The verdict on an answer: whether it is right, what it is worth, and what probably went wrong.
function judgedAnswer(text, k, flat, wantsFormula, before) {
  const written = text.trim(), truth = exact(k, flat);
  if (NUMBER.test(written)) {
    const number = plain(written.replaceAll("-", "−").replaceAll("+", "")), precision = precisionOf(written);
    const right = close(number, truth, precision + roundoffOf(k, flat));
    if (right && wantsFormula) return { right: false, number, hint: t("The number is right; what is asked for here is the formula.") };
    return right ? { right, number } : { right, number, hint: hintFor(number, precision, k, flat, before) };
  }
  let tree;
  try {
    tree = parsed(written);
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
    return { right: false, unread: true, hint: t("This cannot be read as a number or a formula: {0}.", error.message) };
  }
  const number = evaluate(tree), here = close(number, truth, roundoffOf(k, flat));
  if (leavesOf(tree).some(([l, i]) => l === k && i === flat)) {
    return { right: false, number, hint: t("This is the quantity itself; say what it is made of.") };
  }
  if (!here) return { right: false, number, hint: hintFor(number, 0, k, flat, before) };
  // where a function has no formula, nothing is known elsewhere
  const agrees = () => Number.isNaN(value(k, flat)) || close(evaluate(tree), value(k, flat), roundoffOf(k, flat));
  const general = frozen || [1, 2, 3].every((seed) => elsewhere(seed, agrees));
  return general ? { right: true, number } : { right: false, number, hint: t("This holds at these numbers, but not at others.") };
}

function roundoffOf(k, flat) {
  return frozen || arrays[k].given ? 0 : 1e-15 * magnitude(mainForm(k, flat));
}

function hintFor(number, precision, k, flat, before) {
  const truth = exact(k, flat);
  for (const [tree, words] of mistakesOf(k, flat)) {
    const wrong = evaluate(tree);
    if (close(number, wrong, precision) && !close(truth, wrong, precision)) return words;
  }
  if (before.size) {
    const carried = formsOf(k, flat).map((form) => evaluateWith(form, before));
    if (carried.some((wrong) => close(number, wrong, precision))) return t("This follows from what was filled in before: look for the mistake there.");
  }
  if (Math.abs(number - truth) <= 0.02 * Math.abs(truth)) return t("Close: probably rounded too early. Carry more digits.");
  return "";
}

// Formulas that are wrong, and in which words; the ones that people write most often come first.
function mistakesOf(k, flat) {
  const { kind } = arrays[k], found = [], form = arrays[k].given ? null : mainForm(k, flat);
  if (form === null) return found;
  const add = (tree, words) => found.push([tree, words]);
  const sibling = (l, other) => data.nodes.map((n) => [n[kindOf(l)], n[other]]).find(([from, to]) => from === l && to !== undefined)?.[1];
  const kindOf = (l) => arrays[l].kind;
  const replaced = (from, to) => mapped(form, (leaf) => {
    const other = kindOf(leaf[1]) === from ? sibling(leaf[1], to) : undefined;
    return other === undefined ? leaf : ["Q", other, leaf[2]];
  });

  add(["-", form], t("The sign is wrong."));
  if (kind === "delta") {
    const Delta = sibling(k, "Delta");
    if (Delta !== undefined) add(["Q", Delta, flat], t("Φ′ is left out: this is Δ. The step from Δ to δ multiplies by the derivative of the activation."));
    add(replaced("h", "a"), t("The derivative of the activation is taken at the wrong place: a stands where h belongs."));
  }
  if (kind === "h") add(["Q", sibling(k, "a") ?? k, flat], t("This is the pre-activation a: the activation is still to be applied."));
  if (kind === "a") add(replaced("h", "a"), t("The pre-activation a of the layer before is used where its activation h belongs."));
  if (kind === "Delta" || kind === "grad") add(replaced("delta", "Delta"), t("Φ′ is left out: Δ stands where δ belongs. First go from Δ to δ."));
  if (kind === "grad") add(replaced("h", "a"), t("The pre-activation a is used where the activation h belongs."));
  const swap = (l, i) => {
    const index = indexOf(l, i), other = index.slice().reverse();
    return index.length === 2 && index[0] !== index[1] && other.every((n, axis) => n < arrays[l].shape[axis]) ? flatOf(l, other) : null;
  };
  if (leavesOf(form).some(([l, i]) => kindOf(l) === "W" && swap(l, i) !== null) && kind !== "updated") {
    add(mapped(form, (leaf) => (kindOf(leaf[1]) === "W" ? ["Q", leaf[1], swap(leaf[1], leaf[2]) ?? leaf[2]] : leaf)), t("The matrix is transposed: row and column of W are swapped."));
  }
  if (kind === "grad" && swap(k, flat) !== null) add(["Q", k, swap(k, flat)], t("The gradient is transposed: h belongs to the row, δ to the column."));
  if (kind === "updated") {
    const [W, step] = [form[1], form[2][1]];
    add(["+", W, step], t("The step leads uphill: the gradient is subtracted."));
    add(["+", W, ["-", step[2]]], t("The learning rate η is left out."));
    add(step, t("This is only the step η ∂L/∂W: it is subtracted from the weight."));
    add(["-", step], t("This is only the step −η ∂L/∂W: the weight itself is missing."));
  }
  if (form[0] === "+") {
    form.slice(1).forEach((term, i) => {
      const rest = form.slice(1).filter((_, j) => j !== i), about = leavesOf(term).map(([l, j]) => textOf(l, j)).join(" · ");
      const bias = kind === "a" && term[0] === "Q";
      add(["+", ...rest], bias ? t("The bias is left out.") : t("A term is left out: {0}.", about));
      add(["+", ...form.slice(1).map((one, j) => (j === i ? ["-", one] : one))], t("One sign is wrong: that of {0}.", about));
    });
  }
  const examples = data.batch.reduce((a, b) => a * b, 1);
  if (examples > 1) {
    add(["*", examples, form], t("1/N is left out: the loss is the mean over the examples."));
    if (form[0] === "+" && kind === "grad") add(["/", form, examples], t("1/N is there twice: δ has it already."));
  }
  for (let other = 0; other < Math.min(arrays[k].size, 200); other++) {
    if (other !== flat && !arrays[k].given) add(["Q", k, other], t("This is {0}, another element.", textOf(k, other)));
  }
  return found;
}
