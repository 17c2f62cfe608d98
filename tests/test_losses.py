"""Losses: their gradients, the simplifications, what targets they take and refuse."""

import dataclasses
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import Case, params_of
from reference import autodiff, relative_error

import jaxbp

RNG = np.random.default_rng(0)
PROBABILITIES = jax.device_put(RNG.dirichlet(np.ones(3), size=5))
TARGETS = {
    jaxbp.squared_error: RNG.normal(size=(5, 3)),
    jaxbp.cross_entropy: RNG.dirichlet(np.ones(3), size=5),
    jaxbp.binary_cross_entropy: RNG.uniform(size=(5, 3)),
    jaxbp.perceptron: RNG.choice([-1.0, 1.0], size=(5, 3)),
}
FUSED = [(jaxbp.cross_entropy, jaxbp.softmax), (jaxbp.binary_cross_entropy, jaxbp.sigmoid)]


@pytest.mark.parametrize("loss", TARGETS, ids=repr)
def test_gradient_is_that_of_the_value(loss):
    y = jax.device_put(TARGETS[loss])
    expected = jax.grad(lambda o: jnp.sum(loss.value(o, y)))(PROBABILITIES)
    np.testing.assert_allclose(loss.gradient(PROBABILITIES, y), expected, rtol=1e-12, atol=1e-15)


def test_values_by_hand():
    o, y = jnp.array([[0.25, 0.75]]), jnp.array([[0.0, 1.0]])
    assert jaxbp.squared_error.value(o, y)[0] == 0.5 * (0.25**2 + 0.25**2)
    np.testing.assert_allclose(jaxbp.cross_entropy.value(o, y)[0], -np.log(0.75))
    np.testing.assert_allclose(jaxbp.binary_cross_entropy.value(o, y)[0], -2 * np.log(0.75))
    assert jaxbp.perceptron.value(jnp.array([[2.0, 3.0]]), jnp.array([[1.0, -1.0]]))[0] == 3


@pytest.mark.parametrize(("loss", "activation"), FUSED, ids=repr)
@pytest.mark.parametrize("targets", ["one-hot", "soft"])
def test_fused_equals_unfused_where_the_product_is_finite(loss, activation, targets):
    a = jax.device_put(RNG.normal(size=(5, 3)) * 3)
    y = jnp.eye(3)[jnp.array([0, 1, 2, 1, 0])] if targets == "one-hot" else jax.device_put(TARGETS[loss])
    o = activation.value(a)
    rule = loss.at(activation).simplification
    np.testing.assert_allclose(rule.value(a, y), loss.value(o, y), rtol=1e-12)
    product = activation.pullback(a, o, loss.gradient(o, y))
    np.testing.assert_allclose(rule.delta(a, o, y), product, rtol=1e-11, atol=1e-14)
    assert jaxbp.unfused(loss).at(activation).simplification is None
    assert jaxbp.unfused(loss).value is loss.value


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16], ids=lambda d: d.__name__)
@pytest.mark.parametrize(("loss", "activation"), FUSED, ids=repr)
def test_fused_is_finite_and_right_at_logits_of_1e4(loss, activation, dtype):
    net = jaxbp.layered([2, 2], hidden=(), output=activation, bias=False)
    params = {"o": {"x": jnp.eye(2, dtype=dtype)}}
    x, y = jnp.array([1e4, -1e4], dtype), jnp.array([0.0, 1.0], dtype)
    value, grads = jax.jit(jaxbp.value_and_grad(net, loss))(params, x, y)
    logit, delta = float(x[0]), jnp.array([1.0, -1.0], dtype)
    assert float(value) == (2 * logit if dtype != jnp.bfloat16 else float(jnp.asarray(2 * logit, dtype)))
    np.testing.assert_array_equal(grads["o"]["x"], jnp.outer(x, delta))
    unfused = jax.jit(jaxbp.value_and_grad(net, jaxbp.unfused(loss)))(params, x, y)[0]
    assert not np.isfinite(float(unfused))


