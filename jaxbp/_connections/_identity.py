"""Connections without parameters that pass every element on as it is."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, Float

from jaxbp._connections._connection import Connection, Shape, as_cotangent_of


@dataclass(frozen=True)
class Identity(Connection):
    """The source added to the unit as it is: a skip connection without parameters.

    a_u += h_s,  Δ_s += δ_u

    Example:
        >>> import jaxbp
        >>> print(jaxbp.Identity().weight_shape((8,), (8,)))
        None
    """

    def weight_shape(self, source: Shape, unit: Shape) -> None:
        """None: there is nothing to learn."""
        if source != unit:
            raise ValueError(
                f"Identity joins equal shapes, but these are {source} and {unit}; use Dense() to change the width"
            )

    def apply(self, W: Any, h: Float[Array, "*batch u"]) -> Float[Array, "*batch u"]:
        """The contribution h, as it is."""
        return h

    def pull_back(
        self, W: Any, h: Float[Array, "*batch u"], delta: Float[Array, "*batch u"]
    ) -> Float[Array, "*batch u"]:
        """The contribution δ, as it is."""
        return as_cotangent_of(h, delta)
