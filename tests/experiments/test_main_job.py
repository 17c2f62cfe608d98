"""The main job: what it prints, writes, reproduces and refuses."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

import jaxbp
from experiments.config import Config
from experiments.train import main


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(**options):
    console = Console(file=io.StringIO(), width=120)
    rows = main(Config(**options), console)
    return rows, console.file.getvalue()


def test_digits_reach_97_percent_and_the_run_is_written(tmp_path):
    rows, printed = run(name="digits")
    assert rows[-1]["test_accuracy"] >= 0.97
    folder = tmp_path / "runs" / "digits"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == rows
    assert [row["epoch"] for row in rows] == list(range(31))
    assert json.loads((folder / "config.json").read_text())["learning_rate"] == 0.05
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "explicit gradient against jax.grad" in printed
    assert "epoch 30/30" in printed


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", 1e-9), pytest.param("float32", 1e-3, marks=pytest.mark.slow)]
)
def test_explicit_and_auto_curves_agree_and_the_same_seed_repeats(dtype, tolerance):
    options = {"data": "wine", "epochs": 5, "activation": "tanh", "dtype": dtype}
    explicit, _ = run(name="explicit", **options)
    again, _ = run(name="again", **options)
    auto, _ = run(name="auto", gradient="auto", **options)
    assert [{**row, "seconds": 0} for row in explicit] == [{**row, "seconds": 0} for row in again]
    for key in ("train_loss", "test_loss"):
        np.testing.assert_allclose([row[key] for row in explicit], [row[key] for row in auto], rtol=tolerance)


@pytest.mark.parametrize(
    "options",
    [
        {"data": "diabetes"},
        {"data": "linnerud", "hidden": ()},
        pytest.param({"data": "iris", "loss": "squared_error", "output": "sigmoid"}, marks=pytest.mark.slow),
        {"data": "breast_cancer", "loss": "binary_cross_entropy", "output": "sigmoid", "optimizer": "adam"},
        pytest.param({"data": "iris", "loss": "perceptron", "output": "linear", "hidden": ()}, marks=pytest.mark.slow),
    ],
    ids=lambda o: "-".join(map(str, o.values())),
)
def test_every_kind_of_task_learns(options):
    rows, printed = run(name="run", epochs=10, **({"learning_rate": 0.01} | options))
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    score = "test_r2" if options["data"] in ("diabetes", "linnerud") else "test_accuracy"
    assert score in rows[-1]
    assert score.replace("_", " ") in printed


@pytest.mark.slow
def test_a_vanishing_gradient_can_be_seen():
    rows, _ = run(name="deep", data="iris", epochs=1, hidden=(8,) * 8, activation="sigmoid", dtype="float64")
    size = rows[0]["delta_rms"]
    assert size["h1"] < 1e-3 * size["o"]


def test_a_diverging_run_stops_and_keeps_what_was_written(tmp_path):
    with pytest.raises(jaxbp.train.DivergedError, match="training diverged in epoch 1 at step"):
        run(name="boom", data="iris", learning_rate=1e30, loss="squared_error", output="linear")
    lines = (tmp_path / "runs" / "boom" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0]
    assert (tmp_path / "runs" / "boom" / "curves.png").exists()


REFUSED = [
    ({"optimizer": "adm"}, ValueError, r"optax has no optimizer 'adm' \(did you mean 'adam'\?\)"),
    ({"optimizer": "adam", "momentum": 0.5}, ValueError, "optax.adam takes no momentum"),
    ({"data": "digts"}, ValueError, r"unknown data set 'digts' \(did you mean 'digits'\?\)"),
    ({"data": "mnist"}, ValueError, "pass their folder with --data-dir"),
    ({"data": "diabetes", "loss": "cross_entropy", "output": "softmax"}, ValueError, "targets are negative"),
    ({"hidden": (0,)}, ValueError, "a unit's width must be a positive integer"),
    ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
]


@pytest.mark.parametrize(("options", "error", "message"), REFUSED, ids=lambda v: str(v)[:30])
def test_choices_that_do_not_fit_are_refused_before_anything_is_written(options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        run(**options)
    assert not (tmp_path / "runs").exists()


def test_a_run_is_never_overwritten():
    run(name="once", data="iris", epochs=1)
    with pytest.raises(FileExistsError, match="runs/once holds a run already; choose another --name"):
        run(name="once", data="iris", epochs=1)
