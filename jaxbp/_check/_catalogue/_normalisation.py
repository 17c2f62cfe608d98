"""Mistakes on the way back through a normalisation: δ = (Δ − mean Δ − h mean(h Δ)) / σ; without mean Δ of rms_norm."""

from collections.abc import Callable, Iterator

import numpy as np

from jaxbp import activations
from jaxbp._check._catalogue._words import delta_of
from jaxbp._check._entry import Case, Entry
from jaxbp._check._facts import Facts
from jaxbp._check._pass import Pass

Made = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _case(facts: Facts, u: str, words: str, make: Made, kind: str = "") -> Iterator[Case]:
    """A case that is made of Δ, mean Δ, h mean(h Δ) and σ."""
    Phi = facts.net.units[u].activation
    epsilon = activations.epsilon_of(Phi)
    if epsilon is None:
        return
    centred = Phi.name.startswith("layer")

    def apply(state: Pass, Delta: np.ndarray, delta: np.ndarray) -> np.ndarray:
        a, h = state.facts.a[u], state.facts.h[u]
        square = np.var(a, axis=-1, keepdims=True) if centred else np.mean(a**2, axis=-1, keepdims=True)
        mean = np.mean(Delta, axis=-1, keepdims=True) * np.ones_like(Delta) if centred else np.zeros_like(Delta)
        return make(Delta, mean, h * np.mean(h * Delta, axis=-1, keepdims=True), np.sqrt(square + epsilon))

    yield Case(f"{words}: {delta_of(facts, u)}", apply, kind, u)


def _is_centred(facts: Facts, u: str) -> bool:
    return facts.net.units[u].activation.name.startswith("layer")


def _mean(facts: Facts, u: str) -> Iterator[Case]:
    if _is_centred(facts, u):
        yield from _case(facts, u, "the term mean Δ is left out", lambda D, m, v, σ: (D - v) / σ)


def _variance(facts: Facts, u: str) -> Iterator[Case]:
    yield from _case(facts, u, "the term h mean(h Δ) is left out", lambda D, m, v, σ: (D - m) / σ)
    if _is_centred(facts, u):
        words = "the terms mean Δ and h mean(h Δ) are left out"
        yield from _case(facts, u, words, lambda D, m, v, σ: D / σ, "both")


def _deviation(facts: Facts, u: str) -> Iterator[Case]:
    yield from _case(facts, u, "the division by σ is left out", lambda D, m, v, σ: D - m - v)


def _twice(facts: Facts, u: str) -> Iterator[Case]:
    yield from _case(facts, u, "the term h mean(h Δ) counts twice", lambda D, m, v, σ: (D - m - 2 * v) / σ, "variance")
    if _is_centred(facts, u):
        yield from _case(facts, u, "the term mean Δ counts twice", lambda D, m, v, σ: (D - 2 * m - v) / σ, "mean")


NORMALISATION = (
    Entry("missing-mean-term", "delta", "(Δ − h mean(hΔ)) / σ, without mean Δ", _mean),
    Entry("missing-variance-term", "delta", "(Δ − mean Δ) / σ, without h mean(hΔ)", _variance),
    Entry("missing-deviation", "delta", "Δ − mean Δ − h mean(hΔ), without the 1/σ", _deviation),
    Entry("term-twice", "delta", "a term of (Δ − mean Δ − h mean(hΔ)) / σ counts twice", _twice),
)
