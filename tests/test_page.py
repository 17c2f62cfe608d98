"""The living page: in a browser, every number on it is the engine's, whatever is changed, stepped through or filled in."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import Case
from test_explain import CASES, IN_LAYERS, WITH_IDS, explained, of

import jaxbp
from jaxbp._explain._numbers import Numbers
from jaxbp._names import Name

TOLERANCE = 1e-9
DIGITS = 4  # of a number in print

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr", "--v=0"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-quic", "--virtual-time-budget=60000"),
]
in_a_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the path")

# What stands in every page of a test before its own script.
WATCHED = """<script>
window.wrong = [];
addEventListener("error", (event) => wrong.push(event.message));
addEventListener("unhandledrejection", (event) => wrong.push(String(event.reason)));
for (const kind of ["error", "warn"]) console[kind] = (...words) => wrong.push(words.join(" "));
</script>"""

# Pages as frames of one page, so that a browser starts once; `drive` of each finds something in it.
DRIVER = """<!doctype html><meta charset="utf-8"><body>%s<script>
const toText = (value) => Number.isFinite(value) ? value : String(value);
function reader(frame) {
  const window = frame.contentWindow, document = frame.contentDocument;
  const numbers = () => [...document.querySelectorAll("[data-q]")].map(
    (e) => [e.dataset.q, e.dataset.value, e.textContent]);
  const fire = (target, kind, about = {}) => target.dispatchEvent(
    new window[kind.startsWith("key") ? "KeyboardEvent" : "Event"](kind, { bubbles: true, cancelable: true, ...about }));
  const press = (key) => fire(document.body, "keydown", { key });
  const set = (target, value, kind = "input") => { target.value = value; fire(target, kind); };
  const edit = (name, value) => {
    const target = document.querySelector(`[data-name="${CSS.escape(name)}"]`);
    if (target) set(target, value);
    return target !== null;
  };
  const walk = () => {
    const found = [];
    press("Home");
    for (let n = +document.getElementById("slider").max + 1; n > 0; n--) {
      found.push(...numbers());
      press("ArrowRight");
    }
    return found;
  };
  return { window, document, numbers, fire, press, set, edit, walk };
}
addEventListener("load", () => {
  const drives = [%s];
  const found = [...document.querySelectorAll("iframe")].map((frame, i) => {
    try {
      return { found: drives[i](reader(frame)), wrong: frame.contentWindow.wrong,
               requests: frame.contentWindow.performance.getEntriesByType("resource").length };
    } catch (error) {
      return { found: null, wrong: [...frame.contentWindow.wrong, error.stack] };
    }
  });
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = JSON.stringify(found);
  document.body.replaceChildren(out);
});
</script>"""


def driven(pages: list[tuple[str, str]], folder: Path, width: int = 1280) -> list[Any]:
    """What scripts find on pages; each is a function of a reader, in a frame as wide as said."""
    frames = "".join(
        f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{html.escape(page.replace("<head>", "<head>" + WATCHED))}">'
        "</iframe>"
        for page, _ in pages
    )
    (folder / "driver.html").write_text(DRIVER % (frames, ",\n".join(script for _, script in pages)), encoding="utf-8")
    command = [BROWSER, *OPTIONS, f"--window-size={width + 20},1000", f"--user-data-dir={folder / 'profile'}"]
    command += ["--dump-dom", (folder / "driver.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
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


def edited(work: jaxbp.Explanation, changes: dict[str, float]) -> Numbers:
    """The numbers of the engine after the same changes."""
    numbers = numbers_of(work)
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
        truth = numbers(Name.parse(name))
        value = float(number.replace("Infinity", "inf"))
        assert value == pytest.approx(truth, rel=TOLERANCE, abs=TOLERANCE), (name, number, truth)
        shown = float(text.replace("−", "-").replace("∞", "inf"))
        assert shown == pytest.approx(float(f"{value:.{DIGITS}g}"), rel=1e-12), (name, number, text)
    return {name for name, *_ in found}


def walking(changes: dict[str, float], batch: int = 1) -> str:
    """A script that changes numbers and looks at every step of every example."""
    return f"""({{ document, edit, walk, set }}) => {{
  const changed = {json.dumps(list(changes.items()))}.filter(([name, value]) => {{
    const example = /^(?:h\\.[^[]*|y)\\[(\\d+)/.exec(name);
    const chooser = document.getElementById("example");
    if (chooser && example) set(chooser, {batch} > 1 ? example[1] : 0, "change");
    return edit(name, value);
  }}).map(([name]) => name);
  const found = [];
  for (let i = 0; i < {batch}; i++) {{
    if ({batch} > 1) set(document.getElementById("example"), i, "change");
    found.push(...walk());
  }}
  return [changed, found];
}}"""
