"""Depth against width: what deep relu networks are trained to, and the least that any one hidden layer would need.

    python -m experiments.depth
    python -m experiments.depth --quick
    python -m experiments.depth --folds 5 --target 0.05 --widths 3 4 --seed 100 --out runs/five_folds

The function is a sawtooth: the tent map of [0, 1] applied to its own result; k folds make 2^k straight pieces. Errors
are root mean squares relative to the standard deviation, so that a constant has error 1. What one hidden layer needs is
a bound and no training: the least error of so many straight pieces (`segments`), which no weights undercut.

The deep networks are trained by the explicit gradient and Adam, and grow: one hidden layer learns one fold; then a new
one with random weights is put on the output, learns the next fold from it, and all layers go on together. So each stage
is told what its number of folds looks like, and of a new layer's several starts, that with the least loss on the
examples is kept. A width counts only if every seed reaches the target at every number of folds. Beside them stands what
the same optimizer makes of random weights alone, as many steps long: one hidden layer several times as wide as the
bound, and a deep network without growth. Neither decides.

Writes `depth.png`; ends with exit code 1 should the deep network of the most folds not have both fewer hidden units and
fewer parameters than any network with one hidden layer that reaches the target. With fewer folds, steps, starts or
widths than when nothing is given, that is not decided: four pieces take few units in one layer, too.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from matplotlib.ticker import NullLocator
from rich.console import Console
from rich.table import Table

from jaxbp.experiments.claims.growing import network, new_layers, on_top, outputs, stacked, start, train
from jaxbp.experiments.claims.sawtooth import JUDGED, folding, judged, least_units, points, relative_errors, tent
from jaxbp.experiments.claims.segments import best_fit
from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.options import POSITIVE, check_options, full_size, listed, whole
from jaxbp.experiments.common.plots import plt, save
from jaxbp.experiments.common.verdicts import conclude, in_a_word, verdict

CLAIM = (
    "In fact, deeper networks are often preferred because they reduce the number of hidden units in each layer as well "
    "as the overall number of parameters."
)
PLACE = "The Multilayer Network as a Computational Graph"

EXAMPLES = 1000  # to fit; with a power of two, all teeth would be seen at the same few heights
WIDER = (1, 2, 4, 8)  # times the least units: the one hidden layer that is trained
QUICK = {"folds": 4, "widths": (2, 3), "seeds": 3, "plain_folds": (3,), "shallow_folds": 3}


@dataclass(frozen=True)
class Sawtooth:
    """Grow deep networks on sawtooths, and bound what one hidden layer needs."""

    folds: int = 7
    """The most applications of the tent map; the networks grow from 1 to it."""
    target: float = 0.1
    """The error to reach, as a root mean square relative to the standard deviation of the sawtooth."""
    widths: tuple[int, ...] = (1, 2, 3, 4)
    """Of every hidden layer, rising: tried in turn until all seeds reach the target with one."""
    seeds: int = 5
    """Trainings of each network, from other weights; all must reach the target."""
    starts: int = 32
    """Random weights that each training tries for a new layer, with the others fixed; the least loss is kept."""
    steps: int = 600
    """Of Adam, for a new layer, and again for all layers, each with all examples."""
    learning_rate: float = 0.03
    """Of the first step of a new layer. All rates fall to 0 like a cosine."""
    joint_rate: float = 0.0003
    """Of the first step of all layers together: many folds are sensitive to the lowest weights."""
    plain_rate: float = 0.01
    """Of the first step from random weights alone."""
    plain_width: int = 8
    """Of a wider deep network that is trained from random weights alone, beside the one that grew."""
    plain_folds: tuple[int, ...] = (2, 3, 4, 7)
    """The numbers of folds, rising, at which networks are trained from random weights alone; more than `folds` are
    left out."""
    shallow_folds: int = 4
    """The most folds at which one hidden layer is, too: the wide ones take their time."""
    seed: int = 0
    """The first seed."""
    quick: bool = False
    """Four folds and three seeds, and less beside them: seconds instead of a minute."""
    out: Path = Path("runs/depth")
    """The folder to write to."""

    def __post_init__(self):
        if not 2 <= self.folds <= 7:
            raise ValueError(f"folds must lie between 2 and 7, which {EXAMPLES} examples show, got {self.folds}")
        for field, first in (("widths", 1), ("plain_folds", 2)):
            numbers = getattr(self, field)
            if not numbers or list(numbers) != sorted(set(numbers)) or numbers[0] < first:
                raise ValueError(f"{field} must rise from at least {first}, got {listed(numbers)}")
        rates = dict.fromkeys(("joint_rate", "plain_rate"), POSITIVE)
        check_options(self, starts=whole(1, 10_000), plain_width=whole(1, 2**16), shallow_folds=whole(0), **rates)
        if not 0 < self.target < 1:
            raise ValueError(f"target must lie between 0 and 1, the error of a constant, got {self.target}")


@dataclass(frozen=True)
class Trained:
    """Networks of one shape, one for each seed."""

    folds: int
    depth: int
    """Hidden layers."""
    width: int
    """Units in each."""
    errors: tuple[float, ...]
    """By seed."""

    @property
    def units(self) -> int:
        """All hidden ones."""
        return self.depth * self.width

    @property
    def parameters(self) -> int:
        """All weights and biases."""
        return network(self.depth, self.width).parameter_count

    @property
    def worst(self) -> float:
        """The largest error; NaN if one is."""
        return float(np.max(self.errors))

    @property
    def best(self) -> float:
        """The least error of those that are numbers."""
        return float(np.min(np.nan_to_num(self.errors, nan=np.inf)))


@dataclass(frozen=True)
class Result:
    """What one hidden layer needs at least, and what was trained."""

    target: float
    least: tuple[int, ...]
    """The units of one hidden layer without which no weights reach the target: for 1 fold, 2 folds, …"""
    grown: tuple[Trained, ...]
    """Of every width and number of folds that was tried: a width ends where a seed misses the target."""
    plain: tuple[Trained, ...] = ()
    """From random weights alone: one hidden layer of several widths, and deep networks."""
    full: bool = True
    """Whether it was large enough to refute the claim by what it measured."""

    @property
    def deep(self) -> Trained | None:
        """The narrowest network of the most folds with which every seed reached the target; None if there is none."""
        reaching = [net for net in self.grown if net.folds == len(self.least) and net.worst <= self.target]
        return min(reaching, key=lambda net: net.width, default=None)

    def one_hidden_layer(self, folds: int) -> Trained | None:
        """The narrowest that was trained to the target with one seed at least."""
        reaching = [net for net in self.plain if (net.folds, net.depth) == (folds, 1) and net.best <= self.target]
        return min(reaching, key=lambda net: net.width, default=None)

    @property
    def holds(self) -> bool | None:
        """Whether it needs fewer units, and fewer parameters, than any network with one hidden layer."""
        n, deep = self.least[-1], self.deep
        fewer = deep is not None and deep.units < n and deep.parameters < shallow_parameters(n)
        return verdict((), [fewer], refutes=self.full)

    @property
    def decision(self) -> str:
        """The numbers and their bounds in a line."""
        n, folds, deep = self.least[-1], len(self.least), self.deep
        if deep is None:
            found = f"no width of {folds} hidden layers reached it with every seed"
        else:
            found = (
                f"{deep.depth} hidden layers of {deep.width}, trained, took {deep.units} units and {deep.parameters} "
                f"parameters with each of {len(deep.errors)} seeds (largest error {deep.worst:.3f})"
            )
        return (
            f"for {2**folds} straight pieces and a relative error of {self.target:g}, one hidden layer takes at least "
            f"{n} units and {shallow_parameters(n)} parameters, whatever trains it; {found}; both must be fewer: "
            + in_a_word(self.holds)
        )


def main(config: Sawtooth, console: Console | None = None) -> Result:
    """Bound one hidden layer, grow the deep networks, train others beside them, and write the plot."""
    console = console or terminal()
    config = dataclasses.replace(config, **QUICK) if config.quick else config
    least = tuple(least_units(k, config.target) for k in range(1, config.folds + 1))
    grown: list[Trained] = []
    o = None
    for width in config.widths:
        of_width = list(grow(width, config))
        grown += [net for net, _ in of_width]
        deep, o = of_width[-1]
        if deep.folds == config.folds and deep.worst <= config.target:
            break
    plain: list[Trained] = []
    for k in (k for k in config.plain_folds if k <= config.folds):
        if k <= config.shallow_folds:
            plain += from_random_weights(k, 1, [least[k - 1] * times for times in WIDER], config)
        plain += from_random_weights(k, k, sorted({deep.width, config.plain_width}), config)
    full = full_size(config, "folds", "starts", "steps") and config.widths[-1] >= Sawtooth.widths[-1]
    result = Result(config.target, least, tuple(grown), tuple(plain), full)
    save_plot(result, o[int(np.argmax(deep.errors))] if result.deep else None, config.out / "depth.png")
    console.print(_needed(result), _trained(result))
    net, params = folding(config.folds)
    x = judged(config.folds)
    error = relative_errors(outputs(net, params, x), tent(config.folds, x))
    console.print(
        f"Set by hand, {config.folds} layers of 2 units ({net.parameter_count} parameters) have error {error:.0e}.",
        highlight=False,
    )
    conclude(console, result, config.out, "depth.png")
    return result


def shallow_parameters(units: int) -> int:
    """Of one hidden layer: two weights and a bias for each unit, and the bias of the output."""
    return 3 * units + 1


def grow(width: int, config: Sawtooth) -> Iterator[tuple[Trained, np.ndarray]]:
    """Train on one fold, put a new layer on top, train on two folds, and so on, until a seed misses the target.

    Args:
        width: Of each hidden layer.
        config: The most folds, and the training.

    Yields:
        For each number of folds the networks, one for each seed, and their outputs at the judged points.
    """
    rngs = [np.random.default_rng((config.seed + i, width)) for i in range(config.seeds)]
    x = np.broadcast_to(points(EXAMPLES).astype(np.float32), (config.seeds, EXAMPLES, 1))
    below, z = None, x  # z is what the network so far makes of x, and the new layer's input
    for k in range(1, config.folds + 1):
        y = tent(k, points(EXAMPLES)).astype(np.float32)
        layers = new_layers(rngs, width, config.starts, config.steps, config.learning_rate, z, y)
        params = layers if below is None else on_top(below, layers)
        net = network(k, width)
        below, _ = jax.device_get(train(net, config.steps, config.joint_rate, params, x, y))
        z = outputs(net, below, points(EXAMPLES)).astype(np.float32)
        o = outputs(net, below, judged(k))
        trained = Trained(k, k, width, tuple(map(float, relative_errors(o, tent(k, judged(k))))))
        yield trained, o
        if not trained.worst <= config.target:
            return


def from_random_weights(folds: int, depth: int, widths: Sequence[int], config: Sawtooth) -> list[Trained]:
    """Networks of one depth and several widths that learn all folds at once, in as many steps as growing takes."""
    net = network(depth, widths[-1])
    x = points(EXAMPLES)
    starts = [
        start(np.random.default_rng((config.seed + i, depth, width)), depth, width, widths[-1], x)
        for width in widths
        for i in range(config.seeds)
    ]
    examples = np.broadcast_to(x.astype(np.float32), (len(starts), EXAMPLES, 1))
    y = tent(folds, x).astype(np.float32)
    params, _ = train(net, 2 * folds * config.steps, config.plain_rate, stacked(starts), examples, y)
    errors = relative_errors(outputs(net, params, judged(folds)), tent(folds, judged(folds))).reshape(len(widths), -1)
    return [Trained(folds, depth, width, tuple(map(float, of))) for width, of in zip(widths, errors, strict=True)]


def save_plot(result: Result, o: np.ndarray | None, path: Path) -> None:
    """Units and parameters over the number of straight pieces, and a part of the largest sawtooth with two fits.

    `o` is what the deep network of the most folds gives at the judged points; None if none reached the target.
    """
    figure, axes = plt.subplots(1, 3, figsize=(17, 5.2), layout="constrained", width_ratios=(1, 1, 1.4))
    folds, deep = len(result.least), result.deep
    pieces = [2**k for k in range(1, folds + 1)]
    shallow = [net for net in map(result.one_hidden_layer, range(1, folds + 1)) if net]
    grown = [net for net in result.grown if deep and net.width == deep.width]
    for axis, quantity in zip(axes[:2], ("units", "parameters"), strict=True):
        what = "hidden units" if quantity == "units" else "weights and biases"
        least = result.least if quantity == "units" else [shallow_parameters(n) for n in result.least]
        axis.plot(pieces, least, "s-", color="C0", label="one hidden layer, bound: at least")
        for nets, style, color, label in (
            (shallow, "x", "C0", "one hidden layer, trained: best seed"),
            (grown, "o-", "C3", "deep, grown and trained: every seed"),
        ):
            sizes = [getattr(net, quantity) for net in nets]
            axis.plot([2**net.folds for net in nets], sizes, style, color=color, markersize=8, label=label)
        axis.set(xscale="log", yscale="log", xlabel="straight pieces of the sawtooth", ylabel=what)
        axis.set_title(f"{what} for a relative error of {result.target:g}")
        axis.set_xticks(pieces, map(str, pieces))
        ticks = [2**i for i in range(10)]
        axis.set_yticks(ticks, map(str, ticks))
        highest = max(*least, *(getattr(net, quantity) for net in shallow))
        axis.set_ylim(0.8 * min(least), 3 * highest)  # the legend has its place above the lines
        for each in (axis.xaxis, axis.yaxis):
            each.set_minor_locator(NullLocator())
        axis.grid(alpha=0.3)
    axes[0].legend(loc="upper left", fontsize=9)
    x = judged(folds)[:, 0]
    y = tent(folds, x)
    shown = slice(min(len(x), 16 * JUDGED))  # all teeth are alike: eight of them can be told apart
    axes[2].plot(x[shown], y[shown], color="black", linewidth=5, alpha=0.25, label="sawtooth")
    if deep and o is not None:
        n = (deep.parameters - 1) // 3
        fit = best_fit(x, y, n + 1)
        error = relative_errors(fit[:, None], y[:, None])
        label = f"best with one hidden layer of {n} units (bound): error {error:.2f}"
        axes[2].plot(x[shown], fit[shown], color="C0", label=label)
        label = f"{deep.depth} hidden layers of {deep.width}, trained: error {deep.worst:.3f}, the worst seed"
        axes[2].plot(x[shown], o[shown, 0], color="C3", linewidth=1.2, label=label)
        axes[2].set_title(
            f"{2**folds} pieces and {deep.parameters} parameters: the first {len(x[shown]) // JUDGED} pieces"
        )
    axes[2].set(xlabel="input $x$", ylabel="output", ylim=(-0.1, 1.5))
    axes[2].legend(loc="upper left", fontsize=9)
    axes[2].grid(alpha=0.3)
    save(figure, path)


def _needed(result: Result) -> Table:
    table = Table(title=f"what a relative error of {result.target:g} needs", title_justify="left")
    bound, grown = ("one layer,\nat least", "para-\nmeters"), ("deep,\ngrown", "units", "para-\nmeters")
    for column in ("straight\npieces", *bound, *grown, "largest\nerror", "seeds that\nreach it"):
        table.add_column(column, justify="right")
    for net in result.grown:
        n = result.least[net.folds - 1]
        sizes = (2**net.folds, n, shallow_parameters(n), f"{net.depth} × {net.width}", net.units, net.parameters)
        reaching = sum(error <= result.target for error in net.errors)
        table.add_row(*map(str, sizes), f"{net.worst:.4f}", f"{reaching} of {len(net.errors)}")
    return table


def _trained(result: Result) -> Table:
    table = Table(title="trained from random weights alone: error of the best seed", title_justify="left")
    table.add_column("straight\npieces", justify="right")
    table.add_column("one hidden layer, by units")
    table.add_column("deep, by layers × units")
    for k in sorted({net.folds for net in result.plain}):
        of_folds = [net for net in result.plain if net.folds == k]
        shallow = "\n".join(f"{net.width}: {net.best:.2g}" for net in of_folds if net.depth == 1)
        deep = "\n".join(f"{net.depth} × {net.width}: {net.best:.2g}" for net in of_folds if net.depth > 1)
        table.add_row(str(2**k), shallow, deep)
    return table


if __name__ == "__main__":
    command_line(main, Sawtooth)
