"""Collectors against their definitions by vmap(jax.grad), over networks, losses and batches."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import Case, case_named, params_of
from reference import relative_error

import jaxbp
from jaxbp import collect

NAMES = (
    "softmax, ids", "no batch axis", "two batch axes", "batch of one", "masked ids", "weights, two batch axes", "sum",
    "weighted sum", "skip connection", "residual", "two inputs", "softmax inside", "sequence",
    "sequence, no batch axis", "tanh without bias", "convolution", "tied convolution", "transformer block",
    "shared weights", "masked and scaled", "padded tokens", "words", "llama block",
    "weights by row",
)  # fmt: skip
# each of the others has nothing that these have not together
QUICK = (
    "softmax, ids", "no batch axis", "masked ids", "weights, two batch axes", "weighted sum", "skip connection",
    "sequence", "tied convolution", "transformer block", "shared weights", "masked and scaled", "words",
    "weights by row",
)  # fmt: skip
SOME = [pytest.param(case_named(name), id=name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in NAMES]
MAX_NORM = 0.75
DEFINED = (
    "gradient", "per_example_gradient", "per_example_dot", "squared_norm", "clipped", "second_moment", "variance",
    "gram",
)  # fmt: skip


def own_gradients(case: Case, params, x, y, weights):
    """∇L_i of each example by vmap(jax.grad) of its definition, and its scale_i, with the batch as one axis."""
    axes = len(case.batch)
    w = jnp.ones(case.batch) if weights is None else weights
    by_row = w.ndim > axes
    x, y, w = jax.tree.map(lambda a: a.reshape(-1, *a.shape[axes:]), (x, y, w))
    if case.targets == "masked":
        y = jnp.where(w == 0, 0, y)

    def own_loss(params, x, y, w):
        trace = jaxbp.forward(case.net, params, x)
        a, o = trace.a[case.net.output], trace.h[case.net.output]
        head = case.loss.at(case.net.units[case.net.output].activation)
        losses = head.value(a, o, case.loss.targets(o, y))
        return jnp.sum(w * losses) / jnp.where(jnp.sum(w) == 0, 1, jnp.sum(w)) if by_row else jnp.sum(losses)

    gradients = jax.vmap(jax.grad(own_loss), in_axes=(None, 0, 0, 0))(params, x, y, w)
    w = jnp.sum(w, axis=tuple(range(1, w.ndim)))
    return gradients, w / w.sum() if case.reduction == "mean" else w


def weights_into(net, u):
    """The weights that a unit uses, by group and name: its own, and those that it shares."""
    unit = net.units[u]
    if not isinstance(unit, jaxbp.Unit):
        return []
    own = [(u, s) for s in net.weight_shapes[u]]
    names = [c.share for c in unit.connections.values()] + [unit.bias if isinstance(unit.bias, str) else None]
    return own + [("shared", name) for name in dict.fromkeys(names) if name is not None]


def over_examples(scale, gradient):
    return scale.reshape(-1, *[1] * (gradient.ndim - 1)) * gradient


def definitions(case: Case, params, x, y, weights, other):
    own, scale = own_gradients(case, params, x, y, weights)
    added = jax.tree.map(lambda g: over_examples(scale, g), own)
    p = scale / scale.sum()
    second = jax.tree.map(lambda g: jnp.sum(over_examples(p, g**2), axis=0), own)
    mean = jax.tree.map(lambda g: jnp.sum(over_examples(p, g), axis=0), own)
    grams_of = jax.tree.map(lambda g: g.reshape(g.shape[0], -1) @ g.reshape(g.shape[0], -1).T, added)
    total = sum(jax.tree.leaves(grams_of))
    into = {u: [grams_of[group][name] for group, name in weights_into(case.net, u)] for u in case.net.units}
    grams = {u: sum(of_weights) for u, of_weights in into.items() if of_weights}
    counted = scale != 0
    own_norms = jnp.sqrt(jnp.diagonal(total)) / jnp.where(counted, scale, 1)
    factors = jnp.where(counted, jnp.minimum(1, MAX_NORM / own_norms), 0)
    dots = sum(
        jnp.sum(g * v[None], axis=tuple(range(1, g.ndim)))
        for g, v in zip(jax.tree.leaves(added), jax.tree.leaves(other), strict=True)
    )

    def batched(a):
        return a.reshape(*case.batch, *a.shape[1:])

    return {
        "gradient": jax.tree.map(lambda g: g.sum(0), added),
        "per_example_gradient": jax.tree.map(batched, added),
        "per_example_dot": batched(dots),
        "squared_norm": (
            jax.tree.map(lambda g: batched(jnp.sum(g**2, axis=tuple(range(1, g.ndim)))), added),
            {u: batched(jnp.diagonal(K)) for u, K in grams.items()},
            batched(jnp.diagonal(total)),
        ),
        "clipped": jax.tree.map(lambda g: jnp.sum(over_examples(factors, g), axis=0), added),
        "second_moment": second,
        "variance": jax.tree.map(lambda s, m: s - m**2, second, mean),
        "gram": (grams, total),
    }


def collected(case: Case, params, x, y, weights, other):
    collectors = {name: getattr(collect, name) for name in DEFINED if name not in ("clipped", "per_example_dot")}
    collectors |= {"clipped": collect.clipped(MAX_NORM), "per_example_dot": collect.per_example_dot(other)}
    back = jaxbp.backprop(
        case.net, case.loss, params, x, y, weights=weights, reduction=case.reduction, collect=collectors
    )
    return {name: tuple(v) if isinstance(v, tuple) else v for name, v in back.collected.items()}


@pytest.mark.parametrize("case", SOME)
def test_each_collector_is_its_definition(case):
    params, x, y, weights = case.arguments(jnp.float64)
    other = jax.tree.map(lambda W: jnp.cos(W + 1), params)
    both = jax.jit(lambda *args: (collected(case, *args), definitions(case, *args)))
    ours, theirs = both(params, x, y, weights, other)
    assert set(ours) == set(theirs)
    for name in theirs:
        error = relative_error(ours[name], theirs[name]) if name != "variance" else _absolute(ours[name], theirs[name])
        assert error <= 1e-10, name


def _absolute(ours, theirs):
    """Where all examples agree the variance is nothing but rounding."""
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return max((float(np.max(np.abs(a - b))) for a, b in pairs), default=0.0)


# What the definitions leave open.

CASE = case_named("softmax, ids")


def collect_one(collector, case=CASE, dtype=jnp.float64):
    @jax.jit
    def run(params, x, y, weights):
        extra = {"weights": weights, "reduction": case.reduction, "collect": {"it": collector}}
        return jaxbp.backprop(case.net, case.loss, params, x, y, **extra).collected["it"]

    return run(*case.arguments(dtype))


def test_a_wrong_rule_is_caught(monkeypatch):
    """‖h‖ ‖δ‖ for ‖h‖² ‖δ‖² in one connection must not pass for a norm, nor for what is clipped by it."""
    norms = jaxbp.Dense.squared_norms
    monkeypatch.setattr(jaxbp.Dense, "squared_norms", lambda self, W, h, delta: jnp.sqrt(norms(self, W, h, delta)))
    arguments = (*CASE.arguments(jnp.float64), jax.tree.map(jnp.cos, CASE.arguments(jnp.float64)[0]))
    ours, theirs = jax.jit(lambda *arguments: (collected(CASE, *arguments), definitions(CASE, *arguments)))(*arguments)
    assert relative_error(ours["squared_norm"], theirs["squared_norm"]) > 1e-3
    assert relative_error(ours["clipped"], theirs["clipped"]) > 1e-3
    assert relative_error(ours["gram"], theirs["gram"]) <= 1e-10


def test_a_large_norm_clips_nothing_and_a_small_one_everything():
    gradient = collect_one(collect.gradient)
    assert relative_error(collect_one(collect.clipped(1e6)), gradient) <= 1e-12
    N, total = CASE.batch[0], collect_one(collect.clipped(1e-3))
    norm = np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(total)))
    assert norm <= 1e-3 * (1 + 1e-12)  # the mean of N gradients of norm 1e-3
    assert norm > 1e-3 / N


# A bound that privacy rests on holds for every input.

RANGES = [jnp.float64, jnp.float32, jnp.bfloat16, jnp.float16]


@partial(jax.jit, static_argnames=("net", "max_norm"))
def clipped_alone(net, params, x, y, max_norm):
    """What one example of x and target y adds to the clipped sum."""
    clip = collect.clipped(max_norm)
    back = jaxbp.backprop(net, jaxbp.squared_error, params, x, y, collect={"it": clip}, reduction="sum")
    return back.collected["it"]


def whole_range(rng, shape, dtype):
    """Numbers of all magnitudes that a dtype has, subnormal ones, 0, infinities and NaN among them."""
    finfo = jnp.finfo(dtype)
    lowest, highest = np.log2(float(finfo.smallest_subnormal)), np.log2(float(finfo.max))
    values = rng.choice([-1, 1], shape) * 2 ** rng.uniform(lowest, highest, shape)
    special = rng.choice([0.0, np.inf, np.nan, 1.0, float(finfo.max)], shape)
    return jnp.asarray(np.where(rng.uniform(size=shape) < 0.02, special, values).astype(dtype))


def long_norm(tree):
    """In the widest floats there are, whose range no square leaves."""
    leaves = [np.asarray(leaf).astype(np.float64).astype(np.longdouble) for leaf in jax.tree.leaves(tree)]
    return np.sqrt(sum(np.sum(leaf**2) for leaf in leaves))


KINDS = ["dense", "rows", "few rows", "scale", "shared", "convolution"]
FIRST = {
    ("dense", jnp.float16),
    ("rows", jnp.float32),
    ("few rows", jnp.float32),
    ("shared", jnp.float32),
    ("convolution", jnp.bfloat16),
}


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        pytest.param(
            kind, dtype, id=f"{kind}-{dtype.__name__}", marks=[] if (kind, dtype) in FIRST else [pytest.mark.slow]
        )
        for kind in KINDS
        for dtype in RANGES
    ],
)
def test_no_example_adds_more_than_the_bound(kind, dtype):
    rows, dense = (4, 3), {"x": jaxbp.Dense()}
    units = {
        "dense": {"o": jaxbp.Unit(3, jaxbp.linear, {"x": jaxbp.Dense()})},
        "rows": {"o": jaxbp.Unit(rows, jaxbp.linear, dense)},
        "few rows": {"o": jaxbp.Unit((2, 5), jaxbp.linear, dense)},  # whose gradients are larger than they are
        "scale": {"o": jaxbp.Unit(rows, jaxbp.linear, {"x": jaxbp.Scale()})},
        "shared": {
            "p": jaxbp.Unit(rows, jaxbp.linear, {"x": jaxbp.Dense(share="W")}, bias="b"),
            "o": jaxbp.Unit(rows, jaxbp.linear, {"x": jaxbp.Dense(share="W"), "p": jaxbp.Identity()}, bias="b"),
        },
        "convolution": {"o": jaxbp.Unit((4, 2), jaxbp.linear, {"x": jaxbp.Conv((3,))})},
    }
    net = jaxbp.Network(inputs={"x": {"dense": 3, "few rows": (2, 5)}.get(kind, rows)}, units=units[kind])
    params = jax.tree.map(jnp.zeros_like, params_of(net, dtype))
    rng = np.random.default_rng(0)
    C, N = 0.5, 300
    x, y = (whole_range(rng, (N, *net.shapes[name]), dtype) for name in ("x", net.output))
    # two rows that are large and nearly cancel hide a norm from squares that are added up
    cancelling = x.at[: N // 3, ..., :].set(x[: N // 3, :1, ...] if kind != "dense" else x[: N // 3])
    x = cancelling
    each = jax.jit(jax.vmap(lambda x, y: clipped_alone(net, params, x, y, C)))(x, y)
    norms = np.array([long_norm(jax.tree.map(lambda g: g[i], each)) for i in range(N)])  # noqa: B023
    assert np.all(np.isfinite(norms))
    assert np.max(norms) <= C * (1 + 2 * float(jnp.finfo(dtype).eps))
    assert np.mean(norms > 0.9 * C) > 0.02  # and many are as large as they may be


@pytest.mark.parametrize("dtype", RANGES, ids=lambda d: d.__name__)
def test_clipped_examples_keep_their_direction_over_the_whole_range(dtype):
    net = jaxbp.layered([2, 3], output=jaxbp.linear, bias=False)
    params = {"o": {"x": jnp.zeros((2, 3), dtype)}}
    rng = np.random.default_rng(1)
    x, y = whole_range(rng, (300, 2), dtype), whole_range(rng, (300, 3), dtype)
    each = jax.jit(jax.vmap(lambda x, y: clipped_alone(net, params, x, y, 1.0)))(x, y)["o"]["x"]
    tiny = float(jnp.finfo(jnp.promote_types(dtype, jnp.float32)).tiny)
    wide = [np.asarray(v).astype(np.float64).astype(np.longdouble) for v in (x, -y)]
    h, delta = (np.where(np.abs(v) < tiny, 0, v) for v in wide)  # which machines take for 0
    with np.errstate(invalid="ignore"):
        g = h[:, :, None] * delta[:, None, :]
    norms = np.sqrt(np.sum(g**2, axis=(1, 2)))
    # beyond these the factors are subnormal, and an example adds nothing
    inside = (norms < 1 / (16 * tiny)) & np.all(np.abs(delta) < 1 / (16 * tiny), axis=1)
    assert np.mean(inside) > 0.4
    assert np.mean(inside & (norms > 1)) > 0.2
    expected = g[inside] / np.maximum(norms, 1)[inside, None, None]
    each = np.asarray(each, np.float64)
    assert np.max(np.abs(each[inside] - expected)) <= 20 * float(jnp.finfo(dtype).eps)
    assert not np.any(each[~np.isfinite(norms)])


BOUNDS = [
    (jnp.float32, 1e30, 1e-24, -1.0),  # ‖h‖² is infinite and ‖δ‖² is 0
    (jnp.float16, 300, 1e-4, -0.03),
    (jnp.float16, 2000, 1.0, -1.0),
]


@pytest.mark.parametrize(("dtype", "x", "y", "expected"), BOUNDS)
def test_norms_do_not_overflow_on_the_way(dtype, x, y, expected):
    net = jaxbp.layered([1, 1], output=jaxbp.linear, bias=False)
    params = {"o": {"x": jnp.zeros((1, 1), dtype)}}
    gradient = clipped_alone(net, params, jnp.array([x], dtype), jnp.array([y], dtype), 1.0)["o"]["x"]
    np.testing.assert_allclose(float(gradient[0, 0]), expected, rtol=2e-3)


def test_an_example_that_is_not_finite_spoils_no_other():
    params, x, y, _ = CASE.arguments(jnp.float64)

    @jax.jit
    def clip(x, y):
        extra = {"collect": {"it": collect.clipped(MAX_NORM)}, "reduction": "sum"}
        return jaxbp.backprop(CASE.net, CASE.loss, params, x, y, **extra).collected["it"]

    rest = clip(x[1:], y[1:])
    for bad in (jnp.nan, jnp.inf):
        assert relative_error(clip(x.at[0, 1].set(bad), y), rest) <= 1e-12


def test_a_negative_weight_turns_what_was_clipped_around():
    params, x, y, _ = CASE.arguments(jnp.float64)
    weights = jnp.asarray([1.0, -2.0, 0.0, 0.5, 3.0])[: x.shape[0]]

    @jax.jit
    def clip(x, y, weights=None):
        extra = {"reduction": "sum", "weights": weights, "collect": {"it": collect.clipped(MAX_NORM)}}
        return jaxbp.backprop(CASE.net, CASE.loss, params, x, y, **extra).collected["it"]

    parts = [jax.tree.map(lambda g, w=w: w * g, clip(x[i : i + 1], y[i : i + 1])) for i, w in enumerate(weights)]
    assert relative_error(clip(x, y, weights), jax.tree.map(lambda *g: sum(g), *parts)) <= 1e-12


OF_MEANS = [
    collect.second_moment, collect.variance, collect.kronecker, collect.kronecker_ggn, collect.diagonal_ggn,
]  # fmt: skip


NO_MEAN = {"negative": [1.0, -1.0, 1.0, 1.0, 1.0], "zero": [0.0] * 5}


@pytest.mark.parametrize(
    ("collector", "weights"),
    [
        pytest.param(c, weights, id=f"{repr(c)[:20]}-{name}", marks=[pytest.mark.slow] if (i + j) % 2 else [])
        for i, c in enumerate(OF_MEANS)
        for j, (name, weights) in enumerate(NO_MEAN.items())
    ],
)
def test_weights_that_make_no_mean_are_refused_or_give_nan(collector, weights):
    params, x, y, _ = CASE.arguments(jnp.float64)

    def run(weights):
        extra = {"reduction": "sum", "collect": {"it": collector}, "weights": weights}
        return jaxbp.backprop(CASE.net, CASE.loss, params, x, y, **extra).collected["it"]

    with pytest.raises(ValueError, match="no weight may be negative, and one must be positive"):
        run(jnp.asarray(weights))
    made = jax.jit(run)(jnp.asarray(weights))
    assert any(np.isnan(leaf).any() for leaf in jax.tree.leaves(made))
    assert all(np.isnan(made[u][s].unit).all() for u in made for s in made[u] if hasattr(made[u][s], "unit"))


def test_weights_that_sum_to_zero_have_no_mean():
    params, x, y, _ = CASE.arguments(jnp.float64)
    weights = jnp.array([1.0, -1.0, 0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match=r"weights sum to 0\.0, so they have no mean; use reduction='sum'"):
        jaxbp.backprop(CASE.net, CASE.loss, params, x, y, weights=weights)
    assert np.isnan(jax.jit(jaxbp.objective(CASE.net, CASE.loss))(params, x, y, weights))


def test_noise_has_the_deviation_that_privacy_asks_for():
    quiet = collect_one(collect.clipped(MAX_NORM))
    params, x, y, _ = CASE.arguments(jnp.float64)

    def draw(key):
        noisy = {"it": collect.clipped(MAX_NORM, noise_multiplier=2.0, key=key)}
        return jaxbp.backprop(CASE.net, CASE.loss, params, x, y, collect=noisy).collected["it"]

    draws = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 40))
    pairs = zip(jax.tree.leaves(draws), jax.tree.leaves(quiet), strict=True)
    values = np.concatenate([np.ravel(a - b[None]) for a, b in pairs])
    assert values.size > 1000
    deviation = 2.0 * MAX_NORM / CASE.batch[0]
    np.testing.assert_allclose(values.std(), deviation, rtol=0.1)
    assert abs(values.mean()) < 4 * deviation / np.sqrt(values.size)


def noise_scale(mean, variance, N):
    """Of trees, by its definition."""
    trace = sum(np.sum(v) for v in jax.tree.leaves(variance)) * N / (N - 1)
    squared = sum(np.sum(g**2) for g in jax.tree.leaves(mean)) - trace / N
    return trace, squared, trace / squared if squared > 0 else np.inf


@pytest.mark.parametrize("case", [CASE, case_named("sequence")], ids=repr)
def test_noise_scales_and_signal_to_noise_follow_from_mean_and_variance(case):
    every = {name: getattr(collect, name) for name in ("gradient", "variance", "gradient_noise_scale")}
    every["ratio"] = collect.signal_to_noise
    run = jax.jit(lambda params, x, y: jaxbp.backprop(case.net, case.loss, params, x, y, collect=every).collected)
    made = run(*case.arguments(jnp.float64)[:3])
    mean, variance, found = made["gradient"], made["variance"], made["gradient_noise_scale"]
    N = case.batch[0]
    np.testing.assert_allclose(found.total, noise_scale(mean, variance, N), rtol=1e-10)
    assert found.batch_size == found.total.batch_size
    for u, group in mean.items():  # no weight is shared, so a unit has its own
        np.testing.assert_allclose(found.units[u], noise_scale(group, variance[u], N), rtol=1e-9)
        for s, g in group.items():
            np.testing.assert_allclose(found.weights[u][s], noise_scale(g, variance[u][s], N), rtol=1e-9)
    assert relative_error(made["ratio"], jax.tree.map(lambda g, v: g**2 / v, mean, variance)) <= 1e-10


def test_kronecker_factors_of_one_example_are_its_outer_product():
    case = case_named("no batch axis")
    factors, gradient = collect_one(collect.kronecker, case), collect_one(collect.gradient, case)
    for u, weights in gradient.items():
        for s, g in weights.items():
            product = jnp.kron(factors[u][s].source, factors[u][s].unit)
            assert relative_error(product, jnp.outer(jnp.ravel(g), jnp.ravel(g))) <= 1e-12


@pytest.mark.parametrize("weighted", [False, True])
def test_kronecker_factors_are_the_fisher_matrix_where_h_and_delta_are_independent(weighted):
    net = jaxbp.layered([2, 2], output=jaxbp.linear)
    params = params_of(net)
    h, r, p, q = (jax.random.normal(jax.random.key(k), (3, 2)) for k in range(4))
    x, residual = jnp.repeat(h, 3, axis=0), jnp.tile(r, (3, 1))  # every h with every δ
    y = jaxbp.apply(net, params, x) - residual
    weights = jnp.repeat(jnp.exp(p[:, 0]), 3) * jnp.tile(jnp.exp(q[:, 0]), 3) if weighted else None
    back = jaxbp.backprop(
        net, jaxbp.squared_error, params, x, y, weights=weights, collect={"factors": collect.kronecker}
    )
    factors = back.collected["factors"]["o"]["x"]
    w = jnp.ones(9) if weights is None else weights
    each = jax.vmap(lambda x, d: jnp.outer(x, d).reshape(-1))(x, residual)
    fisher = jnp.einsum("n,ni,nj->ij", w / w.sum(), each, each)
    assert relative_error(jnp.kron(factors.source, factors.unit), fisher) <= 1e-10


def test_kronecker_factors_of_shared_weights_are_refused():
    with pytest.raises(ValueError, match="the rows of one example share a weight"):
        collect_one(collect.kronecker, case_named("sequence"))


def test_an_example_of_weight_zero_counts_for_nothing():
    params, x, y, _ = CASE.arguments(jnp.float64)
    weights = jnp.ones(CASE.batch).at[0].set(0)

    @jax.jit
    def all_of(x, y, weights):
        collectors = {"clipped": collect.clipped(MAX_NORM), "second": collect.second_moment, "v": collect.variance}
        return jaxbp.backprop(CASE.net, CASE.loss, params, x, y, weights=weights, collect=collectors).collected

    assert relative_error(all_of(x, y, weights), all_of(x[1:], y[1:], None)) <= 1e-10


def test_half_precision_stays_half():
    params, x, y, _ = CASE.arguments(jnp.bfloat16)
    collectors = {
        "clipped": collect.clipped(MAX_NORM),
        "second": collect.second_moment,
        "each": collect.per_example_gradient,
    }

    @jax.jit
    def run(params, x, y):
        return jaxbp.backprop(CASE.net, CASE.loss, params, x, y, collect=collectors).collected

    found = run(params, x, y)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(jnp.bfloat16)}
    exact = collect_one(collect.clipped(MAX_NORM))
    assert relative_error(jax.tree.map(lambda g: g.astype(float), found["clipped"]), exact) < 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: collect.clipped(0.0), "max_norm must be positive, got 0.0"),
        (lambda: collect.clipped(-1), "max_norm must be positive, got -1"),
        (lambda: collect.clipped(float("nan")), "max_norm must be positive, got nan"),
        (
            lambda: collect.clipped(1.0, noise_multiplier=-1.0),
            "noise_multiplier must be at least 0 and finite, got -1.0",
        ),
        (lambda: collect.clipped(1.0, noise_multiplier=1.0), "a noise_multiplier needs a key"),
        (
            lambda: collect_one(collect.per_example_dot({"o": {}})),
            "per_example_dot got a tree that holds the units 'o'",
        ),
    ],
)
def test_bad_input_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_collector_is_hashed_unless_it_holds_an_array():
    assert hash(collect.clipped(1.0)) == hash(collect.clipped(1.0)) != hash(collect.clipped(2.0))
    assert hash(collect.statistics()) == hash(collect.statistics(0.01))
    key = jax.random.key(0)
    for holds in (
        collect.clipped(1.0, noise_multiplier=1.0, key=key),
        collect.per_example_dot(CASE.params(jnp.float64)),
        collect.sampled_diagonal_ggn(key),
        collect.sampled_kronecker_ggn(key),
    ):
        with pytest.raises(TypeError, match="holds an array, which has no hash"):
            hash(holds)
