"""A network as a plain JAX function, whose derivative is the explicit sweep: a layer for other people's code."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array

from jaxbp._cache import bounded_cache
from jaxbp._checks import quoted
from jaxbp._contraction import gradient_from
from jaxbp._dropout import noisy_units
from jaxbp._forward import Trace, apply, batch_shape, check_inputs, forward
from jaxbp._network import Network, check_network
from jaxbp._parameters import Params, check_params
from jaxbp._plan import at
from jaxbp._recursion import error_signals


def as_function(net: Network) -> Callable[[Params, Any], Array]:
    """A network as a JAX function with our backward pass as its `jax.custom_vjp`.

    o = f(W, x);  given ∂L/∂o it returns ∂L/∂W and ∂L/∂x by the recursions, whatever L is made of

    It takes `(params, x)`, as `apply` does after the network. Put it into any model of flax, equinox or plain JAX:
    `jax.grad` of the whole then runs our sweep for this part. Like every `custom_vjp` it has no forward-mode derivative
    (`jax.jvp`); where that is wanted, use `apply`. Equal networks give the same function. A network with dropout is
    refused, because there is no key for its noise.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 4, 2], hidden=jaxbp.tanh, output=jaxbp.linear)
        >>> params, f = jaxbp.init_params(jax.random.key(0), net), jaxbp.as_function(net)
        >>> def loss(params, x):
        ...     return jnp.sum(jnp.sin(f(params, jnp.cos(x))))
        >>> grads, Delta_x = jax.jit(jax.grad(loss, argnums=(0, 1)))(params, jnp.ones((5, 3)))
        >>> grads["h1"]["x"].shape, Delta_x.shape
        ((3, 4), (5, 3))
    """
    check_network(net)
    return _as_function(net)


@bounded_cache
def _as_function(net: Network) -> Callable[[Params, Any], Array]:
    noisy = noisy_units(net)
    if noisy:
        raise ValueError(
            f"as_function has no key for the noise of {quoted(noisy)}; leave dropout to the model around the network"
        )

    def explicit(params: Params, x: Any) -> Array:
        return apply(net, params, x)

    def forward_phase(params: Params, x: Any) -> tuple[Array, tuple[Params, Any, Trace]]:
        trace = forward(net, params, x)
        return trace.h[net.output], (params, x, trace)

    def backward_sweep(kept: tuple[Params, Any, Trace], Delta_o: Array) -> tuple[Any, Any]:
        params, x, trace = kept
        delta_o = net.units[net.output].activation.pullback(trace.a[net.output], trace.h[net.output], Delta_o)
        Delta, delta, formed = error_signals(net, params, trace, Delta_o, delta_o)
        grads = gradient_from(net, params, trace, delta, batch_shape(net, trace), formed)
        # what the caller's kind of mapping is, the cotangents are too
        like_params = jax.tree.map_with_path(lambda path, _: at(tuple(key.key for key in path), grads), params)
        if not isinstance(x, dict):
            (name,) = net.inputs
            return like_params, Delta.get(name)
        return like_params, {name: Delta.get(name) for name in x}

    ruled = jax.custom_vjp(explicit)
    ruled.defvjp(forward_phase, backward_sweep)

    def function(params: Params, x: Any) -> Array:
        # before JAX looks at them, which says nothing of networks
        check_params(net, params)
        check_inputs(net, x)
        return ruled(params, x)

    return function
