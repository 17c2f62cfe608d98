"""The connection from the unit that is always +1."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxbp._connections._connection import Connection, Shape, as_cotangent_of, check_weight


@dataclass(frozen=True)
class Bias(Connection):
    """The weights b from the unit that is always +1, which all rows of a unit with several axes share.

    a_u += 1 · b,  ∂L/∂b = 1ᵀ δ_u,  b : (width_u,)

    Here h is that unit: ones `(*batch, *rows, 1)`.

    Attributes:
        initializer: As for `Dense`; zeros unless told otherwise.
        share: The name of a bias that several units have.

    Source: the chapter, "bias neurons are always activated at a value of +1".
    """

    initializer: str | Callable[..., Array] | None = "zeros"
    share: str | None = None

    def __post_init__(self):
        check_weight(self)

    def weight_shape(self, source: Shape, unit: Shape) -> Shape:
        """(width_u,): one weight for each element of the unit's last axis."""
        return unit[-1:]

    def apply(self, W: Float[Array, " u"], h: Float[Array, "*batch 1"]) -> Float[Array, "*batch u"]:
        """The contribution b, the same for each example."""
        return jnp.broadcast_to(W, (*h.shape[:-1], *W.shape))

    def pull_back(
        self, W: Float[Array, " u"], h: Float[Array, "*batch 1"], delta: Float[Array, "*batch u"]
    ) -> Float[Array, "*batch 1"]:
        """The contribution δ bᵀ to a unit that nothing leads into; the sweep never asks for it."""
        return as_cotangent_of(h, jnp.sum(delta * jnp.broadcast_to(W, delta.shape), axis=-1, keepdims=True))

    def contract(self, W: Float[Array, " u"], h: Any, delta: Float[Array, "*batch u"]) -> Float[Array, " u"]:
        """The sum 1ᵀ δ over the batch."""
        return as_cotangent_of(W, jnp.sum(delta, axis=tuple(range(delta.ndim - 1))))

    def contract_each(self, W: Float[Array, " u"], h: Any, delta: Float[Array, "n *rows u"]) -> Float[Array, "n u"]:
        """δ of each example, summed over its rows."""
        return jnp.sum(delta, axis=tuple(range(1, delta.ndim - 1)))

    def sum_of_squares(self, W: Float[Array, " u"], h: Any, delta: Float[Array, "k n *rows u"]) -> Float[Array, " u"]:
        """1ᵀ Σ_k δ_k²."""
        each = jnp.sum(delta, axis=tuple(range(2, delta.ndim - 1)))
        return jnp.sum(each**2, axis=(0, 1))
