"""Mistakes in ∂L/∂W_su = h_sᵀ δ_u: another factor on the left, or on the right."""

from collections.abc import Iterator

import numpy as np

from jaxbp import activations
from jaxbp._check._catalogue._words import delta_of, product_of
from jaxbp._check._entry import Case, Entry
from jaxbp._check._gradient import Gradient
from jaxbp._graph import ONE


def _unpulled(gradient: Gradient) -> Iterator[Case]:
    if gradient.edge is None or gradient.facts is None:
        return
    u, s = gradient.edge
    if gradient.facts.net.units[u].activation.phi == activations.linear.phi:
        return
    right = f"{gradient.name} = {product_of(gradient.facts, u, s)}, and {delta_of(gradient.facts, u)}"
    yield Case(
        f"Delta.{u} stands where delta.{u} belongs: {right}",
        lambda gradient: gradient.product(_source(gradient, s), gradient.signal(u)), unit=u,
    )  # fmt: skip


def _signal(gradient: Gradient) -> Iterator[Case]:
    if gradient.edge is None or gradient.facts is None:
        return
    (u, s), facts = gradient.edge, gradient.facts
    right, shape = f"{gradient.name} = {product_of(facts, u, s)}", facts.h[u].shape
    yield Case(
        f"h.{u} stands where delta.{u} belongs: {right}",
        lambda gradient: gradient.product(_source(gradient, s), gradient.of_columns(facts.h[u])), "value", u,
    )  # fmt: skip
    for v in facts.net.units:
        if v != u and facts.h[v].shape == shape:
            yield Case(
                f"delta.{v} stands where delta.{u} belongs: {right}",
                lambda gradient, v=v: gradient.product(_source(gradient, s), gradient.delta(v)), "another", u,
            )  # fmt: skip


def _source(gradient: Gradient, s: str) -> np.ndarray | None:
    return None if s == ONE else gradient.h(s)


def _input(gradient: Gradient) -> Iterator[Case]:
    if gradient.edge is None or gradient.facts is None or gradient.is_bias:
        return
    (u, s), facts = gradient.edge, gradient.facts
    if s in facts.net.ids:
        return
    right = f"{gradient.name} = {product_of(facts, u, s)}"
    for words, name in wrong_inputs(gradient, s):
        yield Case(
            f"{words}: {right}",
            lambda gradient, name=name: gradient.product(_known(gradient, name), gradient.delta(u)), name[0], u,
        )  # fmt: skip
    text = f"h.{s} is left out: {right}, not the sum of delta.{u} in every row"
    yield Case(text, lambda gradient: gradient.product(np.ones_like(gradient.h(s)), gradient.delta(u)), "1", u)
    if gradient.W.ndim == 2 and facts.edge(u, s).weight == (u, s):
        text = f"the weight stands where h.{s} belongs: {right}, not W ⊙ Σ delta.{u}"
        axes = tuple(range(facts.h[u].ndim - 1))
        yield Case(text, lambda gradient: gradient.weight() * gradient.delta(u).sum(axes), "W", u)
    for words, W in (("W", gradient.W), ("Wᵀ", gradient.W.T)):
        # one example may be held against others later, of which there are more
        if W.shape == facts.h[s].shape and facts.examples > 1:
            text = f"the weight, as {words}, stands where h.{s} belongs: {right}"
            yield Case(text, lambda gradient, W=W: gradient.product(gradient.of_rows(W), gradient.delta(u)), words, u)


def wrong_inputs(gradient: Gradient, s: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """What may stand in place of h_s, in words, and as a kind and a unit."""
    facts = gradient.facts
    assert facts is not None
    if s in facts.net.units:
        yield f"the pre-activation a.{s} stands where h.{s} belongs", ("a", s)
    for v in facts.net.shapes:
        if v != s and v not in facts.net.ids and facts.net.shapes[v] == facts.net.shapes[s]:
            yield f"h.{v} stands where h.{s} belongs", ("h", v)


def _known(gradient: Gradient, name: tuple[str, str]) -> np.ndarray:
    return gradient.a(name[1]) if name[0] == "a" else gradient.h(name[1])


PRODUCTS = (
    Entry("Delta-for-delta", "gradient", "h_sᵀ Δ_u stands where h_sᵀ δ_u belongs", _unpulled),
    Entry("wrong-input", "gradient", "a_sᵀ δ_u, h_vᵀ δ_u or W ⊙ δ_u stands where h_sᵀ δ_u belongs", _input, rank=1),
    Entry("wrong-signal", "gradient", "h_sᵀ δ_v or h_sᵀ h_u stands where h_sᵀ δ_u belongs", _signal, rank=2),
)
