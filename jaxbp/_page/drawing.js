// The network as a drawing: neurons with their values, wide layers as tiles, and what flows into the current number.

const MOST_NEURONS = 10, MOST_LARGE = 4, COLUMN = 215, TILE = 132;
const LARGE = { r: 32, row: 140 }, SMALL = { r: 26, row: 72 }; // a neuron with all its numbers, and with the main ones
const R = LARGE.r;

// Where everything is: once, since only numbers change.
const layout = laidOut();

function laidOut() {
  const column = new Map(), nodes = data.nodes.map((node, n) => ({ ...node, n, size: node.shape.reduce((a, b) => a * b, 1) }));
  const named = new Map(nodes.map((node) => [node.name, node]));
  for (const node of nodes) column.set(node.name, node.reads.length ? 1 + Math.max(...node.reads.map((s) => column.get(s))) : 0);
  const late = Math.max(...column.values());
  for (const node of nodes) {
    if (!node.reads.length) { // an input stands beside its first reader
      const readers = nodes.filter((v) => v.reads.includes(node.name)).map((v) => column.get(v.name));
      column.set(node.name, Math.max(0, Math.min(late, ...readers) - 1));
    }
  }
  const columns = Array.from({ length: late + 1 }, (_, c) => nodes.filter((node) => column.get(node.name) === c));
  for (const node of nodes) Object.assign(node, node.size > MOST_LARGE ? SMALL : LARGE, { small: node.size > MOST_LARGE });
  const height = (node) => (node.size <= MOST_NEURONS ? node.size * node.row : 2 * TILE + 70) + 26;
  const total = Math.max(...columns.map((c) => c.reduce((sum, node) => sum + height(node), 0)));
  const long = nodes.some((node) => node.reads.some((s) => column.get(node.name) - column.get(s) > 1));
  const above = long ? 64 : 6;
  columns.forEach((c, at) => {
    let y = above + (total - c.reduce((sum, node) => sum + height(node), 0)) / 2;
    for (const node of c) {
      Object.assign(node, { x: 80 + at * COLUMN, top: y, bottom: y + height(node), column: at, tiled: node.size > MOST_NEURONS });
      node.neurons = node.tiled ? [] : Array.from({ length: node.size }, (_, i) => ({ x: node.x, y: y + 26 + node.row * (i + 0.5), r: node.r }));
      node.middle = node.tiled ? y + 26 + TILE / 2 : y + 26 + (node.size * node.row) / 2;
      y += height(node);
    }
  });
  return { nodes, named, columns, width: 150 + late * COLUMN + 190, height: above + total + 8, above };
}

// An element of a unit in an array of its own kind: layers, then the example, then the element.
function inNode(node, kind, i, example) {
  const k = node[kind];
  if (k === undefined) return null;
  const start = [...node.prefix, ...example, ...node.shape.map(() => 0)];
  return [k, flatOf(k, start) + i];
}

function drawing(view) {
  const { current, example, revealed } = view;
  const flowing = new Set(current.leaves.map(([k, flat]) => key(k, flat)));
  const phase = view.phase;
  const focus = key(...current.element);
  const states = { flowing, focus, phase, revealed, example, hidden: view.hidden };
  const output = layout.nodes.find((node) => node.output);
  const parts = [
    `<defs>${["forward", "back"].map((c) => `<marker id="arrow-${c}" class="${c}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="5" markerHeight="5" orient="auto-start-reverse"><path d="M0 0 L8 4 L0 8 z"/></marker>`).join("")}</defs>`,
    ...layout.nodes.flatMap((node) => connections(node, states)),
    ...layout.nodes.map((node) => (node.tiled ? tiles(node, states) : neurons(node, states))),
    lossShown(output, states),
  ];
  return (
    `<svg viewBox="0 0 ${layout.width} ${layout.height}" style="max-width:${layout.width * 1.35}px;min-width:${layout.width * 0.62}px" role="img" ` +
    `aria-label="${escaped(`${t("The network")}: ${layout.nodes.map((n) => `${n.label}, ${n.size} ${n.phi}`).join("; ")}. ${t("Now")}: ${nameOf(...current.element)}`)}">${parts.join("")}</svg>`
  );
}

