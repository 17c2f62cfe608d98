"""Parameters: the pytree of weights that belongs to a network."""

from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import Array

from jaxbp._checks import (
    check_by,
    check_floating,
    check_keys,
    check_random_key,
    check_shaped,
    described,
    floating_dtype,
)
from jaxbp._initializers import initializer_of
from jaxbp._network import Network, check_network
from jaxbp._plan import Edge, Place, at
from jaxbp.connections import Shape

Params = dict[str, Any]
"""Weights by unit, then by the source they come from (`"bias"` for the constant one); of a stack by those of its block.
"""


def init_params(key: Array, net: Network, dtype: Any = float) -> Params:
    """Fresh weights for every connection of a network, and biases of zero.

    The tree is `{unit: {source: W, …, "bias": b}}`, with W of shape `(width_source, width_unit)` and b of
    `(width_unit,)`. Each connection uses its own initializer, or the one of the activation it leads into. Weights that
    several connections share are drawn once, for the first of them, and are in a group of their own,
    `{"shared": {name: W}}`. A stack has the tree of its block, with an axis of layers before all shapes unless they
    share their weights. The dtype `float` is JAX's default one.

    Example:
        >>> import jax, jaxbp
        >>> net = jaxbp.layered([3, 2, 1], output=jaxbp.linear)
        >>> jax.tree.map(lambda W: W.shape, jaxbp.init_params(jax.random.key(0), net))
        {'h1': {'bias': (2,), 'x': (3, 2)}, 'o': {'bias': (1,), 'h1': (2, 1)}}
    """
    check_random_key(key)
    check_network(net)
    return _fresh(key, net, floating_dtype(dtype))


def _fresh(key: Array, net: Network, dtype: Any) -> Params:
    params: Params = {}
    for group, places in net.plan.groups.items():
        stack: Any = net.units[group].stacked if group in net.units else None
        if stack is not None:
            key, subkey = jax.random.split(key)
            if stack.shared:
                params[group] = _fresh(subkey, stack.block, dtype)
            else:
                of_layers = jax.random.split(subkey, stack.depth)
                params[group] = jax.vmap(_fresh, (0, None, None))(of_layers, stack.block, dtype)
        else:
            key, *keys = jax.random.split(key, len(places) + 1)
            params[group] = {
                name: _drawn(subkey, net, net.plan.uses[place][0], net.plan.weight_shapes[place], dtype)
                for (name, place), subkey in zip(places.items(), keys, strict=True)
            }
    return params


def constrain(net: Network, params: Params) -> Params:
    """The parameters with what no connection ever uses, such as a masked weight, set to 0.

    Example:
        >>> import jax.numpy as jnp, jaxbp, numpy as np
        >>> first = jaxbp.Masked(jaxbp.Dense(), np.array([[True], [False]]))
        >>> net = jaxbp.Network(inputs={"x": 2}, units={"o": jaxbp.Unit(1, jaxbp.linear, {"x": first}, bias=False)})
        >>> jaxbp.constrain(net, {"o": {"x": jnp.ones((2, 1))}})["o"]["x"].tolist()
        [[1.0], [0.0]]
    """
    check_params(net, params)

    def constrained(place: Place) -> Array:
        W, (first, *others) = at(place, params), net.plan.uses[place]
        # what one use leaves out another may need
        if others:
            return W
        constrain = first.linear.constrain
        for _ in range(sum(first.layers)):
            constrain = jax.vmap(constrain)
        return constrain(W)

    return net.plan.tree(constrained)


def check_params(net: Network, params: Any, what: str = "params") -> None:
    """Refuse a tree that is not the parameters of this network, by names and shapes."""
    check_network(net)
    check_by(params, what, "unit as init_params gives it")
    check_keys(params, net.plan.groups, f"{what} holds the units", "the network has")
    for u, group in net.plan.groups.items():
        _check_group(net, params[u], group, f"{what}[{u!r}]", what)


def check_vector(net: Network, params: Params, vector: Any) -> None:
    """Refuse a vector that is no tree like the parameters, of their dtypes."""
    check_params(net, params)
    check_params(net, vector, "vector")
    for place in net.plan.uses:
        W, v = at(place, params), at(place, vector)
        if v.dtype != W.dtype:
            where = "".join(f"[{key!r}]" for key in place)
            raise TypeError(f"vector{where} has dtype {v.dtype}, but the parameter has {W.dtype}")


def _check_group(net: Network, params: Any, group: Mapping[str, Any], place: str, what: str) -> None:
    in_block = any(isinstance(inner, Mapping) for inner in group.values())
    check_by(params, place, "unit of its block" if in_block else "source")
    holds = ("the units", "the block has") if in_block else ("weights from", "the network has them from")
    check_keys(params, group, f"{place} holds {holds[0]}", holds[1])
    for name, inner in group.items():
        if isinstance(inner, Mapping):
            _check_group(net, params[name], inner, f"{place}[{name!r}]", what)
        else:
            doubt = f"; are these {what} of another network?"
            check_shaped(params[name], f"{place}[{name!r}]", net.plan.weight_shapes[inner], doubt)


def _drawn(key: Array, net: Network, edge: Edge, shape: Shape, dtype: Any) -> Array:
    """A fresh weight, for the edge that uses it."""
    connection, activation = edge.linear, net.units[edge.unit].activation
    initializer = activation.initializer if connection.initializer is None else connection.initializer
    what = f"the initializer {described(initializer)} of {edge.source!r} ⇒ {edge.unit!r}"
    draw = initializer_of(initializer)
    try:
        W = draw(key, shape, dtype)
    except Exception as error:
        raise ValueError(f"{what} refuses the shape {shape}: {error}") from error
    check_floating(W, f"what {what} makes")
    if W.shape != shape:
        raise ValueError(f"{what} makes an array of shape {W.shape}, expected {shape}")
    return connection.constrain(W)
