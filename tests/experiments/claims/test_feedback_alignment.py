"""Feedback alignment, run: the angles that are measured, what would change the verdict, and what is refused."""

import io
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import jaxbp
from jaxbp.experiments.claims.feedback_alignment import (
    BACKPROPAGATION,
    DIRECT,
    KOLEN_POLLACK,
    RANDOM,
    SIGNS,
    Comparison,
    Rule,
    Run,
    compare,
    complaints,
    main,
    network,
    rules,
)
from jaxbp.experiments.common.data import load

pytestmark = pytest.mark.slow

SMALL = Comparison(hidden=(24, 24), epochs=3, learning_rate=0.05)
STEPS = 1437 // 32


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """One run of the whole experiment: the result, what was printed, and the folder."""
    out, console = tmp_path_factory.mktemp("run") / "out", Console(file=io.StringIO(), width=120)
    return main(replace(SMALL, out=out), console), console.file.getvalue(), out


def test_w_turns_towards_the_feedback_and_the_plot_is_written(done):
    result, printed, out = done
    runs, wrong = result.runs, result.complaints
    assert list(runs) == [BACKPROPAGATION, RANDOM, DIRECT, SIGNS, KOLEN_POLLACK]
    for run in runs.values():
        assert run.accuracy[-1] > 0.8
        assert run.steps.tolist() == [*range(STEPS), STEPS, 2 * STEPS, 3 * STEPS]
        assert {u: len(angles) for u, angles in run.angles.items()} == {"h1": STEPS + 3, "h2": STEPS + 3}
    assert all(np.all(angles == 0) for angles in runs[BACKPROPAGATION].angles.values())
    # three epochs are enough for all but the end of Kolen-Pollack, which is a matter of decay
    assert [complaint for complaint in wrong if KOLEN_POLLACK not in complaint] == []
    assert all(angles[-1] < angles[0] - 30 for angles in runs[KOLEN_POLLACK].angles.values())

    assert (out / "feedback_alignment.png").read_bytes().startswith(b"\x89PNG")
    assert f"{runs[DIRECT].angles['h1'][0]:.0f} → {runs[DIRECT].angles['h1'][-1]:.0f}" in printed
    assert result.decision in " ".join(printed.split())
    assert result.holds is (None if wrong else True)  # after three epochs
    turned = replace(result, complaints=("under x, h1 is at 90°",))
    assert turned.decision.endswith("h1 is at 90°: not decided at this size")
    assert replace(turned, full=True).decision.endswith("h1 is at 90°: does not hold")


def test_feedback_that_does_not_stay_does_not_align_and_flipped_signs_point_away(done):
    data = load("digits")
    net = network(SMALL, data)
    right = rules(net, 0)
    explicit = jaxbp.value_and_grad(net, jaxbp.cross_entropy)

    def redrawn(params):
        bits = jax.lax.bitcast_convert_type(params["o"]["h2"][0, 0], jnp.uint32)  # others after every step
        return jaxbp.feedback.random_feedback(jax.random.key(bits), net, jnp.float32)

    def flipped(params):
        return jax.tree.map(lambda B: -B, right[SIGNS].feedback(params))

    def learning_by(feedback):
        gradient = lambda params, x, y: explicit(params, x, y, feedback=feedback(params))  # noqa: E731
        return Rule(right[RANDOM].start, gradient, feedback=feedback)

    runs = compare(net, {RANDOM: learning_by(redrawn), SIGNS: learning_by(flipped)}, data, replace(SMALL, epochs=1))
    wrong = "; ".join(complaints(net, done[0].runs | runs))
    assert done[0].runs[RANDOM].angles["h2"][STEPS] < 75  # one epoch is enough for feedback that stays
    assert abs(np.mean(runs[RANDOM].angles["h2"]) - 90) < 3
    assert np.min(runs[SIGNS].angles["h2"]) > 90
    for u in ("h1", "h2"):
        assert f"under {RANDOM}, {u} is at {runs[RANDOM].angles[u][-1]:.1f}° after training" in wrong
    assert f"under {SIGNS}, h2 is at" in wrong


