"""The perceptron: within its mistake bound where a line separates, in a cycle on XOR, which a hidden layer solves.

    python -m experiments.perceptron
    python -m experiments.perceptron --gaps 0.2 0.01 --examples 400 --out runs/narrow

"The perceptron algorithm uses the perceptron criterion": it is backpropagation of `jaxbp.perceptron` through a network
without hidden layers, W ← W − ∂L/∂W for one example after the other, in the same order in each pass, from weights of 0.
A mistake is an update: an example at a margin y o of at most 0, those of exactly 0 among them. With the bias as the
weight of one more input of 1, there are at most (R/γ)² of them in all: R is the largest norm of an input, γ the widest
margin that a separator of norm 1 has. That is asked of random data of known gaps and of iris setosa against the rest.
On XOR the weights must return to where they were, which then repeats for ever. The same updates of the same loss, with
nothing added but a hidden layer of tanh units, must learn XOR in no more mistakes than the perceptron made. Writes
`perceptron.png`; ends with exit code 1 should any of this not hold. In fewer passes over XOR than when nothing is
given, weights that do not return, or a hidden layer that has not learned it yet, decide nothing.

Source: Novikoff, On convergence proofs on perceptrons, 1962; Minsky and Papert, Perceptrons, 1969.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table
from scipy.optimize import nnls

import jaxbp
from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.data import load
from jaxbp.experiments.common.options import POSITIVE, check_options, full_size, whole
from jaxbp.experiments.common.plots import plt, save
from jaxbp.experiments.common.verdicts import conclude, in_a_word, verdict

CLAIM = (
    "Neural networks are fundamentally more powerful than their building blocks because the parameters of these models "
    "are learned jointly to create a highly optimized composition function of these models."
)
PLACE = "The Multilayer Network as a Computational Graph"

LOSS = jaxbp.perceptron
XOR = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([-1.0, 1.0, 1.0, -1.0])
HIDDEN = jaxbp.layered([2, 4, 1], hidden=jaxbp.tanh, output=jaxbp.linear)


@dataclass(frozen=True)
class Perceptron:
    """Run the perceptron on data that a line separates and on XOR, and a hidden layer on XOR."""

    gaps: tuple[float, ...] = (0.3, 0.1, 0.02)
    """By how much the random data keep off the line between the classes, the bias counted as an input of 1."""
    examples: int = 100
    """In each of the random data."""
    passes: int = 100
    """Of the perceptron over XOR."""
    seed: int = 0
    """Fixes the random data, the split of iris and the weights of the hidden layer."""
    out: Path = Path("runs/perceptron")
    """The folder to write to."""

    def __post_init__(self):
        if not self.gaps:
            raise ValueError("gaps must be positive and finite, got none")
        check_options(self, gaps=POSITIVE, examples=whole(2), passes=whole(2))


@dataclass(frozen=True, eq=False)  # arrays have no single truth value to compare by
class Run:
    """The perceptron on one data set that can be separated.

    Attributes:
        name: What the table calls it.
        x: The inputs, `(examples, features)`.
        y: −1 or 1, `(examples,)`.
        mistakes: In each pass.
        weights: What was learned, the bias last, `(features + 1,)`.
        best: The separator of the widest margin, of norm 1.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    mistakes: tuple[int, ...]
    weights: np.ndarray
    best: np.ndarray

    @property
    def radius(self) -> float:
        """R, the largest norm of an input with its 1."""
        return float(np.max(np.linalg.norm(_with_ones(self.x), axis=1)))

    @property
    def margin(self) -> float:
        """γ, the least margin of the best separator: any separator's makes a bound that is true."""
        return float(np.min(self.y * (_with_ones(self.x) @ self.best)))

    @property
    def bound(self) -> float:
        """(R/γ)², which the mistakes of all passes together cannot exceed."""
        return (self.radius / self.margin) ** 2

    @property
    def wrong(self) -> int:
        """The examples that what was learned has on the wrong side, or on the line."""
        return _wrong(self.y, _with_ones(self.x) @ self.weights)

    @property
    def holds(self) -> bool:
        """No mistake in the last pass, none left, and no more in all than the bound allows."""
        return self.mistakes[-1] == 0 and self.wrong == 0 and sum(self.mistakes) <= self.bound


