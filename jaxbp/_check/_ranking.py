"""Which of several explanations is the best, what the same is in other words, and what would tell others apart."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jaxbp._check._catalogue import CATALOGUE
from jaxbp._check._change import Change, groups
from jaxbp._check._compare import magnitude
from jaxbp._check._report import Mistake
from jaxbp._check._walk import Observed
from jaxbp._check._walks import name_of, run

_MOST_COMPARED = 6

Explanation = tuple[Change, ...]


def mistakes_of(changes: Explanation, names: Mapping[str, Any], everything: Sequence[str]) -> tuple[Mistake, ...]:
    """The mistakes behind changes, each once, in words.

    `names` are all gradients by their keys, and `everything` those that were handed in and have something to get wrong.
    """
    return tuple(_mistake(group, names, everything) for group in groups(changes))


def _mistake(group: Explanation, names: Mapping[str, Any], everything: Sequence[str]) -> Mistake:
    first = group[0]
    keys = [change.key for change in group if change.key is not None]
    whole = len(everything) > 1 and set(keys) >= set(everything)
    units = [] if any(change.case.unit is None for change in group) else [str(change.case.unit) for change in group]
    units = list(dict.fromkeys(units))
    if "{}" in first.text:
        said = [name_of(names[key]) if key in names else key for key in dict.fromkeys(keys)]
        subject = "the whole gradient" if whole else said[0] if len(said) == 1 else f"each of {', '.join(said)}"
        return Mistake(first.entry.slug, () if whole else tuple(units), first.text.format(subject))
    rest = [u for u in units if u != first.case.unit]
    again = f"; likewise at {', '.join(rest)}" if rest else ""
    return Mistake(first.entry.slug, tuple(units), first.text + again)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Explanations that give what was handed in, the best first.

    Attributes:
        start: The beginning of a walk.
        observed: What was handed in.
        found: The explanations, in any order.
        elsewhere: Makes the beginning of a walk on other inputs; None where there are none.
        order: All quantities in the order of a backward pass.
    """

    start: Any
    observed: Observed
    found: Sequence[Explanation]
    order: Sequence[Any]
    elsewhere: Callable[[], Any] | None = None

    @cached_property
    def explanations(self) -> list[Explanation]:
        """The best first: what fits best, is the fewest mistakes, and the likeliest ones."""
        return sorted(self.found, key=lambda changes: (self._misfit(changes), _likelihood(changes)))

    def _misfit(self, changes: Explanation) -> int:
        """In decimal digits: in half precision some do better than others."""
        predicted = run(self.start, changes)
        distances = [
            _distance(predicted[name], mine) for name, mine in self.observed.arrays.items() if name in predicted
        ]
        return round(float(np.log10(max([1e-6, *distances]))))

    @cached_property
    def _elsewhere(self) -> Any:
        return self.elsewhere() if self.elsewhere is not None else None

    @cached_property
    def same_as(self) -> tuple[int, ...]:
        """For each explanation the first that gives the same gradients on every input."""
        classes: list[int] = []
        for i, changes in enumerate(self.explanations):
            first = next((j for j in dict.fromkeys(classes) if self._same(self.explanations[j], changes)), i)
            classes.append(first)
        return tuple(classes)

    def _same(self, one: Explanation, other: Explanation) -> bool:
        """Whether they give the same gradients, and the same of all that was handed in, on every input."""
        starts = [start for start in (self.start, self._elsewhere) if start is not None]
        telling = [name for start in starts for name in self._telling(start, one, other)]
        return not any(name in self.observed.arrays or getattr(name, "kind", "grad") == "grad" for name in telling)

    def _telling(self, start: Any, one: Explanation, other: Explanation) -> list[Any]:
        """The quantities that are others with one than with the other."""
        first, second = self._run(start, one), self._run(start, other)
        return [name for name in self.order if name in first and _differ(first[name], second[name])]

    def _run(self, start: Any, changes: Explanation) -> dict[Any, np.ndarray]:
        key = (id(start), changes)
        if key not in self._made:
            with np.errstate(all="ignore"):
                self._made[key] = run(start, changes)
        return self._made[key]

    @cached_property
    def _made(self) -> dict[Any, dict[Any, np.ndarray]]:
        return {}

    def telling_apart(self) -> list[str]:
        """For explanations that are equally good here: what to hand in to tell them from the best."""
        apart = [i for i, first in enumerate(self.same_as) if first == i]
        notes: list[str] = []
        for i in apart[1:_MOST_COMPARED]:
            best, other = self.explanations[0], self.explanations[i]
            words = [" with ".join(group[0].entry.slug for group in groups(changes)) for changes in (best, other)]
            notes.append(f"{words[0]} and {words[1]} give the same numbers here: {self._difference(best, other)}")
        return list(dict.fromkeys(notes))

    def _difference(self, one: Explanation, other: Explanation) -> str:
        for name in self._telling(self.start, one, other):
            if name not in self.observed.arrays:
                return f"hand in {name} too, which tells them apart"
        telling = [n for n in self._telling(self._elsewhere, one, other) if n in self.observed.arrays]
        examples = self._elsewhere.facts.examples
        return f"{examples} normally distributed examples tell them apart, by {telling[0] if telling else 'all of it'}"


def _likelihood(changes: Explanation) -> tuple[int, ...]:
    made = groups(changes)
    local = sum(group[0].case.unit is not None for group in made)
    ranks = [CATALOGUE.index(group[0].entry) for group in made]
    constants = sum(group[0].constant is not None for group in made)
    return (len(made), max((g[0].entry.rank for g in made), default=0), constants, *ranks, len(changes), local)


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    """‖one − other‖ over the larger norm, without the squares of large numbers; 1 where that is no number."""
    if one.shape != other.shape:
        return 1.0
    size = max(magnitude(one), magnitude(other)) or 1.0
    one, other = one / size, other / size
    distance = np.linalg.norm(one - other) / max(np.linalg.norm(one), np.linalg.norm(other), 1e-300)
    return float(distance) if np.isfinite(distance) else 1.0


def _differ(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape != other.shape or not np.allclose(one, other, rtol=1e-6, atol=1e-12)


def names_by_key(names: Iterable[Any]) -> dict[str, Any]:
    """Names by how a change calls them."""
    return {str(name): name for name in names}
