"""Pools: the largest element of each window of the source, or the mean. They have no weights."""

from dataclasses import dataclass
from math import prod
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxbp._checks import described
from jaxbp.connections._connection import Connection, Shape, as_cotangent_of
from jaxbp.connections._windows import Padding, WindowSpec, in_one_batch, spread, views


@dataclass(frozen=True)
class _Pool(Connection):
    """What pools share: windows over each channel of a source `(*spatial, channels)`."""

    window: Shape
    stride: int | Shape | None = None
    padding: Padding = "VALID"

    def __post_init__(self):
        if not isinstance(self.window, tuple):
            raise TypeError(
                f"window must be a tuple, one size for each spatial axis such as (2, 2), got {described(self.window)}"
            )
        self.windows.check(type(self).__name__)

    @property
    def windows(self) -> WindowSpec:
        """How the windows are laid, before the source is known."""
        return WindowSpec(self.window, self.window if self.stride is None else self.stride, self.padding, 1)

    def output_shape(self, source: Shape) -> Shape:
        """The shape of the unit that this pool of a source leads into."""
        return (*self.windows.output(source, type(self).__name__), source[-1])

    def weight_shape(self, source: Shape, unit: Shape) -> None:
        """None: there is nothing to learn."""
        expected = self.output_shape(source)
        if unit != expected:
            raise ValueError(f"{self!r} of shape {source} gives shape {expected}, but the unit has {unit}")


@dataclass(frozen=True)
class MaxPool(_Pool):
    """The largest element of each window.

    a_u[p] += max_k h_s[p · stride + k],  and δ_u[p] goes back to the element that was the largest, the first of equals

    Attributes:
        window: The size of a window along each spatial axis, such as `(2, 2)`.
        stride: How far apart windows are; as far as they are wide when None.
        padding: `"SAME"`, `"VALID"`, a number, or `(before, after)` for each axis; padding is never the largest.

    Example:
        >>> import jax.numpy as jnp, jaxbp
        >>> h = jnp.array([1.0, 5.0, 2.0, 2.0]).reshape(4, 1)
        >>> pool = jaxbp.MaxPool((2,))
        >>> pool.apply(None, h).ravel().tolist()
        [5.0, 2.0]
        >>> pool.pull_back(None, h, jnp.array([[1.0], [1.0]])).ravel().tolist()
        [0.0, 1.0, 1.0, 0.0]

    Source: Zhou and Chellappa, Computation of optical flow using a neural network, 1988.
    """

    def output_shape(self, source: Shape) -> Shape:
        """The shape of the unit; windows that see nothing but padding have no largest element, and are refused."""
        shape = super().output_shape(source)
        windows = self.windows.over(source[:-1])
        rows = zip(source[:-1], windows.padding, windows.reach, shape[:-1], windows.stride, strict=True)
        if any(low >= reach or (count - 1) * step >= low + n for n, (low, _), reach, count, step in rows):
            raise ValueError(
                f"{self!r} of shape {source} has windows that see nothing but padding; pad by less than a window"
            )
        return shape

    def apply(self, W: Any, h: Array) -> Array:
        """The largest element of each window."""
        rows, windows = self.windows.in_rows(h)
        whole, stride = (1, *windows.size, 1), (1, *windows.stride, 1)
        lowest = -jnp.inf if jnp.issubdtype(h.dtype, jnp.floating) else jnp.iinfo(h.dtype).min
        a = lax.reduce_window(rows, lowest, lax.max, whole, stride, [(0, 0), *windows.padding, (0, 0)])
        return self.windows.out_of_rows(a, h)

    def pull_back(self, W: Any, h: Any, delta: Array) -> Array:
        """δ of each window to the first of its largest elements."""
        rows, windows = self.windows.in_rows(h)
        seen = views(rows, windows, -jnp.inf)
        largest = jnp.argmax(jnp.stack(seen), axis=0)
        signal = in_one_batch(delta, len(self.window) + 1)
        signals = [jnp.where(largest == k, signal, 0) for k in range(len(seen))]
        return as_cotangent_of(h, jnp.reshape(spread(signals, windows, rows.shape), h.shape))


@dataclass(frozen=True)
class AvgPool(_Pool):
    """The mean of each window, whose attributes are as for `MaxPool`; padding counts as 0.

    a_u[p] += Σ_k h_s[p · stride + k] / K,  and δ_u[p] / K goes back to each of the K elements

    Example:
        >>> import jax.numpy as jnp, jaxbp
        >>> jaxbp.AvgPool((2,)).apply(None, jnp.array([1.0, 5.0, 2.0, 2.0]).reshape(4, 1)).ravel().tolist()
        [3.0, 2.0]

    Source: LeCun et al., Gradient-based learning applied to document recognition, 1998.
    """

    def apply(self, W: Any, h: Array) -> Array:
        """The mean of each window."""
        rows, windows = self.windows.in_rows(h)
        seen = views(rows, windows, 0.0)
        return self.windows.out_of_rows(sum(seen[1:], seen[0]) / len(seen), h)

    def pull_back(self, W: Any, h: Any, delta: Array) -> Array:
        """An equal share of δ to each element of the window."""
        rows, windows = self.windows.in_rows(h)
        count = prod(windows.size)
        share = in_one_batch(delta, len(self.window) + 1) / count
        return as_cotangent_of(h, jnp.reshape(spread([share] * count, windows, rows.shape), h.shape))
