"""Typesetting: formulas in a notation, with a network's numbers."""

from dataclasses import dataclass
from functools import cached_property

from jaxbp._explain._equations import Equations
from jaxbp._explain._expressions import Leaf
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
        return self._of_numbers(Text)

    @cached_property
    def latex(self) -> Printer:
        """Symbols in LaTeX."""
        return Latex(self.notation.latex)

    @cached_property
    def latex_numbers(self) -> Printer:
        """Numbers in LaTeX."""
        return self._of_numbers(Latex)

    def _of_numbers(self, kind: type[Printer]) -> Printer:
        def shown(leaf: Leaf) -> str:
            row = self.equations.row(leaf)
            return kind.number(self.equations.value(leaf)) if row is None else printer.array(row)

        printer = kind(shown)
        return printer
