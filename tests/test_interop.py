"""Networks of equinox, flax and torch: the same outputs and gradients, there and back."""

import doctest
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import FILTERS, LLAMA, MASKED, NESTED, RESIDUAL, SINE, SKIP, TWO_INPUTS, swept
from flax import linen, nnx

import jaxbp
from jaxbp import Dense, Network, Unit, interop
from jaxbp.interop import _torch as torch_conversion
from jaxbp.interop._activations import gelu_exact, leaky_relu

torch: Any = import_module("torch") if find_spec("torch") else None
nn = torch and torch.nn
needs_torch = pytest.mark.skipif(torch is None, reason="torch is missing; it comes with jaxbp[interop]")
LIBRARIES = ["equinox", "flax", pytest.param("torch", marks=needs_torch)]
TOLERANCE = {jnp.dtype("float64"): 1e-12, jnp.dtype("float32"): 1e-6}

KNOWN = [
    jaxbp.linear, jaxbp.sigmoid, jaxbp.tanh, jaxbp.relu, jaxbp.hard_tanh, jaxbp.leaky_relu, jaxbp.softplus, jaxbp.gelu,
    jaxbp.silu, jaxbp.softmax, gelu_exact, leaky_relu(0.3),
]  # fmt: skip


def by_hand(widths, activations, biases) -> Network:
    names = ["x", *(f"h{r}" for r in range(1, len(activations))), "o"]
    units = {
        u: Unit(width, activation, {source: Dense()}, bias)
        for source, u, width, activation, bias in zip(
            names[:-1], names[1:], widths[1:], activations, biases, strict=True
        )
    }
    return Network({"x": widths[0]}, units)


NETWORKS = {
    "single layer": by_hand([3, 2], [jaxbp.linear], [True]),
    "one width": by_hand([3, 3, 3], [jaxbp.tanh, jaxbp.sigmoid], [True, True]),
    "deep": by_hand([3, 4, 4, 4, 2], [jaxbp.relu] * 3 + [jaxbp.linear], [False] * 3 + [True]),
    "mixed": by_hand([3, 4, 2, 3], [jaxbp.silu, jaxbp.softmax, jaxbp.softmax], [True, False, True]),
    "linear hidden": by_hand([3, 2, 4, 3], [jaxbp.linear, jaxbp.linear, jaxbp.tanh], [True, True, False]),
    "exact": by_hand([3, 4, 2, 1], [gelu_exact, leaky_relu(0.3), jaxbp.sigmoid], [False] * 3),
}


def parameters(net, dtype=np.float64):
    draw = np.random.default_rng(0).normal
    return {
        u: {s: jax.device_put(draw(size=shape).astype(dtype)) for s, shape in group.items()}
        for u, group in net.weight_shapes.items()
    }


def inputs(net, dtype=np.float64):
    return np.random.default_rng(1).normal(size=(5, *net.shapes["x"])).astype(dtype)


def to(library, net, params, **options):
    return getattr(interop, f"to_{library}")(net, params, **options)


def back(library, *arguments, **options):
    return getattr(interop, f"from_{library}")(*arguments, **options)


def outputs(library, module, x):
    if library == "torch":
        return module(torch.from_numpy(x)).detach().numpy()
    return np.asarray(jax.jit(jax.vmap(module) if library == "equinox" else module)(x))


def assert_same_outputs(theirs, net, params, x):
    ours = jax.jit(jaxbp.apply, static_argnums=0)(net, params, x)
    assert theirs.dtype == ours.dtype
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=TOLERANCE[ours.dtype])


