"""Marks for a class: what each submission gets, hostile ones too, what is written, and that none spoils another's."""

import csv
import io
import json
import os
import re
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from described import LAYERS, PROGRAM
from rich.console import Console

from jaxbp.experiments.tools import example_class, grade
from jaxbp.experiments.tools.fences import Fence, Hook
from jaxbp.experiments.tools.grade import Grade
from jaxbp.experiments.tools.gradebook import files, shown
from jaxbp.experiments.tools.grading import Graded, Grader, graded_all, probed
from jaxbp.experiments.tools.handed_in import Outcome
from jaxbp.experiments.tools.marks import nothing
from jaxbp.experiments.tools.problem import read_problem
from jaxbp.experiments.tools.submissions import Submission, submissions

GRADING = '\n[grading]\nforbid = ["jaxbp", "jax"]\nseconds = 60\nmemory = 512\n'
FUNCTION = "def gradients(params, x, y):\n"
SECRET = "the numbers of somebody else"


def body(text):
    return FUNCTION + textwrap.indent(textwrap.dedent(text), "    ")


HOSTILE = f"""{PROGRAM}
right = gradients

def gradients(params, x, y):
    try:
        TRIED
    except Exception:
        pass
    return right(params, x, y)
"""


def caught(text):
    """Hostile, and then as if nothing had happened: what was refused must not be forgiven."""
    return HOSTILE.replace("TRIED", text)


# a program, the status and the points of 4, and a part of what is said
PROGRAMS = {
    "forgets": (PROGRAM.replace("* slope(h)", ""), "wrong", 2.5, "missing-derivative: Φ' is left out"),
    "leaves": (body("import os\nos._exit(0)"), "ended", 0, "ended without a result, with exit code 0"),
    "greedy": (body("x = bytearray(2**34)"), "memory", 0, "MemoryError"),
    "loud": (PROGRAM + "print('x' * 3_000_000)\n", "right", 4, "it printed more than 1048576 characters: xxx"),
    "forks": (caught("import os; os.fork()"), "forbidden", 0, "it tried to start another process"),
    "peeks": (caught("open(VICTIM).read()"), "forbidden", 0, "it tried to open '"),
}
MORE_PROGRAMS = {
    "right": (PROGRAM, "right", 4, "everything is right"),
    "raises": (body("raise ValueError('two\\nlines [bold] of it')"), "failed", 0, "lines [bold] of it"),
    "nameless": ("def gradient(*args): pass\n", "unreadable", 0, "has no function gradients; it has gradient"),
    "calls": (caught("import subprocess; subprocess.run(['ls'])"), "forbidden", 0, "it tried to start another process"),
    "dials": (caught("import socket; socket.create_connection(('127.0.0.1', 1))"), "forbidden", 0, "use the network"),
    "kills": (caught("import os; os.kill(os.getppid(), 9)"), "forbidden", 0, "it tried to send a signal"),
    "lists": (caught("import os; os.listdir(FOLDER)"), "forbidden", 0, "it tried to open '"),
    "writes": (caught("open(VICTIM, 'w')"), "forbidden", 0, "it tried to write '"),
    "borrows": (caught("__import__('importlib').import_module('jaxbp')"), "forbidden", 0, "it tried to import 'jaxbp'"),
    "many": (
        PROGRAM + "r = gradients\ndef gradients(*a):\n return {str(i) * 99: 0 for i in range(100_000)}\n",
        "unreadable",
        0,
        "000: there is no quantity of this name",
    ),
    "huge": (
        body("import numpy as np\nreturn {'grad.o.bias': np.zeros(10**6)}"),
        "unreadable",
        0,
        "expected 6 numbers",
    ),
    "endless": (body("a = []\na.append(a)\nreturn a"), "failed", 0, "RecursionError"),
    "nothing": (body("return None"), "unreadable", 0, "a NoneType was handed in"),
    "syntax": ("def gradients(:\n", "failed", 0, "SyntaxError"),
    "exits": (body("raise SystemExit(0)"), "failed", 0, "SystemExit: 0"),
}
ODD_NAMES = ("=1+cmd|calc!A0", "<img src=x onerror=alert(1)>", "[red]Zoë", "-x y", "@two\nlines", "\x1b[31mred")


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory):
    """What the program returns, by name: right, and without Φ'."""
    path = tmp_path_factory.mktemp("network") / "net.toml"
    path.write_text(LAYERS, encoding="utf-8")
    at, defined = read_problem(path).described, {}
    exec(PROGRAM, defined)
    trees = {kind: defined[f](at.params, at.x, at.y) for kind, f in (("right", "gradients"), ("wrong", "forgetful"))}
    return {kind: {f"grad.{u}.{s}": W for u, of in tree.items() for s, W in of.items()} for kind, tree in trees.items()}


