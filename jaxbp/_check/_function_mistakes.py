"""The catalogue of mistakes on the way back through a unit that is a function of its sources."""

from collections.abc import Callable, Iterator
from math import isqrt, sqrt
from typing import Any

import numpy as np

from jaxbp._attention import Attention
from jaxbp._check._pass import Change, Pass, pulled_through
from jaxbp._check._report import Mistake
from jaxbp._check._session import in_float64
from jaxbp._function_unit import FunctionUnit, name_of


def in_function(state: Pass, unit: FunctionUnit, v: str, s: str) -> Iterator[Change]:
    """Mistakes in the signal (∂a_v/∂h_s)ᵀ δ_v that a function unit sends to one of its sources."""
    for slug, text, apply in _in_signal(state, unit, v, s):
        yield Change(Mistake(slug, v, text), "term", s, apply, v)


def _in_signal(state: Pass, unit: FunctionUnit, v: str, s: str) -> Iterator[tuple[str, str, Callable[[Pass], Any]]]:
    facts = state.facts
    function, right = name_of(unit.function), f"Delta.{s} takes (∂a.{v}/∂h.{s})ᵀ delta.{v}"

    def signal(state: Pass, t: str = s) -> np.ndarray:
        return pulled_through(state.facts, v, t, state.delta[v])

    yield "sign", f"the signal from {v} to {s} is negated: {right}", lambda state: -signal(state)
    if facts.net.shapes[s] == facts.net.shapes[v]:
        text = f"the Jacobian of {function} is left out: {right}, not delta.{v}"
        yield "missing-derivative", text, lambda state: state.delta[v]
    for t in unit.sources:
        if t != s and facts.net.shapes[t] == facts.net.shapes[s]:
            text = f"the signal of {t} is sent to {s}: {right}, not (∂a.{v}/∂h.{t})ᵀ delta.{v}"
            yield "signal-of-other-source", text, lambda state, t=t: signal(state, t)
    if unit.rule is not None and not np.allclose(_by_rule(state, unit, v)[s], signal(state), rtol=1e-9, atol=1e-12):
        text = f"the pull-back of {function} is not that of autodiff, in what it sends to {s}: {right}"
        yield "wrong-pull-back", text, lambda state: _by_rule(state, unit, v)[s]
    if isinstance(unit.function, Attention) and s in unit.sources[:2]:
        d = facts.net.shapes[unit.sources[0]][-1] // unit.function.heads
        # one mistake in the scores, for queries and keys alike
        root = str(isqrt(d)) if isqrt(d) ** 2 == d else f"√{d}"
        text = f"the 1/{root} of the scores of {v} is left out on the way back"
        yield "missing-scale", text, lambda state: sqrt(d) * signal(state)


def _by_rule(state: Pass, unit: FunctionUnit, v: str) -> dict[str, np.ndarray]:
    """The signals by the pull-back that the unit itself brings."""
    h = [state.facts.h[t] for t in unit.sources]
    signals = in_float64(FunctionUnit.pull_back, unit, ())(h, state.facts.a[v], state.delta[v])
    return dict(zip(unit.sources, signals, strict=True))
