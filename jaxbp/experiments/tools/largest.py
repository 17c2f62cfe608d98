"""The largest size that fits a device, from few compilations: each of them takes seconds to minutes."""

from collections.abc import Callable
from typing import NamedTuple

COMPILATIONS = 8
WITHIN = 0.03  # of what is found


class Largest(NamedTuple):
    """What was found.

    Attributes:
        fits: The largest size that was seen to fit; 0 if none was.
        too_large: The smallest that was seen not to; None if none was.
        needs: Bytes by size; None for one that the compiler refused.
    """

    fits: int
    too_large: int | None
    needs: dict[int, int | None]

    @property
    def known(self) -> bool:
        """Whether nothing that is larger by more than a few per cent fits."""
        return self.too_large is not None and self.too_large - self.fits <= max(1, int(WITHIN * self.fits))


def largest(needs: Callable[[int], int | None], memory: int, start: int, most: int = 2**22) -> Largest:
    """The largest size whose need is within a memory.

    Memory grows along a line, nearly: two sizes say where to look, and the next ones are beside it. Where the compiler
    bends that line by computing things again when memory is short, what is left is halved.

    Args:
        needs: The bytes of a size; None where the compiler refuses it.
        memory: The bytes that there are.
        start: The size to begin with.
        most: Larger ones are not looked at.

    Example:
        >>> largest(lambda size: 100 + 7 * size, memory=1000, start=2)[:2]
        (128, 131)
    """
    seen: dict[int, int | None] = {}
    low, high, size = 0, None, start
    while len(seen) < COMPILATIONS and size not in seen:
        of = seen[size] = needs(size)
        if of is not None and of <= memory:
            low = max(low, size)
        else:
            high = size if high is None else min(high, size)
        if Largest(low, high, seen).known or low >= most:
            break
        size = _next(low, high, seen, memory, most)
    return Largest(low, high, seen)


def _next(low: int, high: int | None, seen: dict[int, int | None], memory: int, most: int) -> int:
    little = max(1, int(WITHIN * low))
    known = [(size, of) for size, of in seen.items() if of is not None]
    on_line = sorted(sorted(known, key=lambda pair: abs(pair[1] - memory))[:2])
    if len(on_line) < 2 or len(seen) > COMPILATIONS // 2:
        guess = (low + high) // 2 if high is not None else 2 * low
    else:
        (size, of), (other, of_other) = on_line
        slope = (of_other - of) / (other - size)
        guess = int(size + (memory - of) / slope) if slope > 0 else 2 * low
    if high is None:
        return min(max(guess, low + little), 1024 * low, most)
    return guess if low < guess < high else low + little if guess <= low else max(high - little, low + 1)
