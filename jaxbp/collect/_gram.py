"""The Gram matrix of the gradients of single examples: the empirical tangent kernel of the loss."""

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Array

from jaxbp.collect._sweep import Pair, Sweep, added, for_each


class Grams(NamedTuple):
    """Inner products ⟨g_i, g_j⟩ of what examples add to the gradient, over N examples (all batch axes as one).

    Attributes:
        units: Over the weights that lead into a unit: `(N, N)` by unit.
        total: Over all weights, `(N, N)`.
    """

    units: dict[str, Array]
    total: Array


@dataclass(frozen=True)
class Gram:
    """The matrix of inner products of per-example gradients: ⟨h_iᵀ δ_i, h_jᵀ δ_j⟩ = (h_i · h_j)(δ_i · δ_j).

    Returns:
        `Grams(units, total)`.

    Source: Jacot et al., Neural tangent kernel, 2018.
    """

    def __call__(self, sweep: Sweep) -> Grams:
        """Ask each connection for its matrix, and add them up."""

        def of_pair(pair: Pair) -> Array:
            each = pair.of_each_example()
            return each.connection.gram(each.weight, each.h, each.delta)

        units = {unit: added(of_unit.values()) for unit, of_unit in for_each(sweep, of_pair).items() if of_unit}
        return Grams(units, added(units.values()))


gram = Gram()
