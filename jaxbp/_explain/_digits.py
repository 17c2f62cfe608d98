"""Digits: how many the operands show, so that a reader with a calculator finds the result beside them."""

import math
from collections.abc import Callable
from typing import NamedTuple

from jaxbp._explain._expressions import Expression, Leaf, Number, evaluate, magnitude, replaced

DIGITS = 4  # significant ones, of a printed number
MOST_DIGITS = 10  # operands may need some more than their result, and float64 has no more than 17

_MOST_OF_OPERANDS = 17
_LONGEST_INTEGER = 1e6
_EXACT, _SLACK = 1e-12, 1e-6


class Shown(NamedTuple):
    """How a formula is shown with its numbers: digits of the operands, and whether they give just the result shown."""

    digits: int
    exact: bool


def as_printed(value: float, digits: int) -> float:
    """The number that print shows for one: of these many significant digits, and a whole one as it is."""
    return value if is_whole(value) else float(f"{value:.{digits}g}")


def is_whole(value: float) -> bool:
    """Whether a number is a whole one that is short enough to be printed as it is."""
    return abs(value) < _LONGEST_INTEGER and value == round(value)


def rounded(value: float, digits: int) -> bool:
    """Whether print shows less of a number than there is, so that ≈ is due."""
    return abs(as_printed(value, digits) - value) > _EXACT * abs(value)


def operands(form: Expression, value: float, value_of: Callable[[Leaf], float], digits: int) -> Shown:
    """The fewest digits of the operands that give the result as it is shown, to half a unit of its last digit."""
    result = as_printed(value, digits)
    if not math.isfinite(result):
        return Shown(digits, True)
    size = magnitude(form, value_of)
    unit = 10.0 ** (math.floor(math.log10(abs(result))) + 1 - digits) if result else 10.0**-digits * size
    given, shown = math.inf, digits
    for shown in range(digits, _MOST_OF_OPERANDS + 1):
        given = calculated(form, value_of, shown)
        if abs(given - result) <= 0.5 * unit * (1 + _SLACK):
            break
    return Shown(shown, abs(given - result) <= _EXACT * max(size, abs(result)))


def calculated(form: Expression, value_of: Callable[[Leaf], float], digits: int) -> float:
    """What a calculator makes of a formula with its numbers as they are printed."""
    printed = replaced(form, lambda part: Number(as_printed(evaluate(part, value_of), digits)))
    return evaluate(printed, value_of)