@pytest.fixture(scope="module")
def arrays(by_hand):
    """What is handed in as arrays, the status, the points of 4, and a part of what is said."""
    right = by_hand["right"]
    wrong = by_hand["wrong"]
    return {
        "half": ({n: right[n] for n in ("grad.o.h1", "grad.o.bias")}, "incomplete", 2, "what was handed in is right"),
        "slope": (wrong, "wrong", 2.5, "missing-derivative: Φ' is left out"),
        "shape": (right | {"grad.o.bias": np.zeros((3, 7))}, "incomplete", 3, "has shape (3, 7), expected (2,)"),
        "unknown": (right | {"grad.o.h2": np.zeros(2)}, "right", 4, "grad.o.h2: there is no quantity of this name"),
        "nan": (right | {"grad.o.bias": np.full(2, np.nan)}, "wrong", 3, "grad.o.bias is wrong"),
        "words": (right | {"grad.o.bias": np.array(["a", "b"])}, "incomplete", 3, "what was handed in is right"),
        **dict.fromkeys(ODD_NAMES, (right, "right", 4, "everything is right")),
    }


@pytest.fixture(scope="module")
def course(tmp_path_factory, arrays, by_hand):
    """A class in a folder, graded once."""
    folder = tmp_path_factory.mktemp("course")
    (folder / "problem.toml").write_text(LAYERS + GRADING, encoding="utf-8")
    handed = folder / "handed in"
    handed.mkdir()
    victim = handed / "half.npz"
    for name, (program, *_) in PROGRAMS.items():
        (handed / f"{name}.py").write_text(aimed(program, victim), encoding="utf-8")
    for name, (given, *_) in arrays.items():
        np.savez(handed / f"{name}.npz", **given)
    right = {name: array.tolist() for name, array in by_hand["right"].items()}
    for name in ("own", "twice", "doubled", "empty"):
        (handed / name).mkdir()
    (handed / "own" / "work.json").write_text(json.dumps(right))
    (handed / "own" / "notes.txt").write_text("")
    (handed / "twice" / "a.npz").write_bytes(b"")
    (handed / "twice" / "b.npz").write_bytes(b"")
    (handed / "doubled.json").write_text(json.dumps(right))
    (handed / "doubled" / "mine.json").write_text(json.dumps(right))
    (handed / "damaged.npz").write_bytes(b"PK\x03\x04 and no more")
    (handed / "deep.json").write_text("[" * 100_000)
    (handed / "linked.npz").symlink_to(victim)
    (handed / "readme.txt").write_text("")
    os.mkfifo(handed / "pipe.npz")
    console = Console(file=io.StringIO(), width=100)
    config = Grade(handed, folder / "problem.toml", folder / "graded", workers=1)
    graded = grade.main(config, console)
    return folder, {one.submission.student: one for one in graded}, console.file.getvalue()


def aimed(program, victim):
    return program.replace("VICTIM", repr(str(victim))).replace("FOLDER", repr(str(victim.parent)))


def test_each_submission_gets_its_mark_and_a_word(course, arrays):
    _, graded, _ = course
    expected = {name: row[1:] for name, row in {**PROGRAMS, **arrays}.items()} | {
        "own": ("right", 4, "everything is right"),
        "twice": ("none", 0, "the folder holds 2 files ('a.npz', 'b.npz')"),
        "empty": ("none", 0, "the folder holds no file"),
        "doubled": ("none", 0, "this was handed in 2 times ('doubled/mine.json', 'doubled.json'); leave one"),
        "damaged": ("unreadable", 0, "damaged.npz is no .npz file"),
        "deep": ("unreadable", 0, "nested too deeply"),
        "linked": ("none", 0, "linked.npz is a link; hand in the file itself"),
        "pipe": ("none", 0, "pipe.npz is no ordinary file"),
    }
    assert set(graded) == set(expected)
    for name, (status, score, says) in expected.items():
        mark = graded[name].mark
        assert (mark.status, mark.score) == (status, pytest.approx(score, abs=1e-4)), (name, mark)
        assert says in "\n".join(mark.words), name
        assert mark.most == 4
        assert str(course[0]) not in "\n".join(words for words in mark.words if "tried" not in words), name
    assert (course[0] / "handed in" / "half.npz").stat().st_size > 0
    parts = {part.name: part for part in graded["shape"].mark.parts}
    assert "has shape (3, 7), expected (2,)" in parts["grad.o.bias"].words


