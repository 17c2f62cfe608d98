"""Mistakes on the way back through a unit that is a function of its sources: gates, and any other."""

from collections.abc import Iterator
from itertools import combinations, combinations_with_replacement

import numpy as np

from jaxbp._check._entry import Case, Entry
from jaxbp._check._pass import Pass
from jaxbp._check._session import in_float64
from jaxbp._check._steps import pulled_through
from jaxbp._function_unit import FunctionUnit, name_of


def _unit(state: Pass, v: str) -> FunctionUnit | None:
    unit = state.facts.net.units[v]
    return unit if isinstance(unit, FunctionUnit) else None


def _right(s: str, v: str) -> str:
    return f"Delta.{s} takes (∂a.{v}/∂h.{s})ᵀ delta.{v}"


def _missing(state: Pass, s: str, v: str) -> Iterator[Case]:
    unit, shapes = _unit(state, v), state.facts.net.shapes
    if unit is not None and shapes[s] == shapes[v]:
        text = f"the Jacobian of {name_of(unit.function)} is left out: {_right(s, v)}, not delta.{v}"
        yield Case(text, lambda state: state.delta[v], "jacobian", v)


def _other_source(state: Pass, s: str, v: str) -> Iterator[Case]:
    unit, shapes = _unit(state, v), state.facts.net.shapes
    for t in unit.sources if unit is not None else ():
        if t != s and shapes[t] == shapes[s]:
            text = f"the signal of {t} is sent to {s}: {_right(s, v)}, not (∂a.{v}/∂h.{t})ᵀ delta.{v}"
            yield Case(text, lambda state, t=t: pulled_through(state.facts, v, t, state.delta[v]), "", v)


def _factor(state: Pass, s: str, v: str) -> Iterator[Case]:
    unit, shapes = _unit(state, v), state.facts.net.shapes
    if unit is None or shapes[s] != shapes[v]:
        return
    alike = [t for t in unit.sources if shapes[t] == shapes[v]]
    for factors in (*combinations(alike, 1), *combinations_with_replacement(alike, 2)):
        words = " ⊙ ".join(f"h.{t}" for t in factors)
        yield Case(
            f"delta.{v} ⊙ {words} is sent to {s}: {_right(s, v)}",
            lambda state, factors=factors: state.delta[v] * np.prod([state.facts.h[t] for t in factors], axis=0),
            "".join("own" if t == s else "other" for t in factors), v,
        )  # fmt: skip
    text = f"delta.{v} ⊙ a.{v} is sent to {s}: {_right(s, v)}"
    yield Case(text, lambda state: state.delta[v] * state.facts.a[v], "value", v)


def _own_rule(state: Pass, s: str, v: str) -> Iterator[Case]:
    unit = _unit(state, v)
    if unit is None or unit.rule is None or v not in state.delta:
        return
    right = pulled_through(state.facts, v, s, state.delta[v])
    if not np.allclose(_by_rule(state, unit, v)[s], right, rtol=1e-9, atol=1e-12):
        what = name_of(unit.function)
        text = f"the pull-back of {what} is not that of autodiff, in what it sends to {s}: {_right(s, v)}"
        yield Case(text, lambda state: _by_rule(state, unit, v)[s], "", v)


def _by_rule(state: Pass, unit: FunctionUnit, v: str) -> dict[str, np.ndarray]:
    """The signals by the pull-back that the unit itself brings."""
    h = [state.facts.h[t] for t in unit.sources]
    signals = in_float64(FunctionUnit.pull_back, unit, ())(h, state.facts.a[v], state.delta[v])
    return dict(zip(unit.sources, signals, strict=True))


FUNCTIONS = (
    Entry("wrong-pull-back", "term", "a pull-back by hand stands where (∂a_v/∂h_s)ᵀ δ_v belongs", _own_rule),
    Entry("missing-derivative", "term", "δ_v stands where (∂a_v/∂h_s)ᵀ δ_v belongs", _missing),
    Entry(
        "signal-of-other-source",
        "term",
        "(∂a_v/∂h_t)ᵀ δ_v stands where that of s belongs",
        _other_source,
        rank=1,
    ),
    Entry("wrong-gate-factor", "term", "δ_v ⊙ h_t stands where (∂a_v/∂h_s)ᵀ δ_v belongs", _factor, rank=2),
)
