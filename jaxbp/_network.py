"""Networks: a directed acyclic graph of vector units joined by linear connections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise
from math import prod
from operator import add
from typing import Any

from jaxtyping import Array

from jaxbp._activations import Activation, check_activation, sigmoid
from jaxbp._checks import (
    check_flag,
    check_kind,
    check_made,
    check_mapping,
    check_number,
    check_sequence,
    described,
    is_integer,
)
from jaxbp._connections import Bias, Connection, Dense, Shape
from jaxbp._graph import BIAS, SHARED, check_name, topological_order
from jaxbp._mapping import FrozenMapping


@dataclass(frozen=True)
class Unit:
    """A vector unit: h = Φ(a) with a = Σ_s h_s W_s + b.

    Attributes:
        width: The number of elements, or a shape (a tuple) where the data has one.
        activation: Φ, such as `jaxbp.relu`.
        connections: How each source, an input or another unit, enters the sum.
        bias: Whether b, the connection from the constant unit, is there; or the name of one that several units share.
        dropout: The share of elements that are 0 for an example while training, drawn anew with each key; the others
            are divided by what is left, 1 − dropout.

    Raises:
        TypeError: `activation`, `bias` or a connection is something else.
        ValueError: A width that is no positive integer, no connection at all, or a dropout outside [0, 1).

    Example:
        >>> import jaxbp
        >>> jaxbp.Unit(2, jaxbp.relu, {"x": jaxbp.Dense()}, bias=False)
        Unit(width=2, activation=relu, connections={'x': Dense(initializer=None, share=None)}, bias=False, dropout=0.0)

    Source: the chapter, "The Multilayer Network as a Computational Graph".
    """

    width: int | Shape
    activation: Activation
    connections: Mapping[str, Connection]
    bias: bool | str = True
    dropout: float = 0.0

    def __post_init__(self):
        _check_shape(self.width, "a unit's width")
        check_number(self.dropout, "a unit's dropout", least=0, below=1)
        if not isinstance(self.bias, bool | str):
            raise TypeError(
                f"a unit's bias must be True, False or the name of a shared one, got {described(self.bias)}"
            )
        check_activation(self.activation, "a unit's activation")
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

    @property
    def shape(self) -> Shape:
        """The shape of a and h for one example."""
        return _as_shape(self.width)

    @property
    def shares(self) -> dict[str, str]:
        """The names of the weights that are shared with other units, by source, with `"bias"` for b."""
        named = {s: c.share for s, c in self.connections.items()}
        named |= {BIAS: self.bias if isinstance(self.bias, str) else None}
        return {s: share for s, share in named.items() if share is not None}

    def weight_shapes(self, sources: Mapping[str, Shape]) -> dict[str, Shape]:
        """The shapes of the weights that lead into this unit, by source, shared ones too.

        Args:
            sources: The shapes of its sources.

        Raises:
            ValueError: A connection that cannot join the two shapes.
        """
        shapes: dict[str, Shape] = {}
        for source, connection in self.connections.items():
            try:
                shape = connection.weight_shape(sources[source], self.shape)
            except ValueError as error:
                raise ValueError(f"cannot read {source!r}: {error}") from None
            if shape is not None:
                shapes[source] = shape
        return shapes | ({BIAS: Bias().weight_shape(self.shape)} if self.bias else {})

    def pre_activation(self, weights: Mapping[str, Any], h: Mapping[str, Array]) -> Array:
        """The sum a = Σ_s h_s W_s + b.

        Args:
            weights: W by source, with that of the bias.
            h: The post-activations of the sources.
        """
        parts = {s: c.apply(weights.get(s), h[s]) for s, c in self.connections.items()}
        if len({part.shape for part in parts.values()}) > 1:  # which would broadcast
            shapes = {s: part.shape for s, part in parts.items()}
            raise ValueError(f"the connections into a unit of shape {self.shape} make {shapes}, expected one shape")
        a = reduce(add, parts.values())
        return Bias().apply(weights[BIAS], a) if self.bias else a

    def pull_back(self, weights: Mapping[str, Any], h: Mapping[str, Array], a: Array, delta: Array) -> dict[str, Array]:
        """The contribution δ Wᵀ to the Δ of each source.

        Args:
            weights: W by source, or what stands in for it.
            h: The post-activations of the sources.
            a: What `pre_activation` made of them.
            delta: δ of this unit.
        """
        signals = {s: c.pull_back(weights.get(s), h[s], delta) for s, c in self.connections.items()}
        for s, signal in signals.items():
            check_made(signal, h[s], f"what {type(self.connections[s]).__name__}.pull_back makes for {s!r}")
        return signals


@dataclass(frozen=True)
class Network:
    """A feed-forward network: named inputs, and named units that read inputs and other units.

    Holds no arrays and is hashable, so it can be a static argument under `jit`. Units may be listed in any
    order but for the last one, which is the output.

    Attributes:
        inputs: The width, or shape, of each input.
        units: The units by name; the last is the output.
        order: The units in topological order: each after all that it reads.
        shapes: The shape of each input and unit, for one example.
        shared: The shape of each weight that connections share by its name.

    Raises:
        TypeError: `inputs` or `units` that are no dict, or a unit that is none.
        ValueError: A width that is no positive integer, an unknown source, a cycle, a reserved or doubled name, an
            input or unit that never reaches the output, a connection that cannot join its two shapes, or a shared
            weight of unequal ones.

    Example:
        A skip connection, from the input straight to the output:

        >>> import jaxbp
        >>> net = jaxbp.Network(
        ...     inputs={"x": 784},
        ...     units={
        ...         "h1": jaxbp.Unit(128, jaxbp.sigmoid, {"x": jaxbp.Dense()}),
        ...         "o": jaxbp.Unit(10, jaxbp.softmax, {"h1": jaxbp.Dense(), "x": jaxbp.Dense()}, bias=False),
        ...     },
        ... )
        >>> net.output, net.order
        ('o', ('h1', 'o'))

    Source: the chapter, "unconventional designs in which inputs might be incorporated in intermediate layers, or
    the topology might allow connections between non-consecutive layers".
    """

    inputs: Mapping[str, int | Shape]
    units: Mapping[str, Unit]
    order: tuple[str, ...] = field(init=False, repr=False, compare=False)
    shapes: Mapping[str, Shape] = field(init=False, repr=False, compare=False)
    shared: Mapping[str, Shape] = field(init=False, repr=False, compare=False)
    _weights: Mapping[str, Mapping[str, Shape]] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        check_mapping(self.inputs, "inputs", "{'x': 784}")
        check_mapping(self.units, "units", "{'o': jaxbp.Unit(…)}")
        for name, width in self.inputs.items():
            _check_shape(width, f"the width of input {name!r}")
        for name, unit in self.units.items():
            check_kind(unit, Unit, f"unit {name!r}", "a jaxbp.Unit")
        order = topological_order(self.inputs, {name: tuple(unit.connections) for name, unit in self.units.items()})
        shapes = {name: _as_shape(width) for name, width in self.inputs.items()}
        shapes |= {name: unit.shape for name, unit in self.units.items()}
        weights, shared = dict[str, dict[str, Shape]](), dict[str, Shape]()
        for name, unit in self.units.items():
            try:
                of_unit = unit.weight_shapes(shapes)
            except ValueError as error:
                raise ValueError(f"unit {name!r} {error}") from None
            for source, share in unit.shares.items():
                check_name(share)
                shape = of_unit.pop(source, None)
                if shape is None:
                    raise ValueError(
                        f"unit {name!r} reads {source!r} by share={share!r}, but there is no weight to share"
                    )
                if shared.setdefault(share, shape) != shape:
                    reads = "have" if source == BIAS else f"read {source!r} by"
                    raise ValueError(
                        f"unit {name!r} cannot {reads} the shared weight {share!r}: it has shape "
                        f"{shared[share]} elsewhere, and {shape} here"
                    )
            weights[name] = of_unit
        if self.units[list(self.units)[-1]].dropout:
            raise ValueError(f"the output {list(self.units)[-1]!r} has dropout; leave it to the units below")
        object.__setattr__(self, "inputs", FrozenMapping(self.inputs))
        object.__setattr__(self, "units", FrozenMapping(self.units))
        object.__setattr__(self, "order", order)
        object.__setattr__(self, "shapes", FrozenMapping(shapes))
        object.__setattr__(self, "shared", FrozenMapping(shared))
        object.__setattr__(self, "_weights", {**weights, SHARED: shared})

    @property
    def output(self) -> str:
        """The name of the output unit."""
        return tuple(self.units)[-1]

    @property
    def groups(self) -> tuple[str, ...]:
        """What the parameters are grouped by: the units, and `"shared"` where connections share weights."""
        return (*self.units, *((SHARED,) if self.shared else ()))

    def weight_shapes(self, group: str) -> dict[str, Shape]:
        """The shapes of the weights of a group.

        For a unit those that lead into it, by source, with that of its bias; for `"shared"` those by their names.
        """
        return dict(self._weights[group])

    @property
    def parameter_count(self) -> int:
        """The number of weights and biases."""
        return sum(prod(shape) for group in self.groups for shape in self._weights[group].values())


def layered(
    widths: Sequence[int],
    *,
    hidden: Activation | Sequence[Activation] = sigmoid,
    output: Activation,
    bias: bool = True,
) -> Network:
    """The layered network x ⇒ h1 ⇒ … ⇒ hk ⇒ o.

    h_1 = Φ(W_1ᵀ x),  h_{p+1} = Φ(W_{p+1}ᵀ h_p),  o = Φ(W_{k+1}ᵀ h_k)

    Args:
        widths: The widths of the input, of each hidden layer, and of the output.
        hidden: The activation of the hidden layers, or one for each.
        output: The activation of the output.
        bias: Whether the units have biases.

    Returns:
        A `Network` with input `x` and units `h1`, …, `hk` and `o`.

    Raises:
        TypeError: No list of widths, something else than an activation, or a `bias` that is neither True nor False.
        ValueError: Fewer than two widths, one that is no positive integer, or as many activations as do not fit.

    Example:
        >>> import jaxbp
        >>> net = jaxbp.layered([784, 128, 10], hidden=jaxbp.sigmoid, output=jaxbp.softmax)
        >>> list(net.units)
        ['h1', 'o']

    Source: the chapter, the recursive equations of the feed-forward network.
    """
    check_sequence(widths, "widths", "[784, 128, 10]")
    for i, width in enumerate(widths):
        _check_shape(width, f"widths[{i}]")
    if len(widths) < 2:
        raise ValueError(f"a layered network needs the widths of its input and its output, got {list(widths)}")
    depth = len(widths) - 2
    if isinstance(hidden, list | tuple):
        activations = list(hidden)
        for i, activation in enumerate(activations):
            check_activation(activation, f"hidden[{i}]")
    else:
        check_activation(hidden, "hidden")
        activations: list[Any] = [hidden] * depth
    check_activation(output, "output")
    check_flag(bias, "bias")
    if len(activations) != depth:
        raise ValueError(f"{depth} hidden layers need one activation, or {depth}; got {len(activations)}")
    names = ["x", *(f"h{r}" for r in range(1, depth + 1)), "o"]
    layers = zip(pairwise(names), widths[1:], [*activations, output], strict=True)
    units = {name: Unit(width, activation, {source: Dense()}, bias) for (source, name), width, activation in layers}
    return Network(inputs={"x": widths[0]}, units=units)


def _check_shape(width: Any, what: str) -> None:
    sizes = width if isinstance(width, tuple) else (width,)
    if not sizes or not all(is_integer(n) and n > 0 for n in sizes):
        raise ValueError(f"{what} must be a positive integer, or a tuple of them, got {described(width)}")


def check_network(net: Any) -> None:
    """Refuse what is no network, such as the parameters of one."""
    check_kind(net, Network, "net", "a jaxbp.Network, such as jaxbp.layered makes")


def _as_shape(width: int | Shape) -> Shape:
    return width if isinstance(width, tuple) else (width,)