def assert_same(got, expected):
    assert got[0] == expected[0]
    assert hash(got[0]) == hash(expected[0])
    assert jax.tree.structure(got[1]) == jax.tree.structure(expected[1])
    for ours, theirs in zip(jax.tree.leaves(got[1]), jax.tree.leaves(expected[1]), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(np.asarray(ours, float), np.asarray(theirs, float))


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, np.float64) for name in NETWORKS), ("mixed", np.float32), ("deep", np.float32)]
)
@pytest.mark.parametrize("library", LIBRARIES)
def test_there_and_back(library, name, dtype):
    net = NETWORKS[name]
    params, x = parameters(net, dtype), inputs(net, dtype)
    module = to(library, net, params)
    assert_same_outputs(outputs(library, module, x), net, params, x)
    assert_same(back(library, module), (net, params))


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_comparison_catches_planted_bugs(library):
    net = NETWORKS["one width"]
    params, x = parameters(net), inputs(net)
    transposed = {**params, "h1": {**params["h1"], "x": params["h1"]["x"].T}}
    without_bias = jax.tree.map(lambda W: W if W.ndim == 2 else 0 * W, params)
    exact, by_tanh = (jaxbp.layered([3, 3, 3], hidden=phi, output=jaxbp.sigmoid) for phi in (gelu_exact, jaxbp.gelu))
    bugs = [(net, transposed, net), (net, without_bias, net), (by_tanh, params, exact)]
    for their_net, their_params, our_net in bugs:
        theirs = outputs(library, to(library, their_net, their_params), x)
        with pytest.raises(AssertionError, match="Mismatched"):
            assert_same_outputs(theirs, our_net, params, x)


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_activation_has_its_counterpart(library):
    grid = np.linspace(-3, 3, 25)  # with the kinks at −1, 0 and 1
    x = np.stack([grid, grid[::-1] / 3, np.roll(grid, 7)], axis=1)
    for activation in KNOWN:
        net = by_hand([3, 3], [activation], [False])
        params = {"o": {"x": jnp.eye(3)}}
        module = to(library, net, params)
        np.testing.assert_allclose(
            outputs(library, module, x),
            activation.value(jax.device_put(x)),
            rtol=0,
            atol=1e-12,
            err_msg=str(activation),
        )
        assert back(library, module)[0] == net


NEW = {
    gelu_exact: partial(jax.nn.gelu, approximate=False),
    leaky_relu(0.3): partial(jax.nn.leaky_relu, negative_slope=0.3),
    leaky_relu(-2): partial(jax.nn.leaky_relu, negative_slope=-2),
}


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.bfloat16], ids=lambda d: d.__name__)
@pytest.mark.parametrize("activation", NEW, ids=str)
def test_the_derivatives_of_new_activations_are_those_of_jax_nn(activation, dtype):
    a = jnp.asarray([0.0, -0.0, 1.0, -1.0, jnp.inf, -jnp.inf, jnp.nan, 1e4, -1e4, *np.linspace(-6, 6, 41)], dtype)
    ours = activation.pullback(a, activation.value(a), jnp.ones_like(a))
    theirs = jax.jit(jax.vmap(jax.grad(NEW[activation])))(a)
    assert ours.dtype == dtype
    eps = 8 * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.asarray(ours, float), np.asarray(theirs, float), rtol=eps, atol=eps)


def test_new_activations_are_equal_by_value():
    assert leaky_relu(2) == leaky_relu(2.0) != leaky_relu(0.2)
    assert leaky_relu(0.01) is jaxbp.leaky_relu
    assert hash(leaky_relu(0.3)) == hash(leaky_relu(0.3))


# Modules as their users write them: what they make of x, and all conversions of each, which are to be the same.

KEY = jax.random.key(0)
RNGS = nnx.Rngs(0)


class Compact(linen.Module):
    depth: int = 1

    @linen.compact
    def __call__(self, x):
        for _ in range(self.depth):
            x = linen.tanh(linen_dense(3)(x))
        return linen_dense(2)(x)


linen_dense = partial(linen.Dense, param_dtype=jnp.float64)
equinox_linear = partial(eqx.nn.Linear, key=KEY)
equinox_mlp = partial(eqx.nn.MLP, key=KEY)
nnx_linear = partial(nnx.Linear, param_dtype=jnp.float64, rngs=RNGS)


def equinox_sequential(*layers):
    return eqx.nn.Sequential(layers)


def of_equinox(module):
    return partial(outputs, "equinox", module), interop.from_equinox(module)


def of_scalars(module):
    return lambda x: outputs("equinox", module, x[:, 0])[:, None], interop.from_equinox(module)


def of_nnx(*layers):
    module = nnx.Sequential(*layers)
    return partial(outputs, "flax", module), interop.from_flax(module)


