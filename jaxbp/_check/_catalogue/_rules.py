"""Mistakes in a derivative rule of somebody's own: what it was called with stands where a derivative belongs."""

from collections.abc import Callable, Iterator

import numpy as np

from jaxbp._check._entry import Case, Entry
from jaxbp._check._gradient import Called, Gradient


def _handed_on(called: Called, gradient: Gradient) -> Iterator[tuple[str, np.ndarray]]:
    for cotangent in called.cotangents:
        yield "{} is the cotangent itself, as if the function were the identity", cotangent


def _value(called: Called, gradient: Gradient) -> Iterator[tuple[str, np.ndarray]]:
    for cotangent in called.cotangents:
        for name, x in called.arguments.items():
            if x.shape == cotangent.shape:
                yield f"{{}} is the cotangent times {name} itself, not times the derivative there", cotangent * x
        for output in called.outputs:
            if output.shape == cotangent.shape:
                yield "{} is the cotangent times the function's value, not times its derivative", cotangent * output


def _rows(called: Called, gradient: Gradient) -> Iterator[tuple[str, np.ndarray]]:
    """The sum over the axes along which the argument was broadcast, left out: one term of it is there, or a mean."""
    for cotangent in called.cotangents:
        extra = cotangent.ndim - gradient.W.ndim
        if extra > 0 and cotangent.shape[extra:] == gradient.W.shape:
            yield "{} is the cotangent of the first row only, not the sum over the rows", cotangent[(0,) * extra]
            mean = cotangent.mean(tuple(range(extra)))
            yield "{} is the mean of the cotangent over the rows where their sum belongs", mean


def _of(
    predictions: Callable[[Called, Gradient], Iterator[tuple[str, np.ndarray]]],
) -> Callable[[Gradient], Iterator[Case]]:
    def cases(gradient: Gradient) -> Iterator[Case]:
        if gradient.called is None:
            return
        for text, predicted in predictions(gradient.called, gradient):
            yield Case(text, lambda gradient, p=predicted: p, text, gradient.unit)

    return cases


RULES = (
    Entry("missing-broadcast-sum", "gradient", "g[0] or the mean of g stands where Σ g belongs", _of(_rows)),
    Entry("cotangent-handed-on", "gradient", "g stands where (∂f/∂x)ᵀ g belongs", _of(_handed_on), rank=1),
    Entry("value-for-derivative", "gradient", "x ⊙ g or f(x) ⊙ g stands where f'(x) ⊙ g belongs", _of(_value), rank=1),
)
