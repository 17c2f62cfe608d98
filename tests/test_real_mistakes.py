"""The checker on mistakes that people made: where it finds them, and what it calls them.

A few are checked each time, all in the slow tests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pytest
from real_mistakes import IN_LAYERS, RealMistake
from real_mistakes_in_functions import IN_FUNCTIONS, RealMistakeInFunction
from real_mistakes_in_graphs import IN_GRAPHS

import jaxbp

Case = RealMistake | RealMistakeInFunction

ALL: list[Case] = [*IN_LAYERS, *IN_GRAPHS, *IN_FUNCTIONS]
SAMPLE = [
    case
    for case in ALL
    if case.name
    in (
        "the gain twice in the term of the root",
        "target minus output",
        "only the first of two readers is heard",
        "a sign in the documentation",
    )
]


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=() if case in SAMPLE else pytest.mark.slow) for case in ALL]
)
def test_a_program_has_this_mistake_and_no_other(case: Case):
    """Repaired it gives what `jax.grad` gives, and as it was found something else."""
    if isinstance(case, RealMistake):
        params, x, y = case.problem()
        right = jax.grad(jaxbp.objective(case.net, case.loss))(params, x, y)
    else:
        right = jax.grad(case.f)(case.params())
    leaves, treedef = jax.tree.flatten(right)
    assert [np.shape(g) for g in treedef.flatten_up_to(case.mine(repaired=True))] == [np.shape(r) for r in leaves]
    off = [distance(treedef.flatten_up_to(case.mine(repaired)), leaves) for repaired in (True, False)]
    assert off[0] < 1e-9
    assert off[1] > 1e-3


def distance(mine: Sequence[Any], right: Sequence[Any]) -> float:
    """The largest norm of a difference, relative to that of the largest gradient."""
    return size([g - r for g, r in zip(mine, right, strict=True)]) / size(right)


def size(tree: Any) -> float:
    return max(float(np.linalg.norm(g)) for g in jax.tree.leaves(tree))


# The share that is located, and the share that is named.


def judged(case: Case) -> jaxbp.Report:
    if isinstance(case, RealMistakeInFunction):
        return jaxbp.check_function(case.f, case.params(), case.mine())
    params, x, y = case.problem()
    return jaxbp.check(case.net, case.loss, params, x, y, case.mine())


def is_located(case: Case, report: jaxbp.Report) -> bool:
    """Whether the first wrong quantity is a wrong gradient of a unit with no wrong gradient after it."""
    if isinstance(case, RealMistakeInFunction):
        right = case.mine(repaired=True)
        wrong = {name for name, g in case.mine().items() if distance([g], [right[name]]) > 1e-7}
        return report.verdict == "wrong" and report.first_wrong in wrong
    mine, right = case.mine(), case.mine(repaired=True)
    wrong = {
        (u, s) for u in right for s in right[u] if np.linalg.norm(mine[u][s] - right[u][s]) > 1e-9 + 1e-7 * size(right)
    }
    units = {u for u, _ in wrong}
    first = {f"grad.{u}.{s}" for u, s in wrong if not units & after(case.net, u)}
    return report.verdict == "wrong" and report.first_wrong in first


def after(net: jaxbp.Network, s: str) -> set[str]:
    """The units that a gradient comes from; a shared weight has them all."""
    if s not in net.units:
        return set()
    readers = {u for u in net.units if s in net.units[u].reads}
    return readers.union(*(after(net, u) for u in readers))


def is_named(case: Case, report: jaxbp.Report) -> bool:
    """Whether one of the explanations is what was done, where it was done."""
    return any(
        frozenset(mistake.slug for mistake in together) in case.named and is_in_place(case, together)
        for together in report.alternatives
    )


def is_in_place(case: Case, together: Sequence[jaxbp.Mistake]) -> bool:
    units = frozenset(u for mistake in together for u in units_of(mistake))
    return isinstance(case, RealMistakeInFunction) or case.units is None or not units or units == case.units


def units_of(mistake: jaxbp.Mistake) -> tuple[str, ...]:
    return getattr(mistake, "units", None) or tuple(filter(None, [mistake.unit]))


@dataclass(frozen=True)
class Shares:
    """How often a report says where it goes wrong, what was done, and nothing where it has no name for that."""

    located: float
    named: float
    silent: float


def shares(cases: Sequence[Case]) -> Shares:
    """The shares among these cases, all of which are 1 at best; what is missed is printed."""
    located, is_right, silent = [], [], []
    for case in cases:
        report = judged(case)
        located.append(is_located(case, report))
        (is_right if case.named else silent).append(is_named(case, report) if case.named else not report.alternatives)
        if not (located[-1] and (is_right if case.named else silent)[-1]):
            said = [" + ".join(sorted({m.slug for m in together})) for together in report.alternatives]
            print(f"{case}: {report.verdict} at {report.first_wrong}, called {said or 'nothing'}")
    print(
        f"located {sum(located)} of {len(located)}, named {sum(is_right)} of {len(is_right)}, and nothing is", end=" "
    )
    print(f"said of {sum(silent)} of {len(silent)} that have no name")
    return Shares(*(float(np.mean(kind)) for kind in (located, is_right, silent)))


def test_some_are_located_and_named():
    assert shares(SAMPLE) == Shares(1, 1, 1)


@pytest.mark.slow
def test_nine_of_ten_are_named():
    found = shares(ALL)
    assert found.located >= 0.98
    assert found.named >= 0.9
    assert found.silent >= 0.9
