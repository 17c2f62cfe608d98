"""A backward pass in which single steps can be changed: the recursion as a hand program with a mistake would run it.

Δ_u = Σ_{u ⇒ v} δ_v W_uvᵀ,  δ_u = (∂h_u/∂a_u)ᵀ Δ_u,  ∂L/∂W_su = h_sᵀ δ_u
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Array

from jaxbp._check._facts import Facts
from jaxbp._check._report import Mistake
from jaxbp._check._session import in_float64
from jaxbp._function_unit import FunctionUnit
from jaxbp._graph import SHARED
from jaxbp._names import Name, named
from jaxbp.activations import Elementwise
from jaxbp.connections import Bias, Dense, Identity, Transposed
from jaxbp.losses import Head

Stage = Literal["output", "term", "sum", "delta", "gradient", "shared"]


@dataclass(frozen=True, eq=False)
class Change:
    """A mistake as something that takes the place of a right step of a unit or input.

    | stage | the step | apply |
    |---|---|---|
    | output | Δ and δ of the output | `(state) -> (Delta, delta)` |
    | term | the term of Δ_u of the reader `key` | `(state) -> term` |
    | sum | the sum of the terms | `(terms) -> Delta` |
    | delta | δ_u | `(facts, Delta, delta) -> delta` |
    | gradient | the gradient by the source `key`, or that use's part of a shared one | `(state, delta) -> gradient` |
    | shared | the whole gradient of the shared weight `key` | `(state) -> gradient` |
    """

    mistake: Mistake
    stage: Stage
    unit: str
    apply: Callable[..., Any] = field(repr=False)
    key: str | None = None
    learning_rate: float | None = None  # of weights that were updated too early


@dataclass(frozen=True, eq=False)
class Pass:
    """A backward pass as far as it has come; `parts` has what each use adds to a shared gradient."""

    facts: Facts
    Delta: Mapping[str, np.ndarray] = field(default_factory=dict)
    delta: Mapping[str, np.ndarray] = field(default_factory=dict)
    gradients: Mapping[Name, np.ndarray] = field(default_factory=dict)
    parts: Mapping[tuple[str, str], np.ndarray] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    _terms: dict[tuple[str, str, Change | None], np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def through(self, u: str, changes: Iterable[Change] = ()) -> "Pass":
        """The pass after the step of one unit, or of an input, with changes."""
        changes = tuple(changes)
        Delta, delta = self.signals(u, changes)
        after = replace(self, Delta={**self.Delta, u: Delta}, changes=self.changes + changes)
        if u in self.facts.net.inputs:
            return after
        return after.with_gradients(u, delta, changes)

    def with_gradients(self, u: str, delta: np.ndarray, changes: Iterable[Change]) -> "Pass":
        """The pass with δ_u and the gradients that follow from it."""
        facts = self.facts
        by_key = {(change.stage, change.key): change for change in changes}
        gradients, parts = dict(self.gradients), dict(self.parts)
        for s, edge in facts.plan.edges[u].items():
            if edge.weight is None:
                continue
            change = by_key.get(("gradient", s))
            part = gradient(facts, u, s, delta) if change is None else change.apply(self, delta)
            if edge.is_shared:
                parts[u, s] = part
            else:
                gradients[Name("grad", edge.weight)] = part
        after = replace(self, delta={**self.delta, u: delta}, parts=parts)
        for group, name in facts.plan.due[u]:
            if group == SHARED:
                change = by_key.get(("shared", name))
                whole = np.sum([parts[e.unit, e.source] for e in facts.plan.uses[group, name]], axis=0)
                gradients[Name("grad", (group, name))] = whole if change is None else change.apply(after)
        return replace(after, gradients=gradients)

    def signals(self, u: str, changes: Iterable[Change]) -> tuple[np.ndarray, np.ndarray]:
        """Δ_u and δ_u; for an input Δ alone, twice."""
        facts = self.facts
        by_stage = {(change.stage, change.key): change for change in changes}
        if u == facts.net.output:
            output = by_stage.get(("output", None))
            right = facts.right[Name("Delta", (u,))], facts.right[Name("delta", (u,))]
            Delta, delta = output.apply(self) if output else right
        else:
            terms = {v: self._term(u, v, by_stage.get(("term", v))) for v in facts.plan.readers[u]}
            combine = by_stage.get(("sum", None))
            Delta = combine.apply(terms) if combine else np.sum(list(terms.values()), axis=0)
            delta = Delta if u in facts.net.inputs else pulled_back(facts, u, Delta)
        change = by_stage.get(("delta", None))
        return Delta, delta if change is None else change.apply(facts, Delta, delta)

    def _term(self, s: str, v: str, change: Change | None) -> np.ndarray:
        """One reader's term of Δ_s, computed once: a search asks for it in many combinations."""
        place = (v, s, change)
        if place not in self._terms:
            right = pulled_through(self.facts, v, s, self.delta[v]) if change is None else change.apply(self)
            self._terms[place] = right
        return self._terms[place]

    def quantities(self) -> dict[Name, np.ndarray]:
        """Every backward quantity of the pass."""
        return {**named({"Delta": self.Delta, "delta": self.delta}), **self.gradients}


