"""The training loop, with any optax optimizer.

For those who do not want to write the loop there is `fit`; for those who do, `run`, `epoch` and `step`.
"""

from jaxbp.train._divergence import DivergedError
from jaxbp.train._evaluation import check_data, evaluate
from jaxbp.train._kolen_pollack import kolen_pollack
from jaxbp.train._loop import Epoch, Fit, Gradient, Steps, TrainState, epoch, fit, init_state, run, step
from jaxbp.train._masking import keep_masked

__all__ = [
    "DivergedError",
    "Epoch",
    "Fit",
    "Gradient",
    "Steps",
    "TrainState",
    "check_data",
    "epoch",
    "evaluate",
    "fit",
    "init_state",
    "keep_masked",
    "kolen_pollack",
    "run",
    "step",
]
