"""A backward pass in which single steps can be changed: the recursion as a hand program with a mistake would run it.

Δ_u = Σ_{u ⇒ v} δ_v W_uvᵀ,  δ_u = (∂h_u/∂a_u)ᵀ Δ_u,  ∂L/∂W_su = h_sᵀ δ_u
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from jaxbp._check._change import Change
from jaxbp._check._facts import Facts
from jaxbp._check._gradient import Gradient
from jaxbp._check._steps import contracted, pulled_back, pulled_through
from jaxbp._names import Name, named
from jaxbp._plan import Place

LOSS = "loss"
"""The step that the loss is, before those of the units."""


@dataclass(frozen=True, eq=False)
class Pass:
    """A backward pass as far as it has come, with the changes that were made in it."""

    facts: Facts
    Delta: Mapping[str, np.ndarray] = field(default_factory=dict)
    delta: Mapping[str, np.ndarray] = field(default_factory=dict)
    loss: np.ndarray | None = None
    changes: tuple[Change, ...] = ()
    _terms: dict[tuple[str, str, Change | None], np.ndarray] = field(default_factory=dict, init=False, repr=False)
    _made: dict[Any, np.ndarray] = field(default_factory=dict, init=False, repr=False)
    _choices: dict[Any, list[Change]] = field(default_factory=dict, init=False, repr=False)

    @property
    def steps(self) -> tuple[str, ...]:
        """What a pass consists of: the loss, the units from the output on, then the inputs."""
        facts = self.facts
        return (LOSS, *reversed(facts.net.order), *(s for s in facts.net.inputs if s not in facts.net.ids))

    def names(self, step: str) -> list[Name]:
        """The quantities that come with a step, in their order."""
        if step == LOSS:
            return [Name("loss")]
        if step in self.facts.net.inputs:
            return [Name("Delta", (step,))]
        return [Name("Delta", (step,)), Name("delta", (step,)), *self.due(step)]

    def due(self, step: str) -> list[Name]:
        """The gradients that are complete with a step."""
        return [Name("grad", place) for place in self.facts.plan.due.get(step, ())]

    def signals(self, step: str, changes: Iterable[Change]) -> dict[Name, np.ndarray]:
        """What a step gives before any gradient: Δ_u and δ_u, or the loss."""
        facts = self.facts
        by_stage = {(change.stage, change.key): change for change in changes}
        if step == LOSS:
            change = by_stage.get(("loss", None))
            return {Name("loss"): facts.right[Name("loss")] if change is None else change.apply(self)}
        if step == facts.net.output:
            change = by_stage.get(("output", None))
            Delta, delta = self.at_output() if change is None else change.apply(self)
        else:
            terms = {v: self._term(step, v, by_stage.get(("term", v))) for v in facts.plan.readers[step]}
            change = by_stage.get(("sum", None))
            Delta = np.sum(list(terms.values()), axis=0) if change is None else change.apply(self, terms)
            delta = None if step in facts.net.inputs else pulled_back(facts, step, Delta)
        if delta is None:
            return {Name("Delta", (step,)): Delta}
        change = by_stage.get(("delta", None))
        delta = delta if change is None else change.apply(self, Delta, delta)
        return {Name("Delta", (step,)): Delta, Name("delta", (step,)): delta}

    def at_output(self) -> tuple[np.ndarray, np.ndarray]:
        """The right Δ and δ of the output."""
        o = (self.facts.net.output,)
        return self.facts.right[Name("Delta", o)], self.facts.right[Name("delta", o)]

    def after(self, signals: Mapping[Name, np.ndarray], changes: Iterable[Change]) -> "Pass":
        """The pass after a step with these signals, and with changes that were made in it or in its gradients."""
        Delta, delta, loss = dict(self.Delta), dict(self.delta), self.loss
        for name, array in signals.items():
            if name.kind == "loss":
                loss = array
            else:
                (Delta if name.kind == "Delta" else delta)[name.unit] = array
        return replace(self, Delta=Delta, delta=delta, loss=loss, changes=(*self.changes, *changes))

    def through(self, step: str, changes: Iterable[Change] = ()) -> "Pass":
        """The pass after one step, with changes."""
        changes = tuple(changes)
        return self.after(self.signals(step, changes), changes)

    def _term(self, s: str, v: str, change: Change | None) -> np.ndarray:
        """One reader's term of Δ_s, computed once: a search asks for it in many combinations."""
        place = (v, s, change)
        if place not in self._terms:
            self._terms[place] = (
                pulled_through(self.facts, v, s, self.delta[v]) if change is None else change.apply(self)
            )
        return self._terms[place]

    def gradient_of(self, name: Name, mine: np.ndarray | None = None) -> Gradient:
        """The gradient of a weight whose δ are known, right as far as they are, beside what was handed in."""
        facts, place = self.facts, name.path
        W = facts.weight_at(place)
        uses = tuple((edge.unit, edge.source) for edge in facts.plan.uses[place])
        alike = {other: partial(self._so_far, other) for other in facts.alike(name)}
        return Gradient(name, W, lambda: self._whole(place), mine, alike, facts, self.Delta, self.delta, uses)

    def knows(self, name: Name) -> bool:
        """Whether the pass has come to all that a gradient is made of."""
        return all(edge.unit in self.delta for edge in self.facts.plan.uses[name.path])

    def _so_far(self, name: Name) -> np.ndarray:
        return self._whole(name.path) if self.knows(name) else self.facts.right[name]

    def _whole(self, place: Place) -> np.ndarray:
        if place not in self._made:
            self._made[place] = np.sum(list(self.parts(place).values()), axis=0)
        return self._made[place]

    def parts(self, place: Place) -> dict[tuple[str, str], np.ndarray]:
        """What each use adds to the gradient of a weight, of those whose δ are known."""
        uses = [(edge.unit, edge.source) for edge in self.facts.plan.uses[place] if edge.unit in self.delta]
        return {(u, s): contracted(self.facts, u, s, self.facts.h.get(s), self.delta[u]) for u, s in uses}

    def gradient(self, name: Name) -> np.ndarray:
        """The gradient of a weight, with the change that was made in it."""
        made = ("changed", name)
        if made not in self._made:
            change = next((c for c in self.changes if c.stage in ("gradient", "use") and c.key == str(name)), None)
            self._made[made] = self.gradient_of(name).right if change is None else self.changed(name, change)
        return self._made[made]

    def changed(self, name: Name, change: Change, mine: np.ndarray | None = None) -> np.ndarray:
        """What a change makes of a gradient."""
        if change.stage == "use":
            return change.apply(self, self.parts(name.path))
        return change.apply(self.gradient_of(name, mine))

    def quantities(self) -> dict[Name, np.ndarray]:
        """Every backward quantity of the pass, and the loss."""
        gradients = {name: self.gradient(name) for u in self.delta for name in self.due(u)}
        loss = {} if self.loss is None else {Name("loss"): self.loss}
        return {**loss, **named({"Delta": self.Delta, "delta": self.delta}), **gradients}


def backward_names(facts: Facts) -> list[Name]:
    """Every quantity from the loss on, in the order of a backward pass."""
    state = Pass(facts)
    return [name for step in state.steps for name in state.names(step)]
