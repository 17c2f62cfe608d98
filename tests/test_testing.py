"""The assertions for other people's tests: silent where a gradient is right, and else a failure that says why."""

import importlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import params_of

import jaxbp

NET = jaxbp.layered([3, 2], output=jaxbp.softmax)
PARAMS = params_of(NET)
X, Y = np.array([[1.0, 2.0, 0.5], [0.3, 1.0, -1.0]]), np.array([0, 1])


def backward(params, x, y, transposed=False):
    o = jax.nn.softmax(x @ params["o"]["x"] + params["o"]["bias"][None])
    delta = (o - jax.nn.one_hot(y, 2)) / len(x)
    grad = x.T @ delta
    return {"o": {"x": grad.T if transposed else grad, "bias": delta.sum(0)}}


def square(params):
    return jnp.sum(params["w"] ** 2)


def test_a_right_gradient_passes_and_the_report_comes_back():
    report = jaxbp.testing.assert_gradients_match(NET, jaxbp.cross_entropy, PARAMS, X, Y, backward)
    assert report == jaxbp.check(NET, jaxbp.cross_entropy, PARAMS, X, Y, backward)
    assert report.verdict == "right"
    w = {"w": jnp.asarray([1.5, -0.25])}
    assert jaxbp.testing.assert_function_gradients_match(square, w, {"w": [3.0, -0.5]}).verdict == "right"


def test_rounding_and_corners_pass():
    w = jnp.asarray([1.5, 0.0])
    assert jaxbp.testing.assert_function_gradients_match(lambda p: jnp.sum(jax.nn.relu(p)), w, [1.0, 1.0]).ok
    third = {"w": jnp.asarray([1 / 3, -0.25])}
    assert jaxbp.testing.assert_function_gradients_match(square, third, {"w": [0.667, -0.5]}).verdict == "precision"


def test_a_wrong_gradient_fails_with_the_report_as_the_message():
    def mine(params, x, y):
        return backward(params, x, y, transposed=True)

    with pytest.raises(AssertionError) as failure:
        jaxbp.testing.assert_gradients_match(NET, jaxbp.cross_entropy, PARAMS, X, Y, mine)
    assert str(failure.value) == str(jaxbp.check(NET, jaxbp.cross_entropy, PARAMS, X, Y, mine))
    assert "grad.o.x" in str(failure.value)

    w = {"w": jnp.asarray([1.5, -0.25])}
    with pytest.raises(AssertionError) as failure:
        jaxbp.testing.assert_function_gradients_match(square, w, {"w": [-3.0, 0.5]})
    assert str(failure.value) == str(jaxbp.check_function(square, w, {"w": [-3.0, 0.5]}))
    assert "the gradient of w is negated" in str(failure.value)


def test_what_is_malformed_is_an_error_and_no_failed_assertion():
    with pytest.raises(ValueError, match="holds no 'w'"):
        jaxbp.testing.assert_function_gradients_match(square, {"w": jnp.ones(2)}, {})
    with pytest.raises(ValueError, match="'o'"):
        jaxbp.testing.assert_gradients_match(NET, jaxbp.cross_entropy, PARAMS, X, Y, {"p": {}})


def test_pytest_need_not_be_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytest", None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "jaxbp"]:
        monkeypatch.delitem(sys.modules, name)
    assert importlib.import_module("jaxbp.testing") is not jaxbp.testing
