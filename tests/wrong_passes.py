"""Wrong backward passes: every mistake of the tables, at every place of a network where it can be made.

A mistake changes some of the quantities of the right pass as they are stored. What is computed from them later is then
wrong too, as in a real program, and two mistakes are made together by making the changes of both.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice
from typing import NamedTuple

import numpy as np
from mistakes import AT_A_UNIT, EVERYWHERE, IN_THE_WHOLE, Arrays, AtTheEnd, Changes, between_units, everywhere
from mistakes._parts import completed_at, gradient_names
from plain_phases import backward_phase, forward_phase, readers
from wrong_networks import Problem

from jaxbp import Network


@dataclass(frozen=True, eq=False)
class Wrong:
    """All that a program with a mistake computes, or with two of them: `slug`, `unit` and `units` are then pairs.

    Attributes:
        slug: Which mistake it is.
        unit: The unit in whose backward step it is made; None where it is made in the whole, or at several units.
        units: All units in whose backward step it is made, in backward order; none where it is made in the whole.
        quantities: Everything the program computes, by name.
        first_wrong: The names that may be called the first wrong one in backward order.
        changes: What the mistake itself changes.
    """

    slug: str | tuple[str, str]
    unit: str | tuple[str | None, str | None] | None
    units: tuple[str, ...] | tuple[tuple[str, ...], tuple[str, ...]]
    quantities: Arrays
    first_wrong: frozenset[str]
    changes: Changes

    def __repr__(self) -> str:
        return f"Wrong({self.slug!r}, {self.unit!r}, changing {', '.join(self.changes)})"


class Mistaken(NamedTuple):
    """A mistake before it is made.

    Attributes:
        slug: Which mistake it is.
        unit: The unit in whose backward step it is made, if it is one.
        at_many: Whether it is made at several units.
        changes: What it changes.
    """

    slug: str
    unit: str | None
    at_many: bool
    changes: Changes


@lru_cache(maxsize=4)
def right_pass(problem: Problem) -> Arrays:
    """All quantities by name."""
    return outside(right_phases(problem))


def wrong_passes(problem: Problem) -> Iterator[Wrong]:
    """Every mistake alone, if it makes a difference to the gradient; first those in the whole, or at many units."""
    last = right_pass(problem)
    for mistake in mistakes(problem):
        wrong = made(problem, mistake)
        # one that makes no difference at the output is the same with the output and without
        if wrong is not None and (not mistake.at_many or differing(wrong.quantities, last)):
            yield wrong
            last = wrong.quantities


def one_of_each(problem: Problem, rng: np.random.Generator) -> list[Wrong]:
    """One place at random for each mistake, and for each that is made at many units; without trying them all."""
    kinds: dict[tuple[str, bool], list[Mistaken]] = defaultdict(list)
    for mistake in mistakes(problem):
        kinds[mistake.slug, mistake.at_many].append(mistake)
    tried = ((made(problem, places[i]) for i in rng.permutation(len(places))) for places in kinds.values())
    firsts = (next((wrong for wrong in of_kind if wrong is not None), None) for of_kind in tried)
    return [wrong for wrong in firsts if wrong is not None]


def made(problem: Problem, mistake: Mistaken) -> Wrong | None:
    """All that a program with this mistake computes; None where that makes no difference to the gradient."""
    slug, unit, at_many, changes = mistake
    q = both_phases(problem, changes)
    quantities = outside(q)
    units = (unit,) if unit else units_of(problem, q.changed) if at_many else ()
    if same_gradients(quantities, right_pass(problem)) or (at_many and len(units) < 2):
        return None
    return Wrong(slug, unit, units, quantities, first_wrong(problem, quantities), changes)


def units_of(problem: Problem, names: set[str]) -> tuple[str, ...]:
    """The units in whose steps these quantities are made; a shared weight's gradient with the last of its users."""
    at = {f"grad.shared.{name}": u for u in problem.net.units for name in problem.complete_at(u)}
    units = {at.get(name, name.split(".")[1]) for name in names}
    return tuple(u for u in reversed(problem.net.order) if u in units)


