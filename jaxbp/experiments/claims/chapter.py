"""Formulas of the chapter as it prints them, each with a network on which it can be evaluated.

Nothing here says which of them are right: beside every one stands what the chain rule gives for the same quantity.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import jaxbp


@dataclass(frozen=True, eq=False)
class Passage:
    """A formula of the chapter, put into numbers.

    Attributes:
        place: Where the chapter has it.
        formula: What it prints.
        net: A network that it speaks of.
        loss: The loss.
        params: The parameters.
        x: The input.
        y: The target.
        claims: The formula in the library's names, for `jaxbp.explain`.
        corrected: What the chain rule gives for the same quantities, whatever the activation.
    """

    place: str
    formula: str
    net: jaxbp.Network
    loss: jaxbp.Loss
    params: Mapping[str, Any]
    x: np.ndarray
    y: np.ndarray
    claims: Mapping[str, str]
    corrected: Mapping[str, str]


def passages() -> tuple[Passage, ...]:
    """The formulas, in the chapter's order."""
    return (
        _deep("Architecture, size of the matrices", "h_{r+1} = Φ(W_rᵀ h_r), W_r between layers r and r + 1", {
            "a.h2[0]": "W.h1.x[0, 0] * h.h1[0] + W.h1.x[1, 0] * h.h1[1] + W.h2.bias[0]",
        }),
        _deep("Architecture, recursive equations", "h_{p+1} = Φ(W_{p+1}ᵀ h_p)", {
            "a.h2[0]": "W.h2.h1[0, 0] * h.h1[0] + W.h2.h1[1, 0] * h.h1[1] + W.h2.bias[0]",
        }),
        _deep("Sum over paths, one output", "∂L/∂w = ∂L/∂o [Σ_P ∂o/∂h_k Π ∂h_{i+1}/∂h_i] ∂h_r/∂w", {
            "grad.h1.x[0, 0]": f"Delta.o[0] * ({_paths(0)}) * d(h.h1[0])/d(a.h1[0]) * h.x[0]",
        }, outputs=1),
        _deep("Sum over paths, several outputs", "the same with one ∂L/∂o before the bracket", {
            "grad.h1.x[0, 0]": f"Delta.o[0] * ({_paths(0)}) * d(h.h1[0])/d(a.h1[0]) * h.x[0]",
        }),
        _deep("Post-activation recursion", "Δ(h_r) = Σ Φ'(a_h) w(h_r, h) Δ(h)", {
            "Delta.h1[0]": "d(h.h2[0])/d(a.h2[0]) * W.h2.h1[0, 0] * Delta.h2[0]"
            " + d(h.h2[1])/d(a.h2[1]) * W.h2.h1[0, 1] * Delta.h2[1]",
        }),
        _deep("Post-activation recursion, the weight", "∂h_r/∂w(h_{r−1}, h_r) = h_{r−1} Φ'(a_{h_r})", {
            "grad.h2.h1[0, 1]": "h.h1[0] * d(h.h2[1])/d(a.h2[1]) * Delta.h2[1]",
        }),
        _deep("Pre-activation recursion, its start", "δ(o, o) = Φ'(a_o) ∂L/∂o", {
            "delta.o[0]": "d(h.o[0])/d(a.o[0]) * Delta.o[0]",
        }),
        _deep("Pre-activation recursion", "δ(h_r) = Φ'(a_{h_r}) Σ w(h_r, h) δ(h)", {
            "delta.h1[0]": f"d(h.h1[0])/d(a.h1[0]) * ({_READERS})",
        }),
        _deep("Pre-activation recursion, the weight", "∂L/∂w(h_{r−1}, h_r) = δ(h_r) h_{r−1}", {
            "grad.h2.h1[0, 1]": "delta.h2[1] * h.h1[0]",
        }),
        _deep("The process, step 3", "δ(h_r) = Φ(a_{h_r}) Σ w(h_r, h) δ(h)", {
            "delta.h1[0]": f"h.h1[0] * ({_READERS})",
        }),
        _deep("The process, step 3, biases", "set h_{r−1} to 1", {"grad.h2.bias[1]": "delta.h2[1] * 1"}),
        _deep("Updates for various activations", "δ(h_r) = Φ(a_{h_r}) Σ w(h_r, h) δ(h)", {
            "delta.h1[1]": "h.h1[1] * (W.h2.h1[1, 0] * delta.h2[0] + W.h2.h1[1, 1] * delta.h2[1])",
        }),
        _deep("Updates, linear", "δ(h_r) = Σ w δ", {"delta.h1[0]": _READERS}, hidden=jaxbp.linear),
        _deep("Updates, sigmoid", "δ(h_r) = h_r (1 − h_r) Σ w δ", {
            "delta.h1[0]": f"h.h1[0] * (1 - h.h1[0]) * ({_READERS})",
        }),
        _deep("Updates, tanh", "δ(h_r) = (1 − h_r²) Σ w δ", {
            "delta.h1[0]": f"(1 - h.h1[0] ** 2) * ({_READERS})",
        }, hidden=jaxbp.tanh),
        # by the case that applies: the pre-activations of h1 are 0.9 and −1 here
        _deep("Updates, ReLU", "δ(h_r) = Σ w δ if a > 0 and 0 otherwise", {
            "delta.h1[0]": _READERS, "delta.h1[1]": "0",
        }, hidden=jaxbp.relu),
        _deep("Updates, hard tanh inside", "δ(h_r) = Σ w δ if −1 < a < 1", {
            "delta.h1[0]": _READERS,
        }, hidden=jaxbp.hard_tanh),
        _deep("Updates, hard tanh at a = −1", "δ(h_r) = 0 otherwise", {"delta.h1[1]": "0"}, hidden=jaxbp.hard_tanh),
        _softmax("Softmax, the sum", "∂L/∂v_i = Σ_j ∂L/∂o_j ∂o_j/∂v_i", (0.0, 1.0, 0.0), {
            "delta.o[0]": " + ".join(f"Delta.o[{j}] * d(h.o[{j}])/d(a.o[0])" for j in range(3)),
        }),
        _softmax("Softmax, one-hot y", "∂L/∂v_i = o_i − y_i", (0.0, 1.0, 0.0), {"delta.o[0]": "h.o[0] - y[0]"}),
        _softmax("Softmax, y with Σy = 2", "the same for y of {0, 1} that is not one-hot", (1.0, 1.0, 0.0), {
            "delta.o[0]": "h.o[0] - y[0]",
        }),
    )  # fmt: skip


