"""The loop: what a step, an epoch and a fit do, and how they stop."""

import gc
import itertools
import logging
import weakref

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import TWO_INPUTS, case_named, params_of
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxbp
from jaxbp import train
from jaxbp._cache import KEPT

NET = jaxbp.layered([4, 5, 3], hidden=jaxbp.tanh, output=jaxbp.softmax)
LOSS = jaxbp.cross_entropy
EXPLICIT = jaxbp.value_and_grad(NET, LOSS)
SGD, STILL = optax.sgd(0.1), optax.sgd(0.0)  # the same objects throughout, so that an epoch of one shape compiles once
OBJECTIVE = jax.jit(jaxbp.objective(NET, LOSS))
AUTO = jax.jit(jax.value_and_grad(jaxbp.objective(NET, LOSS)))
APPLIED = jax.jit(optax.apply_updates)


def data(examples=10, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(examples, 4))
    return jax.device_put((x, np.argmax(x[:, :3], axis=1)))


def a_state(optimizer, seed=0):
    return train.init_state(jax.random.key(seed), NET, optimizer)


def by_hand(state, x, y, optimizer, batch_size):
    """An epoch as a plain Python loop over autodiff's gradient."""
    order = jax.random.permutation(jax.random.fold_in(jax.random.split(state.key)[0], 0), len(y))
    params, opt_state, losses, update = state.params, state.opt_state, [], jax.jit(optimizer.update)
    for start in range(0, len(y), batch_size):
        batch = order[start : start + batch_size]
        loss, grads = AUTO(params, x[batch], y[batch])
        updates, opt_state = update(grads, opt_state, params)
        params = APPLIED(params, updates)
        losses.append(loss)
    return params, jnp.stack(losses)


@pytest.mark.parametrize("batch_size", [1, 3, *(pytest.param(n, marks=pytest.mark.slow) for n in (10, 64))])
def test_an_epoch_is_the_plain_loop(batch_size):
    x, y = data()
    optimizer = optax.sgd(0.1, momentum=0.9)
    params, losses = by_hand(a_state(optimizer), x, y, optimizer, batch_size)
    state, steps = train.epoch(a_state(optimizer), x, y, gradient=EXPLICIT, optimizer=optimizer, batch_size=batch_size)
    chex.assert_trees_all_close(state.params, params, rtol=1e-10)
    np.testing.assert_allclose(steps.loss, losses, rtol=1e-10)
    assert state.step == len(losses) == -(-len(y) // batch_size)


@pytest.mark.parametrize("name", ["adam", *(pytest.param(n, marks=pytest.mark.slow) for n in ("lion", "adagrad"))])
def test_any_optax_optimizer(name):
    x, y = data()
    optimizer = getattr(optax, name)(1e-2)
    for gradient in (EXPLICIT, AUTO):
        state, steps = train.epoch(a_state(optimizer), x, y, gradient=gradient, optimizer=optimizer, batch_size=4)
        if gradient is EXPLICIT:
            explicit = state.params, steps.loss
    chex.assert_trees_all_close(explicit, (state.params, steps.loss), rtol=1e-9)


def test_chained_and_scheduled_optimizers():
    x, y = data()
    optimizer = optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(optax.cosine_decay_schedule(0.5, 10)))
    runs = train.run(NET, LOSS, x, y, optimizer=optimizer, batch_size=4)
    losses = [next(runs).loss for _ in range(20)]
    assert losses[-1] < losses[0]


def test_every_example_is_seen_once_an_epoch_in_a_fresh_order():
    x, y = jax.device_put((np.eye(4)[[0, 1, 2, 3, 0, 1, 2]] * np.arange(1, 8.0)[:, None], np.zeros(7, int)))
    optimizer = STILL
    runs = train.run(NET, LOSS, x, y, optimizer=optimizer, batch_size=1, observe=lambda params, x, y: jnp.sum(x))
    first, second = next(runs).steps.observed, next(runs).steps.observed
    np.testing.assert_array_equal(np.sort(first), np.arange(1, 8))
    np.testing.assert_array_equal(np.sort(second), np.arange(1, 8))
    assert not np.array_equal(first, second)


