"""The networks on which backward passes go wrong, random examples for them, and both phases in plain numpy.

The phases are written apart from the library. They store each quantity by its name, signals by the connection they
come through:

    a_u = Σ_s h_s W_su + b_u,  h_u = Φ(a_u)
    δ_u = Φ'(a_u) ⊙ Δ_u,  grad_us = h_sᵀ δ_u,  grad_u,bias = 1ᵀ δ_u
    signal_us = δ_u W_suᵀ,  Δ_s = Σ_u signal_us

What a connection adds to the gradient of a weight that several share is stored as part_us, and their sum with the last
of them.
"""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from plain_rules import (
    KINKS,
    LOSS,
    LOSS_GRADIENT,
    RULES,
    VALUE,
    as_rows,
    gate,
    gate_pullback,
    pull_back,
)

import jaxbp
from jaxbp import Dense, Identity, Network, Transposed, Unit, function_unit, layered

SKIP = Network(
    inputs={"x": 4},
    units={
        "h1": Unit(5, jaxbp.tanh, {"x": Dense()}),
        "h2": Unit(5, jaxbp.sigmoid, {"h1": Dense()}),
        "o": Unit(3, jaxbp.softmax, {"h2": Dense(), "h1": Dense(), "x": Dense()}),
    },
)
RESIDUAL = Network(  # the unit in which the branches meet has no parameters
    inputs={"x": 3},
    units={
        "h1": Unit(4, jaxbp.relu, {"x": Dense()}),
        "h2": Unit(4, jaxbp.softplus, {"h1": Dense()}),
        "sum": Unit(4, jaxbp.linear, {"h1": Identity(), "h2": Identity()}, bias=False),
        "h3": Unit(4, jaxbp.tanh, {"sum": Dense()}),
        "o": Unit(2, jaxbp.linear, {"h3": Dense(), "sum": Dense()}),
    },
)
DIAMOND = Network(
    inputs={"x": 3},
    units={
        "h1": Unit(4, jaxbp.sigmoid, {"x": Dense()}),
        "left": Unit(4, jaxbp.relu, {"h1": Dense()}),
        "right": Unit(4, jaxbp.tanh, {"h1": Dense()}),
        "o": Unit(3, jaxbp.sigmoid, {"left": Dense(), "right": Dense()}),
    },
)
TWO_INPUTS = Network(
    inputs={"image": 4, "text": 3},
    units={
        "h1": Unit(4, jaxbp.leaky_relu, {"image": Dense()}),
        "h2": Unit(3, jaxbp.softplus, {"text": Dense(), "h1": Dense()}),
        "o": Unit(3, jaxbp.softmax, {"h2": Dense(), "h1": Dense()}),
    },
)
THREE_READERS = Network(  # h1 is read by three units
    inputs={"x": 3},
    units={
        "h1": Unit(4, jaxbp.tanh, {"x": Dense()}),
        "left": Unit(3, jaxbp.hard_tanh, {"h1": Dense()}),
        "right": Unit(4, jaxbp.relu, {"h1": Identity(), "x": Dense()}),
        "o": Unit(2, jaxbp.tanh, {"left": Dense(), "right": Dense(), "h1": Dense()}),
    },
)

TIED = Network(  # a decoder that is the encoder transposed, of two layers, the inner of a square matrix
    inputs={"x": 4},
    units={
        "h1": Unit(3, jaxbp.tanh, {"x": Dense(share="outer")}),
        "code": Unit(3, jaxbp.sigmoid, {"h1": Dense(share="inner")}),
        "h2": Unit(3, jaxbp.softplus, {"code": Transposed(Dense(share="inner"))}),
        "o": Unit(4, jaxbp.linear, {"h2": Transposed(Dense(share="outer"))}, bias=False),
    },
)
SIAMESE = Network(  # two branches with one encoder
    inputs={"left": 3, "right": 3},
    units={
        "a1": Unit(4, jaxbp.tanh, {"left": Dense(share="first")}),
        "b1": Unit(4, jaxbp.tanh, {"right": Dense(share="first")}),
        "a2": Unit(4, jaxbp.relu, {"a1": Dense(share="second")}, bias=False),
        "b2": Unit(4, jaxbp.relu, {"b1": Dense(share="second")}, bias=False),
        "o": Unit(3, jaxbp.softmax, {"a2": Dense(), "b2": Dense()}),
    },
)


