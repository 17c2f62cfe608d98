"""Claims: what a book or a student wrote about a quantity, marked against what it is."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxbp._checks import check_kind, check_mapping
from jaxbp._explain._escaping import brief
from jaxbp._explain._expressions import Expression, Index, Leaf, Partial, evaluate, leaves, magnitude, mapped
from jaxbp._explain._numbers import Numbers
from jaxbp._explain._parsing import BEYOND, DEEPEST, check_length, parse, parse_name, parse_number
from jaxbp._names import Name

_EXACT, _ROUNDOFF, _VAGUE = 1e-9, 1e-15, 1e-6
_ELSEWHERE = range(4)


@dataclass(frozen=True)
class Claim:
    """A statement about the quantity `name`, and whether it `holds`, to the digits that were written.

    `claimed` is the number as it came, or what the claimed formula gives; `value` is what it is. `general` says of a
    formula that holds whether it does so at other weights, inputs and targets too. `carried` is what the right formula
    gives with the numbers claimed before, and a wrong number `follows` from those when it is that.
    """

    name: str
    claimed: float
    value: float
    holds: bool
    written: str
    where: str | None = None
    formula: Expression | None = None
    carried: float | None = None
    follows: bool = False
    general: bool | None = None


@dataclass(frozen=True)
class Statement:
    """A claim about one element, before it is judged: a formula, or a number to half a unit of its last digit."""

    quantity: Leaf
    written: str
    where: str | None
    formula: Expression | None = None
    number: float = float("nan")
    precision: float = 0.0


def statements(claims: Mapping[str, Any], arrays: Mapping[Name, np.ndarray]) -> list[Statement]:
    """Every claim about every element, in the order in which they were made."""
    check_mapping(claims, "claims", "{'a.o[0]': '0.5'}")
    for name in claims:
        check_kind(name, str, "a key of claims", "the name of a quantity, such as 'a.o[0]'")
    return list(chain.from_iterable(_read(parse_name(name, arrays), said, arrays) for name, said in claims.items()))


def judged(stated: Sequence[Statement], forms: Callable[[Leaf], Sequence[Expression]], numbers: Numbers) -> list[Claim]:
    """The verdict on each statement, from the right formulas of a quantity and the network's numbers."""
    elsewhere = [numbers.elsewhere(seed) for seed in _ELSEWHERE] if any(s.formula for s in stated) else []
    before: dict[Leaf, float] = {}
    claims: list[Claim] = []
    for s in stated:
        if s.formula is None:
            claims.append(_judged_number(s, forms(s.quantity), numbers, before))
            before[s.quantity] = s.number
        else:
            claims.append(_judged_formula(s, s.formula, forms(s.quantity), numbers, elsewhere))
    return claims


def _judged_number(s: Statement, forms: Sequence[Expression], numbers: Numbers, before: Mapping[Leaf, float]) -> Claim:
    value = numbers(s.quantity)
    # 0.5 + 0.1 − 0.6 is 0 to whoever claims it
    roundoff = _ROUNDOFF * magnitude(forms[-1], numbers) if forms else 0.0
    holds = _close(s.number, value, s.precision + roundoff)
    touched = [form for form in reversed(forms) if any(leaf in before for leaf in leaves(form))]
    led_to = [evaluate(form, lambda leaf: before[leaf] if leaf in before else numbers(leaf)) for form in touched]
    followed = [number for number in led_to if _close(s.number, number, s.precision)]
    carried = next(iter([*followed, *led_to]), None)
    follows = not holds and bool(followed)
    return Claim(str(s.quantity), s.number, value, holds, s.written, s.where, carried=carried, follows=follows)


def _judged_formula(
    s: Statement, formula: Expression, forms: Sequence[Expression], numbers: Numbers, elsewhere: Sequence[Numbers]
) -> Claim:
    def agrees(point: Numbers) -> bool:
        value = point(s.quantity)
        roundoff = _ROUNDOFF * magnitude(formula, point)
        if forms:  # 5 + 1e17 − 1e17 is no formula for everything
            roundoff = min(roundoff, _VAGUE * max(abs(value), magnitude(forms[-1], point)))
        return _close(evaluate(formula, point), value, roundoff)

    claimed, value, holds = evaluate(formula, numbers), numbers(s.quantity), agrees(numbers)
    general = all(map(agrees, elsewhere)) if holds and leaves(formula) else None
    return Claim(str(s.quantity), claimed, value, holds, s.written, s.where, formula=formula, general=general)


