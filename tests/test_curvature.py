"""Curvature against dense Jacobians and Hessians: diagonals, Kronecker factors, and products with a vector."""

import jax
import jax.numpy as jnp
import pytest
from cases import Case, case_named
from reference import relative_error

import jaxbp
from jaxbp import collect

NAMES = (
    "softmax, ids", "softmax, rows that do not sum to 1", "softmax, unfused", "softmax, squared error",
    "sigmoid, probabilities", "sigmoid, unfused", "perceptron, signs", "weights, two batch axes", "weighted sum",
    "no batch axis", "fan out", "two inputs", "softmax inside", "sequence", "user's loss",
    "convolution", "tied convolution", "transformer block", "shared weights", "padded tokens", "words",
    "masked ids", "gated, by jax.vjp",
)  # fmt: skip
# each of these has nothing that the others have not together
SLOW = ("softmax, squared error", "two inputs", "softmax inside", "convolution", "transformer block", "words")
SOME = [pytest.param(case_named(name), id=name, marks=[pytest.mark.slow] * (name in SLOW)) for name in NAMES]


def dense_ggn(case: Case, params, x, y, weights):
    """Σ_i scale_i J_iᵀ H_i J_i over the raveled parameters, by jax.jacobian and jax.hessian."""
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    output, axes = case.net.output, len(case.batch)
    rule = case.loss.at(case.net.units[output].activation).simplification
    w = jnp.ones(case.batch) if weights is None else weights
    by_row = w.ndim > axes
    x, y, w = jax.tree.map(lambda v: v.reshape(-1, *v.shape[axes:]), (x, y, w))
    if case.targets == "masked":
        y = jnp.where(w == 0, 0, y)

    def at_output(flat, x):
        trace = jaxbp.forward(case.net, unravel(flat), x)
        return trace.h[output] if rule is None else trace.a[output]

    def loss(z, y, w):
        y = case.loss.targets(z, y)
        losses = case.loss.value(z, y) if rule is None else rule.value(z, y)
        return jnp.sum(w * losses) if by_row else w * jnp.sum(losses)

    def of_example(x, y, w):
        J = jax.jacobian(at_output)(flat, x).reshape(-1, flat.size)
        z = at_output(flat, x)
        H = jax.hessian(loss)(z, y, w).reshape(z.size, z.size)
        return J.T @ H @ J

    total = jnp.sum(jax.vmap(of_example)(x, y, w), axis=0)
    return total / w.sum() if case.reduction == "mean" else total


def direction_of(params):
    return jax.tree.map(lambda W: jnp.cos(1 + jnp.arange(W.size, dtype=W.dtype)).reshape(W.shape), params)


def ours_and_theirs(case: Case, params, x, y, weights):
    extra = {"weights": weights, "reduction": case.reduction}
    v = direction_of(params)
    G = dense_ggn(case, params, x, y, weights)
    gradient = jax.grad(jaxbp.objective(case.net, case.loss, case.reduction))
    flat, unravel = jax.flatten_util.ravel_pytree(v)
    theirs = {
        "ggn": unravel(G @ flat),
        "hessian": jax.jvp(lambda p: gradient(p, x, y, weights), (params,), (v,))[1],
        "diagonal": unravel(jnp.diagonal(G)),
    }
    ours = {
        "ggn": jaxbp.curvature.ggn_vector_product(case.net, case.loss, params, x, y, v, **extra),
        "hessian": jaxbp.curvature.hessian_vector_product(case.net, case.loss, params, x, y, v, **extra),
    }
    if case.loss.hessian_root is not None:
        wanted = {"it": collect.diagonal_ggn}
        ours["diagonal"] = jaxbp.backprop(case.net, case.loss, params, x, y, collect=wanted, **extra).collected["it"]
    return ours, theirs


@pytest.mark.parametrize("case", SOME)
def test_curvature_is_its_definition(case):
    ours, theirs = jax.jit(lambda *arguments: ours_and_theirs(case, *arguments))(*case.arguments(jnp.float64))
    assert set(theirs) - set(ours) <= ({"diagonal"} if case.name == "user's loss" else set())
    for name in ours:
        assert relative_error(ours[name], theirs[name]) <= 1e-10, name


def collected(case, collector, dtype=jnp.float64, **changes):
    @jax.jit
    def run(params, x, y, weights):
        arguments = {"weights": weights, "reduction": case.reduction} | changes
        return jaxbp.backprop(case.net, case.loss, params, x, y, collect={"it": collector}, **arguments).collected["it"]

    return run(*case.arguments(dtype))


def dense(case):
    return jax.jit(lambda *arguments: dense_ggn(case, *arguments))(*case.arguments(jnp.float64))


def test_kronecker_factors_of_one_example_are_its_gauss_newton_matrix():
    case = case_named("no batch axis")
    params = case.params(jnp.float64)
    factors, G = collected(case, collect.kronecker_ggn), dense(case)
    place = 0
    for path, W in jax.tree_util.tree_leaves_with_path(params):
        found = factors[path[0].key][path[1].key]
        assert relative_error(jnp.kron(*found), G[place : place + W.size, place : place + W.size]) <= 1e-12
        place += W.size
    assert place == len(G)


