"""Universal approximation: the decision at small size, what would change it, and what is refused."""

import io
from dataclasses import replace

import jax
import numpy as np
import pytest
from rich.console import Console

import jaxbp
from jaxbp.experiments.claims import approximation
from jaxbp.experiments.claims.approximation import (
    CLAIM,
    FUNCTIONS,
    Approximation,
    Result,
    grid,
    main,
    relative_errors,
    start,
)

pytestmark = pytest.mark.slow  # training takes its time

SMALL = Approximation(functions=("oscillating",), widths=(1, 24), restarts=3, steps=500, bound=0.08)
GOOD = Result((1, 4, 16), {"smooth": (0.9, 0.1, 0.01), "ripple": (0.8, 0.5, 0.04)}, 0.05)


def run(config, tmp_path):
    console = Console(file=io.StringIO(), width=120)
    return main(replace(config, out=tmp_path / "out"), console), " ".join(console.file.getvalue().split())


def test_the_error_falls_and_both_figures_are_written(tmp_path):
    result, printed = run(replace(SMALL, functions=("product",)), tmp_path)
    assert result.holds, result.decision
    assert result.decision in printed
    for name in ("approximation", "surfaces"):
        assert (tmp_path / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.clears_what_jax_keeps
def test_the_decision_holds_and_not_with_a_wrong_backward_pass(tmp_path, monkeypatch):
    result, _ = run(SMALL, tmp_path)
    assert result.holds, result.decision
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["approximation.png"]
    right = jaxbp.Dense.contract
    # W of the hidden layer is then moved against its gradient, that of the output as it should be
    monkeypatch.setattr(
        jaxbp.Dense, "contract", lambda self, W, h, delta: right(self, W, h, -delta if W.shape[0] == 1 else delta)
    )
    jax.clear_caches()
    wrong, printed = run(SMALL, tmp_path)
    jax.clear_caches()
    assert wrong.holds is None  # after so few steps
    assert "not decided at this size" in printed
    assert replace(wrong, full=True).decision.endswith(": does not hold")


@pytest.mark.parametrize(
    "errors",
    [(0.9, 0.1, 0.06), (0.4, 0.1, 0.041), (0.9, 0.01, 0.02), (0.9, 0.1, float("nan"))],
    ids=["above the bound", "a small gain", "not falling", "nan"],
)
def test_each_number_of_each_function_decides(errors):
    assert GOOD.holds
    assert GOOD.decision.endswith(": holds")
    for spoilt in ({**GOOD.errors, "ripple": errors}, {"ripple": errors, **GOOD.errors, "smooth": errors}):
        assert replace(GOOD, errors=spoilt).holds is False
        assert replace(GOOD, errors=spoilt, full=False).holds is None


def test_the_quick_size_is_held_to_the_same_bound():
    assert "bound" not in approximation.QUICK
    assert replace(GOOD, errors={"smooth": (1.2, 0.3, 0.071)}, full=False).decision.endswith("not decided at this size")


def test_a_constant_has_error_one_and_the_error_has_no_unit():
    x = grid(2, 9)
    truth = np.stack([f.value(x) for f in FUNCTIONS.values() if f.inputs == 2])[..., None]
    mean = np.broadcast_to(truth.mean(axis=1, keepdims=True), truth.shape)
    np.testing.assert_allclose(relative_errors(mean, truth), 1, rtol=1e-12)
    np.testing.assert_allclose(relative_errors(1.1 * truth, truth), relative_errors(2.2 * truth, 2 * truth), rtol=1e-12)


def test_the_ridges_lie_over_the_domain():
    first = start(np.random.default_rng(0), 2, 200, 5.0)["h1"]
    np.testing.assert_allclose(np.linalg.norm(first["x"], axis=0), 5, rtol=1e-12)
    distances = first["bias"] / 5  # of the line a = 0 from the middle
    assert np.abs(distances).max() <= 1
    assert np.histogram(distances, bins=4, range=(-1, 1))[0].min() > 30


def test_the_claim_is_quoted_as_it_stands():
    assert "universal function approximators" in CLAIM


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"functions": ("smooth", "rough")}, "functions are some of smooth, .*, ripple, got rough"),
        ({"functions": ()}, "got none"),
        ({"widths": (4,)}, "widths must be two or more, rising from at least 1, got 4"),
        ({"widths": (4, 2)}, "widths must be two or more, rising from at least 1, got 4 2"),
        ({"widths": (0, 2)}, "widths must be two or more, rising from at least 1, got 0 2"),
        ({"restarts": 0}, "restarts must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive and finite, got 0.0"),
        ({"bound": float("inf")}, "bound must be positive and finite, got inf"),
    ],
)
def test_what_cannot_be_fitted_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Approximation(**options)
