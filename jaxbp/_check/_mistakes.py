"""The catalogue of mistakes in sums of connections: each a change of one step of the backward pass, to be evaluated.

Which of them can occur depends on the unit: only a square W can be left untransposed, only a unit with several
readers can lose a branch.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import numpy as np

from jaxbp import activations
from jaxbp._check._facts import Facts, slope
from jaxbp._check._function_mistakes import in_function
from jaxbp._check._pass import Change, Pass, gradient, matrix, output_signals, pulled_back
from jaxbp._check._report import Mistake
from jaxbp._function_unit import FunctionUnit
from jaxbp._graph import ONE
from jaxbp._names import Name
from jaxbp.activations import Activation, Elementwise
from jaxbp.connections import Dense, Transposed

Row = tuple[str, str, Callable[..., Any]]
"""A mistake in one kind of step: its slug, its words, and what stands in place of the step."""

_MASKS = tuple(a.phi for a in (activations.relu, activations.leaky_relu, activations.hard_tanh))


def at_output(facts: Facts) -> Iterator[Change]:
    """Mistakes that change Δ of the output, and with it all that follows."""
    o = facts.net.output
    for slug, words, c in factors(facts):
        mistake = Mistake(slug, None, f"the whole gradient is {words}")
        yield Change(mistake, "output", o, lambda state, c=c: _scaled_output(state.facts, c(state.facts)))
    for words, shifted in _shifts(facts):
        text = f"the targets are {words}: Delta.{o} and delta.{o} belong to other targets than y"
        mistake = Mistake("labels-shifted", None, text)
        yield Change(mistake, "output", o, lambda state, f=shifted: output_signals(state.facts, f(state.facts.y)))


def in_terms(state: Pass, s: str) -> Iterator[Change]:
    """Mistakes in one reader's term of Δ_s."""
    facts = state.facts
    for v in facts.plan.readers[s]:
        unit = facts.net.units[v]
        if isinstance(unit, FunctionUnit):
            yield from in_function(state, unit, v, s)
            continue
        M = matrix(facts, v, s)
        if M is None or M.shape[0] != M.shape[1]:
            continue
        is_not = "is transposed" if isinstance(facts.edge(v, s).connection, Transposed) else "is not transposed"
        text = (
            f"{weight_of(facts, v, s)} {is_not} (or its elements are swapped): Delta.{s} takes {term_of(facts, v, s)}"
        )
        yield Change(
            Mistake("not-transposed", v, text), "term", s,
            lambda state, v=v: state.delta[v] @ matrix(state.facts, v, s), v,
        )  # fmt: skip


def has_own_matrix(facts: Facts, v: str, s: str) -> bool:
    """Whether v reads s by a matrix of its own, which can be updated as soon as its gradient is there."""
    return isinstance(facts.edge(v, s).connection, Dense) and facts.edge(v, s).weight == (v, s)


def updated_weights(v: str, s: str, eta: float) -> Change:
    """The term of Δ_s through the weights of v after their own update, at a learning rate."""

    def term(state: Pass) -> np.ndarray:
        W, grad = state.facts.params[v][s], state.gradients[Name("grad", (v, s))]
        # a gradient that is handed in as its transpose fits its weights in the program itself
        return state.delta[v] @ (W - eta * (grad if grad.shape == W.shape else grad.T)).T

    text = (
        f"the weights of {v} are updated before they are used: Delta.{s} takes delta.{v} W.{v}.{s}ᵀ with the weights "
        f"of the forward phase, not W − {eta:.3g} grad.{v}.{s}"
    )
    return Change(Mistake("updated-weights", v, text), "term", s, term, v, eta)


