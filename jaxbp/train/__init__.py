"""The training loop, with any optax optimizer: `fit` is the whole of it, and `run`, `epoch` and `step` are its parts.

`fit` goes through `run` for some epochs, `run` repeats `epoch`, and an epoch is a scan over what `step` does. An
argument means the same in all of them:

    x, y        the inputs, an array or a dict of them by name, and the targets; the examples are on the first axis
    batch_size  the number of examples in a step; the last step of an epoch may have fewer
    weights     one weight for each example, or for each row of its output, for a gradient that takes `weights=`
    optimizer   any optax optimizer
    gradient    `(params, x, y) -> (value, grads)`, such as `jaxbp.value_and_grad(net, loss)`
    keyed       whether the gradient also gets a fresh `key=` in each step, as that of a network with dropout wants
    observe     `(params, x, y) -> pytree`, called before each update and stacked over the steps of an epoch;
                where there are weights it also gets them as `weights=`, if it takes these

A step and an epoch are compiled once for a gradient and an optimizer, so make both before the loop. All of it is on one
device.

`_state.py` has what a step changes, `_steps.py` a step and an epoch, and `_loop.py` what repeats them. `_arguments.py`
looks at the arguments before anything is compiled, `_evaluation.py` at the network on other data, and `_divergence.py`
finds what was not finite. `_masking.py` and `_kolen_pollack.py` are for optimizers and gradients of their own kind.
"""

from jaxbp.train._arguments import check_data
from jaxbp.train._divergence import DivergedError
from jaxbp.train._evaluation import evaluate
from jaxbp.train._kolen_pollack import kolen_pollack
from jaxbp.train._loop import Epoch, Fit, fit, run
from jaxbp.train._masking import keep_masked
from jaxbp.train._state import TrainState, init_state
from jaxbp.train._steps import Gradient, Steps, epoch, step

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
