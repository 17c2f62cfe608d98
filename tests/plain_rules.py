"""What connections, functions, activations and losses compute, forward and backward, in plain numpy.

They are written apart from the library, for clarity and not for speed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import jaxbp
from jaxbp import Dense, Identity, Transposed


class Rule(NamedTuple):
    """The three things that a connection c does, with its weight W, which is None where it has none.

    Attributes:
        apply: (c, W, h), what it adds to a.
        send: (c, W, h, δ), what it adds to Δ of its source.
        contract: (c, W, h, δ), what it adds to ∂L/∂W.
    """

    apply: Callable[..., np.ndarray]
    send: Callable[..., np.ndarray]
    contract: Callable[..., np.ndarray] | None = None


def contract(h: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """hᵀ δ, the sum of outer products over the examples, and their rows."""
    return as_rows(h).T @ as_rows(delta)


def as_rows(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, array.shape[-1])


RULES: dict[type, Rule] = {
    Dense: Rule(
        apply=lambda c, W, h: h @ W,
        send=lambda c, W, h, delta: delta @ W.T,
        contract=lambda c, W, h, delta: contract(h, delta),
    ),
    Transposed: Rule(
        apply=lambda c, W, h: h @ W.T,
        send=lambda c, W, h, delta: delta @ W,
        contract=lambda c, W, h, delta: contract(delta, h),
    ),
    Identity: Rule(
        apply=lambda c, W, h: h,
        send=lambda c, W, h, delta: delta,
    ),
}


# Functions of several units: the value, and what is sent back to each of them


def gate(value, switch):
    return value * switch**2


def gate_pullback(inputs, a, delta):
    value, switch = inputs
    return delta * switch**2, 2 * delta * value * switch


# Activations


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def softmax(a: np.ndarray) -> np.ndarray:
    return np.exp(a) / np.sum(np.exp(a), axis=-1, keepdims=True)


def softmax_jacobian(a: np.ndarray) -> np.ndarray:
    o = softmax(a)
    return np.diag(o) - np.outer(o, o)


VALUE = {
    jaxbp.linear: lambda a: a,
    jaxbp.sigmoid: sigmoid,
    jaxbp.tanh: np.tanh,
    jaxbp.relu: lambda a: np.where(a > 0, a, 0.0),
    jaxbp.leaky_relu: lambda a: np.where(a > 0, a, 0.01 * a),
    jaxbp.hard_tanh: lambda a: np.clip(a, -1, 1),
    jaxbp.softplus: lambda a: np.log(1 + np.exp(a)),
    jaxbp.softmax: softmax,
}

DERIVATIVE = {  # of the element-wise activations, as functions of a
    jaxbp.linear: np.ones_like,
    jaxbp.sigmoid: lambda a: sigmoid(a) * (1 - sigmoid(a)),
    jaxbp.tanh: lambda a: 1 - np.tanh(a) ** 2,
    jaxbp.relu: lambda a: np.where(a > 0, 1.0, 0.0),
    jaxbp.leaky_relu: lambda a: np.where(a > 0, 1.0, 0.01),
    jaxbp.hard_tanh: lambda a: np.where(np.abs(a) < 1, 1.0, 0.0),
    jaxbp.softplus: sigmoid,
}

JACOBIAN = {jaxbp.softmax: softmax_jacobian}  # of one row of a

KINKS = {jaxbp.relu: (0,), jaxbp.leaky_relu: (0,), jaxbp.hard_tanh: (-1, 1)}


def pull_back(Phi: Any, a: np.ndarray, Delta: np.ndarray) -> np.ndarray:
    """Jᵀ Δ, row by row where J is not diagonal."""
    if Phi in DERIVATIVE:
        return DERIVATIVE[Phi](a) * Delta
    rows = zip(as_rows(a), as_rows(Delta), strict=True)
    return np.reshape([JACOBIAN[Phi](a_i).T @ Delta_i for a_i, Delta_i in rows], a.shape)


# Losses, of each row of the output

LOSS = {
    jaxbp.squared_error: lambda o, y: ((o - y) ** 2).sum(axis=-1) / 2,
    jaxbp.cross_entropy: lambda o, y: -(y * np.log(o)).sum(axis=-1),
    jaxbp.binary_cross_entropy: lambda o, y: -(y * np.log(o) + (1 - y) * np.log(1 - o)).sum(axis=-1),
}

LOSS_GRADIENT = {
    jaxbp.squared_error: lambda o, y: o - y,
    jaxbp.cross_entropy: lambda o, y: -y / o,
    jaxbp.binary_cross_entropy: lambda o, y: (1 - y) / (1 - o) - y / o,
}
