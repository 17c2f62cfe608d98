"""The chapter's forms against each other, the engine and jax.grad; what path sums cost; what they refuse."""

from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import islice, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import FAN_OUT, RESIDUAL, SEQUENCE, SINE, TWO_INPUTS, Case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import autodiff, relative_error

import jaxbp
from jaxbp import textbook
from jaxbp.textbook import _paths, _recursions


def _summing(a):
    return np.triu(np.ones((a.shape[-1], a.shape[-1]), a.dtype))


# h_i = a_1 + … + a_i: the Jacobian of softmax is symmetric, so it would hide a missing transpose
RUNNING_SUM = jaxbp.vector_activation(
    lambda a: a @ _summing(a), lambda a, h, Delta: Delta @ _summing(a).T, name="running_sum"
)

TOLERANCE = 1e-12
RUN_ONCE = {"xla_backend_optimization_level": 0}  # most of the time goes into compiling
PRINTED = [jaxbp.linear, jaxbp.sigmoid, jaxbp.tanh, jaxbp.relu, jaxbp.hard_tanh]
ELEMENTWISE = [*PRINTED, jaxbp.leaky_relu, jaxbp.softplus, jaxbp.gelu, jaxbp.silu, SINE]
OUTPUTS = [
    (jaxbp.linear, jaxbp.squared_error, "normal"),
    (jaxbp.softmax, jaxbp.cross_entropy, "ids"),
    (jaxbp.softmax, jaxbp.cross_entropy, "soft"),
    (jaxbp.sigmoid, jaxbp.binary_cross_entropy, "bits"),
    (jaxbp.sigmoid, jaxbp.squared_error, "bits"),
    (jaxbp.tanh, jaxbp.perceptron, "signs"),
]
GENERAL_OUTPUTS = [
    (jaxbp.softmax, jaxbp.cross_entropy, "unnormalised"),
    (jaxbp.softmax, jaxbp.squared_error, "one_hot"),
    (RUNNING_SUM, jaxbp.squared_error, "normal"),
]


def of(hidden, output=OUTPUTS[0], *, batch=(5,), bias=True, widths=(3, 4, 4, 2)) -> Case:
    activation, loss, targets = output
    net = jaxbp.layered(widths, hidden=hidden, output=activation, bias=bias)
    name = f"{widths} {hidden} {activation} {loss} {targets} {batch}{'' if bias else ' without bias'}"
    return Case(name, net, loss, batch, targets)


# Eager JAX compiles each operation once for each shape. So the many cases have one shape, and are run eagerly; the
# few others are compiled as a whole.
OF_THE_CHAPTER = [
    of([jaxbp.linear, jaxbp.sigmoid], OUTPUTS[0]),
    of([jaxbp.tanh, jaxbp.relu], OUTPUTS[1]),
    of([jaxbp.hard_tanh, jaxbp.tanh], OUTPUTS[2]),
    of([jaxbp.sigmoid, jaxbp.linear], OUTPUTS[3], bias=False),
    of([jaxbp.relu, jaxbp.hard_tanh], OUTPUTS[4]),
    of([jaxbp.tanh, jaxbp.sigmoid], OUTPUTS[5]),
]
OF_THE_CHAPTER_IN_OTHER_SHAPES = [
    of(jaxbp.tanh, OUTPUTS[1], batch=()),
    of((), OUTPUTS[2], widths=(3, 2), batch=(2, 2)),
    of([jaxbp.relu, jaxbp.linear, jaxbp.tanh], OUTPUTS[3], widths=(3, 4, 4, 4, 1), batch=(1,), bias=False),
]
OF_NO_CHAPTER = [
    of([jaxbp.softplus, jaxbp.leaky_relu], OUTPUTS[0]),
    of([jaxbp.tanh, jaxbp.sigmoid], GENERAL_OUTPUTS[0]),
    of([jaxbp.gelu, jaxbp.silu], GENERAL_OUTPUTS[1]),
    of([SINE, jaxbp.gelu], GENERAL_OUTPUTS[2]),
]
HIDDEN_VECTORS = of([RUNNING_SUM, jaxbp.softmax])


