"""Attention that never forms rows × keys: a block of keys at a time, forward and back.

Forward, over blocks k of the keys, with the running maximum m and sum l of each row:
m' = max(m, max S_k),  l' = l e^(m − m') + Σ e^(S_k − m'),  a' = a e^(m − m') + e^(S_k − m') V_k
Backward P_k = e^(S_k − m) / l is computed again, and with D = Σ δ ⊙ a of each row Δ_S = P_k ⊙ (δ V_kᵀ − D).

Source: Dao et al., FlashAttention, 2022; Milakov and Gimelshein, Online normalizer calculation for softmax, 2018.
"""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

Block = tuple[Array, Array, Array, Array]
"""Keys and values of a block, `(key heads, block, d)`, their places, and who may see them, `(rows, block)`."""


def attended(Q: Array, K: Array, V: Array, mask: Array | None, causal: bool, block: int) -> tuple[Array, Array, Array]:
    """P V, shaped like Q, and m and l of each row.

    Args:
        Q: Queries, `(key heads, heads of each, rows, d)`.
        K: Keys, `(key heads, keys, d)`.
        V: Values, likewise.
        mask: Which keys may be seen, `(rows, keys)` or `(1, keys)`; None for all.
        causal: Whether a row may only look at itself and rows before it.
        block: How many keys are looked at together.
    """

    def add(state: tuple[Array, Array, Array], of: Block) -> tuple[tuple[Array, Array, Array], None]:
        a, m, total = state
        S, seen = _scores(Q, of, causal)
        m_new = jnp.maximum(m, jnp.max(S, axis=-1))
        E = jnp.where(seen, jnp.exp(S - m_new[..., None]), 0)
        kept = jnp.exp(m - m_new)
        a = a * kept[..., None] + jnp.einsum("hgqk,hkd->hgqd", E, of[1])
        return (a, m_new, total * kept + jnp.sum(E, axis=-1)), None

    lowest = jnp.full(Q.shape[:-1], jnp.finfo(Q.dtype).min, Q.dtype)
    start = (jnp.zeros((*Q.shape[:-1], V.shape[-1]), Q.dtype), lowest, jnp.zeros_like(lowest))
    (a, m, total), _ = lax.scan(add, start, _blocks(K, V, mask, block))
    total = jnp.where(total == 0, 1, total)  # of a row that sees nothing a is 0
    return a / total[..., None], m, total


def attended_back(
    Q: Array, K: Array, V: Array, mask: Array | None, causal: bool, block: int, delta: Array
) -> tuple[Array, Array, Array]:
    """The signals of Q, K and V, from δ of what `attended` makes of them."""
    a, m, total = attended(Q, K, V, mask, causal, block)
    D, root = jnp.sum(delta * a, axis=-1, keepdims=True), math.sqrt(Q.shape[-1])

    def add(Delta_Q: Array, of: Block) -> tuple[Array, tuple[Array, Array]]:
        S, seen = _scores(Q, of, causal)
        P = jnp.where(seen, jnp.exp(S - m[..., None]), 0) / total[..., None]
        Delta_S = P * (jnp.einsum("hgqd,hkd->hgqk", delta, of[1]) - D) / root
        signals = jnp.einsum("hgqk,hgqd->hkd", Delta_S, Q), jnp.einsum("hgqk,hgqd->hkd", P, delta)
        return Delta_Q + jnp.einsum("hgqk,hkd->hgqd", Delta_S, of[0]), signals

    Delta_Q, (Delta_K, Delta_V) = lax.scan(add, jnp.zeros_like(Q), _blocks(K, V, mask, block))
    whole = (jnp.reshape(jnp.moveaxis(b, 0, 1), (b.shape[1], -1, b.shape[-1])) for b in (Delta_K, Delta_V))
    Delta_K, Delta_V = (signal[:, : K.shape[1]] for signal in whole)
    return Delta_Q, Delta_K, Delta_V


def _scores(Q: Array, of: Block, causal: bool) -> tuple[Array, Array]:
    """S_k = Q K_kᵀ / √d, the lowest number where nothing is seen, and where something is."""
    K_k, _, places, seen = of
    S = jnp.einsum("hgqd,hkd->hgqk", Q, K_k) / math.sqrt(Q.shape[-1])
    if causal:
        rows = jnp.arange(Q.shape[-2])
        seen = jnp.broadcast_to(seen, (rows.size, places.size)) & (places[None] <= rows[:, None])
    seen = jnp.broadcast_to(seen, S.shape)
    return jnp.where(seen, S, jnp.finfo(S.dtype).min), seen


def _blocks(K: Array, V: Array, mask: Array | None, block: int) -> Block:
    """Keys and values by block on a leading axis; nobody sees the keys that fill the last one."""
    keys = K.shape[1]
    block = min(block, keys)
    count = -(-keys // block)
    fill = count * block - keys

    def apart(array: Array) -> Array:
        """`(n, keys, …)` to `(count, n, block, …)`."""
        filled = jnp.pad(array, ((0, 0), (0, fill), *[(0, 0)] * (array.ndim - 2)))
        return jnp.moveaxis(jnp.reshape(filled, (array.shape[0], count, block, *array.shape[2:])), 1, 0)

    mask = jnp.ones((1, keys), bool) if mask is None else mask
    return apart(K), apart(V), jnp.reshape(jnp.arange(count * block), (count, block)), apart(mask)
