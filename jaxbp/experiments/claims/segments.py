"""The least error that any one hidden layer of relu units can have on a function of one variable.

A unit relu(w x + b) bends once, so a network with one hidden layer of n units over one input is piecewise linear with
at most n + 1 pieces. Its outputs at sorted points are therefore linear on at most n + 1 groups of neighbours. Here the
best such groups are found, each with its own least-squares line, by dynamic programming over where the last begins.
The lines need not meet, which only lowers the error: no weights, whatever found them, go below it.
"""

import numpy as np


def least_errors(x: np.ndarray, y: np.ndarray, pieces: int) -> np.ndarray:
    """The least sums of squared errors with at most 1, 2, … pieces.

    Args:
        x: The points, rising, `(points,)`.
        y: The values there, `(points,)`.
        pieces: The largest number of them.

    Returns:
        One sum for each number of pieces, `(pieces,)`; that of n + 1 pieces bounds a hidden layer of n units.
    """
    costs = line_costs(x, y)
    least = costs[0]  # of the first j points, for each j
    sums = [least[-1]]
    table = np.empty_like(costs)
    for _ in range(pieces - 1):
        least = np.min(np.add(least[:, None], costs, out=table), axis=0)
        sums.append(least[-1])
    return np.array(sums)


def best_fit(x: np.ndarray, y: np.ndarray, pieces: int) -> np.ndarray:
    """The values at the points of the lines that have the least error with at most so many pieces, `(points,)`."""
    costs = line_costs(x, y)
    least, begins = costs[0], [np.zeros(len(costs), int)]
    for _ in range(pieces - 1):
        table = least[:, None] + costs
        begins.append(np.argmin(table, axis=0))
        least = np.min(table, axis=0)
    o, end = np.empty(len(x)), len(x)
    for begin_of_last in reversed(begins):
        begin = int(begin_of_last[end])
        if begin < end:
            group = slice(begin, end)
            o[group] = np.polyval(np.polyfit(x[group], y[group], min(1, end - begin - 1)), x[group])
        end = begin
    return o


def line_costs(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The squared error of the best line over the points i, …, j − 1: `(points + 1, points + 1)`, ∞ where i > j."""
    x, y = x - np.mean(x), y - np.mean(y)  # the differences below then lose fewer digits

    def over(values: np.ndarray) -> np.ndarray:
        sums = np.concatenate([np.zeros(1), np.cumsum(values)])
        return sums[None, :] - sums[:, None]

    n = over(np.ones(len(x)))
    count, sum_x, sum_y = np.maximum(n, 1), over(x), over(y)
    xx, xy, yy = over(x * x) - sum_x**2 / count, over(x * y) - sum_x * sum_y / count, over(y * y) - sum_y**2 / count
    cost = np.maximum(yy - xy**2 / np.where(n > 2, xx, 1), 0)
    return np.select([n < 0, n <= 2], [np.inf, 0], cost)  # a line goes through any two points
