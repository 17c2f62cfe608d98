"""Formulas in print: the tree as plain text, or as LaTeX."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from jaxbp._explain._escaping import visible
from jaxbp._explain._expressions import (
    Bracket,
    Call,
    Component,
    Expression,
    Function,
    Index,
    Leaf,
    Negative,
    Number,
    Partial,
    Power,
    Product,
    Quotient,
    Rest,
    Sum,
)
from jaxbp._explain._symbols import upright
from jaxbp._names import Name

DIGITS = 4
"""Significant digits of a printed number."""

SHOWN_ARGUMENTS = 4

_SUM, _PRODUCT, _ATOM = range(3)  # how tightly a printed formula holds together


def rounded(value: float) -> bool:
    """Whether print shows less of a number than there is, so that ≈ is due."""
    return abs(float(f"{value:.{DIGITS}g}") - value) > 1e-12 * abs(value)


@dataclass(frozen=True)
class Printer(ABC):
    """Prints a formula; the subclasses say how its parts look.

    Attributes:
        leaf: What to print for a quantity, its symbol or its number, or for an array of them.
    """

    leaf: Callable[[Leaf], str]

    minus: str = "-"
    ellipsis: str = "..."

    def __call__(self, expression: Expression) -> str:
        """The formula in print."""
        return self._show(expression)[0]

    @classmethod
    @abstractmethod
    def number(cls, value: float) -> str:
        """A number to as many digits as are printed."""

    @abstractmethod
    def parenthesised(self, text: str) -> str:
        """The text in parentheses."""

    @abstractmethod
    def product(self, factors: list[str]) -> str:
        """Factors side by side."""

    @abstractmethod
    def quotient(self, numerator: Expression, denominator: Expression) -> str:
        """A fraction."""

    @abstractmethod
    def power(self, base: str, exponent: Expression) -> str:
        """A power."""

    @abstractmethod
    def call(self, function: Function, arguments: list[str]) -> str:
        """A function of its arguments."""

    @abstractmethod
    def element(self, array: str, index: Index) -> str:
        """An element of an array that has no name of its own."""

    @abstractmethod
    def relation(self, relation: str) -> str:
        """A sign between two numbers."""

    def array(self, numbers: Sequence[float]) -> str:
        """Some numbers side by side; of many the middle is left out."""
        shown = [self.number(value) for value in numbers]
        return self.parenthesised(", ".join(elided(shown, self.ellipsis)))

    def _show(self, e: Expression) -> tuple[str, int]:
        match e:
            case Number(value):
                return self._tight(self.number(value))
            case Name() | Partial():
                return self._tight(self.leaf(e))
            case Rest():
                return self.ellipsis, _ATOM
            case Sum((only,)):
                return self._show(only)
            case Sum(terms):
                return self._sum([self._at_least(_PRODUCT, term) for term in terms]), _SUM
            case Product((only,)):
                return self._show(only)
            case Product(factors):
                shown = [self._at_least(_PRODUCT, factors[0])]
                shown += [self._positive(_PRODUCT, factor) for factor in factors[1:]]
                return self.product(shown), _PRODUCT
            case Quotient(numerator, denominator):
                return self.quotient(numerator, denominator), _PRODUCT
            case Power(Power() as base, exponent):
                return self.power(self.parenthesised(self(base)), exponent), _ATOM
            case Power(base, exponent):
                return self.power(self._positive(_ATOM, base), exponent), _ATOM
            case Negative(term):
                text, strength = self._show(term)
                if strength == _ATOM and text.startswith(self.minus):  # −(−0.3) is 0.3
                    return text.removeprefix(self.minus), _ATOM
                return self.minus + self._positive(_PRODUCT, term), _PRODUCT
            case Call(function, arguments):
                shown = elided([self(argument) for argument in arguments], self.ellipsis)
                return self.call(function, shown), _ATOM
            case Component(function, arrays, _, index):
                return self.element(self.call(function, [self.leaf(array) for array in arrays]), index), _ATOM
            case Bracket(parts, relations):
                pairs = zip(relations, parts[1:], strict=True)
                return f"[{self(parts[0])}{''.join(f' {self.relation(r)} {self(part)}' for r, part in pairs)}]", _ATOM

    def _tight(self, text: str) -> tuple[str, int]:
        loose = any(sign in text for sign in ("×", r"\times", "/", r"\frac"))
        return text, _PRODUCT if loose else _ATOM

    def _at_least(self, strength: int, e: Expression) -> str:
        text, has = self._show(e)
        return text if has >= strength else self.parenthesised(text)

    def _positive(self, strength: int, e: Expression) -> str:
        text, has = self._show(e)
        return text if has >= strength and not text.startswith(self.minus) else self.parenthesised(text)

    def _sum(self, terms: list[str]) -> str:
        text = terms[0]
        for term in terms[1:]:
            negative = term.startswith(self.minus)
            text += f" {self.minus} {term.removeprefix(self.minus)}" if negative else f" + {term}"
        return text


@dataclass(frozen=True)
class Text(Printer):
    """Formulas as plain text."""

    minus: str = "−"
    ellipsis: str = "…"

    @classmethod
    def number(cls, value: float) -> str:
        return f"{value + 0.0:.{DIGITS}g}".replace("-", cls.minus)  # + 0.0 makes a plain 0 of −0

    def parenthesised(self, text: str) -> str:
        return f"({text})"

    def product(self, factors: list[str]) -> str:
        return "·".join(factors)

    def quotient(self, numerator: Expression, denominator: Expression) -> str:
        return f"{self._at_least(_PRODUCT, numerator)}/{self._positive(_ATOM, denominator)}"

    def power(self, base: str, exponent: Expression) -> str:
        return f"{base}²" if exponent == Number(2) else f"{base}^{self._positive(_ATOM, exponent)}"

    def call(self, function: Function, arguments: list[str]) -> str:
        return f"{visible(function.name)}({', '.join(arguments)})"

    def element(self, array: str, index: Index) -> str:
        return f"{array}[{', '.join(map(str, index))}]"

    def relation(self, relation: str) -> str:
        return relation


@dataclass(frozen=True)
class Latex(Printer):
    """Formulas as LaTeX maths."""

    ellipsis: str = r"\cdots"

    @classmethod
    def number(cls, value: float) -> str:
        mantissa, _, exponent = f"{value + 0.0:.{DIGITS}g}".partition("e")
        mantissa = mantissa.replace("inf", r"\infty").replace("nan", r"\mathrm{NaN}")
        return rf"{mantissa} \times 10^{{{int(exponent)}}}" if exponent else mantissa

    def parenthesised(self, text: str) -> str:
        tall = r"\frac" in text  # only then: stretched parentheses around scripts are too large
        return rf"\left({text}\right)" if tall else f"({text})"

    def product(self, factors: list[str]) -> str:
        text = factors[0]
        for before, factor in pairwise(factors):
            # a number beside another factor would be read as a part of it, one before a function as its base
            numeric = re.match(r"\d|\(-[\d.]+\)$", factor) or (before[-1].isdigit() and factor.startswith("\\"))
            text += (r" \cdot " if numeric else r" \, ") + factor
        return text

    def quotient(self, numerator: Expression, denominator: Expression) -> str:
        return rf"\frac{{{self(numerator)}}}{{{self(denominator)}}}"

    def power(self, base: str, exponent: Expression) -> str:
        return f"{{{base}}}^{{{self(exponent)}}}"  # braces: the base may have an exponent of its own

    def call(self, function: Function, arguments: list[str]) -> str:
        if function.name == "exp":
            return f"e^{{{arguments[0]}}}"
        if function.name == "sqrt":
            return rf"\sqrt{{{arguments[0]}}}"
        return f"{function.latex or upright(function.name)}{self.parenthesised(', '.join(arguments))}"

    def element(self, array: str, index: Index) -> str:
        return f"{array}_{{{','.join(map(str, index))}}}"

    def relation(self, relation: str) -> str:
        return {"<": r"\lt", "≤": r"\le", "≥": r"\ge"}.get(relation, relation)


def elided(shown: Sequence[str], ellipsis: str) -> list[str]:
    """What is printed of a list: of a long one the first two and the last."""
    return [*shown] if len(shown) <= SHOWN_ARGUMENTS else [*shown[:2], ellipsis, shown[-1]]
