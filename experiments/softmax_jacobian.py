"""Softmax and the element-wise rule: what takes the place of MATLAB's `.*` when ∂o/∂a is a matrix, in numbers.

    python -m experiments.softmax_jacobian
    python -m experiments.softmax_jacobian --logits 2.0 1.0 -1.0 --target 0

Prints everything and writes no file. Ends with exit code 1 should a claim not hold.
"""

import math
import sys
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Array
from rich.console import Console
from rich.table import Table

import jaxbp

PAIRS = (
    ("sigmoid", "squared_error"),
    ("sigmoid", "binary_cross_entropy"),
    ("linear", "squared_error"),
    ("softmax", "squared_error"),
    ("softmax", "cross_entropy"),
)
"""Output activations and losses, the first being the MATLAB code's."""

SHOWN = 5  # classes that fit on a line


@dataclass(frozen=True)
class Question:
    """How a softmax layer fits the element-wise rule, for logits and a target of your own."""

    logits: tuple[float, ...] = (2.0, 1.0, -1.0)
    """The pre-activation a of the output layer: one number for each class."""
    target: int = 0
    """The class id, counted from 0."""

    def __post_init__(self):
        if len(self.logits) < 2:
            raise ValueError(f"a softmax needs at least two logits, got {len(self.logits)}")
        if not all(map(math.isfinite, self.logits)):
            raise ValueError(f"logits must be finite, got {' '.join(map(str, self.logits))}")
        if not 0 <= self.target < len(self.logits):
            raise ValueError(
                f"target {self.target} is outside 0…{len(self.logits) - 1}, the class ids of {len(self.logits)} logits"
            )


def main(config: Question, console: Console | None = None) -> dict[str, Any]:
    """Answer the question for these logits and this target.

    Args:
        config: The logits and the target.
        console: Where to print; the terminal when None.

    Returns:
        The numbers: `o`, `y`, `dL_do`, `jacobian` and every δ (`product`, `simplified`, `diagonal`, `backprop`,
        `automatic`) of softmax with cross-entropy; `matlab`, its rule for sigmoid with squared error; `errors` of
        these relative to `jax.grad`; `pairs`, the errors of product and diagonal for each activation and loss; and
        whether all of it `holds`.
    """
    console = console or Console()
    with jax.enable_x64(True):
        a = jnp.asarray(config.logits, jnp.float64)
        y = jaxbp.cross_entropy.targets(a, jnp.asarray(config.target))
        forms = {pair: deltas(*(getattr(jaxbp, name) for name in pair), a, y) for pair in PAIRS}
    y = np.asarray(y)
    sigmoid, softmax = forms[PAIRS[0]], forms[PAIRS[-1]]
    o = sigmoid["o"]
    matlab = (o - y) * o * (1 - o)
    numbers: dict[str, Any] = softmax | {"y": y, "matlab": matlab, "simplified": softmax["o"] - y}
    referee = numbers["automatic"]
    numbers["errors"] = {
        "matlab": relative_error(matlab, sigmoid["automatic"]),
        **{way: relative_error(numbers[way], referee) for way in ("product", "simplified", "backprop", "diagonal")},
    }
    numbers["pairs"] = {
        pair: {way: relative_error(form[way], form["automatic"]) for way in ("product", "diagonal")}
        for pair, form in forms.items()
    }
    right = {
        "matlab": agree(matlab, sigmoid["automatic"]),
        **{way: agree(numbers[way], referee) for way in ("simplified", "backprop")},
        # 0 · ∞ says nothing: a product can be right only where its factors are finite
        **{
            f"product, {' and '.join(pair)}": agree(form["product"], form["automatic"])
            for pair, form in forms.items()
            if np.all(np.isfinite(form["dL_do"]))
        },
    }
    right["the error of the diagonal"] = _certain(numbers) or not agree(numbers["diagonal"], referee)
    numbers["holds"] = all(right.values())
    _print_matlab(console, config, numbers, sigmoid)
    _print_jacobian(console, numbers)
    _print_deltas(console, config, numbers)
    _print_pairs(console, numbers)
    if numbers["holds"]:
        console.print("\nAll of this holds for these logits.", style="bold green")
    else:
        wrong = [name for name, is_right in right.items() if not is_right]
        console.print(f"\nThis does not hold: {'; '.join(wrong)}.", style="bold red")
    return numbers


def deltas(activation: jaxbp.Activation, loss: jaxbp.Loss, a: Array, y: Array) -> dict[str, np.ndarray]:
    """δ = ∂L/∂a of an output layer in every way there is, with what it is made of.

    Args:
        activation: Of the output layer.
        loss: Of one example.
        a: The logits, `(n,)`.
        y: The target, `(n,)`.

    Returns:
        `o`, `dL_do` and `jacobian`; `product` Jᵀ ∂L/∂o; `diagonal` with J's diagonal for J; `backprop`, the
        library's; `automatic`, that of `jax.grad`, which uses none of our rules.
    """
    o = activation.value(a)
    dL_do, J = loss.gradient(o, y), jacobian(activation, a)
    # the output layer alone: its input is its pre-activation, and there are no parameters
    layer = jaxbp.Unit(a.size, activation, {"x": jaxbp.Identity()}, bias=False)
    net, params = jaxbp.Network(inputs={"x": a.size}, units={"o": layer}), {"o": {}}
    forms = {
        "o": o,
        "dL_do": dL_do,
        "jacobian": J,
        "product": J.T @ dL_do,
        "diagonal": jnp.diag(J) * dL_do,
        "backprop": jaxbp.backprop(net, loss, params, a, y).delta["o"],
        "automatic": jax.grad(jaxbp.objective(net, loss), argnums=1)(params, a, y),
    }
    return {name: np.asarray(value) for name, value in forms.items()}


