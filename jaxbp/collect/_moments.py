"""Moments of the gradients of single examples over the batch: what a step of stochastic gradient descent is made of."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp.collect._gradient import Tree
from jaxbp.collect._sweep import Sweep, added, for_each


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
    """How noisy the gradient of a batch is.

    Attributes:
        trace: tr Σ, the sum of the variances of all parameters.
        squared_norm: ‖G‖² of the mean gradient, less what the noise adds to it: tr Σ / N.
        batch_size: tr Σ / ‖G‖², the simple noise scale: the batch size at which noise and signal are alike. Infinite
            where ‖G‖² comes out negative or 0: this batch is too small to tell the signal from the noise.
    """

    trace: Array
    squared_norm: Array
    batch_size: Array


@dataclass(frozen=True)
class GradientNoiseScale:
    """The simple noise scale tr Σ / ‖G‖² of a batch whose examples all count alike, as `NoiseScale`.

    Source: McCandlish et al., An empirical model of large-batch training, 2018.
    """

    def __call__(self, sweep: Sweep) -> NoiseScale:
        # both unbiased: the variance with N − 1, and the norm without the noise in it
        examples = sweep.scale.size
        spread, mean = jax.tree.leaves(variance(sweep)), jax.tree.leaves(_mean(sweep))
        trace = added(jnp.sum(v) for v in spread) * examples / max(examples - 1, 1)
        norm = added(jnp.sum(g**2) for g in mean) - trace / examples
        return NoiseScale(trace, norm, jnp.where(norm > 0, trace / norm, jnp.inf))


def _mean(sweep: Sweep) -> Tree:
    """The mean of the examples' own gradients, which is the gradient unless the value is a sum."""
    total = jnp.sum(sweep.scale)
    return for_each(sweep, lambda weight: weight.gradient() / total.astype(weight.value.dtype))


second_moment = SecondMoment()
variance = Variance()
signal_to_noise = SignalToNoise()
gradient_noise_scale = GradientNoiseScale()
