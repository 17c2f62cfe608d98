"""Stacks: a network repeated layer after layer, each with parameters of its own, or all with the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Array

from jaxbp._checks import check_flag, check_integer, check_keys, check_kind, check_mapping, check_text, quoted
from jaxbp._mapping import FrozenMapping
from jaxbp._network import Network
from jaxbp._unit import Node
from jaxbp.activations import Activation, linear
from jaxbp.connections import Shape


@dataclass(frozen=True)
class Stack(Node):
    """A network repeated, made by `stack`, which says what the attributes are."""

    block: Network
    depth: int
    sources: Mapping[str, str]
    shared: bool = False
    slices: Mapping[str, int] = field(default_factory=lambda: FrozenMapping({}))
    every_layer: bool = False
    remat: bool | tuple[str, ...] = False

    def __post_init__(self):
        check_kind(self.block, Network, "block", "a jaxbp.Network, such as jaxbp.layered makes")
        check_integer(self.depth, "depth", 1)
        check_mapping(self.sources, "sources", "{'x': 'embedded'}, from the inputs of the block to what they read")
        check_keys(self.sources, self.block.inputs, "sources holds the inputs", "the block has")
        for name, source in self.sources.items():
            check_text(source, f"sources[{name!r}]")
        check_flag(self.shared, "shared")
        check_flag(self.every_layer, "every_layer")
        check_mapping(self.slices, "slices", "{'x': 0}, from inputs of the block to an axis of what they read")
        if self.carried in self.block.ids:
            raise ValueError(
                f"the block carries its first input, {self.carried!r}, which holds ids; list another first"
            )
        start, end = self.block.shapes[self.carried], self.block.shapes[self.block.output]
        if start != end:
            raise ValueError(
                f"a block carries its first input, {self.carried!r}, from layer to layer, so its output must have the "
                f"same shape, but they have {start} and {end}"
            )
        for name, axis in self.slices.items():
            if name not in self.block.inputs or name == self.carried:
                others = [s for s in self.block.inputs if s != self.carried]
                raise ValueError(
                    f"slices holds {name!r}, but only inputs of the block beside the one that it carries can be "
                    f"slices: {quoted(others) if others else 'it has no others'}"
                )
            check_integer(axis, f"slices[{name!r}]", 0)
        if isinstance(self.remat, str | Sequence):
            kept = (self.remat,) if isinstance(self.remat, str) else tuple(self.remat)
            for u in kept:
                if u not in self.block.units:
                    raise ValueError(f"remat holds {u!r}, but the block has the units {quoted(self.block.units)}")
            object.__setattr__(self, "remat", kept)
        else:
            check_flag(self.remat, "remat")
        object.__setattr__(self, "sources", FrozenMapping(self.sources))
        object.__setattr__(self, "slices", FrozenMapping(self.slices))

    @property
    def width(self) -> Shape:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The shape of the last layer's output, or of all."""
        shape = self.block.shapes[self.block.output]
        return (self.depth, *shape) if self.every_layer else shape

    @property
    def activation(self) -> Activation:  # pyright: ignore[reportIncompatibleVariableOverride]
        """None of its own: what the block's output has."""
        return linear

    @property
    def dropout(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """None of its own."""
        return 0.0

    @property
    def stacked(self) -> "Stack":
        """Itself."""
        return self

    @property
    def carried(self) -> str:
        """The input of the block that a layer's output becomes for the next one."""
        return next(iter(self.block.inputs))

    @property
    def reads(self) -> dict[str, None]:
        """What the block's inputs read, without connections."""
        return dict.fromkeys(self.sources.values())

    @property
    def ids(self) -> dict[str, int]:
        """How many ids there are in each source of them."""
        return {self.sources[name]: size for name, size in self.block.ids.items()}

    @property
    def kept(self) -> tuple[str, ...] | None:
        """The units of the block that are not computed again on the way back; None where none is."""
        return None if self.remat is False else () if self.remat is True else self.remat

    def check(self, sources: Mapping[str, Shape]) -> None:
        """Refuse sources that the block's inputs are not shaped like."""
        for name, source in self.sources.items():
            expected, axis = self.block.shapes[name], self.slices.get(name)
            if axis is not None:
                if axis > len(expected):
                    raise ValueError(
                        f"cannot slice {source!r}: input {name!r} of its block has no place for axis {axis}"
                    )
                expected = (*expected[:axis], self.depth, *expected[axis:])
            if sources[source] != expected:
                each = "" if axis is None else f", a slice for each of {self.depth} layers along axis {axis}"
                raise ValueError(
                    f"cannot read {source!r} of shape {sources[source]}: input {name!r} of its block takes "
                    f"{expected}{each}"
                )

    def pre_activation(self, W: Sequence[Any], h: Sequence[Array], batch_axes: int) -> Array:
        """Refused: `forward` goes through the layers, and keeps what is in them."""
        raise TypeError("a stack makes a whole forward phase of what it reads, see jaxbp.forward")

    def pull_back(self, W: Sequence[Any], h: Sequence[Array], a: Array, delta: Array) -> Sequence[Array | None]:
        """Refused: the recursion goes through the layers."""
        raise TypeError("a stack makes a whole backward recursion of its signal, see jaxbp.backprop")


def stack(
    block: Network,
    depth: int,
    sources: str | Mapping[str, str],
    *,
    shared: bool = False,
    slices: Mapping[str, int] | None = None,
    every_layer: bool = False,
    remat: bool | Sequence[str] = False,
) -> Stack:
    """A unit that is a network repeated: layer after layer, compiled once whatever the depth.

    h_0 = h_s,  h_l = f_l(h_{l−1}),  h_u = h_depth;  with f_l the block with the parameters of layer l

    What is in the block has the name of the stack before its own, and the layers as its first axis:
    `params["blocks"]["up"]["x"]` of shape `(depth, …)`, `back.delta["blocks.up"]` of `(depth, *batch, …)`, and
    `delta.blocks.up[3]` is that of the fourth layer. `Delta["blocks.x"]` are the signals of what enters each layer.

    Args:
        block: The network of one layer. Its output is shaped like its first input, which it carries: the output of a
            layer is that input of the next one.
        depth: The number of layers.
        sources: What each input of the block reads, `{"x": "embedded", "mask": "mask"}`; or the name of the one source.
            The first layer carries on from the source of the first input; all layers read the other ones alike.
        shared: Whether all layers have the same parameters, whose gradients add up: a recurrent network.
        slices: Inputs of the block of which each layer reads a slice of its own, and along which axis of the source:
            `{"token": 0}` for a source of shape `(depth, …)`. The first slice is for the first layer.
        every_layer: Whether the unit is the outputs of all layers, `(depth, *shape)`, and not only that of the last.
        remat: Whether the backward phase computes again what is in the blocks, so that only what enters each layer is
            kept from the forward phase; or the names of units of the block that are kept beside it.

    Raises:
        ValueError: A block whose output is not shaped like its first input, a depth below 1, or other names than those
            of the block's inputs.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> block = jaxbp.Network(
        ...     inputs={"x": 4},
        ...     units={
        ...         "up": jaxbp.Unit(8, jaxbp.gelu, {"x": jaxbp.Dense()}),
        ...         "sum": jaxbp.Unit(4, jaxbp.linear, {"up": jaxbp.Dense(), "x": jaxbp.Identity()}),
        ...     },
        ... )
        >>> net = jaxbp.Network(
        ...     inputs={"x": 4},
        ...     units={
        ...         "blocks": jaxbp.stack(block, 12, "x"),
        ...         "o": jaxbp.Unit(3, jaxbp.softmax, {"blocks": jaxbp.Dense()}),
        ...     },
        ... )
        >>> params = jax.jit(jaxbp.init_params, static_argnums=1)(jax.random.key(0), net)
        >>> params["blocks"]["up"]["x"].shape
        (12, 4, 8)
        >>> x, y = jnp.ones((5, 4)), jnp.zeros(5, int)
        >>> back = jax.jit(jaxbp.backprop, static_argnums=(0, 1))(net, jaxbp.cross_entropy, params, x, y)
        >>> back.delta["blocks.up"].shape, back.Delta["blocks.x"].shape, back.grads["blocks"]["up"]["x"].shape
        ((12, 5, 8), (12, 5, 4), (12, 4, 8))

    Source: the chapter, the recursion over layers; Chen et al., Training deep nets with sublinear memory cost, 2016,
    for remat; Werbos, Backpropagation through time, 1990, for shared.
    """
    if isinstance(sources, str):
        check_kind(block, Network, "block", "a jaxbp.Network, such as jaxbp.layered makes")
        if len(block.inputs) > 1:
            raise ValueError(
                f"the block has the inputs {quoted(block.inputs)}; say what each of them reads, as in "
                f"{{{next(iter(block.inputs))!r}: {sources!r}, …}}"
            )
        sources = dict.fromkeys(block.inputs, sources)
    kept = tuple(remat) if isinstance(remat, list) else remat
    return Stack(block, depth, sources, shared, {} if slices is None else slices, every_layer, kept)  # pyright: ignore
