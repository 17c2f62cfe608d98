"""Measure speed side by side in one run: alternating, medians of the ratio with their spread.

    python -m experiments.benchmark
    python -m experiments.benchmark gradient --rounds 9
    python -m experiments.benchmark language --text PATH/TO/TEXT.txt

All of it takes long; its parts are

* `gradient`: the explicit gradient against jax.value_and_grad
* `matmul`: its share of the machine's matrix-product rate
* `epochs`: an epoch against the usual training loops
* `graphs`: a convolutional network and a transformer block
* `check`: a whole report on a hand gradient, and on custom rules
* `collectors`: the collectors against the plain gradient, vmap(jax.grad) and their peers
* `sequences`: norms and clipped gradients of sequences against the same
* `stacks`: stacks of equal blocks against jax.grad of a plain scan
* `training`: what data from elsewhere, checkpoints and meshes cost a run
* `kfac`: a step of K-FAC over the gradient and over kfac-jax's, of MNIST with `--data-dir`
* `language`: a GPT of characters against the same in torch

A table is printed when it is measured, so that Ctrl-C leaves those that are done.
"""

import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from rich.table import Table
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

import jaxbp
from jaxbp import train
from jaxbp.experiments.benchmarks.collectors import collector_tables, problem
from jaxbp.experiments.benchmarks.gpt_in_torch import language_table
from jaxbp.experiments.benchmarks.graphs import eager, graph_tables
from jaxbp.experiments.benchmarks.kfac_steps import steps_tables
from jaxbp.experiments.benchmarks.rules import rules_table
from jaxbp.experiments.benchmarks.sequences import sequence_tables
from jaxbp.experiments.benchmarks.stacks import stack_tables
from jaxbp.experiments.benchmarks.timing import TimedTable, alternate, each_row, in_words, quartiles, seconds
from jaxbp.experiments.benchmarks.training import training_tables
from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.progress import progress

GRADIENTS = {
    "784-128-10": ([784, 128, 10], 128),
    "784-512-512-10": ([784, 512, 512, 10], 128),
    "34 layers of 64": ([64] * 35, 128),
    "7 layers of 1024": ([1024] * 8, 256),
}
EPOCHS = {
    "784-30-10, batch 10": ([784, 30, 10], 10),
    "784-128-10, batch 128": ([784, 128, 10], 128),
    "784-512-512-10, batch 128": ([784, 512, 512, 10], 128),
}
CHECKS = {
    "784-128-10, batch 32": ([784, 128, 10], 32),
    "5 layers of 512, batch 64": ([512] * 6, 64),
}
LEARNING_RATE = 0.1


Part = Literal[
    "gradient",
    "matmul",
    "epochs",
    "graphs",
    "check",
    "collectors",
    "sequences",
    "stacks",
    "training",
    "kfac",
    "language",
]
ROWS: dict[Part, int] = {
    "gradient": len(GRADIENTS), "matmul": 1, "epochs": len(EPOCHS), "graphs": 3, "check": 9, "collectors": 24,
    "sequences": 18, "stacks": 10, "training": 8, "kfac": 2, "language": 2,
}  # fmt: skip
"""Of the tables of each part, so that the time left can be guessed."""


@dataclass(frozen=True)
class Benchmark:
    """Measure speed, side by side in one run."""

    what: tyro.conf.Positional[Annotated[Literal["all"] | Part, tyro.conf.arg(metavar="PART")]] = "all"
    """The part to measure."""
    rounds: int = 31
    """How often each pair is measured."""
    epoch_rounds: int = 5
    """How often each epoch is measured."""
    examples: int = 60_000
    """Of the random data an epoch goes through; 60 000 is MNIST's size."""
    data_dir: Path | None = None
    """The folder of MNIST's four IDX files for K-FAC; digits of 64 pixels when none is given."""
    steps: int = 2000
    """Of the language model."""
    text: Path | None = None
    """What it learns; Python's standard library when not given."""


def main(config: Benchmark) -> None:
    """Measure what is asked for and print a table for each, as soon as it is measured.

    Raises:
        KeyboardInterrupt: Ctrl-C; the message says how far it came.
    """
    console = terminal()
    console.print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}; quartiles in brackets")
    parts = [part for part in ROWS if config.what in ("all", part)]
    total, done = sum(ROWS[part] for part in parts), 0
    with progress("starting", total, lines=True) as step:

        def one_more() -> None:
            nonlocal done
            done += 1
            step(1)

        try:
            for part in parts:
                step(what=f"measuring {part}")
                with each_row(one_more):
                    for table in tables(part, config):
                        with step.aside():
                            console.print(table)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"by Ctrl-C after {done} of {total} rows; the tables above are whole") from None


