"""A session in float32 goes on as if nothing had run in float64: its flag, its arrays, what JAX keeps."""

import gc
import sys
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import params_of

import jaxbp
from jaxbp._check._session import compiled

pytestmark = pytest.mark.clears_what_jax_keeps

N = 4
TURN = np.random.default_rng(0).normal(size=(N, N))
PICK = np.array([2, 0, 3, 1])


@pytest.fixture(autouse=True)
def _single():
    with jax.enable_x64(False):
        yield
        assert jax.dtypes.canonicalize_dtype(float) == np.float32


def held(dtype, wrap=lambda f: f):
    """A function that holds an array of its own, so that no test inherits what JAX keeps of another's."""
    array = TURN.astype(dtype)
    inner = wrap(lambda p: jnp.tanh(p @ array))
    return lambda p: jnp.sum(inner(p))


def indexed():
    pick = PICK.copy()
    return lambda p: jnp.sum(jnp.outer(p, p)[np.arange(N), pick])


def ruled():
    array = TURN.copy()

    @jax.custom_jvp
    def square(p):
        return (p @ array) ** 2

    square.defjvp(lambda primals, tangents: (square(*primals), 2 * (primals[0] @ array) * (tangents[0] @ array)))
    return lambda p: jnp.sum(square(p))


HELD = {
    "float64": lambda: held(np.float64),
    "float32": lambda: held(np.float32),
    "inner jit": lambda: held(np.float64, jax.jit),
    "inner jit, float32": lambda: held(np.float32, jax.jit),
    "checkpoint": lambda: held(np.float64, jax.checkpoint),
    "jit": lambda: jax.jit(held(np.float64)),
    "indices": indexed,
    "rule": ruled,
}


QUICK = [("float64", False), ("rule", False), ("jit", True)]


@pytest.mark.parametrize(
    ("name", "before"),
    [
        pytest.param(name, before, marks=[] if (name, before) in QUICK else pytest.mark.slow)
        for name in HELD
        for before in (False, True)
    ],
)
def test_a_function_that_holds_a_numpy_array_works_on_in_either_precision(name, before):
    f, p = HELD[name](), jnp.asarray([0.3, -0.5, 0.7, 0.2])
    if before:
        jax.jit(f)(p)
    report = jaxbp.check_function(f, p, np.ones(N))
    assert (report.verdict, report.first_wrong) == ("wrong", "params")
    assert jaxbp.check_function(f, p, jax.grad(f)(p)).ok
    for g in (f, jax.jit(f), jax.jit(jax.grad(f))):
        assert g(p).dtype == np.float32
    with jax.enable_x64(True):
        fresh = HELD[name]()
        np.testing.assert_allclose(
            report.findings[0].expected, jax.grad(fresh)(p.astype(float))[report.findings[0].index], rtol=1e-12
        )


def network(function, activation=jaxbp.linear):
    units = {
        "h": jaxbp.Unit(N, jaxbp.tanh, {"x": jaxbp.Dense()}),
        "s": jaxbp.function_unit(function, ("h",), N, activation=activation),
        "o": jaxbp.Unit(2, jaxbp.softmax, {"s": jaxbp.Dense()}),
    }
    return jaxbp.Network({"x": 3}, units)


X, Y = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32), np.array([0, 1, 1, 0, 1])


@pytest.mark.slow
@pytest.mark.parametrize("before", [False, True])
def test_a_unit_that_holds_a_numpy_array_is_checked_before_and_after_a_float32_step(before):
    array = TURN[0].copy()
    net = network(lambda h: h * array)
    params = params_of(net)

    def gradient(params, x, y):
        return jax.jit(jaxbp.value_and_grad(net, jaxbp.cross_entropy))(params, jax.device_put(x), jax.device_put(y))[1]

    if before:
        gradient(params, X, Y)
    for _ in range(2):
        assert jaxbp.check(net, jaxbp.cross_entropy, params, X, Y, gradient).ok
        wrong = jaxbp.check(
            net, jaxbp.cross_entropy, params, X, Y, lambda *given: jax.tree.map(jnp.negative, gradient(*given))
        )
        assert [mistake.slug for mistake in wrong.explanations] == ["sign"]
        assert gradient(params, X, Y)["h"]["x"].dtype == np.float32


