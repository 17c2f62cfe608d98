"""Write a problem and a class's submissions to it, to try `grade` with.

    python -m experiments.example_class example
    python -m experiments.grade example/submissions --problem example/problem.toml

Some are right and some have a mistake; some are arrays and some programs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from jaxbp.experiments.common.command_line import command_line
from jaxbp.experiments.common.files import write_whole
from jaxbp.experiments.common.options import check_options, whole
from jaxbp.experiments.tools.problem import read_problem

PROGRAM = """
import numpy as np


def gradients(params, x, y):
    h = 1 / (1 + np.exp(-(x @ params["h1"]["x"] + params["h1"]["bias"])))
    e = np.exp(h @ params["o"]["h1"] + params["o"]["bias"])
    o = e / e.sum(1, keepdims=True)
    delta_o = (o - np.eye(o.shape[1])[y]) / len(y)
    delta_h1 = delta_o @ params["o"]["h1"].T * h * (1 - h)
    return {
        "h1": {"x": x.T @ delta_h1, "bias": delta_h1.sum(0)},
        "o": {"h1": h.T @ delta_o, "bias": delta_o.sum(0)},
    }
""".lstrip()
"""The right one."""

MISTAKES = {
    "right": ("", ""),
    "without the derivative": (" * h * (1 - h)", ""),
    "right too": ("", ""),
    "without 1/N": (" / len(y)", ""),
    "h for its derivative": (" * h * (1 - h)", " * h"),
    "a bias that is the mean": ('"bias": delta_o.sum(0)', '"bias": delta_o.mean(0)'),
}
"""What is replaced in it, and by what."""

_NAMES = ("anna", "ben", "chloé", "dilek", "emil", "fatma")


@dataclass(frozen=True)
class Config:
    """Write an example of a class."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Where to write it; it is made, and must not be there."""
    students: int = 6
    layers: tuple[int, int, int] = (3, 4, 2)
    """The widths of input, hidden layer and output."""
    examples: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        check_options(self, students=whole(1, 10_000), layers=whole(1, 10_000), examples=whole(1, 10_000))


def main(config: Config) -> Path:
    """Write the problem and the submissions.

    Returns:
        The folder of the submissions.

    Raises:
        OSError: The folder is there, or something cannot be written.
    """
    config.folder.mkdir(parents=True)
    submissions = config.folder / "submissions"
    submissions.mkdir()
    random = np.random.default_rng(config.seed)
    features, _, classes = config.layers
    x, y = random.normal(size=(config.examples, features)), random.integers(0, classes, config.examples)
    np.savez(config.folder / "batch.npz", x=x, y=y)
    problem = config.folder / "problem.toml"
    write_whole(problem, _problem(config))
    params = read_problem(problem).described.params
    for i, change in enumerate(islice(cycle(MISTAKES.values()), config.students)):
        name = _NAMES[i] if i < len(_NAMES) else f"{_NAMES[i % len(_NAMES)]}{i // len(_NAMES) + 1}"
        program = PROGRAM.replace(*change) if change[0] else PROGRAM
        if (i + i // len(MISTAKES)) % 2:
            write_whole(submissions / f"{name}.py", program)
        else:
            gradients = _function(program)(params, x, y)
            named = {f"grad.{u}.{s}": W for u, weights in gradients.items() for s, W in weights.items()}
            np.savez(submissions / f"{name}.npz", allow_pickle=False, **named)
    return submissions


def _problem(config: Config) -> str:
    return f"""loss = "cross_entropy"
seed = {config.seed}
data = "batch.npz"

[network]
layers = {list(config.layers)}
hidden = "sigmoid"
output = "softmax"

[points]
total = 10

[grading]
seconds = 10
forbid = ["jaxbp", "jax", "torch", "tensorflow"]
"""


def _function(program: str) -> Callable[..., dict[str, dict[str, Any]]]:
    names: dict[str, Any] = {}
    exec(program, names)
    return names["gradients"]


if __name__ == "__main__":
    command_line(main, Config, lambda _: True)
