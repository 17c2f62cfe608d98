"""The living page: in a browser every number on it is the engine's, whatever is changed, stepped through, filled in."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from cases import Case, case_named
from test_explain import CASES, IN_LAYERS, NORMED_STACK_CASE, NORMS_CASE, WITH_IDS, explained

import jaxbp
from jaxbp._explain._digits import as_printed
from jaxbp._explain._expressions import Call, Function, Number, Product, Rest, Sum
from jaxbp._explain._numbers import Numbers
from jaxbp._explain._parsing import parse_name
from jaxbp._names import Name
from jaxbp._page import WORDS, _data, _document
from jaxbp._page._folding import Folder, affine, unfolded

TOLERANCE = 1e-9
DIGITS = 4  # of a number in print

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr", "--v=0"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-quic", "--allow-file-access-from-files"),
]
in_a_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the path")

# What stands in every page of a test before its own script.
WATCHED = """<script>
window.wrong = [];
addEventListener("error", (event) => wrong.push(event.message));
addEventListener("unhandledrejection", (event) => wrong.push(String(event.reason)));
for (const kind of ["error", "warn"]) console[kind] = (...words) => wrong.push(words.join(" "));
</script>"""

# Pages as frames of one page, so that a browser starts once; a script finds something in each.
DRIVER = """<!doctype html><meta charset="utf-8"><body>%s<script>
function reader(frame) {
  const window = frame.contentWindow, document = frame.contentDocument, $ = (id) => document.getElementById(id);
  const numbers = () => [...document.querySelectorAll("[data-q]")].map(
    (e) => [e.dataset.q, e.dataset.value, e.textContent]);
  const fire = (target, kind, about = {}) => target.dispatchEvent(new window[
    kind.startsWith("key") ? "KeyboardEvent" : "Event"](kind, { bubbles: true, cancelable: true, ...about }));
  const press = (key, target = document.body) => fire(target, "keydown", { key });
  const set = (target, value, kind = "input") => { target.value = value; fire(target, kind); };
  const edit = (name, value) => {
    const target = document.querySelector(`[data-name="${CSS.escape(name)}"]`);
    if (target) set(target, value);
    return target !== null;
  };
  const walk = () => {
    const found = new Map();
    press("Home");
    for (let n = +$("slider").max + 1; n > 0; n--) {
      for (const one of numbers()) found.set(one.join(" "), one); // the same numbers are there at many steps
      press("ArrowRight");
    }
    return [...found.values()];
  };
  return { window, document, $, numbers, fire, press, set, edit, walk };
}
addEventListener("load", async () => {
  const scripts = [%s], found = [];
  for (const [i, frame] of [...document.querySelectorAll("iframe")].entries()) {
    try { // a script may wait for what is there at once, and for nothing else: the browser ends after this
      const seen = await scripts[i](reader(frame)), { wrong, performance } = frame.contentWindow;
      found.push({ found: seen, wrong, requests: performance.getEntriesByType("resource").length });
    } catch (error) {
      found.push({ found: null, wrong: [...(frame.contentWindow.wrong ?? []), error.stack] });
    }
  }
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = JSON.stringify(found);
  document.body.replaceChildren(out);
});
</script>"""


@dataclass(frozen=True)
class Frame:
    """A page in a window as wide as said, and the script that looks at it, a function of a reader."""

    page: str
    script: str
    width: int = 1280


def driven(frames: list[Frame], folder: Path) -> list[Any]:
    """What the scripts find."""
    shown = ""
    for i, frame in enumerate(frames):
        watched = frame.page.replace("<head>", "<head>" + WATCHED, 1)
        (folder / f"{i}.html").write_text(watched, encoding="utf-8")
        shown += f'<iframe style="width:{frame.width}px;height:900px;border:0" src="{i}.html"></iframe>'
    scripts = ",\n".join(frame.script for frame in frames)
    (folder / "driver.html").write_text(DRIVER % (shown, scripts), encoding="utf-8")
    command = [BROWSER, *OPTIONS, "--window-size=1300,1000", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        [*command, (folder / "driver.html").as_uri()], capture_output=True, text=True, timeout=300, check=True
    )
    found = json.loads(html.unescape(re.search('<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)[1]))
    for one in found:
        assert one["wrong"] == [], one["wrong"]
        assert one["requests"] == 0
    assert "CONSOLE" not in done.stderr
    return [one["found"] for one in found]


def numbers_of(work: jaxbp.Explanation) -> Numbers:
    return work.typesetting.equations.numbers


def edits(work: jaxbp.Explanation, seed: int, share: float = 0.5) -> dict[str, float]:
    """Other numbers for some of what is given, by name."""
    rng, numbers = np.random.default_rng(seed), numbers_of(work)
    found = {}
    for name, array in numbers.arrays.items():
        given = name.kind in ("y", "W", "learning_rate") or (name.kind == "h" and name.unit in numbers.net.inputs)
        if name.index or not given or np.issubdtype(array.dtype, np.integer) or array.size > 64:
            continue
        for index in np.ndindex(array.shape):
            if rng.random() < share:
                number = rng.uniform(0.1, 0.9) if name.kind in ("y", "learning_rate") else rng.normal()
                found[str(name.at(index))] = round(float(number), 3)
    return found


def edited(numbers: Numbers, changes: dict[str, float]) -> Numbers:
    """The numbers of the engine after the same changes."""
    params = {u: {s: W.copy() for s, W in weights.items()} for u, weights in numbers.params.items()}
    x = {name: array.copy() for name, array in numbers.x.items()}
    y, rate = numbers.y.copy(), numbers.learning_rate
    for text, number in changes.items():
        name = (
            numbers.flat.written_out(Name.parse(text)) if not text.startswith(("y", "learning")) else Name.parse(text)
        )
        if name.kind == "W":
            group = params[name.path[0]]
            group[name.path[1]][name.index] = number
        elif name.kind == "h":
            x[name.unit][name.index] = number
        elif name.kind == "y":
            y[name.index] = number
        else:
            rate = number
    return replace(numbers, params=params, x=x, y=y, learning_rate=rate)


def check_numbers(found: list[list[str]], numbers: Numbers) -> set[str]:
    """Every number that a page shows is the engine's, and its text is that number; what was shown."""
    assert found
    for name, number, text in found:
        truth = numbers(parse_name(name, numbers.arrays))
        value = float(number.replace("Infinity", "inf"))
        assert value == pytest.approx(truth, rel=TOLERANCE, abs=TOLERANCE), (name, number, truth)
        shown = float(text.replace("−", "-").replace("∞", "inf"))
        assert shown == pytest.approx(as_printed(value, DIGITS), rel=1e-12), (name, number, text)
    return {name for name, *_ in found}


