"""What the experiments share: checked options, a verdict on a claim, and a command line.

One that decides a claim has the chapter's words as CLAIM, the heading they stand under as PLACE, and a `main` that
returns a `Verdict`. `experiments.report` runs all that have a CLAIM.
"""

import math
import sys
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any, NoReturn, Protocol

import tyro
from rich.console import Console
from rich.text import Text

import jaxbp


class Verdict(Protocol):
    """What came of a claim."""

    @property
    def holds(self) -> bool:
        """Whether it does."""
        ...

    @property
    def decision(self) -> str:
        """The numbers that decide, beside their bounds, and `in_a_word` what they decide: one line."""
        ...


def in_a_word(holds: bool | None) -> str:
    """The end of a decision; of an experiment that raised, None."""
    return {True: "holds", False: "does not hold", None: "failed"}[holds]


def conclude(console: Console, result: Verdict, out: Path, *files: str) -> None:
    """Print what was decided, and which files were written to a folder."""
    console.print(result.decision, style="green" if result.holds else "red", highlight=False, markup=False)
    console.print(f"wrote {out}/: {', '.join(files)}")


def command_line(
    main: Callable[[Any], Any], options: type, succeeded: Callable[[Any], bool] = attrgetter("holds")
) -> NoReturn:
    """Run an experiment from the command line, and end the process: with exit code 1 unless it succeeded.

    Args:
        main: Takes the options.
        options: Their dataclass.
        succeeded: Of what `main` returns.
    """
    try:
        sys.exit(0 if succeeded(main(tyro.cli(options))) else 1)
    except (TypeError, ValueError, OSError, jaxbp.train.DivergedError) as error:
        print_error(str(error))
        sys.exit(1)


def print_error(message: str) -> None:
    """To stderr, as it is: in markup, [units.h1] would be a style."""
    Console(stderr=True).print(Text.assemble(("error:", "red"), f" {message}"), soft_wrap=True)


def check_at_least(config: Any, least: int, *fields: str) -> None:
    """Refuse options below a number; one that is None, or a tuple of none, is left open."""
    _check(config, fields, lambda number: number >= least, f"at least {least}")


def check_positive(config: Any, *fields: str) -> None:
    """Refuse options that are not positive and finite, in the same way."""
    _check(config, fields, lambda number: 0 < number < math.inf, "positive and finite")


def listed(numbers: Any) -> str:
    """As they are given on the command line."""
    return " ".join(map(str, numbers)) or "none"


def _check(config: Any, fields: tuple[str, ...], allowed: Callable[[Any], bool], expected: str) -> None:
    for field in fields:
        value = getattr(config, field)
        numbers = value if isinstance(value, tuple) else () if value is None else (value,)
        if not all(map(allowed, numbers)):
            raise ValueError(f"{field} must be {expected}, got {listed(numbers)}")
