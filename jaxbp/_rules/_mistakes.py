"""Which mistake explains a wrong derivative of one argument: the judge's search, over the arguments as leaves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from jaxbp._check._compare import Tolerance, magnitude
from jaxbp._check._explained import explain
from jaxbp._check._gradient import Called
from jaxbp._check._walk import Observed
from jaxbp._check._walks import Leaves
from jaxbp._rules._applied import Applied


@dataclass(frozen=True, eq=False)
class At:
    """A wrong derivative of one argument, beside all else that the rule gave there."""

    applied: Applied
    i: int
    epsilon: float
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

    @property
    def start(self) -> Leaves:
        """The arguments as the leaves of a tree, with their right derivatives."""
        at, names = self.applied, self.names
        assert at.expected is not None
        operands = {names[i]: np.asarray(at.operands[i], np.float64) for i in at.expected[0]}
        called = Called(operands, list(at.cotangents[0].values()), list(at.outputs.values()))
        return Leaves(operands, {names[i]: array for i, array in at.expected[0].items()}, called)


def mistakes(at: At) -> str:
    """The mistake that gives these numbers, or what can be said of them without a name."""
    if at.off.any() and all(np.all(np.isfinite(array)) for array in (at.mine, at.expected)):
        name, start = at.names[at.i], at.start
        tolerance = Tolerance(at.epsilon, 0.0, magnitude(at.expected))
        explained = explain(start, Observed({name: at.mine}, {name: tolerance}), start.right)
        for together in explained.alternatives:
            return " and ".join(f"{mistake.slug}: {mistake.text}" for mistake in together)
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
