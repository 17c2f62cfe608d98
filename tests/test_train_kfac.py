"""K-FAC: factors, model and updates against the dense Gauss-Newton matrix, and how it trains."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import relative_error

import jaxbp
from jaxbp import Conv, Dense, Identity, Scale, Unit, train
from jaxbp._plan import at
from jaxbp.train import kfac
from jaxbp.train._kfac_blocks import blocks_of
from jaxbp.train._kfac_factors import BLOCK, _inverse
from jaxbp.train._kfac_model import Model

KEY, MSE = jax.random.key(0), jaxbp.squared_error
LINE = jaxbp.layered([3, 2], output=jaxbp.linear)
LEARNS = jaxbp.layered([3, 4, 2], hidden=jaxbp.tanh, output=jaxbp.softmax)


def linear(inputs, **units):
    return jaxbp.Network(
        {"x": inputs}, {u: Unit(shape, jaxbp.linear, reads, bias) for u, (shape, reads, bias) in units.items()}
    )


def stacked(shared=False):
    block = linear(3, o=(3, {"x": Dense()}, True))
    return jaxbp.Network({"x": 3}, {"blocks": jaxbp.stack(block, 2, "x", shared=shared)})


def words():
    inputs = {"x": jaxbp.ids((4,), 5)}
    return jaxbp.Network(
        inputs,
        {
            "e": Unit((4, 2), jaxbp.linear, {"x": jaxbp.Embedding(5)}),
            "o": Unit((4, 2), jaxbp.linear, {"e": Scale()}, bias=False),
        },
    )


def read_out():
    """A table that is read by ids, and whose transpose reads out."""
    table = jaxbp.Embedding(5, share="table")
    e, o = Unit((4, 2), jaxbp.linear, {"x": table}), jaxbp.Transposed(Dense(share="table"))
    return jaxbp.Network({"x": jaxbp.ids((4,), 5)}, {"e": e, "o": Unit((4, 5), jaxbp.linear, {"e": o}, bias=False)})


# Where the factorisation is exact: one example; δ that is the same for all, as in linear networks with squared error
# whose rows have losses of their own (expand) or are added up (reduce).
EXACT = {
    "one example": (LEARNS, jaxbp.cross_entropy, 1, "expand"),
    "linear": (jaxbp.layered([3, 4, 2], hidden=jaxbp.linear, output=jaxbp.linear), MSE, 5, "expand"),
    "two sources": (
        linear(3, h=(4, {"x": Dense()}, True), o=(2, {"h": Dense(), "x": Dense()}, True)), MSE, 5, "expand",
    ),
    "rows": (linear((4, 3), o=((4, 2), {"x": Dense()}, True)), MSE, 5, "expand"),
    "rows, added up": (
        linear((4, 3), h=((4, 2), {"x": Dense()}, True), o=((1, 2), {"h": jaxbp.AvgPool((4,))}, False)),
        MSE, 5, "reduce",
    ),
    "convolution": (linear((4, 5, 2), o=((2, 3, 3), {"x": Conv((3, 2), stride=2)}, True)), MSE, 3, "expand"),
    "convolution, added up": (
        linear((6, 2), h=((6, 3), {"x": Conv((3,))}, True), o=((1, 3), {"h": jaxbp.AvgPool((6,))}, False)),
        MSE, 3, "reduce",
    ),
    "stack": (stacked(), MSE, 5, "expand"),
    "shared": (
        linear(3, a=(2, {"x": Dense(share="W")}, "b"), b=(2, {"x": Dense(share="W")}, "b"),
               o=(2, {"a": Identity(), "b": Identity()}, False)), MSE, 5, "reduce",
    ),
    "table and gain": (words(), MSE, 5, "expand"),
    "table that reads out": (read_out(), MSE, 3, "expand"),
}  # fmt: skip
QUICK = ("one example", "rows, added up", "convolution", "stack")


def problem(net, loss, N):
    def drawn(key):
        params = jax.tree.map(
            lambda W: W + 0.3 * jnp.cos(jnp.arange(W.size)).reshape(W.shape), jaxbp.init_params(key, net)
        )
        shape = (N, *net.shapes["x"])
        x = jax.random.randint(key, shape, 0, 5) if net.ids else jax.random.normal(key, shape)
        y = jax.random.normal(jax.random.fold_in(key, 1), (N, *net.shapes[net.output]))
        return params, x, jnp.zeros(N, int) if loss is jaxbp.cross_entropy else y

    return jax.jit(drawn)(KEY)


def ggn_times(net, loss, params, x, y, v):
    """Jᵀ H J v of the mean loss, by autodiff of the value alone."""
    o, rule = net.units[net.output].activation, loss.at(net.units[net.output].activation).simplification

    def output(params):
        return jaxbp.forward(net, params, x).a[net.output]

    def value(a):
        targets = loss.targets(a, y)
        return jnp.sum(loss.value(o.value(a), targets) if rule is None else rule.value(a, targets)) / len(x)

    a, along = jax.jvp(output, (params,), (v,))
    return jax.vjp(output, params)[1](jax.jvp(jax.grad(value), (a,), (along,))[1])[0]


def alone(net, params, block, V):
    """A tree that is 0 but in a block."""
    parts = block.parts(V)
    return net.plan.tree(lambda place: parts.get(place, jnp.zeros_like(at(place, params))))


def stepped(net, loss, params, x, y, **options):
    optimizer = kfac(net, loss, **options)
    grads = jaxbp.value_and_grad(net, loss)(params, x, y)[1]
    return grads, *optimizer.update(grads, optimizer.init(params), params, x=x, y=y)


FIXED = {"learning_rate": 1.0, "momentum": 0.0, "adapt_every": None}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in EXACT]
)
def test_factors_and_updates_are_those_of_the_gauss_newton_matrix(name):
    """A V G is the matrix times any V in the block, and the damped factors times the update are the gradient."""
    net, loss, N, rows = EXACT[name]
    blocks = blocks_of(net)

    @jax.jit
    def errors(params, x, y):
        grads, updates, state = stepped(net, loss, params, x, y, samples=None, rows=rows, damping=0.3, **FIXED)
        found = {}
        for block in blocks:
            factors, g, step = state.factors[block.name], block.matrix(grads), block.matrix(updates)
            V = jnp.sin(1 + jnp.arange(g.size)).reshape(g.shape)
            of_layers = jnp.eye(math.prod(block.depths)).reshape(-1, *block.depths)
            truth = sum(  # each layer is a block of its own
                block.matrix(ggn_times(net, loss, params, x, y, alone(net, params, block, one * V))) * one
                for one in (jnp.expand_dims(layer, tuple(range(layer.ndim, V.ndim))) for layer in of_layers)
            )
            if not block.factored:
                one = jnp.eye(g.size).reshape(-1, *g.shape)
                columns = jax.vmap(lambda V, b=block: ggn_times(net, loss, params, x, y, alone(net, params, b, V)))(one)
                diagonal = jnp.sum(jax.vmap(block.matrix)(columns) * one, axis=0)
                found[block.name] = (factors, diagonal), (step * (diagonal + 0.3), -g)
                continue
            damped = []
            for A, G in zip(*(f.reshape(-1, *f.shape[-2:]) for f in factors), strict=True):
                pi = jnp.sqrt(jnp.trace(A) / len(A) / (jnp.trace(G) / len(G)))
                damped.append((A + pi * 0.3**0.5 * jnp.eye(len(A)), G + 0.3**0.5 / pi * jnp.eye(len(G))))
            A, G = (jnp.stack(of).reshape(f.shape) for of, f in zip(zip(*damped, strict=True), factors, strict=True))
            found[block.name] = (factors.A @ V @ factors.G, truth), (A @ step @ G, -g)
        return found, sum(block.matrix(params).size for block in blocks)

    found, size = errors(*problem(net, loss, N))
    for name, ((ours, theirs), (product, gradient)) in found.items():
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(product, gradient, rtol=1e-10, atol=1e-12, err_msg=name)
    assert size == sum(math.prod(shape) for shape in net.plan.weight_shapes.values())


@pytest.mark.slow
def test_one_step_on_a_quadratic_is_newtons():
    net = linear((4, 3), o=((4, 2), {"x": Dense()}, True))

    @jax.jit
    def after_a_step(params, x, y):
        _, updates, state = stepped(net, MSE, params, x, y, samples=None, damping=1e-22)
        after = jax.tree.map(jnp.add, params, updates)
        return state, *jaxbp.value_and_grad(net, MSE)(after, x, y)

    state, value, grads = after_a_step(*problem(net, MSE, 8))
    assert max(np.abs(g).max() for g in jax.tree.leaves(grads)) <= 1e-9 < 0.01 < value
    np.testing.assert_allclose((state.learning_rate, state.momentum), (1, 0), atol=1e-8)


@pytest.mark.slow
def test_steps_are_where_the_damped_model_is_least_and_damping_follows_it():
    """Over six steps of a linear network, whose model says exactly what the loss does."""
    optimizer = kfac(LINE, MSE, samples=None, damping=0.5, weight_decay=0.1, inverses_every=2)

    def dot(v, w):
        return sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(v), jax.tree.leaves(w), strict=True))

    @jax.jit
    def slopes(params, x, y):
        def one(carried, _):
            params, state = carried
            grads = jaxbp.value_and_grad(LINE, MSE)(params, x, y)[1]
            step, after = optimizer.update(grads, state, params, x=x, y=y)
            bent, v = ggn_times(LINE, MSE, params, x, y, step), state.velocity
            of_model = jax.tree.map(
                lambda g, W, b, d: g + 0.1 * W + b + (0.1 + state.damping) * d, grads, params, bent, step
            )
            direction = jax.tree.map(lambda d, w: d - after.momentum * w, step, v)
            # no step along both directions is better
            slopes = jnp.stack([dot(of_model, direction) / dot(direction, direction), dot(of_model, v)])
            return (jax.tree.map(jnp.add, params, step), after), (slopes, after.momentum)

        return jax.lax.scan(one, (params, optimizer.init(params)), length=6)

    (_, state), (found, momentum) = slopes(*problem(LINE, MSE, 6))
    np.testing.assert_allclose(found, 0, atol=1e-12)
    assert np.all(momentum[1:] != 0)
    assert state.ratio == pytest.approx(1, abs=1e-6)
    assert state.damping == pytest.approx(0.5 * 0.95**5)


@pytest.mark.slow
def test_damping_grows_and_the_bound_holds_where_steps_are_too_long():
    """A step ten times as long as it should be makes the loss grow."""
    data, options = problem(LINE, MSE, 6), {"samples": None, "damping": 1e-20}
    wild = FIXED | {"learning_rate": 10.0, "adapt_every": 1, "damping": 0.5}

    @jax.jit
    def found(params, x, y):
        *_, state = stepped(LINE, MSE, params, x, y, **wild)
        bent = []
        for fixed in ({}, FIXED):
            step = stepped(LINE, MSE, params, x, y, norm_bound=1e-3, **options, **fixed)[1]
            product = ggn_times(LINE, MSE, params, x, y, step)
            bent.append(sum(jnp.vdot(*both) for both in zip(*map(jax.tree.leaves, (step, product)), strict=True)))
        return state.ratio, state.damping, bent

    ratio, damping, bent = found(*data)
    assert ratio < 0
    assert damping == pytest.approx(0.5 / 0.95)
    assert bent == [pytest.approx(1e-3, rel=1e-6)] * 2


def test_no_step_promises_more_than_there_is_to_gain():
    """Where softmax is sure and wrong, the Gauss-Newton matrix is next to 0 and the slope is not."""
    net, x, y = jaxbp.layered([1, 2], output=jaxbp.softmax), jnp.ones((1, 1)), jnp.zeros(1, int)
    params = {"o": {"x": jnp.array([[-4.0, 4.0]]), "bias": jnp.zeros(2)}}
    optimizer = kfac(net, jaxbp.cross_entropy, damping=1e-3, samples=None, adapt_every=None)
    value, grads = jaxbp.value_and_grad(net, jaxbp.cross_entropy)(params, x, y)

    @jax.jit
    def promised(most):
        step, _ = optimizer.update(grads, optimizer.init(params), params, x=x, y=y, value=most)
        bent = ggn_times(net, jaxbp.cross_entropy, params, x, y, step)
        parts = zip(*map(jax.tree.leaves, (grads, bent, step)), strict=True)
        return -sum(jnp.vdot(g + 0.5 * (b + 1e-3 * v), v) for g, b, v in parts)

    assert promised(jnp.inf) > 10 * value
    assert promised(value) == pytest.approx(float(value), rel=1e-9)


def test_parallel_directions_leave_one():
    model = Model(jnp.array([-1.0, -2.0]), jnp.array([[1.0, 2.0], [2.0, 4.0]]), jnp.zeros((2, 2)))
    assert jax.jit(lambda model: model.least(jnp.zeros(()), None, None))(model).tolist() == [1, 0]


def test_inverses_in_blocks_are_inverses():
    assert BLOCK < 257
    H = np.random.default_rng(0).normal(size=(257, 257))
    matrix = H @ H.T + np.eye(257)
    np.testing.assert_allclose(jax.jit(_inverse)(matrix) @ matrix, np.eye(257), atol=1e-10)


@pytest.mark.slow
def test_random_targets_estimate_the_factors():
    two = jaxbp.layered([3, 2], output=jaxbp.softmax)

    def factors(samples):
        step = jax.jit(lambda *data: stepped(two, jaxbp.cross_entropy, *data, samples=samples, **FIXED)[-1].factors)
        return step(*problem(two, jaxbp.cross_entropy, 5))

    exact, few, many = map(factors, (None, 1, 500))
    assert relative_error(many, exact) < 0.1 < relative_error(few, exact)


X = jax.random.normal(jax.random.key(1), (32, 3))
Y = (X[:, 0] > 0).astype(int)
TRAINS = kfac(LEARNS, jaxbp.cross_entropy, damping=0.1, inverses_every=2, factors_every=2)
GRADIENT = jaxbp.value_and_grad(LEARNS, jaxbp.cross_entropy)


def trained(**options):
    options = {"optimizer": TRAINS, "batch_size": 8, "key": KEY, "epochs": 3} | options
    *_, last = train.run(LEARNS, jaxbp.cross_entropy, X, Y, **options)
    return last.state


@pytest.fixture(scope="module")
def whole():
    return trained()


def same(ours, theirs):
    return relative_error(*(jax.device_get(state.opt_state[1:]) for state in (ours, theirs))) <= 1e-8


@pytest.mark.slow
def test_it_learns_in_a_scan(whole):
    assert np.mean(jaxbp.train.evaluate(LEARNS, jaxbp.cross_entropy, whole.params, X, Y)["loss"]) < 0.15
    assert whole.opt_state.damping < 0.1


@pytest.mark.slow
def test_meshes_checkpoints_and_weights_change_nothing(whole, tmp_path):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    assert same(trained(mesh=mesh), whole)
    for epochs in (2, 3):
        checkpoints = train.Checkpoints(tmp_path, every=4)
        last = trained(epochs=epochs, checkpoints=checkpoints, resume=epochs == 3)
    assert same(last, whole)
    # a part of the data is all of it with weights of 0
    start, some = train.init_state(KEY, LEARNS, TRAINS), {"gradient": GRADIENT, "optimizer": TRAINS}
    weighted, _ = train.step(start, X, Y, **some, weights=1.0 * (np.arange(32) >= 16))
    half, _ = train.step(start, X[16:], Y[16:], **some)
    assert relative_error(weighted.opt_state.factors["h1.x"].A, half.opt_state.factors["h1.x"].A) <= 1e-12


@pytest.mark.parametrize(
    ("net", "loss", "says"),
    [
        (linear(3, o=(3, {"x": Identity()}, False)), MSE, "no weights, so there is nothing that kfac could train"),
        (linear(3, h=(2, {"x": Dense(share="W")}, True), o=(3, {"h": jaxbp.Transposed(Dense(share="W"))}, True)), MSE,
         "no rule for Transposed connections, as 'h' ⇒ 'o'"),
        (linear((4, 2), o=((4, 2), {"x": Conv((3,), groups=2)}, True)), MSE,
         "no rule for convolutions in groups, as 'x' ⇒ 'o'"),
        (LINE, jaxbp.Loss(lambda o, y: jnp.sum(o - y, -1), lambda o, y: o - y, name="mine"),
         "loss 'mine' does not state a root of its Hessian"),
    ],
)  # fmt: skip
def test_what_has_no_rule_is_refused_by_name(net, loss, says):
    with pytest.raises((TypeError, ValueError), match=says):
        kfac(net, loss)


def test_what_does_not_see_the_batch_is_refused():
    params = jaxbp.init_params(KEY, LEARNS)
    with pytest.raises(ValueError, match="kfac needs the parameters and the batch"):
        TRAINS.update(params, TRAINS.init(params), params)


@pytest.mark.slow
def test_a_fused_gradient_does_not_go_with_it():
    block = jaxbp.Network({"x": 3}, {"o": Unit(3, jaxbp.tanh, {"x": Dense()})})
    deep = jaxbp.Network({"x": 3}, {"o": jaxbp.stack(block, 2, "x")})
    optimizer = kfac(deep, MSE)
    state = train.init_state(KEY, deep, optimizer)
    with pytest.raises(ValueError, match="kfac needs the parameters and the batch"):
        train.step(state, X, X, gradient=train.fused(deep, MSE), optimizer=optimizer)
