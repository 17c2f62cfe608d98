"""The list of experiments: what is in it, what is not, and that nothing is imported to make it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from jaxbp.experiments.__main__ import main, run

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


def test_a_command_is_run_by_its_name_and_what_is_lacking_is_said_in_a_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jaxbp"])
    for name in ("tools.example_class", "claims.linear_collapse"):
        monkeypatch.delitem(sys.modules, f"jaxbp.experiments.{name}", raising=False)
    for words, code, printed in (
        (["chekc"], 2, "error: there is no command 'chekc' (did you mean 'check'?); --help lists them\n"),
        (["example_class"], 2, "Required options"),
    ):
        with pytest.raises(SystemExit) as ended:
            run(words)
        assert ended.value.code == code
        assert printed in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(SystemExit) as ended:
        run(["linear_collapse"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        "error: this needs sklearn, which is not installed: pip install 'jaxbp[experiments]'\n"
    )


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
