"""Learning the feedback beside the weights, by the same updates: the rule of Kolen and Pollack."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array

from jaxbp._backprop import backprop
from jaxbp._cache import bounded_cache
from jaxbp._network import Network
from jaxbp._objective import Reduction, check_objective
from jaxbp._parameters import Params
from jaxbp.losses import Loss

Both = tuple[Params, Params]
"""The weights and the feedback, which are trained as one tree."""


def kolen_pollack(net: Network, loss: Loss, reduction: Reduction = "mean") -> Callable[..., tuple[Array, Both]]:
    """A gradient for the weights and for the feedback at once: both get the same, so with decay they become the same.

    ΔW = −η (h_sᵀ δ_u + λ W),  ΔB = −η (h_sᵀ δ_u + λ B),  hence W − B shrinks by 1 − η λ in each step

    No weight is ever carried to the other pathway. The decay λ is the optimizer's, such as
    `optax.chain(optax.add_decayed_weights(λ), optax.sgd(η))`.

    Returns:
        `((params, feedback), x, y, weights=None, key=None) -> (value, (grads, grads))`, a gradient for `step` and
        `epoch` whose state starts from `params=(params, feedback)`. Equal arguments give the same function.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp, optax
        >>> net = jaxbp.layered([3, 2, 1], output=jaxbp.linear)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> B = jaxbp.feedback.random_feedback(jax.random.key(1), net)
        >>> rule = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.5))
        >>> state = jaxbp.train.init_state(jax.random.key(2), net, rule, params=(params, B))
        >>> gradient = jaxbp.train.kolen_pollack(net, jaxbp.squared_error)
        >>> state, loss = jaxbp.train.step(state, jnp.ones((5, 3)), jnp.ones((5, 1)), gradient=gradient, optimizer=rule)
        >>> W, B_after = state.params
        >>> shrunk = (W["o"]["h1"] - B_after["o"]["h1"]) / (params["o"]["h1"] - B["o"]["h1"])
        >>> bool(jnp.allclose(shrunk, 0.95))
        True

    Source: Kolen and Pollack, Back-propagation without weight transport, 1994; Akrout et al., Deep learning without
    weight transport, 2019.
    """
    check_objective(net, loss, reduction)
    return _kolen_pollack(net, loss, reduction)


@bounded_cache  # keyed by positions, so that reduction="mean" and its default are one
def _kolen_pollack(net: Network, loss: Loss, reduction: Reduction) -> Callable[..., tuple[Array, Both]]:
    def value_and_both(both: Both, x: Any, y: Any, weights: Any = None, key: Array | None = None) -> tuple[Array, Both]:
        params, feedback = both
        back = backprop(net, loss, params, x, y, weights=weights, reduction=reduction, feedback=feedback, key=key)
        return back.value, (back.grads, back.grads)

    return value_and_both
