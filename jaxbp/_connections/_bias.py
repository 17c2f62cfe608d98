"""The connection from the constant unit, which is always +1."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxbp._connections._connection import Shape, as_cotangent_of


@dataclass(frozen=True)
class Bias:
    """The weights b from a unit that is always +1, which is written as h = None; nothing flows back into it.

    a_u += b,  ∂L/∂b = 1ᵀ δ_u,  b : (width_u,)

    Source: the chapter, "bias neurons are always activated at a value of +1".
    """

    def weight_shape(self, unit: Shape) -> Shape:
        """(width_u,): one weight for each element of the unit's last axis."""
        return unit[-1:]

    def apply(self, b: Float[Array, " u"], a: Float[Array, "*batch u"]) -> Float[Array, "*batch u"]:
        """The pre-activation a, with b added."""
        return a + jnp.broadcast_to(b, a.shape)

    def contract(self, b: Float[Array, " u"], h: Any, delta: Float[Array, "*batch u"]) -> Float[Array, " u"]:
        """The sum 1ᵀ δ over the batch."""
        return as_cotangent_of(b, jnp.sum(delta, axis=tuple(range(delta.ndim - 1))))

    def contract_each(self, b: Float[Array, " u"], h: Any, delta: Float[Array, "n *rows u"]) -> Float[Array, "n u"]:
        """δ of each example, summed over its rows."""
        return jnp.sum(delta, axis=tuple(range(1, delta.ndim - 1)))

    def squared_norms(self, b: Float[Array, " u"], h: Any, delta: Float[Array, "n *rows u"]) -> Float[Array, " n"]:
        """‖δ_i‖²."""
        return jnp.sum(self.contract_each(b, h, delta) ** 2, axis=1)

    def sum_of_squares(self, b: Float[Array, " u"], h: Any, delta: Float[Array, "k n *rows u"]) -> Float[Array, " u"]:
        """1ᵀ Σ_k δ_k²."""
        each = jnp.sum(delta, axis=tuple(range(2, delta.ndim - 1)))
        return jnp.sum(each**2, axis=(0, 1))

    def gram(self, b: Float[Array, " u"], h: Any, delta: Float[Array, "n *rows u"]) -> Float[Array, "n n"]:
        """The product δ δᵀ: the constant unit is +1 for every example."""
        each = self.contract_each(b, h, delta)
        return each @ each.T
