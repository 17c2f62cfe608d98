"""Mistakes that are a factor: of everything, of one signal, of a unit's δ, of one gradient."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxbp._check._catalogue._words import delta_of, times
from jaxbp._check._entry import Case, Entry
from jaxbp._check._facts import Facts
from jaxbp._check._gradient import Gradient
from jaxbp._check._pass import Pass
from jaxbp._check._steps import pulled_through
from jaxbp._function_unit import FunctionUnit, name_of
from jaxbp._names import Name


def is_factor(c: float) -> bool:
    """Whether a factor is a mistake of its own: 0, 1 and −1 have other names."""
    return not np.isclose([0.0, 1.0, -1.0], c, rtol=1e-9, atol=1e-12).any()


def _negated_loss(facts: Facts) -> Iterator[Case]:
    yield Case("the loss is negated", lambda state: -state.facts.right[Name("loss")], "whole")


def _scaled_loss(facts: Facts) -> Iterator[Case]:
    yield _free(
        lambda c: f"the loss is {times(c, facts)}", lambda c, state: c * state.facts.right[Name("loss")], "whole"
    )


def _negated_output(facts: Facts) -> Iterator[Case]:
    yield Case("the whole gradient is negated", lambda state: _scaled(state, -1.0), "whole")


def _scaled_output(facts: Facts) -> Iterator[Case]:
    yield _free(lambda c: f"the whole gradient is {times(c, facts)}", lambda c, state: _scaled(state, c), "whole")


def _scaled(state: Pass, c: float) -> tuple[np.ndarray, np.ndarray]:
    Delta, delta = state.at_output()
    return c * Delta, c * delta


def _negated_term(state: Pass, s: str, v: str) -> Iterator[Case]:
    if _is_one_of_several(state.facts, s, v):
        yield Case(
            f"{_signal(state, s, v)} is negated",
            lambda state: -pulled_through(state.facts, v, s, state.delta[v]),
            "term",
            v,
        )


def _scaled_term(state: Pass, s: str, v: str) -> Iterator[Case]:
    if _is_one_of_several(state.facts, s, v):
        yield _free(
            lambda c: f"{_signal(state, s, v)} is {times(c, state.facts)}",
            lambda c, state: c * pulled_through(state.facts, v, s, state.delta[v]), "term", v, True,
        )  # fmt: skip


def _is_one_of_several(facts: Facts, s: str, v: str) -> bool:
    """Whether a factor in what v sends to s is another than one in δ of either."""
    return len(facts.plan.readers[s]) > 1 or isinstance(facts.net.units[v], FunctionUnit)


def _signal(state: Pass, s: str, v: str) -> str:
    unit = state.facts.net.units[v]
    of = f" (of {name_of(unit.function)})" if isinstance(unit, FunctionUnit) else ""
    return f"the signal from {v} to {s}{of}"


def _negated_delta(facts: Facts, u: str) -> Iterator[Case]:
    yield Case(f"delta.{u} is negated: {delta_of(facts, u)}", lambda state, Delta, delta: -delta, "delta", u)


def _scaled_delta(facts: Facts, u: str) -> Iterator[Case]:
    yield _free(
        lambda c: f"delta.{u} is {times(c, facts)}: {delta_of(facts, u)}",
        lambda c, state, Delta, delta: c * delta, "delta", u, True,
    )  # fmt: skip


def _negated_gradient(gradient: Gradient) -> Iterator[Case]:
    yield Case("{} is negated", lambda gradient: -gradient.right, "gradient", gradient.unit)


def _scaled_gradient(gradient: Gradient) -> Iterator[Case]:
    yield _free(
        lambda c: f"{{}} is {times(c, gradient.facts)}", lambda c, gradient: c * gradient.right, "gradient",
        gradient.unit,
    )  # fmt: skip


def _free(
    text: Callable[[float], str], apply: Callable[..., Any], kind: str, unit: str | None = None, alone: bool = False
) -> Case:
    return Case(text, apply, kind, unit, free=True, allowed=is_factor, alone=alone)


FACTORS = (
    Entry("sign", "loss", "−L stands where L belongs", _negated_loss),
    Entry("scale", "loss", "c L stands where L belongs", _scaled_loss),
    Entry("sign", "output", "−∂L/∂o stands where ∂L/∂o belongs", _negated_output),
    Entry("scale", "output", "c ∂L/∂o stands where ∂L/∂o belongs: 1/N, N, 2/K, −η, …", _scaled_output),
    Entry("sign", "term", "−δ_v Wᵀ stands where δ_v Wᵀ belongs", _negated_term),
    Entry("scale", "term", "c δ_v Wᵀ stands where δ_v Wᵀ belongs", _scaled_term),
    Entry("sign", "delta", "−δ_u stands where δ_u belongs", _negated_delta),
    Entry("scale", "delta", "c δ_u stands where δ_u belongs", _scaled_delta),
    Entry("sign", "gradient", "−∂L/∂W stands where ∂L/∂W belongs", _negated_gradient),
    Entry("scale", "gradient", "c ∂L/∂W stands where ∂L/∂W belongs", _scaled_gradient),
)
