"""A network with its parameters as a description of a model."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jaxbp._attention import Attention
from jaxbp._checks import quoted
from jaxbp._function_unit import FunctionUnit
from jaxbp._graph import ONE
from jaxbp._names import under
from jaxbp._network import Network
from jaxbp._parameters import Params, check_params
from jaxbp._stack import Stack
from jaxbp._unit import Unit
from jaxbp.activations import epsilon_of, linear
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
from jaxbp.interop._axes import spelled_out
from jaxbp.interop._layers import (
    Affine,
    Applied,
    Convolution,
    Dropping,
    Flattening,
    Gain,
    Layer,
    Lookup,
    Norm,
    Pooling,
    SelfAttention,
    Stacked,
    Step,
    Summed,
    TransposedConvolution,
)


def steps_of(net: Network, params: Params, function: str) -> list[Step]:
    """The description of a network that is layers, one after the other, and sums of such between two units.

    Any other is refused with a message that names what is in the way.
    """
    check_params(net, params)
    if len(net.inputs) > 1:
        raise ValueError(f"{function} takes a network with one input, but this one has the inputs {quoted(net.inputs)}")
    return _norms_joined(_Parts(net, params, function).whole())


class _Parts:
    """How the units of one network hang together.

    Attributes:
        around: The name of the stack whose block the network is; "" for the network itself.
    """

    def __init__(self, net: Network, params: Params, function: str, around: str = ""):
        self.net, self.params, self.function, self.around = net, params, function, around
        [self.x] = net.inputs
        self.via = _dominators(net, self.x)
        self.done: set[str] = set()

    def named(self, u: str) -> str:
        """The name of a unit from outside of all stacks, for messages."""
        return repr(under(self.around, u) if self.around else u)

    def whole(self) -> list[Step]:
        """The layers that lead from the input to the output."""
        for u in self.net.order:
            for edge in self.net.plan.edges[u].values():
                if edge.is_shared and edge.weight is not None:
                    raise ValueError(
                        f"{self.function} takes weights that one connection uses, but unit {self.named(u)} has the "
                        f"shared weights {edge.weight[1]!r}"
                    )
        return self.between(self.x, self.net.output)

    def between(self, start: str, end: str) -> list[Step]:
        """The layers that lead from one unit, or the input, to another that only it leads to."""
        if start == end:
            return []
        place, node = f"unit {self.named(end)}", self.net.units[end]
        self.once(end)
        if isinstance(node, Stack):
            stacked, [source] = self.stack(node, end), node.reads
            return [*self.between(start, source), Step(place, stacked)]
        if not isinstance(node, Unit):
            raise ValueError(f"{self.function} takes no {_kind(node)}, but {place} is one")
        sources = list(node.connections)
        if len(sources) == 1:
            steps = self.along(start, end, sources[0], with_bias=True)
        else:
            middle = self.via[end]
            assert middle is not None
            steps = [*self.between(start, middle), Step(place, self.sum(middle, end, sources))]
        if node.activation.phi != linear.phi:
            is_norm = epsilon_of(node.activation) is not None
            steps.append(Step(place, Norm(node.activation) if is_norm else Applied(node.activation)))
        if node.dropout:
            steps.append(Step(place, Dropping(node.dropout)))
        return steps

    def stack(self, stack: Stack, name: str) -> Stacked:
        """The layers of a stack, of which the last one's output is read, and which read nothing but what they carry."""
        block, params, place = stack.block, self.params[name], f"unit {self.named(name)}"
        if len(block.inputs) > 1:
            raise ValueError(
                f"{self.function} takes a stack whose block has one input, but that of {place} has the inputs "
                f"{quoted(block.inputs)}"
            )
        if stack.every_layer:
            raise ValueError(
                f"{self.function} takes what the last layer of a stack gives, but {place} is what every layer gives"
            )
        own = [] if stack.shared else [jax.tree.map(lambda W, i=i: W[i], params) for i in range(stack.depth)]
        around = under(self.around, name) if self.around else name
        return Stacked(
            tuple(_Parts(block, params_l, self.function, around).whole() for params_l in own or [params]), stack.depth
        )

    def sum(self, start: str, end: str, sources: Sequence[str]) -> Summed:
        """What the sources of a unit add up, all of them reached from one; the first with weights has the bias."""
        connections = self.net.plan.edges[end]
        holder = next((s for s in sources if isinstance(connections[s].linear, _WITH_BIAS)), None)
        if ONE in connections and holder is None:
            raise ValueError(
                f"{self.function} takes no bias of a sum, but unit {self.named(end)} has one and no weights beside it"
            )
        return Summed(tuple(self.along(start, end, s, with_bias=s == holder) for s in sources))

    def along(self, start: str, end: str, source: str, with_bias: bool) -> list[Step]:
        """The layers up to a source of a unit, and the connection from there."""
        edges = self.net.plan.edges[end]
        W, b = self.params[end].get(source), self.params[end].get(ONE) if with_bias else None
        connection, node = edges[source].linear, self.net.units.get(source)
        if b is not None and b.ndim > 1:
            raise ValueError(
                f"{self.function} takes a bias for each channel, but unit {self.named(end)} has one for all elements"
            )
        if isinstance(node, FunctionUnit) and isinstance(node.function, Attention) and type(connection) is Dense:
            return self.attention(start, source, node, node.function, Affine(W, b))
        steps = self.between(start, source)
        layer = _layer(connection, self.net.shapes[source], W, b)
        if layer is None:
            raise ValueError(
                f"{self.function} has no counterpart of {connection!r}, by which unit {self.named(end)} reads "
                f"{source!r}"
            )
        return steps if isinstance(layer, tuple) else [*steps, Step(f"unit {self.named(end)}", layer)]

    def attention(self, start: str, name: str, node: FunctionUnit, attention: Attention, o: Affine) -> list[Step]:
        """The layers up to what queries, keys and values are made of, and the attention between them."""
        place = f"unit {self.named(name)}"
        self.once(name)
        what = f"{self.function} takes attention of what one unit gives to itself"
        if len(node.sources) > 3:
            raise ValueError(f"{what}, but {place} has the mask {node.sources[3]!r}")
        if attention.rotary is not None:
            raise ValueError(f"{what}, without rotary positions, but {place} has them")
        if node.dropout or node.activation.phi != linear.phi:
            raise ValueError(f"{what}, without dropout and activation, but {place} has {node!r}")
        projections: list[Affine] = []
        roots: list[str] = []
        for s in node.sources:
            unit = self.net.units.get(s)
            if (
                not isinstance(unit, Unit)
                or [type(c) for c in unit.connections.values()] != [Dense]
                or unit.activation.phi != linear.phi
                or unit.dropout
                or self.net.plan.readers[s] != (name,)
                or getattr(self.params[s].get(ONE), "ndim", 1) > 1
            ):
                raise ValueError(f"{what} by a Dense each, without activation, but {place} reads {s!r}")
            self.once(s)
            [root] = unit.connections
            roots.append(root)
            projections.append(Affine(self.params[s][root], self.params[s].get(ONE)))
        if len(set(roots)) > 1:
            raise ValueError(f"{what}, but {place} reads {quoted(dict.fromkeys(roots))}")
        q, k, v = projections
        return [*self.between(start, roots[0]), Step(place, SelfAttention(q, k, v, o, attention))]

    def once(self, name: str) -> None:
        """Refuse a unit that more than one way leads through."""
        if name in self.done:
            readers = quoted(self.net.plan.readers[name])
            raise ValueError(
                f"{self.function} takes layers that follow each other, and sums of such, but unit {self.named(name)} "
                f"is read by {readers}, and the ways from there do not meet before other ways join them"
            )
        self.done.add(name)


