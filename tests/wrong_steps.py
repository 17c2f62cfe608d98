"""The mistakes that can be made in the backward steps of any network, each a table of what it changes.

A mistake is given as its changes: for some quantities what is stored in their place. Of the functions here, those that
take a unit give the changes of that unit's step, one for each variant of the mistake; empty where there is nothing to
go wrong.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
from plain_rules import DERIVATIVE, as_rows, pull_back
from wrong_networks import Problem, connections, gradient, is_function, readers, signal, sources

import jaxbp
from jaxbp import Network
from jaxbp.activations import Activation

Arrays = Mapping[str, np.ndarray]
Change = Callable[[Arrays], np.ndarray]
"""What is stored in place of a quantity, computed from that quantity and those stored before it."""
Changes = dict[str, Change]

COLLAPSING = {  # the pairs with δ_o = (o − y) / N
    (jaxbp.linear, jaxbp.squared_error),
    (jaxbp.softmax, jaxbp.cross_entropy),
    (jaxbp.sigmoid, jaxbp.binary_cross_entropy),
}


@dataclass(frozen=True)
class AtTheEnd:
    """A change that is made when all else is stored, since it needs what comes later."""

    change: Change

    def __call__(self, q: Arrays) -> np.ndarray:
        return self.change(q)


# What mistakes are made of


def times(factor: float, *names: str) -> Changes:
    return {name: lambda q, name=name: factor * q[name] for name in names}


def product(first: str, second: str) -> Change:
    return lambda q: q[first] * q[second]


def same_as(name: str) -> Change:
    return lambda q: q[name]


def transposed(name: str) -> Change:
    return lambda q: q[name].T


def pulled_back(Phi: Activation, a: str, Delta: str) -> Change:
    return lambda q: pull_back(Phi, q[a], q[Delta])


def diagonal_pulled_back(o: str, Delta: str) -> Change:
    return lambda q: q[o] * (1 - q[o]) * q[Delta]


def masked(a: str, Delta: str) -> Change:
    return lambda q: np.where(q[a] > 0, q[Delta], 0.0)


def contracted(problem: Problem, u: str, s: str, delta: str, h: str | None = None) -> Change:
    """The gradient from another δ, or another h."""
    return lambda q: gradient(problem, u, s, q, q[delta], None if h is None else q[h])


def sent(problem: Problem, u: str, s: str, delta: str) -> Change:
    """The signal from another δ."""
    return lambda q: signal(problem, u, s, q, q[delta])


def sent_through(problem: Problem, u: str, s: str, W: Change) -> Change:
    """The signal through another W."""
    return lambda q: signal(problem, u, s, q, q[f"delta.{u}"], W(q))


def merged(many: Iterator[Changes] | list[Changes]) -> Changes:
    return {name: change for changes in many for name, change in changes.items()}


# What there is to go wrong


def equally_wide(net: Network, name: str) -> list[str]:
    return [other for other in net.shapes if other != name and net.shapes[other] == net.shapes[name]]


def equally_wide_units(net: Network, u: str) -> list[str]:
    return [v for v in equally_wide(net, u) if v in net.units]


def units_before(net: Network, u: str) -> list[str]:
    """The units whose step has been made before that of u, on the way back."""
    return list(net.order[net.order.index(u) + 1 :])


def weighted_sources(problem: Problem, u: str) -> list[str]:
    return [s for s, c in connections(problem.net, u).items() if s in problem.params[u] or c.share is not None]


def gradient_names(problem: Problem, u: str) -> list[str]:
    return [f"grad.{u}.{s}" for s in problem.params[u]]


def part_names(problem: Problem, u: str) -> list[str]:
    """What u adds to the gradients of shared weights."""
    return [gradient_name(problem, u, s) for s in weighted_sources(problem, u) if s not in problem.params[u]]


def gradient_name(problem: Problem, u: str, s: str) -> str:
    return f"grad.{u}.{s}" if s in problem.params[u] else f"part.{u}.{s}"


def made_at(problem: Problem, u: str) -> dict[str, str]:
    """What u makes of gradients, by source: the names of gradients, or of the parts of shared ones."""
    own = {s: f"grad.{u}.{s}" for s in problem.params[u]}
    return own | {s: f"part.{u}.{s}" for s in weighted_sources(problem, u) if s not in own}


def completed_at(problem: Problem, u: str) -> dict[str, np.ndarray]:
    """The parameters of which u completes the gradient, by the name of that gradient."""
    own = {f"grad.{u}.{s}": W for s, W in problem.params[u].items()}
    return own | {f"grad.shared.{name}": problem.params["shared"][name] for name in problem.complete_at(u)}


def all_parameters(problem: Problem) -> dict[str, np.ndarray]:
    return {name: W for u in reversed(problem.net.order) for name, W in completed_at(problem, u).items()}


def is_matrix(name: str, W: np.ndarray) -> bool:
    return not name.endswith(".bias") and W.ndim == 2


def is_elementwise(Phi: Activation) -> bool:
    return Phi in DERIVATIVE


# Mistakes in the whole: what is done to Delta of the output is done to all that comes after it


def negated(problem: Problem) -> Iterator[Changes]:
    """Of Δ_o and so of all, or of the gradients and no δ."""
    yield times(-1, f"Delta.{problem.net.output}")
    yield times(-1, *all_parameters(problem))


def scaled(problem: Problem) -> Iterator[Changes]:
    """Of Δ_o and so of all, of the loss as well, or of the gradients and no δ."""
    N, K = len(problem.y), problem.y.shape[-1]
    rows = problem.y[0].size // K
    factors = {N, 1 / N, -1 / N, 1 / (N - 1), N / (N - 1), 2, 1 / 2, K, 1 / K, 2 / K, 1 / rows, 0.1, -0.1, 0.37}
    for factor in sorted(factors):
        yield times(factor, f"Delta.{problem.net.output}")
    for factor in (N, 2, 1 / K, 2 / K):
        yield times(factor, "loss", f"Delta.{problem.net.output}")
    for factor in (N, 1 / N, -1 / N, 2, 2 / K, -0.1):
        yield times(factor, *all_parameters(problem))


def labels_shifted(problem: Problem) -> Iterator[Changes]:
    yield {"y": lambda q: np.roll(q["y"], 1, axis=-1)}
    if problem.y.shape[-1] > 2:  # two classes can only be swapped
        yield {"y": lambda q: np.roll(q["y"], -1, axis=-1)}
        yield {"y": lambda q: q["y"][..., ::-1]}


def examples_left_out(problem: Problem) -> Iterator[Changes]:
    """The first, the last, or the last batch of two."""
    N, o = len(problem.y), problem.net.output
    for left_out in ([0], [N - 1], [N - 2, N - 1]):
        counts = np.isin(np.arange(N), left_out, invert=True).reshape(N, *[1] * (problem.y.ndim - 1))
        yield {f"Delta.{o}": lambda q, counts=counts: counts * q[f"Delta.{o}"]}
        yield {f"delta.{o}": lambda q, counts=counts: counts * q[f"delta.{o}"]}


def class_left_out(problem: Problem) -> Iterator[Changes]:
    o, K = problem.net.output, problem.y.shape[-1]
    for k in range(K) if K > 1 else ():
        yield {f"delta.{o}": lambda q, k=k: q[f"delta.{o}"] * (np.arange(K) != k)}


# Mistakes in Delta


def dropped_branch(problem: Problem, s: str) -> Iterator[Changes]:
    if len(readers(problem.net, s)) > 1:
        for u in readers(problem.net, s):
            yield times(0, f"signal.{u}.{s}")


def branch_twice(problem: Problem, s: str) -> Iterator[Changes]:
    if len(readers(problem.net, s)) > 1:
        for u in readers(problem.net, s):
            yield times(2, f"signal.{u}.{s}")


def last_branch_wins(problem: Problem, s: str) -> Iterator[Changes]:
    """As by Delta[s] = … where it should be Delta[s] += …."""
    if len(readers(problem.net, s)) > 1:
        yield {f"Delta.{s}": same_as(f"signal.{readers(problem.net, s)[-1]}.{s}")}


def not_transposed(problem: Problem, u: str) -> Iterator[Changes]:
    for s in sources(problem.net, u):
        W = None if is_function(problem.net.units[u]) else problem.weight(u, s)
        if W is not None and W.ndim == 2 and W.shape[0] == W.shape[1]:
            yield {f"signal.{u}.{s}": sent_through(problem, u, s, lambda q, W=W: W.T)}


def updated_weights(problem: Problem, u: str) -> Iterator[Changes]:
    for eta in (0.1, 0.5):
        yield updated_at(problem, u, eta)


def updated_at(problem: Problem, u: str, eta: float) -> Changes:
    return {
        f"signal.{u}.{s}": sent_through(
            problem, u, s, lambda q, s=s: problem.params[u][s] - eta * q[f"grad.{u}.{s}"]
        )
        for s in weighted_sources(problem, u)
        if s in problem.net.units and s in problem.params[u]
    }  # fmt: skip


def signals_by_error(problem: Problem, u: str) -> Changes:
    return {f"signal.{u}.{s}": sent(problem, u, s, f"Delta.{u}") for s in sources(problem.net, u)}


def error_for_delta(problem: Problem, u: str) -> Iterator[Changes]:
    """In one signal, in all, in one gradient, or in all."""
    signals, gradients = signals_by_error(problem, u), gradients_by(problem, u, f"Delta.{u}")
    for changes in (signals, gradients):
        yield from one_and_all(changes)


def one_and_all(changes: Changes) -> Iterator[Changes]:
    yield from ({name: change} for name, change in changes.items())
    if len(changes) > 1:
        yield changes


def gradients_by(problem: Problem, u: str, delta: str) -> Changes:
    return {name: contracted(problem, u, s, delta) for s, name in made_at(problem, u).items()}


def gradients_for_weights(problem: Problem, u: str) -> Changes:
    """∂L/∂W where W belongs."""
    changes: Changes = {}
    for s in sources(problem.net, u):
        share = None if is_function(problem.net.units[u]) else connections(problem.net, u)[s].share
        grad = f"grad.{u}.{s}" if share is None else f"grad.shared.{share}"
        if grad in completed_at(problem, u):
            changes[f"signal.{u}.{s}"] = sent_through(problem, u, s, same_as(grad))
    return changes


def wrong_weight(problem: Problem, u: str) -> Iterator[Changes]:
    yield from one_and_all(gradients_for_weights(problem, u))
    for s in sources(problem.net, u) if not is_function(problem.net.units[u]) else ():
        W = problem.weight(u, s)
        for name, other in all_parameters(problem).items():
            if W is not None and not name.endswith(".bias") and other is not W and other.shape == W.shape:
                yield {f"signal.{u}.{s}": sent_through(problem, u, s, lambda q, other=other: other)}


def values_for_signals(problem: Problem, u: str) -> Changes:
    return {f"signal.{u}.{s}": sent(problem, u, s, f"h.{u}") for s in sources(problem.net, u)}


def wrong_signal(problem: Problem, u: str) -> Iterator[Changes]:
    """The reader's value, or δ of another unit: in one signal, in one gradient, or in all of the unit."""
    yield from one_and_all(values_for_signals(problem, u))
    for v in equally_wide_units(problem.net, u):
        if v in units_before(problem.net, u):
            signals = {f"signal.{u}.{s}": sent(problem, u, s, f"delta.{v}") for s in sources(problem.net, u)}
            for changes in (signals, gradients_by(problem, u, f"delta.{v}")):
                yield from one_and_all(changes)