def pairs(problem: Problem, rng: np.random.Generator, count: int) -> Iterator[Wrong]:
    """Up to `count` random pairs of mistakes at two units, in each the one nearer to the output first."""
    every = list(mistakes(problem))
    single = cache(lambda i: made(problem, every[i]))
    both = ((single(i), single(j)) for i, j in drawn_pairs(every, rng, 100 * count))
    tried = (together(problem, first, second) for first, second in both if first is not None and second is not None)
    return islice((pair for pair in tried if pair is not None), count)


def drawn_pairs(every: list[Mistaken], rng: np.random.Generator, tries: int) -> Iterator[tuple[int, int]]:
    """Indices i < j, no pair twice, and every kind of mistake as often as any other, however many places it has."""
    variants = Counter(mistake.slug for mistake in every)
    odds = np.array([1 / variants[mistake.slug] for mistake in every])
    drawn = rng.choice(len(every), size=(tries, 2), p=odds / odds.sum())
    yield from dict.fromkeys((min(i, j), max(i, j)) for i, j in drawn.tolist() if i != j)


def together(problem: Problem, first: Wrong, second: Wrong) -> Wrong | None:
    """Both mistakes in one program; None where they meet, or where one of them makes no difference any more."""
    output = problem.net.output
    if (first.unit or output) == (second.unit or output) or first.changes.keys() & second.changes.keys():
        return None
    if len({changed_weight(problem, name) for name in (*first.changes, *second.changes)}) == 1:
        return None  # of the gradient of one weight, one mistake is looked for
    changes = {**first.changes, **second.changes}
    quantities = outside(both_phases(problem, changes))
    if any(same_gradients(quantities, q) for q in (right_pass(problem), first.quantities, second.quantities)):
        return None
    names = first_wrong(problem, quantities)
    both = (first, second)
    return Wrong(
        *(tuple(getattr(w, part) for w in both) for part in ("slug", "unit", "units")), quantities, names, changes
    )


def changed_weight(problem: Problem, name: str) -> str:
    """What a changed part of a gradient is a part of; else the quantity itself."""
    kind, *path = name.split(".")
    return f"grad.shared.{problem.net.units[path[0]].connections[path[1]].share}" if kind == "part" else name


class Store(dict[str, np.ndarray]):
    """Quantities by name; one that a mistake changes is changed as soon as it is stored.

    Attributes:
        changes: What is changed.
        changed: Those in which that made a difference.
    """

    def __init__(self, changes: Changes) -> None:
        super().__init__()
        self.changes = changes
        self.changed = set[str]()

    def __setitem__(self, name: str, value: np.ndarray) -> None:
        super().__setitem__(name, value)
        if name in self.changes and not isinstance(self.changes[name], AtTheEnd):
            self.change({name: self.changes[name](self)})

    def finish(self) -> None:
        late = {name: change(self) for name, change in self.changes.items() if isinstance(change, AtTheEnd)}
        self.change(late)

    def change(self, values: dict[str, np.ndarray]) -> None:
        for name, value in values.items():
            if np.shape(value) != np.shape(self[name]) or not is_close(value, self[name]):
                self.changed.add(name)
            super().__setitem__(name, value)


def both_phases(problem: Problem, changes: Changes) -> Store:
    """All that a program with these changes stores; what comes before them is as in the right one."""
    q = Store(changes)
    order = list(reversed(problem.net.order))
    if not changes or "y" in changes:
        forward_phase(problem, q)
        backward_phase(problem, q, order)
    else:
        right = right_phases(problem)
        start = min(order.index(u) for u in units_of(problem, changes.keys() - {"loss"}))
        later = {name for u in order[start:] for name in stored_at(problem, u)}
        for name, array in right.items():
            if name not in later:
                q[name] = array
        backward_phase(problem, q, order[start:])
    q.finish()
    return q


@lru_cache(maxsize=4)
def right_phases(problem: Problem) -> Store:
    return both_phases(problem, {})


def stored_at(problem: Problem, u: str) -> list[str]:
    """What the backward step of a unit stores."""
    edges = [f"{kind}.{u}.{s}" for s in problem.net.units[u].reads for kind in ("part", "signal")]
    return [f"Delta.{u}", f"delta.{u}", *completed_at(problem, u), *edges]


