"""The catalogue of mistakes without a graph: in signs, constants, shapes and places, each something to evaluate."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf, lgamma, log, log10, prod

import numpy as np

from jaxbp._check._compare import magnitude
from jaxbp._check._leaves import Leaf, axes_in_words
from jaxbp._check._report import Mistake
from jaxbp._check._trees import broadcast_axes

_MOST_MISTAKES, _MOST_ROWS = 2, 1024
_CHANCE = 3.0  # a mistake is claimed where random numbers would show it once in 10³ times


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A mistake that gives what was handed in for some of the wrong leaves."""

    slug: str
    leaves: tuple[str, ...]
    text: Callable[[str], str]  # what it is, of a subject that names leaves
    divisible: bool = True  # whether it can have been made in some of these leaves only

    def mistake(self, names: Sequence[str], everything: Sequence[str]) -> Mistake:
        whole = len(everything) > 1 and set(names) == set(everything)
        listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
        subject = "the whole gradient" if whole else f"the gradient of {listed}"
        return Mistake(self.slug, names[0] if len(names) == 1 else None, self.text(subject))


def leaf_mistakes(compared: Sequence[Leaf]) -> list[tuple[Mistake, ...]]:
    """The smallest sets of mistakes that give everything that was handed in; none if no known ones do."""
    wrong = [leaf for leaf in compared if leaf.wrong]
    if not wrong:
        return []
    catalogue = (_scaled, _transposed, _zeroed, _swapped, _reordered, _unsummed)
    candidates = [candidate for kind in catalogue for candidate in kind(wrong)]
    # a gradient that is zero is negated too, whoever looks
    everything = [leaf.name for leaf in compared if leaf.wrong or leaf.size]
    for many in range(1, _MOST_MISTAKES + 1):
        found: list[tuple[Mistake, ...]] = []
        # a mistake that explains all of its leaves or none comes first, and the others take the rest
        for together in combinations(sorted(candidates, key=lambda c: many > 1 and c.divisible), many):
            left = [leaf.name for leaf in wrong]
            made: list[Mistake] = []
            for candidate in together:
                names = [name for name in candidate.leaves if name in left]
                if names and (candidate.divisible or len(names) == len(candidate.leaves)):
                    made.append(candidate.mistake(names, everything))
                    left = [name for name in left if name not in names]
            if not left and len(made) == many:
                found.append(tuple(made))
        if found:
            return list(dict.fromkeys(found))
    return []


def _scaled(wrong: Sequence[Leaf]) -> Iterator[_Candidate]:
    """Signs and constant factors; leaves with the same factor share it."""
    factors = [-1.0]
    for leaf in wrong:
        if leaf.has_its_shape and leaf.size:
            c = float(np.vdot(leaf.right, leaf.mine) / np.vdot(leaf.right, leaf.right))
            simple = _simple(c)
            factors.append(simple if leaf.is_(simple * leaf.right) else c)
    explained: list[tuple[str, ...]] = []
    for c in dict.fromkeys(filter(None, factors)):
        fitting = [leaf for leaf in wrong if leaf.is_(c * leaf.right)]
        names = tuple(leaf.name for leaf in fitting)
        # choosing c uses up the evidence of as many digits
        chosen = max((leaf.digits(c * leaf.right) for leaf in fitting), default=inf)
        chosen = log10(2 * max(abs(c), 1 / abs(c))) if c == _simple(c) else chosen
        if sum(leaf.evidence(c * leaf.right) for leaf in fitting) - chosen >= _CHANCE and names not in explained:
            explained.append(names)
            slug, words = ("sign", "negated") if c == -1 else ("scale", _times(c))
            yield _Candidate(slug, names, lambda subject, words=words: f"{subject} is {words}")


def _simple(c: float) -> float:
    """The nearest whole number or one divided by one."""
    if c == 0 or not np.isfinite(c):
        return 0.0
    return float(round(c)) if abs(c) >= 1 else 1 / round(1 / c)


def _times(c: float) -> str:
    if c != _simple(c):
        return f"{c:.6g} times the right one, in every element"
    if c == 2:
        return "2 times the right one, as when the ½ of a square is forgotten or a term is counted twice"
    if c == 0.5:
        return "1/2 of the right one, as when a square is differentiated without its 2"
    if abs(c) >= 1:
        return f"{c:.0f} times the right one, as when a sum over {abs(c):.0f} examples is meant to be a mean"
    return f"{'−' if c < 0 else ''}1/{abs(1 / c):.0f} of the right one, as when a mean is meant to be a sum"


