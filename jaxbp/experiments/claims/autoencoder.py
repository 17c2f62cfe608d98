"""Autoencoders: the shallow linear one finds what the singular value decomposition finds, and the deep one finds more.

    python -m experiments.autoencoder
    python -m experiments.autoencoder --quick
    python -m experiments.autoencoder --code 5 --hidden 48 24 --out runs/five_numbers

All learn to give back the digits that they read, 8 × 8 pixels, through a code of a few numbers: a linear network, the
same with one matrix W as its encoder and Wᵀ as its decoder, and a deep network of tanh units around a linear code.
Each step descends the explicit gradient of the squared error over all training examples, by Adam, in float64. The mean
image is subtracted first, so that the biases of the deep network are no advantage.

The subspace of a linear network is that of its decoder's rows, and the angle to the first right singular vectors of
the data the largest principal one. Errors are ‖X − X̂‖² / ‖X‖², the share of the data that is lost. Writes
`autoencoder.png`; ends with exit code 1 should a linear network miss the subspace or the error of the truncated
decomposition, the deep one not lose less of the test part, or the gradient of the tied W differ from that of jax.grad.
The gradient aside, this is not decided where it is missed after fewer steps than when nothing is given.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Array
from matplotlib.figure import SubFigure
from rich.console import Console
from rich.table import Table
from scipy.linalg import subspace_angles

import jaxbp
from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.data import load
from jaxbp.experiments.common.options import check_options, full_size, listed
from jaxbp.experiments.common.plots import plt, save
from jaxbp.experiments.common.verdicts import conclude, in_a_word, verdict

CLAIM = (
    "In fact, a shallow variant of this scheme can be shown to be mathematically equivalent to a well-known "
    "dimensionality reduction method known as singular value decomposition. Increasing the depth of the network "
    "results in inherently more powerful reductions."
)
PLACE = "Mutli Layer Neural Networks, back propagation"  # the chapter's title, as it is spelt there

LOSS = jaxbp.squared_error
LINEAR, TIED, DEEP = "linear", "linear, tied", "deep"
SIDE = 8  # pixels
QUICK_STEPS = 400
MOST_ANGLE = 1.0  # degrees, from the singular vectors
MOST_EXCESS = 0.01  # of the error, over that of the truncated decomposition
MOST_DIFFERENCE = 1e-10  # of the gradients, relative


@dataclass(frozen=True)
class Reduction:
    """Train three autoencoders on digits, and compare them with the singular value decomposition."""

    code: int = 2
    """The width of the code."""
    hidden: tuple[int, ...] = (32,)
    """The widths of the deep encoder's hidden layers, first to last; the decoder has the same in reverse."""
    steps: int = 1000
    """Updates, each from the whole training part."""
    learning_rate: float = 0.01
    """Of the first step; it falls to 0 like a cosine."""
    seed: int = 0
    """Fixes the split and the weights."""
    quick: bool = False
    """400 steps at most, for a look: seconds."""
    out: Path = Path("runs/autoencoder")
    """The folder to write to."""

    def __post_init__(self):
        if not 2 <= self.code < SIDE**2:
            raise ValueError(f"code must be at least 2, to be drawn, and below {SIDE**2} pixels, got {self.code}")
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(
                f"hidden must be widths of at least 1, got {listed(self.hidden)}; "
                "without hidden layers the deep network is the shallow one"
            )
        check_options(self)


class Images(NamedTuple):
    """The digits, those of the training part first."""

    x: np.ndarray
    """`(images, pixels)`, less the mean."""
    mean: np.ndarray
    """Of each pixel over the training part, `(pixels,)`."""
    digits: np.ndarray
    """What they show; nothing is trained by it."""
    train: slice
    """Which of them are the training part,"""
    test: slice
    """and which the test part."""


class Trained(NamedTuple):
    """A trained autoencoder, and what it makes of each image, those of the training part first."""

    net: jaxbp.Network
    params: jaxbp.Params
    errors: np.ndarray
    """On the training part before each step, `(steps,)`."""
    code: np.ndarray
    """`(images, code)`."""
    output: np.ndarray
    """`(images, pixels)`."""


@dataclass(frozen=True)
class Errors:
    """The share ‖X − X̂‖² / ‖X‖² of each part that a reduction loses."""

    train: float
    test: float


