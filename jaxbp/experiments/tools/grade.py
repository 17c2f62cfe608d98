"""Grade: a folder of hand-written gradients, one of each student, with points for each quantity and a few words.

    python -m experiments.grade submissions --problem problem.toml
    python -m experiments.grade submissions --problem problem.toml --out graded

A submission is a file NAME.npz, NAME.json or NAME.py, as `python -m experiments.check` takes them, or a folder NAME
with one such file in it. Links are not followed. `python -m experiments.example_class FOLDER` writes an example.

Where everyone has an exercise of their own, the problem is the folder that `python -m experiments.exercise --count`
wrote: each submission, an answers.json that was filled in, says by its seed which of them it is to.

    python -m experiments.grade submissions --problem class

Otherwise the problem is the description of a network that `check` takes, with two tables more, of which both may be
left out:

    [points]
    total = 10
    grad = 8
    "grad.o.bias" = 1
    "delta.h1" = 1

    [grading]
    function = "gradients"
    seconds = 10
    memory = 2048
    forbid = ["jaxbp", "jax"]
    follow_through = 0.5
    by_element = true
    layout = "rows"
    digits = 0

`[points]` says what is asked for: points for a quantity, or for a group of them, such as "grad" or "grad.o", which
are shared evenly by those that nothing closer names; `total` is what they are scaled to. Without it each gradient is
worth a point. What is not handed in, or in no form that can be read, gets no points; what is handed in beside that
helps to find the mistake.

Of a quantity that is wrong, the right elements get their share of the points, beyond what zeros would get
(`by_element`). Who makes a mistake
early in the backward pass has everything after it wrong: where a mistake that is known explains all numbers, what
follows from it gets at least the share `follow_through`.

What is handed in has weights `(in, out)` and a row for each example. Where the course has them otherwise, `layout` is
"torch", with weights `(out, in)`, or "columns", where examples are columns too: Python functions are then called with
parameters and data in that layout, though all that is in the problem's file is in rows. Gradients may have other keys,
such as `W1` and `b1`, where shapes and order say which is which.

Where a class computed by hand and rounded each number to a few significant digits, `digits = 4` (or any from 2 to 6)
takes that for no mistake: a number may be off by half a unit of its last digit and by what the rounding of those before
it makes of that, with 4 digits three parts in a thousand in the median, and more where much cancels.

Python files are executed one by one, each in a process of its own that may take `seconds` and `memory` (in MiB), and
import no module that `forbid` names. It sees nothing but its own source, the arguments and Python; on Linux with
user namespaces and seccomp that is a wall, which closes off network, processes and all files. Where the system has no
such walls, which is said, there are limits and a hook of Python's, which is a fence that somebody determined climbs
over: then grade each in a container of its own. Who tries what is not allowed gets no points, and the report says
what was tried.

Written are `results/NAME/results.json` for Gradescope, `final_grades.csv` as `otter grade` has it, and `grades.csv`.
The exit code is 0 when all are graded, and 2 when the problem or the folder cannot be read.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxbp.experiments.common.command_line import MENDABLE, end, exit_code, terminal
from jaxbp.experiments.common.messages import quoted
from jaxbp.experiments.common.progress import progress
from jaxbp.experiments.tools.gradebook import files, shown, write
from jaxbp.experiments.tools.grading import Graded, Grader, default_workers, graded_all, probed
from jaxbp.experiments.tools.problem import Problem, problem_files, read_problem
from jaxbp.experiments.tools.submissions import Submission, by_problem, submissions

_STYLES = {"right": "green", "incomplete": "yellow", "wrong": "red"}
_OTHER = "bold red"


@dataclass(frozen=True)
class Grade:
    """Grade a folder of submissions."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """The submissions: one file, or one folder with a file, for each student."""
    problem: Annotated[Path, tyro.conf.arg(metavar="PROBLEM.toml")]
    """The description of the network, its data and the points; or a folder of exercises."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("graded")
    """Where the results are written."""
    workers: int | None = None
    """How many are graded at the same time; as many as there are processors, if there are enough submissions."""

    def __post_init__(self) -> None:
        if self.workers is not None and not 1 <= self.workers <= 256:
            raise ValueError(f"--workers is {self.workers}, expected a number from 1 to 256")


