"""The walks: through the backward pass of a network, and through the leaves of a tree."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from jaxbp._check._catalogue import entries
from jaxbp._check._change import Change
from jaxbp._check._entry import Entry
from jaxbp._check._gradient import Called, Gradient
from jaxbp._check._pass import LOSS, Pass
from jaxbp._check._paths import Paths
from jaxbp._check._walk import Signals
from jaxbp._names import Name

_IN_BOTH = ("sign", "scale", "examples-left-out", "class-left-out")  # in Δ of the output and in its δ


@dataclass(frozen=True, eq=False)
class Backward(Pass):
    """A backward pass, with the mistakes that can be made in it."""

    def in_signals(self, step: str) -> list[Change]:
        """The mistakes that can be made on the way to Δ and δ of a unit, or to the loss."""
        key = ("choices", step)
        if key not in self._choices:
            self._choices[key] = list(self._in_signals(step))
        return self._choices[key]

    def _in_signals(self, step: str) -> Iterable[Change]:
        facts, net = self.facts, self.facts.net
        if step == LOSS:
            yield from _changes(entries("loss"), step, None, facts)
            return
        if step == net.output:
            yield from _changes(entries("output"), step, None, facts)
        for v in facts.plan.readers[step]:
            yield from _changes(entries("term"), step, v, self, step, v)
        yield from _changes(entries("sum"), step, None, facts, step)
        if step in net.units:
            in_delta = _changes(entries("delta"), step, None, facts, step)
            # where Δ of the output was not handed in, a factor in it is the same as in δ
            hidden = step == net.output and Name("Delta", (step,)) not in facts.handed
            yield from (change for change in in_delta if not (hidden and change.entry.slug in _IN_BOTH))

    def in_gradient(self, step: str, gradient: Gradient, slugs: Container[str] | None = None) -> list[Change]:
        """The mistakes that can be made in a gradient, all or those of some names."""
        name = gradient.name
        in_uses = _changes(_named(entries("use"), slugs), step, str(name), self, name)
        return [*in_uses, *_changes(_named(entries("gradient"), slugs), step, str(name), gradient)]


@dataclass(frozen=True, eq=False)
class Leaves:
    """A tree's gradients, one after the other.

    Attributes:
        params: The parameters by name.
        right: Their right gradients.
        called: What a rule was called with whose gradients they are; None of any other.
        paths: The function whose gradients they are, for mistakes in its sums; None to look for no such.
        changes: The changes that were made so far.
    """

    params: Mapping[str, np.ndarray]
    right: Mapping[str, np.ndarray]
    called: Called | None = None
    paths: Paths | None = None
    changes: tuple[Change, ...] = ()
    facts: None = field(default=None, init=False)

    @property
    def steps(self) -> tuple[str, ...]:
        """The names of the leaves."""
        return tuple(self.params)

    def names(self, step: str) -> list[str]:
        """The leaf alone."""
        return [step]

    def due(self, step: str) -> list[str]:
        """The leaf, which is a gradient."""
        return [step]

    def signals(self, step: str, changes: Iterable[Change]) -> Signals:
        """None."""
        return {}

    def after(self, signals: Signals, changes: Iterable[Change]) -> "Leaves":
        """The walk with more changes."""
        return replace(self, changes=(*self.changes, *changes))

    def gradient_of(self, name: str, mine: np.ndarray | None = None) -> Gradient:
        """The gradient of a leaf."""
        W, right = self.params[name], self.right
        others = [other for other in self.params if other != name and right[other].shape == W.shape]
        alike = {other: partial(right.__getitem__, other) for other in others}
        without = {} if self.paths is None else self.paths.without(name)
        return Gradient(name, W, lambda: right[name], mine, alike, called=self.called, without=without)

    def knows(self, name: str) -> bool:
        """Always: a leaf is made of no other."""
        return True

    def changed(self, name: str, change: Change, mine: np.ndarray | None = None) -> np.ndarray:
        """What a change makes of it."""
        return change.apply(self.gradient_of(name, mine))

    def in_signals(self, step: str) -> list[Change]:
        """None."""
        return []

    def in_gradient(self, step: str, gradient: Gradient, slugs: Container[str] | None = None) -> list[Change]:
        """The mistakes that can be made in the gradient of a leaf, all or those of some names."""
        return list(_changes(_named(entries("gradient"), slugs), step, str(gradient.name), gradient))

    def quantities(self) -> dict[Any, np.ndarray]:
        """Every gradient."""
        made = {change.key: change for change in self.changes}
        return {n: self.changed(n, made[n]) if n in made else self.right[n] for n in self.params}


def _named(known: Iterable[Entry], slugs: Container[str] | None) -> Iterable[Entry]:
    return (entry for entry in known if slugs is None or entry.slug in slugs)


def _changes(known: Iterable[Entry], step: str, key: str | None, *given: Any) -> Iterable[Change]:
    for entry in known:
        for case in entry.cases(*given):
            yield Change(entry, case, step, key)


def run(start: Any, changes: Iterable[Change]) -> dict[Any, np.ndarray]:
    """All quantities of a walk to the end, with these changes."""
    changes, state = tuple(changes), start
    for step in state.steps:
        made = [change for change in changes if change.step == step]
        state = state.after(state.signals(step, made), made)
    return state.quantities()


def name_of(name: Any) -> str:
    """A gradient in words: by its name, or as that of a leaf."""
    return str(name) if isinstance(name, Name) else f"the gradient of {name}"