def in_sums(facts: Facts, s: str) -> Iterator[Change]:
    """Mistakes in adding up the readers of s."""
    readers = facts.plan.readers[s]
    if len(readers) < 2:
        return
    right = " + ".join(term_of(facts, v, s) for v in readers)
    for v in readers:
        others = {u: 1.0 for u in readers if u != v}
        for slug, words, weights in (
            ("dropped-branch", "is forgotten", others),
            ("branch-twice", "is counted twice", {**others, v: 2.0}),
            ("last-branch-wins", "overwrites the others", {v: 1.0}),
        ):
            text = f"{s} is read by {' and '.join(readers)}, and the branch through {v} {words}: Delta.{s} = {right}"
            yield Change(
                Mistake(slug, s, text), "sum", s,
                lambda terms, weights=weights: sum(weights.get(v, 0.0) * term for v, term in terms.items()),
            )  # fmt: skip


def in_delta(facts: Facts, u: str) -> Iterator[Change]:
    """Mistakes on the way from Δ_u to δ_u."""
    rows = _at_every_unit(facts, u), _in_activation(facts, u), _in_head(facts) if u == facts.net.output else ()
    for slug, text, apply in chain(*rows):
        yield Change(Mistake(slug, u, text), "delta", u, apply)


def _at_every_unit(facts: Facts, u: str) -> Iterator[Row]:
    for slug, words, c in factors(facts):
        yield slug, f"delta.{u} is {words}: {_right_delta(facts, u)}", lambda facts, Delta, delta, c=c: c(facts) * delta
    if u != facts.net.output:
        text = f"no signal arrives at {u}: {_right_delta(facts, u)}, not 0"
        yield "detached", text, lambda facts, Delta, delta: np.zeros_like(delta)


def _in_activation(facts: Facts, u: str) -> Iterator[Row]:
    Phi, right = facts.net.units[u].activation, _right_delta(facts, u)
    if Phi.phi == activations.linear.phi:
        return
    what = "Φ'" if isinstance(Phi, Elementwise) else f"the Jacobian of {Phi.name}"
    yield "missing-derivative", f"{what} is left out: {right}, not Delta.{u}", lambda facts, Delta, delta: Delta
    if not isinstance(Phi, Elementwise):
        yield (
            "softmax-diagonal", f"only the diagonal of the Jacobian is used: {right}, with every element of it",
            lambda facts, Delta, delta: facts.diagonals[u] * Delta,
        )  # fmt: skip
        return
    yield (
        "activation-for-derivative", f"Φ stands where Φ' belongs: {right}, not h.{u} ⊙ Delta.{u}",
        lambda facts, Delta, delta: facts.h[u] * Delta,
    )  # fmt: skip
    yield (
        "derivative-at-output", f"Φ' is evaluated at the output h.{u}: {right}, with Φ' at a.{u}",
        lambda facts, Delta, delta: slope(Phi, facts.h[u]) * Delta,
    )  # fmt: skip
    kinds = {"derivative-of-other-unit": "Φ' is evaluated"}
    if Phi.phi in _MASKS:
        kinds = {"relu-mask": "the mask is taken", **kinds}
        text = f"the mask is taken from the incoming signal, Delta.{u} > 0: {right}, with the mask from a.{u}"
        yield "relu-mask", text, lambda facts, Delta, delta: np.where(Delta > 0, Delta, 0.0)
    for v in facts.net.units:
        if v != u and facts.net.shapes[v] == facts.net.shapes[u]:
            for slug, what in kinds.items():
                text = f"{what} at a.{v}, another unit's: {right}, at a.{u}"
                yield slug, text, lambda facts, Delta, delta, v=v: slope(Phi, facts.a[v]) * Delta


def _in_head(facts: Facts) -> Iterator[Row]:
    """Mistakes about what the loss and the activation of the output make together."""
    o, loss = facts.net.output, facts.loss
    Phi = facts.net.units[o].activation
    if loss.at(Phi).simplification is not None:
        slug = "double-activation-derivative"
        text = f"the derivative of {Phi.name} is applied on top of the simplified delta.{o} = (o − y) / N"
        yield slug, f"{text}, which holds it already", lambda facts, Delta, delta: pulled_back(facts, o, delta)
        if not isinstance(Phi, Elementwise):
            text = f"{text}, as o (1 − o), though that holds it already"
            yield slug, text, lambda facts, Delta, delta: facts.diagonals[o] * delta
    elif Phi.phi != activations.linear.phi or loss.name != "squared_error":
        text = f"o − y is not the error signal of {loss.name} with {Phi.name}: {_right_delta(facts, o)}"
        yield (
            "missing-output-derivative", text, lambda facts, Delta, delta: (facts.h[o] - facts.y) / len(facts.y)
        )  # fmt: skip


