"""What a collector sees: the pairs (h_s, δ_u) of each weight of the network, and the signals of each unit."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxbp._checks import check_mapping, check_takes, check_text, described, is_known, name_of
from jaxbp.activations import Activation
from jaxbp.collect._weight import Weight


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
        random_root: `key -> s`, a random sum Σ_k ±S_k of these, `(*batch, *shape)`, with E[s sᵀ] = H; it costs no more
            than a gradient at the output, however many columns there are.
        from_output: `S -> δ`, the recursion repeated from K other signals at the output, `(K, *batch, *shape)` of each
            unit.
        forms_each: Whether a collector that is served forms gradients of single examples where these are small, which
            the gradient is then the sum of.
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
    random_root: Callable[[Array], Array]
    from_output: Callable[[Array], dict[str, Array]]
    forms_each: bool = False

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