def tables(part: Part, config: Benchmark) -> Iterator[Table]:
    """The tables of a part, as they are measured."""
    rounds, epoch_rounds, examples = config.rounds, config.epoch_rounds, config.examples
    match part:
        case "gradient":
            yield gradient_table(rounds)
        case "matmul":
            yield matmul_table(rounds)
        case "epochs":
            yield epoch_table(epoch_rounds, examples)
        case "graphs":
            yield from graph_tables(rounds, epoch_rounds, examples // 10)
        case "check":
            yield check_table(epoch_rounds)
            yield rules_table()
        case "collectors":
            yield from collector_tables(rounds)
        case "sequences":
            yield from sequence_tables(rounds)
        case "stacks":
            yield from stack_tables(rounds)
        case "training":
            yield from training_tables(epoch_rounds, examples)
        case "kfac":
            yield from steps_tables(config.data_dir, epoch_rounds)
        case "language":
            yield language_table(config.text, config.steps)


def gradient_table(rounds: int) -> Table:
    """The jitted explicit gradient over the jitted `jax.value_and_grad` of the same objective."""
    table = TimedTable(title="explicit gradient / jax.value_and_grad", title_justify="left")
    for column in ("network, batch", "milliseconds", "time", "lower + compile time", "temporary memory"):
        table.add_column(column, justify="right")
    for name, (widths, batch) in GRADIENTS.items():
        table.add_row(f"{name}, {batch}", *gradient_row(widths, batch, rounds))
    return table


def gradient_row(widths: list[int], batch: int, rounds: int) -> list[str]:
    """Run time, compile time and memory of one network."""
    explicit, auto, arguments = gradients(widths, batch)
    lowered = [jax.jit(f).lower(*arguments) for f in (explicit, auto)]
    compiled = [low.compile() for low in lowered]
    ours, _, ratio = alternate([partial(run, *arguments) for run in compiled], rounds)
    memory = [run.memory_analysis().temp_size_in_bytes for run in compiled]
    compile_ratio = alternate([partial(compile_afresh, f, arguments) for f in (explicit, auto)], rounds)[2]
    return [
        f"{1e3 * ours[1]:.2f}",
        in_words(ratio),
        in_words(compile_ratio),
        f"{memory[0] / memory[1]:.3f} ({memory[0] / 2**20:.2f} MiB)",
    ]


def matmul_table(rounds: int) -> Table:
    """The rate of the whole gradient at 1024 wide, as a share of the best rate a plain matrix product reaches."""
    widths, batch = [1024] * 8, 1024
    explicit, _, arguments = gradients(widths, batch)
    step = jax.jit(explicit)
    a, b = (jnp.ones((2048, 2048), jnp.float32) for _ in range(2))
    product = jax.jit(jnp.matmul)
    ours, theirs, _ = alternate([lambda: step(*arguments), lambda: product(a, b)], rounds)
    # forward, pull back and contract: three products for each matrix, two for the first, whose Δ nobody reads
    flops = sum(2 * batch * s * u * (2 if i == 0 else 3) for i, (s, u) in enumerate(pairwise(widths)))
    rate, best = flops / ours[1] / 1e9, 2 * 2048**3 / theirs[0] / 1e9
    table = TimedTable(title="share of the machine's matrix-product rate", title_justify="left")
    for column in ("network, batch", "GFLOP/s", "matrix product, GFLOP/s", "share"):
        table.add_column(column, justify="right")
    table.add_row(f"7 layers of 1024, {batch}", f"{rate:.0f}", f"{best:.0f}", f"{rate / best:.2f}")
    return table


def epoch_table(rounds: int, examples: int) -> Table:
    """Seconds for an epoch of `train.epoch`, and the time of the usual loops over it."""
    table = TimedTable(title=f"seconds for an epoch of {examples} examples, and how many times longer others take")
    for column in ("network", "jaxbp, s", "jitted jax.grad in a loop", "torch eager", "scikit-learn"):
        table.add_column(column, justify="right")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(examples, 784)).astype(np.float32)
    y = rng.integers(0, 10, size=examples).astype(np.int32)
    for name, (widths, batch) in EPOCHS.items():
        loops = {"jaxbp": scanned_epoch, "loop": looped_epoch, "torch": torch_epoch, "sklearn": sklearn_epoch}
        runs = {key: make(widths, batch, x, y) for key, make in loops.items()}
        ready = {key: run for key, run in runs.items() if run is not None}
        times: dict[str, list[float]] = {key: [] for key in ready}
        for round_ in range(rounds + 1):
            for key, run in ready.items():
                start = time.perf_counter()
                run()
                if round_:  # the first one compiles
                    times[key].append(time.perf_counter() - start)
        cells = [
            in_words(quartiles(np.divide(times[key], times["jaxbp"]))) if key in times else "not installed"
            for key in ("loop", "torch", "sklearn")
        ]
        table.add_row(name, f"{np.median(times['jaxbp']):.3f}", *cells)
    return table


