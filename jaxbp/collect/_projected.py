"""The gradients of single examples, projected from both sides: small enough to keep for a whole training set."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._checks import check_by, check_floating, check_keys, check_kind
from jaxbp._names import under
from jaxbp.collect._sweep import Sweep, hashed
from jaxbp.collect._weight import Weight
from jaxbp.connections import Shape

MADE_BY = "unit as jaxbp.curvature.random_projections makes it"


class Projection(NamedTuple):
    """The matrices P and Q on both sides of the gradient of one weight, Pᵀ g Q.

    The gradient is a matrix here, `W.reshape(-1, W.shape[-1])` where a convolution has more axes, and of one row where
    a bias has but one. In a stack whose layers have weights of their own, they are axes before these.

    Attributes:
        source: P, `(s, k)`.
        unit: Q, `(u, l)`.
    """

    source: Array
    unit: Array


@dataclass(frozen=True)
class Projected:
    projections: Any = field(repr=False)
    __hash__ = hashed

    def __post_init__(self):
        check_by(self.projections, "projections", MADE_BY)

    def __call__(self, sweep: Sweep) -> Array:
        parts = _parts(sweep.weights, self.projections)
        if not parts:
            raise ValueError("the network has no weights, so no example has a gradient")
        return jnp.reshape(jnp.concatenate(parts, axis=1), (*sweep.scale.shape, -1))


def projected(projections: Any) -> Projected:
    """What each example adds to the gradient, projected from both sides: Pᵀ g_i Q of all weights, `(*batch, features)`.

    Of two such rows the inner product is that of the gradients in the metric of P Pᵀ and Q Qᵀ, Σ ⟨P Pᵀ g_i Q Qᵀ, g_j⟩:
    the influence of one example on another. No gradient is formed, because Pᵀ (h_iᵀ δ_i) Q = (h_i P)ᵀ (δ_i Q); where a
    convolution or a mask makes a weight, it is. The weights are in the order of their sorted names, as JAX flattens a
    tree, each in the order of `reshape(-1)`.

    Args:
        projections: A tree like the parameters with a `Projection` for each weight, as `random_projections` and
            `whitening` in `jaxbp.curvature` make it.

    Example:
        >>> import jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([2, 1], output=jaxbp.linear, bias=False)
        >>> W, ones = {"o": {"x": jnp.array([[2.0], [0.0]])}}, jnp.ones((2, 1))
        >>> wanted = {"rows": jaxbp.collect.projected({"o": {"x": jaxbp.collect.Projection(ones, jnp.ones((1, 1)))}})}
        >>> x, y = jnp.array([[1.0, 1.0], [3.0, 0.0]]), jnp.zeros((2, 1))  # ∇L_i = 2 x_i1 (x_i1, x_i2), and a mean
        >>> jaxbp.backprop(net, jaxbp.squared_error, W, x, y, collect=wanted).collected["rows"].tolist()
        [[2.0], [9.0]]

    Source: Choe et al., What is your data worth to GPT? LLM-scale data valuation with influence functions, 2024.
    """
    return Projected(projections)


def check_projection(projection: Any, shape: Shape, layers: int, place: str) -> None:
    """Refuse what does not project a weight of this shape, whose first axes may be layers."""
    check_kind(projection, Projection, f"the projection of {place!r}", "a jaxbp.collect.Projection(P, Q)")
    rows = math.prod(shape[layers:-1])
    for side, matrix, size in (("source", projection.source, rows), ("unit", projection.unit, shape[-1])):
        check_floating(matrix, f"the {side} of the projection of {place!r}")
        if matrix.ndim != layers + 2 or matrix.shape[:-1] != (*shape[:layers], size):
            expected = ", ".join(map(str, (*shape[:layers], size, "any")))
            raise ValueError(
                f"the {side} of the projection of {place!r} has shape {matrix.shape}, expected ({expected}) for a "
                f"weight of shape {shape}"
            )


def _parts(weights: Mapping[str, Any], projections: Any, group: str = "") -> list[Array]:
    """The part of each weight in the rows of all examples, `(N, features)`."""
    check_by(projections, f"projections[{group!r}]" if group else "projections", "source" if group else MADE_BY)
    of = (f"weights of {group!r} from", "the network has them from") if group else ("the units", "the network has")
    check_keys(projections, weights, f"projections holds {of[0]}", of[1])
    parts: list[Array] = []
    for name in sorted(weights):
        weight, projection = weights[name], projections[name]
        place = under(group, name) if group else name
        if not isinstance(weight, Weight):
            parts += _parts(weight, projection, place)
            continue
        check_projection(projection, weight.value.shape, weight.layers, place)
        P, Q = map(jnp.asarray, projection)
        each = jnp.moveaxis(weight.projected(P, Q), weight.layers, 0)  # the examples before the layers
        parts.append(jnp.reshape(each, (each.shape[0], -1)))
    return parts
