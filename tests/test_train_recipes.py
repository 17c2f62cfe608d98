"""What every loop has: parts of a batch, precision, an average, schedules, masks, evaluation, and an early end."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import case_named
from test_train_mesh import KINDS, mesh_of

import jaxbp
from jaxbp import train

NET = jaxbp.layered([4, 6, 3], hidden=jaxbp.tanh, output=jaxbp.softmax)
LOSS = jaxbp.cross_entropy
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(24, 4)))
Y = jnp.argmax(X[:, :3], axis=1)
WEIGHTS = jnp.asarray(RNG.uniform(0.5, 2, 24)).at[jnp.arange(0, 24, 3)].set(0)  # of three parts one weighs nothing
PARAMS = jaxbp.init_params(jax.random.key(0), NET)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_parts_of_a_batch_make_its_gradient(reduction, weights):
    extra = {} if weights is None else {"weights": weights}
    whole = jaxbp.value_and_grad(NET, LOSS, reduction=reduction)
    theirs = jax.jit(whole)(PARAMS, X, Y, **extra)
    for parts in (1, 3, 24) if weights is None else (1, 3):
        ours = jax.jit(train.accumulated(whole, parts, reduction=reduction))(PARAMS, X, Y, **extra)
        chex.assert_trees_all_close(ours, theirs, rtol=1e-12, atol=1e-14)
    assert train.accumulated(whole, 3, reduction=reduction) is train.accumulated(whole, 3, reduction=reduction)


@pytest.mark.slow
def test_the_parts_of_padded_sequences_weigh_what_their_tokens_do():
    case = case_named("padded tokens")
    params, x, y, weights = jax.tree.map(lambda v: v, case.arguments(jnp.float64))
    x, y, weights = jax.tree.map(lambda v: jnp.concatenate([v, v[::-1]]), (x, y, weights))
    whole = jaxbp.value_and_grad(case.net, case.loss)
    ours = train.accumulated(whole, 2)(params, x, y, weights=weights)
    chex.assert_trees_all_close(ours, whole(params, x, y, weights=weights), rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_each_part_draws_noise_of_its_own():
    noisy = jaxbp.Network(NET.inputs, {**NET.units, "h1": jaxbp.Unit(6, jaxbp.tanh, {"x": jaxbp.Dense()}, dropout=0.5)})
    twice = jnp.concatenate([X[:1], X[:1]])
    gradient = jaxbp.value_and_grad(noisy, LOSS)
    key = jax.random.key(0)
    (value, _), ids = train.accumulated(gradient, 2)(PARAMS, twice, Y[jnp.zeros(2, int)], key=key), Y[:1]
    alone = [gradient(PARAMS, X[:1], ids, key=jax.random.fold_in(key, i))[0] for i in range(2)]
    assert alone[0] != alone[1]
    assert float(value) == pytest.approx(float(sum(alone)) / 2, rel=1e-12)


def test_parts_that_are_not_equal_are_refused():
    with pytest.raises(ValueError, match="a batch of 24 cannot be divided into 5 parts of equal size"):
        train.accumulated(jaxbp.value_and_grad(NET, LOSS), 5)(PARAMS, X, Y)


@pytest.mark.parametrize(
    "axis_type",
    [pytest.param(*kind.values, id=kind.id, marks=[pytest.mark.slow] * (kind.id == "auto")) for kind in KINDS],
)
def test_on_a_mesh_each_device_keeps_its_examples(axis_type):
    gradient = train.accumulated(jaxbp.value_and_grad(NET, LOSS), 3)
    options = {"optimizer": optax.sgd(0.1), "batch_size": 24, "gradient": gradient}
    alone, together = (
        next(train.run(NET, LOSS, X, Y, **options, **on)) for on in ({}, {"mesh": mesh_of("4", axis_type)})
    )
    chex.assert_trees_all_close(together.state.params, alone.state.params, rtol=1e-12)


def test_masters_stay_in_float32_and_bfloat16_computes():
    seen = []

    def gradient(params, x, y):
        seen.append({leaf.dtype.name for leaf in jax.tree.leaves((params, x))})
        return jaxbp.value_and_grad(NET, LOSS)(params, x, y)

    masters = jax.tree.map(lambda W: W.astype(jnp.float32), PARAMS)
    done = next(
        train.run(
            NET, LOSS, X.astype(jnp.float32), Y, optimizer=optax.sgd(1e-4), batch_size=24,
            gradient=train.computed_in(gradient, jnp.bfloat16),
            state=train.init_state(jax.random.key(0), NET, optax.sgd(1e-4), params=masters),
        )
    )  # fmt: skip
    assert seen == [{"bfloat16"}]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(done.state.params)} == {"float32"}
    moved = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), done.state.params, masters)
    # less than bfloat16 could tell apart, so that without masters nothing would have moved
    assert all(0 < by < 1e-4 for by in jax.tree.leaves(moved))
    with pytest.raises(TypeError, match="floating dtype"):
        train.computed_in(gradient, int)


def test_the_average_follows_the_parameters():
    optimizer = optax.chain(optax.sgd(0.5), train.averaged(0.8))
    state = train.init_state(jax.random.key(0), NET, optimizer, params=PARAMS)
    gradient, average = jaxbp.value_and_grad(NET, LOSS), PARAMS
    for _ in range(4):
        state, _ = train.step(state, X, Y, gradient=gradient, optimizer=optimizer)
        average = jax.tree.map(lambda A, W: 0.8 * A + 0.2 * W, average, state.params)
    chex.assert_trees_all_close(train.average_of(state.opt_state), average, rtol=1e-12)
    with pytest.raises(ValueError, match="holds no averages"):
        train.average_of(optax.sgd(0.1).init(PARAMS))
    with pytest.raises(ValueError, match="averaged needs the parameters"):
        optimizer.update(PARAMS, state.opt_state)
    mesh = mesh_of("4")
    placed = train.run(NET, LOSS, X, Y, optimizer=optimizer, batch_size=24, mesh=mesh, layout="sharded")
    W = train.average_of(next(placed).state.opt_state)["h1"]["x"]
    assert not W.sharding.is_fully_replicated


def test_patience_ends_a_fit_and_a_callback_sees_every_epoch():
    seen = []
    options = {"validation": (X, Y), "epochs": 30, "batch_size": 8, "optimizer": optax.sgd(-0.1)}
    fitted = train.fit(NET, LOSS, X, Y, patience=2, callback=seen.append, **options)
    assert [done.number for done in seen] == [1, 2, 3]
    assert fitted.history == seen[-1].history
    assert seen[0].scores["validation_loss"] < seen[-1].scores["validation_loss"]
    with pytest.raises(ValueError, match="patience waits for a better validation loss"):
        train.fit(NET, LOSS, X, Y, patience=2)


def test_an_evaluation_every_few_steps():
    scored = []

    def score(params):
        scored.append(train.evaluate(NET, LOSS, params, X, Y)["loss"])
        return {"half": scored[-1] / 2}

    runs = train.run(NET, LOSS, X, Y, optimizer=optax.sgd(0.1), batch_size=8, every=2, epochs=2, score=score)
    *_, last = runs
    assert [row["step"] for row in last.history] == [2, 4, 6]
    assert [row["half"] for row in last.history] == [float(loss) / 2 for loss in scored]
