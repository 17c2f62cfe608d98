"""What one argument's derivative by a rule is worth: right, precision, kink, on purpose or wrong."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxbp._check._compare import relative_error
from jaxbp._check._report import Finding
from jaxbp._rules._applied import Applied, Arrays, Rule
from jaxbp._rules._mistakes import At, mistakes
from jaxbp._rules._report import RuleVerdict

CLOSE = 1e-6
_LOOKED_AT, _SAMPLES = 64, 3
_CONVERGED = 1e-2


@dataclass(frozen=True, eq=False)
class Judged:
    """The verdict on one argument's derivative at one use, the numbers, and words."""

    verdict: RuleVerdict
    finding: Finding
    why: str = ""

    @property
    def gravity(self) -> tuple[int, float]:
        """What makes one verdict on an argument count before another."""
        return GRAVITY.index(self.verdict), self.finding.relative_error


GRAVITY: tuple[RuleVerdict, ...] = ("not judged", "right", "precision", "kink", "on purpose", "wrong")


@dataclass(frozen=True, eq=False)
class Argument:
    """The derivative with respect to one argument at one use, by the rule and by autodiff."""

    rule: Rule
    operands: Sequence[Any]
    applied: Applied
    i: int
    names: Sequence[str]
    rounding_errors: Callable[[int], list[Arrays]]

    @property
    def name(self) -> str:
        """What the argument is called."""
        return self.names[self.i]

    def plainly(self) -> Judged | None:
        """The verdict where one look at the numbers suffices."""
        if self.applied.expected is None:
            return None
        off = self._off(None)
        if not any(each.any() for each in off):
            return Judged("right", self._finding(off, "right"))
        if self._size_of_difference() <= CLOSE:
            return Judged("precision", self._finding(off, "precision"))
        return None

    def closely(self) -> Judged:
        """The verdict on what is off."""
        if self.applied.expected is None:
            return self._by_differences()
        off = self._off(None)
        if purpose := self._on_purpose(off):
            return purpose
        off = self._beyond_rounding(off)
        if not any(each.any() for each in off):
            return Judged("precision", self._finding(self._off(None), "precision"))
        if self.rule.loops and self._size_of_difference() < _CONVERGED:
            return self._listed(off, "the function goes in loops, and the rule is nearly their derivative")
        return self._by_the_sides(off)

    def _pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
        """For each cotangent mine, what is expected, and the size of the cotangent."""
        assert self.applied.expected is not None
        for mine, expected, cotangents in zip(
            self.applied.mine, self.applied.expected, self.applied.cotangents, strict=True
        ):
            yield mine[self.i], expected[self.i], max((largest(ct) for ct in cotangents.values()), default=0.0)

    def _off(self, errors: Any) -> list[np.ndarray]:
        """Where the two differ by more than the format allows, for each cotangent."""
        allowed = relative_error(self.rule.epsilon)
        errors = errors or [0.0, 0.0]

        def of(mine: np.ndarray, expected: np.ndarray, size: float, error: Any) -> np.ndarray:
            slack = allowed * max(largest(expected), 1e-6 * size) + error
            return ~((np.abs(mine - expected) <= slack) | (mine == expected) | (np.isnan(mine) & np.isnan(expected)))

        return [of(*pair, error) for pair, error in zip(self._pairs(), errors, strict=True)]

    def _beyond_rounding(self, off: list[np.ndarray]) -> list[np.ndarray]:
        """What is off by more than rounding explains; where one sample is far from that, no others are asked."""
        by_far = self._off([10 * each[self.i] for each in self.rounding_errors(1)])
        if all(np.array_equal(*pair) for pair in zip(off, by_far, strict=True)):
            return off
        return self._off([each[self.i] for each in self.rounding_errors(_SAMPLES)])

    def relative_error(self) -> float:
        """That of the worst element, as the finding has it; infinite where there is nothing to compare with."""
        return self._finding(self._off(None), "wrong").relative_error if self.applied.expected else np.inf

    def _size_of_difference(self) -> float:
        """The largest difference for any cotangent, relative to the largest number that is expected."""
        differences = [
            np.inf
            if not np.all(np.isfinite(mine - expected))
            else largest(mine - expected) / positive(largest(expected))
            for mine, expected, _ in self._pairs()
        ]
        return max(differences)

    def _finding(self, off: Sequence[np.ndarray], status: Any, remark: str = "") -> Finding:
        pairs = list(self._pairs())
        k = next((k for k, each in enumerate(off) if each.any()), 0)
        mine, expected, _ = pairs[k]
        difference = np.where(off[k] | ~off[k].any(), np.abs(mine - expected), 0.0)
        finite = np.where(np.isfinite(difference), difference, np.where(off[k], np.inf, 0.0))
        if not mine.size:
            return Finding(self.name, status, (), 0.0, 0.0, 0.0, 0, 0, remark)
        index = np.unravel_index(np.argmax(finite), mine.shape)
        relative = float(finite[index]) / positive(largest(expected)) if finite[index] else 0.0
        index = tuple(map(int, index))
        return Finding(
            self.name, status, index, float(mine[index]), float(expected[index]), relative, int(off[k].sum()),
            mine.size, remark,
        )  # fmt: skip

    def _on_purpose(self, off: Sequence[np.ndarray]) -> Judged | None:
        """What no autodiff can give: a slope where the function is flat, an identity with a gradient of its own."""
        others = [(self.applied, self.operands)]
        others += [(self.rule.applied(x), x) for x in map(self.rule.elsewhere, range(2))]
        if all(_is_flat(applied, self.i) for applied, _ in others):
            return self._listed(off, self._of_a_flat_one())
        if all(_is_identity(applied, self.i, x) for applied, x in others):
            return self._listed(off, "the function hands it on as it is, and the rule changes its gradient")
        if self.rule.quantises:
            return self._listed(off, "the function casts to a few bits, which autodiff takes for the identity")
        if instead := [
            j for j in self.rule.differentiated if all(_has_it_instead(each, self.i, j) for each, _ in others)
        ]:
            return self._listed(off, f"its derivative is given to {self.names[instead[0]]} instead, which has none")
        return None

    def _of_a_flat_one(self) -> str:
        states = "the function is flat in it, and the rule states a slope"
        if not self._is_real:
            return states
        mine, *_ = next(self._pairs())
        chosen = self._sample(np.arange(mine.size))
        across, mine = self._slopes(chosen)[:, 2], mine.ravel()[chosen]
        if not np.any(np.nan_to_num(across)):
            return states
        same = np.all(np.abs(mine - across) <= 10 * self._fineness * positive(largest(across)))
        says = "the same as" if same else "otherwise than"
        return f"a gradient is stopped in the function, and central differences say {says} the rule"

    @property
    def _is_real(self) -> bool:
        """Whether elements of the argument can be moved one by one."""
        mine, x = self.applied.mine[0][self.i], self.operands[self.i]
        return bool(mine.size) and not np.iscomplexobj(x) and mine.shape == x.shape

    def _sample(self, indices: np.ndarray) -> np.ndarray:
        """Some of the elements that count, by their flat position."""
        size = self.applied.mine[0][self.i].size
        return np.random.default_rng(0).permutation(indices[indices < self.rule.counted(self.i, size)])[:_LOOKED_AT]

    def _listed(self, off: Sequence[np.ndarray], why: str) -> Judged:
        return Judged("on purpose", self._finding(off, "right"), why)

    def _slopes(self, indices: np.ndarray, step: float | None = None) -> np.ndarray:
        """Along each of a few elements the slopes to the left, to the right, and across."""
        epsilon, x = self.rule.epsilon, np.asarray(self.operands[self.i]).astype(np.float64)
        relative = step or (6e-6 if epsilon < 1e-15 else epsilon ** (1 / 3))

        def along(index: int) -> np.ndarray:
            if not np.isfinite(x.ravel()[index]):
                return np.full(3, np.nan)  # it cannot be moved
            direction = np.zeros(x.size)
            direction[index] = 1.0
            h = relative * max(1.0, float(np.nan_to_num(np.abs(x.ravel()[index]), posinf=1.0)))
            return self.rule.slopes(self.operands, self.i, direction.reshape(x.shape), h)

        return np.array([along(int(index)) for index in indices]).reshape(-1, 3)

    def _is_smooth(self) -> bool:
        """Whether differences along a random direction, to each side, say what autodiff does."""
        _, expected, _ = next(self._pairs())
        if not np.all(np.isfinite(expected)) or self.rule.epsilon > 1e-15:
            return False
        direction = np.random.default_rng(0).normal(size=expected.shape)
        if not self.rule.counts_all(self.i):
            direction[1:] = 0
        size = positive(max(1.0, largest(np.asarray(self.operands[self.i]).astype(np.float64))))
        left, right, _ = self.rule.slopes(self.operands, self.i, direction, 1e-6 * size)
        along, scale = float(np.vdot(expected, direction)), float(np.linalg.norm(expected * direction))
        return max(abs(left - along), abs(right - along)) <= 1e-5 * scale

    def _by_the_sides(self, off: list[np.ndarray]) -> Judged:
        """Whether all that is off, or a sample of it, lies between the slopes of two sides, or is what these say."""
        mine, everywhere, _ = next(self._pairs())
        where = np.flatnonzero(off[0])
        if not self._is_real or not len(where) or self._is_smooth():
            return self._wrong(off)
        chosen = self._sample(where)
        left, right, across = self._slopes(chosen).T
        mine, expected = mine.ravel()[chosen], everywhere.ravel()[chosen]
        fineness = self._fineness
        size = np.maximum(np.maximum(np.abs(left), np.abs(right)), 1e-3 * positive(largest(everywhere)))
        corner = np.abs(left - right) > max(1e-3, 10 * fineness) * size
        slack = 10 * fineness * size
        between = (np.minimum(left, right) - slack <= mine) & (mine <= np.maximum(left, right) + slack)
        agrees = np.abs(mine - across) <= slack
        blind = ~np.isfinite(expected) & ~np.isnan(mine) & (np.isinf(mine) | ~np.isfinite(across))
        fine = (corner & between) | agrees | blind
        if not np.all(fine):
            left_over = off[0].copy()
            left_over.ravel()[chosen[fine]] = False
            return self._wrong([left_over, *off[1:]])
        if np.any(corner & between):
            count = f"{len(where)} of {off[0].size} elements sit on a corner of the function"
            return Judged(
                "kink", self._finding(off, "right"), f"{count}, and every slope between its two sides is valid"
            )
        if not np.any(np.isfinite(expected)):
            return Judged(
                "right", self._finding(off, "right", "autodiff gives no number there"), "autodiff gives no number there"
            )
        says = "central differences say the same as the rule, and autodiff of the function says otherwise"
        if self._is_right_elsewhere():
            return Judged("right", self._finding(off, "right"), f"{says}, here alone")
        return self._listed(off, says)

    def _is_right_elsewhere(self) -> bool:
        other = replace(self, applied=self.rule.applied(self.rule.elsewhere(0)))
        return not any(each.any() for each in other._off(None))

    def is_right_with(self, others: Sequence[int]) -> bool:
        """Whether the derivatives with respect to this argument and to others are right together."""

        def summed(each: Arrays) -> Arrays:
            return {self.i: sum((each[j] for j in others), each[self.i])}

        applied = self.applied
        if applied.expected is None:
            return False
        together = replace(
            applied, mine=[summed(each) for each in applied.mine], expected=[summed(each) for each in applied.expected]
        )
        return not any(each.any() for each in replace(self, applied=together)._off(None))

    @property
    def _fineness(self) -> float:
        """How near central differences come."""
        return 1e-5 if self.rule.epsilon < 1e-15 else min(0.1, 5 * self.rule.epsilon ** (1 / 3))

    def _wrong(self, off: Sequence[np.ndarray]) -> Judged:
        finding = self._finding(off, "wrong")
        why = mistakes(At(self.rule, self.applied, self.i, off[0], self.names))
        return Judged("wrong", finding, why)

    def _by_differences(self) -> Judged:
        """Where JAX cannot differentiate the function, central differences at two distances judge."""
        mine = self.applied.mine[0][self.i]
        nothing = Finding(self.name, "right", (), 0.0, 0.0, 0.0, 0, mine.size)
        cannot = "autodiff cannot differentiate the function"
        if not self._is_real:
            return Judged("on purpose", nothing, cannot)
        chosen = self._sample(np.arange(mine.size))
        h = 1e-4 if self.rule.epsilon < 1e-15 else self.rule.epsilon ** (1 / 4)
        near, far = (self._slopes(chosen, step)[:, 2] for step in (h, 8 * h))
        size = largest(near)
        coarse = 10 * np.abs(near - far) + 1e-4 * size
        told = np.isfinite(coarse) & (coarse <= 0.1 * positive(size))
        if not self.rule.has_values(self.operands):
            told &= ~np.isnan(mine.ravel()[chosen]) & (near != 0)  # it may have no value there, and then no slope
        if not told.any():
            return Judged("on purpose", nothing, f"{cannot}, and differences say nothing")
        off = told & ~(np.abs(mine.ravel()[chosen] - near) <= coarse)
        worst = int(np.argmax(np.where(told, np.abs(mine.ravel()[chosen] - near), -1.0)))
        numbers = float(mine.ravel()[chosen[worst]]), float(near[worst])
        index = tuple(map(int, np.unravel_index(int(chosen[worst]), mine.shape)))
        relative = abs(numbers[0] - numbers[1]) / positive(size)
        finding = Finding(
            self.name, "wrong" if off.any() else "right", index, *numbers, relative, int(off.sum()), len(chosen)
        )
        if off.any():
            return Judged("wrong", finding, f"{cannot}; central differences say otherwise than the rule")
        return Judged("on purpose", finding, f"{cannot}; central differences say the same as the rule")


