"""The search for mistakes that explain what was handed in: by evaluating them, the fewest first.

The backward pass is walked unit by unit. Where the right step, from the error signals so far, gives what was handed
in, it is taken; where it does not, every known mistake at this step is tried, and the walk goes on from each that
does. Mistakes at different units are thus found one after the other, not in every combination.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations, count, product

import numpy as np

from jaxbp._check._facts import Facts
from jaxbp._check._mistakes import (
    at_output,
    has_own_matrix,
    in_all_gradients,
    in_delta,
    in_gradient,
    in_sums,
    in_terms,
    updated_weights,
)
from jaxbp._check._pass import Change, Pass, backward_names, backward_order, gradient
from jaxbp._check._report import Mistake
from jaxbp._check._shared_mistakes import in_shared
from jaxbp._graph import ONE, SHARED
from jaxbp._names import Name
from jaxbp._plan import Place
from jaxbp.connections import Dense

MOST_MISTAKES = 3
MOST_TRIALS = 8_000
_MOST_ANSWERS = 24
_MOST_STEPS = 3
_LARGE, _PART = 4096, 24

Close = Callable[[Name, np.ndarray, np.ndarray], bool]


@dataclass(frozen=True, eq=False)
class Observed:
    """The backward quantities that were handed in, as a search sees them: with the batch as one axis."""

    arrays: dict[Name, np.ndarray]
    close_arrays: Close  # whether an array, or a part of it, is another up to rounding, under a name

    def close(self, name: Name, predicted: np.ndarray) -> bool:
        """Whether a prediction is what was handed in; it is where nothing was."""
        return name not in self.arrays or self.close_arrays(name, self.arrays[name], predicted)


def explanations(facts: Facts, observed: Observed) -> tuple[list[tuple[Change, ...]], bool]:
    """The smallest sets of known changes that give everything that was handed in, and whether all were tried.

    What is handed in may leave too many to try.
    """
    order = [u for u in backward_order(facts) if u in facts.net.units or Name("Delta", (u,)) in observed.arrays]
    tie = count()
    # cost, −progress, tie; then the pass so far, and how many mistakes to make in the step of the next unit
    queue = [(0, 0, next(tie), Pass(facts), 0)]
    found: list[tuple[Change, ...]] = []
    best = MOST_MISTAKES
    trials = iter(range(MOST_TRIALS))
    while queue and len(found) < _MOST_ANSWERS:
        cost, progress, _, state, mistakes = heapq.heappop(queue)
        if cost > best:
            break
        if -progress == len(order):
            found.append(state.changes)
            best = cost
            continue
        u = order[-progress]
        for after, extra in _steps(state, u, mistakes, observed, best - cost, trials):
            heapq.heappush(queue, (cost + extra, progress - 1, next(tie), after, 0))
        # where nothing was handed in to compare with, more than one would explain anything
        most = 2 if any(name in observed.arrays for name in backward_names(facts, u)) else 1
        if mistakes < most and cost + 1 <= best:
            heapq.heappush(queue, (cost + 1, progress, next(tie), state, mistakes + 1))
    return _distinct(found), next(trials, None) is not None


def _steps(
    state: Pass, u: str, mistakes: int, observed: Observed, allowed: int, trials: Iterator[int]
) -> Iterator[tuple[Pass, int]]:
    """The passes after the step of u with so many mistakes in its signals that give what was handed in.

    With each comes the number of mistakes in its gradients, which are tried besides.
    """
    right = state.signals(u, ())
    for changes in _signal_changes(state, u, mistakes, observed):
        if next(trials, None) is None:
            return
        with np.errstate(all="ignore"):
            Delta, delta = state.signals(u, changes)
        if changes and all(np.array_equal(new, old) for new, old in zip((Delta, delta), right, strict=True)):
            continue  # a mistake without consequences explains nothing
        if not observed.close(Name("Delta", (u,)), Delta):
            continue
        after = replace(state, Delta={**state.Delta, u: Delta}, changes=state.changes + changes)
        if u in state.facts.net.inputs:
            yield after, 0
            continue
        if not observed.close(Name("delta", (u,)), delta):
            continue
        for in_gradients in _gradient_changes(after, u, delta, observed, allowed):
            made = len({change.mistake for change in in_gradients})
            if made <= allowed:
                done = replace(after, changes=after.changes + in_gradients).with_gradients(u, delta, in_gradients)
                yield done, made


def _signal_changes(state: Pass, u: str, mistakes: int, observed: Observed) -> Iterator[tuple[Change, ...]]:
    """So many mistakes, in different parts of the step from the readers' δ to δ_u."""
    facts = state.facts
    followed = [(), *_same_update_again(state, u)]
    if mistakes == 0:
        yield from followed
        return
    in_step: list[Change] = []
    if u == facts.net.output:
        in_step += at_output(facts)
    else:
        in_step += [*in_terms(state, u), *in_sums(facts, u)]
    if u in facts.net.units:
        in_step += in_delta(facts, u)
        if u == facts.net.output and Name("Delta", (u,)) not in observed.arrays:
            # a factor in Δ of the output is then the same as one in δ
            in_step = [c for c in in_step if c.stage != "delta" or c.mistake.slug not in ("sign", "scale")]
    for again in followed:
        yield from ((*again, *changes) for changes in _in_different_parts(in_step, mistakes))
        for others in _in_different_parts(in_step, mistakes - 1):
            yield from _with_updated_weights(state, u, (*again, *others), observed)