def of_linen(*layers):
    module = linen.Sequential(layers)
    variables = module.init(KEY, jnp.ones((1, 3)))
    conversions = [interop.from_flax(module, given) for given in (variables, variables["params"])]
    return lambda x: np.asarray(module.apply(variables, x)), *conversions


def of_compact(depth):
    module = Compact(depth)
    variables = jax.tree.map(lambda W: W, module.init(KEY, jnp.ones((1, 3))))  # which sorts Dense_10 before Dense_2
    one_for_all = interop.from_flax(variables, hidden=jaxbp.tanh, output=jaxbp.linear)
    one_each = interop.from_flax(variables["params"], hidden=[jaxbp.tanh] * depth, output=jaxbp.linear)
    return lambda x: np.asarray(module.apply(variables, x)), one_for_all, one_each


def of_torch(dtype):
    class Mine(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(3, 3), nn.LeakyReLU(0.2, inplace=True))

    sequential = nn.Sequential(
        nn.Flatten(), Mine(), nn.Linear(3, 3, bias=False), nn.Dropout(0.5), nn.Identity(), nn.Linear(3, 2), nn.GELU(),
        nn.Linear(2, 3), nn.Softmax(dim=1),
    )  # fmt: skip
    sequential = sequential.to(getattr(torch, dtype)).eval()
    return partial(outputs, "torch", sequential), interop.from_torch(sequential)


TORCH = by_hand([3, 3, 3, 2, 3], [leaky_relu(0.2), jaxbp.linear, gelu_exact, jaxbp.softmax], [True, False, True, True])
MODULES: dict[str, tuple[Callable[[], Any], Network]] = {
    "equinox MLP": (
        lambda: of_equinox(equinox_mlp(3, 2, 3, 2, activation=jax.nn.tanh)),
        jaxbp.layered([3, 3, 3, 2], hidden=jaxbp.tanh, output=jaxbp.linear)),
    "equinox MLP of scalars": (
        lambda: of_scalars(equinox_mlp("scalar", "scalar", 4, 1, use_bias=False, final_activation=jax.nn.sigmoid)),
        by_hand([1, 4, 1], [jaxbp.relu, jaxbp.sigmoid], [False, True])),
    "equinox MLP without hidden layers": (  # which leaves its final activation out
        lambda: of_equinox(equinox_mlp(3, 2, 7, 0, use_final_bias=False, final_activation=jax.nn.sigmoid)),
        jaxbp.layered([3, 2], output=jaxbp.linear, bias=False)),
    "equinox MLP by scan": (
        lambda: of_equinox(
            equinox_mlp(3, 2, 4, 3, partial(jax.nn.leaky_relu, negative_slope=0.2), jax.nn.silu, scan=True)),
        jaxbp.layered([3, 4, 4, 4, 2], hidden=leaky_relu(0.2), output=jaxbp.silu)),
    "equinox Sequential": (
        lambda: of_equinox(equinox_sequential(
            equinox_linear(3, 3),
            equinox_sequential(eqx.nn.Lambda(partial(jax.nn.gelu, approximate=False)), equinox_linear(3, 4)),
            eqx.nn.Identity(), eqx.nn.Dropout(0.5, inference=True), equinox_linear(4, 2, use_bias=False),
            eqx.nn.Lambda(partial(jax.nn.softmax, axis=-1)))),
        by_hand([3, 3, 4, 2], [gelu_exact, jaxbp.linear, jaxbp.softmax], [True, True, False])),
    "flax nnx": (
        lambda: of_nnx(
            nnx_linear(3, 3), nnx.Sequential(nnx.relu, nnx_linear(3, 3, use_bias=False)),
            nnx.Dropout(0.5, deterministic=True), nnx_linear(3, 2), nnx.softmax),
        by_hand([3, 3, 3, 2], [jaxbp.relu, jaxbp.linear, jaxbp.softmax], [True, False, True])),
    "flax linen": (
        lambda: of_linen(
            linen_dense(3), linen.Sequential([linen.gelu, linen_dense(3, use_bias=False)]),
            linen.Dropout(0.5, deterministic=True), linen_dense(2), partial(linen.leaky_relu, negative_slope=0.5)),
        by_hand([3, 3, 3, 2], [jaxbp.gelu, jaxbp.linear, leaky_relu(0.5)], [True, False, True])),
    "flax compact": (
        lambda: of_compact(11), jaxbp.layered([*[3] * 12, 2], hidden=jaxbp.tanh, output=jaxbp.linear)),
    "torch float64": (lambda: of_torch("float64"), TORCH),
    "torch float32": (lambda: of_torch("float32"), TORCH),
}  # fmt: skip