def exact_delta(a, y, activation):
    """∂L/∂a without a difference of nearly equal numbers, in the widest floats there are."""
    a, y = (np.asarray(v).astype(np.float64).astype(np.longdouble) for v in (a, y))
    if activation == jaxbp.sigmoid:
        return (1 - y) / (1 + np.exp(-a)) - y / (1 + np.exp(a))
    e = np.exp(a - a.max(-1, keepdims=True))
    o = e / e.sum(-1, keepdims=True)
    pairs = o[:, :, None] * y[:, None, :] - y[:, :, None] * o[:, None, :]
    return pairs.sum(-1)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda d: d.__name__)
@pytest.mark.parametrize(("loss", "activation"), FUSED, ids=repr)
def test_fused_is_as_exact_as_autodiff_at_any_logit(loss, activation, dtype):
    """The root mean square of the examples' relative errors is at most twice that of jax.grad of the fused value."""
    rule, rng, N = loss.at(activation).simplification, np.random.default_rng(0), 200
    targets = [np.eye(4)[rng.integers(0, 4, N)], rng.dirichlet(np.ones(4), N), rng.normal(size=(N, 4))]
    targets += [np.eye(2)[rng.integers(0, 2, (N, 4))][..., 0]] if activation == jaxbp.sigmoid else []

    @jax.jit
    def both(a, y):
        theirs = jax.grad(lambda a: jnp.sum(rule.value(a, y).astype(jnp.promote_types(a.dtype, jnp.float32))))(a)
        return rule.delta(a, activation.value(a), y).astype(a.dtype), theirs

    finfo = jnp.finfo(dtype)
    for reach in (1, 8, 12, 20, 50, 300, 1e4):
        for target in targets:
            a, y = (jnp.asarray(v.astype(dtype)) for v in (rng.uniform(-reach, reach, (N, 4)), target))
            right = exact_delta(a, y, activation)
            size = np.linalg.norm(right.astype(float), axis=1) + float(finfo.tiny)
            ours, theirs = (
                np.linalg.norm((np.asarray(got, np.float64) - right).astype(float), axis=1) / size for got in both(a, y)
            )
            rms = [np.sqrt(np.mean(error**2)) for error in (ours, theirs)]
            assert rms[0] <= 2 * max(rms[1], float(finfo.eps) / 8), (reach, target[0])


@pytest.mark.parametrize("changed", [{"initializer": "he_normal"}, {"name": "mine"}], ids=str)
@pytest.mark.parametrize(("loss", "activation"), FUSED, ids=repr)
def test_a_simplification_goes_by_what_the_activation_computes(loss, activation, changed):
    other = dataclasses.replace(activation, **changed)
    assert loss.at(other).simplification is loss.at(activation).simplification
    assert loss.at(jaxbp.tanh).simplification is None
    net = jaxbp.layered([2, 2], output=other, bias=False)
    x, y = jnp.array([1e4, -1e4]), jnp.array([0.0, 1.0])
    value, grads = jax.jit(jaxbp.value_and_grad(net, loss))({"o": {"x": jnp.eye(2)}}, x, y)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_a_label_that_is_zero_costs_nothing_even_where_the_output_is_zero():
    o, y = jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 0.0]])
    assert jaxbp.cross_entropy.value(o, y)[0] == 0
    np.testing.assert_array_equal(jaxbp.cross_entropy.gradient(o, y), [[-1, 0]])
    assert jaxbp.binary_cross_entropy.value(o, y)[0] == 0


def test_perceptron_moves_at_a_margin_of_zero():
    np.testing.assert_array_equal(jaxbp.perceptron.gradient(jnp.array([0.0]), jnp.array([1.0])), [-1])


@pytest.mark.parametrize("dtype", [int, np.uint8, np.int64])
def test_class_ids_are_rows(dtype):
    o = jnp.zeros((2, 3))
    np.testing.assert_array_equal(jaxbp.cross_entropy.targets(o, jnp.array([2, 0], dtype)), [[0, 0, 1], [1, 0, 0]])
    np.testing.assert_array_equal(jaxbp.perceptron.targets(o, jnp.array([2, 0], dtype)), [[-1, -1, 1], [1, -1, -1]])
    single = jaxbp.binary_cross_entropy.targets(jnp.zeros((2, 1)), jnp.array([1, 0], dtype))
    np.testing.assert_array_equal(single, [[1], [0]])


