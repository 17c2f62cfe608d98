"""Softmax and cross-entropy of a dense output in blocks of classes: never more than one block of the logits at once.

a_c = h W_c + b_c for one block of classes c after another. The way forward keeps for each row the largest logit m so
far, the logit a_y of the target, and the sum r of e^(a − m) over all classes but the target:

    L = m + ln(r + e^(a_y − m)) − a_y

The way back computes the logits again, and uses up each block of δ where it is made:

    δ_c = scale e^(a_c − m) / (r + e^(a_y − m)),  but −scale r / (r + e^(a_y − m)) for the target
    Δ_h = Σ_c δ_c W_cᵀ,  ∂L/∂W_c = hᵀ δ_c,  ∂L/∂b_c = 1ᵀ δ_c

Blocks of rows would need three products in place of four. But they would add up ∂L/∂W, which is larger than Δ_h, and
read all of W for each block, so they are no faster, and take more memory.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxbp._precision import widened, widened_ids, within_int32


class BlockedSignals(NamedTuple):
    """What `blocked_signals` makes of an output.

    Attributes:
        losses: L of each row, `(*rows,)`, as `blocked_losses` has it.
        Delta: Δ_h = ∂L/∂h of the whole value, shaped like h.
        W: ∂L/∂W, shaped like W.
        b: ∂L/∂b, shaped like b; None where there is none.
    """

    losses: Array
    Delta: Array
    W: Array
    b: Array | None


def blocked_losses(
    h: Float[Array, "*rows s"],
    W: Float[Array, "_ _"],
    b: Float[Array, " classes"] | None,
    ids: Int[Array, "*rows"],
    *,
    block: int,
    transposed: bool = False,
) -> Float[Array, "*rows"]:
    """L = −ln softmax(h W + b)_y of each row, with y its class id; NaN where that is out of range.

    Args:
        h: What the output reads, with any number of leading axes.
        W: The weight, `(s, classes)`; `(classes, s)` where it is read transposed, as that of a tied embedding.
        b: The bias; None for none.
        ids: y, integers.
        block: How many classes are looked at together.
        transposed: Whether W is read transposed.
    """
    output = _Output.of(h, W, b, ids, block, transposed)
    return _losses(output, *_forward(output))


def blocked_signals(
    h: Float[Array, "*rows s"],
    W: Float[Array, "_ _"],
    b: Float[Array, " classes"] | None,
    ids: Int[Array, "*rows"],
    scale: Float[Array, "*rows"],
    *,
    block: int,
    transposed: bool = False,
) -> BlockedSignals:
    """The losses of the rows, and the signals of Σ scale L, whose scale is ∂L/∂L_p of each row.

    A class id that is out of range gives NaN, but nothing where the scale is 0. The other arguments are those of
    `blocked_losses`.
    """
    output = _Output.of(h, W, b, ids, block, transposed)
    m, a_y, r = _forward(output)
    total = r + jnp.exp(a_y - m)
    factor = jnp.where(output.inside, widened(scale) / total, jnp.nan)
    rows, s, c = [*range(h.ndim - 1)], h.ndim - 1, h.ndim

    def add(made: tuple[Array, Array, Array], k: Array) -> tuple[tuple[Array, Array, Array], None]:
        Delta, grad_W, grad_b = made
        first, W_k, a, target, new = output.logits(k)
        delta = jnp.where(target, -r[..., None], jnp.exp(a - m[..., None])) * factor[..., None]
        delta = jnp.where((scale == 0)[..., None], 0, delta).astype(h.dtype)
        # classes that two blocks have in common are written twice, but count once
        once = jnp.where(new, delta, 0)
        Delta = Delta + jnp.einsum("...c,sc->...s", once, W_k, preferred_element_type=Delta.dtype)
        of_block = jnp.einsum(h, [*rows, s], delta, [*rows, c], [c, s] if transposed else [s, c])
        grad_W = lax.dynamic_update_slice_in_dim(grad_W, of_block.astype(W.dtype), first, output.class_axis)
        into_b = jnp.sum(delta, axis=rows, dtype=m.dtype).astype(grad_b.dtype)
        return (Delta, grad_W, lax.dynamic_update_slice_in_dim(grad_b, into_b, first, 0)), None

    start = (jnp.zeros(h.shape, m.dtype), jnp.zeros_like(W), jnp.zeros(output.classes, h.dtype))
    (Delta, grad_W, grad_b), _ = lax.scan(add, start, jnp.arange(output.blocks))
    losses = _losses(output, m, a_y, r)
    return BlockedSignals(losses, Delta.astype(h.dtype), grad_W, None if b is None else grad_b.astype(b.dtype))


class _Output(NamedTuple):
    h: Array
    W: Array
    b: Array | None
    ids: Array
    block: int
    transposed: bool

    @classmethod
    def of(cls, h: Array, W: Array, b: Array | None, ids: Array, block: int, transposed: bool) -> "_Output":
        ids = widened_ids(jnp.asarray(within_int32(ids)))
        return cls(h, W, b, ids, min(block, W.shape[0 if transposed else 1]), transposed)

    @property
    def class_axis(self) -> int:
        return 0 if self.transposed else 1

    @property
    def classes(self) -> int:
        return self.W.shape[self.class_axis]

    @property
    def blocks(self) -> int:
        return -(-self.classes // self.block)

    @property
    def inside(self) -> Array:
        """Which class ids are in range."""
        return (self.ids >= 0) & (self.ids < self.classes)

    def logits(self, k: Array) -> tuple[Array, Array, Array, Array, Array]:
        """The first class of a block, its weights `(s, block)`, its logits, its targets, and its new classes.

        The last block is as long as the others, so it begins with classes that the one before it has, too.
        """
        first = jnp.minimum(k * self.block, self.classes - self.block)
        W_k = lax.dynamic_slice_in_dim(self.W, first, self.block, self.class_axis)
        W_k = W_k.T if self.transposed else W_k
        a = self.h @ W_k
        if self.b is not None:
            b_k = lax.dynamic_slice_in_dim(self.b, first, self.block, 0)
            a = a + jnp.expand_dims(b_k, tuple(range(a.ndim - 1)))
        classes = jnp.expand_dims(first + jnp.arange(self.block, dtype=first.dtype), tuple(range(a.ndim - 1)))
        return first, W_k, widened(a), self.ids[..., None] == classes.astype(self.ids.dtype), classes >= k * self.block


def _forward(output: _Output) -> tuple[Array, Array, Array]:
    """m, a_y and r of each row."""

    def add(state: tuple[Array, Array, Array], k: Array) -> tuple[tuple[Array, Array, Array], None]:
        m, a_y, r = state
        _, _, a, target, new = output.logits(k)
        m_new = jnp.maximum(m, jnp.max(a, axis=-1))
        e = jnp.where(new & ~target, jnp.exp(a - m_new[..., None]), 0)
        a_y = a_y + jnp.sum(jnp.where(new & target, a, 0), axis=-1)
        return (m_new, a_y, r * jnp.exp(m - m_new) + jnp.sum(e, axis=-1)), None

    dtype = jnp.promote_types(jnp.result_type(output.h, output.W), jnp.float32)
    zeros = jnp.zeros(output.h.shape[:-1], dtype)
    return lax.scan(add, (jnp.full_like(zeros, jnp.finfo(dtype).min), zeros, zeros), jnp.arange(output.blocks))[0]


def _losses(output: _Output, m: Array, a_y: Array, r: Array) -> Array:
    losses = m - a_y + jnp.log(r + jnp.exp(a_y - m))
    return jnp.where(output.inside, losses, jnp.nan).astype(output.h.dtype)
