// What is given, to be changed: fields, symbols that are dragged, pictures that are painted.

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
  $("numbers").innerHTML = `<h2>${t("Numbers")} <button type="button" id="reset">${t("Reset all")}</button></h2><p class="note">${t("Change a number, or drag its symbol to the left or right; everything that follows changes at once.")}</p><div class="fields">${groups.join("")}</div>`;
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
    `<button type="button" class="restore" data-restore="${place}" aria-label="${t("Reset")} ${name}" title="${t("Reset")}">↺</button></div>`
  );
}

function wideField(place, k) {
  const elements = ownElements(editable().find((step) => step.array === k)), flat = chosenGiven[k] ?? elements[0];
  const shape = arrays[k].kind === "W" ? arrays[k].shape : arrays[k].shape.slice(data.batch.length);
  const { url, rows, columns } = heat(Float64Array.from(elements, (i) => value(k, i)), shape, arrays[k].kind === "h" ? "forward" : "given");
  place.innerHTML =
    `<img src="${url}" draggable="false" data-paint="${k}" data-rows="${rows}" data-columns="${columns}" alt="${t("Heat map of {0}", escaped(arrays[k].name))}" style="aspect-ratio:${columns}/${rows}">` +
    `<label>${t("Element")} <input type="number" data-choose="${k}" min="0" max="${elements.length - 1}" value="${elements.indexOf(flat)}"></label>${field(k, flat)}`;
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
