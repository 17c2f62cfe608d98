"""The terms that a connection adds up: a_u[j] = Σ t · W[k] · h_s[i], and who appears in them.

A connection is linear in W and in h_s, so three questions tell all of it: which terms lead into an element of the
unit, which lead out of an element of the source, and which belong to a weight.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxbp._explain._expressions import Index
from jaxbp._unrolled import Joined, OfSlice, Slice
from jaxbp.connections import Bias, Connection, Dense, Embedding, Identity, Shape, Transposed

_LARGEST_TABLE = 1_000_000


class Term(NamedTuple):
    """One term t · W[weight] · h_s[source] of a_u[unit]; weight or source is None where there is none."""

    t: float
    weight: Index | None
    source: Index | None
    unit: Index


class Terms(Protocol):
    """The terms of one connection: those into an element of the unit, out of one of the source, and of a weight."""

    def into(self, unit: Index) -> list[Term]: ...
    def out_of(self, source: Index) -> list[Term]: ...
    def of(self, weight: Index) -> list[Term]: ...


def terms_of(
    connection: Connection, weight: Shape | None, source: Shape, unit: Shape, ids: np.ndarray | None = None
) -> Terms:
    """The terms of a connection between a source and a unit of these shapes; which they are, ids say for an example."""
    match connection:
        case Embedding() if ids is not None:
            return _LookedUpTerms(ids)
        case OfSlice(inner) if ids is not None:
            return terms_of(inner, weight, source, unit, ids[connection.slice.index])
        case Slice(layer, axis):
            return _SliceTerms(layer, axis)
        case Joined(Slice(layer, axis)):
            return _JoinedTerms(_SliceTerms(layer, axis))
        case Dense():
            return _DenseTerms(source, unit)
        case Transposed():
            return _TransposedTerms(_DenseTerms(source, unit))
        case Identity():
            return _IdentityTerms()
        case Bias():
            return _BiasTerms(unit, weight or ())
        case _ if ids is not None:
            raise ValueError(f"{connection!r} reads ids in a way of its own, so its work cannot be shown as a sum")
        case _:
            return _ProbedTerms(connection, weight, source, unit)


def looked_up(connection: Connection, ids: np.ndarray) -> np.ndarray:
    """The ids that a connection reads, of one that it is from."""
    if not isinstance(connection, OfSlice):
        return ids
    return looked_up(connection.connection, ids[connection.slice.index])


@dataclass(frozen=True)
class _DenseTerms(Terms):
    source: Shape
    unit: Shape

    def into(self, unit: Index) -> list[Term]:
        *row, j = unit
        return [Term(1, (i, j), (*row, i), unit) for i in range(self.source[-1])]

    def out_of(self, source: Index) -> list[Term]:
        *row, i = source
        return [Term(1, (i, j), source, (*row, j)) for j in range(self.unit[-1])]

    def of(self, weight: Index) -> list[Term]:
        i, j = weight
        return [Term(1, weight, (*row, i), (*row, j)) for row in np.ndindex(self.unit[:-1])]


@dataclass(frozen=True)
class _TransposedTerms(Terms):
    matrix: _DenseTerms

    def into(self, unit: Index) -> list[Term]:
        return [_swapped(term) for term in self.matrix.into(unit)]

    def out_of(self, source: Index) -> list[Term]:
        return [_swapped(term) for term in self.matrix.out_of(source)]

    def of(self, weight: Index) -> list[Term]:
        return [_swapped(term) for term in self.matrix.of(weight[::-1])]


@dataclass(frozen=True)
class _LookedUpTerms(Terms):
    """The rows that the ids of an example say."""

    ids: np.ndarray

    def into(self, unit: Index) -> list[Term]:
        *place, j = unit
        return [Term(1, (int(self.ids[tuple(place)]), j), None, unit)]

    def out_of(self, source: Index) -> list[Term]:
        return []

    def of(self, weight: Index) -> list[Term]:
        i, j = weight
        return [Term(1, weight, None, (*place, j)) for place in map(_integers, np.argwhere(self.ids == i))]


@dataclass(frozen=True)
class _SliceTerms(Terms):
    """Elements of a source whose index along an axis, counted from the end, is that of a layer."""

    layer: int
    axis: int

    def into(self, unit: Index) -> list[Term]:
        at = len(unit) + 1 + self.axis
        return [Term(1, None, (*unit[:at], self.layer, *unit[at:]), unit)]

    def out_of(self, source: Index) -> list[Term]:
        at = len(source) + self.axis
        return [Term(1, None, source, (*source[:at], *source[at + 1 :]))] if source[at] == self.layer else []

    def of(self, weight: Index) -> list[Term]:
        return []


@dataclass(frozen=True)
class _JoinedTerms(Terms):
    """The other way round: an element of a layer's output is one of all outputs."""

    slice: _SliceTerms

    def into(self, unit: Index) -> list[Term]:
        return [_exchanged(term) for term in self.slice.out_of(unit)]

    def out_of(self, source: Index) -> list[Term]:
        return [_exchanged(term) for term in self.slice.into(source)]

    def of(self, weight: Index) -> list[Term]:
        return []