@pytest.mark.parametrize("x64", [True, False])
@pytest.mark.parametrize("bad", [-1, 3, 2**32, 2**32 + 1, 2**64 - 1])
@pytest.mark.parametrize("loss", [jaxbp.cross_entropy, jaxbp.binary_cross_entropy, jaxbp.perceptron], ids=repr)
def test_an_id_out_of_range_is_never_a_silent_zero(loss, bad, x64):
    with jax.enable_x64(x64):
        y = loss.targets(jnp.zeros((2, 3), jnp.float32), np.array([0, bad], np.uint64 if bad > 2**63 else np.int64))
        assert jnp.isnan(y[1]).all()
        assert not jnp.isnan(y[0]).any()
        o = jnp.ones((2, 3), jnp.float32)
        assert jnp.isnan(loss.value(o, y)).tolist() == [False, True]
        assert jnp.isnan(loss.gradient(o, y)[1]).all()


def test_ids_of_a_narrow_dtype_reach_all_classes():
    rows = jaxbp.cross_entropy.targets(jnp.zeros((2, 300)), jnp.array([255, 44], jnp.uint8))
    assert jnp.argmax(rows, axis=-1).tolist() == [255, 44]
    assert rows.sum() == 2


REFUSED = [
    (jaxbp.cross_entropy, jnp.zeros((4, 3)), ValueError, r"y has shape \(4, 3\), but the output has shape \(5, 3\)"),
    (jaxbp.cross_entropy, jnp.zeros(4, int), ValueError, r"or integer class ids of shape \(5,\)"),
    (jaxbp.cross_entropy, jnp.zeros(5), TypeError, r"class ids must be integers, but y has dtype float.*astype\(int\)"),
    (jaxbp.squared_error, jnp.zeros(5, int), TypeError, r"squared_error takes no class ids; pass targets of shape"),
    (jaxbp.squared_error, [0.0, 1.0], TypeError, r"y is of type list; pass an array"),
    (
        jaxbp.squared_error,
        jnp.ones((5, 3), complex),
        TypeError,
        r"y has dtype complex128, expected real numbers or integers",
    ),
]


@pytest.mark.parametrize(("loss", "y", "error", "message"), REFUSED)
def test_targets_that_do_not_fit_are_refused(loss, y, error, message):
    with pytest.raises(error, match=message):
        loss.targets(jnp.zeros((5, 3)), y)


COMPLAINTS = [
    (jaxbp.cross_entropy, np.array([0, 3, 1]), "class id 3 at example 1 is outside 0…2; 1 of 3 are"),
    (jaxbp.cross_entropy, np.array([-1, 0, 1]), "class id -1 at example 0 is outside 0…2"),
    (jaxbp.cross_entropy, np.array([[0, 1.0, 0], [0, 0, 0]]), "the target row of example 1 sums to 0"),
    (jaxbp.cross_entropy, np.array([[0, 2.0, -1]]), "1 targets are negative"),
    (jaxbp.squared_error, np.array([[0, np.nan, 1]]), "1 of 3 values of y are not finite"),
    (jaxbp.binary_cross_entropy, np.array([[0, 2.0, 1]]), r"1 targets are outside \[0, 1\]"),
    (jaxbp.perceptron, np.array([[0, 1.0, -1]]), "1 targets are neither −1 nor \\+1"),
]


@pytest.mark.parametrize(("loss", "y", "message"), COMPLAINTS)
def test_values_that_cannot_be_learned_from_are_complained_about(loss, y, message):
    assert re.search(message, loss.complaint_about(y, shape=(3,)))


@pytest.mark.parametrize("loss", TARGETS, ids=repr)
def test_good_targets_give_no_complaint(loss):
    assert loss.complaint_about(TARGETS[loss], shape=(3,)) is None