def backward_order(facts: Facts) -> tuple[str, ...]:
    """The units from the output on, then the inputs."""
    return (*reversed(facts.net.order), *(s for s in facts.net.inputs if s not in facts.net.ids))


def backward_names(facts: Facts, u: str) -> list[Name]:
    """The quantities that come with the step of one unit, or of an input, in their order."""
    if u in facts.net.inputs:
        return [Name("Delta", (u,))]
    return [Name("Delta", (u,)), Name("delta", (u,)), *(Name("grad", place) for place in facts.plan.due[u])]


def run(facts: Facts, changes: Iterable[Change]) -> Pass:
    """A whole backward pass with these changes."""
    changes = tuple(changes)
    state = Pass(facts)
    for u in backward_order(facts):
        state = state.through(u, [change for change in changes if change.unit == u])
    return state


def pulled_through(facts: Facts, v: str, s: str, delta: np.ndarray) -> np.ndarray:
    """The term δ_v W_svᵀ of Δ_s, or (∂a_v/∂h_s)ᵀ δ_v of a function unit."""
    unit = facts.net.units[v]
    if isinstance(unit, FunctionUnit):
        return in_float64(_signals, unit)([facts.h[t] for t in unit.sources], delta)[unit.sources.index(s)]
    M = matrix(facts, v, s)
    if M is not None:
        return delta @ M.T
    connection = facts.edge(v, s).linear
    if isinstance(connection, Identity):
        return delta
    return in_float64(type(connection).pull_back, connection)(facts.weight(v, s), facts.h[s], delta)


def _signals(unit: FunctionUnit, h: list[Array], delta: Array) -> list[Array]:
    """By autodiff, as the reference has them: a pull-back by hand is what may be wrong."""
    return jax.vjp(lambda h: unit.pre_activation((), h, 1), h)[1](delta)[0]


def matrix(facts: Facts, v: str, s: str) -> np.ndarray | None:
    """The matrix by which v reads s; None where the connection is of another kind."""
    match facts.edge(v, s).connection:
        case Dense():
            return facts.weight(v, s)
        case Transposed():
            return facts.weight(v, s).T
        case _:
            return None


def output_signals(facts: Facts, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Δ_o = ∂L/∂o and δ_o for these targets, the latter in its simplified form where one is known."""
    o, N = facts.net.output, facts.examples
    head = facts.loss.at(facts.net.units[o].activation)
    Delta, delta = (signal / N for signal in in_float64(Head.signals, head)(facts.a[o], facts.h[o], y))
    return Delta, pulled_back(facts, o, Delta) if head.simplification is None else delta


def pulled_back(facts: Facts, u: str, Delta: np.ndarray) -> np.ndarray:
    """δ_u = (∂h_u/∂a_u)ᵀ Δ_u."""
    activation = facts.net.units[u].activation
    if isinstance(activation, Elementwise):
        return facts.slopes[u] * Delta
    return in_float64(type(activation).pullback, activation)(facts.a[u], facts.h[u], Delta)


def gradient(facts: Facts, u: str, s: str, delta: np.ndarray, h: np.ndarray | None = None) -> np.ndarray:
    """The gradient h_sᵀ δ_u, with another h where one is given, or 1ᵀ δ_u of the bias; one use's part of it."""
    connection, W = facts.edge(u, s).linear, facts.weight(u, s)
    if isinstance(connection, Bias):
        return delta.sum(axis=tuple(range(delta.ndim - W.ndim)))
    h = facts.h[s] if h is None else h
    if isinstance(connection, Dense | Transposed):
        outer = h.reshape(-1, h.shape[-1]).T @ delta.reshape(-1, delta.shape[-1])
        return outer if isinstance(connection, Dense) else outer.T
    return in_float64(type(connection).contract, connection)(W, h, delta)
