"""What `second_order` trains: four networks with their losses and data."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import jaxbp
from jaxbp.experiments.common.data import pixels
from jaxbp.experiments.common.gpt import gpt
from jaxbp.experiments.common.text import load_text

Name = Literal["autoencoder", "classifier", "convolution", "gpt"]
CONTEXT = 32  # characters in a window
WINDOWS, UNSEEN = 20_000, 256  # that are learned from, and that are not
WINDOW_IN_EXAMPLES = 8  # how many images of the same step a window takes the place of


@dataclass(frozen=True, eq=False)
class Problem:
    """A network, its loss and its data.

    Attributes:
        net: The network.
        loss: The loss.
        x: Inputs.
        y: Targets.
        error: What is measured of parameters on data that is not trained on.
        measure: What that is.
        weights: One for each character where the loss is a mean over these.
        share: By how much fewer examples there are in a step.
    """

    net: jaxbp.Network
    loss: jaxbp.Loss
    x: np.ndarray
    y: np.ndarray
    error: Callable[[jaxbp.Params], jax.Array]
    measure: str
    weights: np.ndarray | None = None
    share: int = 1


def problem_of(name: Name, data_dir: Path | None, text: Path | None = None) -> Problem:
    """One of the four, on MNIST or scikit-learn's digits, or on a text."""
    return _gpt(text, small=data_dir is None) if name == "gpt" else _of_images(name, data_dir)


def _of_images(name: Name, data_dir: Path | None) -> Problem:
    x, y, x_test, y_test = pixels(data_dir)
    number, classes = x.shape[1], int(y.max()) + 1
    if name == "autoencoder":
        hidden = (1000, 500, 250) if data_dir else (128, 64, 32)
        widths = [number, *hidden, 30 if data_dir else 16, *reversed(hidden), number]
        activations = [jaxbp.linear if i == len(hidden) else jaxbp.tanh for i in range(2 * len(hidden) + 1)]
        net = jaxbp.layered(widths, hidden=activations, output=jaxbp.sigmoid)
        return Problem(net, jaxbp.binary_cross_entropy, x, x, _lost(net, x_test), "squared error of a reconstruction")
    if name == "convolution":
        side = int(number**0.5)
        x, x_test = (np.reshape(part, (-1, side, side, 1)) for part in (x, x_test))
        net = _convolutional(side, classes)
    else:
        width = 512 if data_dir else 64
        net = jaxbp.layered([number, width, width, classes], hidden=jaxbp.relu, output=jaxbp.softmax)
    return Problem(net, jaxbp.cross_entropy, x, y, _wrong(net, x_test, y_test), "share of wrong classes")


def _convolutional(side: int, classes: int) -> jaxbp.Network:
    """Two convolutions with pools, and a dense layer."""
    half, quarter = side // 2, side // 4
    pool = jaxbp.MaxPool((2, 2))
    units = {
        "c1": jaxbp.Unit((side, side, 8), jaxbp.relu, {"x": jaxbp.Conv((3, 3))}),
        "p1": jaxbp.Unit((half, half, 8), jaxbp.linear, {"c1": pool}, bias=False),
        "c2": jaxbp.Unit((half, half, 16), jaxbp.relu, {"p1": jaxbp.Conv((3, 3))}),
        "p2": jaxbp.Unit((quarter, quarter, 16), jaxbp.linear, {"c2": pool}, bias=False),
        "flat": jaxbp.Unit(quarter**2 * 16, jaxbp.linear, {"p2": jaxbp.Flatten()}, bias=False),
        "o": jaxbp.Unit(classes, jaxbp.softmax, {"flat": jaxbp.Dense()}),
    }
    return jaxbp.Network(inputs={"x": (side, side, 1)}, units=units)


def _gpt(text: Path | None, *, small: bool) -> Problem:
    """The next character of windows of a text, with a loss that is the mean over characters."""
    of_text = load_text(text, CONTEXT)
    vocabulary = len(of_text.characters)
    net = gpt(vocabulary, CONTEXT, layers=2, heads=2, width=16 if small else 64)
    x, y = _windows(of_text.train, WINDOWS // 10 if small else WINDOWS)
    x_test, y_test = _windows(of_text.validation, UNSEEN)
    value = jax.jit(jaxbp.objective(net, jaxbp.cross_entropy))
    error = partial(value, x=x_test, y=y_test, weights=np.ones(y_test.shape, np.float32))
    weights = np.ones(y.shape, np.float32)
    return Problem(
        net, jaxbp.cross_entropy, x, y, error, "loss of a character", weights=weights, share=WINDOW_IN_EXAMPLES
    )


def _windows(tokens: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    starts = np.random.default_rng(0).integers(0, len(tokens) - CONTEXT, number)
    rows = tokens[starts[:, None] + np.arange(CONTEXT + 1)].astype(np.int32)
    return rows[:, :-1], rows[:, 1:]


# data goes in as an argument, for XLA would compute with constants while it compiles


def _wrong(net: jaxbp.Network, x: np.ndarray, y: np.ndarray) -> Callable[[jaxbp.Params], Any]:
    share = jax.jit(lambda params, x, y: jnp.mean(jnp.argmax(jaxbp.apply(net, params, x), axis=-1) != y))
    return partial(share, x=x, y=y)


def _lost(net: jaxbp.Network, x: np.ndarray) -> Callable[[jaxbp.Params], Any]:
    lost = jax.jit(lambda params, x: jnp.mean(jnp.sum((jaxbp.apply(net, params, x) - x) ** 2, axis=-1)))
    return partial(lost, x=x)
