"""The experiments' frame: what is refused, what is printed, and the exit code."""

import dataclasses
import inspect
import io
import re
import sys
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
from rich.console import Console

import jaxbp
from experiments import report
from experiments.claims import POSITIVE, check_options, command_line, conclude, full_size, in_a_word, verdict, whole
from experiments.config import Config
from experiments.feedback_alignment import Comparison
from experiments.private import Private


@dataclass(frozen=True)
class Options:
    """Options to check."""

    steps: int = 3
    widths: tuple[int, ...] = ()
    rate: float | None = None
    seed: int = 0
    momentum: float = 0.0
    epochs: bool = False

    def __post_init__(self):
        check_options(self, steps=whole(2), widths=whole(2), rate=POSITIVE)


@dataclass(frozen=True)
class Verdict:
    holds: bool | None
    decision: str


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 1}, "steps must be at least 2, got 1"),
        ({"widths": (3, 1)}, "widths must be at least 2, got 3 1"),
        ({"rate": 0.0}, "rate must be positive and finite, got 0.0"),
        ({"rate": float("inf")}, "rate must be positive and finite, got inf"),
        ({"rate": float("nan")}, "rate must be positive and finite, got nan"),
        ({"steps": 10**30}, f"steps must be at most 2147483647, got {10**30}"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"seed": 2**32}, "seed must be at most 4294967295, got 4294967296"),
        ({"momentum": 2.0}, "momentum must be at least 0 and below 1, got 2.0"),
        ({"momentum": -1.0}, "momentum must be at least 0 and below 1, got -1.0"),
    ],
)
def test_options_are_refused_by_name_and_those_left_open_are_not(options, message):
    assert replace(Options(), widths=(2, 9), rate=0.1).steps == 3
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Options(**options)


def raised(error):
    raise error


@pytest.mark.parametrize(
    ("main", "code", "printed"),
    [
        (lambda options: Verdict(True, ""), 0, ""),
        (lambda options: Verdict(False, ""), 1, ""),
        (lambda options: Verdict(np.False_, ""), 1, ""),
        (lambda options: Verdict(None, ""), 0, ""),
        (lambda options: raised(MemoryError("Unable to allocate 16 TiB")), 1, "error: Unable to allocate 16 TiB\n"),
        (lambda options: raised(KeyboardInterrupt("by Ctrl-C; wrote [/x]")), 130, "stopped: by Ctrl-C; wrote [/x]\n"),
        (lambda options: raised(KeyboardInterrupt), 130, "stopped: before it was done\n"),
        (lambda options: raised(ValueError("no [bold] steps")), 1, "error: no [bold] steps\n"),
        (lambda options: raised(OSError("no room")), 1, "error: no room\n"),
        (lambda options: raised(jaxbp.train.DivergedError(1, 2, "the loss")), 1, "error: training diverged in epoch 1"),
    ],
)
def test_the_exit_code_is_the_verdict(monkeypatch, capsys, main, code, printed):
    monkeypatch.setattr(sys, "argv", ["experiment", "--steps", "4"])
    with pytest.raises(SystemExit) as ended:
        command_line(main, Options)
    assert ended.value.code == code
    assert capsys.readouterr().err.startswith(printed)


def test_what_succeeds_may_be_said_otherwise_and_a_mistake_of_ours_is_not_hidden(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["experiment"])
    for rows, code in (([1], 0), ([], 1)):
        with pytest.raises(SystemExit) as ended:
            command_line(lambda options, rows=rows: rows, Options, succeeded=bool)
        assert ended.value.code == code
    with pytest.raises(AttributeError, match="holds"):
        command_line(lambda options: [], Options)
    with pytest.raises(TypeError, match="unsupported operand"):
        command_line(lambda options: 1 + "1", Options)