def test_the_last_partial_batch_is_trained_on_and_weighed_by_its_size():
    x, y = data(7)
    optimizer = STILL
    done = next(train.run(NET, LOSS, x, y, optimizer=optimizer, batch_size=3))
    assert done.steps.loss.shape == (3,)
    np.testing.assert_allclose(done.loss, OBJECTIVE(done.state.params, x, y), rtol=1e-12)


def test_several_inputs():
    rng = np.random.default_rng(0)
    x = {"image": jax.device_put(rng.normal(size=(9, 4))), "text": jax.device_put(rng.normal(size=(9, 3)))}
    y = jax.device_put(rng.integers(0, 2, 9))
    fitted = train.fit(TWO_INPUTS, LOSS, x, y, epochs=20, batch_size=4)
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"]


def test_the_same_seed_gives_the_same_numbers():
    x, y = data()
    one, same, other = (train.fit(NET, LOSS, x, y, epochs=3, batch_size=4, seed=s) for s in (1, 1, 2))
    chex.assert_trees_all_equal(one.params, same.params)
    assert [row["loss"] for row in one.history] == [row["loss"] for row in same.history]
    assert one.history[0]["loss"] != other.history[0]["loss"]


def test_yielded_states_stay_valid_and_can_be_trained_on():
    x, y = data()
    optimizer = SGD
    runs = train.run(NET, LOSS, x, y, optimizer=optimizer, batch_size=4)
    first, second, third = next(runs), next(runs), next(runs)
    resumed = train.run(NET, LOSS, x, y, optimizer=optimizer, batch_size=4, state=first.state)
    chex.assert_trees_all_equal(next(resumed).state, second.state)
    chex.assert_trees_all_equal(next(resumed).state, third.state)


def test_an_epoch_donates_its_state():
    x, y = data()
    optimizer = SGD
    state = a_state(optimizer)
    train.epoch(state, x, y, gradient=EXPLICIT, optimizer=optimizer, batch_size=4)
    assert state.params["h1"]["x"].is_deleted()


def test_an_epoch_compiles_once():
    x, y = data()
    traces = []

    def counted(params, x, y):
        traces.append(x.shape)
        return EXPLICIT(params, x, y)

    for _ in range(2):
        runs = train.run(NET, LOSS, x, y, optimizer=SGD, batch_size=4, gradient=counted)
        for _ in range(3):
            next(runs)
    assert sorted(traces) == [(2, 4), (4, 4)]  # the scan's batch, and the smaller one at the end


def test_fit_learns_and_reports():
    x, y = data(200)
    fitted = train.fit(NET, LOSS, x, y, epochs=30, batch_size=16, validation=data(100, seed=1))
    assert fitted.history[-1]["validation_accuracy"] >= 0.9
    scores = {"validation_loss", "validation_accuracy"}
    assert set(fitted.history[0]) == {"epoch", "step", "loss", "seconds"} | scores
    assert [row["epoch"] for row in fitted.history] == list(range(1, 31))
    assert fitted.state.step == 30 * 13


def test_fit_starts_from_given_parameters_and_leaves_them_alone():
    x, y = data()
    params = params_of(NET)
    still = train.fit(NET, LOSS, x, y, epochs=2, optimizer=STILL, params=params)
    chex.assert_trees_all_equal(still.params, params)


@pytest.mark.parametrize(
    ("net", "loss", "params", "x", "y", "accuracy"),
    [
        (jaxbp.layered([2, 2], hidden=(), output=jaxbp.softmax, bias=False), LOSS, np.eye(2), np.eye(2), [0, 0], 0.5),
        (
            jaxbp.layered([1, 1], hidden=(), output=jaxbp.sigmoid, bias=False),
            jaxbp.binary_cross_entropy,
            np.ones((1, 1)),
            [[1.0], [-1.0], [2.0], [3.0]],
            [1, 0, 0, 1],
            0.75,
        ),
        (
            jaxbp.layered([1, 1], hidden=(), output=jaxbp.linear, bias=False),
            jaxbp.perceptron,
            np.ones((1, 1)),
            [[0.2], [-1.0]],
            [1, 0],
            1.0,
        ),
    ],
)
def test_accuracy_by_hand(net, loss, params, x, y, accuracy):
    scores = train.evaluate(net, loss, {"o": {"x": jnp.asarray(params)}}, jnp.asarray(x), jnp.asarray(y))
    assert scores["accuracy"] == accuracy


