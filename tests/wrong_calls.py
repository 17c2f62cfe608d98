"""The one table of wrong calls: for every public name what does not belong there, and the words that refuse it.

A call that is right stands beside its parameters; each wrong call replaces one of them by something of a wrong kind.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from cases import params_of
from flax import nnx

import jaxbp
from jaxbp import Conv, Dense, Identity, Unit, collect, curvature, feedback, interop, losses, testing, textbook, train
from jaxbp.feedback import DirectFeedback

NET = jaxbp.layered([3, 4, 2], hidden=jaxbp.tanh, output=jaxbp.softmax)
OTHER = jaxbp.layered([3, 5, 2], hidden=jaxbp.tanh, output=jaxbp.softmax)
BLOCK = jaxbp.Network(inputs={"x": 3, "z": 2}, units={"o": Unit(3, jaxbp.tanh, {"x": Dense(), "z": Dense()})})
REPEATED = jaxbp.Network(inputs={"x": 3}, units={"o": Unit(3, jaxbp.tanh, {"x": Dense()})})
DEEP = jaxbp.Network(inputs={"x": 3}, units={"o": jaxbp.stack(REPEATED, 2, "x")})
KEY = jax.random.key(0)
PARAMS = params_of(NET)
X, Y = jnp.ones((5, 3)), jnp.zeros(5, int)
TRACE = jaxbp.forward(NET, PARAMS, X)
SGD = optax.sgd(0.1)
GRADIENT = jaxbp.value_and_grad(NET, jaxbp.cross_entropy)
STATE = train.init_state(KEY, NET, SGD)
ONE = jax.sharding.SingleDeviceSharding(jax.devices()[0])
MESH = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:1])
CHECKPOINTS = train.Checkpoints("nowhere", every=1)
PROJECTIONS, OTHERS = (curvature.random_projections(KEY, net, 2) for net in (NET, OTHER))
FACTORS = {"o": {"x": collect.KroneckerFactors(jnp.eye(3), jnp.eye(2))}}
AVERAGED = train.averaged(0.5).init(PARAMS)


@dataclass(frozen=True)
class Wrong:
    """A wrong call, what it raises, and what the message says among other things."""

    name: str
    """The public name it is about, as in `train.fit`."""
    what: str
    call: Callable[[], Any]
    error: type[Exception]
    says: tuple[str, ...]


@dataclass(frozen=True)
class Value:
    """Something that does not belong where it is put; `{}` in the words is the parameter's own name."""

    value: Any
    error: type[Exception]
    says: tuple[str, ...]


def type_error(value: Any, *says: str) -> Value:
    return Value(value, TypeError, says)


def value_error(value: Any, *says: str) -> Value:
    return Value(value, ValueError, says)


# Kinds of wrong, by the name of a parameter.


def no_number(*, infinite: bool = False, zero: bool = True, negative: bool = True) -> list[Value]:
    """What is no number for a parameter that is at least, or above, 0."""
    values = [type_error(v, "{} must be a number") for v in ("1", None, True, [1.0], 1j, np.ones(2))]
    values += [value_error(v, "{} must be", "got") for v in (float("nan"), np.float32("nan"))]
    if negative:
        values += [value_error(v, "{} must be", "got") for v in (-1, np.float32(-1), jnp.asarray(-1.0))]
    if zero:
        values += [value_error(v, "{} must be", "got 0") for v in (0, 0.0)]
    if infinite:
        values += [value_error(float("inf"), "{} must be", "finite", "got inf")]
    return values


def no_integer(least: int) -> list[Value]:
    values = [type_error(v, "{} must be an integer") for v in ("3", None, True, 1.5, 2.0, [2], jnp.ones(()))]
    return [*values, *(value_error(v, f"{{}} must be at least {least}") for v in (least - 1, np.int64(least - 2)))]


def no_flag() -> list[Value]:
    return [type_error(v, "{} must be True or False, got") for v in ("yes", None, 1)]


def no_function(*arguments: str) -> list[Value]:
    """What is no function of these arguments."""
    values = [type_error(v, "{} must be a function such as lambda", "got") for v in (None, "f", 3, jnp.ones(2))]
    return [*values, type_error(lambda: 0, "{} '<lambda>' takes ()", f"called as {{}}({', '.join(arguments)})")]


def no_activation() -> list[Value]:
    must = "{} must be a jaxbp activation"
    return [
        type_error("sigmoidd", must, "got 'sigmoidd'; did you mean jaxbp.sigmoid?"),
        type_error("swish", must, "got 'swish'; there are", "silu", "elementwise"),
        type_error(jax.nn.relu, must, "did you mean jaxbp.relu?"),
        type_error(jax.nn.sigmoid, must, "got the function sigmoid; did you mean jaxbp.sigmoid?"),
        type_error(None, must, "got None"),
        type_error(jaxbp.activations.Activation, must, "got the class Activation"),
        type_error(jaxbp.cross_entropy, must, "got Loss cross_entropy"),
    ]


def no_connection() -> list[Value]:
    return [type_error(v, "{} must be", "jaxbp.") for v in (None, "Dense", Dense, jaxbp.tanh, jnp.ones((3, 4)))]


def no_initializer() -> list[Value]:
    lists_usable = ("{}", "known: 'delta_orthogonal', 'glorot_normal'")
    return [
        value_error("he_norml", *lists_usable, "did you mean 'he_normal'?"),
        value_error("constant", *lists_usable, "'constant' that needs no arguments"),
        value_error("variance_scaling", *lists_usable),
        value_error("Initializer", *lists_usable),
        type_error(0.5, "{} must be a function (key, shape, dtype) -> array", "got 0.5"),
        type_error(jnp.ones((3, 4)), "{} must be a function", "got an array of shape (3, 4)"),
    ]


def no_share() -> list[Value]:
    return [value_error(v, "cannot be the name of", "shared weight") for v in ("", "a b", "a.b", 3, True, ["W"])]


def no_positive_shape() -> list[Value]:
    must = "must be a positive integer, or a tuple of them, got"
    return [value_error(v, "{}", must) for v in (0, -1, 2.5, "2", None, True, (), (2, 0), [2, 3], float("nan"))]


def no_sizes() -> list[Value]:
    return [value_error(v, "{}", "positive integer") for v in (0, -1, 1.5, "2", (0, 1), (1,), [1, 1])]


def no_window() -> list[Value]:
    wrong = [type_error(v, "{} must be a tuple, one size for each spatial axis") for v in (3, None, "33", [3, 3])]
    return [*wrong, *(value_error(v, "{}", "positive integer") for v in ((), (0, 3), (1.5, 3), (True, 3), ("3", "3")))]


def no_names() -> list[Value]:
    return [type_error(v, "{} must be a list such as", "got") for v in ("gate", None, 3, {"gate": 1})]


def no_text() -> list[Value]:
    return [type_error(v, "{} must be a non-empty string, got") for v in (3, "", ["x"], jaxbp.tanh)]


