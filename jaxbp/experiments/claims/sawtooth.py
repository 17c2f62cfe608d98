"""The sawtooth: its points, errors, the network that computes it, and the least units of one hidden layer."""

import numpy as np

import jaxbp
from jaxbp.experiments.claims.growing import Weights, first_weights, network
from jaxbp.experiments.claims.segments import least_errors

JUDGED = 16  # points on each straight piece, to measure errors at


def tent(folds: int, x: np.ndarray) -> np.ndarray:
    """The tent map 1 − |1 − 2x|, so many times: 2^folds straight pieces over [0, 1]."""
    for _ in range(folds):
        x = 1 - np.abs(1 - 2 * x)
    return x


def points(number: int) -> np.ndarray:
    """The midpoints of equal parts of [0, 1], `(number, 1)`."""
    return (np.arange(number)[:, None] + 0.5) / number


def judged(folds: int) -> np.ndarray:
    """Where errors are measured, and the bound is taken."""
    return points(JUDGED * 2**folds)


def least_units(folds: int, target: float) -> int:
    """Without which no network of one hidden layer reaches the target at the judged points."""
    x = judged(folds)[:, 0]
    y = tent(folds, x)
    errors = np.sqrt(least_errors(x, y, 2**folds) / len(x)) / np.std(y)
    return int(np.argmax(errors <= target))  # one more piece than units; 2^folds pieces have error 0


def folding(folds: int) -> tuple[jaxbp.Network, Weights]:
    """The sawtooth itself: tent(x) = 2 relu(x) − 4 relu(x − 1/2) on [0, 1], a hidden layer for each fold."""
    net = network(folds, 2)
    params: Weights = {}
    for u, (source, (_, n)) in first_weights(net).items():
        W = np.ones((1, n)) if source == "x" else np.tile([[2.0], [-4.0]], (1, n))
        bias = [0.0] if u == net.output else [0.0, -0.5]
        params[u] = {source: W.astype(np.float32), "bias": np.array(bias, np.float32)}
    return net, params


def relative_errors(o: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The root mean square of o − truth over the points, relative to the standard deviation of truth."""
    return np.sqrt(np.mean((o - truth) ** 2, axis=(-2, -1))) / np.std(truth)
