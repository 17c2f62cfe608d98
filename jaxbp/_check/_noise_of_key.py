"""The network with the dropout noise of one key: what is checked is a function of the parameters, without chance."""

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxbp._forward import forward
from jaxbp._network import Network
from jaxbp._unrolled import Unrolled
from jaxbp.activations import Activation, Elementwise, VectorActivation
from jaxbp.connections import Shape


@dataclass(frozen=True)
class Noise:
    """The noise ξ of a unit for each example, as bits: specifications hold no arrays."""

    activation: Activation
    kept: bytes
    shape: Shape
    share: float

    def at(self, a: Array) -> Array:
        """ξ for the examples of a."""
        return jnp.asarray(self.kept_at(a), a.dtype) / self.share

    def kept_at(self, a: Array | np.ndarray) -> np.ndarray:
        """Where ξ is not 0, for the examples of a: the first again where there are more."""
        bits = np.unpackbits(np.frombuffer(self.kept, np.uint8), count=int(np.prod(self.shape)))
        rows = bits.reshape(self.shape)
        examples = a.size // int(np.prod(self.shape[1:]))
        return rows[np.arange(examples) % len(rows)].reshape(a.shape) != 0


@dataclass(frozen=True)
class _Value(Noise):
    def __call__(self, a: Array) -> Array:
        return self.activation.value(a) * self.at(a)


@dataclass(frozen=True)
class _Derivative(Noise):
    def __call__(self, a: Array, h: Array) -> Array:
        assert isinstance(self.activation, Elementwise)
        # h has the noise in it
        return self.activation.derivative(a, self.activation.value(a)) * self.at(a)


@dataclass(frozen=True)
class _PullBack(Noise):
    def __call__(self, a: Array, h: Array, Delta: Array) -> Array:
        return self.activation.pullback(a, self.activation.value(a), Delta * self.at(a))


def with_noise_of(key: Array, net: Network, params: Any, x: Any, flat: Unrolled) -> Unrolled:
    """The network written out, with h = ξ ⊙ Φ(a) as its activations, where ξ is what the forward phase has of the key.

    The noise is drawn in the caller's precision: in another the same key has other noise.
    """
    noise = forward(net, params, x, key=key).noise
    if noise is None:
        return flat
    units: dict[str, Any] = dict(flat.net.units)
    for u, (original, layer) in flat.units.items():
        if original in noise:
            of_unit = np.asarray(noise[original])[layer].reshape(-1, *flat.net.shapes[u])
            share = 1 - net.plan.nodes[original].dropout
            units[u] = replace(units[u], activation=_noisy(units[u].activation, of_unit != 0, share))
    return replace(flat, net=Network(flat.net.inputs, units))


def _noisy(activation: Activation, kept: np.ndarray, share: float) -> Activation:
    parts = activation, np.packbits(kept).tobytes(), kept.shape, share
    name = f"(ξ ⊙ {activation.name})"
    if isinstance(activation, Elementwise):
        return Elementwise(_Value(*parts), _Derivative(*parts), name=name)
    return VectorActivation(_Value(*parts), _PullBack(*parts), name=name)