def walking(changes: dict[str, float], batch: int = 1) -> str:
    """A script that changes numbers and looks at every example: at every step of the last one, at the end of all."""
    return f"""({{ document, $, edit, walk, set, press, numbers }}) => {{
  const example = (i) => $("example") && set($("example"), i, "change");
  const changed = {json.dumps(list(changes.items()))}.filter(([name, value]) => {{
    const of = /^(?:h\\.[^[]*|y)\\[(\\d+)/.exec(name);
    if (of) example(of[1]);
    return edit(name, value);
  }}).map(([name]) => name);
  const found = [];
  for (let i = 0; i < {batch}; i++) {{
    example(i);
    press("End");
    found.push(...numbers());
  }}
  found.push(...walk());
  return [changed, found];
}}"""


# The one page that is looked at closely.

HOSTILE = """<script>document.title = 1</script><img src=x onerror="document.title = 2">'"$x$"""
RATE = 0.5
X, Y = np.array([1.0, 2.0, -1.0]), np.array([1.0, 0.0])
PARAMS = {
    "h1": {"x": np.array([[0.2, -0.5], [-0.3, 0.1], [0.4, 0.2]]), "bias": np.array([0.5, 0.5])},
    "o": {"h1": np.array([[0.3, -0.1], [0.4, 0.2]]), "bias": np.array([0.1, 0.1])},
}
CLAIMS = {
    "a.h1[0]": {HOSTILE: "-0.3"},
    "h.h1[0]": "0.43",
    "loss": "0.579",
    "delta.o[0]": {"as a formula": "h.o[0] - y[0]"},
    "delta.h1[0]": {"without the slope": "Delta.h1[0]"},
    "Delta.o[0]": "-1 / h.o[0]",
    "d(h.o[0])/d(a.o[0])": "h.o[0] * (1 - h.o[0])",
    "d(h.o[0])/d(a.h1[0])": {  # over a longer way
        "with all paths": "h.o[0] * (W.o.h1[0, 0] - h.o[0]*W.o.h1[0, 0] - h.o[1]*W.o.h1[0, 1]) * h.h1[0] * (1-h.h1[0])",
        "with one path": "h.o[0] * (1 - h.o[0]) * W.o.h1[0, 0] * h.h1[0] * (1 - h.h1[0])",
    },
}
CHANGES = {"h.x[1]": -0.5, "W.o.h1[1, 0]": 1.25, "y[0]": 0.25, "y[1]": 0.7, "W.h1.bias[1]": -2.0, "learning_rate": 0.3}
SLOPE = "h.h1[0] * (1 - h.h1[0])"


@cache
def worked() -> jaxbp.Explanation:
    names = {"x": r"\text{<script>document.title = 3</script>}"}
    net = jaxbp.layered([3, 2, 2], hidden=jaxbp.sigmoid, output=jaxbp.softmax)
    return jaxbp.explain(net, jaxbp.cross_entropy, PARAMS, X, Y, RATE, CLAIMS, names=names)


# Quantity, what to fill in, what is typed with the numbers at hand, and a word of the hint; None where it is right.
BLANKS = [
    ("numbers", "a.h1[0]", "-0.3", None),
    ("numbers", "a.h1[0]", "0.3", "sign"),
    ("numbers", "a.h1[0]", "-0.8", "bias"),
    ("numbers", "a.h1[0]", "-0.29", "Look at the rule"),
    ("numbers", "h.h1[0]", "-0.3", "pre-activation"),
    ("numbers", "h.h1[0]", "{h.h1[0]:.3f}", None),
    ("numbers", "h.h1[0]", "{h.h1[1]:.3f}", "another element"),
    ("numbers", "delta.h1[0]", "{Delta.h1[0]:.5f}", "Φ′"),
    ("numbers", "delta.h1[0]", f"{SLOPE} * Delta.h1[0]", None),
    ("numbers", "Delta.h1[0]", "{swapped:.5f}", "transposed"),
    ("numbers", "grad.o.h1[0, 1]", "{grad.o.h1[1, 0]:.5f}", "transposed"),
    ("numbers", "updated.o.bias[0]", "{uphill:.5f}", "uphill"),
    ("formulas", "delta.h1[0]", "{delta.h1[0]:.6f}", "formula"),
    ("formulas", "delta.h1[0]", f"{SLOPE} · Delta.h1[0]", None),
    ("formulas", "delta.h1[0]", "Delta.h1[0]", "Φ′"),
    ("formulas", "a.h1[1]", "0 * x[0]", "not at others"),
    ("formulas", "a.h1[1]", "a.h1[1]", "itself"),
    ("formulas", "loss", "-ln(h.o[0])", "not at others"),
    ("formulas", "a.h1[1]", "W.h1.x[0, 1] * ", "cannot be read"),
]

