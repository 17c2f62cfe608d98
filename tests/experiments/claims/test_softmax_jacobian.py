"""The question of the softmax Jacobian: the answer's numbers, what would change it, and what is refused."""

import io
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import jaxbp
from jaxbp.experiments.claims import softmax_jacobian
from jaxbp.experiments.claims.output_layer import relative_error
from jaxbp.experiments.claims.softmax_jacobian import Question, main, save_plot


@pytest.fixture(autouse=True)
def _without_a_plot(monkeypatch):
    monkeypatch.setattr(softmax_jacobian, "save_plot", lambda result, path: None)


def run(*logits, target=0):
    console = Console(file=io.StringIO(), width=120)
    options = {"logits": logits} if logits else {}
    result = main(Question(**options, target=target), console)
    return result, " ".join(console.file.getvalue().split())


def test_the_numbers_of_the_answer():
    result, printed = run()
    of = result.softmax
    e = np.exp([2.0, 1.0, -1.0])
    o = e / e.sum()
    np.testing.assert_allclose(of.jacobian, np.diag(o) - np.outer(o, o), rtol=1e-12)
    for delta in (of.product, result.simplified, of.backprop, of.automatic):
        np.testing.assert_allclose(delta, o - [1, 0, 0], rtol=1e-12)
    np.testing.assert_allclose(of.diagonal, [o[0] - 1, 0, 0], rtol=1e-12)
    s = 1 / (1 + 1 / e)
    np.testing.assert_allclose(result.matlab, (s - [1, 0, 0]) * s * (1 - s), rtol=1e-12)
    assert all(array.dtype == np.float64 for array in (of.jacobian, of.product, result.matlab))
    assert result.holds
    assert result.decision.endswith("its diagonal alone is off by 66% (more than that asked): holds")
    assert result.decision in printed
    assert "wrong by 66%" in printed
    assert f"{o[0] * (1 - o[0]):.5g}" in printed


@pytest.mark.parametrize("n", [3, pytest.param(12, marks=pytest.mark.slow)])
def test_the_plot_is_written(tmp_path, n):
    result, _ = run(*np.linspace(-1, 1, n).tolist())
    save_plot(result, tmp_path / "out" / "softmax.png")
    assert (tmp_path / "out" / "softmax.png").read_bytes().startswith(b"\x89PNG")


def test_the_product_is_right_for_every_pair_and_the_diagonal_for_elementwise_activations_only():
    result, _ = run(0.3, -2.0, 1.5, target=2)
    for (activation, _), of in result.pairs.items():
        assert relative_error(of.product, of.automatic) < 1e-12
        assert (relative_error(of.diagonal, of.automatic) > 0.1) == (activation == "softmax")


@pytest.mark.parametrize("n", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_the_diagonal_is_wrong_by_between_one_over_root_n_and_one_over_root_2(n):
    logits = np.random.default_rng(n).normal(size=n)
    error = run(*logits.tolist(), target=n - 1)[0].error
    assert 1 / math.sqrt(n) - 1e-12 <= error <= 1 / math.sqrt(2) + 1e-12
    equal, printed = run(*[0.0] * n)
    np.testing.assert_allclose(equal.error, 1 / math.sqrt(n), rtol=1e-12)
    assert (f"{n - 5} more" in printed) == (n > 5)


def test_a_wrong_pull_back_changes_the_answer(monkeypatch):
    wrong = jaxbp.vector_activation(jax.nn.softmax, lambda a, h, Delta: h * (1 - h) * Delta, name="wrong")
    monkeypatch.setattr(jaxbp, "softmax", wrong)
    result, printed = run()
    assert not result.holds
    assert relative_error(result.softmax.product, result.softmax.automatic) > 0.1
    assert result.wrong == ["backprop", "product, softmax and squared_error", "product, softmax and cross_entropy"]
    assert "wrong: product, softmax and cross_entropy: does not hold" in printed


def test_a_diagonal_that_is_right_changes_the_answer():
    result, _ = run()
    of = replace(result.softmax, diagonal=result.softmax.product)
    result = replace(result, pairs=result.pairs | {("softmax", "cross_entropy"): of})
    assert result.wrong == ["the error of the diagonal"]
    assert result.decision.endswith(": does not hold")


def test_a_wrong_gradient_of_the_loss_changes_the_answer(monkeypatch):
    loss = jaxbp.Loss(jaxbp.squared_error.value, lambda o, y: 2 * (o - y), name="twice")
    monkeypatch.setattr(jaxbp, "squared_error", loss)
    result, _ = run()
    of = result.pairs["softmax", "squared_error"]
    np.testing.assert_allclose(relative_error(of.product, of.automatic), 1.0)
    assert result.decision.endswith(": does not hold")


def test_where_the_product_overflows_the_simplification_is_left():
    result, printed = run(-1000.0, 1000.0)
    assert result.simplified.tolist() == result.softmax.backprop.tolist() == [-1, 1]
    assert np.isnan(result.softmax.product).any()
    assert result.decision.endswith("decides nothing, for 0 · ∞ is no number: not decided at this size")
    assert result.holds is None
    assert "of the two forms only o − y is left" in printed


@pytest.mark.parametrize("logits", [(1000.0, -1000.0), (40.0, 0.0), (30.0, 0.0)])
def test_logits_that_are_right_already_teach_nothing_and_raise_no_alarm(logits):
    result, printed = run(*logits)
    assert result.holds is None
    assert result.decision.endswith("decides nothing, for these logits are right already: not decided at this size")
    assert "These logits are right already" in printed


def test_importing_and_running_leave_the_default_precision_alone():
    with jax.enable_x64(False):
        run()
        assert jnp.ones(1).dtype == jnp.float32


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        ((1.0,), 0, "a softmax needs at least two logits, got 1"),
        ((), 0, "a softmax needs at least two logits, got 0"),
        ((1.0, math.nan), 0, "logits must be finite, got 1.0 nan"),
        ((1.0, -math.inf), 0, "logits must be finite, got 1.0 -inf"),
        ((1.0, 2.0, 3.0), 3, "target 3 is outside 0…2, the class ids of 3 logits"),
        ((1.0, 2.0), -1, "target -1 is outside 0…1"),
    ],
)
def test_questions_without_an_answer_are_refused(logits, target, message):
    with pytest.raises(ValueError, match=message):
        Question(logits, target)
