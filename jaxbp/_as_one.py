"""A function of arrays as one program where it is called by itself."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
T = TypeVar("T")


def as_one(function: Callable[P, T], *, static_argnums: int | None = None) -> Callable[P, T]:
    """The same function, compiled as a whole and not operation by operation; within a program it is its operations.

    What it gives is a function of its module, because what `jax.jit` gives cannot be pickled.
    """
    compiled = jax.jit(function, static_argnums=static_argnums, inline=True)

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        return compiled(*args, **kwargs)

    return called