// The lines that lead into a unit: one for each term of its sums, or one band between wide layers.
function connections(node, states) {
  const parts = [], drawn = new Set(), labels = [], joined = new Set();
  const kind = node.a === undefined ? "h" : "a"; // an input of a block has no a
  const bands = () => node.reads.map((s) => band(layout.named.get(s), node, states));
  if (node.tiled || !node.reads.length) return bands();
  node.neurons.forEach((to, j) => {
    const target = inNode(node, kind, j, states.example);
    for (const { source, weight, i } of termsInto(...target, node)) {
      joined.add(source.name);
      if (source.tiled) {
        if (drawn.has(`${source.n} ${j}`)) continue;
        drawn.add(`${source.n} ${j}`);
        const phase = states.focus === key(...target) || isPulledBack(node, j, states) ? states.phase : "";
        parts.push(line({ x: source.x + TILE / 2, y: source.middle, r: 0 }, to, source, node, phase, ""));
        continue;
      }
      const from = source.neurons[i];
      if (!weight) {
        parts.push(line(from, to, source, node, carries(source, i, node, j, target, states) ? states.phase : "", ""));
        continue;
      }
      const about = aboutWeight(weight, states), text = label(from, to, source, node, weight, labels, about, states);
      parts.push(line(from, to, source, node, about.phase, text));
    }
  });
  if (!parts.length) return bands();
  parts.sort((a, b) => a.includes(" lit") - b.includes(" lit")); // what is highlighted is drawn on top
  // queries and keys say how much of each value is taken, and are in no term of their own
  return [...node.reads.filter((s) => !joined.has(s)).map((s) => band(layout.named.get(s), node, states)), ...parts];
}

// Whether a connection without a weight takes part in the current number: forward, or back.
function carries(source, i, node, j, target, states) {
  const h = inNode(source, "h", i, states.example), Delta = inNode(source, "Delta", i, states.example);
  if (states.focus === key(...target)) return states.flowing.has(key(...h));
  return Delta !== null && states.focus === key(...Delta) && isPulledBack(node, j, states);
}

const into = new Map();

// Source element and weight of each term of a pre-activation: the same at any numbers.
function termsInto(k, flat, node) {
  const place = key(k, flat);
  if (!into.has(place)) {
    const form = mainForm(k, flat), found = [];
    const terms = form[0] === "+" ? form.slice(1) : [form];
    const sources = node.reads.map((s) => layout.named.get(s));
    for (const term of terms) {
      const leaves = leavesOf(term), weight = leaves.find(([l]) => arrays[l].kind === "W") ?? null;
      for (const [l, i] of leaves) {
        const source = sources.find((s) => s.h === l && arrays[l].kind === "h");
        if (source) found.push({ source, weight, i: i % source.size });
      }
    }
    into.set(place, found);
  }
  return into.get(place);
}

// Whether δ of a neuron flows into the current Δ.
function isPulledBack(node, j, states) {
  const delta = inNode(node, "delta", j, states.example), current = arrays[+states.focus.split(":")[0]];
  return delta !== null && current.kind === "Delta" && states.flowing.has(key(...delta));
}

function aboutWeight([k, flat], { flowing, focus, phase }) {
  const [, path] = /^W\.(.*)$/.exec(arrays[k].name) ?? [];
  const grad = byName.get(`grad.${path}`), updated = byName.get(`updated.${path}`);
  const is = [k, grad, updated].some((l) => l !== undefined && (focus === key(l, flat) || flowing.has(key(l, flat))));
  return { phase: is ? phase : "", grad, updated };
}

function line(from, to, source, node, phase, text) {
  const [x0, x1] = [from.x + from.r + 2, to.x - to.r - (phase && phase !== "back" ? 5 : 2)];
  const lane = node.column - source.column > 1, apart = (x1 - x0) / 2;
  const y = Math.min(...layout.nodes.filter((n) => n.column > source.column && n.column < node.column).map((n) => n.top), layout.above + 40) - 30;
  const over = lane ? Math.max(6, y - (from.y + to.y - 2 * y) * 0.04) : null;
  const path = lane
    ? `M${x0} ${from.y} C${x0 + 60} ${over} ${x0 + 60} ${over} ${x0 + apart} ${over} S${x1 - 60} ${over} ${x1} ${to.y}`
    : `M${x0} ${from.y} C${x0 + apart * 0.5} ${from.y} ${x1 - apart * 0.5} ${to.y} ${x1} ${to.y}`;
  const arrow = phase === "back" ? 'marker-start="url(#arrow-back)"' : phase ? 'marker-end="url(#arrow-forward)"' : "";
  return `<g class="line${phase ? ` lit ${phase}` : ""}"><path d="${path}" ${phase ? arrow : ""}/>${text}</g>`;
}

