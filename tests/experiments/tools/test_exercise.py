"""Exercises: kind numbers, the same from the same seed, sheets and solutions, and a class that is graded with them."""

import json
import math
import re
import string
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from jaxbp.experiments.tools import exercise_numbers, grade
from jaxbp.experiments.tools.exercise import Exercise, files, main
from jaxbp.experiments.tools.exercise_numbers import DIGITS, LOSSES, drawn, draws
from jaxbp.experiments.tools.exercise_sheet import Sheet
from jaxbp.experiments.tools.exercise_words import WORDS
from jaxbp.experiments.tools.grade import Grade
from jaxbp.experiments.tools.problem import read_problem

QUIET = Console(quiet=True)
SETTINGS = {
    "3-2-2": Exercise(),
    "2-3-1 tanh": Exercise(network="2-3-1", hidden="tanh", output="linear", seed=3, language="de"),
}


rounded = np.vectorize(lambda value: float(f"{value:.{DIGITS}g}"), otypes=[float])


def calculated(piece):
    """What a calculator makes of a part of a line, such as `= 0.4256·(1 − 0.4256)·(−0.2612)`."""
    signs = {"−": "-", "·": "*", "²": "**2", "=": "", "≈": ""}
    functions = {"exp": math.exp, "ln": math.log, "tanh": math.tanh, "max": max}
    return float(eval("".join(signs.get(sign, sign) for sign in piece).strip(), functions))


@pytest.fixture(scope="module", params=["3-2-2", pytest.param("2-3-1 tanh", marks=pytest.mark.slow)])
def exercise(request, tmp_path_factory):
    config = SETTINGS[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exercise_numbers, "FITTING", 2)  # instead of looking for the kindest of many
        [folder] = main(replace(config, out=tmp_path_factory.mktemp("class")), QUIET)
        yield config, folder, drawn(config.setting, config.seed)  # drawn anew


def test_a_class_is_graded_with_the_sheets_problem(exercise, tmp_path):
    _, folder, one = exercise
    answers = json.loads((folder / "answers.json").read_text())
    assert answers.pop("seed") == one.seed
    steps = {step.name: step.value for step in one.work.steps}
    right = {name: rounded(steps[name]) for name in answers}
    assert {name: np.shape(blank) for name, blank in answers.items()} == {name: a.shape for name, a in right.items()}
    # without the slope of the hidden layer, and carried on from there
    wrong = dict(right)
    wrong["delta.h1"] = right["Delta.h1"]
    wrong["grad.h1.x"] = rounded(np.outer(steps["h.x"], right["Delta.h1"]))
    wrong["grad.h1.bias"] = right["Delta.h1"]
    half = {name: a if name.startswith(("a.", "h.")) else np.full(a.shape, None) for name, a in right.items()}
    (tmp_path / "submissions").mkdir()
    for name, numbers in {"anna": right, "ben": wrong, "carl": half}.items():
        text = json.dumps({key: array.tolist() for key, array in numbers.items()})
        (tmp_path / "submissions" / f"{name}.json").write_text(text)
    graded = grade.main(Grade(tmp_path / "submissions", folder / "problem.toml", tmp_path / "graded", workers=1), QUIET)
    marks = {one.submission.student: one.mark for one in graded}
    blanks = sum(array.size for array in right.values())
    forward = sum(array.size for name, array in right.items() if name.startswith(("a.", "h.")))
    assert (marks["anna"].status, marks["anna"].score, marks["anna"].most) == ("right", blanks, blanks)
    assert marks["ben"].mistakes[0] == ("missing-derivative", "h1")
    lost = {part.name for part in marks["ben"].parts if part.score < part.most}
    assert lost == {"delta.h1", "grad.h1.x", "grad.h1.bias"}
    assert (marks["carl"].status, marks["carl"].score) == ("incomplete", forward)


def test_a_class_with_a_sheet_each_is_graded_by_one_command(tmp_path, monkeypatch):
    monkeypatch.setattr(exercise_numbers, "FITTING", 1)
    folders = main(Exercise(count=2, out=tmp_path / "class"), QUIET)
    (tmp_path / "submissions").mkdir()
    for student, folder, seed in (("anna", folders[0], 0), ("ben", folders[1], 1), ("carl", folders[1], 0)):
        answers = json.loads((folder / "answers.json").read_text())
        assert answers["seed"] == int(folder.name)
        one = drawn(Exercise().setting, int(folder.name))
        solved = {step.name: rounded(step.value).tolist() for step in one.work.steps if step.name in answers}
        (tmp_path / "submissions" / f"{student}.json").write_text(json.dumps({"seed": seed, **solved}))
    (tmp_path / "submissions" / "dora.json").write_text('{"seed": 9}')
    graded = grade.main(Grade(tmp_path / "submissions", tmp_path / "class", tmp_path / "graded"), QUIET)
    marks = {one.submission.student: one.mark for one in graded}
    assert [marks[name].status for name in ("anna", "ben", "carl", "dora")] == ["right", "right", "wrong", "none"]
    assert marks["anna"].score == marks["ben"].score == marks["dora"].most > marks["carl"].score
    assert '"seed" is 9, expected one from 0 to 1' in marks["dora"].words[0]
    assert (tmp_path / "graded" / "results" / "ben" / "results.json").exists()


def test_a_folder_without_exercises_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no exercises SEED/problem\.toml"):
        grade.main(Grade(tmp_path, tmp_path), QUIET)


