"""Backpropagation: the forward phase, the error signals, and what collectors make of both.

Δ_o = ∂L/∂o,  δ_o = (∂o/∂a)ᵀ Δ_o, and from there the recursion
∂L/∂W_su = h_sᵀ δ_u,  ∂L/∂b_u = 1ᵀ δ_u
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp import collect as collectors
from jaxbp._cache import bounded_cache
from jaxbp._feedback import Feedback, check_feedback
from jaxbp._forward import Trace, check_key, forward
from jaxbp._losses import Loss
from jaxbp._names import named
from jaxbp._network import Network
from jaxbp._objective import Reduction, check_objective, example_losses, example_scale, total
from jaxbp._parameters import Params, uses
from jaxbp._recursion import Signals, clean, error_signals, kind, through_unit
from jaxbp.collect import Collector, Pair, Sweep, UnitSignals, Weight
from jaxbp.collect._sweep import check_collectors


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Backprop:
    """Everything one forward and backward phase finds out.

    Attributes:
        value: The loss over the batch, a scalar.
        trace: The forward phase, `Trace(a, h)`.
        Delta: Δ = ∂L/∂h of each unit and input, shaped like `trace.h`.
        delta: δ = ∂L/∂a of each unit, shaped like `trace.a`.
        collected: What each collector made, by the name it was asked for.
    """

    value: Array
    trace: Trace
    Delta: dict[str, Array]
    delta: dict[str, Array]
    collected: dict[str, Any]

    @property
    def grads(self) -> Params:
        """The gradient, a tree like the parameters: what was collected as `"grads"`."""
        if "grads" not in self.collected:
            raise AttributeError(
                f"no gradient was collected, only {sorted(self.collected)}; "
                "ask for it with collect={'grads': jaxbp.collect.gradient, …}"
            )
        return self.collected["grads"]

    def quantities(self) -> dict[str, Array]:
        """Every quantity by its one name: `a.h1`, `h.x`, `Delta.o`, `delta.o`, `grad.o.h1`, `loss`."""
        forward = {"loss": self.value, "a": self.trace.a, "h": self.trace.h}
        backward = {"Delta": self.Delta, "delta": self.delta, "grad": self.collected.get("grads", {})}
        return {str(name): array for name, array in named({**forward, **backward}).items()}


def backprop(
    net: Network,
    loss: Loss,
    params: Params,
    x: Any,
    y: Any,
    *,
    weights: Any = None,
    reduction: Reduction = "mean",
    collect: Mapping[str, Collector] | None = None,
    feedback: Feedback | None = None,
    key: Array | None = None,
) -> Backprop:
    """The forward phase and the backward sweep, with every error signal by name.

    Δ_u = Σ_{u ⇒ v} δ_v W_uvᵀ,  δ_u = (∂h_u/∂a_u)ᵀ Δ_u,  ∂L/∂W_su = h_sᵀ δ_u,  ∂L/∂b_u = 1ᵀ δ_u

    Args:
        net: The network.
        loss: The loss of one example.
        params: The parameters, as from `init_params`.
        x: The input, `(*batch, width)`, or a dict of inputs by name. Any number of batch axes, also none.
        y: What the loss takes: an array like the output, or integer class ids of the batch shape.
        weights: One weight for each example, of the batch shape; None weighs all alike.
        reduction: `"mean"` for Σ w_i L_i / Σ w_i, `"sum"` for Σ w_i L_i.
        collect: What to make of the pairs (h_s, δ_u), by name; the gradient, as `"grads"`, when None.
        feedback: What stands in for W in the backward recursion, and only there: a tree like `params`, as from
            `random_feedback`, or `direct_feedback`.
        key: For the noise of units with dropout, a fresh one in every step.

    Returns:
        `Backprop(value, trace, Delta, delta, collected)`, whose `grads` is the gradient. δ and Δ are of the
        value, hence of the mean.

    Raises:
        TypeError, ValueError: Arguments whose shapes, dtypes or names do not fit, before anything is computed.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 2, 2], hidden=jaxbp.sigmoid, output=jaxbp.softmax)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> back = jaxbp.backprop(net, jaxbp.cross_entropy, params, jnp.ones((4, 3)), jnp.array([0, 1, 1, 0]))
        >>> back.delta["h1"].shape, back.Delta["x"].shape, back.grads["o"]["h1"].shape
        ((4, 2), (4, 3), (2, 2))

    Source: the chapter, "The backpropagation process can now be described as follows".
    """
    check_objective(net, loss, reduction)
    check_key(net, key)
    wanted = {"grads": collectors.gradient} if collect is None else collect
    check_collectors(wanted)
    trace = forward(net, params, x, key=key)
    y = loss.targets(trace.h[net.output], y)
    if feedback is not None:
        check_feedback(net, feedback)
    scale = example_scale(net, trace, weights, reduction)
    value = total(example_losses(net, loss, trace, y), scale)

    Delta_o, delta_o = _output_signals(net, loss, trace, y, scale)
    Delta, delta = error_signals(net, params, trace, Delta_o, delta_o, feedback)

    def from_output(S: Array) -> Signals:
        if feedback is not None:
            raise ValueError("curvature is that of the network's own weights; leave feedback out, or the collector")
        return jax.vmap(lambda column: error_signals(net, params, trace, jnp.zeros_like(Delta_o), column)[1])(S)

    units = {
        u: UnitSignals(net.units[u].activation, trace.a[u], clean(net, trace, u), Delta[u], delta[u]) for u in net.order
    }
    sweep = Sweep(
        _weights(net, params, trace, delta, scale), units, scale, lambda: _loss_root(net, loss, trace, y), from_output
    )
    return Backprop(value, trace, Delta, delta, {name: collector(sweep) for name, collector in wanted.items()})


def value_and_grad(net: Network, loss: Loss, reduction: Reduction = "mean") -> Callable[..., tuple[Array, Params]]:
    """The value and the gradient by explicit backpropagation: a drop-in for `jax.value_and_grad(objective(…))`.

    Args:
        net: The network.
        loss: The loss of one example.
        reduction: `"mean"` or `"sum"` over the examples.

    Returns:
        `(params, x, y, weights=None, feedback=None, key=None) -> (value, grads)`; arguments as for `backprop`.
        Equal arguments give the same function, so `jit` compiles it once.

    Raises:
        TypeError, ValueError: When called, as `backprop`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 2, 1], output=jaxbp.linear)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> step = jax.jit(jaxbp.value_and_grad(net, jaxbp.squared_error))
        >>> value, grads = step(params, jnp.ones((5, 3)), jnp.ones((5, 1)))
        >>> jax.tree.structure(grads) == jax.tree.structure(params)
        True
    """
    check_objective(net, loss, reduction)
    return _value_and_grad(net, loss, reduction)


@bounded_cache  # keyed by positions, so that reduction="mean" and its default are one
def _value_and_grad(net: Network, loss: Loss, reduction: Reduction) -> Callable[..., tuple[Array, Params]]:
    def explicit_value_and_grad(
        params: Params,
        x: Any,
        y: Any,
        weights: Any = None,
        feedback: Feedback | None = None,
        key: Array | None = None,
    ) -> tuple[Array, Params]:
        back = backprop(net, loss, params, x, y, weights=weights, reduction=reduction, feedback=feedback, key=key)
        return back.value, back.grads

    return explicit_value_and_grad


def _output_signals(net: Network, loss: Loss, trace: Trace, y: Array, scale: Array) -> tuple[Array, Array]:
    """Δ_o = ∂L/∂o and δ_o = (∂o/∂a)ᵀ Δ_o, the latter in its simplified form where one is known."""
    a, o = trace.a[net.output], trace.h[net.output]
    scale = jnp.expand_dims(scale, tuple(range(scale.ndim, o.ndim)))
    Delta = loss.gradient(o, y)
    if Delta.shape != o.shape:
        raise ValueError(
            f"the gradient of loss {loss.name!r} has shape {Delta.shape} for an output of shape {o.shape}; "
            "∂L/∂o has the output's shape"
        )
    rule = loss.simplification(net.units[net.output].activation)
    delta = through_unit(net, trace, net.output, Delta) if rule is None else rule.delta(a, o, y)
    return (scale * Delta).astype(o.dtype), (scale * delta).astype(a.dtype)


def _loss_root(net: Network, loss: Loss, trace: Trace, y: Array) -> Array:
    """Columns S_k at a_o, `(K, *batch, *shape)`, with Σ_k S_k S_kᵀ the curvature of each example's loss."""
    activation = net.units[net.output].activation
    a, o = trace.a[net.output], trace.h[net.output]
    rule = loss.simplification(activation)
    if rule is not None and rule.hessian_root is not None:
        columns = rule.hessian_root(a, o, y)
    elif loss.hessian_root is not None:
        columns = jax.vmap(lambda column: activation.pullback(a, o, column))(loss.hessian_root(o, y))
    else:
        raise TypeError(
            f"loss {loss.name!r} does not state a root of its Hessian, which curvature is made of; give it one: "
            "Loss(…, hessian_root=lambda o, y: S), with Σ_k S_k S_kᵀ = ∂²L/∂o²"
        )
    for axis in range(-len(net.shapes[net.output]), -1):
        columns = _rows_apart(columns, axis)
    return columns.astype(a.dtype)


def _rows_apart(columns: Array, axis: int) -> Array:
    """Columns with one row each: the rows of an output have losses of their own, so no column may hold two of them."""
    rows = columns.shape[axis]
    one_row = jnp.reshape(
        jnp.eye(rows, dtype=columns.dtype), (rows, *[1] * (columns.ndim + axis), rows, *[1] * (-1 - axis))
    )
    return jnp.reshape(one_row * columns[None], (-1, *columns.shape[1:]))


def _weights(net: Network, params: Params, trace: Trace, delta: Signals, scale: Array) -> dict[str, dict[str, Weight]]:
    def pairs(group: str, name: str) -> tuple[Pair, ...]:
        return tuple(Pair(kind(net, u, s), u, trace.h.get(s), delta[u]) for u, s in uses(net, group, name))

    return {
        group: {name: Weight(W, pairs(group, name), scale) for name, W in params[group].items()} for group in net.groups
    }
