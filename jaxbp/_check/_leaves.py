"""A leaf that was handed in beside the right one: where it is off, and whether a prediction would give its numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, log10

import numpy as np

from jaxbp._check._compare import Handed, comparison, is_close, magnitude
from jaxbp._check._report import Finding
from jaxbp._check._trees import broadcast_axes


@dataclass(frozen=True, eq=False)
class Leaf:
    """One array that was handed in beside the right one.

    Attributes:
        name: Its path.
        mine: What was handed in.
        right: What it is, in the shape of the parameter.
        off: Which elements are off.
        error: The error up to which a right program may go.
        epsilon: The relative size of one rounding.
        finding: The comparison in words.
    """

    name: str
    mine: np.ndarray
    right: np.ndarray
    off: np.ndarray
    error: float
    epsilon: float
    finding: Finding

    @classmethod
    def of(cls, name: str, right: np.ndarray, handed: Handed[str], tolerated: float) -> "Leaf":
        """The leaf of a name, where rounding may explain so large an error."""
        mine, expected, misshapen = handed.arrays[name], right, ""
        if axes := broadcast_axes(mine.shape, right.shape):
            expected = np.broadcast_to(right, mine.shape)
            misshapen = f"its shape {mine.shape}, not {right.shape}, is not yet summed over {axes_in_words(axes)}"
        elif mine.shape != right.shape:
            expected, misshapen = right.T, f"its shape {mine.shape} is that of the transpose"
        finding, off = comparison(name, expected, handed, tolerated, misshapen)
        return cls(name, mine, right, off, tolerated, handed.epsilon, finding)

    @property
    def wrong(self) -> bool:
        """Whether more than rounding is the matter with it."""
        return self.finding.status == "wrong"

    @property
    def has_its_shape(self) -> bool:
        """Whether it came in the shape of its parameter."""
        return self.mine.shape == self.right.shape

    @property
    def size(self) -> float:
        """The largest right element."""
        return magnitude(self.right)

    @property
    def relative(self) -> float:
        """The error of a prediction, relative to its largest element, that the format allows at least."""
        return min(max(1e-8, 100 * self.epsilon), 0.03)

    @property
    def box(self) -> tuple[slice, ...]:
        """The smallest block that holds all elements that are off."""
        return tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in np.argwhere(self.off).T)

    @property
    def place(self) -> str:
        """Its name with the block that is off as an index."""
        parts = [
            ":" if part.stop - part.start == length
            else str(part.start) if part.stop - part.start == 1
            else f"{part.start}:{part.stop}"
            for part, length in zip(self.box, self.mine.shape, strict=True)
        ]  # fmt: skip
        return self.name if all(part == ":" for part in parts) else f"{self.name}[{', '.join(parts)}]"

    def printed(self, resolution: float) -> "Leaf":
        """The leaf as one that was printed with a few decimals."""
        return replace(self, error=self.error + resolution)

    def is_(self, predicted: np.ndarray) -> bool:
        """Whether a prediction gives what was handed in."""
        return is_close(self.mine, predicted, self.right, self.relative, self.error)

    def digits(self, predicted: np.ndarray) -> float:
        """How improbable it is, as a power of ten, that one number agrees so well with a prediction by chance."""
        size = max(magnitude(self.mine), magnitude(predicted))
        return -log10(max(magnitude(self.mine - predicted) / size, self.epsilon / 2, 1e-12)) if size else 0.0

    def evidence(self, predicted: np.ndarray) -> float:
        """The same of all elements that are off; −∞ where they do not agree."""
        return self.finding.off * self.digits(predicted) if self.is_(predicted) else -inf


def axes_in_words(axes: Sequence[int]) -> str:
    """`axis 0`, `axes 0, 1`."""
    return f"{'axis' if len(axes) == 1 else 'axes'} {', '.join(map(str, axes))}"