@pytest.mark.parametrize("batch_size", [1, 4, 5, 10, 12])
def test_batches_say_what_the_whole_says(batch_size):
    net = jaxbp.layered([4, 3], hidden=(), output=jaxbp.softmax)
    params, (x, y) = params_of(net), data()
    whole = train.evaluate(net, jaxbp.cross_entropy, params, x, y)
    parts = train.evaluate(net, jaxbp.cross_entropy, params, x, y, batch_size=batch_size)
    chex.assert_trees_all_close(parts, whole, rtol=1e-12)


def test_a_regression_has_no_accuracy():
    net = jaxbp.layered([4, 1], hidden=(), output=jaxbp.linear)
    params = params_of(net)
    assert set(train.evaluate(net, jaxbp.squared_error, params, data()[0], jnp.ones((10, 1)))) == {"loss"}


def test_divergence_names_epoch_step_and_unit_and_leaves_the_earlier_epochs():
    x, _ = data(32)
    net = jaxbp.layered([4, 8, 8, 1], hidden=jaxbp.relu, output=jaxbp.linear)
    runs = train.run(net, jaxbp.squared_error, x, x[:, :1], optimizer=optax.sgd(30.0), batch_size=8)
    finished = []
    with pytest.raises(train.DivergedError, match=r"training diverged in epoch \d+ at step \d: ") as caught:
        finished.extend(itertools.islice(runs, 50))
    error = caught.value
    assert error.epoch == len(finished) + 1
    assert error.where in (*net.order, "loss")


@pytest.mark.parametrize("bad_step", [1, 2, 4])
def test_the_step_of_the_divergence_is_the_first_bad_one(bad_step):
    """A schedule that blows up at one known update; the forward phase after it is the first to see it."""
    x, y = data(40)
    optimizer = optax.scale_by_schedule(lambda count: jnp.where(count == bad_step - 1, jnp.nan, 0.0))
    with pytest.raises(train.DivergedError) as caught:
        next(train.run(NET, LOSS, x, y, optimizer=optimizer, batch_size=8))
    assert (caught.value.epoch, caught.value.step, caught.value.where) == (1, bad_step + 1, "h1")


def test_a_last_update_that_is_not_finite_is_found_in_the_parameters():
    x, y = data(40)
    optimizer = optax.scale_by_schedule(lambda count: jnp.where(count == 4, jnp.nan, 0.0))
    with pytest.raises(train.DivergedError, match=r"epoch 1 at step 5: params\.h1"):
        next(train.run(NET, LOSS, x, y, optimizer=optimizer, batch_size=8))


def test_a_loss_that_is_not_finite_by_itself_is_named():
    net = jaxbp.layered([1, 2], hidden=(), output=jaxbp.softmax)
    loss = jaxbp.unfused(jaxbp.cross_entropy)
    x, y = jnp.array([[1e4]]), jnp.array([1])
    params = {"o": {"x": jnp.array([[1.0, -1.0]]), "bias": jnp.zeros(2)}}
    with pytest.raises(train.DivergedError, match="epoch 1 at step 1: loss is the first"):
        train.fit(net, loss, x, y, params=params)


