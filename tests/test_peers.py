"""The collectors against BackPACK and Opacus on the same weights and data, in float64; needs the extra `peers`.

Ours, which the helpers below translate theirs to:
    what an example adds to the gradient, scale_i ∇L_i (1/N of its own in a mean): per_example_gradient, squared_norm,
        gram; and clipped is a sum of such, each with its own gradient ∇L_i clipped
    the mean over the examples' own gradients ∇L_i, so that N is not in it: second_moment, variance, kronecker
    the curvature of the value, hence of the mean: diagonal_ggn, kronecker_ggn
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import relative_error

import jaxbp
from jaxbp import collect
from jaxbp.collect import KroneckerFactors

NEEDED = "the extra `peers` is not installed: pip install --editable '.[peers]'"
torch = pytest.importorskip("torch", reason=NEEDED)
pytest.importorskip("opacus", reason=NEEDED)
extensions = pytest.importorskip("backpack.extensions", reason=NEEDED)
peers = pytest.importorskip("jaxbp.experiments.benchmarks.peers", reason=NEEDED)

pytestmark = [
    # what torch says to hooks such as BackPACK's and Opacus' where no gradient of the input is asked for
    pytest.mark.filterwarnings(
        "ignore:Full backward hook is firing when gradients are computed with respect to module outputs since no "
        "inputs require gradients:UserWarning"
    ),
]

TOLERANCE = 1e-10
N = 6
MAX_NORM = 3.5  # above some of the norms in each case, below others


@dataclass(frozen=True)
class Case:
    """One network in both libraries.

    Attributes:
        units: By how much torch's loss of an example is larger than ours.
    """

    name: str
    net: jaxbp.Network
    loss: jaxbp.Loss
    activation: type[torch.nn.Module]
    criterion: type[torch.nn.Module]
    units: float = 1.0

    @property
    def data(self) -> tuple[Any, Any, Any]:
        """params, x, y, as numpy's arrays."""
        rng = np.random.default_rng(0)
        params = {
            u: {s: rng.normal(size=shape) for s, shape in self.net.weight_shapes[u].items()} for u in self.net.units
        }
        y = rng.integers(0, 3, N) if self.criterion is torch.nn.CrossEntropyLoss else rng.normal(size=(N, 3))
        return params, rng.normal(size=(N, 5)), y

    def __repr__(self) -> str:
        return self.name


CASES = [
    Case(
        "relu, softmax, cross-entropy",
        jaxbp.layered([5, 4, 3], hidden=jaxbp.relu, output=jaxbp.softmax),
        jaxbp.cross_entropy,
        torch.nn.ReLU,
        torch.nn.CrossEntropyLoss,
    ),
    Case(
        "tanh, squared error",
        jaxbp.layered([5, 4, 3], hidden=jaxbp.tanh, output=jaxbp.linear),
        jaxbp.squared_error,
        torch.nn.Tanh,
        torch.nn.MSELoss,
        units=2 / 3,  # ours is ½‖o − y‖², torch's the mean of (o − y)² over the outputs, too
    ),
]
every_case = pytest.mark.parametrize("case", CASES, ids=repr)


COLLECTORS = {
    "gradient": collect.gradient,
    "per_example_gradient": collect.per_example_gradient,
    "squared_norm": collect.squared_norm,
    "gram": collect.gram,
    "clipped": collect.clipped(MAX_NORM),
    "second_moment": collect.second_moment,
    "variance": collect.variance,
    "kronecker": collect.kronecker,
    "diagonal_ggn": collect.diagonal_ggn,
    "kronecker_ggn": collect.kronecker_ggn,
}


def sweep(case: Case, reduction: str = "mean") -> dict[str, Any]:
    """What every collector makes of the case."""
    params, x, y = jax.device_put(case.data)

    @jax.jit
    def run(params: Any, x: Any, y: Any) -> dict[str, Any]:
        return jaxbp.backprop(case.net, case.loss, params, x, y, reduction=reduction, collect=COLLECTORS).collected

    found = run(params, x, y)
    # of these the rest is sums
    return found | {"squared_norm": found["squared_norm"].weights, "gram": found["gram"].total}


right = cache(sweep)


def in_torch(case: Case, criterion: torch.nn.Module | None = None) -> tuple[Any, ...]:
    """The arguments of a maker of peers."""
    params, x, y = case.data
    model = peers.sequential(case.net, params, case.activation)
    return model, criterion or case.criterion(), torch.tensor(x), torch.tensor(y)


def shaped(case: Case, of_parameters: list[torch.Tensor]) -> Any:
    """A tree like the parameters: torch's W is `(units, sources)`."""
    tree = peers.in_tree(case.net, [array.detach().numpy() for array in of_parameters])
    return {u: {s: g if s == "bias" else np.swapaxes(g, -1, -2) for s, g in of.items()} for u, of in tree.items()}


def backpack(case: Case, extension: Any) -> list[Any]:
    return peers.by_backpack(extension, *in_torch(case))()


# One translation for each. BackPACK differentiates the mean, so a gradient of its is ∂(L_i / N), in torch's units.


def gradient(case: Case) -> Any:
    return jax.tree.map(lambda g: g / case.units, shaped(case, peers.plain(*in_torch(case))()))


def per_example_gradient(case: Case) -> Any:
    """BatchGrad is what an example adds to the gradient, as ours is."""
    return jax.tree.map(lambda g: g / case.units, shaped(case, backpack(case, extensions.BatchGrad())))


def squared_norm(case: Case) -> Any:
    """BatchL2Grad is the squared norm of that, and so quadratic in the units."""
    norms = peers.in_tree(case.net, backpack(case, extensions.BatchL2Grad()))
    return jax.tree.map(lambda n: n.detach().numpy() / case.units**2, norms)


