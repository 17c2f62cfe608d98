"""The one name that a quantity has everywhere, as a value: read and printed here, and taken apart nowhere."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from jaxbp._checks import described, quoted, suggestion

T = TypeVar("T")

DERIVATIVES = {"a": "delta", "h": "Delta", "W": "grad"}
"""What ∂L/∂ of a quantity of each kind is called."""

# how many parts a path of each kind has at least: of the unit, and of the weight in it; blocks have longer ones
_PARTS = {
    **dict.fromkeys(("loss", "losses", "y", "learning_rate"), 0),
    **dict.fromkeys(("a", "h", "Delta", "delta"), 1),
    **dict.fromkeys(("grad", "W", "updated"), 2),
}
_WITHIN = frozenset(
    {f"{signal}{kind}" for signal in ("", "Delta_") for kind in ("turned_query", "turned_key", "scores", "weights")}
    | {"mask", "mean", "std", "rms", "mean_Delta", "mean_h_Delta"}
)
"""What there is within a unit of attention or normalisation, of which only an explanation tells."""
_FORM = re.compile(r"([^.\[\]\s]+(?:\.[^.\[\]\s]+)*)(?:\[([0-9]+(?:, *[0-9]+)*)\])?")


@dataclass(frozen=True)
class Name:
    """The name of a quantity: `loss`, `delta.h1[0]`, `grad.o.bias`, `W.shared.W`, `grad.blocks.up.norm2[3]`.

    Attributes:
        kind: Which quantity of its unit or weight it is, such as `delta`.
        path: The unit or input; for a weight the unit or group, and then the source or its own name; empty for `loss`.
        index: Which element is meant, batch axes first; empty for the whole array.
    """

    kind: str
    path: tuple[str, ...] = ()
    index: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Name":
        """The name that prints as this text; whether a network has such a quantity is not asked.

        Raises:
            ValueError: A text that is not the name of any quantity.
        """
        read = _FORM.fullmatch(text) if isinstance(text, str) else None
        if read is None:
            raise ValueError(
                f"{described(text)} cannot be read as the name of a quantity, which looks like 'loss', 'a.o[1]' or "
                "'grad.o.h1[0, 1]'"
            )
        kind, *path = read[1].split(".")
        if kind not in _PARTS:
            known = f"there is no kind {kind!r}{suggestion(kind, _PARTS)}, only {quoted(_PARTS)}"
            raise ValueError(f"{text!r} names no quantity: {known}")
        least = _PARTS[kind]
        if len(path) < least or (path and not least):
            of = ("stands alone", "is of a unit", "is of a unit and of what it reads")[least]
            like = ".".join((kind, "o", "h1")[: least + 1])
            raise ValueError(f"{text!r} names no quantity: {kind!r} {of}, as in {like!r}")
        return cls(kind, tuple(path), tuple(map(int, read[2].split(","))) if read[2] else ())

    def __str__(self) -> str:
        text = ".".join((self.kind, *self.path))
        return f"{text}[{', '.join(map(str, self.index))}]" if self.index else text

    @property
    def is_of_unit(self) -> bool:
        """Whether it is an a, h, Δ or δ of a unit or an input, or within a unit; its first axes are the batch's."""
        return _PARTS.get(self.kind) == 1 or self.kind in _WITHIN

    @property
    def unit(self) -> str:
        """The unit or input, or the group of a weight."""
        return ".".join(self.path if self.is_of_unit else self.path[:-1])

    @property
    def whole(self) -> "Name":
        """The array that it is an element of."""
        return self.at(())

    def at(self, index: tuple[int, ...]) -> "Name":
        """The same quantity at an element."""
        return Name(self.kind, self.path, index)


def named(tree: Any, *keys: str) -> dict[Name, Any]:
    """The leaves of nested dicts by name: the outermost key is the kind, the others are the path.

    >>> [str(name) for name in named({"loss": 0.5, "grad": {"o": {"h1": 1.0, "bias": 2.0}}})]
    ['loss', 'grad.o.h1', 'grad.o.bias']
    """
    if isinstance(tree, Mapping):
        return {name: leaf for key, inner in tree.items() for name, leaf in named(inner, *keys, key).items()}
    kind, *path = keys
    return {Name(kind, tuple(path)): tree}


def under(stack: str, name: str) -> str:
    """The name of an input or unit of a block, as the network around its stack calls it: `blocks.up`."""
    return f"{stack}.{name}"


def inside(stack: str, by_name: Mapping[str, T]) -> dict[str, T]:
    """What a mapping by name holds of the block of a stack, by the names in it.

    >>> inside("blocks", {"x": 1, "blocks": 2, "blocks.up": 3, "blocks.inner.up": 4})
    {'up': 3, 'inner.up': 4}
    """
    start = f"{stack}."
    return {name.removeprefix(start): value for name, value in by_name.items() if name.startswith(start)}
