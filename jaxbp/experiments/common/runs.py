"""The folder of a training run: made for it alone, with its settings, and with all that it takes to predict."""

import dataclasses
import io
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxbp
from jaxbp.experiments.common.data import Data, Scaling
from jaxbp.experiments.common.files import read_bytes, write_whole
from jaxbp.experiments.common.records import as_json


def make_folder(config: Any, source: str) -> Path:
    """The run's folder, made for it and for no other, with its `config.json`.

    Args:
        config: The options, a dataclass; its `name` is the folder's, and None takes one of the source and the time.
        source: What the run learns from.

    Raises:
        FileExistsError: There is one of this name.
        ValueError: `runs` leads elsewhere.
    """
    runs = Path("runs")
    if runs.is_symlink():
        raise ValueError(f"runs is a link to {runs.readlink()}; a run is written to runs/ itself: remove the link")
    runs.mkdir(exist_ok=True)
    for folder in (runs / name for name in _names(config.name, source)):
        # that a folder can be made is what decides, at this moment: to look first would let two runs go on in one
        with suppress(FileExistsError):
            folder.mkdir()
            break
    else:
        raise FileExistsError(f"runs/{config.name} is there already; choose another --name, or remove it")
    settings = dataclasses.asdict(config) | {"jax": jax.__version__, "device": str(jax.devices()[0])}
    try:
        write_whole(folder / "config.json", as_json(settings, indent=2, default=str) + "\n")
    except OSError:
        with suppress(OSError):
            folder.rmdir()
        raise
    return folder


def _names(name: str | None, source: str) -> Iterator[str]:
    """The name that was given; or one of the data and the time, with a number from the second run of a second on."""
    if name is not None:
        yield name
        return
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", source).lstrip("-.")[:40] or "data"
    made = f"{plain}-{datetime.now():%Y%m%d-%H%M%S}"
    yield made
    yield from (f"{made}-{number}" for number in count(2))


def save_params(params: jaxbp.Params, path: Path) -> None:
    """Every weight under its name, W.h1.x, by which `experiments.check` knows it; in float32 if NumPy has no format."""
    arrays = {".".join(("W", *(key.key for key in of))): np.asarray(W) for of, W in jax.tree.leaves_with_path(params)}
    content = io.BytesIO()
    np.savez(content, **{name: W.astype(np.float32) if W.dtype.kind == "V" else W for name, W in arrays.items()})
    write_whole(path, content.getvalue())


def save_scaling(data: Data, path: Path) -> None:
    """What is needed beside the parameters to predict for examples as they come, as JSON."""
    record = {"classes": data.classes}
    for name, scaling in (("x", data.x_scaling), ("y", data.y_scaling)):
        if scaling is not None:
            record[name] = {"mean": scaling.mean.tolist(), "scale": scaling.scale.tolist()}
    write_whole(path, as_json(record) + "\n")


def read_scaling(path: Path) -> tuple[int | None, Scaling, Scaling | None]:
    """The number of classes, and how examples and targets were standardised, as `save_scaling` has written it.

    Raises:
        ValueError: The file is not there, or another one.
    """
    try:
        record = json.loads(read_bytes(path))
        scalings = [
            Scaling(np.asarray(of["mean"], float), np.asarray(of["scale"], float)) if (of := record.get(name)) else None
            for name in ("x", "y")
        ]
        classes, x = record["classes"], scalings[0]
        if x is None or not (classes is None or type(classes) is int):
            raise KeyError("x")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not that of a trained network: {type(error).__name__}: {error}") from None
    return classes, x, scalings[1]
