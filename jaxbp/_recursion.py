"""The backward recursion: from the signals at the output to those of every unit, in reverse topological order.

Δ_u = ∂L/∂h_u = Σ_{u ⇒ v} δ_v W_uvᵀ
δ_u = ∂L/∂a_u = (∂h_u/∂a_u)ᵀ Δ_u
"""

from functools import reduce
from operator import add

import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._checks import check_made
from jaxbp._connections import Bias, Connection
from jaxbp._feedback import DirectFeedback, Feedback
from jaxbp._forward import Trace
from jaxbp._graph import BIAS
from jaxbp._network import Network
from jaxbp._parameters import Params, uses, weights_of

Signals = dict[str, Array]
"""Δ or δ by unit."""


def error_signals(
    net: Network, params: Params, trace: Trace, Delta_o: Array, delta_o: Array, feedback: Feedback | None = None
) -> tuple[Signals, Signals]:
    """Δ of every unit and input, and δ of every unit.

    Args:
        net: The network.
        params: W.
        trace: The forward phase.
        Delta_o: ∂L/∂o.
        delta_o: ∂L/∂a_o.
        feedback: What stands in for W.
    """
    direct = feedback if isinstance(feedback, DirectFeedback) else None
    B = params if feedback is None or isinstance(feedback, DirectFeedback) else feedback
    Delta, delta = {net.output: Delta_o}, {net.output: delta_o}
    for u in reversed(net.order):
        unit = net.units[u]
        if u != net.output:
            if direct is not None:
                Delta[u] = _from_output(net, trace, direct.matrices[u], delta_o, u)
            delta[u] = through_unit(net, trace, u, Delta[u])
        for s, signal in unit.pull_back(weights_of(net, B, u), trace.h, trace.a[u], delta[u]).items():
            if direct is None or s in net.inputs:
                Delta[s] = Delta[s] + signal if s in Delta else signal
    return Delta, delta


def through_unit(net: Network, trace: Trace, u: str, Delta: Array) -> Array:
    """δ_u = (∂h_u/∂a_u)ᵀ Δ_u."""
    if trace.noise is not None and u in trace.noise:
        Delta = Delta * trace.noise[u]
    return net.units[u].activation.pullback(trace.a[u], clean(net, trace, u), Delta)


def clean(net: Network, trace: Trace, u: str) -> Array:
    """Φ(a_u): the post-activation without its noise."""
    noisy = trace.noise is not None and u in trace.noise
    return net.units[u].activation.value(trace.a[u]) if noisy else trace.h[u]


def gradient_of(net: Network, params: Params, trace: Trace, delta: Signals) -> Params:
    """∂L/∂W_su = h_sᵀ δ_u,  ∂L/∂b_u = 1ᵀ δ_u."""

    def contracted(W: Array, u: str, s: str) -> Array:
        connection = kind(net, u, s)
        gradient = connection.contract(W, trace.h.get(s), delta[u])
        check_made(gradient, W, f"what {type(connection).__name__}.contract makes at unit {u!r}")
        return gradient

    return {
        group: {
            name: reduce(add, (contracted(W, u, s) for u, s in uses(net, group, name)))
            for name, W in params[group].items()
        }
        for group in net.groups
    }


def kind(net: Network, u: str, s: str) -> Connection | Bias:
    """The kind of connection from a source, or from the constant unit, into a unit."""
    return Bias() if s == BIAS else net.units[u].connections[s]


def _from_output(net: Network, trace: Trace, B: Array, delta_o: Array, u: str) -> Array:
    """Δ_u = δ_o B_u, with all elements of a unit in a row."""
    h = trace.h[u]
    batch = delta_o.shape[: delta_o.ndim - len(net.shapes[net.output])]
    Delta = jnp.reshape(delta_o, (*batch, -1)) @ B
    return jnp.reshape(Delta, h.shape).astype(h.dtype)
