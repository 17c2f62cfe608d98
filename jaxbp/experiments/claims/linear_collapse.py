"""Identity activations collapse: deep linear networks, trained by explicit backpropagation, are least squares.

    python -m experiments.linear_collapse
    python -m experiments.linear_collapse --depths 1 8 --steps 10000 --out runs/deeper

Two things are asked of networks of identity units on the training part of diabetes. Their matrices and biases multiply
out to one affine map x W + b, which must give the network's output to rounding. And training by squared loss must take
W and b to what ordinary least squares finds in closed form. The contrast is the same network with tanh units: its
output has no affine map, which the part that the best one leaves over shows. Hidden layers are narrower than the input:
with wide ones the last layer could fit alone, whatever the backward phase told the others. Writes `collapse.png`; ends
with exit code 1 should the claim not hold. How near training comes is not decided after fewer steps than when nothing
is given, should they not suffice.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_diabetes

import jaxbp
from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.data import load
from jaxbp.experiments.common.options import check_options, full_size, listed, whole
from jaxbp.experiments.common.plots import plt, save
from jaxbp.experiments.common.verdicts import conclude, in_a_word, verdict

CLAIM = (
    "The use of nonlinear activation functions is the key to increasing the power of multiple layers. If all layers "
    "use an identity activation function, then a multilayer network can be shown to simplify to linear regression."
)
PLACE = "The Multilayer Network as a Computational Graph"

LOSS = jaxbp.squared_error
INTERCEPT = 2.0  # added to the standardised targets, which would leave no intercept to find
MOST_DISTANCE = 1e-3  # relative, from least squares
MOST_ROUNDING = 1e-12  # relative, from one affine map
LEAST_BEND = 1e-2  # relative, from the best affine map: far above rounding


@dataclass(frozen=True)
class Collapse:
    """Train deep networks of identity units, and compare them with least squares."""

    depths: tuple[int, ...] = (1, 2, 4)
    """The numbers of hidden layers."""
    width: int = 5
    """Of the hidden layers."""
    steps: int = 6000
    """Updates, each from the whole training part."""
    learning_rate: float = 0.02
    momentum: float = 0.95
    """Nesterov's."""
    seed: int = 0
    """Fixes the split and the weights."""
    quick: bool = False
    """The first two depths and 3000 steps at most, for a look: seconds."""
    out: Path = Path("runs/linear_collapse")
    """The folder to write to."""

    def __post_init__(self):
        if not self.depths or min(self.depths) < 1 or len(set(self.depths)) < len(self.depths):
            raise ValueError(f"depths must be different numbers of at least 1, got {listed(self.depths)}")
        check_options(self, depths=whole(1, 1000))


@dataclass(frozen=True, eq=False)  # arrays have no single truth value to compare by
class Depth:
    """What became of one depth.

    Attributes:
        layers: The number of hidden layers.
        path: The affine map after each step, `(steps, features + 1)`: the coefficients, then the intercept.
        distances: ‖W − W*‖ / ‖W*‖ of the coefficients after each step, `(steps,)`, with W* that of least squares.
        intercept: |b − b*| / |b*| in the end.
        rounding: The largest |o − (x W + b)| over the largest |o|, of training and test part.
        loss: The mean loss of the identity units on the training part.
        tanh_loss: That of the tanh units.
        fitted: The best affine fit to the outputs of identity and tanh units, `(2, examples)`.
        left: What these fits leave over, `(2, examples)`.
        bend: The norm of what the tanh units' leaves over, relative to that of their outputs less the mean.
    """

    layers: int
    path: np.ndarray
    distances: np.ndarray
    intercept: float
    rounding: float
    loss: float
    tanh_loss: float
    fitted: np.ndarray
    left: np.ndarray
    bend: float


