"""Mistakes in the gradient of a shared weight, which is the sum of what its uses give."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from jaxbp._check._catalogue._factors import is_factor
from jaxbp._check._catalogue._words import product_of, times
from jaxbp._check._entry import Case, Entry
from jaxbp._check._facts import Facts
from jaxbp._check._pass import Pass
from jaxbp._check._steps import contracted, matrix
from jaxbp._graph import ONE, SHARED
from jaxbp._names import Name

Use = tuple[str, str]
Parts = dict[Use, np.ndarray]

_MOST_SUBSETS = 5


def _uses(facts: Facts, name: Name) -> list[Use]:
    return [(edge.unit, edge.source) for edge in facts.plan.uses[name.path]] if name.path[0] == SHARED else []


def _left_out(facts: Facts, name: Name) -> Iterator[Case]:
    users = _uses(facts, name)
    for kept in _some_of(users):
        out = [use for use in users if use not in kept]
        at = {v for v, _ in out}
        subject, are = ("the use", "is") if len(out) == 1 else ("the uses", "are")
        yield Case(
            f"{subject} {_words(out)} {are} left out: {_right(facts, name)}",
            lambda state, parts, kept=kept: sum(parts[use] for use in kept), "", out[0][0] if len(at) == 1 else None,
        )  # fmt: skip


def _mean(facts: Facts, name: Name) -> Iterator[Case]:
    users = _uses(facts, name)
    if len(users) > 1:
        text = f"the mean over the {len(users)} uses is taken, not their sum: {_right(facts, name)}"
        yield Case(text, lambda state, parts: sum(parts.values()) / len(parts))


def _twice(facts: Facts, name: Name) -> Iterator[Case]:
    for use, others in _one_by_one(facts, name):
        if others:
            text = f"the use {_words([use])} is counted twice: {_right(facts, name)}"
            yield Case(text, _with(use, 2.0), unit=use[0])


def _negated(facts: Facts, name: Name) -> Iterator[Case]:
    for use, others in _one_by_one(facts, name):
        if others:
            text = f"what is added for the use {_words([use])} is negated: {_right(facts, name)}"
            yield Case(text, _with(use, -1.0), "gradient", use[0])


def _scaled(facts: Facts, name: Name) -> Iterator[Case]:
    for use, others in _one_by_one(facts, name):
        if others:
            what = f"what is added for the use {_words([use])} is"
            yield Case(
                lambda c, what=what: f"{what} {times(c, facts)}: {_right(facts, name)}",
                lambda c, state, parts, use=use: _with(use, c)(state, parts), "gradient", use[0],
                free=True, allowed=lambda c: is_factor(c) and not np.isclose(c, 2),
            )  # fmt: skip


def _not_transposed(facts: Facts, name: Name) -> Iterator[Case]:
    for use, others in _one_by_one(facts, name):
        M = matrix(facts, *use) if use[1] != ONE else None
        if others and M is not None and M.shape[0] == M.shape[1]:
            text = f"what is added for the use {_words([use])} is the transpose of {product_of(facts, *use)}: "
            yield Case(
                text + _right(facts, name),
                lambda state, parts, use=use: _others(parts, use) + parts[use].T, unit=use[0],
            )  # fmt: skip


def _input(facts: Facts, name: Name) -> Iterator[Case]:
    for use, _ in _one_by_one(facts, name):
        (v, s) = use
        if s == ONE or matrix(facts, v, s) is None:
            continue
        inputs = [("a", s)] if s in facts.net.units else []
        inputs += [("h", t) for t in facts.net.shapes if t != s and facts.net.shapes[t] == facts.net.shapes[s]]
        for kind, t in inputs:
            what = f"the pre-activation a.{t}" if kind == "a" else f"h.{t}"
            text = f"{what} stands where h.{s} belongs, in the use {_words([use])}: {_right(facts, name)}"
            yield Case(text, _from(use, kind, t), kind, v)


def _from(use: Use, kind: str, t: str):
    v, s = use

    def total(state: Pass, parts: Parts) -> np.ndarray:
        h = (state.facts.a if kind == "a" else state.facts.h)[t]
        return _others(parts, use) + contracted(state.facts, v, s, h, state.delta[v])

    return total


def _with(use: Use, factor: float):
    return lambda state, parts: _others(parts, use) + factor * parts[use]


def _others(parts: Parts, use: Use) -> np.ndarray:
    return np.sum([np.zeros_like(parts[use]), *(part for other, part in parts.items() if other != use)], axis=0)


def _one_by_one(facts: Facts, name: Name) -> list[tuple[Use, list[Use]]]:
    users = _uses(facts, name)
    return [(use, [other for other in users if other != use]) for use in users]


def _some_of(users: Sequence[Use]) -> Iterator[tuple[Use, ...]]:
    """The proper parts of the uses, the largest first; of many uses all but one, and one alone."""
    sizes = range(len(users) - 1, 0, -1)
    for size in sizes if len(users) <= _MOST_SUBSETS else (len(users) - 1, 1):
        yield from combinations(users, size)


def _words(some: Sequence[Use]) -> str:
    return " and ".join(f"as the bias of {v}" if s == ONE else f"from {s} to {v}" for v, s in some)


def _right(facts: Facts, name: Name) -> str:
    return f"{name} = {' + '.join(product_of(facts, v, s) for v, s in _uses(facts, name))}"


SHARED_WEIGHTS = (
    Entry("use-left-out", "use", "the sum over some uses stands where that over all belongs", _left_out),
    Entry("use-not-transposed", "use", "(h_sᵀ δ_u)ᵀ is added where h_sᵀ δ_u belongs", _not_transposed),
    Entry("mean-of-uses", "use", "the mean over the uses stands where their sum belongs", _mean),
    Entry("use-twice", "use", "what one use adds counts twice", _twice),
    Entry("sign", "use", "−h_sᵀ δ_u is added where h_sᵀ δ_u belongs", _negated),
    Entry("scale", "use", "c h_sᵀ δ_u is added where h_sᵀ δ_u belongs", _scaled),
    Entry("wrong-input", "use", "a_sᵀ δ_u or h_vᵀ δ_u is added where h_sᵀ δ_u belongs", _input),
)
