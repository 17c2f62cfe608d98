"""Each kind of connection: its two halves of the backward pass against autodiff of its own forward one."""

import re
from dataclasses import replace
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import case_named, params_of
from jax import lax
from reference import relative_error

import jaxbp
from jaxbp import (
    AvgPool,
    Conv,
    ConvTransposed,
    Dense,
    Flatten,
    Identity,
    Masked,
    MaxPool,
    Network,
    Scale,
    Transposed,
    Unit,
)
from jaxbp.train._divergence import first_bad

EXACT = 1e-12
BATCH = 2


def drawn(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def whole(shape, seed=0):
    """Few different integers, so that windows have ties."""
    return np.random.default_rng(seed).integers(0, 3, size=shape).astype(float)


def errors(connection, source, unit, draw=drawn, forward=None):
    """The relative errors of pull_back, contract and contract_each against jax.vjp of `apply`.

    With `forward`, which stands in for it where there is no weight, those of pull_back and `apply`.
    """
    shape = connection.weight_shape(source, unit)
    h, delta = draw((BATCH, *source), 1), drawn((BATCH, *unit), 2)
    W = None if shape is None else drawn(shape, 3)

    @jax.jit
    def both(W, h, delta):
        if W is None:
            a, back = jax.vjp(forward or (lambda h: connection.apply(None, h)), h)
            return (connection.pull_back(W, h, delta), connection.apply(W, h)), (*back(delta), a)
        of_all = lambda h, delta: jax.vjp(connection.apply, W, h)[1](delta)  # noqa: E731
        by_W, by_h = of_all(h, delta)
        rules = (connection.pull_back, connection.contract, connection.contract_each)
        return [rule(W, h, delta) for rule in rules], [by_h, by_W, jax.vmap(of_all)(h, delta)[0]]

    ours, theirs = both(*jax.device_put((W, h, delta)))
    assert [a.shape for a in ours] == [b.shape for b in theirs]
    return [relative_error(a, b) for a, b in zip(ours, theirs, strict=True)]


# Convolution.

STRIDES, DILATIONS, GROUPS, SIZES = (1, 2, 3), (1, 2), (1, 2), (6, 7)
PADDINGS = ("SAME", "VALID", 1, "pairs")


def convolution(stride, padding, dilation, groups, size, axes):
    """A convolution over axes that differ, where one is of this size, with its source."""
    kernel, spatial = ((3,), (size,)) if axes == 1 else ((3, 2), (size, 5))
    pairs = ((0, 2), (3, 1))[:axes]
    strides = stride if axes == 1 else (stride, max(stride - 1, 1))
    return Conv(kernel, strides, pairs if padding == "pairs" else padding, dilation, groups), (*spatial, 4)


# each pair of choices for two of the factors is in one of them
SOME = [
    (1, "SAME", 1, 1, 6, 1), (1, "VALID", 2, 2, 7, 2), (1, 1, 1, 2, 7, 1), (1, "pairs", 2, 1, 6, 2),
    (2, "SAME", 2, 2, 7, 2), (2, "VALID", 1, 1, 6, 1), (2, 1, 2, 1, 6, 2), (2, "pairs", 1, 2, 7, 1),
    (3, "SAME", 1, 1, 7, 2), (3, "VALID", 2, 2, 6, 1), (3, 1, 1, 2, 6, 2), (3, "pairs", 2, 1, 7, 1),
]  # fmt: skip
ALL = list(product(STRIDES, PADDINGS, DILATIONS, GROUPS, SIZES, (1, 2)))


def test_some_convolutions_cover_each_pair_of_factors():
    for i, j in product(range(6), repeat=2):
        assert {(row[i], row[j]) for row in SOME} == {(row[i], row[j]) for row in ALL}, (i, j)


@pytest.mark.parametrize("factors", SOME, ids=str)
def test_both_halves_of_a_convolution_are_the_vjp_of_its_forward_one(factors):
    connection, source = convolution(*factors)
    assert max(errors(connection, source, connection.output_shape(source, 6))) <= EXACT


@pytest.mark.slow
@pytest.mark.parametrize("factors", [row for row in ALL if row not in SOME], ids=str)
def test_both_halves_of_every_convolution(factors):
    connection, source = convolution(*factors)
    assert max(errors(connection, source, connection.output_shape(source, 6))) <= EXACT


def by_loops(connection, pads, W, h):
    """The convolution over two axes as its equation says, window by window; `pads` are the zeros before each axis."""
    d, c, groups = h.shape[-1], W.shape[-1], connection.groups
    rows, columns, _ = connection.output_shape(h.shape[1:], c)
    strides, dilation = np.broadcast_to(connection.stride, 2), np.broadcast_to(connection.dilation, 2)
    a = np.zeros((len(h), rows, columns, c))
    for p, q, m, n, j, i in np.ndindex(rows, columns, *W.shape[:2], c, d // groups):
        y, x = (p, q) * strides + (m, n) * dilation - pads
        if 0 <= y < h.shape[1] and 0 <= x < h.shape[2]:
            group = j // (c // groups)
            a[:, p, q, j] += h[:, y, x, group * (d // groups) + i] * W[m, n, i, j]
    return a


@pytest.mark.parametrize(
    ("connection", "pads"),
    [
        (Conv((3, 2)), (1, 0)),
        (Conv((3, 3), stride=(2, 1), padding=((0, 1), (2, 0)), groups=2), (0, 2)),
        (Conv((2, 3), stride=2, padding="VALID", dilation=(2, 1)), (0, 0)),
        (Conv((3, 2), stride=3, dilation=2), (1, 1)),
    ],
    ids=repr,
)
def test_a_convolution_is_its_equation(connection, pads):
    h, W = drawn((BATCH, 6, 7, 2)), drawn((*connection.kernel, 2 // connection.groups, 4), 1)
    ours = connection.apply(jax.device_put(W), jax.device_put(h))
    assert relative_error(ours, by_loops(connection, np.array(pads), W, h)) <= EXACT


FORMS = {  # channels that are read and made, the options, and how many windows are convolved as one
    (1, 8): ({}, 4),
    (2, 16): ({"stride": (1, 2), "padding": "VALID"}, 1),  # there are 5 windows
    (3, 8): ({"stride": 2, "dilation": (1, 2)}, 6),
    (5, 30): ({"padding": ((0, 0), (1, 3))}, 2),
    (6, 4): ({"dilation": 2}, 1),  # what lies between the elements of one window belongs to its neighbour
    (4, 33): ({}, 1),
    (17, 4): ({}, 1),
}


@pytest.mark.parametrize("channels", FORMS)
def test_neighbouring_windows_together_are_each_alone(channels):
    """On CPUs; for other devices there is but the plain convolution."""
    (read, made), (options, number) = channels, FORMS[channels]
    conv, source = Conv((3, 3), **options), (6, 12, read)
    W, h = drawn(conv.weight_shape(source, conv.output_shape(source, made))), drawn((BATCH, *source), 1)
    plain, together = (jax.export.export(jax.jit(conv.apply), platforms=[device])(W, h) for device in ("cuda", "cpu"))
    kernel = re.compile(r"stablehlo\.convolution.* tensor<\d+x\d+x(\d+x\d+)xf64>\) ->")
    assert kernel.findall(str(plain.mlir_module())) == [f"{read}x{made}"]
    assert kernel.findall(str(together.mlir_module())) == [f"{read}x{number * made}"]
    windows = conv.windows.over(source[:-1])
    expected = lax.conv_general_dilated(
        h, W, windows.stride, windows.padding, None, windows.dilation, ("NHWC", "HWIO", "NHWC")
    )
    assert relative_error(together.call(W, h), expected) <= EXACT


def test_any_number_of_batch_axes():
    """With none and with two, every rule of windows gives what it gives one by one."""
    h, delta, W = jax.device_put((drawn((2, 3, 4, 2)), drawn((2, 3, 4, 2), 1), drawn((3, 2, 2))))
    conv, pool = Conv((3,)), MaxPool((3,), stride=1, padding="SAME")

    @jax.jit
    def of_all(W, h, delta):
        signals = [c.pull_back(w, h, delta) for c, w in ((conv, W), (pool, None))]
        return conv.apply(W, h), pool.apply(None, h), *signals, conv.contract(W, h, delta)

    *each, gradient = of_all(W, h, delta)
    *one, of_one = of_all(W, h[0, 1], delta[0, 1])
    assert max(relative_error(a[0, 1], b) for a, b in zip(each, one, strict=True)) <= EXACT
    whole = sum(of_all(W, h[i, j], delta[i, j])[-1] for i, j in np.ndindex(2, 3))
    assert of_one.shape == W.shape
    assert relative_error(gradient, whole) <= EXACT


def test_windows_keep_half_precision():
    h, W = jnp.ones((2, 4, 2), jnp.bfloat16), jnp.ones((3, 2, 2), jnp.bfloat16)
    conv = Conv((3,))

    def of_all(W, h):
        wide = h.astype(float)
        pools = [pool.pull_back(None, h, wide[:, :2]) for pool in (MaxPool((2,)), AvgPool((2,)))]
        return [conv.apply(W, h), conv.pull_back(W, h, wide), conv.contract(W, h, wide), *pools]

    assert {array.dtype for array in jax.eval_shape(of_all, W, h)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("mistake", ["kernel not flipped", "windows not apart"])
def test_a_wrong_convolution_is_caught(mistake, monkeypatch):
    pull_back, contract = Conv.pull_back, Conv.contract
    if mistake == "kernel not flipped":
        monkeypatch.setattr(Conv, "pull_back", lambda self, W, h, d: pull_back(self, jnp.flip(W, (0, 1)), h, d))
    else:
        monkeypatch.setattr(Conv, "contract", lambda self, W, h, d: contract(self, W, jnp.roll(h, 1, 1), d))
    assert max(errors(Conv((3, 2), stride=2), (6, 5, 2), (3, 3, 2))) > 0.1


# Pools.

POOLS = [
    ((2, 2), None, "VALID", (4, 6, 2)),
    ((2, 2), None, "VALID", (5, 7, 2)),  # what does not fill a window is left out
    ((3, 2), (2, 1), "SAME", (5, 4, 2)),  # windows overlap
    ((3, 3), 2, 1, (5, 6, 1)),
    ((3,), 1, ((0, 2),), (7, 2)),
    ((2,), 3, "VALID", (7, 2)),  # some elements are in no window
]


@pytest.mark.parametrize(("window", "stride", "padding", "source"), POOLS)
def test_a_pool_is_the_one_of_lax_and_goes_back_like_it(window, stride, padding, source):
    strides = window if stride is None else tuple(np.broadcast_to(stride, len(window)).tolist())
    pads = [(padding, padding)] * len(window) if isinstance(padding, int) else padding
    pads = pads if isinstance(pads, str) else [(0, 0), *pads, (0, 0)]

    def reduced(start, combine):
        return lambda h: lax.reduce_window(h, start, combine, (1, *window, 1), (1, *strides, 1), pads)

    mean = lambda h: reduced(0.0, lax.add)(h) / np.prod(window)  # noqa: E731
    for pool, forward in ((MaxPool, reduced(-jnp.inf, lax.max)), (AvgPool, mean)):
        connection = pool(window, stride, padding)
        assert max(errors(connection, source, connection.output_shape(source), whole, forward)) <= EXACT


def test_a_pool_that_splits_ties_is_caught(monkeypatch):
    def of_last(self, W, h, delta):
        return jnp.flip(pull_back(self, W, jnp.flip(h, 1), jnp.flip(delta, 1)), 1)

    pull_back = MaxPool.pull_back
    monkeypatch.setattr(MaxPool, "pull_back", of_last)
    first = lambda h: lax.reduce_window(h, -jnp.inf, lax.max, (1, 2, 1), (1, 2, 1), "VALID")  # noqa: E731
    assert max(errors(MaxPool((2,)), (6, 2), (3, 2), drawn, first)) <= EXACT
    assert max(errors(MaxPool((2,)), (6, 2), (3, 2), whole, first)) > 0.1


# Connections of other kinds.

MASK = np.arange(12).reshape(4, 3) % 3 > 0
OTHERS = [
    (Flatten(), (2, 3, 2), (12,)),
    (Flatten(axes=2), (3, 2), (6,)),
    (Scale(), (3,), (3,)),
    (Scale(), (2, 3), (2, 3)),
    (Transposed(Dense()), (4,), (3,)),
    (Transposed(Dense()), (2, 4), (2, 3)),
    (Masked(Dense(), MASK), (4,), (3,)),
    (Masked(Transposed(Dense()), MASK), (3,), (4,)),
    (Masked(Scale(), MASK[0]), (2, 3), (2, 3)),
    (Masked(Conv((2,)), np.arange(8).reshape(2, 2, 2) % 3 > 0), (4, 2), (4, 2)),
    (Transposed(Dense(share="W")), (4,), (3,)),
    (ConvTransposed(Conv((3,)), (5, 2)), (5, 4), (5, 2)),
    (ConvTransposed(Conv((3, 2), (2, 1), 1, (1, 2), groups=2), (7, 4, 2)), (4, 4, 6), (7, 4, 2)),
    (ConvTransposed(Conv((2, 2), 3, "VALID"), (6, 7, 1)), (2, 2, 3), (6, 7, 1)),  # some elements are in no window
    (Masked(ConvTransposed(Conv((2,)), (4, 2)), np.arange(8).reshape(2, 2, 2) % 3 > 0), (4, 2), (4, 2)),
]


@pytest.mark.parametrize(("connection", "source", "unit"), OTHERS, ids=str)
def test_both_halves_are_the_vjp_of_the_forward_one(connection, source, unit):
    assert max(errors(connection, source, unit)) <= EXACT


def test_flatten_puts_the_last_axis_first():
    h = np.arange(24.0).reshape(2, 3, 2, 2)
    assert Flatten().apply(None, jax.device_put(h)).tolist() == h.reshape(2, 12).tolist()


def test_scale_and_transposed_are_their_equations():
    h, w, W = drawn((2, 5, 3)), drawn((3,), 1), drawn((4, 3), 2)
    assert relative_error(Scale().apply(jnp.asarray(w), jax.device_put(h)), h * w) <= EXACT
    assert relative_error(Transposed(Dense()).apply(jax.device_put(W), jax.device_put(h)), h @ W.T) <= EXACT
    assert jaxbp.init_params(jax.random.key(0), _only(Scale(), 3, 3))["o"]["x"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(("stride", "padding", "groups"), [(1, "SAME", 1), (2, "VALID", 2), ((3, 1), 1, 1)])
def test_a_transposed_convolution_is_the_transposed_matrix(stride, padding, groups):
    """⟨Cᵀ h, z⟩ = ⟨h, C z⟩ for all h and z."""
    shape = (6, 5, 2)
    conv = Conv((3, 2), stride, padding, groups=groups)
    windows = conv.output_shape(shape, 4)
    W, h, z = (jax.device_put(drawn(s, i)) for i, s in enumerate((conv.weight_shape(shape, windows), windows, shape)))
    forth, back = conv.apply(W, z), ConvTransposed(conv, shape).apply(W, h)
    assert abs(jnp.vdot(back, z) / jnp.vdot(h, forth) - 1) <= EXACT


def _only(connection, source, unit, **options):
    return Network(inputs={"x": source}, units={"o": Unit(unit, jaxbp.linear, {"x": connection}, **options)})


def test_what_is_masked_counts_for_nothing():
    """Whatever W holds there, the result is that of W ⊙ M, and the gradient is 0 there."""
    W, h, delta = (jax.device_put(a) for a in (drawn(MASK.shape), drawn((BATCH, 4)), drawn((BATCH, 3))))
    masked, inner, kept = Masked(Dense(), MASK), Dense(), jnp.where(MASK, W, 0)
    assert relative_error(masked.apply(W, h), inner.apply(kept, h)) <= EXACT
    assert relative_error(masked.pull_back(W, h, delta), inner.pull_back(kept, h, delta)) <= EXACT
    gradient = np.asarray(masked.contract(W, h, delta))
    assert np.array_equal(gradient != 0, MASK)
    assert relative_error(gradient, np.where(MASK, inner.contract(kept, h, delta), 0)) <= EXACT
    params = jaxbp.init_params(jax.random.key(0), _only(masked, 4, 3))
    assert np.array_equal(np.asarray(params["o"]["x"]) != 0, MASK)
    ones = jax.tree.map(jnp.ones_like, params)
    assert np.array_equal(jaxbp.constrain(_only(masked, 4, 3), ones)["o"]["x"], MASK)


def test_equal_masks_are_one_and_compile_once():
    other = MASK.copy()
    first, second = Masked(Dense(), MASK), Masked(Dense(), other)
    other[0, 0] = True  # the mask was copied
    changed = Masked(Dense(), other)
    assert first == second
    assert hash(first) == hash(second)
    assert first != changed
    assert first != Masked(Dense(initializer="ones"), MASK)
    assert first != Dense()
    with pytest.raises(ValueError, match="read-only"):
        first.mask[0, 0] = True
    traced = []

    def f(net, x):
        traced.append(net)
        return x + 1

    jitted = jax.jit(f, static_argnums=0)
    for connection in (first, second, changed):
        jitted(_only(connection, 4, 3), jnp.ones(()))
    assert len(traced) == 2


def test_a_shared_weight_gets_the_sum_of_what_its_uses_get():
    case = case_named("shared weights")
    params, x, y, weights = case.arguments(jnp.float64)
    assert list(params) == ["code", "twin", "o", "shared"]
    separate = {u: replace(unit, connections=_unshared(unit), bias=True) for u, unit in case.net.units.items()}
    net = Network(inputs=case.net.inputs, units=separate)
    W = params["shared"]["W"]
    copies = {u: dict(params[u]) for u in net.units}
    copies["code"]["left"] = copies["twin"]["right"] = copies["o"]["code"] = W
    copies["code"]["bias"] = copies["twin"]["bias"] = params["shared"]["b"]
    jitted = jax.jit(jaxbp.backprop, static_argnums=(0, 1))
    ours = jitted(case.net, case.loss, params, x, y, weights=weights)
    theirs = jitted(net, case.loss, copies, x, y, weights=weights)
    assert relative_error((ours.Delta, ours.delta), (theirs.Delta, theirs.delta)) <= EXACT
    total = theirs.grads["code"]["left"] + theirs.grads["twin"]["right"] + theirs.grads["o"]["code"]
    assert relative_error(ours.grads["shared"]["W"], total) <= EXACT
    of_bias = theirs.grads["code"]["bias"] + theirs.grads["twin"]["bias"]
    assert relative_error(ours.grads["shared"]["b"], of_bias) <= EXACT
    assert ours.grads["code"] == {}
    assert not np.any(jaxbp.init_params(jax.random.key(0), case.net)["shared"]["b"])


def test_shared_weights_count_once():
    assert case_named("shared weights").net.parameter_count == 4 * 2 + 2 + 2 * 4 + 4


def _unshared(unit):
    plain = {Dense: Dense(), Transposed: Transposed(Dense())}
    return {s: plain[type(c)] for s, c in unit.connections.items()}


# Checking and explaining, which know such connections by their rules alone.

LINE = Network(
    inputs={"x": (4, 1)},
    units={
        "c": Unit((3, 2), jaxbp.tanh, {"x": Conv((2,), padding="VALID")}),
        "p": Unit((1, 2), jaxbp.linear, {"c": AvgPool((3,))}, bias=False),
        "f": Unit(2, jaxbp.linear, {"p": Flatten(axes=2)}, bias=False),
        "o": Unit(1, jaxbp.linear, {"f": Dense()}),
    },
)


def on_a_line():
    params = params_of(LINE)
    return LINE, jaxbp.squared_error, params, jax.device_put(drawn((4, 1))), jnp.ones(1)


def test_check_finds_the_wrong_step_below_a_convolution():
    arguments = on_a_line()
    right = jax.jit(jaxbp.backprop, static_argnums=(0, 1))(*arguments).grads
    assert jaxbp.check(*arguments, right).verdict == "right"
    report = jaxbp.check(*arguments, {**right, "c": {**right["c"], "x": right["c"]["x"][::-1]}})
    assert (report.verdict, report.first_wrong) == ("wrong", "grad.c.x")


def test_explain_writes_windows_as_sums():
    formulas = {
        "a.c[1, 0]": "W.c.x[0, 0, 0] * h.x[1, 0] + W.c.x[1, 0, 0] * h.x[2, 0] + W.c.bias[0]",
        "a.p[0, 1]": "(h.c[0, 1] + h.c[1, 1] + h.c[2, 1]) / 3",
        "Delta.x[1, 0]": "delta.c[0, 0] * W.c.x[1, 0, 0] + delta.c[1, 0] * W.c.x[0, 0, 0] + "
        "delta.c[0, 1] * W.c.x[1, 0, 1] + delta.c[1, 1] * W.c.x[0, 0, 1]",
        "grad.c.x[1, 0, 0]": "h.x[1, 0] * delta.c[0, 0] + h.x[2, 0] * delta.c[1, 0] + h.x[3, 0] * delta.c[2, 0]",
    }
    work = jaxbp.explain(*on_a_line(), claims={**formulas, "d(a.c[0, 0])/d(W.c.x[1, 0, 0])": "h.x[0, 0]"})
    assert [claim.holds for claim in work.claims] == [True, True, True, True, False]


def test_explain_refuses_a_largest_element():
    _, *arguments = on_a_line()
    pooled = replace(LINE.units["p"], connections={"c": MaxPool((3,))})
    net = Network(inputs=LINE.inputs, units={**LINE.units, "p": pooled})
    with pytest.raises(ValueError, match=r"MaxPool.* is not linear in its source"):
        jaxbp.explain(net, *arguments)


# What does not know shared weights refuses them.

SHARED = case_named("shared weights")
CHAIN = Network(
    inputs={"x": 3},
    units={"h": Unit(3, jaxbp.tanh, {"x": Dense(share="W")}), "o": Unit(3, jaxbp.linear, {"h": Dense(share="W")})},
)


def _gradients(case):
    params, x, y, _ = case.arguments(jnp.float64)
    return case.net, case.loss, params, x, y


def _factors(arguments):
    return jax.eval_shape(lambda: jaxbp.backprop(*arguments, collect={"factors": jaxbp.collect.kronecker}).collected)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda: jaxbp.textbook.count_work(CHAIN),
            "for layered networks .* but unit 'h' has the shared weights 'W'",
        ),
        (
            lambda: jaxbp.interop.to_equinox(CHAIN, params_of(CHAIN)),
            "to_equinox takes .* unit 'h' has the shared weights 'W'",
        ),
        (
            lambda: _factors(_gradients(SHARED)),
            "kronecker got a weight that 'code', 'twin', 'o' share",
        ),
    ],
    ids=["textbook", "interop", "kronecker"],
)
def test_shared_weights_are_refused_by_name_where_there_is_no_rule(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()


def test_a_shared_weight_that_is_not_finite_is_named():
    params = {u: {s: np.zeros(shape) for s, shape in CHAIN.weight_shapes[u].items()} for u in CHAIN.weight_shapes}
    params["shared"]["W"][1, 2] = np.nan
    assert first_bad(CHAIN, np.ones((4, 3), bool), [*CHAIN.order, "loss"], params) == (3, "params.shared.W")


# Bad input.

IMAGE = (4, 6, 2)


class WithoutWeight(Identity):
    share = "W"


REFUSED = [
    (lambda: _only(Conv((5, 3), padding="VALID"), IMAGE, IMAGE),
     r"unit 'o' cannot read 'x': the window of Conv reaches over \(5, 3\), but its source has only \(4, 6\)"),
    (lambda: _only(Conv((3, 3), padding="VALID", dilation=2), IMAGE, IMAGE), r"reaches over \(5, 5\)"),
    (lambda: _only(MaxPool((5, 1)), IMAGE, IMAGE), r"the window of MaxPool reaches over \(5, 1\)"),
    (lambda: _only(Conv((3, 3)), IMAGE, (4, 5, 2)), r"gives shape \(4, 6, 2\), but the unit has \(4, 5, 2\)"),
    (lambda: _only(AvgPool((2, 2)), IMAGE, (2, 3, 4)), r"gives shape \(2, 3, 2\), but the unit has \(2, 3, 4\)"),
    (lambda: _only(Conv((3,)), IMAGE, IMAGE), r"Conv with a window of \(3,\) reads a shape of 1 spatial axes"),
    (lambda: _only(Conv((3, 3), groups=2), IMAGE, (4, 6, 3)), "2 groups do not divide the channels"),
    (lambda: _only(Conv((3, 3), groups=3), IMAGE, (4, 6, 3)), "3 groups do not divide the channels"),
    (lambda: Conv((3, 3), groups=0), "groups must be at least 1, got 0"),
    (lambda: Conv((3, 0)), r"Conv got kernel \(3, 0\)"),
    (lambda: Conv(()), r"Conv got kernel \(\)"),
    (lambda: Conv((3, 3), stride=-1), "Conv got stride -1"),
    (lambda: Conv((3, 3), stride=(1, 2, 1)), r"Conv got stride \(1, 2, 1\); .* each of the 2 spatial axes"),
    (lambda: Conv((3, 3), dilation=0), "Conv got dilation 0"),
    (lambda: Conv((3, 3), padding=-1), "Conv got padding -1"),
    (lambda: Conv((3, 3), padding=((0, 1), (0, -1))), r"Conv got padding \(\(0, 1\), \(0, -1\)\)"),
    (lambda: Conv((3, 3), padding=(1, 1)), r"Conv got padding \(1, 1\)"),
    (lambda: Conv((3, 3), padding=((0.5, 1), (0, 1))), r"Conv got padding \(\(0.5, 1\), \(0, 1\)\)"),
    (lambda: Conv((3, 3), padding="same"), "Conv got padding 'same'; it is 'SAME', 'VALID', a number"),
    (lambda: MaxPool((2, 2), stride=0), "MaxPool got stride 0"),
    (lambda: MaxPool((2, 2), padding=-2), "MaxPool got padding -2"),
    (lambda: _only(MaxPool((2, 2), padding=2), IMAGE, IMAGE), "MaxPool.* has windows that see nothing but padding"),
    (lambda: _only(Flatten(), (4, 6), (24,)), r"Flatten\(axes=3\) reads a source with as many axes"),
    (lambda: _only(Flatten(), IMAGE, (47,)), r"gives 48 elements, but the unit has shape \(47,\)"),
    (lambda: _only(Scale(), 3, 4), r"Scale joins equal shapes, but these are \(3,\) and \(4,\)"),
    (lambda: _only(Masked(Dense(), MASK), 3, 3), r"the mask has shape \(4, 3\), but the weights have \(3, 3\)"),
    (lambda: _only(Masked(Identity(), MASK), 3, 3), r"Masked takes a connection with weights, and Identity\(\) has"),
    (lambda: _only(ConvTransposed(Conv((3,)), (5, 2)), (5, 4), (6, 2)),
     r"gives shape \(5, 2\), but the unit has \(6, 2\)"),
    (lambda: _only(ConvTransposed(Conv((3,), 2), (5, 2)), (5, 4), (5, 2)),
     r"of shape \(5, 2\) gives shape \(3, 4\), so that is what its transpose reads, not \(5, 4\)"),
    (lambda: Network(inputs={"x": 3}, units={
        "h": Unit(4, jaxbp.tanh, {"x": Dense(share="W")}), "o": Unit(3, jaxbp.linear, {"h": Dense(share="W")}),
    }), r"unit 'o' cannot read 'h' by the shared weight 'W': it has shape \(3, 4\) elsewhere, and \(4, 3\) here"),
    (lambda: Network(inputs={"x": 3}, units={
        "h": Unit(4, jaxbp.tanh, {"x": Dense()}, bias="b"), "o": Unit(3, jaxbp.linear, {"h": Dense()}, bias="b"),
    }), r"unit 'o' cannot have the shared weight 'b': it has shape \(4,\) elsewhere, and \(3,\) here"),
    (lambda: _only(WithoutWeight(), 3, 3), "unit 'o' reads 'x' by share='W', but there is no weight to share"),
    (lambda: _only(Dense(share="a b"), 3, 3), "'a b' cannot be the name of an input, a unit or a shared weight"),
    (lambda: _only(Dense(), 3, 3, bias="bias"), "'bias' is reserved"),
    (lambda: Network(inputs={"x": 3}, units={
        "shared": Unit(4, jaxbp.tanh, {"x": Dense()}), "o": Unit(3, jaxbp.linear, {"shared": Dense()}),
    }), "'shared' is reserved for the weights that several connections use"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_bad_input_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv(3), r"kernel must be a tuple, one size for each spatial axis such as \(3, 3\), got 3"),
        (lambda: MaxPool([2, 2]), r"window must be a tuple, .* got \[2, 2\]"),
        (lambda: Masked(Dense(), MASK.astype(float)), "the mask has dtype float64, expected booleans"),
        (
            lambda: Masked("Dense", MASK),
            r"connection must be one that Masked takes, such as jaxbp.Dense\(\), got 'Dense'",
        ),
        (lambda: Transposed(Identity()), r"connection must be a jaxbp.Dense, which Transposed takes, got Identity\(\)"),
        (
            lambda: _only(Dense(), 3, 3, bias=None),
            "bias must be True, False or the name of a shared one, or a Bias, got None",
        ),
        (
            lambda: ConvTransposed(Dense(), (3,)),
            r"connection must be a jaxbp.Conv, which ConvTransposed takes, got Dense",
        ),
        (lambda: _factors(on_a_line()), "kronecker has no rule for Conv connections"),
    ],
)
def test_what_is_of_the_wrong_type_is_refused(make, message):
    with pytest.raises(TypeError, match=message):
        make()
