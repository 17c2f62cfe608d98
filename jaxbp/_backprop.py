"""Backpropagation: the forward phase, the error signals, and what collectors make of both.

Δ_o = ∂L/∂o,  δ_o = (∂o/∂a)ᵀ Δ_o, and from there the recursion
∂L/∂W_su = h_sᵀ δ_u,  ∂L/∂b_u = 1ᵀ δ_u
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp import collect as collectors
from jaxbp._blocked_output import BlockedOutput, output_in_blocks
from jaxbp._brief import called
from jaxbp._cache import bounded_cache
from jaxbp._contraction import weights_of
from jaxbp._direct_feedback import Feedback, check_feedback, signals_under
from jaxbp._dropout import check_key
from jaxbp._forward import Trace, forward
from jaxbp._names import named
from jaxbp._network import Network
from jaxbp._objective import LossScale, Reduction, check_objective, head, row_losses, scale_of
from jaxbp._parameters import Params
from jaxbp._recursion import Signals, error_signals
from jaxbp.collect import Collector, Sweep
from jaxbp.collect._sweep import check_collectors
from jaxbp.losses import Loss


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["value", "trace", "Delta", "delta", "collected"],
    meta_fields=["gradient"],
)
@dataclass(frozen=True)
class Backprop:
    """Everything that one forward and backward phase finds out; δ and Δ are of the value, so usually of a mean.

    Attributes:
        value: The loss over the batch, a scalar.
        trace: The forward phase, `Trace(a, h)`.
        Delta: Δ = ∂L/∂h of each unit and input, shaped like `trace.h`.
        delta: δ = ∂L/∂a of each unit, shaped like `trace.a`.
        collected: What each collector made, by the name it was asked for.
        gradient: The name under which the gradient was collected, if it was.
    """

    value: Array
    trace: Trace
    Delta: dict[str, Array]
    delta: dict[str, Array]
    collected: dict[str, Any]
    gradient: str | None = None

    @property
    def grads(self) -> Params:
        """The gradient, a tree like the parameters, under whatever name it was collected."""
        if self.gradient is None:
            raise AttributeError(
                f"no gradient was collected, only {sorted(self.collected)}; "
                "ask for it with collect={'grads': jaxbp.collect.gradient, …}"
            )
        return self.collected[self.gradient]

    def quantities(self) -> dict[str, Array]:
        """Every quantity by its one name: `a.h1`, `h.x`, `Delta.o`, `delta.o`, `grad.o.h1`, `loss`."""
        forward = {"loss": self.value, "a": self.trace.a, "h": self.trace.h}
        backward = {"Delta": self.Delta, "delta": self.delta, "grad": {} if self.gradient is None else self.grads}
        return {str(name): array for name, array in named({**forward, **backward}).items()}

    def __repr__(self) -> str:
        return called(self, value=self.value, Delta=self.Delta, delta=self.delta, collected=self.collected)

    def _repr_html_(self) -> str | None:
        from jaxbp._notebook._passes import of_backprop

        return of_backprop(self)


class Start(NamedTuple):
    """What the backward phase starts from.

    Attributes:
        trace: The forward phase.
        y: The targets, as the loss has made them.
        scale: What each example counts.
        value: The loss over the batch.
        Delta_o: ∂L/∂o of the value.
        delta_o: ∂L/∂a_o of the value.
        blocks: What there is of an output that is looked at in blocks; None where it is looked at as a whole.
    """

    trace: Trace
    y: Array
    scale: LossScale
    value: Array
    Delta_o: Array
    delta_o: Array
    blocks: BlockedOutput | None

    @property
    def known(self) -> Signals | None:
        """What the output contributes to the Δ of what it reads, where that is known."""
        return None if self.blocks is None else self.blocks.signals

    @classmethod
    def of(
        cls,
        net: Network,
        loss: Loss,
        params: Params,
        x: Any,
        y: Any,
        weights: Any,
        reduction: Reduction,
        key: Array | None,
        *,
        in_blocks: bool = True,
    ) -> "Start":
        """The forward phase, and the signals at the output."""
        trace = forward(net, params, x, key=key)
        a, o = trace.a[net.output], trace.h[net.output]
        scale = scale_of(net, trace, weights, reduction)
        given, y = y, scale.targets(loss, o, y)
        blocks = output_in_blocks(net, loss, params, trace, given, scale) if in_blocks else None
        value = scale.total(row_losses(net, loss, trace, y) if blocks is None else blocks.losses)
        Delta_o, delta_o = head(net, loss).signals(a, o, y)
        return cls(trace, y, scale, value, scale.weighed(Delta_o, like=o), scale.weighed(delta_o, like=a), blocks)


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

    The arguments mean the same in all of jaxbp.

    Args:
        net: The network.
        loss: The loss of one example.
        params: The parameters, a tree as from `init_params`.
        x: The input, `(*batch, width)`, integers where it is one of `jaxbp.ids`, or a dict of inputs by name. There may
            be any number of batch axes, or none.
        y: What the loss takes: an array like the output, or integer class ids of the batch shape.
        weights: One weight w_i for each example, of the batch shape; 1 when None. Or one for each row of an output that
            has rows, `(*batch, *rows)`, such as 0 for padding. Where it is 0 a target may be anything.
        reduction: `"mean"` for the value Σ w_i L_i / Σ w_i, `"sum"` for Σ w_i L_i; `jaxbp.losses` says what L_i is.
        collect: What to make of the pairs (h_s, δ_u), by name; the gradient, as `"grads"`, when None.
        feedback: What stands in for W in the backward recursion, and only there, as from `jaxbp.feedback`: a tree like
            `params`, or `DirectFeedback`.
        key: A key from `jax.random.key` for the noise of units with dropout, a fresh one in every step.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 2, 2], hidden=jaxbp.sigmoid, output=jaxbp.softmax)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> x, y = jnp.ones((4, 3)), jnp.array([0, 1, 1, 0])
        >>> back = jax.jit(jaxbp.backprop, static_argnums=(0, 1))(net, jaxbp.cross_entropy, params, x, y)
        >>> back.delta["h1"].shape, back.Delta["x"].shape, back.grads["o"]["h1"].shape
        ((4, 2), (4, 3), (2, 2))

    Source: the chapter, "The backpropagation process can now be described as follows".
    """
    check_objective(net, loss, reduction)
    check_key(net, key)
    wanted = {"grads": collectors.gradient} if collect is None else collect
    check_collectors(wanted)
    if feedback is not None:
        check_feedback(net, feedback)
    start = Start.of(net, loss, params, x, y, weights, reduction, key, in_blocks=feedback is None)
    trace, y, scale, blocks = start.trace, start.y, start.scale, start.blocks
    a, o = trace.a[net.output], trace.h[net.output]
    Delta, delta, formed = signals_under(feedback, net, params, trace, start.Delta_o, start.delta_o, key, start.known)

    def loss_root() -> Array:
        columns = scale.own(head(net, loss).root(a, o, y))
        for axis in range(-len(net.shapes[net.output]), -1):
            columns = _rows_apart(columns, axis)
        return columns.astype(a.dtype)

    def random_root(key: Array) -> Array:
        (column,) = scale.own(head(net, loss).random_root(a, o, y, key)[None])
        return column.astype(a.dtype)

    def from_output(S: Array) -> Signals:
        if feedback is not None:
            raise ValueError("curvature is that of the network's own weights; leave feedback out, or the collector")

        def from_column(column: Array) -> Signals:
            return error_signals(net, params, trace, jnp.zeros_like(o), column, key=key).delta

        return jax.vmap(from_column)(S)

    if blocks is not None:
        formed = formed | {net.output: blocks.formed}
    of_examples = scale.of_examples
    found = weights_of(net, params, trace, delta, of_examples, formed)
    nodes, layers = net.plan.nodes, {u: net.plan.layers[u] for u in net.plan.nodes}
    forms_each = any(getattr(collector, "forms_each", False) for collector in wanted.values())
    sweep = Sweep(
        found,
        nodes,
        layers,
        trace.a,
        trace.h,
        Delta,
        delta,
        of_examples,
        loss_root,
        random_root,
        from_output,
        forms_each,
    )
    collected = {name: collector(sweep) for name, collector in wanted.items()}
    gradient = next((name for name, collector in wanted.items() if collector == collectors.gradient), None)
    return Backprop(start.value, trace, Delta, delta, collected, gradient)


def value_and_grad(net: Network, loss: Loss, reduction: Reduction = "mean") -> Callable[..., tuple[Array, Params]]:
    """The value and the gradient by explicit backpropagation: a drop-in for `jax.value_and_grad(objective(…))`.

    Returns:
        `(params, x, y, weights=None, *, key=None, feedback=None) -> (value, grads)`. Equal networks, losses and
        reductions give the same function, so `jit` compiles it once.

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
        *,
        key: Array | None = None,
        feedback: Feedback | None = None,
    ) -> tuple[Array, Params]:
        back = backprop(net, loss, params, x, y, weights=weights, reduction=reduction, feedback=feedback, key=key)
        return back.value, back.grads

    return explicit_value_and_grad


def _rows_apart(columns: Array, axis: int) -> Array:
    """Columns with one row each: the rows of an output have losses of their own, so no column may hold two of them."""
    rows = columns.shape[axis]
    one_row = jnp.reshape(
        jnp.eye(rows, dtype=columns.dtype), (rows, *[1] * (columns.ndim + axis), rows, *[1] * (-1 - axis))
    )
    return jnp.reshape(one_row * columns[None], (-1, *columns.shape[1:]))
