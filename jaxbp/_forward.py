"""The forward phase: the pre- and post-activation of every unit."""

from collections.abc import Mapping
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._checks import check_floating, check_keys, quoted
from jaxbp._connections import Bias, Shape
from jaxbp._graph import BIAS
from jaxbp._network import Network
from jaxbp._parameters import Params, check_params


class Trace(NamedTuple):
    """What the forward phase leaves behind for the backward phase.

    Attributes:
        a: The pre-activation of each unit, of shape `(*batch, *shape)`.
        h: The post-activation of each unit, and the inputs.
    """

    a: dict[str, Array]
    h: dict[str, Array]


def forward(net: Network, params: Params, x: Any, *, offsets: Trace | None = None) -> Trace:
    """The forward phase: the pre- and post-activation of every unit.

    a_u = Σ_{s ⇒ u} h_s W_su + b_u,  h_u = Φ_u(a_u)

    Args:
        net: The network.
        params: Its parameters, as from `init_params`.
        x: The input, of shape `(*batch, width)` with any number of batch axes, or a dict of them by name.
        offsets: Something to add to each pre- and post-activation, shaped like the result. With zeros here,
            `jax.grad` with respect to them is δ and Δ; with other values one can intervene in a unit.

    Returns:
        `Trace(a, h)`.

    Raises:
        TypeError: An input that is no floating array, or `params` that is no tree of floating arrays.
        ValueError: Shapes that do not fit, params of another network, or an empty batch.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 2, 1], output=jaxbp.linear)
        >>> trace = jaxbp.forward(net, jaxbp.init_params(jax.random.key(0), net), jnp.ones((5, 3)))
        >>> trace.h["h1"].shape
        (5, 2)

    Source: the chapter, forward phase.
    """
    check_params(net, params)
    a: dict[str, Array] = {}
    h = _as_inputs(net, x)
    if offsets is not None:
        h = {name: value + offsets.h[name] for name, value in h.items()}
    for u in net.order:
        unit = net.units[u]
        a[u] = reduce(add, (c.apply(params[u].get(s), h[s]) for s, c in unit.connections.items()))
        if unit.bias:
            a[u] = Bias().apply(params[u][BIAS], a[u])
        if offsets is not None:
            a[u] = a[u] + offsets.a[u]
        h[u] = unit.activation.value(a[u])
        if offsets is not None:
            h[u] = h[u] + offsets.h[u]
    return Trace(a, h)


def apply(net: Network, params: Params, x: Any) -> Array:
    """The output of the network alone.

    o = Φ(W_{k+1}ᵀ h_k)

    Args:
        net: The network.
        params: Its parameters.
        x: The input or inputs, as for `forward`.

    Returns:
        h of the output unit, of shape `(*batch, width)`.

    Raises:
        TypeError, ValueError: As `forward`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 2, 1], output=jaxbp.linear)
        >>> jaxbp.apply(net, jaxbp.init_params(jax.random.key(0), net), jnp.ones(3)).shape
        (1,)
    """
    return forward(net, params, x).h[net.output]


def batch_shape(net: Network, trace: Trace) -> Shape:
    """The leading axes of a trace: one entry for each example."""
    o = trace.h[net.output]
    return o.shape[: o.ndim - len(net.shapes[net.output])]


def _as_inputs(net: Network, x: Any) -> dict[str, Array]:
    named: dict[str, Any] = {}
    if isinstance(x, Mapping):
        check_keys(x, net.inputs, "x holds the inputs", "the network has")
        named = {name: x[name] for name in net.inputs}
    elif len(net.inputs) == 1:
        named = dict.fromkeys(net.inputs, x)
    else:
        raise TypeError(f"the network has the inputs {quoted(net.inputs)}; pass x as a dict of arrays by these names")
    batches: dict[str, Shape] = {}
    for name, value in named.items():
        place = f"x[{name!r}]" if isinstance(x, Mapping) else "x"
        check_floating(value, place)
        shape = net.shapes[name]
        if value.ndim < len(shape) or value.shape[value.ndim - len(shape) :] != shape:
            expected = ", ".join(("*batch", *map(str, shape)))
            raise ValueError(f"{place} has shape {value.shape}, but input {name!r} of the network has ({expected})")
        batches[name] = value.shape[: value.ndim - len(shape)]
        if 0 in batches[name]:
            raise ValueError(f"{place} has shape {value.shape}: an empty batch has no mean loss")
    if len(set(batches.values())) > 1:
        raise ValueError(f"the inputs have different batch shapes: {batches}; each example needs all of them")
    return {name: jnp.asarray(value) for name, value in named.items()}
