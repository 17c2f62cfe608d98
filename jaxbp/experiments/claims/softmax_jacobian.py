"""Softmax and the element-wise rule: what takes the place of MATLAB's `.*` when ∂o/∂a is a matrix, in numbers.

    python -m experiments.softmax_jacobian
    python -m experiments.softmax_jacobian --logits 2.0 1.0 -1.0 --target 0

Prints the answer, and writes `softmax.png`: the Jacobian, and δ by every rule. Ends with exit code 1 should the product
with the Jacobian, or o − y, not be δ of jax.grad, or should the Jacobian's diagonal alone be. Logits that are right
already, or so wrong that the softmax of the target is 0, decide nothing about the diagonal.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table

import jaxbp
from jaxbp.experiments.claims.output_layer import Deltas, deltas, distance, relative_error
from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.options import listed
from jaxbp.experiments.common.plots import plt, save
from jaxbp.experiments.common.verdicts import conclude, in_a_word, verdict

CLAIM = (
    "Softmax activation is a special case because the function is not computed with respect to one input, but with "
    "respect to multiple inputs. Therefore, one cannot use exactly the same type of update, as with other activation "
    "functions. … The key point is that the value of ∂L/∂v_i has a particularly simple form in the case of the "
    "softmax: ∂L/∂v_i = Σ_j ∂L/∂o_j · ∂o_j/∂v_i = o_i − y_i"
)
PLACE = "The Special Case of Softmax"

PAIRS = (
    ("sigmoid", "squared_error"),
    ("sigmoid", "binary_cross_entropy"),
    ("linear", "squared_error"),
    ("softmax", "squared_error"),
    ("softmax", "cross_entropy"),
)
"""Output activations and losses, the first being the MATLAB code's."""

SHOWN = 5  # classes that fit on a line, or numbers into a picture of the Jacobian
MOST_ERROR = 1e-9


@dataclass(frozen=True)
class Question:
    """How a softmax layer fits the element-wise rule, for logits and a target of your own."""

    logits: tuple[float, ...] = (2.0, 1.0, -1.0)
    """The pre-activation a of the output layer: one number for each class."""
    target: int = 0
    """The class id, counted from 0."""
    out: Path = Path("runs/softmax_jacobian")
    """The folder to write to."""

    def __post_init__(self):
        if len(self.logits) < 2:
            raise ValueError(f"a softmax needs at least two logits, got {len(self.logits)}")
        if not all(map(math.isfinite, self.logits)):
            raise ValueError(f"logits must be finite, got {listed(self.logits)}")
        if not 0 <= self.target < len(self.logits):
            raise ValueError(
                f"target {self.target} is outside 0…{len(self.logits) - 1}, the class ids of {len(self.logits)} logits"
            )


@dataclass(frozen=True, eq=False)  # arrays have no single truth value to compare by
class Result:
    """The answer for some logits.

    Attributes:
        question: The logits and the target.
        y: The target as a row of 0 and 1, `(n,)`.
        pairs: δ by the names of the output activation and the loss.
    """

    question: Question
    y: np.ndarray
    pairs: dict[tuple[str, str], Deltas]

    @property
    def softmax(self) -> Deltas:
        """Of softmax with cross-entropy."""
        return self.pairs[PAIRS[-1]]

    @property
    def sigmoid(self) -> Deltas:
        """Of sigmoid with squared error, of which the MATLAB code is."""
        return self.pairs[PAIRS[0]]

    @property
    def matlab(self) -> np.ndarray:
        """Its rule."""
        o = self.sigmoid.o
        return (o - self.y) * o * (1 - o)

    @property
    def simplified(self) -> np.ndarray:
        """The chapter's o − y."""
        return self.softmax.o - self.y

    @property
    def certain(self) -> bool:
        """Whether the output is the target already, so that δ is nothing but rounding."""
        return bool(np.linalg.norm(self.softmax.automatic) < 1e-9)

    @property
    def error(self) -> float:
        """Of the diagonal alone, relative to δ of jax.grad."""
        return relative_error(self.softmax.diagonal, self.softmax.automatic)

    @property
    def distances(self) -> dict[str, float]:
        """What must be δ of jax.grad, and how far it is from that."""
        referee = self.softmax.automatic
        finite = {pair: of for pair, of in self.pairs.items() if of.finite}
        return {
            "matlab": distance(self.matlab, self.sigmoid.automatic),
            "simplified": distance(self.simplified, referee),
            "backprop": distance(self.softmax.backprop, referee),
            **{f"product, {' and '.join(pair)}": distance(of.product, of.automatic) for pair, of in finite.items()},
        }

    @property
    def wrong(self) -> list[str]:
        """What is not as it must be."""
        diagonal_is_wrong = self.certain or not distance(self.softmax.diagonal, self.softmax.automatic) <= MOST_ERROR
        wrong = [name for name, off in self.distances.items() if not off <= MOST_ERROR]  # as NaN is not
        return wrong if diagonal_is_wrong else [*wrong, "the error of the diagonal"]

    @property
    def holds(self) -> bool | None:
        """Whether nothing is wrong but the diagonal, where that can be told."""
        return verdict([not self.wrong], confirms=not self.certain and self.softmax.finite)

    @property
    def decision(self) -> str:
        """The numbers beside their bounds, in a line."""
        products = [off for name, off in self.distances.items() if name.startswith("product")]
        diagonal = f"is off by {self.error:.0%} (more than that asked)"
        if self.certain or not self.softmax.finite:
            why = "these logits are right already" if self.certain else "0 · ∞ is no number"
            diagonal = f"decides nothing, for {why}"
        wrong = "".join(f"; wrong: {name}" for name in self.wrong)
        return (
            f"against jax.grad o − y is off by {self.distances['simplified']:.1e}, the product (∂o/∂a)ᵀ ∂L/∂o with "
            f"{len(products)} pairs of activation and loss by {np.max(products):.1e} (at most {MOST_ERROR:.0e} of δ "
            f"allowed), and its diagonal alone {diagonal}{wrong}: {in_a_word(self.holds)}"
        )