def in_params(u: str, s: str, leaf: Any) -> Any:
    return PARAMS | {u: PARAMS[u] | {s: leaf}}


NO_NETWORK = [
    type_error("net", "net must be a jaxbp.Network", "got 'net'"),
    type_error(None, "net must be a jaxbp.Network", "got None"),
    type_error(PARAMS, "net must be a jaxbp.Network", "got a value of type dict"),
    type_error([3, 4, 2], "net must be a jaxbp.Network", "got [3, 4, 2]"),
    type_error(NET.units["o"], "net must be a jaxbp.Network", "Unit"),
    type_error(jaxbp.Network, "net must be a jaxbp.Network", "got the class Network; call it: Network(…)"),
]
NO_LOSS = [
    type_error("mse", "loss must be a jaxbp.Loss", "got 'mse'; there are", "squared_error, cross_entropy"),
    type_error("cross_entrop", "loss must be a jaxbp.Loss", "did you mean jaxbp.cross_entropy?"),
    type_error(None, "loss must be a jaxbp.Loss", "got None"),
    type_error(optax.squared_error, "loss must be a jaxbp.Loss", "did you mean jaxbp.squared_error?"),
    type_error(jaxbp.softmax, "loss must be a jaxbp.Loss", "got VectorActivation softmax"),
    type_error(jaxbp.Loss, "loss must be a jaxbp.Loss", "got the class Loss; call it: Loss(…)"),
]
NO_PARAMS = [
    type_error(None, "{} is None, expected a dict by unit"),
    type_error([], "{} is of type list, expected a dict by unit"),
    type_error(KEY, "{} is an array, expected a dict by unit"),
    type_error(NET, "{} is of type Network, expected a dict by unit"),
    value_error({}, "{} holds the units none, but the network has 'h1', 'o'"),
    value_error(PARAMS | {"o2": PARAMS["o"]}, "{} holds the units 'h1', 'o', 'o2'", "did you mean 'o'?"),
    value_error(params_of(OTHER), "{}['h1']['x'] has shape (3, 5), expected (3, 4)"),
    type_error(jax.tree.map(lambda W: W.astype(int), PARAMS), "{}['h1']['x'] has dtype int64, expected a floating one"),
    type_error(in_params("o", "h1", [[0.0, 0.0]] * 4), "{}['o']['h1'] is of type list; pass an array"),
    type_error(in_params("o", "h1", None), "{}['o']['h1'] is None; pass an array"),
    type_error(in_params("o", "h1", jax.Array), "{}['o']['h1'] is of type", "pass an array"),
    type_error(in_params("o", "h1", KEY), "{}['o']['h1'] has dtype key<fry>, expected a floating one"),
    type_error(PARAMS | {"o": PARAMS["o"]["h1"]}, "{}['o'] is an array, expected a dict by source"),
]
NO_INPUT = [
    type_error([[1.0, 2.0, 3.0]], "x is of type list; pass an array, e.g. jnp.asarray(x)"),
    type_error(None, "x is None; pass an array"),
    type_error("x", "x is of type str; pass an array"),
    type_error(np.ndarray, "x is of type", "pass an array"),
    type_error(np.ones((5, 3), np.uint8), "x has dtype uint8, expected a floating one"),
    type_error(np.ones((5, 3), complex), "x has dtype complex128, expected a floating one"),
    type_error(np.full((5, 3), "1"), "x has dtype <U1, expected a floating one"),
    type_error(np.full((5, 3), None), "x has dtype object, expected a floating one"),
    value_error(jnp.ones((5, 4)), "x has shape (5, 4), but input 'x' of the network has (*batch, 3)"),
    value_error(jnp.ones(()), "x has shape (), but input 'x'"),
    value_error(jnp.ones((0, 3)), "x has shape (0, 3)", "empty batch"),
    value_error({"z": X}, "x holds the inputs 'z', but the network has 'x'"),
    type_error({"x": [1.0]}, "x['x'] is of type list; pass an array"),
]
NO_TARGETS = [
    type_error([0] * 5, "y is of type list; pass an array, e.g. jnp.asarray(y)"),
    type_error(None, "y is None; pass an array"),
    type_error("y", "y is of type str; pass an array"),
    type_error(np.ones((5, 2), complex), "y has dtype complex128, expected real numbers"),
    type_error(np.full((5, 2), "1"), "y has dtype <U1, expected real numbers"),
    type_error(KEY, "y has dtype key<fry>, expected real numbers"),
    type_error(jnp.zeros(5), "class ids must be integers, but y has dtype float64"),
    value_error(jnp.zeros(4, int), "y has shape (4,), but the output has shape (5, 2)"),
    value_error(jnp.zeros((5, 3)), "y has shape (5, 3), but the output has shape (5, 2)"),
]
NO_WEIGHTS = [
    type_error([1.0] * 5, "weights is of type list; pass an array"),
    type_error("weights", "weights is of type str; pass an array"),
    type_error(2.0, "weights is of type float; pass an array"),
    type_error(jnp.ones(5, int), "weights has dtype int64, expected a floating one"),
    type_error(jnp.ones(5, complex), "weights has dtype complex128, expected a floating one"),
    value_error(jnp.ones(4), "weights has shape (4,), expected the batch shape (5,)"),
    value_error(jnp.ones((5, 1)), "weights has shape (5, 1), expected the batch shape (5,)"),
]
NO_REDUCTION = [
    value_error(v, "reduction must be 'mean' or 'sum', got") for v in ("average", None, 1, ["mean"], np.ones(2))
]
NO_KEY = [
    *(type_error(v, "key must be a key such as jax.random.key(0), got") for v in (3, "key", [0, 1], NET, jax.random)),
    type_error(jnp.ones(2), "key must be a key such as", "got an array of shape (2,) and dtype float64"),
    type_error(np.uint32(3), "key must be a key such as"),
    value_error(jax.random.split(KEY), "key must be one key", "shape (2,)", "key[0]"),
    value_error(np.zeros((3, 2), np.uint32), "key must be one key", "shape (3, 2)"),
]
NO_DTYPE = [type_error(v, "floating dtype", "got") for v in (jnp.int32, "floatt", jnp.complex64, bool, NET, 3)]
NO_FEEDBACK = [
    type_error([], "feedback is of type list, expected a dict by unit"),
    type_error("B", "feedback is of type str, expected a dict by unit"),
    value_error(params_of(OTHER), "feedback['h1']['x'] has shape (3, 5), expected (3, 4)"),
    type_error(DirectFeedback([]), "feedback.matrices is of type list, expected a dict by unit"),
    type_error(DirectFeedback({"h1": [1.0]}), "feedback.matrices['h1'] is of type list; pass an array"),
    value_error(DirectFeedback({}), "direct feedback holds matrices to none, but below its output the network"),
    value_error(DirectFeedback({"h1": jnp.ones((2, 5))}), "feedback.matrices['h1'] has shape (2, 5), expected"),
]
NO_OFFSETS = [
    type_error(0.0, "offsets must be a jaxbp.Trace", "got 0.0"),
    type_error(PARAMS, "offsets must be a jaxbp.Trace", "got a value of type dict"),
    type_error((TRACE.a, TRACE.h), "offsets must be a jaxbp.Trace"),
    type_error(TRACE._replace(a=0.0), "offsets.a is of type float, expected a dict by unit"),
    type_error(TRACE._replace(h=TRACE.h | {"x": 0.0}), "offsets.h['x'] is of type float; pass an array"),
    value_error(TRACE._replace(a={}), "offsets.a holds none, but the network has 'h1', 'o'"),
    value_error(TRACE._replace(a=TRACE.a | {"o": jnp.ones(2)}), "offsets.a['o'] has shape (2,), expected (5, 2)"),
    value_error(
        TRACE._replace(h=TRACE.h | {"x": jnp.ones((5, 1))}), "offsets.h['x'] has shape (5, 1), expected (5, 3)"
    ),
]
NO_COLLECTORS = [
    type_error([collect.gradient], "collect must be a dict such as"),
    type_error(collect.gradient, "collect must be a dict such as"),
    type_error("grads", "collect must be a dict such as", "got 'grads'"),
    type_error({"g": collect.clipped}, "collect['g'] must be a collector", "function clipped", "call it, clipped(…)"),
    type_error({"g": collect.per_example_dot}, "collect['g'] must be a collector", "call it, per_example_dot(…)"),
    type_error({"g": collect.sampled_diagonal_ggn}, "collect['g'] must be a collector", "call it"),
    type_error({"g": "gradient"}, "collect['g'] must be a function such as lambda sweep", "got 'gradient'"),
    type_error({"g": None}, "collect['g'] must be a function such as lambda sweep", "got None"),
    type_error({"g": lambda: 0}, "collect['g'] '<lambda>' takes (), but is called as collect['g'](sweep)"),
    type_error({3: collect.gradient}, "the name 3 in collect must be a non-empty string"),
]
NO_OPTIMIZER = [
    type_error(v, "optimizer must be an optax optimizer such as optax.sgd(0.1), got")
    for v in ("sgd", None, 0.1, optax.sgd, SGD.update)
]
NO_STATE = [
    type_error(v, "state must be a jaxbp.train.TrainState", "got") for v in (None, PARAMS, "state", tuple(STATE))
]
NO_GRADIENT = [type_error(v, "gradient must be a function such as", "got") for v in (None, "sgd", PARAMS)]
NO_OBSERVE = [type_error(v, "observe must be a function such as", "got") for v in ("loss", 3, [print])]
NO_EXAMPLES = [
    type_error([[1.0, 2.0, 3.0]], "x is of type list; pass an array"),
    type_error(None, "x is None; pass an array"),
    type_error((X[i : i + 1] for i in range(5)), "x is of type generator; pass an array"),
    type_error({"x": [1.0]}, "x['x'] is of type list; pass an array"),
    type_error(np.full((5, 3), "1"), "x has dtype <U1, expected real numbers"),
]
NO_Y = [v for v in NO_TARGETS if "pass an array" in v.says[0] or "dtype <U1" in v.says[0]]
NO_FLOATS = [
    type_error([1.0, 2.0], "{} is of type list; pass an array"),
    type_error(None, "{} is None; pass an array"),
    type_error(jnp.ones((5, 2), int), "{} has dtype int64, expected a floating one"),
]
UNLIKE = [*NO_FLOATS, value_error(jnp.ones((5, 1)), "has shape", "expected that of", "(5, 1)")]
NO_FREE_TREE = [
    type_error(None, "{} is None, expected a dict by unit"),
    type_error("W", "{} is of type str, expected a dict by unit"),
    type_error({"o": jnp.ones(2)}, "{}['o'] is an array, expected a dict by source"),
    type_error({"o": {"x": [1.0]}}, "{}['o']['x'] is of type list; pass an array"),
    type_error({"o": {"x": jnp.ones(2, int)}}, "{}['o']['x'] has dtype int64"),
]
NO_START = [
    type_error("params", "params is of type str; pass an array"),
    type_error({"o": {"x": [0.5]}}, "params['o']['x'][0] is of type float; pass an array"),
]
NO_EDGES = [
    *(type_error(v, "edges must be a list such as") for v in (None, "edges", 3)),
    type_error([3], "edges[0] must be a list such as"),
    type_error([[3]], "edges[0][0] must be a list such as"),
    value_error([[[2, 2]], [[7]]], "the rows of edges[0] have the lengths [2], but layer 1 has 1 neurons"),
]
NO_PAIR = [
    type_error(v, "validation must be a pair (x, y), or (x, y, weights), got")
    for v in (0.2, "test", X, (X,), (X, Y, None, Y), {"x": X, "y": Y})
]
NO_MAPPING = [type_error(v, "{} must be a dict such as", "got") for v in ([("x", 3)], "x", 3, None)]

