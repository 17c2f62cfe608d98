"""Each activation's derivative against jax.grad of the jax.nn function, at kinks and extremes too."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbp

REFERENCE = {
    jaxbp.linear: lambda a: a,
    jaxbp.sigmoid: jax.nn.sigmoid,
    jaxbp.tanh: jnp.tanh,
    jaxbp.relu: jax.nn.relu,
    jaxbp.hard_tanh: jax.nn.hard_tanh,
    jaxbp.leaky_relu: jax.nn.leaky_relu,
    jaxbp.softplus: jax.nn.softplus,
    jaxbp.gelu: jax.nn.gelu,
    jaxbp.silu: jax.nn.silu,
}
KINKS = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e4, -1e4]
DTYPES = [jnp.float64, jnp.float32, jnp.bfloat16, jnp.float16]


def derivatives(activation, a):
    def ours(a):
        return activation.pullback(a, activation.value(a), jnp.ones_like(a))

    return ours(a), jax.jit(jax.vmap(jax.grad(REFERENCE[activation])))(a)


RUNS = [(jnp.float64, False), (jnp.bfloat16, False), *((dtype, True) for dtype in DTYPES)]


@pytest.mark.parametrize(("dtype", "compiled"), RUNS, ids=lambda v: ("eager", "jit")[v] if v in (0, 1) else v.__name__)
@pytest.mark.parametrize("activation", REFERENCE, ids=repr)
def test_derivative_at_kinks_and_extremes_is_that_of_jax_nn(activation, dtype, compiled):
    a = jax.device_put(np.array(KINKS).astype(dtype))
    function = jax.jit(derivatives, static_argnums=0) if compiled else derivatives
    ours, theirs = function(activation, a)
    assert ours.dtype == dtype
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.asarray(ours, float), np.asarray(theirs, float), rtol=8 * eps, atol=8 * eps)


@pytest.mark.parametrize("activation", REFERENCE, ids=repr)
def test_derivative_on_a_fine_grid_is_that_of_jax_nn(activation):
    ours, theirs = jax.jit(derivatives, static_argnums=0)(activation, np.linspace(-9, 9, 2001))
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_activations_and_losses_can_be_pickled():
    kinds = jaxbp.activations.Activation | jaxbp.Loss
    named = [value for value in vars(jaxbp).values() if isinstance(value, kinds)]
    assert len(named) >= 16
    assert pickle.loads(pickle.dumps(named)) == named


def test_the_facts_at_the_kinks():
    def slope(activation, a):
        a = jnp.asarray([a], float)
        return float(activation.pullback(a, activation.value(a), jnp.ones(1))[0])

    assert [slope(jaxbp.relu, a) for a in (-1, 0, 1, np.nan)] == [0, 0, 1, 0]
    assert [slope(jaxbp.hard_tanh, a) for a in (-1.5, -1, 1, 1.5, np.nan)] == [0, 1, 1, 0, 1]
    assert [slope(jaxbp.leaky_relu, a) for a in (-1, 0, 1)] == [0.01, 1, 1]


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_softmax_pullback_is_the_transposed_jacobian(batch):
    rng = np.random.default_rng(0)
    a, Delta = rng.normal(size=(2, *batch, 5))

    @jax.jit
    def both(a, Delta):
        h, vjp = jax.vjp(jax.nn.softmax, a)
        return jaxbp.softmax.pullback(a, h, Delta), vjp(Delta)[0]

    np.testing.assert_allclose(*both(a, Delta), rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("epsilon", [1e-5, 1e-6, 0.5])
@pytest.mark.parametrize("norm", [jaxbp.layer_norm, jaxbp.rms_norm], ids=repr)
def test_a_norm_with_any_epsilon_is_that_of_its_equation(norm, epsilon):
    def plain(a):
        a = a - jnp.mean(a, -1, keepdims=True) if norm is jaxbp.layer_norm else a
        return a / jnp.sqrt(jnp.mean(a**2, -1, keepdims=True) + epsilon)

    rng = np.random.default_rng(0)
    a, Delta = rng.normal(size=(2, 3, 5))
    ours = jaxbp.activations.with_epsilon(norm, epsilon)

    @jax.jit
    def both(a, Delta):
        h, vjp = jax.vjp(plain, a)
        return (ours.value(a), h), (ours.pullback(a, h, Delta), vjp(Delta)[0])

    for mine, expected in both(a, Delta):
        np.testing.assert_allclose(mine, expected, rtol=1e-12, atol=1e-14)
    assert ours == jaxbp.activations.with_epsilon(norm, epsilon)
    assert (ours == norm) == (epsilon == 1e-5)


def test_a_closed_gate_stops_an_infinite_signal():
    a, Delta = jnp.array([-1.0, 1.0]), jnp.array([jnp.inf, jnp.inf])
    np.testing.assert_array_equal(jaxbp.relu.pullback(a, jaxbp.relu.value(a), Delta), [0, np.inf])


def _square(a):
    return a * a


def _twice(a, h):
    return 2 * a


def test_equal_parts_make_equal_activations():
    assert jaxbp.elementwise(_square, _twice) == jaxbp.elementwise(_square, _twice)
    assert hash(jaxbp.elementwise(_square, _twice)) == hash(jaxbp.elementwise(_square, _twice))
    assert jaxbp.elementwise(_square, _twice) != jaxbp.elementwise(_square, _twice, name="square")
    assert repr(jaxbp.elementwise(_square, _twice, name="square")) == "square"


def test_a_derivative_that_does_not_take_a_and_h_is_refused():
    with pytest.raises(TypeError, match=r"derivative 'cos' takes .* but is called as derivative\(a, h\)"):
        jaxbp.elementwise(jnp.sin, jnp.cos)
    with pytest.raises(TypeError, match=r"pullback 'cos' takes .* but is called as pullback\(a, h, Delta\)"):
        jaxbp.vector_activation(jnp.sin, jnp.cos)


def test_a_derivative_of_another_shape_is_refused():
    def jacobian(a, h):
        return jnp.eye(a.size)

    wrong = jaxbp.elementwise(jnp.sin, jacobian)
    with pytest.raises(ValueError, match=r"derivative of activation 'sin' has shape \(3, 3\) at a of shape \(3,\)"):
        wrong.pullback(jnp.ones(3), jnp.ones(3), jnp.ones(3))


def test_each_says_what_it_computes():
    """help(…) and ? show the function, not the class that all of them are made of."""
    said = {
        "gelu": "by tanh",
        "layer_norm": "without gain",
        "rms_norm": "without gain",
        "softmax": "last axis",
        "cross_entropy": "sum over its rows",
    }
    for name, words in said.items():
        assert words in getattr(jaxbp, name).__doc__
    made = [thing for thing in vars(jaxbp).values() if isinstance(thing, jaxbp.activations.Activation | jaxbp.Loss)]
    assert len({thing.__doc__ for thing in made}) == len(made) == 16
    assert "sin" in jaxbp.elementwise(jnp.sin, lambda a, h: jnp.cos(a)).__doc__