def test_all_rules_start_from_the_same_parameters_and_from_feedback_that_is_not_theirs():
    net = jaxbp.layered([3, 4, 2], output=jaxbp.softmax)
    made = rules(net, 0)
    for rule in made.values():
        assert rule.params(rule.start) is made[BACKPROPAGATION].start
        assert rule.decays == (rule is made[KOLEN_POLLACK])
    W, B = made[KOLEN_POLLACK].start
    assert made[RANDOM].feedback(W) is B
    assert not np.allclose(W["o"]["h1"], B["o"]["h1"])


NET = jaxbp.layered([3, 100, 100, 2], output=jaxbp.softmax)  # chance is 17°


def run_with(accuracy=0.97, h1=(90.0, 60.0), h2=(90.0, 60.0)):
    return Run([accuracy], np.array([0, 1]), {"h1": np.array(h1), "h2": np.array(h2)}, [0.0])


GOOD = {name: run_with() for name in (BACKPROPAGATION, RANDOM, DIRECT)} | {
    SIGNS: run_with(h1=(60.0, 40.0)),
    KOLEN_POLLACK: run_with(h1=(90.0, 3.0), h2=(90.0, 3.0)),
}
GOOD[SIGNS].angles["h2"][0] = 70.0


@pytest.mark.parametrize(
    ("name", "spoilt", "complaint"),
    [
        (RANDOM, {"h1": (72.0, 60.0)}, "h1 is at 72.0° before training, expected 90° ± 17°"),
        (DIRECT, {"h2": (108.0, 60.0)}, "h2 is at 108.0° before training"),
        (RANDOM, {"h1": (90.0, 86.0)}, "h1 is at 86.0° after training, expected below 80.0°"),
        (RANDOM, {"h1": (99.0, 86.0)}, "h1 is at 86.0° after training, expected below 85.0°"),
        (DIRECT, {"h2": (90.0, 71.0)}, "h2 is at 71.0° after training, expected below 70.0°"),
        (DIRECT, {"h1": (90.0, np.nan)}, "h1 is at nan° after training"),
        (SIGNS, {"h1": (91.0, 40.0)}, "h1 is at 91.0° during training"),
        (KOLEN_POLLACK, {"h1": (90.0, 3.0), "h2": (90.0, 16.0)}, "h2 is at 16.0° after training, expected below 15.0°"),
        (SIGNS, {"accuracy": 0.91, "h1": (60.0, 40.0), "h2": (70.0, 40.0)}, "reaches 0.9100, expected within 0.05"),
    ],
)
def test_each_number_decides(name, spoilt, complaint):
    assert complaints(NET, GOOD) == []
    kept = {u: tuple(angles) for u, angles in GOOD[name].angles.items()}
    (wrong,) = complaints(NET, GOOD | {name: run_with(**(kept | spoilt))})
    assert name in wrong
    assert complaint in wrong


def test_a_run_that_diverges_says_by_which_rule(tmp_path):
    options = replace(SMALL, hidden=(8,), activation="linear", learning_rate=1e30, out=tmp_path / "out")
    with pytest.raises(jaxbp.train.DivergedError, match=r"in epoch 1 .* the loss under backpropagation"):
        main(options, Console(file=io.StringIO()))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": ()}, "hidden is empty, but only hidden layers get feedback; pass e.g. --hidden 128"),
        ({"hidden": (8, 0)}, "hidden must be at least 1, got 8 0"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive and finite, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive and finite, got nan"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1, got 1.0"),
        ({"decay": -0.1}, "decay must be at least 0 and finite, got -0.1"),
        ({"data": "diabetes"}, "diabetes is a regression, .* pass one of digits, iris, wine, breast_cancer"),
        ({"data": "digit"}, r"unknown data set 'digit' \(did you mean 'digits'\?\)"),
        ({"data": "mnist"}, "pass their folder with --data-dir"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        main(replace(SMALL, **options, out=tmp_path / "out"), Console(file=io.StringIO()))
    assert not (tmp_path / "out").exists()
