"""A network compiled once to its edges: which unit reads what, through which connection, and with which weight."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxbp._graph import ONE, SHARED, topological_order
from jaxbp._unit import Node
from jaxbp.connections import Connection, Shape

Place = tuple[str, str]
"""Where a weight lies in the tree of parameters: its group, a unit or `"shared"`, and its name there."""


@dataclass(frozen=True)
class Edge:
    """An edge s ⇒ u of the network.

    Attributes:
        source: s, or `ONE`, the unit that is always +1.
        unit: u.
        shape: The shape of h_s for one example; `ONE` has as many rows as the unit it leads to, `(*rows, 1)`.
        connection: The kind of connection; None where u is a function of its sources.
        weight: Where its weight lies; None where there is none.
    """

    source: str
    unit: str
    shape: Shape
    connection: Connection | None
    weight: Place | None

    @property
    def linear(self) -> Connection:
        """The connection, of an edge that has one."""
        if self.connection is None:
            raise TypeError(f"{self.unit!r} is a function of {self.source!r}, and reads it by no connection")
        return self.connection

    def weight_in(self, params: Mapping[str, Any]) -> Any:
        """The weight, wherever in the tree it lies; None where there is none."""
        return None if self.weight is None else params[self.weight[0]][self.weight[1]]

    @property
    def is_shared(self) -> bool:
        """Whether the weight is one that other edges may use too."""
        return self.weight is not None and self.weight[0] == SHARED


@dataclass(frozen=True)
class Plan:
    """The edges of a network, sorted as the parts of the library ask for them.

    Attributes:
        edges: Into each unit, by source; the units in topological order.
        readers: The units that read each input and unit, in the order of the backward phase.
        uses: The edges that use each weight, in a tree like the parameters: one, unless it is shared.
        weight_shapes: The shape of each weight, in a tree like the parameters.
        due: The weights whose gradients are complete with δ of each unit: a shared one waits for the last of its users.
    """

    edges: Mapping[str, Mapping[str, Edge]]
    readers: Mapping[str, tuple[str, ...]]
    uses: Mapping[str, Mapping[str, tuple[Edge, ...]]]
    weight_shapes: Mapping[str, Mapping[str, Shape]]
    due: Mapping[str, tuple[Place, ...]]

    def weights_into(self, params: Mapping[str, Any], u: str) -> list[Any]:
        """The weights of a unit, one for each edge into it."""
        return [edge.weight_in(params) for edge in self.edges[u].values()]


def compiled(inputs: Mapping[str, Shape], units: Mapping[str, Node], ids: Mapping[str, int]) -> Plan:
    """The plan of a network; one that `topological_order` refuses, or whose shapes do not fit together, is refused."""
    order = topological_order(inputs, {u: [s for s in unit.reads if s != ONE] for u, unit in units.items()})
    shapes = {**inputs, **{u: unit.shape for u, unit in units.items()}}
    into: dict[str, dict[str, Edge]] = {}
    weight_shapes: dict[str, dict[str, Shape]] = {u: {} for u in units}
    shared: dict[str, Shape] = {}
    for u, unit in units.items():
        into[u] = {}
        try:
            unit.check(shapes)
            for s, connection in unit.reads.items():
                source = (*unit.shape[:-1], 1) if s == ONE else shapes[s]
                _check_ids(connection, s, ids.get(s))
                shape = None if connection is None else _weight_shape(connection, s, source, unit.shape)
                share = None if connection is None else connection.share
                weight = None if shape is None else (u, s) if share is None else (SHARED, share)
                into[u][s] = Edge(s, u, source, connection, weight)
                if share is not None:
                    _agree(shared, share, s, shape)
                elif shape is not None:
                    weight_shapes[u][s] = shape
        except ValueError as error:
            raise ValueError(f"unit {u!r} {error}") from None
    if shared:
        weight_shapes[SHARED] = shared
    backward = tuple(reversed(order))
    uses: dict[Place, list[Edge]] = {(group, name): [] for group, names in weight_shapes.items() for name in names}
    readers: dict[str, list[str]] = {s: [] for s in shapes}
    for edges in into.values():
        for edge in edges.values():
            if edge.weight is not None:
                uses[edge.weight].append(edge)
    for u in backward:
        for s in into[u]:
            if s != ONE:
                readers[s].append(u)
    place_of = {u: i for i, u in enumerate(order)}
    due: dict[str, list[Place]] = {u: [] for u in order}
    for weight, edges in uses.items():
        due[min((edge.unit for edge in edges), key=place_of.__getitem__)].append(weight)
    return Plan(
        {u: into[u] for u in order},
        {s: tuple(units) for s, units in readers.items()},
        {group: {name: tuple(uses[group, name]) for name in names} for group, names in weight_shapes.items()},
        weight_shapes,
        {u: tuple(weights) for u, weights in due.items()},
    )


def _check_ids(connection: Connection | None, s: str, size: int | None) -> None:
    """Refuse ids where numbers are read, and numbers where ids are."""
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
