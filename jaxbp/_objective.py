"""The scalar that backpropagation differentiates: the loss of each example, and how a batch of them is reduced."""

import math
from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._cache import bounded_cache
from jaxbp._checks import check_choice, check_floating, is_known
from jaxbp._dropout import check_key
from jaxbp._forward import Trace, batch_shape, forward
from jaxbp._network import Network, check_network
from jaxbp._parameters import Params
from jaxbp.losses import Head, Loss
from jaxbp.losses._named import check_loss

Reduction = Literal["mean", "sum"]


def objective(net: Network, loss: Loss, reduction: Reduction = "mean") -> Callable[..., Array]:
    """The value of the loss over a batch, as a plain JAX function of the parameters.

    L = Σ_i w_i L_i / Σ_i w_i,  or Σ_i w_i L_i with `reduction="sum"`,  with w_i = 1 unless weights are given

    It uses none of our backward rules, so `jax.grad` of it is an independent opinion on `backprop`.

    Returns:
        `(params, x, y, weights=None, *, key=None, offsets=None) -> value`; the arguments are those of `backprop`, and
        `offsets` those of `forward`. Equal networks, losses and reductions give the same function, so `jit` compiles it
        once.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 2, 1], output=jaxbp.linear)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> value = jaxbp.objective(net, jaxbp.squared_error)
        >>> grads = jax.grad(value)(params, jnp.ones((5, 3)), jnp.ones((5, 1)))
        >>> grads["o"]["h1"].shape
        (2, 1)
    """
    check_objective(net, loss, reduction)
    return _objective(net, loss, reduction)


@bounded_cache
def _objective(net: Network, loss: Loss, reduction: Reduction) -> Callable[..., Array]:
    def value(
        params: Params, x: Any, y: Any, weights: Any = None, *, key: Array | None = None, offsets: Trace | None = None
    ) -> Array:
        check_key(net, key)
        trace = forward(net, params, x, offsets=offsets, key=key)
        y = loss.targets(trace.h[net.output], y)
        return total(example_losses(net, loss, trace, y), example_scale(net, trace, weights, reduction))

    return value


def head(net: Network, loss: Loss) -> Head:
    """The loss and the activation of the output as one."""
    return loss.at(net.units[net.output].activation)


def example_losses(net: Network, loss: Loss, trace: Trace, y: Array) -> Array:
    """L_i for each example, of the batch shape, with y as `Loss.targets` made it; rows of an output add up."""
    values = head(net, loss).value(trace.a[net.output], trace.h[net.output], y)
    return jnp.sum(values, axis=tuple(range(len(batch_shape(net, trace)), values.ndim)))


def example_scale(net: Network, trace: Trace, weights: Any, reduction: Reduction) -> Array:
    """∂L/∂L_i for each example: 1/N or 1 without weights, else w_i / Σ w_i or w_i."""
    check_reduction(reduction)
    batch = batch_shape(net, trace)
    dtype = jnp.promote_types(trace.h[net.output].dtype, jnp.float32)  # 1/N itself is rounded in bfloat16
    if weights is None:
        return jnp.full(batch, 1 / math.prod(batch) if reduction == "mean" else 1, dtype)
    check_floating(weights, "weights")
    if weights.shape != batch:
        raise ValueError(f"weights has shape {weights.shape}, expected the batch shape {batch}: one for each example")
    weights = jnp.asarray(weights, dtype)
    if reduction == "sum":
        return weights
    total = jnp.sum(weights)
    if is_known(total) and not (total != 0 and jnp.isfinite(total)):
        raise ValueError(f"weights sum to {total}, so they have no mean; use reduction='sum', or other weights")
    return weights / jnp.where(total == 0, jnp.nan, total)


def weighed(scale: Array, signal: Array, like: Array) -> Array:
    """scale_i times the signal of each example, in the dtype of another array."""
    return (jnp.expand_dims(scale, tuple(range(scale.ndim, signal.ndim))) * signal).astype(like.dtype)


def total(losses: Array, scale: Array) -> Array:
    """Σ_i scale_i L_i, accumulated in at least float32, in the dtype of the losses."""
    return jnp.sum(scale * losses).astype(losses.dtype)


def check_objective(net: Any, loss: Any, reduction: Any = "mean") -> None:
    """Refuse what no value can be made of: no network, no loss, or no `Reduction`."""
    check_network(net)
    check_loss(loss)
    check_reduction(reduction)


def check_reduction(reduction: Any) -> None:
    """Refuse what is no `Reduction`."""
    check_choice(reduction, "reduction", ("mean", "sum"))
