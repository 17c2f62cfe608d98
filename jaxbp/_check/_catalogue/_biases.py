"""Mistakes in ∂L/∂b_u = Σ δ_u, the sum over the examples: over too much, over too little, or of something else."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from jaxbp._check._entry import Case, Entry
from jaxbp._check._gradient import Gradient
from jaxbp._check._steps import contracted
from jaxbp._graph import ONE

_MOST = 256


def _unit_of(gradient: Gradient) -> str | None:
    return gradient.uses[0][0] if gradient.is_bias else None


def _over(gradient: Gradient) -> np.ndarray:
    """δ with all that a bias is the same for as one axis."""
    [(u, _)] = gradient.uses
    return gradient.delta(u).reshape(-1, *gradient.W.shape)


def _right(gradient: Gradient) -> str:
    return f"{gradient.name} is the sum of delta.{gradient.uses[0][0]} over the batch"


def _not_summed(gradient: Gradient) -> Iterator[Case]:
    u, facts = _unit_of(gradient), gradient.facts
    if u is None or facts is None or facts.examples == 1:
        return
    yield Case(f"{_right(gradient)}, not its mean", lambda gradient: _over(gradient).mean(axis=0), "mean", u)
    if facts.h[u].ndim > 1 + gradient.W.ndim:
        yield Case(
            f"{_right(gradient)} and the rows, not its mean over the batch",
            lambda gradient: _over(gradient).sum(axis=0) / facts.examples, "mean over examples", u,
        )  # fmt: skip
        yield Case(
            f"{_right(gradient)} and the rows, not that of the last row",
            lambda gradient: gradient.delta(u).reshape(facts.examples, -1, *gradient.W.shape)[:, -1].sum(axis=0),
            "last row", u,
        )  # fmt: skip
    for i in range(min(facts.examples, _MOST)):
        yield Case(
            f"{_right(gradient)}, not that of example {i} alone",
            lambda gradient, i=i: gradient.delta(u)[i].reshape(-1, *gradient.W.shape).sum(axis=0), str(i), u,
        )  # fmt: skip


def _over_units(gradient: Gradient) -> Iterator[Case]:
    u = _unit_of(gradient)
    if u is not None and gradient.W.size > 1:
        kinds: tuple[tuple[str, Callable[[np.ndarray], float]], ...] = (
            ("sum", np.sum), ("mean", lambda delta: delta.sum(axis=0).mean()), ("mean of all", np.mean),
        )  # fmt: skip
        for words, of in kinds:
            text = f"{_right(gradient)}, one number for each unit, not the {words} over the units too"
            yield Case(text, lambda gradient, of=of: np.full(gradient.W.shape, of(_over(gradient))), words, u)


def _wrong_axis(gradient: Gradient) -> Iterator[Case]:
    u, facts = _unit_of(gradient), gradient.facts
    if u is None or facts is None or gradient.W.size == 1:
        return
    shape = facts.h[u].shape
    for kept in range(len(shape) - 1):
        axes = tuple(axis for axis in range(len(shape)) if axis != kept)
        if shape[kept] == gradient.W.size:
            for words, of in (("sum", np.sum), ("mean", np.mean)):
                text = f"{_right(gradient)}, not its {words} over {'axis' if len(axes) == 1 else 'axes'} "
                text += ", ".join(map(str, axes))
                yield Case(text, lambda gradient, of=of, axes=axes: of(gradient.delta(u), axis=axes), words, u)


def _of_weights(gradient: Gradient) -> Iterator[Case]:
    u, facts = _unit_of(gradient), gradient.facts
    if u is None or facts is None:
        return
    for s, edge in facts.plan.edges[u].items():
        if s == ONE or edge.weight is None or s in facts.net.ids:
            continue
        shape = facts.weight(u, s).shape
        for kept in (len(shape) - 1, len(shape) - 2) if len(shape) > 1 else ():
            if shape[kept] != gradient.W.size:
                continue
            words = "column" if kept == len(shape) - 1 else "row"
            axes = tuple(axis for axis in range(len(shape)) if axis != kept)
            for name, of in (("sums", np.sum), ("means", np.mean)):
                text = f"{_right(gradient)}, not the {words} {name} of the gradient of the weight from {s}"
                yield Case(text, partial(_reduced, of, axes, u, s), f"{words} {name}", u)


def _reduced(of: Callable[..., np.ndarray], axes: tuple[int, ...], u: str, s: str, gradient: Gradient) -> np.ndarray:
    """A sum or mean of the gradient of another weight of the unit."""
    assert gradient.facts is not None
    return of(contracted(gradient.facts, u, s, gradient.facts.h[s], gradient.delta(u)), axis=axes)


BIASES = (
    Entry("bias-not-summed", "gradient", "mean δ_u, or δ_u of one example, stands where Σ δ_u belongs", _not_summed),
    Entry("bias-summed-over-units", "gradient", "one number for all stands where Σ δ_u belongs", _over_units),
    Entry("bias-over-wrong-axis", "gradient", "Σ over units stands where Σ over examples belongs", _wrong_axis),
    Entry("bias-of-weight-gradient", "gradient", "Σ ∂L/∂W stands where Σ δ_u belongs", _of_weights),
)
