"""The graph of a network as a drawing: inputs on the left, each unit to the right of all that it reads."""

from collections.abc import Mapping
from html import escape

from jaxbp._ids import Ids
from jaxbp._plan import Plan
from jaxbp._unit import Node, as_shape
from jaxbp.connections import Shape

_WIDTH, _HEIGHT, _GAP, _ROW = 96, 40, 56, 60
_MOST = 60  # units in a drawing that can still be read


def drawing(inputs: Mapping[str, int | Shape | Ids], units: Mapping[str, Node], plan: Plan, most: int = _MOST) -> str:
    """An SVG of the graph, in the colours of the text around it; of one of more units than `most` its two ends."""
    shown = list(plan.edges)
    if len(shown) > most:
        shown = shown[: most // 2] + shown[-(most // 2) :]
    column = _columns(list(inputs), shown, plan)
    rows: dict[int, int] = {}
    place: dict[str, tuple[int, int]] = {}
    for name, c in column.items():
        place[name] = (c, rows.get(c, 0))
        rows[c] = place[name][1] + 1
    tallest = max(rows.values())
    # what leads past a column goes over all that stands in it
    above = _ROW - _HEIGHT if any(_is_long(place, s, u) for u in shown for s in plan.edges[u]) else 0

    def at(name: str) -> tuple[float, float]:
        c, r = place[name]
        return 8 + c * (_WIDTH + _GAP), 8 + above + (r + (tallest - rows[c]) / 2) * _ROW

    def top(s: str, u: str) -> float | None:
        """The height at which an edge passes the columns between its ends; None where there are none."""
        if not _is_long(place, s, u):
            return None
        between = [at(name)[1] for name, (c, _) in place.items() if place[s][0] < c < place[u][0]]
        return min(between) - (_ROW - _HEIGHT) / 2

    parts = [_edge(at(s), at(u), top(s, u), f"{s} ⇒ {u}") for u in shown for s in plan.edges[u] if s in place]
    for name in column:
        shape = units[name].shape if name in units else as_shape(inputs[name])
        stack = units[name].stacked if name in units else None
        below = "" if name not in units else f"{units[name].activation.name} " if stack is None else f"{stack.depth} × "
        parts.append(_box(at(name), name, f"{below}{by_axes(shape)}", name in units))
    width = 16 + (max(rows) + 1) * (_WIDTH + _GAP) - _GAP
    height = 16 + above + tallest * _ROW - (_ROW - _HEIGHT)
    left_out = len(plan.edges) - len(shown)
    if left_out:
        height += _ROW - _HEIGHT
        said = f"… {left_out} more units in the middle …"
        parts.append(f'<text x="8" y="{height - 8}" fill="currentColor" stroke="none">{said}</text>')
    title = f"Network of {len(units)} units" + (f", of which {left_out} in the middle are left out" if left_out else "")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="sans-serif" font-size="12" fill="none" '
        f'stroke="currentColor"><title>{title}</title>{"".join(parts)}</svg>'
    )


def by_axes(shape: Shape) -> str:
    """A shape as people write it, 4×6."""
    return "×".join(map(str, shape))


def _is_long(place: Mapping[str, tuple[int, int]], s: str, u: str) -> bool:
    return s in place and place[u][0] - place[s][0] > 1


def _columns(inputs: list[str], shown: list[str], plan: Plan) -> dict[str, int]:
    """How many steps from the inputs, at most, each name is."""
    column = dict.fromkeys(inputs, 0)
    for u in shown:
        column[u] = 1 + max((column[s] for s in plan.edges[u] if s in column), default=max(column.values()))
    return column


def _box(corner: tuple[float, float], name: str, below: str, is_unit: bool) -> str:
    x, y = corner
    middle = x + _WIDTH / 2
    label = escape(name if len(name) <= 12 else f"{name[:11]}…")
    return (
        f"<g><title>{escape(name)}: {escape(below)}</title>"
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="{8 if is_unit else 0}" stroke-opacity="0.6"/>'
        f'<text x="{middle}" y="{y + 17}" text-anchor="middle" fill="currentColor" stroke="none">{label}</text>'
        f'<text x="{middle}" y="{y + 32}" text-anchor="middle" fill="currentColor" stroke="none" font-size="10" '
        f'opacity="0.7">{escape(below)}</text></g>'
    )


def _edge(start: tuple[float, float], end: tuple[float, float], over: float | None, name: str) -> str:
    """A curve, which goes over what stands between its ends."""
    x0, y0, x1, y1 = start[0] + _WIDTH, start[1] + _HEIGHT / 2, end[0], end[1] + _HEIGHT / 2
    bend = _GAP / 2
    path = f"M{x0} {y0} C{x0 + bend} {y0} {x1 - bend} {y1} {x1} {y1}"
    if over is not None:
        path = (
            f"M{x0} {y0} C{x0 + bend} {y0} {x0 + bend} {over} {x0 + _GAP} {over} L{x1 - _GAP} {over} "
            f"C{x1 - bend} {over} {x1 - bend} {y1} {x1} {y1}"
        )
    return f'<path d="{path}" stroke-opacity="0.5"><title>{escape(name)}</title></path>'
