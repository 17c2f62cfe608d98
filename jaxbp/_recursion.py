"""The backward recursion: from the signals at the output to those of every unit, in reverse topological order.

Δ_u = ∂L/∂h_u = Σ_{u ⇒ v} δ_v W_uvᵀ
δ_u = ∂L/∂a_u = (∂h_u/∂a_u)ᵀ Δ_u
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jaxtyping import Array

from jaxbp._checks import check_made
from jaxbp._contraction import gradient_from
from jaxbp._forward import Trace, batch_shape, phase, phi
from jaxbp._graph import ONE
from jaxbp._layers import Formed, Read, downwards
from jaxbp._names import under
from jaxbp._network import Network
from jaxbp._parameters import Params
from jaxbp._stack import Stack
from jaxbp.connections import Shape

Signals = dict[str, Array]
"""Δ or δ by unit."""


class Swept(NamedTuple):
    """What the recursion leaves behind.

    Attributes:
        Delta: Δ of every unit and input.
        delta: δ of every unit.
        formed: The gradients of the weights in each stack, by its name, which each layer forms on the way, or what is
            made of them there.
    """

    Delta: Signals
    delta: Signals
    formed: dict[str, Any]


def error_signals(
    net: Network,
    params: Params,
    trace: Trace,
    Delta_o: Array,
    delta_o: Array,
    *,
    feedback: Params | None = None,
    key: Array | None = None,
    known: Signals | None = None,
    forms: Mapping[str, Formed] | None = None,
) -> Swept:
    """Δ of every unit and input, and δ of every unit, from those of the output.

    Args:
        net: The network.
        params: The weights.
        trace: The forward phase.
        Delta_o: ∂L/∂o.
        delta_o: ∂L/∂a_o.
        feedback: What stands in for the weights on the way back, if anything does.
        key: The key of the forward phase, with which stacks make again what they did not keep.
        known: What the output contributes to the Δ of what it reads, where that is known already.
        forms: What becomes of the gradients in a stack, by its name, where they are not to be kept.
    """
    W = params if feedback is None else feedback
    Delta, delta, formed = {net.output: Delta_o}, {net.output: delta_o}, {}
    for i, u in reversed(list(enumerate(net.order))):
        if u not in delta:
            delta[u] = through_unit(net, trace, u, Delta[u])
        if isinstance(stack := net.units[u], Stack):
            subkey = None if key is None else jax.random.fold_in(key, i)
            form = None if forms is None else forms.get(u)
            signals, inside = through_layers(net, stack, params, feedback, trace, u, delta[u], subkey, form)
            Delta |= {under(u, v): signal for v, signal in inside.Delta.items()}
            delta |= {under(u, v): signal for v, signal in inside.delta.items()}
            formed[u] = inside.formed
        elif known is not None and u == net.output:
            signals = known
        else:
            signals = through_edges(net, W, trace, u, delta[u])
        for s, signal in signals.items():
            Delta[s] = Delta[s] + signal if s in Delta else signal
    return Swept(Delta, delta, formed)


def through_unit(net: Network, trace: Trace, u: str, Delta: Array) -> Array:
    """δ_u = (∂h_u/∂a_u)ᵀ Δ_u."""
    return phi(net, trace, u).pullback(trace.a[u], trace.h[u], Delta)


def through_edges(net: Network, W: Params, trace: Trace, v: str, delta: Array) -> Mapping[str, Array]:
    """The contributions δ_v W_uvᵀ to the Δ of all that v reads."""
    edges = {u: edge for u, edge in net.plan.edges[v].items() if u != ONE}
    signals = net.units[v].pull_back(net.plan.weights_into(W, v), [trace.h[u] for u in edges], trace.a[v], delta)
    by_source = {u: signal for u, signal in zip(edges, signals, strict=True) if signal is not None}
    for u, signal in by_source.items():
        rule = type(edges[u].connection or net.units[v]).__name__
        check_made(signal, trace.h[u], f"what {rule}.pull_back makes for {u!r}")
    return by_source


def through_layers(
    net: Network,
    stack: Stack,
    params: Params,
    feedback: Params | None,
    trace: Trace,
    v: str,
    Delta: Array,
    key: Array | None,
    form: Formed | None,
) -> tuple[Signals, Swept]:
    """The contributions of a stack to the Δ of all that it reads, and what the recursion found in its block."""
    batch = batch_shape(net, trace)
    read, theirs = Read.of(stack, trace.h, batch), None if feedback is None else feedback[v]
    into, found = downwards(stack, _of_layer, phase, params[v], theirs, trace.inside(v), read, Delta, batch, key, form)
    return {s: signal.astype(trace.h[s].dtype) for s, signal in into.items()}, Swept(*found)


def _of_layer(
    block: Network, W: Params, trace: Trace, batch: Shape, Delta: Array, *, feedback: Params | None, key: Array | None
) -> Swept:
    """The recursion in one layer, from Δ of its output, and its gradient."""
    found = error_signals(
        block, W, trace, Delta, through_unit(block, trace, block.output, Delta), feedback=feedback, key=key
    )
    return found._replace(formed=gradient_from(block, W, trace, found.delta, batch, found.formed))