def _in_different_parts(changes: Sequence[Change], count: int) -> Iterator[tuple[Change, ...]]:
    for together in combinations(changes, count):
        if len({(change.stage, change.key) for change in together}) == count:
            yield together


def _with_updated_weights(
    state: Pass, u: str, others: tuple[Change, ...], observed: Observed
) -> Iterator[tuple[Change, ...]]:
    """The changes and a reader's weights updated too early, at each learning rate that one of the arrays asks for."""
    facts = state.facts
    if u == facts.net.output:
        return
    for v in facts.plan.readers[u]:
        taken = any(change.stage == "term" and change.key == v for change in others)
        if taken or not has_own_matrix(facts, v, u):
            continue
        for eta in _learning_rates(state, u, v, others, observed):
            yield (*others, updated_weights(v, u, eta))


def _learning_rates(state: Pass, u: str, v: str, others: tuple[Change, ...], observed: Observed) -> Iterator[float]:
    # what follows is linear in η: two values of it, and what was handed in, tell η; but a mask that is taken from the
    # signal depends on η too, and a few more steps lead there
    steps = (1.0, *[1e-3] * _MOST_STEPS) if any(change.mistake.slug == "relu-mask" for change in others) else (1.0,)
    order = backward_order(state.facts)
    names = {w: backward_names(state.facts, w) for w in order}
    seen_at = [i for i, w in enumerate(order) if any(name in observed.arrays for name in names[w])]
    # two units, in case what was handed in of the first has a mistake of its own
    last = next(iter([i for i in seen_at if i >= order.index(u)][1:2]), len(order) - 1) + 1
    after_v = order[order.index(u) : last]
    reads_again = any(v in state.facts.plan.readers[w] and has_own_matrix(state.facts, v, w) for w in after_v[1:])

    @cache
    def given(eta: float, is_repeated: bool) -> dict[Name, np.ndarray]:
        after = state.through(u, (*others, updated_weights(v, u, eta)))
        for next_one in after_v[1:]:
            again = next(_same_update_again(after, next_one), ()) if is_repeated else ()
            after = after.through(next_one, again)
        named = after.quantities()
        return {name: named[name] for w in after_v for name in names[w] if name in observed.arrays and name in named}

    seen: list[float] = []
    for is_repeated in (False, True) if reads_again else (False,):
        for name, right in given(0.0, is_repeated).items():
            handed = observed.arrays[name]
            # a gradient may have been handed in as its transpose besides
            for mine in (handed, handed.T) if name.kind == "grad" else (handed,):
                if mine.shape != right.shape:
                    continue
                eta = 0.0
                for step in steps:
                    here = given(eta, is_repeated)[name]
                    slope = (given(eta + step, is_repeated)[name] - here) / step
                    eta += float(np.vdot(slope, mine - here) / np.vdot(slope, slope)) if np.any(slope) else 0.0
                if 1e-6 < eta < 100 and not any(abs(eta - other) < 1e-6 * eta for other in seen):
                    seen.append(eta)
                    yield eta


