"""Training that leaves masked weights at 0, whatever the optimizer makes of their gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxbp._network import Network, check_network
from jaxbp._parameters import constrain


def keep_masked(net: Network) -> optax.GradientTransformation:
    """Updates after which every masked weight is exactly 0; chain it last.

    ΔW ← ΔW where the mask is true, −W elsewhere

    The gradient of a masked weight is 0, and most optimizers then leave a weight at 0, with momentum and weight decay
    too. Those that add noise do not, and neither does momentum from before the mask. A masked weight that is not 0
    changes no output of this network, but it is counted, and another network may read it.

    Its update needs the parameters, as the training loop gives them, and refuses those of another network.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp, numpy as np, optax
        >>> first = jaxbp.Masked(jaxbp.Dense(), np.array([[True], [False]]))
        >>> net = jaxbp.Network(inputs={"x": 2}, units={"o": jaxbp.Unit(1, jaxbp.linear, {"x": first}, bias=False)})
        >>> noisy = optax.chain(optax.noisy_sgd(0.1, key=jax.random.key(0)), jaxbp.train.keep_masked(net))
        >>> state = jaxbp.train.init_state(jax.random.key(1), net, noisy)
        >>> gradient = jaxbp.value_and_grad(net, jaxbp.squared_error)
        >>> x, y = jnp.ones((5, 2)), jnp.ones((5, 1))
        >>> state, _ = jaxbp.train.step(state, x, y, gradient=gradient, optimizer=noisy)
        >>> float(state.params["o"]["x"][1, 0])
        0.0

    Source: the chapter, on pruning.
    """
    check_network(net)

    def init(params: Any) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        if params is None:
            raise ValueError(
                "keep_masked needs the parameters to undo what is masked; pass them as the third argument: "
                "optimizer.update(grads, state, params)"
            )
        kept = constrain(net, jax.tree.map(jnp.ones_like, params))
        # not constrain(W + ΔW) − W, which rounds: only −W is sure to give 0
        return jax.tree.map(lambda keep, step, W: jnp.where(keep != 0, step, -W), kept, updates, params), state

    return optax.GradientTransformation(init, update)
