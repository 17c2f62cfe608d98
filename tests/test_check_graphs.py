"""The checker on graphs that are no plain sums: shared weights, functions, attention, dropout."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import BLOCK, params_of, swept
from wrong_networks import example, gate_pullback, gated
from wrong_passes import gradients, wrong_passes

import jaxbp
from jaxbp import Dense, Network, Transposed, Unit, check
from jaxbp._check._catalogue import CATALOGUE

ENCODER = Dense(share="W")
TIED = Network(
    inputs={"x": 4},
    units={
        "code": Unit(2, jaxbp.tanh, {"x": ENCODER}),
        "o": Unit(4, jaxbp.linear, {"code": Transposed(ENCODER)}),
    },
)
ROWS = (3, 4)
SMALL_BLOCK = Network(
    inputs={"x": ROWS},
    units={
        **{name: Unit(ROWS, jaxbp.linear, {"x": Dense()}, bias=False) for name in ("q", "k", "v")},
        "mix": jaxbp.attention("q", "k", "v", ROWS, heads=2, causal=True),
        "up": Unit(ROWS, jaxbp.tanh, {"mix": Dense(), "x": jaxbp.Identity()}),
        "o": Unit((3, 2), jaxbp.softmax, {"up": Dense()}),
    },
)


def autoencoding():
    """The arguments of check, and the two parts of the gradient of the shared weight."""
    params = params_of(TIED)
    x = np.random.default_rng(1).normal(size=(5, 4))
    back = swept(TIED, jaxbp.squared_error, params, x, x)
    parts = x.T @ back.delta["code"], back.delta["o"].T @ back.trace.h["code"]
    return (TIED, jaxbp.squared_error, params, x, x), back.grads, parts


def test_a_use_that_is_left_out_is_named_with_the_right_sum():
    arguments, grads, (encoder, _) = autoencoding()
    report = check(*arguments, {**grads, "shared": {"W": encoder}})
    assert report.first_wrong == "grad.shared.W"
    assert report.where.endswith(
        "grad.code.bias is right, grad.shared.W is wrong: look at the step from delta.o and delta.code to grad.shared.W"
    )
    assert report.explanations == [
        jaxbp.Mistake(
            "use-left-out",
            ("o",),
            "the use from code to o is left out: grad.shared.W = h.xᵀ delta.code + delta.oᵀ h.code",
        )
    ]


def test_without_the_biases_the_step_may_have_been_before():
    arguments, grads, (encoder, decoder) = autoencoding()
    report = check(*arguments, {"grad.o.bias": grads["o"]["bias"], "grad.shared.W": encoder + 2 * decoder})
    assert report.where.endswith("from delta.o and delta.code to grad.shared.W, or those to delta.code before it")
    assert report.explanations[0].slug == "use-twice"


def test_gradients_by_use_are_refused_by_name():
    arguments, grads, (encoder, decoder) = autoencoding()
    with pytest.raises(ValueError, match="the gradients hold no 'shared'; expected 'code', 'o', 'shared'"):
        check(*arguments, {"code": {**grads["code"], "x": encoder}, "o": {**grads["o"], "code": decoder}})


@pytest.mark.slow
def test_two_uses_of_three_are_left_out():
    net = Network(
        inputs={"x": 3},
        units={
            "h1": Unit(3, jaxbp.tanh, {"x": ENCODER}),
            "h2": Unit(3, jaxbp.tanh, {"h1": ENCODER}),
            "o": Unit(3, jaxbp.linear, {"h2": ENCODER}),
        },
    )
    params = params_of(net)
    x, y = np.random.default_rng(1).normal(size=(2, 5, 3))
    back = swept(net, jaxbp.squared_error, params, x, y)
    mine = {**back.grads, "shared": {"W": x.T @ back.delta["h1"]}}  # as by grads["W"] = … where += is meant
    (mistake,) = check(net, jaxbp.squared_error, params, x, y, mine).explanations
    assert mistake.text.startswith("the uses from h1 to h2 and from h2 to o are left out: grad.shared.W = ")


def test_the_table_can_fail(monkeypatch):
    """Without its catalogue the checker locates, and names nothing."""
    without = [entry for entry in CATALOGUE if entry.stage not in ("use", "gradient")]
    monkeypatch.setattr("jaxbp._check._walks.entries", lambda stage: [e for e in without if e.stage == stage])
    arguments, grads, (encoder, _) = autoencoding()
    report = check(*arguments, {**grads, "shared": {"W": encoder}})
    assert report.first_wrong == "grad.shared.W"
    assert report.alternatives == ()


# Functions.


@cache
def block(net, dtype=jnp.float64):
    """A block with random parameters, a batch and the gradients by the sweep, which has the unit's own pull-back."""
    shapes = {u: net.weight_shapes[u] for u in net.units}
    rng = np.random.default_rng(0)
    params = {u: {s: rng.normal(size=n) * n[0] ** -0.5 for s, n in of_u.items()} for u, of_u in shapes.items()}
    x, y = rng.normal(size=(2, *net.shapes["x"])), rng.integers(0, net.shapes["o"][-1], size=(2, net.shapes["o"][0]))
    params, x = jax.tree.map(lambda array: jnp.asarray(array, dtype), (params, x))
    return params, x, y, jax.jit(jaxbp.value_and_grad(net, jaxbp.cross_entropy))(params, x, y)[1]


