// The page: where the reader is, what was changed, and the panels that show it.

const FEW = 24; // elements of a quantity that are steps of their own
const PHASES = [["forward", "Forward"], ["loss", "Loss"], ["back", "Backward"], ["gradient", "Gradients"], ["update", "Update"]];
const COLOR = { forward: "forward", loss: "loss", back: "back", gradient: "back", update: "update", given: "given" };
const examples = data.batch.reduce((a, b) => a * b, 1);
const rate = byName.get("learning_rate");

const state = { stop: 0, example: 0, fill: "nothing", ops: [], open: {}, answers: new Map(), losses: [] };
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

function remember() {
  clearTimeout(waiting);
  const kept = { s: state.stop, x: state.example, f: state.fill, o: state.ops, w: state.open };
  const text = encodeURIComponent(JSON.stringify(kept));
  const hash = text.length <= LONGEST_LINK ? `#${text}` : "#";
  if (hash === location.hash) return;
  try {
    history.replaceState(null, "", hash);
  } catch {
    // a page inside another one may have no address
  }
}

function recall() {
  let kept;
  try {
    kept = JSON.parse(decodeURIComponent(location.hash.slice(1)));
  } catch {
    return;
  }
  const number = (n, most) => (Number.isInteger(n) && n >= 0 && n < most ? n : 0);
  state.example = number(kept.x, examples);
  state.fill = ["nothing", "numbers", "formulas"].includes(kept.f) ? kept.f : "nothing";
  state.open = Object.fromEntries(Object.entries(kept.w ?? {}).filter(([s, i]) => data.steps[s] && Number.isInteger(i) && i >= 0));
  const ops = (Array.isArray(kept.o) ? kept.o : []).filter(
    (op) => (op[0] === "s" && number(op[1], 1000) > 0) || (op[0] === "e" && arrays[op[1]]?.given && !arrays[op[1]].ids && number(op[2], arrays[op[1]].size) === op[2] && Number.isFinite(op[3])),
  );
  if (!frozen) replay(ops);
  state.stop = number(kept.s, Infinity);
}

// The skeleton, once.

const icon = (path) => `<svg viewBox="0 0 16 16" aria-hidden="true"><path d="${path}"/></svg>`;

