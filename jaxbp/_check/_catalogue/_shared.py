"""Mistakes in the gradient of a shared weight, which is the sum of what its uses give."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from jaxbp import activations
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


def _left_out(state: Pass, name: Name) -> Iterator[Case]:
    facts = state.facts
    users = _uses(facts, name)
    for kept in _some_of(users):
        out = [use for use in users if use not in kept]
        at = {v for v, _ in out}
        subject, are = ("the use", "is") if len(out) == 1 else ("the uses", "are")
        yield Case(
            f"{subject} {_words(out)} {are} left out: {_right(facts, name)}",
            lambda state, parts, kept=kept: sum(parts[use] for use in kept), "", out[0][0] if len(at) == 1 else None,
        )  # fmt: skip


def _mean(state: Pass, name: Name) -> Iterator[Case]:
    facts = state.facts
    users = _uses(facts, name)
    if len(users) > 1:
        text = f"the mean over the {len(users)} uses is taken, not their sum: {_right(facts, name)}"
        yield Case(text, lambda state, parts: sum(parts.values()) / len(parts))


def _twice(state: Pass, name: Name) -> Iterator[Case]:
    facts = state.facts
    for use in _several(facts, name):
        text = f"the use {_words([use])} is counted twice: {_right(facts, name)}"
        yield Case(text, _with(use, lambda state, part: 2 * part), unit=use[0])


def _negated(state: Pass, name: Name) -> Iterator[Case]:
    facts = state.facts
    for use in _several(facts, name):
        text = f"what is added for the use {_words([use])} is negated: {_right(facts, name)}"
        yield Case(text, _with(use, lambda state, part: -part), "gradient", use[0])


def _scaled(state: Pass, name: Name) -> Iterator[Case]:
    facts = state.facts
    for use in _several(facts, name):
        what = f"what is added for the use {_words([use])} is"
        yield Case(
            lambda c, what=what: f"{what} {times(c, facts)}: {_right(facts, name)}",
            lambda c, state, parts, use=use: _with(use, lambda state, part: c * part)(state, parts), "gradient", use[0],
            free=True, allowed=lambda c: is_factor(c) and not np.isclose(c, 2),
        )  # fmt: skip


def _not_transposed(state: Pass, name: Name) -> Iterator[Case]:
    facts = state.facts
    for use in _several(facts, name):
        M = matrix(facts, *use) if use[1] != ONE else None
        if M is not None and M.shape[0] == M.shape[1]:
            text = f"what is added for the use {_words([use])} is the transpose of {product_of(facts, *use)}: "
            yield Case(text + _right(facts, name), _with(use, lambda state, part: part.T), unit=use[0])


def _input(state: Pass, name: Name) -> Iterator[Case]:
    facts = state.facts
    options: dict[str, dict[Use, list[Made]]] = {"a": {}, "h": {}}
    for v, s in _uses(facts, name):
        if s == ONE or matrix(facts, v, s) is None:
            continue
        if s in facts.net.units:
            options["a"][v, s] = [_product(v, s, f"a.{s}", lambda state, s=s: state.facts.a[s])]
        alike = [t for t in facts.net.shapes if t != s and facts.net.shapes[t] == facts.net.shapes[s]]
        options["h"][v, s] = [_product(v, s, f"h.{t}", lambda state, t=t: state.facts.h[t]) for t in alike]
    for kind, by_use in options.items():
        yield from _at_uses(facts, name, by_use, "where h of the source belongs", kind)


def _unpulled(state: Pass, name: Name) -> Iterator[Case]:
    facts = state.facts
    by_use = {
        (v, s): [_product(v, s, f"Delta.{v}", None, lambda state, v=v: state.Delta[v])]
        for v, s in _uses(facts, name)
        if facts.net.units[v].activation.phi != activations.linear.phi
    }
    yield from _at_uses(facts, name, by_use, "where delta belongs", "")


def _signal(state: Pass, name: Name) -> Iterator[Case]:
    facts = state.facts
    options: dict[str, dict[Use, list[Made]]] = {"value": {}, "another": {}}
    for v, s in _uses(facts, name):
        options["value"][v, s] = [_product(v, s, f"h.{v}", None, lambda state, v=v: state.facts.h[v])]
        alike = [w for w in state.delta if w != v and facts.net.shapes[w] == facts.net.shapes[v]]
        made = [_product(v, s, f"delta.{w}", None, lambda state, w=w: state.delta[w]) for w in alike]
        options["another"][v, s] = made
    for kind, by_use in options.items():
        yield from _at_uses(facts, name, by_use, "where delta belongs", kind)


Made = tuple[str, Callable[[Pass, np.ndarray], np.ndarray]]


def _product(
    v: str,
    s: str,
    what: str,
    h: Callable[[Pass], np.ndarray] | None = None,
    delta: Callable[[Pass], np.ndarray] | None = None,
) -> Made:
    """What a use adds with another h or another δ in it, and what that is."""

    def made(state: Pass, part: np.ndarray) -> np.ndarray:
        source = state.facts.h.get(s) if h is None else h(state)
        # δ of a unit that comes later is not known yet
        signal = state.delta[v] if delta is None else delta(state)
        return contracted(state.facts, v, s, source, signal)

    return what, made


def _at_uses(facts: Facts, name: Name, by_use: Mapping[Use, list[Made]], where: str, kind: str) -> Iterator[Case]:
    """The mistake at each use, and at all of them where it can be made at several."""
    for use, options in by_use.items():
        for what, made in options:
            text = f"{what} stands {where}, in the use {_words([use])}: {_right(facts, name)}"
            yield Case(text, _with(use, made), kind, use[0])
    several = {use: options[0] for use, options in by_use.items() if len(options) == 1}
    if len(several) > 1:
        whats = ", ".join(what for what, _ in several.values())
        text = f"{whats} stand {where}, in the uses {_words(list(several))}: {_right(facts, name)}"

        def total(state: Pass, parts: Parts) -> np.ndarray:
            return np.sum([several[u][1](state, p) if u in several else p for u, p in parts.items()], axis=0)

        yield Case(text, total, kind)


def _with(use: Use, made: Callable[[Pass, np.ndarray], np.ndarray]) -> Callable[[Pass, Parts], np.ndarray]:
    return lambda state, parts: _others(parts, use) + made(state, parts[use])


def _others(parts: Parts, use: Use) -> np.ndarray:
    return np.sum([np.zeros_like(parts[use]), *(part for other, part in parts.items() if other != use)], axis=0)


def _several(facts: Facts, name: Name) -> list[Use]:
    """The uses, where there are others beside each."""
    users = _uses(facts, name)
    return users if len(users) > 1 else []


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
    Entry("Delta-for-delta", "use", "h_sᵀ Δ_u is added where h_sᵀ δ_u belongs", _unpulled, rank=1),
    Entry("wrong-signal", "use", "h_sᵀ δ_v or h_sᵀ h_u is added where h_sᵀ δ_u belongs", _signal, rank=2),
    Entry("wrong-input", "use", "a_sᵀ δ_u or h_vᵀ δ_u is added where h_sᵀ δ_u belongs", _input, rank=1),
)
