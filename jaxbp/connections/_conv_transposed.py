"""The transpose of a convolution: from few windows back to the many elements that they were laid over."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Array

from jaxbp._checks import check_kind, described, is_integer
from jaxbp.connections._connection import Shape, Wrapper, as_cotangent_of
from jaxbp.connections._conv import Conv


@dataclass(frozen=True)
class ConvTransposed(Wrapper):
    """The transpose of a convolution, which leads from what its windows saw back to where they looked.

    a_u[p · stride + k · dilation, d] += Σ_c h_s[p, c] W[k, d, c]
    Δ_s += the convolution of δ_u with W,  ∂L/∂W[k, d, c] = Σ_p δ_u[p · stride + k · dilation, d] h_s[p, c]

    The roles are exchanged: the unit takes the place of the convolution's source, and δ takes the place of h.

    Attributes:
        connection: The convolution from the unit to the source; with the name of a shared weight, both use it.
        shape: The shape of the unit, which does not follow from the source where a stride is above 1.

    Example:
        A tied convolutional autoencoder:

        >>> import jax, jaxbp
        >>> K = jaxbp.Conv((3, 3), stride=2, share="K")
        >>> net = jaxbp.Network(
        ...     inputs={"x": (8, 8, 1)},
        ...     units={
        ...         "code": jaxbp.Unit((4, 4, 2), jaxbp.tanh, {"x": K}),
        ...         "o": jaxbp.Unit((8, 8, 1), jaxbp.linear, {"code": jaxbp.ConvTransposed(K, (8, 8, 1))}),
        ...     },
        ... )
        >>> jaxbp.init_params(jax.random.key(0), net)["shared"]["K"].shape
        (3, 3, 1, 2)

    Source: Zeiler et al., Deconvolutional networks, 2010.
    """

    connection: Conv
    shape: Shape

    def __post_init__(self):
        check_kind(self.connection, Conv, "connection", "a jaxbp.Conv, which ConvTransposed takes")
        if not isinstance(self.shape, tuple) or not all(is_integer(n) and n > 0 for n in self.shape):
            raise TypeError(
                "shape must be a tuple of positive integers, one for each axis of the unit, "
                f"got {described(self.shape)}"
            )

    def weight_shape(self, source: Shape, unit: Shape) -> Shape:
        """The shape of the convolution's weight, `(*kernel, channels_u / groups, channels_s)`."""
        if unit != self.shape:
            raise ValueError(f"{self!r} gives shape {self.shape}, but the unit has {unit}")
        expected = self.connection.output_shape(unit, source[-1])
        if source != expected:
            raise ValueError(
                f"{self.connection!r} of shape {unit} gives shape {expected}, so that is what its transpose reads, "
                f"not {source}"
            )
        return self.connection.weight_shape(unit, source)

    def apply(self, W: Any, h: Array) -> Array:
        """The transposed convolution of h."""
        return self.connection.transpose(W, h, self.shape)

    def pull_back(self, W: Any, h: Any, delta: Array) -> Array:
        """The convolution of δ."""
        return as_cotangent_of(h, self.connection.apply(W, delta))

    def contract(self, W: Any, h: Any, delta: Array) -> Array:
        """The correlation of δ and h, summed over batch and windows."""
        return self.connection.contract(W, delta, h)

    def contract_each(self, W: Any, h: Any, delta: Array) -> Array:
        """The correlation of δ and h for each example."""
        return self.connection.contract_each(W, delta, h)
