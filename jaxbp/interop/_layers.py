"""The one description of a model that each library's reader makes and each writer takes: layers, one after the other.

Shapes and weights are ours, channels last, but for the order in which a `Flattening` leaves its elements: `_order.py`
sees to that. `_assembled.py` makes a network of such a description, and `_taken_apart.py` makes one of a network.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple

from jaxbp._attention import Attention
from jaxbp.activations import Activation
from jaxbp.connections import (
    AvgPool,
    Connection,
    Conv,
    ConvTransposed,
    Dense,
    Embedding,
    Flatten,
    Identity,
    MaxPool,
    Scale,
    Shape,
)
from jaxbp.interop._axes import Ends, alike, plain, spelled_out


class Layer(ABC):
    """One entry of a description."""

    @abstractmethod
    def output(self, source: Shape) -> Shape:
        """The shape that it makes of a source's, for one example."""

    @property
    def inside(self) -> "tuple[Steps, ...]":
        """The sequences of layers in it."""
        return ()

    def within(self, change: "Callable[[Steps], Steps]") -> "Layer":
        """The same with each sequence in it changed."""
        return self


class Step(NamedTuple):
    """A layer and where it is, for messages."""

    place: str
    layer: Layer


Steps = Sequence[Step]


class Joined(Layer):
    """A layer that a single connection is, with its weights W and the bias b, which may be None."""

    W: Any
    b: Any

    @abstractmethod
    def joined(self, source: Shape) -> tuple[Connection, Shape]:
        """The connection from a source of this shape, and the shape of the unit that it leads into.

        Raises:
            ValueError: The source does not fit.
        """

    def output(self, source: Shape) -> Shape:
        """The unit's shape."""
        return self.joined(source)[1]


@dataclass(frozen=True)
class Affine(Joined):
    """The map h W + b of the last axis, with W of shape (width before, width)."""

    W: Any
    b: Any = None

    def joined(self, source: Shape) -> tuple[Connection, Shape]:
        """`Dense`."""
        if self.W.ndim != 2:
            raise ValueError(f"has weights of shape {self.W.shape}, expected a matrix")
        if not source or source[-1] != self.W.shape[0]:
            raise ValueError(f"takes {self.W.shape[0]} values, but what comes before it has the shape {source}")
        return Dense(), (*source[:-1], self.W.shape[1])


@dataclass(frozen=True)
class Gain(Joined):
    """A weight w and a shift b for each element of the last axis, of which one may be None."""

    W: Any
    b: Any = None

    def joined(self, source: Shape) -> tuple[Connection, Shape]:
        """`Scale`, or `Identity` where there is only a shift."""
        width = next(weight.shape for weight in (self.W, self.b) if weight is not None)
        if width != source[-1:]:
            raise ValueError(f"has weights of shape {width}, but what comes before it has the shape {source}")
        return (Identity() if self.W is None else Scale()), source


@dataclass(frozen=True)
class Convolution(Joined):
    """A convolution, with W of shape (*kernel, channels before / groups, channels)."""

    W: Any
    b: Any
    conv: Conv

    def joined(self, source: Shape) -> tuple[Connection, Shape]:
        """`Conv`."""
        *kernel, d, c = self.W.shape
        if len(source) == len(kernel) + 1 and source[-1] != d * self.conv.groups:
            raise ValueError(f"takes {d * self.conv.groups} channels, but what comes before it has the shape {source}")
        return self.conv, self.conv.output_shape(source, c)


