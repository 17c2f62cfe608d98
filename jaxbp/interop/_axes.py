"""Numbers for each axis, spelled out and in short, and the order in which other libraries have them."""

from typing import Any

import jax.numpy as jnp

from jaxbp.connections import AvgPool, Conv, MaxPool, Shape
from jaxbp.connections._windows import Windows, WindowSpec

Ends = tuple[tuple[int, int], ...]
"""What is added before and after along each spatial axis."""


def alike(values: Shape) -> int | Shape:
    """One number where all axes have the same."""
    return values[0] if len(set(values)) == 1 else values


def plain(ends: Ends) -> Any:
    """Padding in its shortest form: "VALID", one number, or what is added before and after along each axis."""
    numbers = {number for pair in ends for number in pair}
    if len(numbers) > 1:
        return ends
    return numbers.pop() or "VALID"


def spelled_out(conv: Conv | MaxPool | AvgPool, spatial: Shape) -> Windows:
    """Size, stride, padding and dilation of the windows of a convolution or a pool, each for every axis."""
    if isinstance(conv, Conv):
        spec = WindowSpec(conv.kernel, conv.stride, conv.padding, conv.dilation)
    else:
        spec = WindowSpec(conv.window, conv.window if conv.stride is None else conv.stride, conv.padding, 1)
    return spec.over(spatial)


def exchanged(W: Any, groups: int) -> Any:
    """The weights of a transposed convolution as those of a convolution of its spread source, and the other way round.

    JAX's libraries convolve the source with zeros between its elements, where we have the transpose of a convolution:
    the kernel is flipped, and in each group inputs and outputs change places.
    """
    *kernel, d, c = W.shape
    flipped = jnp.flip(W, tuple(range(len(kernel))))
    grouped = jnp.reshape(flipped, (*kernel, d, groups, c // groups))
    return jnp.reshape(jnp.swapaxes(grouped, -3, -1), (*kernel, c // groups, groups * d))
