"""K-FAC against SGD, Adam and Muon on four networks: the error by steps and by seconds, each tuned over a grid.

    python -m experiments.second_order --data-dir PATH/TO/MNIST
    python -m experiments.second_order --quick
    python -m experiments.second_order --networks autoencoder --seconds 40 --out runs/second_order

The networks are the deep autoencoder of the K-FAC papers, 784-1000-500-250-30-250-500-1000-784 with tanh units around a
linear code and the binary cross-entropy of pixels in [0, 1]; a classifier 784-512-512-10 of relu units; a small
convolutional network; and a GPT of two blocks on windows of 32 characters, with an eighth as many of them in a step.
Without `--data-dir` the images are scikit-learn's digits of 64 pixels, and the networks are narrower.

Each optimizer has a grid of three settings: SGD with momentum 0.9, Adam and Muon (of optax, where installed) of
learning rates, K-FAC and kfac-jax (where installed and where it finds the layers, in the autoencoder and the
classifier) of the damping that it starts from; their learning rate and momentum are those of the quadratic model. Each
training has the same seconds, of CPU time where that is what computes, without compilation and evaluation. The setting
with the least error at the end for the first seed is trained with the other seeds too.

Writes a plot for each network and, to `curves/`, each training, which another run with the same options takes as it is:
so a run that was stopped goes on, and networks can be run one by one. Nothing is decided: seconds are those of this
machine. On CPUs set `OPENBLAS_NUM_THREADS=1`, for the inverses of both K-FACs call LAPACK.
"""

import dataclasses
import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
from rich.console import Console
from rich.table import Table

import jaxbp
from jaxbp import train
from jaxbp.experiments.benchmarks.second_order_curves import Curve, keep, kept, save_plot
from jaxbp.experiments.benchmarks.second_order_problems import Name, Problem, problem_of
from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.options import POSITIVE, check_options, whole

GRID: dict[str, tuple[float, ...]] = {
    "SGD": (0.3, 0.1, 0.03),
    "Adam": (3e-3, 1e-3, 3e-4),
    "Muon": (3e-2, 1e-2, 3e-3),
    "K-FAC": (3.0, 0.3, 0.03),
    "kfac-jax": (3.0, 0.3, 0.03),
}
LOOKS = 25  # evaluations in a training
QUICK: dict[str, Any] = {"seconds": 0.5, "batch_size": 128, "seeds": 1, "settings": 1}


@dataclass(frozen=True)
class SecondOrder:
    """Train four networks with SGD, Adam, Muon and K-FAC, and compare steps and seconds."""

    networks: tuple[Name, ...] = ("autoencoder", "classifier", "convolution", "gpt")
    """Which ones."""
    optimizers: tuple[str, ...] = tuple(GRID)
    """Which ones."""
    seconds: float = 20.0
    """Of each training, after compilation."""
    batch_size: int = 512
    """Examples in a step."""
    seeds: int = 3
    """For starts and batches; the first is the one that settings are compared with."""
    settings: int = 3
    """How many of each grid are tried, from its middle."""
    factors_of: int = 4
    """Of every how many examples K-FAC makes its factors."""
    factors_every: int = 1
    """After how many steps it does."""
    model_of: int = 1
    """Of every how many it makes the curvature of its quadratic model; of too few it is too small, and steps too long.
    """
    data_dir: Path | None = None
    """The folder of MNIST's four IDX files; digits of 64 pixels when none is given."""
    text: Path | None = None
    """What the GPT reads; Python's standard library when not given."""
    quick: bool = False
    """Half a second each, in batches of 128, with one setting and one seed."""
    out: Path = Path("runs/second_order")
    """The folder to write to."""

    def __post_init__(self):
        sizes = {"factors_of": whole(1), "model_of": whole(1), "factors_every": whole(1)}
        check_options(self, seconds=POSITIVE, settings=whole(1, 3), **sizes)
        for name in ("networks", "optimizers"):
            if not getattr(self, name):
                raise ValueError(f"{name} must name at least one, got none")
        if unknown := sorted(set(self.optimizers) - set(GRID)):
            raise ValueError(f"optimizers must be among {', '.join(GRID)}, got {', '.join(unknown)}")

    @property
    def conditions(self) -> dict[str, Any]:
        """What a curve depends on, beside the network, the optimizer, its setting and the seed."""
        names = ("seconds", "batch_size", "factors_of", "factors_every", "model_of", "data_dir", "text")
        return {name: str(getattr(self, name)) for name in names}


