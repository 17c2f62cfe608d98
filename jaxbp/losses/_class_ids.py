"""Integer class ids in place of rows of targets: one for each example or row."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


def are_ids(y: Any) -> bool:
    """Whether an array holds integers."""
    return bool(jnp.issubdtype(y.dtype, jnp.integer) or y.dtype == jnp.bool_)


def within_int32(y: Any) -> Any:
    """Integers on the host as JAX can hold them: without float64 it has no int64, to which 2³² is 0."""
    if not isinstance(y, np.ndarray) or not are_ids(y) or jax.dtypes.canonicalize_dtype(y.dtype) == y.dtype:
        return y
    # what does not fit is out of range, as it was
    return np.clip(y, -1, np.iinfo(np.int32).max).astype(np.int32)


def one_hot(ids: Array, width: int) -> Array:
    """One row for each id; for a single output the id itself, 0 or 1. NaN where an id is out of range."""
    # not a narrower dtype than that of the ids, in which those out of range would wrap around
    dtype = jnp.promote_types(ids.dtype, jnp.uint32 if jnp.issubdtype(ids.dtype, jnp.unsignedinteger) else jnp.int32)
    ids = ids.astype(dtype)
    classes = jnp.arange(max(width, 2), dtype=dtype)
    rows = ids[..., None] == jnp.expand_dims(classes, tuple(range(ids.ndim)))
    if width == 1:
        rows = rows[..., 1:]
    inside = (ids >= 0) & (ids < classes.size)
    return jnp.where(inside[..., None], rows, jnp.nan)


def signs(ids: Array, width: int) -> Array:
    """One row for each id, of −1 and +1 in place of 0 and 1."""
    return 2 * one_hot(ids, width) - 1


def complaint_about_ids(ids: np.ndarray, width: int) -> str | None:
    """What is wrong with class ids that are on the host, or None."""
    classes = max(width, 2)
    outside = np.flatnonzero((ids < 0) | (ids >= classes))
    if not outside.size:
        return None
    return (
        f"class id {ids.flat[outside[0]]} at example {outside[0]} is outside 0…{classes - 1}; "
        f"{outside.size} of {ids.size} are"
    )
