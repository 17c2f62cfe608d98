"""A problem that a class was set: a described network, the points for each quantity, and what a submission may take."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np

import jaxbp
from jaxbp.experiments.common.messages import quoted, suggestion
from jaxbp.experiments.tools.description import Description, blamed, described, read_table
from jaxbp.experiments.tools.fences import Fence
from jaxbp.experiments.tools.laid_out import Layout, arguments

MOST_SECONDS = 86_400
MOST_DIGITS = 6
"""That somebody writes by hand, of at least two."""

_MEBIBYTE = 2**20
_GRADING: dict[str, Any] = {
    "function": "gradients",
    "follow_through": 0.5,
    "by_element": True,
    "forbid": ["jaxbp"],
    "seconds": 10,
    "memory": 2048,
    "layout": "rows",
    "digits": 0,
}
"""The keys of [grading], with what they are when they are not there."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What is asked, what it is worth, and how it is graded.

    Attributes:
        described: The network, its loss, its parameters and a batch.
        points: What each quantity that is asked for is worth.
        function: The function of a Python file that is called.
        follow_through: The share of the points for a quantity that is wrong only because of an earlier mistake.
        by_element: Whether a wrong quantity gets the share of its elements that are right, where zeros have none.
        forbid: Modules that a Python file may not import.
        seconds: How long one may run.
        memory: What it may take of memory, in bytes.
        layout: How what is handed in lies, as `jaxbp.check` has it.
        digits: To how many significant digits each number was rounded by hand, one after the other; 0 if it was not.
    """

    described: Description
    points: Mapping[str, float]
    function: str
    follow_through: float
    by_element: bool
    forbid: tuple[str, ...]
    seconds: float
    memory: int
    layout: Layout
    digits: int

    @property
    def total(self) -> float:
        """What everything is worth together."""
        return sum(self.points.values())

    @cached_property
    def numbers(self) -> dict[str, int]:
        """How many numbers of each quantity that is asked for are not 0."""
        at = self.described
        zeros = {name: np.zeros(at.shape(name)) for name in self.points}
        report = jaxbp.check(at.net, at.loss, at.params, at.x, at.y, zeros)
        return {finding.name: 0 if report.ok else finding.off for finding in report.findings}

    @cached_property
    def arguments(self) -> tuple[Any, Any, Any]:
        """What the function of a Python file is called with."""
        return arguments(self.described, self.layout)

    def fence(self, hidden: tuple[Path, ...], walls: bool = True) -> Fence:
        """How far a Python file may go.

        Args:
            hidden: What it is not to see, such as the folder of all submissions.
            walls: Whether the system's walls are tried.
        """
        numbers = sum(self.described.most_handed_in({}).values())
        names = tuple(str(path.resolve()) for path in (*hidden, *self.described.files))
        return Fence(self.memory, max(64 * _MEBIBYTE, 32 * numbers), names, self.forbid, walls)


def read_problem(path: Path) -> Problem:
    """The problem in a TOML file: a description of a network, as `check` has it, with [points] and [grading].

    Raises:
        ValueError: Something in it cannot be read or does not fit. The message names the file and the place.
    """
    table = read_table(path)
    with blamed(path):
        grading = _grading(table.pop("grading", {}))
        worth = _flat(table.pop("points", {}))
    network = described(table, path)
    with blamed(path):
        points = _points(worth, _quantities(network), network.net.inputs)
    return Problem(network, points, **grading)


def problem_files(path: Path) -> dict[int, Path]:
    """The problems of a class by their seeds, in the folder that `python -m experiments.exercise --count` writes."""
    found = {int(of.parent.name): of for of in path.glob("*/problem.toml") if of.parent.name.isdecimal()}
    if not found:
        raise ValueError(
            f"{path} holds no exercises SEED/problem.toml, as `python -m experiments.exercise` writes them"
        )
    return dict(sorted(found.items()))


def _grading(table: Any) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        raise TypeError(f"grading is {table!r:.60}, expected a table: [grading]")
    for key in table:
        if key not in _GRADING:
            raise ValueError(
                f"grading has the unknown key {key!r}{suggestion(key, _GRADING)}; known are {quoted(_GRADING)}"
            )
    values = _GRADING | dict(table)
    if not isinstance(values["function"], str) or not values["function"].isidentifier():
        raise ValueError(f'grading.function is {values["function"]!r}, expected a name: function = "gradients"')
    if not isinstance(values["by_element"], bool):
        raise TypeError(f"grading.by_element is {values['by_element']!r}, expected true or false")
    if not isinstance(values["forbid"], list) or not all(isinstance(name, str) for name in values["forbid"]):
        raise TypeError(f'grading.forbid is {values["forbid"]!r}, expected names of modules: forbid = ["jax"]')
    if values["layout"] not in get_args(Layout):
        raise ValueError(f"grading.layout is {values['layout']!r}, expected one of {quoted(get_args(Layout))}")
    if type(values["digits"]) is not int or values["digits"] not in (0, *range(2, MOST_DIGITS + 1)):
        raise ValueError(
            f"grading.digits is {values['digits']!r}, expected 2 to {MOST_DIGITS}, to how many significant digits each "
            "number was rounded by hand, or 0 where none was"
        )
    for key, least, most in (("follow_through", 0, 1), ("seconds", 0.1, MOST_SECONDS), ("memory", 64, 2**22)):
        if not _is_number(values[key]) or not least <= values[key] <= most:
            raise ValueError(f"grading.{key} is {values[key]!r}, expected a number from {least} to {most}")
    return values | {"forbid": tuple(values["forbid"]), "memory": int(values["memory"] * _MEBIBYTE)}


def _flat(table: Any, before: str = "") -> dict[str, Any]:
    """The entries of nested tables, which is how TOML reads grad.o = 4, by their whole names."""
    if not isinstance(table, Mapping):
        return {before: table}
    parts = (_flat(value, f"{before}.{name}" if before else name) for name, value in table.items())
    return {name: value for part in parts for name, value in part.items()}


def _quantities(network: Description) -> list[str]:
    """All that can be asked for, in the order of a backward pass: of an input, ∂L/∂x alone."""
    net = network.net
    forward = ["loss", *(f"{kind}.{u}" for u in net.units for kind in ("a", "h"))]
    backward = [
        name
        for u in reversed(list(net.units))
        for name in (f"Delta.{u}", f"delta.{u}", *(f"grad.{u}.{s}" for s in net.weight_shapes[u]))
    ]
    return [*forward, *backward, *(f"Delta.{name}" for name in net.inputs)]


def _points(worth: dict[str, Any], known: list[str], inputs: Iterable[str]) -> dict[str, float]:
    """The points of each quantity. A group's are shared by those of its quantities that nothing closer names.

    That of an input is in no group: few backward passes go so far.
    """
    alone = {f"Delta.{name}" for name in inputs}
    total = worth.pop("total", None)
    for name, value in {**worth, "total": 1 if total is None else total}.items():
        if not _is_number(value) or not 0 <= value < math.inf:
            raise ValueError(f"points.{name} is {value!r}, expected a number, at least 0")
    members: dict[str, list[str]] = {name: [] for name in worth or ["grad"]}
    for quantity in known:
        fitting = [n for n in members if n == quantity or (quantity.startswith(f"{n}.") and quantity not in alone)]
        if fitting:
            members[max(fitting, key=len)].append(quantity)
    for name, quantities in members.items():
        if not quantities:
            hint = suggestion(name, known) or (" (write it into [grading])" if name in _GRADING else "")
            raise ValueError(
                f"points.{name} is no quantity{hint}; known are {quoted(known)}, and groups such as 'grad'"
            )
    given = {q: worth.get(name, len(of)) / len(of) for name, of in members.items() for q in of}
    whole = sum(given.values())
    if whole <= 0 or total == 0:
        raise ValueError("there are no points; give some, such as [points] with grad = 10")
    scale = 1.0 if total is None else total / whole
    return {quantity: given[quantity] * scale for quantity in known if given.get(quantity)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