function label(from, to, source, node, weight, labels, about, states) {
  const lane = node.column - source.column > 1;
  if (!about.phase && (lane || source.size * node.size > 24)) return "";
  const [x0, x1] = [from.x + from.r + 2, to.x - to.r - 2];
  // where on its line it is farthest from the labels that are there already
  const spots = (lane ? [0.1] : [0.3, 0.42, 0.56, 0.68, 0.2]).map((t) => [x0 + (x1 - x0) * t, lane ? from.y - 40 : from.y + (to.y - from.y) * t * t * (3 - 2 * t)]);
  const room = ([x, y]) => Math.min(2, ...labels.map(([u, v]) => Math.max(Math.abs(x - u) / 46, Math.abs(y - v) / 17)));
  const [x, y] = spots.reduce((best, spot) => (room(spot) > room(best) + 0.2 ? spot : best));
  labels.push([x, y]);
  const below = [];
  const extra = (l, mark) => {
    if (l === undefined || !states.revealed(l, weight[1])) return;
    below.push(`<tspan x="${x}" dy="1.15em" class="${PHASE[arrays[l].kind]}">${mark}${states.hidden(l, weight[1]) ? "?" : numberOfElement(l, weight[1], "tspan")}</tspan>`);
  };
  if (about.phase === "back" || about.phase === "update") extra(about.grad, "∂ ");
  if (about.phase === "update") extra(about.updated, "→ ");
  return `<text class="weight" data-drag="${key(...weight)}" data-key="${key(...weight)}" x="${x}" y="${y + 4 - 6 * below.length}">${numberOfElement(...weight, "tspan")}${below.join("")}</text>`;
}

function band(source, node, states) {
  const x0 = source.x + (source.tiled ? TILE / 2 : source.r), x1 = node.x - (node.tiled ? TILE / 2 : node.r) - 4;
  const focused = arrays[+states.focus.split(":")[0]], mine = [node.a, node.delta].includes(+states.focus.split(":")[0]);
  const back = focused.kind === "Delta" && source.Delta === +states.focus.split(":")[0];
  const weights = /^(grad|updated)\./.test(focused.name) && focused.name.includes(`.${node.name}.`);
  const within = isWithin(node, states) && [source.h, source.Delta].some((k) => [...states.flowing].some((place) => place.startsWith(`${k}:`)));
  const lit = (mine && focused.kind === "a") || back || weights || within ? ` lit ${states.phase}` : "";
  return `<g class="band${lit}"><path d="M${x0} ${source.middle} C${x0 + 50} ${source.middle} ${x1 - 50} ${node.middle} ${x1} ${node.middle}"/></g>`;
}

// Whether the current number is one of what happens within a unit, as scores within attention.
function isWithin(node, states) {
  const [k, flat] = states.focus.split(":").map(Number), { kind, name } = arrays[k];
  if (["a", "h", "Delta", "delta"].includes(kind) || name !== `${kind}.${node.unit}`) return false;
  const index = indexOf(k, flat);
  return node.prefix.every((layer, axis) => layer === index[axis]);
}

function title(node, states) {
  const phi = node.phi && node.phi !== "linear" ? ` · ${node.phi}` : "";
  return `<text class="unit${isWithin(node, states) ? ` within ${states.phase}` : ""}" x="${node.x}" y="${node.top + 16}">${escaped(node.label)}<tspan class="phi">${escaped(phi)}</tspan></text>`;
}

// The number of an element as it is drawn: nothing before it is computed, a question mark while it is to be filled in.
function valueAt(found, states, attributes, mark = "") {
  if (found === null || !states.revealed(...found)) return "";
  const text = states.hidden(...found) ? `<tspan data-blank="1">?</tspan>` : numberOfElement(...found, "tspan");
  const long = text.replace(/<[^>]*>/g, "").length > 6 ? 'data-long="1"' : "";
  return `<text ${attributes} ${long} data-key="${key(...found)}">${mark}${text}</text>`;
}

