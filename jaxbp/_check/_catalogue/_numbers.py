"""Mistakes that can be made with a gradient after it is right: they need no graph, and every tree has them."""

from collections.abc import Iterator
from math import lgamma, log, log10

import numpy as np

from jaxbp._check._entry import Case, Entry
from jaxbp._check._gradient import Gradient
from jaxbp._check._trees import broadcast_axes

_LONGEST, _FEW, _SHOWN = 4096, 64, 6


def _missing(gradient: Gradient) -> Iterator[Case]:
    yield Case("{} is forgotten: it is 0 throughout", lambda gradient: np.zeros_like(gradient.right), "", gradient.unit)


def _transposed(gradient: Gradient) -> Iterator[Case]:
    shape = gradient.W.shape
    if gradient.W.ndim == 2:
        text = "{} is transposed" if shape[0] == shape[1] else "{} is handed in as its transpose"
        yield Case(text, lambda gradient: gradient.right.T, "", gradient.unit)
    for one, other in ((0, 1), (-2, -1)) if gradient.W.ndim > 2 else ():
        if shape[one] == shape[other] > 1:
            text = f"the axes {one % len(shape)} and {other % len(shape)} of {{}} are exchanged"
            yield Case(
                text, lambda gradient, axes=(one, other): np.swapaxes(gradient.right, *axes), f"{one}", gradient.unit
            )  # fmt: skip


def _swapped(gradient: Gradient) -> Iterator[Case]:
    for other in gradient.alike:
        pair = " and ".join(sorted((str(gradient.name), str(other))))
        text = f"the gradients {pair} are exchanged"
        yield Case(text, lambda gradient, other=other: gradient.other(other), pair, exchanged=other)


def _decay(gradient: Gradient) -> Iterator[Case]:
    def text(c: float) -> str:
        return f"{{}} has {c:.6g} W in it, as of a weight decay that the loss has not".replace("-", "−")

    yield Case(text, lambda c, gradient: gradient.right + c * gradient.weight(), "", gradient.unit, free=True)


def _update(gradient: Gradient) -> Iterator[Case]:
    def text(eta: float) -> str:
        return f"{{}} is no gradient, but the weights after a step: W − {eta:.6g} ∂L/∂W"

    yield Case(
        text, lambda eta, gradient: gradient.weight() - eta * gradient.right, "", gradient.unit, free=True,
        allowed=lambda eta: 1e-8 < abs(eta) < 1e4,
    )  # fmt: skip


def _clipped(gradient: Gradient) -> Iterator[Case]:
    yield Case(
        lambda c: f"each element of {{}} is clipped at ±{c:.6g}", lambda c, gradient: np.clip(gradient.right, -c, c),
        "", gradient.unit, free=True, solve=_largest, allowed=lambda c: c > 0,
    )  # fmt: skip


def _largest(gradient: Gradient) -> float:
    return 0.0 if gradient.mine is None else float(np.max(np.abs(gradient.mine), initial=0))


def _reordered(gradient: Gradient) -> Iterator[Case]:
    """Rows, columns or slices along another axis that stand in another order."""
    mine, right = gradient.mine, gradient.right
    if mine is None or gradient.rows is not None or mine.shape != right.shape:
        return
    for axis in range(right.ndim):
        order = _order(mine, right, axis)
        moved = [f"{j} in the place of {i}" for i, j in enumerate(order) if i != j]
        if moved:
            shown = ", ".join(moved[:_SHOWN]) + (", …" if len(moved) > _SHOWN else "")
            what = {1: "elements", 2: ("rows", "columns")[axis % 2]}.get(right.ndim, f"slices along axis {axis}")
            text = f"the {what} of {{}} stand in another order: {shown}"
            yield Case(
                text, lambda gradient, o=order, axis=axis: np.take(gradient.right, o, axis), f"{axis}: {moved}",
                gradient.unit, choices=lgamma(len(order) + 1) / log(10),
            )  # fmt: skip


def _order(mine: np.ndarray, right: np.ndarray, axis: int) -> list[int]:
    """Which right slice stands in the place of each; nothing where they are not the same slices."""
    n = right.shape[axis]
    if not 2 <= n <= _LONGEST:
        return []
    rows, others = (np.moveaxis(array, axis, 0).reshape(n, -1) for array in (mine, right))
    order = _nearest(rows, others) if n <= _FEW else _sorted(rows, others)
    return order.tolist() if len(set(order.tolist())) == n else []


