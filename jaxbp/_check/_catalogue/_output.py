"""Mistakes at the output, which everything after it inherits: other targets, examples and classes left out."""

from collections.abc import Callable, Iterator

import numpy as np

from jaxbp._check._entry import Case, Entry
from jaxbp._check._facts import Facts
from jaxbp._check._pass import Pass
from jaxbp._check._steps import output_signals

_MOST = 256


def _shifted(facts: Facts) -> Iterator[Case]:
    o = facts.net.output
    for words, shift in _shifts(facts):
        text = f"the targets are {words}: Delta.{o} and delta.{o} belong to other targets than y"
        yield Case(text, lambda state, shift=shift: output_signals(state.facts, shift(state.facts.y)), words)


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


def _examples(facts: Facts) -> Iterator[Case]:
    N = facts.examples
    if N == 1:
        return
    for i in range(min(N, _MOST)):
        yield from _without(facts, slice(i, i + 1), f"example {i} is")
    last = range(2, N) if N <= 64 else [N % size for size in (16, 32, 64, 100, 128) if N % size > 1]
    for m in dict.fromkeys(last):
        yield from _without(facts, slice(N - m, N), f"the last {m} examples are")


def _without(facts: Facts, left_out: slice, subject: str) -> Iterator[Case]:
    count, N = left_out.stop - left_out.start, facts.examples
    for c, words in ((1.0, ""), (N / (N - count), ", and the mean is over the others")):
        text = f"{subject} left out{words}: the loss is the mean over all {N}"
        yield Case(text, lambda state, c=c: _zeroed(state, c, left_out), subject + words, alone=True)


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
    Entry("labels-shifted", "output", "the targets of others stand where y belongs", _shifted, rank=2),
    Entry("examples-left-out", "output", "0 stands where δ_o of some examples belongs", _examples, rank=2),
    Entry("class-left-out", "output", "0 stands where δ_o of one class belongs", _classes, rank=2),
)
