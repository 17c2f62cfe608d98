"""What is more than layers, a convolutional network and a transformer block, against `jax.value_and_grad`."""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.table import Table

import jaxbp
from jaxbp import train
from jaxbp.experiments.benchmarks.timing import TimedTable, alternate, in_words, quartiles, seconds
from jaxbp.experiments.claims.convolution import CHANNELS, network

LEARNING_RATE = 0.1
OPTIMIZER = optax.sgd(LEARNING_RATE)
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
    return transformer_blocks(1, rows, width, heads, classes)


def transformer_blocks(depth: int, rows: int, width: int, heads: int, classes: int) -> jaxbp.Network:
    """The same, several times after each other, written out."""

    def dense(source: str, activation: jaxbp.activations.Activation = jaxbp.linear, n: int = width) -> jaxbp.Unit:
        return jaxbp.Unit((rows, n), activation, {source: jaxbp.Dense()})

    def residual(source: str, skipped: str) -> jaxbp.Unit:
        return jaxbp.Unit((rows, width), jaxbp.linear, {source: jaxbp.Dense(), skipped: jaxbp.Identity()})

    def normalised(source: str) -> jaxbp.Unit:
        return jaxbp.Unit((rows, width), jaxbp.layer_norm, {source: jaxbp.Identity()}, bias=False)

    def gained(source: str) -> jaxbp.Unit:
        return jaxbp.Unit((rows, width), jaxbp.linear, {source: jaxbp.Scale()})

    def block(source: str, end: str) -> dict[str, Any]:
        query, key, value = (f"{name}{end}" for name in ("query", "key", "value"))
        return {
            f"norm1{end}": normalised(source),
            f"gain1{end}": gained(f"norm1{end}"),
            **{name: dense(f"gain1{end}") for name in (query, key, value)},
            f"attention{end}": jaxbp.attention(query, key, value, (rows, width), heads=heads, causal=True),
            f"sum1{end}": residual(f"attention{end}", source),
            f"norm2{end}": normalised(f"sum1{end}"),
            f"gain2{end}": gained(f"norm2{end}"),
            f"wide{end}": dense(f"gain2{end}", jaxbp.gelu, 4 * width),
            f"sum2{end}": residual(f"wide{end}", f"sum1{end}"),
        }

    units: dict[str, Any] = {}
    carried = "x"
    for layer in range(depth):
        end = "" if depth == 1 else f"_{layer + 1}"
        units |= block(carried, end)
        carried = f"sum2{end}"
    units["o"] = dense(carried, jaxbp.softmax, classes)
    return jaxbp.Network(inputs={"x": (rows, width)}, units=units)


def graph_tables(rounds: int, epoch_rounds: int, examples: int) -> Iterator[Table]:
    """The gradients of both, and an epoch of the convolutional one."""
    convolutional = network(28, 10)
    graphs = {
        f"convolutional, 28 × 28, batch {BATCH}": graph(convolutional, BATCH),
        "transformer block, 128 rows of 256, batch 8": graph(transformer_block(128, 256, 8, 256), 8),
    }
    yield gradient_table(graphs, rounds)
    yield epoch_table(graph(convolutional, examples), epoch_rounds)


def gradient_table(graphs: dict[str, Graph], rounds: int) -> Table:
    """The jitted explicit gradient over that of `jax.value_and_grad`."""
    table = TimedTable(title="explicit gradient / jax.value_and_grad", title_justify="left")
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
    """Seconds for an epoch of `train.epoch`, and how many times longer others take."""
    explicit, auto = of.gradients
    ours = scanned(of, explicit)
    others = {
        "jitted jax.grad in a loop": looped(of, auto),
        "train.epoch with jax.grad": scanned(of, auto),
        "torch eager": torch_looped(of),
    }
    runs = [ours, *(run for run in others.values() if run)]
    times = np.array([[seconds(run) for run in runs] for _ in range(rounds + 1)])[1:]  # the first round compiles
    ratios = iter(times[:, 1:].T / times[:, 0])
    table = TimedTable(title=f"an epoch of {len(of.y)} examples, convolutional, batch {BATCH}", title_justify="left")
    table.add_column("jaxbp, s", justify="right")
    for column in others:
        table.add_column(column, justify="right")
    cells = (in_words(quartiles(next(ratios))) if run else "not installed" for run in others.values())
    table.add_row(f"{np.median(times[:, 0]):.2f}", *cells)
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


def torch_looped(of: Graph) -> Callable[[], None] | None:
    """The same in torch, eager, on as many threads; None where torch is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    from torch import nn

    first, second = CHANNELS
    model = nn.Sequential(
        *(nn.Conv2d(1, first, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(first, second, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(7 * 7 * second, 64), nn.ReLU(), nn.Linear(64, 10)),
    )
    # torch has channels first
    return eager(model, np.array(of.x).transpose(0, 3, 1, 2).copy(), np.array(of.y), BATCH, LEARNING_RATE)


def eager(model: Any, x: np.ndarray, y: np.ndarray, batch: int, learning_rate: float) -> Callable[[], None]:
    """An epoch of a torch module on class ids, step by step."""
    import torch

    criterion, optimizer = torch.nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=learning_rate)
    x_torch, y_torch = torch.from_numpy(x), torch.from_numpy(y.astype(np.int64))

    def run() -> None:
        order = torch.randperm(len(y_torch))
        for start in range(0, len(y_torch), batch):
            rows = order[start : start + batch]
            optimizer.zero_grad()
            criterion(model(x_torch[rows]), y_torch[rows]).backward()
            optimizer.step()

    return run