def _is_flat(applied: Applied, i: int) -> bool:
    return applied.expected is not None and not any(np.nan_to_num(each[i]).any() for each in applied.expected)


def _has_it_instead(applied: Applied, i: int, j: int) -> bool:
    """Whether another argument, in which the function is flat, is given the derivative with respect to this one."""
    mine, expected = applied.mine[0], applied.expected[0] if applied.expected else {}
    if i == j or not expected or mine[i].shape != mine[j].shape or mine[i].any() or not _is_flat(applied, j):
        return False
    # as coarse as the formats for which people do this
    return bool(largest(mine[j] - expected[i]) <= 0.1 * largest(expected[i]))


def _is_identity(applied: Applied, i: int, operands: Sequence[Any]) -> bool:
    """Whether each output that this argument has part in is that argument."""
    x = applied.operands[i]
    copies = [
        k
        for k, out in applied.outputs.items()
        if out.shape == x.shape and np.array_equal(out, np.asarray(x, np.float64), equal_nan=True)
    ]
    return (
        bool(copies)
        and applied.expected is not None
        and all(
            np.array_equal(expected[i], sum(cts[k] for k in copies))
            for expected, cts in zip(applied.expected, applied.cotangents, strict=True)
        )
    )


def largest(array: np.ndarray) -> float:
    """The largest finite size of its elements."""
    return float(np.max(np.abs(array), initial=0, where=np.isfinite(array)))


def positive(size: float) -> float:
    """A size to divide by."""
    return size or 1.0
