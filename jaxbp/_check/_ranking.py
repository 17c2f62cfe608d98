"""Which of several explanations is the best, and what would tell them apart."""

import numpy as np

from jaxbp._check._compare import magnitude
from jaxbp._check._facts import Facts
from jaxbp._check._order import in_order
from jaxbp._check._pass import Change, run
from jaxbp._check._report import Mistake
from jaxbp._check._search import Observed, mistakes_of

_BY_LIKELIHOOD = (
    "wrong-pull-back", "use-left-out", "use-not-transposed", "mean-of-uses", "use-twice", "missing-scale",
    "missing-derivative", "not-transposed", "outer-product-transposed", "sign", "scale", "relu-mask",
    "activation-for-derivative", "derivative-at-output", "softmax-diagonal", "missing-bias", "bias-not-summed",
    "dropped-branch", "branch-twice", "last-branch-wins", "double-activation-derivative", "missing-output-derivative",
    "wrong-input", "signal-of-other-source", "derivative-of-other-unit", "labels-shifted", "detached",
    "updated-weights",
)  # fmt: skip


def ranked(facts: Facts, observed: Observed, found: list[tuple[Change, ...]]) -> list[tuple[Change, ...]]:
    """The explanations, the best first."""
    return sorted(found, key=lambda changes: (_misfit(facts, observed, changes), _likelihood(mistakes_of(changes))))


def _misfit(facts: Facts, observed: Observed, changes: tuple[Change, ...]) -> int:
    """How well changes give what was handed in, in decimal digits: in half precision some do better than others."""
    predicted = run(facts, changes).quantities()
    return round(
        float(np.log10(max(1e-6, *(_distance(predicted[name], mine) for name, mine in observed.arrays.items()))))
    )


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    """‖one − other‖ over the larger norm, without the squares of large numbers; 1 where that is no number."""
    size = max(magnitude(one), magnitude(other)) or 1.0
    one, other = one / size, other / size
    distance = np.linalg.norm(one - other) / max(np.linalg.norm(one), np.linalg.norm(other), 1e-300)
    return float(distance) if np.isfinite(distance) else 1.0


def _likelihood(mistakes: tuple[Mistake, ...]) -> tuple[int, ...]:
    local = sum(mistake.unit is not None for mistake in mistakes)
    return (len(mistakes), *(_BY_LIKELIHOOD.index(mistake.slug) for mistake in mistakes), local)


def telling_apart(facts: Facts, observed: Observed, best_first: list[tuple[Change, ...]]) -> list[str]:
    """For explanations that are equally good here: what to hand in to tell them apart."""
    notes: list[str] = []
    for other in best_first[1:4]:
        words = [" with ".join(mistake.slug for mistake in mistakes_of(changes)) for changes in (best_first[0], other)]
        difference = _difference(facts, observed, best_first[0], other)
        notes.append(f"{words[0]} and {words[1]} give the same numbers here: {difference}")
    return notes


def _difference(facts: Facts, observed: Observed, one: tuple[Change, ...], other: tuple[Change, ...]) -> str:
    first, second = (run(facts, changes).quantities() for changes in (one, other))
    for name in in_order(facts, first):
        if name not in observed.arrays and _differ(first[name], second[name]):
            return f"hand in {name} too, which tells them apart"
    examples = max(4, facts.examples)
    elsewhere = facts.elsewhere(0, _other_targets(facts, examples), examples)
    first, second = (run(elsewhere, changes).quantities() for changes in (one, other))
    for name in in_order(facts, first):
        if name in observed.arrays and _differ(first[name], second[name]):
            return f"{examples} normally distributed examples tell them apart, by {name}"
    return "they are the same step of this network, on every input"


def _other_targets(facts: Facts, examples: int) -> np.ndarray:
    rows = np.resize(facts.y, (examples, *facts.y.shape[1:]))
    if facts.loss.encode is None:
        # real numbers, on both sides of what the network gives
        size = 1 + np.max(np.abs(facts.y)) + np.max(np.abs(facts.h[facts.net.output]))
        return size * np.random.default_rng(0).normal(size=rows.shape)
    # classes or signs: those of other outputs, in every second example
    return np.where((np.arange(examples) % 2 == 0).reshape(-1, *[1] * (rows.ndim - 1)), rows, np.roll(rows, 1, axis=-1))


def _differ(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape != other.shape or not np.allclose(one, other, rtol=1e-6, atol=1e-12)
