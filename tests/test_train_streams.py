"""Where batches come from: whatever holds the data, and however it is cut, the numbers are the same to the last bit."""

import itertools

import chex
import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxbp
from jaxbp import train
from jaxbp.train._order import order_of_epoch

UNITS = {
    "h": jaxbp.Unit(8, jaxbp.relu, {"x": jaxbp.Dense()}, dropout=0.25),
    "o": jaxbp.Unit(3, jaxbp.softmax, {"h": jaxbp.Dense()}),
}
NET = jaxbp.Network(inputs={"x": 4}, units=UNITS)
LOSS, ADAM, BATCH, EPOCHS = jaxbp.cross_entropy, optax.adam(1e-2), 4, 2
RNG = np.random.default_rng(0)
X = RNG.normal(size=(22, 4))  # five whole batches and a last one of two
Y = np.argmax(X[:, :3], axis=1)
KEY = jax.random.key(3)


def trained(x=X, y=Y, epochs=EPOCHS, **options):
    """The last epoch of a run with dropout and Adam."""
    options = {"optimizer": ADAM, "batch_size": BATCH, "key": KEY, "epochs": epochs} | options
    *_, last = train.run(NET, LOSS, x, y, **options)
    return last


@pytest.fixture(scope="module")
def resident():
    return trained()


