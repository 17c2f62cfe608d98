"""The axes of an array in one layout and in another."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxbp.connections import Shape


@dataclass(frozen=True, eq=False)
class Axes:
    """How an array in rows lies in another layout.

    Attributes:
        shape: Its shape in rows.
        order: Its axes in rows, in the order of the layout.
        elements: Where the layout has each of our elements, of the axes in rows where that is somewhere else.
        ones: How many axes of one element come last, which may be left out.
    """

    shape: Shape
    order: Shape
    elements: Mapping[int, np.ndarray] = field(default_factory=dict)
    ones: int = 0

    @property
    def theirs(self) -> Shape:
        """The shape in the layout."""
        return tuple(self.shape[axis] for axis in self.order)

    def is_of(self, shape: Shape) -> bool:
        """Whether a shape is that of the layout."""
        extra = shape[len(self.theirs) :]
        return shape == self.theirs + extra and extra in {(1,) * n for n in range(self.ones + 1)}

    def laid_out(self, rows: Any) -> Any:
        """An array in rows, as the layout has it."""
        for axis, places in self.elements.items():
            rows = rows[(slice(None),) * axis + (np.argsort(places),)]
        return rows.transpose(self.order).reshape(self.theirs + (1,) * self.ones)

    def in_rows(self, array: np.ndarray) -> np.ndarray:
        """The other way."""
        rows = array.reshape(self.theirs).transpose(np.argsort(self.order))
        for axis, places in self.elements.items():
            rows = np.take(rows, places, axis)
        return rows
