"""A running average of the parameters, which is often better than where they are at the end."""

from typing import Any, NamedTuple

import jax
import optax

from jaxbp._checks import check_number, described


class Averaged(NamedTuple):
    """The state of `averaged`: the average of the parameters so far."""

    average: Any


def averaged(decay: float) -> optax.GradientTransformation:
    """Updates as they are, beside a running average of the parameters; chain it last, for it sees what is before it.

    Ŵ ← β Ŵ + (1 − β)(W + ΔW), from Ŵ = W

    The average is in the optimizer's state, so that it lies on a mesh as the parameters do and is part of each
    checkpoint; `average_of` takes it out.

    Args:
        decay: β, at least 0 and below 1; the average is over about 1 / (1 − β) steps.

    Example:
        >>> import jax.numpy as jnp, jaxbp, optax
        >>> net = jaxbp.layered([3, 2, 1], output=jaxbp.linear)
        >>> optimizer = optax.chain(optax.sgd(0.1), jaxbp.train.averaged(0.9))
        >>> fitted = jaxbp.train.fit(
        ...     net, jaxbp.squared_error, jnp.ones((5, 3)), jnp.ones((5, 1)), optimizer=optimizer, epochs=3
        ... )
        >>> jaxbp.train.average_of(fitted.state.opt_state)["h1"]["x"].shape
        (3, 2)

    Source: Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992.
    """
    check_number(decay, "decay", least=0, below=1)

    def init(params: Any) -> Averaged:
        return Averaged(jax.tree.map(lambda W: W + 0, params))  # no array is donated twice

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        if params is None:
            raise ValueError(
                "averaged needs the parameters; pass them as the third argument: optimizer.update(grads, state, params)"
            )
        after = optax.apply_updates(params, updates)
        return updates, Averaged(jax.tree.map(lambda A, W: decay * A + (1 - decay) * W, state.average, after))

    return optax.GradientTransformation(init, update)


def average_of(opt_state: Any) -> Any:
    """The average that `averaged` keeps in the state of an optimizer, a tree like the parameters.

    Raises:
        ValueError: It keeps none, or several.
    """
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, Averaged))
    found = [node.average for node in leaves if isinstance(node, Averaged)]
    if len(found) != 1:
        raise ValueError(
            f"opt_state is {described(opt_state)}, which holds {len(found) or 'no'} averages; expected the state of an "
            "optimizer such as optax.chain(optax.sgd(0.1), jaxbp.train.averaged(0.99))"
        )
    return found[0]
