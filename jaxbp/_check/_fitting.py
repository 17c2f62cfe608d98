"""Gradients that are wrong: the mistakes with which each is what was handed in, with the constant that it asks for."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from jaxbp._check._change import Change, groups
from jaxbp._check._constants import affine, simplest
from jaxbp._check._gradient import Gradient
from jaxbp._check._walk import Observed, Walk


def fitting(
    observed: Observed, state: Walk, step: str, off: Sequence[Any], most: int, only_again: bool
) -> Iterator[tuple[Change, ...]]:
    """The sets of changes, one in each gradient that is off, with which all are what was handed in.

    They are at most so many mistakes that were not made before, or `only_again` such as were.
    """
    options: list[list[Change]] = []
    for name in off:
        fit = list(_options(observed, state, step, name, only_again))
        if not fit:
            return
        options.append(fit)
    made = len(groups(state.changes))
    for together in product(*options):
        if len(groups((*state.changes, *together))) - made <= most:
            yield together


def _options(observed: Observed, state: Walk, step: str, name: Any, only_again: bool) -> Iterator[Change]:
    gradient = state.gradient_of(name, observed.arrays[name])
    slugs = {change.entry.slug for change in state.changes} if only_again else None
    for candidate in state.in_gradient(step, gradient, slugs):
        if only_again and not any(candidate.is_of_kind(change) for change in state.changes):
            continue
        for change in _with_constants(observed, state, name, gradient, candidate):
            if fits(observed, state, name, change):
                yield change


def _with_constants(
    observed: Observed, state: Walk, name: Any, gradient: Gradient, candidate: Change
) -> Iterator[Change]:
    """A candidate with each constant that may be meant: of the same mistake elsewhere, and by the numbers."""
    if not candidate.is_open:
        yield candidate
        return
    tolerance, mine = observed.tolerances[name], gradient.mine
    same = [c for c in state.changes if c.is_of_kind(candidate) and c.constant is not None]
    for other in same[:1]:
        yield candidate.at(other.constant or 0.0)
    if mine is None:
        return
    if candidate.case.solve is not None:
        c = candidate.case.solve(gradient)
        if candidate.case.allowed(c):
            yield candidate.at(c)
        return
    sample = gradient.sample() or gradient
    if sample.mine is None:
        return
    made = [_made(state, name, sample, candidate.at(c)) for c in (0.0, 1.0)]
    if made[0].shape != sample.mine.shape:
        return
    c = affine(sample.mine, made[0], made[1] - made[0])
    if np.isfinite(c) and c != 0:
        shown = sample.mine
        c = simplest(c, lambda c: tolerance.gives(shown, made[0] + c * (made[1] - made[0])))
        if candidate.case.allowed(c) and not any(np.isclose(c, o.constant or 0.0, rtol=1e-6) for o in same[:1]):
            yield candidate.at(c)


def _made(state: Walk, name: Any, gradient: Gradient, change: Change) -> np.ndarray:
    if change.stage == "use":
        return state.changed(name, change)
    return change.apply(gradient)


def fits(observed: Observed, state: Walk, name: Any, change: Change | None = None) -> bool:
    """Whether a gradient, right or with a change, is what was handed in; of a large one a sample is tried first."""
    mine, tolerance = observed.arrays[name], observed.tolerances[name]
    gradient = state.gradient_of(name, mine)
    other = None if change is None else change.case.exchanged
    if other in observed.arrays:
        there = observed.arrays[other]
        if not observed.tolerances[other].gives(there, gradient.right):
            return False
        if not state.knows(other):
            return True  # the other way round it is seen at the other one
    with np.errstate(all="ignore"):
        if change is not None and change.stage == "use":
            return tolerance.gives(mine, state.changed(name, change))
        sample = gradient.sample()
        if sample is not None and sample.mine is not None and not (change and change.case.choices):
            predicted = sample.right if change is None else change.apply(sample)
            if not tolerance.gives(sample.mine, predicted):
                return False
        return tolerance.gives(mine, gradient.right if change is None else change.apply(gradient))