def test_the_table_for_the_teacher_counts_mistakes_and_obeys_no_name(course):
    _, graded, printed = course
    row = next(line for line in printed.splitlines() if line.split()[:1] == ["missing-derivative"])
    assert row.split() == ["missing-derivative", "2", "h1", "2×"]
    assert "[red]Zoë" in printed
    assert "\\x1b[31mred" in printed
    assert "\x1b" not in printed
    assert "not graded, no submission: 'readme.txt'" in printed
    assert f"{len(graded)} graded" in printed


def test_results_are_what_gradescope_and_otter_read_and_no_cell_is_a_formula(course):
    folder, graded, _ = course
    for name, one in graded.items():
        written = json.loads((folder / "graded" / "results" / name / "results.json").read_text(encoding="utf-8"))
        assert written["score"] == one.mark.score == pytest.approx(sum(t["score"] for t in written["tests"]), abs=1e-3)
        assert sum(test["max_score"] for test in written["tests"]) == written["extra_data"]["max_score"] == 4
        assert {test["visibility"] for test in written["tests"]} == {"visible"}
        assert written["output"].startswith(f"{one.mark.score:g} of 4 points: ")
    slope = json.loads((folder / "graded" / "results" / "slope" / "results.json").read_text(encoding="utf-8"))
    assert [test["status"] for test in slope["tests"]] == ["passed", "passed", "failed", "failed"]
    assert slope["tests"][3]["output"].endswith("which follows from the mistake before it")
    assert slope["extra_data"]["mistakes"] == [{"slug": "missing-derivative", "unit": "h1"}]
    with (folder / "graded" / "final_grades.csv").open(newline="", encoding="utf-8") as file:
        head, worth, *rows = csv.reader(file)
    questions = ["grad.h1.bias", "grad.h1.x", "grad.o.bias", "grad.o.h1"]
    assert head == ["file", *questions, "total_points_earned", "percent_correct", "grading_status"]
    assert worth == ["points-per-question", *["1.0"] * 4, "4", "1.0", "--"] or worth[5] == "4.0"
    by_file = {row[0]: row for row in rows}
    assert by_file["slope.npz"][1:] == ["0.5", "0.0", "1.0", "1.0", "2.5", "0.625", "Completed"]
    assert by_file["leaves.py"][-1] == "the program ended its process"
    with (folder / "graded" / "grades.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(graded)
    names = {row["student"] for row in rows}
    assert {"'=1+cmd|calc!A0", "'-x y", "'@two\\nlines"} <= names
    assert not any(cell.lstrip().startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())


def test_one_that_runs_for_ever_is_stopped(tmp_path):
    (tmp_path / "problem.toml").write_text(LAYERS + GRADING.replace("60", "0.5"), encoding="utf-8")
    (tmp_path / "loops.py").write_text(body("while True: pass"))
    grader = Grader(read_problem(tmp_path / "problem.toml"), (tmp_path,))
    mark = grader.graded(Submission("loops", tmp_path / "loops.py")).mark
    assert (mark.status, mark.score) == ("time", 0)
    assert mark.words == ("the program ran for more than 0.5 s and was stopped",)


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE_PROGRAMS)
def test_more_programs_get_their_mark_and_a_word(tmp_path, name):
    (tmp_path / "problem.toml").write_text(LAYERS + GRADING, encoding="utf-8")
    victim = tmp_path / "victim.npz"
    victim.write_text(SECRET)
    program, status, score, says = MORE_PROGRAMS[name]
    (tmp_path / "mine.py").write_text(aimed(program, victim))
    mark = (
        Grader(read_problem(tmp_path / "problem.toml"), (tmp_path,)).graded(Submission("a", tmp_path / "mine.py")).mark
    )
    assert (mark.status, mark.score) == (status, score), mark
    assert says in "\n".join(mark.words)
    assert victim.read_text() == SECRET


