"""Notation: what a quantity is called in print, by default or as a book has it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from jaxbp._explain._escaping import visible
from jaxbp._explain._expressions import Index, Leaf, Partial
from jaxbp._explain._symbols import (
    Group,
    Sign,
    Symbol,
    grouped,
    in_latex,
    in_text,
    literal,
    parse_symbol,
    scripted,
    word,
)
from jaxbp._explain._within import STAGES
from jaxbp._graph import ONE, SHARED
from jaxbp._names import DERIVATIVES, Name

_LETTERS = {
    "delta": "δ",
    "Delta": "Δ",
    "loss": "L",
    "losses": "L",
    "learning_rate": "η",
    **{stage.kind: stage.letter for stage in STAGES if stage.letter},
}
_SYMBOLS = {stage.kind: parse_symbol(stage.symbol) for stage in STAGES if stage.symbol}
_BY = {
    **{derivative: kind for kind, derivative in DERIVATIVES.items()},
    **{stage.kind: stage.kind.removeprefix("Delta_") for stage in STAGES if not stage.letter},
}
_ALWAYS_BY = {*_BY} - {"delta", "Delta"}


@dataclass(frozen=True)
class Notation:
    """Symbols for quantities.

    They are given by the name of a unit (`"h1"`), of an array (`"W.o.h1"`), of what a layer has of one
    (`"W.blocks.up.x[3]"`) or of an element (`"a.h1[0]"`, an index without batch axes). The h of an input is written as
    the input itself.
    """

    names: Mapping[str, Symbol]
    inputs: tuple[str, ...]
    batch: int = 0
    layers: Callable[[Name], int] = lambda name: 0

    def latex(self, leaf: Leaf) -> str:
        """The symbol in LaTeX."""
        if isinstance(leaf, Partial):
            return rf"\frac{{\partial {self.latex(leaf.of)}}}{{\partial {self.latex(leaf.by)}}}"
        by = self._derivative_by(leaf)
        if by is not None:
            return rf"\frac{{\partial L}}{{\partial {self.latex(by)}}}"
        latex = in_latex(self._given(leaf) or self._default(leaf))
        return f"{{{latex}}}" if latex.startswith("-") else latex  # that is no sign in front of it

    def text(self, leaf: Leaf) -> str:
        """The symbol in plain text: a given one in Unicode, else the quantity's own name."""
        if isinstance(leaf, Partial):
            return f"∂{self.text(leaf.of)}/∂{self.text(leaf.by)}"
        by = self._derivative_by(leaf)
        if by is not None:
            return f"∂L/∂{self.text(by)}"
        given = self._given(leaf)
        if given is not None:
            return in_text(given)
        shown = self._shown_as(leaf)
        if any(part in self.names for part in _units_of(shown)):
            return in_text(self._default(leaf))
        if self._is_input(shown):
            return visible(str(Name(shown.unit, (), shown.index)))
        return visible(str(replace(shown, kind=_LETTERS.get(shown.kind, shown.kind))))

    def _shown_as(self, leaf: Name) -> Name:
        """An updated weight is called like the weight."""
        return replace(leaf, kind="W") if leaf.kind == "updated" else leaf

    def _derivative_by(self, leaf: Name) -> Name | None:
        """What to write under ∂L: for a gradient its weight, for δ and Δ a symbol that was given for a or h."""
        if leaf.kind not in _BY or self._given(leaf) is not None:
            return None
        by = replace(leaf, kind=_BY[leaf.kind])
        return by if leaf.kind in _ALWAYS_BY or self._given(by) is not None else None

    def _given(self, leaf: Name) -> Symbol | None:
        n = self.layers(leaf)
        split = n + batch_axes(leaf, self.batch)
        layer, example, element = leaf.index[:n], leaf.index[n:split], leaf.index[split:]
        if (single := str(leaf.at((*layer, *element)))) in self.names:
            symbol = self.names[single]
            return scripted(Group((symbol,)), below=word(f"[{_joined(example)}]")) if example else symbol
        for known in dict.fromkeys((n, 0)):
            if (whole := str(leaf.at(layer[:known]))) in self.names:
                return scripted(self.names[whole], below=_index(leaf.index[known:]))
        shown_as = self._shown_as(leaf)
        return None if shown_as == leaf else self._given(shown_as)

    def _is_input(self, leaf: Name) -> bool:
        return leaf.kind == "h" and leaf.unit in self.inputs

    def _default(self, leaf: Name) -> Symbol:
        shown = self._shown_as(leaf)
        kind, path, below = shown.kind, shown.path, _index(leaf.index)
        if self._is_input(shown):
            return scripted(self._unit(shown.unit), below=below)
        if kind == "W" and path[-2] == SHARED:
            return scripted(literal(".".join((*path[:-2], path[-1]))), below=below)
        above = [self._unit(name) for name in _units_of(shown)]
        if kind == "W" and path[-1] == ONE:
            return scripted(Sign("b"), grouped(*above[:1]), below)
        if kind == "W":
            return scripted(Sign("W"), grouped(above[1], Sign("→"), above[0]), below)
        symbol = _SYMBOLS.get(kind) or Sign(_LETTERS.get(kind, kind))
        return scripted(symbol, grouped(*above) if above else None, below)

    def _unit(self, name: str) -> Symbol:
        return self.names.get(name, literal(name))


def _units_of(leaf: Name) -> tuple[str, ...]:
    """The unit or input of a quantity; of a weight its unit, and what that reads by it."""
    if leaf.is_of_unit or not leaf.path:
        return (leaf.unit,) if leaf.path else ()
    *stacks, group, name = leaf.path
    return () if group == SHARED else (leaf.unit, ".".join((*stacks, name)))


def batch_axes(leaf: Name, batch: int) -> int:
    """How many of the axes of a quantity are the batch's, of which there are so many."""
    return batch if leaf.is_of_unit or leaf.kind == "y" else 0


def _joined(index: Index) -> str:
    return ",".join(map(str, index))


def _index(index: Index) -> Symbol | None:
    return word(_joined(index)) if index else None
