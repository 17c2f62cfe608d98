"""Two ways to one result: fast for ordinary numbers, careful with those that overflow, vanish or are not finite."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array

from jaxbp._checks import is_known

T = TypeVar("T")


def either(ordinary: Array, fast: Callable[[], T], careful: Callable[[], T]) -> T:
    """What `fast` makes if all numbers are ordinary, else what `careful` does, which is the same for such numbers."""
    holds = jnp.all(ordinary)
    shards = tuple(sorted(jax.typeof(holds).manual_axis_type.varying))
    if shards:  # which must go the same way, because they add up on it
        holds = lax.psum(jnp.where(holds, 0, 1), shards) == 0
    holds = _agreed(holds)
    if is_known(holds):
        return fast() if holds else careful()
    return lax.cond(holds, fast, careful)


@custom_vmap
def _agreed(holds: Array) -> Array:
    """Whether it holds for all that `vmap` maps over: if each could choose, both ways would be gone."""
    return holds


@_agreed.def_vmap
def _agreed_by_all(axis_size: int, in_batched: list[bool], holds: Array) -> tuple[Array, bool]:
    return _agreed(jnp.all(holds, axis=0)), False


def sum_of_squares(array: Array) -> Array:
    """Σ_j v_ij² of each example, `(N,)`."""
    return jnp.sum(array**2, axis=tuple(range(1, array.ndim)))


def squares_fit(array: Array) -> Array:
    """Whether squares of an example's elements, and products of two such sums, neither overflow nor vanish, `(N,)`."""
    squares, finfo = sum_of_squares(array), jnp.finfo(array.dtype)
    # what vanishes of so many squares is then less than rounding is
    least = (finfo.tiny * (array.size // max(array.shape[0], 1)) / finfo.eps) ** 0.5
    zero = jnp.max(jnp.abs(array), axis=tuple(range(1, array.ndim))) == 0
    return zero | ((squares >= least) & (squares <= 1 / least))


def largest(array: Array, batch_axes: int = 1) -> Array:
    """The largest of the absolute values of each example, `(*batch,)`."""
    return jnp.max(jnp.abs(array), axis=tuple(range(batch_axes, array.ndim)))


def divisor(positive: Array) -> Array:
    """A power of two like each number, but where one over it were infinite or subnormal, which machines take for 0."""
    finfo = jnp.finfo(positive.dtype)
    inside = jnp.clip(positive, 4 * finfo.tiny, 1 / (4 * finfo.tiny))
    return lax.reduce_precision(inside, exponent_bits=finfo.nexp, mantissa_bits=0)