def test_the_decision_is_printed_as_it_is_with_the_files():
    console = Console(file=io.StringIO(), width=80)
    conclude(console, Verdict(False, "2 > [1, 0]: does not hold"), Path("runs/[/x]"), "a.png", "b.json")
    assert console.file.getvalue() == "2 > [1, 0]: does not hold\nwrote runs/[/x]/: a.png, b.json\n"


@pytest.mark.parametrize("holds", [True, False, None, np.True_, np.False_])
def test_only_what_holds_is_green(holds):
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
    conclude(console, Verdict(holds, "numbers"), Path("runs"), "a.png")
    color = "\x1b[33m" if holds is None else "\x1b[32m" if holds else "\x1b[31m"
    assert console.file.getvalue().startswith(f"{color}numbers")


@pytest.mark.parametrize(
    ("facts", "measured", "size", "holds"),
    [
        ([True], [True], {}, True),
        ([True], [False], {}, False),
        ([False], [True], {}, False),
        ([], [np.False_], {}, False),
        ([], [], {}, True),
        ([True], [True], {"confirms": False}, None),
        ([True], [False], {"confirms": False}, False),
        ([True], [False], {"refutes": False}, None),
        ([True], [True], {"refutes": False}, True),
        ([False], [False], {"refutes": False, "confirms": False}, False),
        ([True, np.float64("nan") <= 1], [True], {"refutes": False}, False),
        ([True], [True, np.float64("nan") <= 1], {"refutes": False}, None),
    ],
)
def test_a_verdict_is_green_by_all_numbers_alone_and_no_size_excuses_a_fact(facts, measured, size, holds):
    assert verdict(facts, measured, **size) is holds
    assert (in_a_word(verdict(facts, measured, **size)) == "holds") == (holds is True)


def test_a_size_is_full_where_no_number_is_below_its_default():
    assert full_size(Options(), "steps", "seed")
    assert full_size(Options(steps=9), "steps", "seed")
    assert not full_size(Options(steps=2), "steps", "seed")


ALL = [Config, Comparison, Private]
for _name in report.deciding(report.FOLDER):
    _main = import_module(f"experiments.{_name}").main
    ALL.append(get_type_hints(_main)[next(iter(inspect.signature(_main).parameters))])

NAN, INF = float("nan"), float("inf")
REFUSED = {
    "batch_size": (0, -1, 10**30),
    "bound": (0.0, NAN, INF),
    "epochs": (0, -1, 10**30),
    "examples": (0, -5, 10**30),
    "hidden": ((0,), (8, -1), (10**30,)),
    "learning_rate": (0.0, -0.1, NAN, INF),
    "max_norm": (0.0, NAN),
    "max_seconds": (0.0, NAN),
    "momentum": (-1.0, 1.0, 2.0, NAN),
    "name": (
        "",
        ".",
        "..",
        "../../x",
        "a/b",
        "/tmp/x",
        "[/red]",
        "-x",
        "a b",
        "a\0",
        "x\n",
        "\x1b[31m",
        "ü" * 9,
        "x" * 101,
    ),
    "passes": (0, 10**30),
    "restarts": (0, 10**30),
    "retraining": (0, 10**30),
    "seed": (-1, 10**30),
    "seeds": (0, 10**30),
    "steps": (0, -5, 10**30),
    "weight_decay": (0.0, NAN),
    "width": (0, 10**30),
    "widths": ((0, 4), (1, 10**30)),
}


@pytest.mark.parametrize("options", ALL, ids=lambda options: options.__module__.rpartition(".")[2])
def test_what_no_experiment_can_do_is_refused_by_name_by_all(options):
    options()
    shared = [field for field in dataclasses.fields(options) if field.name in REFUSED and field.type is not bool]
    assert shared or not {f.name for f in dataclasses.fields(options)} & {"seed", "learning_rate", "epochs"}
    for field in shared:
        for value in REFUSED[field.name]:
            with pytest.raises(ValueError, match=field.name) as refused:
                options(**{field.name: value})
            assert "\x1b" not in str(refused.value)
