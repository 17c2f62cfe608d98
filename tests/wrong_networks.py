"""The networks on which backward passes go wrong, and random examples for them."""

from dataclasses import dataclass
from itertools import count

import numpy as np
from plain_phases import connections, forward_phase
from plain_rules import KINKS, gate, gate_pullback
from plain_windows import layout, windows

import jaxbp
from jaxbp import (
    AvgPool,
    Conv,
    Dense,
    Embedding,
    Flatten,
    Identity,
    MaxPool,
    Network,
    Scale,
    Transposed,
    Unit,
    function_unit,
    layered,
)

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


def images(name: str, side: int, channels: int, units: dict, output: jaxbp.activations.Activation) -> Network:
    """Units over images, the last of them, of that name, flattened and read by an output of three elements."""
    shape = units[name].shape
    return Network(
        inputs={"x": (side, side, channels)},
        units={
            **units,
            "flat": Unit(int(np.prod(shape)), jaxbp.linear, {name: Flatten()}, bias=False),
            "o": Unit(3, output, {"flat": Dense()}),
        },
    )


CONVOLUTIONS = {
    "c1": Unit((3, 3, 2), jaxbp.tanh, {"x": Conv((3, 3), stride=2, padding=1)}),
    "c2": Unit((3, 3, 2), jaxbp.softplus, {"c1": Conv((2, 2), padding="SAME")}),
    "c3": Unit((2, 2, 2), jaxbp.tanh, {"c2": Conv((2, 2), stride=2, padding="SAME")}),
}
RESIDUAL_CONVOLUTIONS = {
    "c1": Unit((3, 3, 2), jaxbp.relu, {"x": Conv((3, 3))}),
    "c2": Unit((3, 3, 2), jaxbp.tanh, {"c1": Conv((3, 3)), "x": Conv((1, 1))}),
    "sum": Unit((3, 3, 2), jaxbp.linear, {"c2": Conv((3, 3)), "c1": Identity()}, bias=False),
}
LARGEST = {
    "c1": Unit((4, 4, 2), jaxbp.tanh, {"x": Conv((2, 2), padding="VALID")}),
    "pool": Unit((2, 2, 2), jaxbp.linear, {"c1": MaxPool((2, 2))}, bias=False),
}
AVERAGES = {
    "c1": Unit((4, 4, 2), jaxbp.sigmoid, {"x": Conv((2, 2), padding="SAME")}),
    "pool": Unit((2, 2, 2), jaxbp.tanh, {"c1": AvgPool((2, 2))}, bias=False),
}
OVERLAPPING = {  # two pools of one convolution, whose windows reach into each other and into padding
    "c1": Unit((4, 4, 2), jaxbp.tanh, {"x": Conv((3, 3))}),
    "pool": Unit((3, 3, 2), jaxbp.softplus, {"c1": MaxPool((3, 3), stride=2, padding=2)}, bias=False),
    "mean": Unit((3, 3, 2), jaxbp.linear, {"c1": AvgPool((2, 2), stride=1), "pool": Identity()}, bias=False),
}
TIES = {  # small whole images and weights in quarters: many elements of a window are exactly equal
    "c1": Unit((4, 4, 2), jaxbp.linear, {"x": Conv((2, 2), padding="VALID")}),
    "pool": Unit((2, 2, 2), jaxbp.tanh, {"c1": MaxPool((2, 2))}, bias=False),
}
IMAGES: dict[str, tuple[Network, jaxbp.Loss]] = {
    "convolutions": (images("c3", 6, 1, CONVOLUTIONS, jaxbp.softmax), jaxbp.cross_entropy),
    "residual convolutions": (images("sum", 3, 2, RESIDUAL_CONVOLUTIONS, jaxbp.linear), jaxbp.squared_error),
    "max pool": (images("pool", 5, 1, LARGEST, jaxbp.softmax), jaxbp.cross_entropy),
    "average pool": (images("pool", 4, 2, AVERAGES, jaxbp.sigmoid), jaxbp.binary_cross_entropy),
    "overlapping pools": (images("mean", 4, 1, OVERLAPPING, jaxbp.linear), jaxbp.squared_error),
    "max pool with ties": (images("pool", 5, 1, TIES, jaxbp.softmax), jaxbp.cross_entropy),
}

