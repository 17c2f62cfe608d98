"""Numbers for an exercise on paper: a small network that a seed draws, in which every line fits a calculator."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

import numpy as np

import jaxbp

DIGITS = 4
"""How many significant digits a result has on a sheet."""

HIDDEN = ("sigmoid", "tanh", "relu", "linear")
OUTPUTS = (*HIDDEN, "softmax")
LOSSES = {"squared_error": OUTPUTS, "cross_entropy": ("softmax", "sigmoid"), "binary_cross_entropy": ("sigmoid",)}
"""The losses, each with the outputs that it takes."""

_WEIGHTS = [sign * n / 10 for n in range(1, 10) for sign in (1, -1)]
_INPUTS = [sign * number for number in (0.5, 1.0, 2.0) for sign in (1, -1)]
_TARGETS = {"linear": _INPUTS, "relu": [0.5, 1.0, 2.0], "sigmoid": [0.0, 1.0], "tanh": [-0.5, 0.5]}
_LEAST, _MOST = 0.05, 2.0  # of a pre-activation: on no corner, and where no activation saturates
_LEAST_SIGNAL, _APART, _ZERO = 0.01, 0.01, 1e-12
_DRAWS = 20_000

FITTING = 12
"""How many draws are compared; each is explained, which takes a tenth of a second."""


@dataclass(frozen=True)
class Setting:
    """What is drawn: the widths of the layers, input first, with the names of activations and of the loss."""

    widths: tuple[int, ...]
    hidden: str
    output: str
    loss: str

    @cached_property
    def net(self) -> jaxbp.Network:
        """The network."""
        hidden, output = getattr(jaxbp, self.hidden), getattr(jaxbp, self.output)
        return jaxbp.layered(list(self.widths), hidden=hidden, output=output)


@dataclass(frozen=True, eq=False)
class Drawn:
    """One exercise: the numbers that are given, and all that follows from them."""

    setting: Setting
    seed: int
    params: dict[str, dict[str, np.ndarray]]
    x: np.ndarray
    y: np.ndarray

    @cached_property
    def work(self) -> jaxbp.Explanation:
        """The worked solution."""
        loss = getattr(jaxbp, self.setting.loss)
        return jaxbp.explain(self.setting.net, loss, self.params, self.x, self.y, digits=DIGITS)

    @property
    def has_clear_signals(self) -> bool:
        """Whether some signal comes back to every layer, and no two of its elements can be taken for each other."""
        signals = [np.abs(step.value) for step in self.work.steps if step.name.startswith("delta")]
        # a signal that cancels is 0 on one machine and 1e-17 on another
        sizes = [signal[signal > _ZERO] for signal in signals]
        if "relu" not in (self.setting.hidden, self.setting.output) and any(np.any(s <= _ZERO) for s in signals):
            return False
        return all(len(size) and size.min() >= _LEAST_SIGNAL for size in sizes) and not any(map(_alike, sizes[1:]))

    @property
    def more_digits(self) -> int:
        """How many digits more than a result the numbers in all lines have together; 0 where the printed ones do."""
        lines = [equation for step in self.work.steps for equation in step.equations if equation is not None]
        return sum(line.operands.digits - DIGITS for line in lines if line.operands is not None)


def drawn(setting: Setting, seed: int) -> Drawn:
    """The numbers of a seed: of those that fit, the first in which each line needs no more digits than are printed.

    They have one decimal, no unit saturates or is on a corner, some signal comes back to each layer, and no two
    elements of a layer are alike. Where printed digits never suffice, those are taken that need the fewest more.

    Raises:
        ValueError: No numbers fit such a network.
    """
    fitting: list[Drawn] = []
    for one in draws(setting, seed):
        if one.has_clear_signals:
            fitting.append(one)
            if not one.more_digits:
                return one
    if not fitting:
        raise ValueError(
            f"no kind numbers were found for {'-'.join(map(str, setting.widths))} with {setting.hidden} and "
            f"{setting.output}; take fewer or narrower layers"
        )
    return min(fitting, key=lambda one: one.more_digits)


def draws(setting: Setting, seed: int) -> Iterator[Drawn]:
    """Numbers at which the forward phase is kind, the ones that a seed draws in its order."""
    # of Random, only what a text seeds and random() gives is promised to stay the same in all versions of Python
    rng, found = Random(f"{setting} {seed}"), 0

    def some(numbers: Sequence[float], *shape: int) -> np.ndarray:
        return np.array([numbers[int(rng.random() * len(numbers))] for _ in range(math.prod(shape))]).reshape(shape)

    for _ in range(_DRAWS):
        x = np.array(sorted(_INPUTS, key=lambda _: rng.random())[: setting.widths[0]])
        params = {
            u: {s: some(_WEIGHTS, *shape) for s, shape in setting.net.weight_shapes[u].items()}
            for u in setting.net.units
        }
        n = setting.widths[-1]
        if setting.output == "softmax" or setting.loss == "cross_entropy":
            y = np.eye(n)[int(rng.random() * n)]
        else:
            y = some(_TARGETS[setting.output], n)
        if _is_kind(setting, params, x):
            yield Drawn(setting, seed, params, x, y)
            found += 1
            if found == FITTING:
                return


def _is_kind(setting: Setting, params: Any, x: np.ndarray) -> bool:
    """Whether the forward phase has pre-activations of a good size: a filter, before jaxbp makes an exercise of it."""
    h = x
    for u in setting.net.units:
        W, b = params[u].values()
        a = h @ W + b
        if np.min(np.abs(a)) < _LEAST or np.max(np.abs(a)) > _MOST or _alike(a):
            return False
        h = _PHI[setting.hidden](a)
        if np.count_nonzero(h) < (len(a) + 1) // 2:
            return False
    return True


def _alike(numbers: np.ndarray) -> bool:
    """Whether two of them that are not 0 can be taken for each other."""
    kept = np.sort(np.abs(numbers[numbers != 0]))
    return bool(np.any(np.diff(kept) < _APART * kept[1:]))


_PHI: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda a: a,
    "relu": lambda a: np.maximum(a, 0),
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "tanh": np.tanh,
}
