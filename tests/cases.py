"""The one table of networks, losses and batches that the tests run over."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbp
from jaxbp import Dense, Identity, Masked, Network, Scale, Transposed, Unit, layered


@dataclass(frozen=True)
class Case:
    """A network, a loss and a batch of random data for them: the same numbers in any dtype."""

    name: str
    net: Network
    loss: jaxbp.Loss
    batch: tuple[int, ...] = (5,)
    targets: str = "normal"
    """What y is drawn from: normal, ids, one_hot, soft, unnormalised, bits, probabilities, signs; or masked: ids, of
    which those of weight 0 do not exist."""
    weighted: bool = False
    by_row: bool = False
    """Whether the weights are those of the rows of the output."""
    reduction: str = "mean"
    small: bool = field(default=True)
    """Whether central differences over every coordinate are affordable."""

    def params(self, dtype: Any) -> Any:
        return _drawn(self.net, np.random.default_rng(len(self.name)), lambda W: _exact(W, dtype))

    def x(self, dtype: Any) -> Any:
        rng = np.random.default_rng(1)
        arrays = {
            name: _exact(rng.normal(size=(*self.batch, *self.net.shapes[name])), dtype)
            if name not in self.net.ids
            else jax.device_put(rng.integers(0, self.net.ids[name], (*self.batch, *self.net.shapes[name])))
            for name in self.net.inputs
        }
        return arrays if len(arrays) > 1 else arrays.popitem()[1]

    def y(self, dtype: Any) -> Any:
        rng = np.random.default_rng(2)
        shape = (*self.batch, *self.net.shapes[self.net.output])
        width = shape[-1]
        ids = np.asarray(rng.integers(0, max(width, 2), size=shape[:-1]))
        positive = rng.uniform(0.1, 1.0, size=shape)
        values: dict[str, Callable[[], np.ndarray]] = {
            "normal": lambda: rng.normal(size=shape),
            "one_hot": lambda: np.eye(width)[ids],
            "soft": lambda: positive / positive.sum(-1, keepdims=True),
            "unnormalised": lambda: positive,
            "bits": lambda: rng.integers(0, 2, size=shape).astype(float),
            "probabilities": lambda: rng.uniform(size=shape),
            "signs": lambda: rng.choice([-1.0, 1.0], size=shape),
        }
        if self.targets == "masked":
            ids = np.where(self._counted(ids.shape), ids, np.where(ids == 0, -100, ids + width))
        return jax.device_put(ids) if self.targets in ("ids", "masked") else _exact(values[self.targets](), dtype)

    def weights(self, dtype: Any) -> Any:
        if not self.weighted:
            return None
        shape = self.batch + (self.net.shapes[self.net.output][:-1] if self.by_row else ())
        values = np.random.default_rng(3).uniform(0.1, 2, size=shape)
        return _exact(values * self._counted(shape) if self.targets == "masked" else values, dtype)

    def _counted(self, shape: tuple[int, ...]) -> np.ndarray:
        """Not all, and nothing of the second example."""
        return (np.random.default_rng(4).uniform(size=shape) < 0.7) & (np.indices(shape)[0] != 1)

    def arguments(self, dtype: Any) -> tuple[Any, Any, Any, Any]:
        """params, x, y, weights."""
        return self.params(dtype), self.x(dtype), self.y(dtype), self.weights(dtype)

    def __repr__(self) -> str:
        return self.name


def params_of(net: Network, dtype: Any = float, seed: int = 0) -> Any:
    """Parameters for a test to which it does not matter how they start: nothing compiles, as `init_params` does."""
    return _drawn(net, np.random.default_rng(seed), lambda W: jax.device_put(W.astype(dtype)))


_backprop = jax.jit(jaxbp.backprop, static_argnums=(0, 1), static_argnames="reduction")


def swept(net: Network, loss: jaxbp.Loss, params: Any, x: Any, y: Any, **options: Any) -> jaxbp.Backprop:
    """`backprop` as one program, on the host: step by step JAX compiles a program for each operation."""
    return jax.device_get(_backprop(net, loss, params, x, y, **options))


def _drawn(net: Network, rng: np.random.Generator, array: Callable[[np.ndarray], Any]) -> Any:
    plan = net.plan

    def draw(place: tuple[str, ...]) -> Any:
        # biases of zero would hide a gradient that depends on them
        shape, layers = plan.weight_shapes[place], sum(plan.uses[place][0].layers)
        scale = shape[layers] ** -0.5 if len(shape) > layers + 1 else 0.3
        return array(scale * rng.normal(size=shape))

    return plan.tree(draw)


def _exact(values: np.ndarray, dtype: Any) -> Any:
    """Values that bfloat16 and float16 hold without rounding, so that all dtypes start from the same numbers."""
    # cast by numpy, and put: nothing compiles, where jnp.asarray compiles a program for each shape
    return jax.device_put((np.clip(np.round(values * 64), -255, 255) / 64).astype(dtype))


def _of(activation: jaxbp.activations.Activation, bias: bool = True) -> Network:
    return layered([3, 4, 4, 2], hidden=activation, output=jaxbp.linear, bias=bias)


def _sine_derivative(a, h):
    return jnp.cos(a)


def _unit_vector(a):
    return a / jnp.sqrt(1 + jnp.sum(a * a, axis=-1, keepdims=True))


def _unit_vector_pullback(a, h, Delta):
    return (Delta - h * jnp.sum(h * Delta, axis=-1, keepdims=True)) / jnp.sqrt(
        1 + jnp.sum(a * a, axis=-1, keepdims=True)
    )


def _quartic(o, y):
    return jnp.sum((o - y) ** 4, axis=-1) / 4


def _quartic_gradient(o, y):
    return (o - y) ** 3


SINE = jaxbp.elementwise(jnp.sin, _sine_derivative, name="sine")
UNIT_VECTOR = jaxbp.vector_activation(_unit_vector, _unit_vector_pullback)
QUARTIC = jaxbp.Loss(_quartic, _quartic_gradient, name="quartic")

SKIP = Network(
    inputs={"x": 4},
    units={
        "h1": Unit(5, jaxbp.tanh, {"x": Dense()}),
        "h2": Unit(3, jaxbp.sigmoid, {"h1": Dense()}),
        "o": Unit(3, jaxbp.softmax, {"h2": Dense(), "h1": Dense(), "x": Dense()}, bias=False),
    },
)
RESIDUAL = Network(
    inputs={"x": 4},
    units={
        "h1": Unit(4, jaxbp.gelu, {"x": Dense()}),
        "h2": Unit(4, jaxbp.tanh, {"h1": Dense()}),
        "sum": Unit(4, jaxbp.linear, {"h1": Identity(), "h2": Identity(), "x": Identity()}, bias=False),
        "o": Unit(2, jaxbp.linear, {"sum": Dense()}),
    },
)
TWO_INPUTS = Network(
    inputs={"image": 4, "text": 3},
    units={
        "h1": Unit(5, jaxbp.relu, {"image": Dense(), "text": Dense(initializer="lecun_normal")}),
        "o": Unit(2, jaxbp.softmax, {"h1": Dense()}),
    },
)
LATE_INPUT = Network(
    inputs={"x": 3, "late": 2},
    units={
        "h1": Unit(4, jaxbp.silu, {"x": Dense()}),
        "h2": Unit(4, jaxbp.softplus, {"h1": Dense(), "late": Dense()}),
        "o": Unit(1, jaxbp.sigmoid, {"h2": Dense()}),
    },
)
FAN_OUT = Network(  # h1 is read by three units
    inputs={"x": 3},
    units={
        "h1": Unit(4, jaxbp.tanh, {"x": Dense()}),
        "left": Unit(2, jaxbp.sigmoid, {"h1": Dense()}),
        "right": Unit(3, jaxbp.softmax, {"h1": Dense()}),
        "middle": Unit(4, jaxbp.hard_tanh, {"h1": Identity()}, bias=False),
        "o": Unit(2, jaxbp.linear, {"left": Dense(), "right": Dense(), "middle": Dense()}),
    },
)
OUT_OF_ORDER = Network(  # listed against the direction of computation, the output last
    inputs={"x": 3},
    units={
        "second": Unit(3, jaxbp.tanh, {"first": Dense(), "x": Identity()}),
        "first": Unit(2, jaxbp.sigmoid, {"x": Dense()}),
        "o": Unit(2, jaxbp.linear, {"second": Dense(), "first": Dense()}),
    },
)
SOFTMAX_INSIDE = Network(  # a vector activation in a hidden unit, and no bias anywhere
    inputs={"x": 3},
    units={
        "h1": Unit(4, jaxbp.softmax, {"x": Dense()}, bias=False),
        "h2": Unit(3, UNIT_VECTOR, {"h1": Dense()}, bias=False),
        "o": Unit(3, jaxbp.tanh, {"h2": Dense()}, bias=False),
    },
)
SEQUENCE = Network(  # units with a shape: Dense acts on the last axis at each position
    inputs={"x": (3, 4)},
    units={
        "h1": Unit((3, 5), jaxbp.tanh, {"x": Dense()}),
        "o": Unit((3, 2), jaxbp.softmax, {"h1": Dense(), "x": Dense()}),
    },
)
CONVOLUTION = Network(  # 5 × 4 pixels of one channel
    inputs={"x": (5, 4, 1)},
    units={
        "maps": Unit((3, 4, 2), jaxbp.tanh, {"x": jaxbp.Conv((3, 2), stride=(2, 1))}),
        "pool": Unit((2, 3, 2), jaxbp.linear, {"maps": jaxbp.MaxPool((2, 2), stride=1)}, bias=False),
        "flat": Unit(12, jaxbp.linear, {"pool": jaxbp.Flatten()}, bias=False),
        "o": Unit(3, jaxbp.softmax, {"flat": Dense()}),
    },
)
SHARED = Network(  # two inputs with one encoder and its bias, whose transposed decodes
    inputs={"left": 4, "right": 4},
    units={
        "code": Unit(2, jaxbp.tanh, {"left": Dense(share="W")}, bias="b"),
        "twin": Unit(2, jaxbp.sigmoid, {"right": Dense(share="W")}, bias="b"),
        "o": Unit(4, jaxbp.linear, {"code": Transposed(Dense(share="W")), "twin": Dense()}),
    },
)
MASKED = Network(  # in rows, which share a mask and a gain
    inputs={"x": (2, 3)},
    units={
        "h1": Unit((2, 4), jaxbp.tanh, {"x": Masked(Dense(), np.arange(12).reshape(3, 4) % 3 > 0)}),
        "h2": Unit((2, 4), jaxbp.sigmoid, {"h1": Scale()}),
        "o": Unit((2, 2), jaxbp.linear, {"h2": Dense(), "h1": Masked(Dense(), np.eye(4, 2) == 1)}),
    },
)

_kernel = jaxbp.Conv((3, 2), stride=(2, 1), padding=1, groups=2, share="K")
TIED = Network(  # a convolution whose transposed decodes, with a channel for each of its two groups
    inputs={"x": (4, 3, 2)},
    units={
        "code": Unit((2, 4, 2), jaxbp.tanh, {"x": _kernel}),
        "o": Unit((4, 3, 2), jaxbp.linear, {"code": jaxbp.ConvTransposed(_kernel, (4, 3, 2))}),
    },
)

ROWS = (4, 6)  # rows, width


def _rows(source, activation=jaxbp.linear, connection=None, width=6, **options):
    return Unit((4, width), activation, {source: connection or Dense()}, **options)


BLOCK = Network(  # one block of a decoder, with a readout for each row
    inputs={"x": ROWS},
    units={
        "n1": _rows("x", jaxbp.layer_norm, Identity(), bias=False),
        "g1": _rows("n1", connection=Scale()),
        "q": _rows("g1"),
        # a bias would move all scores of a row alike: its gradient is 0, and a quotient of roundings
        "k": _rows("g1", bias=False),
        "v": _rows("g1"),
        "mix": jaxbp.attention("q", "k", "v", ROWS, heads=2, causal=True),
        "r1": Unit(ROWS, jaxbp.linear, {"mix": Dense(), "x": Identity()}),
        "n2": _rows("r1", jaxbp.layer_norm, Identity(), bias=False),
        "g2": _rows("n2", connection=Scale()),
        "up": _rows("g2", jaxbp.gelu, width=8),
        "r2": Unit(ROWS, jaxbp.linear, {"up": Dense(), "r1": Identity()}),
        "o": _rows("r2", jaxbp.softmax, width=3),
    },
)


LLAMA = Network(  # root mean squares, rotary positions, grouped queries, attention in blocks, a gated layer
    inputs={"x": ROWS},
    units={
        "n1": _rows("x", jaxbp.rms_norm, Identity(), bias=False),
        "g1": _rows("n1", connection=Scale(), bias=False),
        "q": _rows("g1", width=8, bias=False),
        "k": _rows("g1", width=4, bias=False),
        "v": _rows("g1", width=4, bias=False),
        "mix": jaxbp.attention("q", "k", "v", (4, 8), heads=4, key_heads=2, causal=True, rotary=100.0, block=3),
        "r1": Unit(ROWS, jaxbp.linear, {"mix": Dense(), "x": Identity()}, bias=False),
        "n2": _rows("r1", jaxbp.rms_norm, Identity(), bias=False),
        "gate": _rows("n2", jaxbp.silu, width=8, bias=False),
        "up": _rows("n2", width=8, bias=False),
        "gated": jaxbp.product("gate", "up", width=(4, 8)),
        "o": Unit(ROWS, jaxbp.linear, {"gated": Dense(), "r1": Identity()}, bias=False),
    },
)


TOKENS = Network(  # a table for the tokens, whose transpose reads out, with learned positions
    inputs={"tokens": jaxbp.ids(4, 3), "places": (4, 6)},  # of four tokens two are equal at least
    units={
        "e": Unit(
            ROWS,
            jaxbp.linear,
            {"tokens": jaxbp.Embedding(3, share="E"), "places": Dense()},
            bias=jaxbp.connections.Bias(whole=True),
        ),
        "n": _rows("e", jaxbp.rms_norm, Identity(), bias=False),
        "o": _rows("n", jaxbp.softmax, Transposed(Dense(share="E")), width=3, bias=False),
    },
)
LOOKUP = Network(
    inputs={"word": jaxbp.ids((), 7)},
    units={
        "e": Unit(4, jaxbp.tanh, {"word": jaxbp.Embedding(7)}, bias=False),
        "o": Unit(7, jaxbp.softmax, {"e": Dense()}),
    },
)


_LAYER = Network(  # a residual layer
    inputs={"x": 4},
    units={
        "n": Unit(4, jaxbp.layer_norm, {"x": Scale()}),
        "up": Unit(3, jaxbp.gelu, {"n": Dense()}),
        "sum": Unit(4, jaxbp.linear, {"up": Dense(), "x": Identity()}),
    },
)
STACK = Network(  # twice, once of one layer alone
    inputs={"x": 4},
    units={
        "blocks": jaxbp.stack(_LAYER, 2, "x"),
        "last": jaxbp.stack(_LAYER, 1, "blocks", remat=True),
        "o": Unit(3, jaxbp.softmax, {"last": Dense(), "blocks": Dense()}),
    },
)
_INNER = Network(
    inputs={"x": 4},
    units={"up": Unit(3, jaxbp.sigmoid, {"x": Dense()}), "sum": Unit(4, jaxbp.tanh, {"up": Dense(), "x": Identity()})},
)
_GATED = Network(  # what is carried, and what all layers read alike
    inputs={"state": 4, "z": 4},
    units={
        "twice": jaxbp.stack(_INNER, 2, "state"),
        "gate": Unit(4, jaxbp.sigmoid, {"z": Dense(share="G"), "state": Dense(share="G")}),
        "end": jaxbp.product("twice", "gate", width=4),
    },
)
NESTED = Network(
    inputs={"x": 4, "z": 4},
    units={
        "h": Unit(4, jaxbp.tanh, {"z": Dense()}),
        "outer": jaxbp.stack(_GATED, 2, {"state": "x", "z": "h"}, remat=["gate", "twice"]),
        "o": Unit(2, jaxbp.linear, {"outer": Dense()}),
    },
)
_CELL = Network(
    inputs={"state": 3, "token": 2},
    units={"next": Unit(3, jaxbp.tanh, {"state": Dense(), "token": Masked(Dense(), np.arange(6).reshape(2, 3) > 0)})},
)
RECURRENT = Network(  # the same weights in every step, and an output for each
    inputs={"sequence": (4, 2), "start": 3},
    units={
        "steps": jaxbp.stack(
            _CELL, 4, {"state": "start", "token": "sequence"}, shared=True, slices={"token": 0}, every_layer=True
        ),
        "o": Unit((4, 3), jaxbp.softmax, {"steps": Dense()}),
    },
)
_FILTER = Network(
    inputs={"x": (3, 2, 2)},
    units={"maps": Unit((3, 2, 2), jaxbp.tanh, {"x": jaxbp.Conv((2, 2), padding="SAME")}, bias="b")},
)
FILTERS = Network(  # a convolution that is applied again and again
    inputs={"x": (3, 2, 2)},
    units={
        "maps": jaxbp.stack(_FILTER, 2, "x", shared=True),
        "o": Unit((3, 2, 1), jaxbp.linear, {"maps": Dense()}),
    },
)


def gate(value, switch):
    return value * jax.nn.sigmoid(switch)


def gate_pullback(inputs, a, delta):
    value, switch = inputs
    s = jax.nn.sigmoid(switch)
    return delta * s, delta * value * s * (1 - s)


def gated(pullback=None, function=gate, activation=jaxbp.tanh):
    """A unit that multiplies, by a function with a pull-back of its own or with that of `jax.vjp`."""
    return Network(
        inputs={"x": 3, "z": 4},
        units={
            "h": Unit(4, jaxbp.tanh, {"x": Dense(), "z": Identity()}),
            "both": jaxbp.function_unit(function, ("h", "z"), 4, pullback=pullback, activation=activation),
            "o": Unit(2, jaxbp.linear, {"both": Dense(), "h": Dense()}),
        },
    )


_softmax = layered([4, 5, 3], hidden=jaxbp.sigmoid, output=jaxbp.softmax)
_sigmoid = layered([4, 5, 3], hidden=jaxbp.tanh, output=jaxbp.sigmoid)
_binary = layered([4, 3, 1], hidden=jaxbp.relu, output=jaxbp.sigmoid)

ALL = [
    *(
        Case(f"{activation.name}", _of(activation), jaxbp.squared_error)
        for activation in (
            jaxbp.linear,
            jaxbp.sigmoid,
            jaxbp.tanh,
            jaxbp.relu,
            jaxbp.hard_tanh,
            jaxbp.leaky_relu,
            jaxbp.softplus,
            jaxbp.gelu,
            jaxbp.silu,
            jaxbp.softmax,
            SINE,
            UNIT_VECTOR,
        )
    ),
    Case("tanh without bias", _of(jaxbp.tanh, bias=False), jaxbp.squared_error),
    Case("single layer", layered([4, 3], hidden=(), output=jaxbp.softmax), jaxbp.cross_entropy, targets="ids"),
    Case("softmax, ids", _softmax, jaxbp.cross_entropy, targets="ids"),
    Case("softmax, one-hot", _softmax, jaxbp.cross_entropy, targets="one_hot"),
    Case("softmax, soft targets", _softmax, jaxbp.cross_entropy, targets="soft"),
    Case("softmax, rows that do not sum to 1", _softmax, jaxbp.cross_entropy, targets="unnormalised"),
    Case("softmax, unfused", _softmax, jaxbp.unfused(jaxbp.cross_entropy), targets="soft"),
    Case("softmax, squared error", _softmax, jaxbp.squared_error, targets="one_hot"),
    Case("sigmoid, squared error", _sigmoid, jaxbp.squared_error, targets="bits"),
    Case("sigmoid, cross entropy", _sigmoid, jaxbp.cross_entropy, targets="soft"),
    Case("sigmoid, bits", _sigmoid, jaxbp.binary_cross_entropy, targets="bits"),
    Case("sigmoid, probabilities", _sigmoid, jaxbp.binary_cross_entropy, targets="probabilities"),
    Case("sigmoid, ids one against all", _sigmoid, jaxbp.binary_cross_entropy, targets="ids"),
    Case("sigmoid, unfused", _sigmoid, jaxbp.unfused(jaxbp.binary_cross_entropy), targets="probabilities"),
    Case("one output, ids", _binary, jaxbp.binary_cross_entropy, targets="ids"),
    Case("perceptron, signs", layered([4, 3], hidden=(), output=jaxbp.linear), jaxbp.perceptron, targets="signs"),
    Case("perceptron, ids", layered([4, 1], hidden=(), output=jaxbp.linear), jaxbp.perceptron, targets="ids"),
    Case("user's loss", _of(jaxbp.tanh), QUARTIC),
    Case("no batch axis", _softmax, jaxbp.cross_entropy, batch=(), targets="soft"),
    Case("no batch axis, id", _softmax, jaxbp.cross_entropy, batch=(), targets="ids"),
    Case("two batch axes", _softmax, jaxbp.cross_entropy, batch=(2, 3), targets="ids"),
    Case("batch of one", _softmax, jaxbp.cross_entropy, batch=(1,), targets="ids"),
    Case("weights", _softmax, jaxbp.cross_entropy, targets="ids", weighted=True),
    Case("weights, two batch axes", _sigmoid, jaxbp.squared_error, batch=(2, 2), weighted=True),
    Case("sum", _softmax, jaxbp.cross_entropy, targets="ids", reduction="sum"),
    Case("weighted sum", _of(jaxbp.tanh), jaxbp.squared_error, weighted=True, reduction="sum"),
    Case("masked ids", _softmax, jaxbp.cross_entropy, targets="masked", weighted=True),
    Case("weights by row", SEQUENCE, jaxbp.squared_error, batch=(2, 2), weighted=True, by_row=True, reduction="sum"),
    Case("padded tokens", TOKENS, jaxbp.cross_entropy, batch=(3,), targets="masked", weighted=True, by_row=True),
    Case("skip connection", SKIP, jaxbp.cross_entropy, targets="ids"),
    Case("residual", RESIDUAL, jaxbp.squared_error),
    Case("two inputs", TWO_INPUTS, jaxbp.cross_entropy, targets="one_hot"),
    Case("late input", LATE_INPUT, jaxbp.binary_cross_entropy, batch=(2, 3), targets="ids"),
    Case("fan out", FAN_OUT, jaxbp.squared_error),
    Case("out of order", OUT_OF_ORDER, jaxbp.squared_error, weighted=True),
    Case("softmax inside", SOFTMAX_INSIDE, jaxbp.squared_error),
    Case("sequence", SEQUENCE, jaxbp.cross_entropy, targets="ids"),
    Case("sequence, no batch axis", SEQUENCE, jaxbp.squared_error, batch=()),
    Case("convolution", CONVOLUTION, jaxbp.cross_entropy, targets="ids"),
    Case("tied convolution", TIED, jaxbp.squared_error),
    Case("shared weights", SHARED, jaxbp.squared_error, weighted=True),
    Case("masked and scaled", MASKED, jaxbp.squared_error),
    Case("transformer block", BLOCK, jaxbp.cross_entropy, batch=(2,), targets="ids"),
    Case("llama block", LLAMA, jaxbp.squared_error, batch=(2,)),
    Case("tied tokens", TOKENS, jaxbp.cross_entropy, batch=(3,), targets="ids"),
    Case("words", LOOKUP, jaxbp.cross_entropy, targets="ids", weighted=True),
    Case("stacks", STACK, jaxbp.cross_entropy, targets="ids", weighted=True),
    Case("nested stacks", NESTED, jaxbp.squared_error, batch=(2, 2)),
    Case("recurrent", RECURRENT, jaxbp.cross_entropy, batch=(3,), targets="ids"),
    Case("recurrent convolution", FILTERS, jaxbp.squared_error, batch=(2,)),
    Case("gated, by jax.vjp", gated(), jaxbp.squared_error, weighted=True),
    Case("gated, by hand", gated(gate_pullback), jaxbp.squared_error, batch=()),
    Case(
        "deep",
        layered([6, *[8] * 12, 4], hidden=jaxbp.tanh, output=jaxbp.softmax),
        jaxbp.cross_entropy,
        targets="ids",
        small=False,
    ),
    Case(
        "wide",
        layered([64, 128, 10], hidden=jaxbp.relu, output=jaxbp.softmax),
        jaxbp.cross_entropy,
        batch=(32,),
        targets="ids",
        small=False,
    ),
]

# The tests of one case share a float64 reference, so one worker runs them all.
CASES = [pytest.param(case, id=case.name) for case in ALL]


def case_named(name: str) -> Case:
    return next(case for case in ALL if case.name == name)