EVENTS = [
    (("os.system", b"ls"), "start another process"),
    (("os.posix_spawn", "ls", [], {}), "start another process"),
    (("os.killpg", 1, 9), "send a signal to a process"),
    (("socket.connect", None, ("1.1.1.1", 80)), "use the network"),
    (("socket.getaddrinfo", "a.b", 80, 0, 0, 0), "use the network"),
    (("open", "FOLDER/other.npz", "r", os.O_RDONLY), "open 'FOLDER/other.npz'"),
    (("open", b"FOLDER/other.npz", None, os.O_RDONLY), "open 'FOLDER/other.npz'"),
    (("open", f"{sys.prefix}/new", "w", os.O_WRONLY | os.O_CREAT), f"write '{sys.prefix}/new'"),
    (("os.scandir", "FOLDER"), "open 'FOLDER'"),
    (("os.rename", "OWN/a", "FOLDER/a", -1, -1), "write 'FOLDER/a'"),
    (("os.symlink", "FOLDER/a", "OWN/a", -1), "write 'FOLDER/a'"),
    (("open", "/proc/1/environ", "r", os.O_RDONLY), "open '/proc/1/environ'"),
    (("open", "OWN/../other.npz", "r", os.O_RDONLY), "open 'OWN/../other.npz'"),
    (("open", "OWN/a", "w", os.O_WRONLY | os.O_CREAT), None),
    (("open", 1, "w", os.O_WRONLY), None),
    (("open", os.__file__, "r", os.O_RDONLY), None),
    (("open", "/dev/null", "w", os.O_WRONLY), None),
    (("os.listdir", sys.prefix), None),
    (("object.__getattr__", None, "x"), None),
]


def test_the_hook_tells_what_it_refuses_and_lets_the_rest_pass(tmp_path):
    (tmp_path / "own").mkdir()
    told = []
    fence = Fence(2**30, 2**20, (str(tmp_path / "folder"),), ("jaxbp",))
    hook = Hook(fence, str(tmp_path / "own"), told.append)

    def placed(value):
        if isinstance(value, bytes):
            return placed(value.decode()).encode()
        places = {"FOLDER": str(tmp_path / "folder"), "OWN": str(tmp_path / "own")}
        return re.sub("FOLDER|OWN", lambda found: places[found[0]], value) if isinstance(value, str) else value

    for (event, *args), expected in EVENTS:
        told.clear()
        args = tuple(map(placed, args))
        if expected is None:
            hook(event, args)
        else:
            with pytest.raises(PermissionError):
                hook(event, args)
        assert told == ([] if expected is None else [placed(expected)]), event
    told.clear()
    assert hook.find_spec("numpy.linalg") is None
    with pytest.raises(ImportError):
        hook.find_spec("jaxbp.textbook", None)
    assert told == ["import 'jaxbp'"]


POINTS = {
    "": {"grad.o.h1": 1, "grad.o.bias": 1, "grad.h1.x": 1, "grad.h1.bias": 1},
    "total = 10": dict.fromkeys(("grad.o.h1", "grad.o.bias", "grad.h1.x", "grad.h1.bias"), 2.5),
    "grad.o = 4\ngrad.h1.x = 1": {"grad.o.h1": 2, "grad.o.bias": 2, "grad.h1.x": 1},
    'grad = 6\n"grad.o.bias" = 4\n"delta.o" = 0': {"grad.o.h1": 2, "grad.o.bias": 4, "grad.h1.x": 2, "grad.h1.bias": 2},
    "loss = 1\ndelta = 2\ntotal = 30": {"loss": 10, "delta.o": 10, "delta.h1": 10},
    "Delta = 2\n'Delta.x' = 5": {"Delta.o": 1, "Delta.h1": 1, "Delta.x": 5},
}
REFUSED = {
    "[points]\ngrad.o.h3 = 1\n": "points.grad.o.h3 is no quantity (did you mean 'grad.o.h1'?)",
    "[points]\nseconds = 1\n": "points.seconds is no quantity",
    "[points]\ngrad = -1\n": "points.grad is -1, expected a number, at least 0",
    "[points]\ngrad = nan\n": "points.grad is nan",
    "[points]\ngrad = 0\n": "there are no points",
    "[points]\ntotal = 0\n": "there are no points",
    "[points]\ngrad = true\n": "points.grad is True",
    "[grading]\nsecond = 1\n": "the unknown key 'second' (did you mean 'seconds'?)",
    "[grading]\nseconds = 0\n": "grading.seconds is 0, expected a number from 0.1",
    "[grading]\nmemory = inf\n": "grading.memory is inf",
    "[grading]\nfollow_through = 2\n": "grading.follow_through is 2",
    "[grading]\nfunction = 'a b'\n": "grading.function is 'a b', expected a name",
    "[grading]\nforbid = 'jax'\n": "grading.forbid is 'jax'",
    "[grading]\nby_element = 1\n": "grading.by_element is 1",
    "[points]\ndelta.x = 1\n": "points.delta.x is no quantity",
    "[half]\n": "the file has the unknown key 'half'",
}


