"""The loop itself: chunk after chunk through one compiled program, cut where something is to be looked at or kept."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp._network import Network
from jaxbp.losses import Loss
from jaxbp.train._checkpoints import NOTHING, Position, Writer
from jaxbp.train._data import CHUNK, Chunk, Source
from jaxbp.train._divergence import DivergedError, all_finite, finite_units, first_bad
from jaxbp.train._epoch import Epoch, Score
from jaxbp.train._processes import agreed
from jaxbp.train._state import TrainState, copied
from jaxbp.train._steps import Rule, Steps, compiled_steps


class Span(NamedTuple):
    """What was done since something was yielded.

    Attributes:
        base: The state at its beginning.
        epoch: The epoch at its beginning, from 0.
        within: The steps that were done in that epoch.
        seen: What was seen in its steps, but for those before a restart.
        began: When it began.
        before: The sums of what `seen` lacks, of the weighted losses and of the weights, and its seconds.
    """

    base: TrainState
    epoch: int
    within: int
    seen: list[Steps]
    began: float
    before: tuple[float, float, float] = NOTHING

    def so_far(self) -> tuple[float, float, float]:
        """The sums of the weighted losses and of the weights, and the seconds; one step after the other."""
        total, weight, seconds = self.before
        for seen in self.seen:
            for L, w in zip(*(np.asarray(v, np.float64).tolist() for v in (seen.loss, seen.weight)), strict=True):
                total, weight = total + w * L, weight + w
        return total, weight, seconds + time.perf_counter() - self.began


@dataclass(frozen=True)
class Loop:
    """What a run repeats; the attributes are what `run` says of them."""

    net: Network
    loss: Loss
    rule: Rule
    source: Source
    every: int | None
    epochs: int | None
    score: Score | None
    stop: Callable[[], bool] | None

    def __call__(self, start: TrainState, position: Position, writer: Writer | None) -> Iterator[Epoch]:
        """Go on from a state and its position, until a number of epochs is done, or for ever."""
        epoch, within, history, before = position
        if history and history[-1]["step"] == start.step:
            yield _last(start, history)  # it may have ended before anybody took note
        if self.epochs is not None and epoch >= self.epochs:
            return
        span = Span(start, epoch, within, [], time.perf_counter(), before)
        looked = position
        try:
            for done, at in self._steps(span, history, writer):
                span, looked = span._replace(base=done.state), at
                yield done
        except KeyboardInterrupt:
            # what was looked at last is whole, and what came after it is not
            if writer is not None and looked is not position:
                writer.save(span.base, looked)
            raise

    def _steps(
        self, span: Span, history: list[dict[str, Any]], writer: Writer | None
    ) -> Iterator[tuple[Epoch, Position]]:
        state, step, within = copied(span.base), int(span.base.step), span.within
        for chunk in self.source.chunks(span.base.key, span.epoch, within):
            while (left := chunk.start + chunk.steps - within) > 0:
                number = self._steps_until(step, left, writer)
                state, seen = self._some(self.rule, state, chunk, within - chunk.start, number)
                span.seen.append(seen)
                step, within = step + number, within + number
                ends = chunk.ends and number == left
                over = ends and chunk.epoch + 1 == self.epochs
                place = (chunk.epoch + 1, 0) if ends else (chunk.epoch, within)
                done = None
                if over or (ends if self.every is None else step % self.every == 0):
                    self._check_finite(span, state)
                    done = self._done(chunk.epoch + 1, span, state, history)
                    history = done.history
                stopping = self.stop is not None and agreed(self.stop())
                if writer is not None and (over or stopping or writer.due(step, done and history[-1])):
                    if done is None:
                        self._check_finite(span, state)
                    writer.save(state, Position(*place, history, NOTHING if done else span.so_far()))
                if done is not None:
                    span = Span(state, *place, [], 0.0)
                    yield done, Position(*place, history)
                if over or stopping:
                    return
                if done is not None:
                    state, span = copied(state), span._replace(began=time.perf_counter())
            within = 0 if chunk.ends else within

    def _done(self, number: int, span: Span, state: TrainState, history: list[dict[str, Any]]) -> Epoch:
        scores = {} if self.score is None else {name: float(value) for name, value in self.score(state.params).items()}
        total, weight, seconds = span.so_far()
        mean = total / weight
        steps = jax.tree.map(lambda *parts: jnp.concatenate(parts), *span.seen)
        row = {"epoch": number, "step": int(state.step), "loss": mean, "seconds": seconds, **scores}
        return Epoch(number, mean, state, steps, seconds, scores, [*history, row])

    def _steps_until(self, step: int, left: int, writer: Writer | None) -> int:
        """How many steps to make until something has to be done between two of them."""
        multiples = [self.every, None if writer is None else writer.of.every]
        until = [left, *(every - step % every for every in multiples if every is not None)]
        if self.stop is not None or (writer is not None and writer.of.seconds is not None):
            until.append(CHUNK)
        return min(until)

    def _some(self, rule: Rule, state: TrainState, chunk: Chunk, first: int, number: int) -> tuple[TrainState, Steps]:
        state, seen = compiled_steps(rule)(state, chunk.data, chunk.batches, first, number)
        return state, jax.tree.map(lambda rows: rows[:number], seen)

    def _check_finite(self, span: Span, after: TrainState) -> None:
        """Raise if a loss or a parameter is not finite, and go through the steps again to see which unit was first."""
        losses = np.concatenate([np.zeros(0), *(np.asarray(seen.loss, np.float64) for seen in span.seen)])
        if np.all(np.isfinite(losses)) and all_finite(after.params):
            return
        finite, names = np.isfinite(losses)[:, None], ["loss"]
        if self.source.repeats and len(losses):
            finite, names = self._units_finite(span, len(losses)), [*self.net.order, "loss"]
        row, where = first_bad(self.net, finite, names, after.params)
        more, within = divmod(span.within + row, self.source.steps) if self.source.steps else (0, span.within + row)
        raise DivergedError(span.epoch + more + 1, within + 1, where)

    def _units_finite(self, span: Span, steps: int) -> np.ndarray:
        rule = replace(self.rule, observe=partial(finite_units, self.net, self.loss))
        state, within, found = copied(span.base), span.within, list[np.ndarray]()
        for chunk in self.source.chunks(span.base.key, span.epoch, within):
            number = min(chunk.start + chunk.steps - within, steps)
            state, seen = self._some(rule, state, chunk, within - chunk.start, number)
            found.append(np.asarray(seen.observed))
            within, steps = 0 if chunk.ends else within + number, steps - number
            if not steps:
                break
        return np.concatenate(found)


def _last(state: TrainState, history: list[dict[str, Any]]) -> Epoch:
    """The last epoch of a run that was ended right after it; its steps are not kept."""
    row, none = history[-1], jnp.zeros(0)
    scores = {name: score for name, score in row.items() if name not in ("epoch", "step", "loss", "seconds")}
    return Epoch(row["epoch"], row["loss"], state, Steps(none, none, None), row["seconds"], scores, history)
