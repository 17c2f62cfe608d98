"""The checker on mistakes that people made: where it finds them, and what it calls them."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pytest
from real_mistakes import ALL, RealMistake

import jaxbp

SAMPLE = ALL[::6]


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=() if case in SAMPLE else pytest.mark.slow) for case in ALL]
)
def test_a_program_has_this_mistake_and_no_other(case):
    """Repaired it gives what `jax.grad` gives, and as it was found something else."""
    params, x, y = case.problem()
    leaves, treedef = jax.tree.flatten(jax.grad(jaxbp.objective(case.net, case.loss))(params, x, y))
    off = [distance(treedef.flatten_up_to(case.mine(repaired)), leaves) for repaired in (True, False)]
    assert off[0] < 1e-9
    assert off[1] > 1e-3


def distance(mine: Sequence[Any], right: Sequence[Any]) -> float:
    """The largest norm of a difference, relative to that of the largest gradient."""
    assert [np.shape(g) for g in mine] == [np.shape(r) for r in right]
    return size([g - r for g, r in zip(mine, right, strict=True)]) / size(right)


def size(tree: Any) -> float:
    return max(float(np.linalg.norm(g)) for g in jax.tree.leaves(tree))


# The share that is located, and the share that is named.


def judged(case: RealMistake) -> jaxbp.Report:
    params, x, y = case.problem()
    return jaxbp.check(case.net, case.loss, params, x, y, case.mine())


def is_located(case: RealMistake, report: jaxbp.Report) -> bool:
    """Whether the first wrong quantity is a wrong gradient of a unit with no wrong gradient after it."""
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


def is_named(case: RealMistake, report: jaxbp.Report) -> bool:
    """Whether one of the explanations is what was done; and where there is no name for it, that there is none."""
    if not case.named:
        return report.alternatives == ()
    return any(
        frozenset(mistake.slug for mistake in together) in case.named and is_in_place(case, together)
        for together in report.alternatives
    )


def is_in_place(case: RealMistake, together: Sequence[jaxbp.Mistake]) -> bool:
    units = frozenset(u for mistake in together for u in units_of(mistake))
    return case.units is None or not units or units == case.units


def units_of(mistake: jaxbp.Mistake) -> tuple[str, ...]:
    return getattr(mistake, "units", None) or tuple(filter(None, [mistake.unit]))


def shares(cases: Sequence[RealMistake]) -> tuple[float, float]:
    reports = [judged(case) for case in cases]
    located = [is_located(case, report) for case, report in zip(cases, reports, strict=True)]
    is_right = [is_named(case, report) for case, report in zip(cases, reports, strict=True)]
    for case, report, place, name in zip(cases, reports, located, is_right, strict=True):
        if not (place and name):
            said = [" + ".join(sorted({m.slug for m in together})) for together in report.alternatives]
            print(f"{case}: {report.verdict} at {report.first_wrong}, called {said or 'nothing'}")
    print(f"of {len(cases)} {sum(located)} are located, and {sum(is_right)} are named")
    return float(np.mean(located)), float(np.mean(is_right))


def test_some_are_located_and_named():
    located, _ = shares(SAMPLE)
    assert located == 1


@pytest.mark.slow
def test_all_are_located_and_nine_of_ten_are_named():
    located, name = shares(ALL)
    assert located >= 0.98
    assert name >= 0.9