def test_a_loss_of_the_wrong_shape_is_refused():
    net = jaxbp.layered([3, 2], hidden=(), output=jaxbp.linear)
    params = params_of(net)
    x, y = jnp.ones((5, 3)), jnp.ones((5, 2))
    scalar = jaxbp.Loss(lambda o, y: jnp.sum((o - y) ** 2), lambda o, y: 2 * (o - y), name="total")
    with pytest.raises(ValueError, match=r"value of loss 'total' has shape \(\) .* expected \(5,\): sum it over the"):
        jaxbp.backprop(net, scalar, params, x, y)
    summed = jaxbp.Loss(lambda o, y: jnp.sum(o - y, -1), lambda o, y: jnp.ones(o.shape[:-1]), name="summed")
    with pytest.raises(ValueError, match=r"gradient of loss 'summed' has shape \(5,\) for an output of shape \(5, 2\)"):
        jaxbp.backprop(net, summed, params, x, y)


# Weights: of the batch shape, or that of the rows of the output.

ROWS = jaxbp.Network({"x": (3, 2)}, {"o": jaxbp.Unit((3, 2), jaxbp.linear, {"x": jaxbp.Dense()}, bias=False)})
OUTPUTS = {
    jaxbp.squared_error: jaxbp.linear,
    jaxbp.cross_entropy: jaxbp.softmax,
    jaxbp.binary_cross_entropy: jaxbp.sigmoid,
    jaxbp.perceptron: jaxbp.linear,
    jaxbp.unfused(jaxbp.cross_entropy): jaxbp.softmax,
    jaxbp.Loss(  # 0 is no target for it
        lambda o, y: jnp.sum(y * (jnp.log(y) - o), axis=-1), lambda o, y: -y, name="divergence"
    ): jaxbp.linear,
}
KINDS = [
    pytest.param(loss, kind, id=f"{loss}-{kind}-{i}")
    for i, loss in enumerate(OUTPUTS)
    for kind in (["rows"] if loss.encode is None else ["rows", "ids"])
]
X = jax.device_put(RNG.normal(size=(4, 3, 2)))
BY_ROW = RNG.uniform(0.5, 2, (4, 3))
BY_ROW[[0, 2, 2, 2], [1, 0, 1, 2]] = 0
PARAMS = {"o": {"x": jax.device_put(RNG.normal(size=(2, 2)))}}


@pytest.mark.parametrize(("loss", "kind"), KINDS)
def test_weights_by_row_make_means_and_sums_of_rows_and_what_weighs_nothing_counts_nothing(loss, kind):
    net = jaxbp.Network(ROWS.inputs, {"o": dataclasses.replace(ROWS.units["o"], activation=OUTPUTS[loss])})

    @jax.jit
    def all_of(y, w):
        found = {}
        for reduction in ("mean", "sum"):
            plain = jax.value_and_grad(jaxbp.objective(net, loss, reduction))
            found[reduction] = (jaxbp.value_and_grad(net, loss, reduction)(PARAMS, X, y, w), plain(PARAMS, X, y, w))
        return found

    @jax.jit
    def by_hand(y, w):
        def total(params):
            o = jaxbp.apply(net, params, X)
            return jnp.sum(w * loss.value(o, loss.targets(o, y)))

        return jax.value_and_grad(total)(PARAMS)

    y = RNG.integers(0, 2, (4, 3)) if kind == "ids" else RNG.uniform(0.1, 1, (4, 3, 2))
    found, total = all_of(y, BY_ROW), by_hand(y, BY_ROW)
    for ours in found["sum"]:
        chex.assert_trees_all_close(ours, total, rtol=1e-12)
    for ours in found["mean"]:
        chex.assert_trees_all_close(ours, jax.tree.map(lambda v: v / jnp.sum(BY_ROW), total), rtol=1e-12)
    nothing = np.asarray(BY_ROW) == 0
    for bad in (-100, 2, 10**9) if kind == "ids" else (np.nan, np.inf, -1.0, 0.0):
        spoilt = np.array(y)
        spoilt[nothing] = bad
        chex.assert_trees_all_close(all_of(spoilt, BY_ROW), found, rtol=1e-15)
        if kind == "ids":
            spoilt[1, 1] = bad  # which counts
            assert all(np.isnan(leaf).any() for leaf in jax.tree.leaves(all_of(spoilt, BY_ROW)))