@dataclass(frozen=True, eq=False)
class Result:
    """Every depth, and what least squares finds.

    Attributes:
        depths: In the order asked for.
        least_squares: The coefficients, then the intercept, `(features + 1,)`.
        least_loss: The mean loss of least squares on the training part.
        full: Whether the steps were enough to refute the claim by what they led to.
    """

    depths: tuple[Depth, ...]
    least_squares: np.ndarray
    least_loss: float
    full: bool = True

    @property
    def distance(self) -> float:
        """The largest relative distance of the coefficients from least squares; NaN if one is."""
        return float(np.max([d.distances[-1] for d in self.depths]))

    @property
    def intercept(self) -> float:
        """The largest relative distance of the intercept."""
        return float(np.max([d.intercept for d in self.depths]))

    @property
    def rounding(self) -> float:
        """The largest relative distance of the outputs from those of one affine map."""
        return float(np.max([d.rounding for d in self.depths]))

    @property
    def bend(self) -> float:
        """The least that an affine map leaves over of tanh units' outputs."""
        return float(np.min([d.bend for d in self.depths]))

    @property
    def holds(self) -> bool | None:
        """One affine map, that of least squares, and tanh units are none."""
        trained = self.distance <= MOST_DISTANCE, self.intercept <= MOST_DISTANCE, self.bend >= LEAST_BEND
        return verdict([self.rounding <= MOST_ROUNDING], trained, refutes=self.full)

    @property
    def decision(self) -> str:
        """The numbers beside their bounds, in a line."""
        return (
            f"coefficients within {self.distance:.1e} and intercept within {self.intercept:.1e} of least squares "
            f"(at most {MOST_DISTANCE:.0e} allowed), outputs within {self.rounding:.1e} of one affine map (at most "
            f"{MOST_ROUNDING:.0e}); of tanh units' outputs the best one leaves {self.bend:.1%} (at least "
            f"{LEAST_BEND:.0%}): {in_a_word(self.holds)}"
        )


def main(config: Collapse, console: Console | None = None) -> Result:
    """Train every depth, print a table and write the plot."""
    console = console or terminal()
    if config.quick:
        config = replace(config, depths=config.depths[:2], steps=min(config.steps, 3000))
    data = load("diabetes", seed=config.seed, dtype=np.float64)
    x, y = data.x_train, data.y_train + INTERCEPT
    least_squares = np.linalg.lstsq(_with_ones(x), y[:, 0], rcond=None)[0]
    least_loss = float(np.mean((_with_ones(x) @ least_squares - y[:, 0]) ** 2) / 2)
    with jax.enable_x64(True):
        depths = tuple(collapsed(layers, x, y, data.x_test, least_squares, config) for layers in config.depths)
    result = Result(depths, least_squares, least_loss, full_size(config, "steps"))
    save_plot(result, config.out / "collapse.png")
    console.print(_table(result))
    conclude(console, result, config.out, "collapse.png")
    return result


def collapsed(
    layers: int, x: np.ndarray, y: np.ndarray, x_test: np.ndarray, least_squares: np.ndarray, config: Collapse
) -> Depth:
    """One depth, of identity and of tanh units, against least squares."""
    widths = [x.shape[1], *[config.width] * layers, 1]
    everywhere = np.concatenate([x, x_test])
    linear = jaxbp.layered(widths, hidden=jaxbp.linear, output=jaxbp.linear)
    params, path, o = trained(linear, x, y, everywhere, config)
    _, _, bent = trained(jaxbp.layered(widths, hidden=jaxbp.tanh, output=jaxbp.linear), x, y, everywhere, config)

    W, b = affine_map(linear, params)
    outputs = np.stack([o[: len(x), 0], bent[: len(x), 0]])
    fitted, left = affine_fit(x, outputs)
    with np.errstate(over="ignore", invalid="ignore"):  # what diverged is not finite, and decides as such
        distances = np.linalg.norm(path[:, :-1] - least_squares[:-1], axis=1) / np.linalg.norm(least_squares[:-1])
        losses = np.mean((outputs - y.T) ** 2, axis=1) / 2
        return Depth(
            layers=layers,
            path=path,
            distances=distances,
            intercept=float(abs(path[-1, -1] / least_squares[-1] - 1)),
            rounding=float(np.max(np.abs(o - (everywhere @ W + b))) / np.max(np.abs(o))),
            loss=float(losses[0]),
            tanh_loss=float(losses[1]),
            fitted=fitted,
            left=left,
            bend=float(np.linalg.norm(left[1]) / np.linalg.norm(outputs[1] - np.mean(outputs[1]))),
        )


def trained(
    net: jaxbp.Network, x: np.ndarray, y: np.ndarray, everywhere: np.ndarray, config: Collapse
) -> tuple[jaxbp.Params, np.ndarray, np.ndarray]:
    """A network after all steps, each from the whole of the data by explicit backpropagation.

    Args:
        net: The network.
        x: All inputs.
        y: All targets.
        everywhere: Inputs to apply it to in the end.
        config: How to train.

    Returns:
        The parameters; after each step what `affine_map` makes of them, `(steps, features + 1)`; and the outputs.
    """
    # momentum takes the first, steep slope too fast for a deep network, hence the clipping; later it has no effect
    descent = optax.sgd(config.learning_rate, momentum=config.momentum, nesterov=True)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), descent)
    gradient = jaxbp.value_and_grad(net, LOSS)

    def step(state: jaxbp.train.TrainState, _: None) -> tuple[jaxbp.train.TrainState, jax.Array]:
        state, _ = jaxbp.train.step(state, x, y, gradient=gradient, optimizer=optimizer)
        return state, jnp.append(*affine_map(net, state.params))

    @jax.jit
    def all_steps(state: jaxbp.train.TrainState) -> tuple[jaxbp.Params, jax.Array, jax.Array]:
        state, path = jax.lax.scan(step, state, length=config.steps)
        return state.params, path, jaxbp.apply(net, state.params, everywhere)

    start = jaxbp.train.init_state(jax.random.key(config.seed), net, optimizer)
    return jax.tree.map(np.asarray, all_steps(start))


