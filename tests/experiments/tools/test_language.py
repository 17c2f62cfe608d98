"""The language model: that it learns real text, what it writes, and what it refuses."""

import gzip
import io
import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from jaxbp.experiments.common.records import as_json
from jaxbp.experiments.common.text import load_text
from jaxbp.experiments.tools.language import Language, Run, main, windows

SMALL = Language(
    layers=2, heads=2, width=8, context=8, batch_size=4, steps=30, every=15, warmup=5, learning_rate=0.02, sample=12
)
TEXT = "the quick brown fox jumps over the lazy dog\n" * 60


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt.gz").write_bytes(gzip.compress(TEXT.encode()))


def test_it_learns_and_the_run_is_written(tmp_path):
    console = Console(file=io.StringIO(), width=120)
    rows = main(replace(SMALL, text=tmp_path / "text.txt.gz", name="fox"), console)
    folder = tmp_path / "runs" / "fox"
    names = ("config.json", "curves.png", "metrics.jsonl", "params.npz", "samples.txt", "surprising.txt")
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] == json.loads(
        as_json(rows)
    )
    assert [row["step"] for row in rows] == [0, 15, 30]
    assert rows[-1]["validation_loss"] < rows[0]["validation_loss"] - 0.3
    assert all(len(row["Delta_norm"]) == len(row["noise_scale"]) == 2 for row in rows)
    assert (folder / "samples.txt").read_text().count("--- after") == 3
    assert len((folder / "surprising.txt").read_text().split("gradient norm")) == 9
    printed = console.file.getvalue()
    assert float(printed.split("relative error: ")[1].split()[0]) < 1e-5
    with np.load(folder / "params.npz") as params:
        assert params["W.blocks.up.gain2"].shape == (2, 8, 32)
    with pytest.raises(FileExistsError, match="runs/fox is there already"):
        main(replace(SMALL, text=tmp_path / "text.txt.gz", name="fox"), console)


@pytest.mark.slow
def test_the_noise_scale_of_a_layer_is_its_definition(tmp_path):
    """Against the gradients of single windows by jax.grad; with the trunk of both, which is compiled once."""
    run = Run(replace(SMALL, text=tmp_path / "text.txt.gz", layers=1), load_text(tmp_path / "text.txt.gz", 8))
    x, y = run.batch(0)
    params = jax.tree.map(lambda W: 10 * W, run.state.params)  # of a network that is sure of itself
    _, noise = run.look(params, x, y)
    own = jax.jit(jax.vmap(lambda x, y: run.auto(params, x[None], y[None], jnp.ones((1, 8)))[1]["blocks"]))(x, y)
    rows = np.concatenate([np.reshape(np.asarray(leaf, float), (4, -1)) for leaf in jax.tree.leaves(own)], axis=1)
    spread = np.sum(np.var(rows, axis=0, ddof=1))
    signal = np.sum(np.mean(rows, axis=0) ** 2) - spread / 4
    assert signal > 0
    np.testing.assert_allclose(noise, [spread / signal], rtol=1e-4)


def test_what_follows_a_window_is_its_own_next_character():
    x, y = windows(jax.random.key(0), jnp.arange(50), 6, 8)
    np.testing.assert_array_equal(y, x + 1)
    assert x.shape == (6, 8)
    assert x.min() >= 0
    assert y.max() < 50


def test_texts(tmp_path):
    text = load_text(tmp_path / "text.txt.gz", 8)
    assert text.decoded(np.concatenate([text.train, text.validation])) == TEXT
    assert text.decoded(text.encoded("fox")) == "fox"
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(ValueError, match="folder holds no text: expected a file, or a folder with files that end in"):
        load_text(folder, 8)
    (folder / "b.py").write_text("y" * 100)
    (folder / "a.txt").write_text("x" * 100)
    assert load_text(folder, 4).characters == "\nxy"
    with pytest.raises(ValueError, match="201 characters, too few for windows of 64"):
        load_text(folder, 64)
    (folder / "c.gz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"c\.gz ends in \.gz, but cannot be unpacked"):
        load_text(folder, 4)
    many = "".join(chr(1000 + i) * 2 for i in range(300))
    (tmp_path / "many.txt").write_text(many)
    assert len(load_text(tmp_path / "many.txt", 4).characters) == 256


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"heads": 3}, "heads must divide the width"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"width": 2**16, "layers": 1000}, "more than the 100,000,000 that are trained here"),
    ],
)
def test_what_does_not_fit_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        replace(SMALL, **options).network(64)
