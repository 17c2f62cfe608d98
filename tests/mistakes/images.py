"""Mistakes in convolutions and pools."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from plain_phases import connections, sources
from plain_windows import (
    Layout,
    average_back,
    convolve_back,
    correlate,
    largest,
    largest_back,
    layout,
    windows,
    without_padding,
    without_stride,
)
from wrong_networks import Problem

from jaxbp import AvgPool, Conv, MaxPool
from mistakes._parts import Change, Changes, completed_at, one_and_all, sent_through

WINDOWED = (Conv, MaxPool, AvgPool)
BACK = {Conv: convolve_back, MaxPool: largest_back, AvgPool: average_back}


def reading(problem: Problem, u: str, *kinds: type) -> list[str]:
    """The sources, inputs among them, that u reads through connections of these kinds."""
    return [s for s, c in connections(problem.net, u).items() if isinstance(c, kinds)]


def sending(problem: Problem, u: str, *kinds: type) -> list[str]:
    """The units to which u sends a signal through connections of these kinds."""
    return [s for s in reading(problem, u, *kinds) if s in sources(problem.net, u)]


def back(problem: Problem, u: str, s: str, send: Callable[..., np.ndarray]) -> Changes:
    """Another signal, from (c, W, h, δ)."""
    c, W = connections(problem.net, u)[s], problem.weight(u, s)
    return {f"signal.{u}.{s}": lambda q: send(c, W, q[f"h.{s}"], q[f"delta.{u}"])}


def flipped(array: np.ndarray) -> np.ndarray:
    return np.flip(array, axis=tuple(range(array.ndim - 2)))


def rearranged(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda q: change(q[name])


def kernels(problem: Problem, u: str) -> list[str]:
    """The gradients of kernels with several elements."""
    return [name for name, W in completed_at(problem, u).items() if W.ndim == 4 and W.shape[:2] != (1, 1)]


# The signal of a convolution


def kernel_not_rotated(problem: Problem, u: str) -> Iterator[Changes]:
    for s in sending(problem, u, Conv):
        kernel = flipped(problem.weight(u, s))
        yield {f"signal.{u}.{s}": sent_through(problem, u, s, lambda q, kernel=kernel: kernel)}


def channels_not_transposed(problem: Problem, u: str) -> Iterator[Changes]:
    for s in sending(problem, u, Conv):
        kernel = np.swapaxes(problem.weight(u, s), -1, -2)
        if kernel.shape[-1] == kernel.shape[-2]:
            yield {f"signal.{u}.{s}": sent_through(problem, u, s, lambda q, kernel=kernel: kernel)}


# The gradient of a kernel


def correlation_reversed(problem: Problem, u: str) -> Iterator[Changes]:
    yield from ({name: rearranged(name, flipped)} for name in kernels(problem, u))


def transposed_kernel(problem: Problem, u: str) -> Iterator[Changes]:
    """Rows for columns of the window, or the channels of source and unit exchanged."""
    for name in kernels(problem, u):
        yield {name: rearranged(name, lambda grad: np.swapaxes(grad, 0, 1))}
        if np.equal(*completed_at(problem, u)[name].shape[-2:]):
            yield {name: rearranged(name, lambda grad: np.swapaxes(grad, -1, -2))}


# Where windows are


def looking_elsewhere(problem: Problem, u: str, elsewhere: Callable[[Layout], Layout]) -> Changes:
    """Signals and gradients with windows at other places on the way back than on the way forward."""
    changes: Changes = {}
    for s in reading(problem, u, *WINDOWED):
        c, W = connections(problem.net, u)[s], problem.weight(u, s)
        if f"grad.{u}.{s}" in completed_at(problem, u):
            changes[f"grad.{u}.{s}"] = lambda q, c=c, W=W, s=s: correlate(
                c, W, q[f"h.{s}"], q[f"delta.{u}"], elsewhere(layout(c, q[f"h.{s}"]))
            )
        if s in sources(problem.net, u):
            changes |= back(
                problem, u, s, lambda c, W, h, delta: BACK[type(c)](c, W, h, delta, elsewhere(layout(c, h)))
            )
    return changes


def stride_forgotten(problem: Problem, u: str) -> Iterator[Changes]:
    """In the signal, in the gradient, or in both."""
    yield from one_and_all(looking_elsewhere(problem, u, without_stride))


def padding_forgotten(problem: Problem, u: str) -> Iterator[Changes]:
    """What belongs to the padded image is taken for that of the image, from its first corner on."""
    yield from one_and_all(looking_elsewhere(problem, u, without_padding))


def overwritten_windows(problem: Problem, u: str) -> Iterator[Changes]:
    """Windows that overlap, each stored where it should be added; of a kernel's gradient only the last is left."""
    for s in sending(problem, u, *WINDOWED):
        yield back(problem, u, s, last_window_wins)
    for s in sending(problem, u, MaxPool):
        yield back(problem, u, s, last_largest_wins)
    for s in reading(problem, u, Conv):
        c, W = connections(problem.net, u)[s], problem.weight(u, s)

        def of_last_window(q: Any, c: Any = c, W: Any = W, s: str = s) -> np.ndarray:
            last = np.zeros_like(q[f"delta.{u}"])
            last[:, -1, -1] = q[f"delta.{u}"][:, -1, -1]
            return correlate(c, W, q[f"h.{s}"], last)

        yield {f"grad.{u}.{s}": of_last_window}


