"""What training adds to its steps: data from elsewhere, checkpoints, the division of the work, and fused updates."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.table import Table

import jaxbp
from jaxbp import train
from jaxbp.experiments.benchmarks.fused import fused_table
from jaxbp.experiments.benchmarks.timing import TimedTable, in_words, paired

NET, BATCH = jaxbp.layered([784, 128, 10], hidden=jaxbp.relu, output=jaxbp.softmax), 128
LOSS, OPTIMIZER = jaxbp.cross_entropy, optax.sgd(0.1, momentum=0.9)
GRADIENT = jaxbp.value_and_grad(NET, LOSS)
EVERY = 500  # steps between checkpoints
DEVICES = 4


def training_tables(rounds: int, examples: int) -> Iterator[Table]:
    """Epochs from elsewhere than the device, with checkpoints, the work of one of four devices, and fused updates."""
    x, y = random_data(examples)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name, values in (("x", x), ("y", y)):
            np.save(folder / f"{name}.npy", values)
        mapped = tuple(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("x", "y"))
        kept = train.Checkpoints(folder / "checkpoints", every=EVERY)
        runs = {
            "train.run, data on the device": epochs(x, y),
            "the same, a checkpoint every 500 steps": epochs(x, y, checkpoints=kept),
            "from memory, 50 batches at a time": epochs(x, y, chunk=50),
            "from .npy files, 50 batches at a time": epochs(*mapped),
        }
        table = TimedTable(title=f"epochs of 784-128-10, {examples} examples, batches of 128", title_justify="left")
        for column in ("", "against", "CPU time", "time", "seconds"):
            table.add_column(column, justify="right" if column else "left")
        scan, resident = scanned(x, y), epochs(x, y)
        for name, run in runs.items():
            first = name.startswith("the same")
            against, other = ("without", partial(several, resident)) if first else ("train.epoch", scan)
            cpu, wall, seconds = paired(partial(several, run) if first else run, other, rounds)
            table.add_row(name, against, in_words(cpu), in_words(wall), f"{seconds:.2f}")
        yield table
    yield divided_table()
    yield fused_table(rounds)


def random_data(examples: int) -> tuple[np.ndarray, np.ndarray]:
    """As many rows of 784 numbers, of ten classes."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(examples, 784)).astype(np.float32), rng.integers(0, 10, examples).astype(np.int32)


def several(epoch: Callable[[], Any]) -> None:
    """Some epochs, in each of which there are fewer steps than between two checkpoints."""
    for _ in range(4):
        epoch()


def started() -> train.TrainState:
    """A fresh state in float32."""
    return train.init_state(jax.random.key(0), NET, OPTIMIZER, dtype=jnp.float32)


def epochs(x: Any, y: Any, **options: Any) -> Callable[[], Any]:
    """An epoch of `train.run` at each call."""
    running = train.run(
        NET, LOSS, x, y, optimizer=OPTIMIZER, batch_size=BATCH, gradient=GRADIENT, state=started(), **options
    )
    return lambda: next(running).state.params


def scanned(x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """An epoch of `train.epoch` at each call, which is one scan over data on the device."""
    state, x_device, y_device = started(), jnp.asarray(x), jnp.asarray(y)

    def run() -> Any:
        nonlocal state
        state, _ = train.epoch(state, x_device, y_device, gradient=GRADIENT, optimizer=OPTIMIZER, batch_size=BATCH)
        return state.params

    return run


def divided_table() -> Table:
    """The flops of one device's program where four divide each batch, counted in a process that has four."""
    table = TimedTable(title="flops of a step as one device has it", title_justify="left")
    for column in ("devices", "of all that one device does"):
        table.add_column(column, justify="right")
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(DEVICES), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "jaxbp.experiments.benchmarks.training"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    table.add_row(str(DEVICES), f"{float(said.split()[-1]):.3f}")
    return table


def flops(mesh: jax.sharding.Mesh | None) -> float:
    """The flops of a step, as one device of the mesh has it."""
    step = jax.jit(partial(train.step, gradient=GRADIENT, optimizer=OPTIMIZER, mesh=mesh))
    return step.lower(started(), *map(jnp.asarray, random_data(BATCH))).compile().cost_analysis()["flops"]


if __name__ == "__main__":
    four = jax.make_mesh((DEVICES,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    print(flops(four) / flops(None))
