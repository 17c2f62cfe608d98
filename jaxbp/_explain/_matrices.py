"""Matrices in print: all numbers of an array at once, of a large one its corners."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from jaxbp._explain._digits import rounded
from jaxbp._explain._printing import Printer
from jaxbp._explain._work import Step

_ROWS, _COLUMNS, _MATRICES = (8, 3), (8, 3), (4, 1)  # how many are all shown, and of more how many at either end


@dataclass(frozen=True)
class Matrix:
    """Rows of printed numbers, with ellipses where some are left out."""

    rows: tuple[tuple[str, ...], ...]

    @property
    def latex(self) -> str:
        r"""The matrix in LaTeX, on one line; Markdown would take `\\` for a `\`."""
        rows = r" \cr ".join(map(" & ".join, self.rows))
        return rf"\begin{{bmatrix}} {rows} \end{{bmatrix}}"

    @property
    def text(self) -> tuple[str, ...]:
        """The matrix in plain text, its columns below each other."""
        widths = [max(map(len, column)) for column in zip(*self.rows, strict=True)]
        return tuple(f"[ {'  '.join(map(str.rjust, row, widths))} ]" for row in self.rows)


def matrices(step: Step, printer: Printer) -> Iterator[tuple[str, Matrix] | None]:
    """The matrices of a step, each after its symbol and its sign; None in the place of those that are left out."""
    if step.array is None:
        return
    array = step.value.reshape(*(1,) * (2 - step.value.ndim), *step.value.shape)
    inexact = any(rounded(value, printer.digits) for value in array.ravel().tolist())
    sign = printer.arrow if step.array.kind == "updated" else printer.nearly if inexact else "="
    outer = list(np.ndindex(array.shape[:-2]))
    for which in _ends(range(len(outer)), *_MATRICES):
        if which is None:
            yield None
            continue
        name = step.array.at((*step.array.index, *outer[which]))
        yield f"{printer(name)} {sign}", Matrix(tuple(_rows(array[outer[which]], printer)))


def _rows(matrix: np.ndarray, printer: Printer) -> Iterator[tuple[str, ...]]:
    columns = _ends(range(matrix.shape[-1]), *_COLUMNS)
    for i in _ends(range(matrix.shape[0]), *_ROWS):
        if i is None:
            yield (printer.below,) * len(columns)
        else:
            yield tuple(printer.ellipsis if j is None else printer.number(matrix[i, j]) for j in columns)


def _ends(whole: Sequence[int], most: int, ends: int) -> list[int | None]:
    return [*whole] if len(whole) <= most else [*whole[:ends], None, *whole[-ends:]]
