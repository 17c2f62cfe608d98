"""Training for as long as one iterates over its epochs, and a fit that does."""

import time
from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from jaxbp._backprop import value_and_grad
from jaxbp._checks import check_batch_size, check_integer, takes
from jaxbp._dropout import noisy_units, without_dropout
from jaxbp._network import Network
from jaxbp._objective import check_objective, objective
from jaxbp._parameters import Params, check_params
from jaxbp.losses import Loss
from jaxbp.train._arguments import (
    check_arrays,
    check_data,
    check_functions,
    check_one_device,
    check_optimizer,
    check_output,
    check_precision,
    check_validation,
    check_weights,
)
from jaxbp.train._divergence import all_finite, diagnosis, finite_units
from jaxbp.train._evaluation import evaluate
from jaxbp.train._state import TrainState, check_state, copied, init_state
from jaxbp.train._steps import Gradient, Observe, Steps, epoch

DEFAULT_OPTIMIZER = optax.sgd(0.1, momentum=0.9)


class Epoch(NamedTuple):
    """One finished epoch.

    Attributes:
        number: The epoch, counted from 1.
        loss: The mean loss over the epoch's examples, each taken before the update it took part in.
        state: The state after it; it stays valid while training goes on.
        steps: What was seen in each step.
        seconds: How long it took; the first epoch includes compilation.
    """

    number: int
    loss: float
    state: TrainState
    steps: Steps
    seconds: float


class Fit(NamedTuple):
    """A finished training.

    Attributes:
        params: The trained parameters.
        history: One dict for each epoch: `epoch`, `loss`, `seconds`, and what `evaluate` says of the
            validation data as `validation_loss` and `validation_accuracy`.
        state: The final state, to train on from.
    """

    params: Params
    history: list[dict[str, float]]
    state: TrainState


def run(
    net: Network,
    loss: Loss,
    x: Any,
    y: Array,
    *,
    optimizer: optax.GradientTransformation,
    batch_size: int = 32,
    state: TrainState | None = None,
    key: Array | None = None,
    gradient: Gradient | None = None,
    observe: Observe | None = None,
    keyed: bool | None = None,
    weights: Any = None,
) -> Iterator[Epoch]:
    """Train for as long as you iterate, one epoch at a time: `break` when it is good enough.

    `jaxbp.train` says what the other arguments are. They are checked at once, before anything is compiled.

    Args:
        state: Where to start, as from `init_state`; it is not used up.
        key: For a fresh state when there is none; `jax.random.key(0)` when None.
        gradient: Explicit backpropagation when None.
        keyed: When None, whether units have dropout and the gradient takes a key.

    Raises:
        TypeError, ValueError: The data has values that cannot be learned from, or the output values that the loss has
            no logarithm of; a key was given beside a state.
        DivergedError: While iterating: a value was not finite. Epochs yielded before it stay valid.

    Example:
        >>> import jax.numpy as jnp, jaxbp, optax
        >>> net = jaxbp.layered([3, 2, 1], output=jaxbp.linear)
        >>> for done in jaxbp.train.run(
        ...     net, jaxbp.squared_error, jnp.ones((5, 3)), jnp.ones((5, 1)), optimizer=optax.sgd(0.1)
        ... ):
        ...     if done.number == 3:
        ...         break
        >>> done.state.step
        Array(3, dtype=int32)

    Source: the chapter, "repeatedly cycling through the training data in epochs".
    """
    check_objective(net, loss)
    check_optimizer(optimizer)
    check_batch_size(batch_size)
    gradient = value_and_grad(net, loss) if gradient is None else gradient
    check_functions(gradient, observe)
    check_arrays(x, y, weights)
    if state is not None:
        check_state(state)
        if key is not None:
            raise ValueError("key is for a fresh state, and a state has one of its own; pass one of the two")
    start = state or init_state(jax.random.key(0) if key is None else key, net, optimizer)
    check_one_device(x=x, y=y, weights=weights, state=start)
    if keyed is None:
        keyed = bool(noisy_units(net)) and takes(gradient, "key")
    # refuses what does not fit before anything is compiled
    jax.eval_shape(objective(without_dropout(net), loss), start.params, x, y, weights)
    check_precision(net, start.params, x)
    check_output(net, loss)
    if weights is not None:
        check_weights(weights)
    check_data(net, loss, x, y, weights)
    x, y, weights = jax.tree.map(jnp.asarray, (x, y, weights))
    one_epoch = partial(
        epoch, x=x, y=y, gradient=gradient, optimizer=optimizer, batch_size=batch_size, keyed=keyed, weights=weights
    )

    def generate() -> Iterator[Epoch]:
        current = start
        for number in count(1):
            began = time.perf_counter()
            after, steps = one_epoch(copied(current), observe=observe)
            losses = np.asarray(steps.loss, np.float64)
            if not (np.all(np.isfinite(losses)) and all_finite(after.params)):
                _, again = one_epoch(copied(current), observe=partial(finite_units, net, loss))
                raise diagnosis(net, number, np.asarray(again.observed), after.params)
            current = after
            mean = float(np.average(losses, weights=np.asarray(steps.weight, np.float64)))
            yield Epoch(number, mean, current, steps, time.perf_counter() - began)

    return generate()


