"""The gradient, and the gradients of single examples."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._checks import check_keys, check_tree
from jaxbp._names import under
from jaxbp.collect._sweep import Sweep, for_each, hashed, total
from jaxbp.collect._weight import Weight

Tree = dict[str, Any]
"""Arrays in a tree like the parameters."""


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

    The tree has arrays `(*layers, *batch, *shape)`, so it is as large as the batch times the parameters. Others
    never form it where a matrix alone joins two units.
    """

    def __call__(self, sweep: Sweep) -> Tree:
        def each(weight: Weight) -> Array:
            layers, shape = weight.value.shape[: weight.layers], weight.value.shape[weight.layers :]
            return jnp.reshape(weight.gradients(), (*layers, *sweep.scale.shape, *shape))

        return for_each(sweep, each)


@dataclass(frozen=True)
class PerExampleDot:
    other: Any = field(repr=False)
    __hash__ = hashed

    def __post_init__(self):
        check_tree(self.other, "other")

    def __call__(self, sweep: Sweep) -> Array:
        products = _dots(sweep.weights, self.other)
        return jnp.reshape(total(sweep, products), sweep.scale.shape)


def _dots(weights: Mapping[str, Any], other: Mapping[str, Any], group: str = "") -> Tree:
    of = (
        (f"weights of {group!r} from", "the network has them from")
        if group
        else ("a tree that holds the units", "the network has")
    )
    check_keys(other, weights, f"per_example_dot got {of[0]}", of[1])
    products: Tree = {}
    for name, weight in weights.items():
        if not isinstance(weight, Weight):
            products[name] = _dots(weight, other[name], under(group, name) if group else name)
        elif other[name].shape != weight.value.shape:
            shapes = f"an array of shape {other[name].shape} for a weight of shape {weight.value.shape}"
            raise ValueError(f"per_example_dot got {shapes}")
        else:
            products[name] = weight.dot(other[name])
    return products


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
