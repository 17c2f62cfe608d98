"""Moments of the gradients of single examples over the batch: what a step of stochastic gradient descent is made of."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._precision import widened
from jaxbp.collect._gradient import Tree
from jaxbp.collect._sweep import Sweep, by_unit, for_each, total
from jaxbp.collect._weight import Weight
from jaxbp.connections._connection import on_every_device


@dataclass(frozen=True)
class SecondMoment:
    """The second moment of the examples' own gradients, for each parameter: Σ_i p_i (∂L_i/∂W)²."""

    def __call__(self, sweep: Sweep) -> Tree:
        return for_each(sweep, lambda weight: weight.sum_of_squares(sweep.signals(), sweep.own_factors()))


@dataclass(frozen=True)
class Variance:
    """The variance of the examples' own gradients, for each parameter: Σ_i p_i (∂L_i/∂W)² − (Σ_i p_i ∂L_i/∂W)².

    It is never negative, whatever rounding makes of the difference.
    """

    def __call__(self, sweep: Sweep) -> Tree:
        return jax.tree.map(lambda second, mean: jnp.maximum(second - mean**2, 0), second_moment(sweep), _mean(sweep))


@dataclass(frozen=True)
class SignalToNoise:
    """The square of the mean gradient over its variance, for each parameter; infinite where all examples agree."""

    def __call__(self, sweep: Sweep) -> Tree:
        return jax.tree.map(lambda mean, spread: mean**2 / spread, _mean(sweep), variance(sweep))


class NoiseScale(NamedTuple):
    """How noisy the gradient of a batch is, the whole or a part of it.

    Attributes:
        trace: tr Σ, the sum of the variances of all parameters.
        squared_norm: ‖G‖² of the mean gradient, less what the noise adds to it: tr Σ / N.
        batch_size: tr Σ / ‖G‖², the simple noise scale: the batch size at which noise and signal are alike. Infinite
            where ‖G‖² comes out negative or 0: this batch is too small to tell the signal from the noise.
    """

    trace: Array
    squared_norm: Array
    batch_size: Array


class NoiseScales(NamedTuple):
    """The `NoiseScale` of the gradient and of its parts; `batch_size` alone is that of the whole.

    Attributes:
        weights: Of each weight: a tree like the parameters; in stacks all three are arrays `(depth,)`.
        units: Of all weights that lead into a unit, shared ones too, by unit.
        total: Of the whole gradient.
    """

    weights: Tree
    units: dict[str, NoiseScale]
    total: NoiseScale

    @property
    def batch_size(self) -> Array:
        """The simple noise scale tr Σ / ‖G‖² of the whole gradient."""
        return self.total.batch_size


@dataclass(frozen=True)
class GradientNoiseScale:
    """The simple noise scale tr Σ / ‖G‖² of a batch whose examples all count alike, as `NoiseScales`.

    tr Σ = (Σ_i ‖∇L_i‖² / N − ‖∇L‖²) N / (N − 1) takes no more than the norms of the examples, for the whole gradient
    and for each weight.

    Source: McCandlish et al., An empirical model of large-batch training, 2018; Gray et al., Normalization layer
    per-example gradients are sufficient to predict gradient noise scale in transformers, 2024, for its parts.
    """

    forms_each = True

    def __call__(self, sweep: Sweep) -> NoiseScales:
        examples, whole = sweep.scale.size, jnp.sum(sweep.scale)
        own = jnp.reshape(sweep.own_factors(), -1) ** 2

        def second(weight: Weight) -> Array:
            squares = weight.squared_norms()
            return jnp.einsum("...n,n->...", squares, own.astype(squares.dtype), out_sharding=on_every_device(squares))

        def first(weight: Weight) -> Array:
            mean = widened(weight.gradient_of_each()) / whole
            return jnp.sum(mean**2, axis=tuple(range(weight.layers, mean.ndim)))

        def scale(second: Array, first: Array) -> NoiseScale:
            # both unbiased: the variance with N − 1, and the norm without the noise in it
            trace = jnp.maximum(second - first, 0) * examples / max(examples - 1, 1)
            norm = first - trace / examples
            return NoiseScale(trace, norm, jnp.where(norm > 0, trace / norm, jnp.inf))

        seconds, firsts = for_each(sweep, second), for_each(sweep, first)
        of_units = by_unit(sweep, seconds), by_unit(sweep, firsts)
        return NoiseScales(
            jax.tree.map(scale, seconds, firsts),
            {u: scale(of_units[0][u], of_units[1][u]) for u in of_units[0]},
            scale(total(sweep, seconds), total(sweep, firsts)),
        )


def _mean(sweep: Sweep) -> Tree:
    """The mean of the examples' own gradients, which is the gradient unless the value is a sum."""
    total = jnp.sum(sweep.scale)
    return for_each(sweep, lambda weight: weight.gradient() / total.astype(weight.value.dtype))


second_moment = SecondMoment()
variance = Variance()
signal_to_noise = SignalToNoise()
gradient_noise_scale = GradientNoiseScale()
