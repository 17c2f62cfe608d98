"""Convolution: one small matrix of weights that every window of the source shares."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxbp._checks import check_integer, described
from jaxbp.connections._connection import Connection, Shape, as_cotangent_of, check_weight
from jaxbp.connections._convolved import convolution, correlation
from jaxbp.connections._windows import Padding, WindowSpec, in_one_batch, views


@dataclass(frozen=True)
class Conv(Connection):
    """A convolution over one or more spatial axes: every window of the source is read through the same weights.

    a_u[p, c] += Σ_k Σ_d h_s[p · stride + k · dilation, d] W[k, d, c]
    Δ_s += the transposed convolution of δ_u with W,  ∂L/∂W[k, d, c] = Σ_p h_s[p · stride + k · dilation, d] δ_u[p, c]

    Sources have the shape `(*spatial, channels)`, units `(*windows, channels)`; as everywhere in networks of this
    kind the kernel is not flipped. `initializer` and `share` are as for `Dense`.

    Attributes:
        kernel: The size of a window along each spatial axis, such as `(3, 3)`.
        stride: How far apart windows are; a number, or one for each axis.
        padding: `"SAME"`, `"VALID"`, a number, or `(before, after)` for each axis.
        dilation: How far apart the elements of a window are.
        groups: How many groups the channels are split into, each of which is convolved on its own.

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
    takes_rows = False

    def __post_init__(self):
        check_weight(self)
        if not isinstance(self.kernel, tuple):
            raise TypeError(
                f"kernel must be a tuple, one size for each spatial axis such as (3, 3), got {described(self.kernel)}"
            )
        self.windows.check("Conv", "kernel")
        check_integer(self.groups, "groups", 1)

    @property
    def windows(self) -> WindowSpec:
        """How the windows are laid, before the source is known."""
        return WindowSpec(self.kernel, self.stride, self.padding, self.dilation)

    def output_shape(self, source: Shape, channels: int) -> Shape:
        """The shape of the unit that this convolution of a source leads into."""
        return (*self.windows.output(source, "Conv"), channels)

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
        rows, windows = self.windows.in_rows(h)
        a = convolution(rows, W, windows.padding, stride=windows.stride, dilation=windows.dilation, groups=self.groups)
        return self.windows.out_of_rows(a, h)

    def transpose(self, W: Any, delta: Array, source: Shape) -> Array:
        """The transposed convolution: δ, with zeros between its windows, convolved with the flipped kernel.

        δ is `(*batch, *windows, channels_u)`, and the result `(*batch, *spatial, channels_s)` for a source of shape
        `(*spatial, channels_s)`.
        """
        windows = self.windows.over(source[:-1])
        signal = in_one_batch(delta, len(source))
        *kernel, d, c = W.shape
        flipped = jnp.flip(W, tuple(range(len(kernel))))
        # within each group inputs and outputs change places: (d, groups, c) becomes (c, groups, d)
        grouped = jnp.reshape(flipped, (*kernel, d, self.groups, c // self.groups))
        transposed = jnp.reshape(jnp.swapaxes(grouped, -3, -1), (*kernel, c // self.groups, self.groups * d))
        padding = [
            (reach - 1 - low, n + low - 1 - (p - 1) * s)
            for reach, (low, _), n, p, s in zip(
                windows.reach, windows.padding, source[:-1], signal.shape[1:-1], windows.stride, strict=True
            )
        ]
        Delta = convolution(
            signal, transposed, padding, gaps=windows.stride, dilation=windows.dilation, groups=self.groups
        )
        return jnp.reshape(Delta, (*delta.shape[: delta.ndim - len(source)], *source))

    def pull_back(self, W: Any, h: Any, delta: Array) -> Array:
        """The transposed convolution of δ."""
        return as_cotangent_of(h, self.transpose(W, delta, h.shape[h.ndim - len(self.kernel) - 1 :]))

    def contract(self, W: Any, h: Any, delta: Array) -> Array:
        """The correlation of h and δ, summed over batch and windows: an element of W joins the h and δ that it met."""
        rows, windows = self.windows.in_rows(h)
        signal = in_one_batch(delta, len(self.kernel) + 1)
        if self.groups == 1:
            return as_cotangent_of(W, correlation(rows, signal, windows, like=W))
        # one group after the other: as one grouped convolution it is up to a thousand times slower on CPUs
        groups = tuple(_groups_first(array, self.groups) for array in (rows, signal))
        gradients = lax.map(lambda group: correlation(group[0], group[1], windows, like=W), groups)
        gradients = jnp.moveaxis(gradients, 0, -2)
        return as_cotangent_of(W, jnp.reshape(gradients, W.shape))

    def seen(self, h: Array) -> Array:
        """What each window sees of a source, `(*batch, *windows, rows)`: a convolution is its product with W in rows.

        W in rows is `W.reshape(-1, channels)`, without groups.
        """
        rows, windows = self.windows.in_rows(h)
        return self.windows.out_of_rows(jnp.concatenate(views(rows, windows, 0.0), axis=-1), h)

    def contract_each(self, W: Any, h: Array, delta: Array) -> Array:
        """The gradient of each example, one element of the window after the other: h_s there, times δ."""
        windows = self.windows.over(h.shape[1:-1])

        def rows(array: Array) -> Array:
            # one axis after the other: where shardings are part of types, no reshape may do both at once
            flat = jnp.reshape(array, (array.shape[0], -1, array.shape[-1]))
            return jnp.reshape(flat, (*flat.shape[:2], self.groups, array.shape[-1] // self.groups))

        # (n, p, g, i) and (n, p, g, j): the channels of the source and the unit in each group
        signal = rows(delta)
        each = [jnp.einsum("npgi,npgj->nigj", rows(seen), signal) for seen in views(h, windows, 0.0)]
        stacked = jnp.stack(each, axis=1)
        return jnp.reshape(jnp.reshape(stacked, (*stacked.shape[:3], W.shape[-1])), (h.shape[0], *W.shape))


def _groups_first(array: Array, groups: int) -> Array:
    """`(N, *spatial, channels)` as `(groups, N, *spatial, channels / groups)`."""
    return jnp.moveaxis(jnp.reshape(array, (*array.shape[:-1], groups, -1)), -2, 0)
