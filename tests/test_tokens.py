"""Inputs of integers and the tables that they look up."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import LOOKUP, TOKENS, case_named, params_of, swept
from reference import relative_error

import jaxbp
from jaxbp import Dense, Embedding, Network, Unit, collect

CASES = [case_named(name) for name in ("tied tokens", "words")]


def network(embedding=None, shape=4, size=5):
    units = {"o": Unit((4, 2), jaxbp.linear, {"x": embedding or Embedding(5)}, bias=False)}
    return Network({"x": jaxbp.ids(shape, size)}, units)


NET = network()
PARAMS = params_of(NET)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_ids_have_no_signal(case):
    params, x, y, weights = case.arguments(jnp.float64)
    back = swept(case.net, case.loss, params, x, y, weights=weights)
    assert set(back.Delta) == {*case.net.shapes} - {*case.net.ids}


def test_rows_of_equal_ids_add_up_without_a_table_for_each_example():
    """Every collector of a table by itself equals that of one-hot rows through a matrix."""
    one_hot = Network({"x": (4, 5)}, {"o": Unit((4, 2), jaxbp.linear, {"x": Dense()}, bias=False)})
    ids = jnp.array([[0, 3, 3, 3], [1, 2, 1, 2], [4, 4, 4, 4]])
    y = jax.random.normal(jax.random.key(1), (3, 4, 2))
    wanted = {
        "gradient": collect.gradient,
        "each": collect.per_example_gradient,
        "dot": collect.per_example_dot(jax.tree.map(jnp.cos, PARAMS)),
        "norms": collect.squared_norm,
        "clipped": collect.clipped(0.1),
        "second": collect.second_moment,
        "variance": collect.variance,
        "gram": collect.gram,
        "ggn": collect.diagonal_ggn,
    }

    @jax.jit
    def both(params):
        rows = jax.nn.one_hot(ids, 5)
        nets = ((NET, ids), (one_hot, rows))
        return [jaxbp.backprop(net, jaxbp.squared_error, params, x, y, collect=wanted).collected for net, x in nets]

    ours, theirs = both(PARAMS)
    for name in wanted:
        assert relative_error(ours[name], theirs[name]) <= 1e-10, name


@pytest.mark.parametrize("bad", [-1, 5, 2**32, 2**32 + 1, -(2**32)])
def test_an_id_out_of_range_gives_nan_and_no_other_row(bad):
    x = np.array([[0, 1, bad, 2]])
    o = jax.jit(jaxbp.apply, static_argnums=0)(NET, PARAMS, x)
    assert np.isnan(np.asarray(o[0])).tolist() == [[False] * 2, [False] * 2, [True] * 2, [False] * 2]
    grads = swept(NET, jaxbp.squared_error, PARAMS, x, jnp.zeros((1, 4, 2))).grads["o"]["x"]
    assert not np.any(np.isnan(grads[:3]))
    np.testing.assert_array_equal(grads[3:], 0)
    y = np.zeros((1, 4, 2))
    for call in (
        lambda: jaxbp.train.check_data(NET, jaxbp.squared_error, x, y),
        lambda: jaxbp.check(NET, jaxbp.squared_error, PARAMS, x, y, PARAMS),
        lambda: jaxbp.explain(NET, jaxbp.squared_error, PARAMS, x, y),
    ):
        with pytest.raises(ValueError, match=rf"x: id {bad} at \[0, 2\] is outside 0…4; 1 of 4 are"):
            call()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint32, np.int64])
def test_ids_of_any_dtype_find_their_rows(dtype):
    """Of bytes there are 256, a number that they cannot hold themselves."""
    net = network(Embedding(256), size=256)
    params = params_of(net)
    x = np.array([[0, 1, 127, 100]], dtype)
    o = swept(net, jaxbp.squared_error, params, x, jnp.zeros((1, 4, 2)))
    rows = np.asarray(params["o"]["x"])[x[0].astype(int)]
    np.testing.assert_array_equal(o.trace.h["o"][0], rows)
    np.testing.assert_array_equal(o.grads["o"]["x"][x[0].astype(int)], rows)


@pytest.mark.parametrize("bad", [-1, 5, 2**32, 2**32 + 1])
def test_an_id_out_of_range_is_none_where_jax_has_no_int64(bad):
    with jax.enable_x64(False):
        params = params_of(NET)
        o = jaxbp.apply(NET, params, np.array([[0, 1, bad, 2]]))
    assert np.isnan(np.asarray(o[0])).tolist() == [[False] * 2, [False] * 2, [True] * 2, [False] * 2]


def test_a_network_of_tokens_learns_and_is_a_function_and_is_checked():
    x = np.random.default_rng(0).integers(0, 7, 200)
    fitted = jaxbp.train.fit(LOOKUP, jaxbp.cross_entropy, x, (x + 1) % 7, epochs=40)
    assert fitted.history[-1]["loss"] < 0.1 * fitted.history[0]["loss"]
    case = CASES[0]
    params, x, y, _ = case.arguments(jnp.float64)
    f = jaxbp.as_function(TOKENS)
    ours, theirs = (
        jax.jit(jax.grad(lambda p, g=g: jnp.sum(g(p, x) ** 2)))(params) for g in (f, partial(jaxbp.apply, TOKENS))
    )
    assert relative_error(ours, theirs) <= 1e-12
    grads = jax.jit(jaxbp.value_and_grad(TOKENS, case.loss))(params, x, y)[1]
    assert jaxbp.check(TOKENS, case.loss, params, x, y, grads).ok
    wrong = jaxbp.check(TOKENS, case.loss, params, x, y, jax.tree.map(np.negative, grads))
    assert wrong.explanations[0].slug == "sign"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: network(Dense()), ValueError, r"unit 'o' cannot read 'x': it holds ids, .* read it by Embedding\(5\)"),
        (lambda: network(Embedding(6)), ValueError, "Embedding has 6 rows, but the ids are 0 to 4"),
        (lambda: network(shape=3), ValueError, r"ids of shape \(3,\) make \(3, 'width'\), not \(4, 2\)"),
        (lambda: Network({"x": 4}, NET.units), ValueError, "cannot read 'x': Embedding reads ids"),
        (
            lambda: Network({"x": jaxbp.ids(4, 5)}, {"o": jaxbp.function_unit(jnp.sin, ("x",), 4)}),
            ValueError,
            "unit 'o' cannot read 'x': it holds ids",
        ),
        (lambda: jaxbp.apply(NET, PARAMS, jnp.ones((2, 4))), TypeError, "x has dtype float64, but it holds ids"),
        (lambda: jaxbp.apply(NET, PARAMS, jnp.ones((2, 3), int)), ValueError, r"x has shape \(2, 3\)"),
    ],
)
def test_bad_input_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_learned_positions_are_a_bias_of_the_whole_shape():
    case = CASES[0]
    params, x, y, _ = case.arguments(jnp.float64)
    assert case.net.weight_shapes["e"]["bias"] == (4, 6)
    grads = swept(case.net, case.loss, params, x, y)
    np.testing.assert_allclose(grads.grads["e"]["bias"], grads.delta["e"].sum(axis=0), rtol=1e-12)
    mean = grads.quantities() | {"grad.e.bias": grads.delta["e"].mean(axis=0)}
    wrong = {name: array for name, array in mean.items() if name.startswith("grad.")}
    report = jaxbp.check(case.net, case.loss, params, x, y, wrong)
    assert [mistake.slug for mistake in report.explanations] == ["bias-not-summed"]
