r"""Feedback alignment: other matrices than W in the backward recursion, what is learned by them, and how they align.

    python -m experiments.feedback_alignment
    python -m experiments.feedback_alignment --data-dir PATH/TO/MNIST --epochs 5 --batch-size 128

Backpropagation carries δ back by Wᵀ. Here the same network learns by fixed random matrices (feedback alignment), by
fixed random matrices straight from the output (direct feedback alignment), by the signs of W with magnitudes of their
own (sign-symmetric), and by matrices that are trained beside W (Kolen-Pollack). All start from the same parameters,
see the same batches, and take the same learning rate and momentum, which are good for backpropagation; no rule needs
others. Kolen-Pollack alone has weight decay, which is a part of it. The others do without: it would turn W towards B
faster under random feedback too, but backpropagation would lose by it.

Writes `feedback_alignment.png`: test accuracy, and for each unit the angle between its δ and that of backpropagation,
on examples of the training part, before each step of the first epoch and after every epoch. Ends with exit code 1
should a claim not hold: random feedback starts at about 90°, as chance has it, and every unit's angle falls; the signs
alone stay below 90°; Kolen-Pollack ends near 0°; and all come close to the accuracy of backpropagation.
After fewer epochs than when nothing is given, what does not hold yet is not decided.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table

import jaxbp
from jaxbp import train
from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.data import CLASSIFICATION, Data, load
from jaxbp.experiments.common.networks import ActivationName, affordable
from jaxbp.experiments.common.options import check_options, full_size
from jaxbp.experiments.common.plots import plt, save
from jaxbp.experiments.common.verdicts import conclude, in_a_word, verdict

LOSS = jaxbp.cross_entropy
PROBE = 256  # examples that the angles are measured on
COMPILED = 2  # epochs that are compiled: the first one, which is observed, and the second

BACKPROPAGATION = "backpropagation"
RANDOM = "feedback alignment"
DIRECT = "direct feedback alignment"
SIGNS = "sign-symmetric"
KOLEN_POLLACK = "Kolen-Pollack"

LEAST_FALL = 10.0  # degrees that each unit turns by under fixed random feedback, and
MOST_ALIGNED, MOST_ALIGNED_LAST = 85.0, 70.0  # where it ends at most: any hidden unit, and the last of them
MOST_KOLEN_POLLACK = 15.0  # degrees at the end
MOST_LOST = 0.05  # of accuracy, against backpropagation


@dataclass(frozen=True)
class Comparison:
    """Train with backpropagation and with four kinds of feedback, and measure how far each is from the gradient."""

    data: str = "digits"
    """digits, iris, wine, breast_cancer, or mnist with --data-dir."""
    data_dir: Path | None = None
    """A folder of IDX files under their usual names, plain or gzipped."""
    hidden: tuple[int, ...] = (128, 128, 128)
    """The widths of the hidden layers, first to last."""
    activation: ActivationName = "tanh"
    """Of the hidden layers."""
    epochs: int = 60
    batch_size: int = 32
    learning_rate: float = 0.02
    momentum: float = 0.9
    decay: float = 0.004
    """Weight decay of Kolen-Pollack: W − B shrinks by it alone, and stays as it is without."""
    seed: int = 0
    """Fixes the split, the parameters, the feedback and the order of the examples."""
    out: Path = Path("runs/feedback_alignment")
    """The folder to write to."""

    def __post_init__(self):
        if not self.hidden:
            raise ValueError("hidden is empty, but only hidden layers get feedback; pass e.g. --hidden 128 128 128")
        check_options(self)
        if not 0 <= self.decay < math.inf:
            raise ValueError(f"decay must be at least 0 and finite, got {self.decay}")


class Rule(NamedTuple):
    """How the backward recursion is done, over whatever tree is trained."""

    start: Any
    gradient: train.Gradient
    params: Callable[[Any], jaxbp.Params] = lambda tree: tree
    """The weights in the tree."""
    feedback: Callable[[Any], jaxbp.feedback.Feedback] = lambda tree: tree
    """What stands in for them, at this point of the training."""
    decays: bool = False
    """Whether weight decay belongs to it."""


class Run(NamedTuple):
    """What was seen of one rule."""

    accuracy: list[float]
    """On the test part, after each epoch."""
    steps: np.ndarray
    """At which the angles were measured: the number of updates before, `(measurements,)`."""
    angles: dict[str, np.ndarray]
    """To δ of backpropagation, by hidden unit, first to last, in degrees, `(measurements,)`."""
    seconds: list[float]
    """Of each epoch."""


@dataclass(frozen=True)
class Result:
    """Every rule, and what does not hold."""

    runs: dict[str, Run]
    """By the name of the rule."""
    complaints: tuple[str, ...]
    full: bool = True
    """Whether it was large enough to refute the claim by what it measured."""

    @property
    def holds(self) -> bool | None:
        """Whether there is nothing to complain of."""
        return verdict((), [not self.complaints], refutes=self.full)

    @property
    def decision(self) -> str:
        """What does not hold, or where the angles end, in a line."""
        if self.complaints:
            return f"{'; '.join(self.complaints)}: {in_a_word(self.holds)}"
        angles = (f"{name} {max(a[-1] for a in run.angles.values()):.0f}°" for name, run in self.runs.items())
        return f"W turns towards what stands in for it; the largest angles in the end: {', '.join(angles)}: holds"


def main(config: Comparison, console: Console | None = None) -> Result:
    """Train by each rule, print a table and write the plot.

    Raises:
        ValueError: A choice that does not exist or does not fit the data, before anything is compiled.
        jaxbp.train.DivergedError: A loss was not finite.
    """
    console = console or terminal()
    data = load(config.data, data_dir=config.data_dir, seed=config.seed)
    net = network(config, data)
    widths = " ⇒ ".join(str(width) for (width,) in net.shapes.values())
    console.print(
        f"{data.name}: {len(data.y_train)} training and {len(data.y_test)} test examples, {widths}", markup=False
    )
    runs = compare(net, rules(net, config.seed), data, config)
    save_plot(runs, f"{data.name}, {widths}, {config.activation}", config.out / "feedback_alignment.png")
    console.print(_table(runs))
    result = Result(runs, tuple(complaints(net, runs)), full_size(config, "epochs"))
    conclude(console, result, config.out, "feedback_alignment.png")
    return result


def network(config: Comparison, data: Data) -> jaxbp.Network:
    """The layered network for this data.

    Raises:
        ValueError: A regression, which has no accuracy.
    """
    if data.classes is None:
        known = ", ".join(CLASSIFICATION)
        raise ValueError(f"{data.name} is a regression, but rules are compared by their accuracy; pass one of {known}")
    layers = [data.x_train.shape[1], *config.hidden, data.classes]
    return affordable(jaxbp.layered(layers, hidden=getattr(jaxbp, config.activation), output=jaxbp.softmax))


def rules(net: jaxbp.Network, seed: int) -> dict[str, Rule]:
    """The five rules by name, from the same parameters; all but direct feedback with the same B."""
    of_params, of_feedback, of_direct = jax.random.split(jax.random.key(seed), 3)
    params = jaxbp.init_params(of_params, net, jnp.float32)
    B = jaxbp.feedback.random_feedback(of_feedback, net, jnp.float32)
    direct = jaxbp.feedback.direct_feedback(of_direct, net, jnp.float32)
    explicit = jaxbp.value_and_grad(net, LOSS)

    def signs(params: jaxbp.Params) -> jaxbp.Params:
        return jaxbp.feedback.sign_symmetric(params, B)

    def by_signs(params: jaxbp.Params, x: Array, y: Array) -> tuple[Array, jaxbp.Params]:
        return explicit(params, x, y, feedback=signs(params))

    return {
        BACKPROPAGATION: Rule(params, explicit),
        RANDOM: Rule(params, partial(explicit, feedback=B), feedback=lambda _: B),
        DIRECT: Rule(params, partial(explicit, feedback=direct), feedback=lambda _: direct),
        SIGNS: Rule(params, by_signs, feedback=signs),
        KOLEN_POLLACK: Rule(
            (params, B),
            train.kolen_pollack(net, LOSS),
            params=lambda both: both[0],
            feedback=lambda both: both[1],
            decays=True,
        ),
    }


def compare(net: jaxbp.Network, rules: dict[str, Rule], data: Data, config: Comparison) -> dict[str, Run]:
    """Train by all rules side by side, an epoch of each in turn, so that their times can be compared.

    Raises:
        jaxbp.train.DivergedError: A loss was not finite.
    """
    x_test, y_test = jnp.asarray(data.x_test), jnp.asarray(data.y_test)
    batch_size = min(config.batch_size, len(data.y_train))
    in_epoch = len(data.y_train) // batch_size
    # whole batches only: a smaller last one is a second step to compile for each rule
    x, y = (jnp.asarray(v[: in_epoch * batch_size]) for v in (data.x_train, data.y_train))
    plain = optax.sgd(config.learning_rate, momentum=config.momentum)
    decaying = optax.chain(optax.add_decayed_weights(config.decay), plain)
    optimizers = {name: decaying if rule.decays else plain for name, rule in rules.items()}
    key = jax.random.key(config.seed)
    states = {name: train.init_state(key, net, optimizers[name], params=rule.start) for name, rule in rules.items()}
    measure = jax.jit(jaxbp.feedback.alignment_angles, static_argnums=(0, 1))

    def angles(rule: Rule, tree: Any, *_: Any) -> dict[str, Array]:
        return measure(net, LOSS, rule.params(tree), rule.feedback(tree), x[:PROBE], y[:PROBE])

    seen: dict[str, list[Any]] = {name: [] for name in rules}
    accuracy: dict[str, list[float]] = {name: [] for name in rules}
    seconds: dict[str, list[float]] = {name: [] for name in rules}
    for epoch in range(1, config.epochs + 1):
        for name, rule in rules.items():
            began = time.perf_counter()
            states[name], steps = jax.block_until_ready(
                train.epoch(
                    states[name],
                    x,
                    y,
                    gradient=rule.gradient,
                    optimizer=optimizers[name],
                    batch_size=batch_size,
                    observe=partial(angles, rule) if epoch == 1 else None,  # that is when most of it happens
                )
            )
            seconds[name].append(time.perf_counter() - began)
            finite = np.isfinite(steps.loss)
            if not finite.all():
                raise train.DivergedError(epoch, int(np.argmin(finite)) + 1, f"the loss under {name}")
            if epoch == 1:
                seen[name].append(steps.observed)
            tree = states[name].params
            seen[name].append(jax.tree.map(lambda angle: angle[None], angles(rule, tree)))
            accuracy[name].append(float(train.evaluate(net, LOSS, rule.params(tree), x_test, y_test)["accuracy"]))

    measured = np.concatenate([np.arange(in_epoch), in_epoch * np.arange(1, config.epochs + 1)])
    hidden = [u for u in net.order if u != net.output]
    return {
        name: Run(
            accuracy[name], measured, {u: np.concatenate([a[u] for a in seen[name]]) for u in hidden}, seconds[name]
        )
        for name in rules
    }


def complaints(net: jaxbp.Network, runs: dict[str, Run]) -> list[str]:
    """What does not hold of the claims; empty when all do.

    Of two random directions in n dimensions the cosine has the standard deviation 1/√n: an angle within three of those
    from 90° is one that chance makes.
    """
    wrong: list[str] = []

    def claim(right: bool, name: str, u: str, at: float, expected: str) -> None:
        if not right:  # NaN is never right
            wrong.append(f"under {name}, {u} is at {at:.1f}° {expected}")

    for name, run in runs.items():
        *_, last = run.angles
        for u, angles in run.angles.items():
            start, end, highest = angles[0], angles[-1], np.max(angles)
            if name in (RANDOM, DIRECT, KOLEN_POLLACK):
                chance = math.degrees(3 / math.sqrt(math.prod(net.shapes[u])))
                claim(abs(start - 90) < chance, name, u, start, f"before training, expected 90° ± {chance:.0f}°")
            if name in (RANDOM, DIRECT):
                most = min(MOST_ALIGNED_LAST if u == last else MOST_ALIGNED, start - LEAST_FALL)
                claim(end < most, name, u, end, f"after training, expected below {most:.1f}°")
            if name == SIGNS:
                claim(highest < 90, name, u, highest, "during training, expected below 90° throughout")
            if name == KOLEN_POLLACK:
                claim(end < MOST_KOLEN_POLLACK, name, u, end, f"after training, expected below {MOST_KOLEN_POLLACK}°")
        best = runs[BACKPROPAGATION].accuracy[-1]
        if not run.accuracy[-1] > best - MOST_LOST:
            wrong.append(f"{name} reaches {run.accuracy[-1]:.4f}, expected within {MOST_LOST} of {best:.4f}")
    return wrong


def save_plot(runs: dict[str, Run], title: str, path: Path) -> None:
    """Test accuracy by rule, and for each rule but backpropagation the angle of every unit."""
    figure, axes = plt.subplot_mosaic(
        [["accuracy", RANDOM, DIRECT], ["accuracy", SIGNS, KOLEN_POLLACK]],
        figsize=(15, 7.5),
        width_ratios=[1.25, 1, 1],
        layout="constrained",
    )
    figure.suptitle(
        f"{title}: what is learned, and the angle between each unit's δ and that of backpropagation", parse_math=False
    )
    left = axes.pop("accuracy")
    for name, run in runs.items():
        left.plot(
            range(1, len(run.accuracy) + 1),
            run.accuracy,
            label=name,
            linewidth=1.2,
            marker="." if len(run.accuracy) < 20 else None,
        )
    left.set(xlabel="epoch", ylabel="test accuracy", title="accuracy")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.legend(loc="lower right")
    left.grid(alpha=0.3)

    colors = plt.get_cmap("viridis")
    for name, axis in axes.items():
        run = runs[name]
        for i, (u, angles) in enumerate(run.angles.items()):
            axis.plot(run.steps, angles, label=u, color=colors(0.9 * i / max(len(run.angles) - 1, 1)))
        axis.axhline(90, color="grey", linewidth=0.8, linestyle="--")
        axis.annotate("a random direction", (0.98, 91), xycoords=("axes fraction", "data"), ha="right", color="grey")
        axis.axvline(run.steps[-len(run.accuracy)], ymax=0.8, color="grey", linewidth=0.8, linestyle=":")
        axis.annotate("after one epoch ", (run.steps[-len(run.accuracy)], 2), ha="right", color="grey")
        # step 0 has no place on a logarithmic axis
        axis.set_xscale("symlog", linthresh=1)
        axis.set(title=name, xlim=(0, run.steps[-1]), ylim=(0, 105), yticks=range(0, 91, 15))
        axis.set(xlabel="step", ylabel="angle to backpropagation, degrees" if name in (RANDOM, SIGNS) else None)
        axis.grid(alpha=0.3)
    figure.legend(*axes[RANDOM].get_legend_handles_labels(), title="unit", loc="outside right center")
    save(figure, path)


def _table(runs: dict[str, Run]) -> Table:
    table = Table(title="degrees between each unit's δ and backpropagation's, before → after", title_justify="left")
    table.add_column("rule")
    for column in ("test\naccuracy", *runs[BACKPROPAGATION].angles, "time of\nan epoch"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, run in runs.items():
        angles = (f"{angle[0]:.0f} → {angle[-1]:.0f}" for angle in run.angles.values())
        ratios = np.divide(run.seconds, runs[BACKPROPAGATION].seconds)[COMPILED:]
        took = f"{np.median(ratios):.2f} ×" if len(ratios) >= 10 else "–"  # of fewer, one disturbance is seen
        table.add_row(name, f"{run.accuracy[-1]:.4f}", *angles, took)
    return table


if __name__ == "__main__":
    command_line(main, Comparison)
