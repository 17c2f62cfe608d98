"""Mistakes in δ_u = (∂h_u/∂a_u)ᵀ Δ_u: no derivative, a wrong one, or the right one somewhere else."""

from collections.abc import Callable, Iterator

import numpy as np

from jaxbp import activations
from jaxbp._check._catalogue._words import delta_of
from jaxbp._check._entry import Case, Entry
from jaxbp._check._facts import Facts, slope
from jaxbp._check._pass import Pass
from jaxbp._check._steps import pulled_back
from jaxbp.activations import Elementwise

_MASKS = tuple(a.phi for a in (activations.relu, activations.leaky_relu, activations.hard_tanh))


def _missing(facts: Facts, u: str) -> Iterator[Case]:
    Phi = facts.net.units[u].activation
    if Phi.phi != activations.linear.phi:
        what = "Φ'" if isinstance(Phi, Elementwise) else f"the Jacobian of {Phi.name}"
        text = f"{what} is left out: {delta_of(facts, u)}, not Delta.{u}"
        yield Case(text, lambda state, Delta, delta: Delta, unit=u)


def _diagonal(facts: Facts, u: str) -> Iterator[Case]:
    Phi = facts.net.units[u].activation
    if not isinstance(Phi, Elementwise) and activations.epsilon_of(Phi) is None:
        text = f"only the diagonal of the Jacobian is used: {delta_of(facts, u)}, with every element of it"
        yield Case(text, lambda state, Delta, delta: state.facts.diagonals[u] * Delta, unit=u)


def _curved(facts: Facts, u: str) -> Elementwise | None:
    """The activation, where it is element-wise and not the identity."""
    Phi = facts.net.units[u].activation
    return Phi if isinstance(Phi, Elementwise) and Phi.phi != activations.linear.phi else None


def _value(facts: Facts, u: str) -> Iterator[Case]:
    if _curved(facts, u):
        text = f"Φ stands where Φ' belongs: {delta_of(facts, u)}, not h.{u} ⊙ Delta.{u}"
        yield Case(text, lambda state, Delta, delta: state.facts.h[u] * Delta, unit=u)


def _at_output(facts: Facts, u: str) -> Iterator[Case]:
    if Phi := _curved(facts, u):
        text = f"Φ' is evaluated at the output h.{u}: {delta_of(facts, u)}, with Φ' at a.{u}"
        yield Case(text, lambda state, Delta, delta: slope(Phi, state.facts.h[u]) * Delta, unit=u)


def _mask(facts: Facts, u: str) -> Iterator[Case]:
    if (Phi := _curved(facts, u)) and Phi.phi in _MASKS:
        text = f"the mask is taken from the incoming signal, Delta.{u} > 0: {delta_of(facts, u)}, with it from a.{u}"
        yield Case(text, lambda state, Delta, delta: np.where(Delta > 0, Delta, 0.0), "signal", u, bends=True)
        for v, apply in _of_others(facts, u, Phi):
            text = f"the mask is taken at a.{v}, another unit's: {delta_of(facts, u)}, at a.{u}"
            yield Case(text, apply, "unit", u)


def _other_unit(facts: Facts, u: str) -> Iterator[Case]:
    if Phi := _curved(facts, u):
        for v, apply in _of_others(facts, u, Phi):
            text = f"Φ' is evaluated at a.{v}, another unit's: {delta_of(facts, u)}, at a.{u}"
            yield Case(text, apply, unit=u)


def _of_others(facts: Facts, u: str, Phi: Elementwise) -> Iterator[tuple[str, Callable[..., np.ndarray]]]:
    for v in facts.net.units:
        if v != u and facts.net.shapes[v] == facts.net.shapes[u]:
            yield v, lambda state, Delta, delta, v=v: slope(Phi, state.facts.a[v]) * Delta


_FORMULAS: tuple[tuple[str, Callable[[np.ndarray], np.ndarray]], ...] = (
    ("{0} (1 − {0})", lambda z: z * (1 - z)),
    ("(1 − {0}²)", lambda z: 1 - z**2),
    ("(1 − {0})", lambda z: 1 - z),
    ("[{0} > 0]", lambda z: (z > 0).astype(float)),
    ("{0}", lambda z: z),
)
_OTHERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sigmoid": lambda z: 1 / (2 + np.exp(z) + np.exp(-z)),
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
    "relu": lambda z: np.where(z > 0, 1.0, 0.0),
    "leaky_relu": lambda z: np.where(z > 0, 1.0, 0.01),
    "hard_tanh": lambda z: np.where(np.abs(z) < 1, 1.0, 0.0),
    "softplus": lambda z: 1 / (1 + np.exp(-z)),
    "exp": np.exp,
}