function skeleton() {
  const phases = PHASES.filter(([phase]) => data.steps.some((step) => step.phase === phase));
  const main = $("page");
  main.querySelector("noscript")?.remove();
  main.insertAdjacentHTML(
    "beforeend",
    `<nav class="controls" aria-label="Steps">
      <div class="phases" role="group" aria-label="Phases">${phases.map(([phase, words]) => `<button type="button" data-phase="${phase}" class="${COLOR[phase]}">${words}</button>`).join("")}</div>
      <div class="stepper"><button type="button" id="first" aria-label="First step" title="First step (Home)">${icon("M3 2h2v12H3zM14 2v12L6 8z")}</button><button type="button" id="back" aria-label="Previous step" title="Previous step (←)">${icon("M12 2v12L4 8z")}</button>
      <input type="range" id="slider" min="0" aria-label="Step"><button type="button" id="next" class="main" aria-label="Next step" title="Next step (→)">${icon("M4 2v12l8-6z")}</button><button type="button" id="last" aria-label="Last step" title="Last step (End)">${icon("M11 2h2v12h-2zM2 2v12l8-6z")}</button>
      <span id="count"></span></div>
      <div class="options">${examples > 1 ? `<label>Example <select id="example">${Array.from({ length: Math.min(examples, 1000) }, (_, i) => `<option value="${i}">${i}</option>`).join("")}</select></label>` : ""}
      <label>Fill in <select id="fill"><option value="nothing">nothing</option><option value="numbers">numbers</option><option value="formulas">formulas</option></select></label>
      <button type="button" id="link">Copy link</button></div>
    </nav>
    ${frozen ? `<p class="note">The numbers of this page cannot be changed: it has no formula for ${data.frozen.slice(0, 3).map((name) => `<code>${escaped(name)}</code>`).join(", ")}.</p>` : ""}
    <div class="stage"><section class="drawing" aria-label="Drawing"><div id="drawing" class="scroll" tabindex="0" role="group" aria-label="Drawing of the network"></div>
    <p class="legend"><span class="forward">forward: a, h</span> <span class="back">backward: Δ, δ, ∂L/∂W</span> <span class="update">update</span></p></section>
    <section class="step" aria-label="Current step"><div id="step"></div><p id="live" class="unseen" aria-live="polite"></p></section></div>
    <div class="below"><section id="numbers" aria-label="Numbers that can be changed"></section><div><section id="learning" aria-label="Learning"></section>
    ${data.claims.length ? `<section id="claims" aria-label="Claims"></section>` : ""}</div></div>
    <section id="printed" aria-label="All steps" hidden></section>`,
  );
  $("slider").addEventListener("input", (event) => go(+event.target.value));
  const buttons = { first: () => 0, back: () => state.stop - 1, next: () => state.stop + 1, last: () => stops.length - 1 };
  for (const [id, to] of Object.entries(buttons)) $(id).addEventListener("click", () => go(to()));
  document.querySelector(".phases").addEventListener("click", (event) => {
    const phase = event.target.closest("[data-phase]")?.dataset.phase;
    if (phase) go(stops.findIndex((stop) => stop.step.phase === phase));
  });
  $("fill").addEventListener("change", (event) => {
    state.fill = event.target.value;
    state.answers.clear();
    render();
  });
  $("example")?.addEventListener("change", (event) => {
    state.example = +event.target.value;
    state.answers.clear();
    makeStops();
    numbersPanel();
    render();
  });
  $("link").addEventListener("click", async (event) => {
    remember();
    await navigator.clipboard?.writeText(location.href).catch(() => {});
    event.target.textContent = "In the address bar";
    setTimeout(() => (event.target.textContent = "Copy link"), 2000);
  });
  document.addEventListener("keydown", keys);
  addEventListener("hashchange", () => {
    recall();
    makeStops();
    numbersPanel();
    render();
  });
  addEventListener("pagehide", remember);
  addEventListener("beforeprint", printed);
  $("step").addEventListener("click", chosen);
  $("drawing").addEventListener("click", opened);
  $("claims")?.addEventListener("click", chosen);
  document.addEventListener("pointerover", pointed);
  dragging();
}

function go(stop) {
  state.stop = Math.max(0, Math.min(stop, stops.length - 1));
  render();
}

function keys(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, select, textarea, .scroll")) return;
  const move = { ArrowRight: 1, ArrowLeft: -1, PageDown: 1, PageUp: -1 }[event.key];
  const to = event.key === "Home" ? 0 : event.key === "End" ? stops.length - 1 : move ? state.stop + move : null;
  if (to === null) return;
  event.preventDefault();
  go(to);
}

// A row of the list, a claim: to the step of that quantity.
function chosen(event) {
  const place = event.target.closest("[data-go]")?.dataset.go;
  if (place === undefined) return;
  const [k, flat] = place.split(":").map(Number);
  open(k, flat);
}

function open(k, flat) {
  const owner = data.steps.find((step) => step.array === k && step.example);
  if (owner && examples > 1) {
    const n = owner.prefix.length, index = indexOf(k, flat).slice(n, n + data.batch.length);
    const example = index.reduce((all, i, axis) => all * data.batch[axis] + i, 0);
    if (example !== state.example) {
      state.example = example;
      makeStops();
      numbersPanel();
    }
  }
  const at = positions.get(key(k, flat));
  if (at === undefined) return;
  if (stops[at].flat === null) state.open[stops[at].s] = stops[at].elements.indexOf(flat);
  go(at);
}

// A neuron in the drawing: what is computed for it in the phase where the reader is.
function opened(event) {
  const back = ["back", "gradient", "update"].includes(stops[state.stop].step.phase);
  const tile = event.target.closest("[data-tile]");
  if (tile) {
    const [n, kind] = tile.dataset.tile.split(":"), node = layout.nodes[n], box = tile.querySelector("image").getBoundingClientRect();
    const columns = +tile.dataset.columns, rows = +tile.dataset.rows;
    const c = Math.floor((columns * (event.clientX - box.left)) / box.width), r = Math.floor((rows * (event.clientY - box.top)) / box.height);
    const i = placedAt(r, c, node.shape, columns);
    if (c < 0 || r < 0 || c >= columns || r >= rows || i >= node.size) return;
    const found = inNode(node, kind === "h" ? "a" : kind, i, exampleIndex()) ?? inNode(node, kind, i, exampleIndex());
    if (arrays[found[0]].given) selectGiven(...found);
    else open(...found);
    return;
  }
  const neuron = event.target.closest("[data-open]");
  if (!neuron) return;
  const [n, i] = neuron.dataset.open.split(":").map(Number), node = layout.nodes[n];
  const found = inNode(node, back ? "delta" : "a", i, exampleIndex()) ?? inNode(node, back ? "Delta" : "h", i, exampleIndex());
  if (found && !arrays[found[0]].given) open(...found);
}

