"""What was handed in as numbers, and when one array of numbers gives another."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log10
from typing import Any, Generic, TypeVar

import jax.numpy as jnp
import numpy as np

K = TypeVar("K", bound=Hashable)

_MORE = 100.0
_CLOSE = 1e-6  # as finite differences, an ε in a logarithm or printed digits give


@dataclass(frozen=True, eq=False)
class Handed(Generic[K]):
    """Quantities or leaves by name, as float64 arrays in the shape in which they came."""

    arrays: dict[K, np.ndarray]
    epsilon: float  # the rounding of the coarsest number format that took part
    largest: float  # the largest number that all the formats have
    resolution: float  # half a unit of the last decimal, where all numbers are rounded decimals; else 0
    digits: int = 0  # to how many significant ones each number was rounded by hand; 0 where a format rounds

    @classmethod
    def of(cls, read: Mapping[K, np.ndarray], inputs: Iterable[Any], digits: int = 0) -> "Handed[K]":
        """The arrays that were read, where inputs of these dtypes took part too."""
        dtypes = [*inputs, *(array.dtype for array in read.values())]
        formats = [jnp.finfo(dtype) for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)]
        epsilon, largest = max(float(f.eps) for f in formats), min(float(f.max) for f in formats)
        arrays = {name: array.astype(np.float64) for name, array in read.items()}
        if digits:
            return cls(arrays, max(epsilon, relative_half_unit(digits)), largest, 0.0, digits)
        return cls(arrays, epsilon, largest, _resolution(list(arrays.values())))


def relative_half_unit(digits: int) -> float:
    """Half a unit of the last of so many significant digits, at most, relative to a number."""
    return 0.5 * 10.0 ** (1 - digits)


def half_units(numbers: np.ndarray, digits: int) -> np.ndarray:
    """Half a unit of the last of so many significant digits of each number; 0 of 0, which is written as it is."""
    size = np.abs(numbers)
    with np.errstate(divide="ignore"):
        return np.where(size > 0, 0.5 * 10.0 ** (np.floor(np.log10(size)) + 1 - digits), 0.0)


def relative_error(epsilon: float) -> float:
    """The error, relative to the largest element, up to which numbers in a format with this rounding are right."""
    return min(max(_CLOSE, 100 * epsilon), 0.03)


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


@dataclass(frozen=True)
class Tolerance:
    """When one array gives another: the verdict on what was handed in and every explanation of it ask the same.

    Of what was rounded by hand the verdict asks more: there each element has an error of its own.

    Attributes:
        epsilon: The rounding of the number format.
        rounding: What rounding explains of an element of the right array.
        size: The largest element of the right array.
        printed: Half a unit of the last decimal, where numbers were printed.
        by_hand: Whether somebody rounded the numbers, and knew what each of them is.
    """

    epsilon: float
    rounding: float
    size: float
    printed: float = 0.0
    by_hand: bool = False

    def allowed(self, mine: np.ndarray, expected: np.ndarray) -> float:
        """The largest error of any element.

        What rounding explains of the right array grows with what is rounded, and a mistake may make that larger, but
        never to more than half of it.
        """
        size = max(magnitude(mine), magnitude(expected))
        if self.size <= self.rounding:  # the right one is nothing but rounding, and a mistake may make more of it
            more = _MORE if self.epsilon < 1e-10 else 1.0
            return max(more * self.rounding, self.printed, self._relative * size)
        grown = min(self.rounding / self.size, 0.5) * size
        return max(self._relative * size, self.printed * (1 + 1e-9), self.rounding, grown)

    @property
    def _relative(self) -> float:
        return self.epsilon if self.by_hand else relative_error(self.epsilon)

    def gives(self, mine: np.ndarray, expected: np.ndarray) -> bool:
        """Whether one array is another, as far as can be told."""
        if mine.shape != expected.shape:
            return False
        allowed = self.allowed(mine, expected)
        if not np.isfinite(allowed) or (mine.size and not abs(mine.flat[0] - expected.flat[0]) <= allowed):
            return False
        return bool(np.all(np.abs(mine - expected) <= allowed))

    def digits(self, mine: np.ndarray, expected: np.ndarray) -> float:
        """The power of ten of how improbable it is that one number agrees so well by chance."""
        size = max(magnitude(mine), magnitude(expected), self.size)
        error = magnitude(mine - expected) / size if size else 0.0
        return -log10(min(1.0, max(error, self.epsilon / 2, 1e-12)))


def magnitude(array: np.ndarray) -> float:
    """The largest absolute value of the finite elements."""
    return float(np.max(np.abs(array), initial=0, where=np.isfinite(array)))
