"""What can be said of wrong numbers without a name for the mistake."""

from collections.abc import Iterator, Sequence

import numpy as np

from jaxbp._check._facts import Facts
from jaxbp._check._leaves import Leaf
from jaxbp._names import Name

_MOST = 2


def remarks(wrong: Sequence[Leaf], facts: Facts | None = None) -> tuple[str, ...]:
    """Sentences about the first quantities that are wrong."""
    return tuple(f"{leaf.name}: {'; '.join(said)}" for leaf in wrong[:_MOST] if (said := list(_of(leaf, facts))))


def _of(leaf: Leaf, facts: Facts | None) -> Iterator[str]:
    mine, right = leaf.mine, leaf.right
    if mine.shape != right.shape or not np.all(np.isfinite(mine)) or mine.size < 2:
        return
    off = leaf.off
    if off.all():
        yield from _ratio(leaf)
    else:
        yield from _where(off)
        if np.all(right[off] == 0):
            yield "it is off only where the right one is 0"
    if facts is not None:
        yield from _where_off(leaf, facts)


def _ratio(leaf: Leaf) -> Iterator[str]:
    mine, right = leaf.mine, leaf.right
    norms = float(np.linalg.norm(mine)), float(np.linalg.norm(right))
    if not all(norms):
        return
    cosine = float(np.vdot(mine, right)) / (norms[0] * norms[1])
    for axis, what in enumerate(("row", "column")) if mine.ndim == 2 else ():
        along = 1 - axis
        c = np.sum(mine * right, axis=along, keepdims=True) / np.maximum(
            np.sum(right**2, axis=along, keepdims=True), 1e-300
        )
        if right.shape[along] > 1 and right.shape[axis] > 1 and leaf.tolerance.gives(mine, c * right):
            shown = ", ".join(f"{x:.3g}" for x in c.ravel()[:4])
            yield f"each {what} is a multiple of the right one: {shown}{', …' if c.size > 4 else ''} times"
            return
    if leaf.tolerance.gives(np.abs(mine), np.abs(right)):
        yield f"right but for the sign of {int(np.sum(np.sign(mine) != np.sign(right)))} elements"
    elif leaf.tolerance.gives(np.sort(mine, axis=None), np.sort(right, axis=None)):
        yield "the right numbers, in other places"
    else:
        points = "the same way" if cosine > 0.999 else "the opposite way" if cosine < -0.999 else "another way"
        size = norms[0] / norms[1]
        yield f"every element is off; it points {points} (cosine {cosine:.3f}) and has {size:.3g} times the size"


def _where(off: np.ndarray) -> Iterator[str]:
    if off.ndim == 2:
        for axis, what in enumerate(("row", "column")):
            at = np.flatnonzero(off.any(axis=1 - axis))
            if len(at) < off.shape[axis]:
                shown = ", ".join(map(str, at[:6])) + (", …" if len(at) > 6 else "")
                yield f"only {what}{'s' if len(at) > 1 else ''} {shown} of {off.shape[axis]}"
                return
    count = int(off.sum())
    yield f"{count} of {off.size} elements are off, the rest is right"


def _where_off(leaf: Leaf, facts: Facts) -> Iterator[str]:
    """Whether the difference is zero where a unit is off."""
    kind, *path = leaf.name.split(".")
    unit = ".".join(path) if kind in ("Delta", "delta") else None
    if unit is None or unit not in facts.slopes:
        return
    slopes = facts.slopes[unit].reshape(leaf.off.shape)
    if np.any(slopes == 0) and leaf.off.any() and not leaf.off[slopes == 0].any():
        yield f"it is right where {Name('a', (unit,))} is on the flat side of the activation"
