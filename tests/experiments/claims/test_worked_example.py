"""The verdict on every claim of the slides and of the chapter, which the experiment finds by computing."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from rich.console import Console

import jaxbp
from jaxbp._explain._parsing import parse_name
from jaxbp.experiments.claims import chapter, slides, worked_example
from jaxbp.experiments.claims.worked_example import Result, WorkedExample

# place, quantity, statement: those of slides.STATEMENTS that are wrong
WRONG_NUMBERS = [
    ("Step 3", "z4", "0.185"),  # 0.157: an arithmetic slip
    ("Step 4", "p1", "0.561"),  # 0.567; even 0.428 and 0.185 give 0.5605
    ("Step 4", "p2", "0.439"),
    ("Step 5", "L", "0.579"),  # 0.567; −ln 0.561 would be 0.578
]
WRONG_FORMULAS = [
    # w8 leads from a1 to z4 and w9 from a2 to z3, not the other way round
    ("Step 8", "d(L)/d(w8)", "d(L)/d(p1) * d(p1)/d(z3) * d(z3)/d(w8)"),
    ("Step 8", "d(z3)/d(w8)", "a2"),
    ("Step 8", "d(L)/d(w8)", "(-y1 / p1) * p1 * (1 - p1) * a2"),
    ("Step 9", "d(L)/d(w8)", "(p1 - y1) * a2"),
    ("Step 10", "d(L)/d(w9)", "d(L)/d(p2) * d(p2)/d(z4) * d(z4)/d(w9)"),
    ("Step 10", "d(z4)/d(w9)", "a1"),
    ("Step 10", "d(L)/d(w9)", "(-y2 / p2) * p2 * (1 - p2) * a1"),
    ("Step 11", "d(L)/d(w9)", "(p2 - y2) * a1"),
    # the path through ŷ1 is missing
    ("Step 12", "d(L)/d(w10)", "d(L)/d(p2) * d(p2)/d(z4) * d(z4)/d(w10)"),
    ("Step 12", "d(L)/d(w10)", "(-y2 / p2) * p2 * (1 - p2) * a2"),
    ("Update rules", "d(L)/d(w8)", "(p1 - y1) * a2"),
    ("Update rules", "d(L)/d(w9)", "(p2 - y2) * a1"),
    ("Update rules", "updated w8", "w8 - eta * (p1 - y1) * a2"),
    ("Update rules", "updated w9", "w9 - eta * (p2 - y2) * a1"),
    # the slides share b2 between both outputs, so its gradient is the sum of the two
    ("Output bias 1", "updated b2", "b2 - eta * (p1 - y1)"),
    ("Output bias 2", "updated b2", "b2 - eta * (p2 - y2)"),
    # w8 and w9 changed places: Wᵀ where W belongs
    *((f"Step {step}", "d(L)/d(a1)", "(p1 - y1) * w7 + (p2 - y2) * w9") for step in (14, 15, 16)),
    *((f"Step {step}", "d(L)/d(a2)", "(p1 - y1) * w8 + (p2 - y2) * w10") for step in (17, 18, 19)),
    *(
        (f"Step {13 + i}", f"d(L)/d(w{i})", f"((p1 - y1) * w7 + (p2 - y2) * w9) * a1 * (1 - a1) * x{i}")
        for i in (1, 2, 3)
    ),
    *(
        (f"Step {16 + i}", f"d(L)/d(w{i + 3})", f"((p1 - y1) * w8 + (p2 - y2) * w10) * a2 * (1 - a2) * x{i}")
        for i in (1, 2, 3)
    ),
]
HERE_ONLY = [
    # they count on y = (1, 0), for which the path through ŷ2 is 0
    ("Step 5", "L", "-(1 * ln(p1) + 0 * ln(p2))"),
    ("Step 5", "L", "-ln(p1)"),
    ("Step 6", "d(L)/d(w7)", "d(L)/d(p1) * d(p1)/d(z3) * d(z3)/d(w7)"),
    ("Step 6", "d(L)/d(w7)", "(-y1 / p1) * p1 * (1 - p1) * a1"),
]


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    out = tmp_path_factory.mktemp("worked")
    console = Console(record=True, width=200)
    return worked_example.main(WorkedExample(out=out), console), out, console.export_text()


def identified(claims):
    return {(claim.where, claim.name, claim.written) for claim in claims}


def in_our_names(statements):
    arrays = worked_example.explained_slides(0.1).typesetting.equations.numbers.arrays
    return {
        (place, str(parse_name(slides.in_our_names(quantity), arrays)), slides.in_our_names(said))
        for place, quantity, said in statements
    }


def test_the_slides_mistakes_are_found_and_no_others(verdicts):
    claims = verdicts[0].slides
    assert len(claims) == len(slides.STATEMENTS)
    assert identified(c for c in claims if not c.holds) == in_our_names(WRONG_NUMBERS + WRONG_FORMULAS)
    assert identified(c for c in claims if c.general is False) == in_our_names(HERE_ONLY)


def test_a_number_is_also_judged_by_the_numbers_before_it(verdicts):
    carried = {claim.name: claim.carried for claim in verdicts[0].slides if not claim.holds and claim.carried}
    ratio = 1 / (1 + np.exp(0.185 - 0.428))
    np.testing.assert_allclose([carried["h.o[0]"], carried["h.o[1]"]], [ratio, 1 - ratio], rtol=1e-12)
    np.testing.assert_allclose(carried["loss"], -np.log(0.561), rtol=1e-12)
    assert not any(claim.follows for claim in verdicts[0].slides)


def test_the_chapters_misprints_are_found_and_no_others(verdicts):
    result = verdicts[0]
    assert [f.printed.where for f in result.wrong] == [
        "Architecture, size of the matrices",
        "Sum over paths, several outputs",
        "The process, step 3",
        "Updates for various activations",
        "Updates, hard tanh at a = −1",
        "Softmax, y with Σy = 2",
    ]
    assert all(f.corrected.holds for f in result.formulas)
    assert all(f.corrected.general for f in result.formulas)
    assert result.holds
    assert result.decision.startswith("16 of 22 formulas of the chapter hold as printed, and 6 of the other 6 as")
    assert result.decision.endswith(": holds")


def test_a_formula_that_holds_in_no_form_and_a_wrong_gradient_decide_against_it(verdicts):
    result = verdicts[0]
    right = next(f for f in result.formulas if f.printed.holds)
    wrong = replace(right, printed=replace(right.printed, holds=False), corrected=replace(right.corrected, holds=False))
    for spoilt in (
        replace(result, formulas=(wrong, *result.formulas[1:])),
        replace(result, gradient_error=1e-6),
        replace(result, gradient_error=float("nan")),
    ):
        assert not spoilt.holds
        assert spoilt.decision.endswith(": does not hold")
    assert replace(result, formulas=(right,)).decision.startswith("1 of 1 formulas of the chapter hold as printed")


@pytest.fixture
def _traced_anew(monkeypatch):
    """What is compiled in a test has its sabotage in it."""
    jax.clear_caches()
    yield
    monkeypatch.undo()
    jax.clear_caches()


@pytest.mark.usefixtures("_traced_anew")
def test_a_sabotaged_sweep_is_not_blamed_on_the_chapter(monkeypatch):
    passages = {passage.place: passage for passage in chapter.passages()}
    right = jaxbp.Dense.pull_back
    monkeypatch.setattr(jaxbp.Dense, "pull_back", lambda *of: -right(*of))
    passage = passages["Pre-activation recursion"]
    (formula,) = worked_example.marked(passage)
    assert not formula.printed.holds
    result = Result((), (formula,), worked_example.gradient_error(passage))
    assert result.gradient_error > 1
    assert not formula.corrected.holds
    assert result.decision.startswith("0 of 1 formulas of the chapter hold as printed, and 0 of the other 1")
    assert result.decision.endswith(": does not hold")


def test_nothing_about_the_verdicts_is_written_down(monkeypatch, tmp_path):
    """With the slides' mistakes mended, and a new one made, the verdicts follow."""
    mended = [
        (place, quantity, {"(p1 - y1) * a2": "(p2 - y2) * a1"}.get(said, said))
        for place, quantity, said in slides.STATEMENTS
        if quantity in ("d(L)/d(w7)", "d(L)/d(w8)")
    ]
    mended.append(("Mine", "z1", "-0.4"))
    monkeypatch.setattr(slides, "STATEMENTS", mended)
    claims = worked_example.explained_slides(0.1).claims
    wrong = [(claim.where, claim.name) for claim in claims if not claim.holds]
    assert wrong == [("Step 8", "grad.o.h1[0, 1]")] * 2 + [("Mine", "a.h1[0]")]