KINDS: dict[str, list[Value]] = {
    "net": NO_NETWORK,
    "loss": NO_LOSS,
    "params": NO_PARAMS,
    "x": NO_INPUT,
    "y": NO_TARGETS,
    "weights": NO_WEIGHTS,
    "reduction": NO_REDUCTION,
    "key": NO_KEY,
    "dtype": NO_DTYPE,
    "feedback": NO_FEEDBACK,
    "vector": [
        *NO_PARAMS,
        type_error(jax.tree.map(jnp.float32, PARAMS), "vector['h1']['x'] has dtype float32, but the parameter has"),
    ],
    "offsets": NO_OFFSETS,
    "collect": NO_COLLECTORS,
    "optimizer": NO_OPTIMIZER,
    "gradient": NO_GRADIENT,
    "observe": NO_OBSERVE,
    "batch_size": no_integer(1),
    "epochs": no_integer(0),
    "seed": no_integer(0),
    "keyed": no_flag(),
    "drop_last": no_flag(),
    "resume": no_flag(),
    "best": no_flag(),
    "chunk": no_integer(1),
    "every": no_integer(1),
    "keep": no_integer(1),
    "parts": no_integer(1),
    "patience": no_integer(1),
    "processes": no_integer(1),
    "index": no_integer(0),
    "seconds": no_number(),
    "decay": [*no_number(zero=False), *(value_error(v, "decay must be", "got") for v in (1, 1.5))],
    "score": no_function("params")[1:],
    "callback": no_function("epoch")[1:],
    "stop": [type_error(v, "stop must be a function such as lambda", "got") for v in (True, "SIGTERM", 3)],
    "mesh": [
        type_error(v, "mesh must be a jax.sharding.Mesh such as jax.make_mesh", "got") for v in (4, "data", [1], ONE)
    ],
    "layout": [value_error(v, "layout must be 'replicated', 'sharded', or a function") for v in ("shard", 3, None)],
    "checkpoints": [type_error(v, "checkpoints must be jaxbp.train.Checkpoints") for v in ("runs", Path("runs"), 3)],
    "folder": [type_error(v, "folder must be a path, got") for v in (None, 3, ["runs"])],
    "mode": [value_error(v, "mode must be 'least' or 'greatest', got") for v in ("min", None, 1)],
    "coordinator": no_text(),
    "state": NO_STATE,
    "validation": NO_PAIR,
    "activation": no_activation(),
    "hidden": no_activation(),
    "output": no_activation(),
    "width": [replace(v, says=("width", *v.says[1:])) for v in no_positive_shape()],
    "initializer": no_initializer(),
    "share": no_share(),
    "name": no_text(),
    "kernel": no_window(),
    "window": no_window(),
    "stride": no_sizes(),
    "dilation": no_sizes(),
    "padding": [value_error(v, "{}", "'SAME', 'VALID', a number") for v in ("same", -1, 1.5, None, (1, 1), [0, 0])],
    "groups": no_integer(1),
    "axes": no_integer(1),
    "heads": no_integer(1),
    "causal": no_flag(),
    "connection": no_connection(),
    "mask": [
        *(type_error(v, "mask is of type", "pass an array") for v in ([[True]], "mask", True)),
        type_error(np.ones((3, 4)), "the mask has dtype float64, expected booleans"),
    ],
    "query": no_text(),
    "value": no_text(),
    "sources": [
        *no_names(),
        value_error((), "sources must be different names"),
        value_error(("gate", "gate"), "sources must be different names"),
        type_error(("gate", 3), "sources[1] must be a non-empty string, got 3"),
    ],
    "max_norm": no_number(),
    "damping": no_number(infinite=True),
    "rank": no_integer(1),
    "path": [type_error(v, "path must be a path, got") for v in (None, 3, ["rows.npy"])],
    "factors": [
        *(type_error(v, "factors must be a dict such as", "got") for v in (None, 3, X)),
        type_error(PARAMS, "factors['h1']['", "must be a jaxbp.collect.KroneckerFactors, got an array"),
    ],
    "projections": [
        *(value_error(v, "projections has nothing for the weight 'h1.x'") for v in (None, 3, {})),
        type_error(PARAMS, "the projection of 'h1.x' must be a jaxbp.collect.Projection(P, Q), got an array"),
        value_error(OTHERS, "of 'h1.x' has shape", "(5, 2), expected (4, any) for a weight of shape (3, 4)"),
    ],
    "noise_multiplier": no_number(zero=False, infinite=True),
    "samples": no_integer(1),
    "flat": no_number(),
    "other": NO_FREE_TREE,
    "magnitudes": NO_FREE_TREE,
    "activations": [
        *(type_error(v, "activations must be a dict such as", "got") for v in ([jnp.sin], "sin", 3)),
        type_error({jnp.sin: "tanh"}, "activations[sin] must be a jaxbp activation", "did you mean jaxbp.tanh?"),
        type_error({jnp.tanh: jax.nn.tanh}, "activations[tanh] must be a jaxbp activation", "did you mean jaxbp.tanh?"),
    ],
    "a": UNLIKE,
    "h": UNLIKE,
    "Delta": UNLIKE,
    "total": UNLIKE,
    "delta": NO_FLOATS,
    "W": NO_FLOATS,
    "edges": NO_EDGES,
    "dL_do": [*no_names(), value_error([1, 2], "the rows of edges[1] have the lengths [1, 1], but layer 2")],
    "max_paths": no_integer(0),
    "trace": [type_error(v, "trace must be a jaxbp.Trace", "got") for v in (None, X, TRACE.a, "trace")],
    "inputs": [*NO_MAPPING, value_error({"x": 0}, "the width of input 'x' must be a positive integer")],
    "units": [
        *NO_MAPPING,
        value_error({}, "the network has no units"),
        type_error({"o": 2}, "unit 'o' must be a jaxbp.Unit, got 2"),
        type_error({"o": Unit}, "unit 'o' must be a jaxbp.Unit, got the class Unit; call it: Unit(…)"),
        value_error({3: NET.units["h1"]}, "3 cannot be the name of an input, a unit or a shared weight"),
    ],
    "connections": [
        *(value_error(v, "connections must be a non-empty dict", "got") for v in (["x"], "x", None, {}, Dense())),
        type_error({"x": Dense}, "the connection from 'x' must be", "got the class Dense; call it: Dense(…)"),
        type_error({"x": jaxbp.connections.Connection}, "the connection from 'x' must be", "got the class Connection"),
        type_error({"x": None}, "the connection from 'x' must be", "got None"),
        type_error({"x": jnp.ones((3, 4))}, "the connection from 'x' must be", "got an array of shape (3, 4)"),
    ],
    "dropout": [
        *no_number(zero=False),
        *(value_error(v, "a unit's dropout must be at least 0 and below 1") for v in (1, 1.5, np.float32(2))),
    ],
    "widths": [
        *(type_error(v, "widths must be a list such as [784, 128, 10], got") for v in ("342", None, 3, NET)),
        *(value_error([3, v, 2], "widths[1] must be a positive integer") for v in (0, -1, 2.5, "4", None, True)),
        value_error([3], "needs the widths of its input and its output"),
    ],
}  # fmt: skip


