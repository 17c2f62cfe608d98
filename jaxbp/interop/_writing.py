"""How modules are written: what all libraries share."""

from collections.abc import Callable, Sequence
from typing import Any

from jaxbp.connections import Shape
from jaxbp.interop._layers import Layer, Steps, Summed, at

Write = Callable[[str, Layer, Shape], Sequence[Any]]
"""`(place, layer, source) -> modules`, which make of a source's shape what the layer makes."""


def written(steps: Steps, shape: Shape, write: Write, summed: Callable[[list[list[Any]]], Any]) -> list[Any]:
    """The modules of a description, with those of each branch of a sum handed to the library's own."""
    modules: list[Any] = []
    for place, layer in steps:
        if isinstance(layer, Summed):
            modules.append(summed([written(branch, shape, write, summed) for branch in layer.branches]))
        else:
            modules.extend(write(place, layer, shape))
        shape = at(place, layer, shape)
    return modules


def lacking(place: str, library: str, what: str) -> ValueError:
    """The error for a layer of ours that a library has no counterpart of."""
    return ValueError(f"{place} has {what}, which has no counterpart in {library}")