def main(config: SecondOrder, console: Console | None = None) -> dict[str, dict[str, list[Curve]]]:
    """Train what is not there yet, print a table for each network, and write its plot."""
    console = console or terminal()
    config = dataclasses.replace(config, **QUICK) if config.quick else config
    found: dict[str, dict[str, list[Curve]]] = {}
    for name in config.networks:
        problem = problem_of(name, config.data_dir, config.text)
        found[name] = {}
        for optimizer in config.optimizers:
            if missing := unavailable(optimizer, name):
                console.print(f"{name}: without {optimizer}, {missing}")
                continue
            found[name][optimizer] = list(tuned(name, problem, optimizer, config, console))
        console.print(table_of(name, found[name], config))
        path = config.out / f"{name}.png"
        save_plot(name, f"test: {problem.measure}", found[name], path)
        console.print(f"Wrote {path}")
    return found


def unavailable(optimizer: str, network: str) -> str | None:
    """Why an optimizer does not train a network here; None where it does."""
    if optimizer == "Muon" and not hasattr(optax.contrib, "muon"):
        return "which this optax has not"
    if optimizer == "kfac-jax":
        if importlib.util.find_spec("kfac_jax") is None:
            return "which is not installed"
        if network not in ("autoencoder", "classifier"):
            return "which is given layered networks alone"
    return None


def tuned(name: str, problem: Problem, optimizer: str, config: SecondOrder, console: Console) -> Iterator[Curve]:
    """The curves of the best setting, one for each seed; what is in files is not trained again."""
    trains: list[Callable[[float, int], Curve]] = []

    def curve_of(setting: float, seed: int) -> Curve:
        path = config.out / "curves" / f"{name}-{optimizer}-{setting:g}-{seed}.json"
        if (before := kept(path, config.conditions)) is not None:
            return before
        if not trains:  # one program serves all
            trains.append(trainer(problem, optimizer, config))
        curve = trains[0](setting, seed)
        console.print(
            f"{name}, {optimizer} {setting:g}, seed {seed}: {curve.last:.4g} after {curve.steps[-1]} steps, "
            f"{curve.seconds[-1]:.0f} s"
        )
        keep(curve, path, config.conditions)
        return curve

    grid = GRID[optimizer]
    middle = len(grid) // 2
    tried = sorted(grid, key=lambda setting: abs(grid.index(setting) - middle))[: config.settings]
    best = min((curve_of(setting, 0) for setting in tried), key=lambda curve: curve.last)
    yield best
    yield from (curve_of(best.setting, seed) for seed in range(1, config.seeds))


def trainer(problem: Problem, name: str, config: SecondOrder) -> Callable[[float, int], Curve]:
    """A function of a setting and a seed that trains, compiled but once."""
    if name == "kfac-jax":
        from jaxbp.experiments.benchmarks.kfac_jax_peer import steps_of

        return lambda setting, seed: watched(problem, name, setting, seed, config, steps_of(problem, setting, seed))
    make: dict[str, Callable[..., optax.GradientTransformation]] = {
        "SGD": lambda learning_rate: optax.sgd(learning_rate, momentum=0.9),
        "Adam": optax.adam,
        "Muon": muon,
    }
    if name == "K-FAC":
        optimizer: optax.GradientTransformation = train.kfac(
            problem.net, problem.loss, factors_of=config.factors_of, factors_every=config.factors_every,
            model_of=config.model_of,
        )  # fmt: skip
    else:
        optimizer = optax.inject_hyperparams(make[name])(learning_rate=0.0)
    gradient = jaxbp.value_and_grad(problem.net, problem.loss)

    @jax.jit
    def step(state: train.TrainState, x: Any, y: Any, weights: Any = None) -> tuple[train.TrainState, jax.Array]:
        return train.step(state, x, y, weights=weights, gradient=gradient, optimizer=optimizer)

    def trained(setting: float, seed: int) -> Curve:
        key = jax.random.key(seed)
        state = train.init_state(key, problem.net, optimizer, params=jaxbp.init_params(key, problem.net, jnp.float32))
        inner = state.opt_state
        if name == "K-FAC":
            inner = inner._replace(damping=jnp.float32(setting))
        else:
            inner = inner._replace(hyperparams=inner.hyperparams | {"learning_rate": jnp.float32(setting)})
        state = state._replace(opt_state=inner)

        def steps(state: train.TrainState) -> Iterator[tuple[Any, jaxbp.Params]]:
            batch = yield jnp.float32(0), state.params
            while True:
                state, loss = step(state, *batch)
                batch = yield loss, state.params

        return watched(problem, name, setting, seed, config, lambda: steps(state))

    return trained