def in_gradient(facts: Facts, u: str, s: str) -> Iterator[Change]:
    """Mistakes in one gradient, where δ_u is right."""
    for slug, text, apply in _in_bias(facts, u) if s == ONE else _in_product(facts, u, s):
        yield Change(Mistake(slug, u, text), "gradient", u, apply, s)


def _in_bias(facts: Facts, u: str) -> Iterator[Row]:
    right = f"the sum of delta.{u} over the batch"
    name = Name("grad", (u, ONE))
    yield (
        "missing-bias", f"{name} is forgotten: it is {right}, not 0",
        lambda state, delta: np.zeros_like(gradient(state.facts, u, ONE, delta)),
    )  # fmt: skip
    if facts.examples == 1:
        return
    text, b = f"{name} is {right}, not its mean", facts.weight(u, ONE)
    yield "bias-not-summed", text, lambda state, delta: _over(delta, b).mean(axis=0)
    for i in range(facts.examples):
        text = f"{name} is {right}, not that of example {i} alone"
        yield "bias-not-summed", text, lambda state, delta, i=i: _over(delta[i : i + 1], b).sum(axis=0)


def _in_product(facts: Facts, u: str, s: str) -> Iterator[Row]:
    if matrix(facts, u, s) is None:
        return
    name, right = Name("grad", (u, s)), product_of(facts, u, s)
    text = f"{name} is handed in as its transpose: it is {right}, of shape {facts.params[u][s].shape}"
    yield "outer-product-transposed", text, lambda state, delta: gradient(state.facts, u, s, delta).T
    for words, part in wrong_inputs(facts, u, s):
        yield "wrong-input", f"{words}: {name} = {right}", part


def wrong_inputs(facts: Facts, u: str, s: str) -> Iterator[tuple[str, Callable[[Pass, np.ndarray], np.ndarray]]]:
    """What may stand in place of h_s in a gradient, in words, and what it gives."""
    if s in facts.net.units:
        yield (f"the pre-activation a.{s} stands where h.{s} belongs",
               lambda state, delta: gradient(state.facts, u, s, delta, state.facts.a[s]))  # fmt: skip
    for v in facts.net.shapes:
        if v != s and facts.net.shapes[v] == facts.net.shapes[s]:
            yield (f"h.{v} stands where h.{s} belongs",
                   lambda state, delta, v=v: gradient(state.facts, u, s, delta, state.facts.h[v]))  # fmt: skip


def in_all_gradients(facts: Facts, u: str) -> Iterator[tuple[Change, ...]]:
    """Mistakes that all gradients of a unit share, where δ_u is right; what it adds to those of shared weights too."""
    if not facts.params[u]:
        return  # for a shared weight, that is a mistake in the whole

    for slug, words, c in factors(facts):
        mistake = Mistake(slug, u, f"the gradients of {u} are {words}, though delta.{u} is not")
        yield tuple(
            Change(
                mistake, "gradient", u,
                lambda state, delta, s=s, c=c: c(state.facts) * gradient(state.facts, u, s, delta), s,
            )
            for s, edge in facts.plan.edges[u].items() if edge.weight is not None
        )  # fmt: skip


def weight_of(facts: Facts, u: str, s: str) -> Name:
    """The name of the weight by which u reads s."""
    return Name("W", facts.edge(u, s).weight or (u, s))


