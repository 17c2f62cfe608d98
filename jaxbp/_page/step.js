// The current step: its equation, or the blank that is to be filled.

// The equation.

function stepPanel(k, flat, forms) {
  const { step, elements } = stops[state.stop], phase = COLOR[step.phase], blank = hidden(k, flat);
  const typing = document.activeElement?.id === "answer" || document.activeElement?.id === "which";
  const large = stops[state.stop].flat === null;
  const list = elements.length > 1 && !large ? elementsList(k, elements) : "";
  const which = large
    ? `<label class="which">${t("Element")} <input id="which" type="number" min="0" max="${elements.length - 1}" value="${elements.indexOf(flat)}"> ${t("of {0}", elements.length)}, <code>${escaped(nameOf(k, flat))}</code></label>`
    : "";
  $("step").innerHTML =
    `<h2 class="${phase}">${escaped(step.title)}</h2>` +
    (step.rule ? `<p class="rule scroll" tabindex="0" role="group" aria-label="${t("The rule")}">${math(step.rule)}</p>` : "") +
    which +
    (blank ? blankShown(k, flat, forms, phase) : equation(k, flat, forms, phase)) +
    pictures(k, flat, forms) +
    list;
  $("live").textContent = `${t("Step {0} of {1}", state.stop + 1, stops.length)}. ${step.title}: ${nameOf(k, flat)} = ${blank ? t("to be filled in") : written(exact(k, flat))}`;
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

const textOnly = (markup) => markup.replace(/<[^>]*>/g, "");

const equals = (k) => (arrays[k].kind === "updated" ? "←" : "="); // a weight is no longer what it was

function equation(k, flat, forms, phase) {
  const number = exact(k, flat);
  const symbols = forms.map((form) => inSymbols(form));
  const lines = [...new Set(symbols)].map((m) => [equals(k), m]);
  const form = forms.at(-1);
  let exactly = !isRounded(number);
  if (form !== undefined && leavesOf(form).length) {
    const { digits, exact } = operandsOf(form, number), m = inNumbers(form, digits);
    if (textOnly(m) !== written(number)) lines.push(["=", m]);
    exactly &&= exact;
  }
  return (
    `<div class="equation ${phase}"><div class="line"><span class="scroll" tabindex="0" role="group" aria-label="${t("Quantity")}">${math(symbolOf(k, flat))}</span></div>` +
    lines.map(([sign, m]) => `<div class="line"><span class="sign">${sign}</span><span class="scroll" tabindex="0" role="group" aria-label="${t("Formula")}">${m}</span></div>`).join("") +
    `<div class="line result"><span class="sign">${exactly ? "=" : "≈"}</span>${numberOfElement(k, flat, "output")}</div></div>`
  );
}

function elementsList(k, elements) {
  const rows = elements.map((flat) => {
    const seen = revealed(k, flat), at = positions.get(key(k, flat));
    const shows = !seen ? "" : hidden(k, flat) ? "?" : numberOfElement(k, flat);
    return `<li><button type="button" data-go="${key(k, flat)}" ${at === state.stop ? 'aria-current="step"' : ""} data-key="${key(k, flat)}"><code>${escaped(textOf(k, flat))}</code> ${shows}</button></li>`;
  });
  const { shape } = arrays[k], columns = shape.length > 1 ? shape.at(-1) : 0; // a matrix as it is
  const asRows = columns > 1 && columns <= 4 && elements.length % columns === 0;
  return `<ul class="elements${asRows ? " rows" : ""}" ${asRows ? `style="--columns:${columns}"` : ""} aria-label="${t("Elements")}">${rows.join("")}</ul>`;
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
    return `<figure><img src="${url}" alt="${escaped(t("{0}: a heat map of {1} by {2}, at most {3}", words, rows, columns, written(most, 3)))}" style="aspect-ratio:${columns}/${rows}"><figcaption>${escaped(words)}<br>${t("at most {0}", written(most, 2))}</figcaption></figure>`;
  };
  const a = one.map((q) => value(q[1], q[2])), b = two.map((q) => value(q[1], q[2]));
  const color = PHASE[arrays[k].kind] === "back" ? "back" : "forward";
  return `<div class="pictures">${shows(a, "given", arrays[one[0][1]].name)}${shows(b, color, arrays[two[0][1]].name)}${shows(a.map((v, i) => v * b[i]), color, t("their products"))}</div>`;
}

// Filling in.

function blankShown(k, flat, forms, phase) {
  const last = state.answers.get(key(k, flat)), wantsFormula = state.fill === "formulas";
  const symbols = wantsFormula ? [] : [...new Set(forms.map((form) => inSymbols(form)))];
  const what = wantsFormula ? t("The formula of {0}", escaped(nameOf(k, flat))) : t("The number of {0}", escaped(nameOf(k, flat)));
  return (
    `<div class="equation ${phase}"><div class="line"><span class="scroll" tabindex="0" role="group" aria-label="${t("Quantity")}">${math(symbolOf(k, flat))}</span></div>` +
    symbols.map((m) => `<div class="line"><span class="sign">${equals(k)}</span><span class="scroll" tabindex="0" role="group" aria-label="${t("Formula")}">${m}</span></div>`).join("") +
    `<form id="blank" class="line" autocomplete="off"><span class="sign">${symbols.length ? "=" : equals(k)}</span><input id="answer" type="text" aria-label="${what}" placeholder="${wantsFormula ? t("e.g. {0}", escaped(exampleFormula(k))) : t("a number or a formula")}" value="${escaped(last?.text ?? "")}">` +
    `<button type="submit" class="main">${t("Check")}</button><button type="button" id="show">${t("Show")}</button></form></div>` +
    `<p id="verdict" role="status" class="${last ? "wrong" : ""}">${last ? verdictWords(last) : ""}</p>`
  );
}

const exampleFormula = (k) => (PHASE[arrays[k].kind] === "forward" ? "W.o.h1[0, 0]*h.h1[0] + …" : "(h.o[0] - y[0])*…");

function verdictWords(last) {
  const shows = Number.isFinite(last.number) && !NUMBER.test(last.text) ? ` ${t("It gives {0}.", written(last.number))}` : "";
  return `<span class="mark">✗</span> ${last.unread ? "" : t("Not right.")}${escaped(shows)} ${escaped(last.hint || t("Look at the rule above, and at what is highlighted in the drawing: that flows in."))}`;
}

function answer(k, flat, text) {
  if (!text.trim()) return;
  const verdict = judgedAnswer(text, k, flat, state.fill === "formulas", wrongBefore());
  state.answers.set(key(k, flat), { ...verdict, text });
  render();
  if (verdict.right) {
    $("step").insertAdjacentHTML("beforeend", `<p id="verdict" role="status" class="right"><span class="mark">✓</span> ${t("Right.")}</p>`);
    $("next").focus();
  } else $("answer").select();
}
