// The page itself: its skeleton, what a reader does, and what is drawn anew then.

const icon = (path) => `<svg viewBox="0 0 16 16" aria-hidden="true"><path d="${path}"/></svg>`;

function aboutFormulas() {
  if (frozen) return t("The numbers of this page cannot be changed: they decide which keys a row of attention sees.");
  const names = data.opaque.slice(0, 3).map((name) => `<code>${escaped(name)}</code>`).join(", ");
  return t("There is no formula for {0}: what follows is unknown, {1}, where a change reaches it.", names + (data.opaque.length > 3 ? " …" : ""), UNKNOWN);
}

function skeleton() {
  const phases = PHASES.filter(([phase]) => data.steps.some((step) => step.phase === phase));
  const main = $("page");
  main.querySelector("noscript")?.remove();
  main.insertAdjacentHTML(
    "beforeend",
    `<nav class="controls" aria-label="${t("Steps")}">
      <div class="phases" role="group" aria-label="${t("Phases")}">${phases.map(([phase, words]) => `<button type="button" data-phase="${phase}" class="${COLOR[phase]}">${words}</button>`).join("")}</div>
      <div class="stepper"><button type="button" id="first" aria-label="${t("First step")}" title="${t("First step")} (Home)">${icon("M3 2h2v12H3zM14 2v12L6 8z")}</button><button type="button" id="back" aria-label="${t("Previous step")}" title="${t("Previous step")} (←)">${icon("M12 2v12L4 8z")}</button>
      <input type="range" id="slider" min="0" aria-label="${t("Step")}"><button type="button" id="next" class="main" aria-label="${t("Next step")}" title="${t("Next step")} (→)">${icon("M4 2v12l8-6z")}</button><button type="button" id="last" aria-label="${t("Last step")}" title="${t("Last step")} (End)">${icon("M11 2h2v12h-2zM2 2v12l8-6z")}</button>
      <span id="count"></span></div>
      <div class="options">${examples > 1 ? `<label>${t("Example")} <select id="example">${Array.from({ length: Math.min(examples, 1000) }, (_, i) => `<option value="${i}">${i}</option>`).join("")}</select></label>` : ""}
      <label>${t("Fill in")} <select id="fill">${["nothing", "numbers", "formulas"].map((what) => `<option value="${what}">${t(what)}</option>`).join("")}</select></label>
      <span class="keep"><button type="button" id="link">${t("Copy link")}</button><button type="button" id="save">${t("Save")}</button><button type="button" id="open">${t("Open")}</button><input type="file" id="file" accept=".json,application/json" aria-label="${t("A file that was saved here")}" hidden></span></div>
      <p id="kept" role="status"></p>
    </nav>
    ${frozen || hasOpaque ? `<p class="note">${aboutFormulas()}</p>` : ""}
    <div class="stage"><section class="drawing" aria-label="${t("Drawing")}"><div id="drawing" class="scroll" tabindex="0" role="group" aria-label="${t("Drawing of the network")}"></div>
    <p class="legend"><span class="forward">${t("forward: a, h")}</span> <span class="back">${t("backward: Δ, δ, ∂L/∂W")}</span> <span class="update">${t("update")}</span></p></section>
    <section class="step" aria-label="${t("Current step")}"><div id="step"></div><p id="live" class="unseen" aria-live="polite"></p></section></div>
    <div class="below"><section id="numbers" aria-label="${t("Numbers that can be changed")}"></section><div><section id="learning" aria-label="${t("Learning")}"></section>
    ${data.claims.length ? `<section id="claims" aria-label="${t("Claims")}"></section>` : ""}</div></div>
    <section id="printed" aria-label="${t("All steps")}" hidden></section>`,
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
    anew();
  });
  $("link").addEventListener("click", async () => {
    const fits = remember();
    say(fits ? t("The link is in the address bar.") : t("What was changed is too much for a link of {0} characters: save it as a file.", LONGEST_LINK));
    if (fits) await navigator.clipboard?.writeText(location.href).catch(() => {});
  });
  $("save").addEventListener("click", save);
  $("open").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (file) opening(await file.text());
  });
  document.addEventListener("keydown", keys);
  addEventListener("hashchange", () => {
    recall();
    anew();
  });
  addEventListener("pagehide", remember);
  addEventListener("beforeprint", printed);
  $("step").addEventListener("click", chosen);
  $("drawing").addEventListener("click", opened);
  $("claims")?.addEventListener("click", chosen);
  document.addEventListener("pointerover", pointed);
  dragging();
}

function anew() {
  makeStops();
  numbersPanel();
  render();
}

function say(words) {
  $("kept").textContent = words;
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
  const active = document.activeElement?.closest("#step [data-go], #claims [data-go]"), inside = active?.closest("section").id || "step";
  const forms = formsOf(k, flat), leaves = forms.flatMap((form) => leavesOf(form));
  const view = { current: { element: [k, flat], leaves }, phase: COLOR[step.phase], revealed, hidden, example: exampleIndex() };
  $("drawing").innerHTML = drawing(view);
  if (state.stop !== shownStop) follow();
  stepPanel(k, flat, forms);
  $("slider").max = stops.length - 1;
  $("slider").value = state.stop;
  $("slider").setAttribute("aria-valuetext", `${t("{0} of {1}", state.stop + 1, stops.length)}: ${nameOf(k, flat)}`);
  $("count").textContent = t("{0} of {1}", state.stop + 1, stops.length);
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
  if (active) $(inside).querySelector(`[data-go="${active.dataset.go}"]`)?.focus();
  for (const part of document.querySelectorAll(".scroll")) part.classList.toggle("more", part.scrollWidth > part.clientWidth + 1);
  rememberSoon();
}

let shownStop = null;

// A drawing that is larger than its window shows the part where something happens.
function follow() {
  shownStop = state.stop;
  const window = $("drawing"), [focus] = [".focus", ".within", ".lit"].map((mark) => window.querySelector(mark)).filter(Boolean);
  if (!focus || (window.scrollWidth <= window.clientWidth && window.scrollHeight <= window.clientHeight)) return;
  const box = focus.getBoundingClientRect(), frame = window.getBoundingClientRect();
  window.scrollLeft += (box.left + box.right) / 2 - frame.left - frame.width / 2;
  window.scrollTop += (box.top + box.bottom) / 2 - frame.top - frame.height / 2;
}

// In a notebook it is dark where the notebook is, of which no media query knows: Jupyter and VS Code write it on their body.
function followNotebook() {
  let notebook = null;
  try { notebook = parent === window ? null : parent.document.body; } catch { /* of another origin: it cannot be asked */ }
  if (notebook === null) return;
  const dark = [...document.styleSheets[0].cssRules].find((rule) => rule.media?.mediaText.includes("prefers-color-scheme"));
  const asked = dark.media.mediaText;
  const take = () => {
    const { jpThemeLight, vscodeThemeKind } = notebook.dataset;
    const is = jpThemeLight ? jpThemeLight === "false" : vscodeThemeKind ? !vscodeThemeKind.endsWith("light") : null;
    dark.media.mediaText = is === null ? asked : is ? "screen" : "not all";
    document.documentElement.style.colorScheme = is === null ? "" : is ? "dark" : "light";
  };
  new MutationObserver(take).observe(notebook, { attributeFilter: ["data-jp-theme-light", "data-vscode-theme-kind"] });
  take();
}

followNotebook();
skeleton();
recall();
anew();
