"""What mistakes are made of: changes of what is stored, and the places where something can go wrong."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from plain_phases import connections, gradient, signal
from plain_rules import DERIVATIVE, pull_back
from wrong_networks import Problem

import jaxbp
from jaxbp import Network
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


@dataclass(frozen=True)
class AtTheEnd:
    """A change that is made when all else is stored, since it needs what comes later."""

    change: Change

    def __call__(self, q: Arrays) -> np.ndarray:
        return self.change(q)


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


def contracted(problem: Problem, u: str, s: str, delta: str, h: str | None = None) -> Change:
    """The gradient from another δ, or another h."""
    return lambda q: gradient(problem, u, s, q, q[delta], None if h is None else q[h])


def sent(problem: Problem, u: str, s: str, delta: str) -> Change:
    """The signal from another δ."""
    return lambda q: signal(problem, u, s, q, q[delta])


def sent_through(problem: Problem, u: str, s: str, W: Change) -> Change:
    """The signal through another W."""
    return lambda q: signal(problem, u, s, q, q[f"delta.{u}"], W(q))


def one_and_all(changes: Changes) -> Iterator[Changes]:
    yield from ({name: change} for name, change in changes.items())
    if len(changes) > 1:
        yield changes


def gradients_by(problem: Problem, u: str, delta: str) -> Changes:
    return {name: contracted(problem, u, s, delta) for s, name in made_at(problem, u).items()}


def merged(many: Iterator[Changes] | list[Changes]) -> Changes:
    return {name: change for changes in many for name, change in changes.items()}


# What there is to go wrong


def equally_wide(net: Network, name: str) -> list[str]:
    return [other for other in net.shapes if other != name and net.shapes[other] == net.shapes[name]]


def equally_wide_units(net: Network, u: str) -> list[str]:
    return [v for v in equally_wide(net, u) if v in net.units]


def equally_wide_before(net: Network, u: str) -> list[str]:
    """Those whose step has been made before that of u, on the way back."""
    return [v for v in equally_wide_units(net, u) if net.order.index(v) > net.order.index(u)]


def weighted_sources(problem: Problem, u: str) -> list[str]:
    return [s for s, c in connections(problem.net, u).items() if s in problem.params[u] or c.share is not None]


def gradient_names(problem: Problem, u: str) -> list[str]:
    return [f"grad.{u}.{s}" for s in problem.params[u]]


def part_names(problem: Problem, u: str) -> list[str]:
    """What u adds to the gradients of shared weights."""
    return [gradient_name(problem, u, s) for s in weighted_sources(problem, u) if s not in problem.params[u]]


def gradient_name(problem: Problem, u: str, s: str) -> str:
    return f"grad.{u}.{s}" if s in problem.params[u] else f"part.{u}.{s}"


def made_at(problem: Problem, u: str) -> dict[str, str]:
    """What u makes of gradients, by source: the names of gradients, or of the parts of shared ones."""
    own = {s: f"grad.{u}.{s}" for s in problem.params[u]}
    return own | {s: f"part.{u}.{s}" for s in weighted_sources(problem, u) if s not in own}


def completed_at(problem: Problem, u: str) -> dict[str, np.ndarray]:
    """The parameters of which u completes the gradient, by the name of that gradient."""
    own = {f"grad.{u}.{s}": W for s, W in problem.params[u].items()}
    return own | {f"grad.shared.{name}": problem.params["shared"][name] for name in problem.complete_at(u)}


def all_parameters(problem: Problem) -> dict[str, np.ndarray]:
    return {name: W for u in reversed(problem.net.order) for name, W in completed_at(problem, u).items()}


def is_matrix(name: str, W: np.ndarray) -> bool:
    return not name.endswith(".bias") and W.ndim == 2


def is_elementwise(Phi: Activation) -> bool:
    return Phi in DERIVATIVE
