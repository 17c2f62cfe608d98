"""The command line: the exit code, and what is printed to whoever can mend it."""

import sys
from dataclasses import dataclass

import numpy as np
import pytest

import jaxbp
from jaxbp.experiments.common.command_line import command_line, exit_code, wrapped


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
        (lambda options: raised(ImportError("pip install 'jaxbp[train]'")), 1, "error: pip install 'jaxbp[train]'\n"),
        (lambda options: raised(OSError("no room")), 1, "error: no room\n"),
        (lambda options: raised(jaxbp.train.DivergedError(1, 2, "the loss")), 1, "error: training diverged in epoch 1"),
    ],
)
def test_the_exit_code_is_the_verdict(monkeypatch, capsys, main, code, printed):
    monkeypatch.setattr(sys, "argv", ["experiment", "--steps", "4"])
    assert exit_code(main, Options) == code
    assert capsys.readouterr().err.startswith(printed)


def test_what_succeeds_may_be_said_otherwise_and_a_mistake_of_ours_is_not_hidden(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["experiment"])
    for rows, code in (([1], 0), ([], 1)):
        with pytest.raises(SystemExit) as ended:
            command_line(lambda options, rows=rows: rows, Options, succeeded=bool)
        assert ended.value.code == code


def test_a_mistake_of_ours_says_where_and_debug_shows_the_way_there(monkeypatch, capsys):
    def wrong(options):
        return options.steps + "1"

    for words in ([], ["--debug"]):
        monkeypatch.setattr(sys, "argv", ["experiment", *words])
        with pytest.raises(SystemExit) as ended:
            command_line(wrong, Options)
        assert ended.value.code == 1
        printed = capsys.readouterr().err
        assert "error: TypeError: unsupported operand" in printed
        assert "(test_command_line.py, line " in printed
        assert ("Traceback" in printed) == bool(words)
    monkeypatch.setattr(sys, "argv", ["experiment"])
    with pytest.raises(SystemExit) as ended:
        command_line(lambda options: [], Options)  # a result without a verdict
    assert ended.value.code == 1
    assert "AttributeError" in capsys.readouterr().err


def test_help_says_what_the_module_says_in_80_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    from jaxbp.experiments.tools import check  # whose text has paragraphs, lists and files

    with pytest.raises(SystemExit):
        exit_code(check.main, check.Check, arguments=["--help"])
    printed = capsys.readouterr().out
    assert "usage: jaxbp " in printed
    assert "    jaxbp check mine.py:gradients --network net.toml --layout torch" in printed
    assert "x = [[1.0, 2.0, -1.0], [0.5, 0.0, 1.0]]" in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert "\x1b" not in printed


def test_a_command_that_is_too_long_goes_on_in_the_next_line():
    command = "    python -m experiments.private --data-dir PATH --hidden 256 --batch-size 4096"
    assert wrapped(f"{command}\n\n* one\n  item", 50) == (
        "    python -m experiments.private --data-dir \\\n        PATH --hidden 256 --batch-size 4096\n\n* one item"
    )