@dataclass(frozen=True)
class Result:
    """What decides."""

    svd: Errors
    """Of the truncated singular value decomposition of the training part."""
    errors: dict[str, Errors]
    """Of the autoencoders, by name."""
    angles: dict[str, float]
    """Of the linear ones to the first right singular vectors, in degrees."""
    gradient_difference: float
    """Of the tied W's gradient from jax.grad's, relative."""
    full: bool = True
    """Whether it was large enough to refute the claim by what it measured."""

    def excess(self, name: str) -> float:
        """The training error over that of the truncated decomposition, as a share of it."""
        return self.errors[name].train / self.svd.train - 1

    @property
    def ratio(self) -> float:
        """The deep network's test error by that of the truncated decomposition."""
        return self.errors[DEEP].test / self.svd.test

    @property
    def holds(self) -> bool | None:
        """Whether the linear networks are the decomposition, and the deep one is better."""
        same = (self.angles[name] < MOST_ANGLE and self.excess(name) <= MOST_EXCESS for name in (LINEAR, TIED))
        return verdict([self.gradient_difference <= MOST_DIFFERENCE], [*same, self.ratio < 1], refutes=self.full)

    @property
    def decision(self) -> str:
        """The numbers and their bounds in a line."""
        angle = np.max(list(self.angles.values()))  # NaN if one is
        excess = np.max([self.excess(name) for name in (LINEAR, TIED)])
        return (
            f"the linear autoencoders, tied or not, are {angle:.2g}° from the singular vectors, below {MOST_ANGLE:g}° "
            f"allowed, with {excess:.1e} more error, at most {MOST_EXCESS:g} allowed; the deep one has "
            f"{self.ratio:.2f} of the decomposition's test error, below 1 allowed; the tied gradient differs "
            f"from jax.grad's by {self.gradient_difference:.1e}, at most {MOST_DIFFERENCE:g} allowed: "
            f"{in_a_word(self.holds)}"
        )


def main(config: Reduction, console: Console | None = None) -> Result:
    """Train the autoencoders, compare them with the decomposition, print a table and write the plot.

    Raises:
        jaxbp.train.DivergedError: A loss was not finite.
    """
    console = console or terminal()
    config = replace(config, steps=min(config.steps, QUICK_STEPS)) if config.quick else config
    with jax.enable_x64(True):
        images = load_images(config.seed)
        nets = networks(config)
        runs = {name: trained(name, net, images, config) for name, net in nets.items()}
        difference = gradient_difference(nets[TIED], images.x[images.train], config.seed)
        V = np.linalg.svd(images.x[images.train], full_matrices=False)[2][: config.code].T
        outputs = {"svd": images.x @ V @ V.T} | {name: run.output for name, run in runs.items()}
        errors = {
            name: Errors(*(lost(images.x[part], output[part]) for part in (images.train, images.test)))
            for name, output in outputs.items()
        }
        angles = {name: angle_to(V, decoder(runs[name])) for name in (LINEAR, TIED)}
        result = Result(errors.pop("svd"), errors, angles, difference, full_size(config, "steps"))
        save_plot(result, runs, outputs, images, config.out / "autoencoder.png")
    console.print(_table(result, runs))
    conclude(console, result, config.out, "autoencoder.png")
    return result


def load_images(seed: int) -> Images:
    """The digits, less the mean image of the training part."""
    data = load("digits", seed=seed, dtype=np.float64)
    mean, examples = data.x_train.mean(axis=0), len(data.x_train)
    x, y = np.concatenate([data.x_train, data.x_test]) - mean, np.concatenate([data.y_train, data.y_test])
    return Images(x, mean, y, slice(examples), slice(examples, None))


