"""What comes out of training: an epoch, and a fit of many."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxbp._brief import called
from jaxbp._parameters import Params
from jaxbp.train._state import TrainState
from jaxbp.train._steps import Steps


class Epoch(NamedTuple):
    """What was done since the one before: an epoch, or the steps that `every` says.

    Attributes:
        number: The epoch, counted from 1 over all that the state went through.
        loss: The mean loss over the examples seen, each taken before the update it took part in.
        state: The state after it; it stays valid while training goes on.
        steps: What was seen in each step.
        seconds: How long it took; the first includes compilation.
        scores: What `score` said of the parameters; empty without it.
        history: A row for each of these until now, those before a restart too: `epoch`, `step`, `loss`, `seconds` and
            the scores.
    """

    number: int
    loss: float
    state: TrainState
    steps: Steps
    seconds: float
    scores: Mapping[str, float]
    history: list[dict[str, Any]]

    def __repr__(self) -> str:
        return called(self, number=self.number, loss=self.loss, seconds=self.seconds, scores=self.scores)

    def _repr_html_(self) -> str:
        from jaxbp._notebook._training import of_epoch

        return of_epoch(self)


class Fit(NamedTuple):
    """A finished training.

    Attributes:
        params: The trained parameters, those of the final state.
        history: One dict for each epoch, or each time that `every` says: `epoch`, `step`, `loss`, `seconds`, and what
            `evaluate` says of the validation data as `validation_loss` and `validation_accuracy`.
        state: The final state, to train on from.
    """

    params: Params
    history: list[dict[str, Any]]
    state: TrainState

    def __repr__(self) -> str:
        return called(self, rows=len(self.history), last=self.history[-1] if self.history else None, params=self.params)

    def _repr_html_(self) -> str:
        from jaxbp._notebook._training import of_fit

        return of_fit(self)


Score = Callable[[Params], Mapping[str, Any]]
"""Scores of the parameters by name, such as what `evaluate` says of other data."""
