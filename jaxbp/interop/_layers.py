"""A layered network as a list of layers, and back: what the libraries share."""

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._checks import check_floating, quoted
from jaxbp._graph import ONE
from jaxbp._network import Network, Unit
from jaxbp._parameters import Params, check_params
from jaxbp.activations import Activation, linear
from jaxbp.connections import Dense


class Layer(NamedTuple):
    """One layer h = Φ(x W + b), with W of shape (width before, width); b is None where there is none."""

    W: Any
    b: Any
    activation: Activation = linear


class Step(NamedTuple):
    """One entry of another library's sequence: a layer without its activation, or an activation.

    Attributes:
        place: Where it is, for messages.
        what: The layer or the activation.
        holder: The object that holds the weights, where two layers of that library can share it.
    """

    place: str
    what: Layer | Activation
    holder: Any = None


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


def in_layers(steps: Iterable[Step], function: str) -> list[Layer]:
    """The layers that a sequence of steps makes, each with the activation that follows it."""
    layers: list[Layer] = []
    holders: list[Any] = []
    for place, what, holder in steps:
        if isinstance(what, Layer):
            if holder is not None and any(holder is other for other in holders):
                raise ValueError(f"{place} shares its weights with an earlier layer; copy them, or share none")
            holders.append(holder)
            layers.append(what)
        elif what.phi == linear.phi:
            continue
        elif not layers:
            raise ValueError(f"{place} is {what}, an activation before the first layer; apply it to x yourself")
        elif layers[-1].activation != linear:
            raise ValueError(
                f"{place} is {what}, but {layers[-1].activation} comes before it, and a unit has one activation; "
                "write both as one function, and say with activations= what it is"
            )
        else:
            layers[-1] = layers[-1]._replace(activation=what)
    if not layers:
        raise ValueError(f"{function} found no layer with weights")
    return layers


def as_network(layers: Sequence[Layer]) -> tuple[Network, Params]:
    """The network x ⇒ h1 ⇒ … ⇒ hk ⇒ o of these layers, and its parameters."""
    names = [*(f"h{r}" for r in range(1, len(layers))), "o"]
    source, units, params = "x", dict[str, Unit](), Params()
    for i, (u, (W, b, activation)) in enumerate(zip(names, layers, strict=True)):
        if W.ndim != 2:
            raise ValueError(f"the weights of layer {i} have shape {W.shape}, expected a matrix")
        if i and layers[i - 1].W.shape[1] != W.shape[0]:
            raise ValueError(
                f"layer {i} takes {W.shape[0]} values, but layer {i - 1} gives {layers[i - 1].W.shape[1]}; "
                "in a layered network each layer reads the one before it and nothing else"
            )
        units[u] = Unit(W.shape[1], activation, {source: Dense()}, bias=b is not None)
        params[u] = {source: W} if b is None else {source: W, ONE: b}
        source = u
    net = Network(inputs={"x": layers[0].W.shape[0]}, units=units)
    check_params(net, params)
    return net, params


def layers_of(net: Network, params: Params, function: str) -> list[Layer]:
    """The layers of a layered network; any other is refused with a message that names what is in the way."""
    check_params(net, params)
    layered = f"{function} takes a layered network, in which each unit reads the one before it, but"
    if len(net.inputs) > 1:
        raise ValueError(f"{layered} this one has the inputs {quoted(net.inputs)}")
    for name, shape in net.shapes.items():
        if len(shape) > 1:
            raise ValueError(f"{layered} {name!r} has several axes, its shape is {shape}")
    layers: list[Layer] = []
    [source] = net.inputs
    for u in net.order:
        unit, edges = net.units[u], net.plan.edges[u]
        sources = [s for s in edges if s != ONE]
        if sources != [source]:
            raise ValueError(f"{layered} unit {u!r} reads {quoted(sources)}, expected {source!r} alone")
        connection = edges[source].connection
        if type(connection) is not Dense:
            raise ValueError(f"{layered} unit {u!r} reads by {connection or unit!r}, expected Dense()")
        shared = [edge.weight[1] for edge in edges.values() if edge.weight is not None and edge.is_shared]
        if shared:
            raise ValueError(f"{layered} unit {u!r} has the shared weights {quoted(shared)}")
        if unit.dropout:
            raise ValueError(f"{function} knows no dropout, but unit {u!r} has {unit.dropout}; leave it out")
        layers.append(Layer(params[u][source], params[u].get(ONE), unit.activation))
        source = u
    return layers
