"""Collectors: what to make of each pair (h_s, δ_u) that the backward sweep meets.

The sweep gives a collector each weight of the network with its pairs, and the signals of each unit. A collector never
sees the graph, and it asks the connection for what depends on its kind.

`_sweep.py` has what a collector sees; every other file has the collectors of one idea. Most return a tree like the
parameters. The gradient of the value is Σ_i g_i over the examples, with g_i = scale_i ∇L_i: `scale` is 1/N in a mean,
and ∇L_i an example's own gradient.
"""

from jaxbp.collect._curvature import diagonal_ggn, sampled_diagonal_ggn
from jaxbp.collect._gradient import (
    gradient,
    per_example_dot,
    per_example_gradient,
)
from jaxbp.collect._gram import Grams, gram
from jaxbp.collect._kronecker import KroneckerFactors, kronecker, kronecker_ggn, sampled_kronecker_ggn
from jaxbp.collect._moments import (
    NoiseScale,
    gradient_noise_scale,
    second_moment,
    signal_to_noise,
    variance,
)
from jaxbp.collect._norms import SquaredNorms, clipped, squared_norm
from jaxbp.collect._statistics import NetworkStatistics, UnitStatistics, statistics
from jaxbp.collect._sweep import Collector, Pair, Sweep, UnitSignals, Weight

__all__ = [
    "Collector",
    "Grams",
    "KroneckerFactors",
    "NetworkStatistics",
    "NoiseScale",
    "Pair",
    "SquaredNorms",
    "Sweep",
    "UnitSignals",
    "UnitStatistics",
    "Weight",
    "clipped",
    "diagonal_ggn",
    "gradient",
    "gradient_noise_scale",
    "gram",
    "kronecker",
    "kronecker_ggn",
    "per_example_dot",
    "per_example_gradient",
    "sampled_diagonal_ggn",
    "sampled_kronecker_ggn",
    "second_moment",
    "signal_to_noise",
    "squared_norm",
    "statistics",
    "variance",
]
