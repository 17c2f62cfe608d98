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


def gate(value, switch):
    return value * switch**2


def gate_pullback(inputs, a, delta):
    value, switch = inputs
    return delta * switch**2, 2 * delta * value * switch


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

    def activation(self, u: str) -> jaxbp.Activation:
        return self.net.units[u].activation

    def weights(self, s: str, u: str) -> np.ndarray:
        """The W from s to u, the matrix I where the connection has none."""
        connection = connections(self.net, u)[s]
        if connection.share is None:
            return self.params[u].get(s, np.eye(self.net.shapes[u][-1]))
        W = self.params["shared"][connection.share]
        return W.T if isinstance(connection, Transposed) else W

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
    N, width = shape
    if loss is jaxbp.cross_entropy:
        return np.eye(width)[rng.integers(0, width, size=N)]
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
            q[f"a.{u}"] = unit.function(*(q[f"h.{s}"] for s in unit.sources))
        else:
            a = sum(q[f"h.{s}"] @ problem.weights(s, u) for s in unit.connections)
            q[f"a.{u}"] = a + problem.params[u].get("bias", 0)
        q[f"h.{u}"] = VALUE[problem.activation(u)](q[f"a.{u}"])
    q["y"] = problem.y
    q["loss"] = np.mean(LOSS[problem.loss](q[f"h.{problem.net.output}"], q["y"]))


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
            delta = q[f"delta.{u}"]
            q[f"grad.{u}.{s}"] = delta.sum(axis=0) if s == "bias" else contract(q[f"h.{s}"], delta)
        for s, connection in connections(net, u).items():
            if connection.share is not None:
                outer = contract(q[f"h.{s}"], q[f"delta.{u}"])
                q[f"part.{u}.{s}"] = outer.T if isinstance(connection, Transposed) else outer
        for name in problem.complete_at(u):
            q[f"grad.shared.{name}"] = sum(q[f"part.{v}.{s}"] for v, s in problem.uses(name))
        for s in sources(net, u):
            q[f"signal.{u}.{s}"] = signal(problem, q, u, s)


def signal(problem: Problem, q: Mapping[str, np.ndarray], u: str, s: str) -> np.ndarray:
    """What u sends back to s."""
    unit = problem.net.units[u]
    if not is_function(unit):
        return q[f"delta.{u}"] @ problem.weights(s, u).T
    inputs = tuple(q[f"h.{t}"] for t in unit.sources)
    return gate_pullback(inputs, q[f"a.{u}"], q[f"delta.{u}"])[unit.sources.index(s)]


def connections(net: Network, u: str) -> dict[str, Any]:
    """The connections into a unit by source; none into the gate."""
    return dict(getattr(net.units[u], "connections", {}))


def is_function(unit: Any) -> bool:
    """Whether a unit is the gate, which is a function of its sources and no sum."""
    return getattr(unit, "function", None) is gate


def readers(net: Network, s: str) -> list[str]:
    """The units that read s, in backward order."""
    return [u for u in reversed(net.order) if s in net.units[u].reads]


def sources(net: Network, u: str) -> list[str]:
    """The units that u reads; nothing is sent to an input, which has nothing to learn."""
    return [s for s in net.units[u].reads if s in net.units]


def pull_back(Phi: jaxbp.Activation, a: np.ndarray, Delta: np.ndarray) -> np.ndarray:
    """Jᵀ Δ, for each example apart where J is not diagonal."""
    if Phi in DERIVATIVE:
        return DERIVATIVE[Phi](a) * Delta
    return np.array([softmax_jacobian(a_i).T @ Delta_i for a_i, Delta_i in zip(a, Delta, strict=True)])


def contract(h: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """hᵀ δ, the sum over the examples of their outer products."""
    return np.sum([np.outer(h_i, delta_i) for h_i, delta_i in zip(h, delta, strict=True)], axis=0)


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def softmax(a: np.ndarray) -> np.ndarray:
    return np.exp(a) / np.sum(np.exp(a), axis=-1, keepdims=True)


def softmax_jacobian(a: np.ndarray) -> np.ndarray:
    o = softmax(a)
    return np.diag(o) - np.outer(o, o)


VALUE = {
    jaxbp.linear: lambda a: a,
    jaxbp.sigmoid: sigmoid,
    jaxbp.tanh: np.tanh,
    jaxbp.relu: lambda a: np.where(a > 0, a, 0.0),
    jaxbp.leaky_relu: lambda a: np.where(a > 0, a, 0.01 * a),
    jaxbp.hard_tanh: lambda a: np.clip(a, -1, 1),
    jaxbp.softplus: lambda a: np.log(1 + np.exp(a)),
    jaxbp.softmax: softmax,
}

DERIVATIVE = {  # of the element-wise activations, as functions of a
    jaxbp.linear: np.ones_like,
    jaxbp.sigmoid: lambda a: sigmoid(a) * (1 - sigmoid(a)),
    jaxbp.tanh: lambda a: 1 - np.tanh(a) ** 2,
    jaxbp.relu: lambda a: np.where(a > 0, 1.0, 0.0),
    jaxbp.leaky_relu: lambda a: np.where(a > 0, 1.0, 0.01),
    jaxbp.hard_tanh: lambda a: np.where(np.abs(a) < 1, 1.0, 0.0),
    jaxbp.softplus: sigmoid,
}

KINKS = {jaxbp.relu: (0,), jaxbp.leaky_relu: (0,), jaxbp.hard_tanh: (-1, 1)}

LOSS = {
    jaxbp.squared_error: lambda o, y: ((o - y) ** 2).sum(axis=1) / 2,
    jaxbp.cross_entropy: lambda o, y: -(y * np.log(o)).sum(axis=1),
    jaxbp.binary_cross_entropy: lambda o, y: -(y * np.log(o) + (1 - y) * np.log(1 - o)).sum(axis=1),
}

LOSS_GRADIENT = {
    jaxbp.squared_error: lambda o, y: o - y,
    jaxbp.cross_entropy: lambda o, y: -y / o,
    jaxbp.binary_cross_entropy: lambda o, y: (1 - y) / (1 - o) - y / o,
}
