"""Mistakes on the way back through softmax attention, a = P V with P = softmax(Q Kᵀ / √d).

Δ_V = Pᵀ δ,  Δ_P = δ Vᵀ,  Δ_S = P ⊙ (Δ_P − Σ P ⊙ Δ_P),  Δ_Q = Δ_S K / √d,  Δ_K = Δ_Sᵀ Q / √d
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import isqrt, sqrt

import numpy as np

from jaxbp._attention import Attention
from jaxbp._check._entry import Case, Entry
from jaxbp._check._pass import Pass
from jaxbp._function_unit import FunctionUnit

_Q, _K, _V = range(3)


@dataclass(frozen=True, eq=False)
class _Heads:
    """What one way back through attention is made of, `(batch, key heads, heads of each, rows, …)`."""

    attention: Attention
    Q: np.ndarray
    K: np.ndarray
    V: np.ndarray
    delta: np.ndarray
    seen: np.ndarray  # booleans, which keys a row sees

    @classmethod
    def of(cls, state: Pass, v: str) -> "_Heads":
        """The parts of an attention unit, in a pass that has its δ."""
        unit = state.facts.net.units[v]
        assert isinstance(unit, FunctionUnit)
        attention, h = unit.function, [state.facts.h[t] for t in unit.sources]
        assert isinstance(attention, Attention)
        groups, each = attention.key_heads, attention.heads // attention.key_heads
        Q, delta = (_split(array, groups, each) for array in (h[_Q], state.delta[v]))
        K, V = (_split(array, groups, 1) for array in h[_K : _V + 1])
        rows, keys = Q.shape[-2], K.shape[-2]
        seen = np.tri(rows, keys, dtype=bool) if attention.causal else np.ones((rows, keys), bool)
        if len(h) > _V + 1:
            seen = seen & (h[_V + 1].reshape(len(Q), 1, 1, -1, keys) != 0)
        return cls(attention, Q, K, V, delta, np.broadcast_to(seen, (*Q.shape[:-1], keys)))

    def weights(self, masked: bool = True) -> np.ndarray:
        """P; 0 in a row that sees nothing."""
        scores = self.Q @ self.K.swapaxes(-1, -2) / self.root
        scores = np.where(self.seen, scores, -np.inf) if masked else scores
        with np.errstate(invalid="ignore"):
            e = np.exp(scores - np.max(scores, axis=-1, keepdims=True, initial=-1e300))
        return e / np.maximum(e.sum(-1, keepdims=True), 1e-300)

    @property
    def root(self) -> float:
        """√d."""
        return sqrt(self.Q.shape[-1])

    def joined(self, rows: np.ndarray) -> np.ndarray:
        """A signal of queries, or of keys or values, in the shape of its source."""
        N, length = rows.shape[0], rows.shape[-2]
        return np.moveaxis(rows, -2, 1).reshape(N, length, -1)


def _split(rows: np.ndarray, groups: int, each: int) -> np.ndarray:
    N, length = rows.shape[:2]
    return np.moveaxis(rows.reshape(N, length, groups, each, -1), 1, -2)


def _softmax_back(P: np.ndarray, Delta_P: np.ndarray, axis: int = -1) -> np.ndarray:
    return P * (Delta_P - np.sum(P * Delta_P, axis=axis, keepdims=True))


def _back(
    state: Pass,
    v: str,
    role: int,
    *,
    masked: bool = True,
    of_softmax: Callable[[np.ndarray, np.ndarray], np.ndarray] = _softmax_back,
    exchanged: bool = False,
    straight: bool = False,
    scaled: bool = True,
) -> np.ndarray:
    """The signal that queries, keys or values get, with a part of it wrong."""
    heads = _Heads.of(state, v)
    P = heads.weights(masked)
    if role == _V:
        signal = (P if straight else P.swapaxes(-1, -2)) @ heads.delta
        return heads.joined(signal.sum(2, keepdims=True))
    Delta_S = of_softmax(P, heads.delta @ heads.V.swapaxes(-1, -2)) / (heads.root if scaled else 1)
    if role == _Q:
        return heads.joined(Delta_S @ (heads.Q if exchanged else heads.K))
    signal = (Delta_S if straight else Delta_S.swapaxes(-1, -2)) @ (heads.K if exchanged else heads.Q)
    return heads.joined(signal.sum(2, keepdims=True))


def _role(state: Pass, s: str, v: str) -> int | None:
    """Whether s has the queries, keys or values of an attention unit v that can be computed here."""
    unit = state.facts.net.units[v]
    if not isinstance(unit, FunctionUnit) or not isinstance(unit.function, Attention) or unit.function.rotary:
        return None
    places = [i for i, t in enumerate(unit.sources) if t == s]
    return places[0] if len(places) == 1 and places[0] <= _V else None


def _right(s: str, v: str, role: int) -> str:
    formula = ("Δ_S K / √d", "Δ_Sᵀ Q / √d", "Pᵀ δ")[role]
    return f"Delta.{s} takes {formula} of {v}"


def _scale(state: Pass, s: str, v: str) -> Iterator[Case]:
    role = _role(state, s, v)
    if role in (_Q, _K):
        d = _Heads.of(state, v).Q.shape[-1]
        root = str(isqrt(d)) if isqrt(d) ** 2 == d else f"√{d}"
        text = f"the 1/{root} of the scores of {v} is left out on the way back"
        yield Case(text, partial(_back, v=v, role=role, scaled=False), unit=v)


def _mask(state: Pass, s: str, v: str) -> Iterator[Case]:
    role = _role(state, s, v)
    if role is not None and not _Heads.of(state, v).seen.all():
        text = f"the mask of {v} is left out on the way back: {_right(s, v, role)}, with P = 0 where nothing is seen"
        yield Case(text, partial(_back, v=v, role=role, masked=False), unit=v)


def _axis(state: Pass, s: str, v: str) -> Iterator[Case]:
    role = _role(state, s, v)
    if role in (_Q, _K):
        text = f"the softmax of {v} is pulled back along the queries: Δ_S = P ⊙ (Δ_P − Σ P ⊙ Δ_P), summed over the keys"
        yield Case(text, partial(_back, v=v, role=role, of_softmax=partial(_softmax_back, axis=-2)), unit=v)


def _values_axis(state: Pass, s: str, v: str) -> Iterator[Case]:
    if _role(state, s, v) == _V:
        for masked in (True, False) if not _Heads.of(state, v).seen.all() else (True,):
            text = f"the softmax of {v} is computed anew along the queries: {_right(s, v, _V)}, with P along the keys"
            yield Case(text, partial(_values_along_queries, v=v, masked=masked), f"P {masked}", v)


def _values_along_queries(state: Pass, v: str, masked: bool) -> np.ndarray:
    heads = _Heads.of(state, v)
    scores = heads.Q @ heads.K.swapaxes(-1, -2) / heads.root
    scores = np.where(heads.seen, scores, -1e300) if masked else scores
    e = np.exp(scores - scores.max(axis=-2, keepdims=True))
    return heads.joined(((e / e.sum(axis=-2, keepdims=True)).swapaxes(-1, -2) @ heads.delta).sum(2, keepdims=True))


def _diagonal(state: Pass, s: str, v: str) -> Iterator[Case]:
    role = _role(state, s, v)
    if role in (_Q, _K):
        text = f"only the diagonal of the softmax of {v} is used: Δ_S = P ⊙ (Δ_P − Σ P ⊙ Δ_P), not P (1 − P) ⊙ Δ_P"
        yield Case(text, partial(_back, v=v, role=role, of_softmax=lambda P, D: P * (1 - P) * D), unit=v)


def _no_softmax(state: Pass, s: str, v: str) -> Iterator[Case]:
    role = _role(state, s, v)
    if role in (_Q, _K):
        for words, of in (("Δ_P", lambda P, D: D), ("P ⊙ Δ_P", lambda P, D: P * D)):
            text = f"the softmax of {v} is left out: Δ_S = P ⊙ (Δ_P − Σ P ⊙ Δ_P), not {words}"
            yield Case(text, partial(_back, v=v, role=role, of_softmax=of), words, v)


def _exchanged(state: Pass, s: str, v: str) -> Iterator[Case]:
    role, shapes = _role(state, s, v), state.facts.net.shapes
    unit = state.facts.net.units[v]
    if role in (_Q, _K) and isinstance(unit, FunctionUnit) and shapes[unit.sources[0]] == shapes[unit.sources[1]]:
        text = f"queries and keys of {v} are exchanged on the way back: {_right(s, v, role)}"
        yield Case(text, partial(_back, v=v, role=role, exchanged=True), unit=v)


def _straight(state: Pass, s: str, v: str) -> Iterator[Case]:
    role = _role(state, s, v)
    if role in (_K, _V) and _square(state, v):
        text = f"a transpose in {v} is left out: {_right(s, v, role)}"
        yield Case(text, partial(_back, v=v, role=role, straight=True), unit=v)


def _square(state: Pass, v: str) -> bool:
    shape = _Heads.of(state, v).seen.shape
    return shape[-1] == shape[-2]


ATTENTION = (
    Entry("missing-scale", "term", "Δ_S K stands where Δ_S K / √d belongs", _scale),
    Entry("missing-mask", "term", "P of all keys stands where P of those that are seen belongs", _mask),
    Entry("softmax-wrong-axis", "term", "Σ over queries stands where Σ over keys belongs", _axis),
    Entry("softmax-wrong-axis", "term", "softmax over queries stands where that over keys belongs", _values_axis),
    Entry("softmax-diagonal", "term", "P (1 − P) ⊙ Δ_P stands where P ⊙ (Δ_P − Σ P ⊙ Δ_P) belongs", _diagonal),
    Entry("missing-derivative", "term", "Δ_P stands where P ⊙ (Δ_P − Σ P ⊙ Δ_P) belongs", _no_softmax),
    Entry("key-for-query", "term", "Δ_S Q stands where Δ_S K belongs", _exchanged),
    Entry("not-transposed", "term", "P δ stands where Pᵀ δ belongs", _straight),
)
