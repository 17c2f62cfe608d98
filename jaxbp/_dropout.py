"""Dropout: a unit whose activation is followed by noise, h = Φ(a) ⊙ ξ with ξ = 0 or 1 / (1 − p)."""

from dataclasses import dataclass, replace
from typing import Any

import jax
from jaxtyping import Array

from jaxbp._checks import quoted
from jaxbp._network import Network
from jaxbp.activations import Activation


@dataclass(frozen=True, eq=False)
class Noisy:
    """An activation Φ and the noise ξ of one forward phase, shaped like a.

    h = Φ(a) ⊙ ξ,  δ = (∂Φ/∂a)ᵀ (ξ ⊙ Δ)
    """

    activation: Activation
    noise: Array

    def value(self, a: Array) -> Array:
        return self.activation.value(a) * self.noise

    def pullback(self, a: Array, h: Array, Delta: Array) -> Array:
        # h has the noise in it
        return self.activation.pullback(a, self.activation.value(a), Delta * self.noise)


Phi = Activation | Noisy
"""What makes h of a, and δ of Δ."""


def drawn(key: Array, dropout: float, a: Array) -> Array:
    """The noise ξ of a unit, shaped and typed like a."""
    return jax.random.bernoulli(key, 1 - dropout, a.shape).astype(a.dtype) / (1 - dropout)


def with_noise(activation: Activation, noise: Array | None) -> Phi:
    """Φ with its noise, where there is any."""
    return activation if noise is None else Noisy(activation, noise)


def without_dropout(net: Network) -> Network:
    """The network as it is evaluated; itself where no unit has dropout."""
    if not any(unit.dropout for unit in net.plan.nodes.values()):
        return net
    # every node is a dataclass
    units: dict[str, Any] = {
        u: replace(unit, dropout=0.0)  # pyright: ignore
        if unit.stacked is None
        else replace(unit.stacked, block=without_dropout(unit.stacked.block))
        for u, unit in net.units.items()
    }
    return Network(net.inputs, units)


def noisy_units(net: Network) -> list[str]:
    """The units with dropout, those in blocks too."""
    return [u for u, unit in net.plan.nodes.items() if unit.dropout]


def check_key(net: Network, key: Array | None) -> None:
    """Refuse to train units with dropout without a key, which would silently leave their noise out."""
    noisy = noisy_units(net)
    if noisy and key is None:
        raise ValueError(
            f"units {quoted(noisy)} have dropout, so what is to be differentiated needs key=jax.random.key(…), a fresh "
            "one in every step; to evaluate, use forward, apply or jaxbp.train.evaluate"
        )