def test_points_by_name_by_group_and_scaled_to_a_total(tmp_path):
    path = tmp_path / "problem.toml"
    for table, expected in POINTS.items():
        path.write_text(f"{LAYERS}\n[points]\n{table}\n" if table else LAYERS, encoding="utf-8")
        problem = read_problem(path)
        assert problem.points == pytest.approx(expected)
        assert problem.total == pytest.approx(sum(expected.values()))
    for table, says in REFUSED.items():
        path.write_text(f"{LAYERS}\n{table}", encoding="utf-8")
        with pytest.raises(ValueError, match=r"problem\.toml: ") as refused:
            read_problem(path)
        assert says in str(refused.value), table


def test_shares_for_what_follows_and_by_element_can_be_set(tmp_path, by_hand):
    path = tmp_path / "problem.toml"
    right, wrong = by_hand["right"], by_hand["wrong"]
    handed = {
        "slope": wrong,
        "off": right | {"grad.h1.x": right["grad.h1.x"] + np.eye(3, 2) / 2},
        "two mistakes": wrong | {"grad.o.bias": right["grad.o.bias"] / 2},  # of which nothing follows from the first
    }
    for name, arrays in handed.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
    for setting, expected in (
        ("follow_through = 0.25", (2.25, 3 + 4 / 6, 1.25)),
        ("by_element = false", (2.5, 3, 1.5)),
    ):
        path.write_text(f"{LAYERS}\n[grading]\n{setting}\n", encoding="utf-8")
        grader = Grader(read_problem(path), ())
        for name, score in zip(handed, expected, strict=True):
            mark = grader.graded(Submission(name, tmp_path / f"{name}.npz")).mark
            assert mark.score == pytest.approx(score, abs=1e-4), name
    assert mark.mistakes == (("bias-not-summed", "o"), ("missing-derivative", "h1"))


def test_zeros_are_worth_nothing_where_the_gradient_has_some(tmp_path, by_hand):
    without = LAYERS.replace("[[1.0, 2.0, -1.0], [0.5, 0.0, 1.0]]", "[[1.0, 0.0, -1.0], [0.5, 0.0, 1.0]]")
    assert without != LAYERS
    (tmp_path / "problem.toml").write_text(without, encoding="utf-8")
    np.savez(tmp_path / "zeros.npz", **{name: np.zeros_like(array) for name, array in by_hand["right"].items()})
    mark = Grader(read_problem(tmp_path / "problem.toml"), ()).graded(Submission("z", tmp_path / "zeros.npz")).mark
    assert (mark.status, mark.score) == ("wrong", 0)
    assert {part.name: part.words for part in mark.parts}["grad.h1.x"].startswith("4 of 6 elements are wrong")