def _formula(facts: Facts, u: str) -> Iterator[Case]:
    """A derivative's formula at the wrong argument, or that of another function."""
    Phi, right = facts.net.units[u].activation, delta_of(facts, u)
    if activations.epsilon_of(Phi) is not None:
        return
    name = f"{Phi.name}'"

    def case(words: str, kind: str, factor: Callable[[Pass, np.ndarray], np.ndarray]) -> Case:
        text = f"{words} stands where {name}(a.{u}) belongs: {right}"
        of_signal = "Delta" in kind
        return Case(text, lambda state, Delta, delta: factor(state, Delta) * Delta, kind, u, bends=of_signal)

    arguments: dict[str, tuple[str, Callable[[Pass, np.ndarray], np.ndarray]]] = {
        "a": (f"a.{u}", lambda state, Delta: state.facts.a[u]),
        "h": (f"h.{u}", lambda state, Delta: state.facts.h[u]),
        "Delta": (f"Delta.{u}", lambda state, Delta: Delta),
    }
    if u == facts.net.output:
        arguments["error"] = f"(h.{u} − y)", lambda state, Delta: state.facts.h[u] - state.facts.y
    for key, (z, of) in arguments.items():
        for formula, f in _FORMULAS:
            if (key, formula) != ("h", "{0}"):  # which has a name of its own
                yield case(formula.format(z), f"{formula} at {key}", lambda s, D, f=f, of=of: f(of(s, D)))
    for other, derivative in _OTHERS.items():
        if other != Phi.name:
            for z, of in (arguments["a"], arguments["h"]):
                yield case(f"{other}'({z})", f"{other} at {z[0]}", lambda s, D, f=derivative, of=of: f(of(s, D)))
    curved = _curved(facts, u)
    if curved is None:
        return
    for key in ("Delta", "error"):
        if key in arguments:
            z, of = arguments[key]
            yield case(f"{name}({z})", f"own at {key}", lambda s, D, of=of: slope(curved, of(s, D)))
    yield case(f"{name}({name}(a.{u}))", "twice", lambda s, D: slope(curved, s.facts.slopes[u]))
    yield case(f"{name}(a.{u})²", "squared", lambda s, D: s.facts.slopes[u] ** 2)


def _unsignalled(facts: Facts, u: str) -> Iterator[Case]:
    if Phi := _curved(facts, u):
        text = f"Delta.{u} is left out: {delta_of(facts, u)}, not {Phi.name}'(a.{u}) alone"
        yield Case(text, lambda state, Delta, delta: state.facts.slopes[u], unit=u)


def _wrong_axis(facts: Facts, u: str) -> Iterator[Case]:
    if facts.net.units[u].activation.phi == activations.softmax.phi and facts.examples > 1:
        text = f"the sum of the softmax's pull-back is over the examples: {delta_of(facts, u)}, over the classes"

        def apply(state: Pass, Delta: np.ndarray, delta: np.ndarray) -> np.ndarray:
            h = state.facts.h[u]
            return h * (Delta - np.sum(h * Delta, axis=0))

        yield Case(text, apply, unit=u)


def _detached(facts: Facts, u: str) -> Iterator[Case]:
    if u != facts.net.output:
        text = f"no signal arrives at {u}: {delta_of(facts, u)}, not 0"
        yield Case(text, lambda state, Delta, delta: np.zeros_like(delta), unit=u)


def _double(facts: Facts, u: str) -> Iterator[Case]:
    """The loss and the activation of the output make something simple together, which has the derivative in it."""
    Phi = facts.net.units[u].activation
    if u != facts.net.output or facts.loss.at(Phi).simplification is None:
        return
    text = f"the derivative of {Phi.name} is applied on top of the simplified delta.{u} = (o − y) / N"
    yield Case(
        f"{text}, which holds it already", lambda state, Delta, delta: pulled_back(state.facts, u, delta), unit=u
    )
    if not isinstance(Phi, Elementwise):
        yield Case(
            f"{text}, as o (1 − o), though that holds it already",
            lambda state, Delta, delta: state.facts.diagonals[u] * delta, "diagonal", u,
        )  # fmt: skip


def _error(facts: Facts, u: str) -> Iterator[Case]:
    Phi, loss = facts.net.units[u].activation, facts.loss
    if u != facts.net.output or loss.at(Phi).simplification is not None:
        return
    if Phi.phi != activations.linear.phi or loss.name != "squared_error":
        text = f"o − y is not the error signal of {loss.name} with {Phi.name}: {delta_of(facts, u)}"
        yield Case(
            text, lambda state, Delta, delta: (state.facts.h[u] - state.facts.y) / state.facts.examples, unit=u
        )  # fmt: skip


DERIVATIVES = (
    Entry("missing-derivative", "delta", "Δ_u stands where Φ'(a_u) ⊙ Δ_u belongs", _missing),
    Entry("relu-mask", "delta", "[Δ_u > 0] ⊙ Δ_u stands where [a_u > 0] ⊙ Δ_u belongs", _mask),
    Entry("activation-for-derivative", "delta", "h_u ⊙ Δ_u stands where Φ'(a_u) ⊙ Δ_u belongs", _value),
    Entry("derivative-at-output", "delta", "Φ'(h_u) ⊙ Δ_u stands where Φ'(a_u) ⊙ Δ_u belongs", _at_output),
    Entry("softmax-diagonal", "delta", "diag(∂h/∂a) ⊙ Δ_u stands where (∂h/∂a)ᵀ Δ_u belongs", _diagonal),
    Entry("double-activation-derivative", "delta", "Φ'(a_o) ⊙ δ_o stands where δ_o belongs", _double, rank=1),
    Entry("missing-output-derivative", "delta", "o − y stands where δ_o is something else", _error, rank=1),
    Entry("wrong-derivative", "delta", "f(z) ⊙ Δ_u stands where Φ'(a_u) ⊙ Δ_u belongs", _formula, rank=2),
    Entry("softmax-wrong-axis", "delta", "Σ over examples stands where Σ over classes belongs", _wrong_axis, rank=1),
    Entry("missing-signal", "delta", "Φ'(a_u) stands where Φ'(a_u) ⊙ Δ_u belongs", _unsignalled, rank=2),
    Entry("derivative-of-other-unit", "delta", "Φ'(a_v) ⊙ Δ_u stands where Φ'(a_u) ⊙ Δ_u belongs", _other_unit, rank=2),
    Entry("detached", "delta", "0 stands where δ_u belongs", _detached, rank=2),
)