def jacobian_left_out(problem: Problem, u: str) -> Iterator[Changes]:
    if is_function(problem.net.units[u]):
        yield from ({f"signal.{u}.{s}": same_as(f"delta.{u}")} for s in sources(problem.net, u))


def signal_of_other_source(problem: Problem, u: str) -> Iterator[Changes]:
    if is_function(problem.net.units[u]):
        for s in sources(problem.net, u):
            for other in equally_wide_units(problem.net, s):
                if other in sources(problem.net, u):
                    yield {
                        f"signal.{u}.{s}": lambda q, other=other: signal(problem, u, other, q, q[f"delta.{u}"])
                    }  # fmt: skip


def wrong_gate_factor(problem: Problem, u: str) -> Iterator[Changes]:
    """Of value · switch², what is sent to the one is δ switch², to the other 2 δ value switch."""
    unit = problem.net.units[u]
    if is_function(unit) and len(unit.sources) == 2:
        value, switch = unit.sources
        for s, factors in {
            value: (value, switch),
            switch: (value, (switch, switch), (value, value)),
        }.items():
            for names in factors:
                names = (names,) if isinstance(names, str) else names
                yield {
                    f"signal.{u}.{s}": lambda q, names=names: (
                        q[f"delta.{u}"] * np.prod([q[f"h.{name}"] for name in names], axis=0)
                    )
                }


