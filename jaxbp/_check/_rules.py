"""The rules that a network itself brings, a step at a time from right numbers, beside those of autodiff."""

from collections.abc import Iterator

import numpy as np

from jaxbp._check._facts import Facts
from jaxbp._check._report import Mistake
from jaxbp._check._steps import contracted, pulled_back, pulled_through
from jaxbp._names import Name
from jaxbp.connections import Bias, Dense, Identity, Transposed


def wrong_rules(facts: Facts) -> tuple[Mistake, ...]:
    """The steps at which a network's own rules do not give what autodiff makes of its forward phase."""
    return tuple(Mistake("wrong-pull-back", (u,), text) for u in reversed(facts.net.order) for text in _of(facts, u))


def _of(facts: Facts, u: str) -> Iterator[str]:
    right = facts.right
    delta, own = right[Name("delta", (u,))], pulled_back(facts, u, right[Name("Delta", (u,))])
    if not _equal(own, delta):
        at = np.unravel_index(np.argmax(np.abs(own - delta)), delta.shape)
        yield (
            f"what the activation of {u} brings as its derivative is not that of its value: where a.{u} is "
            f"{facts.a[u][at]:.6g} it gives delta.{u} = {own[at]:.6g}, autodiff {delta[at]:.6g}"
        )
    for s, edge in facts.plan.edges[u].items():
        # what a function sends back is of autodiff here, and a pull-back of its own is among the mistakes
        if edge.connection is None or isinstance(edge.connection, Bias | Dense | Transposed | Identity):
            continue
        W = Name("grad", (u, s))
        if edge.weight == (u, s) and not _equal(contracted(facts, u, s, facts.h[s], delta), right[W]):
            yield f"what the connection from {s} to {u} brings to contract with is not what autodiff has for {W}"
        if facts.plan.readers[s] == (u,) and not _equal(pulled_through(facts, u, s, delta), right[Name("Delta", (s,))]):
            yield f"what the connection from {s} to {u} brings as its pull-back is not that of autodiff"


def _equal(own: np.ndarray, right: np.ndarray) -> bool:
    return own.shape == right.shape and np.allclose(own, right, rtol=1e-9, atol=1e-9 * np.max(np.abs(right), initial=0))
