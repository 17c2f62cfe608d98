"""`collect.statistics`: norms of signals, what is dead or saturated, and where a value went wrong first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import params_of

import jaxbp
from jaxbp import collect

NET = jaxbp.Network(
    inputs={"x": 2},
    units={
        "r": jaxbp.Unit(4, jaxbp.relu, {"x": jaxbp.Dense()}),
        "s": jaxbp.Unit(3, jaxbp.sigmoid, {"r": jaxbp.Dense()}),
        "p": jaxbp.Unit(3, jaxbp.softmax, {"s": jaxbp.Dense()}),
        "o": jaxbp.Unit(1, jaxbp.linear, {"p": jaxbp.Dense()}),
    },
)
PARAMS = params_of(NET)
X, Y = jax.random.normal(jax.random.key(1), (6, 2)), jnp.ones((6, 1))


@jax.jit
def back_of(params, x=X):
    return jaxbp.backprop(NET, jaxbp.squared_error, params, x, Y, collect={"it": collect.statistics()})


def statistics(params, x=X):
    return back_of(params, x).collected["it"]


def with_bias(unit, bias):
    return PARAMS | {unit: PARAMS[unit] | {"bias": jnp.asarray(bias)}}


def test_norms_are_those_of_the_signals():
    back = back_of(PARAMS)
    for u, of_unit in back.collected["it"].units.items():
        np.testing.assert_allclose(of_unit.delta_norm, np.linalg.norm(back.delta[u]), rtol=1e-12)
        np.testing.assert_allclose(of_unit.Delta_norm, np.linalg.norm(back.Delta[u]), rtol=1e-12)
    assert back.collected["it"].order == ("r", "s", "p", "o")


def test_an_element_is_dead_when_no_example_reaches_it():
    found = statistics(with_bias("r", [0.0, -100.0, 0.0, -100.0]))
    a = back_of(with_bias("r", [0.0, -100.0, 0.0, -100.0])).trace.a["r"]
    assert np.any(a[:, 0] > 0)
    assert np.any(a[:, 2] > 0)
    assert found.units["r"].dead == 0.5
    np.testing.assert_allclose(found.units["r"].saturated, np.mean(a <= 0), rtol=1e-12)
    assert found.units["s"].dead == 0


def test_an_element_is_saturated_where_its_slope_has_gone():
    found = statistics(with_bias("s", [50.0, -50.0, 0.0]))
    np.testing.assert_allclose(found.units["s"].saturated, 2 / 3, rtol=1e-12)
    assert statistics(PARAMS).units["s"].saturated == 0
    at_99 = with_bias("s", [jnp.log(99.0)] * 3)  # with x = 0 all that s gets: Φ' = 0.0099
    assert statistics(at_99, 0 * X).units["s"].saturated == 1
    collector = {"it": collect.statistics(flat=0.0098)}

    @jax.jit
    def flatter(params, x):
        return jaxbp.backprop(NET, jaxbp.squared_error, params, x, Y, collect=collector)

    back = flatter(at_99, 0 * X)
    assert back.collected["it"].units["s"].saturated == 0


def test_a_vector_activation_has_no_slope_of_its_own():
    of_softmax = statistics(PARAMS).units["p"]
    assert of_softmax.dead is None
    assert of_softmax.saturated is None


@pytest.mark.parametrize(
    ("params", "x", "name"),
    [
        (PARAMS, X, None),
        (PARAMS, X.at[2, 0].set(jnp.nan), "a.r"),
        (with_bias("s", [jnp.inf, jnp.nan, 0.0]), X, "a.s"),
        (with_bias("s", [jnp.inf, 0.0, 0.0]), X, "a.s"),
        (with_bias("o", [jnp.inf]), X, "a.o"),
        # the forward phase is finite, but δ_o Wᵀ is not
        (PARAMS | {"o": {"p": 1e300 * PARAMS["o"]["p"], "bias": jnp.array([1e300])}}, X, "Delta.p"),
    ],
)
def test_the_first_quantity_that_is_not_finite_is_named(params, x, name):
    assert statistics(params, x).first_non_finite == name