# What is right: every call with all its parameters. A wrong value takes the place of each in turn.


@dataclass(frozen=True)
class Call:
    """A call that is right but for what takes the place of one parameter."""

    function: Callable[..., Any]
    arguments: dict[str, Any]
    only: tuple[str, ...] = ()
    """The parameters to replace; all that have kinds when empty."""
    kinds: dict[str, list[Value]] | None = None
    """Kinds of its own."""


def curried(make: Callable[..., Callable[..., Any]], *first: str) -> Callable[..., Any]:
    """A function that makes a function, called with the arguments of both."""

    def call(**arguments: Any) -> Any:
        made = make(**{name: arguments.pop(name) for name in first})
        return made(**arguments)

    return call


def iterated(**arguments: Any) -> Any:
    return next(train.run(**arguments))


# all examples are looked at as a whole first, in other words where they hold no numbers
WRONG_X = [v for v in NO_INPUT if "<U1" not in v.says[0] and "object" not in v.says[0] and "complex" not in v.says[0]]
WRONG_X += NO_EXAMPLES
NO_RUN_TARGETS = [
    *(v for v in NO_TARGETS if v.value is not None),
    type_error(None, "y is None, and x is nothing that yields batches"),
]
WRONG_WEIGHTS = [v for v in NO_WEIGHTS if "complex" not in v.says[0]]
WRONG_WEIGHTS += [type_error(jnp.ones(5, complex), "weights has dtype complex128, expected real numbers")]
LEARN = {"net": NET, "loss": jaxbp.cross_entropy}
POINT = {"params": PARAMS, "x": X, "y": Y}
ALL = LEARN | POINT
NO_RANDOM_KEY = [*NO_KEY, type_error(None, "key must be a key such as", "got None")]
WEIGHTED = {"initializer": None, "share": None}


def a_function(x: Any) -> Any:
    return x


def half_square(params: Any) -> Any:
    return jnp.sum(params["w"] ** 2) / 2


