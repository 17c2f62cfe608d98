"""Exercise: a sheet with a small network to be computed by hand, with blanks, its solution, and what grades a class.

    python -m experiments.exercise --network 3-2-2 --seed 7
    python -m experiments.exercise --network 2-3-1 --hidden tanh --output linear --language de
    python -m experiments.exercise --count 30 --out class

A seed makes one exercise, always the same: numbers with one decimal, no unit that saturates, and lines that can be
redone with a calculator. With `--count` there is one for each seed from the first on, so that everyone in a class has
numbers of their own. Each has a folder of its own, called by its seed:

    sheet.html     a page to step through, on which each number is filled in and judged at once, with hints
    sheet.md       the sheet as Markdown with formulas in LaTeX, and as
    sheet.tex      LaTeX, for pdflatex
    solution.*     the same with every line worked out
    answers.json   what is handed in: a place for each number
    problem.toml   the problem that `python -m experiments.grade` takes, with a point for each number

Collect what a class fills into `answers.json` as NAME.json, and grade it:

    python -m experiments.grade submissions --problem exercises/7/problem.toml
    python -m experiments.grade submissions --problem class

The second is of a class in which everyone has a sheet of their own: each answers.json says by its seed to which.

Losses: squared_error takes any output, cross_entropy softmax or sigmoid, binary_cross_entropy sigmoid; without `--loss`
a softmax has cross-entropy and everything else the squared error. The exit code is 0 when all is written, and 2 when
an option does not fit or a file cannot be written.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jaxbp.experiments.common.command_line import end, exit_code, terminal
from jaxbp.experiments.common.files import write_whole
from jaxbp.experiments.common.messages import quoted, suggestion
from jaxbp.experiments.common.options import check_options, whole
from jaxbp.experiments.tools.exercise_numbers import HIDDEN, LOSSES, OUTPUTS, Setting, drawn
from jaxbp.experiments.tools.exercise_sheet import Sheet
from jaxbp.experiments.tools.exercise_words import words_in

_MOST_LAYERS, _MOST_UNITS, _MOST_SHEETS = 4, 6, 1000


@dataclass(frozen=True)
class Exercise:
    """Write exercises with their solutions."""

    network: Annotated[str, tyro.conf.arg(metavar="WIDTHS")] = "3-2-2"
    """The widths of the layers, input first, such as 3-2-2."""
    seed: int = 0
    """The seed of the first exercise."""
    count: int = 1
    """How many exercises, with a seed each."""
    language: str = "en"
    """The language of the sheet: en or de."""
    hidden: str = "sigmoid"
    """The activation of hidden units: sigmoid, tanh, relu or linear."""
    output: str = "softmax"
    """The activation of the output: one of these, or softmax."""
    loss: str | None = None
    """The loss: squared_error, cross_entropy or binary_cross_entropy."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("exercises")
    """Where the folders of the exercises are written."""

    def __post_init__(self) -> None:
        check_options(self, count=whole(1, _MOST_SHEETS), seed=whole(0, 2**31), hidden=())
        words_in(self.language)
        for option, known in (("hidden", HIDDEN), ("output", OUTPUTS), ("loss", LOSSES)):
            value = getattr(self, option)
            if value is not None and value not in known:
                raise ValueError(f"--{option} is {value!r}{suggestion(value, known)}; known are {quoted(known)}")
        setting = self.setting
        if setting.output not in LOSSES[setting.loss]:
            raise ValueError(
                f"--loss {setting.loss} does not take --output {setting.output}; it takes "
                f"{quoted(LOSSES[setting.loss])}"
            )

    @cached_property
    def setting(self) -> Setting:
        """What is drawn."""
        words = self.network.split("-")
        if not all(word.isascii() and word.isdigit() and len(word) < 3 for word in words):
            raise ValueError(f"--network is {self.network!r}, expected the widths of layers such as 3-2-2")
        widths = tuple(map(int, words))
        if not 2 <= len(widths) <= _MOST_LAYERS or not all(1 <= width <= _MOST_UNITS for width in widths):
            raise ValueError(
                f"--network is {self.network!r}; an exercise has 2 to {_MOST_LAYERS} layers, input first, of 1 to "
                f"{_MOST_UNITS} units, such as 3-2-2"
            )
        if self.output == "softmax" and widths[-1] < 2:
            raise ValueError(f"--network is {self.network!r}: a softmax over one unit is 1; give the output more units")
        loss = self.loss or ("cross_entropy" if self.output == "softmax" else "squared_error")
        return Setting(widths, self.hidden, self.output, loss)


def main(config: Exercise, console: Console | None = None) -> list[Path]:
    """Write the exercises.

    Returns:
        The folder of each.

    Raises:
        ValueError: No numbers fit such a network.
        OSError: A file cannot be written.
        KeyboardInterrupt: Ctrl-C; the message says how far it came.
    """
    console = console or terminal()
    folders: list[Path] = []
    try:
        _write(config, folders)
    except KeyboardInterrupt:
        done = f"by Ctrl-C after {max(len(folders) - 1, 0)} of {config.count} exercises"
        raise KeyboardInterrupt(f"{done}; those in {config.out} are whole") from None
    which = str(folders[0]) if len(folders) == 1 else f"{folders[0]} to {folders[-1].name}"
    console.print(f"{which}: sheet and solution as .html, .md and .tex, answers.json and problem.toml", soft_wrap=True)
    return folders


def _write(config: Exercise, folders: list[Path]) -> None:
    """Write the exercises one after the other, and note the folder of each."""
    with _progress(config.count) as advance:
        for seed in range(config.seed, config.seed + config.count):
            sheet = Sheet(drawn(config.setting, seed), config.language)
            folders.append(config.out / str(seed))
            folders[-1].mkdir(parents=True, exist_ok=True)
            for name, content in files(sheet).items():
                write_whole(folders[-1] / name, content)
            advance()


def files(sheet: Sheet) -> dict[str, str]:
    """All that is written of one exercise, by the names of the files."""
    work, solution = sheet.exercise.work, f"{sheet.title}: {sheet.words['solution']}"
    return {
        "sheet.html": work.page(sheet.title, fill_in="numbers", language=sheet.language),
        "sheet.md": sheet.markdown(),
        "sheet.tex": sheet.latex(),
        "solution.html": work.page(solution, language=sheet.language),
        "solution.md": sheet.markdown(solved=True),
        "solution.tex": sheet.latex(solved=True),
        "answers.json": sheet.answers(),
        "problem.toml": sheet.problem(),
    }


@contextmanager
def _progress(total: int) -> Generator[Callable[[], object]]:
    """What to call after each exercise: it moves a bar, on a terminal, which is gone afterwards."""
    console = Console(stderr=True)
    if not console.is_terminal or total == 1:
        yield lambda: None
        return
    columns = TextColumn("drawing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("drawing", total=total)
        yield lambda: progress.advance(task)


def command(arguments: Sequence[str] | None = None) -> int:
    """The command line.

    Args:
        arguments: Its words; those of the process when None.

    Returns:
        The exit code: 0 when all is written, 2 when something is refused or cannot be written, 130 when stopped.
    """
    return exit_code(main, Exercise, lambda folders: True, arguments, refused=2)


if __name__ == "__main__":
    end(command())