def main(config: Question, console: Console | None = None) -> Result:
    """Answer the question for these logits and this target."""
    console = console or terminal()
    with jax.enable_x64(True):
        a = jnp.asarray(config.logits, jnp.float64)
        y = jaxbp.cross_entropy.targets(a, jnp.asarray(config.target))
        pairs = {pair: deltas(*(getattr(jaxbp, name) for name in pair), a, y) for pair in PAIRS}
    result = Result(config, np.asarray(y), pairs)
    save_plot(result, config.out / "softmax.png")
    _print_matlab(console, result)
    _print_jacobian(console, result.softmax)
    _print_deltas(console, result)
    _print_pairs(console, result)
    conclude(console, result, config.out, "softmax.png")
    return result


def save_plot(result: Result, path: Path) -> None:
    """The Jacobian with its numbers, and δ by the product, by o − y, and by the element-wise rule."""
    of, n = result.softmax, len(result.y)
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), width_ratios=(1, 1.4), layout="constrained")
    logits = ", ".join([f"{a:g}" for a in result.question.logits[:SHOWN]] + ["…"] * (n > SHOWN))
    figure.suptitle(f"Softmax of the logits $({logits})$ with cross-entropy, target class {result.question.target}")
    largest = float(np.max(np.abs(of.jacobian))) or 1.0
    image = left.imshow(of.jacobian, cmap="RdBu_r", vmin=-largest, vmax=largest)
    if n <= SHOWN:
        for (i, j), value in np.ndenumerate(of.jacobian):
            color = "white" if abs(value) > 0.6 * largest else "black"
            left.text(j, i, f"${value:.3f}$", ha="center", va="center", color=color)
        left.set_xticks(range(n), [f"$a_{j}$" for j in range(n)])
        left.set_yticks(range(n), [f"$o_{i}$" for i in range(n)])
    left.set(title="the Jacobian: each output by each logit", xlabel="logit", ylabel="output")
    figure.colorbar(image, ax=left, label="∂o / ∂a", shrink=0.8)
    ways = {
        "jax.grad": of.automatic,
        "the product (∂o/∂a)ᵀ ∂L/∂o": of.product,
        "o − y": result.simplified,
        "the diagonal of ∂o/∂a times ∂L/∂o: wrong": of.diagonal,
    }
    for i, (label, delta) in enumerate(ways.items()):
        color = ("black", "C0", "C2", "C3")[i]
        bars = right.bar(np.arange(n) + 0.2 * (i - 1.5), delta, width=0.18, color=color, label=label)
    if n <= SHOWN:  # what is wrong has its numbers: a bar of 0 would not be seen
        right.bar_label(bars, [f"${d + 0.0:.2g}$" for d in of.diagonal], color="C3")
    right.axhline(0, color="grey", linewidth=0.8)
    right.margins(y=0.1)
    right.set(title="δ = ∂L/∂a by every rule", xlabel="class", ylabel="δ")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4)
    save(figure, path)


