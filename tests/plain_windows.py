"""Windows over images, one after the other: what convolutions and pools do, in plain numpy.

Where they look, forward and backward, is said once, so that a program that looks elsewhere can be written too.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np

Place = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Windows over one image.

    Attributes:
        extent: The size of the image along each axis.
        size: The size of a window.
        stride: How far apart windows are.
        before: How much padding there is before the image.
        counts: How many windows there are.
    """

    extent: Place
    size: Place
    stride: Place
    before: Place
    counts: Place


def layout(c, h: np.ndarray) -> Layout:
    """The windows of a convolution or a pool over a batch of images."""
    extent = h.shape[1:-1]
    size = c.kernel if hasattr(c, "kernel") else c.window
    stride = size if c.stride is None else c.stride if isinstance(c.stride, tuple) else (c.stride,) * len(size)
    rows = list(zip(extent, size, stride, strict=True))
    if c.padding == "SAME":  # as many windows as strides, with the padding split in two, the larger half after
        totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in rows]
        padding = [(total // 2, total - total // 2) for total in totals]
    else:
        padding = [(0, 0) if c.padding == "VALID" else (c.padding, c.padding)] * len(size)
    counts = [(n + low + high - k) // s + 1 for (n, k, s), (low, high) in zip(rows, padding, strict=True)]
    return Layout(extent, size, stride, tuple(low for low, _ in padding), tuple(counts))


def without_stride(where: Layout) -> Layout:
    """As many windows, side by side."""
    return replace(where, stride=(1,) * len(where.size))


def without_padding(where: Layout) -> Layout:
    """As many windows, the first of which begins with the image; what reaches beyond it is not seen."""
    return replace(where, before=(0,) * len(where.size))


@lru_cache(maxsize=64)
def windows(where: Layout) -> list[tuple[Place, list[tuple[Place, Place]]]]:
    """Each window p with its elements k, and the places x in the image at which they are; padding is left out."""
    return [(p, list(elements(where, p))) for p in product(*map(range, where.counts))]


def elements(where: Layout, p: Place) -> Iterator[tuple[Place, Place]]:
    for k in product(*map(range, where.size)):
        x = tuple(i * s + j - low for i, s, j, low in zip(p, where.stride, k, where.before, strict=True))
        if all(0 <= i < n for i, n in zip(x, where.extent, strict=True)):
            yield k, x


def largest(h: np.ndarray, seen: list[tuple[Place, Place]], last: bool = False) -> np.ndarray:
    """Which element of a window is the largest, by example and channel; of equals the first, or the last."""
    values = np.array([h[:, *x] for _, x in seen])
    return len(seen) - 1 - np.argmax(values[::-1], axis=0) if last else np.argmax(values, axis=0)


# Convolution: a[p] = Σ_k h[x(p, k)] W[k]


def convolve(c, W, h):
    where = layout(c, h)
    a = np.zeros((len(h), *where.counts, W.shape[-1]))
    for p, seen in windows(where):
        for k, x in seen:
            a[:, *p] += h[:, *x] @ W[k]
    return a


def convolve_back(c, W, h, delta, where: Layout | None = None):
    Delta = np.zeros_like(h)
    for p, seen in windows(where or layout(c, h)):
        for k, x in seen:
            Delta[:, *x] += delta[:, *p] @ W[k].T
    return Delta


def correlate(c, W, h, delta, where: Layout | None = None):
    grad = np.zeros_like(W)
    for p, seen in windows(where or layout(c, h)):
        for k, x in seen:
            grad[k] += h[:, *x].T @ delta[:, *p]
    return grad


# Pools


def take_largest(c, W, h):
    where = layout(c, h)
    a = np.zeros((len(h), *where.counts, h.shape[-1]))
    for p, seen in windows(where):
        a[:, *p] = np.max([h[:, *x] for _, x in seen], axis=0)
    return a


def largest_back(c, W, h, delta, where: Layout | None = None, last: bool = False):
    Delta = np.zeros_like(h)
    right = dict(windows(layout(c, h)))
    for p, seen in windows(where or layout(c, h)):
        chosen = largest(h, right[p], last)
        element = [k for k, _ in right[p]]
        for k, x in seen:
            if k in element:
                Delta[:, *x] += np.where(chosen == element.index(k), delta[:, *p], 0)
    return Delta


def average(c, W, h):
    where = layout(c, h)
    a = np.zeros((len(h), *where.counts, h.shape[-1]))
    for p, seen in windows(where):
        a[:, *p] = np.sum([h[:, *x] for _, x in seen], axis=0) / np.prod(where.size)
    return a


def average_back(c, W, h, delta, where: Layout | None = None):
    where = where or layout(c, h)
    Delta = np.zeros_like(h)
    for p, seen in windows(where):
        for _, x in seen:
            Delta[:, *x] += delta[:, *p] / np.prod(where.size)
    return Delta
