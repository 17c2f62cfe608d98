"""Units made from any function, attention and layer normalisation among them: a transformer block is a graph."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import BLOCK, Case, case_named, gate, gate_pullback, gated
from reference import autodiff, relative_error

import jaxbp
from jaxbp import collect

SHAPE = (4, 6)  # rows, width
CASES = [case_named(name) for name in ("transformer block", "gated, by jax.vjp")]


def sweep(case, params, x, y, weights):
    back = jaxbp.backprop(case.net, case.loss, params, x, y, weights=weights)
    return back.value, back.grads, back.Delta, back.delta


def plain_attention(query, key, value, mask=None, *, heads, key_heads, causal, rotary):
    """By the definition, a head at a time, each with its own copy of the keys."""

    def turned(rows):
        if rotary is None:
            return rows
        half = rows.shape[-1] // 2
        turns = [p * rotary ** (-i / half) for p in range(len(rows)) for i in range(half)]
        z = (rows[:, :half] + 1j * rows[:, half:]) * jnp.exp(1j * jnp.array(turns)).reshape(len(rows), half)
        return jnp.concatenate([z.real, z.imag], axis=1)

    outputs = []
    for head in range(heads):
        Q = turned(jnp.split(query, heads, axis=1)[head])
        of = head * key_heads // heads
        K, V = turned(jnp.split(key, key_heads, axis=1)[of]), jnp.split(value, key_heads, axis=1)[of]
        weights = jnp.exp(Q @ K.T / jnp.sqrt(Q.shape[1]))
        if causal:
            weights = jnp.tril(weights)
        if mask is not None:
            weights = weights * jnp.broadcast_to(jnp.atleast_2d(mask), weights.shape)
        total = jnp.sum(weights, axis=1, keepdims=True)
        outputs.append(weights / jnp.where(total == 0, 1, total) @ V)
    return jnp.concatenate(outputs, axis=1)


MASKS = {
    "no mask": None,
    "padding": jnp.array([1.0, 1, 0, 1, 0]),
    "a given array": jnp.array([[0.0, 0, 0, 0, 0], *np.tri(4, 5, 1)[1:]]),  # of which the first row sees nothing
}
KINDS = {
    "plain": {"heads": 1, "key_heads": 1, "rotary": None},
    "heads": {"heads": 4, "key_heads": 4, "rotary": None},
    "grouped": {"heads": 4, "key_heads": 2, "rotary": None},
    "rotary": {"heads": 2, "key_heads": 1, "rotary": 100.0},
}


def combinations():
    """All of them, of which the default run has a quarter of those with blocks of two or with none, in turn."""
    for i, (kind, causal, mask) in enumerate(product(KINDS, (False, True), MASKS)):
        for block in (None, 2, 1, 5, 64):
            quick = block in (None, 2) and (i + i // 6 + 2 * (block is None)) % 4 == 1
            yield pytest.param(kind, causal, mask, block, marks=[] if quick else pytest.mark.slow)


@pytest.mark.parametrize(("kind", "causal", "mask", "block"), list(combinations()))
def test_attention_is_its_definition_and_pulls_back_as_autodiff_does(kind, causal, mask, block):
    options, given = KINDS[kind] | {"causal": causal}, MASKS[mask]
    d = 8 // options["heads"]
    shapes = (4, 8), (5, d * options["key_heads"]), (5, d * options["key_heads"])
    query, key, value, delta = (jax.random.normal(jax.random.key(i), s) for i, s in enumerate((*shapes, (4, 8))))
    inputs = (query, key, value) if given is None else (query, key, value, given)
    f = jaxbp.attention("q", "k", "v", (4, 8), mask=None if given is None else "m", block=block, **options)

    @jax.jit
    def both(*inputs):
        a, vjp = jax.vjp(lambda *three: plain_attention(*three, *inputs[3:], **options), *inputs[:3])
        zeros = tuple(map(jnp.zeros_like, inputs[3:]))
        return (f.function(*inputs), f.rule(inputs, a, delta)), (a, (*vjp(delta), *zeros))

    assert relative_error(*both(*inputs)) <= 1e-12


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=lambda d: d.__name__)
@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm", "attention"])
def test_half_precision_is_as_good_as_autodiff(kind, dtype):
    """Value and signals of 40 draws: the distance from float64 is at most twice that of plain JAX, in that dtype."""
    f = jaxbp.attention("q", "k", "v", SHAPE, heads=2)

    def attention_of_rows(*inputs):
        Q, K, V = (jnp.swapaxes(rows.reshape(SHAPE[0], 2, -1), 0, 1) for rows in inputs)
        P = jax.nn.softmax(Q @ jnp.swapaxes(K, 1, 2) / jnp.sqrt(jnp.asarray(3, Q.dtype)))
        return jnp.swapaxes(P @ V, 0, 1).reshape(SHAPE)

    def plain_norm(a):
        centred = a - jnp.mean(a, -1, keepdims=True)
        return centred / jnp.sqrt(jnp.mean(centred**2, -1, keepdims=True) + jnp.asarray(1e-5, a.dtype))

    def plain_rms_norm(a):
        return a / jnp.sqrt(jnp.mean(a**2, -1, keepdims=True) + jnp.asarray(1e-5, a.dtype))

    plain = {"attention": attention_of_rows, "layer_norm": plain_norm, "rms_norm": plain_rms_norm}[kind]

    def explicit(inputs, delta):
        if kind == "attention":
            a = f.function(*inputs)
            return a, f.rule(inputs, a, delta)
        norm = getattr(jaxbp, kind)
        h = norm.value(*inputs)
        return h, (norm.pullback(*inputs, h, delta),)

    def automatic(inputs, delta):
        a, vjp = jax.vjp(plain, *inputs)
        return a, vjp(delta)

    draws = 3 * jax.random.normal(jax.random.key(0), (4, 40, *SHAPE), jnp.float32).astype(dtype)
    inputs = tuple(draws[:3]) if kind == "attention" else (draws[0],)
    wide = jax.tree.map(lambda v: v.astype(jnp.float64), (inputs, draws[3]))
    exact = jax.jit(jax.vmap(automatic))(*wide)
    ours, theirs = (jax.jit(jax.vmap(way))(inputs, draws[3]) for way in (explicit, automatic))
    for one, other, right in zip(*map(jax.tree.leaves, (ours, theirs, exact)), strict=True):
        assert one.dtype == dtype
        assert relative_error(one, right) <= 2 * relative_error(other, right)


def test_no_row_of_causal_attention_sees_a_later_one():
    f = jaxbp.attention("q", "k", "v", SHAPE, heads=2, causal=True).function
    rows = jax.random.normal(jax.random.key(0), SHAPE)
    changed = rows.at[-1].add(1.0)
    before, after = f(rows, rows, rows), f(changed, changed, changed)
    assert relative_error(after[:-1], before[:-1]) == 0
    assert relative_error(after[-1], before[-1]) > 0.01


def test_per_example_gradients_pass_through_a_block():
    """Collectors need nothing of function units; rows share weights, whose cross terms count."""
    case = CASES[0]
    params, x, y, _ = case.arguments(jnp.float64)

    @jax.jit
    def both(params, x, y):
        wanted = {"norms": collect.squared_norm, "private": collect.clipped(0.3)}
        found = jaxbp.backprop(BLOCK, case.loss, params, x, y, collect=wanted, reduction="sum").collected
        value = jaxbp.objective(BLOCK, case.loss, "sum")
        own = jax.vmap(jax.grad(value), in_axes=(None, 0, 0))(params, x, y)
        norms = sum(jnp.sum(g.reshape(len(x), -1) ** 2, axis=1) for g in jax.tree.leaves(own))
        factors = jnp.minimum(1, 0.3 / jnp.sqrt(norms))
        private = jax.tree.map(lambda g: jnp.einsum("n,n...->...", factors, g), own)
        return (found["norms"].total, found["private"]), (norms, private)

    assert relative_error(*both(params, x, y)) <= 1e-10


def test_equal_units_are_equal():
    first, second = (jaxbp.attention("q", "k", "v", SHAPE, heads=2) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    assert first != jaxbp.attention("q", "k", "v", SHAPE, heads=3)


def test_a_wrong_pull_back_is_caught():
    def wrong(inputs, a, delta):
        of_value, of_switch = gate_pullback(inputs, a, delta)
        return of_value, -of_switch

    case = Case("wrong", gated(wrong), jaxbp.squared_error)
    arguments = case.arguments(jnp.float64)
    assert relative_error(sweep(case, *arguments), autodiff(case, *arguments)) > 0.01


def _of_the_batch(value, switch):
    return value - jnp.mean(switch, axis=0)


def test_a_function_sees_one_example_so_none_has_a_part_in_another():
    case = Case("normalised", gated(None, _of_the_batch), jaxbp.squared_error)
    params, x, y, _ = case.arguments(jnp.float64)
    found = jaxbp.forward(case.net, params, x)
    alone = jax.vmap(lambda x: jaxbp.forward(case.net, params, x))(x)
    assert relative_error(found.h, alone.h) <= 1e-14
    assert relative_error(sweep(case, params, x, y, None), autodiff(case, params, x, y, None)) <= 1e-12


def _too_few(inputs, a, delta):
    return (delta,)


def _wrong_shape(inputs, a, delta):
    return delta[..., :1], delta


def _joined(value, switch):
    return jnp.concatenate([value, switch[..., None]], axis=-1)


def _both(value, switch):
    return value, switch


def _sum_of_all(value, switch):
    return jnp.sum(value * switch, axis=-1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jaxbp.function_unit(gate, ("h", "h"), 4), "sources must be different names"),
        (lambda: jaxbp.attention("q", "k", "v", (6,)), r"its shape is \(rows, width\), got \(6,\)"),
        (lambda: jaxbp.attention("q", "k", "v", (4, 6), heads=4), "4 heads do not divide a width of 6"),
        (lambda: gated(_too_few), r"unit 'both' has a pull-back of 'gate' that makes \[\(4,\)\] for sources of"),
        (lambda: gated(_wrong_shape), r"that makes \[\(1,\), \(4,\)\] for sources of \(4,\) and \(4,\)"),
        (
            lambda: gated(function=_sum_of_all),
            r"'_sum_of_all', which makes \(\) of .*, expected the unit's shape \(4,\)",
        ),
        (lambda: gated(function=_joined), r"'_joined', which refuses \(4,\) and \(4,\): Cannot concatenate"),
        (lambda: gated(function=_both), r"'_both', which makes \(.*\) of .*, expected the unit's shape \(4,\)"),
    ],
)
def test_bad_input_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
