"""JAX's own habits: the public functions under jit, vmap, scan, checkpoint, jvp, export and shardings."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import RESIDUAL, SKIP, TWO_INPUTS, case_named, params_of, swept
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxbp
from jaxbp import collect

NAMES = [
    "skip connection",
    "two inputs",
    "sequence",
    "masked ids",
    "tied convolution",
    "transformer block",
    "stacks",
    "nested stacks",
    "recurrent",
    "tied tokens",
]
SLOW = ("transformer block", "nested stacks", "recurrent")
CASES = [pytest.param(case_named(name), id=name, marks=[pytest.mark.slow] if name in SLOW else []) for name in NAMES]


def of_them(*quick):
    """All cases; for the quick run these."""
    return [
        pytest.param(*case.values, id=case.id, marks=[] if case.id in quick else pytest.mark.slow) for case in CASES
    ]


def both(case):
    explicit = jaxbp.value_and_grad(case.net, case.loss)
    return explicit, jax.value_and_grad(jaxbp.objective(case.net, case.loss))


def assert_equal(ours, theirs):
    chex.assert_trees_all_equal_structs(ours, theirs)
    chex.assert_trees_all_close(ours, theirs, rtol=1e-11, atol=1e-13)


# each compiles all of its operations one by one
EAGER = ("skip connection", "masked ids", "stacks")


@pytest.mark.parametrize(
    "case", [pytest.param(case_named(n), id=n, marks=[] if n in EAGER else [pytest.mark.slow]) for n in NAMES]
)
def test_eager_is_jit(case):
    explicit, _ = both(case)
    arguments = case.arguments(jnp.float64)
    assert_equal(explicit(*arguments), jax.jit(explicit)(*arguments))


@pytest.mark.parametrize("case", [p for p in CASES if not p.values[0].weighted])
def test_vmap_over_examples(case):
    explicit, auto = both(case)
    params, x, y, _ = case.arguments(jnp.float64)
    ours = jax.jit(jax.vmap(explicit, in_axes=(None, 0, 0)))(params, x, y)
    assert_equal(ours, jax.jit(jax.vmap(auto, in_axes=(None, 0, 0)))(params, x, y))
    batch_gradient = jax.jit(explicit)(params, x, y)[1]
    mean = jax.tree.map(lambda g: np.asarray(g).mean(axis=0), ours[1])
    chex.assert_trees_all_close(mean, batch_gradient, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("case", of_them("two inputs", "tied convolution", "stacks"))
def test_vmap_over_parameters(case):
    explicit, auto = both(case)
    params, *data = case.arguments(jnp.float64)
    ensemble = jax.tree.map(lambda W: np.stack([W, 0.5 * np.asarray(W), -np.asarray(W)]), params)

    def over(f):
        return jax.jit(jax.vmap(lambda p: f(p, *data)))(ensemble)

    assert_equal(over(explicit), over(auto))


@pytest.mark.parametrize("case", of_them("skip connection", "sequence", "stacks"))
def test_inside_scan_and_checkpoint(case):
    params, *data = case.arguments(jnp.float64)

    def descend(f):
        def body(params, _):
            value, grads = jax.checkpoint(f)(params, *data)
            return jax.tree.map(lambda W, g: W - 0.1 * g, params, grads), value

        return jax.jit(lambda p: jax.lax.scan(body, p, length=5))(params)

    assert_equal(*map(descend, both(case)))


@pytest.mark.parametrize("case", of_them("masked ids", "tied convolution", "stacks"))
def test_jvp_through_it_is_a_hessian_vector_product(case):
    params, *data = case.arguments(jnp.float64)
    direction = jax.tree.map(lambda W: np.cos(np.arange(W.size, dtype=W.dtype)).reshape(W.shape), params)

    def product(f):
        return jax.jit(lambda p: jax.jvp(lambda q: f(q, *data), (p,), (direction,)))(params)

    assert_equal(*map(product, both(case)))


@pytest.mark.parametrize("case", of_them("skip connection", "sequence", "tied convolution"))
def test_grad_through_it_is_a_hessian_vector_product_too(case):
    params, *data = case.arguments(jnp.float64)

    def squared_norm_gradient(f):
        return jax.jit(jax.grad(lambda p: sum(jnp.sum(g**2) for g in jax.tree.leaves(f(p, *data)[1]))))(params)

    assert_equal(*map(squared_norm_gradient, both(case)))


@pytest.mark.parametrize("case", of_them("skip connection", "stacks"))
def test_lowers_for_every_platform(case):
    explicit, _ = both(case)
    shapes = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), case.arguments(jnp.float32))
    exported = jax.export.export(jax.jit(explicit), platforms=("cpu", "cuda", "tpu"))(*shapes)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    value, grads = exported.call(*case.arguments(jnp.float32))
    chex.assert_trees_all_close(grads, jax.jit(explicit)(*case.arguments(jnp.float32))[1], rtol=1e-4, atol=1e-6)
    assert np.isfinite(value)


def test_an_ensemble_is_initialised_trained_and_evaluated_under_vmap():
    case = case_named("skip connection")
    _, x, y, _ = case.arguments(jnp.float64)
    optimizer, gradient = optax.sgd(0.1), jaxbp.value_and_grad(case.net, case.loss)

    def member(key):
        state = jaxbp.train.init_state(key, case.net, optimizer)
        state, steps = jaxbp.train.epoch(state, x, y, gradient=gradient, optimizer=optimizer, batch_size=2)
        state, _ = jaxbp.train.step(state, x, y, gradient=gradient, optimizer=optimizer)
        return state.params, steps.loss, jaxbp.train.evaluate(case.net, case.loss, state.params, x, y)

    keys = jax.random.split(jax.random.key(0), 3)
    assert_equal(jax.tree.map(lambda v: v[1], jax.jit(jax.vmap(member))(keys)), member(keys[1]))


def test_collectors_under_jit_vmap_and_scan():
    case = case_named("softmax, ids")
    params, x, y, _ = case.arguments(jnp.float64)
    ensemble = jax.tree.map(lambda W: np.stack([W, -0.5 * np.asarray(W)]), params)

    def everything(params):
        collectors = {
            "each": collect.per_example_gradient,
            "dot": collect.per_example_dot(params),
            "norms": collect.squared_norm,
            "private": collect.clipped(0.5, noise_multiplier=1.0, key=jax.random.key(0)),
            "noise": collect.gradient_noise_scale,
            "ratio": collect.signal_to_noise,
            "factors": collect.kronecker_ggn,
            "diagonal": collect.sampled_diagonal_ggn(jax.random.key(1)),
            "gram": collect.gram,
            "statistics": collect.statistics(),
        }
        return jaxbp.backprop(case.net, case.loss, params, x, y, collect=collectors).collected

    in_turn = jax.jit(lambda ensemble: jax.lax.scan(lambda _, params: (None, everything(params)), None, ensemble)[1])
    at_once = jax.jit(jax.vmap(everything))
    found = at_once(ensemble)
    assert_equal(found, in_turn(ensemble))
    assert found["statistics"].order == ("h1", "o")


def make_net():
    return jaxbp.Network(
        inputs={"x": 4},
        units={
            "h1": jaxbp.Unit(5, jaxbp.tanh, {"x": jaxbp.Dense()}),
            "o": jaxbp.Unit(3, jaxbp.softmax, {"h1": jaxbp.Dense(), "x": jaxbp.Dense()}),
        },
    )


def test_equal_specifications_compile_once():
    chex.clear_trace_counter()
    params, x, y = params_of(make_net()), jnp.ones((5, 4)), jnp.zeros(5, int)
    back = jax.jit(chex.assert_max_traces(jaxbp.backprop, n=1), static_argnums=(0, 1))
    evaluate = jax.jit(chex.assert_max_traces(jaxbp.apply, n=1), static_argnums=0)
    for _ in range(3):
        back(make_net(), jaxbp.cross_entropy, params, x, y)
        evaluate(make_net(), params, x)
    first = jaxbp.value_and_grad(make_net(), jaxbp.cross_entropy)
    assert first is jaxbp.value_and_grad(make_net(), loss=jaxbp.cross_entropy, reduction="mean")
    assert jaxbp.objective(make_net(), jaxbp.cross_entropy) is jaxbp.objective(make_net(), jaxbp.cross_entropy)
    assert first is not jaxbp.value_and_grad(make_net(), jaxbp.unfused(jaxbp.cross_entropy))


def test_backprop_is_a_pytree():
    params, x, y, _ = case_named("skip connection").arguments(jnp.float64)
    back = jax.jit(jaxbp.backprop, static_argnums=(0, 1))(SKIP, jaxbp.cross_entropy, params, x, y)
    doubled = jax.tree.map(lambda v: 2 * np.asarray(v), back)
    np.testing.assert_array_equal(doubled.delta["h1"], 2 * back.delta["h1"])


def test_mixed_dtypes_give_cotangents_of_each_primal():
    params, x, y, _ = case_named("residual").arguments(jnp.bfloat16)
    x = x.astype(jnp.float32)
    back = jax.jit(jaxbp.backprop, static_argnums=(0, 1))(
        RESIDUAL, jaxbp.squared_error, params, x, y.astype(jnp.float32)
    )
    theirs = jax.jit(jax.grad(jaxbp.objective(RESIDUAL, jaxbp.squared_error), argnums=(0, 1)))(params, x, y)
    chex.assert_trees_all_equal_shapes_and_dtypes((back.grads, back.Delta["x"]), theirs)
    chex.assert_trees_all_close(back.Delta["x"], theirs[1], rtol=2e-2, atol=1e-2)


@pytest.mark.parametrize("precision", ["highest", "bfloat16"])
def test_the_users_matmul_precision_reaches_every_product(precision):
    case = case_named("skip connection")
    explicit, auto = both(case)
    with jax.default_matmul_precision(precision):
        ours = jax.make_jaxpr(explicit)(*case.arguments(jnp.float32))
        theirs = jax.make_jaxpr(auto)(*case.arguments(jnp.float32))

    def precisions(jaxpr):
        return {str(e.params["precision"]) for e in jaxpr.eqns if e.primitive.name == "dot_general"}

    assert precisions(ours) == precisions(theirs)
    assert len(precisions(ours)) == 1
    assert "None" not in precisions(ours)


needs_devices = pytest.mark.skipif(len(jax.devices()) < 4, reason="needs 4 devices: set JAX_NUM_CPU_DEVICES=4")


def sharded(case, mesh, spec):
    params, x, y, _ = case.arguments(jnp.float64)
    x, y = jax.tree.map(lambda v: np.concatenate([v, v, v, v]), (x, y))
    x, y = jax.device_put((x, y), NamedSharding(mesh, spec))
    return jax.device_put(params, NamedSharding(mesh, P())), x, y


PLACED = [
    pytest.param(name, marks=[] if name in ("skip connection", "tied convolution") else pytest.mark.slow)
    for name in ("skip connection", "two inputs", "residual", "convolution", "tied convolution")
]


@needs_devices
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("name", PLACED)
def test_data_parallel_over_a_mesh(name, axis_type):
    case = case_named(name)
    explicit, auto = both(case)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(axis_type,))
    params, x, y = sharded(case, mesh, P("data"))
    with jax.set_mesh(mesh):
        ours, theirs = jax.jit(explicit)(params, x, y), jax.jit(auto)(params, x, y)
    assert_equal(ours, theirs)
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(ours))
    back = jax.jit(jaxbp.backprop, static_argnums=(0, 1))(case.net, case.loss, params, x, y)
    assert back.delta["o"].sharding.spec[0] == "data"


COLLECTORS = {
    "each": collect.per_example_gradient,
    "norms": collect.squared_norm,
    "clipped": collect.clipped(0.5),
    "noise": collect.gradient_noise_scale,
    "ratio": collect.signal_to_noise,
    "gram": collect.gram,
    "diagonal": collect.sampled_diagonal_ggn(jax.random.key(1)),
}
FACTORS = {"factors": collect.kronecker, "ggn": collect.sampled_kronecker_ggn(jax.random.key(2))}


@needs_devices
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("weights", FACTORS),
        pytest.param("convolution", {}, marks=pytest.mark.slow),
        pytest.param("tied convolution", {}, marks=pytest.mark.slow),
        pytest.param("weights by row", {}, marks=pytest.mark.slow),
        pytest.param("stacks", {}, marks=pytest.mark.slow),
    ],
)
def test_collectors_on_explicit_axes(name, more):
    """There each product has to say how its result lies, and autodiff does."""
    case = case_named(name)
    params, *data = case.arguments(jnp.float64)
    data = jax.tree.map(lambda v: jnp.concatenate([v, v, v, v]), data)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Explicit,))

    @jax.jit
    def everything(params, x, y, weights):
        extra = {} if weights is None else {"weights": weights}
        return jaxbp.backprop(case.net, case.loss, params, x, y, collect=COLLECTORS | more, **extra).collected

    alone = everything(params, *data)
    with jax.set_mesh(mesh):
        placed = jax.device_put(data, NamedSharding(mesh, P("data")))
        together = everything(jax.device_put(params, NamedSharding(mesh, P())), *placed)
    assert_equal(together, alone)


@needs_devices
def test_gradients_on_explicit_axes_lie_as_their_parameters_do():
    net = jaxbp.layered([4, 8], hidden=(), output=jaxbp.tanh)
    mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
    params, x, y = jaxbp.init_params(jax.random.key(0), net), jnp.ones((8, 4)), jnp.ones((8, 8))
    lies = {"o": {"bias": P("model"), "x": P(None, "model")}}
    gradient = jax.jit(jaxbp.value_and_grad(net, jaxbp.squared_error))
    whole = gradient(params, x, y)[1]
    with jax.set_mesh(mesh):
        placed = jax.tree.map(lambda W, spec: jax.device_put(W, NamedSharding(mesh, spec)), params, lies)
        _, grads = gradient(placed, *jax.device_put((x, y), NamedSharding(mesh, P("data"))))
    assert jax.tree.map(lambda g: g.sharding.spec, grads) == lies
    chex.assert_trees_all_close(grads, whole, rtol=1e-12)


@needs_devices
@pytest.mark.parametrize("name", PLACED)
def test_inside_shard_map_it_sums_what_jax_grad_sums(name):
    case = case_named(name)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    params, x, y = sharded(case, mesh, P("data"))

    def mapped(f):
        def local(params, x, y):
            value, grads = f(params, x, y)
            return jax.lax.pmean(value, "data"), grads

        specs = (P(), P("data"), P("data"))
        return jax.jit(jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=P()))(params, x, y)

    assert_equal(*map(mapped, both(case)))


def test_unfused_and_integer_targets_under_vmap_over_two_inputs():
    case = case_named("two inputs")
    params, x, _, _ = case.arguments(jnp.float64)
    ids = jnp.array([0, 1, 1, 0, 1])
    loss = jaxbp.unfused(jaxbp.cross_entropy)
    rows = jax.jit(jax.vmap(lambda x, y: jaxbp.backprop(TWO_INPUTS, loss, params, x, y).delta["o"]))(x, ids)
    whole = swept(TWO_INPUTS, jaxbp.cross_entropy, params, x, ids, reduction="sum").delta["o"]
    np.testing.assert_allclose(rows, whole, rtol=1e-11, atol=1e-13)
