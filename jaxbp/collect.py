"""Collectors: what to make of each pair (h_s, δ_u) that the backward sweep meets.

The sweep gives a collector one `Pair` for each weight of the network. A collector never sees the graph; what it
needs of a kind of connection it asks the connection for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array

from jaxbp._connections import Bias, Connection


class Pair(NamedTuple):
    """What the gradient of one weight is made of: ∂L/∂W = h_sᵀ δ_u.

    Attributes:
        connection: The kind of connection that W belongs to.
        weight: W.
        h: The post-activation h_s of the source, `(*batch, *shape)`; None for the constant +1 behind a bias.
        delta: The error signal δ_u = ∂L/∂a_u of the unit that is read into, `(*batch, *shape)`.
    """

    connection: Connection | Bias
    weight: Array
    h: Array | None
    delta: Array


Pairs = Mapping[str, Mapping[str, Pair]]
"""The pairs of a sweep by unit, then by source: a tree like the parameters'."""


@runtime_checkable
class Collector(Protocol):
    """Anything that makes a result of the pairs of one sweep; a frozen dataclass, so that it is static under jit."""

    def __call__(self, pairs: Pairs) -> Any:
        """The result, any pytree."""
        ...


@dataclass(frozen=True)
class Gradient:
    """The gradient of the value, summed over the batch: ∂L/∂W_su = h_sᵀ δ_u,  ∂L/∂b_u = 1ᵀ δ_u.

    Returns:
        A tree like the parameters, with their shapes and dtypes.

    Source: the chapter, ∂L/∂w(h_{r−1}, h_r) = δ(h_r, o) · h_{r−1}.
    """

    def __call__(self, pairs: Pairs) -> dict[str, dict[str, Array]]:
        """Contract each pair into the gradient of its weight."""
        return {
            unit: {source: p.connection.contract(p.weight, p.h, p.delta) for source, p in of_unit.items()}
            for unit, of_unit in pairs.items()
        }


gradient = Gradient()