def engine(net, loss, params, x, y) -> textbook.Decoupled:
    back = jaxbp.backprop(net, loss, params, x, y)
    return textbook.Decoupled(back.Delta, back.delta, back.grads)


def unfused_engine(net, loss, params, x, y) -> textbook.Decoupled:
    return engine(net, jaxbp.unfused(loss), params, x, y)


WITH_DERIVATIVES = [textbook.post_activation_recursion, textbook.pre_activation_recursion]
WITH_PULLBACKS = [textbook.decoupled, textbook.path_sums, engine, unfused_engine]
EVERY_FORM = [*WITH_DERIVATIVES, *WITH_PULLBACKS]
EVERY_PRINTED_FORM = [*EVERY_FORM, textbook.instantiated_recursion]


@cache
def truth(case: Case):
    """grads, Delta and delta by jax.grad of the objective."""
    return jax.jit(by_autodiff, static_argnums=0, compiler_options=RUN_ONCE)(case, *case.arguments(jnp.float64)[:3])


def by_autodiff(case: Case, params, x, y):
    _, grads, Delta, delta = autodiff(case, params, x, y, None)
    return {"grads": grads, "Delta": Delta, "delta": delta}


def error_of(result, expected) -> float:
    """The comparison every test here makes: what a form gives against jax.grad, per-leaf relative norm."""
    return relative_error(result._asdict(), {name: expected[name] for name in result._fields})


def worst_error(form, case: Case) -> float:
    return error_of(form(case.net, case.loss, *case.arguments(jnp.float64)[:3]), truth(case))


def worst_error_compiled(forms, case: Case) -> float:
    """The same over several forms in one program, but for path sums, which run on the host."""

    @partial(jax.jit, compiler_options=RUN_ONCE)
    def at_once(params, x, y):
        results = [form(case.net, case.loss, params, x, y) for form in forms if form is not textbook.path_sums]
        return results, by_autodiff(case, params, x, y)

    params, x, y, _ = case.arguments(jnp.float64)
    results, expected = at_once(params, x, y)
    if textbook.path_sums in forms:
        results.append(textbook.path_sums(case.net, case.loss, params, x, y))
    assert len(results) == len(forms)
    return max(error_of(result, expected) for result in results)


@pytest.mark.parametrize("form", EVERY_FORM, ids=lambda f: f.__name__)
@pytest.mark.parametrize("case", OF_THE_CHAPTER + OF_NO_CHAPTER, ids=repr)
def test_every_form_is_the_gradient(case, form):
    assert worst_error(form, case) <= TOLERANCE


@pytest.mark.parametrize("case", OF_THE_CHAPTER, ids=repr)
def test_printed_updates_are_the_gradient(case):
    assert worst_error(textbook.instantiated_recursion, case) <= TOLERANCE


@pytest.mark.parametrize("case", OF_THE_CHAPTER_IN_OTHER_SHAPES, ids=repr)
def test_every_form_is_the_gradient_with_any_batch_axes_and_depth(case):
    assert worst_error_compiled(EVERY_PRINTED_FORM, case) <= TOLERANCE


@pytest.mark.parametrize("form", WITH_PULLBACKS, ids=lambda f: f.__name__)
def test_pullbacks_and_paths_also_go_through_hidden_vector_activations(form):
    assert worst_error(form, HIDDEN_VECTORS) <= TOLERANCE


@st.composite
def recipes(draw):
    """The arguments of a case: building it inside a strategy would use the type checker's own random numbers."""
    widths = draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))
    hidden = draw(st.lists(st.sampled_from(ELEMENTWISE), min_size=len(widths) - 2, max_size=len(widths) - 2))
    output = draw(st.sampled_from(OUTPUTS + GENERAL_OUTPUTS))
    return hidden, output, {"widths": widths, "bias": draw(st.booleans())}


@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(recipes())
def test_every_form_is_the_gradient_on_any_layered_network(recipe):
    hidden, output, shape = recipe
    forms = [*WITH_DERIVATIVES, textbook.decoupled, textbook.path_sums]
    assert worst_error_compiled(forms, of(hidden, output, **shape)) <= TOLERANCE