def gram(case: Case) -> Any:
    return peers.gram_by_backpack(*in_torch(case))().numpy() / case.units**2


def second_moment(case: Case) -> Any:
    """SumGradSquared is Σ (g_i / N)²; ours is the mean Σ g_i² / N, which is N times that."""
    summed = shaped(case, backpack(case, extensions.SumGradSquared()))
    return jax.tree.map(lambda s: N * s / case.units**2, summed)


def variance(case: Case) -> Any:
    """Variance is that of g_i / N over the examples; ours is that of g_i."""
    spread = shaped(case, backpack(case, extensions.Variance()))
    return jax.tree.map(lambda v: N**2 * v / case.units**2, spread)


def kronecker(case: Case) -> Any:
    """Of the data's targets BackPACK has no factors: E[h hᵀ] is KFLR's, and the bias' BatchGrad is δ_i / N."""
    each = per_example_gradient(case)
    factors = kronecker_ggn(case)
    return {
        u: {s: KroneckerFactors(f.source, N * each[u]["bias"].T @ each[u]["bias"]) for s, f in of_unit.items()}
        for u, of_unit in factors.items()
    }


def diagonal_ggn(case: Case) -> Any:
    """DiagGGNExact is of the mean, as ours is, and linear in the loss, hence in the units."""
    return jax.tree.map(lambda g: g / case.units, shaped(case, backpack(case, extensions.DiagGGNExact())))


def kronecker_ggn(case: Case, extension: Any = None) -> Any:
    """KFLR has [E[δ δᵀ], E[h hᵀ]] for a weight, and [E[δ δᵀ]] for a bias; its units are those of δ δᵀ, the loss's."""

    def translated(factors: list[torch.Tensor]) -> KroneckerFactors:
        unit, *source = (factor.detach().numpy() for factor in factors)
        return KroneckerFactors(source[0] if source else np.ones((1, 1)), unit / case.units)

    tree = peers.in_tree(case.net, backpack(case, extension or extensions.KFLR()))
    return {u: {s: translated(factors) for s, factors in of_unit.items()} for u, of_unit in tree.items()}


class PerExample(torch.nn.Module):
    """A criterion for Opacus, which wants one loss for each example, times a number: torch's MSELoss has no such."""

    def __init__(self, criterion: type[torch.nn.Module], times: float):
        super().__init__()
        self.each, self.times, self.reduction = criterion(reduction="none"), times, "mean"

    def forward(self, output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        losses = self.times * self.each(output, y).reshape(len(y), -1).mean(dim=1)
        return losses if self.reduction == "none" else losses.mean()


def clipped(case: Case, make: Any = peers.ghost_clipped) -> Any:
    """Opacus sums clipped g_i, and divides by N only in its step; where we have ‖g_i‖ it has ‖g_i‖ + 1e-6.

    That 1e-6 is nothing where the loss, and with it g_i and C, is 2²⁷ times ours.
    """
    times = 2.0**27
    found = make(*in_torch(case, PerExample(case.criterion, times / case.units)), max_norm=times * MAX_NORM)()
    return jax.tree.map(lambda g: g / (N * times), shaped(case, found))


THEIRS = {
    translation.__name__: translation
    for translation in (
        gradient,
        per_example_gradient,
        squared_norm,
        gram,
        clipped,
        second_moment,
        variance,
        kronecker,
        diagonal_ggn,
        kronecker_ggn,
    )
}
ADDED = ("gradient", "per_example_gradient", "squared_norm", "gram", "clipped", "diagonal_ggn")
OWN = ("second_moment", "variance", "kronecker", "kronecker_ggn")


@every_case
@pytest.mark.parametrize("name", THEIRS)
def test_each_collector_is_its_peer(case, name):
    assert relative_error(right(case)[name], THEIRS[name](case)) <= TOLERANCE


@every_case
def test_clipping_is_that_of_gradients_of_each_example(case):
    """Opacus' classic way, and that the bound is one: some examples are clipped, others are not."""
    assert relative_error(right(case)["clipped"], clipped(case, peers.per_sample_clipped)) <= TOLERANCE
    own = N * np.sqrt(sum(jax.tree.leaves(right(case)["squared_norm"])))
    assert 0 < np.sum(own > MAX_NORM) < N


@every_case
def test_sampled_factors_come_close_to_the_exact_ones(case):
    """KFAC samples what KFLR has exactly: with M samples of each example it is away by a few 1/√(M N)."""
    samples = 4000
    torch.manual_seed(0)
    sampled = kronecker_ggn(case, extensions.KFAC(mc_samples=samples))
    error = relative_error(right(case)["kronecker_ggn"], sampled)
    assert 0 < error < 6 / np.sqrt(samples * N)


@every_case
def test_a_lost_division_by_n_is_caught_where_n_counts(case):
    """What examples add to a sum is N times what they add to a mean; their own gradients are the same."""
    assert {*ADDED, *OWN} == {*THEIRS}
    lost = sweep(case, "sum")
    for name in ADDED:
        assert relative_error(lost[name], THEIRS[name](case)) > 1, name
    for name in OWN:
        assert relative_error(lost[name], THEIRS[name](case)) <= TOLERANCE, name


def test_a_wrong_signal_is_caught_by_every_peer():
    """A slope of tanh that is off by a thousandth."""
    case, slope = CASES[1], jaxbp.tanh.derivative
    off = jaxbp.elementwise(jnp.tanh, lambda a, h: 1.001 * slope(a, h), name="tanh")
    wrong = sweep(replace(case, net=jaxbp.layered([5, 4, 3], hidden=off, output=jaxbp.linear)))
    for name, theirs in THEIRS.items():
        assert relative_error(wrong[name], theirs(case)) > 1e-5, name
