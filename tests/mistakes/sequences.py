"""Mistakes in normalisation, in attention and in tables of tokens."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from plain_phases import connections, gradient, is_function, sources
from plain_rules import as_rows, attention_weights, deviation, gate, heads, layer_norm, rms_norm, root, softmax
from wrong_networks import Problem

import jaxbp
from jaxbp import Embedding, Scale
from mistakes._parts import Changes, gradient_name, one_and_all

# Normalisation: δ = (Δ − mean Δ − h mean(h ⊙ Δ)) / σ, without the first mean in the root mean square's


def normalised_back(problem: Problem, u: str, mean: float, variance: float, divided: bool = True) -> Changes:
    """The pull-back with its terms as many times as is said."""
    Phi = problem.activation(u)
    if Phi not in (jaxbp.layer_norm, jaxbp.rms_norm):
        return {}

    def change(q: Any) -> np.ndarray:
        a, Delta = q[f"a.{u}"], q[f"Delta.{u}"]
        h, sigma = (layer_norm(a), deviation(a)) if Phi is jaxbp.layer_norm else (rms_norm(a), root(a))
        terms = variance * h * (h * Delta).mean(axis=-1, keepdims=True)
        if Phi is jaxbp.layer_norm:
            terms = terms + mean * Delta.mean(axis=-1, keepdims=True)
        return (Delta - terms) / (sigma if divided else 1)

    return {f"delta.{u}": change}


def missing_mean_term(problem: Problem, u: str) -> Iterator[Changes]:
    yield normalised_back(problem, u, mean=0, variance=1)


def missing_variance_term(problem: Problem, u: str) -> Iterator[Changes]:
    yield normalised_back(problem, u, mean=1, variance=0)


def missing_deviation(problem: Problem, u: str) -> Iterator[Changes]:
    yield normalised_back(problem, u, mean=1, variance=1, divided=False)


def term_twice(problem: Problem, u: str) -> Iterator[Changes]:
    yield normalised_back(problem, u, mean=2, variance=1)
    yield normalised_back(problem, u, mean=1, variance=2)


def missing_gain(problem: Problem, u: str) -> Iterator[Changes]:
    for s in sources(problem.net, u) if not is_function(problem.net.units[u]) else ():
        if isinstance(connections(problem.net, u)[s], Scale):
            yield {f"signal.{u}.{s}": lambda q: q[f"delta.{u}"]}


# Attention, one head after the other


def attending(problem: Problem, u: str) -> bool:
    unit = problem.net.units[u]
    return is_function(unit) and unit.function is not gate


def score_signal(P: np.ndarray, Delta_P: np.ndarray) -> np.ndarray:
    """Δ_S = P ⊙ (Δ_P − Σ P ⊙ Δ_P)."""
    return P * (Delta_P - (P * Delta_P).sum(axis=1, keepdims=True))


def sent_by_heads(problem: Problem, u: str, role: int, of_head: Callable[..., np.ndarray]) -> Changes:
    """What is sent to the queries, keys or values, from (Q, K, V, P, δ) of each head."""
    unit: Any = problem.net.units[u]

    def change(q: Any) -> np.ndarray:
        inputs = [q[f"h.{s}"] for s in unit.sources]
        sent = np.zeros_like(inputs[role])
        for Q, K, V, delta, to in heads(unit.function, *inputs, q[f"delta.{u}"], sent):
            to[...] = of_head(Q, K, V, attention_weights(Q, K, unit.function.causal), delta)
        return sent

    return {f"signal.{u}.{unit.sources[role]}": change}


def through_scores(scores: Callable[..., np.ndarray]) -> list[Callable[..., np.ndarray]]:
    """What goes to queries and keys, from a Δ_S of its own, (P, Δ_P)."""
    return [
        lambda Q, K, V, P, delta: scores(P, delta @ V.T) @ K / np.sqrt(Q.shape[-1]),
        lambda Q, K, V, P, delta: scores(P, delta @ V.T).T @ Q / np.sqrt(Q.shape[-1]),
    ]


def at_attention(problem: Problem, u: str, *ways: Callable[..., np.ndarray] | None) -> Iterator[Changes]:
    """Each of these ways to queries, keys and values alone, and all together."""
    if attending(problem, u):
        changes: Changes = {}
        for role, way in enumerate(ways):
            if way is not None:
                changes |= sent_by_heads(problem, u, role, way)
        yield from one_and_all(changes)


def missing_scale(problem: Problem, u: str) -> Iterator[Changes]:
    yield from at_attention(
        problem,
        u,
        lambda Q, K, V, P, delta: score_signal(P, delta @ V.T) @ K,
        lambda Q, K, V, P, delta: score_signal(P, delta @ V.T).T @ Q,
    )


def missing_mask(problem: Problem, u: str) -> Iterator[Changes]:
    """P computed anew on the way back, without the mask, for all that is sent or for Δ_V alone."""
    if not attending(problem, u):
        return
    to_queries, to_keys = through_scores(score_signal)
    *_, together = at_attention(
        problem,
        u,
        lambda Q, K, V, P, delta: to_queries(Q, K, V, attention_weights(Q, K, False), delta),
        lambda Q, K, V, P, delta: to_keys(Q, K, V, attention_weights(Q, K, False), delta),
        lambda Q, K, V, P, delta: attention_weights(Q, K, False).T @ delta,
    )
    yield together
    yield dict([list(together.items())[-1]])


def softmax_wrong_axis(problem: Problem, u: str) -> Iterator[Changes]:
    """The sum of Δ_S over the queries, not the keys; or P itself computed anew with a softmax over the queries."""
    yield from at_attention(problem, u, *through_scores(lambda P, Delta_P: P * (Delta_P - (P * Delta_P).sum(axis=0))))
    yield from at_attention(
        problem,
        u,
        None,
        None,
        lambda Q, K, V, P, delta: softmax((Q @ K.T / np.sqrt(Q.shape[-1])).T) @ delta,
    )


def key_for_query(problem: Problem, u: str) -> Iterator[Changes]:
    """Q where K belongs in what goes to the queries, K where Q belongs in what goes to the keys."""
    yield from at_attention(
        problem,
        u,
        lambda Q, K, V, P, delta: score_signal(P, delta @ V.T) @ Q / np.sqrt(Q.shape[-1]),
        lambda Q, K, V, P, delta: score_signal(P, delta @ V.T).T @ K / np.sqrt(Q.shape[-1]),
    )


def softmax_diagonal(problem: Problem, u: str) -> Iterator[Changes]:
    yield from at_attention(problem, u, *through_scores(lambda P, Delta_P: P * (1 - P) * Delta_P))


def missing_softmax_derivative(problem: Problem, u: str) -> Iterator[Changes]:
    yield from at_attention(problem, u, *through_scores(lambda P, Delta_P: Delta_P))


def rows_not_transposed(problem: Problem, u: str) -> Iterator[Changes]:
    """Δ_S Q to the keys, or P δ to the values."""
    yield from at_attention(
        problem,
        u,
        None,
        lambda Q, K, V, P, delta: score_signal(P, delta @ V.T) @ Q / np.sqrt(Q.shape[-1]),
        lambda Q, K, V, P, delta: P @ delta,
    )


# Tables of tokens


def tables(problem: Problem, u: str) -> list[str]:
    return [s for s, c in connections(problem.net, u).items() if isinstance(c, Embedding)]


def rows_overwritten(problem: Problem, u: str) -> Iterator[Changes]:
    """grad[ids] = δ where grad[ids] += δ is meant: in all, or of the last example only."""
    for s in tables(problem, u):
        W = problem.weight(u, s)

        def last_wins(q: Any, s: str = s, W: Any = W) -> np.ndarray:
            grad = np.zeros_like(W)
            for i, row in zip(q[f"h.{s}"].ravel(), as_rows(q[f"delta.{u}"]), strict=True):
                grad[i] = row
            return grad

        def last_wins_in_each(q: Any, s: str = s, W: Any = W) -> np.ndarray:
            grad = np.zeros_like(W)
            for ids, rows in zip(q[f"h.{s}"], q[f"delta.{u}"], strict=True):
                of_example = np.zeros_like(W)
                of_example[ids] = rows
                grad += of_example
            return grad

        yield from ({gradient_name(problem, u, s): change} for change in (last_wins, last_wins_in_each))


def ids_shifted(problem: Problem, u: str) -> Iterator[Changes]:
    """The ids of the place before, or of the example before."""
    for s in tables(problem, u):
        for axis in (-1, 0):
            yield {
                gradient_name(problem, u, s): lambda q, s=s, axis=axis: gradient(
                    problem, u, s, q, q[f"delta.{u}"], np.roll(q[f"h.{s}"], 1, axis)
                )
            }


IN_SEQUENCES = {
    "missing-mean-term": missing_mean_term,
    "missing-variance-term": missing_variance_term,
    "missing-deviation": missing_deviation,
    "term-twice": term_twice,
    "missing-gain": missing_gain,
    "missing-scale": missing_scale,
    "missing-mask": missing_mask,
    "softmax-wrong-axis": softmax_wrong_axis,
    "key-for-query": key_for_query,
    "softmax-diagonal": softmax_diagonal,
    "missing-derivative": missing_softmax_derivative,
    "not-transposed": rows_not_transposed,
    "rows-overwritten": rows_overwritten,
    "wrong-input": ids_shifted,
}
