"""What is more than layers, a convolutional network and a transformer block, against `jax.value_and_grad`."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.table import Table

import jaxbp
from experiments.convolution import network
from experiments.timing import alternate, in_words, quartiles
from jaxbp import train

OPTIMIZER = optax.sgd(0.1)
BATCH = 128


@dataclass(frozen=True)
class Graph:
    """A network in float32 with examples for it."""

    net: jaxbp.Network
    params: jaxbp.Params
    x: jax.Array
    y: jax.Array

    @property
    def gradients(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """The explicit one, and that of `jax.value_and_grad`."""
        loss = jaxbp.cross_entropy
        return jaxbp.value_and_grad(self.net, loss), jax.value_and_grad(jaxbp.objective(self.net, loss))


def graph(net: jaxbp.Network, examples: int) -> Graph:
    """Random parameters and random data."""
    of_params, of_x, of_y = jax.random.split(jax.random.key(0), 3)
    [(name, _)] = net.inputs.items()
    x = jax.random.normal(of_x, (examples, *net.shapes[name]), jnp.float32)
    *rows, classes = net.shapes[net.output]
    y = jax.random.randint(of_y, (examples, *rows), 0, classes)
    return Graph(net, jaxbp.init_params(of_params, net, jnp.float32), x, y)


def transformer_block(rows: int, width: int, heads: int, classes: int) -> jaxbp.Network:
    """Attention and two dense layers, each after layer normalisation and beside a connection that skips it."""

    def dense(source: str, activation: jaxbp.Activation = jaxbp.linear, n: int = width) -> jaxbp.Unit:
        return jaxbp.Unit((rows, n), activation, {source: jaxbp.Dense()})

    def residual(source: str, skipped: str) -> jaxbp.Unit:
        return jaxbp.Unit((rows, width), jaxbp.linear, {source: jaxbp.Dense(), skipped: jaxbp.Identity()})

    def normalised(source: str) -> jaxbp.Unit:
        return jaxbp.Unit((rows, width), jaxbp.layer_norm, {source: jaxbp.Identity()}, bias=False)

    def gained(source: str) -> jaxbp.Unit:
        return jaxbp.Unit((rows, width), jaxbp.linear, {source: jaxbp.Scale()})

    units = {
        "norm1": normalised("x"),
        "gain1": gained("norm1"),
        **{name: dense("gain1") for name in ("query", "key", "value")},
        "attention": jaxbp.attention("query", "key", "value", (rows, width), heads=heads, causal=True),
        "sum1": residual("attention", "x"),
        "norm2": normalised("sum1"),
        "gain2": gained("norm2"),
        "wide": dense("gain2", jaxbp.gelu, 4 * width),
        "sum2": residual("wide", "sum1"),
        "o": dense("sum2", jaxbp.softmax, classes),
    }
    return jaxbp.Network(inputs={"x": (rows, width)}, units=units)


def graph_tables(rounds: int, epoch_rounds: int, examples: int) -> list[Table]:
    """The gradients of both, and an epoch of the convolutional one."""
    convolutional = network(28, 10)
    graphs = {
        f"convolutional, 28 × 28, batch {BATCH}": graph(convolutional, BATCH),
        "transformer block, 128 rows of 256, batch 8": graph(transformer_block(128, 256, 8, 256), 8),
    }
    return [gradient_table(graphs, rounds), epoch_table(graph(convolutional, examples), epoch_rounds)]


def gradient_table(graphs: dict[str, Graph], rounds: int) -> Table:
    """The jitted explicit gradient over that of `jax.value_and_grad`."""
    table = Table(title="explicit gradient / jax.value_and_grad", title_justify="left")
    for column in ("network", "milliseconds", "time", "temporary memory"):
        table.add_column(column, justify="right")
    for name, of in graphs.items():
        arguments = (of.params, of.x, of.y)
        compiled = [jax.jit(f).lower(*arguments).compile() for f in of.gradients]
        ours, _, ratio = alternate([partial(run, *arguments) for run in compiled], rounds)
        ours_bytes, their_bytes = (run.memory_analysis().temp_size_in_bytes for run in compiled)
        memory = f"{ours_bytes / their_bytes:.3f} ({ours_bytes / 2**20:.1f} MiB)"
        table.add_row(name, f"{1e3 * ours[1]:.1f}", in_words(ratio), memory)
    return table


def epoch_table(of: Graph, rounds: int) -> Table:
    """Seconds for an epoch of `train.epoch`, and how many times longer it takes with `jax.grad`."""
    explicit, auto = of.gradients
    runs = [scanned(of, explicit), looped(of, auto), scanned(of, auto)]
    times = np.empty((rounds + 1, len(runs)))
    for row in times:
        for i, run in enumerate(runs):
            start = time.perf_counter()
            run()
            row[i] = time.perf_counter() - start
    times = times[1:]  # the first one compiles
    table = Table(title=f"an epoch of {len(of.y)} examples, convolutional, batch {BATCH}", title_justify="left")
    for column in ("jaxbp, s", "jitted jax.grad in a loop", "train.epoch with jax.grad"):
        table.add_column(column, justify="right")
    ratios = (in_words(quartiles(times[:, i] / times[:, 0])) for i in (1, 2))
    table.add_row(f"{np.median(times[:, 0]):.2f}", *ratios)
    return table


def scanned(of: Graph, gradient: Callable[..., Any]) -> Callable[[], None]:
    """`train.epoch`."""
    state = train.init_state(jax.random.key(0), of.net, OPTIMIZER, params=of.params)

    def run() -> None:
        nonlocal state
        state, _ = train.epoch(state, of.x, of.y, gradient=gradient, optimizer=OPTIMIZER, batch_size=BATCH)
        jax.block_until_ready(state)

    return run


def looped(of: Graph, gradient: Callable[..., Any]) -> Callable[[], None]:
    """A jitted step, called in a Python loop."""
    state = train.init_state(jax.random.key(0), of.net, OPTIMIZER, params=of.params)
    rng = np.random.default_rng(0)

    @jax.jit
    def step(state: train.TrainState, rows: jax.Array) -> train.TrainState:
        return train.step(state, of.x[rows], of.y[rows], gradient=gradient, optimizer=OPTIMIZER)[0]

    def run() -> None:
        nonlocal state
        for rows in rng.permutation(len(of.y))[: len(of.y) // BATCH * BATCH].reshape(-1, BATCH):
            state = step(state, rows)
        jax.block_until_ready(state)

    return run