def jacobian(activation: jaxbp.Activation, a: Array) -> Array:
    """∂o_i/∂a_j in row i and column j, `(n, n)`."""
    # the pull-back gives Jᵀ Δ; with a unit vector for Δ that is one row of J, and the batch is all of them
    unit_vectors = jnp.eye(a.size, dtype=a.dtype)
    rows = jnp.broadcast_to(a, unit_vectors.shape)
    return activation.pullback(rows, activation.value(rows), unit_vectors)


def relative_error(ours: Any, theirs: Any) -> float:
    """‖ours − theirs‖ / ‖theirs‖."""
    scale = np.linalg.norm(theirs)
    return float(np.linalg.norm(np.subtract(ours, theirs)) / (scale or 1))


def agree(ours: Any, theirs: Any) -> bool:
    """Whether two δ are the same but for rounding."""
    # o and y are of order one, so that 1 − o loses 1e-16 however small the result
    error = np.linalg.norm(np.subtract(ours, theirs))
    return bool(error <= 1e-9 * np.linalg.norm(theirs) + 1e-12)


def _certain(numbers: dict[str, Any]) -> bool:
    """Whether the output is the target already, so that δ is nothing but rounding."""
    return bool(np.linalg.norm(numbers["automatic"]) < 1e-9)


def _print_matlab(console: Console, config: Question, numbers: dict[str, Any], sigmoid: dict[str, np.ndarray]) -> None:
    console.print("\n1. The MATLAB rule, for a sigmoid and the squared error", style="bold")
    table = _table("", len(config.logits))
    table.add_row("logits a", *_cells(config.logits))
    table.add_row(f"target y, class {config.target}", *_cells(numbers["y"]))
    table.add_row("o = sigmoid(a)", *_cells(sigmoid["o"]))
    table.add_row("(o − y) .* o .* (1 − o)", *_cells(numbers["matlab"]))
    table.add_row("δ of jaxbp.backprop", *_cells(sigmoid["backprop"]))
    console.print(table)
    _say(
        console,
        f"Relative error {numbers['errors']['matlab']:.1e}. The rule multiplies two vectors, ∂L/∂o = o − y and "
        "o .* (1 − o), because each output of a sigmoid depends on its own logit alone: the second vector is the "
        "diagonal of a Jacobian that has nothing else.",
    )


def _print_jacobian(console: Console, numbers: dict[str, Any]) -> None:
    J, dL_do = numbers["jacobian"], numbers["dL_do"]
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
        f"without complaint, but δ has the shape {numbers['backprop'].shape}.",
    )
    _say(
        console,
        f"The Jacobian is n × n, here {n} × {n}: a row for each output, a column for each logit. The comment's m × n "
        "with m parameters would be that of another function, ∂o/∂W with the weights before the softmax, which has "
        "no parameters of its own; nobody needs to form it, because ∂L/∂W = h δᵀ.",
    )


def _print_deltas(console: Console, config: Question, numbers: dict[str, Any]) -> None:
    n = len(config.logits)
    console.print("\n3. What works: δ = (∂o/∂a)ᵀ ∂L/∂o, here for cross-entropy", style="bold")
    table = _table("", n)
    table.add_column("relative error", justify="right")
    table.add_row("o = softmax(a)", *_cells(numbers["o"]))
    table.add_row("∂L/∂o = −y / o", *_cells(numbers["dL_do"]))
    ways = {
        "product": "(∂o/∂a)ᵀ ∂L/∂o",
        "simplified": "o − y",
        "backprop": "δ of jaxbp.backprop",
        "diagonal": "diagonal .* ∂L/∂o",
    }
    for way, label in ways.items():
        table.add_row(label, *_cells(numbers[way]), f"{numbers['errors'][way]:.1e}")
    console.print(table)
    if not np.all(np.isfinite(numbers["dL_do"])):
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
    if _certain(numbers):
        _say(console, "These logits are right already: δ is 0 but for rounding, whichever way it is computed.")
        return
    _say(
        console,
        f"The diagonal alone is right for the target, class {config.target}, and gives 0 for every other logit, where "
        f"δ is o: wrong by {numbers['errors']['diagonal']:.0%}. For any logits of {n} classes the error is between "
        f"1/√n = {1 / math.sqrt(n):.0%} and 1/√2 = 71%.",
    )


def _print_pairs(console: Console, numbers: dict[str, Any]) -> None:
    console.print("\n4. The same product for every activation and every loss", style="bold")
    table = Table()
    table.add_column("activation and loss")
    table.add_column("error of (∂o/∂a)ᵀ ∂L/∂o", justify="right")
    table.add_column("error of diagonal .* ∂L/∂o", justify="right")
    for pair, errors in numbers["pairs"].items():
        table.add_row(" and ".join(pair), f"{errors['product']:.1e}", f"{errors['diagonal']:.1e}")
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
    try:
        sys.exit(0 if main(tyro.cli(Question))["holds"] else 1)
    except ValueError as error:
        Console(stderr=True).print(f"[red]error:[/] {error}", highlight=False)
        sys.exit(1)
