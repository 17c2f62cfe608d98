"""What a search walks through: a program of steps, and what was handed in of their quantities."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from jaxbp._check._change import Change
from jaxbp._check._compare import Tolerance
from jaxbp._check._gradient import Gradient

Signals = Mapping[Any, np.ndarray]


class Walk(Protocol):
    """A program of steps as far as it has come: a backward pass, or the leaves of a tree."""

    @property
    def changes(self) -> tuple[Change, ...]:
        """The changes that were made so far."""
        ...

    @property
    def steps(self) -> tuple[str, ...]:
        """All steps in their order."""
        ...

    def names(self, step: str) -> list[Any]:
        """The quantities that come with a step."""
        ...

    def due(self, step: str) -> list[Any]:
        """The gradients among them."""
        ...

    def signals(self, step: str, changes: Iterable[Change]) -> Signals:
        """The other quantities, with changes."""
        ...

    def after(self, signals: Signals, changes: Iterable[Change]) -> "Walk":
        """The walk after a step."""
        ...

    def gradient_of(self, name: Any, mine: np.ndarray | None = None) -> Gradient:
        """A gradient, right as far as the walk is, beside what was handed in."""
        ...

    def knows(self, name: Any) -> bool:
        """Whether the walk has come to all that a gradient is made of."""
        ...

    def changed(self, name: Any, change: Change, mine: np.ndarray | None = None) -> np.ndarray:
        """What a change makes of it."""
        ...

    def in_signals(self, step: str) -> list[Change]:
        """The mistakes that can be made on the way to a step's signals."""
        ...

    def in_gradient(self, step: str, gradient: Gradient, slugs: Container[str] | None = None) -> list[Change]:
        """The mistakes that can be made in a gradient, all or those of some names."""
        ...


@dataclass(frozen=True, eq=False)
class Observed:
    """The quantities that were handed in, as a search sees them, with what tells whether a prediction gives them."""

    arrays: Mapping[Any, np.ndarray]
    tolerances: Mapping[Any, Tolerance]

    def close(self, name: Any, predicted: np.ndarray) -> bool:
        """Whether a prediction is what was handed in; it is where nothing was."""
        return name not in self.arrays or self.tolerances[name].gives(self.arrays[name], predicted)
