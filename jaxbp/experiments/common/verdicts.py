"""What comes of a claim.

A module that decides a claim has the chapter's words as CLAIM, the heading they stand under as PLACE, and a `main` that
returns a `Verdict`. `experiments.report` runs all that have a CLAIM.

A verdict is one of three: the claim holds, it does not, or it is not decided at this size, which is neither. None
stands for the last, so that whoever forgets it takes it for no success.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from rich.console import Console


class Verdict(Protocol):
    """What came of a claim."""

    @property
    def holds(self) -> bool | None:
        """Whether it does; None where the size of the experiment does not decide it."""
        ...

    @property
    def decision(self) -> str:
        """The numbers that decide, beside their bounds, and `in_a_word` what they decide: one line."""
        ...


def verdict(
    facts: Iterable[bool], measured: Iterable[bool] = (), *, confirms: bool = True, refutes: bool = True
) -> bool | None:
    """Whether a claim holds, by the numbers that it is decided by.

    Args:
        facts: What is right at any size, or wrong at any: a gradient that is that of jax.grad.
        measured: What an experiment may be too small for: an accuracy, an error after so many steps.
        confirms: Whether its size is enough to say that the claim holds, where all of this is as asked.
        refutes: Whether it is enough to say that it does not, where something measured is not.

    Returns:
        None where that is not decided.
    """
    if not all(facts):
        return False
    as_asked = all(measured)
    return as_asked if (confirms if as_asked else refutes) else None


def decided(result: Verdict) -> bool | None:
    """The verdict as one of True, False and None, whatever kind of truth value it is: NumPy's False is not False."""
    return None if result.holds is None else bool(result.holds)


def in_a_word(holds: bool | None) -> str:
    """The end of a decision."""
    return "not decided at this size" if holds is None else "holds" if holds else "does not hold"


def conclude(console: Console, result: Verdict, out: Path, *files: str) -> None:
    """Print what was decided, and which files were written to a folder."""
    style = {True: "green", False: "red", None: "yellow"}[decided(result)]
    console.print(result.decision, style=style, highlight=False, markup=False)
    console.print(f"wrote {out}/: {', '.join(files)}", markup=False)