def gated(pullback=None) -> Network:
    return Network(
        inputs={"x": 3},
        units={
            "value": Unit(4, jaxbp.tanh, {"x": Dense()}),
            "switch": Unit(4, jaxbp.sigmoid, {"x": Dense()}),
            "both": function_unit(gate, ("value", "switch"), 4, pullback=pullback, activation=jaxbp.softplus),
            "o": Unit(2, jaxbp.linear, {"both": Dense(), "value": Dense()}),
        },
    )


NETWORKS: dict[str, tuple[Network, jaxbp.Loss]] = {
    "softmax alone": (layered([4, 3], hidden=(), output=jaxbp.softmax), jaxbp.cross_entropy),
    "sigmoid layer": (layered([4, 5, 3], hidden=jaxbp.sigmoid, output=jaxbp.softmax), jaxbp.cross_entropy),
    "equal tanh layers": (layered([3, 5, 5, 2], hidden=jaxbp.tanh, output=jaxbp.softmax), jaxbp.cross_entropy),
    "distinct relu layers": (layered([5, 7, 6, 4, 3], hidden=jaxbp.relu, output=jaxbp.linear), jaxbp.squared_error),
    "equal relu layers": (layered([3, 6, 6, 6, 6, 2], hidden=jaxbp.relu, output=jaxbp.linear), jaxbp.squared_error),
    "hard tanh layers": (
        layered([3, 4, 4, 4, 3], hidden=jaxbp.hard_tanh, output=jaxbp.sigmoid),
        jaxbp.binary_cross_entropy,
    ),
    "one output": (layered([3, 5, 5, 1], hidden=jaxbp.leaky_relu, output=jaxbp.sigmoid), jaxbp.binary_cross_entropy),
    "softplus layers": (layered([4, 6, 5, 3], hidden=jaxbp.softplus, output=jaxbp.sigmoid), jaxbp.squared_error),
    "all widths equal": (
        layered([4, 4, 4, 4], hidden=[jaxbp.sigmoid, jaxbp.relu], output=jaxbp.softmax),
        jaxbp.squared_error,
    ),
    "tanh output": (layered([3, 5, 4, 2], hidden=jaxbp.tanh, output=jaxbp.tanh), jaxbp.squared_error),
    "sigmoid, cross-entropy": (layered([3, 5, 4], hidden=jaxbp.tanh, output=jaxbp.sigmoid), jaxbp.cross_entropy),
    "softmax, binary cross-entropy": (
        layered([3, 4, 4, 3], hidden=jaxbp.sigmoid, output=jaxbp.softmax),
        jaxbp.binary_cross_entropy,
    ),
    "no biases": (
        layered([4, 5, 5, 3], hidden=jaxbp.sigmoid, output=jaxbp.softmax, bias=False),
        jaxbp.cross_entropy,
    ),
    "skip connections": (SKIP, jaxbp.cross_entropy),
    "residual": (RESIDUAL, jaxbp.squared_error),
    "diamond": (DIAMOND, jaxbp.binary_cross_entropy),
    "two inputs": (TWO_INPUTS, jaxbp.cross_entropy),
    "three readers": (THREE_READERS, jaxbp.squared_error),
    "tied": (TIED, jaxbp.squared_error),
    "siamese": (SIAMESE, jaxbp.cross_entropy),
    "gated, by jax.vjp": (gated(), jaxbp.squared_error),
    "gated, by hand": (gated(gate_pullback), jaxbp.squared_error),
}


@dataclass(frozen=True, eq=False)
class Problem:
    """A network and a loss, with parameters and a batch of examples in float64."""

    name: str
    net: Network
    loss: jaxbp.Loss
    params: dict[str, dict[str, np.ndarray]]
    x: dict[str, np.ndarray]
    y: np.ndarray

    def activation(self, u: str) -> jaxbp.activations.Activation:
        return self.net.units[u].activation

    def weight(self, u: str, s: str) -> np.ndarray | None:
        """The W of the connection from s to u, as it is stored; None where it has none."""
        share = connections(self.net, u)[s].share
        return self.params[u].get(s) if share is None else self.params["shared"][share]

    def uses(self, name: str) -> list[tuple[str, str]]:
        """Where a shared weight is used, as units and their sources."""
        return [(u, s) for u in self.net.order for s, c in connections(self.net, u).items() if c.share == name]

    def complete_at(self, u: str) -> list[str]:
        """The shared weights of which u, in backward order, is the last user."""
        return [name for name in self.net.weight_shapes.get("shared", {}) if self.uses(name)[0][0] == u]


