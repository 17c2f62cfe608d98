"""Mistakes in the gradients of weights and biases, and of those that are shared."""

from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np
from plain_phases import connections, gradient
from plain_rules import as_rows
from wrong_networks import Problem

from jaxbp import Embedding
from mistakes._parts import (
    Arrays,
    AtTheEnd,
    Change,
    Changes,
    completed_at,
    contracted,
    equally_wide,
    equally_wide_before,
    gradient_name,
    gradients_by,
    is_matrix,
    made_at,
    one_and_all,
    part_names,
    same_as,
    times,
    transposed,
    weighted_sources,
)


def negated(problem: Problem, u: str) -> Iterator[Changes]:
    yield from one_and_all(times(-1, *made_at(problem, u).values()))


def scaled(problem: Problem, u: str) -> Iterator[Changes]:
    for factor in (0.3, len(problem.y)):
        yield from one_and_all(times(factor, *made_at(problem, u).values()))


def error_for_delta(problem: Problem, u: str) -> Iterator[Changes]:
    yield from one_and_all(gradients_by(problem, u, f"Delta.{u}"))


def wrong_signal(problem: Problem, u: str) -> Iterator[Changes]:
    for v in equally_wide_before(problem.net, u):
        yield from one_and_all(gradients_by(problem, u, f"delta.{v}"))


def wrong_input(problem: Problem, u: str) -> Iterator[Changes]:
    """That of another unit or input, what went into the right unit instead of what came out of it, or a weight."""
    for s in weighted_sources(problem, u):
        inside = [f"a.{s}"] if s in problem.net.units else []
        for name in [*inside, *(f"h.{v}" for v in equally_wide(problem.net, s))]:
            yield {gradient_name(problem, u, s): contracted(problem, u, s, f"delta.{u}", name)}
        if isinstance(connections(problem.net, u)[s], Embedding):
            continue  # reads ids
        W, shape = problem.weight(u, s), (len(problem.y), *problem.net.shapes[s])
        for other in (W, W.T):
            if other.shape == shape:
                yield {
                    gradient_name(problem, u, s): lambda q, s=s, other=other: gradient(
                        problem, u, s, q, q[f"delta.{u}"], other
                    )
                }


def inputs_before_activation(problem: Problem, u: str) -> Changes:
    return {
        gradient_name(problem, u, s): contracted(problem, u, s, f"delta.{u}", f"a.{s}")
        for s in weighted_sources(problem, u)
        if s in problem.net.units
    }


def transposed_gradients(problem: Problem, u: str) -> Changes:
    return {name: transposed(name) for name, W in completed_at(problem, u).items() if is_matrix(name, W)}


def transposed_gradient(problem: Problem, u: str) -> Iterator[Changes]:
    yield from one_and_all(transposed_gradients(problem, u))


def bias_change(problem: Problem, u: str, change: Callable[[np.ndarray], np.ndarray]) -> Changes:
    """What stands for the sum of δ over all but its last axis; nothing where that has another shape."""
    if "bias" not in problem.params[u]:
        return {}
    shape = (len(problem.y), *problem.net.shapes[u])
    if change(np.zeros(shape)).shape != problem.params[u]["bias"].shape:
        return {}
    return {f"grad.{u}.bias": lambda q: change(q[f"delta.{u}"])}


NOT_SUMMED = {
    "first": lambda delta: delta[0].reshape(-1, delta.shape[-1]).sum(axis=0),
    "last": lambda delta: delta[-1].reshape(-1, delta.shape[-1]).sum(axis=0),
    "last row": lambda delta: delta.reshape(len(delta), -1, delta.shape[-1])[:, -1].sum(axis=0),
    "mean": lambda delta: as_rows(delta).mean(axis=0),  # of what is divided by N already
    "mean over examples": lambda delta: as_rows(delta.mean(axis=0)).sum(axis=0),
}


def bias_not_summed(problem: Problem, u: str) -> Iterator[Changes]:
    yield from (bias_change(problem, u, change) for change in NOT_SUMMED.values())


def over_units(delta: np.ndarray) -> np.ndarray:
    return np.full(delta.shape[-1], delta.sum())


def over_units_mean(delta: np.ndarray) -> np.ndarray:
    return np.full(delta.shape[-1], as_rows(delta).sum(axis=0).mean())


def bias_summed_over_units(problem: Problem, u: str) -> Iterator[Changes]:
    """One number for all, the sum or its mean."""
    yield bias_change(problem, u, over_units)
    yield bias_change(problem, u, over_units_mean)


def bias_over_wrong_axis(problem: Problem, u: str) -> Iterator[Changes]:
    """Summed over the units, so that something is left for each example, or each row: where there are as many."""
    for kept in range(len(problem.net.shapes[u])):
        yield bias_change(problem, u, lambda delta, kept=kept: sum_but(delta, kept))


def sum_but(array: np.ndarray, kept: int) -> np.ndarray:
    """The sum over all axes but one."""
    return array.sum(axis=tuple(axis for axis in range(array.ndim) if axis != kept))