def fit(
    net: Network,
    loss: Loss,
    x: Any,
    y: Array,
    *,
    optimizer: optax.GradientTransformation | None = None,
    epochs: int = 10,
    batch_size: int = 32,
    seed: int = 0,
    params: Params | None = None,
    validation: tuple[Any, Array] | tuple[Any, Array, Any] | None = None,
    state: TrainState | None = None,
    weights: Any = None,
) -> Fit:
    """Train a network by explicit backpropagation for some epochs.

    `jaxbp.train` says what the other arguments are; what `run` raises, this raises.

    Args:
        optimizer: SGD with learning rate 0.1 and momentum 0.9 when None.
        seed: For the parameters and the permutations: the same seed gives the same numbers.
        params: Where to start; fresh ones when None.
        validation: `(x, y)`, or `(x, y, weights)`, to evaluate on after each epoch.
        state: Where to go on from, such as the `state` of an earlier fit with the same optimizer.

    Example:
        >>> import jax.numpy as jnp, jaxbp
        >>> x = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        >>> xor = jnp.array([0, 1, 1, 0])
        >>> net = jaxbp.layered([2, 8, 1], hidden=jaxbp.tanh, output=jaxbp.sigmoid)
        >>> fitted = jaxbp.train.fit(net, jaxbp.binary_cross_entropy, x, xor, epochs=200, batch_size=4)
        >>> jnp.round(jaxbp.apply(net, fitted.params, x)).ravel().tolist()
        [0.0, 1.0, 1.0, 0.0]
    """
    check_objective(net, loss)
    check_integer(epochs, "epochs", 0)
    check_integer(seed, "seed", 0)
    if optimizer is not None:
        check_optimizer(optimizer)
    if params is not None:
        check_params(net, params)
    if validation is not None:
        check_validation(validation)
        check_data(net, loss, *validation)
    optimizer = optimizer or DEFAULT_OPTIMIZER
    if state is None:
        state = init_state(jax.random.key(seed), net, optimizer, params=params)
    elif params is not None:
        raise ValueError("params are where a fresh state starts, and a state has its own; pass one of the two")
    history: list[dict[str, float]] = []
    running = run(net, loss, x, y, optimizer=optimizer, batch_size=batch_size, state=state, weights=weights)
    for _, done in zip(range(epochs), running, strict=False):
        state = done.state
        row = {"epoch": done.number, "loss": done.loss, "seconds": done.seconds}
        if validation is not None:
            scores = evaluate(net, loss, state.params, *validation[:2], weights=(*validation, None)[2])
            row |= {f"validation_{name}": float(score) for name, score in scores.items()}
        history.append(row)
    return Fit(state.params, history, state)