def _nearest(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The nearest of the right slices, each once."""
    distances = np.max(np.abs(rows[:, None] - others[None]), axis=2)
    # equal slices, such as those of units that are off, need not have moved
    stayed = np.diag(distances) <= np.min(distances, axis=1)
    order = np.arange(len(rows))
    left = ~stayed
    for i in np.flatnonzero(~stayed):
        order[i] = np.argmin(np.where(left, distances[i], np.inf))
        left[order[i]] = False
    return order


def _sorted(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The same numbers along a random direction, where the slices are the same: in the order of their sizes."""
    direction = np.random.default_rng(0).normal(size=rows.shape[1])
    along, of_right = rows @ direction, others @ direction
    stayed = np.abs(along - of_right) <= 1e-9 * (np.max(np.abs(of_right)) or 1.0)
    moved = np.flatnonzero(~stayed)
    order = np.arange(len(rows))
    order[moved[np.argsort(along[moved], kind="stable")]] = moved[np.argsort(of_right[moved], kind="stable")]
    return order


def _zeroed(gradient: Gradient) -> Iterator[Case]:
    """A block that is zero while everything else is right."""
    mine, right = gradient.mine, gradient.right
    if mine is None or gradient.rows is not None or mine.shape != right.shape or not right.ndim:
        return
    gone = np.argwhere((mine == 0) & (right != 0))
    if not len(gone):
        return
    box = tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in gone.T)
    place = ", ".join(_said(part, n) for part, n in zip(box, right.shape, strict=True))
    if all(part.stop - part.start == n for part, n in zip(box, right.shape, strict=True)) or mine[box].any():
        return

    def without(gradient: Gradient) -> np.ndarray:
        array = gradient.right.copy()
        array[box] = 0.0
        return array

    text = f"{{}} is zero at [{place}], while everything else of it is right"
    yield Case(text, without, place, gradient.unit, choices=sum(2 * log10(max(n, 2)) for n in right.shape))


def _said(part: slice, length: int) -> str:
    if part.stop - part.start == length:
        return ":"
    return str(part.start) if part.stop - part.start == 1 else f"{part.start}:{part.stop}"


def _unsummed(gradient: Gradient) -> Iterator[Case]:
    """A gradient that still has the axes along which its parameter is broadcast."""
    mine = gradient.mine
    axes = broadcast_axes(mine.shape, gradient.W.shape) if mine is not None else ()
    if mine is None or not axes:
        return
    shape = gradient.W.shape
    what = f"{'axis' if len(axes) == 1 else 'axes'} {', '.join(map(str, axes))}"
    for words, reduced in (("sum", np.sum), ("mean", np.mean)):
        text = f"{{}} is the {words} over {what} of what was handed in, of shape {shape}, not {mine.shape}"
        total = reduced(mine, axis=axes).reshape(shape)
        # as far as numbers go, what was handed in is right where its sum is
        yield Case(text, lambda gradient, t=total: mine + np.max(np.abs(t - gradient.right), initial=0), words)


NUMBERS = (
    Entry("transposed", "gradient", "(∂L/∂W)ᵀ stands where ∂L/∂W belongs", _transposed),
    Entry("missing-gradient", "gradient", "0 stands where ∂L/∂W belongs", _missing),
    Entry("weight-decay", "gradient", "∂L/∂W + λW stands where ∂L/∂W belongs", _decay),
    Entry("gradients-swapped", "gradient", "∂L/∂V stands where ∂L/∂W belongs, and vice versa", _swapped, rank=1),
    Entry("update-for-gradient", "gradient", "W − η ∂L/∂W stands where ∂L/∂W belongs", _update, rank=2),
    Entry("missing-broadcast-sum", "gradient", "one gradient for each element that W is broadcast to", _unsummed),
    Entry("permuted-rows", "gradient", "the rows of ∂L/∂W stand in another order", _reordered, rank=2),
    Entry("zeroed-block", "gradient", "0 stands where a block of ∂L/∂W belongs", _zeroed, rank=2),
    Entry("clipped", "gradient", "min(max(∂L/∂W, −c), c) stands where ∂L/∂W belongs", _clipped, rank=2),
)
