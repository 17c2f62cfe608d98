"""A training run: its data, its network and what trains it, and what it shows and writes while it does."""

import time
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array
from rich.console import Console
from rich.table import Table

import jaxbp
from jaxbp.experiments.common import plots
from jaxbp.experiments.common.data import Data, load
from jaxbp.experiments.common.progress import progress
from jaxbp.experiments.common.runs import save_params, save_scaling
from jaxbp.experiments.tools.config import Config
from jaxbp.experiments.tools.log import Log, Row

SECONDS_BETWEEN_CHECKPOINTS = 60.0
TERMINATED = 143  # what a shell says of a process that SIGTERM has ended


class Job:
    """A run before it has a folder: its data, its network and what trains it, all of which fit each other."""

    def __init__(self, config: Config):
        self.config, self.optimizer = config, config.transformation()
        if config.dtype == "float64":
            jax.config.update("jax_enable_x64", True)
        data = load(config.data, data_dir=config.data_dir, seed=config.seed, dtype=config.jax_dtype)
        self.data, self.classification = data, data.classes is not None
        self.source = config.data if config.data_dir is None else config.data_dir.resolve().name
        self.net = config.network(data.x_train.shape[1], data.classes or data.y_train.shape[1], self.classification)
        self.loss = config.loss_for(self.classification)
        self.x, self.x_test = jnp.asarray(data.x_train), jnp.asarray(data.x_test)
        self.y, self.y_test = (_targets(y, data.classes, self.loss, self.x.dtype) for y in (data.y_train, data.y_test))
        self.explicit = jaxbp.value_and_grad(self.net, self.loss)
        self.auto = jax.value_and_grad(jaxbp.objective(self.net, self.loss))
        key = jax.random.key(config.seed)
        self.state = jaxbp.train.init_state(key, self.net, self.optimizer, dtype=config.jax_dtype)
        jaxbp.train.check_data(self.net, self.loss, self.x, self.y)
        if config.batch_size % config.processes:
            raise ValueError(
                f"batch_size must be a multiple of processes, got {config.batch_size} and {config.processes}"
            )
        # refuses what does not fit before a folder is made
        jax.eval_shape(self.explicit, self.state.params, self.x, self.y)

    def done_in(self, folder: Path, console: Console, mesh: Mesh | None = None) -> list[Row]:
        """Train from where the folder's checkpoints stand; of several processes the first alone writes and shows."""
        config, net = self.config, self.net
        log = Log(folder, writes=jax.process_index() == 0)
        widths = " ⇒ ".join(str(width) for (width,) in net.shapes.values())
        about = f"{self.data.name}: {len(self.y)} training and {len(self.y_test)} test examples"
        console.print(f"{about}, {widths}, {self.loss}", markup=False)
        reached = self.state.params

        def finish() -> str:
            if not log.rows or not log.writes:
                return "config.json"
            plots.save_curves(log.rows, _title(config, self.data), folder / "curves.png")
            save_params(reached, folder / "params.npz")
            save_scaling(self.data, folder / "scaling.json")
            return "config.json, metrics.jsonl, curves.png, params.npz, scaling.json"

        started, running = time.perf_counter(), None
        try:
            console.print("explicit gradient against jax.grad on the first batch, largest relative error of each unit:")
            console.print(self.proof())
            if not log.rows:
                first_loss = float(jax.jit(jaxbp.objective(net, self.loss))(self.state.params, self.x, self.y))
                log.add(self.row(0, self.state.params, first_loss, 0.0))
            started = time.perf_counter()
            begun = max(len(log.rows) - 1, 0)
            told = progress("the first epoch", config.epochs, start=begun)
            with told as step, jaxbp.train.until_terminated() as stop:
                running = self.running(folder, mesh, stop)
                for done in running:
                    reached = jax.tree.map(_on_one_device, done.state.params)
                    row = log.add(self.row(done.number, reached, done.loss, done.seconds))
                    step(1, f"epoch {done.number}/{config.epochs}  {_in_words(row)}")
        except jaxbp.train.DivergedError:
            finish()
            raise
        except KeyboardInterrupt:
            if running is not None:
                with suppress(KeyboardInterrupt):
                    running.throw(KeyboardInterrupt())  # it writes a last checkpoint, wherever it was stopped
            raise KeyboardInterrupt(
                f"by Ctrl-C {log.reached(config.epochs)}; wrote {folder}/: {finish()}; go on with --resume {folder}"
            ) from None
        if log.rows[-1]["epoch"] < config.epochs:
            console.print(f"ended by SIGTERM {log.reached(config.epochs)}; wrote {folder}/: {finish()}")
            console.print(f"go on with --resume {folder}")
            raise SystemExit(TERMINATED)
        console.print(_summary(log.rows, config, time.perf_counter() - started))
        console.print(f"wrote {folder}/: {finish()}")
        return log.rows

    def running(self, folder: Path, mesh: Mesh | None, stop: Callable[[], bool]) -> Generator[jaxbp.train.Epoch]:
        """The epochs from the last checkpoint on."""
        every = self.config.checkpoint_every
        seconds = SECONDS_BETWEEN_CHECKPOINTS if every is None else None
        return jaxbp.train.run(
            self.net, self.loss, self.x, self.y, optimizer=self.optimizer, batch_size=self.config.batch_size,
            state=self.state, gradient=self.explicit if self.config.gradient == "explicit" else self.auto,
            drop_last=self.config.drop_last, epochs=self.config.epochs, mesh=mesh, stop=stop, resume=True,
            checkpoints=jaxbp.train.Checkpoints(folder / "checkpoints", every=every, seconds=seconds, keep=2),
        )  # fmt: skip

    def row(self, epoch: int, params: jaxbp.Params, train_loss: float, seconds: float) -> Row:
        """The metrics of an epoch."""
        net, first = self.net, slice(0, self.config.batch_size)
        scores = _scores(net, self.loss, params, self.x_test, self.y_test, self.classification)
        back = _probe(net, self.loss, params, self.x[first], self.y[first])
        return {
            "epoch": epoch,
            "train_loss": train_loss,
            **{f"test_{name}": score for name, score in scores.items()},
            "seconds": round(seconds, 4),
            "delta_rms": {u: _root_mean_square(back.delta[u]) for u in net.order},
        }

    def proof(self) -> Table:
        """How far the explicit gradient is from that of jax.grad, on the first batch."""
        first = slice(0, self.config.batch_size)
        return _proof(self.explicit, self.auto, self.state.params, self.x[first], self.y[first])