function pointed(event) {
  const wanted = event.target.closest?.("[data-key]")?.dataset.key;
  document.querySelectorAll(".pointed").forEach((e) => e.classList.remove("pointed"));
  if (wanted) document.querySelectorAll(`[data-key="${wanted}"]`).forEach((e) => e.classList.add("pointed"));
}

// Everything that depends on numbers or on where the reader is.
function render() {
  const [k, flat] = currentElement(), { step } = stops[state.stop];
  const forms = formsOf(k, flat), leaves = forms.flatMap((form) => leavesOf(form));
  const view = { current: { element: [k, flat], leaves }, phase: COLOR[step.phase], revealed, hidden, example: exampleIndex() };
  $("drawing").innerHTML = drawing(view);
  if (state.stop !== shownStop) follow();
  stepPanel(k, flat, forms);
  $("slider").max = stops.length - 1;
  $("slider").value = state.stop;
  $("slider").setAttribute("aria-valuetext", `${state.stop + 1} of ${stops.length}: ${nameOf(k, flat)}`);
  $("count").textContent = `${state.stop + 1} of ${stops.length}`;
  $("fill").value = state.fill;
  if ($("example")) $("example").value = state.example;
  $("first").disabled = $("back").disabled = state.stop === 0;
  $("next").disabled = $("last").disabled = state.stop === stops.length - 1;
  for (const button of document.querySelectorAll("[data-phase]")) {
    if (button.dataset.phase === step.phase) button.setAttribute("aria-current", "step");
    else button.removeAttribute("aria-current");
  }
  learningPanel();
  claimsPanel();
  syncNumbers();
  for (const part of document.querySelectorAll(".scroll")) part.classList.toggle("more", part.scrollWidth > part.clientWidth + 1);
  rememberSoon();
}

let shownStop = null;

// A drawing that is wider than its window shows the part where something happens.
function follow() {
  shownStop = state.stop;
  const window = $("drawing"), focus = window.querySelector(".focus") ?? window.querySelector(".lit");
  if (!focus || window.scrollWidth <= window.clientWidth) return;
  const box = focus.getBoundingClientRect(), frame = window.getBoundingClientRect();
  window.scrollLeft += (box.left + box.right) / 2 - frame.left - frame.width / 2;
}

// The equation.

function stepPanel(k, flat, forms) {
  const { step, elements } = stops[state.stop], phase = COLOR[step.phase], blank = hidden(k, flat);
  const typing = document.activeElement?.id === "answer" || document.activeElement?.id === "which";
  const large = stops[state.stop].flat === null;
  const list = elements.length > 1 && !large ? elementsList(k, elements) : "";
  const which = large
    ? `<label class="which">Element <input id="which" type="number" min="0" max="${elements.length - 1}" value="${elements.indexOf(flat)}"> of ${elements.length}, <code>${escaped(nameOf(k, flat))}</code></label>`
    : "";
  $("step").innerHTML =
    `<h2 class="${phase}">${escaped(step.title)}</h2>` +
    (step.rule ? `<p class="rule scroll" tabindex="0" role="group" aria-label="The rule">${math(step.rule)}</p>` : "") +
    which +
    (blank ? blankShown(k, flat, forms, phase) : equation(k, flat, forms, phase)) +
    pictures(k, flat, forms) +
    list;
  $("live").textContent = `Step ${state.stop + 1} of ${stops.length}. ${step.title}: ${nameOf(k, flat)}${blank ? " is to be filled in" : ` = ${written(exact(k, flat))}`}`;
  $("which")?.addEventListener("change", (event) => {
    const i = Math.max(0, Math.min(elements.length - 1, Math.round(+event.target.value) || 0));
    state.open[stops[state.stop].s] = i;
    render();
    $("which").focus();
  });
  if (blank) {
    $("blank").addEventListener("submit", (event) => {
      event.preventDefault();
      answer(k, flat, $("answer").value);
    });
    $("show").addEventListener("click", () => {
      state.answers.set(key(k, flat), { right: true, shown: true });
      render();
    });
    if (typing) $("answer").focus();
  }
}