# Mistakes in delta


def missing_derivative(problem: Problem, u: str) -> Iterator[Changes]:
    yield {f"delta.{u}": same_as(f"Delta.{u}")}
    yield from jacobian_left_out(problem, u)


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


def negated_at_unit(problem: Problem, u: str) -> Iterator[Changes]:
    """All from delta on, the gradients alone, one of them, or a signal."""
    yield times(-1, f"delta.{u}")
    yield from scaled_gradients(problem, u, -1)
    yield from (times(-1, f"signal.{u}.{s}") for s in sources(problem.net, u))


def scaled_at_unit(problem: Problem, u: str) -> Iterator[Changes]:
    """All from delta on, the gradients alone, one of them, or a signal."""
    N = len(problem.y)
    for factor in (1 / N, 2):
        yield times(factor, f"delta.{u}")
    for factor in (0.3, N):
        yield from scaled_gradients(problem, u, factor)
    yield from (times(0.3, f"signal.{u}.{s}") for s in sources(problem.net, u))


def scaled_gradients(problem: Problem, u: str, factor: float) -> Iterator[Changes]:
    yield from one_and_all(times(factor, *made_at(problem, u).values()))


def detached(problem: Problem, u: str) -> Iterator[Changes]:
    if u != problem.net.output:
        yield times(0, f"delta.{u}")