_probe = jax.jit(jaxbp.backprop, static_argnums=(0, 1))


def _on_one_device(W: Array) -> Array:
    """A parameter as this process alone has it, however many share it."""
    return W if W.is_fully_addressable else jnp.asarray(np.asarray(W))


def _targets(y: np.ndarray, classes: int | None, loss: jaxbp.Loss, dtype: Any) -> Array:
    """Targets as the loss takes them: rows of 0 and 1 for classes where it takes no ids."""
    if classes is None or loss.encode is not None:
        return jnp.asarray(y)
    return jax.nn.one_hot(y, classes, dtype=dtype)


def _proof(explicit: Any, auto: Any, params: jaxbp.Params, x: Array, y: Array) -> Table:
    ours, theirs = jax.jit(explicit)(params, x, y)[1], jax.jit(auto)(params, x, y)[1]
    table = Table("unit", "relative error")
    for unit in ours:
        errors = [_relative_error(ours[unit][s], theirs[unit][s]) for s in ours[unit]]
        table.add_row(unit, f"{max(errors):.1e}")
    return table


def _relative_error(ours: Array, theirs: Array) -> float:
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    scale = np.linalg.norm(b)
    return float(np.linalg.norm(a - b) / scale if scale else np.linalg.norm(a))


def _scores(
    net: jaxbp.Network, loss: jaxbp.Loss, params: jaxbp.Params, x: Array, y: Array, classification: bool
) -> dict[str, float]:
    """Loss, with accuracy for classes and R² for a regression."""
    scores = {name: float(score) for name, score in jaxbp.train.evaluate(net, loss, params, x, y).items()}
    if "accuracy" in scores:
        return scores
    o, targets = (np.asarray(v, np.float64) for v in (jax.jit(jaxbp.apply, static_argnums=0)(net, params, x), y))
    if classification:
        scores["accuracy"] = float(np.mean(o.argmax(axis=-1) == targets.argmax(axis=-1)))
    else:
        residual, total = ((targets - v) ** 2 for v in (o, targets.mean(axis=0)))
        scores["r2"] = float(np.mean(1 - residual.sum(axis=0) / total.sum(axis=0)))
    return scores


def _root_mean_square(delta: Array) -> float:
    return float(np.sqrt(np.mean(np.asarray(delta, np.float64) ** 2)))


def _in_words(row: Row) -> str:
    names = {"train_loss": "loss", "test_loss": "test loss", "test_accuracy": "accuracy", "test_r2": "R²"}
    return "  ".join(f"{words} {row[name]:.4f}" for name, words in names.items() if name in row)


def _summary(rows: list[Row], config: Config, seconds: float) -> Table:
    score = next((name for name in ("test_accuracy", "test_r2") if name in rows[-1]), None)
    shown = sorted({0, 1, len(rows) // 2, len(rows) - 1} & set(range(len(rows))))
    table = Table(title=f"{config.gradient} gradient, {seconds:.1f} s", title_justify="left")
    for column in ("epoch", "train loss", "test loss", *([score.replace("_", " ")] if score else [])):
        table.add_column(column, justify="right")
    for i in shown:
        cells = [rows[i]["train_loss"], rows[i]["test_loss"], *([rows[i][score]] if score else [])]
        table.add_row(str(rows[i]["epoch"]), *(f"{cell:.4f}" for cell in cells))
    return table


def _title(config: Config, data: Data) -> str:
    return f"{data.name}, {config.activation}, {config.gradient} gradient"
