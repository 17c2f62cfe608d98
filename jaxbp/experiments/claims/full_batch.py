"""Training with all examples in every step, as one compiled scan."""

from typing import Any

import jax
import optax

import jaxbp


def descended(
    net: jaxbp.Network, loss: jaxbp.Loss, steps: int, rate: float, params: jaxbp.Params, x: Any, y: Any
) -> jaxbp.Params:
    """The parameters after so many steps of Adam by the explicit gradient.

    Args:
        net: The network.
        loss: The loss of one example.
        steps: How many updates.
        rate: The learning rate of the first one; it falls to 0 like a cosine.
        params: Where to start.
        x: All inputs.
        y: All targets.

    Returns:
        A tree like the parameters.
    """
    gradient, optimizer = jaxbp.value_and_grad(net, loss), optax.adam(optax.cosine_decay_schedule(rate, steps))

    def body(state: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], None]:
        params, opt_state = state
        _, grads = gradient(params, x, y)
        updates, opt_state = optimizer.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    (params, _), _ = jax.lax.scan(body, (params, optimizer.init(params)), length=steps)
    return params
