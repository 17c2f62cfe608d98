"""Mistakes with the noise of dropout, h_u = ξ ⊙ Φ(a_u), where ξ is 0 or 1 / (1 − p): on the way back it is the same."""

from collections.abc import Callable, Iterator
from math import log10

import numpy as np

from jaxbp._check._entry import Case, Entry
from jaxbp._check._facts import Facts, slope
from jaxbp._check._noise_of_key import Noise
from jaxbp._check._pass import Pass
from jaxbp._check._session import in_float64
from jaxbp._names import Name
from jaxbp.activations import Elementwise

Noisy = Callable[[Facts, str, Noise], Iterator[tuple[str, Callable[[Pass], np.ndarray], float]]]


def _cases(of: Noisy) -> Callable[[Facts, str], Iterator[Case]]:
    def cases(facts: Facts, u: str) -> Iterator[Case]:
        noise = facts.net.units[u].activation.value
        if not isinstance(noise, Noise):
            return
        for words, xi, choices in of(facts, u, noise):

            def apply(state: Pass, Delta: np.ndarray, delta: np.ndarray, xi: Callable[[Pass], np.ndarray] = xi):
                return _without_noise(noise, state, u, xi(state) * Delta)

            text = f"{words}: delta.{u} = (∂Φ/∂a)ᵀ (ξ ⊙ Delta.{u}), with ξ = h.{u} / Φ(a.{u})"
            yield Case(text, apply, words, u, choices=choices)

    return cases


def _without_noise(noise: Noise, state: Pass, u: str, signal: np.ndarray) -> np.ndarray:
    """What the activation itself pulls back."""
    Phi, a = noise.activation, state.facts.a[u]
    if isinstance(Phi, Elementwise):
        return slope(Phi, a) * signal
    return in_float64(type(Phi).pullback, Phi)(a, in_float64(Phi.value)(a), signal)


def _mask(facts: Facts, u: str, noise: Noise) -> Iterator[tuple[str, Callable[[Pass], np.ndarray], float]]:
    yield "the noise ξ of dropout is left out", lambda state: np.ones(()), 0.0
    words = f"the mask of dropout is left out, every unit is scaled by {1 / noise.share:.6g}"
    yield words, lambda state: np.full((), 1 / noise.share), 0.0


def _scale(facts: Facts, u: str, noise: Noise) -> Iterator[tuple[str, Callable[[Pass], np.ndarray], float]]:
    yield "the scale 1 / (1 − p) of dropout is left out", lambda state: 1.0 * noise.kept_at(state.facts.a[u]), 0.0


def _anew(facts: Facts, u: str, noise: Noise) -> Iterator[tuple[str, Callable[[Pass], np.ndarray], float]]:
    """Another mask: which one, only δ itself can tell, and it is as good as any."""
    mine = facts.handed.get(Name("delta", (u,)))
    if mine is None or np.all(mine) or np.array_equal(mine != 0, noise.kept_at(facts.a[u])):
        return

    def xi(state: Pass) -> np.ndarray:
        same = mine.shape == state.facts.a[u].shape
        return (mine != 0 if same else noise.kept_at(state.facts.a[u])) / noise.share

    yield "the mask of dropout is drawn anew on the way back", xi, mine.size * log10(2)


DROPOUT = (
    Entry("dropout-mask-forgotten", "delta", "Φ' ⊙ Δ_u stands where Φ' ⊙ ξ ⊙ Δ_u belongs", _cases(_mask)),
    Entry("dropout-scale-forgotten", "delta", "Φ' ⊙ [ξ > 0] ⊙ Δ_u stands where Φ' ⊙ ξ ⊙ Δ_u belongs", _cases(_scale)),
    Entry("dropout-drawn-anew", "delta", "Φ' ⊙ ξ' ⊙ Δ_u stands where Φ' ⊙ ξ ⊙ Δ_u belongs", _cases(_anew), rank=1),
)