# Each planted bug is a form that is wrong in one place. The comparison above must catch every one.

SOUND = OF_THE_CHAPTER[0]


def with_derivative(wrong_derivative):
    """Forms of a network whose hidden units state a wrong Φ'."""

    def plant(form, net, loss, params, x, y):
        units = {
            u: unit
            if u == net.output
            else replace(unit, activation=replace(unit.activation, derivative=wrong_derivative))
            for u, unit in net.units.items()
        }
        return form(jaxbp.Network(net.inputs, units), loss, params, x, y)

    return plant


def the_sum(form, net, loss, params, x, y):
    return jax.tree.map(lambda leaf: leaf * x.shape[0], form(net, loss, params, x, y))


@pytest.mark.parametrize("form", [*WITH_DERIVATIVES, textbook.decoupled, textbook.path_sums], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "bug",
    [
        pytest.param(with_derivative(lambda a, h: h), id="Φ for Φ', the chapter's misprint"),
        pytest.param(with_derivative(lambda a, h: jnp.ones_like(a)), id="no Φ'"),
        pytest.param(the_sum, id="the sum for the mean"),
    ],
)
def test_planted_bugs_are_caught(form, bug):
    assert worst_error(form, SOUND) <= TOLERANCE
    assert worst_error(partial(bug, form), SOUND) > 100 * TOLERANCE


def test_a_forgotten_path_is_caught(monkeypatch):
    monkeypatch.setattr(_paths, "product", lambda *ranges: islice(product(*ranges), 1, None))
    assert worst_error(textbook.path_sums, SOUND) > 100 * TOLERANCE


def test_a_wrong_transpose_is_caught(monkeypatch):
    def step(W, delta):
        return delta @ (W if W.shape[0] == W.shape[1] else W.T)

    monkeypatch.setattr(_recursions, "linear_step", step)
    assert worst_error(textbook.decoupled, SOUND) > 100 * TOLERANCE


@pytest.mark.parametrize("form", ["pre_activation_recursion", "decoupled"])
def test_a_bias_neuron_that_is_not_plus_one_is_caught(monkeypatch, form):
    def silent(s, h, delta, bias):
        return {s: jnp.outer(h, delta)} | ({"bias": 0 * delta} if bias else {})

    monkeypatch.setattr(_recursions, "incident_gradients", silent)
    assert worst_error(getattr(textbook, form), SOUND) > 100 * TOLERANCE


# What the chapter prints, at points where it can be read off.


def test_updates_are_as_printed():
    a, h, total = jnp.array([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]), jnp.full(7, 0.25), jnp.full(7, 16.0)
    printed = {activation: textbook.update(activation, a, h, total).tolist() for activation in PRINTED}
    assert printed == {
        jaxbp.linear: [16] * 7,
        jaxbp.sigmoid: [3] * 7,
        jaxbp.tanh: [15] * 7,
        jaxbp.relu: [0, 0, 0, 0, 16, 16, 16],
        jaxbp.hard_tanh: [0, 0, 16, 16, 16, 0, 0],
    }
    assert list(textbook.UPDATES) == PRINTED


def test_hard_tanh_is_strict_as_printed_where_jax_and_the_engine_are_not():
    case = of([jaxbp.hard_tanh, jaxbp.linear])
    params, x, y, _ = case.arguments(jnp.float64)
    params["h1"] = {"x": jnp.zeros((3, 4)), "bias": jnp.array([-1.0, 1.0, -1.0, 1.0])}
    arguments = case.net, case.loss, params, x, y
    assert not np.any(textbook.instantiated_recursion(*arguments).delta["h1"])
    assert np.all(textbook.pre_activation_recursion(*arguments).delta["h1"])
    assert np.all(jaxbp.backprop(*arguments).delta["h1"])


