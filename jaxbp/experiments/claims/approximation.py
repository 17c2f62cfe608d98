"""Universal approximation: how the error of one hidden layer falls with its width, for five functions.

    python -m experiments.approximation
    python -m experiments.approximation --quick
    python -m experiments.approximation --functions kink ripple --activation sigmoid --widths 2 8 32 128

One hidden layer and a linear output, fitted with squared error on a grid by the explicit gradient and Adam, several
times from other weights. The claim is about what a network can compute, so the best of these restarts counts. Its error
is measured on a finer grid, as the root mean square relative to the function's standard deviation: a constant has error
1. Writes `approximation.png`, the error over the width with fits in one dimension, and `surfaces.png`, fits in two.
Ends with exit code 1 should the error of a function not fall, or not far enough; with fewer units, restarts or steps
than when nothing is given, that is not decided.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

import jaxbp
from jaxbp.experiments.claims.full_batch import descended
from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.options import POSITIVE, check_options, full_size, listed, whole
from jaxbp.experiments.common.plots import plt, save
from jaxbp.experiments.common.verdicts import conclude, in_a_word, verdict

CLAIM = (
    "It has been shown that a network with a single hidden layer of nonlinear units (with a wide ranging choice of "
    "squashing functions like the sigmoid unit) and a single (linear) output layer can compute almost any “reasonable” "
    "function. As a result, neural networks are often referred to as universal function approximators, although this "
    "theoretical claim is not always easy to translate into practical usefulness."
)
PLACE = "The Multilayer Network as a Computational Graph"

LOSS = jaxbp.squared_error
GAIN = 10  # how many times smaller the error of the widest must be than that of the narrowest
FALLING = -0.8  # rank correlation of error and width: −1 where every further unit helps
POINTS = {1: (101, 401), 2: (17, 49)}  # along each axis: of the grid that is fitted, and of the one that is judged
STEEPNESS = (2.0, 12.0)  # of the ridges that restarts begin with, over the domain [−1, 1]
QUICK = {"widths": (1, 6, 32), "restarts": 3, "steps": 800}


class Target(NamedTuple):
    """A function to approximate on [−1, 1] or [−1, 1]²."""

    inputs: int
    formula: str
    value: Callable[[np.ndarray], np.ndarray]
    """From points `(points, inputs)` to `(points,)`."""


FUNCTIONS = {
    "smooth": Target(1, r"$1 / (1 + 25 x^2)$", lambda x: 1 / (1 + 25 * x[:, 0] ** 2)),
    "kink": Target(1, r"$|x|$", lambda x: np.abs(x[:, 0])),
    "oscillating": Target(1, r"$\sin 3 \pi x$", lambda x: np.sin(3 * np.pi * x[:, 0])),
    "product": Target(2, r"$x_1 x_2$", lambda x: x[:, 0] * x[:, 1]),
    "ripple": Target(2, r"$\cos(1.5 \pi |x|)$", lambda x: np.cos(1.5 * np.pi * np.linalg.norm(x, axis=1))),
}


@dataclass(frozen=True)
class Approximation:
    """Fit functions with one hidden layer of more and more units."""

    functions: tuple[str, ...] = tuple(FUNCTIONS)
    """By name: smooth, kink and oscillating in one dimension, product and ripple in two."""
    activation: Literal["tanh", "sigmoid"] = "tanh"
    """Of the hidden layer."""
    widths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """The numbers of hidden units, rising."""
    restarts: int = 6
    """Trainings of each network, from other weights; the best counts."""
    steps: int = 2000
    """Of Adam, each with the whole grid."""
    learning_rate: float = 0.03
    """Of the first step; it falls to 0 like a cosine."""
    bound: float = 0.05
    """The largest relative error that the widest network may have."""
    seed: int = 0
    """Fixes all weights to start from."""
    quick: bool = False
    """Three widths, fewer restarts and steps: seconds instead of a minute, too few to miss the bound by."""
    out: Path = Path("runs/approximation")
    """The folder to write to."""

    def __post_init__(self):
        unknown = [name for name in self.functions if name not in FUNCTIONS]
        if unknown or not self.functions:
            raise ValueError(f"functions are some of {', '.join(FUNCTIONS)}, got {', '.join(unknown) or 'none'}")
        if len(self.widths) < 2 or list(self.widths) != sorted(set(self.widths)) or self.widths[0] < 1:
            raise ValueError(f"widths must be two or more, rising from at least 1, got {listed(self.widths)}")
        check_options(self, restarts=whole(1, 1000), bound=POSITIVE)


@dataclass(frozen=True)
class Result:
    """The error of the best network of each width."""

    widths: tuple[int, ...]
    errors: Mapping[str, tuple[float, ...]]
    """Relative root mean square errors, one for each width, by the name of the function."""
    bound: float
    full: bool = True
    """Whether it was large enough to refute the claim by what it measured."""

    def correlation(self, name: str) -> float:
        """Spearman's rank correlation of width and error."""
        return float(spearmanr(self.widths, self.errors[name]).statistic)

    @property
    def worst_error(self) -> float:
        """The largest error of the widest networks."""
        return float(np.max([errors[-1] for errors in self.errors.values()]))

    @property
    def least_gain(self) -> float:
        """How many times smaller the widest network's error is than the narrowest's, where that is least."""
        return float(np.min([errors[0] / errors[-1] for errors in self.errors.values()]))

    @property
    def worst_correlation(self) -> float:
        """The rank correlation of the function whose error falls least regularly."""
        return float(np.max([self.correlation(name) for name in self.errors]))

    @property
    def holds(self) -> bool | None:
        """Whether the error of every function falls with the width, far enough."""
        # not so with NaN, which is above and below nothing
        measured = self.worst_error <= self.bound, self.least_gain >= GAIN, self.worst_correlation <= FALLING
        return verdict((), measured, refutes=self.full)

    @property
    def decision(self) -> str:
        """The numbers and their bounds in a line."""
        return (
            f"largest relative error with {self.widths[-1]} units {self.worst_error:.3f}, {self.bound:g} allowed; "
            f"at least {self.least_gain:.0f} times smaller than with {_units(self.widths[0])}, {GAIN} times needed; "
            f"rank correlation of error and width at most {self.worst_correlation:.2f}, {FALLING} or less needed: "
            f"{in_a_word(self.holds)}"
        )


