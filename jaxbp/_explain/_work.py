"""What a worked example is made of: equations of single elements, steps of whole quantities, and all of these."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby

import numpy as np

from jaxbp._checks import check_choice
from jaxbp._explain._claims import Claim
from jaxbp._explain._digits import DIGITS, Shown, operands, rounded
from jaxbp._explain._equations import Equations
from jaxbp._explain._expressions import Expression, Leaf, evaluate, leaves
from jaxbp._explain._notation import Notation
from jaxbp._explain._printing import Latex, Printer
from jaxbp._explain._titles import TITLES, Title
from jaxbp._names import Name

FEW_ELEMENTS = 4


@dataclass(frozen=True, eq=False)
class Typesetting:
    """How formulas are printed: in which symbols, and with numbers of how many digits for them."""

    notation: Notation
    equations: Equations
    digits: int = DIGITS

    @cached_property
    def text(self) -> Printer:
        """Symbols in plain text."""
        return Printer(self.notation.text, self.digits)

    @cached_property
    def latex(self) -> Printer:
        """Symbols in LaTeX."""
        return Latex(self.notation.latex, self.digits)

    def numbers(self, kind: type[Printer], digits: int) -> Printer:
        """A printer that shows numbers instead of symbols."""

        def shown(leaf: Leaf) -> str:
            row = self.equations.row(leaf)
            return printer.number(self.equations.value(leaf)) if row is None else printer.array(row)

        printer = kind(shown, digits, lambda rest: evaluate(rest, self.equations.value))
        return printer


@dataclass(frozen=True)
class Equation:
    """One element of a quantity: equal formulas for it, the simplest last, and its value; none where it is given."""

    quantity: Leaf
    forms: tuple[Expression, ...]
    value: float
    claims: tuple[Claim, ...]
    typesetting: Typesetting = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The quantity, such as `a.h1[0]`."""
        return str(self.quantity)

    @property
    def latex(self) -> tuple[str, ...]:
        """The equation in LaTeX, in pieces: the symbol, then `= …` for each formula, the numbers, the result."""
        return self._pieces(self.typesetting.latex)

    @property
    def text(self) -> tuple[str, ...]:
        """The equation in plain text, in the same pieces."""
        return self._pieces(self.typesetting.text)

    @cached_property
    def operands(self) -> Shown | None:
        """How the operands of the simplest formula are shown; None where there is none with operands."""
        if not (self.forms and leaves(self.forms[-1])):
            return None
        value_of = self.typesetting.equations.value
        return operands(self.forms[-1], value_of(self.quantity), value_of, self.typesetting.digits)

    def _pieces(self, symbols: Printer) -> tuple[str, ...]:
        shown = [symbols(form) for form in self.forms]
        if self.operands is not None:
            shown.append(self.typesetting.numbers(type(symbols), self.operands.digits)(self.forms[-1]))
        value = self.typesetting.equations.value(self.quantity)
        result = symbols.number(value)
        shown = [*(s for i, s in enumerate(shown) if s != result and s not in shown[:i]), result]
        assigns = isinstance(self.quantity, Name) and self.quantity.kind == "updated"
        signs = [symbols.arrow if assigns else "=", *["="] * (len(shown) - 1)]
        inexact = self.operands is not None and not self.operands.exact
        if inexact or rounded(value, self.typesetting.digits):
            signs[-1] = symbols.nearly if len(shown) > 1 or not assigns else symbols.arrow
        return (symbols(self.quantity), *(f"{sign} {piece}" for sign, piece in zip(signs, shown, strict=True)))


@dataclass(frozen=True)
class Step:
    """The equations of one quantity, such as `a.h1`, or `a.h1[0]` for one example of a batch.

    None among them stands for elements that are left out, and alone for layers. The rule, in LaTeX, is the formula for
    the whole array, empty where that is given; the section is a part of the page: what is given, an example, the mean.
    Of an array with rows, or of many elements, all numbers are shown as a matrix, and some elements worked out.
    """

    name: str
    words: Title
    rule: str
    equations: tuple[Equation | None, ...]
    section: str
    value: np.ndarray = field(repr=False)
    array: Name | None = None  # what is shown as a matrix

    @property
    def title(self) -> str:
        """What the quantity is, in English."""
        return self.words.said()

    def titled(self, language: str) -> str:
        """What it is in another language, "en" or "de"."""
        check_choice(language, "language", tuple(TITLES))
        return self.words.said(language)

    @property
    def worked(self) -> tuple[Equation | None, ...]:
        """The equations in print: beside a matrix only those of its ends, and what is claimed."""
        if self.array is None or (self.rule and self.value.size <= FEW_ELEMENTS):
            return self.equations
        shown = [equation for equation in self.equations if equation is not None]
        elements = [equation for equation in shown if isinstance(equation.quantity, Name)]
        ends = {elements[0].name, elements[-1].name} if self.rule else set()
        return tuple(equation for equation in shown if equation.claims or equation.name in ends)


@dataclass(frozen=True, eq=False, repr=False)
class Work:
    """What is rendered: the steps in order, and the verdict on every claim, in the order in which they were made."""

    steps: tuple[Step, ...]
    claims: tuple[Claim, ...]
    typesetting: Typesetting

    def sections(self) -> Iterator[tuple[str, Iterator[Step]]]:
        """The steps by the part of the page they belong to."""
        return groupby(self.steps, lambda step: step.section)
