"""The right formulas of a network's steps in words, and what a constant factor probably is."""

from collections.abc import Iterator
from fractions import Fraction
from math import isqrt, log10
from typing import Any

import numpy as np

from jaxbp import activations
from jaxbp._check._facts import Facts
from jaxbp._function_unit import FunctionUnit
from jaxbp._graph import ONE
from jaxbp._names import Name
from jaxbp.activations import Activation, Elementwise
from jaxbp.connections import Transposed


def weight_of(facts: Facts, u: str, s: str) -> Name:
    """The name of the weight by which u reads s."""
    return Name("W", facts.edge(u, s).weight or (u, s))


def term_of(facts: Facts, v: str, s: str) -> str:
    """One reader's term of Δ_s."""
    if isinstance(facts.net.units[v], FunctionUnit):
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


def delta_of(facts: Facts, u: str) -> str:
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
    if activations.epsilon_of(activation) is not None:
        mean = f" − mean Delta.{u}" if activation.name.startswith("layer") else ""
        return f"(Delta.{u}{mean} − h.{u} mean(h.{u} Delta.{u})) / σ"
    return f"(∂h/∂a)ᵀ Delta.{u}"


def times(c: float, facts: Facts | None = None) -> str:
    """What a factor makes of a right array, and where it probably comes from."""
    for value, words in _known(facts):
        if np.isclose(c, value, rtol=1e-6):
            return words
    if float(f"{c:.3g}") == c:
        return f"{c:.3g} times the right one".replace("-", "−")
    simple = Fraction(c).limit_denominator(64)
    if np.isclose(float(simple), c, rtol=1e-6):
        return f"{simple} times the right one".replace("-", "−")
    return f"{c:.6g} times the right one".replace("-", "−")


def _known(facts: Facts | None) -> Iterator[tuple[float, str]]:
    """Factors that have a reason, the likeliest first."""
    sign: tuple[tuple[int, str], ...] = ((1, ""), (-1, "negated and "))
    if facts is not None:
        N, K, rows = facts.examples, facts.y.shape[-1], int(np.prod(facts.y.shape[1:-1]))
        for minus, negated in sign:
            if N > 1:
                yield minus * N, f"{negated}N times too large (the sum over the batch, not its mean)"
                yield minus / N, f"{negated}N times too small (the mean over the batch is taken twice)"
            yield minus * 2.0, f"{negated}twice too large (the ½ of the loss cancels the 2 of the square)"
            yield minus / 2.0, f"{negated}half of what it should be"
            if K > 1:
                yield minus * K, f"{negated}too large by the number of outputs"
                yield minus / K, f"{negated}too small by the number of outputs (over which the loss sums)"
                yield minus * 2 / K, f"{negated}2/{K} of what it should be (the mean over the outputs, without the ½)"
            if rows > 1:
                yield minus * rows, f"{negated}too large by the number of rows"
                yield minus / rows, f"{negated}too small by the number of rows (the mean over them is taken twice)"
            if N > 1:
                yield minus * N / (N - 1), f"{negated}N/(N − 1) times too large (the mean over N − 1 examples)"
            if N > 1 and K > 1:
                yield minus / (N * K), f"{negated}too small by N and the number of outputs"
                yield minus * 2 / (N * K), f"{negated}2/(N·{K}) of what it should be"
                yield minus * 2 / N, f"{negated}2/N of what it should be"
    for minus, negated in sign:
        yield 2.0 * minus, f"{negated}2 times the right one, as when a term is counted twice or a ½ is forgotten"
        yield 0.5 * minus, f"{negated}1/2 of the right one, as when a square is differentiated without its 2"
    yield -1.0, "negated"
    for power in range(1, 7):
        for digit in (1, 2, 3, 5):
            eta = digit * 10.0**-power
            yield -eta, f"−{eta:g} times the right one (a step −η ∂L at the learning rate η = {eta:g}?)"
            yield eta, f"{eta:g} times the right one (a learning rate η = {eta:g}?)"
    for n in range(3, 65):
        whole = "as when a sum over {} is meant to be a mean"
        yield float(n), f"{n} times the right one, {whole.format(n)}"
        yield 1.0 / n, f"1/{n} of the right one, as when a mean over {n} is taken where a sum belongs"
    for n in range(2, 65):
        root = str(isqrt(n)) if isqrt(n) ** 2 == n else f"√{n}"
        yield n**0.5, f"{root} times the right one"
        yield n**-0.5, f"1/{root} of the right one"


def is_simple(c: float, facts: Facts | None = None) -> bool:
    """Whether a constant is one that people write: of those there are few enough for one number to tell."""
    if any(np.isclose(c, value, rtol=1e-6) for value, _ in _known(facts)):
        return True
    return float(f"{c:.1g}") == c and abs(log10(abs(c))) < 7