CLOSELY = """async ({ window, document, $, numbers, fire, press, set, edit, walk }) => {
  const claims = () => [...document.querySelectorAll("[data-claim]")].map((row) => [row.dataset.claim, row.className]);
  const found = { titles: [document.title], claims: claims(), overflow: [] };
  const overflow = () => found.overflow.push(document.documentElement.scrollWidth - window.innerWidth);
  const count = () => $("count").textContent;
  found.steps = [count()];
  for (const key of ["ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowRight", "Home"]) {
    press(key);
    found.steps.push(count());
    overflow();
  }
  press("ArrowRight", document.querySelector("[data-edit]"));
  found.steps.push(count());
  found.before = walk();
  const line_of = (line) => [...line.querySelectorAll(".sign, mn, output")].map((e) => e.textContent).join(" ");
  found.lines = [];
  for (let n = 0; n <= +$("slider").max; n++) {
    set($("slider"), n);
    const [result] = document.querySelectorAll("#step output");
    const lines = [...document.querySelectorAll("#step .equation .line")].slice(1);
    found.lines.push([result.dataset.q, ...lines.map(line_of)]);
  }
  for (const [name, value] of CHANGES) edit(name, value);
  found.after = walk();
  found.changedClaims = claims();
  $("link").click();
  const hash = window.location.hash;
  $("reset").click();
  found.reset = walk();
  found.resetClaims = claims();
  window.history.replaceState(null, "", hash);
  fire(window, "hashchange");
  found.recalled = walk();
  let file;
  window.Blob = class { constructor([text]) { file = text; } };
  window.URL.createObjectURL = () => "about:blank";
  window.HTMLAnchorElement.prototype.click = () => {};
  const open = async (text) => {
    Object.defineProperty($("file"), "files", { configurable: true, value: [{ text: async () => text }] });
    fire($("file"), "change");
    for (let n = 0; n < 9; n++) await null;
    return $("kept").textContent;
  };
  set($("fill"), "numbers", "change");
  press("Home");
  $("answer").value = "77";
  fire($("blank"), "submit");
  $("save").click();
  found.kept = [$("kept").textContent];
  set($("fill"), "nothing", "change");
  $("reset").click();
  found.kept.push(await open("{}"), await open(file.replace("h.x", "h.z")), await open(file));
  found.kept.push($("answer").value, $("verdict").className);
  set($("fill"), "nothing", "change");
  found.opened_file = walk();
  $("reset").click();
  const long = JSON.parse(file);
  long.o = Array.from({ length: 900 }, (_, i) => ["e", long.o[0][1], i % 3, i + 1e-9]);
  await open(JSON.stringify(long));
  $("link").click();
  found.kept.push($("kept").textContent);
  $("reset").click();
  const pointer = (target, kind, clientX) => target.dispatchEvent(
    new window.PointerEvent(kind, { bubbles: true, cancelable: true, button: 0, clientX }));
  const first = () => document.querySelector('[data-name="h.x[0]"]').value;
  pointer(document.querySelector("#numbers [data-drag]"), "pointerdown", 100);
  pointer(document, "pointermove", 140);
  pointer(document, "pointerup", 140);
  found.dragged = [first(), numbers().find(([name]) => name === "h.x[0]")[1]];
  document.querySelector("#numbers .changed [data-restore]").click();
  found.dragged.push(first());
  press("Home");
  fire(document.querySelector('[data-open="1:1"]'), "click");
  found.opened = [count()];
  set($("slider"), 12);
  fire(document.querySelector('[data-open="1:1"]'), "click");
  found.opened.push(count());
  found.losses = [];
  for (let n = 0; n < 3; n++) {
    $("descend").click();
    found.losses.push(numbers().find(([name]) => name === "loss")[1]);
  }
  found.descended = walk();
  $("reset").click();
  found.blanks = BLANKS.map(([mode, name, text]) => {
    set($("fill"), "nothing", "change");
    set($("fill"), mode, "change");
    for (let n = 0; n <= +$("slider").max; n++) {
      set($("slider"), n);
      if ($("answer")?.getAttribute("aria-label").endsWith(` of ${name}`)) break;
    }
    const shown = numbers().some(([q]) => q === name);
    $("answer").value = text;
    fire($("blank"), "submit");
    return [shown, $("verdict").className, $("verdict").textContent, numbers().some(([q]) => q === name)];
  });
  found.assigned = ["numbers", "formulas"].map((mode) => {
    set($("fill"), mode, "change");
    press("End");
    return [...document.querySelectorAll("#step .sign")].map((e) => e.textContent);
  });
  set($("fill"), "nothing", "change");
  found.titles.push(document.title);
  found.scripts = document.scripts.length;
  found.pictures = document.querySelectorAll("img").length;
  fire(window, "beforeprint");
  found.printed = [$("printed").hidden, $("printed").querySelectorAll(".entry").length];
  found.given = [...document.querySelectorAll("#printed .gives")].map((e) => e.textContent);
  fire(window, "afterprint");
  return found;
}"""

