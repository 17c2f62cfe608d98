"""The dynamic programming recursions: with post-activations as chain variables, with pre-activations, decoupled."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._checks import check_alike, check_floating
from jaxbp._forward import Trace
from jaxbp._graph import ONE
from jaxbp._network import Network
from jaxbp._parameters import Params
from jaxbp.activations import Activation, Elementwise, check_activation
from jaxbp.losses import Loss
from jaxbp.textbook._layers import (
    check_hidden_derivatives,
    derivative,
    incident_gradients,
    layers,
    mean_over_examples,
)

Signals = dict[str, Array]


class PostActivation(NamedTuple):
    """What the post-activation recursion gives; `jaxbp.textbook` says what the fields are."""

    Delta: Signals
    grads: Params


class PreActivation(NamedTuple):
    """What the pre-activation recursion gives; `jaxbp.textbook` says what the fields are."""

    delta: Signals
    grads: Params


class Decoupled(NamedTuple):
    """What alternating linear and activation steps give; `jaxbp.textbook` says what the fields are."""

    Delta: Signals
    delta: Signals
    grads: Params


def post_activation_recursion(net: Network, loss: Loss, params: Params, x: Any, y: Any) -> PostActivation:
    """Backpropagation with the layer activations as chain variables.

    Δ(o, o) = ∂L/∂o,  Δ(h_r, o) = Σ_{h: h_r ⇒ h} Φ'(a_h) · w(h_r, h) · Δ(h, o)
    ∂L/∂w(h_{r−1}, h_r) = Δ(h_r, o) · h_{r−1} · Φ'(a_{h_r}),  with h_{r−1} = 1 for a bias

    From a vector output o = Φ(v), such as softmax, the signal first goes to the layer of v = a_o by (∂o/∂v)ᵀ ∂L/∂o, and
    from there on as from a linear layer.

    Raises:
        ValueError: A hidden unit has a vector activation, which has no Φ' for each element.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> from jaxbp import textbook
        >>> net = jaxbp.layered([3, 2, 2], hidden=jaxbp.sigmoid, output=jaxbp.softmax)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> arguments = net, jaxbp.cross_entropy, params, jnp.ones(3), jnp.array(1)
        >>> post, back = textbook.post_activation_recursion(*arguments), jaxbp.backprop(*arguments)
        >>> bool(jnp.allclose(post.Delta["h1"], back.Delta["h1"], atol=1e-6))
        True

    Source: the chapter, "Training a Neural Network with Backpropagation": Δ(o, o) = ∂L/∂o, the equation for
    Δ(h_r, o) in terms of Φ'(a_h), and ∂h_r/∂w = h_{r−1} · Φ'(a_{h_r}).
    """
    check_hidden_derivatives(net)
    connections = layers(net)

    def of_example(trace: Trace, y: Array) -> tuple[Signals, Params]:
        a, h, _ = trace
        Delta = {net.output: loss.gradient(h[net.output], y)}
        grads: Params = {}
        for s, u in reversed(connections):
            activation, W = net.units[u].activation, params[u][s]
            if isinstance(activation, Elementwise):
                Delta_u, Phi_prime = Delta[u], derivative(activation, a[u], h[u])
            else:
                Delta_u, Phi_prime = activation.pullback(a[u], h[u], Delta[u]), jnp.ones_like(a[u])
            dh_dh_r = Phi_prime[None, :] * W
            Delta[s] = dh_dh_r @ Delta_u
            dh_dw = jnp.outer(h[s], Phi_prime)
            grads[u] = {s: Delta_u[None, :] * dh_dw}
            if ONE in net.plan.edges[u]:
                grads[u][ONE] = Delta_u * (1 * Phi_prime)
        return Delta, grads

    return PostActivation(*mean_over_examples(net, loss, params, x, y, of_example))


def pre_activation_recursion(net: Network, loss: Loss, params: Params, x: Any, y: Any) -> PreActivation:
    """Backpropagation with the pre-activations as chain variables: the recursion "more commonly seen in textbooks".

    δ(o, o) = Φ'(a_o) · ∂L/∂o,  δ(h_r, o) = Φ'(a_{h_r}) Σ_{h: h_r ⇒ h} w(h_r, h) · δ(h, o)
    ∂L/∂w(h_{r−1}, h_r) = δ(h_r, o) · h_{r−1},  with h_{r−1} = 1 for a bias

    A vector output starts at (∂o/∂a)ᵀ ∂L/∂o. Where the chapter repeats the recursion, in step 3 and under "Updates for
    Various Activations", it prints Φ(a_{h_r}) for Φ'(a_{h_r}); its derivation has Φ', and so has this.

    Raises:
        ValueError: A hidden unit has a vector activation, which has no Φ' for each element.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> from jaxbp import textbook
        >>> net = jaxbp.layered([3, 2, 2], hidden=jaxbp.sigmoid, output=jaxbp.linear)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> arguments = net, jaxbp.squared_error, params, jnp.ones(3), jnp.ones(2)
        >>> pre, back = textbook.pre_activation_recursion(*arguments), jaxbp.backprop(*arguments)
        >>> bool(jnp.allclose(pre.delta["h1"], back.delta["h1"], atol=1e-6))
        True

    Source: the chapter, "Training a Neural Network with Backpropagation": δ(o, o), the recursion for δ(h_r, o),
    and ∂L/∂w(h_{r−1}, h_r) = δ(h_r, o) · h_{r−1}.
    """
    check_hidden_derivatives(net)

    def start(a: Array, o: Array, y: Array) -> Array:
        return net.units[net.output].activation.pullback(a, o, loss.gradient(o, y))

    def step(activation: Activation, a: Array, h: Array, total: Array) -> Array:
        return derivative(activation, a, h) * total

    return recursion_for_delta(net, loss, params, x, y, start, step)


def recursion_for_delta(
    net: Network,
    loss: Loss,
    params: Params,
    x: Any,
    y: Any,
    start: Callable[[Array, Array, Array], Array],
    step: Callable[[Activation, Array, Array, Array], Array],
) -> PreActivation:
    """The recursion whose chain variables are pre-activations, for any way to write down Φ'.

    δ(o, o) = start(a_o, o, y),  δ(h_r, o) = step(Φ, a_{h_r}, h_r, Σ_{h: h_r ⇒ h} w(h_r, h) · δ(h, o))
    """
    connections = layers(net)

    def of_example(trace: Trace, y: Array) -> tuple[Signals, Params]:
        a, h, _ = trace
        delta = {net.output: start(a[net.output], h[net.output], y)}
        grads: Params = {}
        for s, u in reversed(connections):
            grads[u] = incident_gradients(s, h[s], delta[u], ONE in net.plan.edges[u])
            if s in net.units:
                delta[s] = step(net.units[s].activation, a[s], h[s], params[u][s] @ delta[u])
        return delta, grads

    return PreActivation(*mean_over_examples(net, loss, params, x, y, of_example))


def linear_step(W: Array, delta: Array) -> Array:
    """The linear half of a backward step: "a simple matrix multiplication".

    Δ(h_r, o) = Σ_{h: h_r ⇒ h} w(h_r, h) · δ(h, o), with W `(width_s, width_u)` and δ `(*batch, width_u)`

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxbp import textbook
        >>> textbook.linear_step(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([10.0, 1.0])).tolist()
        [12.0, 34.0]

    Source: the chapter, "decoupling the effect of the activation function and that of the linear transformation".
    """
    check_floating(W, "W")
    check_floating(delta, "delta")
    if W.ndim != 2 or delta.shape[-1:] != W.shape[1:]:
        raise ValueError(
            f"W has shape {W.shape}, and delta {delta.shape}: expected (width_s, width_u) and (…, width_u)"
        )
    return delta @ W.T


def activation_step(activation: Activation, a: Array, h: Array, Delta: Array) -> Array:
    """The activation half of a backward step: "an elementwise multiplication".

    δ(h_r, o) = Φ'(a_{h_r}) ⊙ Δ(h_r, o);  (∂h/∂a)ᵀ Δ(h_r, o) for a vector activation

    All three arrays have one shape, `(*batch, width)`, and so must Φ'.

    Example:
        >>> import jax.numpy as jnp, jaxbp
        >>> from jaxbp import textbook
        >>> a = jnp.array([-1.0, 2.0])
        >>> textbook.activation_step(jaxbp.relu, a, jaxbp.relu.value(a), jnp.array([5.0, 7.0])).tolist()
        [0.0, 7.0]

    Source: the chapter, "decoupling the effect of the activation function and that of the linear transformation".
    """
    check_activation(activation, "activation")
    check_alike({"a": a, "h": h, "Delta": Delta})
    return activation.pullback(a, h, Delta)


def decoupled(net: Network, loss: Loss, params: Params, x: Any, y: Any) -> Decoupled:
    """Backpropagation as it is "actually implemented in real systems": linear and activation steps alternate.

    Δ(o, o) = ∂L/∂o,  δ(h_r, o) = Φ'(a_{h_r}) ⊙ Δ(h_r, o),  Δ(h_{r−1}, o) = W δ(h_r, o)
    ∂L/∂w(h_{r−1}, h_r) = δ(h_r, o) · h_{r−1},  with h_{r−1} = 1 for a bias

    Hidden layers may have vector activations, too.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> from jaxbp import textbook
        >>> net = jaxbp.layered([3, 2, 2], hidden=jaxbp.softmax, output=jaxbp.sigmoid)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> form = textbook.decoupled(net, jaxbp.squared_error, params, jnp.ones(3), jnp.ones(2))
        >>> sorted(form.Delta), sorted(form.delta)
        (['h1', 'o', 'x'], ['h1', 'o'])

    Source: the chapter, "decoupling the linear transformation from the activation function".
    """
    connections = layers(net)

    def of_example(trace: Trace, y: Array) -> tuple[tuple[Signals, Signals], Params]:
        a, h, _ = trace
        Delta = {net.output: loss.gradient(h[net.output], y)}
        delta: Signals = {}
        grads: Params = {}
        for s, u in reversed(connections):
            delta[u] = activation_step(net.units[u].activation, a[u], h[u], Delta[u])
            Delta[s] = linear_step(params[u][s], delta[u])
            grads[u] = incident_gradients(s, h[s], delta[u], ONE in net.plan.edges[u])
        return (Delta, delta), grads

    (Delta, delta), grads = mean_over_examples(net, loss, params, x, y, of_example)
    return Decoupled(Delta, delta, grads)
