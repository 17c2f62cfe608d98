"""Grading a class: each submission by itself, some at the same time, and none that can keep the others from it."""

import contextlib
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from jaxbp.experiments.tools import handed_in
from jaxbp.experiments.tools.array_files import MOST_TEXT, read, read_arrays
from jaxbp.experiments.tools.marks import Mark, Status, marked, named, nothing
from jaxbp.experiments.tools.problem import Problem, read_problem
from jaxbp.experiments.tools.submissions import SEED, Submission

_STATUS: dict[str, Status] = {"raised": "failed", "memory": "memory", "ended": "ended", "time": "time"}
_SHOWN = 600
_PROBE = b"import numpy\n\ndef %s(*_):\n    return {'loss': numpy.ones(())}\n"
_UNREADABLE = (TypeError, ValueError, KeyError, AttributeError, RecursionError, OSError)


@dataclass(frozen=True)
class Graded:
    """A submission with its mark, and how many seconds that took."""

    submission: Submission
    mark: Mark
    seconds: float = 0


@dataclass(frozen=True)
class Grader:
    """What is needed to grade one submission.

    Attributes:
        problem: What is asked.
        hidden: What no program is to see.
        walls: Whether the system has walls to put around programs.
    """

    problem: Problem
    hidden: tuple[Path, ...]
    walls: bool = True

    def graded(self, submission: Submission) -> Graded:
        """The submission with its mark, whatever is in it."""
        begun = time.perf_counter()
        try:
            mark = self._mark(submission)
        except Exception as error:  # the next one is graded all the same
            mark = nothing(self.problem, "ungraded", f"the grader failed: {type(error).__name__}: {error}")
        return Graded(submission, mark, time.perf_counter() - begun)

    def _mark(self, submission: Submission) -> Mark:
        if submission.complaint:
            return nothing(self.problem, "none", submission.complaint)
        if submission.path.suffix == ".py":
            return self._mark_program(submission.path)
        try:
            read = read_arrays(submission.path, self.problem.described.most_handed_in)
            given = named({name: value for name, value in read.items() if name != SEED})
        except _UNREADABLE as error:
            return nothing(self.problem, "unreadable", _without(str(error), submission.path))
        return marked(self.problem, given)

    def _mark_program(self, path: Path) -> Mark:
        try:
            source = read(path, MOST_TEXT)
        except ValueError as error:
            return nothing(self.problem, "unreadable", _without(str(error), path))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name).resolve()
            outcome = self.run(path, source, folder)
            mark = self._mark_outcome(outcome)
        printed = f"it printed {'more than ' if outcome.cut else ''}{len(outcome.printed)} characters"
        shown = [f"{printed}: {outcome.printed[-_SHOWN:].strip()}"] if outcome.printed.strip() else []
        return replace(mark, words=(*mark.words, *shown))

    def run(self, path: Path, source: bytes, folder: Path) -> handed_in.Outcome:
        """What comes of a program, behind the fence."""
        at, problem = self.problem.described, self.problem
        fence = problem.fence(self.hidden, self.walls)
        x64 = at.dtype == "float64"
        return handed_in.run(
            Path(path.name), source, problem.function, problem.arguments, folder, problem.seconds, x64, fence
        )

    def _mark_outcome(self, outcome: handed_in.Outcome) -> Mark:
        problem = self.problem
        if outcome.tried:
            return nothing(problem, "forbidden", *(f"it tried to {what}" for what in outcome.tried))
        if outcome.failed:
            return nothing(problem, _STATUS.get(outcome.how, "unreadable"), f"the program {outcome.failed}")
        if outcome.defines is not None:
            defines = ", ".join(outcome.defines) or "no function"
            return nothing(problem, "unreadable", f"the program has no function {problem.function}; it has {defines}")
        assert outcome.arrays is not None
        try:
            most = max(problem.described.most_handed_in({}).values())
            arrays = read_arrays(outcome.arrays, lambda shapes: dict.fromkeys(shapes, most))
            return marked(problem, named(handed_in.decoded(outcome.result, arrays)))
        except _UNREADABLE as error:
            message = _without(str(error), outcome.arrays)
            return nothing(problem, "unreadable", f"what the program returned cannot be read: {message}")


def probed(grader: Grader) -> tuple[Grader, tuple[str, ...]]:
    """The grader with the walls that this system has, and what it lacks, in words: found out with a small program."""
    lacking: tuple[str, ...] = ()
    for walls in (True, False):
        grader = replace(grader, walls=walls)
        with tempfile.TemporaryDirectory() as name:
            source = _PROBE % grader.problem.function.encode()
            outcome = grader.run(Path("probe.py"), source, Path(name).resolve())
        lacking = (*lacking, *outcome.lacking)
        if not outcome.failed and not outcome.tried:
            return grader, tuple(dict.fromkeys(lacking))
        lacking = (*lacking, f"with walls a program that only imports numpy {outcome.failed}")
    raise ValueError(f"Python files cannot be run on this system: {lacking[-1]}")


def graded_all(
    path: Path, grader: Grader, submissions: list[Submission], workers: int, done: Callable[[], Any]
) -> Iterator[Graded]:
    """Every submission with its mark, as they are done.

    Args:
        path: The problem's file, which each worker reads for itself.
        grader: The grader, for this process.
        submissions: What to grade.
        workers: How many processes grade at the same time; with one it is this one.
        done: Called after each.
    """
    if workers == 1:
        for submission in submissions:
            yield grader.graded(submission)
            done()
        return
    work = partial(_graded, path, grader.hidden, grader.walls)
    left = deque(submissions)
    while left:
        running: dict[Future[Graded], Submission] = {}
        with _workers(workers) as pool, contextlib.suppress(BrokenProcessPool):
            while left or running:
                while left and len(running) < workers:
                    running[pool.submit(work, left[0])] = left[0]
                    left.popleft()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield future.result()
                    done()
                    del running[future]
        for suspect in running.values():  # a worker has died, of one of these
            yield _alone(grader, work, suspect)
            done()


def _alone(grader: Grader, work: Callable[[Submission], Graded], submission: Submission) -> Graded:
    with _workers(1) as pool:
        try:
            return pool.submit(work, submission).result()
        except BrokenProcessPool:
            return Graded(submission, nothing(grader.problem, "ungraded", "the grader's process died of it"))


@contextlib.contextmanager
def _workers(count: int) -> Generator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(count, get_context("spawn"))
    before = {name: os.environ.get(name) for name in handed_in.ONE_THREAD}
    os.environ.update(handed_in.ONE_THREAD)  # which they take over as they begin
    try:
        yield pool
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        pool.shutdown(cancel_futures=True)


@lru_cache(1)
def _grader(path: Path, hidden: tuple[Path, ...], walls: bool) -> Grader:
    """In a worker, the grader: a description cannot be sent to it, and is read once."""
    return Grader(read_problem(path), hidden, walls)


def _graded(path: Path, hidden: tuple[Path, ...], walls: bool, submission: Submission) -> Graded:
    return _grader(path, hidden, walls).graded(submission)


def default_workers(submissions: int) -> int:
    """As many as there are processors, but for a few submissions one: each takes seconds to begin."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(processors, submissions // 10))


def _without(message: str, path: Path) -> str:
    """A message for a student, who needs not know where the teacher keeps the files."""
    return message.replace(str(path), path.name)
