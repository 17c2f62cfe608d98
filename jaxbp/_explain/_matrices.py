"""Matrices in print: all numbers of an array at once, of a large one its corners."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from jaxbp._explain._digits import rounded
from jaxbp._explain._expressions import Index
from jaxbp._explain._printing import Printer

_ROWS, _COLUMNS, _MATRICES = (8, 3), (8, 3), (4, 1)  # how many are all shown, and of more how many at either end


@dataclass(frozen=True)
class Matrix:
    """Rows of printed numbers, with ellipses where some are left out, and which of an array of several it is."""

    index: Index
    rows: tuple[tuple[str, ...], ...]

    @property
    def latex(self) -> str:
        """The matrix in LaTeX, on one line."""
        return rf"\begin{{bmatrix}} {r' \\ '.join(map(' & '.join, self.rows))} \end{{bmatrix}}"

    @property
    def text(self) -> tuple[str, ...]:
        """The matrix in plain text, its columns below each other."""
        widths = [max(map(len, column)) for column in zip(*self.rows, strict=True)]
        return tuple(f"[ {'  '.join(map(str.rjust, row, widths))} ]" for row in self.rows)


def matrices(array: np.ndarray, printer: Printer) -> Iterator[Matrix | None]:
    """An array with its last two axes as rows and columns; None in the place of those that are left out."""
    rows = array.reshape(*(1,) * (2 - array.ndim), *array.shape)
    outer = list(np.ndindex(rows.shape[:-2]))
    for which in _ends(range(len(outer)), *_MATRICES):
        yield None if which is None else Matrix(outer[which], tuple(_rows(rows[outer[which]], printer)))


def are_rounded(array: np.ndarray, digits: int) -> bool:
    """Whether print shows less of some number than there is."""
    return any(rounded(value, digits) for value in array.ravel().tolist())


def _rows(matrix: np.ndarray, printer: Printer) -> Iterator[tuple[str, ...]]:
    columns = _ends(range(matrix.shape[-1]), *_COLUMNS)
    for i in _ends(range(matrix.shape[0]), *_ROWS):
        if i is None:
            yield (printer.below,) * len(columns)
        else:
            yield tuple(printer.ellipsis if j is None else printer.number(matrix[i, j]) for j in columns)


def _ends(whole: Sequence[int], most: int, ends: int) -> list[int | None]:
    return [*whole] if len(whole) <= most else [*whole[:ends], None, *whole[-ends:]]