def pulling_back(net, u, change):
    """The network with what a unit sends back changed."""
    rule = net.units[u].rule

    def wrong(inputs, a, delta):
        return change(*rule(inputs, a, delta), delta)

    return replace(net, units={**net.units, u: replace(net.units[u], rule=wrong)})


def _negate_keys(query, key, value, delta):
    return query, -key, value


def _forget_the_scale(query, key, value, delta):
    return jnp.sqrt(2.0) * query, jnp.sqrt(2.0) * key, value  # two heads of a width of 2


def _forget_the_weights(query, key, value, delta):
    return query, key, delta


def _swap(query, key, value, delta):
    return key, query, value


def _something_else(query, key, value, delta):
    return query, key, value + jnp.sin(delta)


@pytest.mark.parametrize(
    ("change", "first", "slugs"),
    [
        (_forget_the_scale, "grad.k.x", {"missing-scale"}),
        (_something_else, "grad.v.x", set()),
        pytest.param(_negate_keys, "grad.k.x", {"sign"}, marks=pytest.mark.slow),
        pytest.param(_forget_the_weights, "grad.v.x", {"missing-derivative"}, marks=pytest.mark.slow),
        pytest.param(_swap, "grad.k.x", {"signal-of-other-source"}, marks=pytest.mark.slow),
    ],
)
def test_a_mistake_in_attention_is_located_and_named_or_not(change, first, slugs):
    *_, mine = block(pulling_back(SMALL_BLOCK, "mix", change))
    params, x, y, _ = block(SMALL_BLOCK)
    report = check(SMALL_BLOCK, jaxbp.cross_entropy, params, x, y, mine)
    assert report.verdict == "wrong"
    assert report.first_wrong in (first, "grad.q.x")
    assert {mistake.slug for mistake in report.explanations} == slugs


@pytest.mark.parametrize("dtype", [jnp.float64, pytest.param(jnp.bfloat16, marks=pytest.mark.slow)])
def test_a_right_gradient_of_attention_is_right(dtype):
    params, x, y, right = block(SMALL_BLOCK, dtype)
    assert check(SMALL_BLOCK, jaxbp.cross_entropy, params, x, y, right).ok


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16])
def test_a_transformer_block(dtype):
    params, x, y, right = block(BLOCK, dtype)
    assert check(BLOCK, jaxbp.cross_entropy, params, x, y, right).ok
    *_, wrong = block(pulling_back(BLOCK, "mix", _negate_keys), dtype)
    report = check(BLOCK, jaxbp.cross_entropy, params, x, y, wrong)
    assert report.first_wrong == "grad.k.g1"
    assert report.explanations[0].slug == "sign"


def test_a_pull_back_by_hand_that_is_wrong_is_named():
    """Handed in is what the library makes of it; the reference knows nothing of it."""

    def wrong(inputs, a, delta):
        of_value, of_switch = gate_pullback(inputs, a, delta)
        return of_value, of_switch / 2  # the 2 of the square

    net = gated(wrong)
    problem = example("gated, by hand", 0)
    given = net, jaxbp.squared_error, problem.params, problem.x["x"], problem.y
    report = check(*given, swept(*given).grads)
    assert report.first_wrong == "grad.switch.x"
    assert report.explanations[0].slug == "wrong-pull-back"
    assert report.explanations[0].text.startswith("the pull-back of gate is not that of autodiff, in what it sends to ")


def test_dropout_is_left_out_and_the_report_says_so():
    problem = example("sigmoid layer", 0)
    hidden = replace(problem.net.units["h1"], dropout=0.5)
    net = replace(problem.net, units={**problem.net.units, "h1": hidden})
    wrong = next(wrong for wrong in wrong_passes(problem) if wrong.slug == "missing-gradient")
    report = check(net, problem.loss, problem.params, problem.x, problem.y, gradients(wrong))
    assert report.explanations[0].slug == "missing-gradient"
    assert report.notes == (
        "the dropout of 'h1' is left out here: for a gradient with noise in it hand in its key too",
    )
