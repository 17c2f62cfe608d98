"""Wrong backward passes: every mistake of a list, at every place of a network where it can be made.

A mistake changes some of the quantities of the right pass as they are stored. What is computed from them later is then
wrong too, as in a real program, and two mistakes are made together by making the changes of both.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np
from wrong_networks import (
    DERIVATIVE,
    Problem,
    backward_phase,
    connections,
    contract,
    forward_phase,
    is_function,
    pull_back,
    readers,
    signal,
    sources,
)

import jaxbp
from jaxbp import Network, Transposed
from jaxbp.activations import Activation

Arrays = Mapping[str, np.ndarray]
Change = Callable[[Arrays], np.ndarray]
"""What is stored in place of a quantity, computed from that quantity and those stored before it."""
Changes = dict[str, Change]

COLLAPSING = {  # the pairs with δ_o = (o − y) / N
    (jaxbp.linear, jaxbp.squared_error),
    (jaxbp.softmax, jaxbp.cross_entropy),
    (jaxbp.sigmoid, jaxbp.binary_cross_entropy),
}


@dataclass(frozen=True, eq=False)
class Wrong:
    """All that a program with a mistake computes, or with two of them: `slug` and `unit` are then pairs.

    Attributes:
        slug: Which mistake it is.
        unit: The unit in whose backward step it is made; None where it is made in the whole.
        quantities: Everything the program computes, by name.
        first_wrong: The names that may be called the first wrong one in backward order.
        changes: What the mistake itself changes.
    """

    slug: str | tuple[str, str]
    unit: str | tuple[str | None, str | None] | None
    quantities: Arrays
    first_wrong: frozenset[str]
    changes: Changes

    def __repr__(self) -> str:
        return f"Wrong({self.slug!r}, {self.unit!r}, changing {', '.join(self.changes)})"


def right_pass(problem: Problem) -> Arrays:
    """All quantities by name."""
    return both_phases(problem, {})


def wrong_passes(problem: Problem) -> Iterator[Wrong]:
    """Every mistake alone, if it makes a difference to the gradient; those near the output first."""
    right = right_pass(problem)
    for slug, unit, changes in mistakes(problem):
        quantities = both_phases(problem, changes)
        if not same_gradients(quantities, right):
            yield Wrong(slug, unit, quantities, first_wrong(problem, quantities), changes)


def pairs(problem: Problem, rng: np.random.Generator, count: int) -> Iterator[Wrong]:
    """Up to `count` random pairs of mistakes at two units, in each the one nearer to the output first."""
    singles = list(wrong_passes(problem))
    variants = Counter(wrong.slug for wrong in singles)
    candidates = list(combinations(singles, 2))
    # every kind of mistake as often as any other, however many places it can be made at
    odds = np.array([1 / (variants[first.slug] * variants[second.slug]) for first, second in candidates])
    drawn = rng.choice(len(candidates), size=len(candidates), replace=False, p=odds / odds.sum())
    made = (together(problem, *candidates[i]) for i in drawn)
    return islice((pair for pair in made if pair is not None), count)


def together(problem: Problem, first: Wrong, second: Wrong) -> Wrong | None:
    """Both mistakes in one program; None where they meet, or where one of them makes no difference any more."""
    output = problem.net.output
    if (first.unit or output) == (second.unit or output) or first.changes.keys() & second.changes.keys():
        return None
    if len({changed_weight(problem, name) for name in (*first.changes, *second.changes)}) == 1:
        return None  # of the gradient of one weight, one mistake is looked for
    changes = {**first.changes, **second.changes}
    quantities = both_phases(problem, changes)
    if any(same_gradients(quantities, q) for q in (right_pass(problem), first.quantities, second.quantities)):
        return None
    names = first_wrong(problem, quantities)
    return Wrong((first.slug, second.slug), (first.unit, second.unit), quantities, names, changes)


def changed_weight(problem: Problem, name: str) -> str:
    """What a changed part of a gradient is a part of; else the quantity itself."""
    kind, *path = name.split(".")
    return f"grad.shared.{problem.net.units[path[0]].connections[path[1]].share}" if kind == "part" else name


def both_phases(problem: Problem, changes: Changes) -> Arrays:
    q = Store(changes)
    forward_phase(problem, q)
    backward_phase(problem, q)
    given = {"y", *(f"h.{s}" for s in problem.net.inputs)}
    inner = ("signal.", "part.")
    return {name: array for name, array in q.items() if name not in given and not name.startswith(inner)}


class Store(dict[str, np.ndarray]):
    """Quantities by name; one that a mistake changes is changed as soon as it is stored."""

    def __init__(self, changes: Changes) -> None:
        super().__init__()
        self.changes = changes

    def __setitem__(self, name: str, value: np.ndarray) -> None:
        super().__setitem__(name, value)
        if name in self.changes:
            super().__setitem__(name, self.changes[name](self))


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


def gradient_names(problem: Problem, u: str) -> list[str]:
    return [f"grad.{u}.{s}" for s in problem.params[u]]


def part_names(problem: Problem, u: str) -> list[str]:
    """What u adds to the gradients of shared weights."""
    return [gradient_name(problem, u, s) for s in weighted_sources(problem, u) if s not in problem.params[u]]


def gradient_name(problem: Problem, u: str, s: str) -> str:
    return f"grad.{u}.{s}" if s in problem.params[u] else f"part.{u}.{s}"


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


# What mistakes are made of


def times(factor: float, *names: str) -> Changes:
    return {name: lambda q, name=name: factor * q[name] for name in names}


def product(first: str, second: str) -> Change:
    return lambda q: q[first] * q[second]


def same_as(name: str) -> Change:
    return lambda q: q[name]


def transposed(name: str) -> Change:
    return lambda q: q[name].T


def pulled_back(Phi: Activation, a: str, Delta: str) -> Change:
    return lambda q: pull_back(Phi, q[a], q[Delta])


def diagonal_pulled_back(o: str, Delta: str) -> Change:
    return lambda q: q[o] * (1 - q[o]) * q[Delta]


def masked(a: str, Delta: str) -> Change:
    return lambda q: np.where(q[a] > 0, q[Delta], 0.0)


def contracted(h: str, delta: str, is_transposed: bool = False) -> Change:
    return lambda q: contract(q[h], q[delta]).T if is_transposed else contract(q[h], q[delta])


def sent_through(W: np.ndarray, delta: str) -> Change:
    return lambda q: q[delta] @ W


def sent_through_updated(W: np.ndarray, eta: float, grad: str, delta: str) -> Change:
    return lambda q: q[delta] @ (W - eta * q[grad]).T


def equally_wide(net: Network, name: str) -> list[str]:
    return [other for other in net.shapes if other != name and net.shapes[other] == net.shapes[name]]


def equally_wide_units(net: Network, u: str) -> list[str]:
    return [v for v in equally_wide(net, u) if v in net.units]


def weighted_sources(problem: Problem, u: str) -> list[str]:
    return [s for s, c in connections(problem.net, u).items() if s in problem.params[u] or c.share is not None]


def is_elementwise(Phi: Activation) -> bool:
    return Phi in DERIVATIVE


# Mistakes in the whole: what is done to Delta of the output is done to all that comes after it


def negated(problem: Problem) -> Iterator[Changes]:
    yield times(-1, f"Delta.{problem.net.output}")


def scaled(problem: Problem) -> Iterator[Changes]:
    N, outputs = problem.y.shape
    for factor in sorted({N, 1 / N, 2, 1 / 2, outputs, 1 / outputs}):
        yield times(factor, f"Delta.{problem.net.output}")


def labels_shifted(problem: Problem) -> Iterator[Changes]:
    yield {"y": lambda q: np.roll(q["y"], 1, axis=1)}
    if problem.y.shape[1] > 2:  # two classes can only be swapped
        yield {"y": lambda q: np.roll(q["y"], -1, axis=1)}
        yield {"y": lambda q: q["y"][:, ::-1]}


# Mistakes in Delta


def dropped_branch(problem: Problem, s: str) -> Iterator[Changes]:
    if len(readers(problem.net, s)) > 1:
        for u in readers(problem.net, s):
            yield times(0, f"signal.{u}.{s}")


def branch_twice(problem: Problem, s: str) -> Iterator[Changes]:
    if len(readers(problem.net, s)) > 1:
        for u in readers(problem.net, s):
            yield times(2, f"signal.{u}.{s}")


def last_branch_wins(problem: Problem, s: str) -> Iterator[Changes]:
    """As by Delta[s] = … where it should be Delta[s] += …."""
    if len(readers(problem.net, s)) > 1:
        yield {f"Delta.{s}": same_as(f"signal.{readers(problem.net, s)[-1]}.{s}")}


def not_transposed(problem: Problem, u: str) -> Iterator[Changes]:
    for s in sources(problem.net, u):
        if s in equally_wide(problem.net, u) and not is_function(problem.net.units[u]):
            yield {f"signal.{u}.{s}": sent_through(problem.weights(s, u), f"delta.{u}")}


def updated_weights(problem: Problem, u: str) -> Iterator[Changes]:
    for eta in (0.1, 0.5):
        yield {
            f"signal.{u}.{s}": sent_through_updated(problem.weights(s, u), eta, f"grad.{u}.{s}", f"delta.{u}")
            for s in weighted_sources(problem, u)
            if s in problem.net.units and s in problem.params[u]
        }


def negated_signal(problem: Problem, u: str) -> Iterator[Changes]:
    if is_function(problem.net.units[u]):
        yield from (times(-1, f"signal.{u}.{s}") for s in sources(problem.net, u))


def jacobian_left_out(problem: Problem, u: str) -> Iterator[Changes]:
    if is_function(problem.net.units[u]):
        yield from ({f"signal.{u}.{s}": same_as(f"delta.{u}")} for s in sources(problem.net, u))


def signal_of_other_source(problem: Problem, u: str) -> Iterator[Changes]:
    if is_function(problem.net.units[u]):
        s, t = sources(problem.net, u)
        for one, other in ((s, t), (t, s)):
            yield {f"signal.{u}.{one}": lambda q, other=other: signal(problem, q, u, other)}


# Mistakes in delta


def missing_derivative(problem: Problem, u: str) -> Iterator[Changes]:
    yield {f"delta.{u}": same_as(f"Delta.{u}")}
    yield from jacobian_left_out(problem, u)


def activation_for_derivative(problem: Problem, u: str) -> Iterator[Changes]:
    if is_elementwise(problem.activation(u)) and problem.activation(u) is not jaxbp.linear:
        yield {f"delta.{u}": product(f"h.{u}", f"Delta.{u}")}


def derivative_at_output(problem: Problem, u: str) -> Iterator[Changes]:
    if is_elementwise(problem.activation(u)):
        yield {f"delta.{u}": pulled_back(problem.activation(u), f"h.{u}", f"Delta.{u}")}


def derivative_of_other_unit(problem: Problem, u: str) -> Iterator[Changes]:
    if is_elementwise(problem.activation(u)):
        for v in equally_wide_units(problem.net, u):
            yield {f"delta.{u}": pulled_back(problem.activation(u), f"a.{v}", f"Delta.{u}")}


def relu_mask(problem: Problem, u: str) -> Iterator[Changes]:
    """Taken from the incoming signal, or from another unit."""
    if problem.activation(u) is jaxbp.relu:
        for name in [f"Delta.{u}", *(f"a.{v}" for v in equally_wide_units(problem.net, u))]:
            yield {f"delta.{u}": masked(name, f"Delta.{u}")}


def softmax_diagonal(problem: Problem, u: str) -> Iterator[Changes]:
    if problem.activation(u) is jaxbp.softmax:
        yield {f"delta.{u}": diagonal_pulled_back(f"h.{u}", f"Delta.{u}")}


def double_activation_derivative(problem: Problem, u: str) -> Iterator[Changes]:
    """δ_o = (o − y) / N, which has the derivative in it, times J; with softmax also times the diagonal of J."""
    if u == problem.net.output and (problem.activation(u), problem.loss) in COLLAPSING:
        yield {f"delta.{u}": pulled_back(problem.activation(u), f"a.{u}", f"delta.{u}")}
        if problem.activation(u) is jaxbp.softmax:
            yield {f"delta.{u}": diagonal_pulled_back(f"h.{u}", f"delta.{u}")}


def missing_output_derivative(problem: Problem, u: str) -> Iterator[Changes]:
    """δ_o = (o − y) / N with a loss and an activation that do not collapse to it."""
    if u == problem.net.output and (problem.activation(u), problem.loss) not in COLLAPSING:
        yield {f"delta.{u}": lambda q: (q[f"h.{u}"] - q["y"]) / len(problem.y)}


def negated_at_unit(problem: Problem, u: str) -> Iterator[Changes]:
    """All from delta on, or the gradients alone."""
    yield times(-1, f"delta.{u}")
    yield times(-1, *gradient_names(problem, u), *part_names(problem, u))
    yield from negated_signal(problem, u)


def detached(problem: Problem, u: str) -> Iterator[Changes]:
    if u != problem.net.output:
        yield times(0, f"delta.{u}")


# Mistakes in the gradients


def wrong_input(problem: Problem, u: str) -> Iterator[Changes]:
    """That of another unit or input, or what went into the right unit instead of what came out of it."""
    for s in weighted_sources(problem, u):
        inside = [f"a.{s}"] if s in problem.net.units else []
        is_transposed = isinstance(connections(problem.net, u)[s], Transposed)
        for name in [*inside, *(f"h.{v}" for v in equally_wide(problem.net, s))]:
            yield {gradient_name(problem, u, s): contracted(name, f"delta.{u}", is_transposed)}


def outer_product_transposed(problem: Problem, u: str) -> Iterator[Changes]:
    for s in weighted_sources(problem, u):
        if s in problem.params[u]:
            yield {f"grad.{u}.{s}": transposed(f"grad.{u}.{s}")}
    for name in problem.complete_at(u):
        yield {f"grad.shared.{name}": transposed(f"grad.shared.{name}")}


def bias_not_summed(problem: Problem, u: str) -> Iterator[Changes]:
    """That of the first example, of the last one, or the mean of delta, which is divided by N already."""
    if "bias" in problem.params[u]:
        yield {f"grad.{u}.bias": lambda q: q[f"delta.{u}"][0]}
        yield {f"grad.{u}.bias": lambda q: q[f"delta.{u}"][-1]}
        yield {f"grad.{u}.bias": lambda q: q[f"delta.{u}"].mean(axis=0)}


def missing_bias(problem: Problem, u: str) -> Iterator[Changes]:
    if "bias" in problem.params[u]:
        yield times(0, f"grad.{u}.bias")


# Mistakes in the gradients of shared weights


def use_left_out(problem: Problem, u: str) -> Iterator[Changes]:
    yield from (times(0, part) for part in part_names(problem, u))


def use_twice(problem: Problem, u: str) -> Iterator[Changes]:
    yield from (times(2, part) for part in part_names(problem, u))


def mean_of_uses(problem: Problem, u: str) -> Iterator[Changes]:
    for name in problem.complete_at(u):
        yield times(1 / len(problem.uses(name)), f"grad.shared.{name}")


def use_not_transposed(problem: Problem, u: str) -> Iterator[Changes]:
    for s in weighted_sources(problem, u):
        if s not in problem.params[u] and s in equally_wide(problem.net, u):
            yield {f"part.{u}.{s}": transposed(f"part.{u}.{s}")}


IN_THE_WHOLE = {
    "sign": negated,
    "scale": scaled,
    "labels-shifted": labels_shifted,
}
AT_A_UNIT = {
    "dropped-branch": dropped_branch,
    "branch-twice": branch_twice,
    "last-branch-wins": last_branch_wins,
    "not-transposed": not_transposed,
    "updated-weights": updated_weights,
    "missing-derivative": missing_derivative,
    "activation-for-derivative": activation_for_derivative,
    "derivative-at-output": derivative_at_output,
    "derivative-of-other-unit": derivative_of_other_unit,
    "relu-mask": relu_mask,
    "softmax-diagonal": softmax_diagonal,
    "double-activation-derivative": double_activation_derivative,
    "missing-output-derivative": missing_output_derivative,
    "sign": negated_at_unit,
    "detached": detached,
    "wrong-input": wrong_input,
    "outer-product-transposed": outer_product_transposed,
    "bias-not-summed": bias_not_summed,
    "missing-bias": missing_bias,
    "signal-of-other-source": signal_of_other_source,
    "use-left-out": use_left_out,
    "use-twice": use_twice,
    "mean-of-uses": mean_of_uses,
    "use-not-transposed": use_not_transposed,
}


def mistakes(problem: Problem) -> Iterator[tuple[str, str | None, Changes]]:
    """Slug, unit and changes of all mistakes, also of those that make no difference."""
    for slug, variants in IN_THE_WHOLE.items():
        yield from ((slug, None, changes) for changes in variants(problem))
    for u in reversed(problem.net.order):
        for slug, variants in AT_A_UNIT.items():
            yield from ((slug, u, changes) for changes in variants(problem, u))