def test_o_minus_y_is_not_the_gradient_for_targets_that_do_not_sum_to_one():
    case = OF_NO_CHAPTER[1]
    assert case.targets == "unnormalised"
    params, x, y, _ = case.arguments(jnp.float64)
    form = textbook.instantiated_recursion(case.net, case.loss, params, x, y)
    o = jaxbp.apply(case.net, params, x)
    np.testing.assert_allclose(form.delta["o"], (o - y) / 5, rtol=1e-14)
    assert error_of(form, truth(case)) > 100 * TOLERANCE
    excess = o * (1 - jnp.sum(y, axis=-1, keepdims=True)) / 5
    np.testing.assert_allclose(form.delta["o"] - truth(case)["delta"]["o"], excess, rtol=1e-10)


def test_printed_softmax_holds_for_an_unfused_loss_too():
    case = OF_THE_CHAPTER[1]
    params, x, y, _ = case.arguments(jnp.float64)
    form = textbook.instantiated_recursion(case.net, jaxbp.unfused(case.loss), params, x, y)
    assert error_of(form, truth(case)) <= TOLERANCE


# What enumeration costs.


@dataclass(frozen=True)
class Counted:
    """A number that leaves a mark for each multiplication."""

    value: float
    marks: list

    def __mul__(self, other):
        self.marks.append("·")
        return Counted(self.value * other.value, self.marks)

    def __radd__(self, number):
        return Counted(self.value + number, self.marks)

    def __add__(self, other):
        return Counted(self.value + other.value, self.marks)


def brute_force_paths(edges, layer, node):
    """The number of ways to walk from a node to the last layer, one step at a time."""
    if layer == len(edges):
        return 1
    return sum(brute_force_paths(edges, layer + 1, later) for later, _ in enumerate(edges[layer][node]))


@pytest.mark.parametrize(
    "case",
    [
        of((), OUTPUTS[1], widths=(3, 2)),
        of(jaxbp.tanh),
        of(jaxbp.tanh, OUTPUTS[1]),
        of([jaxbp.softmax, jaxbp.tanh]),
    ],
    ids=repr,
)
def test_closed_forms_count_what_the_loops_do(case, monkeypatch):
    params, x, _, _ = case.arguments(jnp.float64)
    local = textbook.local_derivatives(case.net, params, jaxbp.forward(case.net, params, x))
    edges = [edge[0].tolist() for edge in local.values()]
    walked = []

    def counted_product(*ranges):
        for path in product(*ranges):
            walked.append(path)
            yield path

    monkeypatch.setattr(_paths, "product", counted_product)
    sums, multiplications = {}, {}
    for accumulate in (textbook.accumulate_by_paths, textbook.accumulate_by_nodes):
        marks = []
        counted = [[[Counted(local, marks) for local in row] for row in edge] for edge in edges]
        start = [Counted(dL_do, marks) for dL_do in (0.75, -2.0)]
        sums[accumulate] = [[D.value for D in layer] for layer in accumulate(counted, start)]
        multiplications[accumulate] = len(marks)

    work = textbook.count_work(case.net)
    by_paths, by_nodes = sums.values()
    assert relative_error([np.array(layer) for layer in by_paths], [np.array(layer) for layer in by_nodes]) <= TOLERANCE
    assert work.paths == len(walked)
    assert work.paths == sum(brute_force_paths(edges, r, i) for r, edge in enumerate(edges) for i, _ in enumerate(edge))
    assert work.multiplications_by_paths == multiplications[textbook.accumulate_by_paths]
    assert work.multiplications_by_nodes == multiplications[textbook.accumulate_by_nodes]


@pytest.mark.parametrize("depth", [1, 2, 5, 60])
@pytest.mark.parametrize("n", [2, 3, 10])
def test_work_of_equal_layers(n, depth):
    work = textbook.count_work(jaxbp.layered([n] * (depth + 1), hidden=jaxbp.relu, output=jaxbp.linear))
    assert work.paths == n**2 * (n**depth - 1) // (n - 1)
    assert work.multiplications_by_paths == (
        n**2 * (depth * n ** (depth + 1) - (depth + 1) * n**depth + 1) // (n - 1) ** 2
    )
    assert work.multiplications_by_nodes == depth * n**2
    assert {type(count) for count in work} == {int}