function equation(k, flat, forms, phase) {
  const number = exact(k, flat), assigns = arrays[k].kind === "updated";
  const symbols = forms.map((form) => inSymbols(form));
  const lines = [...new Set(symbols)].map((m) => [assigns ? "←" : "=", m]);
  const form = forms.at(-1);
  let exactly = !isRounded(number);
  if (form !== undefined && leavesOf(form).length && !frozen) {
    const digits = digitsFor(form, number), m = inNumbers(form, digits);
    lines.push(["=", m]);
    const rounds = leavesOf(form).some(([l, i]) => isRounded(value(l, i), digits));
    if (rounds) lines.at(-1)[0] = "≈";
    exactly &&= !rounds;
  }
  return (
    `<div class="equation ${phase}"><div class="line"><span class="scroll" tabindex="0" role="group" aria-label="Quantity">${math(symbolOf(k, flat))}</span></div>` +
    lines.map(([sign, m]) => `<div class="line"><span class="sign">${sign}</span><span class="scroll" tabindex="0" role="group" aria-label="Formula">${m}</span></div>`).join("") +
    `<div class="line result"><span class="sign">${exactly ? "=" : "≈"}</span>${numberOfElement(k, flat, "output")}</div></div>`
  );
}

function elementsList(k, elements) {
  const rows = elements.map((flat) => {
    const seen = revealed(k, flat), at = positions.get(key(k, flat));
    const shows = !seen ? "" : hidden(k, flat) ? "?" : numberOfElement(k, flat);
    return `<li><button type="button" data-go="${key(k, flat)}" ${at === state.stop ? 'aria-current="step"' : ""} data-key="${key(k, flat)}"><code>${escaped(textOf(k, flat))}</code> ${shows}</button></li>`;
  });
  return `<ul class="elements" aria-label="Elements">${rows.join("")}</ul>`;
}

// Of a long sum: its weights, what they are multiplied with, and the products, as pictures.
function pictures(k, flat, forms) {
  const form = forms.at(-1);
  if (!form || form[0] !== "+" || form.length < 26 || state.fill !== "nothing") return "";
  const terms = form.slice(1).filter((term) => term[0] === "*" && term.length === 3);
  const [one, two] = [1, 2].map((i) => terms.map((term) => term[i]));
  if (!terms.length || !terms.every((term) => term[1][0] === "Q" && term[2][0] === "Q")) return "";
  const source = layout.nodes.find((node) => [node.h, node.delta].includes(two[0][1]) && node.size === terms.length);
  const shape = source?.shape ?? [terms.length];
  const shows = (numbers, color, words) => {
    const { url, rows, columns } = heat(Float64Array.from(numbers), shape, color), most = numbers.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
    return `<figure><img src="${url}" alt="${escaped(`${words}: a heat map of ${rows} by ${columns}, at most ${written(most, 3)}`)}" style="aspect-ratio:${columns}/${rows}"><figcaption>${escaped(words)}<br>at most ${written(most, 2)}</figcaption></figure>`;
  };
  const a = one.map((q) => value(q[1], q[2])), b = two.map((q) => value(q[1], q[2]));
  const color = PHASE[arrays[k].kind] === "back" ? "back" : "forward";
  return `<div class="pictures">${shows(a, "given", arrays[one[0][1]].name)}${shows(b, color, arrays[two[0][1]].name)}${shows(a.map((v, i) => v * b[i]), color, "their products")}</div>`;
}

// Filling in.

