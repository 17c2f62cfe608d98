"""The comparison of one array with the right one: what is a number, how far it is off, and what that is called."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import jax.numpy as jnp
import numpy as np

from jaxbp._check._report import Finding

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, eq=False)
class Handed(Generic[K]):
    """Quantities or leaves by name, as float64 arrays in the shape in which they came.

    Attributes:
        arrays: The quantities.
        epsilon: The rounding of the coarsest number format that took part.
        largest: The largest number that all the formats have.
        resolution: Half a unit of the last decimal, where all numbers are rounded decimals; else 0.
    """

    arrays: dict[K, np.ndarray]
    epsilon: float
    largest: float
    resolution: float

    @classmethod
    def of(cls, read: Mapping[K, np.ndarray], inputs: Iterable[Any]) -> "Handed[K]":
        """What was read, where inputs of these dtypes took part too."""
        dtypes = [*inputs, *(array.dtype for array in read.values())]
        formats = [jnp.finfo(dtype) for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)]
        epsilon, largest = max(float(f.eps) for f in formats), min(float(f.max) for f in formats)
        arrays = {name: array.astype(np.float64) for name, array in read.items()}
        return cls(arrays, epsilon, largest, _resolution(list(arrays.values())))


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


def comparison(
    name: K, expected: np.ndarray, handed: Handed[K], tolerated: float, misshapen: str = ""
) -> tuple[Finding, np.ndarray]:
    """One quantity beside the right one, where rounding may explain so large an error of an element.

    Args:
        name: The quantity.
        expected: What it is, in the shape in which it came.
        handed: What was handed in.
        tolerated: The error that rounding explains.
        misshapen: What is the matter with the shape in which it came, where that is not its own: all of it is off.

    Returns:
        The comparison in words, and which elements are off.
    """
    mine, size = handed.arrays[name], magnitude(expected)
    broken = int(np.count_nonzero(~np.isfinite(mine)))
    of_elements = f"{broken} of its {mine.size} elements {'is' if broken == 1 else 'are'} NaN or infinite"
    # half precision rounds as much in one step as others in a whole pass
    strict = (64 if handed.epsilon < 1e-5 else 4) * max(handed.epsilon, 1e-13) * size
    allowed = max(strict, tolerated, handed.resolution * (1 + 1e-9))
    error = _errors(mine, expected, handed.largest, tolerated)
    off = (error > allowed) | bool(misshapen)
    count, worst = int(np.count_nonzero(off)), float(np.max(error, initial=0))
    status = "wrong" if count or misshapen else "precision" if worst > strict else "right"
    relative = worst / size if size else float(np.inf if worst else 0)
    at = tuple(map(int, np.unravel_index(int(np.argmax(error)), error.shape))) if error.size else ()
    there = (float(mine[at]), float(expected[at])) if error.size else (0.0, 0.0)
    remark = of_elements if broken else misshapen
    return Finding(str(name), status, at, *there, relative, count, max(1, mine.size), remark), off


def is_close(
    mine: np.ndarray, predicted: np.ndarray, right: np.ndarray, relative: float, rounding: float, printed: float = 0.0
) -> bool:
    """Whether a prediction gives what was handed in.

    Args:
        mine: What was handed in.
        predicted: What a mistake would make of it.
        right: What it should be.
        relative: The error that is allowed, relative to the largest element.
        rounding: The error of the right one that rounding explains; it grows with what is rounded, and a mistake may
            make that larger, but never to more than half of it.
        printed: The error of every number that was printed with a few decimals.
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


def _errors(mine: np.ndarray, expected: np.ndarray, largest: float, tolerated: float) -> np.ndarray:
    """The absolute error of each element; infinite for a NaN, and for infinity where the format could do better."""
    with np.errstate(all="ignore"):
        error = np.abs(mine - expected)
        same = (mine == expected) | (np.isnan(mine) & np.isnan(expected))
        overflow = np.isinf(mine) & (mine * expected > 0) & (8 * np.abs(expected) > largest)
        # 1 / (1 − o) where o is rounded to 1: no digit of it is known to the format
        saturated = np.isinf(mine) & (mine * expected > 0) & (np.abs(expected) <= tolerated)
    error = np.where(np.isfinite(error), error, np.inf)
    return np.where(same, 0, np.where(overflow | saturated, tolerated, error))
