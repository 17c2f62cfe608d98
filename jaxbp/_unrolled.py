"""A network whose stacks are written out, unit by unit: for what looks at one unit after the other."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._function_unit import FunctionUnit
from jaxbp._graph import ONE, SHARED
from jaxbp._names import Name, under
from jaxbp._network import Network
from jaxbp._plan import Place, at
from jaxbp._stack import Stack
from jaxbp._unit import Node, Unit
from jaxbp.activations import linear
from jaxbp.connections import Connection, Identity, Shape
from jaxbp.connections._connection import Wrapper, as_cotangent_of

Index = tuple[int, ...]
"""A layer of each stack around something."""


@dataclass(frozen=True)
class Unrolled:
    """A network without stacks that computes the same, and what its units and weights are called in the original.

    A quantity of the original has the layers as its first axes: `delta.blocks.up[3]` is `delta.blocks/3/up`.

    Attributes:
        stacked: The original.
        net: The network written out; what is in layer 3 of the stack `blocks` is called `blocks/3/up`.
        order: Its units, layer after layer, each after all that it reads.
        units: Each of its inputs and units as (name in the original, layer).
        weights: Each of its weights as (place in the original, layer).
    """

    stacked: Network
    net: Network
    order: tuple[str, ...]
    units: Mapping[str, tuple[str, Index]]
    weights: Mapping[Place, tuple[Place, Index]]

    def params(self, tree: Any) -> dict[str, Any]:
        """A tree like the parameters of the original, as one like those of the network written out."""

        def one(place: Place) -> Any:
            original, layer = self.weights[place]
            return at(original, tree)[layer] if layer else at(original, tree)

        return self.net.plan.tree(one)

    @property
    def is_original(self) -> bool:
        """Whether there are no stacks in the original, so that nothing has another name."""
        return not any(self.stacked.plan.layers.values())

    def original(self, name: Name) -> Name:
        """What the original calls a quantity, or an element of one.

        An input of a block is a unit here, and has no a and no δ there: they are its h and its Δ.
        """
        if name.is_of_unit:
            u, layer = self.units[name.unit]
            kind = name.kind if u in self.stacked.plan.nodes else _OF_INPUTS[name.kind]
            return Name(kind, tuple(u.split(".")), (*layer, *name.index))
        if name.path:
            place, layer = self.weights[name.path]
            return Name(name.kind, place, (*layer, *name.index))
        return name

    def written_out(self, name: Name) -> Name:
        """The other way: an element of the original, or all that one layer has, as it is called here."""
        if not name.path:
            return name
        n = len(self.stacks_around(name))
        path = (name.unit,) if name.is_of_unit else name.path
        return Name(name.kind, self._paths[path, name.index[:n]], name.index[n:])

    def stacks_around(self, name: Name) -> tuple[tuple[str, int], ...]:
        """The stacks whose layers are the first axes of a quantity of the original, each with its depth."""
        if not name.path:
            return ()
        plan = self.stacked.plan
        edge = None if name.is_of_unit else plan.uses[name.path][0]
        unit = name.unit if edge is None else edge.unit
        depths, parts = plan.layers[unit], unit.split(".")
        own = [True] * len(depths) if edge is None else edge.layers
        return tuple((".".join(parts[: i + 1]), depth) for i, depth in enumerate(depths) if own[i])

    @cached_property
    def _paths(self) -> dict[tuple[Place, Index], Place]:
        units = {((original,), layer): (u,) for u, (original, layer) in self.units.items()}
        return units | {original: place for place, original in self.weights.items()}


_OF_INPUTS = {"a": "h", "h": "h", "delta": "Delta", "Delta": "Delta"}


@dataclass(frozen=True)
class Slice(Connection):
    """What one layer has of a source: a = h[…, layer, …], along an axis that is counted from the end."""

    layer: int
    axis: int

    @property
    def index(self) -> tuple[Any, ...]:
        """Where it is in an array."""
        return (..., self.layer, *[slice(None)] * (-1 - self.axis))

    def weight_shape(self, source: Shape, unit: Shape) -> Shape | None:
        """None."""
        return None

    def apply(self, W: None, h: Array) -> Array:
        """The slice."""
        return h[self.index]

    def pull_back(self, W: None, h: Any, delta: Array) -> Array:
        """δ at its place, and 0 elsewhere."""
        return as_cotangent_of(h, self.placed(delta, h.shape[self.axis]))

    def placed(self, part: Array, depth: int) -> Array:
        """The slice among others, which are 0."""
        axis = part.ndim + 1 + self.axis
        return jnp.zeros((*part.shape[:axis], depth, *part.shape[axis:]), part.dtype).at[self.index].set(part)


@dataclass(frozen=True)
class Joined(Connection):
    """The output of one layer among those of all: the transpose of a `Slice`, along an axis of this length."""

    slice: Slice
    depth: int

    def weight_shape(self, source: Shape, unit: Shape) -> Shape | None:
        """None."""
        return None

    def apply(self, W: None, h: Array) -> Array:
        """The output at its place, and 0 elsewhere."""
        return self.slice.placed(h, self.depth)

    def pull_back(self, W: None, h: Any, delta: Array) -> Array:
        """The slice of δ."""
        return as_cotangent_of(h, self.slice.apply(None, delta))


@dataclass(frozen=True)
class OfSlice(Wrapper):
    """A connection that reads ids, of what one layer has of them: no unit could hold that."""

    connection: Connection
    slice: Slice

    @property
    def reads_ids(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the connection does."""
        return self.connection.reads_ids

    def weight_shape(self, source: Shape, unit: Shape) -> Shape | None:
        """That of the connection, of a source without the axis of layers."""
        axis = len(source) + self.slice.axis
        return self.connection.weight_shape((*source[:axis], *source[axis + 1 :]), unit)

    def apply(self, W: Any, h: Array) -> Array:
        """What the connection makes of the slice."""
        return self.connection.apply(W, self.slice.apply(None, h))

    def pull_back(self, W: Any, h: Any, delta: Array) -> Array:
        """Refused as by the connection: nothing flows back into ids."""
        return self.connection.pull_back(W, h, delta)

    def contract(self, W: Any, h: Any, delta: Array) -> Array:
        """What the connection makes of the slice and δ."""
        return self.connection.contract(W, self.slice.apply(None, h), delta)