function blankShown(k, flat, forms, phase) {
  const last = state.answers.get(key(k, flat)), wantsFormula = state.fill === "formulas";
  const symbols = wantsFormula ? [] : [...new Set(forms.map((form) => inSymbols(form)))];
  const what = wantsFormula ? "formula" : "number";
  return (
    `<div class="equation ${phase}"><div class="line"><span class="scroll" tabindex="0" role="group" aria-label="Quantity">${math(symbolOf(k, flat))}</span></div>` +
    symbols.map((m) => `<div class="line"><span class="sign">=</span><span class="scroll" tabindex="0" role="group" aria-label="Formula">${m}</span></div>`).join("") +
    `<form id="blank" class="line" autocomplete="off"><span class="sign">=</span><input id="answer" type="text" aria-label="The ${what} of ${escaped(nameOf(k, flat))}" placeholder="${wantsFormula ? "e.g. " + escaped(exampleFormula(k)) : "a number or a formula"}" value="${escaped(last?.text ?? "")}">` +
    `<button type="submit" class="main">Check</button><button type="button" id="show">Show</button></form></div>` +
    `<p id="verdict" role="status" class="${last ? "wrong" : ""}">${last ? verdictWords(last) : ""}</p>`
  );
}

const exampleFormula = (k) => (PHASE[arrays[k].kind] === "forward" ? "W.o.h1[0, 0]*h.h1[0] + …" : "(h.o[0] - y[0])*…");

function verdictWords(last) {
  const shows = Number.isFinite(last.number) && !NUMBER.test(last.text) ? ` It gives ${written(last.number)}.` : "";
  return `<span class="mark">✗</span> ${last.unread ? "" : "Not right."}${escaped(shows)} ${escaped(last.hint || "Look at the rule above, and at what is highlighted in the drawing: that flows in.")}`;
}

function answer(k, flat, text) {
  if (!text.trim()) return;
  const before = new Map([...state.answers].filter(([, a]) => !a.right && Number.isFinite(a.number)).map(([place, a]) => [place, a.number]));
  const verdict = judgedAnswer(text, k, flat, state.fill === "formulas", before);
  state.answers.set(key(k, flat), { ...verdict, text });
  render();
  if (verdict.right) {
    $("step").insertAdjacentHTML("beforeend", `<p id="verdict" role="status" class="right"><span class="mark">✓</span> Right.</p>`);
    $("next").focus();
  } else $("answer").select();
}

// What is given, to be changed.

function editable() {
  return data.steps.filter((step) => step.phase === "given" && step.array !== rate);
}

function ownElements(step) {
  const { kind, size, shape } = arrays[step.array], all = Array.from({ length: size }, (_, i) => i);
  if ((kind !== "h" && kind !== "y") || !data.batch.length) return step.rows ? elementsOf(step) : all;
  const index = exampleIndex(), own = shape.slice(index.length).reduce((a, b) => a * b, 1);
  return all.slice(flatOf(step.array, [...index, ...shape.slice(index.length).map(() => 0)])).slice(0, own);
}

const chosenGiven = {};

function numbersPanel() {
  if (frozen) {
    $("numbers").hidden = true;
    return;
  }
  const groups = editable().map((step) => {
    const k = step.array, elements = ownElements(step), array = arrays[k];
    if (array.ids) return "";
    const columns = array.shape.at(-1) ?? 1;
    const inner =
      elements.length <= 64
        ? `<div class="matrix" style="--columns:${Math.min(columns, 6)}">${elements.map((flat) => field(k, flat)).join("")}</div>`
        : `<div class="wide" data-wide="${k}"></div>`;
    return `<fieldset><legend>${escaped(step.title)}</legend>${inner}</fieldset>`;
  });
  $("numbers").innerHTML = `<h2>Numbers <button type="button" id="reset">Reset all</button></h2><p class="note">Change a number, or drag its symbol to the left or right; everything that follows changes at once.</p><div class="fields">${groups.join("")}</div>`;
  $("reset").addEventListener("click", () => {
    replay([]);
    state.answers.clear();
    numbersPanel();
    render();
  });
  for (const place of document.querySelectorAll("[data-wide]")) wideField(place, +place.dataset.wide);
  if (!$("numbers").dataset.listens) {
    $("numbers").dataset.listens = "1";
    $("numbers").addEventListener("input", (event) => {
      const place = event.target.dataset.edit;
      if (place === undefined) return;
      edit(place, event.target.value);
    });
    $("numbers").addEventListener("click", (event) => {
      const place = event.target.closest("[data-restore]")?.dataset.restore;
      if (place === undefined) return;
      const [k, flat] = place.split(":").map(Number);
      edit(place, arrays[k].start[flat]);
    });
  }
}