def reads_x(connection: Any) -> jaxbp.Network:
    return jaxbp.Network({"x": 3}, {"o": Unit(2, jaxbp.tanh, {"x": connection})})


def gate(value: Any, switch: Any) -> Any:
    return value * switch


def sine_slope(a: Any, h: Any) -> Any:
    return jnp.cos(a)


def back(a: Any, h: Any, Delta: Any) -> Any:
    return Delta


def of_row(o: Any, y: Any) -> Any:
    return jnp.sum(o - y, axis=-1)


CALLS: dict[str, Call] = {
    "init_params": Call(jaxbp.init_params, {"key": KEY, "net": NET, "dtype": float}, kinds={"key": NO_RANDOM_KEY}),
    "feedback.random_feedback": Call(
        feedback.random_feedback, {"key": KEY, "net": NET, "dtype": float}, kinds={"key": NO_RANDOM_KEY}
    ),
    "feedback.direct_feedback": Call(
        feedback.direct_feedback, {"key": KEY, "net": NET, "dtype": float}, kinds={"key": NO_RANDOM_KEY}
    ),
    "feedback.sign_symmetric": Call(
        feedback.sign_symmetric,
        {"params": PARAMS, "magnitudes": PARAMS},
        kinds={"params": NO_FREE_TREE, "magnitudes": [
            *NO_FREE_TREE, value_error(params_of(OTHER), "magnitudes", "take both from the same network"),
        ]},
    ),
    "constrain": Call(jaxbp.constrain, {"net": NET, "params": PARAMS}),
    "forward": Call(jaxbp.forward, {"net": NET, "params": PARAMS, "x": X, "offsets": None, "key": None}),
    "apply": Call(jaxbp.apply, {"net": NET, "params": PARAMS, "x": X}),
    "objective": Call(
        curried(jaxbp.objective, "net", "loss", "reduction"),
        ALL | {"reduction": "mean", "weights": None, "offsets": None, "key": None},
    ),
    "backprop": Call(
        jaxbp.backprop,
        ALL | {"weights": None, "reduction": "mean", "collect": None, "feedback": None, "key": None},
    ),
    "value_and_grad": Call(
        curried(jaxbp.value_and_grad, "net", "loss", "reduction"),
        ALL | {"reduction": "mean", "weights": None, "feedback": None, "key": None},
    ),
    "as_function": Call(curried(jaxbp.as_function, "net"), {"net": NET, "params": PARAMS, "x": X}),
    "curvature.hessian_vector_product": Call(
        curvature.hessian_vector_product, ALL | {"vector": PARAMS, "weights": None, "reduction": "mean", "key": None}
    ),
    "curvature.ggn_vector_product": Call(
        curvature.ggn_vector_product, ALL | {"vector": PARAMS, "weights": None, "reduction": "mean", "key": None}
    ),
    "curvature.influence": Call(curvature.influence, ALL | {"vector": PARAMS, "projections": None}),
    "curvature.projected_gradients": Call(
        curvature.projected_gradients,
        {"path": "nowhere.npy"} | ALL | {"projections": PROJECTIONS, "batch_size": 2},
        kinds={"x": NO_EXAMPLES, "y": NO_Y},
    ),
    "curvature.random_projections": Call(
        curvature.random_projections, {"key": KEY, "net": NET, "rank": 2}, kinds={"key": NO_RANDOM_KEY}
    ),
    "curvature.whitening": Call(curvature.whitening, {"factors": FACTORS, "damping": 0.1, "rank": None}),
    "feedback.alignment_angles": Call(
        feedback.alignment_angles,
        ALL | {"feedback": PARAMS, "key": None},
        kinds={"feedback": [*NO_FEEDBACK, type_error(None, "feedback is None, expected a dict by unit")]},
    ),
    **{
        name: Call(
            function,
            ALL | {"mine": PARAMS, "layout": "rows", "key": None},
            kinds={
                "layout": [
                    value_error(v, "layout must be 'rows' or 'torch' or 'columns', got")
                    for v in ("row", "Torch", "", None, 0)
                ],
                "key": NO_KEY,
            },
        )
        for name, function in (
            ("check", jaxbp.check),
            ("testing.assert_gradients_match", testing.assert_gradients_match),
        )
    },
    "interop.to_equinox": Call(interop.to_equinox, {"net": NET, "params": PARAMS, "activations": None}),
    "interop.to_flax": Call(interop.to_flax, {"net": NET, "params": PARAMS, "activations": None}),
    **{
        f"interop.{function.__name__}": Call(
            function,
            {"module": module, "shape": None, "activations": None, "layers": None},
            kinds={
                "shape": [
                    type_error("image", "shape must be an integer or a tuple of them, got 'image'"),
                    value_error(-1, "shape must be a positive integer"),
                    value_error((2, 0), "shape must be a positive integer"),
                    value_error(4, "module: takes 3 values, but what comes before it has the shape (4,)"),
                ],
                "layers": [
                    type_error([eqx.nn.Linear], "layers must be a dict such as"),
                    type_error({type(module): [module]}, "layers[Linear] must be a function from a module"),
                    type_error({type(module): lambda m: m}, "layers[Linear] gives", "expected a list of parts"),
                ],
            },
        )
        for function, module in (
            (interop.from_equinox, eqx.nn.Linear(3, 2, key=KEY)),
            (interop.from_flax, nnx.Linear(3, 2, rngs=nnx.Rngs(0))),
        )
    },
    "interop.Sum": Call(
        lambda branches: interop.Sum(*branches),
        {"branches": ([], [])},
        kinds={
            "branches": [
                type_error(([], jnp.sin), "branch 1 of a Sum must be a list of modules"),
                value_error(([],), "a Sum has two branches at least, got 1"),
            ]
        },
    ),
    "interop.Stack": Call(
        interop.Stack,
        {"layers": [jnp.sin], "depth": None},
        kinds={
            "layers": [
                *(type_error(v, "layers must be a list of modules, or one with") for v in (None, jnp.sin, "blocks")),
                value_error([], "a Stack has one layer at least, got none"),
            ],
            "depth": [v for v in no_integer(1) if v.value is not None],
        },
    ),
    "interop.Causal": Call(
        interop.Causal,
        {"attention": jnp.sin},
        kinds={
            "attention": [
                type_error(v, "attention must be a module of attention, got")
                for v in (None, "mha", eqx.nn.MultiheadAttention)
            ]
        },
    ),
    **{
        name: Call(
            function,
            {"f": half_square, "params": {"w": X}, "mine": {"w": X}},
            kinds={
                "f": no_function("params")[:-1],
                "params": [
                    value_error(None, "params holds no arrays"),
                    value_error({}, "params holds no arrays"),
                    type_error("w", "params is of type str; pass an array"),
                    type_error({"w": 1.0}, "w is of type float; pass an array"),
                    type_error({"w": X.astype(int)}, "w has dtype int64, expected a floating one"),
                ],
            },
        )
        for name, function in (
            ("check_function", jaxbp.check_function),
            ("testing.assert_function_gradients_match", testing.assert_function_gradients_match),
        )
    },
    **{
        name: Call(
            lambda f, device, function=function: function(f, X, device=device),
            {"f": jax.nn.relu, "device": None},
            kinds={
                "f": no_function("args[0]"),
                "device": [type_error(v, "device must be a jax.Device", "got") for v in ("gpu", jax.devices(), MESH)],
            },
        )
        for name, function in (
            ("check_rules", jaxbp.check_rules),
            ("testing.assert_rules_right", testing.assert_rules_right),
        )
    },
    # specifications
    "elementwise": Call(
        jaxbp.elementwise,
        {"value": jnp.sin, "derivative": sine_slope, "name": None, "initializer": "he_normal"},
        kinds={"value": no_function("a"), "derivative": no_function("a", "h")},
    ),
    "vector_activation": Call(
        jaxbp.vector_activation,
        {"value": jnp.sin, "pullback": back, "name": None, "initializer": "he_normal"},
        kinds={"value": no_function("a"), "pullback": no_function("a", "h", "Delta")},
    ),
    "activations.with_epsilon": Call(
        jaxbp.activations.with_epsilon,
        {"norm": jaxbp.layer_norm, "epsilon": 1e-6},
        kinds={
            "norm": [
                type_error("layer_norm", "norm must be a jaxbp activation"),
                value_error(jaxbp.tanh, "norm must be jaxbp.layer_norm or jaxbp.rms_norm, got tanh"),
            ],
            "epsilon": [
                type_error("small", "epsilon must be a number"),
                value_error(-1.0, "epsilon must be"),
            ],
        },
    ),
    "Loss": Call(
        jaxbp.Loss,
        {"value": of_row, "gradient": of_row, "name": "mine", "simplifications": (), "encode": None},
        kinds={
            "value": no_function("o", "y"),
            "gradient": no_function("o", "y"),
            "encode": no_function("ids", "width")[1:],
            "complaint": no_function("y")[1:],
            "hessian_root": no_function("o", "y")[1:],
            "root_times": no_function("o", "y", "e")[1:],
            "simplifications": [
                *(type_error(v, "simplifications must be a tuple, got") for v in ([], None, "softmax")),
                type_error((jaxbp.softmax,), "simplifications[0] must be a jaxbp.losses.Simplification"),
            ],
        },
    ),
    "losses.Simplification": Call(
        losses.Simplification,
        {"activation": jaxbp.tanh, "value": of_row, "delta": back, "hessian_root": None},
        kinds={
            "value": no_function("a", "y"),
            "delta": no_function("a", "o", "y"),
            "hessian_root": no_function("a", "o", "y")[1:],
            "root_times": no_function("a", "o", "y", "e")[1:],
        },
    ),
    "unfused": Call(jaxbp.unfused, {"loss": jaxbp.cross_entropy}),
    "losses.in_blocks": Call(
        losses.in_blocks,
        {"loss": jaxbp.cross_entropy, "classes": 10},
        kinds={
            "loss": [*NO_LOSS, type_error(jaxbp.squared_error, "no output is known to be made in blocks")],
            "classes": [v for v in no_integer(1) if v.value is not None],
        },
    ),
    "Unit": Call(
        Unit,
        {"width": 4, "activation": jaxbp.tanh, "connections": {"x": Dense()}, "bias": True, "dropout": 0.0},
        kinds={"bias": [type_error(v, "bias must be True, False or the name of a shared one") for v in (None, 1, [])]},
    ),
    "Network": Call(jaxbp.Network, {"inputs": {"x": 3}, "units": {"o": Unit(2, jaxbp.tanh, {"x": Dense()})}}),
    "layered": Call(
        jaxbp.layered,
        {"widths": [3, 4, 2], "hidden": jaxbp.tanh, "output": jaxbp.softmax, "bias": True},
        kinds={
            "bias": no_flag(),
            "hidden": [
                *no_activation(),
                value_error([jaxbp.tanh, jaxbp.tanh], "1 hidden layers need one activation, or 1; got 2"),
                *(replace(v, value=[v.value], says=tuple(s.replace("{}", "hidden[0]") for s in v.says))
                  for v in no_activation()),
            ],
        },
    ),
    "function_unit": Call(
        jaxbp.function_unit,
        {"function": gate, "sources": ("gate", "value"), "width": 4, "pullback": None, "activation": jaxbp.tanh},
        kinds={
            "function": no_function()[:-1],
            "pullback": no_function("inputs", "a", "delta")[1:],
        },
    ),
    "FunctionUnit": Call(
        partial(jaxbp.FunctionUnit, 4, jaxbp.tanh, ("gate", "value")),
        {"function": gate, "rule": None},
        kinds={"function": no_function()[:-1], "rule": [
            replace(v, says=tuple(s.replace("{}", "pullback") for s in v.says))
            for v in no_function("inputs", "a", "delta")[1:]
        ]},
    ),
    "stack": Call(
        jaxbp.stack,
        {
            "block": BLOCK, "depth": 3, "sources": {"x": "x", "z": "z"}, "shared": False, "slices": {"z": 0},
            "every_layer": False, "remat": False,
        },
        kinds={
            "block": [
                type_error(v, "block must be a jaxbp.Network") for v in (None, {"x": 3}, jaxbp.Network)
            ] + [value_error(
                jaxbp.Network(BLOCK.inputs, {"o": Unit(2, jaxbp.tanh, {"x": Dense(), "z": Dense()})}),
                "carries its first input, 'x'", "(3,) and (2,)",
            )],
            "depth": no_integer(1),
            "shared": no_flag(),
            "every_layer": no_flag(),
            "sources": [
                type_error(None, "sources must be a dict"), type_error({"x": 1, "z": "z"}, "sources['x'] must be"),
                value_error({"x": "x"}, "sources holds the inputs 'x', but the block has 'x', 'z'"),
                value_error("x", "the block has the inputs 'x', 'z'; say what each of them reads"),
            ],
            "slices": [
                type_error([0], "slices must be a dict"), type_error({"z": "0"}, "slices['z'] must be an integer"),
                value_error({"x": 0}, "slices holds 'x'", "beside the one that it carries"),
                value_error({"z": -1}, "slices['z'] must be at least 0"),
            ],
            "remat": [
                type_error(None, "remat must be True or False"), type_error(1, "remat must be True or False"),
                value_error(("down",), "remat holds 'down', but the block has the units 'o'"),
            ],
        },
    ),
    "product": Call(
        lambda sources, width: jaxbp.product(*sources, width=width), {"sources": ("gate", "value"), "width": 4},
        kinds={"sources": [
            value_error((), "sources must be different names"), type_error((1, "x"), "sources[0] must"),
        ]},
    ),
    "attention": Call(
        jaxbp.attention,
        {
            "query": "q", "key": "k", "value": "v", "shape": (6, 8), "heads": 2, "causal": True, "key_heads": None,
            "mask": None, "rotary": None, "block": None,
        },
        kinds={
            "key": no_text(),
            "shape": [
                *(type_error(v, "shape must be a tuple (rows, width), got") for v in (8, None, [6, 8], "68")),
                *(value_error(v, "its shape is (rows, width)") for v in ((8,), (6, 8, 2), (6, 0), (6, 2.0))),
            ],
            "heads": [*no_integer(1), value_error(3, "3 heads do not divide a width of 8")],
            "key_heads": [*no_integer(1), value_error(3, "3 key_heads do not divide 2 heads")],
            "mask": no_text(),
            "rotary": no_number(infinite=True),
            "block": no_integer(1),
        },
    ),
    "Dense": Call(Dense, dict(WEIGHTED)),
    "connections.Bias": Call(
        jaxbp.connections.Bias, {**WEIGHTED, "whole": False}, kinds={"whole": no_flag()}
    ),
    "Scale": Call(jaxbp.Scale, dict(WEIGHTED)),
    "Embedding": Call(jaxbp.Embedding, {"size": 5, **WEIGHTED}, kinds={"size": no_integer(1)}),
    "ids": Call(
        jaxbp.ids,
        {"shape": 4, "size": 5},
        kinds={
            "shape": [value_error(v, "shape must be a positive integer, or a tuple") for v in (0, -1, 2.0, "4", None)],
            "size": no_integer(1),
        },
    ),
    "Conv": Call(
        Conv, {"kernel": (3, 3), "stride": 1, "padding": "SAME", "dilation": 1, "groups": 1, **WEIGHTED}
    ),
    "Identity": Call(
        reads_x,
        {"connection": Dense()},
        kinds={"connection": [
            value_error(Identity(), "unit 'o' cannot read 'x': Identity joins equal shapes", "use Dense()"),
            type_error(Identity, "the connection from 'x' must be", "got the class Identity; call it: Identity(…)"),
        ]},
    ),
    "MaxPool": Call(jaxbp.MaxPool, {"window": (3, 3), "stride": 1, "padding": "SAME"}),
    "AvgPool": Call(jaxbp.AvgPool, {"window": (3, 3), "stride": 1, "padding": "SAME"}),
    "Flatten": Call(jaxbp.Flatten, {"axes": 3}),
    "Masked": Call(jaxbp.Masked, {"connection": Dense(), "mask": np.ones((3, 4), bool)}),
    "Transposed": Call(jaxbp.Transposed, {"connection": Dense()}),
    "ConvTransposed": Call(
        jaxbp.ConvTransposed,
        {"connection": Conv((3,)), "shape": (8, 1)},
        kinds={"shape": [
            type_error(v, "shape must be a tuple of positive integers") for v in (8, None, [8, 1], (8, 0), (8.0, 1))
        ]},
    ),
    # collectors
    "collect.clipped": Call(collect.clipped, {"max_norm": 1.0, "noise_multiplier": 1.0, "key": KEY}, kinds={
        "key": [*NO_KEY, value_error(None, "a noise_multiplier needs a key")],
    }),
    "collect.sampled_diagonal_ggn": Call(collect.sampled_diagonal_ggn, {"key": KEY, "samples": 1}, kinds={
        "samples": [v for v in no_integer(1) if v.value is not None],
    }),
    "collect.sampled_kronecker_ggn": Call(collect.sampled_kronecker_ggn, {"key": KEY, "samples": 1}, kinds={
        "samples": [v for v in no_integer(1) if v.value is not None],
    }),
    "collect.projected": Call(collect.projected, {"projections": PROJECTIONS}, kinds={
        "projections": [type_error(v, "projections is", "expected a dict by unit") for v in (None, 3, X)],
    }),
    "collect.statistics": Call(collect.statistics, {"flat": 0.01}),
    "collect.per_example_dot": Call(collect.per_example_dot, {"other": PARAMS}),
    # training
    "train.init_state": Call(
        train.init_state,
        {"key": KEY, "net": NET, "optimizer": SGD, "params": None, "dtype": float},
        kinds={"key": NO_RANDOM_KEY, "params": NO_START},
    ),
    "train.step": Call(
        train.step,
        {
            "state": STATE, "x": X, "y": Y, "gradient": GRADIENT, "optimizer": SGD, "keyed": False, "weights": None,
            "mesh": MESH, "layout": "replicated",
        },
        kinds={"x": NO_EXAMPLES, "y": NO_Y, "weights": NO_WEIGHTS[:3]},
    ),
    "train.epoch": Call(
        train.epoch,
        {
            "state": STATE, "x": X, "y": Y, "gradient": GRADIENT, "optimizer": SGD, "batch_size": 2, "observe": None,
            "keyed": False, "weights": None, "drop_last": False, "mesh": MESH, "layout": "replicated",
        },
        kinds={"x": NO_EXAMPLES, "y": NO_Y, "weights": NO_WEIGHTS[:3]},
    ),
    "train.run": Call(
        iterated,
        LEARN | {
            "x": X, "y": Y, "optimizer": SGD, "batch_size": 2, "state": None, "key": None, "gradient": None,
            "observe": None, "keyed": None, "weights": None, "drop_last": False, "chunk": None, "every": None,
            "epochs": None, "score": None, "mesh": MESH, "layout": "replicated", "checkpoints": None, "resume": False,
            "stop": None,
        },
        kinds={"x": WRONG_X, "y": NO_RUN_TARGETS, "weights": WRONG_WEIGHTS},
    ),
    "train.fit": Call(
        train.fit,
        ALL | {
            "params": None, "optimizer": None, "epochs": 1, "batch_size": 2, "seed": 0, "validation": None,
            "patience": None, "callback": None, "state": None, "gradient": None, "weights": None, "drop_last": False,
            "chunk": None,
            "every": None, "mesh": MESH, "layout": "replicated", "checkpoints": None, "resume": False, "stop": None,
        },
        kinds={"x": WRONG_X, "y": NO_RUN_TARGETS, "weights": WRONG_WEIGHTS},
    ),
    "train.evaluate": Call(
        train.evaluate,
        ALL | {"weights": None, "batch_size": None},
        kinds={"x": WRONG_X, "weights": [*WRONG_WEIGHTS, value_error(jnp.zeros(5), "weights sum to 0.0")]},
    ),
    "train.check_data": Call(train.check_data, LEARN | {"x": X, "y": Y, "weights": None}, kinds={
        "y": [*NO_TARGETS, value_error(jnp.full(5, 2), "class id 2 at example 0 is outside 0…1")],
    }),
    "train.kolen_pollack": Call(train.kolen_pollack, LEARN | {"reduction": "mean"}),
    "train.Checkpoints": Call(
        train.Checkpoints,
        {"folder": "runs", "every": None, "seconds": None, "keep": 1, "best": "loss", "mode": "least"},
        kinds={"best": [type_error(v, "best must be a non-empty string", "got") for v in (3, True, "")]},
    ),
    "train.restore": Call(train.restore, {"checkpoints": CHECKPOINTS, "state": STATE, "best": False}),
    "train.initialize": Call(
        lambda **arguments: train.initialize(**arguments).__enter__(),
        {"coordinator": "127.0.0.1:1", "processes": 1, "index": 0, "patience": 30},
    ),
    "train.accumulated": Call(train.accumulated, {"gradient": GRADIENT, "parts": 2, "reduction": "mean"}),
    "train.computed_in": Call(train.computed_in, {"gradient": GRADIENT, "dtype": float}),
    "train.averaged": Call(train.averaged, {"decay": 0.5}),
    "train.average_of": Call(
        train.average_of,
        {"opt_state": AVERAGED},
        kinds={
            "opt_state": [
                value_error(SGD.init(PARAMS), "opt_state is", "holds no averages; expected the state of an optimizer"),
                value_error((AVERAGED, AVERAGED), "holds 2 averages"),
                value_error(None, "opt_state is None, which holds no averages"),
            ]
        },
    ),
    "train.kfac": Call(
        train.kfac,
        LEARN | {
            "learning_rate": 0.1, "momentum": 0.9, "damping": 1.0, "weight_decay": 0.0, "norm_bound": 1.0,
            "average": 0.95, "factors_every": 1, "factors_of": 1, "model_of": 1, "inverses_every": 20, "adapt_every": 5,
            "least_damping": 1e-8,
            "samples": 1, "rows": "expand", "seed": 0,
        },
        kinds={
            **{name: [v for v in no_number(infinite=True) if v.value is not None]
               for name in ("learning_rate", "norm_bound")},
            **{name: no_number(infinite=True) for name in ("damping", "least_damping")},
            "weight_decay": no_number(infinite=True, zero=False),
            "momentum": [v for v in no_number(zero=False) if v.value is not None],
            "average": no_number(zero=False),
            **{name: no_integer(1) for name in ("factors_every", "factors_of", "model_of", "inverses_every")},
            **{name: [v for v in no_integer(1) if v.value is not None] for name in ("adapt_every", "samples")},
            "rows": [value_error(v, "rows must be 'expand' or 'reduce', got") for v in (None, 1, "sum")],
            "seed": no_integer(0),
            "loss": [*NO_LOSS, type_error(
                jaxbp.Loss(lambda o, y: o[..., 0], lambda o, y: o), "does not state a root of its Hessian"
            )],
        },
    ),
    "train.laplace": Call(
        train.laplace,
        ALL | {"prior_precision": 1.0, "last": False},
        kinds={
            "prior_precision": no_number(infinite=True),
            "last": no_flag(),
            "loss": [*NO_LOSS, type_error(
                jaxbp.Loss(lambda o, y: o[..., 0], lambda o, y: o), "does not state a root of its Hessian"
            )],
        },
    ),
    "train.fused": Call(
        train.fused,
        LEARN | {"net": DEEP, "reduction": "mean", "clip_norm": 1.0},
        kinds={
            "net": [*NO_NETWORK, value_error(NET, "no stack whose layers have weights of their own", "value_and_grad")],
            "clip_norm": [v for v in no_number(infinite=True) if v.value is not None],
        },
    ),
    "train.keep_masked": Call(train.keep_masked, {"net": NET}),
    # the textbook
    **{
        f"textbook.{name}": Call(getattr(textbook, name), dict(ALL))
        for name in (
            "post_activation_recursion", "pre_activation_recursion", "decoupled", "instantiated_recursion",
        )
    },
    "textbook.path_sums": Call(textbook.path_sums, ALL | {"max_paths": 1_000_000}),
    "textbook.count_work": Call(textbook.count_work, {"net": NET}),
    "textbook.local_derivatives": Call(textbook.local_derivatives, {"net": NET, "params": PARAMS, "trace": TRACE}),
    "textbook.linear_step": Call(
        textbook.linear_step, {"W": PARAMS["o"]["h1"], "delta": jnp.ones((5, 2))},
        kinds={
            "W": [*NO_FLOATS, value_error(jnp.ones(2), "W has shape (2,)")],
            "delta": [*NO_FLOATS, value_error(jnp.ones((5, 1)), "delta (5, 1)")],
        },
    ),
    "textbook.activation_step": Call(
        textbook.activation_step,
        {"activation": jaxbp.tanh, "a": jnp.ones((5, 2)), "h": jnp.ones((5, 2)), "Delta": jnp.ones((5, 2))},
    ),
    "textbook.update": Call(
        textbook.update,
        {"activation": jaxbp.tanh, "a": jnp.ones((5, 2)), "h": jnp.ones((5, 2)), "total": jnp.ones((5, 2))},
    ),
    "textbook.softmax_cross_entropy_delta": Call(
        textbook.softmax_cross_entropy_delta, {"o": jnp.ones((5, 2)), "y": jnp.ones((5, 2))},
        kinds={"o": UNLIKE, "y": UNLIKE},
    ),
    **{
        f"textbook.{name}": Call(getattr(textbook, name), {"edges": [[[2, 3]], [[7], [5]]], "dL_do": [1]})
        for name in ("accumulate_by_paths", "accumulate_by_nodes")
    },
}  # fmt: skip