REFUSED = [
    (data()[0].at[3, 1].set(jnp.nan), data()[1], {}, ValueError, r"x\[3, 1\] is not finite; 1 of 40 values are not"),
    (data()[0], data()[1].at[2].set(3), {}, ValueError, "class id 3 at example 2 is outside 0…2"),
    (data()[0], jnp.eye(3)[data()[1]].at[4].set(0), {}, ValueError, "the target row of example 4 sums to 0"),
    (data()[0], data()[1][:9], {}, ValueError, r"y has shape \(9,\), but the output has shape \(10, 3\)"),
    (data()[0][:9], data()[1], {}, ValueError, r"y has shape \(10,\), but the output has shape \(9, 3\)"),
    (*data(), {"weights": jnp.ones(9)}, ValueError, r"weights has shape \(9,\), expected the batch shape"),
    (*data(), {"weights": jnp.zeros(10)}, ValueError, "weights sum to 0"),
    (data()[0], data()[1].astype(float), {}, TypeError, "class ids must be integers"),
    (data()[0][:0], data()[1][:0], {}, ValueError, "an empty batch has no mean loss"),
    (data()[0], data()[1], {"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
]


@pytest.mark.parametrize(("x", "y", "options", "error", "message"), REFUSED)
def test_data_that_cannot_be_trained_on_is_refused_before_compiling(x, y, options, error, message):
    with pytest.raises(error, match=message):
        next(train.run(NET, LOSS, x, y, optimizer=SGD, gradient=never_called, **options))
    with pytest.raises(error, match=message):
        train.fit(NET, LOSS, x, y, epochs=1, **options)


def never_called(params, x, y):
    raise AssertionError("the gradient was traced")


def test_nan_in_one_of_several_inputs_is_found_by_name():
    x = {"image": jnp.ones((2, 4)), "text": jnp.ones((2, 3)).at[1, 2].set(jnp.inf)}
    with pytest.raises(ValueError, match=r"text\[1, 2\] is not finite"):
        train.fit(TWO_INPUTS, LOSS, x, jnp.zeros(2, int))


def test_fit_again_compiles_nothing(caplog):
    """The default optimizer is one, so that neither a second fit of a network nor its state is new to JAX."""
    x, y = data()
    first = train.fit(NET, LOSS, x, y, epochs=1)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        train.fit(NET, LOSS, x, y, epochs=2)
        train.fit(NET, LOSS, x, y, epochs=1, state=first.state)
    assert not [r.message for r in caplog.records if "ompil" in r.message]


def test_networks_that_were_trained_are_let_go():
    """What is kept is bounded: of many networks and of the programs made for them a few are left."""
    x, y = data()
    alive = []
    for width in range(2, 22):
        net = jaxbp.layered([4, width, 3], output=jaxbp.softmax)
        gradient = jaxbp.value_and_grad(net, LOSS)
        state = jax.eval_shape(lambda net=net: train.init_state(jax.random.key(0), net, SGD))
        # traced and kept like what is called, but not compiled
        for use in (
            jax.jit(gradient),
            jaxbp.objective(net, LOSS),
            lambda params, x, y, net=net: train.evaluate(net, LOSS, params, x, y),
        ):
            jax.eval_shape(use, state.params, x, y)
        jax.eval_shape(lambda s, g=gradient: train.step(s, x, y, gradient=g, optimizer=SGD), state)
        jaxbp.as_function(net)
        train.kolen_pollack(net, LOSS)
        alive.append(weakref.ref(net))
    del net, gradient, state, use
    gc.collect()
    assert sum(ref() is not None for ref in alive) <= 2 * KEPT


def test_a_state_goes_on_where_it_stood():
    x, y = data()
    whole = train.fit(NET, LOSS, x, y, epochs=3)
    first = train.fit(NET, LOSS, x, y, epochs=1)
    chex.assert_trees_all_equal(train.fit(NET, LOSS, x, y, epochs=2, state=first.state).state, whole.state)
    with pytest.raises(ValueError, match="params are where a fresh state starts"):
        train.fit(NET, LOSS, x, y, state=first.state, params=first.params)
    with pytest.raises(ValueError, match="key is for a fresh state"):
        train.run(NET, LOSS, x, y, optimizer=SGD, state=first.state, key=jax.random.key(0))


def test_weights_of_0_leave_examples_out():
    x, y = data(12)
    counted = jnp.arange(12) < 8
    weights = jnp.where(counted, 2.0, 0.0)
    optimizer = optax.sgd(0.5)
    part = train.fit(NET, LOSS, x[:8], y[:8], optimizer=optimizer, epochs=2, batch_size=12)
    whole = train.fit(NET, LOSS, x, y, optimizer=optimizer, epochs=2, batch_size=12, weights=weights)
    chex.assert_trees_all_close(whole.params, part.params, rtol=1e-12)
    assert whole.history[-1]["loss"] == pytest.approx(part.history[-1]["loss"], rel=1e-12)
    spoilt = train.fit(NET, LOSS, x, y, optimizer=optimizer, epochs=2, batch_size=12)
    assert abs(whole.history[-1]["loss"] - spoilt.history[-1]["loss"]) > 1e-6


def test_the_mean_loss_of_an_epoch_counts_examples_by_their_weights():
    x, y = data(10)
    weights = jnp.arange(1.0, 11.0)
    frozen = optax.sgd(0.0)
    (done,) = zip(range(1), train.run(NET, LOSS, x, y, optimizer=frozen, batch_size=4, weights=weights), strict=False)
    params = done[1].state.params
    expected = OBJECTIVE(params, x, y, weights)
    assert done[1].loss == pytest.approx(float(expected), rel=1e-12)


def test_a_gradient_that_takes_a_key_gets_one_where_units_have_dropout():
    x, y = data()
    units = {
        "h": jaxbp.Unit(8, jaxbp.relu, {"x": jaxbp.Dense()}, dropout=0.5),
        "o": jaxbp.Unit(3, jaxbp.softmax, {"h": jaxbp.Dense()}),
    }
    net = jaxbp.Network(inputs={"x": 4}, units=units)
    ours = next(train.run(net, LOSS, x, y, optimizer=SGD))
    given = next(train.run(net, LOSS, x, y, optimizer=SGD, gradient=jaxbp.value_and_grad(net, LOSS)))
    chex.assert_trees_all_equal(ours.state, given.state)
    for gradient in (jaxbp.value_and_grad(net, LOSS), jax.value_and_grad(jaxbp.objective(net, LOSS))):
        with pytest.raises(ValueError, match="units 'h' have dropout"):
            next(train.run(net, LOSS, x, y, optimizer=SGD, gradient=gradient, keyed=False))
    evaluated = jaxbp.Network(net.inputs, units | {"h": jaxbp.Unit(8, jaxbp.relu, {"x": jaxbp.Dense()})})
    gradient = jax.value_and_grad(jaxbp.objective(evaluated, LOSS))
    quiet = next(train.run(net, LOSS, x, y, optimizer=SGD, gradient=gradient, keyed=False))
    assert quiet.loss != given.loss


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("part", ["data", "state"])
def test_what_lies_on_several_devices_is_refused(axis_type, part):
    """Without a mesh to divide the batch along, each device would compute all of it."""
    x, y = data(8)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(axis_type,))
    state = a_state(SGD)
    if part == "data":
        x, y = jax.device_put((x, y), NamedSharding(mesh, P("data")))
    else:
        state = jax.device_put(state, NamedSharding(mesh, P()))
    arguments = {"gradient": EXPLICIT, "optimizer": SGD}
    calls = [
        lambda: train.run(NET, LOSS, x, y, optimizer=SGD, state=state),
        lambda: train.fit(NET, LOSS, x, y, state=state),
        lambda: train.epoch(state, x, y, batch_size=4, **arguments),
        lambda: train.step(state, x, y, **arguments),
    ]
    for call in calls:
        with jax.set_mesh(mesh), pytest.raises(ValueError, match="on several devices, and each would compute"):
            call()


HALF = jaxbp.elementwise(lambda a: 0.5 + 0 * a, lambda a, h: 0 * a, name="half")


@pytest.mark.parametrize("loss", [jaxbp.cross_entropy, jaxbp.binary_cross_entropy], ids=repr)
def test_a_logarithm_of_what_is_no_probability_is_refused_before_training(loss):
    x, y = data()
    for output in (jaxbp.linear, jaxbp.tanh, jaxbp.relu, jaxbp.layer_norm, jaxbp.softplus):
        net = jaxbp.layered([4, 3], output=output)
        with pytest.raises(ValueError, match=rf"{loss} takes probabilities, but the activation {output}.* use output="):
            train.run(net, loss, x, jax.nn.one_hot(y, 3), optimizer=SGD)
    for output in (jaxbp.softmax, jaxbp.sigmoid, HALF):
        train.run(jaxbp.layered([4, 3], output=output), loss, x, jax.nn.one_hot(y, 3), optimizer=SGD)


@pytest.mark.parametrize("loss", [jaxbp.cross_entropy, jaxbp.perceptron], ids=repr)
def test_targets_that_do_not_exist_have_no_accuracy(loss):
    net = jaxbp.layered([4, 3], output=jaxbp.softmax if loss == jaxbp.cross_entropy else jaxbp.linear)
    params = params_of(net)
    x = jnp.ones((2, 4))
    for bad in (3, -1, 2**32):
        y = np.array([0, bad])
        with pytest.raises(ValueError, match=f"class id {bad} at example 1 is outside"):
            train.evaluate(net, loss, params, x, y)
        with pytest.raises(ValueError, match=f"class id {bad} at example 1 is outside"):
            train.fit(net, loss, x, jnp.zeros(2, int), epochs=1, validation=(x, y))
    scores = jax.jit(lambda y: train.evaluate(net, loss, params, x, y))(jnp.array([0, 3]))
    assert np.isnan(scores["accuracy"])
    assert np.isnan(scores["loss"])
    with pytest.raises(ValueError, match=r"y has shape \(1,\), but the output has shape \(2, 3\)"):
        train.evaluate(net, loss, params, x, jnp.zeros(1, int), batch_size=1)


@pytest.mark.parametrize(("inputs", "targets"), [(9, 10), (10, 9), (0, 0)])
def test_an_epoch_of_unequal_numbers_of_examples_is_refused(inputs, targets):
    """A batch is gathered by the numbers of y's examples: rows of x would be repeated, or left out."""
    x, y = data()
    with pytest.raises(
        ValueError, match=rf"the numbers of examples are {{'x': {inputs}, 'y': {targets}}}; expected as"
    ):
        train.epoch(a_state(SGD), x[:inputs], y[:targets], gradient=never_called, optimizer=SGD, batch_size=4)


def test_inputs_wider_than_the_parameters_are_refused():
    x, y = data()
    state = train.init_state(jax.random.key(0), NET, SGD, dtype=jnp.bfloat16)
    with pytest.raises(
        TypeError, match=r"input 'x' has dtype float64, .* bfloat16: everything would be computed in float6"
    ):
        train.run(NET, LOSS, x, y, optimizer=SGD, state=state)
    after = next(train.run(NET, LOSS, x.astype(jnp.bfloat16), y, optimizer=SGD, state=state)).state
    assert {leaf.dtype for leaf in jax.tree.leaves(after.params)} == {jnp.dtype(jnp.bfloat16)}


PADDED = case_named("padded tokens")


def test_padding_counts_nothing_in_training_nor_in_evaluation():
    params, x, y, weights = PADDED.arguments(jnp.float64)
    clean = jnp.where(weights == 0, 0, y)
    assert not jnp.array_equal(y, clean)
    fits = [
        train.fit(
            PADDED.net, PADDED.loss, x, ids, weights=weights, validation=(x, ids, weights), epochs=2, batch_size=3,
            params=params, optimizer=SGD,
        )
        for ids in (y, clean)
    ]  # fmt: skip
    chex.assert_trees_all_equal(fits[0].params, fits[1].params)
    last = fits[0].history[-1]
    expected = jax.jit(jaxbp.objective(PADDED.net, PADDED.loss))(fits[0].params, x, y, weights)
    assert last["validation_loss"] == pytest.approx(float(expected), rel=1e-12)
    o = jax.jit(jaxbp.apply, static_argnums=0)(PADDED.net, fits[0].params, x)
    share = np.sum(np.asarray(weights) * (np.argmax(np.asarray(o), axis=-1) == np.asarray(y))) / np.sum(
        np.asarray(weights)
    )
    assert last["validation_accuracy"] == pytest.approx(float(share), rel=1e-12)
    for batch_size in (1, 2):  # the second example has no weight at all
        parts = train.evaluate(PADDED.net, PADDED.loss, fits[0].params, x, y, weights=weights, batch_size=batch_size)
        assert float(parts["loss"]) == pytest.approx(last["validation_loss"], rel=1e-12)
        assert float(parts["accuracy"]) == pytest.approx(last["validation_accuracy"], rel=1e-12)
    with pytest.raises(ValueError, match=r"class id -?\d+ at \[\d, \d\] is outside 0…2"):
        train.check_data(PADDED.net, PADDED.loss, x, y)


def test_padding_is_not_what_diverged():
    params, x, y, weights = PADDED.arguments(jnp.float64)
    optimizer = optax.scale_by_schedule(lambda count: jnp.where(count == 1, jnp.nan, 0.0))
    with pytest.raises(train.DivergedError) as caught:
        train.fit(
            PADDED.net,
            PADDED.loss,
            *repeated((x, y)),
            weights=repeated(weights),
            params=params,
            optimizer=optimizer,
            batch_size=3,
        )
    assert (caught.value.step, caught.value.where) == (3, "e")


def repeated(tree):
    """Four batches of everything."""
    return jax.tree.map(lambda v: jnp.concatenate([v] * 4), tree)