function field(k, flat) {
  const place = key(k, flat), name = escaped(nameOf(k, flat));
  return (
    `<div class="field"><span class="handle" data-drag="${place}" data-key="${place}" aria-hidden="true">${math(symbolOf(k, flat))}</span>` +
    `<input type="number" step="any" data-edit="${place}" data-name="${name}" aria-label="${name}" value="${value(k, flat)}">` +
    `<button type="button" class="restore" data-restore="${place}" aria-label="Reset ${name}" title="Reset">↺</button></div>`
  );
}

function wideField(place, k) {
  const elements = ownElements(editable().find((step) => step.array === k)), flat = chosenGiven[k] ?? elements[0];
  const shape = arrays[k].kind === "W" ? arrays[k].shape : arrays[k].shape.slice(data.batch.length);
  const { url, rows, columns } = heat(Float64Array.from(elements, (i) => value(k, i)), shape, arrays[k].kind === "h" ? "forward" : "given");
  place.innerHTML =
    `<img src="${url}" draggable="false" data-paint="${k}" data-rows="${rows}" data-columns="${columns}" alt="Heat map of ${escaped(arrays[k].name)}" style="aspect-ratio:${columns}/${rows}">` +
    `<label>Element <input type="number" data-choose="${k}" min="0" max="${elements.length - 1}" value="${elements.indexOf(flat)}"></label>${field(k, flat)}`;
  place.querySelector("[data-choose]").addEventListener("change", (event) => {
    selectGiven(k, elements[Math.max(0, Math.min(elements.length - 1, Math.round(+event.target.value) || 0))]);
  });
}

function selectGiven(k, flat) {
  chosenGiven[k] = flat;
  const place = document.querySelector(`[data-wide="${k}"]`);
  if (place) wideField(place, k);
}

function edit(place, text) {
  const [k, flat] = place.split(":").map(Number), number = +text;
  if (String(text).trim() === "" || !Number.isFinite(number) || frozen || !arrays[k]?.given || arrays[k].ids) return;
  act(["e", k, flat, number]);
  render();
}

// The fields show what is, but for the one in which somebody writes.
function syncNumbers() {
  for (const input of document.querySelectorAll("[data-edit]")) {
    const [k, flat] = input.dataset.edit.split(":").map(Number);
    if (input !== document.activeElement && +input.value !== value(k, flat)) input.value = value(k, flat);
    const moved = value(k, flat) !== arrays[k].start[flat];
    input.parentElement.classList.toggle("changed", moved);
    const restore = input.parentElement.querySelector("[data-restore]");
    if (restore) restore.disabled = !moved;
  }
}

// Dragging: a symbol, a neuron or a weight to the left and right; a picture of an input is painted.
function dragging() {
  let drag = null;
  document.addEventListener("pointerdown", (event) => {
    const handle = event.target.closest?.("[data-drag]"), picture = event.target.closest?.("[data-paint]");
    if (frozen || event.button || (!handle && !picture)) return;
    if (picture) {
      drag = { picture, k: +picture.dataset.paint };
      paint(event, drag);
    } else {
      const [k, flat] = handle.dataset.drag.split(":").map(Number);
      drag = { k, flat, from: event.clientX, start: value(k, flat), step: Math.max(0.01, 0.01 * 10 ** Math.floor(Math.log10(Math.abs(value(k, flat)) || 1))) };
    }
    event.preventDefault();
  });
  document.addEventListener("pointermove", (event) => {
    if (!drag) return;
    if (drag.picture) return paint(event, drag);
    const moved = Math.round((event.clientX - drag.from) / 4);
    if (!moved && !drag.moved) return;
    drag.moved = true;
    edit(key(drag.k, drag.flat), +(drag.start + moved * drag.step).toFixed(6));
  });
  const end = () => {
    if (drag?.picture && drag.painted) selectGiven(drag.k, drag.flat);
    drag = null;
  };
  document.addEventListener("pointerup", end);
  document.addEventListener("pointercancel", end);
}

