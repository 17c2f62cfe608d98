"""Predict with the parameters that a training run has saved.

    python -m experiments.predict runs/NAME
    python -m experiments.predict runs/NAME --examples new.csv --out predictions.csv

Without examples those of the run's test part are predicted, and their score is that of the run's last epoch. Examples
are a row each, as they come: a `.csv` file of numbers without a header, or a `.npy` file. They are standardised as the
training part was, and targets of a regression are given back in their own units.

Writes a CSV file with a line for each example: the class and the output of each class, or the targets.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import jaxbp
from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.data import load
from jaxbp.experiments.common.files import read_bytes, write_whole
from jaxbp.experiments.common.runs import read_scaling
from jaxbp.experiments.tools.array_files import read_arrays
from jaxbp.experiments.tools.config import of_run

SHOWN = 5  # examples


@dataclass(frozen=True)
class Predict:
    """Predict with a trained network."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The folder of the run, runs/NAME."""
    examples: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Examples as they come, a row each: .csv or .npy; the test part of the run's data when not given."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE.csv")] = None
    """Where to write the predictions; predictions.csv in the run's folder when not given."""


def main(config: Predict, console: Console | None = None) -> np.ndarray:
    """Predict, print the first examples and, where the targets are known, the score, and write the file.

    Returns:
        The outputs, `(examples, outputs)`.

    Raises:
        ValueError: There is no trained network in the folder, or the examples are not such as it takes.
        OSError: The file cannot be written.
    """
    console = console or terminal()
    options = of_run(config.run)
    classes, x_scaling, y_scaling = read_scaling(config.run / "scaling.json")
    params: jaxbp.Params = {}
    for name, W in read_arrays(config.run / "params.npz").items():
        _, unit, source = name.split(".")
        params.setdefault(unit, {})[source] = jnp.asarray(W, options.jax_dtype)
    features = next(len(of["x"]) for of in params.values() if "x" in of)
    outputs = len(params["o"]["bias"])
    net = options.network(features, outputs, classes is not None)
    y = None
    if config.examples is None:
        data = load(options.data, data_dir=options.data_dir, seed=options.seed, dtype=options.jax_dtype)
        x, y = data.x_test, data.y_test
    else:
        x = x_scaling(_read(config.examples, features)).astype(options.jax_dtype)
    o = np.asarray(jax.jit(jaxbp.apply, static_argnums=0)(net, params, jnp.asarray(x)), np.float64)
    if y is not None:
        console.print(_score(o, y))
    if y_scaling is not None:
        o = y_scaling.undone(o)
    rows = [",".join(([] if classes is None else [str(row.argmax())]) + [f"{value:.6g}" for value in row]) for row in o]
    header = [f"o{index}" for index in range(outputs)] if classes is None else ["class", *map(str, range(outputs))]
    out = config.out or config.run / "predictions.csv"
    write_whole(out, "\n".join([",".join(header), *rows]) + "\n")
    console.print(_table(o, classes))
    console.print(f"wrote {out}: {len(o)} predictions")
    return o


def _read(path: Path, features: int) -> np.ndarray:
    """The examples of a file, a row of numbers each."""
    content = io.BytesIO(read_bytes(path))
    try:
        if path.suffix == ".npy":
            x = np.load(content, allow_pickle=False)
        else:
            x = np.loadtxt(content, delimiter=",", ndmin=2)
        x = np.asarray(x, np.float64)
    except ValueError as error:
        raise ValueError(f"{path} holds no rows of numbers: {error}") from None
    x = x.reshape(len(x), -1) if x.ndim > 1 else x.reshape(1, -1)
    if x.shape[1] != features or not np.isfinite(x).all():
        raise ValueError(f"{path} holds rows of {x.shape[1]} numbers, expected {features} in each, all finite")
    return x


def _score(o: np.ndarray, y: np.ndarray) -> str:
    if y.ndim == 1:
        return f"accuracy on the test part: {np.mean(o.argmax(axis=1) == y):.4f}"
    residual, total = ((np.asarray(y, np.float64) - of) ** 2 for of in (o, np.mean(y, axis=0, dtype=np.float64)))
    return f"R² on the test part: {np.mean(1 - residual.sum(axis=0) / total.sum(axis=0)):.4f}"


def _table(o: np.ndarray, classes: int | None) -> Table:
    table = Table(title="the first examples", title_justify="left")
    for column in ("example", "target" if classes is None else "class", *(() if classes is None else ("output",))):
        table.add_column(column, justify="right")
    for number, row in enumerate(o[:SHOWN]):
        if classes is None:
            table.add_row(str(number), ", ".join(f"{value:.4g}" for value in row))
        else:
            table.add_row(str(number), str(row.argmax()), f"{row.max():.4f}")
    return table


if __name__ == "__main__":
    command_line(main, Predict, succeeded=lambda o: True)