def outside(q: Arrays) -> Arrays:
    """What a program shows: not what it is given, nor signals by the connection, nor the parts of shared weights."""
    inside = ("y", "signal.", "part.")
    inputs = {name for name in q if name.startswith("h.") and f"a.{name[2:]}" not in q}
    return {name: array for name, array in q.items() if name not in inputs and not name.startswith(inside)}


# Which quantity is wrong first


def gradients(wrong: Wrong) -> dict[str, dict[str, np.ndarray]]:
    """The gradients alone, in a tree like that of the parameters."""
    return gradient_tree(wrong.quantities)


def gradient_tree(quantities: Arrays) -> dict[str, dict[str, np.ndarray]]:
    tree: dict[str, dict[str, np.ndarray]] = {}
    for name, array in quantities.items():
        match name.split("."):
            case ["delta", u]:  # a unit without parameters has its place in the tree too
                tree[u] = {}
            case ["grad", u, s]:
                tree.setdefault(u, {})[s] = array
    return tree


def first_wrong(problem: Problem, quantities: Arrays) -> frozenset[str]:
    """The first in backward order; the loss, which has no place there, may be named as well."""
    wrong = differing(quantities, right_pass(problem))
    return first_of(problem, wrong) | (wrong & {"loss"})


def first_wrong_gradient(problem: Problem, wrong: Wrong) -> frozenset[str]:
    """The wrong ones among the gradients of the first unit that has any."""
    names = differing(wrong.quantities, right_pass(problem))
    return first_of(problem, {name for name in names if name.startswith("grad.")})


def first_of(problem: Problem, names: set[str]) -> frozenset[str]:
    """Those of a unit with none of the names downstream. Neither of two branches is before the other."""
    at = {u: first_at(problem, u, names) for u in problem.net.units}
    named = {u for u in at if at[u]}
    first = set().union(*(at[u] for u in named if not named & downstream(problem.net, u)))
    # what is wrong with one of its users comes before a shared weight
    later = {name for name in first if any(first & own(u) for u in users(problem, name))}
    return frozenset(first - later)


def own(u: str) -> set[str]:
    return {f"Delta.{u}", f"delta.{u}", f"grad.{u}.bias"}


def users(problem: Problem, name: str) -> list[str]:
    """The units that use a shared weight, by the name of its gradient; none for another name."""
    kind, *path = name.split(".")
    return [u for u, _ in problem.uses(path[1])] if (kind, *path[:1]) == ("grad", "shared") else []


def first_at(problem: Problem, u: str, names: set[str]) -> set[str]:
    """In the backward step of a unit come Δ, then δ, then the gradients in no order."""
    shared = {f"grad.shared.{name}" for name in problem.complete_at(u)}
    step = [{f"Delta.{u}"}, {f"delta.{u}"}, set(gradient_names(problem, u)) | shared]
    return next((part & names for part in step if part & names), set())


def downstream(net: Network, s: str) -> set[str]:
    return set().union(*({u} | downstream(net, u) for u in readers(net, s)))


def differing(p: Arrays, q: Arrays) -> set[str]:
    return {name for name in p if p[name].shape != q[name].shape or not is_close(p[name], q[name])}


def is_close(p: np.ndarray, q: np.ndarray) -> bool:
    return bool(np.linalg.norm(p - q) <= 1e-6 * np.linalg.norm(q) + 1e-12)


def same_gradients(p: Arrays, q: Arrays) -> bool:
    return not any(name.startswith("grad.") for name in differing(p, q))


def mistakes(problem: Problem) -> Iterator[Mistaken]:
    """All mistakes, also those that make no difference."""
    for slug, of_whole in IN_THE_WHOLE.items():
        yield from (Mistaken(slug, None, False, changes) for changes in of_whole(problem))
    yield from (Mistaken("gradients-swapped", None, True, changes) for changes in between_units(problem))
    for slug, ways in EVERYWHERE.items():
        yield from (Mistaken(slug, None, True, changes) for way in ways for changes in everywhere(problem, way))
    for u in reversed(problem.net.order):
        for slug, at_unit in AT_A_UNIT:
            yield from (Mistaken(slug, u, False, changes) for changes in at_unit(problem, u) if changes)
