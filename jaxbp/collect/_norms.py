"""Norms of the gradients of single examples, and the sum of gradients clipped by them."""

from dataclasses import dataclass, field
from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._checks import check_number, check_random_key, is_known
from jaxbp.collect._gradient import Tree
from jaxbp.collect._range import divisor
from jaxbp.collect._sweep import Sweep, added, by_unit, for_each, hashed, total
from jaxbp.collect._weight import Weight


class SquaredNorms(NamedTuple):
    """Squared norms ‖g_i‖² of what each example adds to the gradient.

    Attributes:
        weights: For each weight alone: a tree like the parameters, of arrays `(*batch,)`, `(depth, *batch)` in stacks.
        units: For all weights that lead into a unit, shared ones too: arrays of these shapes by unit.
        total: For the whole gradient, `(*batch,)`.
    """

    weights: Tree
    units: dict[str, Array]
    total: Array


@dataclass(frozen=True)
class SquaredNorm:
    """The `SquaredNorms` of each example's gradient: ‖h_iᵀ δ_i‖² = ‖h_i‖² ‖δ_i‖², which forms no gradient.

    Where rows make this more work than the gradients of the examples, those are formed, and the gradient beside it is
    their sum.

    Source: Goodfellow, Efficient per-example gradient computations, 2015; Gray et al., Normalization layer per-example
    gradients are sufficient to predict gradient noise scale in transformers, 2024, for norms beside the gradient.
    """

    forms_each = True

    def __call__(self, sweep: Sweep) -> SquaredNorms:
        def norms(weight: Weight) -> Array:
            squares = weight.squared_norms()
            return jnp.reshape(squares, (*squares.shape[:-1], *sweep.scale.shape))

        weights = for_each(sweep, norms)
        return SquaredNorms(weights, by_unit(sweep, weights), total(sweep, weights))


@dataclass(frozen=True)
class Clipped:
    max_norm: float
    noise_multiplier: float = 0.0
    key: Array | None = field(default=None, repr=False)
    forms_each = True
    __hash__ = hashed

    def __post_init__(self):
        check_number(self.max_norm, "max_norm", above=0)
        check_number(self.noise_multiplier, "noise_multiplier", least=0, finite=True)
        if self.key is not None:
            check_random_key(self.key)
        elif not is_known(self.noise_multiplier) or self.noise_multiplier:
            raise ValueError("a noise_multiplier needs a key: pass key=jax.random.key(…), a fresh one for every step")

    def __call__(self, sweep: Sweep) -> Tree:
        bounds = _root_of_squares(for_each(sweep, Weight.norm_bounds))
        # ‖g_i‖ = |scale_i| ‖∇L_i‖; NaN is never below a limit, and a norm that is not finite gives a factor of 0
        limits = self.max_norm * jnp.abs(jnp.reshape(sweep.scale, -1))
        factors = jnp.where(bounds <= limits, 1, limits / bounds)
        factors = jnp.reshape(jnp.where(jnp.isfinite(bounds), factors, 0), sweep.scale.shape)
        gradients = for_each(sweep, lambda weight: weight.gradient(factors))
        if self.key is None or (is_known(self.noise_multiplier) and not self.noise_multiplier):
            return gradients
        return _with_noise(gradients, self.key, self.noise_multiplier * self.max_norm * jnp.max(jnp.abs(sweep.scale)))


def _root_of_squares(norms: Tree) -> Array:
    """The norm of the whole from the norms of its parts, over their largest, so that no square overflows."""
    parts = [jnp.reshape(norm, (-1, norm.shape[-1])) for norm in jax.tree.leaves(norms)]
    largest = divisor(reduce(jnp.maximum, (jnp.max(part, axis=0) for part in parts)))
    return largest * jnp.sqrt(added(jnp.sum((part / largest[None]) ** 2, axis=0) for part in parts))


def _with_noise(tree: Tree, key: Array, deviation: Array) -> Tree:
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    noisy = [
        leaf + (deviation * jax.random.normal(k, leaf.shape, deviation.dtype)).astype(leaf.dtype)
        for leaf, k in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(structure, noisy)


squared_norm = SquaredNorm()


def clipped(max_norm: float, *, noise_multiplier: float = 0.0, key: Array | None = None) -> Clipped:
    """The gradient with each example's own gradient clipped: Σ_i scale_i min(1, C / ‖∇L_i‖) ∇L_i.

    scale_i is 1/N in a mean. One backward recursion is enough: δ_i is weighted, and contracted again. No example adds
    more than scale_i C, whatever its values are, up to the rounding of the result: norms are in float32 at least, of
    numbers scaled so that no square overflows, and where terms cancel they count what rounding may have hidden. An
    example whose gradient is not finite adds nothing; its loss still shows in the value.

    With a noise multiplier σ and a key, normal noise of standard deviation σ C max_i |scale_i| is added, which makes it
    the gradient of DP-SGD. Do not use weights to say who takes part in a step: the noise would depend on the data, and
    vanish if nobody takes part. Give empty places a target without a gradient, as `jaxbp.experiments.tools.privacy`
    does.

    Args:
        max_norm: C, the largest norm of an example's own gradient ∇L_i, over all weights.
        noise_multiplier: σ; 0 for no noise.
        key: A key for the noise, fresh in every step.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 2, 1], output=jaxbp.linear)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> x, y = jnp.ones((4, 3)), jnp.full((4, 1), 100.0)
        >>> both = {"grads": jaxbp.collect.gradient, "clipped": jaxbp.collect.clipped(1.0)}
        >>> sweep = jax.jit(lambda params: jaxbp.backprop(net, jaxbp.squared_error, params, x, y, collect=both))
        >>> found = sweep(params).collected
        >>> norm = jax.jit(lambda tree: jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree))))
        >>> bool(norm(found["grads"]) > 100), round(float(norm(found["clipped"])), 3)
        (True, 1.0)

    Source: Abadi et al., Deep learning with differential privacy, 2016; Li et al., 2022, for the reweighting.
    """
    return Clipped(max_norm, noise_multiplier, key)
