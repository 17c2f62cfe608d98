"""Times of functions, measured in turn: medians of the ratio with their spread."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import numpy as np
from rich.table import Table

Timing = tuple[float, float, float]
"""Lower quartile, median and upper quartile."""

WINDOW = 0.05  # seconds of calls that make one measurement
FEWEST = 3  # measurements, of what takes longer than there is time for

_row_is_measured: ContextVar[Callable[[], object]] = ContextVar("_row_is_measured", default=lambda: None)


class TimedTable(Table):
    """A table of what is measured, which can be waited for row by row: each may take a minute."""

    def add_row(self, *cells: Any, **style: Any) -> None:
        """Add a row, and tell whoever waits for it."""
        super().add_row(*cells, **style)
        _row_is_measured.get()()


@contextmanager
def each_row(told: Callable[[], object]) -> Generator[None]:
    """While it is open, `told` is called after each row of a table."""
    before = _row_is_measured.set(told)
    try:
        yield
    finally:
        _row_is_measured.reset(before)


def seconds(run: Callable[[], Any]) -> float:
    """The time of one call."""
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def alternate(
    functions: list[Callable[[], Any]], rounds: int, most_seconds: float = float("inf")
) -> tuple[Timing, Timing, Timing]:
    """The times of two functions, measured in turn, and their ratio pair by pair.

    Args:
        functions: Two of them; their results are waited for.
        rounds: How often the pair is measured.
        most_seconds: After which there are fewer rounds, three at least.

    Returns:
        The seconds of a call of the first, those of the second, and the ratio first / second.
    """
    for f in functions:
        jax.block_until_ready(f())
    once = [seconds(f) for f in functions]
    calls = [max(1, int(WINDOW / s)) for s in once]
    rounds = int(min(rounds, max(FEWEST, most_seconds / sum(max(WINDOW, s) for s in once))))
    times = np.empty((rounds, 2))
    for n, row in enumerate(times):
        for i in (0, 1) if n % 2 else (1, 0):
            start = time.perf_counter()
            for _ in range(calls[i]):
                jax.block_until_ready(functions[i]())
            row[i] = (time.perf_counter() - start) / calls[i]
    return quartiles(times[:, 0]), quartiles(times[:, 1]), quartiles(times[:, 0] / times[:, 1])


def paired(first: Callable[[], Any], second: Callable[[], Any], rounds: int) -> tuple[Timing, Timing, float]:
    """The ratios first / second of CPU time and of wall time, measured in turn, and the first's median seconds."""
    for f in (first, second):
        jax.block_until_ready(f())
    times = np.empty((rounds, 2, 2))
    for n in range(rounds):
        for i in (0, 1) if n % 2 else (1, 0):
            cpu, wall = time.process_time(), time.perf_counter()
            jax.block_until_ready((first, second)[i]())
            times[n, i] = time.process_time() - cpu, time.perf_counter() - wall
    ratios = times[:, 0] / times[:, 1]
    return quartiles(ratios[:, 0]), quartiles(ratios[:, 1]), float(np.median(times[:, 0, 1]))


def quartiles(values: np.ndarray) -> Timing:
    """Lower quartile, median and upper quartile."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(low), float(middle), float(high)


def in_words(timing: Timing) -> str:
    """The median, and the quartiles behind it."""
    low, middle, high = timing
    return f"{middle:.2f} [{low:.2f}–{high:.2f}]"