def unrolled(net: Network) -> Unrolled:
    """The network with every stack written out.

    Raises:
        ValueError: A unit that reads the same ids by two inputs of its block, which no unit can.
        TypeError: A stack whose layers share the weight of a connection without the field `share`.
    """
    if not any(net.plan.layers.values()):
        names = {s: (s, ()) for s in net.shapes}
        return Unrolled(net, net, net.order, names, {place: (place, ()) for place in net.plan.uses})
    units: dict[str, Node] = {}
    names: dict[str, tuple[str, Index]] = {s: (s, ()) for s in net.inputs}
    weights: dict[Place, tuple[Place, Index]] = {}
    for u in net.order:
        node = net.units[u]
        if isinstance(node, Stack):
            _write_out(u, node, units, names, weights)
        else:
            units[u] = node
        names[u] = (u, ())
    for place in net.plan.uses:
        if not net.plan.uses[place][0].layers:
            weights[place] = (place, ())
    return Unrolled(net, Network(net.inputs, units), tuple(units), names, weights)


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
        of_ids: dict[str, Slice] = {}
        for s, shape in block.shapes.items():
            if s not in block.inputs:
                continue
            source = carried if s == stack.carried else stack.sources[s]
            one_layer = Slice(layer, stack.slices[s] - len(shape) - 1) if s in stack.slices else None
            if s in block.ids:
                called[s] = source
                of_ids |= {} if one_layer is None else {s: one_layer}
            else:
                units[called[s]] = Unit(shape, linear, {source: one_layer or Identity()}, bias=False)
            names.setdefault(called[s], (under(u, s), (layer,)))

        def new_share(place: Place, called: Mapping[str, str] = called, layer: int = layer) -> str | None:
            """What a weight of the block is shared by when written out; None where one connection has it alone."""
            name = "/".join(place[1:] if place[0] == SHARED else place)
            return f"{u}/{name}" if stack.shared else f"{u}/{layer}/{name}" if place[0] == SHARED else None

        for v in inner.order:
            units[called[v]] = _called(inner.net.units[v], inner.net, v, called, of_ids, new_share)
            original, index = inner.units[v]
            names[called[v]] = (under(u, original), (layer, *index))
        for place, (original, index) in inner.weights.items():
            share = new_share(place)
            new = (called[place[0]], called.get(place[1], place[1])) if share is None else (SHARED, share)
            weights[new] = ((u, *original), index if stack.shared else (layer, *index))
        carried = called[block.output]
        outputs.append(carried)
    if stack.every_layer:
        joined = [Joined(Slice(layer, -len(stack.shape)), stack.depth) for layer in range(stack.depth)]
        units[u] = Unit(stack.shape, linear, dict(zip(outputs, joined, strict=True)), bias=False)
    else:
        units[u] = Unit(stack.shape, linear, {carried: Identity()}, bias=False)


def _called(
    node: Node, net: Network, v: str, called: Mapping[str, str], of_ids: Mapping[str, Slice], new_share: Any
) -> Node:
    """A unit of a block, with the sources, the slices of ids, and the shared weights of one layer."""
    if isinstance(node, FunctionUnit):
        return replace(node, sources=tuple(called[s] for s in node.sources))
    connections: dict[str, Connection] = {}
    for s, edge in net.plan.edges[v].items():
        if called.get(s, s) in connections:
            raise ValueError(
                f"unit {v!r} reads the ids {called[s]!r} by two inputs of its block, which no unit outside of it can"
            )
        share = None if edge.weight is None else new_share(edge.weight)
        connection = edge.linear if share is None else _sharing(edge.linear, share)
        connections[called.get(s, s)] = OfSlice(connection, of_ids[s]) if s in of_ids else connection
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
