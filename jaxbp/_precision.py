"""In what precision sums and differences are formed where the data has few digits."""

import jax.numpy as jnp
from jaxtyping import Array


def widened(array: Array) -> Array:
    """The array in float32 at least: sums and differences of narrower floats lose the few digits that they have."""
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))
