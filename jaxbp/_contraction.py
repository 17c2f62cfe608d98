"""What the gradient of each weight is made of, ∂L/∂W_su = h_sᵀ δ_u, from a trace and the error signals."""

from collections.abc import Mapping
from functools import reduce
from operator import add
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
        formed: The gradients that were formed on the way: of the weights in a stack by its name, and of the weights of
            edges into a unit, by its name and the source.
    """
    source = sources(net, trace.h, scale.shape)

    def pair(edge: Edge) -> Pair:
        return Pair(edge.linear, edge.source, edge.unit, source(edge), delta[edge.unit], edge.layers)

    def weight(place: Place) -> Weight:
        W, edges = at(place, params), net.plan.uses[place]
        pairs = tuple(map(pair, edges))
        return Weight(W, pairs, scale, _formed(place, W, edges, pairs, formed))

    return net.plan.tree(weight)


def _formed(
    place: Place, W: Array, edges: tuple[Edge, ...], pairs: tuple[Pair, ...], formed: Mapping[str, Any]
) -> Array | None:
    """The gradient of a weight, where a part of it has been formed on the way."""
    if edges[0].layers:
        return at(place, formed) if place[0] in formed else None
    parts = [formed.get(edge.unit, {}).get(edge.source) for edge in edges]
    if all(part is None for part in parts):
        return None
    others = (
        Weight(W, (pair,), jnp.ones(())).gradient() for pair, part in zip(pairs, parts, strict=True) if part is None
    )
    return reduce(add, (*(part for part in parts if part is not None), *others))


def gradient_from(
    net: Network, params: Params, trace: Trace, delta: Mapping[str, Array], batch: Shape, formed: Mapping[str, Any]
) -> Params:
    """∂L/∂W_su = h_sᵀ δ_u of every weight, from the error signals."""
    return map_weights(Weight.gradient, weights_of(net, params, trace, delta, jnp.ones(batch), formed))
