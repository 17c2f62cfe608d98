"""An array that was handed in beside the right one: where it is off, and whether a prediction gives its numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxbp._check._compare import Handed, K, Tolerance, half_units, magnitude
from jaxbp._check._report import Finding, Status
from jaxbp._check._trees import broadcast_axes


@dataclass(frozen=True, eq=False)
class Leaf:
    """One quantity that was handed in beside the right one, which has its proper shape."""

    name: str
    mine: np.ndarray
    right: np.ndarray
    off: np.ndarray  # which elements are off
    tolerance: Tolerance
    finding: Finding

    @classmethod
    def of(cls, name: K, right: np.ndarray, handed: Handed[K], tolerated: float | np.ndarray) -> "Leaf":
        """The leaf of a name, where rounding may explain so large an error of an element, or of each."""
        mine, expected, misshapen = handed.arrays[name], right, ""
        of_each, tolerated = tolerated, float(np.max(tolerated, initial=0))
        if axes := broadcast_axes(mine.shape, right.shape):
            expected = np.broadcast_to(right, mine.shape)
            misshapen = f"its shape {mine.shape}, not {right.shape}, is not yet summed over {axes_in_words(axes)}"
        elif mine.shape != right.shape:
            expected, misshapen = right.T, f"its shape {mine.shape} is that of the transpose"
        size = magnitude(expected)
        tolerance = Tolerance(handed.epsilon, tolerated, size, handed.resolution, handed.digits > 0)
        # half precision rounds as much in one step as others in a whole pass
        strict: Any = (64 if handed.epsilon < 1e-5 else 4) * max(handed.epsilon, 1e-13) * size
        allowed: Any = tolerance.allowed(expected, expected)
        if handed.digits and not misshapen:
            strict = half_units(expected, handed.digits) * (1 + 1e-6) + 1e-7 * size
            allowed = strict + of_each
        error = _errors(mine, expected, handed.largest, tolerated)
        off = (error > allowed) | bool(misshapen)
        count, worst = int(np.count_nonzero(off)), float(np.max(error, initial=0))
        if count or misshapen:
            status: Status = "wrong"
        elif np.all(error <= strict):
            status = "right"
        elif handed.digits:
            status = "precision"
        else:
            status = "precision" if worst <= max(tolerated, handed.resolution * (1 + 1e-9)) else "close"
        relative = worst / size if size else float(np.inf if worst else 0)
        at = tuple(map(int, np.unravel_index(int(np.argmax(error)), error.shape))) if error.size else ()
        there = (float(mine[at]), float(expected[at])) if error.size else (0.0, 0.0)
        broken = int(np.count_nonzero(~np.isfinite(mine)))
        of_elements = f"{broken} of its {mine.size} elements {'is' if broken == 1 else 'are'} NaN or infinite"
        remark = of_elements if broken else misshapen
        finding = Finding(str(name), status, at, *there, relative, count, max(1, mine.size), remark)
        return cls(str(name), mine, right, off, tolerance, finding)

    @property
    def wrong(self) -> bool:
        """Whether more than rounding is the matter with it."""
        return self.finding.status == "wrong"

    @property
    def has_its_shape(self) -> bool:
        """Whether it came in the shape of its parameter."""
        return self.mine.shape == self.right.shape

    @property
    def box(self) -> tuple[slice, ...]:
        """The smallest block that holds all elements that are off."""
        return tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in np.argwhere(self.off).T)

    @property
    def place(self) -> str:
        """Its name, with the block that is off as an index."""
        parts = [
            ":" if part.stop - part.start == length
            else str(part.start) if part.stop - part.start == 1
            else f"{part.start}:{part.stop}"
            for part, length in zip(self.box, self.mine.shape, strict=True)
        ]  # fmt: skip
        return self.name if all(part == ":" for part in parts) else f"{self.name}[{', '.join(parts)}]"


def axes_in_words(axes: Sequence[int]) -> str:
    """`axis 0`, `axes 0, 1`."""
    return f"{'axis' if len(axes) == 1 else 'axes'} {', '.join(map(str, axes))}"


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
