"""The page of all claims: what is run, what is on it, that nothing is left out in silence, or greener than it is."""

import sys
from pathlib import Path

import pytest
from rich.console import Console

from jaxbp.experiments.common.command_line import command_line
from jaxbp.experiments.tools import report
from jaxbp.experiments.tools.report import Report

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
    holds: bool | None
    decision: str


def main(config: Config, console=None) -> Result:
    config.out.mkdir(parents=True)
    (config.out / "plot.png").write_bytes(b"picture")
    {body}
"""


@pytest.fixture
def claims(tmp_path, monkeypatch):
    """One experiment of each kind: its claim holds, does not, or is not decided, or it raises; and a helper."""
    folder = tmp_path / "claims_for_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    quick = "quick: bool = False"
    bodies = {
        "good": (quick, 'return Result(True, f"1 < 2, quick {config.quick}")'),
        "bad": ("data_dir: Path | None = None", 'return Result(config.data_dir is None, "3 > 2")'),
        "broken": (quick, 'raise RuntimeError("out of <order>")'),
        "small": (quick, 'return Result(None, "1 [/red] 2: not decided at this size")'),
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
    outcomes = {one.name: one for one in report.main(config, Console(quiet=True), claims.name)}
    assert {name: one.word for name, one in outcomes.items()} == {
        "good": "holds",
        "bad": "does not hold",
        "broken": "failed",
        "small": "not decided at this size",
    }
    assert {name for name, one in outcomes.items() if one.wrong} == {"bad", "broken"}
    assert outcomes["good"].decision == "1 < 2, quick True"
    assert outcomes["good"].command == "python -m claims_for_test.good --quick"
    assert outcomes["bad"].command == "python -m claims_for_test.bad --data-dir a/folder"
    page = (tmp_path / "out" / "report.html").read_text()
    for words in (
        "Claim good.",
        "Claim bad.",
        "Claim broken.",
        "A heading",
        "Of 4 claims 1 hold, 1 not decided at this size, 1 do not hold, 1 failed.",
        "does not hold",
        "3 &gt; 2",
    ):
        assert words in page
    assert "RuntimeError: out of &lt;order&gt;" in page
    assert page.count("data:image/png;base64,") == 4
    for name, kind in (("good", "yes"), ("bad", "no"), ("broken", "no"), ("small", "open")):
        row = page[page.index(f'href="#{name}"') :]
        assert row[row.index("<td class=") :].startswith(f'<td class="{kind}">{outcomes[name].word}</td>')
        section = page[page.index(f'<section id="{name}"') :]
        assert section[section.index("<p class=") :].startswith(f'<p class="{kind}"><b>{outcomes[name].word}</b>')
    assert "<script" not in page
    assert "http" not in page
    assert "RuntimeError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("holds", "word"),
    [
        ("None", "not decided at this size"),
        ("np.False_", "does not hold"),
        ("np.True_", "holds"),
        ("0.0", "does not hold"),
    ],
)
def test_only_what_holds_is_green_whatever_kind_of_truth_value_it_is(claims, tmp_path, holds, word):
    source = (claims / "good.py").read_text().replace("Result(True,", f"Result({holds},")
    (claims / "good.py").write_text(f"import numpy as np\n{source}")
    (one,) = report.main(Report(only=("good",), out=tmp_path / "out"), Console(quiet=True), claims.name)
    assert one.word == word
    page = (tmp_path / "out" / "report.html").read_text()
    assert ('class="yes"' in page) == (word == "holds")


@pytest.mark.parametrize(("only", "code"), [("good", 0), ("small", 0), ("bad", 1), ("broken", 1)])
def test_the_exit_code_is_1_for_what_does_not_hold_or_failed(claims, tmp_path, monkeypatch, capsys, only, code):
    if only == "bad":
        (claims / "bad.py").write_text((claims / "bad.py").read_text().replace("config.data_dir is None", "False"))
    monkeypatch.setattr(sys, "argv", ["report", "--only", only, "--out", str(tmp_path / "[" / "red]")])
    with pytest.raises(SystemExit) as ended:
        command_line(lambda config: report.main(config, package=claims.name), Report, report.nothing_wrong)
    assert ended.value.code == code
    assert "[/red]/report.html" in "".join(capsys.readouterr().out.split())


def test_ctrl_c_leaves_a_page_of_what_was_run(claims, tmp_path):
    (claims / "broken.py").write_text((claims / "broken.py").read_text().replace("RuntimeError(", "KeyboardInterrupt("))
    with pytest.raises(KeyboardInterrupt, match=r"by Ctrl-C after 1 of 2 experiments; wrote .*report.html"):
        report.main(Report(only=("good", "broken"), out=tmp_path / "out"), Console(quiet=True), claims.name)
    assert "Of 1 claims 1 hold" in (tmp_path / "out" / "report.html").read_text()


def test_one_may_be_chosen_and_an_unknown_one_is_refused(claims, tmp_path):
    outcomes = report.main(Report(only=("bad",), out=tmp_path / "out"), Console(quiet=True), claims.name)
    assert [one.name for one in outcomes] == ["bad"]
    with pytest.raises(ValueError, match=r"no experiment 'god' decides a claim \(did you mean 'good'\?\)"):
        report.main(Report(only=("god",), out=tmp_path / "out"), Console(quiet=True), claims.name)


def test_the_experiments_of_this_project_are_found():
    assert report.deciding() == [
        "activations",
        "approximation",
        "autoencoder",
        "convolution",
        "depth",
        "linear_collapse",
        "overfitting",
        "path_sums",
        "perceptron",
        "pretraining",
        "pruning",
        "softmax_jacobian",
        "worked_example",
    ]
