"""The search for mistakes that explain what was handed in: by evaluating them, the fewest first.

A backward pass is walked step by step. Where the right step, from the error signals so far, gives what was handed in,
it is taken; where it does not, every entry of the catalogue for this step is tried, and the walk goes on from each that
does. Mistakes in different steps are thus found one after the other, not in every combination, and a mistake that is
made again costs nothing: people make the same one wherever they can.

A function has no graph: its walk has a step for each leaf, which is right or has a mistake of its own.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, combinations, count, islice, product
from typing import Any

import numpy as np

from jaxbp._check._catalogue import entries
from jaxbp._check._change import Change, again, groups
from jaxbp._check._constants import LookAhead
from jaxbp._check._fitting import fits, fitting
from jaxbp._check._walk import Observed, Signals, Walk

MOST_MISTAKES = 3
MOST_TRIALS = 20_000
_MOST_ANSWERS = 24
_MOST_STEPS = 3
_MOST_AT_ONCE = 16
_UNLIKELY = 2


_IN_GRADIENTS = {entry.slug for stage in ("gradient", "use") for entry in entries(stage)}


@dataclass(frozen=True, eq=False)
class _Branch:
    """A walk as far as it has come.

    Attributes:
        state: The walk.
        taken: How many steps were taken.
        mistakes: How many mistakes to make in the signals of the next one.
        off: The gradients of the last step that are still wrong.
        is_open: Whether a change has not been compared with anything yet.
        only_again: Whether for those only mistakes that were made before are looked at, which cost nothing.
    """

    state: Walk
    taken: int
    mistakes: int = 0
    off: tuple[Any, ...] = ()
    is_open: bool = False
    only_again: bool = False


@dataclass(frozen=True, eq=False)
class Search:
    """A search from the beginning of a walk, for what gives everything that was handed in."""

    start: Walk
    observed: Observed

    @cached_property
    def _order(self) -> tuple[str, ...]:
        """The steps that matter."""
        start, arrays = self.start, self.observed.arrays
        return tuple(step for step in start.steps if len(start.names(step)) != 1 or start.names(step)[0] in arrays)

    def explanations(self) -> tuple[list[tuple[Change, ...]], int]:
        """The smallest sets of mistakes that give everything that was handed in, and how many were tried."""
        tie, trials, order = count(), count(1), self._order
        queue: list[tuple[int, int, int, int, _Branch]] = []

        def push(branch: _Branch, more: int = 0) -> None:
            made = branch.state.changes
            cost = len(groups(made)) + branch.mistakes + more
            heapq.heappush(queue, (cost, -branch.taken, len(made), next(tie), branch))

        push(_Branch(self.start, 0))
        found: list[tuple[Change, ...]] = []
        best, tried = MOST_MISTAKES, 0
        while queue and len(found) < _MOST_ANSWERS and tried < MOST_TRIALS:
            cost, *_, branch = heapq.heappop(queue)
            state = branch.state
            if cost > best:
                break
            tried = next(trials)
            if branch.off:
                step, allowed = order[branch.taken - 1], best - len(groups(state.changes))
                for made in fitting(self.observed, state, step, branch.off, allowed, branch.only_again):
                    push(_Branch(state.after({}, made), branch.taken))
                if branch.only_again:
                    push(replace(branch, only_again=False), 1)
            elif branch.taken == len(order):
                found.append(state.changes)
                best = cost
            else:
                step = order[branch.taken]
                for after, off in self._taken(branch, step, trials):
                    # a gradient that is still wrong costs one mistake more, unless one is made again in it
                    only_again = bool(off) and any(change.entry.slug in _IN_GRADIENTS for change in after.changes)
                    is_open = self._is_open(branch, after, step)
                    push(_Branch(after, branch.taken + 1, 0, off, is_open, only_again), bool(off) and not only_again)
                if cost + 1 <= best and branch.mistakes < self._most(branch, step):
                    push(replace(branch, mistakes=branch.mistakes + 1))
        return _distinct(found), tried

    def _most(self, branch: _Branch, step: str) -> int:
        """How many mistakes are looked for in the signals of a step.

        Where all that a step gives was handed in and is right, none: it would have shown; nor where the gradient of one
        of its matrices is right, which is a product with δ. Where nothing was handed in to compare with, more than one
        would explain anything; beside one that was made there, without a constant, one likely one is looked for until
        they have been compared. Two in one step are looked for where there are no others before it.
        """
        state = branch.state
        seen = [name for name in state.names(step) if name in self.observed.arrays]
        if branch.is_open:
            return int(len(state.changes) == 1 and state.changes[0].constant is None)
        if not seen:
            return 1
        signals, due = state.signals(step, ()), state.due(step)
        after = state.after(signals, ())
        agrees = all(self.observed.close(name, array) for name, array in signals.items())
        right = [name for name in due if agrees and name in seen and fits(self.observed, after, name)]
        if agrees and all(name in right for name in due if name in seen):
            return 0 if len(seen) == len(state.names(step)) or (due and all(name in seen for name in due)) else 1
        if any(self._shows_signal(after, name) for name in right):
            return 0
        return 1 if state.changes else 2

    def _shows_signal(self, state: Walk, name: Any) -> bool:
        """Whether a gradient that is right speaks for δ: a matrix that is not 0, and of one unit alone."""
        gradient = state.gradient_of(name)
        return not gradient.is_bias and gradient.edge is not None and bool(np.any(gradient.right))

    def _is_open(self, branch: _Branch, after: Walk, step: str) -> bool:
        """Whether a change has not been compared with anything that was handed in, since it was made."""
        if any(name in self.observed.arrays for name in after.names(step)):
            return False
        return branch.is_open or len(after.changes) > len(branch.state.changes)

    def _taken(self, branch: _Branch, step: str, trials: Iterator[int]) -> Iterator[tuple[Walk, tuple[Any, ...]]]:
        """The walks after a step with so many mistakes in its signals that give what was handed in.

        With each come the gradients of the step that are still wrong.
        """
        state, due = branch.state, [name for name in branch.state.due(step) if name in self.observed.arrays]
        right = state.signals(step, ())
        for changes in self._signal_changes(branch, step):
            if next(trials) > MOST_TRIALS:
                return
            with np.errstate(all="ignore"):
                signals = state.signals(step, changes) if changes else right
            if changes and all(np.array_equal(signals[name], right[name]) for name in right):
                continue  # a mistake without consequences explains nothing
            if not all(self.observed.close(name, array) for name, array in signals.items()):
                continue
            after = state.after(signals, changes)
            off = tuple(name for name in due if not fits(self.observed, after, name))
            is_new = len(groups(after.changes)) > len(groups(state.changes))
            if not (is_new and len(off) > 1 and self._is_unseen(state, signals, off, due)):
                yield after, off

    def _is_unseen(self, state: Walk, signals: Signals, off: Sequence[Any], due: Sequence[Any]) -> bool:
        """Whether nothing that was handed in shows a change: with a mistake in each gradient it explains nothing."""
        if len(off) < len(due) or any(name in self.observed.arrays for name in signals):
            return False
        return not any(change.entry.slug in _IN_GRADIENTS for change in state.changes)

    def _signal_changes(self, branch: _Branch, step: str) -> Iterator[tuple[Change, ...]]:
        """So many mistakes, in different parts of the step, beside those that are made again in it."""
        state, mistakes = branch.state, branch.mistakes
        known = state.in_signals(step)
        repeated = [(), *again(state.changes, known)]
        if mistakes == 0:
            yield from repeated
            return
        known = [change for change in known if mistakes == 1 or not change.case.alone]
        if branch.is_open:
            known = [change for change in known if change.entry.rank < _UNLIKELY]
        for made_again in repeated:
            for together in chain(combinations(known, mistakes), _of_one_kind(known) if mistakes == 1 else ()):
                changes = (*made_again, *together)
                if _are_likely(together) and len({(c.stage, c.key) for c in changes}) == len(changes):
                    yield from self._solved(state, step, changes)

    def _solved(self, state: Walk, step: str, changes: tuple[Change, ...]) -> Iterator[tuple[Change, ...]]:
        """The changes with each constant that one of the arrays asks for, where what is open is one mistake."""
        still = tuple(change for change in changes if change.is_open)
        if not still:
            yield changes
        if not still or not _all_alike(still):
            return
        others = tuple(change for change in changes if not change.is_open)
        seen: list[float] = []
        for c in self._constants(state, step, still, others):
            if still[0].case.allowed(c) and not any(np.isclose(c, other, rtol=1e-6) for other in seen):
                seen.append(c)
                yield (*others, *(change.at(c) for change in still))

    def _constants(
        self, state: Walk, step: str, still: tuple[Change, ...], others: tuple[Change, ...]
    ) -> Iterator[float]:
        # a mask that is taken from the signal depends on the constant too, and a few more steps lead there
        moves = (1.0, *[1e-3] * _MOST_STEPS) if any(other.case.bends for other in others) else (1.0,)
        for repeats in (False, True) if still[0].stage == "term" else (False,):
            ahead = LookAhead(self.observed, state, self._order[self._order.index(step) :], still, others, repeats)
            yield from ahead.constants(moves)


def _of_one_kind(known: Sequence[Change]) -> Iterator[tuple[Change, ...]]:
    """A mistake that is made in the terms of several readers at once, of all or of some."""
    by_kind: dict[Any, dict[str | None, list[Change]]] = {}
    for change in known:
        if change.stage == "term":
            by_key = by_kind.setdefault((change.entry.slug, change.case.kind), {})
            by_key.setdefault(change.key, []).append(change)
    for by_key in by_kind.values():
        if len(by_key) > 1:
            options = product(*([*changes, None] for changes in by_key.values()))
            chosen = (tuple(change for change in some if change is not None) for some in options)
            yield from islice((changes for changes in chosen if len(changes) > 1), _MOST_AT_ONCE)


def _are_likely(together: Sequence[Change]) -> bool:
    """Whether not two of them are unlikely ones: together they would explain anything."""
    return len(together) < 2 or sum(change.entry.rank >= _UNLIKELY for change in together) < 2 or _all_alike(together)


def _all_alike(together: Sequence[Change]) -> bool:
    return all(change.is_of_kind(together[0]) for change in together)


def _distinct(found: Sequence[tuple[Change, ...]]) -> list[tuple[Change, ...]]:
    """Each set of mistakes once, where it is made at the fewest places."""
    by_mistakes: dict[Any, tuple[Change, ...]] = {}
    for changes in sorted(found, key=len):
        key = frozenset((group[0].entry.slug, group[0].case.kind, group[0].text) for group in groups(changes))
        by_mistakes.setdefault(key, changes)
    return list(by_mistakes.values())