def assert_bit_equal(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("chunk", [1, 2, 3, 50])
def test_chunks_from_the_host_are_what_lies_on_the_device(resident, chunk):
    streamed = trained(chunk=chunk)
    assert_bit_equal(streamed.state, resident.state)
    np.testing.assert_array_equal(streamed.steps.loss, resident.steps.loss)


def test_a_file_mapped_into_memory_is_read_in_chunks(tmp_path, resident):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    x, y = (np.load(tmp_path / name, mmap_mode="r") for name in ("x.npy", "y.npy"))
    assert_bit_equal(trained(x, y).state, resident.state)


def batches_of(key, epoch):
    order = np.asarray(order_of_epoch(key, epoch, len(Y)))
    return [(X[rows], Y[rows]) for rows in np.split(order, range(BATCH, len(Y), BATCH))]


class ByEpoch:
    """Batches in the order that `run` takes, another each time it is gone through; before that one is looked at."""

    def __init__(self):
        self.key, self.epoch = train.init_state(KEY, NET, ADAM).key, -1

    def __iter__(self):
        self.epoch += 1
        return iter(batches_of(self.key, max(self.epoch - 1, 0)))


@pytest.mark.parametrize("chunk", [None, 2])
def test_batches_that_are_yielded_are_those_of_arrays(resident, chunk):
    streamed = trained(ByEpoch(), None, chunk=chunk)
    assert_bit_equal(streamed.state, resident.state)
    assert [row["loss"] for row in streamed.history] == [row["loss"] for row in resident.history]


def test_a_grain_dataset_is_one_that_yields_batches():
    pairs = [(X[i], Y[i]) for i in range(len(Y))]
    dataset = grain.MapDataset.source(pairs).batch(BATCH)
    given = trained([(np.stack(x), np.asarray(y)) for x, y in dataset], None)
    assert_bit_equal(trained(dataset, None).state, given.state)
    assert_bit_equal(trained(dataset.to_iter_dataset(), None).state, given.state)
    assert given.state.step == EPOCHS * 6


def test_where_a_run_is_looked_at_changes_nothing(resident):
    looked = list(train.run(NET, LOSS, X, Y, optimizer=ADAM, batch_size=BATCH, key=KEY, epochs=EPOCHS, every=5))
    assert [row["step"] for row in looked[-1].history] == [5, 10, 12]
    assert [done.number for done in looked] == [1, 2, 2]
    assert_bit_equal(looked[-1].state, resident.state)
    losses = np.concatenate([done.steps.loss for done in looked])
    np.testing.assert_array_equal(losses[-6:], resident.steps.loss)


def test_a_state_from_the_middle_of_an_epoch_goes_on_with_its_rest(resident):
    first = next(train.run(NET, LOSS, X, Y, optimizer=ADAM, batch_size=BATCH, key=KEY, every=4))
    rest = trained(key=None, state=first.state)
    assert rest.steps.loss.shape == (6,)
    assert_bit_equal(rest.state, resident.state)


def test_the_last_batch_can_be_left_out():
    dropped = trained(drop_last=True)
    assert dropped.steps.weight.tolist() == [4.0] * 5
    assert_bit_equal(trained(drop_last=True, chunk=3).state, dropped.state)
    with pytest.raises(ValueError, match="drop_last leaves no batch of 32 among 22 examples"):
        trained(drop_last=True, batch_size=32)


def test_every_example_of_a_stream_is_seen_once_an_epoch():
    seen = trained(np.arange(22.0)[:, None] * np.ones(4), chunk=2, observe=first_column)
    np.testing.assert_array_equal(np.sort(np.ravel(seen.steps.observed)[: 5 * BATCH + 2]), np.arange(22))


def first_column(params, x, y):
    return jnp.concatenate([x[:, 0], jnp.full(BATCH - len(x), jnp.inf)])


def test_weights_come_with_the_batches():
    weights = np.linspace(0.5, 2, 22)
    batches = [(X[i : i + 2], Y[i : i + 2], weights[i : i + 2]) for i in range(0, 22, 2)]
    given = trained(batches, None, epochs=1)
    assert given.loss == pytest.approx(float(np.average(given.steps.loss, weights=weights.reshape(11, 2).sum(1))))
    assert_bit_equal(trained(weights=weights, chunk=2).state, trained(weights=weights).state)


REFUSED = [
    ((b for b in batches_of(KEY, 0)), {}, ValueError, "the batches of epoch 2 ended after 0, where more were expected"),
    ([], {}, ValueError, "x yields no batch"),
    ([X], {}, TypeError, r"batch 1 is an array of shape .*, expected \(x, y\), or \(x, y, weights\), of arrays"),
    ([(X, Y), (X,)], {}, TypeError, "batch 2 is a value of type tuple, expected"),
    ([(X[:, :3], Y)], {}, ValueError, r"x has shape \(22, 3\), but input 'x' of the network has"),
    ([(np.full((2, 4), np.nan), Y[:2])], {}, ValueError, r"x\[0, 0\] is not finite"),
    (X, {}, TypeError, "y is None, and x is nothing that yields batches"),
    ([(X, Y)], {"weights": np.ones(22)}, ValueError, "a batch has its weights with it"),
]


@pytest.mark.parametrize(("batches", "options", "error", "message"), REFUSED)
def test_streams_that_cannot_be_learned_from_are_refused(batches, options, error, message):
    with pytest.raises(error, match=message):
        trained(batches, None, **options)


@pytest.mark.parametrize("chunk", [pytest.param(None, marks=pytest.mark.slow), 2])
def test_a_divergence_names_step_and_unit_also_in_a_stream(chunk):
    blows_up = optax.scale_by_schedule(lambda count: jnp.where(count == 7, jnp.nan, 0.0))
    with pytest.raises(train.DivergedError) as caught:
        trained(optimizer=blows_up, chunk=chunk, epochs=3)
    assert (caught.value.epoch, caught.value.step, caught.value.where) == (2, 3, "h")
    with pytest.raises(train.DivergedError) as caught:
        trained(batches_of(KEY, 0), None, optimizer=blows_up, chunk=chunk, epochs=3)
    assert (caught.value.epoch, caught.value.step, caught.value.where) == (2, 3, "loss")


def test_a_stream_ends_when_it_is_let_go():
    run = train.run(NET, LOSS, X, Y, optimizer=ADAM, batch_size=BATCH, key=KEY, chunk=1)
    chex.assert_tree_all_finite([done.loss for done in itertools.islice(run, 2)])
    run.close()
    with pytest.raises(StopIteration):
        next(run)
