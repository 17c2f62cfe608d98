"""The catalogue of mistakes: each a change of one step of the backward pass, in words and as something to evaluate.

Which of them can occur depends on the unit: only a square W can be left untransposed, only a unit with several
readers can lose a branch.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxbp import _activations as activations
from jaxbp._activations import Activation, Elementwise
from jaxbp._check._facts import Facts, slope
from jaxbp._check._function_mistakes import in_function
from jaxbp._check._pass import Change, Pass, gradient, matrix, output_signals, pulled_back
from jaxbp._check._report import Mistake
from jaxbp._connections import Dense, Transposed
from jaxbp._function_unit import FunctionUnit
from jaxbp._graph import ONE
from jaxbp._names import Name

_MASKS = tuple(a.phi for a in (activations.relu, activations.leaky_relu, activations.hard_tanh))


def at_output(facts: Facts) -> Iterator[Change]:
    """Mistakes that change Δ of the output, and with it all that follows."""
    o = facts.net.output

    def change(slug: str, text: str, apply: Callable[[Pass], tuple[np.ndarray, np.ndarray]]) -> Change:
        return Change(Mistake(slug, None, text), "output", o, apply)

    yield change("sign", "the whole gradient is negated", lambda state: _scaled_output(state.facts, -1))
    for words, factor in factors(facts):
        text = f"the whole gradient is {words}"
        yield change("scale", text, lambda state, f=factor: _scaled_output(state.facts, f(state.facts)))
    for words, shifted in _shifts(facts):
        text = f"the targets are {words}: Delta.{o} and delta.{o} belong to other targets than y"
        yield change("labels-shifted", text, lambda state, f=shifted: output_signals(state.facts, f(state.facts.y)))


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

    def change(slug: str, words: str, weight: Callable[[str], float]) -> Change:
        text = f"{s} is read by {' and '.join(readers)}, and {words}: Delta.{s} = {right}"
        return Change(
            Mistake(slug, s, text), "sum", s, lambda terms: sum(weight(v) * term for v, term in terms.items())
        )

    for v in readers:
        yield change("dropped-branch", f"the branch through {v} is forgotten", lambda u, v=v: float(u != v))
        yield change("branch-twice", f"the branch through {v} is counted twice", lambda u, v=v: 1.0 + (u == v))
        yield change("last-branch-wins", f"the branch through {v} overwrites the others", lambda u, v=v: float(u == v))


def in_delta(facts: Facts, u: str) -> Iterator[Change]:
    """Mistakes on the way from Δ_u to δ_u."""
    activation = facts.net.units[u].activation

    def change(slug: str, text: str, apply: Callable[[Facts, np.ndarray, np.ndarray], np.ndarray]) -> Change:
        return Change(Mistake(slug, u, text), "delta", u, apply)

    yield change(
        "sign", f"delta.{u} is negated: delta.{u} = {_rule(activation, u)}", lambda facts, Delta, delta: -delta
    )
    for words, factor in factors(facts):
        yield change("scale", f"delta.{u} is {words}", lambda facts, Delta, delta, f=factor: f(facts) * delta)
    if u != facts.net.output:
        text = f"no signal arrives at {u}: delta.{u} = {_rule(activation, u)}, not 0"
        yield change("detached", text, lambda facts, Delta, delta: np.zeros_like(delta))
    if activation.phi == activations.linear.phi:
        pass
    elif isinstance(activation, Elementwise):
        yield from _element_wise(facts, u, activation, change)
    else:
        text = f"the Jacobian of {activation.name} is left out: delta.{u} = {_rule(activation, u)}, not Delta.{u}"
        yield change("missing-derivative", text, lambda facts, Delta, delta: Delta)
        text = (
            f"only the diagonal of the Jacobian is used: delta.{u} = {_rule(activation, u)}, with every element of it"
        )
        yield change("softmax-diagonal", text, lambda facts, Delta, delta: facts.diagonals[u] * Delta)
    if u == facts.net.output:
        yield from _at_output_activation(facts, u, activation, change)


def _element_wise(facts: Facts, u: str, activation: Elementwise, change: Callable[..., Change]) -> Iterator[Change]:
    right = f"delta.{u} = {_rule(activation, u)}"
    yield change("missing-derivative", f"Φ' is left out: {right}, not Delta.{u}", lambda facts, Delta, delta: Delta)
    yield change(
        "activation-for-derivative",
        f"Φ stands where Φ' belongs: {right}, not h.{u} ⊙ Delta.{u}",
        lambda facts, Delta, delta: facts.h[u] * Delta,
    )
    yield change(
        "derivative-at-output",
        f"Φ' is evaluated at the output h.{u}: {right}, with Φ' at a.{u}",
        lambda facts, Delta, delta: slope(activation, facts.h[u]) * Delta,
    )
    others = [v for v in facts.net.units if v != u and facts.net.shapes[v] == facts.net.shapes[u]]
    for v in others:
        slugs = ["derivative-of-other-unit", *(["relu-mask"] if activation.phi in _MASKS else [])]
        for slug in reversed(slugs):
            what = "the mask is taken" if slug == "relu-mask" else "Φ' is evaluated"
            yield change(
                slug,
                f"{what} at a.{v}, another unit's: {right}, at a.{u}",
                lambda facts, Delta, delta, v=v: slope(activation, facts.a[v]) * Delta,
            )
    if activation.phi in _MASKS:
        yield change(
            "relu-mask",
            f"the mask is taken from the incoming signal, Delta.{u} > 0: {right}, with the mask from a.{u}",
            lambda facts, Delta, delta: np.where(Delta > 0, Delta, 0.0),
        )


def _at_output_activation(
    facts: Facts, o: str, activation: Activation, change: Callable[..., Change]
) -> Iterator[Change]:
    if facts.loss.at(activation).simplification is not None:
        text = f"the derivative of {activation.name} is applied on top of the simplified delta.{o} = (o − y) / N"
        yield change(
            "double-activation-derivative", f"{text}, which holds it already",
            lambda facts, Delta, delta: pulled_back(facts, o, delta),
        )  # fmt: skip
        if not isinstance(activation, Elementwise):
            yield change(
                "double-activation-derivative", f"{text}, as o (1 − o), though that holds it already",
                lambda facts, Delta, delta: facts.diagonals[o] * delta,
            )  # fmt: skip
    elif activation.phi != activations.linear.phi or facts.loss.name != "squared_error":
        text = (
            f"o − y is not the error signal of {facts.loss.name} with {activation.name}: "
            f"delta.{o} = {_rule(activation, o)}"
        )
        yield change(
            "missing-output-derivative", text, lambda facts, Delta, delta: (facts.h[o] - facts.y) / len(facts.y)
        )


def in_gradient(facts: Facts, u: str, s: str) -> Iterator[Change]:
    """Mistakes in one gradient, where δ_u is right."""
    name = Name("grad", (u, s))

    def change(slug: str, text: str, apply: Callable[[Pass, np.ndarray], np.ndarray]) -> Change:
        return Change(Mistake(slug, u, text), "gradient", u, apply, s)

    if s == ONE:
        yield change("missing-bias", f"{name} is forgotten: it is the sum of delta.{u} over the batch, not 0",
                     lambda state, delta: np.zeros_like(gradient(state.facts, u, s, delta)))  # fmt: skip
        if facts.examples > 1:
            right = f"{name} is the sum of delta.{u} over the batch"
            yield change("bias-not-summed", f"{right}, not its mean", lambda state, delta: _rows(delta).mean(axis=0))
            for i in range(facts.examples):
                yield change(
                    "bias-not-summed", f"{right}, not that of example {i} alone",
                    lambda state, delta, i=i: _rows(delta[i : i + 1]).sum(axis=0),
                )  # fmt: skip
        return
    if matrix(facts, u, s) is None:
        return
    right = product_of(facts, u, s)
    yield change(
        "outer-product-transposed",
        f"{name} is handed in as its transpose: it is {right}, of shape {facts.params[u][s].shape}",
        lambda state, delta: gradient(state.facts, u, s, delta).T,
    )
    for words, part in wrong_inputs(facts, u, s):
        yield change("wrong-input", f"{words}: {name} = {right}", lambda state, delta, part=part: part(state, delta))


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

    def changes(slug: str, words: str, factor: Callable[[Facts], float]) -> tuple[Change, ...]:
        mistake = Mistake(slug, u, f"the gradients of {u} are {words}, though delta.{u} is not")
        return tuple(
            Change(mistake, "gradient", u,
                   lambda state, delta, s=s: factor(state.facts) * gradient(state.facts, u, s, delta), s)
            for s, edge in facts.plan.edges[u].items()
            if edge.weight is not None
        )  # fmt: skip

    yield changes("sign", "negated", lambda facts: -1)
    for words, factor in factors(facts):
        yield changes("scale", words, factor)


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


def factors(facts: Facts) -> Iterator[tuple[str, Callable[[Facts], float]]]:
    """Constant factors that go wrong, in words; equal ones once."""
    candidates: list[tuple[str, Callable[[Facts], float]]] = [
        ("N times too large: the sum over the batch, not its mean", lambda facts: facts.examples),
        ("N times too small: the mean over the batch is taken twice", lambda facts: 1 / facts.examples),
        ("twice too large: the ½ of the loss cancels the 2 of the square", lambda facts: 2),
        ("half of what it should be", lambda facts: 1 / 2),
        ("too large by the number of outputs", lambda facts: facts.y.shape[-1]),
        ("too small by the number of outputs, over which the loss sums", lambda facts: 1 / facts.y.shape[-1]),
    ]  # fmt: skip
    seen = {1.0}
    for words, factor in candidates:
        if float(factor(facts)) not in seen:
            seen.add(float(factor(facts)))
            yield words, factor


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


def _rows(delta: np.ndarray) -> np.ndarray:
    return delta.reshape(-1, delta.shape[-1])


def _rule(activation: Activation, u: str) -> str:
    """The right step from Δ to δ, with the unit's own name."""
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
