"""The main job: what it prints, writes, reproduces and refuses."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import jaxbp
from jaxbp.experiments.common import plots, runs
from jaxbp.experiments.common.command_line import command_line
from jaxbp.experiments.common.runs import make_folder, save_params
from jaxbp.experiments.tools import job, log
from jaxbp.experiments.tools.config import Config
from jaxbp.experiments.tools.train import main


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
    files = {"config.json", "metrics.jsonl", "curves.png", "params.npz", "scaling.json", "checkpoints"}
    assert {path.name for path in folder.iterdir()} == files
    assert "explicit gradient against jax.grad" in printed
    assert "│    30 │" in printed


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
    ({"hidden": (0,)}, ValueError, "hidden must be at least 1, got 0"),
    (
        {"hidden": (100_000, 100_000)},
        ValueError,
        "hidden must make a network of at most 100,000,000 parameters, got 10,0",
    ),
    ({"hidden": (10**30,)}, ValueError, "hidden must be at most 2147483647"),
    ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
    ({"batch_size": 10**30}, ValueError, "batch_size must be at most 2147483647"),
    ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
    ({"epochs": -1}, ValueError, "epochs must be at least 1, got -1"),
    ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    ({"momentum": 2.0}, ValueError, "momentum must be at least 0 and below 1, got 2.0"),
    ({"momentum": -1.0}, ValueError, "momentum must be at least 0 and below 1, got -1.0"),
    ({"learning_rate": float("nan")}, ValueError, "learning_rate must be positive and finite, got nan"),
    ({"learning_rate": float("inf")}, ValueError, "learning_rate must be positive and finite, got inf"),
    ({"learning_rate": -0.1}, ValueError, "learning_rate must be positive and finite, got -0.1"),
    ({"name": "../../x"}, ValueError, r"name must be .* letters, digits, .* got '../../x'"),
    ({"name": "[/red]"}, ValueError, r"name must be .* got '\[/red\]'"),
]


@pytest.mark.parametrize(("options", "error", "message"), REFUSED, ids=lambda v: str(v)[:30])
def test_choices_that_do_not_fit_are_refused_before_anything_is_written(options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        run(**options)
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_never_overwritten():
    run(name="once", data="iris", epochs=1)
    with pytest.raises(FileExistsError, match="runs/once is there already; choose another --name"):
        run(name="once", data="iris", epochs=1)


def refused_or_made(config):
    try:
        return make_folder(config, "digits")
    except FileExistsError:
        return None


@pytest.mark.parametrize("name", ["same", None], ids=["of one name", "of no name"])
def test_of_runs_at_one_moment_no_two_get_one_folder(name):
    with ThreadPoolExecutor(8) as pool:
        made = [folder for folder in pool.map(refused_or_made, [Config(name=name)] * 40) if folder is not None]
    assert len(made) == len(set(made)) == (1 if name else 40)
    for folder in made:
        assert json.loads((folder / "config.json").read_text())["name"] == name


@pytest.mark.parametrize("link", ["runs", "runs/x"])
@pytest.mark.parametrize("there", [True, False])
def test_nothing_is_written_through_a_link(tmp_path, link, there):
    elsewhere = tmp_path / "elsewhere"
    if there:
        elsewhere.mkdir()
    if link == "runs/x":
        (tmp_path / "runs").mkdir()
    Path(link).symlink_to(elsewhere)
    with pytest.raises((ValueError, FileExistsError), match=r"runs is a link to|runs/x is there already"):
        make_folder(Config(name="x"), "digits")
    assert not there or list(elsewhere.iterdir()) == []
    assert elsewhere.exists() == there


def test_a_folder_of_any_name_gives_a_plain_one(tmp_path):
    for number, called in enumerate(["[", "..x", "$a$ b", "ü"]):
        data_dir = tmp_path / str(number) / called
        data_dir.mkdir(parents=True)
        folder = make_folder(Config(data_dir=data_dir), called)
        Config(name=folder.name)  # is allowed
        assert folder.parent == Path("runs")


def test_what_is_not_finite_is_null_in_the_metrics(monkeypatch):
    monkeypatch.setattr(job, "_scores", lambda *of: {"loss": float("nan"), "r2": -float("inf")})
    rows, _ = run(name="odd", data="iris", epochs=1)
    assert np.isnan(rows[-1]["test_loss"])
    for line in Path("runs/odd/metrics.jsonl").read_text().splitlines():
        row = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        assert row["test_loss"] is row["test_r2"] is None


@pytest.mark.parametrize(
    ("full", "left"),
    [
        ("config.json", []),
        ("metrics.jsonl", ["config.json"]),
        ("curves.png", ["checkpoints", "config.json", "metrics.jsonl"]),
        ("params.npz", ["checkpoints", "config.json", "curves.png", "metrics.jsonl"]),
    ],
)
def test_a_full_disk_is_an_error_that_names_the_file_which_is_whole_or_not_there(monkeypatch, capsys, full, left):
    def writer(right):
        def write(path, content):
            if path.name == full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            return right(path, content)

        return write

    for module, name in ((runs, "write_whole"), (plots, "write_whole"), (log, "append_line")):
        monkeypatch.setattr(module, name, writer(getattr(module, name)))
    monkeypatch.setattr(sys, "argv", ["train", "--name", "full", "--data", "iris", "--epochs", "1"])
    with pytest.raises(SystemExit) as ended:
        command_line(main, Config, succeeded=lambda rows: True)
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"error: [Errno 28] No space left on device: 'runs/full/{full}'\n"
    folder = Path("runs/full")
    assert (sorted(path.name for path in folder.iterdir()) if folder.exists() else []) == left
    assert folder.exists() == bool(left)


@pytest.mark.parametrize(("after", "files"), [(None, "config.json"), (0, "all"), (2, "all")])
def test_ctrl_c_ends_with_a_sentence_and_what_was_done(monkeypatch, capsys, after, files):
    def interrupted(*of, **options):
        raise KeyboardInterrupt

    def until(after, epochs):
        for epoch in epochs:
            if epoch.number > after:
                interrupted()
            yield epoch

    if after is None:
        monkeypatch.setattr(job.Job, "proof", interrupted)
    else:
        running = jaxbp.train.run
        monkeypatch.setattr(
            jaxbp.train,
            "run",
            lambda *of, **options: until(after, running(*of, **options)),
        )
    monkeypatch.setattr(sys, "argv", ["train", "--name", "short", "--data", "iris", "--epochs", "5"])
    with pytest.raises(SystemExit) as ended:
        command_line(main, Config, succeeded=lambda rows: True)
    assert ended.value.code == 130
    wrote = "config.json" + (", metrics.jsonl, curves.png, params.npz, scaling.json" if files == "all" else "")
    stopped = f"stopped: by Ctrl-C after {after or 0} of 5 epochs; wrote runs/short/: {wrote}"
    assert capsys.readouterr().err == f"{stopped}; go on with --resume runs/short\n"
    folder = Path("runs/short")
    assert {path.name for path in folder.iterdir()} - {"checkpoints"} == set(wrote.split(", "))
    if files == "all":
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == after + 1
        with np.load(folder / "params.npz") as params:
            assert {name: W.shape for name, W in params.items()} == {
                "W.h1.x": (4, 128),
                "W.h1.bias": (128,),
                "W.o.h1": (128, 3),
                "W.o.bias": (3,),
            }


def without_seconds(rows):
    return [{**row, "seconds": 0} for row in rows]


def test_a_run_that_was_ended_goes_on_with_the_same_numbers(monkeypatch):
    options = {"data": "iris", "epochs": 4, "checkpoint_every": 2}
    whole, _ = run(name="whole", **options)
    saw = log.Log.add

    def ended(self, row):
        if row["epoch"] == 3:
            raise KeyboardInterrupt
        return saw(self, row)

    with monkeypatch.context() as patched:
        patched.setattr(log.Log, "add", ended)
        with pytest.raises(KeyboardInterrupt, match=r"after 2 of 4 epochs; .* go on with --resume runs/part"):
            run(name="part", **options)
    folder = Path("runs/part")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "train_lo')  # a kill in the middle of a line
    rows, printed = run(resume=folder)
    assert "going on with runs/part/" in printed
    assert without_seconds(rows) == without_seconds(whole)
    assert [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] == rows
    again, _ = run(resume=folder)
    assert without_seconds(again) == without_seconds(whole)
    ours, theirs = (np.load(Path("runs") / name / "params.npz") for name in ("part", "whole"))
    for name in theirs:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_what_cannot_be_resumed_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere holds no run: there is no config\.json in it"):
        run(resume=Path("nowhere"))
    with pytest.raises(ValueError, match="a run that is resumed has its own epochs; leave --epochs out"):
        run(resume=Path("nowhere"), epochs=3)
    (tmp_path / "config.json").write_text('{"text": null, "layers": 4}')
    with pytest.raises(ValueError, match=r"config.json is not that of a training run: KeyError: 'hidden'"):
        run(resume=tmp_path)
    with pytest.raises(ValueError, match="batch_size must be a multiple of processes, got 32 and 3"):
        run(processes=3)


@pytest.mark.slow
def test_processes_that_die_are_started_again(tmp_path):
    """One of two is killed; the run ends as if none had been."""
    command = [sys.executable, "-m", "experiments.train", "--data", "wine", "--epochs", "60", "--drop-last"]
    command += ["--checkpoint-every", "10", "--processes", "2", "--name", "pair"]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": str(Path(jaxbp.__file__).parents[1])}
    process = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    checkpoints = Path("runs/pair/checkpoints")
    until = time.monotonic() + 120
    while not (checkpoints.exists() and any(part.name.isdecimal() for part in checkpoints.iterdir())):
        assert time.monotonic() < until
        time.sleep(0.05)
    children = subprocess.run(["pgrep", "-f", "together.* 1 runs/pair"], capture_output=True, text=True, check=True)
    os.kill(int(children.stdout.split()[0]), signal.SIGKILL)
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert "a process ended with exit code -9; all start again from step" in said
    rows = [json.loads(line) for line in Path("runs/pair/metrics.jsonl").read_text().splitlines()]
    alone, _ = run(name="alone", data="wine", epochs=60, drop_last=True)
    np.testing.assert_allclose([row["train_loss"] for row in rows], [row["train_loss"] for row in alone], rtol=1e-3)
    assert [row["epoch"] for row in rows] == list(range(61))


def test_parameters_that_numpy_has_no_format_for_are_written_in_one_that_holds_them(tmp_path):
    save_params(
        {"o": {"x": jnp.array([[1.5]], jnp.bfloat16), "bias": jnp.ones(1, jnp.float32)}}, tmp_path / "params.npz"
    )
    with np.load(tmp_path / "params.npz", allow_pickle=False) as params:
        assert params["W.o.x"].tolist() == [[1.5]]
        assert {name: W.dtype for name, W in params.items()} == {"W.o.x": np.float32, "W.o.bias": np.float32}
