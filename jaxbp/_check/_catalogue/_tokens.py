"""Mistakes in the gradient of a table of rows, ∂L/∂W[i] = Σ δ_u[p] over all places p that read row i."""

from collections.abc import Callable, Iterator

import numpy as np

from jaxbp._check._entry import Case, Entry
from jaxbp._check._facts import Facts
from jaxbp._check._gradient import Gradient
from jaxbp._check._pass import Pass
from jaxbp._graph import ONE, SHARED
from jaxbp._names import Name
from jaxbp.connections import Embedding

Made = Callable[[np.ndarray, np.ndarray, tuple[int, ...]], np.ndarray]
"""A gradient of a table, from the ids, the δ and the shape of the table."""


def _summed(ids: np.ndarray, delta: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    grad = np.zeros(shape)
    np.add.at(grad, ids.ravel().astype(int), delta.reshape(-1, shape[-1]))
    return grad


def _stored(ids: np.ndarray, delta: np.ndarray, shape: tuple[int, ...], order: int = 1) -> np.ndarray:
    grad = np.zeros(shape)
    # of repeated indices the last one stays
    grad[ids.ravel()[::order].astype(int)] = delta.reshape(-1, shape[-1])[::order]
    return grad


def _stored_in_each(ids: np.ndarray, delta: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.sum([_stored(of, signal, shape) for of, signal in zip(ids, delta, strict=True)], axis=0)


_OVERWRITTEN: dict[str, Made] = {
    "only the last place of each id counts": _stored,
    "only the first place of each id counts": lambda ids, delta, shape: _stored(ids, delta, shape, -1),
    "only the last place of each id in an example counts": _stored_in_each,
}
_SHIFTED: dict[str, Made] = {
    "the place before": lambda ids, delta, shape: _summed(np.roll(ids, 1, -1), delta, shape),
    "the place behind": lambda ids, delta, shape: _summed(np.roll(ids, -1, -1), delta, shape),
    "the example before": lambda ids, delta, shape: _summed(np.roll(ids, 1, 0), delta, shape),
    "the example behind": lambda ids, delta, shape: _summed(np.roll(ids, -1, 0), delta, shape),
}


def _tables(facts: Facts, name: Name) -> list[tuple[str, str]]:
    """The edges that read rows of a table."""
    edges = facts.plan.uses[name.path]
    return [(e.unit, e.source) for e in edges if e.source != ONE and isinstance(e.connection, Embedding)]


def _of_gradient(gradient: Gradient, ways: dict[str, Made], text: str) -> Iterator[Case]:
    if gradient.facts is None or gradient.edge is None or not _tables(gradient.facts, gradient.name):
        return
    u, s = gradient.edge
    for words, made in ways.items():
        yield Case(
            text.format("{}", words),
            lambda gradient, made=made: made(gradient.h(s), gradient.delta(u), gradient.W.shape), words, u,
        )  # fmt: skip


def _of_use(state: Pass, name: Name, ways: dict[str, Made], text: str) -> Iterator[Case]:
    for use in _tables(state.facts, name) if name.path[0] == SHARED else ():
        for words, made in ways.items():

            def total(
                state: Pass, parts: dict[tuple[str, str], np.ndarray], use: tuple[str, str] = use, made: Made = made
            ) -> np.ndarray:
                (u, s), shape = use, parts[use].shape
                own = made(state.facts.h[s], state.delta[u], shape)
                return own + np.sum([np.zeros(shape), *(part for v, part in parts.items() if v != use)], axis=0)

            yield Case(text.format("{}", words), total, words, use[0])


_ROWS = "the rows of {} are overwritten where they should add up: {}"
_IDS = "the ids of {1} stand where those of the place itself belong, in {0}"


def _rows(gradient: Gradient) -> Iterator[Case]:
    yield from _of_gradient(gradient, _OVERWRITTEN, _ROWS)


def _rows_of_use(state: Pass, name: Name) -> Iterator[Case]:
    yield from _of_use(state, name, _OVERWRITTEN, _ROWS)


def _ids(gradient: Gradient) -> Iterator[Case]:
    yield from _of_gradient(gradient, _SHIFTED, _IDS)


def _ids_of_use(state: Pass, name: Name) -> Iterator[Case]:
    yield from _of_use(state, name, _SHIFTED, _IDS)


TOKENS = (
    Entry("rows-overwritten", "gradient", "∂L/∂W[i] = δ stands where ∂L/∂W[i] += δ belongs", _rows),
    Entry("rows-overwritten", "use", "∂L/∂W[i] = δ stands where ∂L/∂W[i] += δ belongs", _rows_of_use),
    Entry("wrong-input", "gradient", "∂L/∂W[i of another place] += δ", _ids, rank=1),
    Entry("wrong-input", "use", "∂L/∂W[i of another place] += δ", _ids_of_use, rank=1),
)
