"""Convolution: one small matrix of weights that every window of the source shares."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxbp._connections._connection import Connection, Shape, as_cotangent_of
from jaxbp._connections._windows import Padding, Windows, WindowSpec, in_one_batch


@dataclass(frozen=True)
class Conv(Connection):
    """A convolution over one or more spatial axes: every window of the source is read through the same weights.

    a_u[p, c] += Σ_k Σ_d h_s[p · stride + k · dilation, d] W[k, d, c]
    Δ_s += the transposed convolution of δ_u with W,  ∂L/∂W[k, d, c] = Σ_p h_s[p · stride + k · dilation, d] δ_u[p, c]

    Sources have the shape `(*spatial, channels)`, units `(*windows, channels)`; as everywhere in networks of this
    kind the kernel is not flipped.

    Attributes:
        kernel: The size of a window along each spatial axis, such as `(3, 3)`.
        stride: How far apart windows are; a number, or one for each axis.
        padding: `"SAME"`, `"VALID"`, a number, or `(before, after)` for each axis.
        dilation: How far apart the elements of a window are.
        groups: Into how many groups channels are split, each of which is convolved on its own.
        initializer: As for `Dense`.
        share: The name of a weight that several connections use.

    Example:
        >>> import jaxbp
        >>> jaxbp.Conv((3, 3)).weight_shape((28, 28, 1), (28, 28, 8))
        (3, 3, 1, 8)
        >>> jaxbp.Conv((5, 5), stride=2, padding="VALID").output_shape((28, 28, 1), 6)
        (12, 12, 6)

    Source: the chapter, on weight sharing; LeCun et al., Backpropagation applied to handwritten zip code recognition,
    1989.
    """

    kernel: Shape
    stride: int | Shape = 1
    padding: Padding = "SAME"
    dilation: int | Shape = 1
    groups: int = 1
    initializer: str | Callable[..., Array] | None = None
    share: str | None = None

    def __post_init__(self):
        if not isinstance(self.kernel, tuple):
            raise TypeError(
                f"kernel must be a tuple, one size for each spatial axis such as (3, 3), got {self.kernel!r}"
            )
        self._spec.check("Conv", "kernel")
        if self.groups < 1:
            raise ValueError(f"groups must be at least 1, got {self.groups}")

    @property
    def _spec(self) -> WindowSpec:
        return WindowSpec(self.kernel, self.stride, self.padding, self.dilation)

    def output_shape(self, source: Shape, channels: int) -> Shape:
        """The shape of the unit that this convolution of a source leads into.

        Raises:
            ValueError: A source with another number of axes, or smaller than the kernel.
        """
        return (*self._spec.output(source, "Conv"), channels)

    def weight_shape(self, source: Shape, unit: Shape) -> Shape:
        """(*kernel, channels_s / groups, channels_u)."""
        expected = self.output_shape(source, unit[-1])
        if unit != expected:
            raise ValueError(f"{self!r} of shape {source} gives shape {expected}, but the unit has {unit}")
        if source[-1] % self.groups or unit[-1] % self.groups:
            raise ValueError(f"{self.groups} groups do not divide the channels of {source} and {unit}")
        return (*self.kernel, source[-1] // self.groups, unit[-1])

    def apply(self, W: Any, h: Array) -> Array:
        """The contribution: the convolution of h with W."""
        rows, windows = self._rows(h)
        a = lax.conv_general_dilated(
            rows.astype(jnp.result_type(rows, W)),
            W.astype(jnp.result_type(rows, W)),
            window_strides=windows.stride,
            padding=windows.padding,
            rhs_dilation=windows.dilation,
            dimension_numbers=_numbers(len(self.kernel), "N{}C", "{}IO", "N{}C"),
            feature_group_count=self.groups,
        )
        return jnp.reshape(a, (*h.shape[: h.ndim - rows.ndim + 1], *a.shape[1:]))

    def pull_back(self, W: Any, h: Any, delta: Array) -> Array:
        """The transposed convolution: δ, with zeros between its windows, convolved with the flipped kernel."""
        rows, windows = self._rows(h)
        signal = in_one_batch(delta, len(self.kernel) + 1)
        *kernel, d, c = W.shape
        flipped = jnp.flip(W, tuple(range(len(kernel))))
        # within each group inputs and outputs change places: (d, groups, c) becomes (c, groups, d)
        grouped = jnp.reshape(flipped, (*kernel, d, self.groups, c // self.groups))
        transposed = jnp.reshape(jnp.swapaxes(grouped, -3, -1), (*kernel, c // self.groups, self.groups * d))
        padding = [
            (reach - 1 - low, n + low - 1 - (p - 1) * s)
            for reach, (low, _), n, p, s in zip(
                windows.reach, windows.padding, rows.shape[1:-1], signal.shape[1:-1], windows.stride, strict=True
            )
        ]
        Delta = lax.conv_general_dilated(
            signal.astype(jnp.result_type(signal, W)),
            transposed.astype(jnp.result_type(signal, W)),
            window_strides=(1,) * len(self.kernel),
            padding=padding,
            lhs_dilation=windows.stride,
            rhs_dilation=windows.dilation,
            dimension_numbers=_numbers(len(self.kernel), "N{}C", "{}IO", "N{}C"),
            feature_group_count=self.groups,
        )
        return as_cotangent_of(h, jnp.reshape(Delta, h.shape))

    def contract(self, W: Any, h: Any, delta: Array) -> Array:
        """The correlation of h and δ, summed over batch and windows: where an element of W met h, it met δ."""
        rows, windows = self._rows(h)
        signal = in_one_batch(delta, len(self.kernel) + 1)
        padding = [
            (low, k_reach + (p - 1) * s - n - low)
            for (low, _), k_reach, n, p, s in zip(
                windows.padding, windows.reach, rows.shape[1:-1], signal.shape[1:-1], windows.stride, strict=True
            )
        ]
        gradient = lax.conv_general_dilated(
            rows.astype(jnp.result_type(rows, signal)),
            signal.astype(jnp.result_type(rows, signal)),
            window_strides=windows.dilation,
            padding=padding,
            rhs_dilation=windows.stride,
            # examples are what is summed over, and the channels of the source take the place of examples
            dimension_numbers=_numbers(len(self.kernel), "C{}N", "I{}O", "{}NC"),
            batch_group_count=self.groups,
        )
        return as_cotangent_of(W, gradient)

    def _rows(self, h: Array) -> tuple[Array, Windows]:
        rows = in_one_batch(h, len(self.kernel) + 1)
        return rows, self._spec.over(rows.shape[1:-1])


def _numbers(axes: int, source: str, kernel: str, unit: str) -> tuple[str, str, str]:
    spatial = "0123456789"[:axes]
    return source.format(spatial), kernel.format(spatial), unit.format(spatial)