function neurons(node, states) {
  const { r, small } = node;
  const parts = node.neurons.map(({ x, y }, i) => {
    const [a, h, Delta, delta] = ["a", "h", "Delta", "delta"].map((kind) => inNode(node, kind, i, states.example));
    const all = [a, h, Delta, delta].filter(Boolean).map((found) => key(...found));
    const focus = all.includes(states.focus), flows = all.some((found) => states.flowing.has(found));
    const input = arrays[h[0]].given;
    const state = focus ? ` focus ${states.phase}` : flows ? ` flows ${states.phase}` : "";
    const shape = input
      ? `<rect x="${x - r}" y="${y - r * 0.75}" width="${2 * r}" height="${r * 1.5}" rx="7"/>`
      : `<circle cx="${x}" cy="${y}" r="${r}"/>`;
    const bias = node.bias && a ? biasOf(a) : null;
    // below it: the bias, Δ and δ, as far as there is room
    const below = [];
    if (bias && (!small || aboutWeight(bias, states).phase)) below.push((at) => biasShown(bias, x, at, states));
    if (Delta && (!small || delta === null) && states.revealed(...Delta)) below.push((at) => valueAt(Delta, states, `class="small" x="${x}" y="${at}"`, "Δ "));
    if (delta && states.revealed(...delta)) below.push((at) => valueAt(delta, states, `class="small strong" x="${x}" y="${at}"`, "δ "));
    const shownBelow = small ? below.slice(-1) : below;
    return (
      `<g class="neuron${input ? " input" : ""}${small ? " tiny" : ""}${state}" data-open="${node.n}:${i}" ${input && !arrays[h[0]].ids ? `data-drag="${key(...h)}"` : ""}><title>${escaped(nameOf(...h))}</title>${shape}` +
      (small ? "" : `<text class="symbol" x="${x}" y="${y - (input ? r * 0.75 + 7 : r + 20)}">${escaped(shortName(h))}</text>`) +
      valueAt(h, states, `class="value" x="${x}" y="${y + 5}"`) +
      (a && !small ? valueAt(a, states, `class="small" x="${x}" y="${y - r - 6}"`, `${escaped(arrays[a[0]].texts?.[a[1]] ?? "a")} `) : "") +
      shownBelow.map((show, line) => show(y + r + 14 + 14 * line)).join("") +
      `</g>`
    );
  });
  return `<g>${title(node, states)}${parts.join("")}</g>`;
}

function shortName(h) {
  const text = textOf(...h);
  return text === nameOf(...h) ? text.replace(/^h\./, "") : text;
}

function biasOf([k, flat]) {
  const form = mainForm(k, flat), terms = form[0] === "+" ? form.slice(1) : [form];
  const alone = terms.find((term) => term[0] === "Q" && arrays[term[1]].kind === "W");
  return alone ? [alone[1], alone[2]] : null;
}

function biasShown(bias, x, y, states) {
  const about = aboutWeight(bias, states), parts = [];
  for (const [l, mark] of [[about.grad, "∂ "], [about.updated, "→ "]]) {
    if (!about.phase || about.phase === "forward" || l === undefined || !states.revealed(l, bias[1])) continue;
    parts.push(` <tspan class="${PHASE[arrays[l].kind]}">${mark}${states.hidden(l, bias[1]) ? "?" : numberOfElement(l, bias[1], "tspan")}</tspan>`);
  }
  return `<text class="bias${about.phase ? ` lit ${about.phase}` : ""}" data-drag="${key(...bias)}" data-key="${key(...bias)}" x="${x}" y="${y}">b ${numberOfElement(...bias, "tspan")}${parts.join("")}</text>`;
}

// A wide layer: a heat map of h, and one of δ below it.
function tiles(node, states) {
  const kinds = [["h", node.middle - TILE / 2, "forward"], [node.delta === undefined ? "Delta" : "delta", node.middle + TILE / 2 + 30, "back"]];
  const parts = kinds.map(([kind, y, color]) => {
    let first = inNode(node, kind, 0, states.example);
    const x = node.x - TILE / 2, a = inNode(node, "a", 0, states.example), Delta = inNode(node, "Delta", 0, states.example);
    if (first !== null && !states.revealed(...first)) first = (kind === "h" ? a : Delta) ?? first; // what comes before it
    if (first === null || !states.revealed(...first)) return kind === "h" ? `<g class="tile"><rect x="${x}" y="${y}" width="${TILE}" height="${TILE}"/></g>` : "";
    const focus = states.focus.split(":");
    const numbers = Float64Array.from({ length: node.size }, (_, i) => value(first[0], first[1] + i));
    const { url, columns, rows } = heat(numbers, node.shape, color);
    const lit = +focus[0] === first[0] || (kind === "h" && +focus[0] === node.a) || (kind === "delta" && +focus[0] === node.Delta);
    const i = lit ? (+focus[1] - first[1]) % node.size : -1, cell = TILE / columns, high = TILE / rows;
    const at = i >= 0 && i < node.size ? place(i, node.shape, columns) : null;
    const most = numbers.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
    const flows = [...states.flowing].some((found) => found.startsWith(`${first[0]}:`)) ? " flows" : "";
    return (
      `<g class="tile${lit ? " focus" : flows} ${color}" data-tile="${node.n}:${kind}" data-columns="${columns}" data-rows="${rows}"><rect x="${x}" y="${y}" width="${TILE}" height="${TILE}"/>` +
      `<image href="${url}" x="${x}" y="${y}" width="${TILE}" height="${TILE}" preserveAspectRatio="none"/>` +
      (at ? `<rect class="cell" x="${x + at[1] * cell}" y="${y + at[0] * high}" width="${cell}" height="${high}"/>` : "") +
      `<text class="small" x="${node.x}" y="${y + TILE + 14}">${{ delta: "δ", Delta: "Δ" }[arrays[first[0]].kind] ?? arrays[first[0]].kind}, ${t("at most {0}", written(most, 2))}</text></g>`
    );
  });
  return `<g>${title({ ...node, label: `${node.label} (${node.shape.join("×")})` }, states)}${parts.join("")}</g>`;
}

