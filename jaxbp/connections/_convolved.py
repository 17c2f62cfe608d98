"""Convolutions and correlations of arrays, in the form that is fast where they run."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array

from jaxbp.connections._connection import Shape
from jaxbp.connections._windows import Windows

FEW = 16
"""The most channels that are read where windows are convolved together."""

Pairs = Sequence[tuple[int, int]]


def convolution(
    rows: Array,
    W: Array,
    padding: Pairs,
    *,
    stride: Shape | None = None,
    gaps: Shape | None = None,
    dilation: Shape | None = None,
    groups: int = 1,
) -> Array:
    """The convolution of rows `(N, *spatial, channels)` with zeros between their elements where there are gaps.

    On CPUs, neighbouring windows are convolved as one where there are few channels: see `_together`.
    """
    ones = (1,) * (rows.ndim - 2)
    *outer, last = stride or ones
    gaps, dilation = gaps or ones, dilation or ones
    number = _together(rows, W, padding[-1], last, gaps[-1], dilation[-1]) if groups == 1 else 1
    plain = partial(_convolution, padding=padding, stride=(*outer, last), gaps=gaps, dilation=dilation, groups=groups)
    if number == 1:
        return plain(rows, W)

    def of_several(rows: Array, W: Array) -> Array:
        a = plain(rows, _side_by_side(W, number, last // dilation[-1]), stride=(*outer, number * last))
        return jnp.reshape(a, (*a.shape[:-2], number * a.shape[-2], W.shape[-1]))

    return lax.platform_dependent(rows, W, cpu=of_several, default=plain)


def _convolution(
    rows: Array,
    W: Array,
    *,
    padding: Pairs,
    stride: Shape,
    gaps: Shape | None = None,
    dilation: Shape,
    groups: int = 1,
    out_sharding: NamedSharding | None = None,
) -> Array:
    dtype = jnp.result_type(rows, W)
    spatial = "0123456789"[: len(stride)]
    return lax.conv_general_dilated(
        rows.astype(dtype),
        W.astype(dtype),
        window_strides=stride,
        padding=padding,
        lhs_dilation=gaps,
        rhs_dilation=dilation,
        dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
        feature_group_count=groups,
        out_sharding=out_sharding,
    )


def _together(rows: Array, W: Array, padding: tuple[int, int], stride: int, gap: int, dilation: int) -> int:
    """How many neighbours along the last axis are convolved as one window with that many times the channels.

    The time of XLA's convolutions on CPUs is that of laying out what windows see, a number at a time, until there are
    32 channels to be made, or 64 of an odd number that is read: up to nine times less for the same sums.
    """
    read, made = rows.shape[-1], W.shape[-1]
    is_divided = any(axis is not None for axis in jax.typeof(W).sharding.spec)
    if read > FEW or stride % dilation or is_divided:
        return 1
    padded = (rows.shape[-2] - 1) * gap + 1 + sum(padding)
    windows = (padded - (W.shape[-3] - 1) * dilation - 1) // stride + 1
    most = (64 if read % 2 and read > 1 else 32) // made
    return max((n for n in range(1, most + 1) if windows % n == 0), default=1)


def _side_by_side(W: Array, number: int, step: int) -> Array:
    """Kernels for windows that lie `step` apart along the last axis, as one: zeros where a window does not see."""
    reach = (number - 1) * step
    spans = [[(0, 0)] * (W.ndim - 3) + [(k * step, reach - k * step), (0, 0), (0, 0)] for k in range(number)]
    return jnp.concatenate([jnp.pad(W, span) for span in spans], axis=-1)


def correlation(rows: Array, signal: Array, windows: Windows, like: Array) -> Array:
    """Σ_np h[n, p · stride + k · dilation, d] δ[n, p, c], `(*kernel, d, c)`, sharded like the weights.

    That is a convolution in which strides and dilations change places, and so do the channels of the source and the
    examples, which are summed over. The axes are transposed here, because with XLA's dimension numbers the loops that
    an epoch is made of are up to 200 times slower on CPUs.
    """
    padding = [
        (low, reach + (p - 1) * s - n - low)
        for (low, _), reach, n, p, s in zip(
            windows.padding, windows.reach, rows.shape[1:-1], signal.shape[1:-1], windows.stride, strict=True
        )
    ]
    axes = tuple(range(1, rows.ndim - 1))
    sharding = jax.typeof(like).sharding
    *kernel, d, c = sharding.spec
    gradient = _convolution(
        jnp.transpose(rows, (rows.ndim - 1, *axes, 0)),
        jnp.transpose(signal, (*axes, 0, rows.ndim - 1)),
        padding=padding,
        stride=windows.dilation,
        dilation=windows.stride,
        out_sharding=NamedSharding(sharding.mesh, PartitionSpec(d, *kernel, c)),
    )
    return jnp.moveaxis(gradient, 0, -2)
