"""K-FAC against SGD and Adam: loss and test error by steps and by seconds, over one grid of settings for each.

    python -m experiments.second_order --data-dir PATH/TO/MNIST
    python -m experiments.second_order --quick
    python -m experiments.second_order --networks autoencoder --seconds 60 --batch-size 1000 --out runs/autoencoder

The networks are the deep autoencoder of the K-FAC papers, 784-1000-500-250-30-250-500-1000-784 with tanh units around a
linear code and the binary cross-entropy of pixels in [0, 1], and a classifier 784-512-512-10 of relu units. Without
`--data-dir` the data is scikit-learn's digits of 64 pixels, and the networks are narrower.

Each optimizer has as many settings, and each training the same seconds, without compilation and evaluation, from the
same start over the same batches: SGD with momentum 0.9 and Adam over learning rates, K-FAC over the damping that it
starts from; its learning rate and momentum are those of the quadratic model. Of its settings each optimizer is shown
with the one that ends at the least test error: the squared error of a reconstruction, or the share of wrong classes.

Writes `second_order.png`. Nothing is decided: seconds are those of this machine.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import jaxbp
from jaxbp import train
from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.data import load
from jaxbp.experiments.common.idx import read_idx_folder
from jaxbp.experiments.common.options import POSITIVE, check_options, whole
from jaxbp.experiments.common.plots import plt, save

GRID: dict[str, tuple[float, ...]] = {
    "SGD": (0.3, 0.1, 0.03),
    "Adam": (3e-3, 1e-3, 3e-4),
    "K-FAC": (3.0, 0.3, 0.03),
}
LOOKS = 25  # evaluations in a training
QUICK: dict[str, Any] = {"seconds": 1.0, "batch_size": 256}


@dataclass(frozen=True)
class SecondOrder:
    """Train two networks with SGD, Adam and K-FAC, and compare steps and seconds."""

    networks: tuple[Literal["autoencoder", "classifier"], ...] = ("autoencoder", "classifier")
    """Which ones."""
    seconds: float = 60.0
    """Of each training, after compilation."""
    batch_size: int = 512
    """Examples in a step."""
    factors_of: int = 4
    """Of every how many examples K-FAC makes its factors."""
    model_of: int = 1
    """Of every how many it makes the curvature of its quadratic model; of too few it is too small, and steps too long.
    """
    seed: int = 0
    """For the start and the batches."""
    data_dir: Path | None = None
    """The folder of MNIST's four IDX files; digits of 64 pixels when none is given."""
    quick: bool = False
    """One second each, in batches of 256."""
    out: Path = Path("runs/second_order")
    """The folder to write to."""

    def __post_init__(self):
        check_options(self, seconds=POSITIVE, factors_of=whole(1), model_of=whole(1))
        if not self.networks:
            raise ValueError("networks must be autoencoder, classifier or both, got none")


@dataclass(frozen=True, eq=False)
class Problem:
    """A network, its loss and its data; `error` is what is measured on the test part."""

    net: jaxbp.Network
    loss: jaxbp.Loss
    x: np.ndarray
    y: np.ndarray
    error: Callable[[jaxbp.Params], jax.Array]


@dataclass(frozen=True)
class Curve:
    """What a training looked like, from its start: one entry for each evaluation."""

    optimizer: str
    setting: float
    steps: tuple[int, ...]
    seconds: tuple[float, ...]
    losses: tuple[float, ...]
    """The mean loss of the batches since the evaluation before."""
    errors: tuple[float, ...]
    """On the test part."""

    @property
    def last(self) -> float:
        """The error at the end; infinite where it is no number."""
        return self.errors[-1] if np.isfinite(self.errors[-1]) else np.inf

    def reached(self, error: float) -> tuple[int, float] | None:
        """Steps and seconds to a test error, if it was reached."""
        return next(((s, t) for s, t, e in zip(self.steps, self.seconds, self.errors, strict=True) if e <= error), None)


def main(config: SecondOrder, console: Console | None = None) -> dict[str, list[Curve]]:
    """Train, print a table for each network, and write the plot."""
    console = console or terminal()
    config = dataclasses.replace(config, **QUICK) if config.quick else config
    best: dict[str, list[Curve]] = {}
    for name in config.networks:
        problem = problem_of(name, config.data_dir)
        best[name] = []
        for optimizer, settings in GRID.items():
            curves = [trained(problem, optimizer, setting, config) for setting in settings]
            best[name].append(min(curves, key=lambda curve: curve.last))
        console.print(_table(name, best[name], config))
    save_plot(best, config.out / "second_order.png")
    console.print(f"Wrote {config.out / 'second_order.png'}")
    return best