class Fits(NamedTuple):
    """What the best networks compute on the finer grid, and their errors: one row for each width."""

    outputs: np.ndarray
    errors: np.ndarray


def main(config: Approximation, console: Console | None = None) -> Result:
    """Fit every function with every width, print the errors, and write the plots."""
    console = console or terminal()
    config = dataclasses.replace(config, **QUICK) if config.quick else config
    fits: dict[str, Fits] = {}
    for inputs in POINTS:
        names = [name for name in config.functions if FUNCTIONS[name].inputs == inputs]
        fits |= fitted(inputs, names, config) if names else {}
    errors = {name: tuple(map(float, fits[name].errors)) for name in config.functions}
    full = full_size(config, "restarts", "steps") and config.widths[-1] >= Approximation.widths[-1]
    result = Result(config.widths, errors, config.bound, full)
    wrote = ["approximation.png"]
    save_errors(result, fits, config, config.out / wrote[0])
    if surfaces := [name for name in fits if FUNCTIONS[name].inputs == 2]:
        wrote.append("surfaces.png")
        save_surfaces(surfaces, result, fits, config, config.out / wrote[1])
    console.print(_table(result, config))
    conclude(console, result, config.out, *wrote)
    return result


def grid(inputs: int, points: int) -> np.ndarray:
    """Evenly spaced points of [−1, 1] or [−1, 1]², `(points**inputs, inputs)`."""
    axes = [np.linspace(-1, 1, points)] * inputs
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, inputs)


