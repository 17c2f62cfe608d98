"""One weight for each element: the gain of a normalised unit."""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxbp.connections._connection import Connection, Shape, as_cotangent_of, check_weight


@dataclass(frozen=True)
class Scale(Connection):
    """Each element of the source times a weight of its own, which all rows of a unit with several axes share.

    a_u += h_s ⊙ w,  Δ_s += δ_u ⊙ w,  ∂L/∂w = Σ h_s ⊙ δ_u,  w : (width,)

    The initializer, ones unless told otherwise, and `share` are as for `Dense`.

    Example:
        >>> import jax.numpy as jnp, jaxbp
        >>> jaxbp.Scale().apply(jnp.array([1.0, 2.0]), jnp.array([[3.0, 4.0], [5.0, 6.0]])).tolist()
        [[3.0, 8.0], [5.0, 12.0]]

    Source: Ba, Kiros and Hinton, Layer normalization, 2016, where it is the gain.
    """

    initializer: str | Callable[..., Array] | None = "ones"
    share: str | None = None

    def __post_init__(self):
        check_weight(self)

    def weight_shape(self, source: Shape, unit: Shape) -> Shape:
        """(width,): one weight for each element of the last axis."""
        if source != unit:
            raise ValueError(f"Scale joins equal shapes, but these are {source} and {unit}; use Dense() to change them")
        return unit[-1:]

    def apply(self, W: Float[Array, " u"], h: Float[Array, "*batch u"]) -> Float[Array, "*batch u"]:
        """The contribution h ⊙ w."""
        return h * jnp.broadcast_to(W, h.shape)

    def pull_back(
        self, W: Float[Array, " u"], h: Float[Array, "*batch u"], delta: Float[Array, "*batch u"]
    ) -> Float[Array, "*batch u"]:
        """The contribution δ ⊙ w."""
        return as_cotangent_of(h, delta * jnp.broadcast_to(W, delta.shape))

    def contract(
        self, W: Float[Array, " u"], h: Float[Array, "*batch u"], delta: Float[Array, "*batch u"]
    ) -> Float[Array, " u"]:
        """Σ h ⊙ δ over batch and rows."""
        return as_cotangent_of(W, jnp.sum(h * delta, axis=tuple(range(h.ndim - 1))))
