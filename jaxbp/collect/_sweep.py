"""What a collector sees: a pair (h_s, δ_u) for each weight of the network, and the signals of each unit."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._activations import Activation
from jaxbp._connections import Bias, Connection

T = TypeVar("T")


class Pair(NamedTuple):
    """What the gradient of one weight is made of: ∂L/∂W = h_sᵀ δ_u.

    Attributes:
        connection: The kind of connection that W belongs to.
        weight: W.
        h: The post-activation h_s of the source, `(*batch, *shape)`; None for the constant +1 behind a bias.
        delta: The error signal δ_u = ∂L/∂a_u of the unit that is read into, `(*batch, *shape)`.
        scale: ∂L/∂L_i of each example, `(*batch,)`: 1/N in a mean, its weight in a weighted one.
    """

    connection: Connection | Bias
    weight: Array
    h: Array | None
    delta: Array
    scale: Array

    def of_each_example(self) -> "Pair":
        """The pair with the batch as one axis, `(N, *shape)`."""
        axes = self.scale.ndim

        def flat(array: Array) -> Array:
            return jnp.reshape(array, (-1, *array.shape[axes:]))

        return self._replace(
            h=None if self.h is None else flat(self.h), delta=flat(self.delta), scale=jnp.reshape(self.scale, -1)
        )

    def own_weight(self) -> Array:
        """What to multiply δ by so that squares of it add up to means over the examples' own gradients, `(*batch,)`.

        With g_i = scale_i ∇L_i and p_i = scale_i / Σ scale, p_i (∇L_i)² is g_i² / (scale_i Σ scale).
        """
        # an example of weight 0 has a g_i of 0, and no part in the mean
        known = jnp.where(self.scale > 0, self.scale, 1)
        return jnp.where(self.scale > 0, 1 / jnp.sqrt(known * jnp.sum(self.scale)), 0)

    def over_examples(self, per_example: Array) -> Array:
        """A number for each example, `(*batch,)`, shaped to multiply δ."""
        return jnp.expand_dims(per_example, tuple(range(per_example.ndim, self.delta.ndim))).astype(self.delta.dtype)


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


Pairs = Mapping[str, Mapping[str, Pair]]
"""The pairs of a sweep by unit, then by source: a tree like the parameters'."""


@dataclass(frozen=True)
class Sweep:
    """One backward sweep, as a collector sees it.

    Attributes:
        pairs: (h_s, δ_u) of each weight, by unit, then by source.
        units: What passed through each unit, in the order of computation.
        scale: ∂L/∂L_i of each example, `(*batch,)`.
        loss_root: `() -> S`, columns `(K, *batch, *shape)` at the pre-activation of the output with
            Σ_k S_k S_kᵀ = H, the Hessian of each example's own loss. With respect to a_o where loss and activation are
            known together; else with respect to o, and then pulled back through the activation.
        from_output: `S -> δ`, the recursion repeated from other signals at the output: `(K, *batch, *shape)` of
            each unit.
    """

    pairs: Pairs
    units: Mapping[str, UnitSignals]
    scale: Array
    loss_root: Callable[[], Array]
    from_output: Callable[[Array], dict[str, Array]]


@runtime_checkable
class Collector(Protocol):
    """Anything that makes a result of one sweep; a frozen dataclass, so that it is static under jit."""

    def __call__(self, sweep: Sweep) -> Any:
        """The result, any pytree."""
        ...


def for_each(sweep: Sweep, make: Callable[[Pair], T]) -> dict[str, dict[str, T]]:
    """What is made of each pair, in a tree like the parameters'."""
    return {unit: {source: make(pair) for source, pair in of_unit.items()} for unit, of_unit in sweep.pairs.items()}


def added(arrays: Iterable[Array]) -> Array:
    """The sum of what weights have given.

    Raises:
        ValueError: There are no weights.
    """
    arrays = list(arrays)
    if not arrays:
        raise ValueError("the network has no weights, so no example has a gradient")
    return reduce(add, arrays)
