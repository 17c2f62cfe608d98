"""The line of long work: on a terminal only, with the time left; and what is printed meanwhile."""

import io

import pytest
from rich.console import Console
from rich.text import Text

from jaxbp.experiments.common import progress as progress_of
from jaxbp.experiments.common.progress import TimeLeft, progress


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("total", [None, 3])
def test_it_is_shown_on_a_terminal_only_and_what_is_a_line_each_time_elsewhere(monkeypatch, terminal, total):
    file = io.StringIO()
    monkeypatch.setattr(progress_of, "Console", lambda stderr: Console(file=file, force_terminal=terminal, width=80))
    with progress("checking [3000] units", total, lines=True) as step:
        step(1, "now [/this]")
        with step.aside():
            file.write("a table\n")
    shown = file.getvalue()
    assert ("checking [3000] units" in shown) == terminal
    assert ("1:00" in shown or "0:0" in shown) == terminal
    assert ("now [/this]\n" in shown) != terminal
    assert "a table\n" in shown


@pytest.mark.parametrize(
    ("completed", "begun", "at", "elapsed", "left"),
    [
        (0, 0, 0.0, 5.0, ""),
        (1, 0, 60.0, 60.0, "3:00 left"),
        (1, 0, 60.0, 90.0, "2:30 left"),  # it goes on counting
        (1, 0, 60.0, 900.0, "0:00 left"),
        (3, 2, 10.0, 10.0, "0:10 left"),  # of what was done before nobody knows how long it took
        (2, 2, 10.0, 10.0, ""),
    ],
)
def test_the_time_left_is_that_of_the_rest_at_the_same_speed(completed, begun, at, elapsed, left):
    with progress_of.Progress(disable=True) as shown:
        shown.add_task("", total=4, completed=completed, begun=begun, at=at)
        (task,) = shown.tasks
        task.start_time, task._get_time = 0.0, lambda: elapsed
        assert TimeLeft().render(task) == Text(left, "cyan" if left else "")
