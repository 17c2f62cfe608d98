"""Train a layered network by explicit backpropagation on real data: the main job.

    python -m experiments.train
    python -m experiments.train --data wine --hidden 16 16 --activation tanh --epochs 100
    python -m experiments.train --data-dir PATH/TO/IDX --epochs 10 --batch-size 128 --learning-rate 0.1

Writes `runs/NAME/` with `config.json`, one JSON line of metrics for each epoch, `curves.png`, and the parameters as
`params.npz`, which `experiments.check` reads. A name is used once: where its folder is there already, nothing is done.
Files are written whole or not at all. Ctrl-C ends the run with what was done until then, and exit code 130.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import jaxbp
from experiments.common import plots
from experiments.common.command_line import command_line, terminal
from experiments.common.data import Data, load
from experiments.common.records import append_line, as_json
from experiments.common.runs import make_folder, save_params
from experiments.tools.config import Config

Row = dict[str, Any]


def main(config: Config, console: Console | None = None) -> list[Row]:
    """Train as configured, show it, and write the run's files.

    Of the metrics of each epoch, those of epoch 0 are the untrained network's.

    Raises:
        ValueError: A choice that does not exist or does not fit the data, before anything is compiled.
        FileExistsError: A run of this name is there already.
        OSError: A file cannot be written; the error names it.
        jaxbp.train.DivergedError: A value was not finite; what was done so far is written.
        KeyboardInterrupt: The same of Ctrl-C, and the message says how far it came.
    """
    console = console or terminal()
    optimizer = config.transformation()
    if config.dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    data = load(config.data, data_dir=config.data_dir, seed=config.seed, dtype=config.jax_dtype)
    classification = data.classes is not None
    net = config.network(data.x_train.shape[1], data.classes or data.y_train.shape[1], classification)
    loss = config.loss_for(classification)
    x, x_test = jnp.asarray(data.x_train), jnp.asarray(data.x_test)
    y, y_test = (_targets(y, data.classes, loss, x.dtype) for y in (data.y_train, data.y_test))
    explicit = jaxbp.value_and_grad(net, loss)
    auto = jax.value_and_grad(jaxbp.objective(net, loss))
    state = jaxbp.train.init_state(jax.random.key(config.seed), net, optimizer, dtype=config.jax_dtype)
    jaxbp.train.check_data(net, loss, x, y)
    jax.eval_shape(explicit, state.params, x, y)  # refuses what does not fit before a folder is made

    source = config.data if config.data_dir is None else config.data_dir.resolve().name
    folder = make_folder(config, source)
    widths = " ⇒ ".join(str(width) for (width,) in net.shapes.values())
    console.print(f"{data.name}: {len(y)} training and {len(y_test)} test examples, {widths}, {loss}", markup=False)
    first = slice(0, config.batch_size)
    probe = jax.jit(jaxbp.backprop, static_argnums=(0, 1))
    rows: list[Row] = []
    reached = state.params

    def record(epoch: int, params: jaxbp.Params, train_loss: float, seconds: float) -> Row:
        nonlocal reached
        scores = _scores(net, loss, params, x_test, y_test, classification)
        back = probe(net, loss, params, x[first], y[first])
        rows.append(
            {
                "epoch": epoch,
                "train_loss": train_loss,
                **{f"test_{name}": score for name, score in scores.items()},
                "seconds": round(seconds, 4),
                "delta_rms": {u: _root_mean_square(back.delta[u]) for u in net.order},
            }
        )
        append_line(folder / "metrics.jsonl", as_json(rows[-1]))
        reached = params
        return rows[-1]

    def finish() -> str:
        if not rows:
            return "config.json"
        plots.save_curves(rows, _title(config, data), folder / "curves.png")
        save_params(reached, folder / "params.npz")
        return "config.json, metrics.jsonl, curves.png, params.npz"

    started = time.perf_counter()
    try:
        console.print("explicit gradient against jax.grad on the first batch, largest relative error of each unit:")
        console.print(_proof(explicit, auto, state.params, x[first], y[first]))
        record(0, state.params, float(jax.jit(jaxbp.objective(net, loss))(state.params, x, y)), 0.0)
        started = time.perf_counter()
        with _progress(console) as progress:
            task = progress.add_task("", total=config.epochs, scores="")
            gradient = explicit if config.gradient == "explicit" else auto
            running = jaxbp.train.run(
                net, loss, x, y, optimizer=optimizer, batch_size=config.batch_size, state=state, gradient=gradient
            )
            for _, done in zip(range(config.epochs), running, strict=False):
                row = record(done.number, done.state.params, done.loss, done.seconds)
                progress.update(task, advance=1, scores=_in_words(row))
    except jaxbp.train.DivergedError:
        finish()
        raise
    except KeyboardInterrupt:
        done = f"after {max(len(rows) - 1, 0)} of {config.epochs} epochs"
        raise KeyboardInterrupt(f"by Ctrl-C {done}; wrote {folder}/: {finish()}") from None
    console.print(_summary(rows, config, time.perf_counter() - started))
    console.print(f"wrote {folder}/: {finish()}")
    return rows


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
    parts = [f"loss {row['train_loss']:.4f}", f"test loss {row['test_loss']:.4f}"]
    parts += [f"test accuracy {row['test_accuracy']:.4f}"] if "test_accuracy" in row else []
    parts += [f"test R² {row['test_r2']:.4f}"] if "test_r2" in row else []
    return "  ".join(parts)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("epoch {task.completed}/{task.total}"),
        BarColumn(),
        TextColumn("{task.fields[scores]}"),
        TimeElapsedColumn(),
        console=console,
    )


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


if __name__ == "__main__":
    command_line(main, Config, succeeded=lambda rows: True)
