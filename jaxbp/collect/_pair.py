"""One place where a weight is used, and its pair (h_s, δ_u) made smaller or weighed, example by example."""

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from jaxbp.collect._range import divisor, largest, sum_of_squares
from jaxbp.connections import Connection


class Pair(NamedTuple):
    """One place where a weight is used, and what h_sᵀ δ_u is made of there.

    Attributes:
        connection: The kind of connection.
        source: The name of the input or unit s that is read, `"bias"` for the one that is always +1.
        unit: The name of the unit u that reads it.
        h: The post-activation h_s of the source, `(*batch, *shape)`; behind a bias ones, `(*batch, *rows, 1)`. In
            stacks the layers are axes before the batch.
        delta: The error signal δ_u = ∂L/∂a_u, `(*batch, *shape)`, with the same layers.
        layers: For each axis of layers, whether each layer has a weight of its own.
    """

    connection: Connection
    source: str
    unit: str
    h: Array
    delta: Array
    layers: tuple[bool, ...] = ()


def norms_over_largest(W: Array, pairs: Sequence[Pair]) -> tuple[Array, Array, Array]:
    """`LayerWeight._scaled` by dividing h and δ of each example by their largest elements."""
    sources = [over_its_largest(p.h) for p in pairs]
    signals = [over_its_largest(p.delta) for p in pairs]
    products = [s * t for (_, s), (_, t) in zip(sources, signals, strict=True)]
    most = reduce(jnp.maximum, products)
    scaled = [p._replace(h=h, delta=d) for p, (h, _), (d, _) in zip(pairs, sources, signals, strict=True)]
    if len(pairs) == 1:
        (pair,) = scaled
        return most, pair.connection.squared_norms(W, pair.h, pair.delta), terms_of(pair)
    # a shared weight: terms of each use count by how much was taken out of them
    shares = [product / divisor(most) for product in products]
    each = [p.connection.contract_each(W, p.h, p.delta) for p in scaled]
    total = reduce(add, (g * per_example(share, g) for g, share in zip(each, shares, strict=True)))
    terms = reduce(add, (share**2 * terms_of(p) for p, share in zip(scaled, shares, strict=True)))
    return most, sum_of_squares(total), terms


def times(factors: Array, pair: Pair) -> Pair:
    """The pair with each example's δ times a factor."""
    # float16 has no room for small factors
    dtype = jnp.promote_types(pair.delta.dtype, jnp.bfloat16)
    return pair._replace(delta=(pair.delta * per_example(factors, pair.delta)).astype(dtype))


def times_largest(factors: Array, pair: Pair) -> Pair:
    """The same of numbers of any size, which takes from h what it is large by; where f is 0 not even a NaN is left."""
    counted = factors != 0
    h, power = over_its_largest(pair.h, factors.ndim)
    h = jnp.where(per_example(counted, h), h, 0)
    pair = times(factors * power.astype(factors.dtype), pair._replace(h=h))
    return pair._replace(delta=jnp.where(per_example(counted, pair.delta), pair.delta, 0))


def per_example(numbers: Array, like: Array) -> Array:
    """A number for each example, `(*batch,)`, with the axes that multiply an array of examples."""
    return jnp.expand_dims(numbers, tuple(range(numbers.ndim, like.ndim)))


def over_its_largest(array: Array, batch_axes: int = 1) -> tuple[Array, Array]:
    """The elements of each example over a power of two like the largest of them, and that power, `(*batch,)`."""
    if jnp.issubdtype(array.dtype, jnp.integer):  # ids have no size
        return array, jnp.ones(array.shape[:batch_axes], jnp.float32)
    power = divisor(largest(array, batch_axes))
    return array / per_example(power, array), power


def terms_of(pair: Pair) -> Array:
    """‖h_i‖² ‖δ_i‖², `(N,)`: what ‖g_i‖² is at most, and the measure of what rounding makes of it."""
    # an id stands for a vector of one 1
    h = jnp.ones_like(pair.h, pair.delta.dtype) if pair.connection.reads_ids else pair.h
    return sum_of_squares(h) * sum_of_squares(pair.delta)


def over_examples(numbers: Array, delta: Array) -> Array:
    """A number for each example, `(*batch,)`, shaped and typed to multiply δ."""
    return per_example(numbers, delta).astype(delta.dtype)
