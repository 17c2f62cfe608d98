"""The postnetwork slides: their network, their notation, and every number and formula that they state.

Nothing here says which of the statements are right.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import jaxbp


@dataclass(frozen=True)
class SharedBias(jaxbp.connections.Connection):
    """One bias for all elements of a unit: a weight from a source of width 1 that is always +1.

    a_u += h_s b,  Δ_s += Σ_j b δ_j,  ∂L/∂b = h_s Σ_j δ_j

    Attributes:
        width: The number of elements of the unit.
        initializer: What the bias starts from.
    """

    width: int
    initializer: str = "zeros"

    def weight_shape(self, source: tuple[int, ...], unit: tuple[int, ...]) -> tuple[int, ...]:
        """A single number."""
        if source != (1,) or unit != (self.width,):
            raise ValueError(
                f"a shared bias leads from shape (1,) to shape ({self.width},), not from {source} to {unit}"
            )
        return ()

    def apply(self, W: Array, h: Array) -> Array:
        """The contribution h b to every element."""
        return jnp.broadcast_to(h * W, (*h.shape[:-1], self.width))

    def pull_back(self, W: Array, h: Array, delta: Array) -> Array:
        """The contribution Σ_j b δ_j."""
        return jnp.sum(W * delta, axis=-1, keepdims=True)

    def contract(self, W: Array, h: Array, delta: Array) -> Array:
        """The sum of h δ_j over the elements, and over the batch."""
        return jnp.sum(h * delta)


NETWORK = jaxbp.Network(
    inputs={"x": 3, "one": 1},
    units={
        "h1": jaxbp.Unit(2, jaxbp.sigmoid, {"x": jaxbp.Dense(), "one": SharedBias(2)}, bias=False),
        "o": jaxbp.Unit(2, jaxbp.softmax, {"h1": jaxbp.Dense(), "one": SharedBias(2)}, bias=False),
    },
)
PARAMS = {
    "h1": {"x": np.array([[0.2, -0.5], [-0.3, 0.1], [0.4, 0.2]]), "one": np.array(0.5)},
    "o": {"h1": np.array([[0.3, -0.1], [0.4, 0.2]]), "one": np.array(0.1)},
}
X = {"x": np.array([1.0, 2.0, -1.0]), "one": np.array([1.0])}
Y = np.array([1.0, 0.0])

SYMBOLS = {
    **{f"x{i + 1}": (f"h.x[{i}]", f"x_{i + 1}") for i in range(3)},
    **{f"w{i + 1}": (f"W.h1.x[{i}, 0]", f"w_{i + 1}") for i in range(3)},
    **{f"w{i + 4}": (f"W.h1.x[{i}, 1]", f"w_{i + 4}") for i in range(3)},
    # z3 = w7 a1 + w9 a2 + b2 and z4 = w8 a1 + w10 a2 + b2: the slides number the output weights row by row
    "w7": ("W.o.h1[0, 0]", "w_7"),
    "w8": ("W.o.h1[0, 1]", "w_8"),
    "w9": ("W.o.h1[1, 0]", "w_9"),
    "w10": ("W.o.h1[1, 1]", "w_{10}"),
    "b1": ("W.h1.one", "b^{(1)}"),
    "b2": ("W.o.one", "b^{(2)}"),
    **{f"z{j + 1}": (f"a.h1[{j}]", f"z^{{({j + 1})}}") for j in range(2)},
    **{f"a{j + 1}": (f"h.h1[{j}]", f"a^{{({j + 1})}}") for j in range(2)},
    **{f"z{j + 3}": (f"a.o[{j}]", f"z^{{({j + 3})}}") for j in range(2)},
    **{f"p{j + 1}": (f"h.o[{j}]", rf"\hat{{y}}_{j + 1}") for j in range(2)},
    **{f"y{j + 1}": (f"y[{j}]", f"y_{j + 1}") for j in range(2)},
    "one": ("h.one[0]", "1"),
    "L": ("loss", "L"),
    "eta": ("learning_rate", r"\eta"),
}
"""The slides' symbols (p for ŷ): the quantity of the library that each is, and its LaTeX."""