ACCESSIBLE = """({ window, document, press, set, $ }) => {
  const all = (selector) => [...document.querySelectorAll(selector)], found = [];
  const expect = (holds, what) => holds || found.push(what);
  const style = (e) => window.getComputedStyle(e);
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number).map((n) => (color.startsWith("color(") ? n * 255 : n));
  const luminance = (color) => numbers(color).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const color = style(e).backgroundColor;
      if ((numbers(color)[3] ?? 1) > 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const look = (where) => {
    expect(all("main").length === 1 && all("h1").length === 1, `${where}: one main, one h1`);
    expect(document.documentElement.lang && document.title, `${where}: language and title`);
    expect(all("[aria-live]").length === 1 && $("live").textContent, `${where}: a live region with the step`);
    const ids = all("[id]").map((e) => e.id);
    expect(new Set(ids).size === ids.length, `${where}: ids twice`);
    for (const e of all("button, input, select")) {
      const text = e.closest("label")?.textContent.trim() || (e.matches("button") && e.textContent.trim());
      expect(e.getAttribute("aria-label") || text, `${where}: no name: ${e.outerHTML.slice(0, 80)}`);
    }
    const labelled = (e) => e.getAttribute("aria-label");
    for (const e of all("img")) expect(e.alt, `${where}: no alt`);
    for (const e of all("svg")) expect(e.getAttribute("aria-hidden") || labelled(e), `${where}: svg without a label`);
    for (const e of all(".scroll")) expect(e.tabIndex === 0 && labelled(e), `${where}: scrolls without keyboard`);
    const levels = all("h1, h2, h3").filter((e) => e.offsetParent).map((e) => +e.tagName[1]);
    expect(levels.every((level, i) => i === 0 || level <= levels[i - 1] + 1), `${where}: headings ${levels}`);
    const hasText = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    for (const e of all("p, span, h1, h2, button, label, legend, td, th, output, data, code, figcaption, mi, mn")) {
      if (!hasText(e) || !e.getClientRects().length || e.disabled) continue;
      const [one, two] = [luminance(style(e).color), luminance(behind(e))].sort((a, b) => b - a);
      expect((one + 0.05) / (two + 0.05) >= 4.5, `${where}: contrast of ${e.outerHTML.slice(0, 60)}`);
    }
    const wide = document.documentElement.scrollWidth;
    expect(wide <= window.innerWidth, `${where}: overflow ${wide}`);
  };
  for (let n = 0; n <= +$("slider").max; n += 5) {
    set($("slider"), n);
    look(`step ${n}`);
  }
  set($("fill"), "numbers", "change");
  look("blank");
  const button = $("next");
  button.focus();
  expect(style(button).outlineStyle !== "none" || !button.matches(":focus-visible"), "the focus cannot be seen");
  return found;
}"""

SKIP = jaxbp.Network(
    {"x": 2},
    {
        "h1": jaxbp.Unit(3, jaxbp.tanh, {"x": jaxbp.Dense()}),
        "h2": jaxbp.Unit(2, jaxbp.relu, {"h1": jaxbp.Dense()}),
        "o": jaxbp.Unit(2, jaxbp.linear, {"h2": jaxbp.Dense(), "x": jaxbp.Identity()}, bias=False),
    },
)


ROWS = (2, 2)
ATTENTION = jaxbp.Network(
    {"x": ROWS},
    {
        **{u: jaxbp.Unit(ROWS, jaxbp.linear, {"x": jaxbp.Dense()}, bias=False) for u in "qkv"},
        "mix": jaxbp.attention("q", "k", "v", ROWS, causal=True),
        "o": jaxbp.Unit(ROWS, jaxbp.gelu, {"mix": jaxbp.Dense(), "x": jaxbp.Identity()}),
    },
)


def attending() -> jaxbp.Explanation:
    params = rounded(jaxbp.init_params(jax.random.key(1), ATTENTION))
    x, y = np.random.default_rng(0).normal(size=(2, 2, 2, 2)).round(1)
    return jaxbp.explain(ATTENTION, jaxbp.squared_error, params, x, y)


def with_an_activation_of_a_users() -> jaxbp.Explanation:
    bent = jaxbp.elementwise(lambda a: a + a**2, lambda a, h: 1 + 2 * a)
    net = jaxbp.layered([2, 2, 1], hidden=replace(bent, name="bent"), output=jaxbp.linear)
    params = {
        "h1": {"x": np.array([[0.5, -0.3], [0.2, 0.7]]), "bias": np.array([0.1, -0.2])},
        "o": {"h1": np.array([[0.4], [-0.6]]), "bias": np.array([0.3])},
    }
    return jaxbp.explain(net, jaxbp.squared_error, params, np.array([1.0, 2.0]), np.array([1.0]))


