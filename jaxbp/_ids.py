"""Inputs that are integers: which row of a table, not how much of something."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from jaxbp._checks import check_array, check_integer, described, is_integer
from jaxbp.connections import Shape


@dataclass(frozen=True)
class Ids:
    """An input of integers from 0 to size − 1, made by `ids`; only an `Embedding` reads it."""

    shape: Shape
    size: int


def ids(shape: int | Shape, size: int) -> Ids:
    """An input of integers from 0 to size − 1, such as tokens; read it by `Embedding(size)`.

    Args:
        shape: The shape of the ids of one example: a number of places, or a tuple; `()` for a single id.
        size: How many there are to choose from.

    Raises:
        ValueError: A shape of other things than positive integers, or a size below 1.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.Network(
        ...     inputs={"tokens": jaxbp.ids(4, 100)},
        ...     units={
        ...         "e": jaxbp.Unit((4, 8), jaxbp.linear, {"tokens": jaxbp.Embedding(100)}, bias=False),
        ...         "o": jaxbp.Unit((4, 100), jaxbp.softmax, {"e": jaxbp.Dense()}),
        ...     },
        ... )
        >>> tokens, y = jnp.array([[5, 0, 99, 5]]), jnp.array([[0, 99, 5, 1]])
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> back = jax.jit(jaxbp.backprop, static_argnums=(0, 1))(net, jaxbp.cross_entropy, params, tokens, y)
        >>> bool(jnp.allclose(back.grads["e"]["tokens"][5], back.delta["e"][0, 0] + back.delta["e"][0, 3]))
        True
    """
    sizes = shape if isinstance(shape, tuple) else (shape,)
    if not all(is_integer(n) and n > 0 for n in sizes):
        raise ValueError(f"shape must be a positive integer, or a tuple of them, got {described(shape)}")
    check_integer(size, "size", 1)
    return Ids(sizes, size)


def check_ids(value: Any, place: str, size: int) -> None:
    """Refuse what is no array of integers."""
    check_array(value, place)
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise TypeError(f"{place} has dtype {value.dtype}, but it holds ids, which are integers from 0 to {size - 1}")
