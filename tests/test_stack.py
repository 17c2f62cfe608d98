"""Stacks: equal to the same network written out flat, in everything that there is."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import NESTED, Case, case_named, params_of, swept
from reference import autodiff, relative_error

import jaxbp
from jaxbp import Dense, Identity, Network, Unit, collect
from jaxbp._plan import at
from jaxbp._unrolled import unrolled

STACKS = [
    pytest.param(
        case_named(name),
        id=name,
        marks=[pytest.mark.slow] if name != "recurrent convolution" else [],
    )
    for name in ("stacks", "nested stacks", "recurrent", "recurrent convolution")
]
COLLECTORS = {
    "gradient": collect.gradient,
    "each": collect.per_example_gradient,
    "norms": collect.squared_norm,
    "clipped": collect.clipped(0.5),
    "second": collect.second_moment,
    "noise": collect.gradient_noise_scale,
    "gram": collect.gram,
    "ggn": collect.diagonal_ggn,
    "statistics": collect.statistics(),
}
BY_WEIGHT = ("gradient", "each", "clipped", "second", "ggn")


def everything(net, case, params, x, y, weights, other, products):
    extra = {"weights": weights, "reduction": case.reduction}
    collectors = COLLECTORS | {"dot": collect.per_example_dot(other)}
    back = jaxbp.backprop(net, case.loss, params, x, y, collect=collectors, **extra)
    products = [product(net, case.loss, params, x, y, other, **extra) for product in products]
    of_output = jax.grad(lambda params: jnp.sum(jnp.sin(jaxbp.as_function(net)(params, x))))(params)
    return back, [*products, of_output]


@pytest.mark.parametrize("case", STACKS)
def test_a_stack_is_the_network_written_out(case):
    flat, (params, x, y, weights) = unrolled(case.net), case.arguments(jnp.float64)
    other = jax.tree.map(lambda W: np.cos(np.asarray(W) + 1), params)
    products = (jaxbp.curvature.ggn_vector_product,) if case.net is NESTED else ()

    @jax.jit
    def both(params, other, x, y, weights):
        mine = everything(case.net, case, params, x, y, weights, other, products)
        return mine, everything(flat.net, case, flat.params(params), x, y, weights, flat.params(other), products)

    # on the host, where a layer is taken out of an array without a program for it
    (ours, our_trees), (theirs, their_trees) = jax.device_get(both(params, other, x, y, weights))

    def named(by_unit):
        """What there is of each unit or input, by its name in the network written out."""
        return {u: by_unit[name][layer] for u, (name, layer) in flat.units.items() if name in by_unit}

    def units(by_unit):
        """Without the inputs of blocks, which are units in the network written out."""
        return {u: of for u, of in by_unit.items() if flat.units[u][0] in case.net.plan.nodes}

    pairs = {
        "value": (ours.value, theirs.value),
        "a": (named(ours.trace.a), units(theirs.trace.a)),
        "h": (named(ours.trace.h), theirs.trace.h),
        "Delta": (named(ours.Delta), theirs.Delta),
        "delta": (named(ours.delta), units(theirs.delta)),
        "trees": ([flat.params(tree) for tree in our_trees], their_trees),
    }
    ours, theirs = ours.collected, theirs.collected
    pairs |= {name: (flat.params(ours[name]), theirs[name]) for name in BY_WEIGHT}
    pairs |= {
        "norms": (flat.params(ours["norms"].weights), theirs["norms"].weights),
        "norm": (ours["norms"].total, theirs["norms"].total),
        "gram": (ours["gram"].total, theirs["gram"].total),
        "noise": (ours["noise"].total, theirs["noise"].total),
        "dot": (ours["dot"], theirs["dot"]),
        # what the weights into a unit give; into each unit of layers that share them they give the same
        "norms by unit": (_by_unit(flat, ours["norms"].units), theirs["norms"].units),
        "gram by unit": (_by_unit(flat, ours["gram"].units), theirs["gram"].units),
    }
    for name, (mine, flats) in pairs.items():
        assert relative_error(mine, flats) <= 1e-12, name
    for u, statistics in units(theirs["statistics"].units).items():
        name, layer = flat.units[u]
        mine = jax.tree.map(lambda s, layer=layer: s[layer], ours["statistics"].units[name])
        chex.assert_trees_all_close(mine, statistics, rtol=1e-12)


def _by_unit(flat, by_unit):
    plan, found = flat.net.plan, {}
    for place, edges in plan.uses.items():
        for edge in edges:
            found[edge.unit] = by_unit[flat.units[edge.unit][0]][flat.weights[place][1]]
    return found


# What the table does not show.

BLOCK = jaxbp.Network(
    inputs={"x": 4},
    units={
        "up": Unit(8, jaxbp.tanh, {"x": Dense()}, dropout=0.5),
        "sum": Unit(4, jaxbp.linear, {"up": Dense(), "x": Identity()}),
    },
)
LOSS = jaxbp.squared_error
X, Y = jax.random.normal(jax.random.key(1), (2, 6, 4))


def net_of(depth, block=BLOCK, **options):
    return Network(block.inputs, {"blocks": jaxbp.stack(block, depth, "x", **options)})


@pytest.mark.parametrize(
    "options",
    [
        {"remat": True},
        {"shared": True, "every_layer": True},
        *(pytest.param(options, marks=pytest.mark.slow) for options in ({}, {"remat": ["up"]}, {"every_layer": True})),
    ],
)
def test_noise_is_new_in_each_layer_and_the_same_on_the_way_back(options):
    net, key = net_of(3, **options), jax.random.key(2)
    params, y = params_of(net), jnp.ones((6, *net.shapes["blocks"]))
    case = Case("noise", net, LOSS)

    @jax.jit
    def both(params, key):
        return jaxbp.backprop(net, LOSS, params, X, y, key=key), autodiff(case, params, X, y, None, key)

    back, theirs = jax.device_get(both(params, key))
    assert relative_error((back.value, back.grads, back.Delta, back.delta), theirs) <= 1e-12
    noise = back.trace.noise["blocks.up"]
    assert noise.shape == (3, 6, 8)
    assert not np.any(np.all(noise[:, None] == noise[None], axis=(2, 3)) ^ np.eye(3, dtype=bool))
    with pytest.raises(ValueError, match=r"units 'blocks\.up' have dropout"):
        jaxbp.backprop(net, LOSS, params, X, y)


def test_one_program_serves_every_depth():
    def size(depth):
        net = net_of(depth)
        params = params_of(net)
        jaxpr = jax.make_jaxpr(jaxbp.value_and_grad(net, LOSS))(params, X, Y, key=jax.random.key(0))
        return len(str(jaxpr.pretty_print(use_color=False)).split())  # words: a longer number may wrap a line

    assert size(2) == size(200)


def temporaries(net, *, collect=None):
    params = jax.eval_shape(lambda: jaxbp.init_params(jax.random.key(0), net))
    x = jax.ShapeDtypeStruct((64, 4), float)

    def run(params, x):
        back = jaxbp.backprop(net, LOSS, params, x, x)
        return back.grads if collect is None else collect(back)

    return jax.jit(run).lower(params, x).compile().memory_analysis().temp_size_in_bytes


def test_nothing_is_kept_that_was_not_asked_for():
    plain = replace(BLOCK.units["up"], dropout=0.0)
    block, depth = Network(BLOCK.inputs, {**BLOCK.units, "up": plain}), 100
    layer = depth * 64 * 4 * 8  # bytes of what enters every layer
    some, all_again = (temporaries(net_of(depth, block, remat=remat)) for remat in (False, True))
    # tanh is pulled back from h, twice as wide as what enters, and the sum from nothing
    assert some < 3.5 * layer
    assert all_again < 1.5 * layer


def test_an_lstm_is_a_block_of_a_few_lines():
    """Against the same cell in plain JAX, and its autodiff."""
    width, steps, given = 3, 5, 2

    def gate(name, activation):
        return {name: Unit(width, activation, {"h": Dense(), "token": Dense()})}

    def first(state):
        return state[:width]

    def second(state):
        return state[width:]

    cell = Network(
        inputs={"state": 2 * width, "token": given},
        units={
            "h": jaxbp.function_unit(first, ("state",), width),
            "c": jaxbp.function_unit(second, ("state",), width),
            **gate("forget", jaxbp.sigmoid), **gate("input", jaxbp.sigmoid), **gate("output", jaxbp.sigmoid),
            **gate("new", jaxbp.tanh),
            "kept": jaxbp.product("forget", "c", width=width),
            "added": jaxbp.product("input", "new", width=width),
            "memory": Unit(width, jaxbp.linear, {"kept": Identity(), "added": Identity()}, bias=False),
            "shown": Unit(width, jaxbp.tanh, {"memory": Identity()}, bias=False),
            "answer": jaxbp.product("shown", "output", width=width),
            "next": jaxbp.function_unit(joined, ("answer", "memory"), 2 * width),
        },
    )  # fmt: skip
    sources, slices = {"state": "start", "token": "tokens"}, {"token": 0}
    net = Network(
        inputs={"start": 2 * width, "tokens": (steps, given)},
        units={"lstm": jaxbp.stack(cell, steps, sources, shared=True, slices=slices, every_layer=True)},
    )

    def plain(params, x, y):
        p = params["lstm"]

        def of(name, h, token):
            return h @ p[name]["h"] + token @ p[name]["token"] + p[name]["bias"][None]

        h, c, value = x["start"][:, :width], x["start"][:, width:], 0.0
        for t in range(steps):
            token = x["tokens"][:, t]
            f, i, o = (jax.nn.sigmoid(of(name, h, token)) for name in ("forget", "input", "output"))
            c = f * c + i * jnp.tanh(of("new", h, token))
            h = o * jnp.tanh(c)
            value += jnp.sum((jnp.concatenate([h, c], axis=1) - y[:, t]) ** 2) / 2 / len(y)
        return value

    params = params_of(net)
    draw = np.random.default_rng(0).normal
    x = {"start": jax.device_put(draw(size=(4, 2 * width))), "tokens": jax.device_put(draw(size=(4, steps, given)))}
    y = jax.device_put(draw(size=(4, steps, 2 * width)))
    ours = jax.jit(jaxbp.value_and_grad(net, LOSS))(params, x, y)
    assert relative_error(ours, jax.jit(jax.value_and_grad(plain))(params, x, y)) <= 1e-12


def joined(*parts):
    return jnp.concatenate(parts, axis=-1)


@pytest.mark.slow
def test_a_wrong_layer_is_named():
    case = case_named("stacks")
    params, x, y, _ = case.arguments(jnp.float64)
    back = swept(case.net, case.loss, params, x, y)
    assert jaxbp.check(case.net, case.loss, params, x, y, lambda *_: (back.value, back.grads)).verdict == "right"
    grads = jax.tree.map(np.array, back.grads)
    grads["blocks"]["up"]["bias"][1] /= 5
    report = jaxbp.check(case.net, case.loss, params, x, y, grads)
    assert report.first_wrong == "grad.blocks.up.bias[1]"
    assert [mistake.unit for mistake in report.explanations] == ["blocks.up[1]"]
    assert "grad.blocks.up.bias[1, " in str(report)
    assert "/" not in str(report)
    delta = np.array(back.delta["blocks.up"])
    assert jaxbp.check(case.net, case.loss, params, x, y, {"delta.blocks.up": delta}).verdict == "right"
    assert jaxbp.check(case.net, case.loss, params, x, y, {"delta.blocks.up[1]": delta[1]}).verdict == "right"
    report = jaxbp.check(case.net, case.loss, params, x, y, {"delta.blocks.up": delta[::-1]})
    assert report.first_wrong == "delta.blocks.up[1]"
    with pytest.raises(ValueError, match=r"no quantity 'delta\.blocks\.pu' \(did you mean 'delta\.blocks\.up'"):
        jaxbp.check(case.net, case.loss, params, x, y, {"delta.blocks.pu": delta})


def test_feedback_reaches_into_the_layers():
    case = case_named("stacks")
    params, x, y, _ = case.arguments(jnp.float64)
    flat, other = unrolled(case.net), jax.tree.map(lambda W: np.asarray(W) + 1, params)
    direct = jaxbp.feedback.direct_feedback(jax.random.key(0), case.net)

    @jax.jit
    def under(params, other, direct):
        ours = jaxbp.value_and_grad(case.net, case.loss)(params, x, y, feedback=other)
        theirs = jaxbp.value_and_grad(flat.net, case.loss)(flat.params(params), x, y, feedback=flat.params(other))
        angles = jaxbp.feedback.alignment_angles(case.net, case.loss, params, params, x, y)
        back = jaxbp.backprop(case.net, case.loss, params, x, y, feedback=direct)
        return (ours[0], flat.params(ours[1])), theirs, angles, back

    ours, theirs, angles, back = jax.device_get(under(params, other, direct))
    assert relative_error(ours, theirs) <= 1e-12
    assert angles["blocks.up"].shape == (2,)
    assert all(np.all(np.abs(angle) < 1e-5) for angle in angles.values())
    B = direct.matrices["blocks.up"]
    assert B.shape == (2, 3, 3)
    signals = back.delta
    np.testing.assert_allclose(back.Delta["blocks.up"][1], signals["o"] @ B[1], rtol=1e-12)
    to_first = signals["blocks.n"][0] * params["blocks"]["n"]["x"][0][None] + signals["blocks.sum"][0]
    np.testing.assert_allclose(back.Delta["x"], to_first, rtol=1e-12)
    gradient = back.trace.h["blocks.n"][1].T @ signals["blocks.up"][1]
    np.testing.assert_allclose(back.grads["blocks"]["up"]["n"][1], gradient, rtol=1e-12)


def test_kronecker_factors_are_those_of_each_layer():
    block = jaxbp.layered([4, 3, 4], hidden=jaxbp.tanh, output=jaxbp.tanh)
    net = Network({"x": 4}, {"blocks": jaxbp.stack(block, 3, "x"), "o": Unit(2, jaxbp.linear, {"blocks": Dense()})})
    flat, params = unrolled(net), params_of(net)
    collectors = {"empirical": collect.kronecker, "ggn": collect.kronecker_ggn}

    @jax.jit
    def factors(params):
        return jaxbp.backprop(net, LOSS, params, X, Y[:, :2], collect=collectors).collected, jaxbp.backprop(
            flat.net, LOSS, flat.params(params), X, Y[:, :2], collect=collectors
        ).collected

    ours, theirs = jax.device_get(factors(params))
    for name in collectors:
        for part in ("source", "unit"):
            of = jax.tree.map(lambda f, p=part: getattr(f, p), ours[name], is_leaf=lambda f: hasattr(f, "unit"))
            of_flat = jax.tree.map(lambda f, p=part: getattr(f, p), theirs[name], is_leaf=lambda f: hasattr(f, "unit"))
            for (group, weight), (place, layer) in flat.weights.items():
                mine = at(place, of)[layer]
                np.testing.assert_allclose(mine, of_flat[group][weight], rtol=1e-12, atol=1e-15)
    shared = Network({"x": 4}, {"blocks": jaxbp.stack(block, 3, "x", shared=True)})
    with pytest.raises(ValueError, match=r"kronecker got a weight of 'blocks\.h1' that layers share"):
        jaxbp.backprop(shared, LOSS, params_of(shared), X, Y, collect=collectors)


def test_the_first_number_that_is_not_finite_is_found_by_layer():
    def first(params):
        @jax.jit
        def statistics(params):
            collectors = {"it": collect.statistics()}
            return jaxbp.backprop(NESTED, LOSS, params, x, y, collect=collectors).collected["it"]

        return statistics(params).first_non_finite

    case = case_named("nested stacks")
    params, x, y, _ = case.arguments(jnp.float64)
    assert first(params) is None
    spoiled = params["outer"]["twice"]["up"]["bias"].at[1, 0].set(jnp.nan)
    up = params["outer"]["twice"]["up"] | {"bias": spoiled}
    outer = params["outer"] | {"twice": params["outer"]["twice"] | {"up": up}}
    assert first(params | {"outer": outer}) == "a.outer.twice.up[1, 0]"


def test_what_does_not_fit_is_refused_by_name():
    def of(source, **options):
        return Network({"ids": jaxbp.ids(4, 9)}, {
            "blocks": jaxbp.stack(BLOCK, 3, source, **options),
            "o": Unit(4, jaxbp.linear, {"blocks": Dense()}),
        })  # fmt: skip

    with pytest.raises(ValueError, match="unit 'blocks' cannot read 'ids': it holds ids"):
        of("ids")
    two = Network({"x": 4, "z": (2, 3)}, {
        "h": Unit((2, 4), jaxbp.tanh, {"z": Dense()}),
        "flat": Unit(8, jaxbp.linear, {"h": jaxbp.Flatten(2)}),
        "o": Unit(4, jaxbp.tanh, {"x": Dense(), "flat": Dense()}),
    })  # fmt: skip
    with pytest.raises(
        ValueError, match=r"unit 'blocks' cannot read 'z' of shape \(2, 3\): .* takes \(2, 5, 3\), a slice"
    ):
        Network(two.inputs, {"blocks": jaxbp.stack(two, 5, {"x": "x", "z": "z"}, slices={"z": 1})})
    cell = Network({"x": 4, "i": jaxbp.ids((), 9), "j": jaxbp.ids((), 9)}, {
        "o": Unit(4, jaxbp.linear, {"x": Dense(), "i": jaxbp.Embedding(9), "j": jaxbp.Embedding(9)})
    })  # fmt: skip
    twice = jaxbp.stack(cell, 2, {"x": "x", "i": "i", "j": "i"})
    with pytest.raises(
        ValueError, match="unit 'o' reads the ids 'i' by two inputs of its block, which no unit outside"
    ):
        unrolled(Network({"x": 4, "i": jaxbp.ids((), 9)}, {"o": twice}))
    params = params_of(net_of(3))
    with pytest.raises(
        ValueError, match=r"params\['blocks'\]\['up'\]\['x'\] has shape \(3, 4, 8\), expected \(2, 4, 8\)"
    ):
        jaxbp.apply(net_of(2), params, X)
    less = params | {"blocks": {"up": params["blocks"]["up"]}}
    with pytest.raises(ValueError, match=r"params\['blocks'\] holds the units 'up', but the block has 'up', 'sum'"):
        jaxbp.apply(net_of(3), less, X)