def fitted(inputs: int, names: list[str], config: Approximation) -> dict[str, Fits]:
    """The best network of each width for each function of so many inputs."""
    x, x_fine = (grid(inputs, points) for points in POINTS[inputs])
    ys, truths = (np.stack([FUNCTIONS[name].value(points) for name in names])[..., None] for points in (x, x_fine))
    x, ys, x_fine = (jnp.asarray(array, jnp.float32) for array in (x, ys, x_fine))
    outputs, errors = [], []
    for width in config.widths:
        net = jaxbp.layered([inputs, width, 1], hidden=getattr(jaxbp, config.activation), output=jaxbp.linear)
        rng = np.random.default_rng((config.seed, inputs, width))
        starts = [start(rng, inputs, width, steep) for steep in np.geomspace(*STEEPNESS, config.restarts)]
        stacked = jax.tree.map(lambda *members: jnp.asarray(np.stack(members), jnp.float32), *starts)
        o = np.asarray(train(net, config.steps, config.learning_rate, stacked, x, ys, x_fine), np.float64)
        of_restarts = relative_errors(o, truths[:, None])
        best = np.argmin(of_restarts, axis=1)  # a NaN, if there is one
        outputs.append(o[np.arange(len(names)), best, :, 0])
        errors.append(of_restarts[np.arange(len(names)), best])
    return {name: Fits(np.stack(outputs)[:, i], np.stack(errors)[:, i]) for i, name in enumerate(names)}


@partial(jax.jit, static_argnums=(0, 1, 2))
def train(
    net: jaxbp.Network, steps: int, rate: float, starts: jaxbp.Params, x: Array, ys: Array, x_fine: Array
) -> Array:
    """Fit all functions from all starts at once.

    Args:
        net: The network.
        steps: How many updates, each with all examples.
        rate: The learning rate of the first one.
        starts: The parameters of all restarts, along a first axis.
        x: The points to fit, `(points, inputs)`.
        ys: The values there of each function, `(functions, points, 1)`.
        x_fine: Other points.

    Returns:
        The outputs of the trained networks at the other points, `(functions, restarts, points, 1)`.
    """

    def one(params: jaxbp.Params, y: Array) -> Array:
        return jaxbp.apply(net, descended(net, LOSS, steps, rate, params, x, y), x_fine)

    return jax.vmap(lambda y: jax.vmap(lambda params: one(params, y))(starts))(ys)


def start(rng: np.random.Generator, inputs: int, width: int, steepness: float) -> dict[str, dict[str, np.ndarray]]:
    """Weights whose ridges a = 0 lie all over the domain: of zero biases, all would cross its middle.

    Every hidden unit has ‖w‖ = steepness and a bias drawn from [−steepness, steepness].

    Args:
        rng: numpy's, because to compile jax's takes longer than the training.
        inputs: The number of inputs.
        width: The number of hidden units.
        steepness: Of the ridges.

    Returns:
        The parameters.

    Source: Nguyen and Widrow, "Improving the learning speed of 2-layer neural networks by choosing initial values of
    the adaptive weights", 1990.
    """
    W = rng.normal(size=(inputs, width))
    W *= steepness / np.linalg.norm(W, axis=0, keepdims=True)
    b = rng.uniform(-steepness, steepness, size=width)
    of_output = rng.normal(scale=width**-0.5, size=(width, 1))
    return {"h1": {"x": W, "bias": b}, "o": {"h1": of_output, "bias": np.zeros(1)}}


