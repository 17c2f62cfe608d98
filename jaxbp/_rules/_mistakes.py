"""The catalogue of mistakes in rules, as data: a name, its words, and the numbers that it would give."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from jaxbp._rules._applied import Applied


@dataclass(frozen=True, eq=False)
class At:
    """A wrong derivative of one argument, beside all else that the rule gave there."""

    applied: Applied
    i: int
    relative: float
    off: np.ndarray
    names: Sequence[str]

    @property
    def mine(self) -> np.ndarray:
        """What the rule gives."""
        return self.applied.mine[0][self.i]

    @property
    def expected(self) -> np.ndarray:
        """What autodiff gives."""
        assert self.applied.expected is not None
        return self.applied.expected[0][self.i]

    def gives(self, predicted: np.ndarray) -> bool:
        """Whether a prediction is what the rule gave."""
        if predicted.shape != self.mine.shape or not np.all(np.isfinite(predicted)):
            return False
        size = max(np.max(np.abs(predicted), initial=0), np.max(np.abs(self.mine), initial=0))
        return bool(np.all(np.abs(self.mine - predicted) <= max(self.relative, 1e-6) * size))


Prediction = tuple[str, np.ndarray]


@dataclass(frozen=True)
class Entry:
    """A mistake: `predictions` are words and the numbers that it gives."""

    name: str
    predictions: Callable[[At], Iterator[Prediction]]


def _missing(at: At) -> Iterator[Prediction]:
    yield "no derivative with respect to it, where there is one", np.zeros_like(at.expected)


def _sign(at: At) -> Iterator[Prediction]:
    yield "negated", -at.expected


def _factor(at: At) -> Iterator[Prediction]:
    square = float(np.vdot(at.expected, at.expected))
    c = float(np.vdot(at.expected, at.mine)) / square if square else np.nan
    if np.isfinite(c):
        simple = Fraction(c).limit_denominator(64)
        whole = bool(simple) and abs(float(simple) - c) <= 1e-6 * abs(c)
        # one number has any ratio to another: only a simple one is worth a word there
        if at.mine.size > 1 or whole:
            times = simple if whole else f"{c:.6g}"
            yield f"{times} times the right one", (float(simple) if whole else c) * at.expected


def _transposed(at: At) -> Iterator[Prediction]:
    if at.expected.ndim >= 2 and at.expected.shape[-1] == at.expected.shape[-2]:
        yield "transposed", np.swapaxes(at.expected, -1, -2)


def _swapped(at: At) -> Iterator[Prediction]:
    assert at.applied.expected is not None
    for j, other in at.applied.expected[0].items():
        if j != at.i:
            yield f"the derivative with respect to {at.names[j]}", other


def _handed_on(at: At) -> Iterator[Prediction]:
    for cotangent in at.applied.cotangents[0].values():
        yield "the cotangent itself, as if the function were the identity", cotangent


def _times(at: At) -> Iterator[Prediction]:
    """An argument or the value where its derivative belongs, or one of these too many."""
    floating = {j: np.asarray(x) for j, x in enumerate(at.applied.operands) if np.asarray(x).dtype.kind == "f"}
    for cotangent in at.applied.cotangents[0].values():
        for j, x in floating.items():
            if x.shape == cotangent.shape:
                yield f"the cotangent times {at.names[j]} itself, not the derivative there", cotangent * x
        for output in at.applied.outputs.values():
            if output.shape == cotangent.shape:
                yield "the cotangent times the function's value", cotangent * output


def _summed(at: At) -> Iterator[Prediction]:
    """The sum over the axes along which the argument was broadcast, left out: one term of it is there, or a mean."""
    for cotangent in at.applied.cotangents[0].values():
        extra = cotangent.ndim - at.expected.ndim
        if extra > 0 and cotangent.shape[extra:] == at.expected.shape:
            axes = tuple(range(extra))
            first = cotangent[(0,) * extra]
            yield "the cotangent of the first row only: the sum over the rows is left out", first
            rows = int(np.prod(cotangent.shape[:extra]))
            yield "the mean over the rows where their sum belongs", cotangent.sum(axes) / rows


CATALOGUE = (
    Entry("missing", _missing),
    Entry("sign", _sign),
    Entry("mean", _summed),
    Entry("factor", _factor),
    Entry("transposed", _transposed),
    Entry("swapped", _swapped),
    Entry("handed-on", _handed_on),
    Entry("times", _times),
)


def mistakes(at: At) -> str:
    """The mistake that gives these numbers, or what can be said of them without a name."""
    for entry in CATALOGUE if at.off.any() else ():
        for words, predicted in entry.predictions(at):
            if at.gives(predicted):
                return f"{entry.name}: {words}"
    return "; ".join(_said_of_numbers(at))


def _said_of_numbers(at: At) -> Iterator[str]:
    mine, expected = at.applied.mine, at.applied.expected
    assert expected is not None
    if np.array_equal(mine[0][at.i], mine[1][at.i]):
        yield "it does not depend on the cotangent"
    elif not at.off.any():
        yield "it is not linear in the cotangent: right for small ones, and not for large ones"
    x = np.asarray(at.applied.operands[at.i])
    if x.shape == at.off.shape and x.dtype.kind == "f" and at.off.any() and not at.off.all():
        for words, where in (("negative", x < 0), ("positive", x > 0), ("0", x == 0)):
            if np.all(where[at.off]):
                yield f"all that is off has an argument that is {words}"
    if at.off.any() and not at.off.all() and np.all(at.expected[at.off] == 0):
        yield "it is off only where autodiff gives 0"
