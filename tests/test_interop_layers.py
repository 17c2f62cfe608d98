"""Layers beyond MLPs of equinox, flax and torch: the same outputs and gradients, there, back and into each other."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import params_of
from flax import linen, nnx

import jaxbp
from jaxbp import Conv, ConvTransposed, Dense, Embedding, Identity, Network, Scale, Unit, interop

torch: Any = import_module("torch") if find_spec("torch") else None
nn = torch and torch.nn
needs_torch = pytest.mark.skipif(torch is None, reason="torch is missing; it comes with jaxbp[interop]")
LIBRARIES = ["equinox", "flax", pytest.param("torch", marks=needs_torch)]
TOLERANCE = 1e-10
KEY = jax.random.key(0)
RNGS = nnx.Rngs(0)


@dataclass(frozen=True)
class Case:
    """A module, made when it is asked for, and the shape of an example as our network takes it.

    Attributes:
        maps: Whether x is a map, with channels first in equinox and torch.
        maps_out: Whether the output is.
        ids: How many ids x holds, where it does.
        options: What else the reader is told.
        written: How far the module that we write may be away, where it has more rounding than the one that was read.
    """

    make: Callable[[], Any]
    shape: Any
    maps: bool = False
    maps_out: bool = False
    ids: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    written: float = TOLERANCE

    def x(self) -> np.ndarray:
        rng = np.random.default_rng(1)
        shape = (3, *(self.shape if isinstance(self.shape, tuple) else (self.shape,)))
        return rng.normal(size=shape) if self.ids is None else rng.integers(0, self.ids, shape)


def key(i: int = 1) -> Any:
    return jax.random.key(i)


def double(module: type, *arguments: Any, **options: Any) -> Any:
    return module(*arguments, param_dtype=jnp.float64, rngs=nnx.Rngs(0), **options)


# Modules that their users write by hand, and what they are made of.


class EquinoxBlock(eqx.Module):
    norm: Any
    attention: Any
    norm2: Any
    up: Any
    down: Any

    def __call__(self, x, *, key=None):
        h = jax.vmap(self.norm)(x)
        x = x + self.attention(h, h, h, jnp.tri(len(x), dtype=bool))
        return x + jax.vmap(self.down)(jax.nn.gelu(jax.vmap(self.up)(jax.vmap(self.norm2)(x))))


class FlaxBlock(nnx.Module):
    def __init__(self, width, heads, key_heads):
        self.norm = double(nnx.RMSNorm, width)
        self.attention = double(
            nnx.MultiHeadAttention,
            heads,
            width,
            2 * width,
            width,
            key_heads,
            decode=False,
            use_bias=False,
            # without dropout flax has the weights of attention in float32, in any precision
            dropout_rate=0.5,
            deterministic=True,
            keep_rngs=False,
        )
        self.norm2 = double(nnx.LayerNorm, width)
        self.up, self.down = double(nnx.Linear, width, 5), double(nnx.Linear, 5, width)

    def __call__(self, x):
        x = x + self.attention(self.norm(x), mask=jnp.tri(x.shape[-2], dtype=bool)[None, None])
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


def block(b):
    return [
        interop.Sum([], [b.norm, interop.Causal(b.attention)]),
        interop.Sum([], [b.norm2, b.up, jax.nn.gelu, b.down]),
    ]


class EquinoxBlocks(eqx.Module):
    blocks: EquinoxBlock

    def __call__(self, x, *, key=None):
        arrays, functions = eqx.partition(self.blocks, eqx.is_array)
        return jax.lax.scan(lambda x, of_layer: (eqx.combine(of_layer, functions)(x), None), x, arrays)[0]


class FlaxBlocks(nnx.Module):
    def __init__(self, depth, *arguments):
        self.blocks = nnx.vmap(lambda _: FlaxBlock(*arguments))(jnp.arange(depth))

    def __call__(self, x):
        return nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.blocks)


def stack(m):
    return [interop.Stack(m.blocks, 3)]


def flat(x):
    return x.reshape(len(x), -1)


def equinox_sequential(*layers):
    return eqx.nn.Sequential(layers)


def equinox_block(_):
    return EquinoxBlock(
        eqx.nn.RMSNorm(6),
        eqx.nn.MultiheadAttention(2, 6, qk_size=4, vo_size=5, use_key_bias=True, use_output_bias=True, key=key()),
        eqx.nn.LayerNorm(6, eps=1e-3, use_bias=False),
        eqx.nn.Linear(6, 5, key=key(2)),
        eqx.nn.Linear(5, 6, key=key(3)),
    )


def torch_images():
    return nn.Sequential(
        nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), groups=2), nn.Tanh(), nn.MaxPool2d(2, 1),
        nn.ZeroPad2d((1, 0, 0, 2)), nn.Conv2d(4, 3, 2, dilation=2, padding="valid"), nn.Softmax(1),
        nn.AvgPool2d((2, 1), padding=(1, 0)), nn.LeakyReLU(0.2), nn.Flatten(), nn.LayerNorm(6), nn.Linear(6, 5),
        nn.GELU(), nn.Linear(5, 2),
    )  # fmt: skip


class TorchResidual(nn.Module if nn else object):
    def __init__(self):
        super().__init__()
        self.conv, self.short = nn.Conv2d(2, 3, 3, 2, 1), nn.Conv2d(2, 3, 1, 2, bias=False)
        self.after = nn.ModuleList([nn.Conv2d(3, 3, 3, padding="same")])

    def forward(self, x):
        return torch.relu(self.after[0](torch.tanh(self.conv(x))) + self.short(x))


def torch_residual(r):
    return [interop.Sum([r.conv, jaxbp.tanh, r.after[0]], [r.short]), jaxbp.relu]


def encoder(e):
    return [interop.Stack(e.layers), e.norm]


CASES = {
    "equinox images": Case(
        lambda: equinox_sequential(
            eqx.nn.Conv2d(2, 4, (3, 2), (2, 1), ((1, 0), (0, 1)), groups=2, key=key()), eqx.nn.Lambda(jnp.tanh),
            eqx.nn.MaxPool2d(2, 1), eqx.nn.Conv2d(4, 3, 2, padding="SAME", dilation=2, key=key(2)),
            eqx.nn.Lambda(partial(jax.nn.softmax, axis=0)), eqx.nn.AvgPool2d((2, 1), (2, 1), 1),
            eqx.nn.Lambda(jnp.ravel), eqx.nn.LayerNorm(30), eqx.nn.Linear(30, 2, key=key(3)),
        ),
        (6, 4, 2), maps=True),
    "equinox signals": Case(
        lambda: equinox_sequential(
            eqx.nn.Conv1d(2, 4, 3, 2, 1, key=key()), eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.ConvTranspose1d(4, 6, 4, 3, 1, padding=1, groups=2, key=key(2)), eqx.nn.Lambda(jax.nn.silu),
            eqx.nn.ConvTranspose1d(6, 2, 3, padding="SAME", dilation=2, use_bias=False, key=key(3)),
        ),
        (7, 2), maps=True, maps_out=True),
    "equinox words": Case(
        lambda: equinox_sequential(
            interop_own("equinox").Rows(eqx.nn.Embedding(7, 6, key=key())),
            EquinoxBlocks(eqx.filter_vmap(equinox_block)(jnp.arange(3))),
            interop_own("equinox").Rows(eqx.nn.Linear(6, 3, key=key(4))),
        ),
        5, ids=7, options={"layers": {EquinoxBlock: block, EquinoxBlocks: stack}}),
    "flax images": Case(
        lambda: nnx.Sequential(
            double(nnx.Conv, 2, 4, (3, 2), (2, 1), padding=((1, 0), (0, 1)), feature_group_count=2), nnx.tanh,
            partial(nnx.max_pool, window_shape=(2, 2)), double(nnx.Conv, 4, 3, (2, 2), kernel_dilation=2), nnx.softmax,
            partial(nnx.avg_pool, window_shape=(2, 1), strides=(2, 1), padding=((1, 1), (1, 1))), flat,
            double(nnx.LayerNorm, 30), double(nnx.Linear, 30, 2),
        ),
        (6, 4, 2), maps=True, options={"layers": {flat: lambda _: [jaxbp.Flatten()]}}),
    "flax signals": Case(
        lambda: nnx.Sequential(
            double(nnx.Conv, 2, 4, 3, 2, padding="CAUSAL"), nnx.relu,
            double(nnx.ConvTranspose, 4, 3, 4, 3, padding="VALID"), nnx.silu,
            double(nnx.ConvTranspose, 3, 3, 2, 3), double(nnx.ConvTranspose, 3, 2, 3, 2, padding=1, kernel_dilation=2,
            transpose_kernel=True, use_bias=False),
        ),
        (7, 2), maps=True, maps_out=True),
    "flax words": Case(
        lambda: nnx.Sequential(double(nnx.Embed, 7, 6), FlaxBlocks(3, 6, 4, 2), double(nnx.Linear, 6, 3)),
        5, ids=7, options={"layers": {FlaxBlock: block, FlaxBlocks: stack}}, written=1e-5),
    "torch images": Case(torch_images, (6, 4, 2), maps=True),
    "torch signals": Case(
        lambda: nn.Sequential(
            nn.Conv1d(2, 4, 3, 2, 1), nn.ReLU(), nn.ConvTranspose1d(4, 6, 4, 3, 1, 1, groups=2), nn.SiLU(),
            nn.ConvTranspose1d(6, 2, 3, dilation=2, padding=2, bias=False)),
        (7, 2), maps=True, maps_out=True),
    "torch volumes": Case(
        lambda: nn.Sequential(nn.Conv3d(1, 2, 2), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Softplus()),
        (3, 4, 2, 1), maps=True),
    "torch residual": Case(
        lambda: nn.Sequential(TorchResidual(), nn.Flatten(), nn.Linear(24, 3)), (7, 4, 2), maps=True,
        options={"layers": {TorchResidual: torch_residual}}),
    "torch encoder, norm first": Case(
        lambda: nn.Sequential(
            nn.Embedding(7, 6),
            nn.TransformerEncoder(
                nn.TransformerEncoderLayer(6, 2, 5, 0.0, "gelu", norm_first=True, batch_first=True), 1, nn.RMSNorm(6),
                enable_nested_tensor=False),
            nn.Linear(6, 3)),
        5, ids=7),
    "torch encoder": Case(
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(6, 2, 5, 0.0, torch.tanh, 1e-3, batch_first=True), 2, nn.LayerNorm(6),
            enable_nested_tensor=False),
        (5, 6), options={"layers": {nn and nn.TransformerEncoder: encoder}}),
}  # fmt: skip


def interop_own(library):
    return import_module(f"jaxbp.interop._{library}_own").own_modules({"equinox": eqx.nn, "flax": nnx}[library])


def library_of(name):
    return name.partition(" ")[0]


def convert(library, direction, *arguments, **options):
    return getattr(interop, f"{direction}_{library}")(*arguments, **options)


def made(name):
    """The module of a case, with random numbers for all its weights; nothing is computed to make it."""
    rng, make, library = np.random.default_rng(0), CASES[name].make, library_of(name)

    def draw(leaf):
        return jax.device_put(rng.normal(size=leaf.shape) / 2) if hasattr(leaf, "shape") else leaf

    if library == "equinox":
        return jax.tree.map(draw, eqx.filter_eval_shape(make))
    if library == "flax":
        module = nnx.eval_shape(make)
        nnx.update(module, jax.tree.map(draw, nnx.state(module, nnx.Param)))
        return module
    module = make()
    module = module.double()
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(torch.from_numpy(rng.normal(size=weight.shape)) / 2)
    return module


def first(array, library):
    """A batch of maps as the library has it."""
    return array if library == "flax" else np.moveaxis(array, -1, 1)


def last(array, library):
    return array if library == "flax" else np.moveaxis(array, 1, -1)


def theirs(case, library, module, y=None):
    """The output, and with targets y also the module with ∂L/∂W in place of its weights, of L = ½ Σ (o − y)²."""
    x = case.x()
    x = first(x, library) if case.maps else x
    if library == "torch":
        o = module(torch.from_numpy(np.ascontiguousarray(x)))
        out = o.detach().numpy()
        if y is not None:
            gradient = copy.deepcopy(module)
            target = torch.from_numpy(np.ascontiguousarray(first(y, library) if case.maps_out else y))
            weights = list(module.parameters())
            for weight, of in zip(
                gradient.parameters(), torch.autograd.grad(((o - target) ** 2).sum() / 2, weights), strict=True
            ):
                weight.data = of
            return last(out, library) if case.maps_out else out, gradient
        return last(out, library) if case.maps_out else out
    jit, function = (eqx.filter_jit, jax.vmap) if library == "equinox" else (nnx.jit, lambda m: m)
    if y is None:
        out = np.asarray(jit(lambda m, x: function(m)(x))(module, jax.device_put(x)))
        return last(out, library) if case.maps_out else out
    y = jnp.asarray(first(y, library) if case.maps_out else y)

    def loss(m, x, y):
        o = function(m)(x)
        return jnp.sum((o - y) ** 2) / 2, o

    grad = eqx.filter_grad if library == "equinox" else nnx.grad
    of, out = jit(grad(loss, has_aux=True))(module, jax.device_put(x), y)
    out = last(np.asarray(out), library) if case.maps_out else np.asarray(out)
    if library == "equinox":
        return out, eqx.combine(of, module)
    gradient = nnx.clone(module)
    nnx.update(gradient, of)
    return out, gradient


def marked(names):
    # our network of words goes to both and back in the quick run, and each of the others is read from one of them
    slow = ("flax words", "equinox words", "equinox signals", "flax images")
    return [
        pytest.param(name, marks=[needs_torch] * name.startswith("torch") + [pytest.mark.slow] * (name in slow))
        for name in names
    ]


def assert_same(got, expected):
    assert got[0] == expected[0]
    assert jax.tree.structure(got[1]) == jax.tree.structure(expected[1])
    jax.tree.map(np.testing.assert_array_equal, got[1], expected[1])


def assert_near(grads, expected):
    """In units of all of a unit's, because that of a key's bias is 0."""
    assert set(grads) == set(expected)
    if any(isinstance(of, dict) for of in grads.values()):
        for name in grads:
            assert_near(grads[name], expected[name])
        return
    size = np.sqrt(sum(np.sum(g**2) for g in expected.values()))
    assert not grads or size > 0
    for s, g in grads.items():
        assert np.linalg.norm(g - expected[s]) <= TOLERANCE * size, s


@pytest.mark.parametrize("name", marked(CASES))
def test_outputs_and_gradients_are_those_of_the_library(name):
    case, library = CASES[name], library_of(name)
    module = made(name)
    net, params = convert(library, "from", module, shape=case.shape, **case.options)
    x = jax.device_put(case.x())
    y = np.random.default_rng(2).normal(size=(len(x), *net.shapes[net.output]))
    out, gradient = theirs(case, library, module, y)
    back = sweep_of_sum(net)(params, x, jnp.asarray(y))
    np.testing.assert_allclose(back.trace.h[net.output], out, rtol=TOLERANCE, atol=TOLERANCE)
    # a reader is linear in the weights, so it translates their gradient as it does them
    expected = convert(library, "from", gradient, shape=case.shape, **case.options)[1]
    assert_near(back.grads, expected)
    again = convert(library, "to", net, params)
    np.testing.assert_allclose(theirs(case, library, again), out, rtol=case.written, atol=case.written)
    assert_same(convert(library, "from", again, shape=case.shape), (net, params))


# Our networks, in the form in which readers make them, into every library that has their layers.


def rows(source, connection=None, activation=jaxbp.linear, width=4, **options):
    return Unit((5, width), activation, {source: connection or Dense()}, **options)


def network(shape, **units):
    return Network({"x": shape}, units)


_up = Conv((3, 3), 2, ((1, 1), (0, 1)))
NETWORKS = {
    # what torch pads with a module of its own
    "SAME": network(
        (5, 6, 2),
        h1=Unit((3, 3, 4), jaxbp.relu, {"x": Conv((3, 2), 2)}),
        h2=Unit((2, 2, 4), jaxbp.linear, {"h1": jaxbp.AvgPool((2, 2), padding="SAME")}, bias=False),
        o=Unit((2, 2, 3), jaxbp.softmax, {"h2": Conv((2, 2), groups=1)}),
    ),
    "transposed": network((3, 3, 2), o=Unit((5, 6, 4), jaxbp.tanh, {"x": ConvTransposed(_up, (5, 6, 4))}, bias=False)),
    "fan out": network(
        4,
        h1=Unit(4, jaxbp.tanh, {"x": Dense()}),
        left=Unit(3, jaxbp.sigmoid, {"h1": Dense()}),
        right=Unit(2, jaxbp.softmax, {"h1": Dense()}),
        middle=Unit(4, jaxbp.relu, {"h1": Identity()}, bias=False),
        o=Unit(2, jaxbp.linear, {"left": Dense(), "right": Dense(), "middle": Dense()}),
    ),
    "decoder block": network(
        (5, 4),
        n1=rows("x", Identity(), jaxbp.layer_norm, bias=False),
        g1=rows("n1", Scale()),
        q=rows("g1"),
        k=rows("g1"),
        v=rows("g1"),
        mix=jaxbp.attention("q", "k", "v", (5, 4), heads=2, causal=True),
        r1=Unit((5, 4), jaxbp.linear, {"mix": Dense(), "x": Identity()}),
        n2=rows("r1", Identity(), jaxbp.rms_norm, bias=False),
        up=rows("n2", activation=jaxbp.gelu, width=8),
        r2=Unit((5, 4), jaxbp.linear, {"up": Dense(), "r1": Identity()}),
        flat=Unit(20, jaxbp.linear, {"r2": jaxbp.Flatten(2)}, bias=False),
        o=Unit(3, jaxbp.softmax, {"flat": Dense()}),
    ),
    "no gain": network(
        (5, 4),
        n1=rows("x", Identity(), jaxbp.layer_norm, bias=False),
        o=Unit((5, 4), jaxbp.linear, {"n1": Identity()}),
    ),
    "words": Network(
        {"x": jaxbp.ids((), 7)},
        {"e": Unit(4, jaxbp.tanh, {"x": Embedding(7)}, bias=False), "o": Unit(7, jaxbp.linear, {"e": Dense()})},
    ),
}
# of which a library has no counterpart
WITHOUT = {
    ("transposed", "torch"): r"unit 'o' has a transposed convolution with padding of its own",
    ("no gain", "torch"): "unit 'n1' has a norm with a shift and no gain",
}
# flax has the weights of attention in float32
ROUNDED = {("decoder block", "flax"): 1e-5}


def random_params(net):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=shape)) / 2,
        net.weight_shapes,
        is_leaf=lambda node: isinstance(node, tuple),
    )


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", NETWORKS)
def test_our_networks_in_every_library(name, library):
    net = NETWORKS[name]
    params = random_params(net)
    if (name, library) in WITHOUT:
        with pytest.raises(ValueError, match=WITHOUT[name, library]):
            convert(library, "to", net, params)
        return
    shape = net.shapes["x"]
    is_map = len(shape) == 3
    case = Case(dict, shape, is_map, is_map, net.ids.get("x"))
    x = case.x()
    module = convert(library, "to", net, params)
    tolerance = ROUNDED.get((name, library), TOLERANCE)
    ours = np.asarray(jax.jit(partial(jaxbp.apply, net))(params, jax.device_put(x)))
    np.testing.assert_allclose(theirs(case, library, module), ours, rtol=tolerance, atol=tolerance)
    again, of = convert(library, "from", module, shape=shape)
    if again != net:  # some are read in another form
        ours_again = jax.jit(partial(jaxbp.apply, again))(of, jax.device_put(x))
        np.testing.assert_allclose(ours_again, ours, rtol=1e-12, atol=1e-12)
    else:
        jax.tree.map(np.testing.assert_array_equal, of, params)


_map = network((3, 2, 2), o=Unit((3, 2, 2), jaxbp.tanh, {"x": Conv((3, 3))}))
_step = network(4, o=Unit(4, jaxbp.tanh, {"x": Dense()}))
_block = network(
    12,
    h1=Unit(4, jaxbp.linear, {"x": Dense()}),
    h2=jaxbp.stack(_step, 3, "h1", shared=True),
    h3=Unit(4, jaxbp.linear, {"h2": Dense(), "h1": Identity()}),
    o=Unit(12, jaxbp.linear, {"h3": Dense()}),
)
STACKS = network(
    (3, 2, 2),
    h1=jaxbp.stack(_map, 2, "x"),
    h2=Unit(12, jaxbp.linear, {"h1": jaxbp.Flatten(3)}, bias=False),
    h3=jaxbp.stack(_block, 2, "h2", remat=True),
    o=Unit(2, jaxbp.linear, {"h3": Dense()}),
)
"""A stack of maps, then one whose first layer reads a flattened map, with one of shared weights in it."""


@pytest.mark.parametrize(
    "library", [name if name != "flax" else pytest.param(name, marks=pytest.mark.slow) for name in LIBRARIES]
)
def test_stacks_and_their_gradients_in_every_library(library):
    params, case = random_params(STACKS), Case(dict, (3, 2, 2), maps=True)
    x = case.x()
    y = np.random.default_rng(2).normal(size=(len(x), 2))
    module = convert(library, "to", STACKS, params)
    out, gradient = theirs(case, library, module, y)
    back = sweep_of_sum(STACKS)(params, x, jnp.asarray(y))
    np.testing.assert_allclose(back.trace.h["o"], out, rtol=TOLERANCE, atol=TOLERANCE)
    assert_near(back.grads, convert(library, "from", gradient, shape=case.shape)[1])
    # how much of it is computed again is not told
    as_read = network((3, 2, 2), **{**STACKS.units, "h3": jaxbp.stack(_block, 2, "h2")})
    assert_same(convert(library, "from", module, shape=case.shape), (as_read, params))


@cache
def sweep_of_sum(net):
    return jax.jit(partial(jaxbp.backprop, net, jaxbp.squared_error, reduction="sum"))


def test_what_reads_a_flattened_map_is_in_our_order():
    """The pixels of two channels one after the other are, in ours, the channels of each pixel."""
    linear = eqx.nn.Linear(8, 1, key=KEY)
    theirs = equinox_sequential(eqx.nn.MaxPool2d(1, 1), eqx.nn.Lambda(jnp.ravel), linear)
    params = interop.from_equinox(theirs, shape=(2, 2, 2))[1]
    np.testing.assert_array_equal(
        params["o"]["h2"].ravel(), linear.weight.ravel()[np.arange(8).reshape(2, 4).T.ravel()]
    )


def test_active_dropout_is_that_of_a_unit():
    keep = eqx.nn.Dropout(0.25)
    net, _ = interop.from_equinox(
        equinox_sequential(
            keep, eqx.nn.Linear(3, 3, key=KEY), eqx.nn.Lambda(jax.nn.relu), keep, eqx.nn.Dropout(0.5, inference=True),
            eqx.nn.Linear(3, 2, key=KEY),
        )
    )  # fmt: skip
    assert {u: unit.dropout for u, unit in net.units.items()} == {"h1": 0.25, "h2": 0.25, "o": 0}
    for library in ("equinox", "flax"):
        params = params_of(net)
        assert_same(convert(library, "from", convert(library, "to", net, params)), (net, params))


def test_linen_has_the_same_layers():
    module = linen.Sequential([
        linen.Embed(7, 4, param_dtype=float), linen.LayerNorm(param_dtype=float, epsilon=1e-4),
        linen.MultiHeadDotProductAttention(2, param_dtype=float, dropout_rate=0.5, deterministic=True),
        linen.Conv(3, 2, param_dtype=float), linen.RMSNorm(param_dtype=float),
    ])  # fmt: skip
    tokens = jnp.array([[0, 6, 2, 2, 1]])
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(module.init, KEY, tokens)
    variables = jax.tree.map(lambda W: jax.device_put(rng.normal(size=W.shape)), shapes)
    net, params = interop.from_flax(module, variables, shape=5)
    np.testing.assert_allclose(
        jax.jit(partial(jaxbp.apply, net))(params, tokens),
        jax.jit(module.apply)(variables, tokens),
        rtol=TOLERANCE,
        atol=TOLERANCE,
    )


@pytest.mark.parametrize("library", LIBRARIES)
def test_modules_of_our_own_can_be_pickled(library):
    block = NETWORKS["decoder block"].units  # but for functions of jax.nn, which cannot
    inner = network((5, 4), **{u: block[u] for u in ("n1", "g1", "q", "k", "v", "mix", "r1")})
    net = network((5, 4), blocks=jaxbp.stack(inner, 2, "x"))
    params = jaxbp.init_params(KEY, net)
    module = convert(library, "to", net, params)
    again = pickle.loads(pickle.dumps(module))
    assert_same(*(convert(library, "from", m, shape=(5, 4)) for m in (again, module)))


# What is not known, by its place.


def of_equinox(*layers, shape=None, **options):
    return interop.from_equinox(equinox_sequential(*layers), shape=shape, **options)


def of_flax(*layers, shape=None, **options):
    return interop.from_flax(nnx.Sequential(*layers), shape=shape, **options)


def conv(**options):
    return eqx.nn.Conv2d(2, 3, 2, key=KEY, **options)


def linear(m=3, n=3):
    return eqx.nn.Linear(m, n, key=KEY)


class Named(eqx.Module):
    conv: Any
    others: list[Any]


NAMED = {Named: lambda module: [module.conv, module.others[0]]}
STACKED = {Named: lambda module: [interop.Stack(module.others)]}
UNCOUNTED = partial(nnx.avg_pool, count_include_pad=False)
MHA = partial(eqx.nn.MultiheadAttention, key=KEY)
REFUSED = {
    "a place within": (lambda: of_equinox(linear(), Named(conv(padding_mode="reflect"), [linear()]), layers=NAMED),
        r"module.layers\[1\].conv is Conv2d with padding_mode='REFLECT'"),
    "a place in a list": (lambda: of_equinox(Named(conv(), [eqx.nn.PReLU()]), layers=NAMED, shape=(4, 4, 2)),
        r"module.layers\[0\].others\[0\] is PReLU"),
    "a place in a sum": (
        lambda: of_equinox(Named(None, [eqx.nn.PReLU()]), layers={Named: lambda m: [interop.Sum([], m.others)]}),
        r"module.layers\[0\].others\[0\] is PReLU"),
    "an unknown shape": (lambda: of_equinox(conv()), r"module.layers\[0\] reads a shape .* shape=\(28, 28, 1\)"),
    "other channels": (lambda: of_equinox(conv(), shape=(4, 4, 3)),
        r"module.layers\[0\]: takes 2 channels, but what comes before it has the shape \(4, 4, 3\)"),
    "rows for maps": (lambda: of_equinox(linear(2, 2), eqx.nn.Conv1d(2, 1, 2, key=KEY), shape=(4, 2)),
        r"module.layers\[1\]: takes channels first"),
    "maps for rows": (lambda: of_equinox(conv(), linear(), shape=(4, 4, 2)),
        r"module.layers\[1\]: acts on the last axis, but what comes before it has its channels first"),
    "softmax of pixels": (lambda: of_equinox(conv(), eqx.nn.Lambda(jax.nn.softmax), shape=(4, 4, 2)),
        r"module.layers\[1\]: applies softmax along axis -1"),
    "flattened output": (lambda: of_equinox(conv(), eqx.nn.Lambda(jnp.ravel), shape=(4, 4, 2)),
        r"module.layers\[1\] gives the elements of a flattened map"),
    "a norm of a map": (lambda: of_equinox(eqx.nn.LayerNorm((4, 3)), shape=(4, 3)),
        r"module.layers\[0\] is LayerNorm.* with more than one axis"),
    "attention of one row": (lambda: interop.from_equinox(MHA(2, 4), shape=4), "module: is attention between rows"),
    "attention that drops": (lambda: interop.from_equinox(MHA(2, 4, dropout_p=0.5), shape=(5, 4)),
        "module drops attention weights"),
    "a sum of shapes": (
        lambda: of_equinox(Named(None, [linear(3, 2)]), layers={Named: lambda m: [interop.Sum([], m.others)]}),
        r"module.layers\[0\]: adds up shapes that differ: \(3,\), \(2,\)"),
    "twice the same": (lambda: of_equinox(linear(), Named(None, []), layers={Named: lambda m: [interop.Sum([], [])]}),
        r"module.layers\[1\]: adds the same source twice"),
    "layers of a stack that differ": (
        lambda: of_equinox(Named(None, [linear(), [linear(), jax.nn.relu]]), layers=STACKED),
        r"module.layers\[0\]: is a stack of layers .* unit 'o' is .*linear.* first, but .*relu.* layer 1"),
    "a layer of another shape": (lambda: of_equinox(Named(None, [linear(3, 2)] * 2), layers=STACKED),
        r"module.layers\[0\]: is a stack, whose layers keep the shape, but one makes \(2,\) of \(3,\)"),
    "a stack of another depth": (
        lambda: of_equinox(linear(), Named(None, linear()), layers={Named: lambda m: [interop.Stack(m.others, 2)]}),
        r"module.layers\[1\].others has an array of shape \(3, 3\), expected 2 layers as its first axis"),
    "a function for each layer": (lambda: of_flax(nnx.relu, layers={nnx.relu: lambda f: [interop.Stack(f, 2)]}),
        r"module.layers\[0\].layers must be a module of nnx, whose arrays have 2 layers"),
    "layers of nothing": (lambda: of_equinox(linear(), Named(None, [[]]), layers=STACKED),
        r"module.layers\[1\]: is a stack of layers that do nothing"),
    "the first of the same layers alone in another order": (
        lambda: of_equinox(
            eqx.nn.MaxPool2d(1, 1), eqx.nn.Lambda(jnp.ravel), Named(None, [linear(8, 8)] * 2), layers=STACKED,
            shape=(2, 2, 2)),
        r"module.layers\[2\]: reads a flattened map in the first of its layers alone"),
    "causal without attention": (lambda: of_equinox(Named(None, [linear()]), layers={
        Named: lambda m: [interop.Causal(m.others[0])]}), r"module.layers\[0\].others\[0\] is Linear.*no attention"),
    "ids of another table": (lambda: of_equinox(eqx.nn.Embedding(7, 2, key=KEY), shape=jaxbp.ids(5, 8)),
        "shape has 8 ids, but the table that looks them up has 7 rows"),
    "a masked convolution": (lambda: of_flax(nnx.Conv(1, 1, 1, mask=jnp.ones((1, 1, 1)), rngs=RNGS)),
        r"module.layers\[0\] computes with mask="),
    "circular padding": (lambda: of_flax(nnx.Conv(1, 1, 1, padding="CIRCULAR", rngs=RNGS)),
        r"module.layers\[0\] is Conv with padding='CIRCULAR'"),
    "means without padding": (
        lambda: of_flax(partial(UNCOUNTED, window_shape=(2,), padding="SAME"), shape=(4, 1)),
        r"module.layers\[0\] is functools.partial.*which has no counterpart"),
    "a norm over rows": (lambda: of_flax(nnx.LayerNorm(3, reduction_axes=(0, 1), rngs=RNGS)),
        r"module.layers\[0\] is LayerNorm with axes \(0, 1\)"),
    "normalised queries": (
        lambda: interop.from_flax(nnx.MultiHeadAttention(2, 4, normalize_qk=True, rngs=RNGS), shape=(5, 4)),
        "module is MultiHeadAttention with normalize_qk=True"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_known_is_refused_by_its_place(name):
    convert, message = REFUSED[name]
    with pytest.raises((TypeError, ValueError), match=message):
        convert()


@needs_torch
def test_what_is_not_known_of_torch_is_refused_by_its_place():
    encoder = partial(nn.TransformerEncoderLayer, 4, 2, 5, dropout=0.0)
    refused = [
        (nn.Conv2d(2, 3, 2, padding_mode="circular"), (4, 4, 2), r"module is Conv2d.*padding_mode='circular'"),
        (nn.MaxPool2d(2, ceil_mode=True), (4, 4, 2), r"module is MaxPool2d.*ceil_mode=True"),
        (nn.AvgPool2d(2, padding=1, count_include_pad=False), (4, 4, 2), "count_include_pad=False"),
        (nn.AdaptiveAvgPool2d(2), (4, 4, 2), "only pools of the whole extent"),
        (nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(2)), (4, 4, 2), r"module\[0\] adds zeros around a map"),
        (nn.Sequential(nn.ZeroPad2d(1)), (4, 4, 2), r"module\[0\] adds zeros around a map"),
        (nn.Embedding(3, 2, padding_idx=0), 4, "module is Embedding.*padding_idx=0"),
        (nn.Sequential(encoder()), (5, 4), r"module\[0\].self_attn has batch_first=False.*batch_first = True"),
        (encoder(activation=torch.sin, batch_first=True), (5, 4), "module.activation is sin"),
        (nn.Sequential(nn.Conv2d(2, 3, 2), nn.Softmax(-1)), (4, 4, 2), r"module\[1\]: applies softmax along axis -1"),
        (nn.TransformerEncoderLayer(4, 2, batch_first=True), (5, 4), "module.self_attn drops attention weights"),
    ]  # fmt: skip
    for module, shape, message in refused:
        with pytest.raises((TypeError, ValueError), match=message):
            interop.from_torch(module, shape=shape)
    with pytest.raises(TypeError, match=r"module\.layers is one module for 2 layers, which torch has none of"):
        interop.from_torch(nn.ReLU(), layers={nn.ReLU: lambda module: [interop.Stack(module, 2)]})
