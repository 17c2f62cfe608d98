"""Mistakes at the output, which everything after it inherits: other targets, examples and classes left out."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from jaxbp._check._entry import Case, Entry
from jaxbp._check._facts import Facts
from jaxbp._check._pass import Pass
from jaxbp._check._steps import loss_values, output_signals

_MOST = 256
_OF_OTHERS = ", and the mean is over the others"


def _shifted(facts: Facts) -> Iterator[Case]:
    o = facts.net.output
    for words, shift in _shifts(facts):
        text = f"the targets are {words}: Delta.{o} and delta.{o} belong to other targets than y"
        yield Case(text, lambda state, shift=shift: output_signals(state.facts, shift(state.facts.y)), words)


def _shifted_in_loss(facts: Facts) -> Iterator[Case]:
    for words, shift in _shifts(facts):
        text = f"the targets are {words} in the loss"
        yield Case(text, lambda state, shift=shift: loss_values(state.facts, shift(state.facts.y)).mean(), words)


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


def _examples_in_loss(facts: Facts) -> Iterator[Case]:
    N = facts.examples
    for left_out, subject in _parts(N):
        for kept, words in ((N, ""), (N - (left_out.stop - left_out.start), _OF_OTHERS)):
            yield Case(
                f"{subject} left out of the loss{words}", partial(_loss_without, left_out, kept), subject + words,
                alone=True,
            )  # fmt: skip


def _loss_without(left_out: slice, kept: int, state: Pass) -> np.ndarray:
    values = loss_values(state.facts, state.facts.y).reshape(state.facts.examples, -1).mean(axis=1)
    values[left_out] = 0.0
    return values.sum() / kept


def _examples(facts: Facts) -> Iterator[Case]:
    N = facts.examples
    for left_out, subject in _parts(N):
        for c, words in ((1.0, ""), (N / (N - (left_out.stop - left_out.start)), _OF_OTHERS)):
            yield Case(
                f"{subject} left out{words}: the loss is the mean over all {N}",
                lambda state, c=c, left_out=left_out: _zeroed(state, c, left_out), subject + words, alone=True,
            )  # fmt: skip


def _parts(N: int) -> Iterator[tuple[slice, str]]:
    """The examples that are left out: one, or the last few."""
    for i in range(min(N, _MOST)) if N > 1 else ():
        yield slice(i, i + 1), f"example {i} is"
    for m in range(2, N) if N <= 64 else {N % size for size in (16, 32, 64, 100, 128) if N % size > 1}:
        yield slice(N - m, N), f"the last {m} examples are"


def _classes(facts: Facts) -> Iterator[Case]:
    K = facts.y.shape[-1]
    for j in range(min(K, _MOST)) if K > 1 else ():
        text = f"class {j} is left out: every output has its share in the loss"
        yield Case(text, lambda state, j=j: _zeroed(state, 1.0, (..., j)), str(j), alone=True)


def _zeroed(state: Pass, factor: float, where: object) -> tuple[np.ndarray, np.ndarray]:
    Delta, delta = (factor * signal for signal in state.at_output())
    Delta[where] = 0.0  # type: ignore[index]
    delta[where] = 0.0  # type: ignore[index]
    return Delta, delta


OUTPUT = (
    Entry(
        "labels-shifted", "loss", "the loss of other targets stands where that of y belongs", _shifted_in_loss, rank=2
    ),
    Entry("examples-left-out", "loss", "0 stands where the loss of some examples belongs", _examples_in_loss, rank=2),
    Entry("labels-shifted", "output", "the targets of others stand where y belongs", _shifted, rank=2),
    Entry("examples-left-out", "output", "0 stands where δ_o of some examples belongs", _examples, rank=2),
    Entry("class-left-out", "output", "0 stands where δ_o of one class belongs", _classes, rank=2),
)
