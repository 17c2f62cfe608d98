"""The list of experiments: what is in it, what is not, and that nothing is imported to make it."""

import ast
import runpy
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from jaxbp.experiments.__main__ import main, run
from jaxbp.experiments.common.messages import lacking

EXPERIMENT = '"""{}\n\nMore.\n"""\n\ndef main():\n    pass\n\nif __name__ == "__main__":\n    main()\n'


def test_every_experiment_is_listed_with_its_first_line_and_no_helper_is(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    listed = main()
    assert list(listed)[:2] == ["check", "grade"]
    assert {"train", "report", "benchmark", "softmax_jacobian", "path_sums"} <= set(listed)
    assert not {"config", "data", "idx", "plots", "__main__"} & set(listed)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    words = " ".join(printed.split())
    for name, summary in listed.items():
        assert f"{name} {summary}" in words
    assert listed["train"].startswith("Train a layered network by explicit backpropagation")


@pytest.mark.parametrize(
    ("words", "error", "code", "printed"),
    [
        (["chekc"], None, 2, "error: there is no command 'chekc' (did you mean 'check'?); --help lists them\n"),
        (["check", "--json", "a"], None, None, "jaxbp.experiments.tools.check as __main__ with ['--json', 'a']\n"),
        (["depth"], None, None, "jaxbp.experiments.claims.depth as __main__ with []\n"),
        (
            ["train"], ModuleNotFoundError("", name="sklearn.datasets"), 1,
            "error: this needs sklearn, which is not installed: pip install 'jaxbp[experiments]'\n",
        ),
        (
            ["private"], ModuleNotFoundError("", name="dp_accounting"), 1,
            "error: this needs dp_accounting, which is not installed: pip install 'jaxbp[private]'\n",
        ),
        (["train"], KeyboardInterrupt(), 130, "stopped: before it was begun\n"),
    ],
)  # fmt: skip
def test_a_command_is_run_by_its_name_and_what_is_lacking_is_said_in_a_line(
    monkeypatch, capsys, words, error, code, printed
):
    def run_module(name, run_name, alter_sys):
        assert alter_sys
        if error is not None:
            raise error
        print(f"{name} as {run_name} with {sys.argv[1:]}", file=sys.stderr)

    monkeypatch.setattr(runpy, "run_module", run_module)
    monkeypatch.setattr(sys, "argv", ["jaxbp"])
    with nullcontext() if code is None else pytest.raises(SystemExit) as ended:
        run(words)
    assert code is None or ended.value.code == code
    assert capsys.readouterr().err == printed


def test_a_module_of_ours_that_is_missing_is_not_a_library():
    assert lacking(ModuleNotFoundError("", name="jaxbp.experiments.nothing")) == ""


def test_only_modules_that_can_be_run_count(tmp_path, capsys):
    (tmp_path / "runs_and_fails.py").write_text("import nothing_of_this_name\n" + EXPERIMENT.format("lost"))
    (tmp_path / "good.py").write_text(EXPERIMENT.format("Good."))
    (tmp_path / "broken.py").write_text(EXPERIMENT.format("Reads, but does not import.") + "raise SystemExit\n")
    (tmp_path / "helper.py").write_text('"""Help."""\n\ndef main():\n    pass\n')
    (tmp_path / "script.py").write_text('"""Run."""\n\nif __name__ == "__main__":\n    pass\n')
    (tmp_path / "__main__.py").write_text(EXPERIMENT.format("Itself."))
    assert main(tmp_path) == {
        "broken": "Reads, but does not import.",
        "good": "Good.",
        "runs_and_fails": "(no docstring)",
    }
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_an_empty_folder_has_no_experiments(tmp_path, capsys):
    assert main(tmp_path) == {}
    assert capsys.readouterr().out == ""


def test_the_command_needs_no_jax():
    code = "import runpy, sys; runpy.run_module('experiments', run_name='__main__'); assert 'jax' not in sys.modules"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "\n  train " in done.stdout


def test_each_module_is_in_one_folder_and_imported_by_its_real_path_and_jaxbp_by_its_public_names():
    root = Path(__file__).parents[2] / "jaxbp" / "experiments"
    modules = [source.stem for source in root.rglob("*.py") if not source.stem.startswith("__")]
    assert len(modules) == len(set(modules)) > 30
    folders = {path.name for path in root.iterdir()} - set(modules)
    for source in root.rglob("*.py"):
        text = source.read_text(encoding="utf-8")
        assert "jaxbp._" not in text, source
        for node in ast.walk(ast.parse(text)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, source
                names = [f"{node.module}.{name}" for name in names]
            for name in names:
                package, *parts = name.split(".")
                assert package != "experiments", f"{source} imports {name}"
                if package == "jaxbp" and parts[:1] == ["experiments"]:
                    assert parts[1] in folders, f"{source} imports {name}"
                elif package == "jaxbp":
                    assert not any(part.startswith("_") for part in parts), f"{source} imports {name}"
