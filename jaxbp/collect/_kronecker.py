"""The factors of the Kronecker approximation to the Fisher matrix of each weight."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._connections import Bias, Dense
from jaxbp.collect._pairs import Pair, Pairs, for_each


class KroneckerFactors(NamedTuple):
    """E[h hᵀ] and E[δ δᵀ] of one weight, whose `jnp.kron(source, unit)` stands for E[g gᵀ].

    g is an example's own gradient ∂L_i/∂W in the order of `W.reshape(-1)`, δ = ∂L_i/∂a its own error signal, and E
    the mean over the examples by their weights. The product is exact where h and δ are independent, and for a
    single example. With the targets of the data this is the empirical Fisher matrix.

    Attributes:
        source: E[h hᵀ], `(s, s)`; `(1, 1)` and 1 for a bias.
        unit: E[δ δᵀ], `(u, u)`.
    """

    source: Array
    unit: Array


@dataclass(frozen=True)
class Kronecker:
    """The Kronecker factors of every weight.

    Returns:
        A tree like the parameters, of `KroneckerFactors(source, unit)`.

    Raises:
        TypeError: A kind of connection that there is no rule for.
        ValueError: A unit with several axes, whose rows share one weight.

    Source: Martens and Grosse, Optimizing neural networks with Kronecker-factored approximate curvature, 2015.
    """

    def __call__(self, pairs: Pairs) -> dict[str, dict[str, KroneckerFactors]]:
        """The second moments of h and of δ."""
        return for_each(pairs, _factors)


def _factors(pair: Pair) -> KroneckerFactors:
    if not isinstance(pair.connection, Dense | Bias):
        raise TypeError(f"kronecker has no rule for {type(pair.connection).__name__} connections, only for Dense")
    each = pair.of_each_example()
    if each.delta.ndim != 2:
        raise ValueError(
            f"kronecker got a unit of shape {each.delta.shape[1:]}: the rows of one example share a weight, and their "
            "cross terms are no Kronecker product"
        )
    weighted = each.delta * each.over_examples(each.own_weight())
    unit = weighted.T @ weighted
    if each.h is None:
        return KroneckerFactors(jnp.ones((1, 1), unit.dtype), unit)
    p = each.over_examples(each.scale / jnp.sum(each.scale)).astype(each.h.dtype)
    return KroneckerFactors((p * each.h).T @ each.h, unit)


kronecker = Kronecker()
