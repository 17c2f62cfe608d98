"""What weights start from: functions of one's own, or names of JAX's."""

import inspect
from typing import Any

import jax

from jaxbp._checks import described, quoted, suggestion


def check_initializer(value: Any, place: str = "initializer") -> None:
    """Refuse what draws no weights: neither a function, nor the name of one of JAX's that needs no arguments."""
    if callable(value):
        return
    if not isinstance(value, str):
        raise TypeError(
            f"{place} must be a function (key, shape, dtype) -> array, or a name in jax.nn.initializers such as "
            f"'he_normal', got {described(value)}"
        )
    known = [name for name in dir(jax.nn.initializers) if not name.startswith("_") and _needs_nothing(name)]
    if value not in known:
        which = f"{value!r} that needs no arguments" if hasattr(jax.nn.initializers, value) else repr(value)
        raise ValueError(
            f"{place}: jax.nn.initializers has no {which}{suggestion(value, known)}; known: {quoted(known)}"
        )


def initializer_of(value: Any) -> Any:
    """The function `(key, shape, dtype) -> array` that a name stands for, or that was given."""
    check_initializer(value)
    if callable(value):
        return value
    found = getattr(jax.nn.initializers, value)
    return found if value in _DRAW else found()


_DRAW = ("zeros", "ones")  # all others are factories


def _needs_nothing(name: str) -> bool:
    if name in _DRAW:
        return True
    factory = getattr(jax.nn.initializers, name)
    try:
        inspect.signature(factory).bind()
    except TypeError:
        return False
    return not isinstance(factory, type)
