"""What the gradient of each weight is made of, ∂L/∂W_su = h_sᵀ δ_u, from a trace and the error signals."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._forward import Trace, sources
from jaxbp._network import Network
from jaxbp._parameters import Params
from jaxbp._plan import Edge, Place, at
from jaxbp.collect import Pair, Weight
from jaxbp.collect._sweep import map_weights
from jaxbp.connections import Shape


def weights_of(
    net: Network, params: Params, trace: Trace, delta: Mapping[str, Array], scale: Array, formed: Mapping[str, Any]
) -> dict[str, Any]:
    """Each weight with its pairs (h_s, δ_u), in a tree like the parameters.

    Args:
        net: The network.
        params: The parameters.
        trace: The forward phase.
        delta: δ of each unit.
        scale: ∂L/∂L_i of each example, `(*batch,)`.
        formed: The gradients of the weights in each stack, which its layers formed on the way.
    """
    source = sources(net, trace.h, scale.shape)

    def pair(edge: Edge) -> Pair:
        return Pair(edge.linear, edge.source, edge.unit, source(edge), delta[edge.unit], edge.layers)

    def weight(place: Place) -> Weight:
        edges = net.plan.uses[place]
        gradient = at(place, formed) if place[0] in formed else None
        return Weight(at(place, params), tuple(map(pair, edges)), scale, gradient)

    return net.plan.tree(weight)


def gradient_from(
    net: Network, params: Params, trace: Trace, delta: Mapping[str, Array], batch: Shape, formed: Mapping[str, Any]
) -> Params:
    """∂L/∂W_su = h_sᵀ δ_u of every weight, from the error signals."""
    return map_weights(Weight.gradient, weights_of(net, params, trace, delta, jnp.ones(batch), formed))
