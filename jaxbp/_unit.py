"""Units: what stands at the nodes of a network, where everything that it reads becomes one pre-activation."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

from jaxtyping import Array

from jaxbp._checks import check_kind, check_number, described, is_integer
from jaxbp._graph import ONE
from jaxbp._ids import Ids
from jaxbp._mapping import FrozenMapping
from jaxbp.activations import Activation, check_activation
from jaxbp.connections import Bias, Connection, Shape


class Node(ABC):
    """What stands at a node: it makes a pre-activation of what it reads, and h = Φ(a) of that.

    `Unit` says what the attributes are. The weights W are one for each source, None where there is none, and h the
    post-activations `(*batch, *shape)` of the sources.
    """

    width: int | Shape
    activation: Activation
    dropout: float

    def __post_init__(self):
        check_shape(self.width, "a unit's width")
        check_number(self.dropout, "a unit's dropout", least=0, below=1)
        check_activation(self.activation, "a unit's activation")

    @property
    def shape(self) -> Shape:
        """The shape of a and h for one example."""
        return as_shape(self.width)

    @property
    def stacked(self) -> Any:
        """The node itself where it is a `Stack` of layers; None where it is not."""
        return None

    @property
    def ids(self) -> Mapping[str, int]:
        """How many ids there are in each source that is to hold ids, where no connection says so."""
        return {}

    @property
    @abstractmethod
    def reads(self) -> Mapping[str, Connection | None]:
        """The connection by which each source is read, in order; None where a function reads it."""

    @abstractmethod
    def pre_activation(self, W: Sequence[Any], h: Sequence[Array], batch_axes: int) -> Array:
        """What the node makes of its sources, with so many batch axes."""

    @abstractmethod
    def pull_back(self, W: Sequence[Any], h: Sequence[Array], a: Array, delta: Array) -> Sequence[Array | None]:
        """What δ of this node contributes to the Δ of each source but `ONE`, None to ids; a is what it made."""

    def check(self, sources: Mapping[str, Shape]) -> None:  # noqa: B027 (most nodes take what their edges take)
        """Refuse sources of these shapes, if the node cannot read them."""


@dataclass(frozen=True)
class Unit(Node):
    """A vector unit: h = Φ(a) with a = Σ_s h_s W_s + b.

    Attributes:
        width: The number of elements, or a shape (a tuple) where the data has one.
        activation: Φ, such as `jaxbp.relu`.
        connections: How each source, an input or another unit, enters the sum.
        bias: Whether b, the connection from the constant unit, is there; or the name of one that several units share;
            or a `jaxbp.connections.Bias`, such as `Bias(whole=True)` for learned positions.
        dropout: The share of elements that are 0 for an example while training, drawn anew with each key; the others
            are divided by what is left, 1 − dropout.

    Example:
        >>> import jaxbp
        >>> jaxbp.Unit(2, jaxbp.relu, {"x": jaxbp.Dense()}, bias=False)
        Unit(width=2, activation=relu, connections={'x': Dense(initializer=None, share=None)}, bias=False, dropout=0.0)

    Source: the chapter, "The Multilayer Network as a Computational Graph".
    """

    width: int | Shape
    activation: Activation
    connections: Mapping[str, Connection]
    bias: bool | str | Bias = True
    dropout: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.bias, bool | str | Bias):
            raise TypeError(
                f"a unit's bias must be True, False or the name of a shared one, or a Bias, got {described(self.bias)}"
            )
        if not isinstance(self.connections, Mapping) or not self.connections:
            raise ValueError(
                f"a unit's connections must be a non-empty dict from source to connection, such as "
                f"{{'x': jaxbp.Dense()}}; got {described(self.connections)}"
            )
        for source, connection in self.connections.items():
            check_kind(
                connection, Connection, f"the connection from {source!r}", "a jaxbp connection such as jaxbp.Dense()"
            )
        object.__setattr__(self, "connections", FrozenMapping(self.connections))
        if isinstance(self.bias, Bias):
            bias = {ONE: self.bias}
        else:
            bias = {} if self.bias is False else {ONE: Bias(share=None if self.bias is True else self.bias)}
        object.__setattr__(self, "_reads", {**self.connections, **bias})

    @property
    def reads(self) -> Mapping[str, Connection]:
        """The connections, and the bias as the connection from the constant unit."""
        return self._reads  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]

    def pre_activation(self, W: Sequence[Any], h: Sequence[Array], batch_axes: int) -> Array:
        """The sum a = Σ_s h_s W_s + b."""
        parts = [c.apply(W_s, h_s) for c, W_s, h_s in zip(self.reads.values(), W, h, strict=True)]
        if len({part.shape for part in parts}) > 1:  # which would broadcast
            shapes = {s: part.shape for s, part in zip(self.reads, parts, strict=True)}
            raise ValueError(f"the connections into a unit of shape {self.shape} make {shapes}, expected one shape")
        return reduce(add, parts)

    def pull_back(self, W: Sequence[Any], h: Sequence[Array], a: Array, delta: Array) -> Sequence[Array | None]:
        """The contributions δ Wᵀ."""
        return [
            None if c.reads_ids else c.pull_back(W_s, h_s, delta)
            for c, W_s, h_s in zip(self.connections.values(), W, h, strict=False)
        ]


def check_shape(width: Any, what: str) -> None:
    """Refuse what is neither a positive integer nor a tuple of them."""
    sizes = width if isinstance(width, tuple) else (width,)
    if not sizes or not all(is_integer(n) and n > 0 for n in sizes):
        raise ValueError(f"{what} must be a positive integer, or a tuple of them, got {described(width)}")


def as_shape(width: int | Shape | Ids) -> Shape:
    """A width as a shape of one axis."""
    if isinstance(width, Ids):
        return width.shape
    return width if isinstance(width, tuple) else (width,)