def _transposed(wrong: Sequence[Leaf]) -> Iterator[_Candidate]:
    matrices = [leaf for leaf in wrong if leaf.right.ndim == 2]
    names = tuple(leaf.name for leaf in matrices if leaf.evidence(leaf.right.T) >= _CHANCE)
    if names:
        yield _Candidate("transpose", names, lambda subject: f"{subject} is the transpose of the right one")


def _zeroed(wrong: Sequence[Leaf]) -> Iterator[_Candidate]:
    """Leaves, and blocks of leaves, that are zero while everything else is right."""
    zeroed = [leaf for leaf in wrong if leaf.has_its_shape and not leaf.mine[leaf.box].any()]
    whole = tuple(leaf.name for leaf in zeroed if not leaf.mine.any())
    if whole:
        yield _Candidate("zeroed-block", whole, lambda subject: f"{subject} is zero throughout")
    for leaf in zeroed:
        if leaf.name not in whole:
            text = f"the gradient of {leaf.place} is zero, while everything else of {leaf.name} is right"
            yield _Candidate("zeroed-block", (leaf.name,), lambda _, text=text: text)


def _swapped(wrong: Sequence[Leaf]) -> Iterator[_Candidate]:
    """Leaves of equal shape that hold each other's gradients."""
    for one, other in combinations(wrong, 2):
        if one.right.shape == other.right.shape and one.evidence(other.right) + other.evidence(one.right) >= _CHANCE:
            text = f"the gradients of {one.name} and {other.name} are swapped"
            yield _Candidate("permuted-leaves", (one.name, other.name), lambda _, text=text: text, divisible=False)


def _reordered(wrong: Sequence[Leaf]) -> Iterator[_Candidate]:
    """Leaves whose rows, columns or slices along another axis stand in another order."""
    for leaf in wrong:
        for axis in range(leaf.right.ndim if leaf.has_its_shape else 0):
            moved = [f"{j} in the place of {i}" for i, j in enumerate(_order(leaf, axis)) if i != j]
            if moved:
                shown = ", ".join(moved[:6]) + (", …" if len(moved) > 6 else "")
                what = {1: "elements", 2: ("rows", "columns")[axis % 2]}.get(
                    leaf.right.ndim, f"slices along axis {axis}"
                )
                text = f"the {what} of the gradient of {leaf.name} stand in another order: {shown}"
                yield _Candidate("permuted-rows", (leaf.name,), lambda _, text=text: text)


def _order(leaf: Leaf, axis: int) -> list[int]:
    """Which right row stands in the place of each; nothing where they do not fit one to one, or by chance."""
    n = leaf.right.shape[axis]
    if not 2 <= n <= _MOST_ROWS:
        return []
    mine, right = (np.moveaxis(array, axis, 0).reshape(n, -1) for array in (leaf.mine, leaf.right))
    distances = np.array([np.max(np.abs(right - row), axis=1) for row in mine])
    order = np.argmin(distances, axis=1)
    nearest, second = np.partition(distances, 1, axis=1)[:, :2].T
    if len(set(order)) < n or np.any(second <= 3 * nearest + leaf.relative * leaf.size):
        return []
    evidence = leaf.evidence(np.take(leaf.right, order, axis)) - lgamma(n + 1) / log(10)
    return order.tolist() if evidence >= _CHANCE else []


def _unsummed(wrong: Sequence[Leaf]) -> Iterator[_Candidate]:
    """Leaves that still have the axes along which their parameter is broadcast."""
    for leaf in wrong:
        axes = broadcast_axes(leaf.mine.shape, leaf.right.shape)
        summed = leaf.mine.sum(axes).reshape(leaf.right.shape) if axes else leaf.mine
        examples = prod(leaf.mine.shape[axis] for axis in axes)
        allowed = leaf.relative * magnitude(leaf.mine) * examples + leaf.error
        if not axes or leaf.right.size * log10(max(leaf.size, allowed) / allowed) < _CHANCE:
            continue
        for words, candidate in (("sum", summed), ("mean", summed / examples)):
            if np.all(np.abs(candidate - leaf.right) <= allowed):
                text = (
                    f"{leaf.name} is broadcast, so its gradient is the {words} over {axes_in_words(axes)} of what was "
                    f"handed in, of shape {leaf.right.shape}, not {leaf.mine.shape}"
                )
                yield _Candidate("missing-broadcast-sum", (leaf.name,), lambda _, text=text: text)
