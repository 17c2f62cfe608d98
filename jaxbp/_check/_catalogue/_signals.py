"""Mistakes in Δ_s = Σ δ_v W_svᵀ: in what one reader sends back, and in the sum over the readers."""

from collections.abc import Iterator

import numpy as np

from jaxbp import activations
from jaxbp._check._catalogue._words import delta_of, term_of, weight_of
from jaxbp._check._entry import Case, Entry
from jaxbp._check._facts import Facts
from jaxbp._check._pass import Pass
from jaxbp._check._steps import matrix, pulled_through
from jaxbp._function_unit import FunctionUnit
from jaxbp._names import Name
from jaxbp.connections import Scale, Transposed


def _not_transposed(state: Pass, s: str, v: str) -> Iterator[Case]:
    facts = state.facts
    M = None if _is_function(facts, v) else matrix(facts, v, s)
    if M is not None and M.shape[0] == M.shape[1]:
        is_not = "is transposed" if isinstance(facts.edge(v, s).connection, Transposed) else "is not transposed"
        W = weight_of(facts, v, s)
        text = f"{W} {is_not} (or its elements are swapped): Delta.{s} takes {term_of(facts, v, s)}"
        yield Case(text, lambda state: state.delta[v] @ matrix(state.facts, v, s), unit=v)


def _updated(state: Pass, s: str, v: str) -> Iterator[Case]:
    facts = state.facts
    if _is_function(facts, v) or facts.edge(v, s).weight != (v, s) or s in facts.net.ids:
        return
    name = Name("grad", (v, s))

    def term(eta: float, state: Pass) -> np.ndarray:
        W, grad = state.facts.params[v][s], state.gradient(name)
        # a gradient that is handed in as its transpose fits its weights in the program itself
        return pulled_through(state.facts, v, s, state.delta[v], W - eta * _as(grad, W))

    def text(eta: float) -> str:
        return (
            f"the weights of {v} are updated before they are used: Delta.{s} takes {term_of(facts, v, s)} with the "
            f"weights of the forward phase, not W − {eta:.3g} grad.{v}.{s}"
        )

    yield Case(text, term, unit=v, free=True, allowed=lambda eta: 1e-6 < eta < 100)


def _unpulled(state: Pass, s: str, v: str) -> Iterator[Case]:
    facts = state.facts
    if facts.net.units[v].activation.phi == activations.linear.phi:
        return
    right = term_of(facts, v, s)
    text = f"Delta.{v} is sent back where delta.{v} belongs: Delta.{s} takes {right}, and {delta_of(facts, v)}"
    yield Case(text, lambda state: pulled_through(state.facts, v, s, state.Delta[v]), unit=v)


def _wrong_weight(state: Pass, s: str, v: str) -> Iterator[Case]:
    facts = state.facts
    if _is_function(facts, v) or facts.edge(v, s).weight is None or s in facts.net.ids:
        return
    edge, right = facts.edge(v, s), f"Delta.{s} takes {term_of(facts, v, s)}"
    W, name = facts.weight(v, s), weight_of(facts, v, s)
    grad = Name("grad", name.path)

    def gradient(state: Pass) -> np.ndarray:
        if edge.is_shared:  # as far as its uses go so far
            return np.sum(list(state.parts(name.path).values()), axis=0)
        return state.gradient(grad)

    yield Case(
        f"{grad} stands where {name} belongs: {right}",
        lambda state: pulled_through(state.facts, v, s, state.delta[v], _as(gradient(state), W)), "gradient", v,
    )  # fmt: skip
    for group, weights in facts.params.items():
        for key, other in weights.items():
            if other.shape == W.shape and (group, key) != name.path and W.ndim > 1:
                text = f"W.{group}.{key} stands where {name} belongs: {right}"
                yield Case(
                    text,
                    lambda state, o=(group, key): pulled_through(
                        state.facts, v, s, state.delta[v], state.facts.weight_at(o)
                    ),
                    "another", v,
                )  # fmt: skip
    if facts.net.shapes[s] == facts.net.shapes[v] and not isinstance(edge.connection, Scale):
        yield Case(f"{name} is left out: {right}, not delta.{v}", lambda state: state.delta[v], "none", v)


def _as(array: np.ndarray, W: np.ndarray) -> np.ndarray:
    return array if array.shape == W.shape else array.T


def _missing_gain(state: Pass, s: str, v: str) -> Iterator[Case]:
    facts = state.facts
    if not _is_function(facts, v) and isinstance(facts.edge(v, s).connection, Scale):
        text = f"the gain {weight_of(facts, v, s)} is left out on the way back: Delta.{s} takes delta.{v} ⊙ it"
        yield Case(text, lambda state: state.delta[v], unit=v)


def _wrong_signal(state: Pass, s: str, v: str) -> Iterator[Case]:
    facts = state.facts
    right, shape = f"Delta.{s} takes {term_of(facts, v, s)}", facts.h[v].shape
    yield Case(
        f"h.{v}, what {v} gave, stands where delta.{v} belongs: {right}",
        lambda state: pulled_through(state.facts, v, s, state.facts.h[v]), "value", v,
    )  # fmt: skip
    for w in state.delta:
        if w != v and facts.h[w].shape == shape:
            yield Case(
                f"delta.{w} stands where delta.{v} belongs: {right}",
                lambda state, w=w: pulled_through(state.facts, v, s, state.delta[w]), "another", v,
            )  # fmt: skip


def _is_function(facts: Facts, v: str) -> bool:
    return isinstance(facts.net.units[v], FunctionUnit)


def _dropped(facts: Facts, s: str) -> Iterator[Case]:
    yield from _weighted(facts, s, "is forgotten", 0.0, 1.0)


def _twice(facts: Facts, s: str) -> Iterator[Case]:
    yield from _weighted(facts, s, "is counted twice", 2.0, 1.0)


def _last(facts: Facts, s: str) -> Iterator[Case]:
    yield from _weighted(facts, s, "overwrites the others", 1.0, 0.0)


def _weighted(facts: Facts, s: str, words: str, one: float, others: float) -> Iterator[Case]:
    readers = facts.plan.readers[s]
    right = " + ".join(term_of(facts, v, s) for v in readers)
    for v in readers if len(readers) > 1 else ():
        text = f"{s} is read by {' and '.join(readers)}, and the branch through {v} {words}: Delta.{s} = {right}"
        yield Case(
            text,
            lambda state, terms, v=v: sum((one if u == v else others) * term for u, term in terms.items()),
            unit=s,
        )  # fmt: skip


SIGNALS = (
    Entry("not-transposed", "term", "δ_v W stands where δ_v Wᵀ belongs", _not_transposed),
    Entry("Delta-for-delta", "term", "Δ_v Wᵀ stands where δ_v Wᵀ belongs", _unpulled),
    Entry("missing-gain", "term", "δ_v stands where δ_v ⊙ w belongs", _missing_gain),
    Entry("updated-weights", "term", "δ_v (W − η ∂L/∂W)ᵀ stands where δ_v Wᵀ belongs", _updated, rank=2),
    Entry("wrong-weight", "term", "δ_v Vᵀ stands where δ_v Wᵀ belongs", _wrong_weight, rank=2),
    Entry("wrong-signal", "term", "another signal stands where δ_v belongs", _wrong_signal, rank=2),
    Entry("dropped-branch", "sum", "the term of a reader is 0", _dropped, rank=1),
    Entry("branch-twice", "sum", "the term of a reader counts twice", _twice, rank=1),
    Entry("last-branch-wins", "sum", "the term of one reader stands where their sum belongs", _last, rank=1),
)
