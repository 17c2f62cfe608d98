"""The product of units: gates."""

from dataclasses import dataclass
from functools import reduce
from operator import mul

from jaxtyping import Array

from jaxbp._function_unit import FunctionUnit, function_unit
from jaxbp.connections import Shape


@dataclass(frozen=True)
class Product:
    """The function h_s ⊙ h_t ⊙ …."""

    def __call__(self, *inputs: Array) -> Array:
        """The product of all."""
        return reduce(mul, inputs)


@dataclass(frozen=True)
class ProductPullback:
    """Its pull-back, Δ_s = δ ⊙ the product of the others, which is not divided out: it may be 0."""

    def __call__(self, inputs: tuple[Array, ...], a: Array, delta: Array) -> tuple[Array, ...]:
        """The signal of each source."""
        return tuple(reduce(mul, inputs[:i] + inputs[i + 1 :], delta) for i in range(len(inputs)))


def product(*sources: str, width: int | Shape) -> FunctionUnit:
    """A unit that multiplies what it reads, element by element: a gate and what it lets through.

    a = h_s ⊙ h_t ⊙ …,  Δ_s = δ ⊙ h_t ⊙ …

    Args:
        sources: The units and inputs, all of the shape of this one.
        width: The number of elements, or the shape.

    Example:
        A gated layer, SwiGLU:

        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.Network(
        ...     inputs={"x": 3},
        ...     units={
        ...         "gate": jaxbp.Unit(8, jaxbp.silu, {"x": jaxbp.Dense()}, bias=False),
        ...         "up": jaxbp.Unit(8, jaxbp.linear, {"x": jaxbp.Dense()}, bias=False),
        ...         "gated": jaxbp.product("gate", "up", width=8),
        ...         "o": jaxbp.Unit(3, jaxbp.linear, {"gated": jaxbp.Dense()}, bias=False),
        ...     },
        ... )
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> x, y = jnp.ones((5, 3)), jnp.ones((5, 3))
        >>> back = jax.jit(jaxbp.backprop, static_argnums=(0, 1))(net, jaxbp.squared_error, params, x, y)
        >>> bool(jnp.allclose(back.Delta["gate"], back.delta["gated"] * back.trace.h["up"]))
        True

    Source: Shazeer, GLU variants improve transformer, 2020.
    """
    return function_unit(Product(), sources, width, pullback=ProductPullback())
