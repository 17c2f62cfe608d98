"""What was handed in as numbers, and when one array of numbers gives another."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import jax.numpy as jnp
import numpy as np

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, eq=False)
class Handed(Generic[K]):
    """Quantities or leaves by name, as float64 arrays in the shape in which they came."""

    arrays: dict[K, np.ndarray]
    epsilon: float  # the rounding of the coarsest number format that took part
    largest: float  # the largest number that all the formats have
    resolution: float  # half a unit of the last decimal, where all numbers are rounded decimals; else 0

    @classmethod
    def of(cls, read: Mapping[K, np.ndarray], inputs: Iterable[Any]) -> "Handed[K]":
        """The arrays that were read, where inputs of these dtypes took part too."""
        dtypes = [*inputs, *(array.dtype for array in read.values())]
        formats = [jnp.finfo(dtype) for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)]
        epsilon, largest = max(float(f.eps) for f in formats), min(float(f.max) for f in formats)
        arrays = {name: array.astype(np.float64) for name, array in read.items()}
        return cls(arrays, epsilon, largest, _resolution(list(arrays.values())))


def relative_error(epsilon: float) -> float:
    """The error of a prediction, relative to its largest element, that a format with this rounding allows."""
    return min(max(1e-8, 100 * epsilon), 0.03)


def value_and_gradients(results: Sequence[Any]) -> Sequence[Any]:
    """What a function returned as a tuple, which must be of two."""
    if len(results) != 2:
        raise ValueError(f"the function returned {len(results)} results; return the gradients, or (value, gradients)")
    return results


def disagreement(
    name: str, right: np.ndarray, value: Any, along: Callable[[np.ndarray], float], why: str
) -> Iterator[str]:
    """What central differences along a random direction say of a gradient, where that is not what jax.grad says."""
    direction = np.random.default_rng(0).normal(size=right.shape)
    direction /= np.linalg.norm(direction)
    theirs, ours = along(direction), float(np.vdot(right, direction))
    if np.isfinite(theirs) and not abs(theirs - ours) <= 1e-5 * max(np.linalg.norm(right), abs(value)):
        yield (
            f"the two references disagree at {name}: along a random direction jax.grad has {ours:.6g}, central "
            f"differences {theirs:.6g}; {why}"
        )


def as_numbers(name: object, value: Any) -> np.ndarray:
    """An array of real numbers, in the dtype in which it came."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} cannot be read as an array: {error}") from None
    if not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):
        what = f"an array of {array.dtype}" if array.dtype != object else f"{value!r:.80}"
        raise TypeError(f"{name} is {what}, expected an array of real numbers, all rows of one length")
    return array


def _resolution(arrays: Sequence[np.ndarray]) -> float:
    """Numbers that somebody printed with a few decimals are right as far as these go; whole numbers are exact."""
    numbers = np.concatenate([array.ravel() for array in arrays])
    numbers = numbers[np.isfinite(numbers) & (numbers != 0)]
    if np.all(numbers == np.round(numbers)):
        return 0.0
    with np.errstate(over="ignore"):  # of numbers at the end of the format, which have no decimals
        for decimals in range(1, 11):
            if np.all(np.abs(np.round(numbers, decimals) - numbers) <= 1e-15 * np.abs(numbers)):
                return 0.5 * 10.0**-decimals
    return 0.0


def is_close(
    mine: np.ndarray, predicted: np.ndarray, right: np.ndarray, relative: float, rounding: float, printed: float = 0.0
) -> bool:
    """Whether a prediction gives what was handed in.

    It may be off by so much relative to its largest element, by what rounding explains, and by what was printed with a
    few decimals. What rounding explains of the right array grows with what is rounded, and a mistake may make that
    larger, but never to more than half of it.
    """
    if mine.shape != predicted.shape:
        return False
    size, true_size = float(np.max(np.abs([mine, predicted]), initial=0)), magnitude(right)
    grown = min(rounding / true_size, 0.5) * size if true_size else 0.0
    allowed = relative * size + printed + max(rounding, grown)
    return bool(np.isfinite(allowed) and np.all(np.abs(mine - predicted) <= allowed))


def magnitude(array: np.ndarray) -> float:
    """The largest absolute value of the finite elements."""
    return float(np.max(np.abs(array), initial=0, where=np.isfinite(array)))
