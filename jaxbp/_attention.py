"""Softmax attention: each row of a sequence takes from all others in proportion to how their keys fit its query."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._blocked_attention import attended, attended_back
from jaxbp._checks import check_flag, check_integer, check_number, check_text, described, is_integer
from jaxbp._function_unit import FunctionUnit, function_unit
from jaxbp._precision import widened
from jaxbp.connections import Shape


@dataclass(frozen=True)
class Attention:
    """The function of queries, keys, values and perhaps a mask: P V with P = softmax(Q Kᵀ / √d) in each head.

    Attributes:
        heads: How many parts the queries are split into.
        causal: Whether a row may only look at itself and rows before it.
        key_heads: How many parts keys and values are split into, each for as many heads of the queries.
        rotary: The base of the angles by which queries and keys are turned; None where they are not.
        block: How many keys are looked at together, so that rows × rows is never formed; all when None.
    """

    heads: int = 1
    causal: bool = False
    key_heads: int = 1
    rotary: float | None = None
    block: int | None = None

    def __call__(self, query: Array, key: Array, value: Array, mask: Array | None = None) -> Array:
        """P V, `(rows, width)`."""
        Q, K, V = *self._turned(query, key), self._split(value, self.key_heads)
        mask = _given(mask, key.shape[0])
        if self.block is None:
            a = _product("hqk,hkd->hqd", _weights(Q, K, mask, self.causal), V)
        else:
            a = attended(Q, K, V, mask, self.causal, self.block)[0]
        return self._joined(a).astype(value.dtype)

    def pull_back(self, inputs: tuple[Array, ...], a: Array, delta: Array) -> tuple[Array, ...]:
        """The signals of Q, K and V; a mask has none.

        Δ_V = Pᵀ δ,  Δ_P = δ Vᵀ,  Δ_S = P ⊙ (Δ_P − Σ P ⊙ Δ_P),  Δ_Q = Δ_S K / √d,  Δ_K = Δ_Sᵀ Q / √d
        """
        query, key, value, *masks = inputs
        Q, K, V = *self._turned(query, key), self._split(value, self.key_heads)
        mask, signal = _given(*masks, keys=key.shape[0]), self._grouped(delta)
        if self.block is not None:
            signals = attended_back(Q, K, V, mask, self.causal, self.block, signal)
        else:
            P = _weights(Q, K, mask, self.causal)
            Delta_P = _product("hqd,hkd->hqk", signal, V)
            # softmax's own pull-back, over each row of P
            Delta_S = P * (Delta_P - jnp.sum(P * Delta_P, axis=-1, keepdims=True)) / math.sqrt(Q.shape[-1])
            signals = (
                _product("hqk,hkd->hqd", Delta_S, K),
                jnp.einsum("hqk,hqd->hkd", _in_a_row(Delta_S), _in_a_row(Q)),
                jnp.einsum("hqk,hqd->hkd", _in_a_row(P), _in_a_row(signal)),
            )
        Delta_Q, Delta_K, Delta_V = signals
        back = (self._turn(Delta_Q, -1), self._turn(Delta_K, -1), Delta_V)
        typed = [self._joined(rows).astype(source.dtype) for rows, source in zip(back, inputs, strict=False)]
        return (*typed, *map(jnp.zeros_like, masks))

    def _turned(self, query: Array, key: Array) -> tuple[Array, Array]:
        """Q `(key heads, heads of each, rows, d)` and K `(key heads, rows, d)`, turned if they are to be."""
        return self._turn(self._grouped(query), 1), self._turn(self._split(key, self.key_heads), 1)

    def _grouped(self, rows: Array) -> Array:
        heads = self._split(rows, self.heads)
        return jnp.reshape(heads, (self.key_heads, -1, *heads.shape[1:]))

    def _split(self, rows: Array, heads: int) -> Array:
        """`(rows, width)` to `(heads, rows, width / heads)`, in float32 at least."""
        return widened(jnp.swapaxes(jnp.reshape(rows, (rows.shape[0], heads, -1)), 0, 1))

    def _joined(self, heads: Array) -> Array:
        rows = jnp.moveaxis(heads, -2, 0)
        return jnp.reshape(rows, (rows.shape[0], -1))

    def _turn(self, rows: Array, sign: int) -> Array:
        """Each pair of elements, i and i + d/2, turned by an angle that grows with the row: rotary positions."""
        if self.rotary is None:
            return rows
        half = rows.shape[-1] // 2
        rates = self.rotary ** (-jnp.arange(half, dtype=rows.dtype) / half)
        angles = sign * jnp.arange(rows.shape[-2], dtype=rows.dtype)[:, None] * rates[None]
        c, s = (jnp.broadcast_to(f(angles), (*rows.shape[:-1], half)) for f in (jnp.cos, jnp.sin))
        x, y = rows[..., :half], rows[..., half:]
        return jnp.concatenate([c * x - s * y, s * x + c * y], axis=-1)


def _given(mask: Array | None = None, keys: int = 0) -> Array | None:
    """A mask as booleans, `(rows or 1, keys)`."""
    return None if mask is None else jnp.reshape(mask, (-1, keys)) != 0


def _product(axes: str, of_queries: Array, of_keys: Array) -> Array:
    """A product of what each head of the queries has, `(key heads, heads of each, rows, …)`, with that of its keys."""
    made = jnp.einsum(axes, _in_a_row(of_queries), of_keys)
    return jnp.reshape(made, (*of_queries.shape[:3], made.shape[-1]))


def _in_a_row(of_queries: Array) -> Array:
    """The heads of the queries that share keys one after the other, as if they were rows: one axis less to multiply."""
    return jnp.reshape(of_queries, (of_queries.shape[0], -1, of_queries.shape[-1]))


def _weights(Q: Array, K: Array, mask: Array | None, causal: bool) -> Array:
    """P, `(key heads, heads of each, rows, keys)`; 0 in a row that sees nothing."""
    scores = _product("hqd,hkd->hqk", Q, K) / math.sqrt(Q.shape[-1])
    seen = jnp.tri(*scores.shape[-2:], dtype=bool) if causal else None
    if mask is not None:
        mask = jnp.broadcast_to(mask, scores.shape[-2:])
        seen = mask if seen is None else seen & mask
    if seen is None:
        return jax.nn.softmax(scores)
    seen = jnp.broadcast_to(seen, scores.shape)
    return jnp.where(seen, jax.nn.softmax(jnp.where(seen, scores, jnp.finfo(scores.dtype).min)), 0)


@dataclass(frozen=True)
class AttentionPullback:
    """`Attention.pull_back` as a function that is equal for equal attention, which a bound method is not."""

    attention: Attention

    def __call__(self, inputs: tuple[Array, ...], a: Array, delta: Array) -> tuple[Array, ...]:
        """The signals of queries, keys, values and a mask."""
        return self.attention.pull_back(inputs, a, delta)


def attention(
    query: str,
    key: str,
    value: str,
    shape: Shape,
    *,
    heads: int = 1,
    causal: bool = False,
    key_heads: int | None = None,
    mask: str | None = None,
    rotary: float | None = None,
    block: int | None = None,
) -> FunctionUnit:
    """A unit of softmax attention: row by row the mean of the values, weighted by how the keys fit the query.

    a = softmax(Q Kᵀ / √d) V in each head, with d the width of a head

    Args:
        query: The unit with the queries, `(rows, width)`.
        key: The unit with the keys, `(keys, key_heads · d)`.
        value: The unit with the values, shaped like the keys.
        shape: The shape of the unit, `(rows, width)`.
        heads: How many parts the width is split into.
        causal: Whether a row may only look at itself and rows before it.
        key_heads: How many heads keys and values have, each for heads / key_heads of the queries: grouped queries.
        mask: An input or unit, `(keys,)` for padding or `(rows, keys)`; where it is 0 nothing is seen, and a row that
            sees nothing is 0. It gets no signal.
        rotary: A base such as 10000.0, with which queries and keys are turned by their positions; none without it.
        block: How many keys are looked at together. Memory then grows with rows · block, not with rows · keys, and
            the way back computes P again, block by block.

    Raises:
        ValueError: A shape without two axes, a width that the heads do not divide, or heads that key_heads do not.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> D = (6, 8)  # rows, width
        >>> def dense(*sources):
        ...     return jaxbp.Unit(D, jaxbp.linear, {s: jaxbp.Dense() for s in sources})
        >>> net = jaxbp.Network(
        ...     inputs={"x": D},
        ...     units={
        ...         "q": dense("x"), "k": dense("x"), "v": dense("x"),
        ...         "mix": jaxbp.attention("q", "k", "v", D, heads=2, causal=True, rotary=10000.0),
        ...         "o": jaxbp.Unit(D, jaxbp.linear, {"mix": jaxbp.Dense(), "x": jaxbp.Identity()}),
        ...     },
        ... )
        >>> x, changed = jnp.ones((3, *D)), jnp.ones((3, *D)).at[:, -1].set(2.0)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> outputs = [jax.jit(jaxbp.apply, static_argnums=0)(net, params, of) for of in (x, changed)]
        >>> bool(jnp.all(outputs[0][:, :-1] == outputs[1][:, :-1]))  # no row sees a later one
        True

    Source: Vaswani et al., Attention is all you need, 2017; Su et al., RoFormer, 2021, for rotary; Ainslie et al.,
    GQA, 2023, for key_heads; Dao et al., FlashAttention, 2022, for blocks.
    """
    for role, source in (("query", query), ("key", key), ("value", value)):
        check_text(source, role)
    if mask is not None:
        check_text(mask, "mask")
    if not isinstance(shape, tuple):
        raise TypeError(f"shape must be a tuple (rows, width), got {described(shape)}")
    if len(shape) != 2 or not all(is_integer(n) and n > 0 for n in shape):
        raise ValueError(f"attention is between rows: its shape is (rows, width), got {shape}")
    check_integer(heads, "heads", 1)
    check_flag(causal, "causal")
    if shape[-1] % heads:
        raise ValueError(f"{heads} heads do not divide a width of {shape[-1]}")
    if key_heads is None:
        key_heads = heads
    check_integer(key_heads, "key_heads", 1)
    if heads % key_heads:
        raise ValueError(f"{key_heads} key_heads do not divide {heads} heads")
    if rotary is not None:
        check_number(rotary, "rotary", above=0, finite=True)
        if shape[-1] // heads % 2:
            raise ValueError(f"rotary turns pairs of elements, but a head is {shape[-1] // heads} wide")
    if block is not None:
        check_integer(block, "block", 1)
    function = Attention(heads, causal, key_heads, rotary, block)
    sources = (query, key, value) if mask is None else (query, key, value, mask)
    return function_unit(function, sources, shape, pullback=AttentionPullback(function))
