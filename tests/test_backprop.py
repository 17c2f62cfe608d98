"""The explicit sweep against jax.grad and central differences, over the whole table."""

from dataclasses import replace
from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, SKIP, Case, case_named, params_of, swept
from reference import autodiff, central_differences, relative_error

import jaxbp

TOLERANCE = {jnp.float64: 1e-12, jnp.float32: 1e-5}
SMALL = [
    pytest.param(*p.values, id=p.id, marks=[*p.marks, *([pytest.mark.slow] if i % 4 else [])])
    for i, p in enumerate(p for p in CASES if p.values[0].small)
]


def explicit(case: Case, params, x, y, weights) -> jaxbp.Backprop:
    return jaxbp.backprop(case.net, case.loss, params, x, y, weights=weights, reduction=case.reduction)


@cache
def truth(case: Case):
    """value, grads, Delta and delta by jax.grad in float64."""
    return jax.jit(autodiff, static_argnums=0)(case, *case.arguments(jnp.float64))


def worst_error(case: Case, dtype, sweep=explicit) -> float:
    """The comparison every test here makes: gradients, Δ and δ against jax.grad, per-leaf relative norm."""
    back = jax.jit(sweep, static_argnums=0)(case, *case.arguments(dtype))
    ours = (back.value, back.grads, back.Delta, back.delta)
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(ours))
    return relative_error(ours, truth(case))


SINGLES = [
    pytest.param(*p.values, id=p.id, marks=[*p.marks, *([pytest.mark.slow] if i % 4 else [])])
    for i, p in enumerate(CASES)
]


@pytest.mark.parametrize("case", CASES)
def test_gradients_and_signals_equal_jax_grad(case):
    assert worst_error(case, jnp.float64) <= TOLERANCE[jnp.float64]


@pytest.mark.parametrize("case", SINGLES)
def test_gradients_and_signals_equal_jax_grad_in_single_precision(case):
    assert worst_error(case, jnp.float32) <= TOLERANCE[jnp.float32]


@pytest.mark.parametrize("case", SMALL)
def test_gradients_equal_central_differences(case):
    params, x, y, weights = case.arguments(jnp.float64)
    value = jaxbp.objective(case.net, case.loss, case.reduction)
    differences = central_differences(lambda p: value(p, x, y, weights), params)
    back = jax.jit(explicit, static_argnums=0)(case, params, x, y, weights)
    chex.assert_trees_all_close(back.grads, differences, atol=1e-8, rtol=0)


HALVES = [(dtype, param) for dtype, params in ((jnp.bfloat16, CASES), (jnp.float16, CASES[::5])) for param in params]
FIRST = {param.id for param in CASES[::10]}  # the others are for make test-slow


@pytest.mark.parametrize(
    ("dtype", "case"),
    [
        pytest.param(
            d, *p.values, id=f"{d.__name__}-{p.id}", marks=[*p.marks, *([] if p.id in FIRST else [pytest.mark.slow])]
        )
        for d, p in HALVES
    ],
)
def test_half_precision_is_as_good_as_autodiff(case, dtype):
    params, *data = case.arguments(dtype)
    ours = jax.jit(explicit, static_argnums=0)(case, params, *data).grads
    theirs = jax.jit(jax.grad(jaxbp.objective(case.net, case.loss, case.reduction)))(params, *data)
    chex.assert_trees_all_equal_shapes_and_dtypes(ours, theirs)
    _, exact, _, _ = truth(case)

    def distance(tree):
        difference = jax.tree.map(lambda a, b: np.asarray(a, np.float64) - np.asarray(b), tree, exact)
        return np.sqrt(sum(np.sum(d**2) for d in jax.tree.leaves(difference)))

    assert distance(ours) <= 2 * distance(theirs)


# Each planted bug is a sweep that is wrong in one place. The comparison above must catch every one.


def _wrong_activation(case: Case, mutate) -> Case:
    """The case with another pull-back in every unit but the output."""
    units = {
        name: unit if name == case.net.output else replace(unit, activation=mutate(unit.activation))
        for name, unit in case.net.units.items()
    }
    return replace(case, net=jaxbp.Network(case.net.inputs, units))


def without_derivative(case, *arguments):
    def mutate(activation):
        return jaxbp.vector_activation(activation.value, lambda a, h, Delta: Delta)

    return explicit(_wrong_activation(case, mutate), *arguments)


def without_transpose(case, params, x, y, weights):
    feedback = jax.tree.map(lambda W: W.T if W.ndim == 2 and W.shape[0] == W.shape[1] else W, params)
    return jaxbp.backprop(
        case.net, case.loss, params, x, y, weights=weights, reduction=case.reduction, feedback=feedback
    )


def without_mean(case, params, x, y, weights):
    back = jaxbp.backprop(case.net, case.loss, params, x, y, weights=weights, reduction="sum")
    return replace(back, value=explicit(case, params, x, y, weights).value)


