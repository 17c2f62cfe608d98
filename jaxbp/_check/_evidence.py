"""Whether numbers could have contradicted an explanation: more equations than constants, and no chance hit."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log10
from typing import Any

import numpy as np

from jaxbp._check._catalogue._words import is_simple
from jaxbp._check._change import Change, groups
from jaxbp._check._walk import Observed
from jaxbp._check._walks import run

_CHANCE = 3.0  # a mistake is claimed where random numbers would show it once in 10³ times
_OF_ZERO = 6.0
_SIMPLE = 2.5  # the power of ten of how many constants people write


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was handed in, as evidence for explanations.

    Each number that an explanation predicts, where the program without the mistake would have another, is an equation;
    it counts as many powers of ten as digits agree. A constant that was fitted uses up one number, and a search among
    many mistakes finds some by chance.
    """

    start: Any
    observed: Observed
    right: Mapping[Any, np.ndarray]
    tried: int

    def supports(self, changes: tuple[Change, ...]) -> bool:
        """Whether the explanation, and each mistake in it, is more than chance."""
        made = groups(changes)
        predicted = self._predicted(changes)
        if len(made) == 1:
            return self._powers(made[0], self.right, predicted) - log10(self.tried) >= _CHANCE
        apart = [self._powers(g, self._predicted(_without(changes, g)), predicted) for g in made]
        return min(apart) >= _CHANCE and sum(apart) - log10(self.tried) >= _CHANCE

    def _predicted(self, changes: tuple[Change, ...]) -> dict[Any, np.ndarray]:
        with np.errstate(all="ignore"):
            return run(self.start, changes)

    def _powers(
        self, group: tuple[Change, ...], without: Mapping[Any, np.ndarray], predicted: Mapping[Any, np.ndarray]
    ) -> float:
        """The powers of ten that speak for a mistake."""
        total = most = 0.0
        for name, mine in self.observed.arrays.items():
            if name not in predicted or predicted[name].shape != mine.shape:
                continue
            tolerance, other = self.observed.tolerances[name], without[name]
            told = np.ones(mine.shape, bool)
            if other.shape == mine.shape:
                told = np.abs(predicted[name] - other) > tolerance.allowed(mine, other)
            zeros = int(np.count_nonzero(told & (mine == 0) & (predicted[name] == 0)))
            count = int(np.count_nonzero(told)) - zeros
            if count or zeros:
                digits = tolerance.digits(mine, predicted[name])
                # 0 is 0 in every number format, and nothing that rounding makes of other numbers
                total, most = total + count * digits + zeros * max(digits, _OF_ZERO), max(most, digits)
        constant = group[0].constant
        if constant is not None:
            total -= _SIMPLE if is_simple(constant, self.start.facts) else most
        return total - sum(change.case.choices for change in group)


def _without(changes: tuple[Change, ...], group: tuple[Change, ...]) -> tuple[Change, ...]:
    return tuple(change for change in changes if change not in group)
