"""Norms and clipped gradients of sequences against the plain gradient and vmap(jax.grad), on two transformer blocks."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
from rich.table import Table

from jaxbp.experiments.benchmarks.collectors import MEASURED, Problem, by_vmap, collected, plain
from jaxbp.experiments.benchmarks.graphs import graph, transformer_blocks
from jaxbp.experiments.benchmarks.timing import FEWEST, TimedTable

WIDTH = 128
HEADS = 4
ROWS = (32, 128, 512)
BATCHES = (8, 64)
WINDOW = 0.2  # seconds of calls that make one measurement
MOST_SECONDS = 60.0  # for all measurements of one size
MOST = {"norms": 1.1, "clipped": 1.2}  # of the plain gradient's time
MOST_MEMORY = 1.2


def sequence_tables(rounds: int) -> Iterator[Table]:
    """One table for each number of rows."""
    for rows in ROWS:
        table = TimedTable(title=f"two transformer blocks of {rows} rows of {WIDTH}, over the plain gradient")
        for column in ("batch", "ms", "", "processor time", "wall time", "memory"):
            table.add_column(column, justify="right")
        for batch in BATCHES:
            add_rows(table, rows, batch, rounds)
        yield table


def add_rows(table: Table, rows: int, batch: int, rounds: int) -> None:
    """What the collectors and vmap(jax.grad) with clipping take for one batch."""
    of_graph = graph(transformer_blocks(2, rows, WIDTH, HEADS, WIDTH), batch)
    of = Problem(of_graph.net, of_graph.params, of_graph.x, of_graph.y)
    makers = {"plain": plain(of), **{key: collected(MEASURED[key], of) for key in MOST}}
    makers["vmap, clipped"] = by_vmap(MEASURED["clipped"], of)
    compiled = {key: jax.jit(make).lower(*of.arguments).compile() for key, make in makers.items()}
    times = in_turn({key: partial(run, *of.arguments) for key, run in compiled.items()}, rounds)
    memory = {key: run.memory_analysis().temp_size_in_bytes for key, run in compiled.items()}
    for key in makers:
        if key == "plain":
            continue
        processor, wall = np.median(times[key] / times["plain"], axis=0)
        most = f" ≤ {MOST[key]}" if key in MOST else ""
        least_memory = f" ≤ {MOST_MEMORY}" if key in MOST else ""
        milliseconds = f"{1e3 * np.median(times['plain'][:, 1]):.1f}" if key == "norms" else ""
        ratio = f"{memory[key] / memory['plain']:.2f}{least_memory}"
        first = str(batch) if key == "norms" else ""
        table.add_row(first, milliseconds, key, f"{processor:.2f}{most}", f"{wall:.2f}", ratio)


def in_turn(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Processor and wall seconds of a call of each, `(rounds, 2)`, measured one after the other and back again."""

    def measured(run: Callable[[], Any], calls: int) -> tuple[float, float]:
        processor, wall = time.process_time(), time.perf_counter()
        for _ in range(calls):
            jax.block_until_ready(run())
        return (time.process_time() - processor) / calls, (time.perf_counter() - wall) / calls

    for run in runs.values():
        jax.block_until_ready(run())
    once = [measured(run, 1)[1] for run in runs.values()]
    calls = max(1, int(WINDOW / max(once)))
    rounds = int(min(rounds, max(FEWEST, MOST_SECONDS / (calls * sum(once)))))
    times: dict[str, list[tuple[float, float]]] = {key: [] for key in runs}
    for n in range(rounds):
        for key in list(runs)[:: 1 if n % 2 else -1]:
            times[key].append(measured(runs[key], calls))
    return {key: np.array(of) for key, of in times.items()}
