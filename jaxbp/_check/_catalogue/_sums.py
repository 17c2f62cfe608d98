"""Mistakes in the gradient of a function with sums that all depends on, such as a mean, a variance or a norm."""

from collections.abc import Iterator
from math import log10

import numpy as np

from jaxbp._check._entry import Case, Entry
from jaxbp._check._gradient import Gradient


def _constant(gradient: Gradient) -> Iterator[Case]:
    for where, make in gradient.without.items():
        if np.any(make()):  # without the sum that is the function itself there is nothing left
            text = f"{{}} takes {where} to be constant: what leads back through there is missing"
            yield Case(
                text, lambda gradient, make=make: make(), where, gradient.unit, choices=log10(len(gradient.without))
            )


SUMS = (
    Entry("missing-path", "gradient", "∂f/∂x at constant μ(x), σ(x) stands where df/dx belongs", _constant, rank=1),
)