@dataclass(frozen=True, eq=False)
class Result:
    """Everything that was run.

    Attributes:
        runs: The perceptron on each of the data that a line separates.
        xor: Its mistakes on XOR, in each pass.
        weights: Its weights on XOR before the first pass and after each, the bias last, `(passes + 1, 3)`.
        hidden: The mistakes of the network with a hidden layer on XOR, in each pass.
        params: Its parameters.
        outputs: Its outputs for the four examples, `(4,)`.
        full: Whether there were passes enough over XOR to refute the claim.
    """

    runs: tuple[Run, ...]
    xor: tuple[int, ...]
    weights: np.ndarray
    hidden: tuple[int, ...]
    params: jaxbp.Params
    outputs: np.ndarray
    full: bool = True

    @property
    def cycle(self) -> tuple[int, int] | None:
        """After how many passes, with how many mistakes, the weights on XOR are what they were; None if never."""
        seen: dict[bytes, int] = {}
        for number, weights in enumerate(self.weights + 0.0):  # −0 is 0
            before = seen.setdefault(weights.tobytes(), number)
            if before < number:
                return number - before, sum(self.xor[before:number])
        return None

    @property
    def wrong(self) -> int:
        """The examples of XOR that the hidden layer has on the wrong side, or on the border."""
        return _wrong(XOR[1], self.outputs)

    @property
    def holds(self) -> bool | None:
        """Every bound is kept, XOR is never learned without a hidden layer, and is with one."""
        facts = [*(run.holds for run in self.runs), self.cycle is None or self.cycle[1] > 0]
        return verdict(facts, [self.cycle is not None, self.wrong == 0], refutes=self.full)

    @property
    def decision(self) -> str:
        """The numbers beside their bounds, in a line."""
        counts = ", ".join(f"{sum(run.mistakes)} of {run.bound:.1f}" for run in self.runs)
        left = sum(run.wrong for run in self.runs)
        returns = f"weights that never return in {len(self.xor)} passes"
        if self.cycle is not None:
            returns = "weights that return after {} pass(es) with {} mistakes".format(*self.cycle)
        return (
            f"where a line separates {counts} mistakes allowed, {left} examples wrong in the end; on XOR {returns}; "
            f"with a hidden layer {sum(self.hidden)} mistakes in {len(self.hidden)} passes, {self.wrong} of 4 wrong: "
            f"{in_a_word(self.holds)}"
        )


def main(config: Perceptron, console: Console | None = None) -> Result:
    """Run everything, print a table and write the plot."""
    console = console or terminal()
    rng = np.random.default_rng(config.seed)
    sets = [(f"gap {gap:g}", *separated(rng, config.examples, gap)) for gap in config.gaps]
    iris = load("iris", seed=config.seed, dtype=np.float64)
    sets.append(("iris setosa", iris.x_train, np.where(iris.y_train == 0, 1.0, -1.0)))
    with jax.enable_x64(True):
        runs = tuple(run_perceptron(*named) for named in sets)
        xor = list(islice(passes(_single(2), _zeros(2), *XOR), config.passes))
        mistakes = tuple(made for _, made in xor)
        weights = np.stack([np.zeros(3), *(_weights(params) for params, _ in xor)])
        start = jax.jit(jaxbp.init_params, static_argnums=1)(jax.random.key(config.seed), HIDDEN)
        params, hidden = learned(HIDDEN, start, *XOR, most=sum(mistakes))
        outputs = np.asarray(jaxbp.apply(HIDDEN, params, XOR[0])[:, 0])
        result = Result(runs, mistakes, weights, hidden, params, outputs, full_size(config, "passes"))
        save_plot(result, config.out / "perceptron.png")
    console.print(_table(result))
    conclude(console, result, config.out, "perceptron.png")
    return result


