"""What happens within a unit: stages between what it reads and its a, or between its a and its h, and back again.

A stage is a quantity of its own, with a title, a rule, an array and formulas for its elements. Those of a way forward
stand before the quantity that it leads to, those of the way back behind the signal at that quantity.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from jaxbp._explain._expressions import Expression, Index
from jaxbp._names import Name
from jaxbp.connections import Shape

Arrays = Mapping[Name, np.ndarray]


class Stage(NamedTuple):
    """One step within a unit: the kind of its quantity, its title, its rule in LaTeX, and what it is called in print.

    Of a signal, `Delta_…`, that is ∂L/∂ of another; a `symbol` in LaTeX notation stands for the letter where it is no
    single one.
    """

    kind: str
    title: str
    rule: str
    letter: str = ""
    symbol: str = ""


@dataclass(frozen=True)
class Stages(ABC):
    """The stages of one unit on one way."""

    u: str
    shapes: Mapping[str, Shape]

    leads_to: ClassVar[str]  # the kind of quantity at the end of the way forward

    @property
    @abstractmethod
    def rules(self) -> Mapping[str, str]:
        """Rules in LaTeX, by kind, of those at the ends that have one of their own."""

    @property
    def decided_by(self) -> tuple[str, ...]:
        """Sources whose numbers say what the formulas are made of."""
        return ()

    @abstractmethod
    def forward(self) -> Iterator[Stage]:
        """What comes before the quantity that they lead to."""

    @abstractmethod
    def backward(self) -> Iterator[Stage]:
        """What comes behind the signal at that quantity."""

    @abstractmethod
    def arrays(self, known: Arrays) -> dict[str, np.ndarray]:
        """The array of each kind, for all examples at once, from all a, h, Δ and δ."""

    def called(self, kind: str, example: Index, element: Index) -> Name:
        """An element of a quantity of the unit."""
        return Name(kind, (self.u,), (*example, *element))


class Forms(ABC):
    """The formulas of one unit on one way."""

    @abstractmethod
    def form(self, kind: str, example: Index, element: Index) -> Expression:
        """What an element of a stage, or of the quantity that they lead to, is made of."""

    @abstractmethod
    def back(self, s: str, example: Index, element: Index) -> list[Expression]:
        """What is added, by this way, to the signal at an element of what it starts from, by the name of that."""

    def derivative(self, example: Index, element: Index, by: Index) -> Expression | None:
        """∂h/∂a of the unit at two elements; None where there is no short formula."""
        return None
