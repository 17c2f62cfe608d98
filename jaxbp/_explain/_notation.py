"""Notation: what a quantity is called in print, by default or as a book has it."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxbp._explain._escaping import visible
from jaxbp._explain._expressions import Index, Leaf, Partial, Quantity
from jaxbp._explain._symbols import Group, Sign, Symbol, grouped, in_latex, in_text, literal, scripted, word
from jaxbp._graph import BIAS, SHARED

BATCHED = ("a", "h", "delta", "Delta", "y")
"""The kinds of quantities whose first axes are the batch's."""

_LETTERS = {"delta": "δ", "Delta": "Δ", "loss": "L", "losses": "L", "learning_rate": "η"}


@dataclass(frozen=True)
class Notation:
    """Symbols for quantities.

    Attributes:
        names: Symbols by the name of a unit (`"h1"`), of an array (`"W.o.h1"`) or of an element (`"a.h1[0]"`, an
            index without batch axes).
        inputs: The names of the network's inputs, whose h is written as themselves.
        batch: The number of batch axes.
    """

    names: Mapping[str, Symbol]
    inputs: tuple[str, ...]
    batch: int = 0

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
        kind, *path = self._shown_as(leaf).name.split(".")
        if any(part in self.names for part in path):
            return in_text(self._default(leaf))
        name = path[0] if kind == "h" and path[0] in self.inputs else ".".join([_LETTERS.get(kind, kind), *path])
        return visible(str(Quantity(name, leaf.index)))

    def _shown_as(self, leaf: Quantity) -> Quantity:
        """An updated weight is called like the weight."""
        kind, _, path = leaf.name.partition(".")
        return Quantity(f"W.{path}", leaf.index) if kind == "updated" else leaf

    def _derivative_by(self, leaf: Quantity) -> Quantity | None:
        """What to write under ∂L: for a gradient its weight, for δ and Δ a symbol that was given for a or h."""
        kind, _, path = leaf.name.partition(".")
        if kind not in ("grad", "delta", "Delta") or self._given(leaf) is not None:
            return None
        by = Quantity(f"{ {'grad': 'W', 'delta': 'a', 'Delta': 'h'}[kind] }.{path}", leaf.index)
        return by if kind == "grad" or self._given(by) is not None else None

    def _given(self, leaf: Quantity) -> Symbol | None:
        split = self.batch if leaf.name.partition(".")[0] in BATCHED else 0
        example, element = leaf.index[:split], leaf.index[split:]
        name = str(Quantity(leaf.name, element))
        if name in self.names:
            symbol = self.names[name]
            return scripted(Group((symbol,)), below=word(f"[{_joined(example)}]")) if example else symbol
        if leaf.name in self.names:
            return scripted(self.names[leaf.name], below=_index(leaf.index))
        shown_as = self._shown_as(leaf)
        return None if shown_as == leaf else self._given(shown_as)

    def _default(self, leaf: Quantity) -> Symbol:
        kind, *path = self._shown_as(leaf).name.split(".")
        below = _index(leaf.index)
        if kind == "h" and path[0] in self.inputs:
            return scripted(self._unit(path[0]), below=below)
        if kind == "W" and path[0] == SHARED:
            return scripted(literal(path[1]), below=below)
        if kind == "W" and path[1] == BIAS:
            return scripted(Sign("b"), grouped(self._unit(path[0])), below)
        if kind == "W":
            return scripted(Sign("W"), grouped(self._unit(path[1]), Sign("→"), self._unit(path[0])), below)
        above = grouped(self._unit(path[0])) if path else None
        return scripted(Sign(_LETTERS.get(kind, kind)), above, below)

    def _unit(self, name: str) -> Symbol:
        return self.names.get(name, literal(name))


def _joined(index: Index) -> str:
    return ",".join(map(str, index))


def _index(index: Index) -> Symbol | None:
    return word(_joined(index)) if index else None
