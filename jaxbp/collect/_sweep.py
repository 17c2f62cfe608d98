"""What a collector sees: the pairs (h_s, δ_u) of each weight of the network, and the signals of each unit."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial, reduce
from operator import add
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from jaxbp._checks import check_made, check_mapping, check_takes, check_text, described, is_known, name_of
from jaxbp.activations import Activation
from jaxbp.connections import Connection
from jaxbp.connections._connection import OverRows


class Pair(NamedTuple):
    """One place where a weight is used, and what h_sᵀ δ_u is made of there.

    Attributes:
        connection: The kind of connection.
        source: The name of the input or unit s that is read, `"bias"` for the one that is always +1.
        unit: The name of the unit u that reads it.
        h: The post-activation h_s of the source, `(*batch, *shape)`; behind a bias ones, `(*batch, *rows, 1)`. In
            stacks the layers are axes before the batch.
        delta: The error signal δ_u = ∂L/∂a_u, `(*batch, *shape)`, with the same layers.
        layers: For each axis of layers, whether each layer has a weight of its own.
    """

    connection: Connection
    source: str
    unit: str
    h: Array
    delta: Array
    layers: tuple[bool, ...] = ()


class Weight(NamedTuple):
    """What the gradient of one weight is made of: ∂L/∂W = Σ h_sᵀ δ_u over the pairs that share it, mostly one.

    What is not linear in the gradient has cross terms between the pairs, and so adds them up for each example first.
    In a stack W is one for each layer, `(depth, …)`, and so is what is made of it: the layers are the first axes of all
    results. Where the layers share a W, its gradient sums over them.

    Attributes:
        value: W.
        pairs: The places where it is used.
        scale: ∂L/∂L_i of each example, `(*batch,)`: 1/N in a mean, its weight in a weighted one.
        formed: The gradient, where the sweep has formed it on its way.
    """

    value: Array
    pairs: tuple[Pair, ...]
    scale: Array
    formed: Array | None = None

    @property
    def layers(self) -> int:
        """How many axes of layers W has."""
        return sum(self.pairs[0].layers)

    def gradient(self, factors: Array | None = None) -> Array:
        """Σ_i f_i g_i, shaped like W: the gradient, with each example's part times a factor `(*batch,)`.

        An example with a factor of 0 has no part in it, also where its g_i is not finite.
        """
        if self.formed is not None and factors is None:
            return self.formed
        return self.in_each_layer(lambda weight: weight._gradient(factors))

    def _gradient(self, factors: Array | None) -> Array:
        def contracted(pair: Pair) -> Array:
            if factors is not None:
                pair = _times(factors, pair)
            gradient = pair.connection.contract(self.value, pair.h, pair.delta)
            check_made(gradient, self.value, f"what {type(pair.connection).__name__}.contract makes")
            return gradient

        return reduce(add, map(contracted, self.pairs))

    def gradients(self) -> Array:
        """What each example adds to the gradient, g_i: `(N, *shape)`, with the batch as one axis."""
        return self.in_each_layer(lambda weight: weight._gradients())

    def _gradients(self) -> Array:
        return reduce(add, (p.connection.contract_each(self.value, p.h, p.delta) for p in self._in_a_row()))

    def dot(self, V: Array) -> Array:
        """⟨g_i, V⟩ for an array like W, `(N,)`: V takes the place of the weight, because ⟨hᵀ δ, V⟩ = h V · δ."""
        return self._replace(value=V).in_each_layer(lambda weight: weight._dot())

    def _dot(self) -> Array:
        def product(pair: Pair) -> Array:
            return jnp.sum(
                pair.connection.apply(self.value, pair.h) * pair.delta, axis=tuple(range(1, pair.delta.ndim))
            )

        return reduce(add, map(product, self._in_a_row()))

    def squared_norms(self) -> Array:
        """‖g_i‖², `(N,)`, in float32 at least."""

        def norms(weight: Weight) -> Array:
            largest, squares, _ = weight._scaled()
            return (largest * jnp.sqrt(squares)) ** 2

        return self.in_each_layer(norms)

    def norm_bounds(self) -> Array:
        """What ‖g_i‖ is at most, `(N,)`, in float32 at least: the norm, and what rounding may have taken from it.

        Terms that cancel, or whose squares vanish, leave a norm that is too small; nothing that is clipped by this
        bound is ever larger than it should be.
        """

        def bounds(weight: Weight) -> Array:
            largest, squares, terms = weight._scaled()
            return largest * jnp.sqrt(squares + 16 * jnp.finfo(squares.dtype).eps * terms)

        return self.in_each_layer(bounds)

    def _scaled(self) -> tuple[Array, Array, Array]:
        """‖g_i‖² of h and δ divided by their largest elements, so that no square overflows or vanishes.

        The arrays `(N,)` are the largest product that was taken out of g_i, the squared norm without it, and ‖h‖² ‖δ‖²
        of all pairs without it.
        """
        pairs = self._in_a_row()
        dtype = jnp.promote_types(self.scale.dtype, jnp.result_type(*(p.delta for p in pairs)))
        W = self.value.astype(dtype)
        sources = [_over_its_largest(p.h if p.connection.reads_ids else p.h.astype(dtype)) for p in pairs]
        signals = [_over_its_largest(p.delta.astype(dtype)) for p in pairs]
        products = [s * t for (_, s), (_, t) in zip(sources, signals, strict=True)]
        largest = reduce(jnp.maximum, products)
        scaled = [p._replace(h=h, delta=d) for p, (h, _), (d, _) in zip(pairs, sources, signals, strict=True)]
        if len(pairs) == 1:
            (pair,) = scaled
            return largest, pair.connection.squared_norms(W, pair.h, pair.delta), _terms(pair)
        # a shared weight: terms of each use count by how much was taken out of them
        shares = [product / divisor(largest) for product in products]
        each = [p.connection.contract_each(W, p.h, p.delta) for p in scaled]
        total = reduce(add, (g * over_examples(share, g) for g, share in zip(each, shares, strict=True)))
        terms = reduce(add, (share**2 * _terms(p) for p, share in zip(scaled, shares, strict=True)))
        return largest, jnp.sum(jnp.reshape(total, (self.scale.size, -1)) ** 2, axis=1), terms

    def gram(self) -> Array:
        """⟨g_i, g_j⟩, `(N, N)`."""
        return self.in_each_layer(lambda weight: weight._gram())

    def _gram(self) -> Array:
        pairs = self._in_a_row()
        if len(pairs) > 1:
            each = jnp.reshape(self._gradients(), (self.scale.size, -1))
            return each @ each.T
        return pairs[0].connection.gram(self.value, pairs[0].h, pairs[0].delta)

    def sum_of_squares(self, signals: Mapping[str, Array], factors: Array) -> Array:
        """Σ_ki f_i² g_ki², shaped like W: over K signals δ_k, by unit `(K, *layers, *batch, *shape)`, and examples."""
        return self.in_each_layer(lambda weight, deltas: weight._sum_of_squares(deltas, factors), signals)

    def _sum_of_squares(self, deltas: Sequence[Array], factors: Array) -> Array:
        pairs, axes = self._in_a_row(), self.scale.ndim
        deltas = [jnp.reshape(d, (d.shape[0], -1, *d.shape[1 + axes :])) for d in deltas]
        deltas = [d * over_examples(jnp.reshape(factors, -1), d[0])[None] for d in deltas]
        if len(pairs) == 1:
            return pairs[0].connection.sum_of_squares(self.value, pairs[0].h, deltas[0])

        def one_signal(total: Array, signal: list[Array]) -> tuple[Array, None]:
            parts = (p.connection.contract_each(self.value, p.h, d) for p, d in zip(pairs, signal, strict=True))
            return total + jnp.sum(reduce(add, parts) ** 2, axis=0), None

        return lax.scan(one_signal, jnp.zeros_like(self.value), deltas)[0]

    def in_each_layer(self, make: Callable[..., Any], signals: Mapping[str, Array] | None = None) -> Any:
        """What is made of the weight of each layer, one layer after the other; of the weight itself without layers.

        Layers that share the weight become rows of the examples. With signals, `(K, *layers, *batch, *shape)` by unit,
        `make` gets them for each pair, `(K, *batch, *shape)`.
        """
        axes = self.pairs[0].layers
        given = None if signals is None else [signals[pair.unit] for pair in self.pairs]
        if not axes:
            return make(self) if given is None else make(self, given)
        batch_axes = self.scale.ndim
        h = [by_layer(p.h, axes, batch_axes) for p in self.pairs]
        delta = [by_layer(p.delta, axes, batch_axes) for p in self.pairs]
        if given is not None:
            given = [by_layer(d, axes, batch_axes, before=1) for d in given]
        in_rows = not all(axes)

        def of_layer(layer: Any) -> Any:
            value, h, delta, given = layer
            pairs = tuple(
                pair._replace(h=h_l, delta=delta_l, layers=(), connection=_in_rows(pair.connection, in_rows))
                for pair, h_l, delta_l in zip(self.pairs, h, delta, strict=True)
            )
            weight = Weight(value, pairs, self.scale)
            return make(weight) if given is None else make(weight, given)

        made: Callable[[Any], Any] = of_layer
        for _ in range(self.layers):
            made = partial(lax.map, made)
        return made((self.value, h, delta, given))

    def _in_a_row(self) -> list[Pair]:
        """The pairs with the batch as one axis, `(N, *shape)`."""
        axes = self.scale.ndim

        def flat(array: Array) -> Array:
            return jnp.reshape(array, (-1, *array.shape[axes:]))

        return [p._replace(h=flat(p.h), delta=flat(p.delta)) for p in self.pairs]


def by_layer(array: Array, layers: tuple[bool, ...], batch_axes: int, before: int = 0) -> Array:
    """Layers that have weights of their own first, and those that share one after the batch, as rows.

    `(*before, *layers, *batch, *shape)` becomes `(*own, *before, *batch, *sharing, *shape)`.
    """
    own = [before + i for i, has_own in enumerate(layers) if has_own]
    sharing = [before + i for i, has_own in enumerate(layers) if not has_own]
    end = before + len(layers) + batch_axes
    batch = range(before + len(layers), end)
    return jnp.transpose(array, (*own, *range(before), *batch, *sharing, *range(end, array.ndim)))


def _in_rows(connection: Connection, rows: bool) -> Connection:
    return OverRows(connection) if rows and not connection.takes_rows else connection


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
        nodes: Each unit, for its activation, in the order of computation.
        layers: How many layers each unit has, for each stack around it; in `a` to `delta` they are the first axes.
        a: The pre-activation of each unit.
        h: The post-activation of each unit and input.
        Delta: Δ = ∂L/∂h of each unit and input.
        delta: δ = ∂L/∂a of each unit.
        scale: ∂L/∂L_i of each example, `(*batch,)`.
        loss_root: `() -> S`, columns `(K, *batch, *shape)` at the output with Σ_k S_k S_kᵀ = H, the curvature of each
            example's own loss as `jaxbp.losses.Head.root` has it.
        from_output: `S -> δ`, the recursion repeated from K other signals at the output, `(K, *batch, *shape)` of each
            unit.
    """

    weights: Mapping[str, Any]
    nodes: Mapping[str, HasActivation]
    layers: Mapping[str, tuple[int, ...]]
    a: Mapping[str, Array]
    h: Mapping[str, Array]
    Delta: Mapping[str, Array]
    delta: Mapping[str, Array]
    scale: Array
    loss_root: Callable[[], Array]
    from_output: Callable[[Array], dict[str, Array]]

    @property
    def units(self) -> dict[str, UnitSignals]:
        """What passed through each unit, in the order of computation."""
        return {
            u: UnitSignals(node.activation, self.a[u], self.h[u], self.Delta[u], self.delta[u])
            for u, node in self.nodes.items()
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
        """δ of each unit as one signal, `(1, *layers, *batch, *shape)`."""
        return {u: delta[None] for u, delta in self.delta.items()}

    def in_each_layer(self, make: Callable[..., Any], u: str, *arrays: Array) -> Any:
        """What is made of arrays of a unit, `(*layers, *batch, *shape)`, in each of its layers."""
        for _ in self.layers[u]:
            make = jax.vmap(make)
        return make(*arrays)


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


def for_each(sweep: Sweep, make: Callable[[Weight], Any]) -> dict[str, Any]:
    """What is made of each weight, in a tree like the parameters."""
    return map_weights(make, sweep.weights)


def map_weights(make: Callable[[Weight], Any], weights: Mapping[str, Any]) -> dict[str, Any]:
    """What is made of each weight in a tree."""
    return {name: make(w) if isinstance(w, Weight) else map_weights(make, w) for name, w in weights.items()}


def all_weights(weights: Mapping[str, Any], *trees: Any) -> list[Any]:
    """The weights in a tree one after the other, with what other trees like it hold in their places."""
    found: list[Any] = []
    for name, weight in weights.items():
        of = [tree[name] for tree in trees]
        found += [(weight, *of)] if isinstance(weight, Weight) else all_weights(weight, *of)
    return found


def over_examples(per_example: Array, delta: Array) -> Array:
    """A number for each example, `(*batch,)`, shaped and typed to multiply δ."""
    return _over_examples(per_example, delta).astype(delta.dtype)


def by_unit(sweep: Sweep, of_weight: Mapping[str, Any]) -> dict[str, Array]:
    """What weights have given, added up over those into each unit, if there are any; shared ones count at each user."""
    into: dict[str, list[Array]] = {u: [] for u in sweep.nodes}
    for weight, array in all_weights(sweep.weights, of_weight):
        for u in dict.fromkeys(pair.unit for pair in weight.pairs):
            into[u].append(array)
    return {u: added(arrays) for u, arrays in into.items() if arrays}


def total(sweep: Sweep, of_weight: Mapping[str, Any]) -> Array:
    """What weights have given, added up over all of them and their layers."""
    found = all_weights(sweep.weights, of_weight)
    return added(jnp.sum(array, axis=tuple(range(weight.layers))) for weight, array in found)


def added(arrays: Iterable[Array]) -> Array:
    """The sum of what weights have given; a network without weights is refused."""
    arrays = list(arrays)
    if not arrays:
        raise ValueError("the network has no weights, so no example has a gradient")
    return reduce(add, arrays)


def _times(factors: Array, pair: Pair) -> Pair:
    """The pair with each example's δ times a factor; where it is 0 nothing is left, not even a NaN."""
    counted = factors != 0
    # float16 has no room for small factors, and a small factor goes to δ only as far as a large h needs it
    dtype = jnp.promote_types(pair.delta.dtype, jnp.bfloat16)
    h, largest = _over_its_largest(pair.h, factors.ndim)
    h = jnp.where(_over_examples(counted, h), h, 0)
    factors = factors * largest.astype(factors.dtype)
    delta = (pair.delta * _over_examples(factors, pair.delta)).astype(dtype)
    return pair._replace(h=h, delta=jnp.where(_over_examples(counted, delta), delta, 0))


def _over_examples(per_example: Array, like: Array) -> Array:
    return jnp.expand_dims(per_example, tuple(range(per_example.ndim, like.ndim)))


def _over_its_largest(array: Array, batch_axes: int = 1) -> tuple[Array, Array]:
    """The elements of each example over a power of two like the largest of them, and that power, `(*batch,)`."""
    if jnp.issubdtype(array.dtype, jnp.integer):  # ids have no size
        return array, jnp.ones(array.shape[:batch_axes], jnp.float32)
    largest = divisor(jnp.max(jnp.abs(array), axis=tuple(range(batch_axes, array.ndim))))
    return array / _over_examples(largest, array), largest


def divisor(positive: Array) -> Array:
    """A power of two like each number, but where one over it were infinite or subnormal, which machines take for 0."""
    finfo = jnp.finfo(positive.dtype)
    inside = jnp.clip(positive, 4 * finfo.tiny, 1 / (4 * finfo.tiny))
    return lax.reduce_precision(inside, exponent_bits=finfo.nexp, mantissa_bits=0)


def _terms(pair: Pair) -> Array:
    """‖h_i‖² ‖δ_i‖², `(N,)`: what ‖g_i‖² is at most, and the measure of what rounding makes of it."""
    # an id stands for a vector of one 1
    h = jnp.ones_like(pair.h, pair.delta.dtype) if pair.connection.reads_ids else pair.h
    return _sum_of_squares(h) * _sum_of_squares(pair.delta)


def _sum_of_squares(array: Array) -> Array:
    return jnp.sum(array**2, axis=tuple(range(1, array.ndim)))