def muon(learning_rate: Any) -> optax.GradientTransformation:
    """Muon of matrices, those of layers and kernels too, and Adam of the rest."""

    def axes(params: Any) -> Any:
        def of(W: jax.Array) -> Any:
            if W.ndim < 2:
                return None
            stacked = W.ndim == 3  # layers first; a kernel has windows and channels before its outputs
            reduced = (1,) if stacked else tuple(range(W.ndim - 1))
            return optax.contrib.MuonDimensionNumbers(reduced, W.ndim - 1)

        return jax.tree.map(of, params)

    return optax.contrib.muon(learning_rate, muon_weight_dimension_numbers=axes)


def watched(
    problem: Problem, name: str, setting: float, seed: int, config: SecondOrder, start: Callable[[], Any]
) -> Curve:
    """A training for the seconds of the configuration, with an evaluation after each of `LOOKS` parts of them.

    Args:
        problem: What is trained.
        name: The optimizer.
        setting: Its setting.
        seed: Of the batches; equal seeds have equal ones, whatever the optimizer.
        config: The seconds, and the size of a batch.
        start: To a generator that is sent batches, and gives the loss and the parameters after each.
    """
    size = min(max(1, config.batch_size // problem.share), len(problem.x))
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    warm = start()
    next(warm)
    for _, batch in zip(range(2), batches(problem, size, seed), strict=False):
        jax.block_until_ready(warm.send(batch))  # compiles
    running = start()
    params = next(running)[1]
    steps, seconds, wall, losses, errors = [0], [0.0], [0.0], [float("nan")], [float(problem.error(params))]
    since, began, by_clock = [], clock(), time.perf_counter()
    spent = elapsed = 0.0
    for number, batch in enumerate(batches(problem, size, seed), start=1):
        loss, params = jax.block_until_ready(running.send(batch))
        since.append(float(loss))
        now = spent + clock() - began
        if now < config.seconds * len(errors) / LOOKS:
            continue
        spent, elapsed = now, elapsed + time.perf_counter() - by_clock
        steps.append(number)
        seconds.append(spent)
        wall.append(elapsed)
        losses.append(float(np.mean(since)))
        errors.append(float(problem.error(params)))
        if spent >= config.seconds or not np.isfinite(losses[-1]):
            break
        since, began, by_clock = [], clock(), time.perf_counter()
    return Curve(name, setting, seed, tuple(steps), tuple(seconds), tuple(wall), tuple(losses), tuple(errors))


def batches(problem: Problem, size: int, seed: int) -> Iterator[tuple[Any, ...]]:
    """Random batches for ever, each example once in an epoch."""
    drawn = np.random.default_rng(seed)
    data = [array for array in (problem.x, problem.y, problem.weights) if array is not None]
    while True:
        order = drawn.permutation(len(problem.x))
        for first in range(0, len(order) - size + 1, size):
            yield tuple(array[order[first : first + size]] for array in data)


def table_of(name: str, best: dict[str, list[Curve]], config: SecondOrder) -> Table:
    """How each ended, and the steps and seconds to the best test error of Adam's, seed by seed."""
    size, each = config.batch_size, f"{config.seconds:g} s each"
    title = f"{name}, {size} examples a step, {each}, median and range of {config.seeds} seeds"
    table = Table(title=title, title_justify="left")
    columns = ("optimizer", "ms a step,\nCPU / wall", "steps", "test error")
    for column in (*columns, "Adam's\nbest in\nsteps", "in\nseconds", "over\nAdam's"):
        table.add_column(column, justify="left" if column == "optimizer" else "right", no_wrap=True)
    adams = best.get("Adam", [])
    for optimizer, curves in best.items():
        last = [curve.last for curve in curves]
        reached = [
            (curve.reached(adam.least), adam.reached(adam.least)) for curve, adam in zip(curves, adams, strict=False)
        ]
        both = [(ours, theirs) for ours, theirs in reached if ours is not None and theirs is not None]
        to_best = ("–", "–", "–")
        if both and len(both) == len(curves):
            ratios = [ours[1] / theirs[1] for ours, theirs in both]
            steps, seconds = (np.median([ours[i] for ours, _ in both]) for i in (0, 1))
            to_best = (
                f"{steps:.0f}",
                f"{seconds:.1f}",
                f"{np.median(ratios):.2f}\n{min(ratios):.2f}–{max(ratios):.2f}",
            )
        clocks = ([clock[-1] / curve.steps[-1] for clock in (curve.seconds, curve.wall)] for curve in curves)
        cpu, wall = 1e3 * np.median(list(clocks), axis=0)
        table.add_row(
            f"{optimizer}\n{curves[0].setting:g}",
            f"{cpu:.0f} / {wall:.0f}",
            f"{np.median([curve.steps[-1] for curve in curves]):.0f}",
            f"{np.median(last):.3g}\n{min(last):.3g}–{max(last):.3g}",
            *to_best,
        )
    return table


if __name__ == "__main__":
    command_line(main, SecondOrder, lambda best: True)
