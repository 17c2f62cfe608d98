// What else is on the page: learning, claims, and all steps on paper.

// Learning.

function learningPanel() {
  if (frozen) {
    $("learning").hidden = true;
    return;
  }
  const loss = byName.get("loss"), losses = state.losses, now = value(loss, 0);
  if (!$("learning").firstChild) {
    $("learning").innerHTML =
      `<h2>${t("Learning")}</h2><div class="learn"><label class="rate">${t("Learning rate η")} <input type="number" step="any" min="0" data-edit="${key(rate, 0)}" data-name="learning_rate" value="${value(rate, 0)}"></label>` +
      `<button type="button" id="descend" class="main">${t("Take a step")}</button><button type="button" id="descend10">${t("Take 10")}</button></div><div id="losses"></div>`;
    $("learning").addEventListener("input", (event) => event.target.dataset.edit && edit(event.target.dataset.edit, event.target.value));
    for (const [id, n] of [["descend", 1], ["descend10", 10]]) {
      $(id).addEventListener("click", () => {
        act(["s", n]);
        state.answers.clear();
        render();
      });
    }
  }
  for (const id of ["descend", "descend10"]) $(id).disabled = Number.isNaN(now); // nothing follows from what is unknown
  const curve = losses.length > 1 ? [...losses.slice(0, -1), now] : [];
  const shownLoss = state.fill === "nothing" ? numberOfElement(loss, 0, "output") : hidden(loss, 0) ? "?" : numberOfElement(loss, 0, "output");
  $("losses").innerHTML = `<p>${examples > 1 ? t("Loss now, the mean over {0} examples:", examples) : t("Loss now:")} ${shownLoss}${curve.length ? `; ${t("steps: {0}, from {1}", losses.length - 1, written(losses[0]))}` : ""}</p>${curve.length ? sparkline(curve) : ""}`;
}

function sparkline(numbers) {
  const finite = numbers.filter(Number.isFinite), most = Math.max(...finite, 0), least = Math.min(...finite, 0), width = 320, height = 90;
  const x = (i) => 6 + ((width - 12) * i) / Math.max(1, numbers.length - 1), y = (v) => 6 + ((height - 12) * (most - v)) / (most - least || 1);
  const path = numbers.map((v, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(Number.isFinite(v) ? v : most).toFixed(1)}`).join("");
  const dots = numbers.length <= 60 ? numbers.map((v, i) => `<circle cx="${x(i).toFixed(1)}" cy="${y(v).toFixed(1)}" r="3"/>`).join("") : "";
  return `<svg class="curve" viewBox="0 0 ${width} ${height}" role="img" aria-label="${t("The loss goes from {0} to {1}", written(numbers[0]), written(numbers.at(-1)))}"><path class="axis" d="M6 ${y(0)} H${width - 6}"/><path d="${path}"/>${dots}</svg>`;
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
    const remark = unknown ? t("not judged at other numbers") : here ? t("here, but not at other numbers") : follows ? t("this follows from the numbers claimed before") : "";
    const place = of?.[0] === "Q" && positions.has(key(of[1], of[2])) ? `<button type="button" data-go="${key(of[1], of[2])}">${escaped(claim.where || claim.name)}</button>` : escaped(claim.where || claim.name);
    return (
      `<tr class="${covered ? "" : sort}" data-claim="${escaped(claim.name)}"><td class="mark">${covered ? "" : unknown ? "?" : holds ? `✓<span class="unseen">${t("right")}</span>` : `✗<span class="unseen">${t("wrong")}</span>`}</td><td>${place}</td>` +
      `<td>${math(`${claim.symbol}<mo>=</mo>${claim.said}`)}${gives === undefined || covered ? "" : ` = ${written(gives)}`}</td>` +
      `<td>${holds || unknown || covered ? "" : of[0] === "Q" ? numberOfElement(of[1], of[2]) : written(truth)} ${covered ? "" : remark}</td></tr>`
    );
  });
  $("claims").innerHTML = `<h2>${t("Claims")}</h2><p id="summary">${t("{0} right, {1} wrong", right, verdicts.length - right)}</p><div class="scroll" tabindex="0" role="group" aria-label="${t("Table of claims")}"><table><thead><tr><th><span class="unseen">${t("verdict")}</span></th><th>${t("where")}</th><th>${t("claimed")}</th><th>${t("right")}</th></tr></thead><tbody>${rows.join("")}</tbody></table></div>`;
}

const GIVEN_DIGITS = 12; // all that people write, and none of what binary fractions add

// What is given, as far as it is short enough to be calculated with by hand.
function givenOnPaper() {
  return data.steps.filter((step) => step.phase === "given").map((step) => {
    const k = step.array, elements = ownElements(step);
    if (elements.length > 64) return "";
    const shown = elements.map((flat) => math(`${symbolOf(k, flat)}<mo>=</mo>${signed(numberShown(value(k, flat), GIVEN_DIGITS))}`));
    return `<h3 class="given">${escaped(step.title)}</h3><p class="gives">${shown.join(" ")}</p>`;
  });
}

const MOST_ON_PAPER = 400;

// On paper: what is given, and every step of this example, with blanks where something is to be filled in; of many
// steps the first element each.
function printed() {
  const kept = stops.length > MOST_ON_PAPER ? stops.filter((stop, i) => stop.step !== stops[i - 1]?.step) : stops;
  if (kept.length > MOST_ON_PAPER) return;
  let last = null;
  const blocks = kept.map((stop) => {
    const [k, flat] = [stop.step.array, stop.flat ?? stop.elements[0]], forms = formsOf(k, flat);
    const head = stop.step === last ? "" : `<h3 class="${COLOR[stop.step.phase]}">${escaped(stop.step.title)} ${stop.step.rule ? math(stop.step.rule) : ""}</h3>`;
    last = stop.step;
    const symbol = math(symbolOf(k, flat)), formula = forms.length && state.fill !== "formulas" ? `${equals(k)} ${inSymbols(forms.at(-1))}` : "";
    const blank = state.fill !== "nothing" && stop.flat !== null;
    const numbers = blank ? `${formula ? "=" : equals(k)} <span class="gap"></span>` : equation(k, flat, forms, COLOR[stop.step.phase]);
    return `${head}<div class="entry">${blank ? `${symbol} ${formula} ${numbers}` : numbers}</div>`;
  });
  $("printed").innerHTML = `<h2>${t("All steps")}</h2>${givenOnPaper().join("")}${blocks.join("")}`;
  $("printed").hidden = false;
}

addEventListener("afterprint", () => {
  $("printed").hidden = true;
  $("printed").innerHTML = "";
});
