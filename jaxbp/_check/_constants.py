"""Constants that only the numbers can tell: what they ask for, and the simplest that gives the same."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from jaxbp._check._change import Change, again
from jaxbp._check._walk import Observed, Walk

_SEEN = 2  # steps with something to compare, in case what was handed in of the first has a mistake of its own


@dataclass(frozen=True, eq=False)
class LookAhead:
    """The first things that were handed in from a step on, as what follows from a change with a constant in it.

    Attributes:
        observed: What was handed in.
        state: The walk before the step.
        steps: The step, and those after it.
        still: The changes whose constant, one for all of them, is not known.
        others: Other changes in the same step.
        repeats: Whether they are made again in the steps that follow.
    """

    observed: Observed
    state: Walk
    steps: Sequence[str]
    still: tuple[Change, ...]
    others: tuple[Change, ...]
    repeats: bool
    _mine: dict[Any, np.ndarray] = field(default_factory=dict, init=False, repr=False)
    _kept: dict[float, dict[Any, np.ndarray]] = field(default_factory=dict, init=False, repr=False)

    def constants(self, moves: Sequence[float]) -> Iterator[float]:
        """The constant that each of them asks for, by steps of these widths: one where it is affine in it."""
        for name, at_zero in self.given(0.0).items():
            mine, tolerance = self._mine[name], self.observed.tolerances[name]
            # a gradient may have been handed in as its transpose besides
            for handed in (mine, mine.T) if mine.ndim == 2 else (mine,):
                if handed.shape != at_zero.shape:
                    continue
                c = 0.0
                for move in moves:
                    here = self.given(c)[name]
                    c += affine(handed, here, (self.given(c + move)[name] - here) / move)
                if np.isfinite(c) and c != 0:
                    yield simplest(c, lambda c, n=name, h=handed, t=tolerance: t.gives(h, self.given(c)[n]))

    def given(self, c: float) -> dict[Any, np.ndarray]:
        """What a constant gives, by name; of a large gradient a sample."""
        if c not in self._kept:
            self._kept[c] = dict(self._computed(c))
        return self._kept[c]

    def _computed(self, c: float) -> Iterator[tuple[Any, np.ndarray]]:
        arrays, walk, changes = (
            self.observed.arrays,
            self.state,
            (*self.others, *(change.at(c) for change in self.still)),
        )
        seen = 0
        for i, step in enumerate(self.steps):
            signals = walk.signals(step, changes)
            walk = walk.after(signals, changes)
            for name, array in signals.items():
                if name in arrays:
                    self._mine[name] = arrays[name]
                    yield name, array
            for name in walk.due(step):
                if name in arrays:
                    gradient = walk.gradient_of(name, arrays[name])
                    gradient = gradient.sample() or gradient
                    self._mine[name] = arrays[name] if gradient.mine is None else gradient.mine
                    yield name, gradient.right
            seen += any(name in arrays for name in walk.names(step))
            if seen == _SEEN or i + 1 == len(self.steps):
                return
            known = walk.in_signals(self.steps[i + 1]) if self.repeats else []
            changes = next(again(walk.changes, known), ())


def affine(mine: np.ndarray, at_zero: np.ndarray, slope: np.ndarray) -> float:
    """The c with which at_zero + c · slope is nearest to what was handed in; 0 where there is no slope."""
    size = float(np.max(np.abs(slope), initial=0))
    if not size or not np.isfinite(size):
        return 0.0
    slope, off = slope / size, (mine - at_zero) / size
    with np.errstate(all="ignore"):
        return float(np.vdot(slope, off) / np.vdot(slope, slope))


def simplest(c: float, gives: Callable[[float], bool]) -> float:
    """The simplest number near c that gives what was handed in, where c does; c itself where it does not."""
    return next((simple for simple in _near(c) if gives(simple)), c) if gives(c) else c


def _near(c: float) -> Iterator[float]:
    for most in (1, 8, 64):
        fraction = float(Fraction(c).limit_denominator(most)) if abs(c) < 1e6 else float(round(c))
        inverse = 1 / float(Fraction(1 / c).limit_denominator(most)) if 1e-6 < abs(c) < 1e6 and round(1 / c) else 0.0
        for simple in (fraction, inverse):
            if simple and abs(simple - c) <= 0.05 * abs(c):
                yield simple
        if most == 1:
            for digits in range(1, 4):
                yield float(f"{c:.{digits}g}")
    for digits in range(4, 8):
        yield float(f"{c:.{digits}g}")
