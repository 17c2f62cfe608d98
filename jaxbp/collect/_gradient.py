"""The gradient, and the gradients of single examples."""

from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._checks import check_keys, check_tree
from jaxbp.collect._sweep import Sweep, Weight, added, for_each, hashed

Tree = dict[str, dict[str, Array]]


@dataclass(frozen=True)
class Gradient:
    """The gradient of the value, with the shapes and dtypes of the parameters: ∂L/∂W_su = h_sᵀ δ_u,  ∂L/∂b_u = 1ᵀ δ_u.

    Source: the chapter, ∂L/∂w(h_{r−1}, h_r) = δ(h_r, o) · h_{r−1}.
    """

    def __call__(self, sweep: Sweep) -> Tree:
        return for_each(sweep, Weight.gradient_of_each if sweep.forms_each else Weight.gradient)


@dataclass(frozen=True)
class PerExampleGradient:
    """What each example adds to the gradient: g_i = scale_i ∂L_i/∂W, with Σ_i g_i = ∂L/∂W.

    The tree has arrays `(*batch, *shape)`, so it is as large as the batch times the parameters. The other collectors
    never form it where a matrix alone joins two units.
    """

    def __call__(self, sweep: Sweep) -> Tree:
        return for_each(sweep, lambda w: jnp.reshape(w.gradients(), (*sweep.scale.shape, *w.value.shape)))


@dataclass(frozen=True)
class PerExampleDot:
    other: Any = field(repr=False)
    __hash__ = hashed

    def __post_init__(self):
        check_tree(self.other, "other")

    def __call__(self, sweep: Sweep) -> Array:
        check_keys(self.other, sweep.weights, "per_example_dot got a tree that holds the units", "the network has")
        products: list[Array] = []
        for unit, group in sweep.weights.items():
            check_keys(
                self.other[unit], group, f"per_example_dot got weights of {unit!r} from", "the network has them from"
            )
            products += [_dot(weight, self.other[unit][source]) for source, weight in group.items()]
        return jnp.reshape(added(products), sweep.scale.shape)


def _dot(weight: Weight, V: Array) -> Array:
    if V.shape != weight.value.shape:
        raise ValueError(f"per_example_dot got an array of shape {V.shape} for a weight of shape {weight.value.shape}")
    return weight.dot(V)


gradient = Gradient()
per_example_gradient = PerExampleGradient()


def per_example_dot(other: Any) -> PerExampleDot:
    """The inner product ⟨g_i, V⟩ of what each example adds to the gradient with a tree V, `(*batch,)`.

    V is a tree like the parameters. With a gradient on other data, the product is the first-order influence of the
    example on them. One pass is enough, because ⟨h_iᵀ δ_i, V⟩ = (h_i V) · δ_i.

    Example:
        >>> import jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([1, 1], output=jaxbp.linear, bias=False)
        >>> W, V = {"o": {"x": jnp.array([[2.0]])}}, {"o": {"x": jnp.array([[10.0]])}}
        >>> wanted = {"dot": jaxbp.collect.per_example_dot(V)}
        >>> x, y = jnp.array([[1.0], [3.0]]), jnp.zeros((2, 1))  # ∇L_i = 2 x_i², and a mean of two
        >>> jaxbp.backprop(net, jaxbp.squared_error, W, x, y, collect=wanted).collected["dot"].tolist()
        [10.0, 90.0]
    """
    return PerExampleDot(other)
