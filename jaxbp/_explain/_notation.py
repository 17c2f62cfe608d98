"""Notation: what a quantity is called in print, by default or as a book has it."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxbp._explain._expressions import Index, Leaf, Partial, Quantity
from jaxbp._explain._printing import upright
from jaxbp._graph import BIAS, SHARED

BATCHED = ("a", "h", "delta", "Delta", "y")
"""The kinds of quantities whose first axes are the batch's."""

_LETTERS = {"a": "a", "h": "h", "delta": r"\delta", "Delta": r"\Delta"}
_PLAIN = {"delta": "δ", "Delta": "Δ"}


@dataclass(frozen=True)
class Notation:
    """Symbols for quantities.

    Attributes:
        names: LaTeX by the name of a unit (`"h1"`), of an array (`"W.o.h1"`) or of an element (`"a.h1[0]"`, an
            index without batch axes).
        inputs: The names of the network's inputs, whose h is written as themselves.
        batch: The number of batch axes.
    """

    names: Mapping[str, str]
    inputs: tuple[str, ...]
    batch: int = 0

    def latex(self, leaf: Leaf) -> str:
        """The symbol in LaTeX."""
        if isinstance(leaf, Partial):
            return rf"\frac{{\partial {self.latex(leaf.of)}}}{{\partial {self.latex(leaf.by)}}}"
        kind, *path = leaf.name.split(".")
        if kind == "updated":
            return self.latex(Quantity(".".join(["W", *path]), leaf.index))
        derivative_by = self._derivative_by(kind, path, leaf)
        if derivative_by is not None:
            return rf"\frac{{\partial L}}{{\partial {self.latex(derivative_by)}}}"
        given = self._given(leaf)
        if given is not None:
            return given
        return _with_scripts(*self._default(kind, path), _joined(leaf.index))

    def text(self, leaf: Leaf) -> str:
        """The symbol in plain text: a given one in Unicode, else the quantity's own name."""
        if isinstance(leaf, Partial):
            return f"∂{self.text(leaf.of)}/∂{self.text(leaf.by)}"
        kind, *path = leaf.name.split(".")
        if kind == "updated":
            return self.text(Quantity(".".join(["W", *path]), leaf.index))
        derivative_by = self._derivative_by(kind, path, leaf)
        if derivative_by is not None:
            return f"∂L/∂{self.text(derivative_by)}"
        given = self._given(leaf)
        if given is not None:
            return unicode_of(given)
        if any(part in self.names for part in path):
            return unicode_of(_with_scripts(*self._default(kind, path), _joined(leaf.index)))
        plain = {"loss": "L", "losses": "L", "learning_rate": "η"}.get(kind, kind)
        if kind == "h" and path[0] in self.inputs:
            return str(Quantity(path[0], leaf.index))
        return str(Quantity(".".join([_PLAIN.get(kind, plain), *path]), leaf.index))

    def _derivative_by(self, kind: str, path: list[str], leaf: Quantity) -> Quantity | None:
        """What to write under ∂L: for a gradient its weight, for δ and Δ a symbol that was given for a or h."""
        if kind == "grad":
            return Quantity(".".join(["W", *path]), leaf.index)
        if kind in ("delta", "Delta") and self._given(leaf) is None:
            by = Quantity(".".join(["a" if kind == "delta" else "h", *path]), leaf.index)
            return by if self._given(by) is not None else None
        return None

    def _given(self, leaf: Quantity) -> str | None:
        split = self.batch if leaf.name.split(".")[0] in BATCHED else 0
        example, element = leaf.index[:split], leaf.index[split:]
        name = str(Quantity(leaf.name, element))
        if name in self.names:
            return f"{{{self.names[name]}}}_{{[{_joined(example)}]}}" if example else self.names[name]
        if leaf.name in self.names:
            return _with_scripts(self.names[leaf.name], "", _joined(leaf.index))
        return None

    def _default(self, kind: str, path: list[str]) -> tuple[str, str]:
        """The letter, and what stands above it."""
        if kind == "h" and path[0] in self.inputs:
            return self._unit(path[0]), ""
        if kind == "W" and path[0] == SHARED:
            return upright(path[1]), ""
        if kind == "W" and path[1] == BIAS:
            return "b", self._unit(path[0])
        if kind == "W":
            return "W", rf"{self._unit(path[1])} \to {self._unit(path[0])}"
        if kind in _LETTERS:
            return _LETTERS[kind], self._unit(path[0])
        return {"loss": "L", "losses": "L", "learning_rate": r"\eta"}.get(kind, kind), ""

    def _unit(self, name: str) -> str:
        return self.names.get(name, upright(name))


def _joined(index: Index) -> str:
    return ",".join(map(str, index))


def _with_scripts(letter: str, above: str, below: str) -> str:
    if (below and "_" in letter) or (above and "^" in letter):
        letter = f"{{{letter}}}"  # a given symbol that has scripts of its own
    return letter + (f"^{{{above}}}" if above else "") + (f"_{{{below}}}" if below else "")


_SUPERSCRIPTS = str.maketrans("0123456789()+-−=n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁽⁾⁺⁻⁻⁼ⁿ")
_SUBSCRIPTS = str.maketrans("0123456789()+-−=", "₀₁₂₃₄₅₆₇₈₉₍₎₊₋₋₌")
_COMMANDS = {
    "alpha": "α", "beta": "β", "delta": "δ", "Delta": "Δ", "eta": "η", "theta": "θ", "phi": "φ", "Phi": "Φ",
    "sigma": "σ", "partial": "∂", "to": "→", "cdot": "·", "times": "×", "infty": "∞", "sum": "Σ", "prime": "′",
}  # fmt: skip
_ACCENTS = {"hat": "\u0302", "tilde": "\u0303", "bar": "\u0304", "dot": "\u0307"}


def unicode_of(latex: str) -> str:
    r"""A LaTeX symbol in plain text: `\hat{y}_1` becomes ŷ₁, and what Unicode lacks stays readable."""
    text = re.sub(r"\\(hat|tilde|bar|dot)\{?(\w)\}?", lambda m: m[2] + _ACCENTS[m[1]], latex)
    text = re.sub(r"\\(?:mathrm|mathbf|mathit|text)\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\([A-Za-z]+)", lambda m: _COMMANDS.get(m[1], m[1]), text)
    text = re.sub(r"\^\{([^{}]*)\}|\^(.)", lambda m: _script(m[1] or m[2], _SUPERSCRIPTS, "^"), text)
    text = re.sub(r"_\{([^{}]*)\}|_(.)", lambda m: _script(m[1] or m[2], _SUBSCRIPTS, "_"), text)
    return unicodedata.normalize("NFC", re.sub(r"[{}\\]", "", text))


def _script(content: str, table: dict[int, Any], mark: str) -> str:
    raised = content.translate(table)
    if all(ord(before) in table for before in content):
        return raised
    return content if content.startswith("[") else f"{mark}{content}" if len(content) == 1 else f"{mark}({content})"
