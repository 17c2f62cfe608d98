"""Connections without parameters that pass every element on as it is."""

from dataclasses import dataclass
from math import prod
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxbp._checks import check_integer
from jaxbp.connections._connection import Connection, Shape, as_cotangent_of


@dataclass(frozen=True)
class Identity(Connection):
    """The source added to the unit as it is: a skip connection without parameters.

    a_u += h_s,  Δ_s += δ_u
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


@dataclass(frozen=True)
class Flatten(Connection):
    """All elements of a source with several axes in a row, in which the last axis varies fastest.

    a_u[i] += h_s[…],  Δ_s += δ_u in the source's shape

    Attributes:
        axes: The number of axes of the source, without the batch: 3 for an image `(height, width, channels)`.

    Example:
        >>> import jax.numpy as jnp, jaxbp
        >>> jaxbp.Flatten().apply(None, jnp.ones((5, 4, 4, 2))).shape
        (5, 32)
    """

    axes: int = 3

    def __post_init__(self):
        check_integer(self.axes, "axes", 1)

    def weight_shape(self, source: Shape, unit: Shape) -> None:
        """None: there is nothing to learn."""
        if len(source) != self.axes:
            raise ValueError(f"Flatten(axes={self.axes}) reads a source with as many axes, not one of shape {source}")
        if unit != (prod(source),):
            raise ValueError(f"Flatten of shape {source} gives {prod(source)} elements, but the unit has shape {unit}")

    def apply(self, W: Any, h: Array) -> Array:
        """The contribution h, in a row."""
        return jnp.reshape(h, (*h.shape[: h.ndim - self.axes], -1))

    def pull_back(self, W: Any, h: Array, delta: Array) -> Array:
        """The contribution δ, in the source's shape."""
        return as_cotangent_of(h, jnp.reshape(delta, h.shape))
