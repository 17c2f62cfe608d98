"""A step of K-FAC over the plain gradient and over kfac-jax's, on the networks of `second_order`.

Set `OPENBLAS_NUM_THREADS=1` for it: threads of LAPACK that wait count as CPU time, several times that of the inverses.
"""

import importlib.util
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

import jaxbp
from jaxbp import train
from jaxbp.experiments.benchmarks.second_order_problems import Name, Problem, problem_of

NETWORKS: dict[Name, tuple[int, ...]] = {"autoencoder": (512, 2048), "classifier": (512, 2048)}
PERIOD = 20  # steps, of which one makes the inverses
SETTINGS: dict[str, dict[str, Any]] = {
    "all": {},  # factors and model of the whole batch in each step, as kfac-jax has them
    "an eighth, a quarter": {"factors_of": 8, "model_of": 4},  # as Martens and Grosse have them
    "an eighth": {"factors_of": 8, "model_of": 8},
}


def steps_tables(data_dir: Path | None, rounds: int) -> Iterator[Table]:
    """One table for each network, as soon as it is measured."""
    for name, sizes in NETWORKS.items():
        yield steps_table(name, sizes, problem_of(name, data_dir), rounds)


def steps_table(name: str, sizes: tuple[int, ...], problem: Problem, rounds: int) -> Table:
    """The CPU time of a step, the mean over those between two inverses, over that of the gradient and of kfac-jax's."""
    title = f"{name}: CPU time of a step of K-FAC with inverses every {PERIOD}, medians of {rounds}"
    table = Table(title=title, title_justify="left")
    for column in ("examples", "factors and model of", "ms", "over the gradient", "kfac-jax's over it", "ours over it"):
        table.add_column(column, justify="right")
    installed = importlib.util.find_spec("kfac_jax") is not None
    for size in sizes:
        size = min(size, len(problem.x))
        batch = jnp.asarray(problem.x[:size]), jnp.asarray(problem.y[:size])
        for words, settings in SETTINGS.items():
            runs = [gradient_of(problem, batch), ours(problem, batch, settings)]
            compared = installed and not settings
            if compared:
                runs.append(theirs(problem, batch))
            times = in_turn(runs, rounds)
            ratio = np.median(times[:, 1] / times[:, 0])
            of_theirs = ("–", "–") if installed else ("not installed", "–")
            if compared:
                of_theirs = tuple(f"{np.median(times[:, i] / times[:, j]):.2f}" for i, j in ((2, 0), (1, 2)))
            table.add_row(str(size), words, f"{1e3 * np.median(times[:, 1]):.0f}", f"{ratio:.2f}", *of_theirs)
    return table


def in_turn(runs: list[Callable[[], Any]], rounds: int) -> np.ndarray:
    """CPU seconds of a call, a mean over `PERIOD` of them that take turns, `(rounds, runs)`."""
    for run in runs:
        for _ in range(PERIOD + 1):  # compiles all its programs, of which kfac-jax has one for each kind of step
            jax.block_until_ready(run())
    times = np.zeros((rounds, len(runs)))
    for of_round in times:
        for _ in range(PERIOD):
            for i, run in enumerate(runs):
                began = time.process_time()
                jax.block_until_ready(run())
                of_round[i] += (time.process_time() - began) / PERIOD
    return times


def gradient_of(problem: Problem, batch: Any) -> Callable[[], Any]:
    """The value and the gradient, nothing else."""
    gradient = jax.jit(jaxbp.value_and_grad(problem.net, problem.loss))
    return partial(gradient, _params(problem), *batch)


def ours(problem: Problem, batch: Any, settings: dict[str, Any]) -> Callable[[], Any]:
    """A step of ours, which goes on from the one before."""
    optimizer = train.kfac(problem.net, problem.loss, inverses_every=PERIOD, **settings)
    state = train.init_state(jax.random.key(0), problem.net, optimizer, params=_params(problem))
    gradient = jaxbp.value_and_grad(problem.net, problem.loss)
    step = jax.jit(partial(train.step, gradient=gradient, optimizer=optimizer), donate_argnums=0)

    def run() -> Any:
        nonlocal state
        state, loss = step(state, *batch)
        return state, loss

    return run


def theirs(problem: Problem, batch: Any) -> Callable[[], Any]:
    """A step of kfac-jax's with the same settings."""
    from jaxbp.experiments.benchmarks.kfac_jax_peer import optimizer_of

    optimizer, key, params = optimizer_of(problem, 1.0), jax.random.PRNGKey(0), _params(problem)
    state = optimizer.init(params, key, batch)

    def run() -> Any:
        nonlocal state, params
        params, state, seen = optimizer.step(params, state, key, batch=batch)
        return params, state.velocities, seen["loss"]

    return run


def _params(problem: Problem) -> jaxbp.Params:
    return jaxbp.init_params(jax.random.key(0), problem.net, jnp.float32)