def main(config: Grade, console: Console | None = None) -> list[Graded]:
    """Grade what was handed in, print the tables, and write the results.

    Raises:
        TypeError, ValueError: The problem or the folder cannot be read, or the results would overwrite what is read.
        OSError: A result cannot be written.
    """
    console = console or terminal()
    problems = problem_files(config.problem) if config.problem.is_dir() else {}
    problem = read_problem(min(problems.items())[1] if problems else config.problem)
    _check_apart(config.folder.resolve(), config.out.resolve())
    found, others = submissions(config.folder)
    with progress("grading", len(found)) as step:
        if problems:
            graded, lacking = _graded_apart(config, found, problems, partial(step, 1)), ()
        else:
            graded, lacking = _graded_together(config, problem, found, partial(step, 1))
    graded.sort(key=lambda one: one.submission.student)
    read = [*problem.described.files, *problems.values(), *(one.submission.path for one in graded)]
    write(files(config.out, graded), read)
    console.print(_marks(graded))
    if any(one.mark.mistakes for one in graded):
        console.print(_mistakes(graded))
    for note in (*(f"not graded, no submission: {shown(quoted(others), '')}" for _ in others[:1]), *lacking):
        console.print(f"note: {note}", soft_wrap=True)
    mean = sum(one.mark.score for one in graded) / len(graded)
    console.print(f"{len(graded)} graded, {mean:.4g} of {problem.total:.4g} points on average; see {config.out}")
    return graded


def _graded_together(
    config: Grade, problem: Problem, found: list[Submission], done: Callable[[], Any]
) -> tuple[list[Graded], tuple[str, ...]]:
    """The submissions to one problem, and what the system lacks to run programs."""
    grader, lacking = Grader(problem, (config.folder, config.out)), ()
    if any(submission.path.suffix == ".py" for submission in found):
        grader, lacking = probed(grader)
    workers = min(config.workers or default_workers(len(found)), len(found))
    return list(graded_all(config.problem, grader, found, workers, done)), lacking


def _graded_apart(
    config: Grade, found: list[Submission], problems: dict[int, Path], done: Callable[[], Any]
) -> list[Graded]:
    """The submissions of a class in which everyone has a problem of their own: a small one, that one process judges."""
    graded: list[Graded] = []
    for path, of in by_problem(found, problems).items():
        grader = Grader(read_problem(path), (config.folder, config.out))
        graded += graded_all(path, grader, of, 1, done)
    return graded


def _check_apart(folder: Path, out: Path) -> None:
    """Refuse results among the submissions, which would be graded the next time, or in the place of them."""
    written = out / "results"
    if out.is_relative_to(folder) or folder.is_relative_to(written) or written.is_relative_to(folder):
        raise ValueError(f"--out {out} and the submissions in {folder} lie within each other; name another --out")


def _marks(graded: Sequence[Graded]) -> Table:
    table = Table(box=box.SIMPLE)
    table.add_column("student")
    table.add_column("points", justify="right")
    table.add_column("")
    table.add_column("words")
    for one in graded:
        mark = one.mark
        table.add_row(
            Text(shown(one.submission.student, ""), overflow="fold"),
            f"{mark.score:.4g}",
            Text(mark.status, _STYLES.get(mark.status, _OTHER)),
            Text(shown(_few_words(one), ""), overflow="fold"),
        )
    return table


def _few_words(one: Graded) -> str:
    """One line: the mistakes by their names, or the first thing that there is to say."""
    if one.mark.mistakes:
        return ", ".join(f"{slug} in {unit}" if unit else slug for slug, unit in one.mark.mistakes)
    lines = one.mark.words[0].splitlines() if one.mark.words and one.mark.status != "right" else []
    return (lines[0] if len(lines) < 2 else f"{lines[0]} {lines[-1]}")[:160] if lines else ""


def _mistakes(graded: Sequence[Graded]) -> Table:
    """Which mistakes were made, by how many students, and where."""
    students = Counter(slug for one in graded for slug in {slug for slug, _ in one.mark.mistakes})
    where = {slug: Counter[str]() for slug in students}
    for one in graded:
        for slug, unit in set(one.mark.mistakes):
            where[slug][unit or "the whole"] += 1
    table = Table(box=box.SIMPLE)
    table.add_column("mistake")
    table.add_column("students", justify="right")
    table.add_column("where")
    for slug, count in students.most_common():
        places = ", ".join(f"{unit} {times}×" if times > 1 else unit for unit, times in where[slug].most_common())
        table.add_row(Text(slug), str(count), Text(places))
    return table


def command(arguments: Sequence[str] | None = None) -> int:
    """The command line.

    Args:
        arguments: Its words; those of the process when None.

    Returns:
        The exit code: 0 when all are graded, 2 when something cannot be read or written, 130 after Ctrl-C.
    """
    return exit_code(main, Grade, lambda graded: True, arguments, (*MENDABLE, TypeError), refused=2)


if __name__ == "__main__":
    end(command())
