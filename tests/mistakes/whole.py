"""Mistakes in the whole: what is done to Delta of the output is done to all that comes after it."""

from collections.abc import Iterator

import numpy as np
from wrong_networks import Problem

from mistakes._parts import Changes, all_parameters, times


def negated(problem: Problem) -> Iterator[Changes]:
    """Of Δ_o and so of all, or of the gradients and no δ."""
    yield times(-1, f"Delta.{problem.net.output}")
    yield times(-1, *all_parameters(problem))


def scaled(problem: Problem) -> Iterator[Changes]:
    """Of Δ_o and so of all, of the loss as well, or of the gradients and no δ."""
    N, K = len(problem.y), problem.y.shape[-1]
    rows = problem.y[0].size // K
    factors = {N, 1 / N, -1 / N, 1 / (N - 1), N / (N - 1), 2, 1 / 2, K, 1 / K, 2 / K, 1 / rows, 0.1, -0.1, 0.37}
    for factor in sorted(factors):
        yield times(factor, f"Delta.{problem.net.output}")
    for factor in (N, 2, 1 / K, 2 / K):
        yield times(factor, "loss", f"Delta.{problem.net.output}")
    for factor in (N, 1 / N, -1 / N, 2, 2 / K, -0.1):
        yield times(factor, *all_parameters(problem))


def labels_shifted(problem: Problem) -> Iterator[Changes]:
    yield {"y": lambda q: np.roll(q["y"], 1, axis=-1)}
    if problem.y.shape[-1] > 2:  # two classes can only be swapped
        yield {"y": lambda q: np.roll(q["y"], -1, axis=-1)}
        yield {"y": lambda q: q["y"][..., ::-1]}


def examples_left_out(problem: Problem) -> Iterator[Changes]:
    """The first, the last, or the last batch of two."""
    N, o = len(problem.y), problem.net.output
    for left_out in ([0], [N - 1], [N - 2, N - 1]):
        counts = np.isin(np.arange(N), left_out, invert=True).reshape(N, *[1] * (problem.y.ndim - 1))
        yield {f"Delta.{o}": lambda q, counts=counts: counts * q[f"Delta.{o}"]}
        yield {f"delta.{o}": lambda q, counts=counts: counts * q[f"delta.{o}"]}


def class_left_out(problem: Problem) -> Iterator[Changes]:
    o, K = problem.net.output, problem.y.shape[-1]
    for k in range(K) if K > 1 else ():
        yield {f"delta.{o}": lambda q, k=k: q[f"delta.{o}"] * (np.arange(K) != k)}


IN_THE_WHOLE = {
    "sign": negated,
    "scale": scaled,
    "labels-shifted": labels_shifted,
    "examples-left-out": examples_left_out,
    "class-left-out": class_left_out,
}
