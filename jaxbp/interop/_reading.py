"""How modules are read: what all libraries share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._attention import Attention
from jaxbp._checks import check_floating, check_integer, check_mapping, described
from jaxbp.activations import Activation
from jaxbp.connections import AvgPool, Flatten, MaxPool
from jaxbp.interop._activations import named
from jaxbp.interop._layers import Applied, Flattening, Pooling, SelfAttention, Stacked, Step, Summed

Layers = Mapping[Any, Callable[[Any], Any]]
"""What a user says of modules that are not known: the class, and a function from such a module to its parts."""


class Sum:
    """The sum of what several sequences of modules make of one input, for `layers=`; an empty one is the input itself.

    h = Σ_i f_i(x),  so that x + f(x) is Sum([], [f])

    Example:
        >>> import equinox as eqx, jax, jaxbp
        >>> class Residual(eqx.Module):
        ...     up: eqx.nn.Linear
        ...     down: eqx.nn.Linear
        ...     def __call__(self, x, key=None):
        ...         return x + self.down(jax.nn.relu(self.up(x)))
        >>> keys = jax.random.split(jax.random.key(0))
        >>> theirs = Residual(eqx.nn.Linear(3, 8, key=keys[0]), eqx.nn.Linear(8, 3, key=keys[1]))
        >>> layers = {Residual: lambda r: [jaxbp.interop.Sum([], [r.up, jax.nn.relu, r.down])]}
        >>> net, params = jaxbp.interop.from_equinox(theirs, layers=layers)
        >>> print(net)
        Network of x 3: 2 units, 59 parameters
          h1: 8 relu of x (Dense), bias
          o: 3 linear of h1 (Dense), x (Identity), bias
    """

    def __init__(self, *branches: Sequence[Any]):
        for i, branch in enumerate(branches):
            if not isinstance(branch, list | tuple):
                raise TypeError(f"branch {i} of a Sum must be a list of modules, got {described(branch)}")
        if len(branches) < 2:
            raise ValueError(f"a Sum has two branches at least, got {len(branches)}; x + f(x) is Sum([], [f])")
        self.branches = branches


class Stack:
    """Layers alike, one after the other, for `layers=`: they become one unit, a `jaxbp.stack`.

    h_l = f_l(h_{l−1})

    Args:
        layers: A module, or a list of modules, for each layer; the same one everywhere is one that all layers share.
        depth: Where `layers` is one module of equinox or nnx whose arrays have the layers as their first axis, as
            `eqx.filter_vmap` and `nnx.vmap` make it: how many they are.

    Example:
        >>> import equinox as eqx, jax, jaxbp
        >>> class Deep(eqx.Module):
        ...     blocks: list[eqx.nn.Linear]
        ...     def __call__(self, x, key=None):
        ...         for block in self.blocks:
        ...             x = jax.nn.relu(block(x))
        ...         return x
        >>> theirs = Deep([eqx.nn.Linear(3, 3, key=key) for key in jax.random.split(jax.random.key(0), 8)])
        >>> layers = {Deep: lambda deep: [jaxbp.interop.Stack([[block, jax.nn.relu] for block in deep.blocks])]}
        >>> net, params = jaxbp.interop.from_equinox(theirs, layers=layers)
        >>> net.units["o"].depth, params["o"]["o"]["x"].shape
        (8, (8, 3, 3))
    """

    def __init__(self, layers: Any, depth: int | None = None):
        if depth is not None:
            check_integer(depth, "depth", 1)
        elif isinstance(layers, type | str) or not hasattr(layers, "__iter__"):
            raise TypeError(f"layers must be a list of modules, or one with depth=, got {described(layers)}")
        elif not (layers := tuple(layers)):
            raise ValueError("a Stack has one layer at least, got none")
        self.layers, self.depth = layers, None if depth is None else int(depth)


class Causal:
    """Attention of rows to themselves and to those before them, for `layers=`, where a module is told when called.

    Example:
        >>> import equinox as eqx, jax, jaxbp
        >>> theirs = eqx.nn.MultiheadAttention(2, 4, key=jax.random.key(0))
        >>> layers = {eqx.nn.MultiheadAttention: lambda attention: [jaxbp.interop.Causal(attention)]}
        >>> net, params = jaxbp.interop.from_equinox(theirs, shape=(6, 4), layers=layers)
        >>> net.units["mix1"].function.causal
        True
    """

    def __init__(self, attention: Any):
        if isinstance(attention, type) or not callable(attention):
            raise TypeError(f"attention must be a module of attention, got {described(attention)}")
        self.attention = attention


Kinds = Mapping[Any, Callable[["Reader", Any, str], Iterator[Step]]]


class Reader:
    """Reads modules of one library into layers.

    Attributes:
        kinds: How modules of exactly these classes are read.
        containers: Classes among them of which subclasses are read alike, if they leave `method` as it is.
        otherwise: What reads anything else, an activation if it is known.
        unstacked: `(reader, module, depth, place) -> modules`: the layers of a module that is all of them.
    """

    def __init__(
        self,
        kinds: Kinds,
        otherwise: Callable[[Any, str], Step],
        layers: Layers | None,
        *,
        containers: Sequence[Any] = (),
        method: str = "__call__",
        check: Callable[[Any, str], None] | None = None,
        unstacked: Callable[["Reader", Any, int, str], Sequence[Any]],
    ):
        self.kinds, self.otherwise, self.containers, self.method = kinds, otherwise, containers, method
        self.check, self.unstacked = check, unstacked
        self.layers = {} if layers is None else layers
        check_mapping(self.layers, "layers", "{Block: lambda block: [block.first, block.second]}")
        for theirs, parts in self.layers.items():
            if isinstance(parts, type) or not callable(parts):
                raise TypeError(
                    f"layers[{named(theirs)}] must be a function from a module to the list of its parts, "
                    f"got {described(parts)}"
                )
        self._held: list[Any] = []

    def read(self, module: Any, place: str, told: bool = True) -> Iterator[Step]:
        """The layers of a module; what a user says of it is not asked again of its own parts."""
        say = self._said(module) if told else None
        if say is not None:
            yield from self._parts(say(module), place, module)
            return
        if self.check is not None:
            self.check(module, place)
        kind = type(module) if type(module) in self.kinds else None
        if kind is None:
            kind = next((k for k in self.containers if is_plain(module, k, self.method)), None)
        if kind is not None:
            yield from self.kinds[kind](self, module, place)
        else:
            yield self.otherwise(module, place)

    def in_order(self, modules: Sequence[Any], place: str) -> Iterator[Step]:
        """The layers of modules that follow each other."""
        for i, module in enumerate(modules):
            yield from self.read(module, f"{place}[{i}]")

    def stack(self, modules: Sequence[Any], place: str) -> Step:
        """The stack of modules that follow each other."""
        return Step(place, _stacked(modules, lambda module, i: self.read(module, f"{place}[{i}]")))

    def hold(self, holder: Any, place: str) -> None:
        """Refuse an object with weights that an earlier layer has."""
        if any(holder is other for other in self._held):
            raise ValueError(f"{place} shares its weights with an earlier layer; copy them, or share none")
        self._held.append(holder)

    def _said(self, module: Any) -> Callable[[Any], Any] | None:
        return next((say for theirs, say in self.layers.items() if theirs is module or theirs is type(module)), None)

    def _parts(self, parts: Any, place: str, module: Any) -> Iterator[Step]:
        if not isinstance(parts, list | tuple):
            raise TypeError(f"layers[{named(type(module))}] gives {described(parts)}, expected a list of parts")
        for i, part in enumerate(parts):
            yield from self._part(part, f"{place}.{name_in(module, part) or f'part {i}'}", module)

    def _part(self, part: Any, place: str, module: Any) -> Iterator[Step]:
        match part:
            case Activation():
                yield Step(place, Applied(part))
            case MaxPool() | AvgPool():
                yield Step(place, Pooling(type(part), part))
            case Flatten():
                yield Step(place, Flattening())
            case Sum():
                outside = place.rpartition(".")[0]
                branches = tuple(tuple(self._parts(branch, outside, module)) for branch in part.branches)
                yield Step(outside, Summed(branches))
            case Stack(layers=layers, depth=int(depth)):
                place = f"{place.rpartition('.')[0]}.{name_in(module, layers) or 'layers'}"
                yield self.stack(self.unstacked(self, layers, depth, place), place)
            case Stack():
                outside = place.rpartition(".")[0]

                def layer(parts: Any, _: int) -> Iterator[Step]:
                    return self._parts(parts if isinstance(parts, list | tuple) else [parts], outside, module)

                yield Step(outside, _stacked(part.layers, layer))
            case Causal():
                outside = place.rpartition(".")[0]
                place = f"{outside}.{name_in(module, part.attention) or 'attention'}"
                for step in self.read(part.attention, place, told=False):
                    if not isinstance(step.layer, SelfAttention):
                        raise TypeError(f"{place} is {named(part.attention)}, which is no attention, but it is Causal")
                    yield Step(step.place, causal(step.layer))
            case list() | tuple():
                yield from self._parts(part, place.rpartition(".")[0], module)
            case _:
                yield from self.read(part, place, told=part is not module)


def _stacked(modules: Sequence[Any], read: Callable[[Any, int], Iterator[Step]]) -> Stacked:
    """The layers of a stack, of which one that is used again and again is read once."""
    first, *others = modules
    distinct = modules if any(module is not first for module in others) else [first]
    return Stacked(tuple(tuple(read(module, i)) for i, module in enumerate(distinct)), len(modules))


def of_sum(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    """The `Sum` that our own writer makes in each library."""
    branches = (reader.read(branch, f"{place}.branches[{i}]") for i, branch in enumerate(module.branches))
    yield Step(place, Summed(tuple(tuple(branch) for branch in branches)))


def of_stack(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    """The `Stack` that our own writers make for JAX's libraries."""
    layers, depth, place = module.layers, module.depth, f"{place}.layers"
    yield reader.stack([layers] * depth if module.shared else reader.unstacked(reader, layers, depth, place), place)


