"""Normalisation in its steps: the mean and the root by which a row is divided, and two means on the way back.

μ = mean a,  σ = √(mean (a − μ)² + ε),  h = (a − μ) / σ,  δ = (Δ − mean Δ − h mean(h ⊙ Δ)) / σ
r = √(mean a² + ε),  h = a / r,  δ = (Δ − h mean(h ⊙ Δ)) / r
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jaxbp._explain._expressions import Expression, Index, Negative, Number, Power, Quotient, Sum
from jaxbp._explain._formulas import ONE, call, minus, summed, times
from jaxbp._explain._stages import Arrays, Forms, Stage, Stages
from jaxbp._names import Name
from jaxbp._unit import Node
from jaxbp.activations import epsilon_of, is_centred
from jaxbp.connections import Shape

_MEAN_OF_PRODUCTS = Stage(
    "mean_h_Delta",
    "Mean of activation times error signal of {}",
    r"\overline{h \Delta} = \frac{1}{n} \sum_j h_j \, \Delta_j",
    "mean_hΔ",
    r"\overline{h \Delta}",
)
_FORWARD = {
    True: (
        Stage("mean", "Mean of the pre-activation of {}", r"\mu = \frac{1}{n} \sum_j a_j", "μ"),
        Stage(
            "std",
            "Standard deviation of the pre-activation of {}",
            r"\sigma = \sqrt{\frac{1}{n} \sum_j (a_j - \mu)^2 + \varepsilon}",
            "σ",
        ),
    ),
    False: (
        Stage(
            "rms",
            "Root mean square of the pre-activation of {}",
            r"r = \sqrt{\frac{1}{n} \sum_j a_j^2 + \varepsilon}",
            "r",
        ),
    ),
}
_BACKWARD = {
    True: (
        Stage(
            "mean_Delta",
            "Mean of the error signal at the output of {}",
            r"\overline{\Delta} = \frac{1}{n} \sum_j \Delta_j",
            "mean_Δ",
            r"\overline{\Delta}",
        ),
        _MEAN_OF_PRODUCTS,
    ),
    False: (_MEAN_OF_PRODUCTS,),
}
ALL = tuple(stage for stages in (*_FORWARD.values(), *_BACKWARD.values()) for stage in stages)


@dataclass(frozen=True)
class NormSteps(Stages):
    """What happens between the a and the h of a unit with `layer_norm`, which is centred, or `rms_norm`.

    A row of its elements has one number of each kind.
    """

    is_centred: bool
    epsilon: float

    leads_to: ClassVar[str] = "h"

    @classmethod
    def of(cls, u: str, unit: Node, shapes: Mapping[str, Shape]) -> "NormSteps | None":
        """Those of a unit; None where its activation is another."""
        epsilon = epsilon_of(unit.activation)
        return None if epsilon is None else cls(u, shapes, is_centred(unit.activation), epsilon)

    @property
    def rules(self) -> Mapping[str, str]:
        """Those of h and δ."""
        pull = r"\delta_u = \frac{\partial L}{\partial a_u} = "
        if self.is_centred:
            back = r"\frac{\Delta_u - \overline{\Delta} - h_u \, \overline{h \Delta}}{\sigma}"
            return {"h": r"h_u = \frac{a_u - \mu}{\sigma}", "delta": pull + back}
        return {"h": r"h_u = \frac{a_u}{r}", "delta": rf"{pull}\frac{{\Delta_u - h_u \, \overline{{h \Delta}}}}{{r}}"}

    def forward(self) -> Iterator[Stage]:
        """The mean and the root."""
        return iter(_FORWARD[self.is_centred])

    def backward(self) -> Iterator[Stage]:
        """The means of Δ, and of h ⊙ Δ."""
        return iter(_BACKWARD[self.is_centred])

    def arrays(self, known: Arrays) -> dict[str, np.ndarray]:
        """The array of each kind."""
        a, h, Delta = (known[Name(kind, (self.u,))] for kind in ("a", "h", "Delta"))
        products = {"mean_h_Delta": np.mean(h * Delta, axis=-1)}
        if not self.is_centred:
            return {"rms": np.sqrt(np.mean(a**2, axis=-1) + self.epsilon), **products}
        std = np.sqrt(np.var(a, axis=-1) + self.epsilon)
        return {"mean": np.mean(a, axis=-1), "std": std, "mean_Delta": np.mean(Delta, axis=-1), **products}


@dataclass(frozen=True, eq=False)
class NormForms(Forms):
    """The formulas of one unit."""

    steps: NormSteps

    def form(self, kind: str, example: Index, element: Index) -> Expression:
        """What an element of a quantity is made of: of the row that it stands for, or stands in."""
        if kind == "h":
            row, a = element[:-1], self.steps.called("a", example, element)
            centred = minus(a, self._of_row("mean", example, row)) if self.steps.is_centred else a
            return Quotient(centred, self._root(example, row))
        a, h, Delta = (
            [self.steps.called(of, example, (*element, j)) for j in range(self._width)] for of in ("a", "h", "Delta")
        )
        match kind:
            case "mean":
                return _mean(a)
            case "std":
                mean = self._of_row("mean", example, element)
                return self._over_squares([minus(a_j, mean) for a_j in a])
            case "rms":
                return self._over_squares(a)
            case "mean_Delta":
                return _mean(Delta)
            case _:
                return _mean([times(h_j, Delta_j) for h_j, Delta_j in zip(h, Delta, strict=True)])

    def back(self, s: str, example: Index, element: Index) -> list[Expression]:
        """An element of δ."""
        row = element[:-1]
        h, Delta = (self.steps.called(kind, example, element) for kind in ("h", "Delta"))
        mean = [Negative(self._of_row("mean_Delta", example, row))] if self.steps.is_centred else []
        projected = Negative(times(h, self._of_row("mean_h_Delta", example, row)))
        return [Quotient(Sum((Delta, *mean, projected)), self._root(example, row))]

    def derivative(self, example: Index, element: Index, by: Index) -> Expression:
        """([i = j] − 1/n − h_i h_j / n) / σ, or the same without 1/n."""
        n, same = Number(self._width), ONE if element == by else None
        mean = Negative(Quotient(ONE, n)) if self.steps.is_centred else None
        product = times(*(self.steps.called("h", example, at) for at in (element, by)))
        terms = [term for term in (same, mean, Negative(Quotient(product, n))) if term is not None]
        return Quotient(summed(terms), self._root(example, element[:-1]))

    @property
    def _width(self) -> int:
        return self.steps.shapes[self.steps.u][-1]

    def _of_row(self, kind: str, example: Index, row: Index) -> Name:
        return self.steps.called(kind, example, row)

    def _root(self, example: Index, row: Index) -> Name:
        return self._of_row("std" if self.steps.is_centred else "rms", example, row)

    def _over_squares(self, elements: Sequence[Expression]) -> Expression:
        mean = _mean([Power(element, Number(2)) for element in elements])
        return call("sqrt", Sum((mean, Number(self.steps.epsilon))) if self.steps.epsilon else mean)


def _mean(terms: Sequence[Expression]) -> Expression:
    return Quotient(summed(terms), Number(len(terms))) if len(terms) > 1 else terms[0]
