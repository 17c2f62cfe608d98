"""How far a right program, or somebody with a calculator, may be off: what changes when each number is rounded."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxbp._check._compare import half_units, magnitude, relative_half_unit
from jaxbp._check._facts import Corner, Facts, phi
from jaxbp._check._noise import Noise
from jaxbp._check._pass import LOSS, Pass
from jaxbp._check._session import in_float64
from jaxbp._check._steps import output_signals, pulled_back
from jaxbp._function_unit import FunctionUnit, over_examples
from jaxbp._names import Name, named
from jaxbp._plan import Edge
from jaxbp.connections import Bias, Dense, Identity, MaxPool
from jaxbp.losses import Loss

_SAMPLES = 6
_SAFETY = 12.0
_OF_ZERO = 1e-10
_BY_HAND, _DEVIATIONS, _ROUNDED = 40, 4.0, 2.0


@dataclass(frozen=True, eq=False)
class _Rounding:
    """What rounds each number of a pass, at random: by up to an epsilon of it, or to some significant digits."""

    epsilon: float
    rng: np.random.Generator
    digits: int = 0

    def __call__(self, array: np.ndarray) -> np.ndarray:
        if not self.digits:
            return array * (1 + self.epsilon * self._drawn(array))
        return array + _ROUNDED * half_units(array, self.digits) * self._drawn(array)

    def given(self, array: np.ndarray) -> np.ndarray:
        """A number that nothing computes; who writes digits leaves one alone that has no more of them."""
        if not self.digits:
            return self(array)
        units = half_units(array, self.digits)
        written = np.round(array / np.where(units, 2 * units, 1)) * 2 * units
        return np.where(np.abs(array - written) <= 1e-6 * np.abs(array), array, self(array))

    def terms(self, h: np.ndarray, W: np.ndarray) -> Any:
        """What rounding adds to a matrix product, the terms of which are written down by hand one by one."""
        return self.epsilon * np.sqrt(h**2 @ W**2) * self._drawn(h @ W) if self.digits else 0.0

    def _drawn(self, array: np.ndarray) -> np.ndarray:
        return self.rng.uniform(-1, 1, np.shape(array))


def rounding_errors(facts: Facts, epsilon: float, on_corners: Mapping[str, Corner]) -> dict[Name, float]:
    """The largest error of any element of each quantity that rounding can explain, where it is epsilon in one step.

    Both phases run a few times with every number changed at random by up to its last digit; the largest change, with a
    margin, is what the format explains. Sums that cancel and masks that flip show in it, as they do in programs, but no
    mask flips on a corner: that is no matter of rounding.
    """
    exact = _noisy_quantities(facts, _Rounding(0, np.random.default_rng(0)), on_corners)
    errors = dict.fromkeys(facts.right, 0.0)
    for seed in range(_SAMPLES):
        # some programs round more often than once for each quantity
        noisy = _noisy_quantities(facts, _Rounding(epsilon * (1 + seed % 3), np.random.default_rng(seed)), on_corners)
        for name, array in noisy.items():
            with np.errstate(invalid="ignore"):
                error = np.abs(array - exact[name])
            errors[name] = max(errors[name], float(np.max(error, initial=0, where=np.isfinite(error))))
    largest = max(magnitude(array) for name, array in facts.right.items() if name.kind == "grad")
    for name, array in facts.right.items():
        # where everything is 0 there is nothing that an error is relative to
        if name.kind == "grad" and not np.any(array):
            errors[name] = max(errors[name], max(_OF_ZERO, epsilon) * largest)
    return {name: _SAFETY * error for name, error in errors.items()}


def errors_by_hand(facts: Facts, digits: int, on_corners: Mapping[str, Corner]) -> dict[Name, np.ndarray]:
    """The error of each element that is explained by writing every number down with so many significant digits.

    Who does so is off by half a unit of the last digit in each number, and with the product of two also by what they
    were off. Both phases run some forty times with every number changed at random by up to one unit, which is two
    roundings on the way to it; four standard deviations of what comes out are explained.
    """
    squares = {name: np.zeros(array.shape) for name, array in facts.right.items()}
    for seed in range(_BY_HAND):
        rounding = _Rounding(relative_half_unit(digits), np.random.default_rng(seed), digits)
        with np.errstate(all="ignore"):
            for name, array in _noisy_quantities(facts, rounding, on_corners).items():
                squares[name] += np.nan_to_num((array - facts.right[name]) ** 2, posinf=0)
    return {name: _DEVIATIONS * np.sqrt(array / _BY_HAND) for name, array in squares.items()}


def _noisy_quantities(facts: Facts, rounded: _Rounding, on_corners: Mapping[str, Corner]) -> Mapping[Name, np.ndarray]:
    net = facts.net
    pooled = {
        e.source for of_u in facts.plan.edges.values() for e in of_u.values() if isinstance(e.connection, MaxPool)
    }

    params = {u: {s: rounded.given(W) for s, W in weights.items()} for u, weights in facts.params.items()}
    h = {s: facts.h[s] if s in net.ids else rounded.given(facts.h[s]) for s in net.inputs}
    h |= {s: _alike(h[s], facts.h[s]) for s in pooled & h.keys()}
    a: dict[str, np.ndarray] = {}
    for u in net.order:
        unit = net.units[u]
        if isinstance(unit, FunctionUnit):
            a[u] = _noisy_function(unit, h, rounded.epsilon, rounded.rng)
        else:
            terms = [_applied(edge, edge.weight_in(params), h, rounded) for edge in facts.plan.edges[u].values()]
            a[u] = rounded(reduce(add, terms))
        h[u] = rounded(phi(unit.activation, a[u]))
        h[u] = _alike(h[u], facts.h[u]) if u in pooled else h[u]
    right = dict(facts.right)
    at = replace(facts, params=params, a=a, h=h, right=right)
    for u, corner in on_corners.items():
        at.slopes[u] = np.where(corner.mask, facts.slopes[u], at.slopes[u])
    o = net.output
    right[Name("Delta", (o,))], right[Name("delta", (o,))] = output_signals(at, at.y)
    state = Pass(at)
    for step in state.steps:
        if step == LOSS:
            continue
        signals = state.signals(step, ())
        if step in net.units:
            Delta, delta = Name("Delta", (step,)), Name("delta", (step,))
            if rounded.digits and step != o:
                signals[Delta] = rounded(signals[Delta]) + _of_terms(state, step, rounded)
                signals[delta] = pulled_back(at, step, signals[Delta])
            signals[delta] = rounded(signals[delta])
        state = state.after(signals, ())
    quantities = state.quantities()
    if rounded.digits:  # in a format a loss has as many digits as everything else
        quantities[Name("loss")] = in_float64(_mean, facts.loss)(h[o], facts.y)
    return {name: rounded(array) for name, array in quantities.items()} | named({"a": a, "h": h})


def _of_terms(state: Pass, s: str, rounded: _Rounding) -> Any:
    """What rounding the terms of Δ one by one adds to it."""
    edges = [edge for v in state.facts.plan.readers[s] if (edge := state.facts.edge(v, s)).connection == Dense()]
    return sum(rounded.terms(state.delta[e.unit], e.weight_in(state.facts.params).T) for e in edges)


def _mean(loss: Loss, o: Array, y: Array) -> Array:
    return jnp.sum(loss.value(o, y)) / o.shape[0]


def _alike(noisy: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Noisy numbers, equal where the exact ones are: the largest of equals stays the one that it is."""
    size = float(np.max(np.abs(exact), initial=0)) or 1.0
    _, places = np.unique(np.round(exact / size, 12), return_inverse=True)
    places = places.ravel()
    return (np.bincount(places, noisy.ravel()) / np.bincount(places))[places].reshape(exact.shape)


def _noisy_function(
    unit: FunctionUnit, h: Mapping[str, np.ndarray], epsilon: float, rng: np.random.Generator
) -> np.ndarray:
    """The value of a function that rounds in each of its steps."""
    # what a mask hides may be the smallest number there is, which overflows
    with jax.enable_x64(True), np.errstate(over="ignore"):
        inputs = [jnp.asarray(h[s]) for s in unit.sources]
        program = jax.make_jaxpr(over_examples(unit.function, 1))(*inputs)
        return np.asarray(Noise(epsilon, rng).run(program, inputs)[0])


def _applied(edge: Edge, W: Any, h: Mapping[str, np.ndarray], rounded: _Rounding) -> np.ndarray:
    """What an edge adds to a."""
    match edge.connection:
        case Bias():
            return W
        case Dense():
            return rounded(h[edge.source] @ W) + rounded.terms(h[edge.source], W)
        case Identity():
            return rounded(h[edge.source])
        case _:
            return rounded(in_float64(type(edge.linear).apply, edge.linear)(W, h[edge.source]))
