"""What the chapter takes for granted: a layered network, a Φ' for each element, and one example at a time."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._checks import quoted
from jaxbp._forward import Trace, batch_shape, forward
from jaxbp._graph import ONE
from jaxbp._network import Network, check_network
from jaxbp._parameters import Params
from jaxbp.activations import Activation, Elementwise
from jaxbp.connections import Dense
from jaxbp.losses import Loss
from jaxbp.losses._named import check_loss

Signals = TypeVar("Signals")


def layers(net: Network) -> list[tuple[str, str]]:
    """The names (h_{r−1}, h_r) of neighbouring layers, from the input to the output; any other graph is refused."""
    check_network(net)
    complaint = _why_not_layered(net)
    if complaint:
        raise ValueError(
            f"the textbook's forms are for layered networks x ⇒ h1 ⇒ … ⇒ hk ⇒ o with Dense connections, as "
            f"jaxbp.layered makes them, but {complaint}; use jaxbp.backprop, which takes any graph"
        )
    return [(s, u) for u in net.order for s in net.plan.edges[u] if s != ONE]


def derivative(activation: Activation, a: Array, h: Array) -> Array:
    """Φ'(a) of an element-wise activation, as numbers."""
    # δ = Φ'(a) ⊙ Δ at Δ = 1: that Φ' may be a mask, and what shape it must have, is the activation's own business
    return activation.pullback(a, h, jnp.ones_like(a))


def check_hidden_derivatives(net: Network) -> None:
    """Refuse hidden units without a Φ' for each element."""
    for _, u in layers(net):
        activation = net.units[u].activation
        if u != net.output and not isinstance(activation, Elementwise):
            raise ValueError(
                f"hidden unit {u!r} has the vector activation {activation}, and this recursion multiplies by Φ'(a) "
                "for each element, which a vector activation has only as a Jacobian; use textbook.decoupled"
            )


def incident_gradients(s: str, h: Array, delta: Array, bias: bool) -> dict[str, Array]:
    """∂L/∂w(h_{r−1}, h_r) = δ(h_r, o) · h_{r−1}, and the same with h_{r−1} set to 1 for the bias."""
    grads = {s: jnp.outer(h, delta)}
    if bias:
        grads[ONE] = 1 * delta
    return grads


def mean_over_examples(
    net: Network,
    loss: Loss,
    params: Params,
    x: Any,
    y: Any,
    of_example: Callable[[Trace, Array], tuple[Signals, Params]],
) -> tuple[Signals, Params]:
    """What the chapter writes for a single input-output pattern (x, y), for the mean loss over a batch of them.

    `of_example` makes the signals and gradients of one example, without batch axes. The signals returned are those of
    each example, `(*batch, …)`, over the number of examples; the gradients are the mean.
    """
    check_loss(loss)
    trace = forward(net, params, x)
    y = loss.targets(trace.h[net.output], y)
    batch = batch_shape(net, trace)
    for _ in batch:
        of_example = jax.vmap(of_example)
    signals, grads = of_example(trace, y)
    signals = jax.tree.map(lambda signal: signal / math.prod(batch), signals)
    grads = jax.tree.map(lambda grad: jnp.mean(grad, axis=tuple(range(len(batch)))), grads)
    return signals, grads


def _why_not_layered(net: Network) -> str | None:
    if len(net.inputs) > 1:
        return f"this one has the inputs {quoted(net.inputs)}"
    for name, shape in net.shapes.items():
        if len(shape) > 1:
            return f"{name!r} has the shape {shape}, not a width"
    # with one source for each unit, and a path from every unit to the output, no graph but a chain is left
    for u, unit in net.units.items():
        edges = net.plan.edges[u]
        sources = [s for s in edges if s != ONE]
        if len(sources) > 1:
            return f"unit {u!r} reads {quoted(sources)}"
        if type(edges[sources[0]].connection) is not Dense:
            return f"unit {u!r} reads {sources[0]!r} by {edges[sources[0]].connection or unit!r}"
        shared = [edge.weight[1] for edge in edges.values() if edge.weight is not None and edge.is_shared]
        if shared:
            return f"unit {u!r} has the shared weights {quoted(shared)}"
        if unit.dropout:
            return f"unit {u!r} has dropout"
    return None
