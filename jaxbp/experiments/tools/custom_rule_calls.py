"""What reaches custom rules in the installed libraries: a table of calls, each a name, a function and arguments."""

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxbp
from jaxbp.experiments.common.gpt import gpt


@dataclass(frozen=True, eq=False)
class Call:
    """A function at arguments that reach some rules, or none."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


_RNG = np.random.default_rng(0)
X = jnp.asarray(_RNG.normal(size=(4, 3)), jnp.float32).at[0, 0].set(0.0)
"""Numbers of both signs, with a corner of many functions among them."""
Y = jnp.asarray(_RNG.normal(size=(4, 3)), jnp.float32)
POSITIVE, UNIT, LABELS = jnp.abs(Y) + 0.3, jax.nn.sigmoid(Y), jnp.array([0, 1, 2, 1])
SQUARE = Y[:3] @ Y[:3].T + 3 * jnp.eye(3)
CANDIDATES: tuple[tuple[Any, ...], ...] = (
    *((X, UNIT, POSITIVE), (POSITIVE, POSITIVE, UNIT), (jax.nn.softmax(X), jax.nn.softmax(Y)), (X, LABELS)),
    *((POSITIVE, UNIT), (X,), (POSITIVE,), (UNIT,), (SQUARE,), (LABELS, UNIT), (SQUARE, Y[:3])),
)
"""What a function of a namespace is tried with: that it cannot take is no matter."""
NO_FUNCTIONS = {"save", "savez", "load", "fromfile", "printoptions", "set_printoptions", "array_repr", "array_str"}
IMAGE, ROWS, TOKENS = jnp.ones((2, 8, 8, 3)), jnp.asarray(_RNG.normal(size=(2, 5, 8)), jnp.float32), jnp.arange(5)


def of_namespace(name: str, most: int) -> Iterator[Call]:
    """Every function of a module, at the first few arguments that it takes."""
    module = importlib.import_module(name)
    for own in sorted(set(dir(module)) - NO_FUNCTIONS):
        function = getattr(module, own)
        if own.startswith("_") or isinstance(function, type | ModuleType) or not callable(function):
            continue
        taken = [arguments for arguments in CANDIDATES if _takes(function, arguments)]
        yield from (Call(f"{name}.{own}", function, arguments) for arguments in taken[:most])


def of_distributions(most: int) -> Iterator[Call]:
    """The functions of each distribution in jax.scipy.stats."""
    stats = importlib.import_module("jax.scipy.stats")
    for own in sorted(dir(stats)):
        if isinstance(getattr(stats, own), ModuleType):
            yield from of_namespace(f"jax.scipy.stats.{own}", most)


def _takes(function: Callable[..., Any], arguments: Sequence[Any]) -> bool:
    try:
        jax.eval_shape(lambda *arguments: function(*arguments), *arguments)
    except Exception:  # whatever it objects to
        return False
    return True


def of_optax(most: int) -> Iterator[Call]:
    """Losses and projections, and what of them takes other arguments."""
    import optax

    for name in ("optax.losses", "optax.projections"):
        yield from of_namespace(name, most)
    frames, none = ROWS, jnp.zeros((2, 5))
    labels, ends = jnp.array([[1, 2, 3], [4, 1, 1]]), jnp.array([[0, 0, 0], [0, 0, 1]])
    yield Call("optax.losses.ctc_loss", lambda z: optax.losses.ctc_loss(z, none, labels, ends), (frames,))
    yield Call("optax.safe_norm", lambda x: optax.safe_norm(x, 1e-3, axis=-1), (X,))
    yield Call("optax.scale_gradient", lambda x: optax.scale_gradient(x, 0.5), (X,))
    yield Call("optax.safe_root_mean_squares", lambda x: optax.safe_root_mean_squares(x, 1e-3), (X,))


def of_flax_linen(_: int) -> Iterator[Call]:
    """Layers of flax.linen, with what comes before or after a layer."""
    import flax.linen as nn
    from flax.linen import fp8_ops

    cells = (nn.LSTMCell, nn.OptimizedLSTMCell, nn.GRUCell, nn.MGUCell, nn.SimpleCell)
    layers: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "Dense": (nn.Dense(4), (ROWS,)),
        "DenseGeneral": (nn.DenseGeneral((2, 4)), (ROWS,)),
        "Einsum": (nn.Einsum((8, 4), "btc,cd->btd"), (ROWS,)),
        "Conv": (nn.Conv(4, (3, 3)), (IMAGE,)),
        "ConvTranspose": (nn.ConvTranspose(4, (3, 3)), (IMAGE,)),
        "LayerNorm": (nn.LayerNorm(), (ROWS,)),
        "RMSNorm": (nn.RMSNorm(), (ROWS,)),
        "GroupNorm": (nn.GroupNorm(2), (ROWS,)),
        "InstanceNorm": (nn.InstanceNorm(), (ROWS,)),
        "BatchNorm": (nn.BatchNorm(use_running_average=True), (ROWS,)),
        "WeightNorm": (nn.WeightNorm(nn.Dense(4)), (ROWS,)),
        "Embed": (nn.Embed(7, 4), (TOKENS,)),
        "PReLU": (nn.PReLU(), (ROWS,)),
        "MultiHeadDotProductAttention": (nn.MultiHeadDotProductAttention(2), (ROWS, ROWS)),
        **{f"RNN({cell.__name__})": (nn.RNN(cell(4)), (ROWS,)) for cell in cells},
        "Fp8DotGeneralOp": (nn.Dense(4, dot_general_cls=fp8_ops.Fp8DotGeneralOp), (ROWS,)),
        "Fp8DirectDotGeneralOp": (nn.Dense(4, dot_general_cls=fp8_ops.Fp8DirectDotGeneralOp), (ROWS,)),
    }
    for name, (layer, inputs) in layers.items():
        variables = layer.init(jax.random.key(0), *inputs)
        yield Call(
            f"flax.linen.{name}", lambda v, *x, layer=layer: jax.nn.relu(layer.apply(v, *x)), (variables, *inputs)
        )


def of_flax_nnx(_: int) -> Iterator[Call]:
    """Layers of flax.nnx."""
    from flax import nnx

    rngs = nnx.Rngs(0)
    layers: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "Linear": (nnx.Linear(8, 4, rngs=rngs), (ROWS,)),
        "Conv": (nnx.Conv(3, 4, (3, 3), rngs=rngs), (IMAGE,)),
        "LayerNorm": (nnx.LayerNorm(8, rngs=rngs), (ROWS,)),
        "RMSNorm": (nnx.RMSNorm(8, rngs=rngs), (ROWS,)),
        "GroupNorm": (nnx.GroupNorm(8, 2, rngs=rngs), (ROWS,)),
        "Embed": (nnx.Embed(7, 4, rngs=rngs), (TOKENS,)),
        "LoRA": (nnx.LoRA(8, 2, 4, rngs=rngs), (ROWS,)),
        "MultiHeadAttention": (nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs), (ROWS,)),
    }
    for name, (layer, inputs) in layers.items():
        of, state = nnx.split(layer)
        yield Call(f"flax.nnx.{name}", lambda s, *x, of=of: jax.nn.silu(nnx.merge(of, s)(*x)), (state, *inputs))


def of_equinox(_: int) -> Iterator[Call]:
    """Layers of equinox, and its own loops and errors."""
    import equinox as eqx

    key, row, picture = jax.random.key(0), ROWS[0], jnp.ones((3, 8, 8))
    layers: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "MLP": (eqx.nn.MLP(8, 2, 4, 2, key=key), (row[0],)),
        "Conv2d": (eqx.nn.Conv2d(3, 4, 3, key=key), (picture,)),
        "MaxPool2d": (eqx.nn.MaxPool2d(2, 2), (picture,)),
        "LayerNorm": (eqx.nn.LayerNorm(8), (row[0],)),
        "RMSNorm": (eqx.nn.RMSNorm(8), (row[0],)),
        "GroupNorm": (eqx.nn.GroupNorm(2, 8), (row[0],)),
        "GRUCell": (eqx.nn.GRUCell(8, 4, key=key), (row[0], jnp.ones(4))),
        "LSTMCell": (eqx.nn.LSTMCell(8, 4, key=key), (row[0], (jnp.ones(4), jnp.ones(4)))),
        "MultiheadAttention": (eqx.nn.MultiheadAttention(2, 8, key=key), (row, row, row)),
        "PReLU": (eqx.nn.PReLU(), (row,)),
    }
    for name, (layer, inputs) in layers.items():
        yield Call(f"equinox.nn.{name}", lambda layer, *x: layer(*x), (layer, *inputs))
    yield Call("equinox.error_if", lambda x: eqx.error_if(jnp.sin(x), jnp.any(x > 1e6), "too large"), (X,))


def of_jaxbp(_: int) -> Iterator[Call]:
    """Networks of ours as functions."""
    key, tokens = jax.random.key(0), jnp.arange(8).reshape(2, 4) % 5
    layered = jaxbp.layered([3, 4, 2], hidden=jaxbp.relu, output=jaxbp.softmax)
    transformer = gpt(5, 4, layers=2, heads=2, width=8)
    for name, net, x in (("layered", layered, X), ("gpt", transformer, tokens)):
        yield Call(f"jaxbp.as_function({name})", jaxbp.as_function(net), (jaxbp.init_params(key, net), x))


Source = Callable[[int], Iterator[Call]]


def _namespace(name: str) -> Source:
    return lambda most: of_namespace(name, most)


_NAMESPACES = ("jax.nn", "jax.numpy", "jax.numpy.linalg", "jax.scipy.special", "jax.scipy.linalg", "jax.scipy.stats")
SOURCES: Mapping[str, Source] = {
    **{name: _namespace(name) for name in _NAMESPACES},
    "jax.scipy.stats.*": of_distributions,
    "optax": of_optax,
    "flax.linen": of_flax_linen,
    "flax.nnx": of_flax_nnx,
    "equinox": of_equinox,
    "jaxbp": of_jaxbp,
}
"""The calls of each library, by its name; each takes how many arguments a function is tried with at most."""