def term_of(facts: Facts, v: str, s: str) -> str:
    """One reader's term of Δ_s."""
    unit = facts.net.units[v]
    if isinstance(unit, FunctionUnit):
        return f"(∂a.{v}/∂h.{s})ᵀ delta.{v}"
    edge = facts.edge(v, s)
    match edge.connection:
        case Transposed():
            return f"delta.{v} {weight_of(facts, v, s)}"
        case _ if edge.weight is not None:
            return f"delta.{v} {weight_of(facts, v, s)}ᵀ"
        case _:
            return f"delta.{v}"


def product_of(facts: Facts, u: str, s: str) -> str:
    """What one use of a weight adds to its gradient."""
    if s == ONE:
        return f"Σ delta.{u}"
    is_transposed = isinstance(facts.edge(u, s).connection, Transposed)
    return f"delta.{u}ᵀ h.{s}" if is_transposed else f"h.{s}ᵀ delta.{u}"


def factors(facts: Facts) -> Iterator[tuple[str, str, Callable[[Facts], float]]]:
    """The sign and the constant factors that go wrong: slug, words and factor; equal ones once."""
    candidates: list[tuple[str, Callable[[Facts], float]]] = [
        ("N times too large (the sum over the batch, not its mean)", lambda facts: facts.examples),
        ("N times too small (the mean over the batch is taken twice)", lambda facts: 1 / facts.examples),
        ("twice too large (the ½ of the loss cancels the 2 of the square)", lambda facts: 2),
        ("half of what it should be", lambda facts: 1 / 2),
        ("too large by the number of outputs", lambda facts: facts.y.shape[-1]),
        ("too small by the number of outputs (over which the loss sums)", lambda facts: 1 / facts.y.shape[-1]),
    ]
    yield "sign", "negated", lambda facts: -1
    seen = {1.0}
    for words, factor in candidates:
        if float(factor(facts)) not in seen:
            seen.add(float(factor(facts)))
            yield "scale", words, factor


def _shifts(facts: Facts) -> Iterator[tuple[str, Callable[[np.ndarray], np.ndarray]]]:
    classes = facts.y.shape[-1]
    if classes > 1:
        yield "off by one class", lambda y: np.roll(y, 1, axis=-1)
    if classes > 2:
        yield "off by one class", lambda y: np.roll(y, -1, axis=-1)
        yield "in reversed order of the classes", lambda y: y[..., ::-1]
    if facts.examples > 1:
        yield "off by one example", lambda y: np.roll(y, 1, axis=0)
    if facts.examples > 2:
        yield "off by one example", lambda y: np.roll(y, -1, axis=0)
        yield "in reversed order of the examples", lambda y: y[::-1]


def _scaled_output(facts: Facts, factor: float) -> tuple[np.ndarray, np.ndarray]:
    o = facts.net.output
    return factor * facts.right[Name("Delta", (o,))], factor * facts.right[Name("delta", (o,))]


def _over(delta: np.ndarray, b: np.ndarray) -> np.ndarray:
    """δ with all that a bias is the same for as one axis."""
    return delta.reshape(-1, *b.shape)


def _right_delta(facts: Facts, u: str) -> str:
    """The right step from Δ to δ, with the unit's own name."""
    return f"delta.{u} = {_rule(facts.net.units[u].activation, u)}"


def _rule(activation: Activation, u: str) -> str:
    rules: dict[tuple[Any, ...], str] = {
        activations.linear.phi: f"Delta.{u}",
        activations.sigmoid.phi: f"h.{u} (1 − h.{u}) ⊙ Delta.{u}",
        activations.tanh.phi: f"(1 − h.{u}²) ⊙ Delta.{u}",
        activations.relu.phi: f"[a.{u} > 0] ⊙ Delta.{u}",
        activations.softmax.phi: f"h.{u} ⊙ (Delta.{u} − Σ h.{u} Delta.{u})",
        activations.hard_tanh.phi: f"[−1 ≤ a.{u} ≤ 1] ⊙ Delta.{u}",
    }
    if activation.phi in rules:
        return rules[activation.phi]
    if isinstance(activation, Elementwise):
        return f"{activation.name}'(a.{u}) ⊙ Delta.{u}"
    return f"(∂h/∂a)ᵀ Delta.{u}"
