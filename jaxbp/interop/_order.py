"""What a library means that has channels first, as torch and equinox do for maps.

Networks here have channels last: a map is `(*spatial, channels)`. Nothing in a convolution or a pool depends on where
the channels are, so only what reads a flattened map has its weights in another order, and it is an error where a
library would take another axis for the channels than we do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from jaxtyping import Array

from jaxbp.activations import VectorActivation, softmax
from jaxbp.connections import Shape
from jaxbp.interop._layers import (
    Affine,
    Applied,
    Convolution,
    Flattening,
    Layer,
    Lookup,
    Norm,
    Pooling,
    SelfAttention,
    Stacked,
    Step,
    Steps,
    Summed,
    TransposedConvolution,
    placed,
)


@dataclass(frozen=True)
class _State:
    """What is known of the values between two layers.

    Attributes:
        shape: Their shape, channels last.
        maps: Whether the library has their channels first; None as long as nothing said so.
        order: Where it has each of our elements, if it has them in another order.
    """

    shape: Shape
    maps: bool | None = None
    order: Any = None


def reordered(steps: Steps, shape: Shape, *, theirs: bool) -> list[Step]:
    """The description with the weights after each flattened map in our order, or in theirs if they are to be.

    Whether x is a map is what the first layer says that must know; a `Flattening` takes it for one if it has three
    axes.
    """
    state = _State(shape, _is_map(steps, shape))
    steps, state = _walk(steps, state, theirs)
    if state.order is not None:
        raise ValueError(
            f"{steps[-1].place} gives the elements of a flattened map, channels first in one library and last in the "
            "other; let a linear layer follow, or leave the flattening to the reader of the output"
        )
    return steps


def _walk(steps: Steps, state: _State, theirs: bool) -> tuple[list[Step], _State]:
    done: list[Step] = []
    for place, layer in steps:
        with placed(place):
            if isinstance(layer, Summed):
                ends = [_walk(branch, state, theirs) for branch in layer.branches]
                layer, state = Summed(tuple(inner for inner, _ in ends)), _met([end for _, end in ends])
            elif isinstance(layer, Stacked):
                layer, state = _stack(layer, state, theirs)
            else:
                layer, state = _one(layer, state, theirs)
        done.append(Step(place, layer))
    return done, state


def _stack(stack: Stacked, state: _State, theirs: bool) -> tuple[Stacked, _State]:
    layers: list[Steps] = []
    for layer in stack.layers:
        before = state
        steps, state = _walk(layer, before, theirs)
        layers.append(steps)
        if stack.shared and not _same(before.order, state.order):
            raise ValueError("reads a flattened map in the first of its layers alone, but all have the same weights")
    return Stacked(tuple(layers), stack.depth), state


def _one(layer: Layer, state: _State, theirs: bool) -> tuple[Layer, _State]:
    shape, order = layer.output(state.shape), state.order
    match layer:
        case Convolution() | TransposedConvolution() | Pooling():
            if state.maps is False:
                raise ValueError("takes channels first, but what comes before it has them last")
            return layer, _State(shape, True)
        case Affine() | SelfAttention() | Lookup() | Norm():
            if state.maps and len(state.shape) > 1:
                raise ValueError("acts on the last axis, but what comes before it has its channels first")
            return _permuted(layer, order, theirs), _State(shape, False, order if isinstance(layer, Norm) else None)
        case Flattening():
            return layer, _State(shape, False, _order(state.shape) if state.maps else None)
        case Applied(activation, axis) if isinstance(activation, VectorActivation):
            last = -len(state.shape) if state.maps else -1
            if theirs:
                if state.maps and activation.phi != softmax.phi:
                    raise ValueError(f"has {activation} of the channels of a map, which come first there")
                layer = Applied(activation, last)
            elif axis not in (last, last + len(state.shape)):
                raise ValueError(f"applies {activation} along axis {axis} of an example, expected that of the channels")
            return layer, state
        case _:
            return layer, replace(state, shape=shape)


def _permuted(layer: Layer, order: Any, theirs: bool) -> Layer:
    if order is None:
        return layer
    places = np.argsort(order) if theirs else order

    def moved(weight: Array | None) -> Array | None:
        return None if weight is None else weight[places]

    match layer:
        case Affine(W, b):
            return Affine(moved(W), b)
        case Norm(activation, w, b):
            return Norm(activation, moved(w), moved(b))
        case _:
            raise ValueError("cannot read a flattened map")


def _order(shape: Shape) -> Any:
    """Where a library with channels first has each element of our flattened map; None where the order is the same."""
    *spatial, channels = shape
    order = np.moveaxis(np.arange(prod(shape)).reshape(channels, *spatial), 0, -1).ravel()
    return None if np.array_equal(order, np.arange(order.size)) else order


def _met(ends: Sequence[_State]) -> _State:
    """The state after a sum, of which the library must have all terms in one layout."""
    known = {end.maps for end in ends if end.maps is not None}
    if len(known) > 1 or any(not _same(end.order, ends[0].order) for end in ends):
        raise ValueError("adds up what has channels first and what has them last")
    return _State(ends[0].shape, known.pop() if known else None, ends[0].order)


def _same(order: Any, other: Any) -> bool:
    return order is other if order is None or other is None else np.array_equal(order, other)


def _is_map(steps: Steps, shape: Shape) -> bool | None:
    for _, layer in steps:
        match layer:
            case Convolution() | TransposedConvolution() | Pooling():
                return True
            case Affine() | SelfAttention() | Lookup() | Norm():
                return False
            case Flattening():
                return len(shape) > 2
            case _:
                found = [is_map for inner in layer.inside if (is_map := _is_map(inner, shape)) is not None]
                if found:
                    return found[0]
    return None