def with_sign(case, *arguments):
    back = explicit(case, *arguments)
    unit = case.net.order[0]
    wrong = jax.tree.map(jnp.negative, back.grads[unit])
    return replace(back, collected={"grads": back.grads | {unit: wrong}})


def without_skip_branch(case, params, x, y, weights):
    silent = {u: {s: W * (0 if (u, s) == ("o", "h1") else 1) for s, W in ws.items()} for u, ws in params.items()}
    return jaxbp.backprop(case.net, case.loss, params, x, y, weights=weights, reduction=case.reduction, feedback=silent)


_tanh = case_named("tanh")
_skip = case_named("skip connection")


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda d: d.__name__)
@pytest.mark.parametrize(
    ("case", "bug"),
    [
        (_tanh, without_derivative),
        (_tanh, without_transpose),
        (_tanh, without_mean),
        (_tanh, with_sign),
        (_skip, without_skip_branch),
    ],
)
def test_planted_bugs_are_caught(case, bug, dtype):
    assert worst_error(case, dtype) <= TOLERANCE[dtype]
    assert worst_error(case, dtype, sweep=bug) > 100 * TOLERANCE[dtype]


def test_feedback_stands_in_for_the_weights_in_the_recursion_only():
    case = _tanh
    params, x, y, _ = case.arguments(jnp.float64)
    other = jax.tree.map(lambda W: W + 1, params)
    back = swept(case.net, case.loss, params, x, y, feedback=other)
    true = swept(case.net, case.loss, params, x, y)
    chex.assert_trees_all_close(back.trace, true.trace)
    chex.assert_trees_all_close(back.delta["o"], true.delta["o"])
    chex.assert_trees_all_close(back.Delta["h2"], true.delta["o"] @ other["o"]["h2"].T, rtol=1e-12)
    chex.assert_trees_all_close(back.grads["h2"]["h1"], true.trace.h["h1"].T @ back.delta["h2"], rtol=1e-12)
    same = swept(case.net, case.loss, params, x, y, feedback=params)
    chex.assert_trees_all_equal(same, true)


def test_feedback_of_another_network_is_refused():
    params, x, y, _ = _tanh.arguments(jnp.float64)
    with pytest.raises(ValueError, match="feedback holds the units 'h1', but the network has 'h1', 'h2', 'o'"):
        jaxbp.backprop(_tanh.net, _tanh.loss, params, x, y, feedback={"h1": params["h1"]})


def test_collect_makes_several_results_of_one_sweep():
    params, x, y, _ = _skip.arguments(jnp.float64)

    def names(sweep):
        return {unit: sorted(of_unit) for unit, of_unit in sweep.weights.items()}

    collect = {"grads": jaxbp.collect.gradient, "names": names}
    back = jaxbp.backprop(SKIP, _skip.loss, params, x, y, collect=collect)
    chex.assert_trees_all_equal(back.grads, jaxbp.backprop(SKIP, _skip.loss, params, x, y).grads)
    assert back.collected["names"] == {"h1": ["bias", "x"], "h2": ["bias", "h1"], "o": ["h1", "h2", "x"]}
    without = jaxbp.backprop(SKIP, _skip.loss, params, x, y, collect={"names": names})
    with pytest.raises(AttributeError, match="no gradient was collected, only \\['names'\\]"):
        _ = without.grads


def test_every_quantity_has_its_name():
    params, x, y, _ = _skip.arguments(jnp.float64)
    quantities = swept(SKIP, _skip.loss, params, x, y).quantities()
    units, sources = ["h1", "h2", "o"], ["x", "h1", "h2", "o"]
    expected = {"loss", *(f"{k}.{u}" for k in ("a", "delta") for u in units)}
    expected |= {f"{k}.{s}" for k in ("h", "Delta") for s in sources}
    expected |= {"grad.h1.x", "grad.h1.bias", "grad.h2.h1", "grad.h2.bias", "grad.o.h2", "grad.o.h1", "grad.o.x"}
    assert set(quantities) == expected


def test_matlab_rule_of_the_question_is_our_delta():
    net = jaxbp.layered([3, 4, 2], hidden=jaxbp.sigmoid, output=jaxbp.sigmoid)
    params = params_of(net)
    x, y = jax.random.normal(jax.random.key(1), (3,)), jnp.array([0.0, 1.0])
    back = swept(net, jaxbp.squared_error, params, x, y)
    o = back.trace.h["o"]
    chex.assert_trees_all_close(back.delta["o"], (o - y) * o * (1 - o), rtol=1e-12)


def test_softmax_delta_is_o_minus_y():
    net = jaxbp.layered([3, 4, 2], hidden=jaxbp.sigmoid, output=jaxbp.softmax)
    params = params_of(net)
    x, y = jax.random.normal(jax.random.key(1), (3,)), jnp.array([0.0, 1.0])
    back = jaxbp.backprop(net, jaxbp.cross_entropy, params, x, y)
    # to the last digit but one: o − y itself rounds, and the sweep does not form it
    chex.assert_trees_all_close(back.delta["o"], back.trace.h["o"] - y, rtol=1e-15)