_READERS = "W.h2.h1[0, 0] * delta.h2[0] + W.h2.h1[0, 1] * delta.h2[1]"


def _paths(j: int) -> str:
    """The bracket of the path sum from h1[0] to one output: the products along its two paths."""
    return " + ".join(
        f"d(h.o[{j}])/d(a.o[{j}]) * W.o.h2[{k}, {j}] * d(h.h2[{k}])/d(a.h2[{k}]) * W.h2.h1[0, {k}]" for k in range(2)
    )


def _deep(
    place: str,
    formula: str,
    claims: Mapping[str, str],
    *,
    hidden: jaxbp.activations.Activation = jaxbp.sigmoid,
    outputs: int = 2,
) -> Passage:
    net = jaxbp.layered([2, 2, 2, outputs], hidden=hidden, output=jaxbp.sigmoid)
    params = {
        "h1": {"x": np.array([[0.5, -0.25], [0.2, -0.375]]), "bias": np.array([0.0, 0.0])},
        "h2": {"h1": np.array([[0.7, -0.4], [0.3, 0.6]]), "bias": np.array([-0.1, 0.2])},
        "o": {"h2": np.array([[0.6, -0.5], [0.9, 0.8]])[:, :outputs], "bias": np.array([0.1, -0.3])[:outputs]},
    }
    y = np.array([1.0, 0.0])[:outputs]
    all_paths = " + ".join(f"Delta.o[{j}] * ({_paths(j)})" for j in range(outputs))
    by_chain_rule = {
        "a.h2[0]": "W.h2.h1[0, 0] * h.h1[0] + W.h2.h1[1, 0] * h.h1[1] + W.h2.bias[0]",
        "grad.h1.x[0, 0]": f"({all_paths}) * d(h.h1[0])/d(a.h1[0]) * h.x[0]",
        "Delta.h1[0]": _READERS,
        "delta.h1[0]": f"d(h.h1[0])/d(a.h1[0]) * ({_READERS})",
        "delta.h1[1]": "d(h.h1[1])/d(a.h1[1]) * (W.h2.h1[1, 0] * delta.h2[0] + W.h2.h1[1, 1] * delta.h2[1])",
        "delta.o[0]": "d(h.o[0])/d(a.o[0]) * Delta.o[0]",
        "grad.h2.h1[0, 1]": "delta.h2[1] * h.h1[0]",
        "grad.h2.bias[1]": "delta.h2[1]",
    }
    corrected = {name: by_chain_rule[name] for name in claims}
    return Passage(place, formula, net, jaxbp.squared_error, params, np.array([1.0, 2.0]), y, claims, corrected)


def _softmax(place: str, formula: str, y: tuple[float, ...], claims: Mapping[str, str]) -> Passage:
    net = jaxbp.layered([2, 3], output=jaxbp.softmax)
    params = {"o": {"x": np.array([[0.5, -0.2, 0.1], [0.3, 0.4, -0.6]]), "bias": np.array([0.1, 0.0, -0.1])}}
    corrected = {"delta.o[0]": " + ".join(f"Delta.o[{j}] * d(h.o[{j}])/d(a.o[0])" for j in range(3))}
    x, y = np.array([1.0, 2.0]), np.array(y)
    return Passage(place, formula, net, jaxbp.cross_entropy, params, x, y, claims, corrected)
