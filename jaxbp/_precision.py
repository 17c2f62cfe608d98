"""In what precision numbers and ids are computed with where those that came in are narrow, or wider than JAX has."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


def widened(array: Array) -> Array:
    """The array in float32 at least: sums and differences of narrower floats lose the few digits that they have."""
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def are_ids(array: Any) -> bool:
    """Whether an array holds integers."""
    return bool(jnp.issubdtype(array.dtype, jnp.integer) or array.dtype == jnp.bool_)


def within_int32(array: Any) -> Any:
    """Integers on the host as JAX can hold them: without float64 it has no int64, to which 2³² is 0."""
    known = isinstance(array, np.ndarray) and are_ids(array)
    if not known or jax.dtypes.canonicalize_dtype(array.dtype) == array.dtype:
        return array
    # what does not fit is out of range, as it was
    return np.clip(array, -1, np.iinfo(np.int32).max).astype(np.int32)


def widened_ids(ids: Array) -> Array:
    """Integers in 32 bits at least: in a narrower dtype the number of ids, such as 256 of uint8, would wrap around."""
    unsigned = jnp.issubdtype(ids.dtype, jnp.unsignedinteger)
    return ids.astype(jnp.promote_types(ids.dtype, jnp.uint32 if unsigned else jnp.int32))
