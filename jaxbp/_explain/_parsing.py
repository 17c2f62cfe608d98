"""Names and short expressions as people write them: text to a formula, without ever running it."""

import ast
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np

from jaxbp._checks import quoted
from jaxbp._explain._escaping import brief
from jaxbp._explain._expressions import (
    FUNCTIONS,
    Call,
    Expression,
    Leaf,
    Negative,
    Number,
    Partial,
    Power,
    Product,
    Quotient,
    Sum,
)
from jaxbp._names import DERIVATIVES, Name

LONGEST = 4_000  # characters of one claim
DEEPEST = 50  # parentheses, signs, powers and fractions within each other
EXPONENTS = range(-324, 309)  # float64 has nothing beyond
BEYOND = f"beyond those of float64, in which all is computed and which end at {sys.float_info.max:.3g}"

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d+))?", re.ASCII)
_FLAT: dict[type[ast.operator], str] = {ast.Add: "sum", ast.Sub: "sum", ast.Mult: "product"}
_SYNONYMS = {"log": "ln", "σ": "sigmoid"}


def parse_number(text: str) -> str | None:
    """A number that float64 has, as it is written, but with an ordinary minus; None for anything else."""
    check_length(text)
    written = text.strip().replace("−", "-")
    number = _NUMBER.fullmatch(written)
    if number is None:
        return None
    exponent = number[2] or "0"
    if len(exponent) > 9 or int(exponent) not in EXPONENTS or not _is_finite(float(written)):
        raise ValueError(f"{brief(text)} is a number {BEYOND}")
    return written


def check_length(text: str) -> None:
    """Refuse a text that is too long to be read as one number, name or formula."""
    if len(text) > LONGEST:
        raise ValueError(f"{brief(text)} is {len(text)} characters long, and {LONGEST} are read; claim a part of it")


def parse_name(text: str, arrays: Mapping[Name, np.ndarray]) -> Leaf:
    """A quantity by its name, with or without an index, or a derivative `d(a.o[0])/d(W.o.h1[0, 1])`."""
    parsed = parse(text, arrays)
    if not isinstance(parsed, Name | Partial):
        raise ValueError(f"{brief(text)} names no quantity; a name looks like 'a.o[1]', 'loss' or 'grad.o.h1[0, 1]'")
    return parsed


def parse(text: str, arrays: Mapping[Name, np.ndarray]) -> Expression:
    """A short expression over quantities that are there, such as `(h.o[0] - y[0]) * h.h1[1]`.

    It is made of numbers, names of quantities, + − * / ** and ^, parentheses, `exp ln sqrt abs max min tanh sigmoid`,
    and derivatives `d(…)/d(…)`. A ValueError says what else the text holds.
    """
    check_length(text)
    # names of units need not be Python's, so quantities are taken out before the grammar is left to Python
    known = {str(name): name for name in arrays if not name.index}
    found: dict[str, Name] = {}
    stem = "q"
    while stem in text:
        stem += "q"

    def placeholder(match: re.Match[str]) -> str:
        found[f"{stem}{len(found)}"] = known[match[0]]
        return list(found)[-1]

    longest_first = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
    pattern = rf"(?<![\w.])(?:{longest_first})(?![\w.])"
    source = re.sub(pattern, placeholder, text).replace("−", "-").replace("·", "*").replace("^", "**")
    source = re.sub(r"\bd\(([^()]*)\)\s*/\s*d\(([^()]*)\)", r"d(\1, \2)", source)  # one thing, not a fraction
    source = source.strip()
    try:
        tree = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError):
        raise ValueError(f"{brief(text)} cannot be read as an expression over quantities") from None
    except (RecursionError, MemoryError):
        tree = None
    if tree is None or _depth(tree) > DEEPEST:
        raise ValueError(f"{brief(text)} is nested more than {DEEPEST} deep; claim a simpler formula") from None
    return _Reader(brief(text), source, found, arrays).read(tree)


