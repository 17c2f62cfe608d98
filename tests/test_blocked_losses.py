"""Softmax and cross-entropy in blocks of classes, against the plain output of a network."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import params_of
from reference import relative_error

import jaxbp
from jaxbp.losses._blocked import blocked_losses, blocked_signals

ROWS, S, CLASSES = (2, 3), 4, 7
RNG = np.random.default_rng(0)
H, W, B = RNG.normal(size=(*ROWS, S)), RNG.normal(size=(S, CLASSES)), RNG.normal(size=CLASSES)
IDS = np.array([[0, 6, 3], [5, -100, 99]])
SCALE = np.array([[0.5, 1.5, 0.25], [2.0, 0.0, 0.0]])


@partial(jax.jit, static_argnames=("block", "transposed"))
def blocked(h, W, b, ids, scale, block, transposed):
    """Every result, as a tree like that of `plain`."""
    of = {"block": block, "transposed": transposed}
    losses, Delta, grad_W, grad_b = blocked_signals(h, W.T if transposed else W, b, ids, scale, **of)
    again = blocked_losses(h, W.T if transposed else W, b, ids, **of)
    grads = {"x": grad_W.T if transposed else grad_W} | ({} if b is None else {"bias": grad_b})
    return losses, again, Delta, grads


@jax.jit
def plain(h, W, b, ids, scale):
    net = jaxbp.Network(
        {"x": (*ROWS, S)}, {"o": jaxbp.Unit((*ROWS, CLASSES), jaxbp.softmax, {"x": jaxbp.Dense()}, bias=b is not None)}
    )
    params = {"o": {"x": W} | ({} if b is None else {"bias": b})}
    back = jaxbp.backprop(net, jaxbp.cross_entropy, params, h, ids, weights=scale, reduction="sum")
    y = jaxbp.cross_entropy.targets(back.trace.h["o"], ids)
    losses = jaxbp.cross_entropy.at(jaxbp.softmax).value(back.trace.a["o"], back.trace.h["o"], y)
    return losses, losses, back.Delta["x"], back.grads["o"]


def arrays(dtype=jnp.float64, bias=True):
    return [None if v is None else jnp.asarray(v, dtype) for v in (H, W, B if bias else None)]


def error(ours, theirs):
    """Losses of ids that do not exist are NaN in both."""
    same = jax.tree.map(lambda v: np.nan_to_num(np.asarray(v, np.float64), nan=1e3), (ours, theirs))
    return relative_error(*same)


@pytest.mark.parametrize(
    ("block", "transposed", "bias"), [(1, False, True), (3, True, False), (4, False, False), (9, True, True)]
)
def test_blocks_give_what_the_whole_gives(block, transposed, bias):
    of = arrays(bias=bias)
    theirs = plain(*of, IDS, SCALE)
    assert np.isnan(theirs[0]).sum() == 2
    assert error(blocked(*of, IDS, SCALE, block, transposed), theirs) <= 1e-12
    # where the target has all but e⁻³⁰ of it, o − 1 would have three digits
    a = np.sort(H @ W, axis=-1)
    h, W_, b = of
    h = h * (30 / (a[..., -1:] - a[..., -2:-1]))
    ids = np.argmax(H @ W, axis=-1)
    assert error(blocked(h, W_, b, ids, SCALE, block, transposed)[2:], plain(h, W_, b, ids, SCALE)[2:]) <= 1e-12


def test_an_id_out_of_range_is_nan_where_it_counts():
    scale = SCALE + (IDS == 99)
    losses, _, Delta, grads = blocked(*arrays(), IDS, scale, 1, False)
    assert np.isnan(losses).tolist() == [[False] * 3, [False, True, True]]
    assert np.isnan(Delta).all(-1).tolist() == [[False] * 3, [False, False, True]]
    assert all(np.isnan(g).all() for g in grads.values())


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=lambda d: d.__name__)
def test_blocks_are_as_good_as_the_whole_in_lower_precision(dtype):
    of = arrays(dtype)
    exact = plain(*(v.astype(jnp.float64) for v in of), IDS, SCALE)
    with jax.enable_x64(False):
        ours, theirs = blocked(*of, IDS, SCALE, 3, True), plain(*of, IDS, SCALE)
    assert {leaf.dtype for leaf in jax.tree.leaves(ours)} == {jnp.dtype(dtype)}
    assert error(ours, exact) <= 2 * max(error(theirs, exact), float(jnp.finfo(dtype).eps))


def test_no_array_is_as_large_as_all_logits():
    rows, s, classes, block = 64, 2, 100, 10
    shapes = [(rows, s), (s, classes), (classes,), (rows,), (rows,)]
    h, W, b, ids, scale = (jax.ShapeDtypeStruct(of, int if i == 3 else float) for i, of in enumerate(shapes))
    for made in (
        jax.make_jaxpr(partial(blocked_signals, block=block))(h, W, b, ids, scale),
        jax.make_jaxpr(partial(blocked_losses, block=block))(h, W, b, ids),
    ):
        assert largest(made.jaxpr) == rows * block


def largest(jaxpr):
    """The number of elements of the largest array that a program makes."""
    inner = [value.jaxpr for eqn in jaxpr.eqns for value in eqn.params.values() if hasattr(value, "jaxpr")]
    made = [var.aval.size for eqn in jaxpr.eqns for var in eqn.outvars]
    return max([*made, *map(largest, inner)], default=0)


def heads(block):
    """Networks whose output is looked at in blocks, and the same by all logits at once."""
    tied = jaxbp.Network(
        inputs={"tokens": jaxbp.ids(4, 7), "x": (4, 3)},
        units={
            "e": jaxbp.Unit((4, 3), jaxbp.tanh, {"tokens": jaxbp.Embedding(7, share="E"), "x": jaxbp.Dense()}),
            "o": jaxbp.Unit((4, 7), jaxbp.softmax, {"e": jaxbp.Transposed(jaxbp.Dense(share="E"))}, bias=False),
        },
    )
    return tied, jaxbp.losses.in_blocks(jaxbp.cross_entropy, block)


@pytest.mark.parametrize("weighted", ["examples", "rows"])
def test_a_network_has_the_same_gradient_in_blocks_of_its_output(weighted):
    net, loss = heads(3)
    params = params_of(net)
    rng = np.random.default_rng(0)
    x = {"tokens": jax.device_put(rng.integers(0, 7, (5, 4))), "x": jax.device_put(rng.normal(size=(5, 4, 3)))}
    y = jax.device_put(rng.integers(0, 7, (5, 4)))
    weights = jax.device_put(rng.uniform(size=(5, 4) if weighted == "rows" else 5))
    if weighted == "rows":
        weights, y = weights.at[0, 2].set(0.0), y.at[0, 2].set(-100)
    collectors = {"grads": jaxbp.collect.gradient, "norms": jaxbp.collect.squared_norm}

    @jax.jit
    def both(params):
        found = [
            jaxbp.backprop(net, of, params, x, y, weights=weights, collect=collectors)
            for of in (loss, jaxbp.losses.in_blocks(loss, None))
        ]
        return [(back.value, back.grads, back.Delta, back.delta, back.collected) for back in found]

    ours, theirs = both(params)
    assert relative_error(ours, theirs) <= 1e-12


def test_a_jitted_gradient_never_has_all_logits():
    net = jaxbp.layered([2, 1000], output=jaxbp.softmax)
    shapes = jax.eval_shape(lambda: jaxbp.init_params(jax.random.key(0), net))
    x, y = jax.ShapeDtypeStruct((128, 2), float), jax.ShapeDtypeStruct((128,), int)

    def temporaries(classes):
        gradient = jaxbp.value_and_grad(net, jaxbp.losses.in_blocks(jaxbp.cross_entropy, classes))
        return jax.jit(gradient).lower(shapes, x, y).compile().memory_analysis().temp_size_in_bytes

    logits = 128 * 1000 * 8
    assert temporaries(None) > logits
    assert temporaries(50) < logits / 5


def test_what_cannot_be_made_in_blocks_is_made_at_once():
    """By what the sweep does with a block of 1, where a wrong choice would raise or differ."""
    loss = jaxbp.losses.in_blocks(jaxbp.cross_entropy, 1)
    x, ids = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3))), jnp.array([0, 3, 1, 1, 2])
    dense = jaxbp.Dense()
    for outputs, y in [
        (jaxbp.Unit(4, jaxbp.softmax, {"x": dense, "h": dense}), ids),  # two sources
        (jaxbp.Unit(4, jaxbp.softmax, {"h": jaxbp.Masked(dense, np.ones((4, 4), bool))}), ids),
        (jaxbp.Unit(4, jaxbp.sigmoid, {"h": dense}), ids),  # no closed form
        (jaxbp.Unit(4, jaxbp.softmax, {"h": dense}, bias=jaxbp.connections.Bias(whole=True)), ids),
        (jaxbp.Unit(4, jaxbp.softmax, {"h": dense}), jnp.eye(4)[ids]),  # rows for targets
    ]:
        net = jaxbp.Network({"x": 3}, {"h": jaxbp.Unit(4, jaxbp.tanh, {"x": dense}), "o": outputs})
        params = params_of(net)
        ours, theirs = (jaxbp.value_and_grad(net, of)(params, x, y) for of in (loss, jaxbp.cross_entropy))
        chex.assert_trees_all_equal(ours, theirs)
    net = jaxbp.layered([3, 4], output=jaxbp.softmax)
    params = params_of(net)
    feedback = jax.tree.map(lambda W: W + 1, params)
    ours, theirs = (jaxbp.backprop(net, of, params, x, ids, feedback=feedback) for of in (loss, jaxbp.cross_entropy))
    chex.assert_trees_all_equal(ours, theirs)
