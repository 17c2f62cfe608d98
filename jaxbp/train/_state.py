"""What one step of training changes, and where it starts."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from jaxbp._checks import check_kind, check_random_key
from jaxbp._network import Network, check_network
from jaxbp._parameters import Params, init_params
from jaxbp.train._arguments import check_optimizer, check_start


class TrainState(NamedTuple):
    """Everything that one step of training changes.

    Attributes:
        params: The parameters of the network, or any other tree that the gradient is of.
        opt_state: The state of the optax optimizer.
        key: The source of all permutations and of the noise of dropout, by the numbers of epochs and steps; it stays.
        step: The number of updates made, an int32 scalar.
    """

    params: Params
    opt_state: Any
    key: Array
    step: Array


def init_state(
    key: Array,
    net: Network,
    optimizer: optax.GradientTransformation,
    *,
    params: Any = None,
    dtype: Any = float,
) -> TrainState:
    """A state to start training from, at step 0.

    Args:
        key: For fresh parameters, and for all that training draws.
        net: The network.
        optimizer: Any optax optimizer.
        params: Where to start, in any tree that the gradient is of; fresh parameters when None. They are copied.
        dtype: The dtype of fresh parameters.
    """
    check_random_key(key)
    check_network(net)
    check_optimizer(optimizer)
    if params is not None:
        check_start(params)
    init_key, key = jax.random.split(key)
    start = init_params(init_key, net, dtype) if params is None else copied(params)
    return TrainState(start, optimizer.init(start), key, jnp.zeros((), jnp.int32))


def check_state(state: Any) -> None:
    """Refuse anything but a state."""
    check_kind(state, TrainState, "state", "a jaxbp.train.TrainState, as init_state makes it")


def copied(tree: Any) -> Any:
    """A copy that stays valid when the original is donated to a step."""
    return jax.tree.map(jnp.array, tree)
