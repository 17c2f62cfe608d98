"""What may stand in for W in the backward recursion: another tree of weights, or matrices straight from the output."""

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._checks import check_by, check_keys, check_shaped
from jaxbp._forward import Trace, batch_shape
from jaxbp._layers import around
from jaxbp._names import inside, under
from jaxbp._network import Network, check_network
from jaxbp._parameters import Params, check_params
from jaxbp._recursion import Signals, Swept, error_signals, through_edges, through_unit
from jaxbp._stack import Stack
from jaxbp.connections import Shape


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DirectFeedback:
    """A matrix from the output to each other unit: Δ_u = δ_o B_u.

    Attributes:
        matrices: B_u by unit, `(width_o, width_u)`, those of a stack's block by layer; a unit with several axes has all
            its elements in a row.
    """

    matrices: dict[str, Array]


Feedback = Params | DirectFeedback
"""What `backprop` takes as `feedback`: matrices in place of W in each step, or from the output to each unit."""


def signals_under(
    feedback: Feedback | None,
    net: Network,
    params: Params,
    trace: Trace,
    Delta_o: Array,
    delta_o: Array,
    key: Array | None = None,
    known: Signals | None = None,
) -> Swept:
    """Δ and δ by the recursion, with W or what stands in for it; or straight from the output."""
    if not isinstance(feedback, DirectFeedback):
        return error_signals(net, params, trace, Delta_o, delta_o, feedback=feedback, key=key, known=known)
    Delta, delta = {net.output: Delta_o}, {net.output: delta_o}
    rows = jnp.reshape(delta_o, (*delta_o.shape[: delta_o.ndim - len(net.shapes[net.output])], -1))
    for u, B in feedback.matrices.items():
        through = rows.__matmul__
        for _ in net.plan.layers[u]:
            through = jax.vmap(through)
        h = trace.h[u]
        Delta[u] = jnp.reshape(through(B), h.shape).astype(h.dtype)
        delta[u] = through_unit(net, trace, u, Delta[u])
    return Swept(Delta | _into_inputs(net, params, trace, delta), delta, {})


def _into_inputs(net: Network, params: Params, trace: Trace, delta: Signals) -> Signals:
    """Δ of the inputs, and of those of the blocks in each layer, from their readers."""
    Delta: Signals = {}
    for v in reversed(net.order):
        stack = net.units[v]
        if isinstance(stack, Stack):
            of_layer = partial(_into_inputs, stack.block)
            by_layer = jax.vmap(of_layer, (None if stack.shared else 0, 0, 0))
            inner = by_layer(params[v], trace.inside(v), inside(v, delta))
            Delta |= {under(v, s): signal for s, signal in inner.items()}
            signals = around(stack, inner, batch_shape(net, trace))
        else:
            signals = through_edges(net, params, trace, v, delta[v])
        for s, signal in signals.items():
            if s in net.inputs:
                Delta[s] = Delta[s] + signal if s in Delta else signal
    return Delta


def matrix_shapes(net: Network) -> dict[str, Shape]:
    """The shapes of direct feedback, in the order of computation."""
    outputs, plan = prod(net.shapes[net.output]), net.plan
    return {u: (*plan.layers[u], outputs, prod(plan.shapes[u])) for u in plan.nodes if u != net.output}


def check_feedback(net: Network, feedback: Any) -> None:
    """Refuse feedback that belongs to another network, by names and shapes."""
    check_network(net)
    if not isinstance(feedback, DirectFeedback):
        check_params(net, feedback, "feedback")
        return
    matrices: Any = feedback.matrices
    check_by(matrices, "feedback.matrices", "unit")
    expected = matrix_shapes(net)
    check_keys(matrices, expected, "direct feedback holds matrices to", "below its output the network has")
    for u, shape in expected.items():
        check_shaped(matrices[u], f"feedback.matrices[{u!r}]", shape, "; is this feedback of another network?")
