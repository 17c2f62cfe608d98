"""The experiments' frame: what is refused, what is printed, and the exit code."""

import io
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from rich.console import Console

import jaxbp
from experiments.claims import check_at_least, check_positive, command_line, conclude


@dataclass(frozen=True)
class Options:
    """Options to check."""

    steps: int = 3
    widths: tuple[int, ...] = ()
    rate: float | None = None

    def __post_init__(self):
        check_at_least(self, 2, "steps", "widths")
        check_positive(self, "rate", "steps")


@dataclass(frozen=True)
class Verdict:
    holds: bool
    decision: str


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 1}, "steps must be at least 2, got 1"),
        ({"widths": (3, 1)}, "widths must be at least 2, got 3 1"),
        ({"rate": 0.0}, "rate must be positive and finite, got 0.0"),
        ({"rate": float("inf")}, "rate must be positive and finite, got inf"),
        ({"rate": float("nan")}, "rate must be positive and finite, got nan"),
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


def test_the_decision_is_printed_as_it_is_with_the_files():
    console = Console(file=io.StringIO(), width=80)
    conclude(console, Verdict(False, "2 > [1, 0]: does not hold"), Path("runs/x"), "a.png", "b.json")
    assert console.file.getvalue() == "2 > [1, 0]: does not hold\nwrote runs/x/: a.png, b.json\n"
