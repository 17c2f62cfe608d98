"""The catalogue of mistakes in the gradient of a shared weight, which is the sum of what its uses give."""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np

from jaxbp._check._facts import Facts
from jaxbp._check._mistakes import factors, product_of, wrong_inputs
from jaxbp._check._pass import Change, Pass, matrix
from jaxbp._check._report import Mistake
from jaxbp._graph import ONE, SHARED
from jaxbp._names import Name

Use = tuple[str, str]

_MOST_SUBSETS = 5


def in_shared(facts: Facts, u: str, name: str) -> Iterator[Change]:
    """Mistakes in the gradient of a shared weight, complete in the step of u, where δ of all its users are right."""
    grad = Name("grad", (SHARED, name))
    users = [(edge.unit, edge.source) for edge in facts.plan.uses[SHARED][name]]
    right = f"{grad} = {_sum(facts, users)}"

    def change(slug: str, unit: str | None, text: str, apply: Callable[[Pass], np.ndarray]) -> Change:
        return Change(Mistake(slug, unit, text), "shared", u, apply, name)

    def total(state: Pass, among: Sequence[Use] = tuple(users)) -> np.ndarray:
        return np.sum([state.parts[use] for use in among], axis=0)

    for kept in _some_of(users):
        out = [use for use in users if use not in kept]
        at = {v for v, _ in out}
        what = "the use" if len(out) == 1 else "the uses"
        yield change(
            "use-left-out", out[0][0] if len(at) == 1 else None,
            f"{what} {_words(out)} {'is' if len(out) == 1 else 'are'} left out: {right}",
            lambda state, kept=kept: total(state, kept),
        )  # fmt: skip
    seen = {1.0}
    if len(users) > 1:
        seen.add(1 / len(users))
        text = f"the mean over the {len(users)} uses is taken, not their sum: {right}"
        yield change("mean-of-uses", None, text, lambda state: total(state) / len(users))
        for use in users:
            text = f"the use {_words([use])} is counted twice: {right}"
            yield change("use-twice", use[0], text, lambda state, use=use: total(state) + state.parts[use])
    yield change("sign", None, f"{grad} is negated, though no delta is: {right}", lambda state: -total(state))
    for words, factor in factors(facts):
        if factor(facts) not in seen:
            text = f"{grad} is {words}, though no delta is"
            yield change("scale", None, text, lambda state, f=factor: f(state.facts) * total(state))
    if len(facts.params[SHARED][name].shape) == 2:
        text = f"{grad} is handed in as its transpose: it has the shape {facts.params[SHARED][name].shape}"
        yield change("outer-product-transposed", None, text, lambda state: total(state).T)
    for use in users:
        yield from _in_use(facts, use, users, change, right)


def _in_use(
    facts: Facts, use: Use, users: Sequence[Use], change: Callable[..., Change], right: str
) -> Iterator[Change]:
    """Mistakes in what one use adds."""
    v, s = use

    def with_part(state: Pass, part: np.ndarray) -> np.ndarray:
        return np.sum([part, *(state.parts[other] for other in users if other != use)], axis=0)

    if len(users) > 1:
        text = f"what is added for the use {_words([use])} is negated: {right}"
        yield change("sign", v, text, lambda state: with_part(state, -state.parts[use]))
        for words, factor in factors(facts):
            if factor(facts) == 2:
                continue  # counted twice
            text = f"what is added for the use {_words([use])} is {words}: {right}"
            yield change("scale", v, text, lambda state, f=factor: with_part(state, f(state.facts) * state.parts[use]))
    M = matrix(facts, v, s)
    if M is None:
        return
    if len(users) > 1 and M.shape[0] == M.shape[1]:
        text = f"what is added for the use {_words([use])} is the transpose of {product_of(facts, v, s)}: {right}"
        yield change("use-not-transposed", v, text, lambda state: with_part(state, state.parts[use].T))
    for words, part in wrong_inputs(facts, v, s):
        yield change(
            "wrong-input", v, f"{words}, in the use {_words([use])}: {right}",
            lambda state, part=part: with_part(state, part(state, state.delta[v])),
        )  # fmt: skip


def _some_of(users: Sequence[Use]) -> Iterator[tuple[Use, ...]]:
    """The proper parts of the uses, the largest first; of many uses all but one, and one alone."""
    sizes = range(len(users) - 1, 0, -1)
    for size in sizes if len(users) <= _MOST_SUBSETS else (len(users) - 1, 1):
        yield from combinations(users, size)


def _words(some: Sequence[Use]) -> str:
    return " and ".join(f"as the bias of {v}" if s == ONE else f"from {s} to {v}" for v, s in some)


def _sum(facts: Facts, users: Sequence[Use]) -> str:
    return " + ".join(product_of(facts, v, s) for v, s in users)