def networks(config: Reduction) -> dict[str, jaxbp.Network]:
    """The three autoencoders by name."""
    pixels, code = SIDE**2, config.code
    W = jaxbp.Dense(share="W")
    tied = jaxbp.Network(
        inputs={"x": pixels},
        units={
            "h1": jaxbp.Unit(code, jaxbp.linear, {"x": W}, bias=False),
            "o": jaxbp.Unit(pixels, jaxbp.linear, {"h1": jaxbp.Transposed(W)}, bias=False),
        },
    )
    sides = [jaxbp.tanh] * len(config.hidden)
    return {
        LINEAR: jaxbp.layered([pixels, code, pixels], hidden=jaxbp.linear, output=jaxbp.linear, bias=False),
        TIED: tied,
        DEEP: jaxbp.layered(
            [pixels, *config.hidden, code, *config.hidden[::-1], pixels],
            hidden=[*sides, jaxbp.linear, *sides],
            output=jaxbp.linear,
        ),
    }


def trained(name: str, net: jaxbp.Network, images: Images, config: Reduction) -> Trained:
    """An autoencoder, trained to give back the training part.

    Raises:
        jaxbp.train.DivergedError: A loss was not finite.
    """
    x, key = images.x[images.train], jax.random.key(config.seed)
    params, losses, code, output = train(net, config.steps, key, config.learning_rate, x, images.x)
    losses = np.asarray(losses)
    finite = np.isfinite(losses)
    if not finite.all():
        # a step is an epoch here
        raise jaxbp.train.DivergedError(int(np.argmin(finite)) + 1, 1, f"the loss of the autoencoder {name!r}")
    of_zeros = np.sum(x**2) / 2 / len(x)
    return Trained(net, params, losses / of_zeros, np.asarray(code), np.asarray(output))


