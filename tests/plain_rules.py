"""What connections, functions, activations and losses compute, forward and backward, in plain numpy.

They are written apart from the library, for clarity and not for speed.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from plain_windows import average, average_back, convolve, convolve_back, correlate, largest_back, take_largest

import jaxbp
from jaxbp import AvgPool, Conv, Dense, Embedding, Flatten, Identity, MaxPool, Scale, Transposed


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
    Flatten: Rule(
        apply=lambda c, W, h: h.reshape(len(h), -1),
        send=lambda c, W, h, delta: delta.reshape(h.shape),
    ),
    Scale: Rule(
        apply=lambda c, W, h: h * W,
        send=lambda c, W, h, delta: delta * W,
        contract=lambda c, W, h, delta: as_rows(h * delta).sum(axis=0),
    ),
    Embedding: Rule(  # what it reads has no Δ
        apply=lambda c, W, h: W[h],
        send=lambda c, W, h, delta: np.zeros(h.shape),
        contract=lambda c, W, h, delta: added_up(W, h, delta),
    ),
    Conv: Rule(convolve, convolve_back, correlate),
    MaxPool: Rule(take_largest, largest_back),
    AvgPool: Rule(average, average_back),
}


def added_up(W: np.ndarray, ids: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """The sum of the rows of δ at the places of each id."""
    grad = np.zeros_like(W)
    for i, row in zip(ids.ravel(), as_rows(delta), strict=True):
        grad[i] += row
    return grad


# Functions of several units


class Function(NamedTuple):
    """A function of several units, and what it sends back to each of them.

    Attributes:
        apply: From an array for each of the units to a.
        send: (inputs, a, δ), a signal for each of the units.
    """

    apply: Callable[..., np.ndarray]
    send: Callable[..., tuple[np.ndarray, ...]]


def gate(value, switch):
    return value * switch**2


def gate_pullback(inputs, a, delta):
    value, switch = inputs
    return delta * switch**2, 2 * delta * value * switch


def function_of(function: Any) -> Function:
    """The gate, or attention with as many heads."""
    if function is gate:
        return Function(gate, gate_pullback)
    return Function(
        lambda *inputs: attend(function, *inputs), lambda inputs, a, delta: attend_back(function, inputs, delta)
    )


def heads(function: Any, *arrays: np.ndarray) -> Iterator[list[np.ndarray]]:
    """The part of each array, rows by width, that belongs to each example and head."""
    d = arrays[0].shape[-1] // function.heads
    for n in range(len(arrays[0])):
        for head in range(function.heads):
            yield [array[n, :, head * d : (head + 1) * d] for array in arrays]


def attention_weights(Q: np.ndarray, K: np.ndarray, causal: bool) -> np.ndarray:
    """P = softmax(Q Kᵀ / √d), in which a row may be kept from seeing later ones."""
    S = Q @ K.T / np.sqrt(Q.shape[-1])
    return softmax(np.where(np.tri(*S.shape) > 0, S, -np.inf) if causal else S)


def attend(function: Any, *inputs: np.ndarray) -> np.ndarray:
    out = np.zeros_like(inputs[0])
    for Q, K, V, a in heads(function, *inputs, out):
        a[...] = attention_weights(Q, K, function.causal) @ V
    return out


def attend_back(function: Any, inputs: tuple[np.ndarray, ...], delta: np.ndarray) -> tuple[np.ndarray, ...]:
    signals = tuple(np.zeros_like(h) for h in inputs)
    for Q, K, V, signal, of_Q, of_K, of_V in heads(function, *inputs, delta, *signals):
        P = attention_weights(Q, K, function.causal)
        Delta_P = signal @ V.T
        Delta_S = np.array([(np.diag(p) - np.outer(p, p)) @ row for p, row in zip(P, Delta_P, strict=True)])
        of_Q[...] = Delta_S @ K / np.sqrt(Q.shape[-1])
        of_K[...] = Delta_S.T @ Q / np.sqrt(Q.shape[-1])
        of_V[...] = P.T @ signal
    return signals


# Activations


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def softmax(a: np.ndarray) -> np.ndarray:
    return np.exp(a) / np.sum(np.exp(a), axis=-1, keepdims=True)


def softmax_jacobian(a: np.ndarray) -> np.ndarray:
    o = softmax(a)
    return np.diag(o) - np.outer(o, o)


EPSILON = 1e-5


def layer_norm(a: np.ndarray) -> np.ndarray:
    return (a - a.mean(axis=-1, keepdims=True)) / deviation(a)


def deviation(a: np.ndarray) -> np.ndarray:
    return np.sqrt(a.var(axis=-1, keepdims=True) + EPSILON)


def layer_norm_jacobian(a: np.ndarray) -> np.ndarray:
    n, sigma, centred = len(a), deviation(a), a - a.mean()
    return (np.eye(n) - 1 / n) / sigma - np.outer(centred, centred) / (n * sigma**3)


def rms_norm(a: np.ndarray) -> np.ndarray:
    return a / root(a)


def root(a: np.ndarray) -> np.ndarray:
    return np.sqrt((a**2).mean(axis=-1, keepdims=True) + EPSILON)


def rms_norm_jacobian(a: np.ndarray) -> np.ndarray:
    n, r = len(a), root(a)
    return np.eye(n) / r - np.outer(a, a) / (n * r**3)


VALUE = {
    jaxbp.linear: lambda a: a,
    jaxbp.sigmoid: sigmoid,
    jaxbp.tanh: np.tanh,
    jaxbp.relu: lambda a: np.where(a > 0, a, 0.0),
    jaxbp.leaky_relu: lambda a: np.where(a > 0, a, 0.01 * a),
    jaxbp.hard_tanh: lambda a: np.clip(a, -1, 1),
    jaxbp.softplus: lambda a: np.log(1 + np.exp(a)),
    jaxbp.softmax: softmax,
    jaxbp.layer_norm: layer_norm,
    jaxbp.rms_norm: rms_norm,
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

JACOBIAN = {  # of one row of a
    jaxbp.softmax: softmax_jacobian,
    jaxbp.layer_norm: layer_norm_jacobian,
    jaxbp.rms_norm: rms_norm_jacobian,
}

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