def test_work_by_hand():
    assert textbook.count_work(jaxbp.layered([2, 3, 2], output=jaxbp.linear)) == (12 + 6, 2 * 12 + 6, 6 + 6)
    with_softmax = textbook.count_work(jaxbp.layered([2, 3, 2], output=jaxbp.softmax))
    assert with_softmax == (24 + 12 + 4, 3 * 24 + 2 * 12 + 4, 6 + 6 + 4)


def test_local_derivatives_multiply_to_the_jacobian():
    case = OF_THE_CHAPTER[1]
    params, x, _, _ = case.arguments(jnp.float64)
    local = textbook.local_derivatives(case.net, params, jaxbp.forward(case.net, params, x))
    assert list(local) == [("h.x", "h.h1"), ("h.h1", "h.h2"), ("h.h2", "a.o"), ("a.o", "h.o")]
    first, *later = local.values()
    for edge in later:
        first = first @ edge

    def at(x):
        return jaxbp.apply(case.net, params, x)

    jacobian = jax.jit(jax.vmap(jax.jacobian(at)), compiler_options=RUN_ONCE)(x)
    np.testing.assert_allclose(np.swapaxes(first, -1, -2), jacobian, rtol=1e-12)


def test_path_sums_are_float64_whatever_the_network_is():
    case = of((), OUTPUTS[1], widths=(3, 2))
    sums = textbook.path_sums(case.net, case.loss, *case.arguments(jnp.float32)[:3])
    exact = textbook.path_sums(case.net, case.loss, *case.arguments(jnp.float64)[:3])
    assert {(type(leaf), leaf.dtype) for leaf in jax.tree.leaves(sums)} == {(np.ndarray, np.dtype(np.float64))}
    assert 0 < error_of(sums, exact._asdict()) <= 1e-5


# What they refuse.

SKIP = jaxbp.Network(
    {"x": 2},
    {
        "h1": jaxbp.Unit(2, jaxbp.tanh, {"x": jaxbp.Dense()}),
        "o": jaxbp.Unit(2, jaxbp.linear, {"h1": jaxbp.Dense(), "x": jaxbp.Dense()}),
    },
)


class Special(jaxbp.Dense):
    """A connection that is not known to be an ordinary matrix product."""


NOT_LAYERED = [
    (SKIP, "unit 'o' reads 'h1', 'x'; use jaxbp.backprop"),
    (FAN_OUT, "unit 'middle' reads 'h1' by Identity"),
    (RESIDUAL, "unit 'sum' reads 'h1', 'h2', 'x'"),
    (TWO_INPUTS, "this one has the inputs 'image', 'text'"),
    (SEQUENCE, r"'x' has the shape \(3, 4\), not a width"),
    (jaxbp.Network({"x": 2}, {"o": jaxbp.Unit(2, jaxbp.linear, {"x": Special()})}), "unit 'o' reads 'x' by Special"),
]
ON_NETWORKS = [*WITH_DERIVATIVES, textbook.decoupled, textbook.path_sums, textbook.instantiated_recursion]


@pytest.mark.parametrize(("net", "message"), NOT_LAYERED)
def test_other_graphs_are_refused(net, message):
    for form in ON_NETWORKS:
        with pytest.raises(ValueError, match=f"layered networks x ⇒ h1 ⇒ … ⇒ hk ⇒ o with Dense.*{message}"):
            form(net, jaxbp.squared_error, {}, jnp.zeros(3), jnp.zeros(3))
    with pytest.raises(ValueError, match=message):
        textbook.count_work(net)
    with pytest.raises(ValueError, match=message):
        textbook.local_derivatives(net, {}, jaxbp.Trace({}, {net.output: jnp.zeros(net.shapes[net.output])}))


def test_any_names_will_do_in_any_order():
    net = jaxbp.Network(
        {"pixels": 3},
        {
            "late": jaxbp.Unit(4, jaxbp.tanh, {"early": jaxbp.Dense()}),
            "early": jaxbp.Unit(4, jaxbp.sigmoid, {"pixels": jaxbp.Dense()}),
            "digit": jaxbp.Unit(2, jaxbp.softmax, {"late": jaxbp.Dense()}),
        },
    )
    case = Case("named", net, jaxbp.cross_entropy, (5,), "ids")
    for form in ON_NETWORKS:
        assert worst_error(form, case) <= TOLERANCE


