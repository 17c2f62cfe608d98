"""Collectors: what to make of each pair (h_s, δ_u) that the backward sweep meets.

The sweep gives a collector each weight of the network with its pairs, and the signals of each unit. A collector never
sees the graph, and it asks the connection for what depends on its kind.

`_sweep.py` has what a collector sees; every other file has the collectors of one idea. Most return a tree like the
parameters. The gradient of the value is Σ_i g_i over the examples, with g_i = scale_i ∇L_i: `scale` is 1/N in a mean,
and ∇L_i an example's own gradient.
"""

from jaxbp.collect._curvature import Columns as Columns
from jaxbp.collect._curvature import DiagonalGGN as DiagonalGGN
from jaxbp.collect._curvature import diagonal_ggn as diagonal_ggn
from jaxbp.collect._curvature import sampled_diagonal_ggn as sampled_diagonal_ggn
from jaxbp.collect._gradient import Gradient as Gradient
from jaxbp.collect._gradient import PerExampleDot as PerExampleDot
from jaxbp.collect._gradient import PerExampleGradient as PerExampleGradient
from jaxbp.collect._gradient import gradient as gradient
from jaxbp.collect._gradient import per_example_dot as per_example_dot
from jaxbp.collect._gradient import per_example_gradient as per_example_gradient
from jaxbp.collect._gram import Gram as Gram
from jaxbp.collect._gram import Grams as Grams
from jaxbp.collect._gram import gram as gram
from jaxbp.collect._kronecker import Kronecker as Kronecker
from jaxbp.collect._kronecker import KroneckerFactors as KroneckerFactors
from jaxbp.collect._kronecker import kronecker as kronecker
from jaxbp.collect._kronecker import kronecker_ggn as kronecker_ggn
from jaxbp.collect._kronecker import sampled_kronecker_ggn as sampled_kronecker_ggn
from jaxbp.collect._moments import GradientNoiseScale as GradientNoiseScale
from jaxbp.collect._moments import NoiseScale as NoiseScale
from jaxbp.collect._moments import SecondMoment as SecondMoment
from jaxbp.collect._moments import SignalToNoise as SignalToNoise
from jaxbp.collect._moments import Variance as Variance
from jaxbp.collect._moments import gradient_noise_scale as gradient_noise_scale
from jaxbp.collect._moments import second_moment as second_moment
from jaxbp.collect._moments import signal_to_noise as signal_to_noise
from jaxbp.collect._moments import variance as variance
from jaxbp.collect._norms import Clipped as Clipped
from jaxbp.collect._norms import SquaredNorm as SquaredNorm
from jaxbp.collect._norms import SquaredNorms as SquaredNorms
from jaxbp.collect._norms import clipped as clipped
from jaxbp.collect._norms import squared_norm as squared_norm
from jaxbp.collect._statistics import NetworkStatistics as NetworkStatistics
from jaxbp.collect._statistics import Statistics as Statistics
from jaxbp.collect._statistics import UnitStatistics as UnitStatistics
from jaxbp.collect._statistics import statistics as statistics
from jaxbp.collect._sweep import Collector as Collector
from jaxbp.collect._sweep import Pair as Pair
from jaxbp.collect._sweep import Sweep as Sweep
from jaxbp.collect._sweep import UnitSignals as UnitSignals
from jaxbp.collect._sweep import Weight as Weight
