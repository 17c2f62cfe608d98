"""Integer class ids in place of rows of targets: one for each example or row."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxbp._precision import widened_ids


@partial(jax.jit, static_argnums=1, inline=True)
def one_hot(ids: Array, width: int) -> Array:
    """One row for each id; for a single output the id itself, 0 or 1. NaN where an id is out of range."""
    ids = widened_ids(ids)
    classes = jnp.arange(max(width, 2), dtype=ids.dtype)
    rows = ids[..., None] == jnp.expand_dims(classes, tuple(range(ids.ndim)))
    if width == 1:
        rows = rows[..., 1:]
    inside = (ids >= 0) & (ids < classes.size)
    return jnp.where(inside[..., None], rows, jnp.nan)


def signs(ids: Array, width: int) -> Array:
    """One row for each id, of −1 and +1 in place of 0 and 1."""
    return 2 * one_hot(ids, width) - 1


def complaint_about_ids(
    ids: np.ndarray, size: int, what: str = "class id", counted: np.ndarray | None = None
) -> str | None:
    """What is wrong with ids on the host, which are 0 to size − 1 wherever they count; or None."""
    wrong = (ids < 0) | (ids >= size)
    outside = np.argwhere(wrong if counted is None else wrong & counted)
    if not outside.size:
        return None
    first = tuple(outside[0])
    place = f"example {first[0]}" if len(first) == 1 else f"[{', '.join(map(str, first))}]"
    return f"{what} {ids[first]} at {place} is outside 0…{size - 1}; {len(outside)} of {ids.size} are"
