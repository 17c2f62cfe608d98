"""The right steps of a backward pass, from numbers to numbers.

Δ_u = Σ_{u ⇒ v} δ_v W_uvᵀ,  δ_u = (∂h_u/∂a_u)ᵀ Δ_u,  ∂L/∂W_su = h_sᵀ δ_u
"""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from jaxbp._check._facts import Facts
from jaxbp._check._session import in_float64
from jaxbp._function_unit import FunctionUnit
from jaxbp.activations import Elementwise
from jaxbp.connections import Bias, Dense, Identity, Transposed
from jaxbp.losses import Head


def pulled_through(facts: Facts, v: str, s: str, delta: np.ndarray, W: Any = None) -> np.ndarray:
    """The term δ_v W_svᵀ of Δ_s, or (∂a_v/∂h_s)ᵀ δ_v of a function unit; through another weight where one is given."""
    unit = facts.net.units[v]
    if isinstance(unit, FunctionUnit):
        return in_float64(_signals, unit)([facts.h[t] for t in unit.sources], delta)[unit.sources.index(s)]
    weight = facts.weight(v, s) if W is None else W
    match facts.edge(v, s).linear:
        case Dense():
            return delta @ weight.T
        case Transposed():
            return delta @ weight
        case Identity():
            return delta
        case other:
            return in_float64(type(other).pull_back, other)(weight, facts.h[s], delta)


def _signals(unit: FunctionUnit, h: list[Array], delta: Array) -> list[Array]:
    """By autodiff, as the reference has them: a pull-back by hand is what may be wrong."""
    return jax.vjp(lambda h: unit.pre_activation((), h, 1), h)[1](delta)[0]


def matrix(facts: Facts, v: str, s: str) -> np.ndarray | None:
    """The matrix by which v reads s; None where the connection is of another kind."""
    match facts.edge(v, s).connection:
        case Dense():
            return facts.weight(v, s)
        case Transposed():
            return facts.weight(v, s).T
        case _:
            return None


def output_signals(facts: Facts, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Δ_o = ∂L/∂o and δ_o for these targets, the latter in its simplified form where one is known."""
    o, N = facts.net.output, facts.examples
    head = facts.loss.at(facts.net.units[o].activation)
    Delta, delta = (signal / N for signal in in_float64(Head.signals, head)(facts.a[o], facts.h[o], y))
    return Delta, pulled_back(facts, o, Delta) if head.simplification is None else delta


def loss_values(facts: Facts, y: np.ndarray) -> np.ndarray:
    """The loss of each example, and row, for these targets."""
    o = facts.net.output
    return in_float64(Head.value, facts.loss.at(facts.net.units[o].activation))(facts.a[o], facts.h[o], y)


def pulled_back(facts: Facts, u: str, Delta: np.ndarray) -> np.ndarray:
    """δ_u = (∂h_u/∂a_u)ᵀ Δ_u."""
    activation = facts.net.units[u].activation
    if isinstance(activation, Elementwise):
        return facts.slopes[u] * Delta
    return in_float64(type(activation).pullback, activation)(facts.a[u], facts.h[u], Delta)


def contracted(facts: Facts, u: str, s: str, h: np.ndarray | None, delta: np.ndarray) -> np.ndarray:
    """h_sᵀ δ_u, or 1ᵀ δ_u of a bias: what one use adds to the gradient of its weight."""
    connection = facts.edge(u, s).linear
    W = facts.weight(u, s)
    if isinstance(connection, Bias):
        return delta.sum(axis=tuple(range(delta.ndim - W.ndim)))
    assert h is not None
    if isinstance(connection, Dense | Transposed):
        outer = h.reshape(-1, h.shape[-1]).T @ delta.reshape(-1, delta.shape[-1])
        return outer if isinstance(connection, Dense) else outer.T
    return in_float64(type(connection).contract, connection)(W, h, delta)
