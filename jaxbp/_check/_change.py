"""A mistake of the catalogue, made at one place of a backward pass."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxbp._check._entry import Case, Entry, Stage


@dataclass(frozen=True, eq=False)
class Change:
    """An entry's case in one step, with its constant where it has one.

    Attributes:
        entry: The entry.
        case: The case.
        step: The step: a unit, an input, the loss, or the leaf of a tree.
        key: The reader whose term it changes, or the name of the gradient; None of a step that has one.
        constant: The constant of a free case, as far as the numbers have told it.
    """

    entry: Entry
    case: Case
    step: str
    key: str | None = None
    constant: float | None = None

    @property
    def stage(self) -> Stage:
        """In which part of the step it is made."""
        return self.entry.stage

    @property
    def is_open(self) -> bool:
        """Whether its constant is not yet known."""
        return self.case.free and self.constant is None

    @property
    def text(self) -> str:
        """What it is, in words."""
        text = self.case.text
        return text if isinstance(text, str) else text(self.constant or 0.0)

    def at(self, constant: float) -> "Change":
        """The change with this constant."""
        return replace(self, constant=constant)

    def apply(self, *given: Any) -> Any:
        """What it makes of its step."""
        return self.case.apply(*([self.constant] if self.case.free else []), *given)

    def is_of_kind(self, other: "Change") -> bool:
        """Whether it is the mistake that another is, at whatever place, but for the constant."""
        return self.entry.slug == other.entry.slug and self.case.kind == other.case.kind

    def is_same(self, other: "Change") -> bool:
        """Whether it is the same mistake, made at another place."""
        if not self.is_of_kind(other) or self.is_open or other.is_open:
            return False
        return self.constant is None or bool(np.isclose(self.constant, other.constant or 0.0, rtol=1e-4))


def groups(changes: tuple[Change, ...]) -> list[tuple[Change, ...]]:
    """The changes, those of one mistake together."""
    found: list[list[Change]] = []
    for change in changes:
        group = next((group for group in found if group[0].is_same(change)), None)
        if group is None:
            found.append([change])
        else:
            group.append(change)
    return [tuple(group) for group in found]


def again(changes: tuple[Change, ...], known: Sequence[Change]) -> Iterator[tuple[Change, ...]]:
    """For each mistake that was made already, where it can be made again: at all known places, or those of a reader."""
    for group in groups(changes):
        first = group[0]
        same = [c.at(first.constant or 0.0) if c.case.free else c for c in known if c.is_of_kind(first)]
        by_place = {(change.stage, change.key): change for change in same if change.is_same(first)}
        if by_place:
            yield tuple(by_place.values())
        readers = {change.key for change in group if change.stage == "term"}
        of_readers = tuple(change for (stage, key), change in by_place.items() if stage == "term" and key in readers)
        if of_readers and len(of_readers) < len(by_place):
            yield of_readers
