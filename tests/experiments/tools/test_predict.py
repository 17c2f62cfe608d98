"""Predictions with saved parameters: those of the run, on its test part and on examples as they come."""

import csv
import io

import numpy as np
import pytest
from rich.console import Console
from sklearn import datasets

from jaxbp.experiments.common.data import load
from jaxbp.experiments.tools import predict, train
from jaxbp.experiments.tools.config import Config
from jaxbp.experiments.tools.predict import Predict


@pytest.fixture(scope="module", params=["wine", "diabetes"])
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config = Config(data=request.param, epochs=2, hidden=(4,), learning_rate=0.02, name="it")
        rows = train.main(config, Console(file=io.StringIO()))
    return request.param, rows, folder / "runs" / "it"


def predicted(run, **options):
    console = Console(file=io.StringIO(), width=80)
    o = predict.main(Predict(run, **options), console)
    return o, console.file.getvalue()


def test_the_score_is_that_of_the_last_epoch(trained):
    name, rows, run = trained
    o, printed = predicted(run)
    score = rows[-1]["test_accuracy" if name == "wine" else "test_r2"]
    assert f"on the test part: {score:.4f}\n" in printed
    header, *lines = csv.reader((run / "predictions.csv").read_text().splitlines())
    assert header == (["class", "0", "1", "2"] if name == "wine" else ["o0"])
    np.testing.assert_allclose(np.array(lines, float)[:, -o.shape[1] :], o, rtol=1e-5)
    assert name != "wine" or [int(line[0]) for line in lines] == o.argmax(axis=1).tolist()


@pytest.mark.parametrize("suffix", ["csv", "npy"])
def test_examples_as_they_come_are_standardised_and_targets_are_in_their_own_units(trained, suffix, tmp_path):
    name, _, run = trained
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    path = tmp_path / f"new.{suffix}"
    np.save(path, x) if suffix == "npy" else np.savetxt(path, x, delimiter=",")
    o, printed = predicted(run, examples=path, out=tmp_path / "new.out")
    assert len(o) == len(x) == len((tmp_path / "new.out").read_text().splitlines()) - 1
    assert "test part" not in printed
    held_back = load(name).x_test[0]  # is one of them, and has the same output
    row = np.abs((x - load(name).x_scaling.mean) / load(name).x_scaling.scale - held_back).max(axis=1).argmin()
    np.testing.assert_allclose(o[row], predicted(run, out=tmp_path / "test.out")[0][0], rtol=1e-5)
    assert name == "wine" or abs(o.mean() - y.mean()) < y.std()


def test_what_is_no_run_and_no_examples_is_refused(trained, tmp_path):
    _, _, run = trained
    with pytest.raises(ValueError, match="holds no run"):
        predicted(tmp_path)
    for text, complaint in (("1,2\n3,4\n", "rows of 2 numbers, expected"), ("a,b\n", "no rows of numbers")):
        (tmp_path / "new.csv").write_text(text)
        with pytest.raises(ValueError, match=complaint):
            predicted(run, examples=tmp_path / "new.csv")
