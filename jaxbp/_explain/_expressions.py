"""Formulas as trees: one tree is printed in symbols, printed with its numbers, and evaluated."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import chain
from math import prod
from operator import ge, gt, le, lt, ne
from typing import Any, TypeAlias

import numpy as np

from jaxbp._names import Name

Index: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Number:
    """A constant of the formula itself, such as the 1 in h (1 − h)."""

    value: float


@dataclass(frozen=True)
class Partial:
    """The derivative of one quantity by another: of the one step between neighbours, else of all that lies between."""

    of: Name
    by: Name

    def __str__(self) -> str:
        return f"d({self.of})/d({self.by})"


@dataclass(frozen=True)
class Sum:
    """A sum of terms."""

    terms: tuple["Expression", ...]


@dataclass(frozen=True)
class Rest:
    """Terms of a sum that are left out in print, where an ellipsis stands for them."""

    terms: tuple["Expression", ...]


@dataclass(frozen=True)
class Product:
    """A product of factors."""

    factors: tuple["Expression", ...]


@dataclass(frozen=True)
class Quotient:
    """A fraction."""

    numerator: "Expression"
    denominator: "Expression"


@dataclass(frozen=True)
class Power:
    """A power."""

    base: "Expression"
    exponent: "Expression"


@dataclass(frozen=True)
class Negative:
    """An expression with a minus sign in front."""

    term: "Expression"


@dataclass(frozen=True)
class Function:
    """A function of floats by name; in LaTeX it is its name in upright letters when nothing else is given."""

    name: str
    evaluate: Callable[..., float]
    latex: str | None = None


@dataclass(frozen=True)
class Call:
    """A function of some arguments."""

    function: Function
    arguments: tuple["Expression", ...]


@dataclass(frozen=True)
class Component:
    """An element of what a function makes of whole arrays, f(h_s, h_t)[j]: of all their elements, one after another."""

    function: Function
    arrays: tuple[Name, ...]
    elements: tuple["Expression", ...]
    index: Index


@dataclass(frozen=True)
class Bracket:
    """Iverson's bracket, 1 where the relations hold and 0 elsewhere: [−1 ≤ a ≤ 1]."""

    parts: tuple["Expression", ...]
    relations: tuple[str, ...]


Leaf: TypeAlias = Name | Partial
Expression: TypeAlias = (
    Number | Name | Partial | Sum | Rest | Product | Quotient | Power | Negative | Call | Component | Bracket
)

RELATIONS: dict[str, Callable[[float, float], bool]] = {"<": lt, "≤": le, ">": gt, "≥": ge, "≠": ne}

FUNCTIONS = {
    function.name: function
    for function in (
        Function("exp", np.exp, r"\exp"),
        Function("ln", np.log, r"\ln"),
        Function("sqrt", np.sqrt, r"\sqrt"),
        Function("abs", np.abs, r"\operatorname{abs}"),
        Function("max", max, r"\max"),
        Function("min", min, r"\min"),
        Function("tanh", np.tanh, r"\tanh"),
        Function("sigmoid", lambda a: np.exp(-np.logaddexp(0, -a)), r"\sigma"),
    )
}
"""The functions that a formula may use by name."""


def evaluate(expression: Expression, value_of: Callable[[Leaf], float]) -> float:
    """The value of a formula, in float64; infinite or NaN where it has none."""

    def value(e: Expression) -> np.float64:
        match e:
            case Number(number):
                return np.float64(number)
            case Name() | Partial():
                return np.float64(value_of(e))
            case Sum(terms) | Rest(terms):
                return sum(map(value, terms), np.float64(0))
            case Product(factors):
                return prod(map(value, factors), start=np.float64(1))
            case Quotient(numerator, denominator):
                return value(numerator) / value(denominator)
            case Power(base, exponent):
                return value(base) ** value(exponent)
            case Negative(term):
                return -value(term)
            case Call(function, arguments) | Component(function, _, arguments):
                return np.float64(function.evaluate(*map(value, arguments)))
            case Bracket(parts, relations):
                numbers = [value(part) for part in parts]
                pairs = zip(relations, numbers, numbers[1:], strict=False)
                return np.float64(all(RELATIONS[relation](left, right) for relation, left, right in pairs))

    with np.errstate(all="ignore"):
        return float(value(expression))


def magnitude(expression: Expression, value_of: Callable[[Leaf], float]) -> float:
    """The value of a formula if none of its terms cancelled: what its rounding errors are relative to."""

    def size(e: Expression) -> float:
        match e:
            case Sum(terms) | Rest(terms):
                return sum(map(size, terms))
            case Product(factors):
                return prod(map(size, factors))
            case Negative(term):
                return size(term)
            case Quotient(numerator, denominator):
                return abs(size(numerator) / (evaluate(denominator, value_of) or np.inf))
            case _:
                return abs(evaluate(e, value_of))

    return size(expression)


def leaves(expression: Expression) -> tuple[Leaf, ...]:
    """Every quantity that a formula mentions, in its order."""
    match expression:
        case Name() | Partial():
            return (expression,)
        case Sum(parts) | Rest(parts) | Product(parts) | Call(_, parts) | Component(_, _, parts) | Bracket(parts):
            return tuple(chain.from_iterable(map(leaves, parts)))
        case Quotient(left, right) | Power(left, right):
            return (*leaves(left), *leaves(right))
        case Negative(term):
            return leaves(term)
        case Number():
            return ()


def replaced(formula: Any, number: Callable[[Expression], Expression]) -> Any:
    """A formula with each part replaced that is printed as one number: quantities, constants, what is left out."""
    match formula:
        case Name() | Partial() | Number() | Rest():
            return number(formula)
        case tuple():
            return tuple(replaced(part, number) for part in formula)
        case Component(function, arrays, elements, index):
            return Component(function, arrays, replaced(elements, number), index)
        case Function() | str() | int():
            return formula
        case _:
            return type(formula)(*(replaced(getattr(formula, part.name), number) for part in fields(formula)))


def mapped(formula: Any, leaf: Callable[[Leaf], Expression]) -> Any:
    """A formula, or several, with each quantity replaced."""
    match formula:
        case Name() | Partial():
            return leaf(formula)
        case tuple():
            return tuple(mapped(part, leaf) for part in formula)
        case Number() | Function() | str() | int():
            return formula
        case _:
            return type(formula)(*(mapped(getattr(formula, part.name), leaf) for part in fields(formula)))
