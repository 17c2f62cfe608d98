"""The factors of the Kronecker approximation to the curvature of each weight."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._connections import Bias, Dense
from jaxbp.collect._curvature import Columns
from jaxbp.collect._sweep import Pair, Sweep


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
    """The Kronecker factors of every weight, for the empirical Fisher or the generalised Gauss-Newton matrix.

    Attributes:
        columns: None for the empirical Fisher matrix, E[g gᵀ] of the examples' own gradients, whose δ is that of the
            data's targets. For the Gauss-Newton matrix of the mean loss, which columns of the loss's Hessian to
            pull back: δ δᵀ is then Σ_k δ_k δ_kᵀ.

    Returns:
        A tree like the parameters, of `KroneckerFactors(source, unit)`.

    Raises:
        TypeError: A kind of connection that there is no rule for, or a loss that states no root of its Hessian.
        ValueError: A unit with several axes, whose rows share one weight.

    Source: Martens and Grosse, Optimizing neural networks with Kronecker-factored approximate curvature, 2015;
    Botev et al., Practical Gauss-Newton optimisation for deep learning, 2017, for all columns.
    """

    columns: Columns | None = None

    def __call__(self, sweep: Sweep) -> dict[str, dict[str, KroneckerFactors]]:
        """The second moments of h and of δ."""
        columns = None if self.columns is None else self.columns(sweep)
        factors: dict[str, dict[str, KroneckerFactors]] = {}
        # weights of one unit share its factor, and weights from one source that of the source
        units: dict[str, Array] = {}
        sources: dict[str, Array] = {}
        for u, of_unit in sweep.pairs.items():
            factors[u] = {}
            for s, pair in of_unit.items():
                each = _checked(pair).of_each_example()
                if u not in units:
                    units[u] = _unit_factor(each, None if columns is None else columns[u])
                if each.h is not None and s not in sources:
                    p = each.over_examples(each.scale / jnp.sum(each.scale)).astype(each.h.dtype)
                    sources[s] = (p * each.h).T @ each.h
                source = jnp.ones((1, 1), units[u].dtype) if each.h is None else sources[s]
                factors[u][s] = KroneckerFactors(source, units[u])
        return factors


def _checked(pair: Pair) -> Pair:
    if not isinstance(pair.connection, Dense | Bias):
        raise TypeError(f"kronecker has no rule for {type(pair.connection).__name__} connections, only for Dense")
    shape = pair.delta.shape[pair.scale.ndim :]
    if len(shape) != 1:
        raise ValueError(
            f"kronecker got a unit of shape {shape}: the rows of one example share a weight, and their cross terms are "
            "no Kronecker product"
        )
    return pair


def _unit_factor(each: Pair, columns: Array | None) -> Array:
    if columns is None:
        weighted = (each.delta * each.over_examples(each.own_weight()))[None]
    else:
        weighted = columns * each.over_examples(jnp.sqrt(each.scale / jnp.sum(each.scale)))[None]
    return jnp.einsum("knu,knv->uv", weighted, weighted)


kronecker = Kronecker()
kronecker_ggn = Kronecker(Columns())


def sampled_kronecker_ggn(key: Array, samples: int = 1) -> Kronecker:
    """An unbiased estimate of `kronecker_ggn` that pulls back a few random columns in place of all: K-FAC.

    Args:
        key: For the signs of the columns; a fresh one for every step.
        samples: How many columns; the cost grows, and the variance falls, in proportion.

    Returns:
        A collector.

    Raises:
        ValueError: Fewer than one sample.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 2], output=jaxbp.softmax)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> factors = jaxbp.backprop(
        ...     net, jaxbp.cross_entropy, params, jnp.ones((4, 3)), jnp.array([0, 1, 1, 0]),
        ...     collect={"curvature": jaxbp.collect.sampled_kronecker_ggn(jax.random.key(1))},
        ... ).collected["curvature"]
        >>> factors["o"]["x"].source.shape, factors["o"]["x"].unit.shape
        ((3, 3), (2, 2))
    """
    return Kronecker(Columns(samples, key))