def last_window_wins(c: Any, W: Any, h: np.ndarray, delta: np.ndarray) -> np.ndarray:
    Delta = np.zeros_like(h)
    for p, seen in windows(layout(c, h)):
        chosen = largest(h, seen) if isinstance(c, MaxPool) else None
        for i, (k, x) in enumerate(seen):
            if isinstance(c, Conv):
                Delta[:, *x] = delta[:, *p] @ W[k].T
            elif isinstance(c, MaxPool):
                Delta[:, *x] = np.where(chosen == i, delta[:, *p], 0)
            else:
                Delta[:, *x] = delta[:, *p] / np.prod(c.window)
    return Delta


def last_largest_wins(c: Any, W: Any, h: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Only what was the largest is stored, whatever else a window has."""
    Delta = np.zeros_like(h)
    for p, seen in windows(layout(c, h)):
        chosen = largest(h, seen)
        for i, (_, x) in enumerate(seen):
            Delta[:, *x] = np.where(chosen == i, delta[:, *p], Delta[:, *x])
    return Delta


# Pools


def to_each(weigh: Callable[[np.ndarray, int], np.ndarray]) -> Callable[..., np.ndarray]:
    """A pool's way back in which each element of a window gets δ times a factor, from the window's values and size."""

    def send(c: Any, W: Any, h: np.ndarray, delta: np.ndarray) -> np.ndarray:
        Delta = np.zeros_like(h)
        for p, seen in windows(layout(c, h)):
            factors = weigh(np.array([h[:, *x] for _, x in seen]), int(np.prod(c.window)))
            for factor, (_, x) in zip(factors, seen, strict=True):
                Delta[:, *x] += factor * delta[:, *p]
        return Delta

    return send


def at_pools(kind: type, *ways: Callable[..., np.ndarray]) -> Callable[[Problem, str], Iterator[Changes]]:
    def variants(problem: Problem, u: str) -> Iterator[Changes]:
        yield from (back(problem, u, s, way) for s in sending(problem, u, kind) for way in ways)

    return variants


def are_largest(values: np.ndarray) -> np.ndarray:
    return (values == values.max(axis=0)).astype(float)


maximum_to_whole_window = at_pools(MaxPool, to_each(lambda values, size: np.ones_like(values)))
maximum_averaged = at_pools(MaxPool, to_each(lambda values, size: np.ones_like(values) / size))
maximum_at_tie = at_pools(
    MaxPool,  # to the last of equals, to each of them, or in equal shares
    lambda c, W, h, delta: largest_back(c, W, h, delta, last=True),
    to_each(lambda values, size: are_largest(values)),
    to_each(lambda values, size: are_largest(values) / are_largest(values).sum(axis=0)),
)
divisor_forgotten = at_pools(AvgPool, to_each(lambda values, size: np.ones_like(values)))

IN_IMAGES = {
    "kernel-not-rotated": kernel_not_rotated,
    "not-transposed": channels_not_transposed,
    "correlation-reversed": correlation_reversed,
    "transposed": transposed_kernel,
    "stride-forgotten": stride_forgotten,
    "padding-forgotten": padding_forgotten,
    "overwritten-windows": overwritten_windows,
    "maximum-to-whole-window": maximum_to_whole_window,
    "maximum-averaged": maximum_averaged,
    "maximum-at-tie": maximum_at_tie,
    "divisor-forgotten": divisor_forgotten,
}
