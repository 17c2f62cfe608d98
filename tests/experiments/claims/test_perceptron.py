"""The perceptron: the rule and the bound against plain numpy, what decides, what sabotage does, and what is refused."""

import io
from dataclasses import replace
from itertools import islice

import jax
import numpy as np
import pytest
from rich.console import Console
from scipy.optimize import nnls

import jaxbp
from jaxbp.experiments.claims.perceptron import (
    HIDDEN,
    XOR,
    Perceptron,
    Result,
    Run,
    learned,
    main,
    passes,
    run_perceptron,
    separated,
    widest_separator,
)

SMALL = Perceptron(gaps=(0.1,), examples=30)


def by_hand(x, y, passes):
    """The classical algorithm: what it learns, and the mistakes of each pass."""
    w, counts = np.zeros(x.shape[1] + 1), []
    for _ in range(passes):
        counts.append(0)
        for inputs, target in zip(np.append(x, np.ones((len(x), 1)), axis=1), y, strict=True):
            if target * (w @ inputs) <= 0:
                w, counts[-1] = w + target * inputs, counts[-1] + 1
    return w, tuple(counts)


def line(*weights):
    return {"o": {"x": np.array(weights[:-1])[:, None], "bias": np.array(weights[-1:])}}


def test_the_claim_holds_and_the_plot_is_written(tmp_path):
    console = Console(file=io.StringIO(), width=120)
    result = main(replace(SMALL, out=tmp_path / "out"), console)
    assert result.holds
    assert result.decision.endswith("0 of 4 wrong: holds")
    assert [run.name for run in result.runs] == ["gap 0.1", "iris setosa"]
    for run in result.runs:
        w, counts = by_hand(run.x, run.y, len(run.mistakes))
        assert run.mistakes == counts
        np.testing.assert_allclose(run.weights, w, rtol=1e-12, atol=1e-12)
        assert 0 < sum(run.mistakes) <= run.bound
    assert result.xor == (4,) * 100
    assert result.cycle == (1, 4)
    assert result.hidden[-1] == 0 < result.hidden[-2]
    assert (tmp_path / "out" / "perceptron.png").read_bytes().startswith(b"\x89PNG")
    assert result.decision in " ".join(console.file.getvalue().split())


def flipped(self, W, h, delta):
    return -right_contract(self, W, h, delta)


def mispaired(self, W, h, delta):
    return right_contract(self, W, h[..., ::-1], delta)


def nothing(self, W, h, delta):
    return jax.numpy.zeros_like(W)


right_contract = jaxbp.Dense.contract


@pytest.mark.parametrize("contract", [flipped, mispaired, nothing])
def test_a_perceptron_with_a_wrong_gradient_exceeds_its_bound(monkeypatch, contract):
    x, y = np.array([[2.0, 0.1], [1.0, -0.2], [-2.0, 0.3], [-1.0, 0.1]]), np.array([1.0, 1.0, -1.0, -1.0])
    assert run_perceptron("four", x, y).holds
    monkeypatch.setattr(jaxbp.Dense, "contract", contract)
    spoilt = run_perceptron("four", x, y)
    assert not spoilt.holds
    assert sum(spoilt.mistakes) > spoilt.bound or spoilt.wrong > 0


def test_a_hidden_layer_that_is_told_the_wrong_way_does_not_learn_xor(monkeypatch):
    start = jaxbp.init_params(jax.random.key(0), HIDDEN)
    assert learned(HIDDEN, start, *XOR, most=400)[1][-1] == 0
    right = jaxbp.Dense.pull_back
    monkeypatch.setattr(jaxbp.Dense, "pull_back", lambda self, W, h, delta: -right(self, W, h, delta))
    _, mistakes = learned(HIDDEN, start, *XOR, most=400)
    assert mistakes[-1] > 0
    assert sum(mistakes) > 400


def test_an_example_at_a_margin_of_exactly_0_is_a_mistake():
    x, y = np.array([[0.0, 1.0]]), np.array([1.0])
    net = jaxbp.layered([2, 1], hidden=(), output=jaxbp.linear)
    (params, mistakes), (_, none) = islice(passes(net, line(3.0, 0.0, 0.0), x, y), 2)
    assert (mistakes, none) == (1, 0)
    np.testing.assert_array_equal(params["o"]["x"][:, 0], [3, 1])
    np.testing.assert_array_equal(params["o"]["bias"], [1])


@pytest.mark.parametrize("gap", [0.5, 0.02])
def test_the_separator_is_the_widest_there_is(gap):
    x, y = separated(np.random.default_rng(1), 40, gap)
    best = widest_separator(x, y)
    A = y[:, None] * np.append(x, np.ones((40, 1)), axis=1)
    margin = np.min(A @ best)
    assert margin >= gap * (1 - 1e-9)
    # for any u of norm 1 and any weights α ≥ 0 of sum 1, min_i A_i u ≤ (α A) u ≤ ‖α A‖: equality proves the widest
    closest = A[A @ best < margin * (1 + 1e-6)]
    alpha, distance = nnls(np.vstack([closest.T, np.ones(len(closest))]), np.append(margin * best, 1))
    assert distance < 1e-9
    np.testing.assert_allclose(np.linalg.norm(alpha @ closest), margin, rtol=1e-6)


def test_nothing_separates_xor():
    assert widest_separator(*XOR) is None
    with pytest.raises(ValueError, match="no line separates the classes of xor, so there is no bound"):
        run_perceptron("xor", *XOR)


def test_each_number_decides():
    x, y = np.array([[1.0], [-1.0]]), np.array([1.0, -1.0])
    run = Run("two", x, y, (2, 0), np.array([2.0, 0.0]), np.array([1.0, 0.0]))
    assert (run.radius, run.margin) == (pytest.approx(np.sqrt(2)), 1)
    assert run.bound == pytest.approx(2)
    weights = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0]])
    good = Result((run,), (4, 3, 2), weights, (1, 0), {}, np.array([-1.0, 1, 1, -1]))
    assert good.holds
    assert good.cycle == (2, 5)
    assert not replace(run, mistakes=(2, 1, 0)).holds  # more than allowed
    assert not replace(run, mistakes=(1, 1)).holds  # no clean pass
    assert not replace(run, weights=np.array([0.0, 1.0])).holds  # one on the wrong side
    assert not replace(run, weights=np.full(2, np.nan)).holds
    for spoilt in (
        {"runs": (run, replace(run, mistakes=(3, 0)))},
        {"xor": (4, 0, 0)},  # it stays where it is because it has learned
        {"weights": np.arange(12.0).reshape(4, 3)},
        {"outputs": np.array([-1.0, 1, 1, 0])},
        {"outputs": np.array([-1.0, 1, 1, np.nan])},
    ):
        assert replace(good, **spoilt).holds is False
        assert replace(good, **spoilt).decision.endswith("does not hold")
        # more passes could bring weights back and teach a hidden layer, but mend no mistake beyond its bound
        short = replace(good, **spoilt, full=False)
        assert short.holds is (None if spoilt.keys() & {"weights", "outputs"} else False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gaps": ()}, "gaps must be positive and finite, got none"),
        ({"gaps": (0.1, 0.0)}, "gaps must be positive and finite, got 0.1 0.0"),
        ({"gaps": (float("nan"),)}, "gaps must be positive and finite, got nan"),
        ({"examples": 1}, "examples must be at least 2, got 1"),
        ({"passes": 1}, "passes must be at least 2, got 1"),
    ],
)
def test_what_cannot_be_run_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Perceptron(**options)
