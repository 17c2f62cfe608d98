"""The scalar that backpropagation differentiates: the loss of each example, and how a batch of them is reduced."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._cache import bounded_cache
from jaxbp._checks import check_choice, check_floating, is_known
from jaxbp._dropout import check_key
from jaxbp._forward import Trace, batch_shape, forward
from jaxbp._network import Network, check_network
from jaxbp._parameters import Params
from jaxbp.connections import Shape
from jaxbp.losses import Head, Loss
from jaxbp.losses._named import check_loss

Reduction = Literal["mean", "sum"]


def objective(net: Network, loss: Loss, reduction: Reduction = "mean") -> Callable[..., Array]:
    """The value of the loss over a batch, as a plain JAX function of the parameters.

    L = Σ_i w_i L_i / Σ_i w_i,  or Σ_i w_i L_i with `reduction="sum"`,  with w_i = 1 unless weights are given

    Where the output has rows p, L_i is Σ_p L_ip; weights by position make it Σ_ip w_ip L_ip / Σ_ip w_ip, or Σ_ip w_ip
    L_ip. `jaxbp.losses` says more of both.

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
        >>> grads = jax.jit(jax.grad(value))(params, jnp.ones((5, 3)), jnp.ones((5, 1)))
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
        scale = scale_of(net, trace, weights, reduction)
        y = scale.targets(loss, trace.h[net.output], y)
        return scale.total(row_losses(net, loss, trace, y))

    return value


def head(net: Network, loss: Loss) -> Head:
    """The loss and the activation of the output as one."""
    return loss.at(net.units[net.output].activation)


def row_losses(net: Network, loss: Loss, trace: Trace, y: Array) -> Array:
    """L_ip for each row of the output of each example, `(*batch, *rows)`, with y as `Loss.targets` made it."""
    return head(net, loss).value(trace.a[net.output], trace.h[net.output], y)


def example_losses(net: Network, loss: Loss, trace: Trace, y: Array) -> Array:
    """L_i for each example without weights, of the batch shape: rows of an output add up."""
    values = row_losses(net, loss, trace, y)
    return jnp.sum(values, axis=tuple(range(len(batch_shape(net, trace)), values.ndim)))


@dataclass(frozen=True)
class LossScale:
    """What the losses count in the value, made by `scale_of`.

    Attributes:
        of_rows: ∂L/∂L_ip, `(*batch, *rows)`, where rows have weights of their own; else ∂L/∂L_i, `(*batch,)`.
        of_examples: ∂L/∂L_i, `(*batch,)`, what an example counts with all of its rows.
        counted: Which entries of `of_rows` are not 0; None where all are alike.
    """

    of_rows: Array
    of_examples: Array
    counted: Array | None

    def targets(self, loss: Loss, o: Array, y: Any) -> Array:
        """The targets as `Loss.targets` makes them, finite where nothing counts: 0 · NaN is NaN, forward and back."""
        y = loss.targets(o, y)
        return y if self.counted is None else jnp.where(_over_rows(self.counted, y) | jnp.isfinite(y), y, 0)

    def times(self, signal: Array) -> Array:
        """The scale times losses or signals of each row; 0 where nothing counts."""
        product = _over_rows(self.of_rows, signal) * signal
        return product if self.counted is None else jnp.where(_over_rows(self.counted, signal), product, 0)

    def weighed(self, signal: Array, like: Array) -> Array:
        """The scale times the signal of each row, in the dtype of another array."""
        return self.times(signal).astype(like.dtype)

    def total(self, losses: Array) -> Array:
        """Σ scale L of the losses of rows, accumulated in at least float32, in the dtype of the losses."""
        return jnp.sum(self.times(losses)).astype(losses.dtype)

    def own(self, columns: Array) -> Array:
        """Columns S_k of the curvature of each row's loss, `(K, *batch, *rows, width)`, as those of its example's loss.

        With L_i = Σ_p s_p L_ip and s_p = scale_ip / scale_i they are √s_p S_k, so no weight may differ in sign from the
        others of an example; that is refused, and NaN under `jit`.
        """
        if self.of_rows.ndim == self.of_examples.ndim:
            return columns
        shares = self.of_rows / _over_rows(jnp.where(self.of_examples == 0, 1, self.of_examples), self.of_rows)
        least = jnp.min(shares)
        if is_known(least) and least < 0:
            raise ValueError(
                "curvature is a mean over the rows of each example: no weight of a row may be negative, or differ in "
                "sign from the others of its example"
            )
        product = jnp.sqrt(_over_rows(shares, columns[0]))[None].astype(columns.dtype) * columns
        return product if self.counted is None else jnp.where(_over_rows(self.counted, columns[0])[None], product, 0)


def scale_of(net: Network, trace: Trace, weights: Any, reduction: Reduction) -> LossScale:
    """What the losses count: 1/N or 1 for each example without weights, else w / Σ w or w of each example or row."""
    check_reduction(reduction)
    batch = batch_shape(net, trace)
    dtype = jnp.promote_types(trace.h[net.output].dtype, jnp.float32)  # 1/N itself is rounded in bfloat16
    if weights is None:
        scale = jnp.full(batch, 1 / math.prod(batch) if reduction == "mean" else 1, dtype)
        return LossScale(scale, scale, None)
    check_weights_fit(weights, batch, net.shapes[net.output][:-1])
    scale = jnp.asarray(weights, dtype)
    if reduction == "mean":
        total = jnp.sum(scale)
        if is_known(total) and not (total != 0 and jnp.isfinite(total)):
            raise ValueError(f"weights sum to {total}, so they have no mean; use reduction='sum', or other weights")
        scale = scale / jnp.where(total == 0, jnp.nan, total)
    return LossScale(scale, jnp.sum(scale, axis=tuple(range(len(batch), scale.ndim))), scale != 0)


def check_weights_fit(weights: Any, batch: Shape, rows: Shape) -> None:
    """Refuse what is not one weight for each example, or for each row of the output of each."""
    check_floating(weights, "weights")
    if weights.shape == batch or (rows and weights.shape == batch + rows):
        return
    or_rows = f", or {batch + rows}: one for each row of the output" if rows else ""
    raise ValueError(
        f"weights has shape {weights.shape}, expected the batch shape {batch}: one for each example{or_rows}"
    )


def _over_rows(scale: Array, like: Array) -> Array:
    """A number for each example or row, shaped to multiply what these have."""
    return jnp.expand_dims(scale, tuple(range(scale.ndim, like.ndim)))


def check_objective(net: Any, loss: Any, reduction: Any = "mean") -> None:
    """Refuse what no value can be made of: no network, no loss, or no `Reduction`."""
    check_network(net)
    check_loss(loss)
    check_reduction(reduction)


def check_reduction(reduction: Any) -> None:
    """Refuse what is no `Reduction`."""
    check_choice(reduction, "reduction", ("mean", "sum"))
