"""Digits of which some have a random label: what a network can only learn by heart."""

from typing import NamedTuple

import numpy as np

from jaxbp.experiments.common.data import load

DIGITS, CLASSES = 1797, 10


class Parts(NamedTuple):
    """A training, a validation and a test part; several splits are stacked on a first axis.

    Attributes:
        x: `(examples, 64)`, float32.
        y: `(examples,)`, int32, some at random.
        x_validation: Like x.
        y_validation: Like y.
        x_test: Like x.
        y_test: Like y, all true.
    """

    x: np.ndarray
    y: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def split(seed: int, examples: int, validation: int, noise: float) -> Parts:
    """The digits in three parts, a share of the first two with a random label.

    Args:
        seed: Fixes the parts and the labels.
        examples: To train on.
        validation: Further ones; the rest is the test part.
        noise: The share of labels that are drawn at random.
    """
    known = examples + validation
    data = load("digits", seed=seed, test_share=1 - (known + 0.5) / DIGITS)  # the half: shares are rounded
    rng = np.random.default_rng(seed)
    y = np.where(rng.random(known) < noise, rng.integers(CLASSES, size=known), data.y_train).astype(np.int32)
    parts = (data.x_train[:examples], y[:examples], data.x_train[examples:], y[examples:])
    return Parts(*parts, data.x_test, data.y_test)
