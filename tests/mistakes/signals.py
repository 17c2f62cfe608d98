"""Mistakes in what a unit sends back to those that it reads, and in their sum."""

from collections.abc import Iterator

import numpy as np
from plain_phases import connections, is_function, readers, signal, sources
from plain_rules import gate
from wrong_networks import Problem

from mistakes._parts import (
    Change,
    Changes,
    all_parameters,
    completed_at,
    equally_wide_before,
    equally_wide_units,
    one_and_all,
    same_as,
    sent,
    sent_through,
    times,
    weighted_sources,
)


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
        W = None if is_function(problem.net.units[u]) else problem.weight(u, s)
        if W is not None and W.ndim == 2 and W.shape[0] == W.shape[1]:
            yield {f"signal.{u}.{s}": sent_through(problem, u, s, lambda q, W=W: W.T)}


def updated_weights(problem: Problem, u: str) -> Iterator[Changes]:
    for eta in (0.1, 0.5):
        yield updated_at(problem, u, eta)


def updated_at(problem: Problem, u: str, eta: float) -> Changes:
    return {
        f"signal.{u}.{s}": sent_through(
            problem, u, s, lambda q, s=s: problem.params[u][s] - eta * q[f"grad.{u}.{s}"]
        )
        for s in weighted_sources(problem, u)
        if s in problem.net.units and s in problem.params[u]
    }  # fmt: skip


def signals_by(problem: Problem, u: str, delta: str) -> Changes:
    return {f"signal.{u}.{s}": sent(problem, u, s, delta) for s in sources(problem.net, u)}


def error_for_delta(problem: Problem, u: str) -> Iterator[Changes]:
    yield from one_and_all(signals_by(problem, u, f"Delta.{u}"))


def gradients_for_weights(problem: Problem, u: str) -> Changes:
    """∂L/∂W where W belongs."""
    changes: Changes = {}
    for s in sources(problem.net, u):
        share = None if is_function(problem.net.units[u]) else connections(problem.net, u)[s].share
        grad = f"grad.{u}.{s}" if share is None else f"grad.shared.{share}"
        if grad in completed_at(problem, u):
            changes[f"signal.{u}.{s}"] = sent_through(problem, u, s, same_as(grad))
    return changes


def wrong_weight(problem: Problem, u: str) -> Iterator[Changes]:
    yield from one_and_all(gradients_for_weights(problem, u))
    for s in sources(problem.net, u) if not is_function(problem.net.units[u]) else ():
        W = problem.weight(u, s)
        for name, other in all_parameters(problem).items():
            if W is not None and not name.endswith(".bias") and other is not W and other.shape == W.shape:
                yield {f"signal.{u}.{s}": sent_through(problem, u, s, lambda q, other=other: other)}


def wrong_signal(problem: Problem, u: str) -> Iterator[Changes]:
    """The reader's value, or δ of another unit."""
    for name in [f"h.{u}", *(f"delta.{v}" for v in equally_wide_before(problem.net, u))]:
        yield from one_and_all(signals_by(problem, u, name))


def missing_jacobian(problem: Problem, u: str) -> Iterator[Changes]:
    if is_function(problem.net.units[u]):
        yield from ({f"signal.{u}.{s}": same_as(f"delta.{u}")} for s in sources(problem.net, u))


def signal_of_other_source(problem: Problem, u: str) -> Iterator[Changes]:
    if is_function(problem.net.units[u]):
        for s in sources(problem.net, u):
            for other in equally_wide_units(problem.net, s):
                if other in sources(problem.net, u):
                    yield {
                        f"signal.{u}.{s}": lambda q, other=other: signal(problem, u, other, q, q[f"delta.{u}"])
                    }  # fmt: skip


def wrong_gate_factor(problem: Problem, u: str) -> Iterator[Changes]:
    """Of value · switch², what is sent to the one is δ switch², to the other 2 δ value switch."""
    unit = problem.net.units[u]
    if is_function(unit) and unit.function is gate:
        value, switch = unit.sources
        wrong = {value: [(value,), (switch,)], switch: [(value,), (switch, switch), (value, value)]}
        for s, products in wrong.items():
            for names in products:
                yield {f"signal.{u}.{s}": gated_by(f"delta.{u}", *(f"h.{name}" for name in names))}


def gated_by(*names: str) -> Change:
    return lambda q: np.prod([q[name] for name in names], axis=0)


def negated(problem: Problem, u: str) -> Iterator[Changes]:
    yield from (times(-1, f"signal.{u}.{s}") for s in sources(problem.net, u))


def scaled(problem: Problem, u: str) -> Iterator[Changes]:
    for factor in (0.3, 0.5) if is_function(problem.net.units[u]) else (0.3,):  # the half is the gate's 2 forgotten
        yield from (times(factor, f"signal.{u}.{s}") for s in sources(problem.net, u))


IN_SIGNALS = {
    "dropped-branch": dropped_branch,
    "branch-twice": branch_twice,
    "last-branch-wins": last_branch_wins,
    "not-transposed": not_transposed,
    "updated-weights": updated_weights,
    "Delta-for-delta": error_for_delta,
    "wrong-weight": wrong_weight,
    "wrong-signal": wrong_signal,
    "signal-of-other-source": signal_of_other_source,
    "wrong-gate-factor": wrong_gate_factor,
    "missing-derivative": missing_jacobian,
    "sign": negated,
    "scale": scaled,
}
