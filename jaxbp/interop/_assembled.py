"""A description of a model as a network with its parameters."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxbp._attention import attention
from jaxbp._checks import described, is_integer
from jaxbp._graph import ONE
from jaxbp._ids import Ids
from jaxbp._network import Network
from jaxbp._parameters import Params, check_params
from jaxbp._stack import stack
from jaxbp._unit import Node, Unit, check_shape
from jaxbp.activations import linear
from jaxbp.connections import Connection, Dense, Identity, Shape
from jaxbp.interop._layers import (
    Affine,
    Applied,
    Dropping,
    Flattening,
    Joined,
    Layer,
    Lookup,
    Norm,
    SelfAttention,
    Stacked,
    Step,
    Steps,
    Summed,
    placed,
)


class Source(NamedTuple):
    """An input or unit that the next layer reads.

    Attributes:
        name: Its name.
        shape: Its shape.
        fresh: Whether it is a unit that nothing reads yet, so that its activation can still be chosen.
    """

    name: str
    shape: Shape
    fresh: bool = True


def as_network(steps: Steps, shape: Shape | Ids, function: str) -> tuple[Network, Params]:
    """The network x ⇒ h1 ⇒ … ⇒ o of a description and of the shape of x, and its parameters.

    A layer with weights is a unit, whose activation is the one that follows. A norm is a unit of its own, before the
    one that scales it; attention has units q, k, v and mix; a sum that ends in a layer with weights is that unit; a
    stack is a unit whose block is such a network.
    """
    assembly = _Assembly()
    end = assembly.follow(steps, Source("x", shape.shape if isinstance(shape, Ids) else shape, fresh=False))
    if end.name == "x":
        raise ValueError(f"{function} found no layer")
    if assembly.units[end.name].dropout:
        raise ValueError(f"{steps[-1].place} drops elements of the output, which has no dropout here; leave it out")
    return assembly.network(shape, end)


def _block(steps: Steps, shape: Shape) -> tuple[Network, Params]:
    """The network of one layer of a stack, and its parameters."""
    assembly = _Assembly()
    end = assembly.follow(steps, Source("x", shape, fresh=False))
    if end.name == "x":
        raise ValueError("is a stack of layers that do nothing; leave it out")
    if assembly.units[end.name].dropout:
        end = assembly.unit(assembly.next(), end.shape, {end.name: Identity()})
    return assembly.network(shape, end)


class _Assembly:
    """The units and parameters so far, and how many layers there were."""

    def __init__(self) -> None:
        self.units: dict[str, Node] = {}
        self.params: Params = {}
        self.count = 0

    def follow(self, steps: Steps, source: Source) -> Source:
        """Add a sequence of layers; what its last one leads into."""
        for place, layer in steps:
            with placed(place):
                source = self.add(layer, source)
        return source

    def add(self, layer: Layer, source: Source) -> Source:
        match layer:
            case Flattening() if len(source.shape) == 1:
                return source
            case Joined():
                connection, shape = layer.joined(source.shape)
                return self.unit(self.next(), shape, {source.name: connection}, layer.W, layer.b)
            case Applied(activation):
                return self.apply(activation, source)
            case Dropping(share):
                return self.drop(share, source)
            case Norm():
                return self.normalise(layer, source)
            case SelfAttention():
                return self.attend(layer, source)
            case Stacked():
                layer.output(source.shape)
                return self.stack(layer, source)
            case Summed(branches):
                layer.output(source.shape)
                return self.sum([self.follow(branch, source._replace(fresh=False)) for branch in branches])
            case _:
                raise TypeError(f"there is no layer of the kind {type(layer).__name__}")

    def network(self, shape: Shape | Ids, end: Source) -> tuple[Network, Params]:
        """What there is so far as a network that ends here."""
        units, params = self.units, self.params
        units["o"], params["o"] = units.pop(end.name), params.pop(end.name)
        net = Network(inputs={"x": shape if isinstance(shape, Ids) else _width(shape)}, units=units)
        check_params(net, params)
        return net, params

    def next(self) -> str:
        """The name of the next layer's unit."""
        self.count += 1
        return f"h{self.count}"

    def unit(
        self, name: str, shape: Shape, connections: dict[str, Connection], W: Any = None, b: Any = None, **options: Any
    ) -> Source:
        """A new unit, whose first source has the weights W."""
        options = {"activation": linear} | options
        self.units[name] = Unit(_width(shape), connections=connections, bias=b is not None, **options)
        weights = {next(iter(connections)): W, ONE: b}
        self.params[name] = {s: weight for s, weight in weights.items() if weight is not None}
        return Source(name, shape)

    def apply(self, activation: Any, source: Source) -> Source:
        if activation.phi == linear.phi:
            return source
        node = self.units.get(source.name)
        if not source.fresh or node is None or node.activation.phi != linear.phi or node.dropout:
            return self.unit(self.next(), source.shape, {source.name: Identity()}, activation=activation)
        self.units[source.name] = replace(node, activation=activation)  # pyright: ignore (every node is a dataclass)
        return source

    def drop(self, share: float, source: Source) -> Source:
        node = self.units.get(source.name)
        if not source.fresh or node is None or node.dropout:
            return self.unit(self.next(), source.shape, {source.name: Identity()}, dropout=share)
        self.units[source.name] = replace(node, dropout=share)  # pyright: ignore
        return source

    def normalise(self, norm: Norm, source: Source) -> Source:
        name, shape = self.next(), norm.output(source.shape)
        if norm.gain is None:
            return self.unit(name, shape, {source.name: Identity()}, activation=norm.activation)
        normed = self.unit(f"n{self.count}", shape, {source.name: Identity()}, activation=norm.activation)
        return self.unit(name, shape, {normed.name: norm.gain.joined(shape)[0]}, norm.w, norm.b)

    def attend(self, layer: SelfAttention, source: Source) -> Source:
        name, (rows, _) = self.next(), layer.output(source.shape)
        q, k, v = (
            self.unit(f"{role}{self.count}", part.output(source.shape), {source.name: Dense()}, part.W, part.b)
            for role, part in (("q", layer.q), ("k", layer.k), ("v", layer.v))
        )
        heads, mix = layer.attention, f"mix{self.count}"
        shape = (rows, v.shape[1] // heads.key_heads * heads.heads)
        self.units[mix] = attention(
            q.name, k.name, v.name, shape, heads=heads.heads, causal=heads.causal, key_heads=heads.key_heads
        )
        self.params[mix] = {}
        connection, shape = layer.o.joined(shape)
        return self.unit(name, shape, {mix: connection}, layer.o.W, layer.o.b)

    def stack(self, layer: Stacked, source: Source) -> Source:
        made = [_block(steps, source.shape) for steps in layer.layers]
        block, params = made[0]
        for i, (other, _) in enumerate(made):
            if other != block:
                u = next(u for u in {**block.units, **other.units} if block.units.get(u) != other.units.get(u))
                raise ValueError(
                    f"is a stack of layers that are not alike: unit {u!r} is {block.units.get(u)!r} in the first, but "
                    f"{other.units.get(u)!r} in layer {i}"
                )
        name = self.next()
        self.units[name] = stack(block, layer.depth, source.name, shared=layer.shared)
        of_layers = [params for _, params in made]
        self.params[name] = params if layer.shared else jax.tree.map(lambda *W: jnp.stack(W), *of_layers)
        return Source(name, source.shape, fresh=False)

    def sum(self, ends: list[Source]) -> Source:
        names = [end.name for end in ends]
        if len(set(names)) < len(names):
            raise ValueError("adds the same source twice; leave one of the two out")
        computed = [end for end in ends if end.fresh]
        if len(computed) == 1:
            [end] = computed
            node = self.units[end.name]
            others = [name for name in names if name != end.name]
            free = isinstance(node, Unit) and node.activation.phi == linear.phi and not node.dropout
            if isinstance(node, Unit) and free and not set(others) & set(node.connections):
                connections = {**node.connections, **{name: Identity() for name in others}}
                self.units[end.name] = replace(node, connections=connections)
                return end
        return self.unit(self.next(), ends[0].shape, {name: Identity() for name in names})


def _width(shape: Shape) -> int | Shape:
    return shape[0] if len(shape) == 1 else shape


# The shape of x.


def input_of(steps: Steps, shape: Any, function: str) -> tuple[Steps, Shape | Ids]:
    """The description, and the shape of x as a user gives it, or as it follows from the first layer.

    Where it is not given and the first layer flattens, x is taken as that leaves it.
    """
    size = _table_size(steps)
    if shape is None:
        if steps and isinstance(steps[0].layer, Flattening):
            steps = steps[1:]
        found = _width_before(steps)
        if isinstance(found, Step):
            raise ValueError(
                f"{found.place} reads a shape that does not follow from its weights: pass the shape of one example of "
                f"x, channels last, such as {function}(…, shape=(28, 28, 1))"
            )
        if found is None:
            raise ValueError(f"{function} found no layer with weights, so it needs shape=, that of one example of x")
        return steps, (found,)
    if isinstance(shape, Ids):
        if size is not None and size != shape.size:
            raise ValueError(f"shape has {shape.size} ids, but the table that looks them up has {size} rows")
        return steps, shape
    sizes = shape if isinstance(shape, tuple) else (shape,)
    if size is not None and all(is_integer(n) and n > 0 for n in sizes):
        return steps, Ids(sizes, size)
    if not isinstance(shape, tuple) and not is_integer(shape):
        raise TypeError(f"shape must be an integer or a tuple of them, got {described(shape)}")
    check_shape(shape, "shape")
    return steps, sizes


def _first(steps: Steps) -> Step | None:
    """The first layer that says something about what it reads."""
    for step in steps:
        if step.layer.inside:
            found = next(filter(None, map(_first, step.layer.inside)), None)
            if found is not None:
                return found
        elif not isinstance(step.layer, Applied | Dropping) and not (
            isinstance(step.layer, Norm) and step.layer.gain is None
        ):
            return step
    return None


def _width_before(steps: Steps) -> int | Step | None:
    """The width of x where it follows from weights; else the layer that it does not follow from, if there is one."""
    first = _first(steps)
    match first:
        case None:
            return None
        case Step(_, Affine(W)):
            return W.shape[0]
        case Step(_, Norm(_, w, b)):
            return (b if w is None else w).shape[0]
        case _:
            return first


def _table_size(steps: Steps) -> int | None:
    first = _first(steps)
    return first.layer.W.shape[0] if first is not None and isinstance(first.layer, Lookup) else None
