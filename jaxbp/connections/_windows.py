"""Windows that slide over the spatial axes of a source: where convolutions and pools look."""

from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxbp._checks import described, is_integer
from jaxbp.connections._connection import Shape

Padding = Literal["SAME", "VALID"] | int | tuple[tuple[int, int], ...]


class Windows(NamedTuple):
    """Windows over spatial axes, each a tuple with one entry for each axis.

    Attributes:
        size: How many elements a window sees.
        stride: How far apart windows are.
        padding: How many elements are added before and after.
        dilation: How far apart the elements of a window are.
    """

    size: Shape
    stride: Shape
    padding: tuple[tuple[int, int], ...]
    dilation: Shape

    @property
    def reach(self) -> Shape:
        """From the first to the last element of a window."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.size, self.dilation, strict=True))

    def padded(self, spatial: Shape) -> Shape:
        """The source's extent, with padding."""
        return tuple(n + low + high for n, (low, high) in zip(spatial, self.padding, strict=True))

    def counts(self, spatial: Shape) -> Shape:
        """How many windows fit."""
        rows = zip(self.padded(spatial), self.reach, self.stride, strict=True)
        return tuple((n - reach) // stride + 1 for n, reach, stride in rows)


@dataclass(frozen=True)
class WindowSpec:
    """How windows are laid, before the source is known: in numbers that hold for every axis, or in tuples."""

    size: Shape
    stride: int | Shape
    padding: Padding
    dilation: int | Shape

    def over(self, spatial: Shape) -> Windows:
        """The windows over a source of this extent; "SAME" gives one for each stride."""
        axes = len(self.size)
        stride, dilation = (_for_each_axis(value, axes) for value in (self.stride, self.dilation))
        windows = Windows(self.size, stride, ((0, 0),) * axes, dilation)
        if self.padding == "VALID":
            return windows
        if self.padding == "SAME":
            rows = zip(spatial, stride, windows.reach, strict=True)
            missing = [max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in rows]
            return windows._replace(padding=tuple((total // 2, total - total // 2) for total in missing))
        return windows._replace(
            padding=self.padding if isinstance(self.padding, tuple) else ((self.padding, self.padding),) * axes
        )

    def in_rows(self, h: Array) -> tuple[Array, Windows]:
        """A source `(*batch, *spatial, channels)` with its batch as one axis, and the windows over it."""
        rows = in_one_batch(h, len(self.size) + 1)
        return rows, self.over(rows.shape[1:-1])

    def out_of_rows(self, a: Array, h: Array) -> Array:
        """What was made of these rows, with the batch axes of the source."""
        return jnp.reshape(a, (*h.shape[: h.ndim - len(self.size) - 1], *a.shape[1:]))

    def check(self, what: str, size: str = "window") -> None:
        """Refuse numbers that lay no windows; `size` is what the connection calls the size of a window."""
        axes = len(self.size)
        for name, value in ((size, self.size), ("stride", self.stride), ("dilation", self.dilation)):
            sizes = value if isinstance(value, tuple) else (value,)
            if not sizes or (isinstance(value, tuple) and len(value) != axes) or not all(map(_is_positive, sizes)):
                raise ValueError(
                    f"{what} got {name} {described(value)}; it is a positive integer for each of the {axes} spatial "
                    "axes"
                )
        padding: Any = self.padding
        if isinstance(padding, tuple):
            pairs = [pair for pair in padding if isinstance(pair, tuple) and len(pair) == 2]
            fine = len(pairs) == len(padding) == axes and all(_is_size(n) for pair in pairs for n in pair)
        else:
            fine = (padding in ("SAME", "VALID")) if isinstance(padding, str) else _is_size(padding)
        if not fine:
            raise ValueError(
                f"{what} got padding {described(padding)}; it is 'SAME', 'VALID', a number, or (before, after) for "
                "each axis"
            )

    def output(self, source: Shape, what: str) -> Shape:
        """The spatial shape of the unit that windows over a source `(*spatial, channels)` lead into."""
        if len(source) != len(self.size) + 1:
            raise ValueError(
                f"{what} with a window of {self.size} reads a shape of {len(self.size)} spatial axes and channels, "
                f"not {source}"
            )
        windows = self.over(source[:-1])
        padded = windows.padded(source[:-1])
        if any(reach > n for reach, n in zip(windows.reach, padded, strict=True)):
            raise ValueError(
                f"the window of {what} reaches over {windows.reach}, but its source has only {padded} with padding; "
                "take a smaller window, less dilation or more padding"
            )
        return windows.counts(source[:-1])


def in_one_batch(array: Array, axes: int) -> Array:
    """An array `(*batch, *shape)` with its batch as one axis; `axes` is how many the shape has."""
    return jnp.reshape(array, (-1, *array.shape[array.ndim - axes :]))


def views(h: Array, windows: Windows, fill: float) -> list[Array]:
    """For each element of a window, what all windows see there: `(N, *windows, channels)` of an `(N, *spatial, c)`."""
    padding = [(0, 0), *windows.padding, (0, 0)]
    padded = jnp.pad(h, padding, constant_values=fill)
    return [lax.slice(padded, *place) for place in _places(h.shape, windows)]


def spread(signals: list[Array], windows: Windows, shape: Shape) -> Array:
    """The transpose of `views`: a signal for each element of a window goes back to where it was seen, and adds up."""
    total: Array | None = None
    padded = (shape[0], *windows.padded(shape[1:-1]), shape[-1])
    for signal, (start, limit, stride) in zip(signals, _places(shape, windows), strict=True):
        # zeros between the windows, before the first and after the last
        rows = zip(start, padded, limit, stride, strict=True)
        there = lax.pad(signal, jnp.zeros((), signal.dtype), [(low, n - end, step - 1) for low, n, end, step in rows])
        total = there if total is None else total + there
    assert total is not None
    inside = [slice(None), *(slice(low, low + n) for (low, _), n in zip(windows.padding, shape[1:-1], strict=True))]
    return total[tuple(inside)]


def _places(shape: Shape, windows: Windows) -> list[tuple[Shape, Shape, Shape]]:
    """Start, limit and stride of each element's slice through the padded source."""
    counts, places = windows.counts(shape[1:-1]), list[tuple[Shape, Shape, Shape]]()
    stride = (1, *windows.stride, 1)
    for offset in product(*map(range, windows.size)):
        start = (0, *(o * d for o, d in zip(offset, windows.dilation, strict=True)), 0)
        ends = (s + (n - 1) * step + 1 for s, n, step in zip(start[1:-1], counts, windows.stride, strict=True))
        places.append((start, (shape[0], *ends, shape[-1]), stride))
    return places


def _for_each_axis(value: int | Shape, axes: int) -> Shape:
    return value if isinstance(value, tuple) else (value,) * axes


def _is_size(value: Any) -> bool:
    return is_integer(value) and value >= 0


def _is_positive(value: Any) -> bool:
    return _is_size(value) and value > 0
