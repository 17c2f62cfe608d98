"""A command line for an experiment: what it prints to, how it ends, and with which exit code."""

import io
import os
import re
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NoReturn

import tyro
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import jaxbp
from jaxbp.experiments.common.messages import ProgramError, lacking
from jaxbp.experiments.common.verdicts import decided

DEBUG = "--debug"
MOST_COLUMNS = 100
STOPPED, NOBODY_READS = 130, 141  # what a shell says of a process that SIGINT and SIGPIPE have ended
MENDABLE = (ValueError, OSError, MemoryError, ImportError, jaxbp.train.DivergedError)


class Terminal(Console):
    """A console whose tables fit: one that is too wide loses its frame first, and no cell is cut."""

    def print(self, *things: Any, **style: Any) -> None:
        """Print, as rich does."""
        for thing in things:
            if isinstance(thing, Table):
                self._fit(thing)
        super().print(*things, **style)

    def _fit(self, table: Table) -> None:
        for column in table.columns:
            column.overflow = "fold"
        if self.measure(table, options=self.options.update(width=10_000)).maximum > self.width:
            table.box, table.show_edge, table.pad_edge = box.SIMPLE_HEAD, False, False


def terminal(**options: Any) -> Terminal:
    """A console that prints what it is given as it is: a folder may be called [/red], and a decision hold [0, 1].

    What is to have a style is a `rich.text.Text`, or is printed with `style=`.
    """
    return Terminal(markup=False, emoji=False, **options)


def command_line(
    main: Callable[[Any], Any],
    options: type,
    succeeded: Callable[[Any], bool] = lambda result: decided(result) is not False,
) -> NoReturn:
    """Run an experiment from the command line, and end the process with its `exit_code`."""
    code = exit_code(main, options, succeeded)
    if main.__module__ == "__main__":
        end(code)
    sys.exit(code)  # somebody else's process, such as that of tests


def end(code: int) -> NoReturn:
    """End this process, which is the command's alone."""
    if code == STOPPED:  # at once: JAX's threads go on with what they were given, and crash when Python is taken down
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
    sys.exit(code)


def exit_code(
    main: Callable[[Any], Any],
    options: type,
    succeeded: Callable[[Any], bool] = lambda result: decided(result) is not False,
    arguments: Sequence[str] | None = None,
    mendable: tuple[type[Exception], ...] = MENDABLE,
    refused: int = 1,
) -> int:
    """Run an experiment from the command line.

    The exit code is 0 when it succeeded, 1 when not, 2 when tyro refuses the options before anything is begun, and 130
    when it was stopped by Ctrl-C. A claim that is not decided is no failure. What a user can mend is said in a
    sentence: a ValueError, which is what options and data are refused with, an OSError, memory that does not suffice,
    a library that is not installed, and a training that diverges. All else is a mistake of ours, and says in which line
    it happened. With `--debug` the way there is shown too, of both. `--help` shows the text above the module, which has
    examples.

    Args:
        main: Takes the options.
        options: Their dataclass.
        succeeded: Of what `main` returns.
        arguments: The words of the command line; those of the process when None.
        mendable: The errors that a user can mend.
        refused: The exit code of these.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = DEBUG in words
    try:
        config = _read(options, main, [word for word in words if word != DEBUG])
        return 0 if succeeded(main(config)) else 1
    except KeyboardInterrupt as stopped:
        print_error(str(stopped) or "before it was done", "stopped")
        return STOPPED
    except BrokenPipeError:  # by `| head`; what is still to be flushed goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS
    except Exception as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, ProgramError):
            print_error(str(error))
        elif isinstance(error, ModuleNotFoundError) and (needed := lacking(error)):
            print_error(needed)
        elif isinstance(error, mendable):
            print_error(" ".join(str(error).splitlines()) or type(error).__name__)
        else:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}, line {last.lineno}"
            print_error(f"{type(error).__name__}: {error} ({where}; a mistake of ours, {DEBUG} shows the way there)")
            return 1
        return refused


def as_typed(text: str) -> str:
    """A text about the commands with their names as they are typed here: there may be no checkout."""
    in_a_checkout = any(word.partition(".")[0] == "experiments" for word in sys.orig_argv)
    return text if in_a_checkout else text.replace("python -m experiments.", "jaxbp ")


def _read(options: type, main: Callable[[Any], Any], words: Sequence[str]) -> Any:
    """The options; or an exit with their help, and all that the module of `main` says of itself."""
    module = sys.modules[main.__module__]
    first, _, more = as_typed(module.__doc__ or "").partition("\n")
    program = as_typed(f"python -m experiments.{Path(module.__file__ or 'NAME').stem}")
    console = terminal(highlight=False)
    width = min(console.width, MOST_COLUMNS)
    # tyro asks for neither NO_COLOR nor where errors go
    coloured = console.color_system is not None and Console(stderr=True).color_system is not None
    tyro._experimental_options["ansi_codes"] = coloured
    about = textwrap.fill(first, width, subsequent_indent="  ")  # lines that begin with a letter are joined
    printed = _Printed(sys.stdout.isatty())
    try:
        with redirect_stdout(printed):
            return tyro.cli(options, prog=program, description=about, args=words)
    except SystemExit as ended:
        usage, _, rest = printed.getvalue().partition("\n")
        if not {"-h", "--help"} & set(words):  # such as completions for a shell
            print(printed.getvalue(), end="")
        elif ended.code == 0:
            console.print(Text.from_ansi(usage))  # which tyro does not break
            print(f"{rest.rstrip()}\n\n{wrapped(more, width)}\n\nWith {DEBUG} an error shows where it was raised.")
        raise


class _Printed(io.StringIO):
    """What is kept of what is printed, which is as colourful as it would be there."""

    encoding = "utf-8"  # or tyro would draw its frames in ASCII

    def __init__(self, terminal: bool):
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def wrapped(text: str, width: int) -> str:
    """A docstring in so many columns: what is indented stays as it is, but for commands that are too long."""
    filled: list[str] = []
    for part in text.strip("\n").split("\n\n"):
        if part.startswith("    "):
            filled.append("\n".join(_continued(line, width) for line in part.splitlines()))
        else:
            filled.append("\n".join(_filled(item, width) for item in re.split(r"\n(?=\* )", part)))
    return "\n\n".join(filled)


def _filled(text: str, width: int) -> str:
    """A paragraph, or an item of a list."""
    hanging = "  " if text.startswith("* ") else ""
    return textwrap.fill(" ".join(text.split()), width, subsequent_indent=hanging, break_long_words=False)


def _continued(line: str, width: int) -> str:
    """A command, over as many lines as it takes."""
    if len(line) <= width or " --" not in line:
        return line
    lines = textwrap.wrap(line, width - 2, subsequent_indent=" " * 8, break_long_words=False, break_on_hyphens=False)
    return " \\\n".join(lines)


def print_error(message: str, kind: str = "error") -> None:
    """To stderr, as it is: in markup, [units.h1] would be a style."""
    Console(stderr=True).print(Text.assemble((f"{kind}:", "red"), f" {message}"), soft_wrap=True)
