"""Verdicts: what decides, and what is printed of it."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from jaxbp.experiments.common.verdicts import conclude, in_a_word, verdict


@dataclass(frozen=True)
class Verdict:
    holds: bool | None
    decision: str


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
