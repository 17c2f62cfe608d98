"""Parameters: the pytree of weights that belongs to a network."""

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
from jaxbp._plan import Edge
from jaxbp.connections import Shape

Params = dict[str, dict[str, Array]]
"""Weights by unit, then by the source they come from (`"bias"` for the constant one)."""


def init_params(key: Array, net: Network, dtype: Any = float) -> Params:
    """Fresh weights for every connection of a network, and biases of zero.

    The tree is `{unit: {source: W, …, "bias": b}}`, with W of shape `(width_source, width_unit)` and b of
    `(width_unit,)`. Each connection uses its own initializer, or the one of the activation it leads into. Weights that
    several connections share are drawn once, for the first of them, and are in a group of their own,
    `{"shared": {name: W}}`. The dtype `float` is JAX's default one.

    Example:
        >>> import jax, jaxbp
        >>> net = jaxbp.layered([3, 2, 1], output=jaxbp.linear)
        >>> jax.tree.map(lambda W: W.shape, jaxbp.init_params(jax.random.key(0), net))
        {'h1': {'bias': (2,), 'x': (3, 2)}, 'o': {'bias': (1,), 'h1': (2, 1)}}
    """
    check_random_key(key)
    check_network(net)
    dtype = floating_dtype(dtype)
    params: Params = {}
    for group, shapes in net.plan.weight_shapes.items():
        key, *keys = jax.random.split(key, len(shapes) + 1)
        params[group] = {
            name: _drawn(subkey, net, net.plan.uses[group][name][0], shape, dtype)
            for (name, shape), subkey in zip(shapes.items(), keys, strict=True)
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

    def constrained(W: Array, edges: tuple[Edge, ...]) -> Array:
        (first, *others) = edges
        # what one use leaves out another may need
        return W if others else first.linear.constrain(W)

    uses = net.plan.uses
    return {group: {name: constrained(W, uses[group][name]) for name, W in params[group].items()} for group in uses}


def check_params(net: Network, params: Any, what: str = "params") -> None:
    """Refuse a tree that is not the parameters of this network, by names and shapes."""
    check_network(net)
    check_by(params, what, "unit as init_params gives it")
    check_keys(params, net.plan.weight_shapes, f"{what} holds the units", "the network has")
    for u, expected in net.plan.weight_shapes.items():
        check_by(params[u], f"{what}[{u!r}]", "source")
        check_keys(params[u], expected, f"{what}[{u!r}] holds weights from", "the network has them from")
        for source, shape in expected.items():
            doubt = f"; are these {what} of another network?"
            check_shaped(params[u][source], f"{what}[{u!r}][{source!r}]", shape, doubt)


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
