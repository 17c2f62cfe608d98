"""Parameters: the pytree of weights that belongs to a network."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._checks import check_floating, check_keys, quoted, suggestion
from jaxbp._graph import BIAS
from jaxbp._network import Network

Params = dict[str, dict[str, Array]]
"""Weights by unit, then by the source they come from (`"bias"` for the constant one)."""


def init_params(key: Array, net: Network, dtype: Any = float) -> Params:
    """Fresh weights for every connection of a network, and biases of zero.

    Each connection uses its own initializer, or the one of the activation it leads into.

    Args:
        key: A key from `jax.random.key`.
        net: The network.
        dtype: A floating dtype; `float` is JAX's default one.

    Returns:
        `{unit: {source: W, …, "bias": b}}`, with W of shape `(width_source, width_unit)` and b of `(width_unit,)`.

    Raises:
        TypeError: A dtype that is not floating.
        ValueError: An initializer that `jax.nn.initializers` does not have.

    Example:
        >>> import jax, jaxbp
        >>> net = jaxbp.layered([3, 2, 1], output=jaxbp.linear)
        >>> jax.tree.map(lambda W: W.shape, jaxbp.init_params(jax.random.key(0), net))
        {'h1': {'bias': (2,), 'x': (3, 2)}, 'o': {'bias': (1,), 'h1': (2, 1)}}
    """
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"parameters must have a floating dtype, got {dtype}")
    params: Params = {}
    for u, unit in net.units.items():
        shapes = net.weight_shapes(u)
        key, *keys = jax.random.split(key, len(shapes) + 1)
        params[u] = {}
        for (source, shape), subkey in zip(shapes.items(), keys, strict=True):
            initializer = "zeros" if source == BIAS else unit.connections[source].initializer
            initialize = _initializer(initializer or unit.activation.initializer)
            params[u][source] = initialize(subkey, shape, dtype)
    return params


def check_params(net: Network, params: Any, what: str = "params") -> None:
    """Refuse a tree that is not the parameters of this network, by names and shapes."""
    if not isinstance(params, Mapping):
        raise TypeError(f"{what} is of type {type(params).__name__}, expected a dict by unit as init_params gives it")
    check_keys(params, net.units, f"{what} holds the units", "the network has")
    for u in net.units:
        expected = net.weight_shapes(u)
        if not isinstance(params[u], Mapping):
            raise TypeError(f"{what}[{u!r}] is of type {type(params[u]).__name__}, expected a dict by source")
        check_keys(params[u], expected, f"{what}[{u!r}] holds weights from", "the network has them from")
        for source, shape in expected.items():
            W, place = params[u][source], f"{what}[{u!r}][{source!r}]"
            check_floating(W, place)
            if W.shape != shape:
                raise ValueError(f"{place} has shape {W.shape}, expected {shape}; are these {what} of another network?")


def _initializer(initializer: Any) -> Any:
    if callable(initializer):
        return initializer
    if initializer in ("zeros", "ones"):
        return getattr(jax.nn.initializers, initializer)
    known = [name for name in dir(jax.nn.initializers) if not name.startswith("_")]
    if initializer not in known:
        raise ValueError(
            f"jax.nn.initializers has no {initializer!r}{suggestion(initializer, known)}; known: {quoted(known)}"
        )
    return getattr(jax.nn.initializers, initializer)()
