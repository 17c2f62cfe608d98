"""Influence against its definition by vmap(jax.grad) and against the step itself; projections, and rows on disk."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import case_named, params_of
from reference import relative_error
from test_collect import own_gradients

import jaxbp
from jaxbp import collect, curvature

NAMES = ("two batch axes", "sequence", "convolution", "shared weights", "words")
NET = jaxbp.layered([3, 4, 2], hidden=jaxbp.tanh, output=jaxbp.softmax)
LOSS = jaxbp.cross_entropy
PARAMS = params_of(NET)
X, Y = jax.random.normal(jax.random.key(1), (7, 3)), jnp.arange(7) % 2
GRADIENT = jax.jit(jaxbp.value_and_grad(NET, LOSS))
V = GRADIENT(PARAMS, X[:2] + 1, Y[:2])[1]
RANDOM_OF = jax.jit(curvature.random_projections, static_argnums=(1, 2))
RANDOM = RANDOM_OF(jax.random.key(2), NET, 2)
INFLUENCE = jax.jit(curvature.influence, static_argnums=(0, 1))
FACTORS = jax.jit(partial(jaxbp.backprop, NET, LOSS, collect={"it": collect.kronecker_ggn}))(PARAMS, X, Y).collected[
    "it"
]
BLOCK = jaxbp.Network(inputs={"x": 3}, units={"o": jaxbp.Unit(3, jaxbp.tanh, {"x": jaxbp.Dense()})})


def deep(shared):
    stacked = jaxbp.stack(BLOCK, 2, "x", shared=shared)
    return jaxbp.Network({"x": 3}, {"blocks": stacked, "o": jaxbp.Unit(2, jaxbp.softmax, {"blocks": jaxbp.Dense()})})


def projections_of(net):
    """As random ones, but nothing has to be compiled for them."""
    rng, plan = np.random.default_rng(0), net.plan

    def of(place):
        layers, shape = sum(plan.uses[place][0].layers), plan.weight_shapes[place]
        sizes = math.prod(shape[layers:-1]), shape[-1]
        return collect.Projection(*(rng.normal(size=(*shape[:layers], size, 2)) for size in sizes))

    return plan.tree(of)


def by_definition(gradients, projections):
    """Pᵀ g Q of every weight, written out, the examples first."""
    rows = []
    P_and_Q = iter(jax.tree.leaves(projections))  # in the order of the leaves, two for each
    for g, P, Q in zip(jax.tree.leaves(gradients), P_and_Q, P_and_Q, strict=True):
        g = jnp.reshape(g, (g.shape[0], *P.shape[:-1], -1))
        rows.append(jnp.einsum("n...su,...sk,...ul->n...kl", g, P, Q).reshape(g.shape[0], -1))
    return jnp.concatenate(rows, axis=1)


@pytest.mark.parametrize("name", NAMES)
def test_projected_rows_are_their_definition(name):
    case = case_named(name)
    projections = projections_of(case.net)

    @jax.jit
    def both(params, x, y, weights):
        own, scale = own_gradients(case, params, x, y, weights)
        added = jax.tree.map(lambda g: scale.reshape(-1, *[1] * (g.ndim - 1)) * g, own)
        extra = {"weights": weights, "reduction": case.reduction, "collect": {"it": collect.projected(projections)}}
        ours = jaxbp.backprop(case.net, case.loss, params, x, y, **extra).collected["it"]
        return ours, by_definition(added, projections)

    ours, theirs = both(*case.arguments(jnp.float64))
    assert ours.shape[:-1] == case.batch
    assert relative_error(ours.reshape(theirs.shape), theirs) <= 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
def test_projected_rows_of_stacks_are_their_definition(shared):
    net = deep(shared)
    params, projections = params_of(net), projections_of(net)
    along = jax.jit(partial(jax.tree.map, jnp.cos))(params)

    @jax.jit
    def both(params, along):
        each = jax.vmap(jax.grad(jaxbp.objective(net, LOSS)), (None, 0, 0))(params, X, Y)
        wanted = {"it": collect.projected(projections)}
        ours = jaxbp.backprop(net, LOSS, params, X, Y, reduction="sum", collect=wanted).collected["it"]
        inside = by_definition(jax.tree.map(lambda v: v[None], along), projections)[0]
        found = curvature.influence(net, LOSS, params, X, Y, along, projections=projections)
        return ours, by_definition(each, projections), inside, found

    ours, theirs, inside, found = both(params, along)
    assert relative_error(ours, theirs) <= 1e-10
    assert relative_error(found, ours @ inside) <= 1e-10


def test_influence_is_the_inner_product_of_gradients_and_what_one_step_changes():
    found = INFLUENCE(NET, LOSS, PARAMS, X, Y, V)
    value = jax.jit(jaxbp.objective(NET, LOSS))
    each = jax.jit(jax.vmap(jax.grad(jaxbp.objective(NET, LOSS)), (None, 0, 0)))(PARAMS, X, Y)
    each, along = jax.device_get((each, V))
    dots = sum(jax.tree.leaves(jax.tree.map(lambda g, v: g.reshape(7, -1) @ v.reshape(-1), each, along)))
    assert relative_error(found, dots) <= 1e-10
    rate = 1e-6
    for i in (0, 3):
        start = jax.device_get(PARAMS)
        stepped = [jax.tree.map(lambda W, g, eta=eta, i=i: W - eta * g[i], start, each) for eta in (rate, -rate)]
        forth, back = (value(params, X[:2] + 1, Y[:2]) for params in stepped)
        np.testing.assert_allclose((forth - back) / 2, -rate * found[i], rtol=1e-8)


@pytest.mark.slow
def test_influence_in_the_metric_of_whitening_is_that_of_the_damped_factors():
    whitened = jax.jit(curvature.whitening)(FACTORS, 0.1)
    preconditioned = {}
    for u, s in (("h1", "x"), ("h1", "bias"), ("o", "h1"), ("o", "bias")):
        A, B = (F + 0.1 * np.trace(F) / len(F) * np.eye(len(F)) for F in map(np.asarray, FACTORS[u][s]))
        v = np.linalg.solve(A, np.reshape(V[u][s], (len(A), len(B)))) @ np.linalg.inv(B)
        preconditioned.setdefault(u, {})[s] = jnp.asarray(v.reshape(V[u][s].shape))
    ours = INFLUENCE(NET, LOSS, PARAMS, X, Y, V, projections=whitened)
    assert relative_error(ours, INFLUENCE(NET, LOSS, PARAMS, X, Y, preconditioned)) <= 1e-10
    leading = curvature.whitening({"h1": {"x": FACTORS["h1"]["x"]}}, 0.1, rank=2)["h1"]["x"]
    np.testing.assert_allclose(leading.source, whitened["h1"]["x"].source[:, :2], rtol=1e-10)
    A = np.asarray(FACTORS["h1"]["x"].source)
    largest = np.linalg.eigvalsh(A)[-1]
    np.testing.assert_allclose(np.sum(np.square(leading.source[:, 0])), 1 / (largest + np.trace(A) / 30), rtol=1e-10)
    nothing = curvature.whitening({"o": {"x": collect.KroneckerFactors(jnp.zeros((3, 3)), jnp.eye(4))}}, 0.1, rank=2)
    assert not np.any(nothing["o"]["x"].source)


def test_random_projections_keep_inner_products_in_the_mean_and_all_of_them_at_full_rank():
    of = RANDOM_OF(jax.random.key(0), jaxbp.layered([300, 2], output=jaxbp.linear), 200)["o"]
    P = of["x"].source
    assert P.shape == (300, 200)
    np.testing.assert_allclose(np.mean(np.sum(np.square(P), axis=1)), 1, atol=0.02)
    exact = RANDOM_OF(jax.random.key(0), NET, 4)
    ours = INFLUENCE(NET, LOSS, PARAMS, X, Y, V, projections=exact)
    assert relative_error(ours, INFLUENCE(NET, LOSS, PARAMS, X, Y, V)) <= 1e-12


def test_rows_on_disk_are_those_of_the_whole_whatever_the_batches(tmp_path):
    path = tmp_path / "rows.npy"
    each = jax.jit(jax.vmap(jax.grad(jaxbp.objective(NET, LOSS)), (None, 0, 0)))(PARAMS, X, Y)
    whole = jax.jit(by_definition)(each, RANDOM)
    for size in (3, 100):
        rows = curvature.projected_gradients(path, NET, LOSS, PARAMS, X, Y, RANDOM, batch_size=size)
        assert isinstance(rows, np.memmap)
        assert not rows.flags.writeable
        np.testing.assert_allclose(rows, whole, rtol=1e-10, atol=1e-14)
    assert [file.name for file in tmp_path.iterdir()] == ["rows.npy"]
    along = GRADIENT(PARAMS, X[4:5], Y[4:5])[1]
    ours = INFLUENCE(NET, LOSS, PARAMS, X, Y, along, projections=RANDOM)
    assert relative_error(rows @ rows[4], ours) <= 1e-10


def test_what_fails_half_way_leaves_no_file(tmp_path):
    targets = np.append(np.asarray(Y[:6]), 0.5)
    with pytest.raises(TypeError):
        curvature.projected_gradients(tmp_path / "rows.npy", NET, LOSS, PARAMS, X, targets, RANDOM, batch_size=3)
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_is_refused_by_name(tmp_path):
    def projected(tree):
        wanted = {"it": collect.projected(tree)}
        return lambda: jax.eval_shape(partial(jaxbp.backprop, NET, LOSS, collect=wanted), PARAMS, X, Y)

    def spoilt(**of_h1):
        return RANDOM | {"h1": RANDOM["h1"] | of_h1}

    def with_metric(tree):
        return lambda: curvature.influence(NET, LOSS, PARAMS, X, Y, V, projections=tree)

    narrow = spoilt(x=collect.Projection(jnp.ones((2, 2)), jnp.ones((4, 2))))
    source = r"the source of the projection of 'h1.x' has shape \(2, 2\), expected \(3, any\) for a weight of shape"
    store = curvature.projected_gradients
    refused = [
        (projected({"h1": RANDOM["h1"]}), ValueError, "projections holds the units 'h1', but the network has"),
        (projected(spoilt(x=jnp.ones(3))), TypeError, r"the projection of 'h1.x' must be a jaxbp.collect.Projection"),
        (projected(spoilt(z=1)), ValueError, r"projections holds weights of 'h1' from .*, 'z', but"),
        (projected(narrow), ValueError, source),
        (with_metric(narrow), ValueError, source),
        (with_metric({"h1": {}}), ValueError, "projections has nothing for the weight 'h1.x'"),
        (lambda: store(tmp_path / "r", NET, LOSS, PARAMS, X, Y[:3], RANDOM), ValueError, r"y has shape \(3,\); exp"),
        (lambda: curvature.whitening(PARAMS, 0.1), TypeError, r"factors\['h1'\]\['.*'\] must be a jaxbp.collect.Kron"),
        (lambda: curvature.whitening(FACTORS, 0.0), ValueError, "damping must be positive"),
    ]  # fmt: skip
    for call, error, message in refused:
        with pytest.raises(error, match=message):
            call()
    assert not list(tmp_path.iterdir())