@dataclass(frozen=True)
class _Reader:
    text: str
    source: str
    found: Mapping[str, Name]
    arrays: Mapping[Name, np.ndarray]

    def read(self, node: ast.expr) -> Expression:
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                if not _is_finite(value):
                    raise ValueError(f"{self.text} holds {brief(self._original(node))}, a number {BEYOND}")
                return Number(value)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return Negative(self.read(operand))
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.read(operand)
            case ast.Call(func=ast.Name(id="d"), args=[of, by], keywords=[]):
                return self._derivative(self._element(of), self._element(by))
            case ast.BinOp():
                return self._operations(node)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                function = FUNCTIONS.get(_SYNONYMS.get(name, name))
                if function is None:
                    raise ValueError(f"{self.text} uses {name!r}; the functions are {quoted(FUNCTIONS)}")
                if not (len(arguments) > 1 if name in ("max", "min") else len(arguments) == 1):
                    raise ValueError(f"{self.text} gives {len(arguments)} arguments to {name!r}")
                return Call(function, tuple(map(self.read, arguments)))
            case ast.Name() | ast.Attribute() | ast.Subscript():
                return self._element(node)
            case _:
                raise ValueError(
                    f"{self.text} holds {brief(self._original(node))}; an expression is made of numbers, quantities, "
                    f"+ - * / ** and {quoted(FUNCTIONS)}"
                )

    def _operations(self, node: ast.expr) -> Expression:
        # a long sum is nested to the left, as deep as it has terms
        rest: list[tuple[ast.operator, ast.expr]] = []
        while isinstance(node, ast.BinOp):
            rest.append((node.op, node.right))
            node = node.left
        result = self.read(node)
        for operator, right in reversed(rest):
            result = self._operation(operator, result, self.read(right))
        return result

    def _operation(self, operator: ast.operator, left: Expression, right: Expression) -> Expression:
        match operator:
            case ast.Add():
                return Sum((*_terms(left), right))
            case ast.Sub():
                return Sum((*_terms(left), Negative(right)))
            case ast.Mult():
                return Product((*(left.factors if isinstance(left, Product) else (left,)), right))
            case ast.Div():
                return Quotient(left, right)
            case ast.Pow():
                return Power(left, right)
            case _:
                raise ValueError(f"{self.text} uses an operator other than + - * / **")

    def _element(self, node: ast.expr) -> Name:
        index: tuple[int, ...] = ()
        if isinstance(node, ast.Subscript):
            written = self._original(node.slice).strip("()")
            if not re.fullmatch(r"-?\d+(, *-?\d+)*,?", written):
                raise ValueError(f"{self.text}: an index is made of integers, got [{written}]")
            index = tuple(int(i) for i in written.split(",") if i)
            node = node.value
        name = self.found.get(node.id) if isinstance(node, ast.Name) else None
        if name is None:
            raise _unknown(self._original(node), self.arrays)
        shape = self.arrays[name].shape
        if name.at(index) in self.arrays:
            return name.at(index)  # the whole, or what a layer has of it
        if len(index) != len(shape) or not all(0 <= i < n for i, n in zip(index, shape, strict=True)):
            raise ValueError(f"{name.at(index)} does not exist: {name} has shape {shape}")
        return name.at(index)

    def _original(self, node: ast.expr) -> str:
        segment = ast.get_source_segment(self.source, node) or ""
        return re.sub(r"\w+", lambda match: str(self.found.get(match[0], match[0])), segment)

    def _derivative(self, of: Name, by: Name) -> Leaf:
        if of.kind not in ("loss", "a", "h") or by.kind not in DERIVATIVES:
            raise ValueError(f"{self.text}: d(…)/d(…) is of the loss, an a or an h, by an a, an h or a W")
        if np.issubdtype(self.arrays[by.whole].dtype, np.integer):
            raise ValueError(f"{self.text}: {by.whole} holds ids, by which nothing is differentiated")
        if of.kind == "loss":
            return replace(by, kind=DERIVATIVES[by.kind])
        for quantity in (of, by):
            if self.arrays[quantity.whole][quantity.index].shape:
                raise ValueError(f"{self.text}: say which element of {quantity} is meant, e.g. {quantity}[0]")
        return Partial(of, by)


def _is_finite(number: float) -> bool:
    return abs(number) <= sys.float_info.max


def _depth(tree: ast.expr) -> int:
    """How deep a formula is nested, where a sum counts once, and a product."""
    deepest, waiting = 0, [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        deepest = max(deepest, depth)
        for child in ast.iter_child_nodes(node):
            match node, child:
                case ast.BinOp(left=left, op=op), ast.BinOp(op=inner) if child is left:
                    flat = _FLAT.get(type(op), "") == _FLAT.get(type(inner))
                case _:
                    flat = False
            if isinstance(child, ast.expr):
                waiting.append((child, depth if flat else depth + 1))
    return deepest


def _terms(left: Expression) -> tuple[Expression, ...]:
    return left.terms if isinstance(left, Sum) else (left,)


def _unknown(name: str, arrays: Mapping[Name, np.ndarray]) -> ValueError:
    known = [str(name) for name in arrays if not name.index]
    near = get_close_matches(name, known, n=3, cutoff=0.4)
    return ValueError(
        f"there is no quantity {brief(name)}; "
        + (f"did you mean {quoted(near)}?" if near else f"known are {quoted(known)}")
    )
