"""Networks: a directed acyclic graph of vector units joined by linear connections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from typing import Any

from jaxbp._checks import check_flag, check_kind, check_mapping, check_sequence
from jaxbp._drawing import drawing
from jaxbp._ids import Ids
from jaxbp._mapping import FrozenMapping
from jaxbp._plan import Plan, compiled
from jaxbp._summary import in_words, table
from jaxbp._unit import Node, Unit, as_shape, check_shape
from jaxbp.activations import Activation, check_activation, sigmoid
from jaxbp.connections import Dense, Shape


@dataclass(frozen=True)
class Network:
    """A feed-forward network: named inputs, and named units that read inputs and other units.

    It holds no arrays and is hashable, so it can be a static argument under `jit`. Units may be listed in any order
    but for the last one, which is the output. A cycle is refused, and so is an input or unit that never reaches the
    output.

    Attributes:
        inputs: The width, or shape, of each input.
        units: The units by name; the last is the output.
        output: The name of the output unit.
        order: The units in topological order: each after all that it reads.
        shapes: The shape of each input and unit, for one example.
        ids: How many ids there are, of each input that holds such.
        plan: Its edges; made once, from the above.

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

    inputs: Mapping[str, int | Shape | Ids]
    units: Mapping[str, Node]
    output: str = field(init=False, repr=False, compare=False)
    order: tuple[str, ...] = field(init=False, repr=False, compare=False)
    shapes: Mapping[str, Shape] = field(init=False, repr=False, compare=False)
    ids: Mapping[str, int] = field(init=False, repr=False, compare=False)
    plan: Plan = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        check_mapping(self.inputs, "inputs", "{'x': 784}")
        check_mapping(self.units, "units", "{'o': jaxbp.Unit(…)}")
        for name, width in self.inputs.items():
            if not isinstance(width, Ids):
                check_shape(width, f"the width of input {name!r}")
        for name, unit in self.units.items():
            check_kind(unit, Node, f"unit {name!r}", "a jaxbp.Unit")
        shapes = {name: as_shape(width) for name, width in self.inputs.items()}
        sizes = {name: width.size for name, width in self.inputs.items() if isinstance(width, Ids)}
        plan = compiled(shapes, self.units, sizes)
        output = tuple(self.units)[-1]
        if self.units[output].dropout:
            raise ValueError(f"the output {output!r} has dropout; leave it to the units below")
        found = {
            "inputs": FrozenMapping(self.inputs),
            "units": FrozenMapping(self.units),
            "output": output,
            "order": tuple(plan.edges),
            "shapes": FrozenMapping(shapes | {u: unit.shape for u, unit in self.units.items()}),
            "ids": FrozenMapping(sizes),
            "plan": plan,
        }
        for name, value in found.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_hash", hash((self.inputs, self.units)))  # of a thousand units it takes a while

    def __hash__(self) -> int:
        return self._hash  # pyright: ignore[reportUnknownVariableType, reportAttributeAccessIssue]

    def __reduce__(self) -> Any:
        return type(self), (dict(self.inputs), dict(self.units))  # hashes differ from process to process

    @property
    def weight_shapes(self) -> dict[str, Any]:
        """The shape of each weight, in a tree like the parameters."""
        return self.plan.tree(self.plan.weight_shapes.__getitem__)

    def summary(self) -> str:
        """Units, shapes, connections, numbers of parameters and of values, and the memory they take, as a table."""
        return table(self.inputs, self.units, self.plan)

    def drawing(self) -> str:
        """The graph as an SVG, in the colours of the text around it."""
        return drawing(self.inputs, self.units, self.plan)

    def __str__(self) -> str:
        return in_words(self.inputs, self.units, self.plan)

    def _repr_html_(self) -> str:
        from jaxbp._notebook._network import of_network

        return of_network(self)

    @property
    def parameter_count(self) -> int:
        """The number of weights and biases."""
        return sum(map(prod, self.plan.weight_shapes.values()))


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

    Example:
        >>> import jaxbp
        >>> net = jaxbp.layered([784, 128, 10], hidden=jaxbp.sigmoid, output=jaxbp.softmax)
        >>> list(net.units)
        ['h1', 'o']

    Source: the chapter, the recursive equations of the feed-forward network.
    """
    check_sequence(widths, "widths", "[784, 128, 10]")
    for i, width in enumerate(widths):
        check_shape(width, f"widths[{i}]")
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


def check_network(net: Any) -> None:
    """Refuse what is no network, such as the parameters of one."""
    check_kind(net, Network, "net", "a jaxbp.Network, such as jaxbp.layered makes")