def bias_of_weight_gradient(problem: Problem, u: str) -> Iterator[Changes]:
    """The column sums of ∂L/∂W, of a kernel over its windows too, or its row sums where there are as many."""
    bias = problem.params[u].get("bias")
    for s, W in problem.params[u].items():
        last = W.ndim - 1
        for kept in (last, last - 1) if bias is not None and s != "bias" and last > 0 else ():
            if W.shape[kept] == len(bias):
                yield {f"grad.{u}.bias": AtTheEnd(lambda q, s=s, kept=kept: sum_but(q[f"grad.{u}.{s}"], kept))}


def missing_gradient(problem: Problem, u: str) -> Iterator[Changes]:
    yield from one_and_all(times(0, *completed_at(problem, u)))


def swapped(first: str, second: str) -> Changes:
    return {first: AtTheEnd(same_as(second)), second: AtTheEnd(same_as(first))}


def gradients_swapped(problem: Problem, u: str) -> Iterator[Changes]:
    for (first, W), (second, V) in combinations(completed_at(problem, u).items(), 2):
        if W.shape == V.shape:
            yield swapped(first, second)


def decayed(problem: Problem, u: str, rate: float, biases: bool = True) -> Changes:
    return {
        name: lambda q, name=name, W=W: q[name] + rate * W
        for name, W in completed_at(problem, u).items()
        if biases or not name.endswith(".bias")
    }


def weight_decay(problem: Problem, u: str) -> Iterator[Changes]:
    for rate in (0.01, 0.1, -0.05):
        yield from one_and_all(decayed(problem, u, rate))


def updated(problem: Problem, u: str, eta: float) -> Changes:
    return {name: lambda q, name=name, W=W: W - eta * q[name] for name, W in completed_at(problem, u).items()}


def update_for_gradient(problem: Problem, u: str) -> Iterator[Changes]:
    for eta in (0.1, 1):
        yield from one_and_all(updated(problem, u, eta))


def clipped_gradients(problem: Problem, u: str, bound: float) -> Changes:
    return {name: lambda q, name=name: np.clip(q[name], -bound, bound) for name in completed_at(problem, u)}


def clipped(problem: Problem, u: str) -> Iterator[Changes]:
    for bound in (0.01, 0.1):
        yield from one_and_all(clipped_gradients(problem, u, bound))


def permuted_rows(problem: Problem, u: str) -> Iterator[Changes]:
    """Reversed, or moved on by one."""
    for name, W in completed_at(problem, u).items():
        if not name.endswith(".bias"):
            yield {name: lambda q, name=name: q[name][::-1]}
            if len(W) > 2:  # two can only be swapped
                yield {name: lambda q, name=name: np.roll(q[name], 1, axis=0)}


def zeroed_block(problem: Problem, u: str) -> Iterator[Changes]:
    """The last row, the first column, or the first half of the rows; where that is not all there is."""
    for name, W in completed_at(problem, u).items():
        blocks = [(-1,), (..., 0), (slice(len(W) // 2),)] if W.ndim > 1 else [(-1,)]
        yield from ({name: zeroed(name, block)} for block in blocks if W[block].size < W.size)


def zeroed(name: str, block: tuple) -> Change:
    def change(q: Arrays) -> np.ndarray:
        array = q[name].copy()
        array[block] = 0
        return array

    return change


# Mistakes in the gradients of shared weights


def use_left_out(problem: Problem, u: str) -> Iterator[Changes]:
    yield from (times(0, part) for part in part_names(problem, u))


def use_twice(problem: Problem, u: str) -> Iterator[Changes]:
    yield from (times(2, part) for part in part_names(problem, u))


def mean_of_uses(problem: Problem, u: str) -> Iterator[Changes]:
    for name in problem.complete_at(u):
        yield times(1 / len(problem.uses(name)), f"grad.shared.{name}")


def use_not_transposed(problem: Problem, u: str) -> Iterator[Changes]:
    for s in weighted_sources(problem, u):
        W = problem.weight(u, s)
        if s not in problem.params[u] and W.ndim == 2 and W.shape[0] == W.shape[1]:
            yield {f"part.{u}.{s}": transposed(f"part.{u}.{s}")}


IN_GRADIENTS = {
    "sign": negated,
    "scale": scaled,
    "Delta-for-delta": error_for_delta,
    "wrong-signal": wrong_signal,
    "wrong-input": wrong_input,
    "transposed": transposed_gradient,
    "bias-not-summed": bias_not_summed,
    "bias-summed-over-units": bias_summed_over_units,
    "bias-over-wrong-axis": bias_over_wrong_axis,
    "bias-of-weight-gradient": bias_of_weight_gradient,
    "missing-gradient": missing_gradient,
    "gradients-swapped": gradients_swapped,
    "weight-decay": weight_decay,
    "update-for-gradient": update_for_gradient,
    "clipped": clipped,
    "permuted-rows": permuted_rows,
    "zeroed-block": zeroed_block,
    "use-left-out": use_left_out,
    "use-twice": use_twice,
    "mean-of-uses": mean_of_uses,
    "use-not-transposed": use_not_transposed,
}
