"""Options: what is refused, by name, by every experiment."""

import dataclasses
import inspect
import re
from dataclasses import dataclass, replace
from importlib import import_module
from typing import get_type_hints

import pytest

from jaxbp.experiments.claims.feedback_alignment import Comparison
from jaxbp.experiments.common.options import POSITIVE, check_options, full_size, whole
from jaxbp.experiments.tools import report
from jaxbp.experiments.tools.config import Config
from jaxbp.experiments.tools.private import Private


@dataclass(frozen=True)
class Options:
    """Options to check."""

    steps: int = 3
    widths: tuple[int, ...] = ()
    rate: float | None = None
    seed: int = 0
    momentum: float = 0.0
    epochs: bool = False

    def __post_init__(self):
        check_options(self, steps=whole(2), widths=whole(2), rate=POSITIVE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 1}, "steps must be at least 2, got 1"),
        ({"widths": (3, 1)}, "widths must be at least 2, got 3 1"),
        ({"rate": 0.0}, "rate must be positive and finite, got 0.0"),
        ({"rate": float("inf")}, "rate must be positive and finite, got inf"),
        ({"rate": float("nan")}, "rate must be positive and finite, got nan"),
        ({"steps": 10**30}, f"steps must be at most 2147483647, got {10**30}"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"seed": 2**32}, "seed must be at most 4294967295, got 4294967296"),
        ({"momentum": 2.0}, "momentum must be at least 0 and below 1, got 2.0"),
        ({"momentum": -1.0}, "momentum must be at least 0 and below 1, got -1.0"),
    ],
)
def test_options_are_refused_by_name_and_those_left_open_are_not(options, message):
    assert replace(Options(), widths=(2, 9), rate=0.1).steps == 3
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Options(**options)


def test_a_size_is_full_where_no_number_is_below_its_default():
    assert full_size(Options(), "steps", "seed")
    assert full_size(Options(steps=9), "steps", "seed")
    assert not full_size(Options(steps=2), "steps", "seed")


ALL = [Config, Comparison, Private]
for _name in report.deciding():
    _main = import_module(f"jaxbp.experiments.claims.{_name}").main
    ALL.append(get_type_hints(_main)[next(iter(inspect.signature(_main).parameters))])

NAN, INF = float("nan"), float("inf")
REFUSED = {
    "batch_size": (0, -1, 10**30),
    "bound": (0.0, NAN, INF),
    "epochs": (0, -1, 10**30),
    "examples": (0, -5, 10**30),
    "hidden": ((0,), (8, -1), (10**30,)),
    "learning_rate": (0.0, -0.1, NAN, INF),
    "max_norm": (0.0, NAN),
    "max_seconds": (0.0, NAN),
    "momentum": (-1.0, 1.0, 2.0, NAN),
    "name": (
        "",
        ".",
        "..",
        "../../x",
        "a/b",
        "/tmp/x",
        "[/red]",
        "-x",
        "a b",
        "a\0",
        "x\n",
        "\x1b[31m",
        "ü" * 9,
        "x" * 101,
    ),
    "passes": (0, 10**30),
    "restarts": (0, 10**30),
    "retraining": (0, 10**30),
    "seed": (-1, 10**30),
    "seeds": (0, 10**30),
    "steps": (0, -5, 10**30),
    "weight_decay": (0.0, NAN),
    "width": (0, 10**30),
    "widths": ((0, 4), (1, 10**30)),
}


@pytest.mark.parametrize("options", ALL, ids=lambda options: options.__module__.rpartition(".")[2])
def test_what_no_experiment_can_do_is_refused_by_name_by_all(options):
    options()
    shared = [field for field in dataclasses.fields(options) if field.name in REFUSED and field.type is not bool]
    assert shared or not {f.name for f in dataclasses.fields(options)} & {"seed", "learning_rate", "epochs"}
    for field in shared:
        for value in REFUSED[field.name]:
            with pytest.raises(ValueError, match=field.name) as refused:
                options(**{field.name: value})
            assert "\x1b" not in str(refused.value)
