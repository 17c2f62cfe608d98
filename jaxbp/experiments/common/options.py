"""Options: what is allowed for each, in one table, and the words in which the rest is refused."""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

Rule = tuple[tuple[Callable[[Any], bool], str], ...]
"""What is allowed for an option, or each element of a tuple, and how that is said."""

LARGEST = 2**31 - 1  # of what is counted; XLA's indices are int32
LONGEST_NAME = 100


def whole(least: int, most: int = LARGEST) -> Rule:
    """From one whole number to another."""
    return (lambda number: number >= least, f"at least {least}"), (lambda number: number <= most, f"at most {most}")


POSITIVE: Rule = ((lambda number: 0 < number < math.inf, "positive and finite"),)
FRACTION: Rule = ((lambda number: 0 <= number < 1, "at least 0 and below 1"),)
NAME: Rule = (
    (
        lambda name: re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) is not None and len(name) <= LONGEST_NAME,
        f"at most {LONGEST_NAME} letters, digits, '_', '.' and '-', the first a letter, a digit or '_'",
    ),
)

SHARED: dict[str, Rule] = {
    "batch_size": whole(1),
    "epochs": whole(1),
    "hidden": whole(1),
    "learning_rate": POSITIVE,
    "momentum": FRACTION,
    "name": NAME,
    "seed": whole(0, 2**32 - 1),  # what NumPy, scikit-learn and JAX all take
    "seeds": whole(1, 1000),
    "steps": whole(1),
    "width": whole(1, 2**16),
    "widths": whole(1, 2**16),
}
"""Of options that several experiments have, by their names."""


def check_options(config: Any, **own: Rule) -> None:
    """Refuse options that are not allowed, by name.

    One that is None is left open, and so is a tuple of none. A switch is free, whatever it is called.

    Args:
        config: The options.
        own: The rules of this experiment, which come before those that are `SHARED`.
    """
    rules = SHARED | own
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        values = value if isinstance(value, tuple) else () if value is None or isinstance(value, bool) else (value,)
        for allowed, expected in rules.get(field.name, ()):
            if not all(map(allowed, values)):
                raise ValueError(f"{field.name} must be {expected}, got {listed(values)}")


def listed(values: Any) -> str:
    """As they are given on the command line; text in quotes, with nothing in it that a terminal obeys."""
    return " ".join(repr(value) if isinstance(value, str) else str(value) for value in values) or "none"


def full_size(config: Any, *fields: str) -> bool:
    """Whether options that say how large an experiment is are no smaller than they are when nothing is given."""
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    return all(getattr(config, field) >= defaults[field] for field in fields)
