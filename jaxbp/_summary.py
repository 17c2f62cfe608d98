"""What a network looks like at a glance: on a few lines, and as a table."""

from collections.abc import Mapping
from math import prod

from jaxbp._checks import name_of
from jaxbp._drawing import by_axes
from jaxbp._function_unit import FunctionUnit
from jaxbp._graph import ONE
from jaxbp._ids import Ids
from jaxbp._names import under
from jaxbp._plan import Edge, Plan
from jaxbp._unit import Node, as_shape
from jaxbp.connections import Shape

_SHOWN = 5  # units at each end of a long list
_BYTES = 4  # of a float32
COLUMNS = ("unit", "shape", "activation", "reads", "parameters", "values")
FIRST_NUMBER = 4


def in_words(inputs: Mapping[str, int | Shape | Ids], units: Mapping[str, Node], plan: Plan) -> str:
    """A line for each unit, of which a long list is elided."""
    counts = _counts(plan)
    lines = [
        f"{u}: {by_axes(units[u].shape)} {units[u].activation.name} of {_reads(units[u], plan.edges[u])}"
        for u in plan.edges
    ]
    if len(lines) > 2 * _SHOWN + 1:
        lines[_SHOWN:-_SHOWN] = [f"… {len(lines) - 2 * _SHOWN} more units …"]
    given = ", ".join(f"{name} {by_axes(as_shape(width))}" for name, width in inputs.items())
    head = f"Network of {given}: {_plural(len(units), 'unit')}, {_plural(sum(counts.values()), 'parameter')}"
    return "\n".join([head, *(f"  {line}" for line in lines)])


def table(inputs: Mapping[str, int | Shape | Ids], units: Mapping[str, Node], plan: Plan) -> str:
    """The rows as text, in columns."""
    lines = [COLUMNS, *rows(inputs, units, plan)]
    widths = [max(len(row[i]) for row in lines) for i in range(len(COLUMNS))]
    aligned = ["  ".join(map(_aligned, range(len(COLUMNS)), row, widths)) for row in lines]
    rule = "─" * max(map(len, aligned))
    return "\n".join([aligned[0], rule, *aligned[1:], rule, totals(units, plan)])


def _aligned(column: int, cell: str, width: int) -> str:
    return cell.ljust(width) if column < FIRST_NUMBER else cell.rjust(width)


def rows(inputs: Mapping[str, int | Shape | Ids], units: Mapping[str, Node], plan: Plan) -> list[tuple[str, ...]]:
    """A row for each input, unit and group of shared weights."""
    counts = _counts(plan)
    given = [(name, by_axes(as_shape(width)), "", "", "", str(prod(as_shape(width)))) for name, width in inputs.items()]
    of_units = [
        (u, by_axes(v.shape), v.activation.name, _reads(v, plan.edges[u]), f"{counts[u]:,}", f"{_values(u, plan):,}")
        for u, v in ((u, units[u]) for u in plan.edges)
    ]
    shared = [(group, "", "", "", f"{n:,}", "") for group, n in counts.items() if group not in units]
    return given + of_units + shared


def totals(units: Mapping[str, Node], plan: Plan) -> str:
    """Numbers of parameters and of values, and the memory they take, in a line."""
    weights = sum(_counts(plan).values())
    values = sum(_values(u, plan) for u in units)
    return (
        f"{_plural(weights, 'parameter')}, {_size(_BYTES * weights)} in float32; "
        f"a and h of one example {_size(2 * _BYTES * values)}"
    )


def _values(u: str, plan: Plan) -> int:
    """How many elements a unit has for one example, with all that is in its layers."""
    inside = [v for v in plan.nodes if v == u or v.startswith(under(u, ""))]
    return sum(prod(plan.layers[v]) * prod(plan.shapes[v]) for v in inside)


def _counts(plan: Plan) -> dict[str, int]:
    counts = dict.fromkeys(plan.groups, 0)
    for place, shape in plan.weight_shapes.items():
        counts[place[0]] += prod(shape)
    return counts


def _reads(unit: Node, edges: Mapping[str, Edge]) -> str:
    if unit.stacked is not None:
        reads = ", ".join(s if s == name else f"{name} = {s}" for name, s in unit.stacked.sources.items())
        return f"{unit.stacked.depth} × [{', '.join(unit.stacked.block.order)}] ({reads})"
    if isinstance(unit, FunctionUnit):
        return f"{name_of(unit.function)}({', '.join(edges)})"
    parts: list[str] = []
    for s, edge in edges.items():
        share = f" {edge.weight[-1]}" if edge.weight is not None and edge.is_shared else ""
        parts.append(f"bias{share}" if s == ONE else f"{s} ({type(edge.linear).__name__}{share})")
    return ", ".join(parts)


def _plural(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return ""
