"""The transpose of a connection's matrix: the way back through a shared weight."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._checks import check_kind
from jaxbp.connections._connection import Shape, Wrapper
from jaxbp.connections._dense import Dense


@dataclass(frozen=True)
class Transposed(Wrapper):
    """A `Dense` connection by the transpose of its weight, which another connection mostly uses as it is.

    a_u += h_s Wᵀ,  Δ_s += δ_u W,  ∂L/∂W = δ_uᵀ h_s,  W : (width_u, width_s)

    Example:
        A tied autoencoder, whose decoder is the transpose of its encoder:

        >>> import jax, jaxbp
        >>> W = jaxbp.Dense(share="W")
        >>> net = jaxbp.Network(
        ...     inputs={"x": 8},
        ...     units={
        ...         "code": jaxbp.Unit(2, jaxbp.tanh, {"x": W}),
        ...         "o": jaxbp.Unit(8, jaxbp.linear, {"code": jaxbp.Transposed(W)}),
        ...     },
        ... )
        >>> jaxbp.init_params(jax.random.key(0), net)["shared"]["W"].shape
        (8, 2)

    Source: the chapter, on weight sharing.
    """

    connection: Dense

    def __post_init__(self):
        check_kind(self.connection, Dense, "connection", "a jaxbp.Dense, which Transposed takes")

    def weight_shape(self, source: Shape, unit: Shape) -> Shape:
        """(width_u, width_s)."""
        s, u = self.connection.weight_shape(source, unit)
        return (u, s)

    def apply(self, W: Any, h: Array) -> Array:
        """The contribution h Wᵀ."""
        return self.connection.apply(W.T, h)

    def pull_back(self, W: Any, h: Any, delta: Array) -> Array:
        """The contribution δ W."""
        return self.connection.pull_back(W.T, h, delta)

    def contract(self, W: Any, h: Any, delta: Array) -> Array:
        """The product δᵀ h over the whole batch."""
        return self.connection.contract(W.T, h, delta).T

    def contract_each(self, W: Any, h: Any, delta: Array) -> Array:
        """The outer product of each example, transposed."""
        return jnp.swapaxes(self.connection.contract_each(W.T, h, delta), 1, 2)

    def project_each(self, W: Any, h: Any, delta: Array, P: Array, Q: Array) -> Array:
        """The connection's own between the matrices of the other side, transposed."""
        return jnp.swapaxes(self.connection.project_each(W.T, h, delta, Q, P), 1, 2)

    def squared_norms(self, W: Any, h: Any, delta: Array) -> Array:
        """The connection's own: a matrix and its transpose have the same norm."""
        return self.connection.squared_norms(W.T, h, delta)

    def sum_of_squares(self, W: Any, h: Any, delta: Array) -> Array:
        """The connection's own sum, transposed."""
        return self.connection.sum_of_squares(W.T, h, delta).T

    def gram(self, W: Any, h: Any, delta: Array) -> Array:
        """The connection's own: transposing two matrices leaves their inner product as it is."""
        return self.connection.gram(W.T, h, delta)