# Mistakes in the gradients


def wrong_input(problem: Problem, u: str) -> Iterator[Changes]:
    """That of another unit or input, what went into the right unit instead of what came out of it, or a weight."""
    for s in weighted_sources(problem, u):
        inside = [f"a.{s}"] if s in problem.net.units else []
        for name in [*inside, *(f"h.{v}" for v in equally_wide(problem.net, s))]:
            yield {gradient_name(problem, u, s): contracted(problem, u, s, f"delta.{u}", name)}
        W, shape = problem.weight(u, s), (len(problem.y), *problem.net.shapes[s])
        for other in (W, W.T):
            if other.shape == shape:
                yield {
                    gradient_name(problem, u, s): lambda q, s=s, other=other: gradient(
                        problem, u, s, q, q[f"delta.{u}"], other
                    )
                }


def inputs_before_activation(problem: Problem, u: str) -> Changes:
    return {
        gradient_name(problem, u, s): contracted(problem, u, s, f"delta.{u}", f"a.{s}")
        for s in weighted_sources(problem, u)
        if s in problem.net.units
    }


def transposed_gradients(problem: Problem, u: str) -> Changes:
    return {name: transposed(name) for name, W in completed_at(problem, u).items() if is_matrix(name, W)}


def transposed_gradient(problem: Problem, u: str) -> Iterator[Changes]:
    yield from one_and_all(transposed_gradients(problem, u))


def bias_change(problem: Problem, u: str, change: Callable[[np.ndarray], np.ndarray]) -> Changes:
    """What stands for the sum of δ over all but its last axis; nothing where that has another shape."""
    if "bias" not in problem.params[u]:
        return {}
    shape = (len(problem.y), *problem.net.shapes[u])
    if change(np.zeros(shape)).shape != problem.params[u]["bias"].shape:
        return {}
    return {f"grad.{u}.bias": lambda q: change(q[f"delta.{u}"])}


NOT_SUMMED = {
    "first": lambda delta: delta[0].reshape(-1, delta.shape[-1]).sum(axis=0),
    "last": lambda delta: delta[-1].reshape(-1, delta.shape[-1]).sum(axis=0),
    "mean": lambda delta: as_rows(delta).mean(axis=0),  # of what is divided by N already
    "mean over examples": lambda delta: as_rows(delta.mean(axis=0)).sum(axis=0),
}