def test_nothing_that_is_read_is_overwritten_and_errors_are_one_sentence(tmp_path, capsys):
    (tmp_path / "problem.toml").write_text(LAYERS, encoding="utf-8")
    handed = tmp_path / "handed"
    words = [str(handed), "--problem", str(tmp_path / "problem.toml"), "--out"]

    def refused(out):
        assert grade.command([*words, str(out)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        return error

    assert "is no folder" in refused(tmp_path / "graded")
    handed.mkdir()
    assert "holds no submissions" in refused(tmp_path / "graded")
    (handed / "a.json").write_text("{}")
    for out in (handed, handed / "graded", tmp_path / "handed" / ".." / "handed"):
        assert "lie within each other" in refused(out)
    with pytest.raises(ValueError, match="--workers is 0, expected a number from 1"):
        Grade(handed, tmp_path / "problem.toml", workers=0)
    (tmp_path / "graded").mkdir()
    os.link(tmp_path / "problem.toml", tmp_path / "graded" / "grades.csv")
    assert "would be overwritten, but it is read" in refused(tmp_path / "graded")
    assert (tmp_path / "problem.toml").read_text(encoding="utf-8") == LAYERS
    assert not (tmp_path / "graded" / "results").exists()
    (tmp_path / "graded" / "grades.csv").unlink()
    assert grade.command([*words, str(tmp_path / "graded")]) == 0
    assert "0 of 4 points" in (tmp_path / "graded" / "results" / "a" / "results.json").read_text(encoding="utf-8")


def test_what_is_shown_is_printable():
    assert shown("a\x1b[31m\u202eb\udcff\nc") == "a\\x1b[31m\\u202eb\\udcff\nc"


WALLS = """
    import ctypes, os
    libc = ctypes.CDLL(None, use_errno=True)
    print("opened", libc.open({path!r}, 0) >= 0, libc.open(b"/etc/passwd", 0) >= 0)
    print("forked", libc.fork() >= 0, "signalled", libc.kill(os.getppid(), 0) == 0)
    print("socket", libc.socket(2, 1, 0) >= 0, "wrote", libc.open({beside!r}, 0o101, 0o600) >= 0, flush=True)
"""


def test_walls_hold_without_the_hook(tmp_path):
    (tmp_path / "problem.toml").write_text(LAYERS + GRADING, encoding="utf-8")
    (tmp_path / "secret.json").write_text(SECRET)
    grader, lacking = probed(Grader(read_problem(tmp_path / "problem.toml"), (tmp_path,)))
    if lacking:
        pytest.skip(f"this system has no such walls: {lacking}")
    paths = {"path": os.fsencode(tmp_path / "secret.json"), "beside": os.fsencode(tmp_path / "new")}
    (tmp_path / "climbs.py").write_text(body(WALLS.format(**paths)))
    said = "\n".join(grader.graded(Submission("climbs", tmp_path / "climbs.py")).mark.words)
    assert "opened False False\nforked False signalled False\nsocket False wrote False" in said
    assert not (tmp_path / "new").exists()


def test_without_walls_the_hook_refuses_the_same(tmp_path):
    (tmp_path / "problem.toml").write_text(LAYERS + GRADING, encoding="utf-8")
    (tmp_path / "secret.json").write_text(SECRET)
    (tmp_path / "peeks.py").write_text(body(f"print(open({str(tmp_path / 'secret.json')!r}).read())"))
    grader = Grader(read_problem(tmp_path / "problem.toml"), (tmp_path,), walls=False)
    mark = grader.graded(Submission("peeks", tmp_path / "peeks.py")).mark
    assert mark.status == "forbidden"
    assert SECRET not in "\n".join(mark.words)


class Walled(Grader):
    """Runs nothing behind walls, and something or nothing without them."""

    outcomes: ClassVar = {}

    def run(self, path, source, folder):
        return self.outcomes[self.walls]


def test_a_system_without_walls_is_found_out_and_said(tmp_path):
    (tmp_path / "problem.toml").write_text(LAYERS, encoding="utf-8")
    walled = Walled(read_problem(tmp_path / "problem.toml"), ())
    walled.outcomes.update(
        {True: Outcome(failed="failed", how="ended"), False: Outcome(result=1, lacking=("no walls",))}
    )
    grader, lacking = probed(walled)
    assert not grader.walls
    assert lacking == ("with walls a program that only imports numpy failed", "no walls")
    walled.outcomes[False] = Outcome(failed="failed", how="ended")
    with pytest.raises(ValueError, match="Python files cannot be run on this system"):
        probed(walled)


class Deadly(Submission):
    """Who receives it dies."""

    def __reduce__(self):
        return os._exit, (1,)


@pytest.mark.slow
def test_several_workers_give_the_same_marks_and_the_death_of_one_harms_no_other(tmp_path):
    folder = example_class.main(example_class.Config(tmp_path / "example", students=8))
    path = tmp_path / "example" / "problem.toml"
    grader, _ = probed(Grader(read_problem(path), (folder,)))
    found, _ = submissions(folder)

    def marks(some, workers):
        graded = {one.submission: one.mark for one in graded_all(path, grader, some, workers, lambda: None)}
        return [graded[submission] for submission in some]

    alone = marks(found, 1)
    assert {mark.score for mark in alone} == {10, 6.25, 3.75, 7.5}
    assert marks(found, 2) == alone
    deadly = Deadly("deadly", Path("deadly.npz"))
    assert marks([found[0], deadly, found[1]], 2) == [
        alone[0],
        nothing(grader.problem, "ungraded", "the grader's process died of it"),
        alone[1],
    ]
    assert len(files(tmp_path, [Graded(one, replace(alone[0])) for one in found])) == len(found) + 2
