"""The product of units, which has no stages, but formulas: a = h_s ⊙ h_t ⊙ …, and Δ_s = δ ⊙ h_t ⊙ … of the others."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jaxbp._explain._expressions import Expression, Index
from jaxbp._explain._formulas import times
from jaxbp._explain._stages import Arrays, Forms, Stage, Stages
from jaxbp._function_unit import FunctionUnit
from jaxbp._names import Name
from jaxbp._product import Product
from jaxbp._unit import Node
from jaxbp.connections import Shape


@dataclass(frozen=True)
class ProductSteps(Stages):
    """What is between the sources of a product and its a: nothing."""

    sources: tuple[str, ...]

    leads_to: ClassVar[str] = "a"

    @classmethod
    def of(cls, u: str, unit: Node, shapes: Mapping[str, Shape]) -> "ProductSteps | None":
        """Those of a unit; None where it is no product."""
        if not (isinstance(unit, FunctionUnit) and isinstance(unit.function, Product)):
            return None
        return cls(u, shapes, unit.sources)

    @property
    def rules(self) -> Mapping[str, str]:
        """That of a."""
        return {"a": r"a_u = h_s \odot h_t \odot \ldots" if len(self.sources) > 2 else r"a_u = h_s \odot h_t"}

    def forward(self) -> Iterator[Stage]:
        """Nothing."""
        return iter(())

    def backward(self) -> Iterator[Stage]:
        """Nothing."""
        return iter(())

    def arrays(self, known: Arrays) -> dict[str, np.ndarray]:
        """None."""
        return {}


@dataclass(frozen=True, eq=False)
class ProductForms(Forms):
    """The formulas of one unit."""

    steps: ProductSteps

    def form(self, kind: str, example: Index, element: Index) -> Expression:
        """An element of a."""
        return times(*(Name("h", (s,), (*example, *element)) for s in self.steps.sources))

    def back(self, s: str, example: Index, element: Index) -> list[Expression]:
        """What the unit adds to Δ of one of its sources."""
        others = (Name("h", (t,), (*example, *element)) for t in self.steps.sources if t != s)
        return [times(*others, self.steps.called("delta", example, element))]
