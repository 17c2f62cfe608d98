"""The catalogue of mistakes in the gradient of a shared weight, which is the sum of what its uses give."""

from collections.abc import Iterator, Sequence
from itertools import chain, combinations

import numpy as np

from jaxbp._check._facts import Facts
from jaxbp._check._mistakes import Row, factors, product_of, wrong_inputs
from jaxbp._check._pass import Change, Pass, matrix
from jaxbp._check._report import Mistake
from jaxbp._graph import ONE, SHARED
from jaxbp._names import Name

Use = tuple[str, str]

_MOST_SUBSETS = 5


def in_shared(facts: Facts, u: str, name: str) -> Iterator[Change]:
    """Mistakes in the gradient of a shared weight, complete in the step of u, where δ of all its users are right."""
    users = [(edge.unit, edge.source) for edge in facts.plan.uses[SHARED, name]]
    for unit, (slug, text, apply) in chain(_in_sum(facts, name, users), _in_uses(facts, name, users)):
        yield Change(Mistake(slug, unit, text), "shared", u, apply, name)


def _in_sum(facts: Facts, name: str, users: Sequence[Use]) -> Iterator[tuple[str | None, Row]]:
    grad, shape = Name("grad", (SHARED, name)), facts.params[SHARED][name].shape
    right = f"{grad} = {_sum(facts, users)}"
    for kept in _some_of(users):
        out = [use for use in users if use not in kept]
        at = {v for v, _ in out}
        subject, are = ("the use", "is") if len(out) == 1 else ("the uses", "are")
        yield out[0][0] if len(at) == 1 else None, (
            "use-left-out", f"{subject} {_words(out)} {are} left out: {right}",
            lambda state, kept=kept: _total(state, kept),
        )  # fmt: skip
    seen = 1 / len(users)
    if len(users) > 1:
        text = f"the mean over the {len(users)} uses is taken, not their sum: {right}"
        yield None, ("mean-of-uses", text, lambda state: _total(state, users) / len(users))
    for slug, words, c in factors(facts):
        if c(facts) != seen:
            text = f"{grad} is {words}, though no delta is: {right}"
            yield None, (slug, text, lambda state, c=c: c(state.facts) * _total(state, users))
    if len(shape) == 2:
        text = f"{grad} is handed in as its transpose: it has the shape {shape}"
        yield None, ("outer-product-transposed", text, lambda state: _total(state, users).T)


def _in_uses(facts: Facts, name: str, users: Sequence[Use]) -> Iterator[tuple[str, Row]]:
    """Mistakes in what one use adds."""
    right = f"{Name('grad', (SHARED, name))} = {_sum(facts, users)}"
    for use in users:
        (v, s), others, what = use, [other for other in users if other != use], f"the use {_words([use])}"
        added = f"what is added for {what}"
        M = matrix(facts, v, s)
        if others:
            yield v, (
                "use-twice", f"{what} is counted twice: {right}",
                lambda state, use=use, others=others: _total(state, others, 2 * state.parts[use]),
            )  # fmt: skip
            for slug, words, c in factors(facts):
                if c(facts) != 2:  # counted twice
                    yield v, (
                        slug, f"{added} is {words}: {right}",
                        lambda state, use=use, others=others, c=c: _total(
                            state, others, c(state.facts) * state.parts[use]
                        ),
                    )  # fmt: skip
            if M is not None and M.shape[0] == M.shape[1]:
                yield v, (
                    "use-not-transposed", f"{added} is the transpose of {product_of(facts, v, s)}: {right}",
                    lambda state, use=use, others=others: _total(state, others, state.parts[use].T),
                )  # fmt: skip
        for words, part in wrong_inputs(facts, v, s) if M is not None else ():
            yield v, (
                "wrong-input", f"{words}, in {what}: {right}",
                lambda state, v=v, part=part, others=others: _total(state, others, part(state, state.delta[v])),
            )  # fmt: skip


def _total(state: Pass, uses: Sequence[Use], *parts: np.ndarray) -> np.ndarray:
    return np.sum([*parts, *(state.parts[use] for use in uses)], axis=0)


def _some_of(users: Sequence[Use]) -> Iterator[tuple[Use, ...]]:
    """The proper parts of the uses, the largest first; of many uses all but one, and one alone."""
    sizes = range(len(users) - 1, 0, -1)
    for size in sizes if len(users) <= _MOST_SUBSETS else (len(users) - 1, 1):
        yield from combinations(users, size)


def _words(some: Sequence[Use]) -> str:
    return " and ".join(f"as the bias of {v}" if s == ONE else f"from {s} to {v}" for v, s in some)


def _sum(facts: Facts, users: Sequence[Use]) -> str:
    return " + ".join(product_of(facts, v, s) for v, s in users)
