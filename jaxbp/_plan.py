"""A network compiled once to its edges: which unit reads what, through which connection, and with which weight."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import getitem
from typing import Any

from jaxbp._graph import ONE, SHARED, topological_order
from jaxbp._names import under
from jaxbp._unit import Node
from jaxbp.connections import Connection, Shape

Place = tuple[str, ...]
"""Where a weight lies in the tree of parameters: any stacks around it, its group (a unit or `"shared"`), its name."""


def at(place: Place, tree: Any) -> Any:
    """What a tree like the parameters holds at a place."""
    return reduce(getitem, place, tree)


@dataclass(frozen=True)
class Edge:
    """An edge s ⇒ u of the network.

    Attributes:
        source: s, or `ONE`, the unit that is always +1.
        unit: u.
        shape: The shape of h_s for one example; `ONE` has as many rows as the unit it leads to, `(*rows, 1)`.
        connection: The kind of connection; None where u makes something else of its sources than a sum.
        weight: Where its weight lies; None where there is none.
        layers: For each stack around it, whether each layer has a weight of its own.
    """

    source: str
    unit: str
    shape: Shape
    connection: Connection | None
    weight: Place | None
    layers: tuple[bool, ...] = ()

    @property
    def linear(self) -> Connection:
        """The connection, of an edge that has one."""
        if self.connection is None:
            raise TypeError(f"{self.unit!r} is a function of {self.source!r}, and reads it by no connection")
        return self.connection

    def weight_in(self, params: Mapping[str, Any]) -> Any:
        """The weight, wherever in the tree it lies; None where there is none."""
        return None if self.weight is None else at(self.weight, params)

    @property
    def is_shared(self) -> bool:
        """Whether the weight is one that other edges may use too."""
        return self.weight is not None and self.weight[-2] == SHARED

    def inside(self, stack: str, own: bool) -> "Edge":
        """The edge as the network around a stack sees it."""
        source = self.source if self.source == ONE else under(stack, self.source)
        weight = None if self.weight is None else (stack, *self.weight)
        return replace(self, source=source, unit=under(stack, self.unit), weight=weight, layers=(own, *self.layers))


@dataclass(frozen=True)
class Plan:
    """The edges of a network, sorted as the parts of the library ask for them.

    What is in the block of a stack has a name with a dot, `blocks.up`; all but `edges` and `readers` hold it too.

    Attributes:
        edges: Into each unit, by source; the units in topological order.
        readers: The units that read each input and unit, in the order of the backward phase.
        uses: The edges that use each weight, by its place: one, unless it is shared.
        weight_shapes: The shape of each weight, by its place, in the order of the parameters.
        due: The weights whose gradients are complete with δ of each unit: a shared one waits for the last of its users.
        groups: The groups of weights, in a tree like the parameters, down to dicts from name to place.
        nodes: The units in the order of computation.
        shapes: The shape of each input and unit, for one example and one layer.
        layers: How many layers each input and unit has, for each stack around it.
        ids: How many ids there are, of each input that holds such.
    """

    edges: Mapping[str, Mapping[str, Edge]]
    readers: Mapping[str, tuple[str, ...]]
    uses: Mapping[Place, tuple[Edge, ...]]
    weight_shapes: Mapping[Place, Shape]
    due: Mapping[str, tuple[Place, ...]]
    groups: Mapping[str, Any]
    nodes: Mapping[str, Node]
    shapes: Mapping[str, Shape]
    layers: Mapping[str, Shape]
    ids: Mapping[str, int]

    def tree(self, make: Callable[[Place], Any]) -> dict[str, Any]:
        """A tree like the parameters, of what is made for the place of each weight."""

        def of(group: Any) -> Any:
            return {k: of(v) for k, v in group.items()} if isinstance(group, Mapping) else make(group)

        return of(self.groups)

    def weights_into(self, params: Mapping[str, Any], u: str) -> list[Any]:
        """The weights of a unit, one for each edge into it."""
        return [edge.weight_in(params) for edge in self.edges[u].values()]


def compiled(inputs: Mapping[str, Shape], units: Mapping[str, Node], ids: Mapping[str, int]) -> Plan:
    """The plan of a network; one that `topological_order` refuses, or whose shapes do not fit together, is refused."""
    order = topological_order(inputs, {u: [s for s in unit.reads if s != ONE] for u, unit in units.items()})
    shapes = {**inputs, **{u: unit.shape for u, unit in units.items()}}
    into, own = _edges_into(units, shapes, ids)
    readers: dict[str, list[str]] = {s: [] for s in shapes}
    for u in reversed(order):
        for s in into[u]:
            if s != ONE:
                readers[s].append(u)
    groups, weight_shapes, uses = _by_place(units, into, own)
    nodes: dict[str, Node] = {}
    all_shapes, all_ids, layers = dict(inputs), dict(ids), dict.fromkeys(inputs, ())
    for u in order:
        if (stack := units[u].stacked) is not None:
            inner = stack.block.plan
            nodes |= {under(u, v): node for v, node in inner.nodes.items()}
            all_shapes |= {under(u, v): shape for v, shape in inner.shapes.items()}
            all_ids |= {under(u, v): size for v, size in inner.ids.items()}
            layers |= {under(u, v): (stack.depth, *of) for v, of in inner.layers.items()}
        nodes[u], all_shapes[u], layers[u] = units[u], units[u].shape, ()
    place_of = {u: i for i, u in enumerate(order)}
    due: dict[str, list[Place]] = {u: [] for u in order}
    for weight, edges in uses.items():
        users = [weight[0]] if edges[0].layers else [edge.unit for edge in edges]
        due[min(users, key=place_of.__getitem__)].append(weight)
    return Plan(
        edges={u: into[u] for u in order},
        readers={s: tuple(of) for s, of in readers.items()},
        uses=uses,
        weight_shapes=weight_shapes,
        due={u: tuple(weights) for u, weights in due.items()},
        groups=groups,
        nodes=nodes,
        shapes=all_shapes,
        layers=layers,
        ids=all_ids,
    )


def _edges_into(
    units: Mapping[str, Node], shapes: Mapping[str, Shape], ids: Mapping[str, int]
) -> tuple[dict[str, dict[str, Edge]], dict[str, dict[str, Shape]]]:
    """The edges into each unit, and the shapes of the weights by group and name; what does not fit is refused."""
    into: dict[str, dict[str, Edge]] = {}
    own: dict[str, dict[str, Shape]] = {u: {} for u in units}
    shared: dict[str, Shape] = {}
    for u, unit in units.items():
        into[u] = {}
        try:
            unit.check(shapes)
            for s, connection in unit.reads.items():
                source = (*unit.shape[:-1], 1) if s == ONE else shapes[s]
                _check_ids(unit, connection, s, ids.get(s))
                shape = None if connection is None else _weight_shape(connection, s, source, unit.shape)
                share = None if connection is None else connection.share
                weight = None if shape is None else (u, s) if share is None else (SHARED, share)
                into[u][s] = Edge(s, u, source, connection, weight)
                if share is not None:
                    _agree(shared, share, s, shape)
                elif shape is not None:
                    own[u][s] = shape
        except ValueError as error:
            raise ValueError(f"unit {u!r} {error}") from None
    return into, {**own, SHARED: shared} if shared else own


def _by_place(
    units: Mapping[str, Node], into: Mapping[str, Mapping[str, Edge]], own: Mapping[str, Mapping[str, Shape]]
) -> tuple[dict[str, Any], dict[Place, Shape], dict[Place, tuple[Edge, ...]]]:
    """The places of all weights in a tree like the parameters, their shapes, and the edges that use them."""
    groups: dict[str, Any] = {}
    shapes: dict[Place, Shape] = {}
    uses: dict[Place, tuple[Edge, ...]] = {}
    for group, named in own.items():
        stack = units[group].stacked if group in units else None
        if stack is None:
            groups[group] = {name: (group, name) for name in named}
            shapes |= {(group, name): shape for name, shape in named.items()}
            uses |= dict.fromkeys(groups[group].values(), ())
        else:
            inner: Plan = stack.block.plan
            repeated = () if stack.shared else (stack.depth,)
            groups[group] = _inside(inner.groups, group)
            shapes |= {(group, *w): (*repeated, *shape) for w, shape in inner.weight_shapes.items()}
            uses |= {
                (group, *w): tuple(edge.inside(group, not stack.shared) for edge in edges)
                for w, edges in inner.uses.items()
            }
    for edge in (edge for edges in into.values() for edge in edges.values()):
        if edge.weight is not None:
            uses[edge.weight] = (*uses[edge.weight], edge)
    return groups, shapes, uses


def _inside(groups: Any, stack: str) -> Any:
    """The places of a block's weights, as the network around it sees them."""
    return {k: _inside(v, stack) for k, v in groups.items()} if isinstance(groups, Mapping) else (stack, *groups)