def test_what_is_printed_and_written(verdicts):
    _, out, printed = verdicts
    assert "106 claims, 32 wrong" in printed
    assert "∂L/∂a⁽¹⁾ = (ŷ₁ − y₁)·w₇ + (ŷ₂ − y₂)·w₉ = 0.04329" in printed
    assert "w₇·∂L/∂z⁽³⁾ + w₈·∂L/∂z⁽⁴⁾" in printed
    page = (out / "slides.html").read_text(encoding="utf-8")
    assert page.count('class="claim wrong"') == 32
    rows = json.loads((out / "claims.json").read_text(encoding="utf-8"))
    assert sum(not row["holds"] for row in rows["slides"]) == 32
    assert (out / "slides.md").exists()
    assert (out / "slides.tex").exists()
    assert (out / "formulas.png").read_bytes().startswith(b"\x89PNG")
    assert verdicts[0].decision in " ".join(printed.split())


def test_the_shared_bias_is_a_connection():
    """Its gradient is the sum over the elements, as jax.grad has it."""
    args = (slides.NETWORK, jaxbp.cross_entropy)
    with jax.enable_x64(True):
        data = jax.device_put((slides.PARAMS, slides.X, slides.Y))
        back = jax.device_get(jax.jit(jaxbp.backprop, static_argnums=(0, 1))(*args, *data))
        expected = jax.jit(jax.grad(jaxbp.objective(*args)))(*data)
    for u in ("h1", "o"):
        # at the output it is 0, which autodiff misses by the rounding of o − y
        np.testing.assert_allclose(back.grads[u]["one"], expected[u]["one"], rtol=1e-12, atol=2.3e-16)
        np.testing.assert_allclose(back.grads[u]["one"], back.delta[u].sum(), rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_learning_rate_that_is_none_is_refused(rate):
    with pytest.raises(ValueError, match="learning_rate must be positive"):
        WorkedExample(learning_rate=rate)
