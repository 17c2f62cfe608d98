"""The same mistake at every unit where it can be made."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations

from wrong_networks import Problem

import jaxbp
from mistakes._parts import Changes, all_parameters, completed_at, gradients_by, merged, times
from mistakes.deltas import (
    FORMULAS,
    activation_for_derivative,
    by_derivative_of,
    by_formula,
    derivative_at_output,
    missing_derivative,
    relu_mask,
)
from mistakes.gradients import (
    NOT_SUMMED,
    bias_change,
    bias_of_weight_gradient,
    clipped_gradients,
    decayed,
    inputs_before_activation,
    over_units,
    swapped,
    transposed_gradients,
    updated,
)
from mistakes.images import correlation_reversed, kernel_not_rotated, padding_forgotten, stride_forgotten
from mistakes.signals import gradients_for_weights, last_branch_wins, not_transposed, signals_by, updated_at

AtOne = Callable[[Problem, str], Changes]
"""The changes that a mistake makes at one unit."""


def the_only(variants: Callable[[Problem, str], Iterator[Changes]], i: int = 0) -> AtOne:
    """One of the variants of a mistake."""

    def at_one(problem: Problem, u: str) -> Changes:
        made = list(variants(problem, u))
        return made[i] if len(made) > i else {}

    return at_one


def all_of(variants: Callable[[Problem, str], Iterator[Changes]]) -> AtOne:
    """The variants of a mistake together, which are the same one at several connections of a unit."""
    return lambda problem, u: merged(variants(problem, u))


def missing_bias(problem: Problem, u: str) -> Changes:
    return times(0, *(name for name in completed_at(problem, u) if name.endswith(".bias")))


def signals_by_value(problem: Problem, u: str) -> Changes:
    return signals_by(problem, u, f"h.{u}")


def signals_by_error(problem: Problem, u: str) -> Changes:
    return signals_by(problem, u, f"Delta.{u}")


def gradients_by_error(problem: Problem, u: str) -> Changes:
    return gradients_by(problem, u, f"Delta.{u}")


EVERYWHERE: dict[str, list[AtOne]] = {
    "last-branch-wins": [the_only(last_branch_wins)],
    "not-transposed": [all_of(not_transposed)],
    "updated-weights": [partial(updated_at, eta=eta) for eta in (0.1, 0.5)],
    "Delta-for-delta": [signals_by_error, gradients_by_error],
    "wrong-weight": [gradients_for_weights],
    "wrong-signal": [signals_by_value],
    "missing-derivative": [the_only(missing_derivative)],
    "activation-for-derivative": [the_only(activation_for_derivative)],
    "derivative-at-output": [the_only(derivative_at_output)],
    "relu-mask": [the_only(relu_mask)],
    "wrong-derivative": [
        *(partial(by_formula, formula=formula) for formula in FORMULAS),
        *(partial(by_derivative_of, Phi=Phi) for Phi in (jaxbp.sigmoid, jaxbp.tanh, jaxbp.relu)),
    ],
    "wrong-input": [inputs_before_activation],
    "transposed": [transposed_gradients],
    "bias-not-summed": [partial(bias_change, change=change) for change in NOT_SUMMED.values()],
    "bias-summed-over-units": [partial(bias_change, change=over_units)],
    "bias-of-weight-gradient": [the_only(bias_of_weight_gradient)],
    "missing-gradient": [missing_bias],
    "weight-decay": [
        *(partial(decayed, rate=rate, biases=biases) for rate in (0.01, 0.1, -0.05) for biases in (False, True))
    ],
    "update-for-gradient": [partial(updated, eta=eta) for eta in (0.1, 0.5, 1)],
    "clipped": [partial(clipped_gradients, bound=bound) for bound in (0.01, 0.1)],
    "kernel-not-rotated": [all_of(kernel_not_rotated)],
    "correlation-reversed": [all_of(correlation_reversed)],
    "stride-forgotten": [all_of(stride_forgotten)],
    "padding-forgotten": [all_of(padding_forgotten)],
}


def everywhere(problem: Problem, at_one: AtOne) -> Iterator[Changes]:
    """At all units, and at all but the output, if there are several at which it makes something else."""
    last: Changes = {}
    for units in (problem.net.order, problem.net.order[:-1]):
        at = [changes for u in reversed(units) if (changes := at_one(problem, u))]
        if len(at) > 1 and last.keys() != (last := merged(at)).keys():
            yield last


def between_units(problem: Problem) -> Iterator[Changes]:
    """Gradients of two units swapped."""
    at = {name: u for u in problem.net.order for name in completed_at(problem, u)}
    for (first, W), (second, V) in combinations(all_parameters(problem).items(), 2):
        if at[first] != at[second] and W.shape == V.shape:
            yield swapped(first, second)