NAMES = dict(SYMBOLS.values())

STATEMENTS = (
    ("Step 1", "x1", "1"),
    ("Step 1", "x2", "2"),
    ("Step 1", "x3", "-1"),
    ("Step 1", "w1", "0.2"),
    ("Step 1", "w2", "-0.3"),
    ("Step 1", "w3", "0.4"),
    ("Step 1", "b1", "0.5"),
    ("Step 1", "w4", "-0.5"),
    ("Step 1", "w5", "0.1"),
    ("Step 1", "w6", "0.2"),
    ("Step 1", "z1", "w1 * x1 + w2 * x2 + w3 * x3 + b1"),
    ("Step 1", "z1", "0.2 * 1 - 0.3 * 2 + 0.4 * (-1) + 0.5"),
    ("Step 1", "z1", "-0.3"),
    ("Step 1", "z2", "w4 * x1 + w5 * x2 + w6 * x3 + b1"),
    ("Step 1", "z2", "-0.5 * 1 + 0.1 * 2 + 0.2 * (-1) + 0.5"),
    ("Step 1", "z2", "0"),
    ("Step 2", "a1", "sigmoid(z1)"),
    ("Step 2", "a1", "1 / (1 + exp(0.3))"),
    ("Step 2", "a1", "0.426"),
    ("Step 2", "a2", "sigmoid(z2)"),
    ("Step 2", "a2", "1 / (1 + exp(0))"),
    ("Step 2", "a2", "0.5"),
    ("Step 3", "w7", "0.3"),
    ("Step 3", "w8", "-0.1"),
    ("Step 3", "w9", "0.4"),
    ("Step 3", "w10", "0.2"),
    ("Step 3", "b2", "0.1"),
    # what the slides put in for a1 is the rounded 0.426; their results are judged, and what follows from them
    ("Step 3", "z3", "w7 * a1 + w9 * a2 + b2"),
    ("Step 3", "z3", "0.428"),
    ("Step 3", "z4", "w8 * a1 + w10 * a2 + b2"),
    ("Step 3", "z4", "0.185"),
    ("Step 4", "p1", "exp(z3) / (exp(z3) + exp(z4))"),
    ("Step 4", "p1", "0.561"),
    ("Step 4", "p2", "exp(z4) / (exp(z3) + exp(z4))"),
    ("Step 4", "p2", "0.439"),
    ("Step 5", "y1", "1"),
    ("Step 5", "y2", "0"),
    ("Step 5", "L", "-(y1 * ln(p1) + y2 * ln(p2))"),
    ("Step 5", "L", "-(1 * ln(p1) + 0 * ln(p2))"),
    ("Step 5", "L", "-ln(p1)"),
    ("Step 5", "L", "0.579"),
    ("Step 6", "d(L)/d(w7)", "d(L)/d(p1) * d(p1)/d(z3) * d(z3)/d(w7)"),
    ("Step 6", "d(L)/d(p1)", "-y1 / p1"),
    ("Step 6", "d(p1)/d(z3)", "p1 * (1 - p1)"),
    ("Step 6", "d(z3)/d(w7)", "a1"),
    ("Step 6", "d(L)/d(w7)", "(-y1 / p1) * p1 * (1 - p1) * a1"),
    ("Step 7", "d(L)/d(z3)", "p1 - y1"),
    ("Step 7", "d(L)/d(w7)", "(p1 - y1) * a1"),
    ("Step 8", "d(L)/d(w8)", "d(L)/d(p1) * d(p1)/d(z3) * d(z3)/d(w8)"),
    ("Step 8", "d(z3)/d(w8)", "a2"),
    ("Step 8", "d(L)/d(w8)", "(-y1 / p1) * p1 * (1 - p1) * a2"),
    ("Step 9", "d(L)/d(w8)", "(p1 - y1) * a2"),
    ("Step 10", "d(L)/d(w9)", "d(L)/d(p2) * d(p2)/d(z4) * d(z4)/d(w9)"),
    ("Step 10", "d(L)/d(p2)", "-y2 / p2"),
    ("Step 10", "d(p2)/d(z4)", "p2 * (1 - p2)"),
    ("Step 10", "d(z4)/d(w9)", "a1"),
    ("Step 10", "d(L)/d(w9)", "(-y2 / p2) * p2 * (1 - p2) * a1"),
    ("Step 11", "d(L)/d(w9)", "(p2 - y2) * a1"),
    ("Step 12", "d(L)/d(w10)", "d(L)/d(p2) * d(p2)/d(z4) * d(z4)/d(w10)"),
    ("Step 12", "d(z4)/d(w10)", "a2"),
    ("Step 12", "d(L)/d(w10)", "(-y2 / p2) * p2 * (1 - p2) * a2"),
    ("Step 13", "d(L)/d(w10)", "(p2 - y2) * a2"),
    *(("Update rules", f"updated {w}", f"{w} - eta * d(L)/d({w})") for w in ("w7", "w8", "w9", "w10")),
    ("Update rules", "d(L)/d(w7)", "(p1 - y1) * a1"),
    ("Update rules", "d(L)/d(w8)", "(p1 - y1) * a2"),
    ("Update rules", "d(L)/d(w9)", "(p2 - y2) * a1"),
    ("Update rules", "d(L)/d(w10)", "(p2 - y2) * a2"),
    ("Update rules", "updated w7", "w7 - eta * (p1 - y1) * a1"),
    ("Update rules", "updated w8", "w8 - eta * (p1 - y1) * a2"),
    ("Update rules", "updated w9", "w9 - eta * (p2 - y2) * a1"),
    ("Update rules", "updated w10", "w10 - eta * (p2 - y2) * a2"),
    ("Output bias 1", "updated b2", "b2 - eta * (p1 - y1)"),
    ("Output bias 2", "updated b2", "b2 - eta * (p2 - y2)"),
    # steps 14 to 16 are the weights into a1, steps 17 to 19 those into a2
    *(
        statement
        for k in range(6)
        for step, w, x, j in [(f"Step {14 + k}", f"w{1 + k}", f"x{1 + k % 3}", 1 + k // 3)]
        for back in [f"(p1 - y1) * w{6 + j} + (p2 - y2) * w{8 + j}"]
        for statement in (
            (step, f"d(L)/d({w})", f"d(L)/d(a{j}) * d(a{j})/d(z{j}) * d(z{j})/d({w})"),
            (step, f"d(a{j})/d(z{j})", f"a{j} * (1 - a{j})"),
            (step, f"d(z{j})/d({w})", x),
            (step, f"d(L)/d(a{j})", back),
            (step, f"d(L)/d({w})", f"({back}) * a{j} * (1 - a{j}) * {x}"),
        )
    ),
)
"""Place, quantity and what is said of it, in the slides' symbols and order."""

PLACES = tuple(dict.fromkeys(place for place, _, _ in STATEMENTS))


def claims() -> Mapping[str, Any]:
    """The statements as `jaxbp.explain` takes them: by the library's names, with their places."""
    by_quantity: dict[str, dict[str, list[str]]] = {}
    for place, quantity, said in STATEMENTS:
        by_quantity.setdefault(in_our_names(quantity), {}).setdefault(place, []).append(in_our_names(said))
    return by_quantity


def in_our_names(text: str) -> str:
    """A formula in the slides' symbols, in the library's names."""

    def named(match: re.Match[str]) -> str:
        updated, symbol = match.groups()
        name = SYMBOLS[symbol][0] if symbol in SYMBOLS else symbol
        return name.replace("W.", "updated.") if updated else name

    return re.sub(r"(updated )?\b([A-Za-z]\w*)", named, text)
