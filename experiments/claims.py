"""What the experiments share: checked options, a verdict on a claim, and a command line.

One that decides a claim has the chapter's words as CLAIM, the heading they stand under as PLACE, and a `main` that
returns a `Verdict`. `experiments.report` runs all that have a CLAIM.

A verdict is one of three: the claim holds, it does not, or it is not decided at this size, which is neither. None
stands for the last, so that whoever forgets it takes it for no success.
"""

import dataclasses
import math
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, Protocol

import tyro
from rich.console import Console
from rich.text import Text

import jaxbp


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


def full_size(config: Any, *fields: str) -> bool:
    """Whether options that say how large an experiment is are no smaller than they are when nothing is given."""
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    return all(getattr(config, field) >= defaults[field] for field in fields)


def conclude(console: Console, result: Verdict, out: Path, *files: str) -> None:
    """Print what was decided, and which files were written to a folder."""
    style = {True: "green", False: "red", None: "yellow"}[decided(result)]
    console.print(result.decision, style=style, highlight=False, markup=False)
    console.print(f"wrote {out}/: {', '.join(files)}", markup=False)


def terminal(**options: Any) -> Console:
    """A console that prints what it is given as it is: a folder may be called [/red], and a decision hold [0, 1].

    What is to have a style is a `rich.text.Text`, or is printed with `style=`.
    """
    return Console(markup=False, emoji=False, **options)


def command_line(
    main: Callable[[Any], Any],
    options: type,
    succeeded: Callable[[Any], bool] = lambda result: decided(result) is not False,
) -> NoReturn:
    """Run an experiment from the command line, and end the process.

    The exit code is 0 when it succeeded, 1 when not or when something was refused, 2 when tyro refuses the options
    before anything is begun, and 130 when it was stopped by Ctrl-C. A claim that is not decided is no failure. What a
    user can mend is said in a sentence: a ValueError, which is what options and data are refused with, an OSError,
    memory that does not suffice, and a training that diverges. All else is a mistake of ours and shows where it
    happened.

    Args:
        main: Takes the options.
        options: Their dataclass.
        succeeded: Of what `main` returns.
    """
    try:
        sys.exit(0 if succeeded(main(tyro.cli(options))) else 1)
    except (ValueError, OSError, MemoryError, jaxbp.train.DivergedError) as error:
        print_error(str(error) or type(error).__name__)
        sys.exit(1)
    except KeyboardInterrupt as stopped:
        print_error(str(stopped) or "before it was done", "stopped")
        sys.exit(130)


def print_error(message: str, kind: str = "error") -> None:
    """To stderr, as it is: in markup, [units.h1] would be a style."""
    Console(stderr=True).print(Text.assemble((f"{kind}:", "red"), f" {message}"), soft_wrap=True)


Rule = tuple[tuple[Callable[[Any], bool], str], ...]
"""What is allowed for an option, or each element of a tuple, and how that is said."""

LARGEST = 2**31 - 1  # of what is counted; XLA's indices are int32
LONGEST_NAME = 100


def whole(least: int, most: int = LARGEST) -> Rule:
    """From one whole number to another."""
    return (lambda number: number >= least, f"at least {least}"), (lambda number: number <= most, f"at most {most}")


POSITIVE: Rule = ((lambda number: 0 < number < math.inf, "positive and finite"),)
FRACTION: Rule = ((lambda number: 0 <= number < 1, "at least 0 and below 1"),)
NAME: Rule = (
    (
        lambda name: re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) is not None and len(name) <= LONGEST_NAME,
        f"at most {LONGEST_NAME} letters, digits, '_', '.' and '-', the first a letter, a digit or '_'",
    ),
)

SHARED: dict[str, Rule] = {
    "batch_size": whole(1),
    "epochs": whole(1),
    "hidden": whole(1),
    "learning_rate": POSITIVE,
    "momentum": FRACTION,
    "name": NAME,
    "seed": whole(0, 2**32 - 1),  # what NumPy, scikit-learn and JAX all take
    "seeds": whole(1, 1000),
    "steps": whole(1),
    "width": whole(1, 2**16),
    "widths": whole(1, 2**16),
}
"""Of options that several experiments have, by their names."""


def check_options(config: Any, **own: Rule) -> None:
    """Refuse options that are not allowed, by name.

    One that is None is left open, and so is a tuple of none. A switch is free, whatever it is called.

    Args:
        config: The options.
        own: The rules of this experiment, which come before those that are `SHARED`.
    """
    rules = SHARED | own
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        values = value if isinstance(value, tuple) else () if value is None or isinstance(value, bool) else (value,)
        for allowed, expected in rules.get(field.name, ()):
            if not all(map(allowed, values)):
                raise ValueError(f"{field.name} must be {expected}, got {listed(values)}")


def listed(values: Any) -> str:
    """As they are given on the command line; text in quotes, with nothing in it that a terminal obeys."""
    return " ".join(repr(value) if isinstance(value, str) else str(value) for value in values) or "none"
