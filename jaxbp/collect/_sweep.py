"""What a collector sees: the pairs (h_s, δ_u) of each weight of the network, and the signals of each unit."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxbp._activations import Activation
from jaxbp._checks import check_mapping, check_takes, check_text, described, name_of
from jaxbp._connections import Bias, Connection

T = TypeVar("T")


class Pair(NamedTuple):
    """One place where a weight is used: what h_sᵀ δ_u is made of.

    Attributes:
        connection: The kind of connection.
        unit: The name of the unit u that is read into.
        h: The post-activation h_s of the source, `(*batch, *shape)`; None for the constant +1 behind a bias.
        delta: The error signal δ_u = ∂L/∂a_u, `(*batch, *shape)`.
    """

    connection: Connection | Bias
    unit: str
    h: Array | None
    delta: Array


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

    def gradient(self, factors: Array | None = None) -> Array:
        """Σ_i f_i g_i, shaped like W: the gradient, with each example's part times a factor `(*batch,)`."""

        def contracted(pair: Pair) -> Array:
            delta = pair.delta if factors is None else pair.delta * over_examples(factors, pair.delta)
            return pair.connection.contract(self.value, pair.h, delta)

        return reduce(add, map(contracted, self.pairs))

    def gradients(self) -> Array:
        """What each example adds to the gradient, g_i: `(N, *shape)`, with the batch as one axis."""
        return reduce(add, (p.connection.contract_each(self.value, p.h, p.delta) for p in self._in_a_row()))

    def dot(self, V: Array) -> Array:
        """⟨g_i, V⟩ for an array like W, `(N,)`: V takes the place of the weight, because ⟨hᵀ δ, V⟩ = h V · δ."""

        def product(pair: Pair) -> Array:
            applied = _applied(pair, V)
            return jnp.sum(applied * pair.delta, axis=tuple(range(1, pair.delta.ndim)))

        return reduce(add, map(product, self._in_a_row()))

    def squared_norms(self) -> Array:
        """‖g_i‖², `(N,)`."""
        pairs = self._in_a_row()
        if len(pairs) > 1:
            return jnp.sum(jnp.reshape(self.gradients(), (self.scale.size, -1)) ** 2, axis=1)
        return pairs[0].connection.squared_norms(self.value, pairs[0].h, pairs[0].delta)

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

        return [p._replace(h=None if p.h is None else flat(p.h), delta=flat(p.delta)) for p in self.pairs]


class UnitSignals(NamedTuple):
    """What passes through one unit, forward and backward.

    Attributes:
        activation: Φ.
        a: The pre-activation, `(*batch, *shape)`.
        h: The post-activation Φ(a).
        Delta: Δ = ∂L/∂h.
        delta: δ = ∂L/∂a.
    """

    activation: Activation
    a: Array
    h: Array
    Delta: Array
    delta: Array


@dataclass(frozen=True)
class Sweep:
    """One backward sweep, as a collector sees it.

    Attributes:
        weights: Each weight with its pairs (h_s, δ_u), in a tree like the parameters.
        units: What passed through each unit, in the order of computation.
        scale: ∂L/∂L_i of each example, `(*batch,)`.
        loss_root: `() -> S`, columns `(K, *batch, *shape)` at the pre-activation of the output with
            Σ_k S_k S_kᵀ = H, the Hessian of each example's own loss. With respect to a_o where loss and activation are
            known together; else with respect to o, and then pulled back through the activation.
        from_output: `S -> δ`, the recursion repeated from other signals at the output: `(K, *batch, *shape)` of
            each unit.
    """

    weights: Mapping[str, Mapping[str, Weight]]
    units: Mapping[str, UnitSignals]
    scale: Array
    loss_root: Callable[[], Array]
    from_output: Callable[[Array], dict[str, Array]]

    def own_factors(self) -> Array:
        """What to multiply g_i by so that squares of it add up to means over the examples' own gradients, `(*batch,)`.

        With g_i = scale_i ∇L_i and p_i = scale_i / Σ scale, p_i (∇L_i)² is g_i² / (scale_i Σ scale).
        """
        # an example of weight 0 has a g_i of 0, and no part in the mean
        known = jnp.where(self.scale > 0, self.scale, 1)
        return jnp.where(self.scale > 0, 1 / jnp.sqrt(known * jnp.sum(self.scale)), 0)

    def signals(self) -> dict[str, Array]:
        """δ of each unit as one signal, `(1, N, *shape)`."""
        axes = self.scale.ndim
        return {u: jnp.reshape(unit.delta, (1, -1, *unit.delta.shape[axes:])) for u, unit in self.units.items()}


@runtime_checkable
class Collector(Protocol):
    """Anything that makes a result of one sweep; a frozen dataclass, so that it is static under jit."""

    def __call__(self, sweep: Sweep) -> Any:
        """The result, any pytree."""
        ...


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
    """What is made of each weight, in a tree like the parameters'."""
    return {unit: {source: make(weight) for source, weight in group.items()} for unit, group in sweep.weights.items()}


def over_examples(per_example: Array, delta: Array) -> Array:
    """A number for each example, `(*batch,)`, shaped and typed to multiply δ."""
    return jnp.expand_dims(per_example, tuple(range(per_example.ndim, delta.ndim))).astype(delta.dtype)


def added(arrays: Iterable[Array]) -> Array:
    """The sum of what weights have given.

    Raises:
        ValueError: There are no weights.
    """
    arrays = list(arrays)
    if not arrays:
        raise ValueError("the network has no weights, so no example has a gradient")
    return reduce(add, arrays)


def _applied(pair: Pair, V: Array) -> Array:
    return Bias().apply(V, jnp.zeros_like(pair.delta)) if pair.h is None else pair.connection.apply(V, pair.h)