@partial(jax.jit, static_argnums=(0, 1))
def train(
    net: jaxbp.Network, steps: int, key: Array, rate: float, x: Array, images: Array
) -> tuple[jaxbp.Params, Array, Array, Array]:
    """So many steps of Adam, each with all examples.

    Args:
        net: The autoencoder.
        steps: The number of updates.
        key: For the weights to start from.
        rate: The learning rate of the first step.
        x: The examples, inputs and targets, `(examples, pixels)`.
        images: What to show the trained network, `(images, pixels)`.

    Returns:
        The parameters; the loss before each step, `(steps,)`; the middle layer's code of the images, and the output.
    """
    gradient = jaxbp.value_and_grad(net, LOSS)
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def body(state: jaxbp.train.TrainState, _: None) -> tuple[jaxbp.train.TrainState, Array]:
        return jaxbp.train.step(state, x, x, gradient=gradient, optimizer=optimizer)

    state, losses = jax.lax.scan(body, jaxbp.train.init_state(key, net, optimizer), length=steps)
    h = jaxbp.forward(net, state.params, images).h
    return state.params, losses, h[net.order[(len(net.order) - 1) // 2]], h[net.output]


def gradient_difference(net: jaxbp.Network, x: np.ndarray, seed: int) -> float:
    """‖ours − jax.grad's‖ / ‖jax.grad's‖ for fresh weights: the largest over the parameters."""
    params = jaxbp.init_params(jax.random.key(seed), net)
    # one program each: in a common one the compiler would see that both are the same
    ours = jax.jit(jaxbp.value_and_grad(net, LOSS))(params, x, x)[1]
    theirs = jax.jit(jax.grad(jaxbp.objective(net, LOSS)))(params, x, x)
    ratios = jax.tree.map(lambda g, true: np.linalg.norm(g - true) / np.linalg.norm(true), ours, theirs)
    return float(max(jax.tree.leaves(ratios)))


def decoder(run: Trained) -> np.ndarray:
    """The matrix from the code to the output of a linear autoencoder, `(code, pixels)`."""
    if "shared" in run.net.weight_shapes:
        return np.asarray(run.params["shared"]["W"]).T
    return np.asarray(run.params["o"]["h1"])


def angle_to(V: np.ndarray, W: np.ndarray) -> float:
    """The largest principal angle between the columns of V and the rows of W, in degrees."""
    return math.degrees(subspace_angles(V, W.T).max())


def lost(x: np.ndarray, reconstructed: np.ndarray) -> float:
    """‖X − X̂‖² / ‖X‖²."""
    return float(np.sum((x - reconstructed) ** 2) / np.sum(x**2))


def save_plot(
    result: Result, runs: dict[str, Trained], outputs: dict[str, np.ndarray], images: Images, path: Path
) -> None:
    """Reconstructions, the codes of the linear and the deep network, and the errors over the steps.

    `outputs` is what each autoencoder, and `"svd"`, makes of the images; those that are shown are from the test part.
    """
    figure = plt.figure(figsize=(13.5, 9.5), layout="constrained")
    widths = {name: " ⇒ ".join(str(width) for (width,) in run.net.shapes.values()) for name, run in runs.items()}
    figure.suptitle(
        f"Digits and codes of {runs[LINEAR].code.shape[1]} numbers: linear {widths[LINEAR]}, deep {widths[DEEP]}"
    )
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    _draw_images(top, result, outputs, images)

    axes = bottom.subplots(1, 3, width_ratios=(1, 1, 1.1))
    colors = plt.get_cmap("tab10")
    for axis, name in zip(axes, (LINEAR, DEEP), strict=False):
        code = runs[name].code[images.test]
        for digit in range(10):
            of_digit = code[images.digits[images.test] == digit]
            # drawn as itself: nobody tells ten colours apart
            look = {"s": 24, "linewidth": 0.4, "color": colors(digit), "marker": f"${digit}$"}
            axis.scatter(of_digit[:, 0], of_digit[:, 1], label=str(digit), **look)
        axis.set(title=f"the code, {name}, test part", xlabel="first number of the code", ylabel="second number")
        axis.grid(alpha=0.3)
    # beside the points of both, which have the same colours
    axes[1].legend(title="digit", loc="center left", bbox_to_anchor=(1, 0.5), handletextpad=0.1, markerscale=2)

    for i, (name, run) in enumerate(runs.items()):
        steps = range(1, len(run.errors) + 1)
        axes[2].plot(steps, run.errors, label=name, color=f"C{i}", linestyle="--" if name == TIED else "-")
    axes[2].axhline(result.svd.train, color="black", linewidth=0.8, linestyle=":", label="truncated SVD")
    axes[2].set(title="the error, training part", xlabel="step", ylabel="‖X − X̂‖² / ‖X‖²", xscale="log", yscale="log")
    axes[2].set_ylim(top=1.5)
    ticks = (0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
    axes[2].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes[2].minorticks_off()
    axes[2].legend(loc="lower left")
    axes[2].grid(alpha=0.3)
    save(figure, path)


def _draw_images(figure: SubFigure, result: Result, outputs: dict[str, np.ndarray], images: Images) -> None:
    of_test = images.digits[images.test]
    first = [int(np.argmax(of_test == digit)) for digit in range(10)]
    original = images.x[images.test][first] + images.mean
    rows = {"original": original}
    for name, label, errors in (
        ("svd", "SVD", result.svd),
        *((n, n, result.errors[n]) for n in (LINEAR, DEEP)),
    ):
        rows[f"{label}\nloses {errors.test:.0%}"] = outputs[name][images.test][first] + images.mean
    # one picture with gaps: forty pairs of axes take seconds to lay out
    grid = np.full((len(rows) * (SIDE + 1) - 1, len(first) * (SIDE + 1) - 1), np.nan)
    for i, pixels in enumerate(rows.values()):
        for j, image in enumerate(pixels):
            grid[i * (SIDE + 1) :, j * (SIDE + 1) :][:SIDE, :SIDE] = image.reshape(SIDE, SIDE)
    axis = figure.subplots()
    axis.imshow(grid, cmap="gray_r", vmin=original.min(), vmax=original.max())
    axis.set_xticks([])
    axis.set_yticks([(i + 0.5) * (SIDE + 1) - 1 for i in range(len(rows))], list(rows))
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def _table(result: Result, runs: dict[str, Trained]) -> Table:
    table = Table(title="the share of the images that is lost", title_justify="left")
    table.add_column("reduction")
    for column in ("training", "test", "to the singular vectors", "parameters"):
        table.add_column(column, justify="right")
    table.add_row("truncated SVD", f"{result.svd.train:.5f}", f"{result.svd.test:.5f}", "0°", "")
    for name, errors in result.errors.items():
        angle = f"{result.angles[name]:.2g}°" if name in result.angles else ""
        parameters = str(runs[name].net.parameter_count)
        table.add_row(name, f"{errors.train:.5f}", f"{errors.test:.5f}", angle, parameters)
    return table


if __name__ == "__main__":
    command_line(main, Reduction)
