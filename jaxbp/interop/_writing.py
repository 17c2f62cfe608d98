"""How modules are written: what all libraries share."""

from collections.abc import Sequence
from typing import Any, Protocol

from jaxbp.connections import Shape
from jaxbp.interop._layers import Layer, Stacked, Steps, Summed, at


class Writer(Protocol):
    """Makes modules of one library."""

    def write(self, place: str, layer: Layer, source: Shape) -> Sequence[Any]:
        """The modules that make of a source's shape what the layer makes."""
        ...

    def sum(self, branches: list[list[Any]]) -> Any:
        """The module of a sum, of the modules of each branch."""
        ...

    def stack(self, layers: list[list[Any]], depth: int) -> Any:
        """The module of a stack, of the modules of each layer, or of the one that all are."""
        ...


def written(steps: Steps, shape: Shape, writer: Writer) -> list[Any]:
    """The modules of a description."""
    modules: list[Any] = []
    for place, layer in steps:
        inside = [written(inner, shape, writer) for inner in layer.inside]
        match layer:
            case Summed():
                modules.append(writer.sum(inside))
            case Stacked():
                modules.append(writer.stack(inside, layer.depth))
            case _:
                modules.extend(writer.write(place, layer, shape))
        shape = at(place, layer, shape)
    return modules


def lacking(place: str, library: str, what: str) -> ValueError:
    """The error for a layer of ours that a library has no counterpart of."""
    return ValueError(f"{place} has {what}, which has no counterpart in {library}")
