"""Softmax attention: each row of a sequence takes from all others in proportion to how their keys fit its query."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._checks import check_flag, check_integer, check_text, described, is_integer
from jaxbp._function_unit import FunctionUnit, function_unit
from jaxbp._precision import widened
from jaxbp.connections import Shape


@dataclass(frozen=True)
class Attention:
    """The function of queries, keys and values: P V with P = softmax(Q Kᵀ / √d) in each head.

    Attributes:
        heads: How many parts the last axis is split into.
        causal: Whether a row may only look at itself and rows before it.
    """

    heads: int = 1
    causal: bool = False

    def __call__(self, query: Array, key: Array, value: Array) -> Array:
        """P V, `(*batch, rows, width)`."""
        return self._joined(self._weights(query, key) @ self._split(value)).astype(value.dtype)

    def pull_back(self, inputs: tuple[Array, ...], a: Array, delta: Array) -> tuple[Array, Array, Array]:
        """The signals of Q, K and V.

        Δ_V = Pᵀ δ,  Δ_P = δ Vᵀ,  Δ_S = P ⊙ (Δ_P − Σ P ⊙ Δ_P),  Δ_Q = Δ_S K / √d,  Δ_K = Δ_Sᵀ Q / √d
        """
        P, signal = self._weights(*inputs[:2]), self._split(delta)
        Q, K, V = (self._split(rows) for rows in inputs)
        Delta_V = jnp.swapaxes(P, -1, -2) @ signal
        Delta_P = signal @ jnp.swapaxes(V, -1, -2)
        # softmax's own pull-back, over each row of P
        Delta_S = P * (Delta_P - jnp.sum(P * Delta_P, axis=-1, keepdims=True)) / math.sqrt(Q.shape[-1])
        signals = (Delta_S @ K, jnp.swapaxes(Delta_S, -1, -2) @ Q, Delta_V)
        typed = (self._joined(rows).astype(source.dtype) for rows, source in zip(signals, inputs, strict=True))
        return tuple(typed)  # pyright: ignore[reportReturnType]

    def _weights(self, query: Array, key: Array) -> Array:
        Q, K = self._split(query), self._split(key)
        scores = Q @ jnp.swapaxes(K, -1, -2) / math.sqrt(Q.shape[-1])
        if not self.causal:
            return jax.nn.softmax(scores)
        rows, columns = scores.shape[-2:]
        seen = jnp.broadcast_to(jnp.tri(rows, columns, dtype=bool), scores.shape)
        return jax.nn.softmax(jnp.where(seen, scores, jnp.finfo(scores.dtype).min))

    def _split(self, rows: Array) -> Array:
        """`(*batch, rows, width)` to `(*batch, heads, rows, width / heads)`, in float32 at least."""
        split = jnp.reshape(rows, (*rows.shape[:-1], self.heads, rows.shape[-1] // self.heads))
        return widened(jnp.swapaxes(split, -2, -3))

    def _joined(self, rows: Array) -> Array:
        joined = jnp.swapaxes(rows, -2, -3)
        return jnp.reshape(joined, (*joined.shape[:-2], -1))


@dataclass(frozen=True)
class AttentionPullback:
    """`Attention.pull_back` as a function that is equal for equal attention, which a bound method is not."""

    attention: Attention

    def __call__(self, inputs: tuple[Array, ...], a: Array, delta: Array) -> tuple[Array, ...]:
        """The signals of queries, keys and values."""
        return self.attention.pull_back(inputs, a, delta)


def attention(query: str, key: str, value: str, shape: Shape, *, heads: int = 1, causal: bool = False) -> FunctionUnit:
    """A unit of softmax attention: row by row the mean of the values, weighted by how well the keys fit the query.

    a = softmax(Q Kᵀ / √d) V in each head, with d the width of a head

    Args:
        query: The name of the unit with the queries, `(rows, width)`.
        key: The name of the unit with the keys, of the same width.
        value: The name of the unit with the values, which has as many rows as the keys.
        shape: The shape of the unit, `(rows, width)`.
        heads: How many parts the width is split into, which they must divide.
        causal: Whether a row may only look at itself and rows before it.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> D = (6, 8)  # rows, width
        >>> def dense(*sources):
        ...     return jaxbp.Unit(D, jaxbp.linear, {s: jaxbp.Dense() for s in sources})
        >>> net = jaxbp.Network(
        ...     inputs={"x": D},
        ...     units={
        ...         "q": dense("x"), "k": dense("x"), "v": dense("x"),
        ...         "mix": jaxbp.attention("q", "k", "v", D, heads=2, causal=True),
        ...         "o": jaxbp.Unit(D, jaxbp.linear, {"mix": jaxbp.Dense(), "x": jaxbp.Identity()}),
        ...     },
        ... )
        >>> jaxbp.apply(net, jaxbp.init_params(jax.random.key(0), net), jnp.ones((3, *D))).shape
        (3, 6, 8)

    Source: Vaswani et al., Attention is all you need, 2017.
    """
    for role, source in (("query", query), ("key", key), ("value", value)):
        check_text(source, role)
    if not isinstance(shape, tuple):
        raise TypeError(f"shape must be a tuple (rows, width), got {described(shape)}")
    if len(shape) != 2 or not all(is_integer(n) and n > 0 for n in shape):
        raise ValueError(f"attention is between rows: its shape is (rows, width), got {shape}")
    check_integer(heads, "heads", 1)
    check_flag(causal, "causal")
    if shape[-1] % heads:
        raise ValueError(f"{heads} heads do not divide a width of {shape[-1]}")
    function = Attention(heads, causal)
    return function_unit(function, (query, key, value), shape, pullback=AttentionPullback(function))