function paint(event, drag) {
  const picture = document.querySelector(`[data-paint="${drag.k}"]`), box = picture.getBoundingClientRect();
  const rows = +picture.dataset.rows, columns = +picture.dataset.columns;
  const c = Math.floor((columns * (event.clientX - box.left)) / box.width), r = Math.floor((rows * (event.clientY - box.top)) / box.height);
  if (c < 0 || r < 0 || c >= columns || r >= rows) return;
  const elements = ownElements(editable().find((step) => step.array === drag.k));
  const shape = arrays[drag.k].kind === "W" ? arrays[drag.k].shape : arrays[drag.k].shape.slice(data.batch.length);
  const flat = elements[placedAt(r, c, shape, columns)];
  if (flat === undefined || flat === drag.flat) return;
  drag.flat = flat;
  if (arrays[drag.k].kind === "W") return selectGiven(drag.k, flat);
  drag.painted = true;
  edit(key(drag.k, flat), event.shiftKey ? 0 : 1);
  selectGiven(drag.k, flat);
}

// Learning.

function learningPanel() {
  if (frozen) {
    $("learning").hidden = true;
    return;
  }
  const loss = byName.get("loss"), losses = state.losses, now = value(loss, 0);
  if (!$("learning").firstChild) {
    $("learning").innerHTML =
      `<h2>Learning</h2><div class="learn"><label class="rate">Learning rate η <input type="number" step="any" min="0" data-edit="${key(rate, 0)}" data-name="learning_rate" value="${value(rate, 0)}"></label>` +
      `<button type="button" id="descend" class="main">Take a step</button><button type="button" id="descend10">Take 10</button></div><div id="losses"></div>`;
    $("learning").addEventListener("input", (event) => event.target.dataset.edit && edit(event.target.dataset.edit, event.target.value));
    for (const [id, n] of [["descend", 1], ["descend10", 10]]) {
      $(id).addEventListener("click", () => {
        act(["s", n]);
        state.answers.clear();
        render();
      });
    }
  }
  const curve = losses.length > 1 ? [...losses.slice(0, -1), now] : [];
  const shownLoss = state.fill === "nothing" ? numberOfElement(loss, 0, "output") : hidden(loss, 0) ? "?" : numberOfElement(loss, 0, "output");
  $("losses").innerHTML = `<p>Loss${examples > 1 ? `, mean over ${examples} examples,` : ""} now: ${shownLoss}${curve.length ? `, after ${losses.length - 1} step${losses.length > 2 ? "s" : ""} from ${written(losses[0])}` : ""}</p>${curve.length ? sparkline(curve) : ""}`;
}