def holding_in_its_activation():
    turn = TURN.copy()
    return network(
        lambda h: h, jaxbp.vector_activation(lambda a: a @ turn, lambda a, h, Delta: Delta @ turn.T, name="turned")
    )


def holding_in_its_function():
    turn = TURN.copy()
    return network(lambda h: h @ turn)


@pytest.mark.parametrize(
    ("make", "before"),
    [
        pytest.param(make, before, marks=[] if make is holding_in_its_activation and before else pytest.mark.slow)
        for make in (holding_in_its_activation, holding_in_its_function)
        for before in (False, True)
    ],
)
def test_what_holds_a_numpy_array_is_explained_before_and_after_a_float32_step(make, before):
    net, claims = make(), {"d(h.s[0, 1])/d(a.h[0, 2])": "1", "delta.h[1, 3]": "Delta.h[1, 3]"}
    params = params_of(net)

    def gradient():
        return jax.jit(jaxbp.value_and_grad(net, jaxbp.cross_entropy))(params, jax.device_put(X), jnp.asarray(Y))[1]

    if before:
        gradient()
    for _ in range(2):
        work = jaxbp.explain(net, jaxbp.cross_entropy, params, X, Y, 0.1, claims)
        assert gradient()["h"]["x"].dtype == np.float32
        pages = str(work), work.markdown()
        assert gradient()["h"]["x"].dtype == np.float32
    with jax.enable_x64(True):
        work = jaxbp.explain(make(), jaxbp.cross_entropy, params, X, Y, 0.1, claims)
        assert pages == (str(work), work.markdown())


def test_what_works_in_place_changes_nothing_of_the_callers():
    net = jaxbp.layered([3, 2], output=jaxbp.linear)
    params = jax.tree.map(np.array, params_of(net))
    given = params, X.copy(), np.ones((5, 2), np.float32)
    before = jax.tree.map(np.copy, given)

    def mine(params, x, y):
        gradients = {"o": {"x": x.T @ (x @ params["o"]["x"] + params["o"]["bias"] - y) / 5}}
        params["o"]["x"] *= 0
        gradients["o"]["bias"] = params["o"].pop("bias")
        x -= 1
        y[:] = 7
        return gradients

    assert jaxbp.check(net, jaxbp.squared_error, *given, mine).right == ["grad.o.x"]

    def by_function(params):
        params["o"]["x"] *= 0
        return {"o": {"x": params["o"]["x"], "bias": params["o"].pop("bias")}}

    assert not jaxbp.check_function(lambda p: jnp.sum(p["o"]["x"]), params, by_function).ok
    jax.tree.map(np.testing.assert_array_equal, given, before)


def test_jax_keeps_nothing_of_a_network_that_was_checked():
    def checked():
        value = lambda a: jnp.sin(a)  # noqa: E731  a new one
        sine = jaxbp.elementwise(value, lambda a, h: jnp.cos(a))
        net = jaxbp.layered([3, N, 2], hidden=sine, output=jaxbp.softmax)
        params = params_of(net)
        assert not jaxbp.check(net, jaxbp.cross_entropy, params, X, Y, jax.tree.map(jnp.ones_like, params)).ok
        return weakref.ref(value)

    value = checked()
    assert compiled.cache_info().maxsize < 100
    for name in [name for name in sys.modules if name.startswith("jaxbp.")]:
        for kept in vars(sys.modules[name]).values():
            if clear := getattr(kept, "cache_clear", None):  # the few that are kept on purpose
                clear()
    gc.collect()
    assert value() is None