def check_table(rounds: int) -> Table:
    """Seconds for a whole report after the first, on gradients that are right, and wrong in several ways."""
    table = TimedTable(title="jaxbp.check: median seconds for a report, after the first", title_justify="left")
    for column in ("network", "the first", "right", "Φ' missing", "and a bias missing", "noise"):
        table.add_column(column, justify="right")
    for name, (widths, batch) in CHECKS.items():
        net = jaxbp.layered(widths, hidden=jaxbp.tanh, output=jaxbp.softmax)
        params = jaxbp.init_params(jax.random.key(0), net)
        x = jax.random.normal(jax.random.key(1), (batch, widths[0]))
        y = jax.random.randint(jax.random.key(2), (batch,), 0, widths[-1])
        report = partial(jaxbp.check, net, jaxbp.cross_entropy, params, x, y)
        gradients_of_kind = hand_gradients(net, params, x, y)
        first = seconds(lambda report=report, mine=gradients_of_kind[0]: report(mine))
        times = [np.median([seconds(partial(report, mine)) for _ in range(rounds)]) for mine in gradients_of_kind]
        table.add_row(name, *(f"{time:.2f}" for time in (first, *times)))
    return table


def hand_gradients(net: jaxbp.Network, params: Any, x: Any, y: Any) -> list[Any]:
    """A right gradient; one without Φ' at h1; that without the output's bias too; and one with noise."""
    back = jaxbp.backprop(net, jaxbp.cross_entropy, params, x, y)
    Delta, rng = back.Delta["h1"], np.random.default_rng(0)
    without_slope = back.grads | {"h1": {"x": x.T @ Delta, "bias": jnp.sum(Delta, axis=0)}}
    output = back.grads[net.output]
    without_bias = without_slope | {net.output: output | {"bias": jnp.zeros_like(output["bias"])}}
    noisy = jax.tree.map(lambda W: W * rng.uniform(0.9, 1.1, W.shape), back.grads)
    return [back.grads, without_slope, without_bias, noisy]


def gradients(widths: list[int], batch: int) -> tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...]]:
    """The explicit and the automatic gradient of a layered network, with arguments for them."""
    of, loss = problem(widths, batch), jaxbp.cross_entropy
    return (
        jaxbp.value_and_grad(of.net, loss),
        jax.value_and_grad(jaxbp.objective(of.net, loss)),
        (of.params, of.x, of.y),
    )


def compile_afresh(f: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Trace, lower and compile, with nothing cached."""
    jax.clear_caches()
    jax.jit(f).lower(*arguments).compile()


def scanned_epoch(widths: list[int], batch: int, x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
    """`train.epoch` with the explicit gradient."""
    net, optimizer = jaxbp.layered(widths, hidden=jaxbp.relu, output=jaxbp.softmax), optax.sgd(LEARNING_RATE)
    state = train.init_state(jax.random.key(0), net, optimizer, dtype=jnp.float32)
    gradient = jaxbp.value_and_grad(net, jaxbp.cross_entropy)
    x_device, y_device = jnp.asarray(x), jnp.asarray(y)

    def run() -> None:
        nonlocal state
        state, _ = train.epoch(state, x_device, y_device, gradient=gradient, optimizer=optimizer, batch_size=batch)
        jax.block_until_ready(state)

    return run


def looped_epoch(widths: list[int], batch: int, x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
    """A jitted step of `jax.value_and_grad`, called in a Python loop."""
    net, optimizer = jaxbp.layered(widths, hidden=jaxbp.relu, output=jaxbp.softmax), optax.sgd(LEARNING_RATE)
    params = jaxbp.init_params(jax.random.key(0), net, jnp.float32)
    opt_state = optimizer.init(params)
    gradient = jax.value_and_grad(jaxbp.objective(net, jaxbp.cross_entropy))
    x_device, y_device = jnp.asarray(x), jnp.asarray(y)
    rng = np.random.default_rng(0)

    @jax.jit
    def step(params: Any, opt_state: Any, x: Any, y: Any, rows: Any) -> tuple[Any, Any, Any]:
        loss, grads = gradient(params, x[rows], y[rows])
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    def run() -> None:
        nonlocal params, opt_state
        order = rng.permutation(len(y))
        for start in range(0, len(y), batch):
            params, opt_state, _ = step(params, opt_state, x_device, y_device, order[start : start + batch])
        jax.block_until_ready(params)

    return run


def torch_epoch(widths: list[int], batch: int, x: np.ndarray, y: np.ndarray) -> Callable[[], None] | None:
    """The same in torch, eager, on as many threads; None where torch is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    layers: list[Any] = []
    for s, u in pairwise(widths):
        layers += [torch.nn.Linear(s, u), torch.nn.ReLU()]
    return eager(torch.nn.Sequential(*layers[:-1]), x, y, batch, LEARNING_RATE)


def sklearn_epoch(widths: list[int], batch: int, x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
    """The same by scikit-learn's `MLPClassifier`."""
    model = MLPClassifier(
        widths[1:-1],
        solver="sgd",
        alpha=0.0,
        momentum=0.0,
        batch_size=batch,
        learning_rate_init=LEARNING_RATE,
        max_iter=1,
        warm_start=True,
        random_state=0,
    )

    def run() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # one epoch at a time is what we want
            model.fit(x, y)

    return run


if __name__ == "__main__":
    command_line(main, Benchmark, succeeded=lambda result: True)