@pytest.mark.parametrize("form", WITH_DERIVATIVES, ids=lambda f: f.__name__)
def test_hidden_vector_activations_are_refused_where_a_derivative_is_needed(form):
    case = HIDDEN_VECTORS
    with pytest.raises(ValueError, match=r"hidden unit 'h1' has .* running_sum.*use textbook\.decoupled"):
        form(case.net, case.loss, *case.arguments(jnp.float64)[:3])


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (of(jaxbp.gelu), "prints updates for 'linear', 'sigmoid', 'tanh', 'relu', 'hard_tanh', .*of unit 'h1' is gelu"),
        (of(jaxbp.softmax), "of unit 'h1' is softmax; .*textbook.decoupled for a vector activation"),
        (of(jaxbp.tanh, GENERAL_OUTPUTS[1]), "of a softmax for cross_entropy only, but the loss is squared_error"),
        (of(jaxbp.tanh, GENERAL_OUTPUTS[2]), "of unit 'o' is running_sum"),
    ],
)
def test_what_the_chapter_does_not_print_is_refused(case, message):
    with pytest.raises(ValueError, match=message):
        textbook.instantiated_recursion(case.net, case.loss, *case.arguments(jnp.float64)[:3])


def test_an_update_that_is_not_printed_is_refused():
    with pytest.raises(ValueError, match="the activation given is silu"):
        textbook.update(jaxbp.silu, jnp.zeros(2), jnp.zeros(2), jnp.zeros(2))


def test_too_many_paths_are_refused_with_their_count():
    case = SOUND
    arguments = case.net, case.loss, *case.arguments(jnp.float64)[:3]
    paths = 3 * 4 * 4 * 2 + 4 * 4 * 2 + 4 * 2
    message = f"there are {5 * paths} paths, {paths} for each of 5 examples, .* max_paths={5 * paths - 1}; .*"
    with pytest.raises(ValueError, match=f"{message}pass max_paths={5 * paths}; .* 36 multiplications .* not 360"):
        textbook.path_sums(*arguments, max_paths=5 * paths - 1)
    assert error_of(textbook.path_sums(*arguments, max_paths=5 * paths), truth(case)) <= TOLERANCE


def test_a_million_paths_are_too_many_by_default():
    net = jaxbp.layered([100, 100, 100], output=jaxbp.linear)
    params = jax.tree.map(
        jnp.zeros, {u: net.weight_shapes[u] for u in net.units}, is_leaf=lambda s: isinstance(s, tuple)
    )
    with pytest.raises(ValueError, match=r"there are 1,010,000 paths, .* more than max_paths=1,000,000; .*=1010000;"):
        textbook.path_sums(net, jaxbp.squared_error, params, jnp.zeros(100), jnp.zeros(100))


@pytest.mark.parametrize("accumulate", [textbook.accumulate_by_paths, textbook.accumulate_by_nodes])
def test_local_derivatives_that_do_not_fit_are_refused(accumulate):
    with pytest.raises(ValueError, match=r"rows of edges\[0\] have the lengths \[2, 1\], but layer 1 has 2 neurons"):
        accumulate([[[1.0, 2.0], [3.0]], [[1.0], [2.0]]], [1.0])


@pytest.mark.parametrize("form", ON_NETWORKS, ids=lambda f: f.__name__)
def test_arguments_that_do_not_fit_are_refused_as_by_the_engine(form):
    case = of(jaxbp.tanh)
    params, x, y, _ = case.arguments(jnp.float64)
    with pytest.raises(ValueError, match="params holds the units 'o', but the network has 'h1', 'h2', 'o'"):
        form(case.net, case.loss, {"o": params["o"]}, x, y)
    with pytest.raises(ValueError, match=r"y has shape \(4, 2\), but the output has shape \(5, 2\)"):
        form(case.net, case.loss, params, x, y[:4])
