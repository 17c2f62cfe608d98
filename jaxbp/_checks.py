"""What several functions ask of their arguments, and the words in which they refuse."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import jax.numpy as jnp

_LONGEST_SHOWN = 120


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


def check_kind(value: Any, place: str, kind: type, example: str) -> None:
    """Refuse what is of another kind than a function can do anything with."""
    if not isinstance(value, kind):
        raise TypeError(f"{place} is {shown(value)}, expected {example}")


def check_batch_size(batch_size: int) -> None:
    """Refuse a batch of no examples."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")


def suggestion(name: object, known: Iterable[str]) -> str:
    """A half-sentence that proposes the nearest known name, or nothing."""
    near = get_close_matches(str(name), list(known), n=1, cutoff=0.5)  # as low as 'h2' for 'h1'
    return f" (did you mean {near[0]!r}?)" if near else ""


def shown(value: object) -> str:
    """What came, for a message: of what is long, huge or broken no more than a message can hold."""
    try:
        text = repr(value)
    except Exception:  # somebody else's __repr__, or an integer of too many digits
        return f"of type {type(value).__name__}"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 20]}…{text[-19:]}"


def quoted(names: Iterable[str]) -> str:
    """Names for a message."""
    return ", ".join(repr(name) for name in names) or "none"
