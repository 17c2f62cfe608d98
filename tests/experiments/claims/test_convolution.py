"""The convolutional network: the dense form of its weights, and what is decided by it."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import jaxbp
from jaxbp.experiments.claims import convolution, dense_form
from jaxbp.experiments.claims.convolution import Convolution, Result, Trained
from jaxbp.experiments.claims.dense_form import dense_form_errors

KERNELS = {"c1": (3, 3, 1, 2), "c2": (3, 3, 2, 3)}
GOOD = Result(
    data="mnist",
    convolutional=Trained(100, (0.1, 0.9, 0.98), 2.0),
    connected=Trained(101, (0.1, 0.8, 0.96), 1.0),
    floor=0.97,
    errors={"delta.c1": 1e-15, "Delta.x": 1e-16},
)


def errors():
    rng = np.random.default_rng(0)
    kernels = {u: rng.normal(size=shape) for u, shape in KERNELS.items()}
    return dense_form_errors(kernels, rng.normal(size=(2, 8, 7, 1)), seed=0)


def test_the_dense_form_has_the_same_signals_and_summed_gradients():
    found = errors()
    grads = {"grad.c1.x", "grad.c1.bias", "grad.c2.c1", "grad.c2.bias"}
    assert set(found) == {"delta.c1", "delta.c2", "Delta.c1", "Delta.c2", "Delta.x"} | grads
    assert max(found.values()) <= 1e-12
    assert replace(GOOD, errors=found).holds


@pytest.mark.parametrize(
    ("method", "sabotaged", "wrong", "right"),
    [
        ("pull_back", lambda it, self, W, h, d: it(self, jnp.flip(W, (0, 1)), h, d), "Delta.c1", "Delta.c2"),
        ("contract", lambda it, self, W, h, d: it(self, W, jnp.roll(h, 1, 1), d), "grad.c1.x", "Delta.x"),
    ],
    ids=["kernel not flipped", "windows moved"],
)
def test_a_sabotaged_backward_pass_decides_against_it(method, sabotaged, wrong, right, monkeypatch):
    original = getattr(jaxbp.Conv, method)
    monkeypatch.setattr(jaxbp.Conv, method, lambda *arguments: sabotaged(original, *arguments))
    found = errors()
    assert found[wrong] > 1e-2
    assert found[right] <= 1e-12
    result = replace(GOOD, errors=found)
    assert not result.holds
    assert result.decision.endswith("does not hold")


def test_the_dense_form_counts_the_elements_of_the_kernel():
    table = dense_form.elements(jaxbp.Conv((2, 2)), (2, 3, 1), (2, 3, 1))
    assert table.tolist() == [
        [0, -1, -1, -1, -1, -1],
        [1, 0, -1, -1, -1, -1],
        [-1, 1, 0, -1, -1, -1],
        [2, -1, -1, 0, -1, -1],
        [3, 2, -1, 1, 0, -1],
        [-1, 3, 2, -1, 1, 0],
    ]


def test_every_number_decides():
    assert GOOD.holds
    assert GOOD.decision == (
        "test accuracy on mnist 0.9800, at least 0.97 asked for and more than the 0.9600 of a fully connected "
        "network; largest relative error of the dense form 1.0e-15, at most 1e-10 allowed: holds"
    )
    for spoilt in (
        {"floor": 0.99},
        {"connected": replace(GOOD.connected, accuracies=(0.1, 0.98))},
        {"errors": {"delta.c1": 1e-9}},
        {"errors": {"delta.c1": 1e-15, "Delta.x": float("nan")}},
    ):
        assert not replace(GOOD, **spoilt).holds


def test_the_fully_connected_network_has_no_fewer_parameters():
    for side in (8, 28):
        ours, theirs = convolution.network(side, 10), convolution.fully_connected(side, 10)
        assert 1 <= theirs.parameter_count / ours.parameter_count < 1.02


def test_a_run_writes_its_plot_and_says_what_it_found(tmp_path, monkeypatch):
    """All but the training, which the slow test does."""

    def untrained(net, x, x_test, data, config):
        assert (config.epochs, config.batch_size) == (2, 32)
        params = {
            u: {s: np.cos(np.arange(np.prod(shape)).reshape(shape)) for s, shape in net.weight_shapes[u].items()}
            for u in net.weight_shapes
        }
        return (GOOD.convolutional if len(net.units) > 2 else GOOD.connected), params

    monkeypatch.setattr(convolution, "train", untrained)
    console = Console(record=True, width=200)
    result = convolution.main(Convolution(epochs=2, out=tmp_path / "out"), console)
    assert result.holds is None
    assert result.decision.endswith(": not decided at this size")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["convolution.png"]
    assert (tmp_path / "out" / "convolution.png").stat().st_size > 10_000
    assert result.decision in " ".join(console.export_text().split())


def test_accuracies_decide_nothing_on_the_digits():
    for accuracy in (0.99, 0.96, 0.5):
        digits = replace(GOOD, floor=None, connected=replace(GOOD.connected, accuracies=(0.1, accuracy)))
        assert digits.holds is None
        assert f"0.9800 beside the {accuracy:.4f} of a fully connected network" in digits.decision
        assert "the dense form, which alone is decided, 1.0e-15" in digits.decision
        assert digits.decision.endswith(": not decided at this size")
        assert replace(digits, errors={"delta.c1": 1e-9}).decision.endswith(": does not hold")


def test_too_few_epochs_do_not_refute_but_a_wrong_dense_form_does():
    short = replace(GOOD, full=False)
    assert short.holds is True
    assert replace(short, floor=0.99).holds is None
    assert replace(short, errors={"delta.c1": 1e-9}).holds is False


@pytest.mark.slow
def test_the_digits_are_learned(tmp_path):
    result = convolution.main(Convolution(out=tmp_path))
    assert result.holds is None
    assert result.error <= 1e-10
    assert result.convolutional.accuracy > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": -1}, "batch_size must be at least 1, got -1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive and finite, got 0.0"),
        ({"batch_size": 2000}, "batch_size is 2000, but digits has 1437 training images"),
    ],
)
def test_bad_input_is_refused_by_name(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        convolution.main(Convolution(out=tmp_path / "out", **options))
    assert not (tmp_path / "out").exists()