def _check_ids(unit: Node, connection: Connection | None, s: str, size: int | None) -> None:
    """Refuse ids where numbers are read, and numbers where ids are."""
    if unit.ids:
        if unit.ids.get(s, size) != size or (size is not None and s not in unit.ids):
            expected = f"{unit.ids[s]} ids" if s in unit.ids else "numbers"
            raise ValueError(f"cannot read {s!r}: its block takes {expected}, got {size or 'no'} ids")
        return
    looks_up = connection is not None and connection.reads_ids
    if size is not None and not looks_up:
        raise ValueError(f"cannot read {s!r}: it holds ids, which are no numbers; read it by Embedding({size})")
    if looks_up and size is None:
        raise ValueError(f"cannot read {s!r}: Embedding reads ids, an input such as jaxbp.ids(64, 5000)")
    rows = getattr(connection, "size", size)
    if looks_up and rows != size:
        raise ValueError(f"cannot read {s!r}: Embedding has {rows} rows, but the ids are 0 to {(size or 0) - 1}")


def _weight_shape(connection: Connection, s: str, source: Shape, unit: Shape) -> Shape | None:
    try:
        return connection.weight_shape(source, unit)
    except ValueError as error:
        raise ValueError(f"cannot read {s!r}: {error}") from None


def _agree(shared: dict[str, Shape], share: str, source: str, shape: Shape | None) -> None:
    """Refuse a shared weight that is none, or of another shape elsewhere."""
    if shape is None:
        raise ValueError(f"reads {source!r} by share={share!r}, but there is no weight to share")
    if shared.setdefault(share, shape) != shape:
        reads = "have" if source == ONE else f"read {source!r} by"
        raise ValueError(
            f"cannot {reads} the shared weight {share!r}: it has shape {shared[share]} elsewhere, and {shape} here"
        )