@dataclass(frozen=True)
class TransposedConvolution(Joined):
    """A transposed convolution, with W of shape (*kernel, channels / groups, channels before).

    Attributes:
        ends: How many zeros are added before and after the source, once there are stride − 1 between its elements.
    """

    W: Any
    b: Any
    stride: Shape
    dilation: Shape
    groups: int
    ends: Ends

    @property
    def reach(self) -> Shape:
        """From the first to the last element of a window."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.W.shape[:-2], self.dilation, strict=True))

    def joined(self, source: Shape) -> tuple[Connection, Shape]:
        """`ConvTransposed`."""
        *kernel, d, c = self.W.shape
        if len(source) != len(kernel) + 1 or source[-1] != c:
            raise ValueError(
                f"takes {len(kernel)} spatial axes and {c} channels, but what comes before it has the shape {source}"
            )
        spatial = tuple(
            (p - 1) * s + 2 + low + high - r
            for p, s, r, (low, high) in zip(source, self.stride, self.reach, self.ends, strict=False)
        )
        padding = tuple(
            (r - 1 - low, max(r - 1 - high, 0)) for r, (low, high) in zip(self.reach, self.ends, strict=True)
        )
        if any(low < 0 for low, _ in padding):
            raise ValueError(f"adds {self.ends} zeros, more than a window reaches over, {self.reach}")
        shape = (*spatial, d * self.groups)
        conv = Conv(tuple(kernel), alike(self.stride), plain(padding), alike(self.dilation), self.groups)
        return ConvTransposed(conv, shape), shape


@dataclass(frozen=True)
class Pooling(Joined):
    """A pool without weights, of the whole extent where it has no window."""

    kind: type[MaxPool | AvgPool]
    pool: MaxPool | AvgPool | None
    W = b = None

    def joined(self, source: Shape) -> tuple[MaxPool | AvgPool, Shape]:
        """`MaxPool` or `AvgPool`."""
        pool = self.kind(source[:-1]) if self.pool is None else self.pool
        return pool, pool.output_shape(source)


@dataclass(frozen=True)
class Padded(Layer):
    """Zeros around a map, before the layer that a library keeps them apart from."""

    ends: Ends

    def output(self, source: Shape) -> Shape:
        """More along each spatial axis."""
        return (*(n + low + high for n, (low, high) in zip(source, self.ends, strict=False)), source[-1])

    def before(self, layer: Layer, place: str) -> Layer:
        """The next layer with these zeros as a part of its padding."""
        if not isinstance(layer, Convolution | Pooling):
            raise self.alone(place)
        window = layer.conv if isinstance(layer, Convolution) else layer.pool
        if window is None or isinstance(window, MaxPool) or window.padding == "SAME":
            raise self.alone(place)
        own = spelled_out(window, (1,) * len(self.ends)).padding
        if len(own) != len(self.ends) or any(n < 0 for pair in self.ends for n in pair):
            raise self.alone(place)
        both = tuple((low + a, high + b) for (low, high), (a, b) in zip(self.ends, own, strict=True))
        padded: Any = replace(window, padding=plain(both))
        return replace(layer, conv=padded) if isinstance(layer, Convolution) else replace(layer, pool=padded)

    def alone(self, place: str) -> ValueError:
        """The error for zeros that are no part of another layer."""
        return ValueError(
            f"{place} adds zeros around a map, which only a convolution or a mean pool after it can take up"
        )


@dataclass(frozen=True)
class Flattening(Joined):
    """All elements in a row."""

    W = b = None

    def joined(self, source: Shape) -> tuple[Connection, Shape]:
        """`Flatten`."""
        return Flatten(len(source)), (prod(source),)


@dataclass(frozen=True)
class Lookup(Joined):
    """The rows of a table, W of shape (size, width)."""

    W: Any
    b = None

    def joined(self, source: Shape) -> tuple[Connection, Shape]:
        """`Embedding`."""
        return Embedding(self.W.shape[0]), (*source, self.W.shape[1])


@dataclass(frozen=True)
class SelfAttention(Layer):
    """Attention of rows to themselves: queries, keys and values by the maps q, k and v, and the output's map o."""

    q: Affine
    k: Affine
    v: Affine
    o: Affine
    attention: Attention

    def output(self, source: Shape) -> Shape:
        """As many rows, of o's width."""
        if len(source) != 2:
            raise ValueError(f"is attention between rows, but what comes before it has the shape {source}")
        return (source[0], self.o.W.shape[1])


@dataclass(frozen=True)
class Applied(Layer):
    """An activation; one of vectors may say along which of its library's axes it acts, without the batch."""

    activation: Activation
    axis: int = -1

    def output(self, source: Shape) -> Shape:
        """The source's."""
        return source


@dataclass(frozen=True)
class Norm(Layer):
    """`layer_norm` or `rms_norm`, with a gain w and a shift b, which may be None."""

    activation: Activation
    w: Any = None
    b: Any = None

    @property
    def gain(self) -> Gain | None:
        """The gain and the shift, where there is one."""
        return None if self.w is None and self.b is None else Gain(self.w, self.b)

    def output(self, source: Shape) -> Shape:
        """The source's."""
        return source if self.gain is None else self.gain.output(source)


@dataclass(frozen=True)
class Dropping(Layer):
    """Dropout that is active, of this share of elements."""

    share: float

    def output(self, source: Shape) -> Shape:
        """The source's."""
        return source


@dataclass(frozen=True)
class Summed(Layer):
    """The sum of what several sequences make of one source; the sequence of no layers is the source itself."""

    branches: tuple[Steps, ...]

    def output(self, source: Shape) -> Shape:
        """That of every branch."""
        shapes = [output(branch, source) for branch in self.branches]
        if len(set(shapes)) > 1:
            raise ValueError(f"adds up shapes that differ: {', '.join(map(str, shapes))}")
        return shapes[0]

    @property
    def inside(self) -> tuple[Steps, ...]:
        """The branches."""
        return self.branches

    def within(self, change: Callable[[Steps], Steps]) -> "Summed":
        """Other branches."""
        return Summed(tuple(change(branch) for branch in self.branches))


@dataclass(frozen=True)
class Stacked(Layer):
    """Sequences that differ in nothing but their weights, one after the other; or the same one `depth` times."""

    layers: tuple[Steps, ...]
    depth: int

    @property
    def shared(self) -> bool:
        """Whether all layers are the same one."""
        return len(self.layers) < self.depth

    def output(self, source: Shape) -> Shape:
        """The source's."""
        for layer in self.layers:
            if (shape := output(layer, source)) != source:
                raise ValueError(f"is a stack, whose layers keep the shape, but one makes {shape} of {source}")
        return source

    @property
    def inside(self) -> tuple[Steps, ...]:
        """The layers."""
        return self.layers

    def within(self, change: Callable[[Steps], Steps]) -> "Stacked":
        """Other layers."""
        return Stacked(tuple(change(layer) for layer in self.layers), self.depth)


def output(steps: Steps, shape: Shape) -> Shape:
    """The shape at the end of a sequence, whose misfits are refused by where they are."""
    for place, layer in steps:
        shape = at(place, layer, shape)
    return shape


def at(place: str, layer: Layer, shape: Shape) -> Shape:
    """The shape after a layer, or an error that says where it is."""
    with placed(place):
        return layer.output(shape)


@contextmanager
def placed(place: str) -> Generator[None]:
    """Let a misfit say where it is; one within a layer says so already."""
    try:
        yield
    except ValueError as error:
        if getattr(error, "has_place", False):
            raise
        misfit: Any = ValueError(f"{place}: {error}")
        misfit.has_place = True
        raise misfit from None