LAYER_NORM = Network(
    inputs={"x": 4},
    units={
        "h1": Unit(5, jaxbp.tanh, {"x": Dense()}),
        "norm": Unit(5, jaxbp.layer_norm, {"h1": Dense()}),
        "gain": Unit(5, jaxbp.sigmoid, {"norm": Scale()}),
        "sum": Unit(5, jaxbp.linear, {"gain": Identity(), "h1": Identity()}, bias=False),
        "o": Unit(3, jaxbp.softmax, {"sum": Dense()}),
    },
)
RMS_NORM = Network(
    inputs={"x": (3, 4)},
    units={
        "h1": Unit((3, 4), jaxbp.softplus, {"x": Dense()}),
        "norm": Unit((3, 4), jaxbp.rms_norm, {"h1": Identity()}, bias=False),
        "gain": Unit((3, 4), jaxbp.linear, {"norm": Scale()}),
        "o": Unit((3, 2), jaxbp.linear, {"gain": Dense(), "h1": Dense()}),
    },
)
ROWS = (3, 4)
CAUSAL = Network(
    inputs={"x": ROWS},
    units={
        **{name: Unit(ROWS, jaxbp.linear, {"x": Dense()}, bias=False) for name in ("q", "k", "v")},
        "mix": jaxbp.attention("q", "k", "v", ROWS, heads=2, causal=True),
        "up": Unit(ROWS, jaxbp.tanh, {"mix": Dense(), "x": Identity()}),
        "o": Unit((3, 2), jaxbp.softmax, {"up": Dense()}),
    },
)
BLOCK = Network(
    inputs={"x": ROWS},
    units={
        "norm": Unit(ROWS, jaxbp.layer_norm, {"x": Dense()}),
        **{name: Unit(ROWS, jaxbp.linear, {"norm": Dense()}) for name in ("q", "k", "v")},
        "mix": jaxbp.attention("q", "k", "v", ROWS),
        "sum": Unit(ROWS, jaxbp.linear, {"mix": Dense(), "norm": Identity()}),
        "up": Unit(ROWS, jaxbp.relu, {"sum": Dense()}),
        "o": Unit(ROWS, jaxbp.linear, {"up": Dense(), "sum": Identity()}),
    },
)
TOKENS = Network(
    inputs={"tokens": jaxbp.ids(4, 6)},
    units={
        "e": Unit((4, 3), jaxbp.linear, {"tokens": Embedding(6)}, bias=False),
        "h1": Unit((4, 5), jaxbp.tanh, {"e": Dense()}),
        "o": Unit((4, 6), jaxbp.softmax, {"h1": Dense(), "e": Dense()}),
    },
)
TIED_TOKENS = Network(  # the table of tokens reads out too
    inputs={"tokens": jaxbp.ids(4, 6)},
    units={
        "e": Unit((4, 3), jaxbp.linear, {"tokens": Embedding(6, share="table")}),
        "h1": Unit((4, 3), jaxbp.tanh, {"e": Dense()}),
        "o": Unit((4, 6), jaxbp.softmax, {"h1": Transposed(Dense(share="table"))}, bias=False),
    },
)
SEQUENCES: dict[str, tuple[Network, jaxbp.Loss]] = {
    "layer norm": (LAYER_NORM, jaxbp.cross_entropy),
    "rms norm": (RMS_NORM, jaxbp.squared_error),
    "causal attention": (CAUSAL, jaxbp.cross_entropy),
    "block": (BLOCK, jaxbp.squared_error),
    "tokens": (TOKENS, jaxbp.cross_entropy),
    "tied tokens": (TIED_TOKENS, jaxbp.cross_entropy),
}
ALL = {**NETWORKS, **IMAGES, **SEQUENCES}


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
    net, loss = ALL[name]
    N = 5 + len(name) % 4  # the same for all seeds, so that one compilation serves them
    params = {
        u: {s: random_weights(rng, shape, s) for s, shape in net.weight_shapes[u].items()} for u in net.weight_shapes
    }
    x = {s: random_inputs(rng, net, s, N) for s in net.inputs}
    if name == "max pool with ties":
        params["c1"] = {s: np.round(4 * W) / 4 for s, W in params["c1"].items()}
        x = {s: np.round(h).clip(-1, 1) for s, h in x.items()}
    return Problem(name, net, loss, params, x, random_targets(rng, loss, (N, *net.shapes[net.output])))


def random_weights(rng: np.random.Generator, shape: tuple[int, ...], s: str) -> np.ndarray:
    """Matrices and kernels that keep pre-activations of order 1, gains around 1, biases of a size to be noticed."""
    if len(shape) > 1:
        return rng.normal(size=shape) * np.prod(shape[:-1]) ** -0.5
    return 0.4 * rng.normal(size=shape) if s == "bias" else rng.uniform(0.5, 1.5, size=shape)


def random_inputs(rng: np.random.Generator, net: Network, s: str, N: int) -> np.ndarray:
    """Real numbers, or ids, of which a few occur many times."""
    shape = (N, *net.shapes[s])
    return rng.integers(0, net.ids[s], size=shape) if s in net.ids else rng.normal(size=shape)


def random_targets(rng: np.random.Generator, loss: jaxbp.Loss, shape: tuple[int, ...]) -> np.ndarray:
    """One-hot rows, probabilities or real numbers, as the loss takes them."""
    if loss is jaxbp.cross_entropy:
        return np.eye(shape[-1])[rng.integers(0, shape[-1], size=shape[:-1])]
    if loss is jaxbp.binary_cross_entropy:
        return rng.uniform(0.05, 0.95, size=shape)
    return rng.normal(size=shape)


def is_smooth(problem: Problem) -> bool:
    """Whether all is some way off the kinks of activations, and no two elements of a window are nearly equal."""
    q: dict[str, np.ndarray] = {}
    forward_phase(problem, q)
    return all(
        np.abs(q[f"a.{u}"] - kink).min() > 1e-3
        for u in problem.net.units
        for kink in KINKS.get(problem.activation(u), ())
    ) and all(
        are_apart(connection, q[f"h.{s}"])
        for u in problem.net.units
        for s, connection in connections(problem.net, u).items()
        if isinstance(connection, MaxPool)
    )


def are_apart(pool: MaxPool, h: np.ndarray) -> bool:
    """Whether the largest elements of each window are exactly equal, or some way apart."""
    for _, seen in windows(layout(pool, h)):
        values = np.array([h[:, *x] for _, x in seen])
        below = values.max(axis=0) - values
        if np.any((below > 0) & (below < 1e-3)):
            return False
    return True
