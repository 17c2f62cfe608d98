"""What explains the numbers that were handed in: searched for, held against chance, put in order and into words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxbp._check._change import Change, groups
from jaxbp._check._evidence import Evidence
from jaxbp._check._ranking import Ranking, mistakes_of, names_by_key
from jaxbp._check._report import Mistake
from jaxbp._check._search import MOST_TRIALS, Search
from jaxbp._check._walk import Observed

_GAVE_UP = f"{MOST_TRIALS} combinations were tried; hand in more quantities to narrow them down"


@dataclass(frozen=True)
class Explained:
    """What a search came to.

    Attributes:
        alternatives: The explanations, the best first.
        same_as: For each of them the first that is the same on every input.
        notes: What tells them apart, and whether all were tried.
        gives_right: Whether what was handed in is what a right pass gives, by the rules that the network brings.
    """

    alternatives: tuple[tuple[Mistake, ...], ...]
    same_as: tuple[int, ...]
    notes: tuple[str, ...]
    gives_right: bool


def explain(
    start: Any, observed: Observed, right: Mapping[Any, np.ndarray], elsewhere: Callable[[], Any] | None = None
) -> Explained:
    """The mistakes that give what was handed in, where they are more than chance."""
    observed, found, tried = _searched(start, observed)
    evidence = Evidence(start, observed, right, tried)
    whole = [changes for changes in found if changes and _is_whole(changes, observed)]
    supported = [changes for changes in whole if evidence.supports(changes)]
    order = [name for step in start.steps for name in start.names(step)]
    ranking = Ranking(start, observed, supported, order, elsewhere if len(supported) > 1 else None)
    names = names_by_key(name for step in start.steps for name in start.due(step))
    everything = [str(name) for name in observed.arrays if str(name) in names and np.any(right[name])]
    first_of: dict[tuple[Mistake, ...], int] = {}
    for changes, first in zip(ranking.explanations, ranking.same_as, strict=True):
        first_of.setdefault(mistakes_of(changes, names, everything), first)
    classes = list(first_of.values())
    gave_up = [_GAVE_UP] if tried >= MOST_TRIALS else []
    notes = (*ranking.telling_apart(), *gave_up)
    return Explained(tuple(first_of), tuple(map(classes.index, classes)), notes, () in found)


def _searched(start: Any, observed: Observed) -> tuple[Observed, list[tuple[Change, ...]], int]:
    """What was found, and what of; a value that nothing explains may have been computed in some other way."""
    found, tried = Search(start, observed).explanations()
    rest = {name: array for name, array in observed.arrays.items() if getattr(name, "kind", "") != "loss"}
    if found or not rest or len(rest) == len(observed.arrays):
        return observed, found, tried
    without = Observed(rest, observed.tolerances)
    return without, *Search(start, without).explanations()


def _is_whole(changes: tuple[Change, ...], observed: Observed) -> bool:
    """Whether of gradients that are said to be exchanged both stand in each other's place, as far as can be seen."""
    seen = {str(name) for name in observed.arrays}
    swapped = [group for group in groups(changes) if group[0].entry.slug == "gradients-swapped"]
    return all({change.key for change in group} == set(group[0].case.kind.split(" and ")) & seen for group in swapped)