def _close(claimed: float, value: float, precision: float) -> bool:
    if not np.isfinite([claimed, value]).all():
        return claimed == value
    return abs(claimed - value) <= precision + _EXACT * max(abs(claimed), abs(value))


def _read(
    quantity: Leaf, said: Any, arrays: Mapping[Name, np.ndarray], where: str | None = None, depth: int = 0
) -> Iterator[Statement]:
    shape = () if isinstance(quantity, Partial) else arrays[quantity.whole][quantity.index].shape
    if depth > DEEPEST:
        raise ValueError(f"what is claimed of {quantity} is nested more than {DEEPEST} deep")
    if isinstance(said, Mapping):
        for place, inner in said.items():
            check_kind(place, str, f"a place where something is claimed of {quantity}", "text, such as 'slide 3'")
            check_length(place)
            yield from _read(quantity, inner, arrays, place, depth + 1)
    elif not shape and isinstance(said, list | tuple):
        for inner in said:
            yield from _read(quantity, inner, arrays, where, depth + 1)
    elif isinstance(said, str) and parse_number(said) is None:
        formula = parse(said, arrays)
        for index in np.ndindex(shape):
            element = _at(quantity, index)
            yield Statement(
                element, said, where, mapped(formula, lambda leaf, i=index: _element(leaf, i, shape, said, arrays))
            )
    elif shape:
        for index, inner in _elements(quantity, said, shape):
            yield from _read(_at(quantity, index), inner, arrays, where, depth + 1)
    else:
        written, number, precision = _number(quantity, said)
        yield Statement(quantity, written, where, number=number, precision=precision)


def _at(quantity: Leaf, index: Index) -> Leaf:
    return quantity.at((*quantity.index, *index)) if index and isinstance(quantity, Name) else quantity


def _element(leaf: Leaf, index: Index, shape: Index, said: str, arrays: Mapping[Name, np.ndarray]) -> Leaf:
    """What an unindexed quantity in a formula means for one element of an array that is claimed as a whole."""
    own = () if isinstance(leaf, Partial) else arrays[leaf.whole][leaf.index].shape
    if not own:
        return leaf
    if own != shape:
        example = _at(leaf, (0,) * len(own))
        raise ValueError(
            f"{brief(said)} is claimed of something of shape {shape}, but {leaf} has shape {own}; say which of "
            f"its elements is meant, e.g. {example}"
        )
    return _at(leaf, index)


def _elements(quantity: Leaf, said: Any, shape: Index) -> Iterator[tuple[Index, Any]]:
    nested = np.asarray(said, dtype=None if hasattr(said, "dtype") else object)
    if nested.shape != shape:
        raise ValueError(
            f"{quantity} has shape {shape}, but what is claimed of it has shape {nested.shape}; "
            f"claim one element, e.g. {_at(quantity, (0,) * len(shape))}, or all of them"
        )
    for index in np.ndindex(shape):
        yield index, nested[index]


def _number(quantity: Leaf, said: Any) -> tuple[str, float, float]:
    """A claimed number: as written, its value, and half a unit of its last digit."""
    text, roundoff = said, 0.0
    if hasattr(said, "dtype") and np.shape(said) == ():
        if jnp.issubdtype(said.dtype, jnp.floating):
            # a computed number prints more digits than it has
            roundoff = 100 * float(jnp.finfo(said.dtype).eps) * abs(float(said))
        text = str(np.asarray(said)[()])
    if isinstance(text, int) and abs(text) > sys.float_info.max:
        raise ValueError(f"{quantity} is claimed to be an integer {BEYOND}")
    number = isinstance(text, int | float | str) and not isinstance(text, bool)
    written = parse_number(text if isinstance(text, str) else repr(text)) if number else None
    if written is None:
        raise TypeError(
            f"{quantity} is claimed to be {brief(said)}; claim a number, a formula as text, or a dict of them by place"
        )
    if re.fullmatch(r"[+-]?\d+", written):
        return written, float(written), 0.0
    exponent = int(Decimal(written).as_tuple().exponent)
    return written, float(written), max(0.5 * 10.0**exponent, roundoff)
