"""The question of the softmax Jacobian: the answer's numbers, what would change it, and what is refused."""

import io
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import jaxbp
from experiments.softmax_jacobian import Question, main


def run(*logits, target=0):
    console = Console(file=io.StringIO(), width=120)
    options = {"logits": logits} if logits else {}
    numbers = main(Question(**options, target=target), console)
    return numbers, " ".join(console.file.getvalue().split())


def test_the_numbers_of_the_answer():
    numbers, printed = run()
    e = np.exp([2.0, 1.0, -1.0])
    o = e / e.sum()
    np.testing.assert_allclose(numbers["jacobian"], np.diag(o) - np.outer(o, o), rtol=1e-12)
    for way in ("product", "simplified", "backprop", "automatic"):
        np.testing.assert_allclose(numbers[way], o - [1, 0, 0], rtol=1e-12)
    np.testing.assert_allclose(numbers["diagonal"], [o[0] - 1, 0, 0], rtol=1e-12)
    s = 1 / (1 + 1 / e)
    np.testing.assert_allclose(numbers["matlab"], (s - [1, 0, 0]) * s * (1 - s), rtol=1e-12)
    assert all(numbers[name].dtype == np.float64 for name in ("jacobian", "product", "matlab"))
    assert numbers["holds"]
    assert "All of this holds" in printed
    assert "wrong by 66%" in printed
    assert f"{o[0] * (1 - o[0]):.5g}" in printed


def test_the_product_is_right_for_every_pair_and_the_diagonal_for_elementwise_activations_only():
    numbers, _ = run(0.3, -2.0, 1.5, target=2)
    for (activation, _), errors in numbers["pairs"].items():
        assert errors["product"] < 1e-12
        assert (errors["diagonal"] > 0.1) == (activation == "softmax")


@pytest.mark.parametrize("n", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_the_diagonal_is_wrong_by_between_one_over_root_n_and_one_over_root_2(n):
    logits = np.random.default_rng(n).normal(size=n)
    error = run(*logits.tolist(), target=n - 1)[0]["errors"]["diagonal"]
    assert 1 / math.sqrt(n) - 1e-12 <= error <= 1 / math.sqrt(2) + 1e-12
    equal, printed = run(*[0.0] * n)
    np.testing.assert_allclose(equal["errors"]["diagonal"], 1 / math.sqrt(n), rtol=1e-12)
    assert (f"{n - 5} more" in printed) == (n > 5)


def test_a_wrong_pull_back_changes_the_answer(monkeypatch):
    wrong = jaxbp.vector_activation(jax.nn.softmax, lambda a, h, Delta: h * (1 - h) * Delta, name="wrong")
    monkeypatch.setattr(jaxbp, "softmax", wrong)
    numbers, printed = run()
    assert not numbers["holds"]
    assert numbers["errors"]["product"] > 0.1
    assert (
        "This does not hold: backprop; product, softmax and squared_error; product, softmax and cross_entropy"
        in printed
    )


def test_a_wrong_gradient_of_the_loss_changes_the_answer(monkeypatch):
    loss = jaxbp.Loss(jaxbp.squared_error.value, lambda o, y: 2 * (o - y), name="twice")
    monkeypatch.setattr(jaxbp, "squared_error", loss)
    numbers, printed = run()
    assert not numbers["holds"]
    np.testing.assert_allclose(numbers["pairs"]["softmax", "squared_error"]["product"], 1.0)
    assert "This does not hold" in printed


def test_where_the_product_overflows_the_simplification_is_left():
    numbers, printed = run(-1000.0, 1000.0)
    assert numbers["simplified"].tolist() == numbers["backprop"].tolist() == [-1, 1]
    assert np.isnan(numbers["product"]).any()
    assert numbers["holds"]
    assert "of the two forms only o − y is left" in printed


@pytest.mark.parametrize("logits", [(1000.0, -1000.0), (40.0, 0.0), (30.0, 0.0)])
def test_logits_that_are_right_already_teach_nothing_and_raise_no_alarm(logits):
    numbers, printed = run(*logits)
    assert numbers["holds"]
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