def example(name: str, seed: int) -> Problem:
    """Random parameters and examples, with every pre-activation some way off the kinks of its activation."""
    problems = (draw(name, np.random.default_rng([attempt, seed, *name.encode()])) for attempt in count())
    return next(problem for problem in problems if is_smooth(problem))


def draw(name: str, rng: np.random.Generator) -> Problem:
    net, loss = NETWORKS[name]
    N = 5 + len(name) % 4  # the same for all seeds, so that one compilation serves them
    params = {
        u: {s: random_weights(rng, shape) for s, shape in net.weight_shapes[u].items()} for u in net.weight_shapes
    }
    x = {s: rng.normal(size=(N, *net.shapes[s])) for s in net.inputs}
    return Problem(name, net, loss, params, x, random_targets(rng, loss, (N, *net.shapes[net.output])))


def random_weights(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Matrices that keep pre-activations of order 1, and biases of a size to be noticed."""
    return rng.normal(size=shape) * (shape[0] ** -0.5 if len(shape) == 2 else 0.4)


def random_targets(rng: np.random.Generator, loss: jaxbp.Loss, shape: tuple[int, ...]) -> np.ndarray:
    """One-hot rows, probabilities or real numbers, as the loss takes them."""
    if loss is jaxbp.cross_entropy:
        return np.eye(shape[-1])[rng.integers(0, shape[-1], size=shape[:-1])]
    if loss is jaxbp.binary_cross_entropy:
        return rng.uniform(0.05, 0.95, size=shape)
    return rng.normal(size=shape)


def is_smooth(problem: Problem) -> bool:
    q: dict[str, np.ndarray] = {}
    forward_phase(problem, q)
    return all(
        np.abs(q[f"a.{u}"] - kink).min() > 1e-3
        for u in problem.net.units
        for kink in KINKS.get(problem.activation(u), ())
    )


def forward_phase(problem: Problem, q: MutableMapping[str, np.ndarray]) -> None:
    """Stores h of the inputs, a and h of the units, the targets y, and the loss."""
    for s, x in problem.x.items():
        q[f"h.{s}"] = x
    for u in problem.net.order:
        unit = problem.net.units[u]
        if is_function(unit):
            q[f"a.{u}"] = value_of(unit.function)(*(q[f"h.{s}"] for s in unit.sources))
        else:
            terms = [RULES[type(c)].apply(c, problem.weight(u, s), q[f"h.{s}"]) for s, c in unit.connections.items()]
            q[f"a.{u}"] = sum(terms) + problem.params[u].get("bias", 0)
        q[f"h.{u}"] = VALUE[problem.activation(u)](q[f"a.{u}"])
    q["y"] = problem.y
    # an example has the sum of its rows
    q["loss"] = np.sum(LOSS[problem.loss](q[f"h.{problem.net.output}"], q["y"])) / len(problem.y)


def backward_phase(problem: Problem, q: MutableMapping[str, np.ndarray]) -> None:
    """Stores Delta, delta and the gradients of each unit, and the signals it sends to the units that it reads."""
    net = problem.net
    for u in reversed(net.order):
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
    problem: Problem,
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
    problem: Problem,
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
        return pullback_of(unit.function)(inputs, q[f"a.{u}"], delta)[unit.sources.index(s)]
    connection = unit.connections[s]
    W = problem.weight(u, s) if W is None else W
    return RULES[type(connection)].send(connection, W, q[f"h.{s}"], delta)


def connections(net: Network, u: str) -> dict[str, Any]:
    """The connections into a unit by source; none into a function."""
    return dict(getattr(net.units[u], "connections", {}))


def is_function(unit: Any) -> bool:
    """Whether a unit is a function of its sources and no sum."""
    return hasattr(unit, "function")


def value_of(function: Any) -> Any:
    return gate


def pullback_of(function: Any) -> Any:
    return gate_pullback


def readers(net: Network, s: str) -> list[str]:
    """The units that read s, in backward order."""
    return [u for u in reversed(net.order) if s in net.units[u].reads]


def sources(net: Network, u: str) -> list[str]:
    """The units that u reads; nothing is sent to an input, which has nothing to learn."""
    return [s for s in net.units[u].reads if s in net.units]
