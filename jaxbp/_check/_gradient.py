"""The gradient of one weight as the catalogue sees it: whole, or a few of its rows and columns to try a mistake on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from jaxbp._check._facts import Facts
from jaxbp._check._steps import contracted
from jaxbp._graph import ONE, SHARED
from jaxbp._names import Name
from jaxbp.connections import Dense

_LARGE, _PART = 4096, 24


@dataclass(frozen=True, eq=False)
class Called:
    """What a derivative rule of somebody's own was called with, and what its function returned.

    Attributes:
        arguments: The real arguments by name.
        cotangents: The gradients with respect to the function's outputs.
        outputs: These outputs.
    """

    arguments: Mapping[str, np.ndarray]
    cotangents: Sequence[np.ndarray]
    outputs: Sequence[np.ndarray]


@dataclass(frozen=True, eq=False)
class Gradient:
    """A gradient that a hand program comes to, beside all that could stand in its place.

    Attributes:
        name: Its name.
        W: The parameter that it is the gradient of.
        make: The right gradient, from the error signals so far.
        mine: What was handed in; None where nothing was.
        alike: What makes the gradients of other parameters of the same shape: of the program, as far as it has come.
        facts: What is known of the network; None of a function that is none.
        Deltas: Δ of each unit so far; none of a function.
        deltas: δ, likewise.
        uses: The edges that use the weight, as units and their sources; none of a function.
        called: What a rule was called with whose gradient it is; None of any other.
        without: What makes it without the paths through some sums of a function, by their names; none of a network.
        rows: Which rows are looked at; all where it is None.
        columns: Which columns, likewise.
    """

    name: Any
    W: np.ndarray
    make: Callable[[], np.ndarray] = field(repr=False)
    mine: np.ndarray | None = None
    alike: Mapping[Any, Callable[[], np.ndarray]] = field(default_factory=dict, repr=False)
    facts: Facts | None = field(default=None, repr=False)
    Deltas: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    deltas: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    uses: tuple[tuple[str, str], ...] = ()
    called: Called | None = field(default=None, repr=False)
    without: Mapping[str, Callable[[], np.ndarray]] = field(default_factory=dict, repr=False)
    rows: np.ndarray | None = field(default=None, repr=False)
    columns: np.ndarray | None = field(default=None, repr=False)

    @cached_property
    def right(self) -> np.ndarray:
        """The right gradient, from the error signals so far."""
        if self.rows is None or self.columns is None:
            return self.make()
        [(u, s)] = self.uses
        return self.product(self.h(s), self.delta(u))

    @property
    def unit(self) -> str | None:
        """The unit in whose step it is; None of a shared weight; the leaf itself of a function."""
        if self.facts is None:
            return str(self.name)
        return None if self.name.path[0] == SHARED else self.name.path[0]

    @property
    def is_bias(self) -> bool:
        """Whether it is that of a unit's bias."""
        return isinstance(self.name, Name) and self.name.path[-1] == ONE and self.name.path[0] != SHARED

    @property
    def edge(self) -> tuple[str, str] | None:
        """The unit and the source of the only edge that uses the weight."""
        return self.uses[0] if len(self.uses) == 1 else None

    def h(self, s: str) -> np.ndarray:
        """H of an input or unit, or what of it the rows need."""
        return self.of_rows(self._known.h[s])

    def a(self, s: str) -> np.ndarray:
        """A of a unit, likewise."""
        return self.of_rows(self._known.a[s])

    def delta(self, u: str) -> np.ndarray:
        """δ of a unit, or what of it the columns need."""
        # a unit that comes later has that of a right pass
        delta = self.deltas[u] if u in self.deltas else self._known.right[Name("delta", (u,))]
        return self.of_columns(delta)

    def signal(self, u: str) -> np.ndarray:
        """Δ of a unit, likewise."""
        return self.of_columns(self.Deltas[u])

    def product(self, h: np.ndarray | None, delta: np.ndarray) -> np.ndarray:
        """What the weight's edge makes of an h and a δ: hᵀ δ, or the sum of δ for a bias."""
        [(u, s)] = self.uses
        return contracted(self._known, u, s, h, delta)

    def weight(self) -> np.ndarray:
        """The parameter, or the rows and columns of it that are looked at."""
        return self.part_of(self.W)

    def other(self, name: Any) -> np.ndarray:
        """Another gradient of equal shape, likewise."""
        return self.part_of(self.alike[name]())

    def part_of(self, array: np.ndarray) -> np.ndarray:
        """The rows and columns of an array of the gradient's shape."""
        return array if self.rows is None or self.columns is None else array[np.ix_(self.rows, self.columns)]

    def of_columns(self, signal: np.ndarray) -> np.ndarray:
        """The columns of a signal that is as wide as the unit."""
        return signal if self.columns is None else signal[..., self.columns]

    def of_rows(self, h: np.ndarray) -> np.ndarray:
        """The rows of an input, which are columns of it."""
        return h if self.rows is None else h[..., self.rows]

    @property
    def _known(self) -> Facts:
        assert self.facts is not None
        return self.facts

    def sample(self) -> "Gradient | None":
        """A few rows and columns of a large matrix, on which most mistakes show at once; None of any other."""
        if self.edge is None or self.W.size <= _LARGE or self.W.ndim != 2 or self.facts is None:
            return None
        u, s = self.edge
        if s == ONE or not isinstance(self.facts.edge(u, s).connection, Dense):
            return None
        columns = np.linspace(0, self.W.shape[1] - 1, _PART, dtype=int)
        rows = columns if self.W.shape[0] == self.W.shape[1] else np.linspace(0, self.W.shape[0] - 1, _PART, dtype=int)
        mine = self.mine
        if mine is not None:
            mine = mine[np.ix_(rows, columns) if mine.shape == self.W.shape else np.ix_(columns, rows)]
        return replace(self, rows=rows, columns=columns, mine=mine)