def problem_of(name: str, data_dir: Path | None) -> Problem:
    """The autoencoder or the classifier, and pixels in [0, 1]."""
    if data_dir is None:
        digits = load("digits", dtype=np.float64)
        low, high = min(digits.x_train.min(), digits.x_test.min()), max(digits.x_train.max(), digits.x_test.max())
        x, x_test = ((part - low) / (high - low) for part in (digits.x_train, digits.x_test))
        y, y_test, hidden = digits.y_train, digits.y_test, (128, 64, 32)
    else:
        x, y, x_test, y_test = read_idx_folder(data_dir)
        x, x_test, hidden = x / 255, x_test / 255, (1000, 500, 250)
    x, x_test = (np.reshape(part, (len(part), -1)).astype(np.float32) for part in (x, x_test))
    pixels = x.shape[1]
    if name == "classifier":
        width = 512 if data_dir else 64
        net = jaxbp.layered([pixels, width, width, int(y.max()) + 1], hidden=jaxbp.relu, output=jaxbp.softmax)

        def wrong(params: jaxbp.Params) -> jax.Array:
            return jnp.mean(jnp.argmax(jaxbp.apply(net, params, x_test), axis=-1) != y_test)

        return Problem(net, jaxbp.cross_entropy, x, y.astype(np.int32), jax.jit(wrong))
    widths = [pixels, *hidden, 30 if data_dir else 16, *reversed(hidden), pixels]
    activations = [jaxbp.linear if i == len(hidden) else jaxbp.tanh for i in range(2 * len(hidden) + 1)]
    net = jaxbp.layered(widths, hidden=activations, output=jaxbp.sigmoid)

    def lost(params: jaxbp.Params) -> jax.Array:
        return jnp.mean(jnp.sum((jaxbp.apply(net, params, x_test) - x_test) ** 2, axis=-1))

    return Problem(net, jaxbp.binary_cross_entropy, x, x, jax.jit(lost))


def optimizer_of(problem: Problem, name: str, setting: float, config: SecondOrder) -> optax.GradientTransformation:
    """The optimizer with a setting of its grid; the damping of K-FAC is in its state."""
    if name == "K-FAC":
        return train.kfac(problem.net, problem.loss, factors_of=config.factors_of, model_of=config.model_of)
    return optax.sgd(setting, momentum=0.9) if name == "SGD" else optax.adam(setting)


def trained(problem: Problem, name: str, setting: float, config: SecondOrder) -> Curve:
    """A training for the seconds of the configuration, with one evaluation after each of `LOOKS` parts of them."""
    optimizer = optimizer_of(problem, name, setting, config)
    key = jax.random.key(config.seed)
    params = jaxbp.init_params(key, problem.net, jnp.float32)
    state = train.init_state(key, problem.net, optimizer, params=params)
    if name == "K-FAC":  # so that one program serves all
        state = state._replace(opt_state=state.opt_state._replace(damping=jnp.float32(setting)))
    running = partial(
        train.run, problem.net, problem.loss, jnp.asarray(problem.x), jnp.asarray(problem.y), optimizer=optimizer,
        batch_size=min(config.batch_size, len(problem.x)), drop_last=True,
    )  # fmt: skip
    warm = running(state=state, every=1)  # compiles
    next(warm)
    every = max(1, round(config.seconds / LOOKS / next(warm).seconds))
    steps, seconds, losses, errors = [0], [0.0], [float("nan")], [float(problem.error(params))]
    try:
        for done in running(state=state, every=every):
            steps.append(int(done.state.step))
            seconds.append(seconds[-1] + done.seconds)
            losses.append(done.loss)
            errors.append(float(problem.error(done.state.params)))
            if seconds[-1] >= config.seconds:
                break
    except train.DivergedError:
        errors[-1] = float("nan")
    return Curve(name, setting, tuple(steps), tuple(seconds), tuple(losses), tuple(errors))


def _table(name: str, curves: list[Curve], config: SecondOrder) -> Table:
    to_reach = next(curve for curve in curves if curve.optimizer == "Adam").last
    table = Table(title=f"{name}, {config.batch_size} examples a step, {config.seconds:g} s each", title_justify="left")
    for column in ("optimizer", "setting", "ms a step", "steps", "loss", "test error", "to Adam's: steps", "seconds"):
        table.add_column(column, justify="left" if column == "optimizer" else "right")
    for curve in curves:
        reached = curve.reached(to_reach)
        table.add_row(
            curve.optimizer,
            f"{curve.setting:g}",
            f"{1e3 * curve.seconds[-1] / max(curve.steps[-1], 1):.1f}",
            str(curve.steps[-1]),
            f"{curve.losses[-1]:.4g}",
            f"{curve.errors[-1]:.4g}",
            *(("–", "–") if reached is None else (str(reached[0]), f"{reached[1]:.1f}")),
        )
    return table


def save_plot(best: dict[str, list[Curve]], path: Path) -> None:
    """The test error by steps and by seconds, a row for each network."""
    figure, rows = plt.subplots(len(best), 2, figsize=(12, 4.5 * len(best)), layout="constrained", squeeze=False)
    for (name, curves), (by_steps, by_seconds) in zip(best.items(), rows, strict=True):
        for curve in curves:
            label = f"{curve.optimizer}, {curve.setting:g}"
            by_steps.loglog(curve.steps[1:], curve.errors[1:], label=label, linewidth=3)
            by_seconds.semilogy(curve.seconds[1:], curve.errors[1:], label=label, linewidth=3)
        by_steps.set(title=f"{name}, by steps", xlabel="steps", ylabel="test error")
        by_seconds.set(title=f"{name}, by seconds", xlabel="seconds")
        by_steps.legend()
    save(figure, path)


if __name__ == "__main__":
    command_line(main, SecondOrder, lambda best: True)