def affine_map(net: jaxbp.Network, params: jaxbp.Params) -> tuple[Any, Any]:
    """What a layered network of identity units multiplies out to.

    W = W_1 W_2 … W_{k+1},  b = (… (b_1 W_2 + b_2) … ) W_{k+1} + b_{k+1}

    Args:
        net: The network.
        params: Its parameters.

    Returns:
        W, `(features, outputs)`, and b, `(outputs,)`.
    """
    features = net.inputs["x"]
    W, b = np.eye(features), np.zeros(features)
    for u in net.order:
        (source,) = net.units[u].connections
        W, b = W @ params[u][source], b @ params[u][source] + params[u]["bias"]
    return W, b


def affine_fit(x: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best affine fit in x to each row of outputs, `(rows, examples)`, and what it leaves over."""
    Q, _ = np.linalg.qr(_with_ones(x))
    fitted = (outputs @ Q) @ Q.T
    return fitted, outputs - fitted


def save_plot(result: Result, path: Path) -> None:
    """The coefficients beside least squares, their distance over the steps, and what no affine map explains."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 5), layout="constrained")
    figure.suptitle("Networks of identity units on diabetes, trained by squared loss, and least squares")

    places = np.arange(len(result.least_squares))
    left.bar(places, result.least_squares, width=0.85, color="lightgrey", label="least squares")
    for i, d in enumerate(result.depths):
        shift = 0.6 * (i + 1) / (len(result.depths) + 1) - 0.3  # side by side: they would lie on one another
        left.plot(places + shift, d.path[-1], "o", color=f"C{i}", markersize=4, label=_layers(d.layers))
    left.set_xticks(places, [*load_diabetes().feature_names, "intercept"], rotation=45)
    left.axhline(0, color="grey", linewidth=0.8)
    left.set(title="product of all matrices", xlabel="feature", ylabel="coefficient, in standard deviations of y")
    left.legend(loc="upper left")

    for i, d in enumerate(result.depths):
        middle.plot(np.arange(1, len(d.distances) + 1), d.distances, color=f"C{i}", label=_layers(d.layers))
    middle.axhline(MOST_DISTANCE, color="grey", linestyle="--", label="allowed in the end")
    middle.set(title="distance from least squares", xlabel="step", ylabel="‖W − W*‖ / ‖W*‖", yscale="log")
    middle.legend()

    deepest = max(result.depths, key=lambda d: d.layers)
    for row, name, color in ((1, "tanh units", "C3"), (0, "identity units", "black")):
        right.plot(deepest.fitted[row], deepest.left[row], ".", color=color, label=name)
    right.set(
        title=f"outputs less their best affine fit, {_layers(deepest.layers)}",
        xlabel="best affine fit to the output, in standard deviations of y",
        ylabel="output − fit, in standard deviations of y",
    )
    right.legend()
    for axis in (left, middle, right):
        axis.grid(alpha=0.3)
    save(figure, path)


def _with_ones(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def _layers(number: int) -> str:
    return f"{number} hidden layer{'s' if number > 1 else ''}"


def _table(result: Result) -> Table:
    title = f"relative distances, and training loss (of least squares {result.least_loss:.6f})"
    table = Table(title=title, title_justify="left")
    columns = ("hidden\nlayers", "W: least\nsquares", "b: least\nsquares", "outputs:\naffine map")
    for column in (*columns, "loss", "tanh:\nloss", "tanh:\naffine map"):
        table.add_column(column, justify="right")
    for d in result.depths:
        distances = (f"{number:.1e}" for number in (d.distances[-1], d.intercept, d.rounding))
        table.add_row(str(d.layers), *distances, f"{d.loss:.6f}", f"{d.tanh_loss:.6f}", f"{d.bend:.2f}")
    return table


if __name__ == "__main__":
    command_line(main, Collapse)