def generated() -> Iterator[Wrong]:
    for name, call in CALLS.items():
        kinds = KINDS | (call.kinds or {})
        for parameter in {**call.arguments, **(call.kinds or {})}:
            for i, wrong in enumerate(kinds.get(parameter, ())):
                if wrong.value is None and call.arguments.get(parameter, 0) is None:
                    continue  # it may be left out
                says = tuple(words.replace("{}", parameter) for words in wrong.says)
                yield Wrong(
                    name,
                    f"{parameter} {i}",
                    partial(call.function, **call.arguments | {parameter: wrong.value}),
                    wrong.error,
                    says,
                )


def misspelt() -> Iterator[Wrong]:
    """Every activation and loss by a name that is nearly its own, and every collector that is not called."""
    for name, value in vars(jaxbp).items():
        near = f"did you mean jaxbp.{name}?"
        if isinstance(value, jaxbp.activations.Activation):
            wrong = partial(Unit, 2, f"{name}x", {"x": Dense()})
            yield Wrong(name, "misspelt", wrong, TypeError, ("a unit's activation must be", near))
        elif isinstance(value, jaxbp.Loss):
            wrong = partial(jaxbp.value_and_grad, NET, f"{name}x")
            yield Wrong(name, "misspelt", wrong, TypeError, ("loss must be", near))
    for name, value in vars(collect).items():
        kind = value if isinstance(value, type) else type(value)
        if kind.__module__.startswith("jaxbp.collect") and "__call__" in vars(kind) and not name.startswith("_"):
            wrong = partial(jaxbp.backprop, NET, jaxbp.cross_entropy, PARAMS, X, Y, collect={"it": kind})
            yield Wrong(
                f"collect.{name}", "not called", wrong, TypeError,
                ("collect['it'] must be a collector", f"the class {kind.__name__}", f"call it, {kind.__name__}(…)"),
            )  # fmt: skip


WRONG = [*generated(), *misspelt()]
