"""The Gram matrix of the gradients of single examples: the empirical tangent kernel of the loss."""

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Array

from jaxbp.collect._sweep import Sweep, by_unit, for_each, total
from jaxbp.collect._weight import Weight


class Grams(NamedTuple):
    """Inner products ⟨g_i, g_j⟩ of what examples add to the gradient, with all batch axes as one of N examples.

    Attributes:
        units: Over the weights that lead into each unit, shared ones too: `(N, N)` by unit, `(depth, N, N)` in stacks.
        total: Over all weights, `(N, N)`.
    """

    units: dict[str, Array]
    total: Array


@dataclass(frozen=True)
class Gram:
    """The inner products of per-example gradients, as `Grams`: ⟨h_iᵀ δ_i, h_jᵀ δ_j⟩ = (h_i · h_j)(δ_i · δ_j).

    Source: Jacot et al., Neural tangent kernel, 2018.
    """

    def __call__(self, sweep: Sweep) -> Grams:
        grams = for_each(sweep, Weight.gram)
        return Grams(by_unit(sweep, grams), total(sweep, grams))


gram = Gram()
