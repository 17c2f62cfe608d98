"""Specifications and the forward phase: what they are, and what they refuse."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ALL, FAN_OUT, OUT_OF_ORDER, RESIDUAL, SKIP, TWO_INPUTS

import jaxbp
from jaxbp import Dense, Identity, Network, Unit

LAYERED = jaxbp.layered([3, 4, 2], hidden=jaxbp.tanh, output=jaxbp.softmax)


def a_unit(*sources, width=2, connection=None, **options):
    return Unit(width, jaxbp.tanh, {s: connection or Dense() for s in sources}, **options)


def test_layered_is_the_graph_by_hand():
    by_hand = Network(
        inputs={"x": 3},
        units={"h1": Unit(4, jaxbp.tanh, {"x": Dense()}), "o": Unit(2, jaxbp.softmax, {"h1": Dense()})},
    )
    assert by_hand == LAYERED
    assert hash(by_hand) == hash(LAYERED)
    assert repr(by_hand) == repr(LAYERED)
    assert by_hand != jaxbp.layered([3, 4, 2], hidden=jaxbp.relu, output=jaxbp.softmax)


def test_the_order_of_units_counts_since_the_last_is_the_output():
    p, q, o = a_unit("x"), a_unit("x"), a_unit("p", "q")
    assert Network({"x": 3}, {"p": p, "q": q, "o": o}).output == "o"
    assert Network({"x": 3}, {"p": p, "q": q, "o": o}) != Network({"x": 3}, {"q": q, "p": p, "o": o})
    assert OUT_OF_ORDER.order == ("first", "second", "o")


@pytest.mark.parametrize("net", [LAYERED, SKIP, FAN_OUT], ids=["layered", "skip", "fan out"])
def test_specifications_survive_pickling(net):
    copy = pickle.loads(pickle.dumps(net))
    assert copy == net
    assert hash(copy) == hash(net)
    assert copy.order == net.order


def test_specifications_are_immutable():
    with pytest.raises(AttributeError):
        LAYERED.units = {}
    with pytest.raises(TypeError):
        LAYERED.units["o"] = a_unit("x")


def test_forward_by_hand():
    params = {"h1": {"x": np.ones((3, 4)), "bias": np.arange(4.0)}, "o": {"h1": np.ones((4, 2)), "bias": np.zeros(2)}}
    params = jax.device_put(params)
    x = jnp.array([[1.0, 2.0, 3.0]])
    trace = jaxbp.forward(LAYERED, params, x)
    np.testing.assert_array_equal(trace.a["h1"], [[6, 7, 8, 9]])
    np.testing.assert_allclose(trace.h["h1"], np.tanh([[6, 7, 8, 9]]), rtol=1e-15)
    np.testing.assert_array_equal(trace.h["x"], x)
    np.testing.assert_array_equal(jaxbp.apply(LAYERED, params, x), [[0.5, 0.5]])
    assert set(trace.a) == {"h1", "o"}
    assert set(trace.h) == {"x", "h1", "o"}


def test_an_input_by_name_is_the_same():
    params = jaxbp.init_params(jax.random.key(0), LAYERED)
    x = jnp.ones((5, 3))
    np.testing.assert_array_equal(jaxbp.apply(LAYERED, params, {"x": x}), jaxbp.apply(LAYERED, params, x))


def test_initial_parameters():
    params = jaxbp.init_params(jax.random.key(0), TWO_INPUTS, jnp.float32)
    shapes = jax.tree.map(jnp.shape, params, is_leaf=lambda v: hasattr(v, "shape"))
    assert shapes == {"h1": {"image": (4, 5), "text": (3, 5), "bias": (5,)}, "o": {"h1": (5, 2), "bias": (2,)}}
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    assert not params["h1"]["bias"].any()
    again = jaxbp.init_params(jax.random.key(0), TWO_INPUTS, jnp.float32)
    other = jaxbp.init_params(jax.random.key(1), TWO_INPUTS, jnp.float32)
    np.testing.assert_array_equal(params["h1"]["image"], again["h1"]["image"])
    assert not np.array_equal(params["h1"]["image"], other["h1"]["image"])


@pytest.mark.parametrize(
    ("activation", "connection", "variance"),
    [
        (jaxbp.relu, Dense(), 2 / 400),  # he_normal
        (jaxbp.tanh, Dense(), 2 / 700),  # glorot_uniform
        (jaxbp.tanh, Dense("lecun_normal"), 1 / 400),
        (jaxbp.tanh, Dense(jax.nn.initializers.normal(0.5)), 0.25),
        (jaxbp.tanh, Dense("zeros"), 0),
    ],
)
def test_initializers_match_the_activation_unless_told_otherwise(activation, connection, variance):
    net = Network({"x": 400}, {"o": Unit(300, activation, {"x": connection})})
    W = jaxbp.init_params(jax.random.key(0), net)["o"]["x"]
    np.testing.assert_allclose(np.var(W), variance, rtol=0.05)


GRAPHS = {
    "unknown source": (
        {"h1": a_unit("x"), "o": a_unit("h2")},
        r"unit 'o' reads 'h2', which is neither an input nor a unit \(did you mean 'h1'\?\); inputs: 'x'; units",
    ),
    "cycle": ({"p": a_unit("x", "q"), "q": a_unit("p"), "o": a_unit("q")}, r"form a cycle, '[pq]' ⇒ '[pq]' ⇒ '[pq]'"),
    "reads itself": ({"o": a_unit("x", "o")}, "form a cycle, 'o' ⇒ 'o'"),
    "doubled name": ({"x": a_unit("x"), "o": a_unit("x")}, "'x' is the name of both an input and a unit; rename"),
    "reserved name": ({"bias": a_unit("x"), "o": a_unit("bias")}, "'bias' is reserved for the constant unit"),
    "dot in a name": (
        {"h.1": a_unit("x"), "o": a_unit("h.1")},
        "'h.1' cannot be the name of an input, a unit or a shared weight",
    ),
    "empty name": ({"": a_unit("x"), "o": a_unit("")}, "'' cannot be the name of an input, a unit or a shared weight"),
    "dead end": (
        {"h1": a_unit("x"), "dead": a_unit("x"), "o": a_unit("h1")},
        r"no path leads from unit 'dead' to the output 'o' \(the last unit listed\)",
    ),
    "output not last": ({"o": a_unit("h1"), "h1": a_unit("x")}, "no path leads from unit 'o' to the output 'h1'"),
    "no units": ({}, "the network has no units"),
    "unequal identity": (
        {"o": a_unit("x", connection=Identity())},
        r"unit 'o' cannot read 'x': Identity joins equal shapes, but these are \(3,\) and \(2,\); use Dense\(\)",
    ),
    "unequal leading axes": (
        {"o": a_unit("x", width=(4, 2))},
        r"unit 'o' cannot read 'x': Dense acts on the last axis.*shapes \(3,\) and \(4, 2\) differ there",
    ),
}


@pytest.mark.parametrize(("units", "message"), GRAPHS.values(), ids=GRAPHS)
def test_graphs_that_are_none_are_refused(units, message):
    with pytest.raises(ValueError, match=message):
        Network(inputs={"x": 3}, units=units)


def test_an_unread_input_is_refused():
    with pytest.raises(ValueError, match="no path leads from input 'z' to the output 'o'"):
        Network({"x": 3, "z": 2}, {"o": a_unit("x")})


UNITS = [
    (lambda: Unit(0, jaxbp.tanh, {"x": Dense()}), ValueError, "a unit's width must be a positive integer.* got 0"),
    (lambda: Unit(2.5, jaxbp.tanh, {"x": Dense()}), ValueError, "a unit's width must be a positive integer.* got 2.5"),
    (lambda: Unit(2, "relu", {"x": Dense()}), TypeError, r"got 'relu'; did you mean jaxbp.relu\?"),
    (lambda: Unit(2, jnp.tanh, {"x": Dense()}), TypeError, r"got the function tanh; did you mean jaxbp.tanh\?"),
    (lambda: Unit(2, jaxbp.tanh, {"x": Dense}), TypeError, r"the connection from 'x' must be a jaxbp connection"),
    (lambda: Unit(2, jaxbp.tanh, {}), ValueError, "connections must be a non-empty dict"),
    (lambda: Unit(2, jaxbp.tanh, ["x"]), ValueError, "connections must be a non-empty dict"),
    (lambda: Network({"x": -1}, {"o": a_unit("x")}), ValueError, "the width of input 'x' must be a positive integer"),
    (lambda: Network({"x": 1}, {"o": Dense()}), TypeError, "'o' must be a jaxbp.Unit, got Dense"),
    (lambda: jaxbp.layered([3], output=jaxbp.tanh), ValueError, "needs the widths of its input and its output"),
    (
        lambda: jaxbp.layered([3, 4, 4, 2], hidden=[jaxbp.tanh], output=jaxbp.tanh),
        ValueError,
        "2 hidden layers need one activation, or 2; got 1",
    ),
]


@pytest.mark.parametrize(("make", "error", "message"), UNITS)
def test_units_that_are_none_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_an_unknown_initializer_is_refused():
    with pytest.raises(ValueError, match=r"jax.nn.initializers has no 'he_norml' \(did you mean 'he_normal'\?\)"):
        Dense("he_norml")


def test_integer_parameters_are_refused():
    with pytest.raises(TypeError, match="parameters must have a floating dtype, got int32"):
        jaxbp.init_params(jax.random.key(0), LAYERED, jnp.int32)


PARAMS = jaxbp.init_params(jax.random.key(0), LAYERED)
ARGUMENTS = [
    (PARAMS, jnp.ones((5, 4)), ValueError, r"x has shape \(5, 4\), but input 'x' of the network has \(\*batch, 3\)"),
    (PARAMS, jnp.ones(()), ValueError, r"x has shape \(\), but input 'x'"),
    (PARAMS, jnp.ones((0, 3)), ValueError, r"x has shape \(0, 3\): an empty batch has no mean loss"),
    (PARAMS, np.ones((5, 3), np.uint8), TypeError, r"x has dtype uint8.* convert it first, e.g. x.astype"),
    (PARAMS, [[1.0, 2, 3]], TypeError, r"x is of type list; pass an array, e.g. jnp.asarray\(x\)"),
    (PARAMS, {"z": jnp.ones(3)}, ValueError, r"x holds the inputs 'z', but the network has 'x'"),
    ([], jnp.ones(3), TypeError, "params is of type list, expected a dict by unit"),
    ({"h1": PARAMS["h1"]}, jnp.ones(3), ValueError, "params holds the units 'h1', but the network has 'h1', 'o'"),
    (
        PARAMS | {"o": {"h2": PARAMS["o"]["h1"], "bias": PARAMS["o"]["bias"]}},
        jnp.ones(3),
        ValueError,
        r"params\['o'\] holds weights from .*'h2'.*, but the network has them from 'h1', 'bias' \(did you mean 'h1'",
    ),
    (
        PARAMS | {"o": PARAMS["o"] | {"bias": jnp.ones(3)}},
        jnp.ones(3),
        ValueError,
        r"params\['o'\]\['bias'\] has shape \(3,\), expected \(2,\); are these params of another network\?",
    ),
    (
        PARAMS | {"o": PARAMS["o"] | {"bias": jnp.ones(2, int)}},
        jnp.ones(3),
        TypeError,
        r"params\['o'\]\['bias'\] has dtype int64, expected a floating one",
    ),
    (
        PARAMS | {"o": PARAMS["o"] | {"bias": [0.0, 0.0]}},
        jnp.ones(3),
        TypeError,
        r"params\['o'\]\['bias'\] is of type list; pass an array",
    ),
    (PARAMS | {"o": 1}, jnp.ones(3), TypeError, r"params\['o'\] is of type int, expected a dict by source"),
]


@pytest.mark.parametrize(("params", "x", "error", "message"), ARGUMENTS)
def test_arguments_that_do_not_fit_are_refused(params, x, error, message):
    with pytest.raises(error, match=message):
        jaxbp.apply(LAYERED, params, x)
    if "is of type" not in message:  # jit itself turns lists into trees of scalars
        with pytest.raises(error, match=message):
            jax.jit(jaxbp.apply, static_argnums=0)(LAYERED, params, x)


def test_several_inputs_must_agree():
    params = jaxbp.init_params(jax.random.key(0), TWO_INPUTS)
    with pytest.raises(TypeError, match="the network has the inputs 'image', 'text'; pass x as a dict"):
        jaxbp.apply(TWO_INPUTS, params, jnp.ones((5, 4)))
    with pytest.raises(ValueError, match=r"different batch shapes: \{'image': \(5,\), 'text': \(4,\)\}"):
        jaxbp.apply(TWO_INPUTS, params, {"image": jnp.ones((5, 4)), "text": jnp.ones((4, 3))})


def test_x_and_y_must_have_the_same_batch():
    with pytest.raises(ValueError, match=r"y has shape \(4,\), but the output has shape \(5, 2\)"):
        jaxbp.backprop(LAYERED, jaxbp.cross_entropy, PARAMS, jnp.ones((5, 3)), jnp.zeros(4, int))


def test_weights_must_fit_the_batch():
    arguments = LAYERED, jaxbp.cross_entropy, PARAMS, jnp.ones((5, 3)), jnp.zeros(5, int)
    with pytest.raises(ValueError, match=r"weights has shape \(4,\), expected the batch shape \(5,\)"):
        jaxbp.backprop(*arguments, weights=jnp.ones(4))
    with pytest.raises(TypeError, match="weights has dtype int"):
        jaxbp.backprop(*arguments, weights=jnp.ones(5, int))


@pytest.mark.parametrize("make", [jaxbp.objective, jaxbp.value_and_grad])
def test_an_unknown_reduction_is_refused(make):
    with pytest.raises(ValueError, match="reduction must be 'mean' or 'sum', got 'max'"):
        make(LAYERED, jaxbp.cross_entropy, "max")


def test_offsets_intervene_in_a_unit():
    params = jaxbp.init_params(jax.random.key(0), RESIDUAL)
    x = jnp.ones((2, 4))
    trace = jaxbp.forward(RESIDUAL, params, x)
    offsets = jax.tree.map(jnp.zeros_like, trace)
    offsets.h["h2"] = -trace.h["h2"]
    silenced = jaxbp.forward(RESIDUAL, params, x, offsets=offsets)
    assert not silenced.h["h2"].any()
    np.testing.assert_allclose(silenced.h["sum"], x + trace.h["h1"], rtol=1e-15)


def test_the_table_has_every_activation_and_loss():
    units = [unit for case in ALL for unit in case.net.units.values()]
    names = "linear sigmoid tanh relu hard_tanh softmax leaky_relu softplus gelu silu"
    assert {getattr(jaxbp, name) for name in names.split()} <= {unit.activation for unit in units}
    losses = {case.loss for case in ALL}
    assert {jaxbp.squared_error, jaxbp.cross_entropy, jaxbp.binary_cross_entropy, jaxbp.perceptron} <= losses
    assert len(ALL) >= 25
    assert len({case.name for case in ALL}) == len(ALL)


def test_numbers_on_the_host_stay_numbers_where_jax_has_no_float64():
    x = np.random.default_rng(0).normal(size=(5, 4))
    with jax.enable_x64(False):
        params = jaxbp.init_params(jax.random.key(0), RESIDUAL)
        y = np.zeros((5, *RESIDUAL.shapes[RESIDUAL.output]))
        narrow = [jnp.asarray(array, jnp.float32) for array in (x, y)]
        both = [
            (
                jaxbp.forward(RESIDUAL, params, x).h,
                jaxbp.backprop(RESIDUAL, jaxbp.squared_error, params, x, y).grads,
                jaxbp.objective(RESIDUAL, jaxbp.squared_error)(params, x, y),
                jaxbp.as_function(RESIDUAL)(params, x),
            )
            for x, y in ((x, y), narrow)
        ]
        assert {leaf.dtype for leaf in jax.tree.leaves(both)} == {np.dtype(np.float32)}
        for one, other in zip(*map(jax.tree.leaves, both), strict=True):
            np.testing.assert_array_equal(one, other)
