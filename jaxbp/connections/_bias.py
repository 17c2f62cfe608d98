"""The connection from the unit that is always +1."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxbp._checks import check_flag
from jaxbp.connections._connection import Connection, Shape, as_cotangent_of, check_weight


@dataclass(frozen=True)
class Bias(Connection):
    """The weights b from the unit that is always +1: one for each element of a unit's last axis, or for each of all.

    a_u += 1 · b,  ∂L/∂b = 1ᵀ δ_u,  b : (width_u,)

    Here h is that unit: ones `(*batch, *rows, 1)`.

    Attributes:
        initializer: As for `Dense`; zeros unless told otherwise.
        share: The name of a bias that several units have.
        whole: Whether each row of a unit with several axes has weights of its own, as learned positions are.

    Source: the chapter, "bias neurons are always activated at a value of +1".
    """

    initializer: str | Callable[..., Array] | None = "zeros"
    share: str | None = None
    whole: bool = False

    def __post_init__(self):
        check_weight(self)
        check_flag(self.whole, "whole")

    def weight_shape(self, source: Shape, unit: Shape) -> Shape:
        """(width_u,), or the unit's whole shape."""
        return unit if self.whole else unit[-1:]

    def apply(self, W: Float[Array, "*some u"], h: Float[Array, "*batch 1"]) -> Float[Array, "*batch u"]:
        """The contribution b, the same for each example."""
        return jnp.broadcast_to(W, (*h.shape[:-1], W.shape[-1]))

    def pull_back(
        self, W: Float[Array, "*some u"], h: Float[Array, "*batch 1"], delta: Float[Array, "*batch u"]
    ) -> Float[Array, "*batch 1"]:
        """The contribution δ bᵀ to a unit that nothing leads into; the sweep never asks for it."""
        return as_cotangent_of(h, jnp.sum(delta * jnp.broadcast_to(W, delta.shape), axis=-1, keepdims=True))

    def contract(self, W: Float[Array, "*some u"], h: Any, delta: Float[Array, "*batch u"]) -> Float[Array, "*some u"]:
        """The sum 1ᵀ δ over the batch."""
        return as_cotangent_of(W, jnp.sum(delta, axis=tuple(range(delta.ndim - W.ndim))))

    def contract_each(
        self, W: Float[Array, "*some u"], h: Any, delta: Float[Array, "n ..."]
    ) -> Float[Array, "n *some u"]:
        """δ of each example, summed over its rows."""
        return jnp.sum(delta, axis=tuple(range(1, delta.ndim - W.ndim)))

    def sum_of_squares(
        self, W: Float[Array, "*some u"], h: Any, delta: Float[Array, "k n ..."]
    ) -> Float[Array, "*some u"]:
        """1ᵀ Σ_k δ_k²."""
        each = jnp.sum(delta, axis=tuple(range(2, delta.ndim - W.ndim)))
        return jnp.sum(each**2, axis=(0, 1))