def bias_not_summed(problem: Problem, u: str) -> Iterator[Changes]:
    yield from (bias_change(problem, u, change) for change in NOT_SUMMED.values())


def over_units(delta: np.ndarray) -> np.ndarray:
    return np.full(delta.shape[-1], delta.sum())


def over_units_mean(delta: np.ndarray) -> np.ndarray:
    return np.full(delta.shape[-1], as_rows(delta).sum(axis=0).mean())


def bias_summed_over_units(problem: Problem, u: str) -> Iterator[Changes]:
    """One number for all, the sum or its mean."""
    yield bias_change(problem, u, over_units)
    yield bias_change(problem, u, over_units_mean)


def over_wrong_axes(delta: np.ndarray) -> Iterator[np.ndarray]:
    for kept in range(delta.ndim - 1):
        yield delta.sum(axis=tuple(axis for axis in range(delta.ndim) if axis != kept))


def bias_over_wrong_axis(problem: Problem, u: str) -> Iterator[Changes]:
    """Summed over the units, so that something is left for each example, or each row: where there are as many."""
    for kept in range(len(problem.net.shapes[u])):
        yield bias_change(problem, u, lambda delta, kept=kept: list(over_wrong_axes(delta))[kept])


def bias_of_weight_gradient(problem: Problem, u: str) -> Iterator[Changes]:
    """The column sums of ∂L/∂W, or its row sums where there are as many."""
    bias = problem.params[u].get("bias")
    for s, W in problem.params[u].items():
        for axis in (0, 1) if bias is not None and s != "bias" and W.ndim == 2 else ():
            if W.sum(axis).shape == bias.shape:
                yield {f"grad.{u}.bias": AtTheEnd(lambda q, s=s, axis=axis: q[f"grad.{u}.{s}"].sum(axis))}


def missing_gradient(problem: Problem, u: str) -> Iterator[Changes]:
    yield from one_and_all(times(0, *completed_at(problem, u)))


def swapped(first: str, second: str) -> Changes:
    return {first: AtTheEnd(same_as(second)), second: AtTheEnd(same_as(first))}


def gradients_swapped(problem: Problem, u: str) -> Iterator[Changes]:
    for (first, W), (second, V) in combinations(completed_at(problem, u).items(), 2):
        if W.shape == V.shape:
            yield swapped(first, second)


def decayed(problem: Problem, u: str, rate: float, biases: bool = True) -> Changes:
    return {
        name: lambda q, name=name, W=W: q[name] + rate * W
        for name, W in completed_at(problem, u).items()
        if biases or not name.endswith(".bias")
    }


def weight_decay(problem: Problem, u: str) -> Iterator[Changes]:
    for rate in (0.01, 0.1, -0.05):
        yield from one_and_all(decayed(problem, u, rate))


def updated(problem: Problem, u: str, eta: float) -> Changes:
    return {name: lambda q, name=name, W=W: W - eta * q[name] for name, W in completed_at(problem, u).items()}


def update_for_gradient(problem: Problem, u: str) -> Iterator[Changes]:
    for eta in (0.1, 1):
        yield from one_and_all(updated(problem, u, eta))


def clipped_gradients(problem: Problem, u: str, bound: float) -> Changes:
    return {name: lambda q, name=name: np.clip(q[name], -bound, bound) for name in completed_at(problem, u)}


def clipped(problem: Problem, u: str) -> Iterator[Changes]:
    for bound in (0.01, 0.1):
        yield from one_and_all(clipped_gradients(problem, u, bound))


def permuted_rows(problem: Problem, u: str) -> Iterator[Changes]:
    """Reversed, or moved on by one."""
    for name, W in completed_at(problem, u).items():
        if not name.endswith(".bias"):
            yield {name: lambda q, name=name: q[name][::-1]}
            if len(W) > 2:  # two can only be swapped
                yield {name: lambda q, name=name: np.roll(q[name], 1, axis=0)}


