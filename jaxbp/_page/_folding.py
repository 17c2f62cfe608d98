"""Trees of formulas as data: the shape of a tree, which many elements share, and the indices in it, which differ.

A shape is a list of lists for JSON: a number is itself, `["q", k]` an element of the array k, `["+", …]` a sum and so
on. The indices of all elements that it mentions, from left to right, are the integers that belong to it. Terms of a sum
that differ by a constant stride become `["S", n, body]`, whose integers are those of the first term and the strides.
Nothing is lost: `unfolded` is the tree again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from math import prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from jaxbp._explain._expressions import (
    FUNCTIONS,
    Bracket,
    Call,
    Component,
    Expression,
    Leaf,
    Negative,
    Number,
    Partial,
    Power,
    Product,
    Quotient,
    Rest,
    Sum,
    evaluate,
    leaves,
)
from jaxbp._names import Name

Integers: TypeAlias = tuple[int, ...]
Shape: TypeAlias = Any
"""Nested tuples of text and numbers: what JSON writes as lists."""

FEWEST = 3  # terms that are worth a loop


class Folded(NamedTuple):
    """The shape of a tree, and its integers."""

    shape: Shape
    integers: Integers


class Folder:
    """Folds trees over numbered arrays, and keeps which derivatives they mention and which functions have no formula.

    Attributes:
        opaque: The functions without a formula, by name.
        values: What such a function gives here, by its name and the first element that it is of; None where two differ.
        partials: The derivatives.
    """

    def __init__(self, arrays: Mapping[Name, int], value_of: Callable[[Leaf], float]):
        self.arrays, self.value_of = arrays, value_of
        self.opaque: dict[str, None] = {}
        self.values: dict[tuple[str, Name | None], float | None] = {}
        self.partials: dict[Partial, None] = {}
        self.size = 0

    def __call__(self, e: Expression) -> Folded:
        """The tree as a shape and integers."""
        match e:
            case Number(value):
                return Folded(float(value), ())
            case Name():
                self.size += 1
                return Folded(("q", self.arrays[e.whole]), e.index)
            case Partial(of, by):
                self.partials[e] = None
                return _joined("d", [self(of), self(by)])
            case Sum(terms) | Rest(terms):
                return _joined("+", self._run(chain.from_iterable(map(_flat, terms))))
            case Product(factors):
                return _joined("*", map(self, factors))
            case Quotient(numerator, denominator):
                return _joined("/", [self(numerator), self(denominator)])
            case Power(base, exponent):
                return _joined("^", [self(base), self(exponent)])
            case Negative(term):
                return _joined("-", [self(term)])
            case Bracket(parts, relations):
                return _joined("[", map(self, parts), "".join(relations))
            case Call(function, arguments):
                known = FUNCTIONS.get(function.name) is function
                if not known:
                    self._keep(function.name, function.name, e)
                return _joined("f" if known else "o", self._run(arguments), function.name)
            case Component(function, _, elements, index):
                element = f"{function.name}[{', '.join(map(str, index))}]"
                self._keep(function.name, element, e)
                return _joined("o", self._run(elements), element)

    def forms(self, general: Sequence[Expression], here: Sequence[Expression]) -> Folded:
        """Equal formulas for one element: those that hold at any numbers, and then those that hold at these."""
        return _joined("=", map(self, (*general, *here)), len(general))

    def _keep(self, function: str, element: str, e: Expression) -> None:
        """The value of a function that the page cannot evaluate."""
        self.opaque[function] = None
        place = element, next((leaf for leaf in leaves(e) if isinstance(leaf, Name)), None)
        value = evaluate(e, self.value_of)
        self.values[place] = value if self.values.get(place, value) == value else None

    def _run(self, terms: Iterable[Expression]) -> Iterator[Folded]:
        """Terms one after the other, with one loop for those that differ by a constant stride."""
        for shape, alike in groupby(map(self, terms), key=lambda term: term.shape):
            yield from _loops(shape, [term.integers for term in alike])


def unfolded(folded: Folded, ranks: Sequence[int]) -> Any:
    """The tree as nested tuples without loops, with `("q", k, index)` for elements: for tests, and to read."""
    shape, integers = folded

    def walk(shape: Shape, integers: Integers) -> tuple[Any, Integers]:
        if not isinstance(shape, tuple):
            return shape, integers
        if shape[0] == "q":
            n = ranks[shape[1]]
            return (*shape, integers[:n]), integers[n:]
        parts: list[Any] = []
        for part in shape:
            if isinstance(part, tuple) and part[0] == "S":
                _, n, body = part
                k = count(body, ranks)
                first, stride, integers = integers[:k], integers[k : 2 * k], integers[2 * k :]
                parts += [walk(body, _after(first, stride, t))[0] for t in range(n)]
            else:
                inner, integers = walk(part, integers)
                parts.append(inner)
        return tuple(parts), integers

    return walk(shape, integers)[0]


def count(shape: Shape, ranks: Sequence[int]) -> int:
    """How many integers belong to a shape."""
    if not isinstance(shape, tuple):
        return 0
    if shape[0] == "q":
        return ranks[shape[1]]
    inner = sum(count(part, ranks) for part in shape)
    return 2 * inner if shape[0] == "S" else inner


def _loops(shape: Shape, rows: Sequence[Integers]) -> Iterator[Folded]:
    """Terms of one shape: runs whose integers grow by a constant stride as loops, the others as they are."""
    at = 0
    while at < len(rows):
        end = at + 1
        if end < len(rows) and rows[at]:
            stride = _stride(rows[at], rows[end])
            while end < len(rows) and _stride(rows[end - 1], rows[end]) == stride:
                end += 1
            if end - at >= FEWEST:
                yield Folded(("S", end - at, shape), (*rows[at], *stride))
                at = end
                continue
        yield Folded(shape, rows[at])
        at += 1


def _stride(row: Integers, after: Integers) -> Integers:
    return tuple(b - a for a, b in zip(row, after, strict=True))


def _after(first: Integers, stride: Integers, t: int) -> Integers:
    return tuple(i + t * d for i, d in zip(first, stride, strict=True))


def _flat(term: Expression) -> tuple[Expression, ...]:
    """What an ellipsis in print stands for: the page leaves out terms by itself."""
    return term.terms if isinstance(term, Rest) else (term,)


def _joined(kind: str, parts: Iterable[Folded], *about: Any) -> Folded:
    parts = list(parts)
    integers = tuple(chain.from_iterable(part.integers for part in parts))
    return Folded((kind, *about, *(part.shape for part in parts)), integers)


def affine(shape: Integers, rows: np.ndarray) -> tuple[list[int], list[list[int]]] | None:
    """The integers of all elements as those of the first and a stride for each axis; None if they are not like that.

    The rows are those of the elements of an array of this shape, in its order.
    """
    strides = [rows[prod(shape[axis + 1 :])] - rows[0] if n > 1 else 0 * rows[0] for axis, n in enumerate(shape)]
    places = np.indices(shape).reshape(len(shape), len(rows))
    expected = rows[0] + sum(np.outer(i, stride) for i, stride in zip(places, strides, strict=True))
    if not np.array_equal(expected, rows):
        return None
    return rows[0].tolist(), [stride.tolist() for stride in strides]