# A weight after what has no formula is changed, and then one before it.
BENT = """({ document, walk, edit }) => {
  edit("W.o.h1[0, 0]", 0.8);
  const known = walk();
  edit("W.h1.x[0, 1]", 0.1);
  return [known, walk(), document.querySelector(".note").textContent];
}"""


def rounded(params: Any) -> Any:
    return jax.tree.map(lambda W: np.round(np.asarray(W, np.float64), 2), params)


def tokens(text: str) -> list[str]:
    """The numbers in a line, without their signs."""
    return re.findall(r"\d+(?:\.\d+)?", text.replace("²", " 2"))


# Everything at the last example, and within which units of the drawing the steps of one title are.
NORMED = """({ document, $, edit, set, walk }) => {
  const done = CHANGES.filter(([name, value]) => {
    if (/^(h\\.x|y)\\[/.test(name)) set($("example"), /\\[(\\d)/.exec(name)[1], "change");
    return edit(name, value);
  }).map(([name]) => name);
  set($("example"), 1, "change");
  const found = walk(), marked = new Set();
  for (let n = 0; n <= +$("slider").max; n++) {
    set($("slider"), n);
    const title = $("step").querySelector("h2").textContent;
    if (title !== "Mean of the pre-activation of blocks.layer in layer 1") continue;
    document.querySelectorAll("svg .within").forEach((e) => marked.add(e.textContent));
  }
  return [done, found, [...marked]];
}"""

# Mistakes in the page's script, each of which has to be found.
PLANTED = [
    ("return -evaluated(e[1], I);", "return evaluated(e[1], I);"),
    ("inner[i] = I[start + i] + t * I[start + k + i]", "inner[i] = I[start + i]"),
    ("const DIGITS = data.digits,", "const DIGITS = 3,"),
    (
        "array.values[flat] = evaluated(general, tree.integers);",
        "array.values[flat] = evaluated(general, tree.integers) + 1e-8;",
    ),
]


def filled(text: str, numbers: Numbers) -> str:
    """A template with the numbers of quantities, and of what follows from a few mistakes."""
    W, delta, grad = (numbers.arrays[Name.parse(name)] for name in ("W.o.h1", "delta.o", "grad.o.bias"))
    mistakes = {"swapped": W.T[0] @ delta, "uphill": numbers.params["o"]["bias"][0] + RATE * grad[0]}

    def number(match: re.Match[str]) -> str:
        name, digits = match.groups()
        return f"{mistakes[name] if name in mistakes else numbers(Name.parse(name)):{digits}}"

    return re.sub(r"{([^:}]*):([^}]*)}", number, text)