def test_kronecker_factors_are_the_gauss_newton_matrix_where_h_and_delta_are_independent():
    """A linear network with squared error sends the same columns back whatever the example is."""
    net = jaxbp.layered([3, 4, 2], hidden=jaxbp.linear, output=jaxbp.linear, bias=False)
    case = Case("linear", net, jaxbp.squared_error, weighted=True)
    factors, G = collected(case, collect.kronecker_ggn), dense(case)
    assert relative_error(jnp.kron(*factors["h1"]["x"]), G[:12, :12]) <= 1e-10
    assert relative_error(jnp.kron(*factors["o"]["h1"]), G[12:, 12:]) <= 1e-10


def test_samples_estimate_all_columns():
    case = case_named("skip connection")
    for exact, sampled in (
        (collect.diagonal_ggn, collect.sampled_diagonal_ggn),
        (collect.kronecker_ggn, collect.sampled_kronecker_ggn),
    ):
        truth = collected(case, exact)
        few, many = (collected(case, sampled(jax.random.key(0), samples)) for samples in (1, 1000))
        assert relative_error(many, truth) < 0.1
        assert relative_error(few, truth) > 0.1  # or the bound above says nothing


HEADS = [
    (loss, output)
    for loss in (jaxbp.squared_error, jaxbp.cross_entropy, jaxbp.binary_cross_entropy, jaxbp.perceptron)
    for output in ((jaxbp.softmax, jaxbp.sigmoid) if loss.takes_probabilities else (jaxbp.linear,))
]


@pytest.mark.parametrize(("loss", "output"), HEADS, ids=lambda of: of.name)
def test_a_random_root_is_a_sum_of_the_columns_with_random_signs(loss, output):
    head, key = loss.at(output), jax.random.key(3)
    a, y = jax.random.normal(key, (4, 3)), jax.random.uniform(jax.random.key(4), (4, 3))
    columns = head.root(a, output.value(a), y)
    signs = jax.random.rademacher(key, (4, 3), a.dtype)
    random = head.random_root(a, output.value(a), y, key)
    assert relative_error(random, jnp.sum(columns * signs.T[: len(columns), :, None], axis=0)) <= 1e-12


def test_what_one_output_has_one_column_of_needs_no_samples():
    case = case_named("one output, ids")
    sampled = collected(case, collect.sampled_diagonal_ggn(jax.random.key(0)))
    assert relative_error(sampled, collected(case, collect.diagonal_ggn)) <= 1e-12


def test_a_wrong_root_is_caught():
    """H = diag o for softmax and cross-entropy, without − o oᵀ, must not pass."""

    def diagonal_root(a, o, y):
        return jnp.eye(3)[:, None, :] * jnp.sqrt(o)[None]

    case = case_named("softmax, ids")
    rule = case.loss.simplifications[0]
    wrong = jaxbp.Loss(
        case.loss.value,
        case.loss.gradient,
        encode=case.loss.encode,
        simplifications=(jaxbp.losses.Simplification(rule.activation, rule.value, rule.delta, diagonal_root),),
    )
    found = collected(Case("wrong", case.net, wrong, targets="ids"), collect.diagonal_ggn)
    assert (
        relative_error(found, collected(Case("right", case.net, case.loss, targets="ids"), collect.diagonal_ggn)) > 0.01
    )


def test_half_precision_stays_half():
    case = case_named("softmax, ids")
    diagonal = collected(case, collect.diagonal_ggn, jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(diagonal)} == {jnp.dtype(jnp.bfloat16)}
    wide = jax.tree.map(lambda v: v.astype(float), diagonal)
    assert relative_error(wide, collected(case, collect.diagonal_ggn)) < 0.1


def test_bad_input_is_refused_by_name():
    case = case_named("user's loss")
    with pytest.raises(TypeError, match="loss 'quartic' does not state a root of its Hessian"):
        collected(case, collect.diagonal_ggn)
    case = case_named("softmax, ids")
    params, x, y, _ = case.arguments(jnp.float64)
    with pytest.raises(ValueError, match="curvature is that of the network's own weights"):
        collected(case, collect.diagonal_ggn, feedback=params)
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        collect.sampled_diagonal_ggn(jax.random.key(0), 0)
    with pytest.raises(ValueError, match=r"vector\['o'\] holds weights from 'h1'"):
        jaxbp.curvature.ggn_vector_product(case.net, case.loss, params, x, y, params | {"o": {"h1": params["o"]["h1"]}})
    half = jax.tree.map(lambda W: W.astype(jnp.float32), params)
    with pytest.raises(TypeError, match=r"vector\['h1'\]\['.*'\] has dtype float32, but the parameter has float64"):
        jaxbp.curvature.hessian_vector_product(case.net, case.loss, params, x, y, half)


def test_weights_of_rows_that_differ_in_sign_leave_no_curvature():
    net = jaxbp.Network({"x": (2, 1)}, {"o": jaxbp.Unit((2, 1), jaxbp.linear, {"x": jaxbp.Dense()}, bias=False)})
    params, x = {"o": {"x": jnp.ones((1, 1))}}, jnp.ones((2, 1))

    def diagonal(weights):
        extra = {"weights": weights, "reduction": "sum", "collect": {"it": collect.diagonal_ggn}}
        return jaxbp.backprop(net, jaxbp.squared_error, params, x, x, **extra).collected["it"]["o"]["x"]

    weights = jnp.array([1.0, -0.01])
    with pytest.raises(ValueError, match="no weight of a row may be negative, or differ in sign from the others"):
        diagonal(weights)
    assert jnp.isnan(jax.jit(diagonal)(weights)).all()