def _print_matlab(console: Console, result: Result) -> None:
    config, sigmoid = result.question, result.sigmoid
    console.print("\n1. The MATLAB rule, for a sigmoid and the squared error", style="bold")
    table = _table("", len(config.logits))
    table.add_row("logits a", *_cells(config.logits))
    table.add_row(f"target y, class {config.target}", *_cells(result.y))
    table.add_row("o = sigmoid(a)", *_cells(sigmoid.o))
    table.add_row("(o − y) .* o .* (1 − o)", *_cells(result.matlab))
    table.add_row("δ of jaxbp.backprop", *_cells(sigmoid.backprop))
    console.print(table)
    _say(
        console,
        f"Relative error {relative_error(result.matlab, sigmoid.automatic):.1e}. The rule multiplies two vectors, "
        "∂L/∂o = o − y and o .* (1 − o), because each output of a sigmoid depends on its own logit alone: the second "
        "vector is the diagonal of a Jacobian that has nothing else.",
    )


def _print_jacobian(console: Console, of: Deltas) -> None:
    J, dL_do = of.jacobian, of.gradient
    n = len(J)
    console.print("\n2. Softmax: every output depends on every logit", style="bold")
    table = _table("∂o/∂a", n, "a")
    for i, row in enumerate(J[:SHOWN]):
        table.add_row(f"o{i}", *_cells(row))
    console.print(table)
    _say(
        console,
        f"∂L/∂o has the shape {dL_do.shape}, ∂o/∂a the shape {J.shape}. Their element-wise product has no meaning: "
        f"NumPy, and MATLAB since R2016b, make it an array of shape {np.broadcast_shapes(dL_do.shape, J.shape)} "
        f"without complaint, but δ has the shape {of.backprop.shape}.",
    )
    _say(
        console,
        f"The Jacobian is n × n, here {n} × {n}: a row for each output, a column for each logit. The comment's m × n "
        "with m parameters would be that of another function, ∂o/∂W with the weights before the softmax, which has "
        "no parameters of its own; nobody needs to form it, because ∂L/∂W = h δᵀ.",
    )


def _print_deltas(console: Console, result: Result) -> None:
    config, of = result.question, result.softmax
    n = len(config.logits)
    console.print("\n3. What works: δ = (∂o/∂a)ᵀ ∂L/∂o, here for cross-entropy", style="bold")
    table = _table("", n)
    table.add_column("relative error", justify="right")
    table.add_row("o = softmax(a)", *_cells(of.o))
    table.add_row("∂L/∂o = −y / o", *_cells(of.gradient))
    ways = {
        "(∂o/∂a)ᵀ ∂L/∂o": of.product,
        "o − y": result.simplified,
        "δ of jaxbp.backprop": of.backprop,
        "diagonal .* ∂L/∂o": of.diagonal,
    }
    for label, delta in ways.items():
        table.add_row(label, *_cells(delta), f"{relative_error(delta, of.automatic):.1e}")
    console.print(table)
    if not of.finite:
        _say(
            console,
            "The softmax of the target is 0 in float64 and ∂L/∂o infinite: 0 · ∞ is no number, and of the two "
            "forms only o − y is left. This is why jaxbp uses it without being asked.",
        )
        return
    _say(
        console,
        "So yes, a dot product: that of ∂L/∂o with each column of the Jacobian. For cross-entropy it collapses to "
        "o − y, and the Jacobian need not be formed.",
    )
    if result.certain:
        _say(console, "These logits are right already: δ is 0 but for rounding, whichever way it is computed.")
        return
    _say(
        console,
        f"The diagonal alone is right for the target, class {config.target}, and gives 0 for every other logit, where "
        f"δ is o: wrong by {result.error:.0%}. For any logits of {n} classes the error is between "
        f"1/√n = {1 / math.sqrt(n):.0%} and 1/√2 = 71%.",
    )


def _print_pairs(console: Console, result: Result) -> None:
    console.print("\n4. The same product for every activation and every loss", style="bold")
    table = Table()
    table.add_column("activation and loss")
    table.add_column("error of (∂o/∂a)ᵀ ∂L/∂o", justify="right")
    table.add_column("error of diagonal .* ∂L/∂o", justify="right")
    for pair, of in result.pairs.items():
        errors = (relative_error(delta, of.automatic) for delta in (of.product, of.diagonal))
        table.add_row(" and ".join(pair), *(f"{error:.1e}" for error in errors))
    console.print(table)
    _say(console, "Errors are relative to the gradient of jax.grad, which uses none of these rules; all in float64.")


def _table(corner: str, n: int, letter: str = "class ") -> Table:
    table = Table()
    table.add_column(corner, no_wrap=True)
    for j in range(min(n, SHOWN)):
        table.add_column(f"{letter}{j}", justify="right")
    if n > SHOWN:
        table.add_column(f"{n - SHOWN} more", justify="right")
    return table


def _cells(values: Any) -> list[str]:
    cells = [f"{value:.5g}" for value in values[:SHOWN]]
    return [*cells, "…"] if len(values) > SHOWN else cells


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False)


if __name__ == "__main__":
    command_line(main, Question)