def test_digits_that_nobody_writes_are_refused(exercise, tmp_path):
    _, folder, _ = exercise
    problem = (folder / "problem.toml").read_text()
    assert f"digits = {DIGITS}" in problem
    for other in ("1", "7", "true", '"4"'):
        (tmp_path / "problem.toml").write_text(problem.replace(f"digits = {DIGITS}", f"digits = {other}"))
        with pytest.raises(ValueError, match=r"grading\.digits is .*, expected 2 to 6"):
            read_problem(tmp_path / "problem.toml")


def test_each_line_can_be_redone_with_the_numbers_that_are_printed(exercise):
    _, folder, one = exercise
    for array in (one.x, one.y, *(W for weights in one.params.values() for W in weights.values())):
        assert np.all(np.abs(array) <= 2)
        assert np.array_equal(array, np.round(array, 1))
    for step in one.work.steps:
        if step.name.startswith("a."):
            assert np.all((np.abs(step.value) >= 0.05) & (np.abs(step.value) <= 2))
    solution = (folder / "solution.md").read_text(encoding="utf-8")
    sheet = (folder / "sheet.md").read_text(encoding="utf-8")
    asked = [equation for step in one.work.steps if step.rule for equation in step.equations]
    assert all(" ".join(equation.latex) in solution for equation in asked)
    lines = [equation.text[-2:] for equation in asked if not re.search(r"[a-zΔδ]\.\w", equation.text[-2])]
    assert len(lines) > 0.7 * len(asked)  # the others say that one quantity is another
    for numbers, result in lines:
        assert f"{calculated(numbers):.{DIGITS}g}" == f"{calculated(result):.{DIGITS}g}", (numbers, result)
    assert sheet.count(r"\underline") == len(asked)
    assert not any(equation.latex[-1] in sheet for equation in asked if "approx" in equation.latex[-1])


@pytest.mark.parametrize("language", WORDS)
def test_both_dialects_are_well_formed_in_every_language(language, exercise):
    _, _, one = exercise
    sheet = Sheet(one, language)
    for solved in (False, True):
        latex = sheet.latex(solved)
        assert WORDS[language]["forward"] in latex
        assert WORDS[language]["title"].format(seed=one.seed) in latex
        assert latex.count("{") == latex.count("}")
        assert latex.count(r"\[") == latex.count(r"\]")
        for kind in set(re.findall(r"\\begin{([\w*]+)}", latex)):
            assert latex.count(rf"\begin{{{kind}}}") == latex.count(rf"\end{{{kind}}}")
        assert not re.search(
            r"(?<!\\)[#%&_^$~]", re.sub(r"(?s)\\\[.*?\\\]|\\begin{align\*}.*?\\end{align\*}", "", latex)
        )
        assert sheet.markdown(solved).count("$$") % 2 == 0


def test_a_sheets_page_has_blanks_and_its_solutions_page_has_none(exercise):
    _, folder, one = exercise
    assert '"fill":"numbers"' in (folder / "sheet.html").read_text(encoding="utf-8")
    assert '"fill":"nothing"' in (folder / "solution.html").read_text(encoding="utf-8")
    german = files(Sheet(one, "de"))["sheet.html"]
    assert '<html lang="de">' in german
    assert '"title":"Fehlersignal am Ausgang von h1"' in german
    assert not re.search('"title":"[^"]*(?: of | the )', german)


def test_the_same_seed_makes_the_same_files(exercise):
    config, folder, one = exercise
    again = files(Sheet(one, config.language))
    assert {path.name for path in folder.iterdir()} == again.keys()
    assert all((folder / name).read_text(encoding="utf-8") == content for name, content in again.items())
    assert (
        next(draws(config.setting, config.seed)).x.tolist() != next(draws(config.setting, config.seed + 1)).x.tolist()
    )


def test_all_languages_say_the_same():
    def places(text):
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    for language, words in WORDS.items():
        assert words.keys() == WORDS["en"].keys(), language
        for key, text in words.items():
            assert places(text) == places(WORDS["en"][key]), (language, key)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"language": "fr"}, r"--language is 'fr'.*'en', 'de'"),
        ({"network": "3x2"}, "expected the widths of layers such as 3-2-2"),
        ({"network": "3-0-2"}, "1 to 6 units"),
        ({"network": "3"}, "2 to 4 layers"),
        ({"network": "3-1"}, "a softmax over one unit is 1"),
        ({"hidden": "softmax"}, "--hidden is 'softmax'"),
        ({"loss": "cross_entropy", "output": "tanh"}, "does not take --output tanh"),
        ({"count": 0}, "count must be at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        Exercise(**options)


def test_a_signal_that_cancels_is_refused_whatever_a_machine_makes_of_it():
    cancels = next(draws(Exercise().setting, 7))
    [delta] = [step for step in cancels.work.steps if step.name == "delta.h1"]
    assert abs(delta.value[0]) < 1e-15
    assert not cancels.has_clear_signals


@pytest.mark.slow
@pytest.mark.parametrize("hidden", ["sigmoid", "tanh", "relu", "linear"])
@pytest.mark.parametrize(("loss", "output"), [(loss, output) for loss in LOSSES for output in LOSSES[loss]])
def test_kind_numbers_are_found_for_every_setting(hidden, loss, output):
    config = Exercise(hidden=hidden, output=output, loss=loss)
    for seed in range(3):
        one = drawn(config.setting, seed)
        assert one.has_clear_signals
        assert one.more_digits <= 8


@pytest.mark.slow
def test_a_class_gets_a_sheet_each(tmp_path):
    command = [sys.executable, "-m", "experiments.exercise", "--count", "2", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "0 to 1: sheet and solution" in done.stdout
    assert (tmp_path / "0" / "sheet.md").read_text() != (tmp_path / "1" / "sheet.md").read_text()
    done = subprocess.run([*command, "--language", "xx"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'en', 'de'" in done.stderr
    assert "Traceback" not in done.stderr
