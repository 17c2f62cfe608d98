"""What a notebook shows: HTML that needs nothing else, of text that stays text, small whatever there is to show."""

import base64
import functools
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest
from cases import case_named, params_of

import jaxbp
from jaxbp import Dense, Finding, Report, Unit
from jaxbp._check._report import Mistake
from jaxbp._drawing import by_axes
from jaxbp._notebook import _passes
from jaxbp._notebook._curves import curves, thinned
from jaxbp._notebook._heat_map import heat_map
from jaxbp._notebook._measures import MOST_COLUMNS, MOST_ROWS, in_order, measured
from jaxbp._notebook._style import DARK, LIGHT, STYLE
from jaxbp._rules._report import Rule, RulesReport
from jaxbp.train import Epoch, Fit

HOSTILE = "<script>alert(1)</script>&\"'"
EMPTY = {"img", "meta", "br"}


class Page(HTMLParser):
    """What a browser makes of it: nothing may be left open, run, or loaded."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if "style" not in self.open else ""


def checked(html: str) -> Page:
    page = Page(html)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("href", "style")]
    sources = [value for name, value in page.attributes if name == "src"]
    assert all(value.startswith("data:image/png;base64,") for value in sources)
    drawn = [value for name, value in page.attributes if name in ("d", "x", "y", "viewbox")]
    assert not re.search("nan|inf", " ".join(drawn))
    return page


@pytest.fixture(autouse=True)
def _no_treescope(monkeypatch, request):
    """Its tree has scripts of its own; one test looks at it."""
    if "treescope" not in request.node.name:
        monkeypatch.setattr(_passes, "find_spec", lambda name: None)


@functools.cache
def passed(name: str) -> jaxbp.Backprop:
    case = case_named(name)
    params, x, y, weights = case.arguments(float)

    @jax.jit
    def run(params, x, y, weights):
        return jaxbp.backprop(case.net, case.loss, params, x, y, weights=weights, reduction=case.reduction)

    return run(params, x, y, weights)


def hand_made(units: int, *shape: int, fill: float = 1.0, name: str = "h{}") -> jaxbp.Backprop:
    """A pass of nothing but one value."""
    names = [name.format(i) for i in range(units)]
    arrays = dict.fromkeys(names, jnp.full(shape, fill))
    trace = jaxbp.Trace(arrays, arrays | {"x": jnp.full(shape, fill)})
    return jaxbp.Backprop(
        jnp.asarray(fill), trace, trace.h, arrays, {"grads": {u: {"x": arrays[u]} for u in names}}, "grads"
    )


def history(*losses: float, **scores) -> list[dict]:
    return [{"epoch": i + 1, "step": 5 * i, "loss": loss, "seconds": 0.1, **scores} for i, loss in enumerate(losses)]


def fit(*losses: float, **scores) -> Fit:
    return Fit({}, history(*losses, **scores), None)


FINDINGS = tuple(
    Finding(f"grad.{HOSTILE}.{i}", status, (i, 2), 1.5, float("nan"), float("inf"), 3, 6, "a remark")
    for i, status in enumerate(("right", "precision", "close", "wrong"))
)
SHOWN = {
    "network": lambda: case_named("skip connection").net,
    "network with stacks": lambda: case_named("stacks").net,
    "network, hostile": lambda: jaxbp.Network({HOSTILE: 3}, {"o": Unit(2, jaxbp.linear, {HOSTILE: Dense()})}),
    "network, long": lambda: jaxbp.layered([300] * 101, output=jaxbp.linear),
    "backprop": lambda: passed("skip connection"),
    "backprop, ids in stacks": lambda: passed("recurrent"),
    "backprop, no batch": lambda: hand_made(2, 3),
    "backprop, one number": lambda: hand_made(1),
    "backprop, nothing": lambda: hand_made(1, 0, 3),
    "backprop, hostile": lambda: hand_made(5, 2, 3, name=HOSTILE + "{}"),
    "backprop, NaN": lambda: hand_made(5, 2, 3, fill=np.nan),
    "backprop, infinite": lambda: hand_made(5, 2, 3, fill=-np.inf),
    "backprop, zero": lambda: hand_made(5, 2, 3, fill=0.0),
    "trace": lambda: passed("recurrent").trace,
    "fit": lambda: fit(2.0, 1.0, 0.1, validation_loss=0.5, validation_accuracy=0.9),
    "fit, one row": lambda: fit(2.0),
    "fit, nothing": lambda: fit(),
    "fit, not finite": lambda: fit(1.0, np.nan, 2.0, -np.inf, 3.0, 1e308, 1e-310),
    "fit, alike": lambda: fit(0.0, 0.0, accuracy=1.0),
    "fit, hostile": lambda: fit(1.0, 2.0, **{HOSTILE: 0.5, "said": HOSTILE}),
    "epoch": lambda: Epoch(3, 0.5, None, None, 0.1, {}, history(2.0, 1.0, 0.5)),
    "report, right": lambda: Report("right", FINDINGS[:1]),
    "report, wrong": lambda: Report(
        "wrong", FINDINGS, "grad", f"look at {HOSTILE}", ((Mistake("a-slug", (HOSTILE,), HOSTILE),),), (HOSTILE,)
    ),
    "report, long": lambda: Report("wrong", FINDINGS * 100),
    "rules": lambda: RulesReport(
        (Rule(HOSTILE, f"{HOSTILE}:1", "custom_vjp", 2, "wrong", FINDINGS, ((HOSTILE, HOSTILE),)),), (HOSTILE,)
    ),
    "rules, none": lambda: RulesReport(()),
    "rules, many": lambda: RulesReport((Rule("f", "f.py:1", "custom_jvp", 2, "right"),) * 500),
}  # fmt: skip


@pytest.mark.parametrize("name", SHOWN)
def test_it_is_html_that_needs_nothing_and_is_small(name):
    html = SHOWN[name]()._repr_html_()
    page = checked(html)
    assert ("hostile" not in name) or HOSTILE in page.text
    assert len(html) < 50_000


def test_an_explanation_is_its_page_in_a_frame():
    net = jaxbp.layered([2, 1], output=jaxbp.sigmoid)
    work = jaxbp.explain(net, jaxbp.squared_error, params_of(net), np.ones(2), np.ones(1))
    frame = Page(work._repr_html_())
    assert (frame.tags, frame.text) == (["iframe"], "")
    assert dict(frame.attributes)["srcdoc"] == work.page()


def test_every_unit_has_a_row_with_its_statistics():
    back = passed("skip connection")
    page = checked(back._repr_html_())
    for u, h in back.trace.h.items():
        for text in (u, by_axes(h.shape), f"{np.sqrt(np.mean(h**2)):.3g}"):
            assert text in page.text
    assert f"loss {back.value:.3g}" in page.text
    assert len([tag for tag in page.tags if tag == "img"]) == len(back.trace.h) + len(back.delta)


def test_what_is_large_is_compact():
    net = checked(SHOWN["network, long"]()._repr_html_())
    assert "… 88 more units in the middle …" in net.text
    assert net.tags.count("rect") == 13
    assert net.tags.count("tr") == 14
    assert len(hand_made(200, 64, 512)._repr_html_()) < 120_000


def test_only_cells_are_copied_from_the_device(monkeypatch):
    copied = []
    get = jax.device_get
    monkeypatch.setattr(jax, "device_get", lambda tree: copied.extend(jax.tree.leaves(tree)) or get(tree))
    hand_made(3, 1000, 1000)._repr_html_()
    assert copied
    assert sum(each.size for each in copied) < 10 * MOST_ROWS * MOST_COLUMNS


ARRAYS = {
    "normal": np.random.default_rng(0).normal(size=(5, 7)),
    "rows": np.random.default_rng(1).normal(size=(2, 50, 101)),
    "one number": np.array(-2.0),
    "no batch": np.array([0.0, 0.0, -3.0]),
    "large": np.array([[1e30, -2e30]], np.float32),
    "small": np.array([[1e-30, -2e-30]], np.float32),
    "bfloat16": jnp.array([[0.5, -4.0]], jnp.bfloat16),
    "ids": np.array([[0, 3], [2, 0]]),
    "bits": np.array([True, False]),
    "NaN": np.array([[1.0, np.nan, 2.0]]),
    "infinite": np.array([[1.0, -np.inf, 0.0]]),
}


def test_measures_are_those_of_numpy():
    found = measured(ARRAYS, ARRAYS)
    for name, array in ARRAYS.items():
        x, got = np.asarray(array, float), found[name]
        with np.errstate(invalid="ignore"):
            rms = np.sqrt(np.mean(np.abs(x) ** 2)) if np.isfinite(x).all() else np.nan
        np.testing.assert_allclose(got.rms, rms, rtol=1e-5)
        np.testing.assert_allclose(got.largest, np.max(np.abs(x)), rtol=1e-6)
        np.testing.assert_allclose([got.zeros, got.not_finite], [np.mean(x == 0), np.mean(~np.isfinite(x))], rtol=1e-6)
        rows = x.reshape(-1, x.shape[-1] if x.ndim else 1)
        down, across = got.block
        assert got.cells.shape <= (MOST_ROWS, MOST_COLUMNS)
        for (i, j), cell in np.ndenumerate(got.cells):
            block = rows[i * down : (i + 1) * down, j * across : (j + 1) * across]
            np.testing.assert_allclose(cell, block.flat[np.argmax(np.abs(block))], rtol=1e-6)


def test_a_heat_map_is_a_picture_of_the_cells():
    cells = np.array([[1.0, -0.5, 0.0], [np.nan, np.inf, -1.0]])
    html = heat_map("h", measured({"h": cells}, ["h"])["h"])
    encoded = re.search('base64,([^"]*)', html)[1]
    picture = matplotlib.image.imread(io.BytesIO(base64.b64decode(encoded)), format="png")
    assert picture.shape == (2, 3, 4)
    np.testing.assert_allclose(picture[..., 3], [[1, 0.5, 0], [1, 1, 1]], atol=0.01)
    red, blue = picture[0, 0, 0] > picture[0, 0, 2], picture[0, 1, 2] > picture[0, 1, 0]
    assert red
    assert blue
    assert (picture[1, 0] == picture[1, 1]).all()
    assert (picture[1, 0] != picture[0, 0]).any()


def points_of(svg: str) -> list[list[tuple[float, float]]]:
    root = ElementTree.fromstring(svg)
    lines = [path.get("d") for path in root.iter("{http://www.w3.org/2000/svg}path") if path.get("stroke-width")]
    found = [[tuple(map(float, pair.split())) for pair in line[1:].split("L")] for line in lines]
    return [line for line in found if line[0][1] != 14]  # that one is the legend


def test_curves_are_where_the_values_are_and_break_where_there_is_none():
    ((a, b, c),) = points_of(curves({"loss": [(1, 0.0), (2, 1.0), (3, 0.5)]}, "epoch", "loss"))
    assert (a[0] + c[0]) / 2 == pytest.approx(b[0])
    assert (a[1] + b[1]) / 2 == pytest.approx(c[1])
    assert b[1] < a[1]
    assert len(points_of(curves({"loss": [(1, 1.0), (2, 2.0), (3, np.nan), (4, 1.0), (5, 2.0)]}, "epoch", "loss"))) == 2
    ((one, other),) = points_of(curves({"loss": [(1, 3.0), (2, 3.0)]}, "epoch", "loss"))
    assert one[1] == other[1]
    assert b[1] < one[1] < a[1]  # within the axes, not on them
    assert curves({"loss": [(1, np.nan)]}, "epoch", "loss") == ""
    ((low, middle, high),) = points_of(curves({"loss": [(1, 1.0), (2, 100.0), (3, 1e4)]}, "epoch", "loss"))
    assert low[1] - middle[1] == pytest.approx(middle[1] - high[1], abs=0.2)  # a logarithmic axis


def test_no_peak_is_lost_of_very_many_points():
    ys = np.ones(100_000)
    ys[[31_415, 77_777]] = 50.0, -3.0
    kept = thinned(list(enumerate(ys.tolist())))
    assert len(kept) < 500
    assert {(31_415, 50.0), (77_777, -3.0), (99_999, 1.0)} <= set(kept)
    assert kept == sorted(kept)


def test_units_that_went_through_jax_are_in_their_order():
    assert in_order(["h1", "h10", "h2", "o"]) == ["h1", "h2", "h10", "o"]
    assert in_order(["z", "h10", "h2"]) == ["z", "h10", "h2"]


def test_what_is_not_at_hand_is_shown_as_text():
    back = hand_made(1, 2, 3)
    seen = []

    @jax.jit
    def f(back):
        seen.extend([back._repr_html_(), back.trace._repr_html_(), repr(back)])
        return back.value

    f(back)
    assert seen[:2] == [None, None]
    assert "Backprop(" in seen[2]
    assert jax.eval_shape(lambda: back)._repr_html_() is None
    assert jax.tree.map(lambda _: "a text", back)._repr_html_() is None
    assert jax.tree.map(lambda _: None, back)._repr_html_() is None
    gone = hand_made(1, 2, 3)
    gone.delta["h0"].delete()
    assert gone._repr_html_() is None


def test_treescope_has_all_arrays(monkeypatch):
    treescope = pytest.importorskip("treescope")
    given = {}
    render = treescope.render_to_html
    monkeypatch.setattr(treescope, "render_to_html", lambda arrays: given.update(arrays) or render(arrays))
    back = hand_made(2, 2, 3, fill=np.nan)
    html = back._repr_html_()
    assert {name: id(array) for name, array in given.items()} == {
        name: id(array) for name, array in back.quantities().items() if name != "loss" and not name.startswith("grad")
    }
    assert "all arrays, by treescope" in html
    assert "http" not in html
    assert len(html) < 50_000
    assert "by treescope" not in hand_made(100, 2)._repr_html_()


def test_it_is_imported_when_it_is_called():
    root = Path(jaxbp.__file__).parent
    others = [path for path in root.rglob("*.py") if "_notebook" not in path.parts]
    texts = [path.read_text(encoding="utf-8") for path in others]
    assert sum("import of_" in text for text in texts) >= 7
    assert not [text for text in texts if re.search(r"^(from|import) jaxbp\._notebook", text, re.MULTILINE)]


@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_text_can_be_read_on_its_paper(colours):
    def luminance(colour: str) -> float:
        whole = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
        parts = np.array([int(whole[i : i + 2], 16) / 255 for i in (0, 2, 4)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    names = dict(re.findall(r"--(\w+): (#\w+)", colours))
    paper = luminance(names.pop("paper"))
    del names["line"]  # of tables, not of text
    for colour in names.values():
        low, high = sorted([paper, luminance(colour)])
        assert (high + 0.05) / (low + 0.05) >= 4.5
    assert colours in STYLE


@pytest.mark.slow
def test_a_notebook_shows_them():
    nbclient = pytest.importorskip("nbclient")
    import nbformat

    cells = {
        "import jax, jax.numpy as jnp, jaxbp\nnet = jaxbp.layered([3, 4, 2], output=jaxbp.linear)\nnet": "sigmoid",
        "params = jaxbp.init_params(jax.random.key(0), net)\nx, y = jnp.ones((5, 3)), jnp.ones((5, 2))\n"
        "jaxbp.forward(net, params, x)": "Forward phase",
        "jaxbp.backprop(net, jaxbp.squared_error, params, x, y)": "Backpropagation",
        "jaxbp.train.fit(net, jaxbp.squared_error, x, y, epochs=3)": "Fit",
        "import optax\n"
        "*_, epoch = jaxbp.train.run(net, jaxbp.squared_error, x, y, optimizer=optax.sgd(0.1), epochs=2)\n"
        "epoch": "Epoch 2",
        "jaxbp.check(net, jaxbp.squared_error, params, x, y, jax.tree.map(jnp.zeros_like, params))": "grad.o.h1",
        "jaxbp.check_rules(lambda x: jnp.sum(jax.nn.relu(x)), x)": "relu",
        "jaxbp.explain(net, jaxbp.squared_error, params, x[0], y[0])": "Pre-activation",
    }
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(book, timeout=300, kernel_name="python3").execute()
    for cell, expected in zip(book.cells, cells.values(), strict=True):
        (shown,) = [output for output in cell.outputs if output.output_type == "execute_result"]
        assert expected in shown.data["text/html"]
        Page(shown.data["text/html"])


# What a notebook stores beside that is a line, and numbers are there where they are asked for.


def test_the_plain_text_of_a_result_is_a_line_and_its_arrays_print_as_they_are():
    back = swept_net()
    fit = Fit({"o": {"x": jnp.ones((400, 30))}}, [{"epoch": 1, "loss": 0.25}], None)
    report = Report("wrong", (), "grad.o.x", "look", ((Mistake("sign", ("o",), "a sign"),),))
    for shown, words in {
        repr(back): "'o': float32[5, 2]",
        repr(back.trace): "Trace(a={'h1': float32[5, 4]",
        repr(fit): "last={'epoch': 1, 'loss': 0.25}",
        repr(report): "Report('wrong', first_wrong='grad.o.x', because='sign at o'",
    }.items():
        assert words in shown.replace("float64", "float32")
        assert "\n" not in shown
        assert len(shown) < 400
    assert f"{float(back.value):.4f}"[:4] in repr(back)
    assert str(np.asarray(back.delta["o"])[0, 0])[:4] in str(back.delta)
    many = jaxbp.Trace({f"u{i}": jnp.zeros(3) for i in range(100)}, {})
    assert "… 94 more" in repr(many)
    traced = []
    jax.jit(lambda b: traced.append(repr(b)) or b.value)(back)  # a number that is not there yet has a shape
    assert "value=float32[]" in traced[0].replace("float64", "float32")


def swept_net() -> jaxbp.Backprop:
    net = jaxbp.layered([3, 4, 2], hidden=jaxbp.tanh, output=jaxbp.linear)
    return jaxbp.backprop(net, jaxbp.squared_error, params_of(net), jnp.ones((5, 3)), jnp.zeros((5, 2)))
