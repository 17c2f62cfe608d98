"""A network whose stacks are written out, unit by unit: for what looks at one unit after the other."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._function_unit import FunctionUnit, function_unit
from jaxbp._graph import ONE, SHARED
from jaxbp._names import under
from jaxbp._network import Network
from jaxbp._plan import Place, at
from jaxbp._stack import Stack
from jaxbp._unit import Node, Unit
from jaxbp.activations import linear
from jaxbp.connections import Connection, Identity
from jaxbp.connections._connection import Wrapper

Index = tuple[int, ...]
"""A layer of each stack around something."""


@dataclass(frozen=True)
class Unrolled:
    """A network without stacks that computes the same, and what its units and weights are called in the original.

    Attributes:
        net: The network written out; what is in layer 3 of the stack `blocks` is called `blocks/3/up`.
        units: Each of its inputs and units as (name in the original, layer).
        weights: Each of its weights as (place in the original, layer).
    """

    net: Network
    units: Mapping[str, tuple[str, Index]]
    weights: Mapping[Place, tuple[Place, Index]]

    def params(self, tree: Any) -> dict[str, Any]:
        """A tree like the parameters of the original, as one like those of the network written out."""

        def one(place: Place) -> Any:
            original, layer = self.weights[place]
            return at(original, tree)[layer] if layer else at(original, tree)

        return self.net.plan.tree(one)


@dataclass(frozen=True)
class _Slice:
    """One layer's slice of a source."""

    layer: int
    axis: int

    def __call__(self, source: Array) -> Array:
        return jnp.take(source, self.layer, axis=self.axis)


def _joined(*outputs: Array) -> Array:
    return jnp.stack(outputs)


def unrolled(net: Network) -> Unrolled:
    """The network with every stack written out.

    Raises:
        ValueError: A stack whose layers read slices of ids, for which no unit can be written.
        TypeError: A stack whose layers share the weight of a connection without the field `share`.
    """
    if not any(net.plan.layers.values()):
        return Unrolled(net, {s: (s, ()) for s in net.shapes}, {place: (place, ()) for place in net.plan.uses})
    units: dict[str, Node] = {}
    names: dict[str, tuple[str, Index]] = {s: (s, ()) for s in net.inputs}
    weights: dict[Place, tuple[Place, Index]] = {}
    for u, node in net.units.items():
        if isinstance(node, Stack):
            _write_out(u, node, units, names, weights)
        else:
            units[u] = node
        names[u] = (u, ())
    for place in net.plan.uses:
        if not net.plan.uses[place][0].layers:
            weights[place] = (place, ())
    return Unrolled(Network(net.inputs, units), names, weights)


def _write_out(
    u: str,
    stack: Stack,
    units: dict[str, Node],
    names: dict[str, tuple[str, Index]],
    weights: dict[Place, tuple[Place, Index]],
) -> None:
    """Add the units of a stack, the stack itself as the last of them."""
    block, inner = stack.block, unrolled(stack.block)
    carried, outputs = stack.sources[stack.carried], []
    for layer in range(stack.depth):
        called = {v: f"{u}/{layer}/{v}" for v in (*block.inputs, *inner.net.units)}
        for s, shape in block.shapes.items():
            if s not in block.inputs:
                continue
            source = carried if s == stack.carried else stack.sources[s]
            if s in block.ids:
                if s in stack.slices:
                    raise ValueError(
                        f"each layer of stack {u!r} reads a slice of the ids {source!r}, which no unit can"
                    )
                called[s] = source
            elif s in stack.slices:
                units[called[s]] = function_unit(_Slice(layer, stack.slices[s]), (source,), shape)
            else:
                units[called[s]] = Unit(shape, linear, {source: Identity()}, bias=False)
            names.setdefault(called[s], (under(u, s), (layer,)))

        def new_share(place: Place, called: Mapping[str, str] = called, layer: int = layer) -> str | None:
            """What a weight of the block is shared by when written out; None where one connection has it alone."""
            name = "/".join(place[1:] if place[0] == SHARED else place)
            return f"{u}/{name}" if stack.shared else f"{u}/{layer}/{name}" if place[0] == SHARED else None

        for v, node in inner.net.units.items():
            units[called[v]] = _called(node, inner.net, v, called, new_share)
            original, index = inner.units[v]
            names[called[v]] = (under(u, original), (layer, *index))
        for place, (original, index) in inner.weights.items():
            share = new_share(place)
            new = (called[place[0]], called.get(place[1], place[1])) if share is None else (SHARED, share)
            weights[new] = ((u, *original), index if stack.shared else (layer, *index))
        carried = called[block.output]
        outputs.append(carried)
    if stack.every_layer:
        units[u] = function_unit(_joined, outputs, stack.shape)
    else:
        units[u] = Unit(stack.shape, linear, {carried: Identity()}, bias=False)


def _called(node: Node, net: Network, v: str, called: Mapping[str, str], new_share: Any) -> Node:
    """A unit of a block, with the sources and the shared weights of one layer."""
    if isinstance(node, FunctionUnit):
        return replace(node, sources=tuple(called[s] for s in node.sources))
    connections: dict[str, Connection] = {}
    for s, edge in net.plan.edges[v].items():
        share = None if edge.weight is None else new_share(edge.weight)
        connections[called.get(s, s)] = edge.linear if share is None else _sharing(edge.linear, share)
    bias: Any = connections.pop(ONE, False)
    return Unit(node.width, node.activation, connections, bias, node.dropout)


def _sharing(connection: Connection, share: str) -> Connection:
    """The connection with the weight of this name."""
    if isinstance(connection, Wrapper):
        inner: Any = connection  # every kind of connection is a dataclass
        return replace(inner, connection=_sharing(connection.connection, share))
    try:
        return replace(connection, share=share)  # pyright: ignore[reportArgumentType, reportCallIssue]
    except TypeError:
        raise TypeError(
            f"layers share the weight of a {type(connection).__name__}, which has no field `share` to say so"
        ) from None
