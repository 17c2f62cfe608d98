"""A run that is ended goes on as if nothing had been: bit for bit, from checkpoints that are as they were written."""

import gc
import json
import logging
import random
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_train_mesh import mesh_of
from test_train_streams import ADAM, KEY, LOSS, NET, X, Y, assert_bit_equal, batches_of

import jaxbp
from jaxbp import train
from jaxbp.train._checkpoints import digest

OPTIONS = {"optimizer": ADAM, "batch_size": 4, "epochs": 3}


def run(folder, x=X, y=Y, *, net=NET, loss=LOSS, every=4, keep=3, **options):
    checkpoints = train.Checkpoints(folder, every=every, keep=keep)
    return train.run(net, loss, x, y, checkpoints=checkpoints, **{"key": KEY} | OPTIONS | options)


def finished(*arguments, **options):
    *_, last = run(*arguments, **options)
    return last


@pytest.fixture(scope="module")
def uninterrupted():
    *_, last = train.run(NET, LOSS, X, Y, key=KEY, **OPTIONS)
    return last


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The checkpoints of a run that was ended after eight of its eighteen steps, in the middle of an epoch."""
    folder = tmp_path_factory.mktemp("written") / "checkpoints"
    ended_after(folder, 8)
    return folder


def ended_after(folder, steps, **options):
    count = iter(range(1000))
    # asked after each chunk of at most 4 steps, cut at checkpoints and before the last, smaller batch: 4, 5, 6, 8
    pieces = {4: 1, 5: 2, 6: 3, 8: 4}[steps]
    return list(run(folder, stop=lambda: next(count) + 1 == pieces, **options))


@pytest.fixture
def checkpoints(tmp_path, written):
    shutil.copytree(written, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def steps_in(folder):
    return sorted(int(part.name) for part in folder.iterdir() if part.name.isdecimal())


def test_a_run_goes_on_in_the_middle_of_an_epoch(checkpoints, uninterrupted):
    assert steps_in(checkpoints) == [4, 8]
    last = finished(checkpoints, resume=True)
    assert_bit_equal(last.state, uninterrupted.state)
    assert [(row["epoch"], row["step"]) for row in last.history] == [(1, 6), (2, 12), (3, 18)]
    assert last.history[0]["loss"] == uninterrupted.history[0]["loss"]
    assert steps_in(checkpoints) == [12, 16, 18]  # the last ones, and the end


@pytest.mark.parametrize("chunk", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_the_size_of_chunks_may_change_at_a_restart(checkpoints, uninterrupted, chunk):
    assert_bit_equal(finished(checkpoints, resume=True, chunk=chunk).state, uninterrupted.state)


def test_a_stream_goes_on_where_it_was(tmp_path):
    batches = batches_of(KEY, 0)
    ended_after(tmp_path / "part", 8, x=batches, y=None)
    last = finished(tmp_path / "part", batches, None, resume=True)
    assert_bit_equal(last.state, finished(tmp_path / "whole", batches, None).state)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["replicated", "sharded"])
def test_a_run_goes_on_on_another_mesh(checkpoints, uninterrupted, layout):
    mesh = mesh_of("2")
    last = finished(checkpoints, resume=True, mesh=mesh, layout=layout)
    for a, b in zip(*map(jax.tree.leaves, (last.state.params, uninterrupted.state.params)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    again = finished(checkpoints, resume=True)  # from the mesh to one device
    assert_bit_equal(again.state, last.state)


def test_a_finished_run_says_so_once_more(checkpoints):
    last = finished(checkpoints, resume=True)
    (again,) = run(checkpoints, resume=True)
    assert_bit_equal(again.state, last.state)
    assert again.history == last.history
    assert again.loss == last.loss


def test_there_may_be_nothing_to_go_on_from(tmp_path, uninterrupted):
    assert_bit_equal(finished(tmp_path / "new", resume=True).state, uninterrupted.state)


def test_the_digest_depends_on_every_bit_and_on_no_sharding():
    state = train.init_state(KEY, NET, ADAM)
    whole = digest(state)
    assert set(whole) > {"params.h.x", "opt_state.0.mu.h.x", "key", "step"}
    mesh = mesh_of("4")
    place = train._placement.Placement(mesh, "sharded")
    assert digest(jax.device_put(state, place.of_state(state))) == whole
    rng = random.Random(0)
    for dtype in (jnp.float64, jnp.float32, jnp.bfloat16, jnp.int8, jnp.bool_):
        values = np.asarray(jnp.arange(12).astype(dtype)).reshape(3, 4)
        for _ in range(8):
            raw = bytearray(values.tobytes())
            if dtype == jnp.bool_:
                raw[rng.randrange(len(raw))] ^= 1
            else:
                raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
            flipped = np.frombuffer(bytes(raw), values.dtype).reshape(3, 4)
            assert digest({"W": jnp.asarray(flipped)}) != digest({"W": jnp.asarray(values)})


def flip_a_bit(folder, rng):
    files = [f for f in folder.rglob("*") if f.is_file() and f.stat().st_size]
    path = rng.choices(files, weights=[f.stat().st_size for f in files])[0]
    raw = bytearray(path.read_bytes())
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    path.write_bytes(raw)


def survives(folder, uninterrupted, rng):
    """Whether a run that goes on from a checkpoint with one flipped bit ends as if there had been none."""
    flip_a_bit(folder / "8", rng)
    last = finished(folder, resume=True, every=100)
    gc.collect()
    assert_bit_equal(last.state, uninterrupted.state)
    assert [row["loss"] for row in last.history] == [row["loss"] for row in uninterrupted.history]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # orbax leaves coroutines behind
@pytest.mark.parametrize("seed", range(1))
def test_a_flipped_bit_is_found_and_the_checkpoint_before_is_taken(checkpoints, uninterrupted, seed):
    survives(checkpoints, uninterrupted, random.Random(seed))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
def test_60_flipped_bits_are_found(tmp_path, written, uninterrupted):
    for seed in range(60):
        shutil.copytree(written, tmp_path / str(seed))
        survives(tmp_path / str(seed), uninterrupted, random.Random(100 + seed))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damage_is_said_aloud(checkpoints, caplog):
    (data,) = (checkpoints / "8" / "state" / "d").iterdir()
    raw = bytearray(data.read_bytes())
    raw[len(raw) // 2] ^= 4
    data.write_bytes(raw)
    with caplog.at_level(logging.ERROR):
        finished(checkpoints, resume=True)
        gc.collect()
    assert "the checkpoint of step 8" in caplog.text
    assert "is damaged and is left out, the one before it is tried" in caplog.text


def test_when_all_are_damaged_nothing_is_begun_anew(checkpoints):
    for step in ("4", "8"):
        about = next((checkpoints / step / "about").rglob("metadata"))
        about.write_text(about.read_text().replace("history", "histori"))
    with pytest.raises(ValueError, match=r"none of the 2 checkpoints in .* is as it was written"):
        run(checkpoints, resume=True)


OTHER = [
    ({"net": jaxbp.layered([4, 8, 3], output=jaxbp.softmax)}, r"params\.h1\.bias is not there in them and float64"),
    ({"optimizer": optax.sgd(0.1)}, r"opt_state\.0\.count is int32\[\] in them and not there in this run"),
    ({"batch_size": 11}, "batch_size is\n  4\nin them and\n  11\nhere"),
    ({"loss": jaxbp.perceptron}, "loss is\n  cross_entropy\nin them and\n  perceptron\nhere"),
    ({"net": jaxbp.Network(NET.inputs, {**NET.units, "h": jaxbp.Unit(8, jaxbp.tanh, {"x": jaxbp.Dense()})})}, "netw"),
    ({"state": train.init_state(KEY, NET, ADAM, dtype=jnp.float32), "key": None, "x": X.astype(np.float32)},
     r"params\.h\.bias is float64\[8\] in them and float32\[8\] in this run"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), OTHER)
def test_the_checkpoints_of_another_run_are_refused(written, options, message):
    before = {f: f.read_bytes() for f in written.rglob("*") if f.is_file()}
    with pytest.raises(ValueError, match=message):
        run(written, resume=True, **options)
    assert {f: f.read_bytes() for f in written.rglob("*") if f.is_file()} == before


def test_a_fresh_run_does_not_mix_with_another(written):
    with pytest.raises(FileExistsError, match="has checkpoints already; go on with resume=True"):
        run(written)


def test_the_best_is_kept_beside_the_last(tmp_path):
    kept = train.Checkpoints(tmp_path / "c", best="validation_loss", keep=1)
    # a rate that is far too high after the second epoch, so that the best is not the last
    optimizer = optax.sgd(lambda count: jnp.where(count < 12, 0.5, -0.5))
    validation = (X, Y)
    fitted = train.fit(
        NET_WITHOUT_NOISE, LOSS, X, Y, optimizer=optimizer, epochs=4, batch_size=4, validation=validation,
        checkpoints=kept,
    )  # fmt: skip
    losses = [row["validation_loss"] for row in fitted.history]
    best = int(np.argmin(losses))
    assert best < 3
    assert steps_in(tmp_path / "c") == sorted({6 * (best + 1), 24})
    state = train.restore(kept, fitted.state, best=True)
    assert state.step == 6 * (best + 1)
    score = train.evaluate(NET_WITHOUT_NOISE, LOSS, state.params, X, Y)["loss"]
    assert float(score) == pytest.approx(losses[best], rel=1e-12)
    assert_bit_equal(train.restore(kept, fitted.state), fitted.state)


NET_WITHOUT_NOISE = jaxbp.layered([4, 5, 3], hidden=jaxbp.tanh, output=jaxbp.softmax)


def test_patience_ends_a_fit_also_after_a_restart(tmp_path):
    options = {"optimizer": optax.sgd(-0.1), "batch_size": 4, "epochs": 20, "validation": (X, Y), "patience": 3}
    whole = train.fit(NET_WITHOUT_NOISE, LOSS, X, Y, **options)
    assert len(whole.history) == 4  # it only gets worse
    kept = train.Checkpoints(tmp_path / "c", every=6)
    part = train.fit(NET_WITHOUT_NOISE, LOSS, X, Y, checkpoints=kept, **options | {"epochs": 2})
    assert len(part.history) == 2
    rest = train.fit(NET_WITHOUT_NOISE, LOSS, X, Y, checkpoints=kept, resume=True, **options)
    assert [row["epoch"] for row in rest.history] == [1, 2, 3, 4]
    assert_bit_equal(rest.state, whole.state)


def test_seconds_are_another_reason_to_write_one(tmp_path):
    kept = train.Checkpoints(tmp_path / "c", seconds=1e-9, keep=100)
    list(train.run(NET, LOSS, X, Y, key=KEY, checkpoints=kept, **OPTIONS))
    assert len(steps_in(tmp_path / "c")) >= 3
    with pytest.raises(ValueError, match="the scores are"):
        list(
            train.run(
                NET, LOSS, X, Y, key=KEY, checkpoints=train.Checkpoints(tmp_path / "d", best="accuracy"), **OPTIONS
            )
        )


def test_nothing_that_is_written_is_a_pickle(written):
    for path in written.rglob("*"):
        if path.is_file():
            assert not path.read_bytes().startswith(b"\x80")
    json.loads(next((written / "8" / "about").rglob("metadata")).read_text())