def zeroed_block(problem: Problem, u: str) -> Iterator[Changes]:
    """The last row, the first column, or the first half of the rows."""
    for name, W in completed_at(problem, u).items():
        blocks = [(-1,), (..., 0), (slice(len(W) // 2),)] if W.ndim > 1 else [(-1,)]
        yield from ({name: zeroed(name, block)} for block in blocks)


def zeroed(name: str, block: tuple) -> Change:
    def change(q: Arrays) -> np.ndarray:
        array = q[name].copy()
        array[block] = 0
        return array

    return change


# Mistakes in the gradients of shared weights


def use_left_out(problem: Problem, u: str) -> Iterator[Changes]:
    yield from (times(0, part) for part in part_names(problem, u))


def use_twice(problem: Problem, u: str) -> Iterator[Changes]:
    yield from (times(2, part) for part in part_names(problem, u))


def mean_of_uses(problem: Problem, u: str) -> Iterator[Changes]:
    for name in problem.complete_at(u):
        yield times(1 / len(problem.uses(name)), f"grad.shared.{name}")


def use_not_transposed(problem: Problem, u: str) -> Iterator[Changes]:
    for s in weighted_sources(problem, u):
        W = problem.weight(u, s)
        if s not in problem.params[u] and W.ndim == 2 and W.shape[0] == W.shape[1]:
            yield {f"part.{u}.{s}": transposed(f"part.{u}.{s}")}


IN_THE_WHOLE = {
    "sign": negated,
    "scale": scaled,
    "labels-shifted": labels_shifted,
    "examples-left-out": examples_left_out,
    "class-left-out": class_left_out,
}
AT_A_UNIT = {
    "dropped-branch": dropped_branch,
    "branch-twice": branch_twice,
    "last-branch-wins": last_branch_wins,
    "not-transposed": not_transposed,
    "updated-weights": updated_weights,
    "Delta-for-delta": error_for_delta,
    "wrong-weight": wrong_weight,
    "wrong-signal": wrong_signal,
    "signal-of-other-source": signal_of_other_source,
    "wrong-gate-factor": wrong_gate_factor,
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
    "sign": negated_at_unit,
    "scale": scaled_at_unit,
    "detached": detached,
    "wrong-input": wrong_input,
    "transposed": transposed_gradient,
    "bias-not-summed": bias_not_summed,
    "bias-summed-over-units": bias_summed_over_units,
    "bias-over-wrong-axis": bias_over_wrong_axis,
    "bias-of-weight-gradient": bias_of_weight_gradient,
    "missing-gradient": missing_gradient,
    "gradients-swapped": gradients_swapped,
    "weight-decay": weight_decay,
    "update-for-gradient": update_for_gradient,
    "clipped": clipped,
    "permuted-rows": permuted_rows,
    "zeroed-block": zeroed_block,
    "use-left-out": use_left_out,
    "use-twice": use_twice,
    "mean-of-uses": mean_of_uses,
    "use-not-transposed": use_not_transposed,
}


# The same mistake at every unit where it can be made: each takes the changes of one unit

AtOne = Callable[[Problem, str], Changes]


def the_only(variants: Callable[[Problem, str], Iterator[Changes]], i: int = 0) -> AtOne:
    """One of the variants of a mistake."""

    def at_one(problem: Problem, u: str) -> Changes:
        made = list(variants(problem, u))
        return made[i] if len(made) > i else {}

    return at_one


def missing_bias(problem: Problem, u: str) -> Changes:
    return times(0, *(name for name in completed_at(problem, u) if name.endswith(".bias")))


def gradients_by_error(problem: Problem, u: str) -> Changes:
    return gradients_by(problem, u, f"Delta.{u}")


def signal_not_transposed(problem: Problem, u: str) -> Changes:
    return merged(not_transposed(problem, u))


EVERYWHERE: dict[str, list[AtOne]] = {
    "last-branch-wins": [the_only(last_branch_wins)],
    "not-transposed": [signal_not_transposed],
    "updated-weights": [partial(updated_at, eta=eta) for eta in (0.1, 0.5)],
    "Delta-for-delta": [signals_by_error, gradients_by_error],
    "wrong-weight": [gradients_for_weights],
    "wrong-signal": [values_for_signals],
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
