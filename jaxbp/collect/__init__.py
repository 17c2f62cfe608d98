"""Collectors: what to make of each pair (h_s, δ_u) that the backward sweep meets.

The sweep gives a collector each weight of the network with its pairs, and the signals of each unit. A collector never
sees the graph, and it asks the connection for what depends on its kind. Most collectors return a tree like the
parameters. In their documentation, examples are numbered i = 1 … N:

    L_i      the loss of an example, and ∇L_i its own gradient
    scale_i  ∂L/∂L_i, what the example counts in the value: 1/N in a mean without weights
    g_i      scale_i ∇L_i, what the example adds to the gradient, Σ_i g_i
    p_i      scale_i / Σ_j scale_j, what the example counts in a mean over examples

L_i is the sum over the rows of the example's output, if this has rows. Where its rows p have weights w_ip of their own,
the example's own loss is their weighted mean, and it counts as much as all of them together:

    L_i      Σ_p w_ip L_ip / Σ_p w_ip
    scale_i  Σ_p w_ip / Σ_jp w_jp in a mean, Σ_p w_ip in a sum

So Σ_i scale_i L_i is the value in any case, a longer text counts more than a shorter one, and neither L_i nor what
`clipped` and the moments make of it depends on the length. An example whose weights are all 0 counts nothing, and no
L_i exists where weights of both signs cancel: such an example has a part in the gradient alone.

A collector without parameters, such as `gradient`, is an instance; one with parameters, such as `clipped`, is made by a
function. `_sweep.py` has what a collector sees, `_weight.py` and `_layer_weight.py` what can be made of the pairs of a
weight, with the help of `_pair.py` and `_range.py`; every other file has the collectors of one idea.
"""

from jaxbp.collect._curvature import diagonal_ggn, sampled_diagonal_ggn
from jaxbp.collect._gradient import gradient, per_example_dot, per_example_gradient
from jaxbp.collect._gram import Grams, gram
from jaxbp.collect._kronecker import KroneckerFactors, kronecker, kronecker_ggn, sampled_kronecker_ggn
from jaxbp.collect._moments import (
    NoiseScale,
    NoiseScales,
    gradient_noise_scale,
    second_moment,
    signal_to_noise,
    variance,
)
from jaxbp.collect._norms import SquaredNorms, clipped, squared_norm
from jaxbp.collect._pair import Pair
from jaxbp.collect._projected import Projection, projected
from jaxbp.collect._statistics import NetworkStatistics, UnitStatistics, statistics
from jaxbp.collect._sweep import Collector, Sweep, UnitSignals
from jaxbp.collect._weight import Weight

__all__ = [
    "Collector",
    "Grams",
    "KroneckerFactors",
    "NetworkStatistics",
    "NoiseScale",
    "NoiseScales",
    "Pair",
    "Projection",
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
    "projected",
    "sampled_diagonal_ggn",
    "sampled_kronecker_ggn",
    "second_moment",
    "signal_to_noise",
    "squared_norm",
    "statistics",
    "variance",
]
