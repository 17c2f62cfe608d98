"""Dropout: noise at a unit, with its own pull-back, by key, off at evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import params_of
from reference import relative_error

import jaxbp

NET = jaxbp.Network(
    inputs={"x": 4},
    units={
        "h1": jaxbp.Unit(6, jaxbp.sigmoid, {"x": jaxbp.Dense()}, dropout=0.5),
        "h2": jaxbp.Unit(6, jaxbp.softmax, {"h1": jaxbp.Dense()}, dropout=0.25),
        "o": jaxbp.Unit(3, jaxbp.softmax, {"h2": jaxbp.Dense(), "h1": jaxbp.Dense()}),
    },
)
PARAMS = params_of(NET)
X, Y = jax.random.normal(jax.random.key(1), (5, 4)), jnp.array([0, 1, 2, 1, 0])
KEY = jax.random.key(2)


def plain(params, x, key):
    """The same by hand, from the noise of the trace alone."""
    noise = jaxbp.forward(NET, params, x, key=key).noise
    h1 = jax.nn.sigmoid(x @ params["h1"]["x"] + params["h1"]["bias"][None]) * noise["h1"]
    h2 = jax.nn.softmax(h1 @ params["h2"]["h1"] + params["h2"]["bias"][None]) * noise["h2"]
    logits = h2 @ params["o"]["h2"] + h1 @ params["o"]["h1"] + params["o"]["bias"][None]
    return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(5), Y])


def test_gradient_is_that_of_the_same_noise():
    explicit = jaxbp.value_and_grad(NET, jaxbp.cross_entropy)

    @jax.jit
    def both(params, x, key):
        return explicit(params, x, Y, key=key), jax.value_and_grad(plain)(params, x, jax.lax.stop_gradient(key))

    assert relative_error(*both(PARAMS, X, KEY)) <= 1e-12


def test_objective_with_the_same_key_is_what_is_differentiated():
    value = jaxbp.objective(NET, jaxbp.cross_entropy)
    found = jax.jit(jaxbp.value_and_grad(NET, jaxbp.cross_entropy))(PARAMS, X, Y, key=KEY)
    true = jax.jit(jax.value_and_grad(lambda params: value(params, X, Y, key=KEY)))(PARAMS)
    assert relative_error(found, true) <= 1e-12


def test_noise_keeps_its_share_and_its_mean_and_depends_on_key_and_unit():
    wide = jaxbp.Network(
        inputs={"x": 4},
        units={
            "h1": jaxbp.Unit(4000, jaxbp.linear, {"x": jaxbp.Dense()}, dropout=0.25),
            "h2": jaxbp.Unit(4000, jaxbp.linear, {"x": jaxbp.Dense()}, dropout=0.25),
            "o": jaxbp.Unit(1, jaxbp.linear, {"h1": jaxbp.Dense(), "h2": jaxbp.Dense()}),
        },
    )
    params = params_of(wide)
    noise = jaxbp.forward(wide, params, X, key=KEY).noise
    first = np.asarray(noise["h1"])
    assert set(np.unique(first)) == {0.0, 1 / 0.75}
    deviation = np.sqrt(0.25 * 0.75 / first.size)
    assert abs(np.mean(first == 0) - 0.25) < 4 * deviation
    assert np.mean(first != np.asarray(noise["h2"])) > 0.3
    assert np.any(first != np.asarray(jaxbp.forward(wide, params, X, key=jax.random.key(3)).noise["h1"]))


def test_there_is_none_without_a_key():
    trace = jax.jit(jaxbp.forward, static_argnums=0)(NET, PARAMS, X)
    assert trace.noise is None
    h1 = jax.nn.sigmoid(X @ PARAMS["h1"]["x"] + PARAMS["h1"]["bias"][None])
    np.testing.assert_allclose(trace.h["h1"], h1, rtol=1e-12)


def test_training_draws_fresh_noise_in_every_step():
    x, y = jnp.tile(X, (4, 1)), jnp.tile(Y, 4)
    state = jaxbp.train.init_state(KEY, NET, optax.set_to_zero())
    arguments = {"gradient": jaxbp.value_and_grad(NET, jaxbp.cross_entropy), "optimizer": optax.set_to_zero()}
    _, steps = jaxbp.train.epoch(state, x, y, batch_size=20, keyed=True, **arguments)
    state = jaxbp.train.init_state(jax.random.key(5), NET, optax.set_to_zero())
    _, again = jaxbp.train.epoch(state, x, y, batch_size=10, keyed=True, **arguments)
    assert len({float(loss) for loss in (*steps.loss, *again.loss)}) == 3
    fitted = jaxbp.train.fit(NET, jaxbp.cross_entropy, X, Y, epochs=2)
    assert np.isfinite(fitted.history[-1]["loss"])


def test_the_same_noise_reaches_curvature_and_angles():
    v = jax.tree.map(np.cos, PARAMS)
    value = jaxbp.objective(NET, jaxbp.cross_entropy)

    @jax.jit
    def both(params):
        found = jaxbp.curvature.hessian_vector_product(NET, jaxbp.cross_entropy, params, X, Y, v, key=KEY)
        gradient = jax.grad(lambda params: value(params, X, Y, key=KEY))
        return found, jax.jvp(gradient, (params,), (v,))[1]

    assert relative_error(*both(PARAMS)) <= 1e-10
    angles_of = jax.jit(jaxbp.feedback.alignment_angles, static_argnums=(0, 1))
    angles = angles_of(NET, jaxbp.cross_entropy, PARAMS, PARAMS, X, Y, key=KEY)
    assert max(angles.values()) < 1e-5


def test_bad_input_is_refused_by_name():
    with pytest.raises(ValueError, match="as_function has no key for the noise of 'h1', 'h2'"):
        jaxbp.as_function(NET)
    with pytest.raises(ValueError, match="units 'h1', 'h2' have dropout"):
        jaxbp.curvature.ggn_vector_product(NET, jaxbp.cross_entropy, PARAMS, X, Y, PARAMS)
    with pytest.raises(ValueError, match="units 'h1', 'h2' have dropout, so what is to be differentiated needs key="):
        jaxbp.backprop(NET, jaxbp.cross_entropy, PARAMS, X, Y)
    with pytest.raises(ValueError, match="a unit's dropout must be at least 0 and below 1, got 1"):
        jaxbp.Unit(2, jaxbp.relu, {"x": jaxbp.Dense()}, dropout=1)
    with pytest.raises(ValueError, match="the output 'o' has dropout"):
        jaxbp.Network(inputs={"x": 2}, units={"o": jaxbp.Unit(2, jaxbp.relu, {"x": jaxbp.Dense()}, dropout=0.1)})
