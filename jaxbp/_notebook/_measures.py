"""What there is to show of an array, found where it lies: only a few numbers and cells are copied from the device."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil, prod
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxbp._checks import is_known

K = TypeVar("K")

MOST_ROWS, MOST_COLUMNS = 24, 48


@dataclass(frozen=True)
class Measures:
    """An array at a glance.

    Attributes:
        shape: Its shape.
        rms: The root mean square.
        largest: The largest magnitude.
        zeros: The share of elements that are 0.
        not_finite: The share of elements that are NaN or infinite.
        cells: Of each block of elements the one of the largest magnitude; the last axis across, all others down.
        block: How many elements, down and across, a cell is of.
    """

    shape: tuple[int, ...]
    rms: float
    largest: float
    zeros: float
    not_finite: float
    cells: np.ndarray
    block: tuple[int, int]


def is_at_hand(tree: Any) -> bool:
    """Whether all of a tree are arrays of numbers that can be read: not so within `jit`, nor of other processes."""
    return all(map(_is_at_hand, jax.tree.leaves(tree, is_leaf=lambda leaf: leaf is None)))


def _is_at_hand(leaf: Any) -> bool:
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic) or not is_known(leaf):
        return False
    if isinstance(leaf, jax.Array) and (not leaf.is_fully_addressable or leaf.is_deleted()):
        return False
    return any(jnp.issubdtype(leaf.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_))


def measured(arrays: Mapping[K, Any], pictured: Iterable[K]) -> dict[K, Measures]:
    """The measures of arrays by name, with cells for those that are pictured."""
    wanted = set(pictured)
    on_device = {name: (_numbers(x), _cells(x) if name in wanted and x.size else ()) for name, x in arrays.items()}
    found: dict[K, Measures] = {}
    for name, (numbers, cells) in jax.device_get(on_device).items():
        shape = tuple(arrays[name].shape)
        rms, largest, zeros, not_finite = (float(each) for each in numbers)
        found[name] = Measures(shape, rms, largest, zeros, not_finite, np.asarray(cells), _blocks(shape))
    return found


def in_order(names: Iterable[str]) -> list[str]:
    """Names as they come, but h2 before h10 where a dict that went through JAX has them by the alphabet."""
    known = list(names)
    if known != sorted(known):
        return known
    return sorted(known, key=lambda name: [(p.isdigit(), int(p) if p.isdigit() else 0, p) for p in _pieces(name)])


def _pieces(name: str) -> list[str]:
    return re.findall(r"[0-9]+|[^0-9]+", name)


@jax.jit
def _numbers(x: Array) -> Array:
    """RMS, largest magnitude, and the shares of zeros and of what is not finite."""
    magnitude = jnp.abs(jnp.asarray(x).astype(jnp.float32))
    if not magnitude.size:
        return jnp.zeros(4, jnp.float32)
    largest = jnp.max(magnitude)
    scale = jnp.where(largest > 0, largest, 1)  # squares of what is very small or large leave the range
    rms = scale * jnp.sqrt(jnp.mean((magnitude / scale) ** 2))
    return jnp.stack([rms, largest, jnp.mean(magnitude == 0), jnp.mean(~jnp.isfinite(magnitude))])


@jax.jit
def _cells(x: Array) -> Array:
    rows, columns = _flat(x.shape)
    down, across = _blocks(x.shape)
    whole = jnp.asarray(x).astype(jnp.float32).reshape(rows, columns)
    padded = jnp.pad(whole, ((0, -rows % down), (0, -columns % across)))
    apart = padded.reshape(padded.shape[0] // down, down, padded.shape[1] // across, across)
    highest, lowest = jnp.max(apart, axis=(1, 3)), jnp.min(apart, axis=(1, 3))
    return jnp.where(highest >= -lowest, highest, lowest)


def _flat(shape: tuple[int, ...]) -> tuple[int, int]:
    return prod(shape[:-1]), shape[-1] if shape else 1


def _blocks(shape: tuple[int, ...]) -> tuple[int, int]:
    rows, columns = _flat(shape)
    return max(ceil(rows / MOST_ROWS), 1), max(ceil(columns / MOST_COLUMNS), 1)