def separated(rng: np.random.Generator, examples: int, gap: float) -> tuple[np.ndarray, np.ndarray]:
    """Two clouds in the plane, as x and y = ±1: y u · (x, 1) is at least the gap for a line's u of norm 1.

    Examples that come closer are moved away, just as far as they must.
    """
    angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.5, 0.5)
    u = np.array([np.cos(angle), np.sin(angle), offset]) / np.hypot(1, offset)
    y = np.where(np.arange(examples) % 2 == 0, 1.0, -1.0)
    x = rng.normal(scale=0.7, size=(examples, 2)) + y[:, None] * u[:2]
    short = np.maximum(gap - y * (_with_ones(x) @ u), 0)
    return x + (y * short)[:, None] * u[:2] / np.sum(u[:2] ** 2), y


def widest_separator(x: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """The separator of the widest margin, the bias as the weight of one more input of 1.

    min ‖w‖² where y_i w · (x_i, 1) ≥ 1, which is a problem of non-negative least squares.

    Returns:
        It, with norm 1 and the bias last, `(features + 1,)`; None if nothing separates the classes.

    Source: Lawson and Hanson, Solving least squares problems, 1974, chapter 23, "LDP".
    """
    A = y[:, None] * _with_ones(x)
    E, f = np.vstack([A.T, np.ones(len(A))]), np.eye(A.shape[1] + 1)[-1]
    u, _ = nnls(E, f)
    residual = E @ u - f
    w = residual[:-1]  # of the wanted direction: the last element is negative, and scales it
    if np.linalg.norm(residual) < 1e-9 or not np.min(A @ w) > 0:
        return None
    return w / np.linalg.norm(w)


def run_perceptron(name: str, x: np.ndarray, y: np.ndarray) -> Run:
    """The perceptron on data that a line separates; a ValueError if none does."""
    best = widest_separator(x, y)
    if best is None:
        raise ValueError(f"no line separates the classes of {name}, so there is no bound on the mistakes")
    features = x.shape[1]
    bound = Run(name, x, y, (), best, best).bound
    params, mistakes = learned(_single(features), _zeros(features), x, y, most=bound)
    return Run(name, x, y, mistakes, _weights(params), best)


def learned(
    net: jaxbp.Network, params: jaxbp.Params, x: np.ndarray, y: np.ndarray, *, most: float
) -> tuple[jaxbp.Params, tuple[int, ...]]:
    """The parameters after a pass without mistakes, or after more than `most`; and the mistakes of each pass."""
    counts: list[int] = []
    more = passes(net, params, x, y)
    while not counts or (counts[-1] > 0 and sum(counts) <= most):
        params, mistakes = next(more)
        counts.append(mistakes)
    return params, tuple(counts)


def passes(
    net: jaxbp.Network, params: jaxbp.Params, x: np.ndarray, y: np.ndarray
) -> Iterator[tuple[jaxbp.Params, int]]:
    """One pass over the examples after another, without end, each in the same order.

    W ← W − ∂L/∂W for each example

    Yields:
        The parameters after a pass, and the updates it made.
    """
    gradient = jaxbp.value_and_grad(net, LOSS)

    def update(params: jaxbp.Params, example: tuple[jax.Array, jax.Array]) -> tuple[jaxbp.Params, jax.Array]:
        _, grads = gradient(params, *example)
        # the value is 0 at a margin of 0, but the output's bias moves with every update
        mistake = grads[net.output]["bias"][0] != 0
        return jax.tree.map(lambda W, gradient_of_W: W - gradient_of_W, params, grads), mistake

    one_pass = jax.jit(lambda params: jax.lax.scan(update, params, (jnp.asarray(x), jnp.asarray(y[:, None]))))
    while True:
        params, mistakes = one_pass(params)
        yield params, int(mistakes.sum())


def save_plot(result: Result, path: Path) -> None:
    """Mistakes with their bounds, XOR with and without a hidden layer, and the lines that were found."""
    figure = plt.figure(figsize=(15, 10), layout="constrained")
    figure.suptitle("The perceptron criterion, one example at a time")
    above, below = figure.subfigures(2, 1)
    left, middle, right = above.subplots(1, 3)
    for i, run in enumerate(result.runs):
        label = f"{run.name}: {sum(run.mistakes)} of {run.bound:.0f} allowed"
        left.plot(
            range(1, len(run.mistakes) + 1), np.cumsum(run.mistakes), "o-", color=f"C{i}", markersize=3, label=label
        )
        left.axhline(run.bound, color=f"C{i}", linestyle="--")
    left.set(title="a line separates: mistakes, and bounds (dashed)", yscale="log")
    middle.plot(range(1, len(result.xor) + 1), np.cumsum(result.xor), label="perceptron")
    middle.plot(
        range(1, len(result.hidden) + 1), np.cumsum(result.hidden), label="one hidden layer, until none is left"
    )
    middle.set(title="XOR: mistakes")
    for axis in (left, middle):
        axis.set(xlabel="pass over the examples", ylabel="mistakes so far")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        axis.legend()
    _draw_regions(right, result.params)

    drawn = [run for run in result.runs if run.x.shape[1] == 2]
    for axis, run in zip(below.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        _draw_points(axis, run.x, run.y)
        limits = axis.get_xlim(), axis.get_ylim()
        _draw_line(axis, run.weights, "-", "perceptron")
        _draw_line(axis, run.best, ":", f"widest margin, γ = {run.margin:.3g}")
        axis.set(title=run.name, xlim=limits[0], ylim=limits[1], xlabel="$x_1$", ylabel="$x_2$")
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    save(figure, path)


def _draw_regions(axis: Axes, params: jaxbp.Params) -> None:
    """Where the hidden layer says yes and no, and the examples of XOR."""
    ticks = np.linspace(-0.5, 1.5, 201)
    grid = np.stack(np.meshgrid(ticks, ticks), axis=-1)
    o = np.asarray(jaxbp.apply(HIDDEN, params, grid)[..., 0])
    axis.contourf(ticks, ticks, o > 0, levels=[-0.5, 0.5, 1.5], colors=["C0", "C1"], alpha=0.3)
    _draw_points(axis, *XOR)
    axis.set(title="XOR: what the hidden layer says", xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)


def _draw_points(axis: Axes, x: np.ndarray, y: np.ndarray) -> None:
    for sign, marker, color in ((-1, "s", "C0"), (1, "o", "C1")):
        axis.plot(*x[y == sign].T, marker, color=color, markersize=5, label=f"y = {sign}".replace("-", "−"))


def _draw_line(axis: Axes, weights: np.ndarray, style: str, label: str) -> None:
    w, b = weights[:2], weights[2]
    if np.any(w):
        foot, along = -b * w / (w @ w), np.array([-w[1], w[0]])
        axis.axline(foot, foot + along / np.linalg.norm(along), color="black", linestyle=style, label=label)


def _single(features: int) -> jaxbp.Network:
    """The perceptron: one output, no hidden layer."""
    return jaxbp.layered([features, 1], hidden=(), output=jaxbp.linear)


def _zeros(features: int) -> jaxbp.Params:
    return {"o": {"x": jnp.zeros((features, 1)), "bias": jnp.zeros(1)}}


def _weights(params: jaxbp.Params) -> np.ndarray:
    return np.append(params["o"]["x"], params["o"]["bias"])


def _with_ones(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def _wrong(y: np.ndarray, o: np.ndarray) -> int:
    return int(np.sum(~(y * o > 0)))


def _table(result: Result) -> Table:
    table = Table(title="one example at a time; a mistake is a margin of at most 0", title_justify="left")
    for column in ("data", "R", "γ", "bound (R/γ)²", "mistakes", "passes", "wrong in\nthe end"):
        table.add_column(column, justify="left" if column == "data" else "right")
    for run in result.runs:
        numbers = (f"{run.radius:.3f}", f"{run.margin:.4f}", f"{run.bound:.1f}")
        table.add_row(run.name, *numbers, f"{sum(run.mistakes)}", f"{len(run.mistakes)}", f"{run.wrong}")
    without = _wrong(XOR[1], _with_ones(XOR[0]) @ result.weights[-1])
    for name, mistakes, wrong in (("XOR", result.xor, without), ("XOR, hidden layer", result.hidden, result.wrong)):
        table.add_row(name, "", "", "", f"{sum(mistakes)}", f"{len(mistakes)}", f"{wrong}")
    return table


if __name__ == "__main__":
    command_line(main, Perceptron)