@pytest.mark.parametrize("name", [pytest.param(name, marks=[needs_torch] * ("torch" in name)) for name in MODULES])
def test_modules_as_their_users_write_them(name):
    make, net = MODULES[name]
    theirs, got, *others = make()
    assert got[0] == net
    x = inputs(net, np.float32 if "float32" in name else np.float64)
    assert_same_outputs(theirs(x), *got, x)
    library = name.partition(" ")[0]
    for other in [*others, back(library, to(library, *got))]:
        assert_same(other, got)


def test_an_equinox_mlp_comes_back_as_it_was():
    mlp = equinox_mlp(3, 2, 3, 2, activation=jax.nn.tanh)
    assert eqx.tree_equal(interop.to_equinox(*interop.from_equinox(mlp)), mlp)
    kinds = {name: type(to("equinox", net, parameters(net))).__name__ for name, net in NETWORKS.items()}
    assert [name for name, kind in kinds.items() if kind == "MLP"] == ["single layer", "one width", "deep"]


@needs_torch
def test_torch_bfloat16_is_kept_to_the_bit():
    got = interop.from_torch(nn.Sequential(nn.Linear(3, 2), nn.ReLU()).to(torch.bfloat16))
    assert {W.dtype for W in jax.tree.leaves(got[1])} == {jnp.dtype("bfloat16")}
    module = interop.to_torch(*got)
    assert module[0].weight.dtype == module[0].bias.dtype == torch.bfloat16
    assert_same(interop.from_torch(module), got)


@pytest.mark.parametrize("library", LIBRARIES)
def test_weights_are_copied(library):  # a step of training may donate them
    net = NETWORKS["one width"]
    params = parameters(net)
    module = to(library, net, params)
    for donated in (params, back(library, module)[1]):
        jax.tree.map(lambda W: W.delete(), donated)
    assert_same(back(library, module), (net, parameters(net)))


@needs_torch
def test_torch_keeps_its_random_numbers_and_its_updates_to_itself():
    sequential = nn.Sequential(nn.Linear(64, 64))
    got = interop.from_torch(sequential)
    state = torch.get_rng_state()
    module = interop.to_torch(*got)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        for weights in sequential.parameters():  # whose memory JAX could have adopted
            weights.zero_()
    assert all(np.any(W) for W in jax.tree.leaves(got[1]))
    assert_same(interop.from_torch(module), got)


# Gradients, each by its own library.


def mean_squared_error(o, y):
    return ((o - y) ** 2).sum() / (2 * len(y))


def equinox_gradient(module, x, y):
    gradient = eqx.filter_jit(eqx.filter_grad(lambda m: mean_squared_error(jax.vmap(m)(x), y)))(module)
    return [(linear.weight.T, linear.bias) for linear in gradient.layers]


def flax_gradient(module, x, y):
    gradient = nnx.jit(nnx.grad(lambda m: mean_squared_error(m(x), y)))(module)
    return [(gradient.layers[i].kernel[...], gradient.layers[i].bias[...]) for i in (0, 2, 4)]


def torch_gradient(module, x, y):
    mean_squared_error(module(torch.from_numpy(x)), torch.from_numpy(y)).backward()
    return [(module[i].weight.grad.numpy().T, module[i].bias.grad.numpy()) for i in (0, 2, 4)]


