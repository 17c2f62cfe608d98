"""A training in a notebook: its curves, and its last row."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxbp._notebook._curves import curves
from jaxbp._notebook._parts import Column, cell, number, paragraph, shown, table
from jaxbp.train._epoch import Epoch, Fit

_POSITIONS = ("epoch", "step")
_LOSSES = {"loss": "training loss", "validation_loss": "validation loss"}
_BESIDE = ("seconds",)
_MOST_PANELS = 6


def of_fit(fit: Fit) -> str:
    """The curves of all epochs."""
    return _of_rows("Fit", fit.history)


def of_epoch(epoch: Epoch) -> str:
    """The curves until this epoch."""
    return _of_rows(f"Epoch {epoch.number}", epoch.history)


def _of_rows(title: str, history: Sequence[Mapping[str, Any]]) -> str:
    if not history:
        return shown(paragraph(f"{title}: nothing was done yet"))
    # several rows for one epoch where `every` counts steps
    position = "epoch" if len({row.get("epoch") for row in history}) == len(history) else "step"
    keys = dict.fromkeys(key for row in history for key in row)
    scores = [key for key in keys if key not in (*_POSITIONS, *_LOSSES, *_BESIDE)]
    losses = {label: _points(history, position, key) for key, label in _LOSSES.items() if key in keys}
    panels = [curves(losses, position, "loss")]
    panels += [curves({key: _points(history, position, key)}, position, key) for key in scores[: _MOST_PANELS - 1]]
    last = history[-1]
    seconds = sum(float(row.get("seconds", 0.0)) for row in history)
    head = f"{title}: {last.get('step', len(history))} steps in {number(seconds)} s"
    columns = [Column(key, "number") for key in keys]
    row = [cell(_value(last.get(key, ""))) for key in keys]
    return shown(
        paragraph(head),
        f'<div class="panels">{"".join(panels)}</div>',
        table(columns, [row], "The last row of the history"),
    )


def _points(history: Sequence[Mapping[str, Any]], position: str, key: str) -> list[tuple[float, float]]:
    return [(float(row[position]), float(row[key])) for row in history if position in row and _is_number(row.get(key))]


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):  # a score may be anything that is printed
        return False
    return True


def _value(value: Any) -> str:
    return str(value) if isinstance(value, int | str) or not _is_number(value) else number(float(value))
