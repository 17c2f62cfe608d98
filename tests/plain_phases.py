"""Both phases in plain numpy.

The phases are written apart from the library. They store each quantity by its name, signals by the connection they
come through:

    a_u = Σ_s h_s W_su + b_u,  h_u = Φ(a_u)
    δ_u = Φ'(a_u) ⊙ Δ_u,  grad_us = h_sᵀ δ_u,  grad_u,bias = 1ᵀ δ_u
    signal_us = δ_u W_suᵀ,  Δ_s = Σ_u signal_us

What a connection adds to the gradient of a weight that several share is stored as part_us, and their sum with the last
of them.
"""

from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np
from plain_rules import LOSS, LOSS_GRADIENT, RULES, VALUE, as_rows, function_of, pull_back

from jaxbp import Network


def forward_phase(problem: Any, q: MutableMapping[str, np.ndarray]) -> None:
    """Stores h of the inputs, a and h of the units, the targets y, and the loss."""
    for s, x in problem.x.items():
        q[f"h.{s}"] = x
    for u in problem.net.order:
        unit = problem.net.units[u]
        if is_function(unit):
            q[f"a.{u}"] = function_of(unit.function).apply(*(q[f"h.{s}"] for s in unit.sources))
        else:
            terms = [RULES[type(c)].apply(c, problem.weight(u, s), q[f"h.{s}"]) for s, c in unit.connections.items()]
            q[f"a.{u}"] = sum(terms) + problem.params[u].get("bias", 0)
        q[f"h.{u}"] = VALUE[problem.activation(u)](q[f"a.{u}"])
    q["y"] = problem.y
    # an example has the sum of its rows
    q["loss"] = np.sum(LOSS[problem.loss](q[f"h.{problem.net.output}"], q["y"])) / len(problem.y)


def backward_phase(problem: Any, q: MutableMapping[str, np.ndarray], units: list[str]) -> None:
    """Stores Delta, delta and the gradients of these units, and the signals they send to the units that they read."""
    net = problem.net
    for u in units:
        if u == net.output:
            q[f"Delta.{u}"] = LOSS_GRADIENT[problem.loss](q[f"h.{u}"], q["y"]) / len(problem.y)
        else:
            q[f"Delta.{u}"] = sum(q[f"signal.{v}.{u}"] for v in readers(net, u))
        q[f"delta.{u}"] = pull_back(problem.activation(u), q[f"a.{u}"], q[f"Delta.{u}"])
        for s in problem.params[u]:
            q[f"grad.{u}.{s}"] = gradient(problem, u, s, q, q[f"delta.{u}"])
        for s, connection in connections(net, u).items():
            if connection.share is not None:
                q[f"part.{u}.{s}"] = gradient(problem, u, s, q, q[f"delta.{u}"])
        for name in problem.complete_at(u):
            q[f"grad.shared.{name}"] = sum(q[f"part.{v}.{s}"] for v, s in problem.uses(name))
        for s in sources(net, u):
            q[f"signal.{u}.{s}"] = signal(problem, u, s, q, q[f"delta.{u}"])


def gradient(
    problem: Any,
    u: str,
    s: str,
    q: Mapping[str, np.ndarray],
    delta: np.ndarray,
    h: np.ndarray | None = None,
) -> np.ndarray:
    """What a δ at u makes of the weight from s, or of the bias; with another h than that of s if one is given."""
    if s == "bias":
        return as_rows(delta).sum(axis=0)
    connection = connections(problem.net, u)[s]
    h = q[f"h.{s}"] if h is None else h
    return RULES[type(connection)].contract(connection, problem.weight(u, s), h, delta)


def signal(
    problem: Any,
    u: str,
    s: str,
    q: Mapping[str, np.ndarray],
    delta: np.ndarray,
    W: np.ndarray | None = None,
) -> np.ndarray:
    """What a δ at u sends back to s; through another W than its own if one is given."""
    unit = problem.net.units[u]
    if is_function(unit):
        inputs = tuple(q[f"h.{t}"] for t in unit.sources)
        return function_of(unit.function).send(inputs, q[f"a.{u}"], delta)[unit.sources.index(s)]
    connection = unit.connections[s]
    W = problem.weight(u, s) if W is None else W
    return RULES[type(connection)].send(connection, W, q[f"h.{s}"], delta)


def connections(net: Network, u: str) -> dict[str, Any]:
    """The connections into a unit by source; none into a function."""
    return dict(getattr(net.units[u], "connections", {}))


def is_function(unit: Any) -> bool:
    """Whether a unit is a function of its sources and no sum."""
    return hasattr(unit, "function")


def readers(net: Network, s: str) -> list[str]:
    """The units that read s, in backward order."""
    return [u for u in reversed(net.order) if s in net.units[u].reads]


def sources(net: Network, u: str) -> list[str]:
    """The units that u reads; nothing is sent to an input, which has nothing to learn."""
    return [s for s in net.units[u].reads if s in net.units]
