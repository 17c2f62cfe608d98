"""How far long work has come, and how long the rest will take: a line on a terminal, which is gone afterwards."""

from collections.abc import Generator
from contextlib import contextmanager, nullcontext

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

WIDTH = 10  # of the bar, so that there is room for words at 80 columns
REFRESHED = 2  # times in a second


class TimeLeft(ProgressColumn):
    """The time left if the rest goes as fast as what is done; it counts down between steps, which may take minutes."""

    def render(self, task: Task) -> Text:
        """Minutes and seconds, or nothing before there is a first step to go by."""
        at, done = task.fields["at"], task.completed - task.fields["begun"]
        if task.total is None or task.elapsed is None or done <= 0:
            return Text()
        left = max(0, round(at * (task.total - task.fields["begun"]) / done - task.elapsed))
        return Text(f"{left // 60}:{left % 60:02d} left", "cyan")


class Steps:
    """What long work tells how far it has come: call it with how much more is done, and with what goes on now."""

    def __init__(self, shown: Progress, task: TaskID, console: Console, lines: bool):
        self._shown, self._task, self._console = shown, task, console
        self._lines = lines and not console.is_terminal

    def __call__(self, done: float = 0, what: str | None = None) -> None:
        """Go on by so much, with something else if that is said."""
        task = self._shown.tasks[self._task]
        if done:
            self._shown.update(self._task, completed=task.completed + done, at=task.elapsed or 0.0)
        if what is not None:
            self._shown.update(self._task, description=escape(what))
            if self._lines:
                self._console.print(what, markup=False, soft_wrap=True)

    @contextmanager
    def aside(self) -> Generator[None]:
        """While it is open, the line is away: something is printed."""
        if self._shown.disable:
            yield
            return
        self._shown.stop()
        try:
            yield
        finally:
            self._shown.start()


@contextmanager
def progress(what: str, total: float | None = None, *, start: float = 0, lines: bool = False) -> Generator[Steps]:
    """Show on the standard error what goes on, how long it has taken, and how long the rest will take.

    Args:
        what: What goes on.
        total: How much there is to do, in whatever unit, such as seconds that it took elsewhere. None if unknown.
        start: How much of it was done before.
        lines: Whether what goes on is a line each time where there is no terminal: for work of minutes.
    """
    console = Console(stderr=True)
    known = () if total is None else (BarColumn(WIDTH), TimeLeft())
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), *known)
    # seldom drawn: it would take part in what is measured
    shown = Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal, refresh_per_second=REFRESHED
    )
    with nullcontext() if shown.disable else shown:  # rich before 14.3 ends one that is not shown with an empty line
        task = shown.add_task(escape(what), total=total, completed=start, begun=start, at=0.0)
        yield Steps(shown, task, console, lines)
