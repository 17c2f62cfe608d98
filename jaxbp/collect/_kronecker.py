"""The factors of the Kronecker approximation to the curvature of each weight."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._checks import quoted
from jaxbp.collect._curvature import Columns
from jaxbp.collect._pair import over_examples
from jaxbp.collect._sweep import Sweep, for_each
from jaxbp.collect._weight import LayerWeight, Weight
from jaxbp.connections import Bias, Dense, Shape
from jaxbp.connections._connection import on_every_device


class KroneckerFactors(NamedTuple):
    """E[h hᵀ] and E[δ δᵀ] of one weight; `jnp.kron(source, unit)` stands for its curvature, E[(h hᵀ) ⊗ (δ δᵀ)].

    Rows and columns of the product are in the order of `W.reshape(-1)`. δ = ∂L_i/∂a is an example's own error signal,
    not divided by N, and E the mean over the examples by their weights. The product is exact where h and δ are
    independent, and for a single example.

    Attributes:
        source: E[h hᵀ], `(s, s)`; `(1, 1)` and 1 for a bias.
        unit: E[δ δᵀ], `(u, u)`.
    """

    source: Array
    unit: Array


@dataclass(frozen=True)
class Kronecker:
    """The `KroneckerFactors` of every weight, for the empirical Fisher or the generalised Gauss-Newton matrix.

    `kronecker` is for the empirical Fisher matrix, E[∇L_i ∇L_iᵀ], whose δ comes from the data's targets.
    `kronecker_ggn` is for the Gauss-Newton matrix of the mean loss: it pulls columns of the Hessian of the loss back
    through the network (`columns` says which), and δ δᵀ is Σ_k δ_k δ_kᵀ. Weights that are not `Dense`, or that are
    shared between units or between the rows of one, are refused.

    Source: Martens and Grosse, Optimizing neural networks with Kronecker-factored approximate curvature, 2015;
    Botev et al., Practical Gauss-Newton optimisation for deep learning, 2017, for all columns.
    """

    columns: Columns | None = None

    def __call__(self, sweep: Sweep) -> dict[str, Any]:
        for_each(sweep, _check)
        if self.columns is None:
            signals, factors = sweep.signals(), sweep.own_factors()
        else:
            signals, factors = self.columns(sweep), jnp.sqrt(sweep.probabilities())
        p = jnp.reshape(sweep.probabilities(), (-1, 1))
        # weights into one unit share its factor, and weights from one source share the factor of the source
        sources: dict[tuple[str, Shape], Array] = {}
        units: dict[str, Array] = {}

        def of_source(weight: LayerWeight) -> Array:
            (pair,) = weight.pairs
            h = _rows(pair.h)
            return jnp.einsum("ns,nt->st", h, p.astype(h.dtype) * h, out_sharding=on_every_device(h))

        def of_unit(_: LayerWeight, delta: Sequence[Array]) -> Array:
            return _second_moment(delta[0], factors)

        def factors_of(weight: Weight) -> KroneckerFactors:
            (pair,) = weight.pairs
            source = (pair.source, weight.value.shape[: weight.layers])  # each stack has a constant unit of its own
            if source not in sources:
                sources[source] = weight.in_each_layer(of_source)
            if pair.unit not in units:
                units[pair.unit] = weight.in_each_layer(of_unit, signals)
            return KroneckerFactors(sources[source], units[pair.unit])

        return for_each(sweep, factors_of)


def _check(weight: Weight) -> None:
    pair, *others = weight.pairs
    if others:
        raise ValueError(
            f"kronecker got a weight that {quoted(p.unit for p in weight.pairs)} share, whose cross terms are no "
            "Kronecker product"
        )
    if not isinstance(pair.connection, Dense | Bias):
        raise TypeError(f"kronecker has no rule for {type(pair.connection).__name__} connections, only for Dense")
    shape = pair.delta.shape[len(pair.layers) + weight.scale.ndim :]
    if not all(pair.layers):
        raise ValueError(
            f"kronecker got a weight of {pair.unit!r} that layers share, whose cross terms are no Kronecker product"
        )
    if len(shape) != 1:
        raise ValueError(
            f"kronecker got a unit of shape {shape}: the rows of one example share a weight, and their cross terms are "
            "no Kronecker product"
        )


def _second_moment(signals: Array, factors: Array) -> Array:
    signals = jnp.reshape(signals, (signals.shape[0], -1, signals.shape[-1]))
    weighted = signals * over_examples(jnp.reshape(factors, -1), signals[0])[None]
    return jnp.einsum("knu,knv->uv", weighted, weighted, out_sharding=on_every_device(weighted))


def _rows(h: Array) -> Array:
    return jnp.reshape(h, (-1, h.shape[-1]))


kronecker = Kronecker()
kronecker_ggn = Kronecker(Columns())


def sampled_kronecker_ggn(key: Array, samples: int = 1) -> Kronecker:
    """An unbiased estimate of `kronecker_ggn` that pulls back a few random columns in place of all: K-FAC.

    The cost grows, and the variance falls, in proportion to the number of samples. Use a fresh key in every step.
    """
    return Kronecker(Columns.sampled(key, samples))
