"""Overfitting: what holds at small size, what sabotage does, what decides, and what is refused."""

import io
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import jaxbp
from jaxbp.experiments.claims.noisy_digits import Parts, split
from jaxbp.experiments.claims.overfitting import (
    Overfitting,
    Remedy,
    Result,
    Width,
    classifier,
    error,
    loss,
    main,
    trained,
)

pytestmark = pytest.mark.slow  # training takes its time

SMALL = Overfitting(widths=(1, 64), examples=80, steps=300, learning_rate=0.01, weight_decay=3.0, seeds=2)


NARROW = Width(1, 85, np.array([0.6, 0.5]), np.array([0.7, 0.8]))
WIDE = Width(64, 4810, np.zeros(2), np.array([0.2, 0.3]))
PLAIN = Remedy("none", np.array([[0.5, 1.0], [0.7, 1.0]]), np.array([1, 1]))
EARLY = replace(PLAIN, stops=np.array([0, 0]))
SLIGHT = replace(PLAIN, curves=np.array([[0.5, 0.95], [0.7, 0.95]]))
GOOD = Result((NARROW, WIDE), 80, np.ones(3), np.full(3, 0.1), PLAIN, (EARLY, EARLY))


def run(tmp_path, **options):
    console = Console(file=io.StringIO(), width=120)
    return main(replace(SMALL, **options, out=tmp_path / "out"), console), console.file.getvalue()


def test_the_claim_holds_and_the_plot_is_written(tmp_path):
    result, printed = run(tmp_path)
    assert result.holds is None  # two seeds, by which the remedies were chosen
    assert result.decision.endswith(", over 2 seeds: not decided at this size")
    assert replace(result, memorised=np.ones(3)).decision.endswith(", over 3 seeds: holds")
    assert result.decision in " ".join(printed.split())
    assert [w.parameters for w in result.widths] == [85, 4810]
    assert result.plain.curves.shape == (2, 60)
    early = result.remedies[1]
    assert np.all(early.stops < 59)
    np.testing.assert_array_equal(early.curves, result.plain.curves)
    assert (tmp_path / "out" / "overfitting.png").read_bytes().startswith(b"\x89PNG")


def test_a_wrong_backward_pass_memorises_nothing(monkeypatch):
    monkeypatch.setattr(jaxbp.Dense, "contract", lambda self, W, h, delta: jnp.zeros_like(W))
    one = replace(SMALL, seeds=1)
    parts = Parts(*(part[None] for part in split(0, 80, 50, 0.2)))
    curves = trained(classifier(63), parts, np.float32([0]), one)  # another width: traces are cached by network
    assert np.all(curves.train_error[:, -1] > 0.5)
    for felt in (
        {"memorised": 1 - curves.train_error[:, -1]},
        {"widths": (NARROW, Width(63, 4735, curves.train_error[:, -1], curves.test_error[:, -1]))},
    ):
        assert replace(GOOD, **felt).decision.endswith("does not hold")


def test_labels_are_random_in_training_and_validation_only():
    true, noisy = split(3, 80, 50, 0.0), split(3, 80, 50, 0.2)
    assert [len(part) for part in noisy[::2]] == [80, 50, 1797 - 130]
    for name in ("x", "x_validation", "x_test", "y_test"):
        np.testing.assert_array_equal(getattr(true, name), getattr(noisy, name))
    for name in ("y", "y_validation"):
        assert 0.05 < np.mean(getattr(true, name) != getattr(noisy, name)) < 0.35


def test_error_and_loss_by_hand():
    logits = np.log(np.array([0.5, 0.25, 0.25]) * np.ones((1, 1, 4, 1)))
    y = np.array([[0, 0, 1, 0]])
    np.testing.assert_allclose(error(logits, y), [[0.25]], rtol=1e-15)
    np.testing.assert_allclose(loss(logits, y), [[1.25 * np.log(2)]], rtol=1e-14)
    assert classifier(3).parameter_count == 64 * 3 + 3 + 3 * 10 + 10


def test_each_number_decides():
    assert GOOD.holds
    np.testing.assert_allclose(GOOD.gains, 0.4, rtol=1e-12)
    for spoilt in (
        {"widths": (replace(NARROW, train_error=np.full(2, 0.1)), WIDE)},
        {"widths": (NARROW, replace(WIDE, train_error=np.array([0, 0.01])))},
        {"widths": (NARROW, replace(WIDE, test_error=np.full(2, 0.05)))},
        {"widths": (NARROW, replace(WIDE, test_error=np.full(2, np.nan)))},
        {"examples": 5000},
        {"memorised": np.array([1, 0.99, 1])},
        {"chance": np.full(2, 0.3)},
        {"chance": np.full(2, np.nan)},
        {"remedies": (EARLY, SLIGHT)},
        {"remedies": (EARLY, replace(PLAIN, curves=np.full((2, 2), np.nan)))},
    ):
        bad = replace(GOOD, **spoilt)
        assert bad.holds is False
        assert bad.decision.endswith("does not hold")
        assert replace(bad, full=False).holds is None
    assert replace(GOOD, memorised=np.ones(2)).decision.endswith(", over 2 seeds: not decided at this size")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": (4,)}, "widths must be two or more growing numbers of at least 1, got 4"),
        ({"widths": ()}, "widths must be two or more growing numbers of at least 1, got none"),
        ({"widths": (0, 4)}, "widths must be two or more growing numbers of at least 1, got 0 4"),
        ({"widths": (4, 2)}, "widths must be two or more growing numbers of at least 1, got 4 2"),
        ({"examples": 9}, "examples must be at least 10, one for each digit, got 9"),
        ({"validation": 0}, "validation must be at least 10, one for each digit, got 0"),
        ({"examples": 1750}, "must leave 10 of the 1797 digits for the test, got 1750 and 50"),
        ({"steps": 12}, "steps must be a multiple of 5, got 12"),
        ({"steps": 0}, "steps must be a multiple of 5, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive and finite, got 0.0"),
        ({"weight_decay": float("nan")}, "weight_decay must be positive and finite, got nan"),
        ({"noise": 1.5}, "noise must be at least 0 and at most 1, got 1.5"),
        ({"dropout": 0.0}, "dropout must be above 0 and below 1, got 0.0"),
        ({"dropout": 1.0}, "dropout must be above 0 and below 1, got 1.0"),
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_trained_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Overfitting(**options)
