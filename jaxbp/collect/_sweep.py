"""What a collector sees: the pairs (h_s, δ_u) of each weight of the network, and the signals of each unit."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import reduce
from operator import add, and_
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from jaxbp._checks import check_made, check_mapping, check_takes, check_text, described, is_known, name_of
from jaxbp.activations import Activation
from jaxbp.collect._pair import (
    Pair,
    norms_over_largest,
    over_its_largest,
    per_example,
    terms_of,
    times,
    times_largest,
)
from jaxbp.collect._range import either, largest, squares_fit, sum_of_squares
from jaxbp.connections._connection import as_cotangent_of, in_blocks, is_split

T = TypeVar("T")


class Weight(NamedTuple):
    """What the gradient of one weight is made of: ∂L/∂W = Σ h_sᵀ δ_u over the pairs that share it, mostly one.

    What is not linear in the gradient has cross terms between the pairs, and so adds them up for each example first.

    Attributes:
        value: W.
        pairs: The places where it is used.
        scale: ∂L/∂L_i of each example, `(*batch,)`: 1/N in a mean, its weight in a weighted one.
    """

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

    def dot(self, V: Array) -> Array:
        """⟨g_i, V⟩ for an array like W, `(N,)`: V takes the place of the weight, because ⟨hᵀ δ, V⟩ = h V · δ."""

        def product(pair: Pair) -> Array:
            return jnp.sum(pair.connection.apply(V, pair.h) * pair.delta, axis=tuple(range(1, pair.delta.ndim)))

        return reduce(add, map(product, self._in_a_row()))

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
            return in_blocks(over_largest, W.size, *signals)
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
        return either(fit, as_they_are, lambda: in_blocks(over_largest, pair.h.size + pair.delta.size, *signals))

    def gram(self) -> Array:
        """⟨g_i, g_j⟩, `(N, N)`."""
        pairs = self._in_a_row()
        if len(pairs) > 1:
            each = jnp.reshape(self.gradients(), (self.scale.size, -1))
            return each @ each.T
        return pairs[0].connection.gram(self.value, pairs[0].h, pairs[0].delta)

    def sum_of_squares(self, signals: Mapping[str, Array], factors: Array) -> Array:
        """Σ_ki f_i² g_ki², shaped like W: over K signals δ_k, by unit `(K, N, *shape)`, and examples."""
        pairs = self._in_a_row()
        deltas = [signals[p.unit] * over_examples(jnp.reshape(factors, -1), signals[p.unit][0])[None] for p in pairs]
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


class UnitSignals(NamedTuple):
    """What passes through one unit, forward and backward.

    Attributes:
        activation: Φ.
        a: The pre-activation, `(*batch, *shape)`.
        h: The post-activation Φ(a), times its noise where the unit has dropout.
        Delta: Δ = ∂L/∂h.
        delta: δ = ∂L/∂a.
    """

    activation: Activation
    a: Array
    h: Array
    Delta: Array
    delta: Array


class HasActivation(Protocol):
    """What a collector sees of a unit beside its signals."""

    @property
    def activation(self) -> Activation: ...


@dataclass(frozen=True)
class Sweep:
    """One backward sweep, as a collector sees it.

    Attributes:
        weights: Each weight with its pairs (h_s, δ_u), in a tree like the parameters.
        nodes: Each unit, for its activation.
        a: The pre-activation of each unit, in the order of computation.
        h: The post-activation of each unit and input.
        Delta: Δ = ∂L/∂h of each unit and input.
        delta: δ = ∂L/∂a of each unit.
        scale: ∂L/∂L_i of each example, `(*batch,)`.
        loss_root: `() -> S`, columns `(K, *batch, *shape)` at the output with Σ_k S_k S_kᵀ = H, the curvature of each
            example's own loss as `jaxbp.losses.Head.root` has it.
        from_output: `S -> δ`, the recursion repeated from K other signals at the output, `(K, *batch, *shape)` of each
            unit.
        forms_each: Whether a collector that is served forms gradients of single examples where these are small, which
            the gradient is then the sum of.
    """

    weights: Mapping[str, Mapping[str, Weight]]
    nodes: Mapping[str, HasActivation]
    a: Mapping[str, Array]
    h: Mapping[str, Array]
    Delta: Mapping[str, Array]
    delta: Mapping[str, Array]
    scale: Array
    loss_root: Callable[[], Array]
    from_output: Callable[[Array], dict[str, Array]]
    forms_each: bool = False

    @property
    def units(self) -> dict[str, UnitSignals]:
        """What passed through each unit, in the order of computation."""
        return {
            u: UnitSignals(self.nodes[u].activation, a, self.h[u], self.Delta[u], self.delta[u])
            for u, a in self.a.items()
        }

    def probabilities(self) -> Array:
        """What the examples count in a mean over them, p_i = scale_i / Σ scale, `(*batch,)`.

        A negative one, or a sum of 0, is refused; under `jit`, where it cannot be, NaN stands for all of them.
        """
        total = jnp.sum(self.scale)
        known = jnp.all(self.scale >= 0) & (total > 0)
        if is_known(known) and not known:
            raise ValueError(
                f"the least of the weights is {jnp.min(self.scale)} and their sum {total}, but moments and curvature "
                "are means over the examples: no weight may be negative, and one must be positive"
            )
        return jnp.where(known, self.scale / total, jnp.nan)

    def own_factors(self) -> Array:
        """What to multiply g_i by so that squares of it add up to means over the examples' own gradients, `(*batch,)`.

        With g_i = scale_i ∇L_i, p_i (∇L_i)² is g_i² p_i / scale_i².
        """
        # an example of weight 0 has a g_i of 0, and no part in the mean
        counted = self.scale != 0
        return jnp.sqrt(self.probabilities()) * jnp.where(counted, 1 / jnp.where(counted, self.scale, 1), 0)

    def signals(self) -> dict[str, Array]:
        """δ of each unit as one signal, `(1, N, *shape)`."""
        axes = self.scale.ndim
        return {u: jnp.reshape(delta, (1, -1, *delta.shape[axes:])) for u, delta in self.delta.items()}


@runtime_checkable
class Collector(Protocol):
    """Anything that makes a result of one sweep. Make it a frozen dataclass, so that it can be static under `jit`."""

    def __call__(self, sweep: Sweep) -> Any:
        """The result, any pytree."""
        ...


def hashed(self: Any) -> int:
    """The `__hash__` of a collector that may hold arrays, which have none."""
    parts = [getattr(self, field.name) for field in fields(self)]
    if any(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(parts)):
        raise TypeError(
            f"{type(self).__name__} holds an array, which has no hash, so it cannot be a static argument of jit; "
            "make it inside of the jitted function, of arrays that this is given"
        )
    return hash((type(self), *parts))


def check_collectors(collect: Any) -> None:
    """Refuse what is no dict of collectors; a class, or a function that makes one, is none yet."""
    check_mapping(collect, "collect", "{'grads': jaxbp.collect.gradient}")
    for name, collector in collect.items():
        check_text(name, f"the name {described(name)} in collect")
        place = f"collect[{name!r}]"
        ours = inspect.isfunction(collector) and collector.__module__.startswith("jaxbp.collect.")
        if isinstance(collector, type) or ours:
            raise TypeError(
                f"{place} must be a collector such as jaxbp.collect.gradient, got {described(collector)}, which makes "
                f"one: call it, {name_of(collector)}(…)"
            )
        check_takes(collector, place, ("sweep",), "lambda sweep: …", hashable=False)


def for_each(sweep: Sweep, make: Callable[[Weight], T]) -> dict[str, dict[str, T]]:
    """What is made of each weight, in a tree like the parameters."""
    return {unit: {source: make(weight) for source, weight in group.items()} for unit, group in sweep.weights.items()}


def over_examples(numbers: Array, delta: Array) -> Array:
    """A number for each example, `(*batch,)`, shaped and typed to multiply δ."""
    return per_example(numbers, delta).astype(delta.dtype)


def by_unit(sweep: Sweep, of_weight: Mapping[str, Mapping[str, Array]]) -> dict[str, Array]:
    """What weights have given, added up over those into each unit, if there are any; shared ones count at each user."""
    into: dict[str, list[Array]] = {u: [] for u in sweep.a}
    for group, weights in sweep.weights.items():
        for name, weight in weights.items():
            for u in dict.fromkeys(pair.unit for pair in weight.pairs):
                into[u].append(of_weight[group][name])
    return {u: added(arrays) for u, arrays in into.items() if arrays}


def added(arrays: Iterable[Array]) -> Array:
    """The sum of what weights have given; a network without weights is refused."""
    arrays = list(arrays)
    if not arrays:
        raise ValueError("the network has no weights, so no example has a gradient")
    return reduce(add, arrays)
