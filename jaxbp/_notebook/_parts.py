"""The parts that everything shown is made of: paragraphs, tables and lists, all of text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from jaxbp._explain._escaping import in_html
from jaxbp._notebook._style import STYLE

T = TypeVar("T")

ENDS = 6
"""How much is shown at each end of what is long."""

Kind = Literal["text", "number", "words"]


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, and what stands in it."""

    heading: str
    kind: Kind = "text"


def shown(*parts: str) -> str:
    """All of it, within the one element that has the style."""
    return f'<style>{STYLE}</style><div class="jaxbp-shown">{"".join(parts)}</div>'


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of text; `kind` is a class of the style."""
    return f"<p{_class(kind)}>{in_html(text)}</p>"


def listed(items: Iterable[str]) -> str:
    """A list, where there is anything in it."""
    inside = "".join(f"<li>{in_html(item)}</li>" for item in items)
    return f"<ul>{inside}</ul>" if inside else ""


def folded(summary: str, *parts: str) -> str:
    """What is seen on a click."""
    return f"<details><summary>{in_html(summary)}</summary>{''.join(parts)}</details>"


def scrolling(part: str, label: str) -> str:
    """A part that may be wider than the notebook, and can be scrolled by keys."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{in_html(label)}">{part}</div>'


def cell(text: str, kind: str = "") -> str:
    """A text in a table."""
    return f"<span{_class(kind)}>{in_html(text)}</span>" if kind and text else in_html(text)


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]], label: str) -> str:
    """A table of cells that are HTML already; a row of one goes over all columns, and empty columns are left out."""
    lines = list(rows)
    filled = [i for i in range(len(columns)) if any(row[i] for row in lines if len(row) > 1)]
    columns = [columns[i] for i in filled]
    heads = "".join(f'<th scope="col"{_class(c.kind)}>{in_html(c.heading)}</th>' for c in columns)
    body: list[str] = []
    for row in lines:
        if len(row) == 1:
            inside = f'<td colspan="{len(columns)}" class="soft">{row[0]}</td>'
        else:
            inside = "".join(
                f"<td{_class(c.kind)}>{one}</td>" for c, one in zip(columns, (row[i] for i in filled), strict=True)
            )
        body.append(f"<tr>{inside}</tr>")
    return scrolling(f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table>", label)


def ends(items: Sequence[T], most: int = 2 * ENDS) -> tuple[Sequence[T], int, Sequence[T]]:
    """The first and the last of many, and how many are between them."""
    if len(items) <= most + 1:
        return items, 0, ()
    half = most // 2
    return items[:half], len(items) - 2 * half, items[-half:]


def number(value: float) -> str:
    """A number in a few digits."""
    return f"{value:.3g}".replace("-", "−") if np.isfinite(value) else str(value)


def share(value: float) -> str:
    """A share as per cent; nothing where it is 0."""
    if value == 0:
        return ""
    return "< 0.1 %" if value < 0.001 else f"{100 * value:.1f} %"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind and kind != "text" else ""