def by_layer(tree: Any, depth: int, place: str) -> list[Any]:
    """A tree for each layer, of one whose arrays have the layers as their first axis."""
    for leaf in jax.tree.leaves(tree):
        if hasattr(leaf, "shape") and leaf.shape[:1] != (depth,):
            raise ValueError(f"{place} has an array of shape {leaf.shape}, expected {depth} layers as its first axis")
    return [jax.tree.map(lambda leaf, i=i: leaf[i] if hasattr(leaf, "shape") else leaf, tree) for i in range(depth)]


def of_self_attention(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    """The `SelfAttention` that our own writer makes, which is causal unless it says that it is not."""
    for at, layer in reader.read(module.attention, f"{place}.attention"):
        assert isinstance(layer, SelfAttention)
        yield Step(at, causal(layer) if getattr(module, "causal", True) else layer)


def causal(layer: SelfAttention) -> SelfAttention:
    """The same attention, in which no row sees a later one."""
    heads = layer.attention
    return SelfAttention(layer.q, layer.k, layer.v, layer.o, Attention(heads.heads, True, heads.key_heads))


def name_in(module: Any, part: Any) -> str | None:
    """The name by which a module has a part, `blocks[3]` where it is in a list."""
    attributes = {**getattr(module, "__dict__", {}), **getattr(module, "_modules", {})}
    for name, value in attributes.items():
        if value is part:
            return name
    for name, value in attributes.items():
        try:
            inside = list(value) if not name.startswith("_") and not hasattr(value, "shape") else []
        except TypeError:
            continue
        for i, item in enumerate(inside):
            if item is part:
                return f"{name}[{i}]"
    return None


def unsuited(place: str, thing: Any, what: str) -> ValueError:
    """The error for a known layer with an option that jaxbp has no counterpart of."""
    return ValueError(f"{place} is {named(thing)} with {what}, which has no counterpart in jaxbp")


def imported(name: str, function: str) -> Any:
    """A module of an optional library, or an error that says how to install it."""
    library = name.partition(".")[0]
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != library:
            raise
        raise ImportError(f"{function} needs {library}: pip install 'jaxbp[interop]'") from None


def is_plain(module: Any, kind: Any, method: str = "__call__") -> bool:
    """Whether a module is of this kind and computes as it does: a subclass may only have added how it is made."""
    return isinstance(module, kind) and getattr(type(module), method) is getattr(kind, method)


def as_array(value: Any, place: str) -> Array:
    """A copy of a weight in JAX, in its own dtype, so that neither side sees the other's updates or donations."""
    check_floating(value, place)
    dtype = jax.dtypes.canonicalize_dtype(value.dtype)
    if dtype != value.dtype:
        raise TypeError(
            f"{place} has dtype {value.dtype}, which JAX would cast to {dtype}; switch float64 on with "
            f"jax.config.update('jax_enable_x64', True), or cast the network to {dtype} first"
        )
    return jnp.array(value)
