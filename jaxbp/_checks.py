"""What several functions ask of their arguments, and the words in which they refuse."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import jax.numpy as jnp
from jax.core import Tracer


def check_array(value: Any, place: str) -> None:
    """Refuse what is no array: a list would be converted in ways nobody sees."""
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise TypeError(f"{place} is of type {type(value).__name__}; pass an array, e.g. jnp.asarray({place})")


def check_floating(value: Any, place: str) -> None:
    """Refuse what is no array of floats: integers wrap around where floats do not."""
    check_array(value, place)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(
            f"{place} has dtype {value.dtype}, expected a floating one; convert it first, "
            f"e.g. {place}.astype(jnp.float32)"
        )


def check_keys(got: Mapping[str, Any], expected: Iterable[str], holds: str, has: str) -> None:
    """Refuse a mapping whose keys are not the expected ones."""
    expected = list(expected)
    if set(got) != set(expected):
        extra = [name for name in got if name not in expected]
        hint = suggestion(extra[0], expected) if extra else ""
        raise ValueError(f"{holds} {quoted(got)}, but {has} {quoted(expected)}{hint}")


def check_made(made: Any, like: Any, of: str) -> None:
    """Refuse what a rule of the user's made if its shape is wrong, which would broadcast, or if it is not of floats.

    Args:
        made: What the rule made.
        like: An array of the right shape.
        of: Whose rule it is, for the message.
    """
    check_floating(made, of)
    if made.shape != like.shape:
        raise ValueError(f"{of} has shape {made.shape}, expected {like.shape}")


def is_known(value: Any) -> bool:
    """Whether a value can be looked at, which those that `jit` and its like trace cannot."""
    return not isinstance(value, Tracer)


def check_batch_size(batch_size: int) -> None:
    """Refuse a batch of no examples."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")


def suggestion(name: object, known: Iterable[str]) -> str:
    """A half-sentence that proposes the nearest known name, or nothing."""
    near = get_close_matches(str(name), list(known), n=1, cutoff=0.5)  # as low as 'h2' for 'h1'
    return f" (did you mean {near[0]!r}?)" if near else ""


def quoted(names: Iterable[str]) -> str:
    """Names for a message."""
    return ", ".join(repr(name) for name in names) or "none"
