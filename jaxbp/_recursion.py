"""The backward recursion: from the signals at the output to those of every unit, in reverse topological order.

Δ_u = ∂L/∂h_u = Σ_{u ⇒ v} δ_v W_uvᵀ
δ_u = ∂L/∂a_u = (∂h_u/∂a_u)ᵀ Δ_u
"""

from collections.abc import Mapping

from jaxtyping import Array

from jaxbp._checks import check_made
from jaxbp._forward import Trace, phi
from jaxbp._graph import ONE
from jaxbp._network import Network
from jaxbp._parameters import Params

Signals = dict[str, Array]
"""Δ or δ by unit."""


def error_signals(net: Network, W: Params, trace: Trace, Delta_o: Array, delta_o: Array) -> tuple[Signals, Signals]:
    """Δ of every unit and input, and δ of every unit, from those of the output.

    Args:
        net: The network.
        W: The weights, or what stands in for them on the way back.
        trace: The forward phase.
        Delta_o: ∂L/∂o.
        delta_o: ∂L/∂a_o.
    """
    Delta, delta = {net.output: Delta_o}, {net.output: delta_o}
    for u in reversed(net.order):
        if u not in delta:
            delta[u] = through_unit(net, trace, u, Delta[u])
        for s, signal in through_edges(net, W, trace, u, delta[u]).items():
            Delta[s] = Delta[s] + signal if s in Delta else signal
    return Delta, delta


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