THEMED = """async ({ window, document }) => {
  const { dataset } = window.parent.document.body, found = {};
  const light = () => window.getComputedStyle(document.documentElement).backgroundColor === "rgb(255, 255, 255)";
  const themes = [["jpThemeLight", "false"], ["jpThemeLight", "true"], ["vscodeThemeKind", "vscode-dark"],
    ["vscodeThemeKind", "vscode-high-contrast-light"]];
  for (const [name, value] of themes) {
    dataset[name] = value;
    await null; // the page is told of it
    found[value] = light();
    delete dataset[name];
    await null;
  }
  return [found, light()];
}"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> dict[str, Any]:
    """What a browser finds on a page in a narrow window, and on others in wide ones."""
    work = worked()
    blanks = [(mode, name, filled(text, numbers_of(work))) for mode, name, text, _ in BLANKS]
    closely = CLOSELY.replace("CHANGES", json.dumps(list(CHANGES.items()))).replace("BLANKS", json.dumps(blanks))
    x, y = np.array([[1.0, -0.5], [0.3, 0.8]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    params = rounded(jaxbp.init_params(jax.random.key(3), SKIP))
    skip = jaxbp.explain(SKIP, jaxbp.squared_error, params, x, y)
    page, changes = work.page(HOSTILE), edits(skip, 0)
    normed = explained(NORMED_STACK_CASE)
    of_normed = edits(normed, 2)
    bent = with_an_activation_of_a_users()
    frames = [
        Frame(page, closely, 390),
        Frame(page, ACCESSIBLE),
        Frame(work.page(HOSTILE, language="de"), ACCESSIBLE, 390),
        Frame(skip.page(), walking(changes, 2)),
        Frame(bent.page(), BENT),
        Frame(normed.page(), NORMED.replace("CHANGES", json.dumps(list(of_normed.items())))),
    ]
    frames.append(Frame(page, THEMED))
    at_the_end = "({ press, numbers }) => { press('End'); return numbers(); }"
    for right, wrong in PLANTED:
        assert page.count(right) == 1
        frames.append(Frame(page.replace(right, wrong), at_the_end))
    names = ("closely", "wide", "narrow", "skip", "bent", "normed", "themed", *range(len(PLANTED)))
    found = driven(frames, tmp_path_factory.mktemp("page"))
    works = {"work": work, "skip work": skip, "bent work": bent, "normed work": normed, "normed changes": of_normed}
    return dict(zip(names, found, strict=True)) | works | {"changes": changes, "page": page}


@in_a_browser
def test_numbers_are_the_engines_after_any_change(seen):
    found, work = seen["closely"], seen["work"]
    shown = check_numbers(found["before"], edited(numbers_of(work), {}))
    assert shown >= {"a.h1[0]", "h.o[1]", "loss", "Delta.o[0]", "delta.h1[1]", "grad.h1.x[2, 1]", "updated.o.bias[0]"}
    assert check_numbers(found["after"], edited(numbers_of(work), CHANGES)) == shown
    check_numbers(found["reset"], edited(numbers_of(work), {}))
    check_numbers(found["recalled"], edited(numbers_of(work), CHANGES))  # from the link
    check_numbers(found["opened_file"], edited(numbers_of(work), CHANGES))
    done, numbers = seen["skip"]
    assert done == [*seen["changes"]]
    check_numbers(numbers, edited(replace(numbers_of(seen["skip work"]), learning_rate=0.1), seen["changes"]))


@in_a_browser
@pytest.mark.slow
def test_attention_can_be_changed_in_all_its_steps(tmp_path):
    work = attending()
    changes = edits(work, 1)
    [(done, found)] = driven([Frame(work.page(), walking(changes, 2))], tmp_path)
    assert done == [*changes]
    shown = check_numbers(found, edited(replace(numbers_of(work), learning_rate=0.1), changes))
    assert shown >= {"scores.mix[1, 0, 1]", "weights.mix[1, 1, 0]", "Delta_scores.mix[1, 1, 0]", "delta.o[1, 0, 0]"}


@in_a_browser
def test_lines_have_the_digits_that_explain_gives_them(seen):
    equations = {e.name: e for step in seen["work"].steps for e in step.equations if e}
    compared = 0
    for name, *lines in seen["closely"]["lines"]:
        *_, numbers, result = equations[name].text
        in_numbers = not re.search(r"[a-zΔδ]\.\w", numbers)
        if in_numbers and "e−" not in f"{numbers}{result}":
            assert tokens(" ".join(lines[-2:])) == tokens(f"{numbers} {result}"), name
            compared += 1
        assert lines[-1][0] == result[0], name
    assert compared > 20


@in_a_browser
def test_what_has_no_formula_hides_only_what_depends_on_it(seen):
    numbers = replace(numbers_of(seen["bent work"]), learning_rate=0.1)
    known, partly, note = seen["bent"]
    assert "bent" in note
    after = {"W.o.h1[0, 0]": 0.8}
    shown = check_numbers(known, edited(numbers, after))
    assert shown >= {"h.h1[0]", "delta.h1[1]", "grad.h1.x[0, 1]", "loss"}
    missing = {name for name, number, text in partly if number == "NaN" and text == "–"}
    check_numbers([one for one in partly if one[0] not in missing], edited(numbers, after | {"W.h1.x[0, 1]": 0.1}))
    assert missing >= {"h.h1[1]", "a.o[0]", "loss", "delta.o[0]", "delta.h1[1]"}
    assert not missing & {"a.h1[0]", "a.h1[1]", "h.h1[0]", "y[0]"}


@in_a_browser
def test_a_file_keeps_what_was_done_and_what_does_not_fit_is_said(seen):
    stored, other, foreign, opened, answer, verdict, long = seen["closely"]["kept"]
    assert re.search(r"Saved as \S+\.json", stored)
    assert (other, opened) == ("This is no file that such a page has saved.", "Opened.")
    assert "another network" in foreign
    assert (answer, verdict) == ("77", "wrong")
    assert "too much for a link of 16000 characters" in long


@in_a_browser
@pytest.mark.parametrize("n", range(len(PLANTED)))
def test_a_mistake_in_the_script_is_found(n, seen):
    with pytest.raises(AssertionError):
        check_numbers(seen[n], edited(numbers_of(seen["work"]), {}))


@in_a_browser
def test_steps_are_taken_by_keys_but_not_while_somebody_writes(seen):
    steps = [int(text.split()[0]) for text in seen["closely"]["steps"]]
    assert steps == [1, 2, 3, 2, 45, 45, 1, 1]


@in_a_browser
def test_numbers_are_dragged_and_put_back_and_a_neuron_is_opened(seen):
    assert seen["closely"]["dragged"] == ["1.1", "1.1", "1"]  # by four pixels for a hundredth
    forward, back = (int(text.split()[0]) for text in seen["closely"]["opened"])
    assert (forward, back) == (2, 17)  # a.h1[1], and on the way back δ.h1[1]


@in_a_browser
def test_steps_of_gradient_descent_are_the_engines(seen):
    numbers = edited(numbers_of(seen["work"]), {})
    losses = []
    for _ in range(3):
        updated = {u: {s: numbers.arrays[Name("updated", (u, s))] for s in numbers.params[u]} for u in numbers.params}
        numbers = replace(numbers, params=updated)
        losses.append(numbers(Name("loss")))
    assert np.array(seen["closely"]["losses"], float) == pytest.approx(losses, rel=TOLERANCE)
    assert losses[2] < losses[1] < losses[0]
    check_numbers(seen["closely"]["descended"], numbers)


@in_a_browser
def test_claims_are_judged_anew(seen):
    found, work = seen["closely"], seen["work"]
    sort = {(True, None): "right", (True, True): "right", (True, False): "here", (False, None): "wrong"}
    assert [[c.name, sort[c.holds, c.general]] for c in work.claims] == found["claims"] == found["resetClaims"]
    numbers = edited(numbers_of(work), CHANGES)
    again = jaxbp.explain(
        numbers.net, numbers.loss, numbers.params, numbers.x, numbers.y, numbers.learning_rate, CLAIMS
    ).claims
    assert [claim.holds for claim in again] != [claim.holds for claim in work.claims]
    assert [sorted_ != "wrong" for _, sorted_ in found["changedClaims"]] == [claim.holds for claim in again]


@in_a_browser
@pytest.mark.parametrize("n", range(len(BLANKS)), ids=[" ".join(blank[:3]) for blank in BLANKS])
def test_what_is_filled_in_is_judged_with_a_hint(n, seen):
    shown_before, sort, words, shown = seen["closely"]["blanks"][n]
    hint = BLANKS[n][3]
    assert not shown_before
    if hint is None:
        assert (sort, shown) == ("right", True)
    else:
        assert (sort, shown) == ("wrong", False)
        assert re.search(hint, words), words


@in_a_browser
def test_a_blank_for_a_weight_after_a_step_is_assigned(seen):
    assert seen["closely"]["assigned"] == [["←", "="], ["←"]]


@in_a_browser
def test_norms_in_stacks_can_be_changed_in_all_their_steps(seen):
    done, numbers, marked = seen["normed"]
    assert done == [*seen["normed changes"]]
    shown = check_numbers(numbers, edited(numbers_of(seen["normed work"]), seen["normed changes"]))
    assert shown >= {
        "mean.blocks.layer[2, 1]",
        "rms.blocks.rms[0, 1]",
        "mean_h_Delta.blocks.rms[1, 1]",
        "a.blocks.sum[0, 1, 2]",
    }
    assert marked == ["blocks.layer[1] · layer_norm"]  # within which unit the step is


@in_a_browser
def test_what_people_wrote_stays_text(seen):
    found = seen["closely"]
    assert found["titles"] == [HOSTILE, HOSTILE]
    assert (found["scripts"], found["pictures"]) == (3, 0)  # data, the page's script, and the one that watches


@in_a_browser
def test_everybody_can_use_it(seen):
    assert seen["wide"] == []
    assert seen["narrow"] == []
    assert set(seen["closely"]["overflow"]) == {0}
    assert seen["closely"]["printed"] == [False, 45]
    x, y, *_, rate = seen["closely"]["given"]
    assert x.endswith("=−1")
    assert re.sub(r"\s", "", y) == "y0=1y1=0"
    assert rate == "η=0.5"
    assert len(seen["closely"]["given"]) == 7


@in_a_browser
def test_a_page_in_a_notebook_is_dark_where_the_notebook_is(seen):
    found, outside = seen["themed"]
    assert found == {"false": False, "true": True, "vscode-dark": False, "vscode-high-contrast-light": True}
    assert outside


def test_a_page_is_small_and_loads_nothing():
    page = worked().page()
    assert len(page.encode()) < 300_000
    scripts = "".join(re.findall("<script.*?</script>", page, re.DOTALL))
    shown = re.sub("<script.*?</script>", "", page, flags=re.DOTALL)
    assert re.findall(r"(?:src|href)=[^>]*>|url\(|@import", shown) == ['href="data:,">']
    assert not re.findall(r"\bfetch\(|XMLHttpRequest|WebSocket|import\(|https?://", scripts)


def test_a_page_speaks_one_language():
    script = "\n".join(_document._beside(name) for name in _document.SCRIPTS)
    said = set(re.findall(r'(?<![\w.$])t\("([^"]+)"', script)) | {*_document.FILL_IN}
    for language, words in WORDS.items():
        assert language == "en" or words.keys() == said
        for english, other in words.items():
            assert sorted(re.findall(r"{\d}", english)) == sorted(re.findall(r"{\d}", other)), english


def test_a_page_that_would_be_too_large_is_refused_and_so_is_a_title_that_is_none(monkeypatch):
    with pytest.raises(TypeError, match="title must be text"):
        worked().page(3)
    with pytest.raises(ValueError, match="fill_in must be 'nothing' or 'numbers' or 'formulas', got"):
        worked().page(fill_in="words")
    with pytest.raises(ValueError, match="language must be 'en' or 'de', got"):
        worked().page(language="fr")
    monkeypatch.setattr(_data, "LARGEST", 20)
    with pytest.raises(ValueError, match="more than 20 quantities, too many for a page"):
        worked().page()


# Trees as data.


def test_loops_hold_all_terms_of_a_sum():
    arrays = {Name("W", ("o", "x")): 0, Name("h", ("x",)): 1}
    terms = [Product((Name("W", ("o", "x"), (i, 3)), Name("h", ("x",), (i,)))) for i in range(12)]
    apart = [
        *terms[:3],
        Rest(tuple(terms[3:9])),
        *terms[9:],
        Number(2.0),
        Name("h", ("x",), (5,)),
        Name("h", ("x",), (1,)),
    ]
    folded = Folder(arrays, lambda _: 0.0)(Sum(tuple(apart)))
    assert folded.shape == ("+", ("S", 12, ("*", ("q", 0), ("q", 1))), 2.0, ("q", 1), ("q", 1))
    assert folded.integers == (0, 3, 0, 1, 0, 1, 5, 1)
    whole = [("*", ("q", 0, (i, 3)), ("q", 1, (i,))) for i in range(12)]
    assert unfolded(folded, [2, 1]) == ("+", *whole, 2.0, ("q", 1, (5,)), ("q", 1, (1,)))


def test_a_function_of_a_users_has_no_formula():
    folder = Folder({Name("loss"): 0}, lambda _: 2.0)
    folder(Call(Function("exp", np.expm1), (Name("loss"),)))  # not the one that is called so
    assert list(folder.opaque) == ["exp"]
    assert folder.values == {("exp", Name("loss")): np.expm1(2.0)}
    folder(Call(Function("exp", np.exp), (Name("loss"),)))
    assert folder.values == {("exp", Name("loss")): None}  # two of one name cannot be told apart


def test_integers_of_all_elements_are_strides_or_nothing():
    rows = np.array([[i, 2 * j + 1] for i in range(2) for j in range(3)])
    assert affine((2, 3), rows) == ([0, 1], [[1, 0], [0, 2]])
    rows[4, 0] += 1
    assert affine((2, 3), rows) is None


# The whole table.

CONVOLUTION = jaxbp.Network(
    {"x": (4, 4, 1)},
    {
        "c": jaxbp.Unit((3, 3, 2), jaxbp.tanh, {"x": jaxbp.connections.Conv((2, 2), padding="VALID")}),
        "f": jaxbp.Unit(18, jaxbp.linear, {"c": jaxbp.connections.Flatten()}, bias=False),
        "o": jaxbp.Unit(2, jaxbp.softmax, {"f": jaxbp.Dense()}),
    },
)
BLOCKS = [case_named("transformer block"), case_named("llama block")]
ALL = [*CASES, *WITH_IDS, *IN_LAYERS, *BLOCKS, Case("convolution", CONVOLUTION, jaxbp.cross_entropy, (2,), "ids")]
AT_ONCE = 5
OF_A_USERS = ("sine", "running_sum", "quartic", "simplified", " twice ", "gated")  # functions without a formula


def is_live(page: str) -> bool:
    """Whether every number of a page can be changed, and everything that follows is known then."""
    return '"still":false' in page and '"opaque":[]' in page


def titles(page: str) -> list[str]:
    data = re.search('<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1]
    return [step["title"] for step in json.loads(data)["steps"]]


@pytest.mark.parametrize("case", [NORMS_CASE, NORMED_STACK_CASE], ids=repr)
def test_norms_have_formulas_on_a_page_and_german_titles(case):
    english, german = (explained(case).page(language=language) for language in ("en", "de"))
    assert is_live(english)
    assert "<h1>Backpropagation, step by step</h1>" in english
    assert "<h1>Backpropagation, Schritt für Schritt</h1>" in german
    both = [*zip(titles(english), titles(german), strict=True)]
    assert [pair for pair in both if pair[0] == pair[1]] == []
    assert not any(re.search(r"\b(of|the|in layer|from|at)\b", title) for _, title in both)


@in_a_browser
@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, len(ALL), AT_ONCE))
def test_numbers_are_the_engines_over_the_table(first, tmp_path):
    works = [explained(case) for case in ALL[first : first + AT_ONCE]]
    pages = [work.page() for work in works]
    live = [is_live(page) for page in pages]
    assert live == [not any(words in case.name for words in OF_A_USERS) for case in ALL[first : first + AT_ONCE]]
    changes = [edits(work, first) if can_change else {} for work, can_change in zip(works, live, strict=True)]
    batches = [int(np.prod(case.batch)) for case in ALL[first : first + AT_ONCE]]
    frames = [Frame(page, walking(c, n)) for page, c, n in zip(pages, changes, batches, strict=True)]
    for work, wanted, (done, found) in zip(works, changes, driven(frames, tmp_path), strict=True):
        assert bool(done) == bool(wanted)
        check_numbers(found, edited(numbers_of(work), {name: wanted[name] for name in done}))


@in_a_browser
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_large_network_has_a_page_of_less_than_a_megabyte(dtype, tmp_path):
    net = jaxbp.layered([784, 128, 10], hidden=jaxbp.sigmoid, output=jaxbp.softmax)
    params = jaxbp.init_params(jax.random.key(0), net, np.dtype(dtype))
    x = np.random.default_rng(0).random(784).round(2)
    work = jaxbp.explain(net, jaxbp.cross_entropy, params, x, np.array(3), 0.1)
    page = work.page()
    assert len(page.encode()) < 1_000_000
    script = """({ document, set, $, fire, numbers, walk }) => {
      set(document.querySelector('[data-name="h.x[0]"]'), 0.75);
      const found = walk();
      set($("slider"), 0);
      for (const i of [1, 77, 127]) {
        set($("which"), i, "change");
        found.push(...numbers());
      }
      return found;
    }"""
    check_numbers(driven([Frame(page, script)], tmp_path)[0], edited(numbers_of(work), {"h.x[0]": 0.75}))


@in_a_browser
@pytest.mark.slow
@pytest.mark.parametrize("work", [worked, lambda: explained(BLOCKS[0])], ids=["all", "of more than paper has room for"])
def test_a_page_is_printed(work, tmp_path):
    (tmp_path / "page.html").write_text(work().page(), encoding="utf-8")
    pdf = tmp_path / "page.pdf"
    command = [BROWSER, *OPTIONS, f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={pdf}"]
    subprocess.run([*command, (tmp_path / "page.html").as_uri()], capture_output=True, timeout=120, check=True)
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type */Page\b", content)) > 2  # all steps, and not what is on the screen
