"""Mistakes on the way from Delta of a unit to its delta."""

from collections.abc import Iterator

import numpy as np
from plain_rules import DERIVATIVE
from wrong_networks import Problem

import jaxbp
from jaxbp.activations import Activation
from mistakes._parts import (
    COLLAPSING,
    Arrays,
    Changes,
    diagonal_pulled_back,
    equally_wide_units,
    is_elementwise,
    masked,
    product,
    pulled_back,
    same_as,
    times,
)


def missing_derivative(problem: Problem, u: str) -> Iterator[Changes]:
    yield {f"delta.{u}": same_as(f"Delta.{u}")}


def is_curved(problem: Problem, u: str) -> bool:
    Phi = problem.activation(u)
    return is_elementwise(Phi) and Phi is not jaxbp.linear


def activation_for_derivative(problem: Problem, u: str) -> Iterator[Changes]:
    if is_curved(problem, u):
        yield {f"delta.{u}": product(f"h.{u}", f"Delta.{u}")}


def derivative_at_output(problem: Problem, u: str) -> Iterator[Changes]:
    if is_elementwise(problem.activation(u)):
        yield {f"delta.{u}": pulled_back(problem.activation(u), f"h.{u}", f"Delta.{u}")}


def derivative_of_other_unit(problem: Problem, u: str) -> Iterator[Changes]:
    if is_elementwise(problem.activation(u)):
        for v in equally_wide_units(problem.net, u):
            yield {f"delta.{u}": pulled_back(problem.activation(u), f"a.{v}", f"Delta.{u}")}


def relu_mask(problem: Problem, u: str) -> Iterator[Changes]:
    """Taken from the incoming signal, or from another unit."""
    if problem.activation(u) is jaxbp.relu:
        for name in [f"Delta.{u}", *(f"a.{v}" for v in equally_wide_units(problem.net, u))]:
            yield {f"delta.{u}": masked(name, f"Delta.{u}")}


FORMULAS = {
    # what is written where Φ'(a) belongs, from a, h, Δ and Φ'
    "a (1 − a)": lambda a, h, Delta, slope: a * (1 - a),
    "1 − a²": lambda a, h, Delta, slope: 1 - a**2,
    "h (1 − h)": lambda a, h, Delta, slope: h * (1 - h),
    "1 − h²": lambda a, h, Delta, slope: 1 - h**2,
    "1 − h": lambda a, h, Delta, slope: 1 - h,
    "Δ (1 − Δ)": lambda a, h, Delta, slope: Delta * (1 - Delta),
    "Φ'(Δ)": lambda a, h, Delta, slope: slope(Delta),
    "Φ'(Φ'(a))": lambda a, h, Delta, slope: slope(slope(a)),
    "Φ'(a)²": lambda a, h, Delta, slope: slope(a) ** 2,
}
SMOOTH = (jaxbp.sigmoid, jaxbp.tanh, jaxbp.softplus)


def by_formula(problem: Problem, u: str, formula: str) -> Changes:
    """One of the formulas at a smooth unit; at one with kinks only the square of its derivative is another thing."""
    Phi = problem.activation(u)
    if Phi not in SMOOTH and not (Phi is jaxbp.leaky_relu and formula == "Φ'(a)²"):
        return {}
    names = f"a.{u}", f"h.{u}", f"Delta.{u}"
    return {f"delta.{u}": lambda q: q[f"Delta.{u}"] * FORMULAS[formula](*(q[name] for name in names), DERIVATIVE[Phi])}


def by_derivative_of(problem: Problem, u: str, Phi: Activation) -> Changes:
    right = problem.activation(u)
    if Phi in (right, jaxbp.linear) or not (is_elementwise(right) or right is jaxbp.softmax):
        return {}
    return {f"delta.{u}": pulled_back(Phi, f"a.{u}", f"Delta.{u}")}


def wrong_derivative(problem: Problem, u: str) -> Iterator[Changes]:
    """A formula at the wrong argument or of the wrong function."""
    yield from (by_formula(problem, u, formula) for formula in FORMULAS)
    yield from (by_derivative_of(problem, u, Phi) for Phi in DERIVATIVE)
    if u == problem.net.output and problem.activation(u) in SMOOTH:

        def of_error(q: Arrays) -> np.ndarray:
            e = q[f"h.{u}"] - q["y"]
            return e * (1 - e) * q[f"Delta.{u}"]

        yield {f"delta.{u}": of_error}


def softmax_diagonal(problem: Problem, u: str) -> Iterator[Changes]:
    if problem.activation(u) is jaxbp.softmax:
        yield {f"delta.{u}": diagonal_pulled_back(f"h.{u}", f"Delta.{u}")}


def softmax_wrong_axis(problem: Problem, u: str) -> Iterator[Changes]:
    """The sum of its pull-back over the examples, not the classes."""
    if problem.activation(u) is jaxbp.softmax:

        def over_examples(q: Arrays) -> np.ndarray:
            h, Delta = q[f"h.{u}"], q[f"Delta.{u}"]
            return h * (Delta - np.sum(h * Delta, axis=0))

        yield {f"delta.{u}": over_examples}


def double_activation_derivative(problem: Problem, u: str) -> Iterator[Changes]:
    """δ_o = (o − y) / N, which has the derivative in it, times J; with softmax also times the diagonal of J."""
    if u == problem.net.output and (problem.activation(u), problem.loss) in COLLAPSING:
        yield {f"delta.{u}": pulled_back(problem.activation(u), f"a.{u}", f"delta.{u}")}
        if problem.activation(u) is jaxbp.softmax:
            yield {f"delta.{u}": diagonal_pulled_back(f"h.{u}", f"delta.{u}")}


def missing_output_derivative(problem: Problem, u: str) -> Iterator[Changes]:
    """δ_o = (o − y) / N with a loss and an activation that do not collapse to it."""
    if u == problem.net.output and (problem.activation(u), problem.loss) not in COLLAPSING:
        yield {f"delta.{u}": lambda q: (q[f"h.{u}"] - q["y"]) / len(problem.y)}


def negated(problem: Problem, u: str) -> Iterator[Changes]:
    yield times(-1, f"delta.{u}")


def scaled(problem: Problem, u: str) -> Iterator[Changes]:
    yield from (times(factor, f"delta.{u}") for factor in (1 / len(problem.y), 2))


def detached(problem: Problem, u: str) -> Iterator[Changes]:
    if u != problem.net.output:
        yield times(0, f"delta.{u}")


IN_DELTAS = {
    "missing-derivative": missing_derivative,
    "activation-for-derivative": activation_for_derivative,
    "derivative-at-output": derivative_at_output,
    "derivative-of-other-unit": derivative_of_other_unit,
    "relu-mask": relu_mask,
    "wrong-derivative": wrong_derivative,
    "softmax-diagonal": softmax_diagonal,
    "softmax-wrong-axis": softmax_wrong_axis,
    "double-activation-derivative": double_activation_derivative,
    "missing-output-derivative": missing_output_derivative,
    "sign": negated,
    "scale": scaled,
    "detached": detached,
}
