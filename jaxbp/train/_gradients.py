"""Gradients made of others: of a large batch from that of its parts, and in another precision than the parameters'."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._cache import bounded_cache
from jaxbp._checks import check_integer, floating_dtype
from jaxbp._objective import Reduction, check_reduction
from jaxbp.train._arguments import check_functions
from jaxbp.train._steps import Gradient


def accumulated(gradient: Gradient, parts: int, *, reduction: Reduction = "mean") -> Gradient:
    """The gradient of a batch from those of its parts, one after the other, in the memory that one part takes.

    g = Σ_k n_k g_k / Σ_k n_k,  n_k what part k weighs; for sums g = Σ_k g_k

    The parts are examples k, k + parts, k + 2 parts, …, so that on a mesh each device keeps its own. Each part draws
    noise of its own. Equal arguments give the same function.

    Args:
        gradient: `(params, x, y, …) -> (value, grads)` of a part.
        parts: Their number, which divides each batch.
        reduction: That of the gradient.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 2, 1], output=jaxbp.linear)
        >>> whole = jaxbp.value_and_grad(net, jaxbp.squared_error)
        >>> params, x = jaxbp.init_params(jax.random.key(0), net), jnp.arange(24.0).reshape(8, 3)
        >>> value, grads = jax.jit(jaxbp.train.accumulated(whole, 4))(params, x, jnp.ones((8, 1)))
        >>> bool(jnp.allclose(value, jax.jit(whole)(params, x, jnp.ones((8, 1)))[0]))
        True
    """
    check_functions(gradient)
    check_integer(parts, "parts", 1)
    check_reduction(reduction)
    return _accumulated(gradient, parts, reduction)


@bounded_cache
def _accumulated(gradient: Gradient, parts: int, reduction: Reduction) -> Gradient:
    def of_all(params: Any, x: Any, y: Any, weights: Any = None, key: Array | None = None) -> tuple[Array, Any]:
        examples = y.shape[0]
        if examples % parts:
            raise ValueError(f"a batch of {examples} cannot be divided into {parts} parts of equal size")
        keys = None if key is None else jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(parts))
        split = jax.tree.map(lambda v: jnp.moveaxis(v.reshape(-1, parts, *v.shape[1:]), 1, 0), (x, y, weights))

        def of_part(part: Any) -> Any:
            (x, y, weights), key = part
            extra = {name: of for name, of in (("weights", weights), ("key", key)) if of is not None}
            found = gradient(params, x, y, **extra)
            if reduction == "sum" or weights is None:
                return found
            weight = jnp.sum(weights)
            # the mean of a part that weighs nothing is not a number
            return jax.tree.map(lambda v: jnp.where(weight == 0, 0, weight.astype(v.dtype) * v), found)

        def add(total: Any, part: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, of_part(part)), None

        shapes = jax.eval_shape(of_part, jax.tree.map(lambda v: v[0], (split, keys)))
        total, _ = jax.lax.scan(add, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes), (split, keys))
        if reduction == "sum":
            return total
        weight = parts if weights is None else jnp.sum(weights)
        return jax.tree.map(lambda v: v / jnp.asarray(weight, v.dtype), total)

    return of_all


def computed_in(gradient: Gradient, dtype: Any) -> Gradient:
    """A gradient that is computed in one precision, of parameters that are kept in another: masters.

    Parameters, inputs and targets of floats are converted on the way in, and the gradient to the parameters' dtypes on
    the way out; the value has that of the computation. Equal arguments give the same function.

    Args:
        gradient: `(params, x, y, …) -> (value, grads)`.
        dtype: Of the computation, such as `jnp.bfloat16`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 2, 1], output=jaxbp.linear)
        >>> params = jaxbp.init_params(jax.random.key(0), net, jnp.float32)
        >>> half = jaxbp.train.computed_in(jaxbp.value_and_grad(net, jaxbp.squared_error), jnp.bfloat16)
        >>> value, grads = jax.jit(half)(params, jnp.ones((5, 3), jnp.float32), jnp.ones((5, 1), jnp.float32))
        >>> value.dtype.name, grads["h1"]["x"].dtype.name
        ('bfloat16', 'float32')

    Source: Micikevicius et al., Mixed precision training, 2018.
    """
    check_functions(gradient)
    return _computed_in(gradient, floating_dtype(dtype))


@bounded_cache
def _computed_in(gradient: Gradient, dtype: Any) -> Gradient:
    def converted(tree: Any) -> Any:
        return jax.tree.map(lambda v: v.astype(dtype) if jnp.issubdtype(v.dtype, jnp.floating) else v, tree)

    def of_masters(params: Any, x: Any, y: Any, **extra: Any) -> tuple[Array, Any]:
        value, grads = gradient(*converted((params, x, y)), **extra)
        return value, jax.tree.map(lambda g, W: g.astype(W.dtype), grads, params)

    return of_masters