GRADIENT = {"equinox": equinox_gradient, "flax": flax_gradient, "torch": torch_gradient}


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_gradient_is_that_of_the_library(library):
    net = jaxbp.layered([3, 4, 4, 2], hidden=gelu_exact, output=jaxbp.sigmoid)
    params, x = parameters(net), inputs(net)
    y = np.random.default_rng(2).normal(size=(5, 2))
    module = to(library, net, params)
    theirs = GRADIENT[library](module, x, y)
    net, params = back(library, module)
    grads = swept(net, jaxbp.squared_error, params, x, y).grads
    ours = [(grads[u][s], grads[u]["bias"]) for s, u in (("x", "h1"), ("h1", "h2"), ("h2", "o"))]
    for (W, b), (their_W, their_b) in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(W, their_W, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(b, their_b, rtol=1e-11, atol=1e-13)


# What cannot be converted, and what the user can say about it.


class Handwritten(nnx.Module):
    pass


class Overridden(eqx.nn.MLP):
    def __call__(self, x):
        return 2 * super().__call__(x)


def shared(of_library, layer, activation):
    return of_library(layer, activation, layer)


DENSE = {"kernel": np.ones((3, 3)), "bias": np.ones(3)}
of_variables = partial(interop.from_flax, hidden=jaxbp.relu, output=jaxbp.linear)

REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "an unknown function": (lambda: of_equinox(equinox_mlp(3, 2, 4, 1, activation=jnp.sin)),
        r"module.activation is sin, which has no counterpart.*relu, sigmoid.*activations="),
    "an unknown option": (lambda: of_nnx(nnx_linear(3, 3), partial(nnx.softmax, axis=0)),
        r"module.layers\[1\] is functools.partial\(.*softmax.*axis=0\), which has no counterpart"),
    "a layer of another kind": (lambda: of_equinox(equinox_sequential(equinox_linear(3, 3), eqx.nn.PReLU())),
        r"module.layers\[1\] is PReLU"),
    "softmax in an MLP": (lambda: of_equinox(equinox_mlp(3, 2, 4, 1, final_activation=jax.nn.softmax)),
        "module.final_activation is softmax, but an MLP applies it to each element; use Sequential"),
    "a method of its own": (lambda: of_equinox(Overridden(3, 2, 4, 1, key=KEY)), "module is Overridden"),
    "no layer": (lambda: of_equinox(equinox_sequential()), "from_equinox found no layer with weights"),
    "dropout of the output": (lambda: of_nnx(nnx_linear(3, 3), nnx.Dropout(0.5, rngs=RNGS)),
        r"module.layers\[1\] drops elements of the output"),
    "shared layers of linen": (lambda: shared(of_linen, linen.Dense(3), linen.relu),
        r"module.layers\[2\] shares its weights"),
    "shared layers of nnx": (lambda: shared(of_nnx, nnx_linear(3, 3), nnx.relu),
        r"module.layers\[2\] shares its weights"),
    "a hand-written nnx module": (lambda: interop.from_flax(Handwritten()),
        r"module is Handwritten.*looked up, so .*layers="),
    "a compact module": (lambda: interop.from_flax(Compact(), {}),
        r"module is Compact.*from_flax\(variables, hidden=…, output=…\)"),
    "linen without variables": (lambda: interop.from_flax(linen.Sequential([linen.Dense(2)])), "pass its variables"),
    "nnx with variables": (lambda: interop.from_flax(nnx.Sequential(), {}), "holds its own weights"),
    "activations of a Sequential": (lambda: interop.from_flax(nnx.Sequential(), output=jaxbp.linear),
        "hidden= and output= are for variables alone"),
    "variables of another module": (lambda: interop.from_flax(linen.Sequential([linen.Dense(2)]), {"params": {}}),
        r"the variables of module.layers\[0\] hold none, but its module has 'kernel', 'bias'"),
    "mixed precision": (lambda: of_nnx(nnx_linear(3, 3, dtype=jnp.bfloat16)),
        r"module.layers\[0\] computes with dtype=bfloat16"),
    "other names": (lambda: of_variables({"fc1": DENSE, "out": DENSE}), "'fc1', 'out', but .* 'Dense_0', 'Dense_1'"),
    "other collections": (lambda: of_variables({"params": {"Dense_0": DENSE}, "batch_stats": {}}),
        "the collections 'params', 'batch_stats'"),
    "too few activations": (lambda: interop.from_flax({"Dense_0": DENSE}),
        "pass hidden=, one activation or 0, and output="),
    "a skip in a compact module": (lambda: of_variables({"Dense_0": DENSE, "Dense_1": {"kernel": np.ones((6, 2))}}),
        r"Dense_1: takes 6 values, but what comes before it has the shape \(3,\)"),
    "a kernel that is no matrix": (lambda: of_variables({"Dense_0": {"kernel": np.ones(3)}}),
        r"Dense_0: has weights of shape \(3,\)"),
    "no activation of ours": (lambda: interop.from_equinox(equinox_mlp(3, 2, 3, 2), activations={jnp.sin: "sine"}),
        r"activations\[sin\] must be a jaxbp activation.*, got 'sine'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_counterpart_is_refused_by_name(name):
    convert, message = REFUSED[name]
    with pytest.raises((TypeError, ValueError), match=message):
        convert()


@needs_torch
def test_what_torch_has_beyond_is_refused_by_name():
    first, shared = nn.Linear(3, 3), nn.Linear(3, 3)
    hooked = nn.Linear(3, 3)
    hooked.register_forward_hook(lambda module, x, o: 2 * o)

    class Net(nn.Module):
        pass

    class Twice(nn.Sequential):
        def forward(self, x):
            return 2 * super().forward(x)

    refused = {
        r"module\[1\] is BatchNorm1d, which.*GELU\(approximate=tanh\)": nn.Sequential(first, nn.BatchNorm1d(3)),
        r"module\[1\] is Hardtanh\(min_val=0": nn.Sequential(first, nn.Hardtanh(0, 6)),
        r"module\[1\] is ReLU6": nn.Sequential(first, nn.ReLU6()),
        r"module\[1\] is Softplus\(beta=2": nn.Sequential(first, nn.Softplus(2)),
        r"module\[1\]\[0\] is Softmax\(dim=0\)": nn.Sequential(first, nn.Sequential(nn.Softmax(0))),
        r"module\[1\] is Flatten.*other axes": nn.Sequential(first, nn.Flatten(0)),
        r"module\[1\] drops elements of the output": nn.Sequential(first, nn.Dropout(0.5)),
        r"module\[1\] is Twice": nn.Sequential(first, Twice(nn.ReLU())),
        r"module\[2\] shares its weights": nn.Sequential(shared, nn.ReLU(), shared),
        r"module\[0\] has forward hooks": nn.Sequential(hooked),
        r"module is Net.*layers=\{its class": Net(),
        r"module must be a torch.nn.Module, .* got Tensor": torch.ones(3),
    }
    for message, module in refused.items():
        with pytest.raises((TypeError, ValueError), match=message):
            interop.from_torch(module)


@pytest.mark.parametrize("library", LIBRARIES)
def test_networks_of_another_form_are_refused_by_name(library):
    pruned = replace(Dense(), initializer="zeros")
    refused = {
        "unit 'h2' has the activation sine": by_hand([3, 2, 3, 1], [jaxbp.relu, SINE, jaxbp.linear], [True] * 3),
        "unit 'h1' is read by 'o', 'h2', and the ways from there": SKIP,
        "unit 'h1' is read by 'sum', 'h2', and": RESIDUAL,
        "the inputs 'image', 'text'": TWO_INPUTS,
        "no counterpart of Masked.*, by which unit 'h1' reads 'x'": MASKED,
        "no function unit such as 'tanh', but unit 'o' is one": Network(
            {"x": 2}, {"o": jaxbp.function_unit(jnp.tanh, ("x",), 2)}
        ),
        "without rotary positions, but unit 'mix' has them": LLAMA,
        "unit 'o' has the shared weights 'b'": Network({"x": 2}, {"o": Unit(2, jaxbp.tanh, {"x": Dense()}, bias="b")}),
        "unit 'o' has one for all elements": Network(
            {"x": (2, 2)}, {"o": Unit((2, 2), jaxbp.tanh, {"x": Dense()}, bias=jaxbp.connections.Bias(whole=True))}
        ),
        "no bias of a sum, but unit 'o' has one": Network(
            {"x": 2},
            {
                "h": Unit(2, jaxbp.tanh, {"x": Dense()}),
                "o": Unit(2, jaxbp.tanh, {"x": jaxbp.Identity(), "h": jaxbp.Identity()}),
            },
        ),
    }
    sine = Network({"x": 4}, {"blocks": jaxbp.stack(by_hand([4, 4], [SINE], [True]), 2, "x")})
    every_layer = jaxbp.stack(by_hand([4, 4], [jaxbp.tanh], [True]), 2, "x", every_layer=True)
    refused |= {
        "unit 'blocks.o' has the activation sine": sine,
        "unit 'outer.blocks.o' has the activation sine": Network({"x": 4}, {"outer": jaxbp.stack(sine, 2, "x")}),
        "unit 'maps.maps' has the shared weights 'b'": FILTERS,
        "the last layer of a stack gives, but unit 'steps' is what every layer gives": Network(
            {"x": 4}, {"steps": every_layer, "o": Unit((2, 3), jaxbp.tanh, {"steps": Dense()})}
        ),
        "a stack whose block has one input, but that of unit 'gated' has the inputs 'state', 'z'": Network(
            {"x": 4}, {"gated": jaxbp.stack(NESTED.units["outer"].block, 2, {"state": "x", "z": "x"})}
        ),
    }
    for message, net in refused.items():
        with pytest.raises(ValueError, match=message):
            to(library, net, jax.tree.map(jnp.ones, net.weight_shapes, is_leaf=lambda node: isinstance(node, tuple)))
    net = Network({"x": 3}, {"out": Unit(2, replace(jaxbp.relu, initializer="zeros"), {"x": pruned})})
    params = {"out": {"x": jnp.ones((3, 2)), "bias": jnp.ones(2)}}
    got = back(library, to(library, net, params))  # names and initializers are of no account
    assert got[0] == jaxbp.layered([3, 2], output=jaxbp.relu)
    with pytest.raises(ValueError, match="params holds the units"):
        to(library, net, {})


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_activation_can_be_named(library):
    theirs = jnp.sin
    if library == "torch":

        class Sine(nn.Module):
            def forward(self, a):
                return a.sin()

        theirs = Sine
    net = by_hand([3, 4, 2], [SINE, jaxbp.linear], [True, True])
    params, x = parameters(net), inputs(net)
    module = to(library, net, params, activations={theirs: SINE})
    assert_same_outputs(outputs(library, module, x), net, params, x)
    assert_same(back(library, module, activations={theirs: SINE}), (net, params))


@pytest.mark.parametrize("library", LIBRARIES)
def test_float64_weights_are_not_cast_silently(library):
    net = NETWORKS["single layer"]
    module = to(library, net, parameters(net))
    with (
        jax.enable_x64(False),
        pytest.raises(TypeError, match=r"has dtype float64, which JAX would cast to float32.*jax_enable_x64"),
    ):
        back(library, module)


@pytest.mark.parametrize("library", ["equinox", "flax", "torch"])
@pytest.mark.parametrize("direction", ["from", "to"])
def test_a_missing_library_is_named(direction, library, monkeypatch):
    for module in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.setitem(sys.modules, module, None)
    for module in (library, "flax.nnx", "flax.linen"):
        monkeypatch.setitem(sys.modules, module, None)
    net = NETWORKS["single layer"]
    arguments = (object(),) if direction == "from" else (net, parameters(net))
    with pytest.raises(ImportError, match=rf"{direction}_{library} needs {library}: pip install 'jaxbp\[interop\]'"):
        getattr(interop, f"{direction}_{library}")(*arguments)


def test_importing_jaxbp_imports_none_of_them():
    script = "import sys, jaxbp; print({'equinox', 'flax', 'torch'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "set()\n"
    )


@needs_torch
def test_the_examples_of_torch_run():  # which the doctests skip, as torch is not there in every run
    for example in doctest.DocTestFinder().find(torch_conversion, globs={}):
        for line in example.examples:
            line.options.pop(doctest.SKIP, None)
        assert doctest.DocTestRunner().run(example).failed == 0
