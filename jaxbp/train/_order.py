"""What training draws, and from what: the order of an epoch from its number, and the noise of a step from its own.

A state's key never changes, so that a step is the same whatever came before it: in chunks of any size, after a restart,
and on any number of processes.
"""

from functools import partial

import jax
from jaxtyping import Array


@partial(jax.jit, static_argnums=2)
def order_of_epoch(key: Array, number: Array | int, examples: int) -> Array:
    """A permutation of the examples, one for each epoch, counted from 0."""
    return jax.random.permutation(jax.random.fold_in(jax.random.split(key)[0], number), examples)


def key_of_step(key: Array, step: Array | int) -> Array:
    """The key for what is drawn in one step, such as the noise of dropout."""
    return jax.random.fold_in(jax.random.split(key)[1], step)
