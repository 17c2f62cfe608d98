"""Updates inside the backward scan: the numbers of an update after it, in the memory of a layer, or a refusal."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

import jaxbp
from jaxbp import train
from jaxbp.train._data import Batch
from jaxbp.train._steps import Rule, _compiled_epoch


def block(width, dropout=0.0):
    up = jaxbp.Unit(width, jaxbp.tanh, {"x": jaxbp.Dense()}, dropout=dropout)
    out = {"up": jaxbp.Dense(), "x": jaxbp.Identity()}
    return jaxbp.Network(inputs={"x": width}, units={"up": up, "sum": jaxbp.Unit(width, jaxbp.linear, out)})


def classifier(**units):
    last = jaxbp.Unit(3, jaxbp.softmax, {next(reversed(units)): jaxbp.Dense()})
    return jaxbp.Network(
        inputs={"x": 4}, units={"in": jaxbp.Unit(4, jaxbp.tanh, {"x": jaxbp.Dense()}), **units, "o": last}
    )


LOSS = jaxbp.cross_entropy
DEEP = classifier(blocks=jaxbp.stack(block(4), 3, "in"))
FUSED, PLAIN = train.fused(DEEP, LOSS), jaxbp.value_and_grad(DEEP, LOSS)
AT_ONCE = jax.jit(PLAIN)
X = jax.random.normal(jax.random.key(1), (6, 4))
Y = jnp.arange(6) % 3
DATA = {"x": X, "y": Y}
INNER = jaxbp.Network(
    inputs={"x": 4},
    units={"deep": jaxbp.stack(block(4), 2, "x"), "out": jaxbp.Unit(4, jaxbp.tanh, {"deep": jaxbp.Dense()})},
)
RICH = classifier(
    noisy=jaxbp.stack(block(4, dropout=0.5), 3, "in"),
    again=jaxbp.stack(block(4), 2, "noisy", shared=True),
    nested=jaxbp.stack(INNER, 2, "again", remat=True),
    side=jaxbp.Unit(4, jaxbp.linear, {"nested": jaxbp.Dense(), "in": jaxbp.Identity()}),
)


def no_bias(params):
    return jax.tree.map_with_path(lambda path, _: path[-1].key != "bias", params)


def of_units(params):
    return {u: "layers" if u == "blocks" else "whole" for u in params}


ADAM = optax.adam(0.01)
OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": ADAM,
    "adamw": optax.adamw(optax.cosine_decay_schedule(0.1, 4), weight_decay=0.1, mask=no_bias),
    "matrices": optax.adamw(0.1, weight_decay=0.1, mask=lambda params: jax.tree.map(lambda W: W.ndim > 1, params)),
    "others by norm": optax.multi_transform({"layers": optax.lion(0.1), "whole": optax.lamb(0.1)}, of_units),
    "every second": optax.MultiSteps(ADAM, 2).gradient_transformation(),
}


def stepped(gradient, optimizer, net=DEEP, steps=3, **options):
    state, losses = train.init_state(jax.random.key(0), net, optimizer), []
    for _ in range(steps):
        state, loss = train.step(state, X, Y, gradient=gradient, optimizer=optimizer, **options)
        losses.append(loss)
    return state, losses


def by_hand(optimizer, steps=3):
    """All gradients first, then one update of all weights."""
    state, losses, update = train.init_state(jax.random.key(0), DEEP, optimizer), [], jax.jit(optimizer.update)
    for _ in range(steps):
        loss, grads = AT_ONCE(state.params, X, Y)
        updates, opt_state = update(grads, state.opt_state, state.params)
        state = train.TrainState(optax.apply_updates(state.params, updates), opt_state, state.key, state.step + 1)
        losses.append(loss)
    return state, losses


def alike(ours, theirs):
    chex.assert_trees_all_close(ours, theirs, rtol=1e-12, atol=1e-13)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in ("sgd", "adamw"))) for n in OPTIMIZERS]
)
def test_fused_updates_are_those_of_all_gradients_at_once(name):
    (ours, losses), (theirs, expected) = (f(OPTIMIZERS[name]) for f in (lambda o: stepped(FUSED, o), by_hand))
    alike(ours._replace(key=()), theirs._replace(key=()))
    alike(losses, expected)


def test_several_stacks_nested_shared_recomputed_and_with_dropout():
    weights = jnp.array([1.0, 2.0, 0.0, 1.0, 3.0, 1.0])
    gradients = train.fused(RICH, LOSS), jaxbp.value_and_grad(RICH, LOSS)
    ours, theirs = (stepped(g, ADAM, RICH, 2, keyed=True, weights=weights) for g in gradients)
    alike(ours[0]._replace(key=()), theirs[0]._replace(key=()))
    alike(ours[1], theirs[1])


def test_a_fit_goes_on_fused_from_where_it_was_not_and_back():
    options = DATA | {"optimizer": ADAM, "batch_size": 4}
    whole = train.fit(DEEP, LOSS, **options, epochs=3)
    state, gradients = None, (None, FUSED, None)
    for gradient in gradients:
        state = train.fit(DEEP, LOSS, **options, epochs=1, state=state, gradient=gradient).state
    alike((state.params, state.opt_state), (whole.state.params, whole.state.opt_state))


@pytest.mark.parametrize("most", [0.05, 50.0])
def test_clipping_by_the_norm_of_all_goes_through_the_layers_twice(most):
    gradient = train.fused(DEEP, LOSS, clip_norm=most)
    ours, _ = stepped(gradient, ADAM)
    theirs, _ = by_hand(optax.chain(optax.clip_by_global_norm(most), ADAM))
    alike(ours.params, theirs.params)
    alike(ours.opt_state, theirs.opt_state[1])
    _, grads = jax.jit(gradient)(ours.params, X, Y)
    _, unclipped = AT_ONCE(ours.params, X, Y)
    alike(grads, optax.clip_by_global_norm(most).update(unclipped, optax.EmptyState())[0])


def more_than_one(params):
    return jax.tree.map(lambda W: W.shape[0] > 1, params)


def by_place():
    """A rule with rates of its own for each element."""

    def update(grads, state, params=None):
        return jax.tree.map(lambda grad: grad * jnp.arange(1.0, 1 + grad.size).reshape(grad.shape), grads), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


REFUSED = {
    "clip_by_global_norm": (optax.chain(optax.clip_by_global_norm(1.0), ADAM), ("several weights", "clip_norm=")),
    "apply_if_finite": (optax.apply_if_finite(ADAM, 3), ("several weights",)),
    "flatten": (optax.flatten(ADAM), ("several weights",)),
    "scale_by_trust_ratio": (optax.lamb(0.1), ("elements of a weight together",)),
    "clip_by_block_rms": (optax.adafactor(0.1), ("elements of a weight together",)),
    "scale_by_novograd": (optax.novograd(0.1), ("elements of a weight together",)),
    "adaptive_grad_clip": (optax.adaptive_grad_clip(0.1), ("elements of a weight together",)),
    "scale_by_muon": (optax.contrib.muon(0.1), ("elements of a weight together",)),
    "add_noise": (optax.noisy_sgd(0.1, key=0), ("values of its own for each place",)),
    "by_place": (by_place(), ("values of its own for each place",)),
    "masked": (optax.masked(optax.sgd(0.1), more_than_one), ("their shape matters to it",)),
    "keep_masked": (train.keep_masked(DEEP), ("cannot update one layer alone", "has shape (1, 4, 4)")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_more_than_a_layer_is_refused_by_name(name):
    optimizer, says = REFUSED[name]
    with pytest.raises(ValueError, match="value_and_grad") as error:
        stepped(FUSED, optimizer)
    for words in (name, *says):
        assert words in str(error.value)


def test_a_run_refuses_at_once():
    with pytest.raises(ValueError, match="clip_by_global_norm"):
        train.run(DEEP, LOSS, **DATA, optimizer=REFUSED["clip_by_global_norm"][0], gradient=FUSED)


@pytest.mark.parametrize(("optimizer", "least"), [(optax.sgd(0.1), 12), (optax.adam(0.1), 6)], ids=["sgd", "adam"])
def test_no_two_layers_gradients_exist_together(optimizer, least):
    net = jaxbp.Network(inputs={"x": 64}, units={"blocks": jaxbp.stack(block(64), 64, "x")})
    state = jax.eval_shape(lambda: train.init_state(jax.random.key(0), net, optimizer))
    x = jax.ShapeDtypeStruct((4, 64), float)

    def temporaries(gradient):
        program = _compiled_epoch(Rule(gradient, optimizer), 2, drop_last=True).lower(state, Batch(x, x, None))
        return program.compile().memory_analysis().temp_size_in_bytes

    gradients = train.fused(net, jaxbp.squared_error), jaxbp.value_and_grad(net, jaxbp.squared_error)
    ours, theirs = map(temporaries, gradients)
    assert theirs > 64 * 2 * 64 * 64 * 8
    assert ours * least < theirs


def test_reading_the_wrong_layer_is_noticed(monkeypatch):
    monkeypatch.setattr("jaxbp._layers._known_after", lambda i, _: i + 1)
    optimizer = optax.sgd(0.1)  # an object of its own, so that nothing is compiled for it
    (ours, _), (theirs, _) = stepped(FUSED, optimizer), by_hand(optimizer)
    with pytest.raises(AssertionError):
        alike(ours.params["blocks"], theirs.params["blocks"])


@pytest.mark.slow
@pytest.mark.skipif(len(jax.devices()) < 4, reason="needs 4 devices: set JAX_NUM_CPU_DEVICES=4")
@pytest.mark.parametrize("layout", ["replicated", "sharded"])
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_fused_updates_on_a_mesh(axis_type, layout):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(axis_type,), devices=jax.devices()[:2])
    ours, losses = stepped(FUSED, ADAM, mesh=mesh, layout=layout)
    theirs, expected = by_hand(ADAM)
    alike(ours._replace(key=()), theirs._replace(key=()))
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