def _same_update_again(state: Pass, u: str) -> Iterator[tuple[Change, ...]]:
    """Weights updated too early at one unit are so for all that it reads, and often at every unit: one mistake."""
    facts = state.facts
    before = [change for change in state.changes if change.learning_rate is not None]
    if not before or u == facts.net.output:
        return
    first = before[0]
    readers = [v for v in facts.plan.readers[u] if has_own_matrix(facts, v, u)]
    for again in ([v for v in readers if v == first.mistake.unit], readers):
        if again:
            yield tuple(replace(updated_weights(v, u, first.learning_rate or 0), mistake=first.mistake) for v in again)


def _gradient_changes(
    state: Pass, u: str, delta: np.ndarray, observed: Observed, allowed: int
) -> Iterator[tuple[Change, ...]]:
    """The sets of changes with which the gradients that are complete with δ_u are what was handed in."""
    facts = state.facts
    off = [place for place in facts.plan.due[u] if not _fit(state, u, delta, (), [place], observed)]
    if not off:
        yield ()
        return
    if not allowed:
        return
    for changes in in_all_gradients(facts, u):
        if _fit(state, u, delta, changes, facts.plan.due[u], observed):
            yield changes
    if len(off) > allowed:
        return
    known = [in_shared(facts, u, name) if group == SHARED else in_gradient(facts, u, name) for group, name in off]
    fitting = [
        [change for change in changes if _fit(state, u, delta, [change], [place], observed)]
        for changes, place in zip(known, off, strict=True)
    ]
    yield from product(*fitting)


def _fit(
    state: Pass,
    u: str,
    delta: np.ndarray,
    changes: Sequence[Change],
    weights: Iterable[Place],
    observed: Observed,
) -> bool:
    """Whether the gradients that are complete with δ_u, right or with changes, are what was handed in."""
    by_source = {str(change.key): change for change in changes if change.stage == "gradient"}
    shared = [Name("grad", (group, name)) for group, name in weights if group == SHARED]
    own = [name for group, name in weights if group != SHARED]
    if not all(_fits(state, u, s, delta, by_source.get(s), observed) for s in own):
        return False
    if not any(name in observed.arrays for name in shared):
        return True
    gradients = state.with_gradients(u, delta, changes).gradients
    return all(observed.close(name, gradients[name]) for name in shared)


def _fits(state: Pass, u: str, s: str, delta: np.ndarray, change: Change | None, observed: Observed) -> bool:
    """Whether a gradient, right or with a change, is what was handed in; of a large one a part is tried first."""
    name = Name("grad", (u, s))
    if name not in observed.arrays:
        return True

    def predicted(state: Pass, delta: np.ndarray) -> np.ndarray:
        return gradient(state.facts, u, s, delta) if change is None else change.apply(state, delta)

    facts = state.facts
    shape = facts.params[u][s].shape
    if s != ONE and facts.params[u][s].size > _LARGE and isinstance(facts.edge(u, s).connection, Dense):
        columns = np.linspace(0, shape[1] - 1, _PART, dtype=int)
        rows = columns if shape[0] == shape[1] else np.linspace(0, shape[0] - 1, _PART, dtype=int)
        alike = [v for v in facts.h if facts.h[v].shape == facts.h[s].shape]
        h = {v: facts.h[v][..., rows] for v in alike}
        a = {v: facts.a[v][..., rows] for v in alike if v in facts.a}
        part = predicted(Pass(replace(facts, h=h, a=a)), delta[..., columns])
        mine = observed.arrays[name]
        mine = mine[np.ix_(rows, columns)] if mine.shape == shape else mine[np.ix_(columns, rows)]
        if not observed.close_arrays(name, mine, part):
            return False
    return observed.close(name, predicted(state, delta))


def _distinct(found: Sequence[tuple[Change, ...]]) -> list[tuple[Change, ...]]:
    by_mistakes: dict[frozenset[Mistake], tuple[Change, ...]] = {}
    for changes in found:
        by_mistakes.setdefault(frozenset(change.mistake for change in changes), changes)
    return list(by_mistakes.values())


def mistakes_of(changes: Iterable[Change]) -> tuple[Mistake, ...]:
    """The mistakes behind changes, each once."""
    return tuple(dict.fromkeys(change.mistake for change in changes))
