"""Connections with some of their weights taken out: what pruning leaves."""

from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxbp._checks import check_array, check_kind
from jaxbp.connections._connection import Connection, Shape, Wrapper


@dataclass(frozen=True, eq=False)
class Masked(Wrapper):
    """Another connection whose weights count only where a mask is true.

    W ⊙ M takes the place of W everywhere, so that ∂L/∂W is 0 where M is false.

    Attributes:
        connection: Any connection with weights, such as `Dense()`.
        mask: M, booleans of W's shape, which are copied. Equal masks make equal connections with equal hashes.

    Example:
        >>> import jax, jaxbp, numpy as np
        >>> mask = np.array([[True, False], [True, True]])
        >>> unit = jaxbp.Unit(2, jaxbp.linear, {"x": jaxbp.Masked(jaxbp.Dense(), mask)}, bias=False)
        >>> net = jaxbp.Network(inputs={"x": 2}, units={"o": unit})
        >>> float(jaxbp.init_params(jax.random.key(0), net)["o"]["x"][0, 1])
        0.0

    Source: the chapter, on pruning; LeCun, Denker and Solla, Optimal brain damage, 1990.
    """

    connection: Connection
    mask: Any = field(repr=False)

    def __post_init__(self):
        check_kind(self.connection, Connection, "connection", "one that Masked takes, such as jaxbp.Dense()")
        check_array(self.mask, "mask")
        mask = np.array(self.mask)
        if mask.dtype != np.bool_:
            raise TypeError(f"the mask has dtype {mask.dtype}, expected booleans: True where a weight counts")
        mask.setflags(write=False)
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "_hash", hash((self.connection, mask.shape, mask.tobytes())))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Masked) and self.connection == other.connection and np.array_equal(self.mask, other.mask)
        )

    def __hash__(self) -> int:
        return self._hash  # pyright: ignore[reportUnknownVariableType, reportAttributeAccessIssue]

    def __reduce__(self) -> Any:
        return type(self), (self.connection, self.mask)  # hashes differ from process to process

    def weight_shape(self, source: Shape, unit: Shape) -> Shape:
        """The weight shape of the connection, which the mask must have too."""
        shape = self.connection.weight_shape(source, unit)
        if shape is None:
            raise ValueError(f"Masked takes a connection with weights, and {self.connection!r} has none")
        if self.mask.shape != shape:
            raise ValueError(f"the mask has shape {self.mask.shape}, but the weights have {shape}")
        return shape

    def constrain(self, W: Array) -> Array:
        """W ⊙ M."""
        return jnp.where(self.mask, W, jnp.zeros((), W.dtype))

    def apply(self, W: Any, h: Array) -> Array:
        """The connection's contribution, with W ⊙ M."""
        return self.connection.apply(self.constrain(W), h)

    def pull_back(self, W: Any, h: Any, delta: Array) -> Array:
        """The connection's signal, with W ⊙ M."""
        return self.connection.pull_back(self.constrain(W), h, delta)

    def contract(self, W: Any, h: Any, delta: Array) -> Array:
        """The connection's gradient where the mask is true."""
        return self.constrain(self.connection.contract(W, h, delta))

    def sum_of_squares(self, W: Any, h: Any, delta: Array) -> Array:
        """The connection's sum where the mask is true."""
        return self.constrain(self.connection.sum_of_squares(W, h, delta))
