"""The collapse of identity units: what holds at small size, what sabotage does, what decides, and what is refused."""

import io
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import jaxbp
from jaxbp.experiments.claims.linear_collapse import INTERCEPT, Collapse, Depth, Result, affine_fit, affine_map, main
from jaxbp.experiments.common.data import load

SMALL = Collapse(depths=(1,), steps=2500)


def run(tmp_path, **options):
    console = Console(file=io.StringIO(), width=120)
    return main(replace(SMALL, **options, out=tmp_path / "out"), console), console.file.getvalue()


def test_the_claim_holds_and_the_plot_is_written(tmp_path):
    result, printed = run(tmp_path)
    assert result.holds
    assert result.decision.endswith(": holds")
    assert result.decision in " ".join(printed.split())
    (depth,) = result.depths
    assert depth.path.shape == (2500, 11)
    assert depth.distances[0] > 0.1 > 1e-3 > depth.distances[-1]
    np.testing.assert_allclose(depth.loss, result.least_loss, rtol=1e-6)
    assert depth.tanh_loss < 0.9 * result.least_loss
    assert (tmp_path / "out" / "collapse.png").read_bytes().startswith(b"\x89PNG")
    data = load("diabetes", dtype=np.float64)
    A = np.append(data.x_train, np.ones((len(data.x_train), 1)), axis=1)
    normal = A.T @ (A @ result.least_squares - data.y_train[:, 0] - INTERCEPT)
    np.testing.assert_allclose(normal, 0, atol=1e-10)


def no_signal(self, W, h, delta):
    return jnp.zeros_like(h)


def mispaired(self, W, h, delta):
    return right_contract(self, W, jnp.roll(h, 1, axis=0), delta)


right_contract = jaxbp.Dense.contract


@pytest.mark.parametrize(("method", "wrong"), [("pull_back", no_signal), ("contract", mispaired)])
def test_a_wrong_backward_pass_is_not_least_squares(tmp_path, monkeypatch, method, wrong):
    monkeypatch.setattr(jaxbp.Dense, method, wrong)
    result, printed = run(tmp_path)
    assert result.holds is None  # with so few steps
    assert not result.distance <= 0.1
    assert "not decided at this size" in " ".join(printed.split())
    assert replace(result, full=True).decision.endswith(": does not hold")


def test_the_product_of_all_matrices_is_the_network():
    net = jaxbp.layered([2, 3, 1], hidden=jaxbp.linear, output=jaxbp.linear)
    W1, b1 = np.array([[1.0, 2, 0], [0, -1, 3]]), np.array([1.0, 0, -1])
    W2, b2 = np.array([[2.0], [1], [-1]]), np.array([5.0])
    W, b = affine_map(net, {"h1": {"x": W1, "bias": b1}, "o": {"h1": W2, "bias": b2}})
    np.testing.assert_array_equal(W, [[4], [-4]])
    np.testing.assert_array_equal(b, [8])


def test_an_affine_fit_leaves_what_is_bent():
    x = np.linspace(-1, 1, 21)[:, None]
    fitted, left = affine_fit(x, np.stack([3 * x[:, 0] - 2, x[:, 0] ** 2]))
    np.testing.assert_allclose(left[0], 0, atol=1e-14)
    np.testing.assert_allclose(fitted[1], np.mean(x**2), rtol=1e-12)
    np.testing.assert_allclose(left[1], x[:, 0] ** 2 - np.mean(x**2), atol=1e-14)


def test_each_number_decides():
    depth = Depth(
        layers=1,
        path=np.ones((2, 3)),
        distances=np.array([1.0, 1e-4]),
        intercept=1e-4,
        rounding=1e-15,
        loss=0.2,
        tanh_loss=0.1,
        fitted=np.ones((2, 4)),
        left=np.ones((2, 4)),
        bend=0.3,
    )
    good = Result((depth, depth), np.ones(3), 0.2)
    assert good.holds
    for spoilt in (
        {"distances": np.array([1.0, 2e-3])},
        {"distances": np.array([1.0, np.nan])},
        {"intercept": 2e-3},
        {"rounding": 2e-12},
        {"rounding": float("nan")},
        {"bend": 1e-3},
        {"bend": float("nan")},
    ):
        bad = replace(good, depths=(depth, replace(depth, **spoilt)))
        assert bad.holds is False
        assert bad.decision.endswith("does not hold")
        # what is wrong at any size is not excused by a small one
        assert replace(bad, full=False).holds is (False if "rounding" in spoilt else None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": ()}, "depths must be different numbers of at least 1, got none"),
        ({"depths": (2, 0)}, "depths must be different numbers of at least 1, got 2 0"),
        ({"depths": (2, 2)}, "depths must be different numbers of at least 1, got 2 2"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive and finite, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive and finite, got nan"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1, got 1.0"),
    ],
)
def test_what_cannot_be_trained_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Collapse(**options)