_WITH_BIAS = (Dense, Conv, ConvTransposed, Scale)


def _layer(connection: Connection, source: Shape, W: Any, b: Any) -> Layer | tuple[()] | None:
    """The layer that a connection is; () where it does nothing, None where there is no such layer."""
    match connection:
        case Dense():
            return Affine(W, b)
        case Conv():
            return Convolution(W, b, connection)
        case ConvTransposed(conv, shape):
            size, stride, padding, dilation = windows = spelled_out(conv, shape[:-1])
            rows = zip(windows.reach, padding, shape, source, stride, strict=False)
            # as many zeros as the transposed convolution adds
            ends = tuple((r - 1 - low, n + low - 1 - (p - 1) * s) for r, (low, _), n, p, s in rows)
            assert size == conv.kernel
            return TransposedConvolution(W, b, stride, dilation, conv.groups, ends)
        case MaxPool() | AvgPool():
            return Pooling(type(connection), connection) if b is None else None
        case Flatten():
            return Flattening() if b is None else None
        case Embedding():
            return Lookup(W) if b is None else None
        case Scale():
            return Gain(W, b)
        case Identity():
            return () if b is None else Gain(None, b)
        case _:
            return None


def _norms_joined(steps: Sequence[Step]) -> list[Step]:
    """A norm and the gain that follows it as one layer."""
    joined: list[Step] = []
    for place, whole in steps:
        layer = whole.within(_norms_joined)
        step = Step(place, layer)
        last = joined[-1].layer if joined else None
        if isinstance(layer, Gain) and isinstance(last, Norm) and last.gain is None:
            step = Step(joined.pop().place, Norm(last.activation, layer.W, layer.b))
        joined.append(step)
    return joined


def _dominators(net: Network, x: str) -> Mapping[str, str | None]:
    """For each unit the last one that all ways from the input to it lead through, itself excepted."""
    via: dict[str, str | None] = {x: None}
    depth = {x: 0}
    for u in net.order:
        first, *others = (s for s in net.plan.edges[u] if s != ONE)
        meeting = first
        for s in others:
            while meeting != s:
                # the deeper of the two cannot be passed by the other
                if depth[meeting] >= depth[s]:
                    meeting = via[meeting] or x
                else:
                    s = via[s] or x
        via[u], depth[u] = meeting, depth[meeting] + 1
    return via


def _kind(node: Any) -> str:
    function = getattr(node, "function", None)
    if isinstance(function, Attention):
        return "attention that is not read by a Dense alone"
    name = getattr(function, "__name__", type(function).__name__)
    return f"function unit such as {name!r}" if function is not None else type(node).__name__
