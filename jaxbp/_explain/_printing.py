"""Formulas in print: the tree as plain text, or as LaTeX."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

from jaxbp._explain._digits import DIGITS, MOST_DIGITS, is_whole
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

SHOWN_ARGUMENTS = 4

_SUM, _PRODUCT, _ATOM = range(3)  # how tightly a printed formula holds together


@dataclass(frozen=True)
class Printer:
    """Prints a formula as plain text, with something for each quantity or array: its symbol or its number.

    Attributes:
        leaf: What is printed for a quantity.
        digits: How many significant ones a number has.
        sum_of: The number of what is left out of a sum; None where symbols are printed.
    """

    leaf: Callable[[Leaf], str]
    digits: int = DIGITS
    sum_of: Callable[[Rest], float] | None = None

    minus: ClassVar[str] = "−"
    ellipsis: ClassVar[str] = "…"
    below: ClassVar[str] = "⋮"
    arrow: ClassVar[str] = "←"
    nearly: ClassVar[str] = "≈"

    def __call__(self, expression: Expression) -> str:
        """The formula in print."""
        return self._show(expression)[0]

    def number(self, value: float) -> str:
        """A number to as many digits as are printed; a whole one as it is."""
        return self._digits(value).replace("-", self.minus)

    def apart(self, value: float, other: float) -> "Printer":
        """A printer of as many digits as it takes to tell two numbers apart."""
        for digits in range(self.digits, MOST_DIGITS + 1):
            printer = replace(self, digits=digits)
            if printer.number(value) != printer.number(other):
                return printer
        return self

    def _digits(self, value: float) -> str:
        # + 0.0 makes a plain 0 of −0
        return f"{value + 0.0:.0f}" if is_whole(value) else f"{value + 0.0:.{self.digits}g}"

    def array(self, numbers: Sequence[float]) -> str:
        """Some numbers side by side; of many the middle is left out."""
        shown = [self.number(value) for value in numbers]
        return self._parenthesised(", ".join(elided(shown, self.ellipsis)))

    def _parenthesised(self, text: str) -> str:
        return f"({text})"

    def _left_out(self, number: str) -> str:
        return f"({self.ellipsis} = {number})"

    def _product(self, factors: list[str]) -> str:
        return "·".join(factors)

    def _quotient(self, numerator: Expression, denominator: Expression) -> str:
        return f"{self._at_least(_PRODUCT, numerator)}/{self._positive(_ATOM, denominator)}"

    def _power(self, base: str, exponent: Expression) -> str:
        return f"{base}²" if exponent == Number(2) else f"{base}^{self._positive(_ATOM, exponent)}"

    def _call(self, function: Function, arguments: list[str]) -> str:
        return f"{visible(function.name)}({', '.join(arguments)})"

    def _element(self, array: str, index: Index) -> str:
        return f"{array}[{', '.join(map(str, index))}]"

    def _relation(self, relation: str) -> str:
        return relation

    def _show(self, e: Expression) -> tuple[str, int]:
        match e:
            case Number(value):
                return self._tight(self.number(value))
            case Name() | Partial():
                return self._tight(self.leaf(e))
            case Rest() if self.sum_of is not None:
                return self._left_out(self.number(self.sum_of(e))), _ATOM
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
                return self._product(shown), _PRODUCT
            case Quotient(numerator, denominator):
                return self._quotient(numerator, denominator), _PRODUCT
            case Power(Power() as base, exponent):
                return self._power(self._parenthesised(self(base)), exponent), _ATOM
            case Power(base, exponent):
                return self._power(self._positive(_ATOM, base), exponent), _ATOM
            case Negative(term):
                text, strength = self._show(term)
                if strength == _ATOM and text.startswith(self.minus):  # −(−0.3) is 0.3
                    return text.removeprefix(self.minus), _ATOM
                return self.minus + self._unsigned(_PRODUCT, text, strength), _PRODUCT
            case Call(function, arguments):
                shown = elided([self(argument) for argument in arguments], self.ellipsis)
                return self._call(function, shown), _ATOM
            case Component(function, arrays, _, index):
                return self._element(self._call(function, [self.leaf(array) for array in arrays]), index), _ATOM
            case Bracket(parts, relations):
                pairs = zip(relations, parts[1:], strict=True)
                return f"[{self(parts[0])}{''.join(f' {self._relation(r)} {self(part)}' for r, part in pairs)}]", _ATOM

    def _tight(self, text: str) -> tuple[str, int]:
        loose = any(sign in text for sign in ("×", r"\times", "/", r"\frac"))
        return text, _PRODUCT if loose else _ATOM

    def _at_least(self, strength: int, e: Expression) -> str:
        text, has = self._show(e)
        return text if has >= strength else self._parenthesised(text)

    def _positive(self, strength: int, e: Expression) -> str:
        return self._unsigned(strength, *self._show(e))

    def _unsigned(self, strength: int, text: str, has: int) -> str:
        return text if has >= strength and not text.startswith(self.minus) else self._parenthesised(text)

    def _sum(self, terms: list[str]) -> str:
        text = terms[0]
        for term in terms[1:]:
            negative = term.startswith(self.minus)
            text += f" {self.minus} {term.removeprefix(self.minus)}" if negative else f" + {term}"
        return text


@dataclass(frozen=True)
class Latex(Printer):
    """Prints a formula as LaTeX maths."""

    minus: ClassVar[str] = "-"
    ellipsis: ClassVar[str] = r"\cdots"
    below: ClassVar[str] = r"\vdots"
    arrow: ClassVar[str] = r"\leftarrow"
    nearly: ClassVar[str] = r"\approx"

    def number(self, value: float) -> str:
        mantissa, _, exponent = self._digits(value).partition("e")
        mantissa = mantissa.replace("inf", r"\infty").replace("nan", r"\mathrm{NaN}")
        return rf"{mantissa} \times 10^{{{int(exponent)}}}" if exponent else mantissa

    def _parenthesised(self, text: str) -> str:
        tall = r"\frac" in text  # only then: stretched parentheses around scripts are too large
        return rf"\left({text}\right)" if tall else f"({text})"

    def _left_out(self, number: str) -> str:
        return rf"\underbrace{{{self.ellipsis}}}_{{{number}}}"

    def _product(self, factors: list[str]) -> str:
        text = factors[0]
        for before, factor in pairwise(factors):
            # a number beside another factor would be read as a part of it, one before a function as its base
            numeric = re.match(r"\d|\(-[\d.]+\)$", factor) or (before[-1].isdigit() and factor.startswith("\\"))
            text += (r" \cdot " if numeric else r" \, ") + factor
        return text

    def _quotient(self, numerator: Expression, denominator: Expression) -> str:
        return rf"\frac{{{self(numerator)}}}{{{self(denominator)}}}"

    def _power(self, base: str, exponent: Expression) -> str:
        return f"{{{base}}}^{{{self(exponent)}}}"  # braces: the base may have an exponent of its own

    def _call(self, function: Function, arguments: list[str]) -> str:
        if function.name == "exp":
            return f"e^{{{arguments[0]}}}"
        if function.name == "sqrt":
            return rf"\sqrt{{{arguments[0]}}}"
        return f"{function.latex or upright(function.name)}{self._parenthesised(', '.join(arguments))}"

    def _element(self, array: str, index: Index) -> str:
        return f"{array}_{{{','.join(map(str, index))}}}"

    def _relation(self, relation: str) -> str:
        return {"<": r"\lt", "≤": r"\le", "≥": r"\ge", "≠": r"\ne"}.get(relation, relation)


def elided(shown: Sequence[str], ellipsis: str) -> list[str]:
    """What is printed of a list: of a long one the first two and the last."""
    return [*shown] if len(shown) <= SHOWN_ARGUMENTS else [*shown[:2], ellipsis, shown[-1]]
