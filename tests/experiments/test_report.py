"""The page of all claims: what is run, what is on it, and that nothing is left out in silence."""

import sys
from pathlib import Path

import pytest
from rich.console import Console

from experiments import report
from experiments.report import Report

EXPERIMENT = """
from dataclasses import dataclass
from pathlib import Path

CLAIM = "{claim}"
PLACE = "A heading"


@dataclass(frozen=True)
class Config:
    {quick}
    out: Path = Path("nowhere")


@dataclass(frozen=True)
class Result:
    holds: bool
    decision: str


def main(config: Config, console=None) -> Result:
    config.out.mkdir(parents=True)
    (config.out / "plot.png").write_bytes(b"picture")
    {body}
"""


@pytest.fixture
def claims(tmp_path, monkeypatch):
    """Three experiments: one whose claim holds, one whose does not, one that raises; and a helper."""
    folder = tmp_path / "claims_for_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    quick = "quick: bool = False"
    bodies = {
        "good": (quick, 'return Result(True, f"1 < 2, quick {config.quick}")'),
        "bad": ("data_dir: Path | None = None", 'return Result(config.data_dir is None, "3 > 2")'),
        "broken": (quick, 'raise RuntimeError("out of <order>")'),
    }
    for name, (option, body) in bodies.items():
        (folder / f"{name}.py").write_text(EXPERIMENT.format(claim=f"Claim {name}.", quick=option, body=body))
    (folder / "helper.py").write_text("raise SystemExit  # never imported\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.startswith("claims_for_test")]:
        del sys.modules[name]


def test_every_claim_is_on_the_page_with_its_outcome(claims, tmp_path, capsys):
    config = Report(quick=True, data_dir=Path("a/folder"), out=tmp_path / "out")
    outcomes = {one.name: one for one in report.main(config, Console(quiet=True), claims)}
    assert {name: one.holds for name, one in outcomes.items()} == {"good": True, "bad": False, "broken": None}
    assert outcomes["good"].decision == "1 < 2, quick True"
    assert outcomes["good"].command == "python -m claims_for_test.good --quick"
    assert outcomes["bad"].command == "python -m claims_for_test.bad --data-dir a/folder"
    page = (tmp_path / "out" / "report.html").read_text()
    for words in (
        "Claim good.",
        "Claim bad.",
        "Claim broken.",
        "A heading",
        "1 of 3 hold",
        "does not hold",
        "3 &gt; 2",
    ):
        assert words in page
    assert "RuntimeError: out of &lt;order&gt;" in page
    assert page.count("data:image/png;base64,") == 3
    assert "<script" not in page
    assert "http" not in page
    assert "RuntimeError" in capsys.readouterr().err


def test_one_may_be_chosen_and_an_unknown_one_is_refused(claims, tmp_path):
    outcomes = report.main(Report(only=("bad",), out=tmp_path / "out"), Console(quiet=True), claims)
    assert [one.name for one in outcomes] == ["bad"]
    with pytest.raises(ValueError, match=r"no experiment 'god' decides a claim \(did you mean 'good'\?\)"):
        report.main(Report(only=("god",), out=tmp_path / "out"), Console(quiet=True), claims)


def test_the_experiments_of_this_project_are_found():
    assert report.deciding(report.FOLDER) == [
        "activations",
        "approximation",
        "autoencoder",
        "convolution",
        "depth",
        "linear_collapse",
        "overfitting",
        "path_sums",
        "perceptron",
        "pruning",
        "softmax_jacobian",
        "worked_example",
    ]
