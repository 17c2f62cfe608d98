"""What is made of the pairs (h_s, δ_u) of one weight, in one layer if it stands in a stack."""

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import add, and_
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxbp._checks import check_made
from jaxbp.collect._pair import (
    Pair,
    norms_over_largest,
    over_examples,
    over_its_largest,
    per_example,
    terms_of,
    times,
    times_largest,
)
from jaxbp.collect._range import either, largest, squares_fit, sum_of_squares
from jaxbp.connections._connection import a_few_at_a_time, as_cotangent_of, inner_products, is_split


class LayerWeight(NamedTuple):
    """A `Weight` that stands in no stack, or one layer of one that does, whose methods it implements."""

    value: Array
    pairs: tuple[Pair, ...]
    scale: Array

    @property
    def keeps(self) -> bool:
        """Whether the gradients of all examples are no larger than the pairs that they are made of.

        Then they are the way to their norms, and to sums of them, that takes least time and memory.
        """
        if any(pair.connection.reads_ids for pair in self.pairs):
            return False
        return self.scale.size * self.value.size <= sum(pair.h.size + pair.delta.size for pair in self.pairs)

    def gradient(self, factors: Array | None = None) -> Array:
        """Σ_i f_i g_i, shaped like W: the gradient, with each example's part times a factor `(*batch,)`.

        An example with a factor of 0 has no part in it, also where its g_i is not finite.
        """
        if factors is None:
            return self._contracted(self.pairs)
        if self.keeps:
            return self._added(self._each(), jnp.reshape(factors, -1))
        # a small factor goes to δ only as far as a large h needs it
        room = jnp.finfo(factors.dtype).tiny ** -0.25
        sizes = [largest(p.h, factors.ndim) <= room for p in self.pairs if not p.connection.reads_ids]
        return either(
            reduce(and_, sizes, factors != 0),
            lambda: self._contracted([times(factors, pair) for pair in self.pairs]),
            lambda: self._one_by_one(factors),
        )

    def gradient_of_each(self) -> Array:
        """The gradient, beside norms: the sum of the gradients of all examples where they are kept."""
        return self._added(self._each()) if self.keeps else self.gradient()

    def _contracted(self, pairs: Iterable[Pair]) -> Array:
        def contracted(pair: Pair) -> Array:
            gradient = pair.connection.contract(self.value, pair.h, pair.delta)
            check_made(gradient, self.value, f"what {type(pair.connection).__name__}.contract makes")
            return gradient

        return reduce(add, map(contracted, pairs))

    def _one_by_one(self, factors: Array) -> Array:
        """Σ_i f_i g_i of numbers of any size, an example after the other."""
        pairs, dtype = self._in_a_row(), self._dtype
        f = jnp.reshape(factors, -1)

        def of(f: Array, signals: list[tuple[Array, Array]]) -> Array:
            scaled = [times_largest(f, p._replace(h=h, delta=d)) for p, (h, d) in zip(pairs, signals, strict=True)]
            return self._contracted(scaled)

        signals = [(p.h, p.delta) for p in pairs]
        if any(is_split(p.delta) for p in pairs):
            return of(f, signals)

        def added(total: Array, one: Any) -> tuple[Array, None]:
            return total + of(*jax.tree.map(lambda array: array[None], one)).astype(total.dtype), None

        start = jnp.zeros_like(self.value, jnp.promote_types(dtype, self.value.dtype))
        return lax.scan(added, start, (f, signals))[0].astype(self.value.dtype)

    def _each(self) -> Array:
        """g_i of all examples, `(N, *shape)`, in float32 at least."""
        dtype = self._dtype
        return reduce(
            add,
            (
                p.connection.contract_each(self.value.astype(dtype), p.h.astype(dtype), p.delta.astype(dtype))
                for p in self._in_a_row()
            ),
        )

    def _added(self, each: Array, factors: Array | None = None) -> Array:
        """Σ_i f_i g_i from all g_i, as a product, because sums over a first axis are slow on CPUs."""
        f = jnp.ones(each.shape[0], each.dtype) if factors is None else factors.astype(each.dtype)

        def product() -> Array:
            n, *axes = range(each.ndim)
            total = jnp.einsum(f, [n], each, [n, *axes], axes, out_sharding=jax.typeof(self.value).sharding)
            return as_cotangent_of(self.value, total)

        def counted() -> Array:
            parts = jnp.where(per_example(f != 0, each), each * per_example(f, each), 0)
            return as_cotangent_of(self.value, jnp.sum(parts, axis=0))

        return product() if factors is None else either(f != 0, product, counted)

    @property
    def _dtype(self) -> Any:
        return jnp.promote_types(self.scale.dtype, jnp.result_type(*(p.delta for p in self.pairs)))

    def gradients(self) -> Array:
        """What each example adds to the gradient, g_i: `(N, *shape)`, with the batch as one axis."""
        return reduce(add, (p.connection.contract_each(self.value, p.h, p.delta) for p in self._in_a_row()))

    def dot(self) -> Array:
        """⟨g_i, V⟩, `(N,)`, of the V in the place of the weight."""

        def product(pair: Pair) -> Array:
            return jnp.sum(
                pair.connection.apply(self.value, pair.h) * pair.delta, axis=tuple(range(1, pair.delta.ndim))
            )

        return reduce(add, map(product, self._in_a_row()))

    def projected(self, P: Array, Q: Array) -> Array:
        """Pᵀ g_i Q, `(N, k, l)`."""
        return reduce(add, (p.connection.project_each(self.value, p.h, p.delta, P, Q) for p in self._in_a_row()))

    def squared_norms(self) -> Array:
        """‖g_i‖², `(N,)`, in float32 at least."""
        if self.keeps:
            return sum_of_squares(self._each())
        power, squares, _ = self._scaled()
        return (power * jnp.sqrt(squares)) ** 2

    def norm_bounds(self) -> Array:
        """What ‖g_i‖ is at most, `(N,)`, in float32 at least: the norm, and what rounding may have taken from it.

        Terms that cancel, or whose squares vanish, leave a norm that is too small; nothing that is clipped by this
        bound is ever larger than it should be.
        """
        power, squares, terms = self._scaled()
        return power * jnp.sqrt(squares + 16 * jnp.finfo(squares.dtype).eps * terms)

    def _scaled(self) -> tuple[Array, Array, Array]:
        """‖g_i‖² without a power of two that was taken out of g_i, so that no square overflows or vanishes.

        The arrays `(N,)` are that power, the squared norm without it, and ‖h‖² ‖δ‖² of all pairs without it, which is
        the measure of what rounding makes of the norm.
        """
        if self.keeps:
            g, power = over_its_largest(self._each())
            squares = sum_of_squares(g)
            return power, squares, squares
        dtype = self._dtype
        W = self.value.astype(dtype)
        pairs = [
            p._replace(h=p.h if p.connection.reads_ids else p.h.astype(dtype), delta=p.delta.astype(dtype))
            for p in self._in_a_row()
        ]
        signals = [array for p in pairs for array in (p.h, p.delta)]

        def over_largest(*signals: Array) -> tuple[Array, Array, Array]:
            hs, deltas = signals[::2], signals[1::2]
            return norms_over_largest(W, [p._replace(h=h, delta=d) for p, h, d in zip(pairs, hs, deltas, strict=True)])

        if len(pairs) > 1:
            return a_few_at_a_time(over_largest, W.size, *signals)
        (pair,) = pairs
        if pair.delta.ndim == 2:  # without rows all is sums of squares, into which the division is fused
            return over_largest(*signals)

        def as_they_are() -> tuple[Array, Array, Array]:
            squares = pair.connection.squared_norms(W, pair.h, pair.delta)
            return jnp.ones_like(squares), squares, terms_of(pair)

        fit = squares_fit(pair.delta)
        if not pair.connection.reads_ids:
            fit = fit & squares_fit(pair.h)
        # one example after the other, because each is copied
        return either(fit, as_they_are, lambda: a_few_at_a_time(over_largest, pair.h.size + pair.delta.size, *signals))

    def gram(self) -> Array:
        """⟨g_i, g_j⟩, `(N, N)`."""
        pairs = self._in_a_row()
        if len(pairs) > 1:
            each = jnp.reshape(self.gradients(), (self.scale.size, -1))
            return inner_products(each)
        return pairs[0].connection.gram(self.value, pairs[0].h, pairs[0].delta)

    def sum_of_squares(self, deltas: Sequence[Array], factors: Array) -> Array:
        """Σ_ki f_i² g_ki², shaped like W: over K signals δ_k of each pair, `(K, *batch, *shape)`, and examples."""
        pairs, axes = self._in_a_row(), self.scale.ndim
        deltas = [jnp.reshape(d, (d.shape[0], -1, *d.shape[1 + axes :])) for d in deltas]
        deltas = [d * over_examples(jnp.reshape(factors, -1), d[0])[None] for d in deltas]
        if len(pairs) == 1:
            return pairs[0].connection.sum_of_squares(self.value, pairs[0].h, deltas[0])

        def one_signal(total: Array, signal: list[Array]) -> tuple[Array, None]:
            parts = (p.connection.contract_each(self.value, p.h, d) for p, d in zip(pairs, signal, strict=True))
            return total + jnp.sum(reduce(add, parts) ** 2, axis=0), None

        return lax.scan(one_signal, jnp.zeros_like(self.value), deltas)[0]

    def _in_a_row(self) -> list[Pair]:
        """The pairs with the batch as one axis, `(N, *shape)`."""
        axes = self.scale.ndim

        def flat(array: Array) -> Array:
            return jnp.reshape(array, (-1, *array.shape[axes:]))

        return [p._replace(h=flat(p.h), delta=flat(p.delta)) for p in self.pairs]