def relative_errors(o: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The root mean square of o − truth over the points, relative to the standard deviation of truth."""
    return np.sqrt(np.mean((o - truth) ** 2, axis=(-2, -1))) / np.std(truth, axis=(-2, -1))


def save_errors(result: Result, fits: dict[str, Fits], config: Approximation, path: Path) -> None:
    """The error over the width, and the fits of three widths to each function of one variable.

    Args:
        result: The errors.
        fits: The outputs, by the name of the function.
        config: What was trained.
        path: The PNG to write.
    """
    curves = [name for name in fits if FUNCTIONS[name].inputs == 1]
    panels = 1 + len(curves)
    columns = panels if panels < 4 else 2
    rows = -(-panels // columns)
    figure = plt.figure(figsize=(5.5 * columns, 3.7 * rows + 0.9), layout="constrained")
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(panels)]
    figure.suptitle(f"One hidden layer of {config.activation} units and a linear output")
    axis = axes[0]
    for (name, errors), marker in zip(result.errors.items(), cycle("os^Dv"), strict=False):
        axis.plot(result.widths, errors, marker=marker, label=f"{name}, {FUNCTIONS[name].formula}")
    axis.axhline(result.bound, color="grey", linestyle=":", label="allowed at the largest width")
    axis.set(xscale="log", yscale="log", xlabel="hidden units", ylabel="RMS error / standard deviation")
    axis.set_xticks(result.widths, map(str, result.widths))
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    in_row = 4 if columns == 3 else 2
    legend = "outside lower left" if curves else "outside lower center"
    figure.legend(*axis.get_legend_handles_labels(), title="error, by function", loc=legend, ncols=in_row, fontsize=9)
    x = grid(1, POINTS[1][1])
    for axis, name in zip(axes[1:], curves, strict=True):
        axis.plot(x[:, 0], FUNCTIONS[name].value(x), color="black", linewidth=3, alpha=0.3, label="true")
        for i, dashes in zip(_shown(result.widths), (":", "--", "-"), strict=False):
            label = _units(result.widths[i])
            axis.plot(x[:, 0], fits[name].outputs[i], linewidth=1.4, linestyle=dashes, label=label)
        axis.set(title=f"{name}, {FUNCTIONS[name].formula}", xlabel="input $x$", ylabel="output")
        axis.set_xticks((-1, -0.5, 0, 0.5, 1))
        axis.grid(alpha=0.3)
    if curves:
        handles = axes[-1].get_legend_handles_labels()
        figure.legend(*handles, title="output, by hidden units", loc="outside lower right", ncols=in_row, fontsize=9)
    save(figure, path)


def save_surfaces(names: list[str], result: Result, fits: dict[str, Fits], config: Approximation, path: Path) -> None:
    """Heat maps of each function of two variables: the truth, the fits of three widths, and the widest's difference.

    Args:
        names: Of the functions.
        result: The errors.
        fits: The outputs, by the name of the function.
        config: What was trained.
        path: The PNG to write.
    """
    shown = _shown(result.widths)
    columns = len(shown) + 2
    figure, axes = plt.subplots(
        len(names), columns, figsize=(3.2 * columns + 1, 2.8 * len(names) + 0.6), layout="constrained", squeeze=False
    )
    figure.suptitle(f"One hidden layer of {config.activation} units and a linear output")
    points = POINTS[2][1]
    for row, name in zip(axes, names, strict=True):
        truth = FUNCTIONS[name].value(grid(2, points))
        maps = [(f"{name}, {FUNCTIONS[name].formula}", truth)]
        maps += [
            (f"{_units(result.widths[i])}, error {result.errors[name][i]:.2g}", fits[name].outputs[i]) for i in shown
        ]
        low, high = truth.min(), truth.max()
        for axis, (title, values) in zip(row, maps, strict=False):  # the last is for the difference
            image = _heat_map(axis, values, title, low, high, "viridis")
        figure.colorbar(image, ax=row[:-1], label="output", pad=0.01, shrink=0.8)
        difference = fits[name].outputs[-1] - truth
        largest = float(np.nanmax(np.abs(difference), initial=1e-12))
        title = f"{_units(result.widths[-1])} − true"
        figure.colorbar(_heat_map(row[-1], difference, title, -largest, largest, "coolwarm"), ax=row[-1], shrink=0.8)
    for row in axes:
        row[0].set_ylabel("input $x_2$")
    for axis in axes[-1]:
        axis.set_xlabel("input $x_1$")
    save(figure, path)


def _heat_map(
    axis: plt.Axes, values: np.ndarray, title: str, low: float, high: float, colours: str
) -> plt.cm.ScalarMappable:
    axis.set_title(title, fontsize=10)
    square = values.reshape(POINTS[2][1], POINTS[2][1]).T  # rows along x_2, as they are drawn
    return axis.imshow(square, origin="lower", extent=(-1, 1, -1, 1), vmin=low, vmax=high, cmap=colours)


def _shown(widths: tuple[int, ...]) -> list[int]:
    return sorted({0, len(widths) // 2, len(widths) - 1})


def _units(width: int) -> str:
    return "1 unit" if width == 1 else f"{width} units"


def _table(result: Result, config: Approximation) -> Table:
    table = Table(title=f"relative error of the best of {config.restarts} by hidden units", title_justify="left")
    table.add_column("function", no_wrap=True)
    for column in (*map(str, result.widths), "rank\ncorr."):
        table.add_column(column, justify="right")
    for name, errors in result.errors.items():
        table.add_row(name, *(f"{error:.3f}" for error in errors), f"{result.correlation(name):.2f}")
    return table


if __name__ == "__main__":
    command_line(main, Approximation)
