"""The command line: the exit code, and what is printed to whoever can mend it."""

import sys
from dataclasses import dataclass

import numpy as np
import pytest

import jaxbp
from jaxbp.experiments.common.command_line import command_line


@dataclass(frozen=True)
class Options:
    """Options to give."""

    steps: int = 3


@dataclass(frozen=True)
class Verdict:
    holds: bool | None
    decision: str = ""


def raised(error):
    raise error


@pytest.mark.parametrize(
    ("main", "code", "printed"),
    [
        (lambda options: Verdict(True), 0, ""),
        (lambda options: Verdict(False), 1, ""),
        (lambda options: Verdict(np.False_), 1, ""),
        (lambda options: Verdict(None), 0, ""),
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