def test_what_is_0_by_row_is_what_is_0_by_example():
    """Weights of the batch shape leave the sum over the rows of an example, and 0 counts nothing there too."""
    y, w = jnp.array([[0, 1, 1], [-100, 5, -1], [1, 1, 0], [0, 0, 1]]), jnp.array([1.0, 0.0, 0.5, 2.0])
    net = jaxbp.Network(ROWS.inputs, {"o": dataclasses.replace(ROWS.units["o"], activation=jaxbp.softmax)})
    by_row = jnp.broadcast_to(w[:, None], (4, 3))

    @jax.jit
    def values(w):
        return [jaxbp.objective(net, jaxbp.cross_entropy, r)(PARAMS, X, y, w) for r in ("sum", "mean")]

    (total, mean), (same, over_rows) = values(w), values(by_row)
    np.testing.assert_allclose([same, 3 * over_rows], [total, mean], rtol=1e-14)


def test_weights_of_neither_shape_are_refused():
    for shape in ((3,), (4, 2), (4, 3, 2), (4, 1), ()):
        with pytest.raises(
            ValueError, match=r"expected the batch shape \(4,\): .*, or \(4, 3\): one for each row of the"
        ):
            jaxbp.value_and_grad(ROWS, jaxbp.squared_error)(PARAMS, X, jnp.zeros((4, 3, 2)), jnp.ones(shape))


UNCOUNTED = [
    (jaxbp.cross_entropy, np.array([[0, 3, 1], [-100, 0, 7]]), [[1.0, 0, 1], [0, 1, 0]], None),
    (jaxbp.cross_entropy, np.array([[0, 3, 1], [-100, 0, 7]]), [1.0, 0], r"class id 3 at \[0, 1\] .* 1 of 6 are"),
    (jaxbp.cross_entropy, np.array([[0, 3, 1], [-100, 0, 7]]), [[1.0, 0, 1], [2, 1, 0]], r"class id -100 at \[1, 0\]"),
    (jaxbp.squared_error, np.array([[[1.0], [np.nan]]]), [[1.0, 0.0]], None),
    (jaxbp.squared_error, np.array([[[1.0], [np.nan]]]), [[0.0, 1.0]], "whose weight is not 0: 1 of 1 values of y"),
    (jaxbp.cross_entropy, np.array([[[0.5, 0.5], [0, 0]], [[0, 0], [-1, 2]]]), [[1.0, 0.0], [0, 0]], None),
    (jaxbp.cross_entropy, np.array([[0.5, 0.5], [-1, 2]]), [0.0, 1.0], "not 0: 1 targets are negative"),
]


@pytest.mark.parametrize(("loss", "y", "weights", "message"), UNCOUNTED)
def test_only_targets_that_count_are_complained_about(loss, y, weights, message):
    ids = np.issubdtype(y.dtype, np.integer)
    complaint = loss.complaint_about(y, (3, 3) if ids else y.shape[1:], np.array(weights))
    assert complaint is None if message is None else re.search(message, complaint)


def test_a_gradient_does_not_depend_on_what_xla_computes_twice():
    """With logits of sums that it fuses into both sides of a comparison with their largest: 4.5 in place of −0.15."""

    def joined(*sources):
        return jnp.concatenate(sources, axis=-1)

    def back(inputs, a, delta):
        return (delta,)

    units = {
        "h0": jaxbp.function_unit(joined, ("x0",), 1, pullback=back),
        "h1": jaxbp.function_unit(joined, ("x0",), 1, pullback=back, activation=jaxbp.sigmoid),
        "o": jaxbp.Unit(2, jaxbp.softmax, {"x1": jaxbp.Dense(), "h0": jaxbp.Dense(), "h1": jaxbp.Dense()}, bias=False),
    }
    net = jaxbp.Network({"x0": 1, "x1": 1}, units)
    case = Case("found by drawing graphs", net, jaxbp.cross_entropy, (1,), "ids")

    @jax.jit
    def both(params, x, y):
        back = jaxbp.backprop(net, case.loss, params, x, y)
        return (back.value, back.grads, back.Delta, back.delta), autodiff(case, params, x, y, None, jax.random.key(0))

    for scale in np.linspace(0.5, 2.0, 8):
        params, x, y, _ = case.arguments(jnp.float64)
        assert relative_error(*both(jax.tree.map(lambda W, s=scale: s * W, params), x, y)) <= 1e-12