// How elements are put into a tile: matrices as they are, channels side by side, long rows as squares.
function grid(shape) {
  if (shape.length === 1) {
    const columns = Math.ceil(Math.sqrt(shape[0]));
    return [Math.ceil(shape[0] / columns), columns];
  }
  return [shape[0], shape.slice(1).reduce((a, b) => a * b, 1)];
}

function place(i, shape, columns) {
  if (shape.length !== 3) return [Math.floor(i / columns), i % columns];
  const [, width, channels] = shape;
  return [Math.floor(i / (width * channels)), (i % channels) * width + (Math.floor(i / channels) % width)];
}

function placedAt(r, c, shape, columns) {
  if (shape.length !== 3) return r * columns + c;
  const [, width, channels] = shape;
  return r * width * channels + (c % width) * channels + Math.floor(c / width);
}

const COLORS = { forward: [[0, 114, 178], [120, 94, 60]], back: [[213, 94, 0], [106, 61, 154]], given: [[70, 120, 90], [150, 70, 110]] };
const canvas = document.createElement("canvas");

// Numbers as a picture: positive in one colour, negative in another, 0 transparent.
function heat(numbers, shape, color) {
  const [rows, columns] = grid(shape), picture = new ImageData(columns, rows), [above, below] = COLORS[color];
  const most = numbers.reduce((most, v) => Math.max(most, Math.abs(v)), 0) || 1;
  numbers.forEach((number, i) => {
    const [r, c] = place(i, shape, columns), rgb = number < 0 ? below : above;
    picture.data.set([...rgb, Math.round((255 * Math.abs(number)) / most)], 4 * (r * columns + c));
  });
  canvas.width = columns;
  canvas.height = rows;
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return { url: canvas.toDataURL(), columns, rows };
}

function lossShown(output, states) {
  const x = layout.width - 60, y = output.middle, k = byName.get("losses") ?? byName.get("loss");
  const one = byName.has("losses") ? [k, flatOf(k, states.example)] : [k, 0];
  const targets = byName.get("y"), parts = [];
  const lit = (found) => (states.focus === key(...found) ? ` focus ${states.phase}` : states.flowing.has(key(...found)) ? ` flows ${states.phase}` : "");
  const whole = [byName.get("loss"), 0];
  output.neurons.forEach((from, i) => {
    const found = [targets, flatOf(targets, [...states.example, ...output.shape.map(() => 0)]) + i];
    const state = lit(found), at = output.x + 82;
    parts.push(
      `<g class="neuron target${output.small ? " tiny" : ""}${state}" ${frozen ? "" : `data-drag="${key(...found)}"`}><title>${escaped(nameOf(...found))}</title>` +
        `<rect x="${at - 24}" y="${from.y - 16}" width="48" height="32" rx="5"/>${output.small ? "" : `<text class="symbol" x="${at}" y="${from.y - 22}">${escaped(textOf(...found))}</text>`}` +
        `${valueAt(found, states, `class="value given" x="${at}" y="${from.y + 5}"`)}</g>`,
      `<g class="line${lit(one) ? ` lit loss` : ""}"><path d="M${at + 26} ${from.y} L${x - R} ${y}"/></g>`,
    );
  });
  if (!output.neurons.length) parts.push(`<g class="line"><path d="M${output.x + TILE / 2} ${y} L${x - R} ${y}"/></g>`);
  const state = lit(one) || lit(whole);
  return (
    `${parts.join("")}<g class="neuron loss${state}"><title>loss</title><circle cx="${x}" cy="${y}" r="${R}"/><text class="unit" x="${x}" y="${y - R - 8}">L</text>` +
    `${valueAt(one, states, `class="value" x="${x}" y="${y + 5}"`)}` +
    (byName.has("losses") ? valueAt(whole, states, `class="small strong" x="${x}" y="${y + R + 15}"`, `${t("mean")} `) : "") +
    `</g>`
  );
}