function sparkline(numbers) {
  const finite = numbers.filter(Number.isFinite), most = Math.max(...finite, 0), least = Math.min(...finite, 0), width = 320, height = 90;
  const x = (i) => 6 + ((width - 12) * i) / Math.max(1, numbers.length - 1), y = (v) => 6 + ((height - 12) * (most - v)) / (most - least || 1);
  const path = numbers.map((v, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(Number.isFinite(v) ? v : most).toFixed(1)}`).join("");
  const dots = numbers.length <= 60 ? numbers.map((v, i) => `<circle cx="${x(i).toFixed(1)}" cy="${y(v).toFixed(1)}" r="3"/>`).join("") : "";
  return `<svg class="curve" viewBox="0 0 ${width} ${height}" role="img" aria-label="The loss falls from ${written(numbers[0])} to ${written(numbers.at(-1))}"><path class="axis" d="M6 ${y(0)} H${width - 6}"/><path d="${path}"/>${dots}</svg>`;
}

// Claims, judged at the numbers that are there now.

function judgedClaims() {
  const before = new Map();
  return data.claims.map((claim) => {
    const of = treeAt(claim.of), single = of[0] === "Q", truth = evaluate(of), still = frozen || !changed();
    const roundoff = single && !arrays[of[1]].given && !frozen ? 1e-15 * magnitude(mainForm(of[1], of[2])) : 0;
    if (Number.isNaN(truth) && !still) return { claim, truth, unknown: true };
    if (claim.tree === undefined) {
      const number = numberOf(claim.claimed), holds = close(number, truth, claim.precision + roundoff);
      let carried = NaN;
      if (single && !holds && !arrays[of[1]].given && !frozen) {
        const touched = formsOf(of[1], of[2]).filter((form) => leavesOf(form).some((leaf) => before.has(key(...leaf))));
        const led = touched.map((form) => evaluateWith(form, before));
        carried = led.find((n) => close(number, n, claim.precision)) ?? NaN;
      }
      if (single) before.set(key(of[1], of[2]), number);
      return { claim, of, truth, holds: still ? claim.holds : holds, follows: !Number.isNaN(carried) };
    }
    const tree = treeAt(claim.tree), number = evaluate(tree);
    const holds = still ? claim.holds : close(number, truth, 1e-15 * magnitude(tree));
    return { claim, of, truth, holds, gives: number, here: holds && claim.general !== true && leavesOf(tree).length > 0 };
  });
}

function claimsPanel() {
  if (!data.claims.length) return;
  const verdicts = judgedClaims(), right = verdicts.filter((v) => v.holds).length;
  const rows = verdicts.map((verdict) => {
    const { claim, of, truth, holds, gives, here, follows, unknown } = verdict;
    const sort = unknown ? "unknown" : !holds ? "wrong" : here ? "here" : "right", covered = of?.[0] === "Q" && hidden(of[1], of[2]);
    const remark = unknown ? "not judged at other numbers" : here ? "here, but not at other numbers" : follows ? "this follows from the numbers claimed before" : "";
    const place = of?.[0] === "Q" && positions.has(key(of[1], of[2])) ? `<button type="button" data-go="${key(of[1], of[2])}">${escaped(claim.where || claim.name)}</button>` : escaped(claim.where || claim.name);
    return (
      `<tr class="${covered ? "" : sort}" data-claim="${escaped(claim.name)}"><td class="mark">${covered ? "" : unknown ? "?" : holds ? `✓<span class="unseen">right</span>` : `✗<span class="unseen">wrong</span>`}</td><td>${place}</td>` +
      `<td>${math(`${claim.symbol}<mo>=</mo>${claim.said}`)}${gives === undefined || covered ? "" : ` = ${written(gives)}`}</td>` +
      `<td>${holds || unknown || covered ? "" : of[0] === "Q" ? numberOfElement(of[1], of[2]) : written(truth)} ${covered ? "" : remark}</td></tr>`
    );
  });
  $("claims").innerHTML = `<h2>Claims</h2><p id="summary">${verdicts.length} claim${verdicts.length > 1 ? "s" : ""}: ${right} right, ${verdicts.length - right} wrong</p><div class="scroll" tabindex="0" role="group" aria-label="Table of claims"><table><thead><tr><th><span class="unseen">verdict</span></th><th>where</th><th>claimed</th><th>right</th></tr></thead><tbody>${rows.join("")}</tbody></table></div>`;
}

// On paper: every step of this example, with blanks where something is to be filled in.
function printed() {
  if (stops.length > 400) return;
  let last = null;
  const blocks = stops.map((stop) => {
    const [k, flat] = [stop.step.array, stop.flat ?? stop.elements[0]], forms = formsOf(k, flat);
    const head = stop.step === last ? "" : `<h3 class="${COLOR[stop.step.phase]}">${escaped(stop.step.title)} ${stop.step.rule ? math(stop.step.rule) : ""}</h3>`;
    last = stop.step;
    const symbol = math(symbolOf(k, flat)), formula = forms.length && state.fill !== "formulas" ? `= ${inSymbols(forms.at(-1))}` : "";
    const blank = state.fill !== "nothing" && stop.flat !== null;
    const numbers = blank ? '= <span class="gap"></span>' : equation(k, flat, forms, COLOR[stop.step.phase]);
    return `${head}<div class="entry">${blank ? `${symbol} ${formula} ${numbers}` : numbers}</div>`;
  });
  $("printed").innerHTML = `<h2>All steps</h2>${blocks.join("")}`;
  $("printed").hidden = false;
}

addEventListener("afterprint", () => {
  $("printed").hidden = true;
  $("printed").innerHTML = "";
});

skeleton();
recall();
makeStops();
numbersPanel();
render();