@dataclass(frozen=True)
class _IdentityTerms(Terms):
    def into(self, unit: Index) -> list[Term]:
        return [Term(1, None, unit, unit)]

    def out_of(self, source: Index) -> list[Term]:
        return [Term(1, None, source, source)]

    def of(self, weight: Index) -> list[Term]:
        return []


@dataclass(frozen=True)
class _BiasTerms(Terms):
    unit: Shape
    weight: Shape

    def into(self, unit: Index) -> list[Term]:
        return [Term(1, unit[-len(self.weight) :], None, unit)]

    def out_of(self, source: Index) -> list[Term]:
        return []

    def of(self, weight: Index) -> list[Term]:
        return [Term(1, weight, None, (*row, *weight)) for row in np.ndindex(self.unit[: -len(weight)])]


@dataclass(frozen=True)
class _ProbedTerms(Terms):
    """Terms of a connection that we know nothing of: found by applying it to unit vectors."""

    connection: Connection
    weight: Shape | None
    source: Shape
    unit: Shape

    def into(self, unit: Index) -> list[Term]:
        return [term for term in self._all if term.unit == unit]

    def out_of(self, source: Index) -> list[Term]:
        return [term for term in self._all if term.source == source]

    def of(self, weight: Index) -> list[Term]:
        return [term for term in self._all if term.weight == weight]

    @cached_property
    def _all(self) -> list[Term]:
        shape = self.weight or ()
        size = prod((*shape, *self.source, *self.unit))
        if size > _LARGEST_TABLE:
            raise ValueError(
                f"{self.connection!r} from shape {self.source} to {self.unit} is too large to be explained term by "
                f"term: {size} combinations of weight, source and unit"
            )
        with jax.enable_x64(True):
            sources = jnp.asarray(np.eye(prod(self.source)).reshape(-1, *self.source))
            weights = np.eye(prod(shape)).reshape(-1, *shape)
            table = np.asarray(jax.jit(jax.vmap(lambda W: self._apply(W, sources)))(weights))
        if table.shape[2:] != self.unit:
            raise ValueError(
                f"{self.connection!r} gives a contribution of shape {table.shape[2:]} to a unit of shape {self.unit}"
            )
        self._check_linear(table)
        found = []
        for k, i, *j in zip(*np.nonzero(table), strict=True):
            weight = None if self.weight is None else _unravelled(k, self.weight)
            unit = tuple(map(int, j))
            found.append(Term(float(table[(k, i, *j)]), weight, _unravelled(i, self.source), unit))
        return found

    def _apply(self, W: Array, h: Array) -> Array:
        return self.connection.apply(None if self.weight is None else W, h)

    def _check_linear(self, table: np.ndarray) -> None:
        rng = np.random.default_rng(0)
        h = rng.normal(size=self.source)
        W = np.ones(()) if self.weight is None else rng.normal(size=self.weight)
        with jax.enable_x64(True):
            applied = np.asarray(self._apply(jnp.asarray(W), jnp.asarray(h)))
        by_terms = np.tensordot(np.ravel(W), np.tensordot(h.ravel(), table, (0, 1)), 1)
        if not np.allclose(by_terms, applied, rtol=1e-9, atol=1e-12):
            of = "its source" if self.weight is None else "its weight and in its source"
            raise ValueError(f"{self.connection!r} is not linear in {of}, so its work cannot be shown as a sum")


def _swapped(term: Term) -> Term:
    return term._replace(weight=None if term.weight is None else term.weight[::-1])


def _exchanged(term: Term) -> Term:
    """A term without a weight, from its unit to its source."""
    (source, unit) = (term.unit, term.source or ())
    return term._replace(source=source, unit=unit)


def _unravelled(flat: int, shape: Shape) -> Index:
    return _integers(np.unravel_index(flat, shape))


def _integers(index: Iterable[Any]) -> Index:
    return tuple(map(int, index))
