"""A command line for an experiment: what it prints to, how it ends, and with which exit code."""

import sys
from collections.abc import Callable
from typing import Any, NoReturn

import tyro
from rich.console import Console
from rich.text import Text

import jaxbp
from jaxbp.experiments.common.verdicts import decided


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
