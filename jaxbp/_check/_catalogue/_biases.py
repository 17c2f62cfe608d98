"""Mistakes in ∂L/∂b_u = Σ δ_u, the sum over the examples: over too much, over too little, or of something else."""

from collections.abc import Callable, Iterator

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
    for i in range(min(facts.examples, _MOST)):
        yield Case(
            f"{_right(gradient)}, not that of example {i} alone",
            lambda gradient, i=i: gradient.delta(u)[i].reshape(-1, *gradient.W.shape).sum(axis=0), str(i), u,
        )  # fmt: skip


def _over_units(gradient: Gradient) -> Iterator[Case]:
    u = _unit_of(gradient)
    if u is not None and gradient.W.size > 1:
        kinds: tuple[tuple[str, Callable[[np.ndarray], float]], ...] = (("sum", np.sum), ("mean", np.mean))
        for words, of in kinds:
            text = f"{_right(gradient)}, one number for each unit, not the {words} over the units too"
            yield Case(text, lambda gradient, of=of: np.full(gradient.W.shape, of(_over(gradient))), words, u)


def _wrong_axis(gradient: Gradient) -> Iterator[Case]:
    u, facts = _unit_of(gradient), gradient.facts
    if u is not None and facts is not None and facts.h[u].ndim == 2 and facts.examples == gradient.W.size > 1:
        for words, of in (("sum", np.sum), ("mean", np.mean)):
            text = f"{_right(gradient)} (axis 0), not its {words} over the units (axis 1)"
            yield Case(text, lambda gradient, of=of: of(gradient.delta(u), axis=1), words, u)


def _of_weights(gradient: Gradient) -> Iterator[Case]:
    u, facts = _unit_of(gradient), gradient.facts
    if u is None or facts is None:
        return
    for s, edge in facts.plan.edges[u].items():
        if s == ONE or edge.weight is None or s in facts.net.ids:
            continue
        shape = facts.weight(u, s).shape
        for axis, words in ((0, "column"), (1, "row")):
            if len(shape) == 2 and shape[1 - axis] == gradient.W.size:
                for name, of in (("sums", np.sum), ("means", np.mean)):
                    text = f"{_right(gradient)}, not the {words} {name} of the gradient of the weight from {s}"

                    def made(gradient: Gradient, s: str = s, axis: int = axis, of: Callable[..., np.ndarray] = of):
                        return of(contracted(facts, u, s, facts.h[s], gradient.delta(u)), axis=axis)

                    yield Case(text, made, f"{words} {name}", u)


BIASES = (
    Entry("bias-not-summed", "gradient", "mean δ_u, or δ_u of one example, stands where Σ δ_u belongs", _not_summed),
    Entry("bias-summed-over-units", "gradient", "one number for all stands where Σ δ_u belongs", _over_units),
    Entry("bias-over-wrong-axis", "gradient", "Σ over units stands where Σ over examples belongs", _wrong_axis),
    Entry("bias-of-weight-gradient", "gradient", "Σ ∂L/∂W stands where Σ δ_u belongs", _of_weights),
)
