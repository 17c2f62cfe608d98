"""Typesetting: formulas in a notation, with a network's numbers."""

from dataclasses import dataclass
from functools import cached_property

from jaxbp._explain._equations import Equations
from jaxbp._explain._notation import Notation
from jaxbp._explain._printing import Latex, Printer, Text


@dataclass(frozen=True, eq=False)
class Typesetting:
    """How formulas are printed: in which symbols, and with which numbers for them."""

    notation: Notation
    equations: Equations

    @cached_property
    def text(self) -> Printer:
        """Symbols in plain text."""
        return Text(self.notation.text)

    @cached_property
    def text_numbers(self) -> Printer:
        """Numbers in plain text."""
        return Text(lambda leaf: Text.number(self.equations.value(leaf)))

    @cached_property
    def latex(self) -> Printer:
        """Symbols in LaTeX."""
        return Latex(self.notation.latex)

    @cached_property
    def latex_numbers(self) -> Printer:
        """Numbers in LaTeX."""
        return Latex(lambda leaf: Latex.number(self.equations.value(leaf)))
