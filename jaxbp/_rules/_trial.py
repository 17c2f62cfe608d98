"""A rule at one use: a glance at each argument's derivative, a closer look where it is off, and what excuses it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from jaxbp._check._compare import relative_error
from jaxbp._check._report import Finding
from jaxbp._rules._applied import Applied, Arrays, Rule
from jaxbp._rules._found import Use
from jaxbp._rules._judged import CLOSE, Argument, Judged, largest, positive
from jaxbp._rules._report import RuleVerdict


@dataclass(frozen=True, eq=False)
class Trial:
    """A rule at the operands of one use."""

    rule: Rule
    operands: Sequence[Any]
    names: Sequence[str]
    goes_on: Callable[[Use, int], bool]
    """Whether what is sent back to an argument goes on to what the program was given."""

    @np.errstate(all="ignore")  # numbers at the end of the format are compared too
    def at_a_glance(self) -> tuple[dict[int, Judged], dict[int, float]]:
        """Verdicts by the position of the argument, and how much is off where these take a closer look.

        A value that is wrong has a position below 0.
        """
        applied, verdicts, doubts = self.rule.applied(self.operands), dict[int, Judged](), dict[int, float]()
        for i in self.rule.differentiated:
            argument = self._argument(applied, i)
            if plain := argument.plainly():
                verdicts[i] = plain
            else:
                doubts[i] = argument.relative_error()
        wrong = ((-1 - k, _value(self.rule, applied, k, self._rounding_errors)) for k in self.rule.results)
        return verdicts | {position: each for position, each in wrong if each}, doubts

    @np.errstate(all="ignore")
    def closely(self, i: int) -> Judged:
        """The verdict on an argument that takes a closer look."""
        argument = self._argument(self.rule.applied(self.operands), i)
        verdict = argument.closely()
        if verdict.verdict not in ("wrong", "on purpose"):
            return verdict
        excuse = next(self._excuses(argument, verdict.verdict), "")
        return Judged("on purpose", replace(verdict.finding, status="right"), excuse) if excuse else verdict

    def _excuses(self, argument: Argument, verdict: RuleVerdict) -> Iterator[str]:
        """What makes a derivative right in the program that is not that of the function."""
        rule, i, variables = self.rule, argument.i, self.rule.use.step.invars
        same = [j for j in rule.differentiated if j != i and variables[j] is variables[i]]
        if same and argument.is_right_with(same):
            yield "one array is handed in for several arguments, and their derivatives are right together"
        if verdict == "on purpose":
            return
        if not any(mine[i].any() for mine in argument.applied.mine) and not self.goes_on(rule.use, i):
            yield "no derivative is stated, and none would go on: what flows in is constant, or sends none back"
        handed_on = frozenset(k for k in rule.results if k in rule.use.unread and _is_argument(argument.applied, k))
        if handed_on and argument.applied.expected is not None:
            without = replace(rule, silent=handed_on)
            if self._argument(without.applied(self.operands), i).plainly():
                yield "it is right but for outputs that are arguments as they are, which nothing here reads"

    def _argument(self, applied: Applied, i: int) -> Argument:
        return Argument(self.rule, self.operands, applied, i, self.names, self._rounding_errors)

    @cached_property
    def _rounding_errors(self) -> Callable[[int], list[Arrays]]:
        return cache(lambda samples: self.rule.rounding_errors(self.operands, samples))


def _is_argument(applied: Applied, k: int) -> bool:
    """Whether an output is one of the arguments as it is."""
    out = applied.outputs[k]
    return any(
        x.shape == out.shape and np.array_equal(out, np.asarray(x, np.float64), equal_nan=True)
        for x in applied.operands
        if x.dtype.kind == "f"
    )


def _value(rule: Rule, applied: Applied, k: int, errors: Callable[[int], list[Arrays]]) -> Judged | None:
    """What is wrong where the rule returns another value than the function; None if it returns the same."""
    mine, expected = applied.outputs_of_rule[k], applied.outputs[k]
    error = np.abs(mine - expected)
    allowed = max(10 * relative_error(rule.epsilon), CLOSE) * positive(largest(expected))
    off = ~((error <= allowed) | (mine == expected) | (np.isnan(mine) & np.isnan(expected)))
    if off.any():
        off &= ~(error <= allowed + errors(1)[0][-1 - k])
    if not off.any():
        return None
    index = tuple(map(int, np.unravel_index(np.argmax(np.where(off, error, -1)), mine.shape)))
    relative = float(error[index]) / positive(largest(expected))
    name = "the value" if len(applied.outputs) == 1 else f"output {k}"
    finding = Finding(
        name, "wrong", index, float(mine[index]), float(expected[index]), relative, int(off.sum()), mine.size
    )
    return Judged("wrong", finding, "the rule returns another value than the function")
