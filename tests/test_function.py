"""`as_function`: a network as a layer of somebody else's model, differentiated by our sweep."""

import chex
import jax
import jax.numpy as jnp
import pytest
from cases import case_named
from reference import relative_error

import jaxbp

NAMES = ("softmax, ids", "no batch axis", "two batch axes", "two inputs", "softmax inside", "sequence")
SOME = [pytest.param(case_named(name), id=name) for name in NAMES]


def model(f):
    """Something of somebody else's around the network, below and above it."""

    def value(params, x):
        o = f(params["net"], jax.tree.map(lambda v: jnp.sin(v) * params["gain"], x))
        return jnp.sum(jnp.cos(jnp.arange(o.size, dtype=o.dtype)).reshape(o.shape) * o**2)

    return value


def both(case):
    params, x, _, _ = case.arguments(jnp.float64)
    ours, theirs = model(jaxbp.as_function(case.net)), model(lambda params, x: jaxbp.apply(case.net, params, x))
    return ours, theirs, {"net": params, "gain": jnp.array(1.3)}, x


@pytest.mark.parametrize("case", SOME)
def test_gradients_of_the_whole_model(case):
    ours, theirs, params, x = both(case)
    found, true = (jax.jit(jax.value_and_grad(f, argnums=(0, 1)))(params, x) for f in (ours, theirs))
    chex.assert_trees_all_equal_shapes_and_dtypes(found, true)
    assert relative_error(found, true) <= 1e-12


def test_its_backward_pass_is_ours(monkeypatch):
    """A pull-back that is off must show, or the test above compared jax.grad with itself."""
    ours, theirs, params, x = both(case_named("softmax, ids"))
    pull_back = jaxbp.Dense.pull_back
    monkeypatch.setattr(jaxbp.Dense, "pull_back", lambda self, W, h, delta: 2 * pull_back(self, W, h, delta))
    assert relative_error(jax.grad(ours)(params, x), jax.grad(theirs)(params, x)) > 0.1


def test_second_derivatives_vmap_scan_and_checkpoint():
    ours, theirs, params, x = both(case_named("softmax, ids"))

    def further(f):
        def penalty(params, x):
            return sum(jnp.sum(g**2) for g in jax.tree.leaves(jax.grad(jax.checkpoint(f))(params, x)))

        def descend(params, _):
            return jax.tree.map(lambda W, g: W - 0.01 * g, params, jax.grad(f)(params, x)), None

        each = jax.vmap(jax.grad(f), in_axes=(None, 0))(params, x)
        return jax.grad(penalty)(params, x), each, jax.lax.scan(descend, params, length=3)[0]

    assert relative_error(*(jax.jit(further, static_argnums=0)(f) for f in (ours, theirs))) <= 1e-11


def test_cotangents_have_the_types_of_what_they_belong_to():
    case = case_named("residual")
    params, x, _, _ = case.arguments(jnp.bfloat16)
    f = jaxbp.as_function(case.net)
    grads = jax.grad(lambda params, x: jnp.sum(f(params, x)), argnums=(0, 1))(params, x.astype(jnp.float32))
    chex.assert_trees_all_equal_shapes_and_dtypes(grads, (params, x.astype(jnp.float32)))


def test_equal_networks_give_the_same_function():
    assert jaxbp.as_function(jaxbp.layered([2, 1], output=jaxbp.linear)) is jaxbp.as_function(
        jaxbp.layered([2, 1], output=jaxbp.linear)
    )


def test_bad_input_is_refused_as_by_forward():
    f = jaxbp.as_function(jaxbp.layered([2, 1], output=jaxbp.linear))
    with pytest.raises(ValueError, match="params holds the units"):
        f({}, jnp.ones(2))
