"""What a pass found out, in a notebook: each unit's a, h, Δ and δ as statistics and small heat maps."""

import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from jaxbp._backprop import Backprop
from jaxbp._drawing import by_axes
from jaxbp._forward import Trace
from jaxbp._names import named
from jaxbp._notebook._curves import curves
from jaxbp._notebook._heat_map import heat_map
from jaxbp._notebook._measures import Measures, in_order, is_at_hand, measured
from jaxbp._notebook._parts import Column, cell, ends, folded, number, paragraph, share, shown, table

Quantities = Mapping[str, Mapping[str, Any]]
"""Arrays by the name of the quantity, and by unit."""

_LEGEND = (
    "RMS is the root mean square. Heat maps have the last axis across and all others down; orange is positive, blue "
    "negative, transparent 0, magenta not finite, each in a scale of its own."
)
_WORTH_A_CURVE = 4  # units
_MOST_ARRAYS, _MOST_CHARACTERS = 100, 60_000


def of_trace(trace: Trace) -> str | None:
    """A forward phase; None where its values are not at hand, as within `jit`."""
    quantities = {"a": trace.a, "h": trace.h}
    if not is_at_hand(quantities):
        return None
    measures = _measured(quantities)
    return shown(
        paragraph(f"Forward phase: a and h of {len(trace.a)} {_units(trace.a)}"),
        _by_unit(measures, in_order(trace.h)),
        paragraph(_LEGEND, "soft"),
        _tree(quantities),
    )


def of_backprop(back: Backprop) -> str | None:
    """A forward and a backward phase; None where its values are not at hand, as within `jit`."""
    quantities = {"h": back.trace.h, "Δ": back.Delta, "δ": back.delta}
    gradient = {} if back.gradient is None else {str(name): dW for name, dW in named({"grad": back.grads}).items()}
    if not is_at_hand((quantities, gradient, back.value)):
        return None
    measures = _measured(quantities)
    value = f"loss {number(float(back.value))}" if back.value.size == 1 else f"losses of shape {back.value.shape}"
    names = in_order(back.delta)
    over_units = {
        f"RMS of {kind}": [(i + 1.0, measures[kind, u].rms) for i, u in enumerate(names)] for kind in ("δ", "Δ")
    }
    sizes = curves(over_units, "unit, in the order of the table", "RMS") if len(names) >= _WORTH_A_CURVE else ""
    return shown(
        paragraph(f"Backpropagation: {value}; h, Δ and δ of {len(names)} {_units(names)}"),
        _by_unit(measures, in_order(back.trace.h)),
        paragraph(_LEGEND, "soft"),
        f'<div class="panels">{sizes}</div>' if sizes else "",
        _gradient(gradient),
        paragraph(f"collected: {', '.join(back.collected)}", "soft") if back.collected else "",
        _tree({"a": back.trace.a, "h": back.trace.h, "Delta": back.Delta, "delta": back.delta}),
    )


def _measured(quantities: Quantities) -> dict[tuple[str, str], Measures]:
    """By quantity and unit; a picture of what will be shown."""
    arrays = {(kind, u): x for kind, of in quantities.items() for u, x in of.items()}
    first, _, last = ends(in_order(quantities["h"]))
    pictured = {kind for kind in quantities if kind != "Δ"}
    return measured(arrays, [(kind, u) for kind, u in arrays if kind in pictured and u in (*first, *last)])


def _by_unit(measures: Mapping[tuple[str, str], Measures], units: Sequence[str]) -> str:
    """A row for each unit and input; of many the first and the last."""
    kinds = list(dict.fromkeys(kind for kind, _ in measures))
    pictured = [kind for kind in kinds if kind != "Δ"]
    columns = [Column("unit"), Column("shape"), *(Column(f"RMS of {kind}", "number") for kind in kinds)]
    columns += [Column(text, "number") for text in ("largest |h|", "h is 0", "not finite")]
    columns += [Column(kind) for kind in pictured]

    def row(u: str) -> list[str]:
        found = {kind: measures[kind, u] for kind in kinds if (kind, u) in measures}
        h = found["h"]
        broken = max(each.not_finite for each in found.values())
        sizes = [cell(number(found[kind].rms)) if kind in found else "" for kind in kinds]
        pictures = [heat_map(f"{kind} of {u}", found[kind]) if kind in found else "" for kind in pictured]
        numbers = [cell(number(h.largest)), cell(share(h.zeros)), cell(share(broken), "wrong")]
        return [cell(u), cell(by_axes(h.shape)), *sizes, *numbers, *pictures]

    first, more, last = ends(units)
    between = [[cell(f"… {more} more …")]] if more else []
    return table(columns, [*map(row, first), *between, *map(row, last)], "Statistics by unit")


def _gradient(gradient: Mapping[str, Any]) -> str:
    """The size of each gradient, behind a click."""
    if not gradient:
        return ""
    first, more, last = ends(list(gradient))
    measures = measured({name: gradient[name] for name in (*first, *last)}, ())

    def row(name: str) -> list[str]:
        of = measures[name]
        numbers = (number(of.rms), number(of.largest), share(of.zeros), share(of.not_finite))
        return [cell(name), cell(by_axes(of.shape)), *map(cell, numbers)]

    headings = ("RMS", "largest magnitude", "is 0", "not finite")
    columns = [Column("gradient"), Column("shape"), *(Column(heading, "number") for heading in headings)]
    between = [[cell(f"… {more} more …")]] if more else []
    rows = table(columns, [*map(row, first), *between, *map(row, last)], "Gradients")
    return folded("gradients", rows)


def _tree(quantities: Quantities) -> str:
    """All arrays as treescope has them, where it is installed, behind a click; not of very much."""
    arrays = {str(name): array for name, array in named(quantities).items()}
    if find_spec("treescope") is None or len(arrays) > _MOST_ARRAYS:
        return ""
    import treescope

    # of the arrays alone: of a type with a _repr_html_ treescope would ask for that
    with warnings.catch_warnings(action="ignore"):  # the mean of an array of NaN
        tree = treescope.render_to_html(arrays)
    return folded("all arrays, by treescope", tree) if len(tree) <= _MOST_CHARACTERS else ""


def _units(names: Any) -> str:
    return "unit" if len(names) == 1 else "units"
