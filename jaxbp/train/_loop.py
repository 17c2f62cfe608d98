"""Stochastic gradient descent over a `TrainState`: a step, a whole epoch in one compiled scan, and a fit."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from jaxbp._backprop import value_and_grad
from jaxbp._cache import bounded_cache
from jaxbp._checks import check_batch_size, check_flag, check_integer, check_kind, check_random_key, takes
from jaxbp._dropout import without_dropout
from jaxbp._network import Network, check_network
from jaxbp._objective import check_objective, objective
from jaxbp._parameters import Params, check_params, init_params
from jaxbp.losses import Loss
from jaxbp.train._arguments import (
    check_arrays,
    check_examples,
    check_functions,
    check_one_device,
    check_optimizer,
    check_precision,
    check_start,
    check_validation,
    check_weights,
)
from jaxbp.train._divergence import all_finite, diagnosis, finite_units
from jaxbp.train._evaluation import check_data, check_output, evaluate

DEFAULT_OPTIMIZER = optax.sgd(0.1, momentum=0.9)

Gradient = Callable[..., tuple[Array, Any]]
"""`(params, x, y) -> (value, grads)`: `jaxbp.value_and_grad(net, loss)`, or one of jax's own.

The parameters are those of the network, or any tree that the gradient is of.
"""


class TrainState(NamedTuple):
    """Everything that one step of training changes.

    Attributes:
        params: The parameters of the network.
        opt_state: The state of the optax optimizer.
        key: The source of the next epochs' permutations.
        step: The number of updates made, an int32 scalar.
    """

    params: Params
    opt_state: Any
    key: Array
    step: Array


class Steps(NamedTuple):
    """What an epoch saw, one row for each step.

    Attributes:
        loss: The mean loss of each step's batch, before its update, `(steps,)`.
        weight: What the batch weighs, its number of examples or the sum of their weights, `(steps,)`.
        observed: What `observe` returned, stacked over steps; None without it.
    """

    loss: Array
    weight: Array
    observed: Any


class Epoch(NamedTuple):
    """One finished epoch.

    Attributes:
        number: Counted from 1.
        loss: The mean loss over the epoch's examples, each taken before the update it took part in.
        state: The state after it; it stays valid while training goes on.
        steps: What was seen in each step.
        seconds: How long it took, in seconds; the first one includes compilation.
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


def init_state(
    key: Array,
    net: Network,
    optimizer: optax.GradientTransformation,
    *,
    params: Any = None,
    dtype: Any = float,
) -> TrainState:
    """A state to start training from.

    Args:
        key: A key from `jax.random.key`, for the parameters and the permutations.
        net: The network.
        optimizer: Any optax optimizer.
        params: Where to start, or whatever tree the gradient is of; fresh parameters when None. They are copied.
        dtype: The dtype of fresh parameters.

    Returns:
        A `TrainState` at step 0.

    Raises:
        TypeError: No key, no network, no optimizer, a dtype that is not floating, or `params` with something else than
            arrays in them.
        ValueError: Several keys.

    Example:
        >>> import jax, jaxbp, optax
        >>> net = jaxbp.layered([3, 2, 1], output=jaxbp.linear)
        >>> jaxbp.train.init_state(jax.random.key(0), net, optax.sgd(0.1)).step
        Array(0, dtype=int32)
    """
    check_random_key(key)
    check_network(net)
    check_optimizer(optimizer)
    if params is not None:
        check_start(params)
    init_key, key = jax.random.split(key)
    start = init_params(init_key, net, dtype) if params is None else jax.tree.map(jnp.array, params)
    return TrainState(start, optimizer.init(start), key, jnp.zeros((), jnp.int32))


def step(
    state: TrainState,
    x: Any,
    y: Array,
    *,
    gradient: Gradient,
    optimizer: optax.GradientTransformation,
    keyed: bool = False,
    weights: Any = None,
) -> tuple[TrainState, Array]:
    """One update from one batch, compiled: W ← W − η ∂L/∂W, or what the optimizer makes of the gradient.

    It compiles once for a gradient and an optimizer, so make both before the loop.

    Args:
        state: Where training stands.
        x: A batch of inputs, an array or a dict of them.
        y: Its targets.
        gradient: `(params, x, y) -> (value, grads)`.
        optimizer: Any optax optimizer.
        keyed: Whether the gradient also takes a `key=`, as that of a network with dropout does: a fresh one from the
            state.
        weights: One weight for each example, which the gradient then takes as `weights=`.

    Returns:
        The next state, and the loss of the batch before the update.

    Raises:
        TypeError: No state, no gradient, no optimizer, no arrays, or a `keyed` that is neither True nor False.
        TypeError, ValueError: As `gradient`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp, optax
        >>> net, sgd = jaxbp.layered([3, 2, 1], output=jaxbp.linear), optax.sgd(0.1)
        >>> state = jaxbp.train.init_state(jax.random.key(0), net, sgd)
        >>> gradient = jaxbp.value_and_grad(net, jaxbp.squared_error)
        >>> state, loss = jaxbp.train.step(state, jnp.ones((5, 3)), jnp.ones((5, 1)), gradient=gradient, optimizer=sgd)
        >>> state.step
        Array(1, dtype=int32)

    Source: the chapter, step 4: "stochastic gradient descent for input-output pattern (X, y)".
    """
    _check_step(state, x, y, weights, gradient, optimizer, keyed)
    return _compiled_step(gradient, optimizer, keyed)(state, x, y, weights)


@bounded_cache
def _compiled_step(gradient: Gradient, optimizer: optax.GradientTransformation, keyed: bool) -> Callable[..., Any]:
    return jax.jit(partial(_step, gradient, optimizer, keyed))


def _step(
    gradient: Gradient,
    optimizer: optax.GradientTransformation,
    keyed: bool,
    state: TrainState,
    x: Any,
    y: Array,
    weights: Any,
) -> tuple[TrainState, Array]:
    key, extra = state.key, dict[str, Any]()
    if keyed:
        key, extra["key"] = jax.random.split(key)
    if weights is not None:
        extra["weights"] = weights
    loss, grads = gradient(state.params, x, y, **extra)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    return TrainState(params, opt_state, key, state.step + 1), loss


def epoch(
    state: TrainState,
    x: Any,
    y: Array,
    *,
    gradient: Gradient,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    observe: Callable[[Params, Any, Array], Any] | None = None,
    keyed: bool = False,
    weights: Any = None,
) -> tuple[TrainState, Steps]:
    """One pass over the data in a fresh order, as one compiled scan whose state is donated.

    Each batch is gathered on the device; a last, smaller batch takes part too. With `batch_size=1` this is the
    chapter's pattern-by-pattern descent.

    Args:
        state: Where training stands. Its buffers are used up: copy it if you need it again.
        x: All inputs, the examples on the first axis; an array or a dict of them.
        y: All targets, the examples on the first axis.
        gradient: `(params, x, y) -> (value, grads)`.
        optimizer: Any optax optimizer.
        batch_size: The number of examples in a step.
        observe: `(params, x, y) -> pytree`, seen before each update and stacked over the steps.
        keyed: As for `step`.
        weights: One weight for each example, as for `step`; a batch in which all are 0 has no mean.

    Returns:
        The next state, and `Steps(loss, weight, observed)`.

    Raises:
        TypeError: No state, gradient, optimizer, arrays or integer, nothing to observe with, or a `keyed` that
            is neither True nor False.
        ValueError: A batch size below 1.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp, optax
        >>> net, sgd = jaxbp.layered([3, 2, 1], output=jaxbp.linear), optax.sgd(0.1)
        >>> state = jaxbp.train.init_state(jax.random.key(0), net, sgd)
        >>> gradient = jaxbp.value_and_grad(net, jaxbp.squared_error)
        >>> state, steps = jaxbp.train.epoch(
        ...     state, jnp.ones((5, 3)), jnp.ones((5, 1)), gradient=gradient, optimizer=sgd, batch_size=2
        ... )
        >>> steps.loss.shape
        (3,)
    """
    _check_step(state, x, y, weights, gradient, optimizer, keyed)
    check_functions(gradient, observe)
    check_examples(x, y, weights)
    check_batch_size(batch_size)
    return _compiled_epoch(gradient, optimizer, keyed, batch_size, observe)(state, x, y, weights)


@bounded_cache
def _compiled_epoch(
    gradient: Gradient,
    optimizer: optax.GradientTransformation,
    keyed: bool,
    batch_size: int,
    observe: Callable[[Params, Any, Array], Any] | None,
) -> Callable[..., Any]:
    def one_epoch(state: TrainState, x: Any, y: Array, weights: Any) -> tuple[TrainState, Steps]:
        examples = y.shape[0]
        key, permutation_key = jax.random.split(state.key)
        order = jax.random.permutation(permutation_key, examples)
        whole = examples // batch_size * batch_size

        def body(state: TrainState, batch: Array) -> tuple[TrainState, Steps]:
            xb, yb, wb = jax.tree.map(lambda v: v.at[batch].get(mode="promise_in_bounds"), (x, y, weights))
            observed = None if observe is None else observe(state.params, xb, yb)
            state, loss = _step(gradient, optimizer, keyed, state, xb, yb, wb)
            weight = jnp.asarray(batch.size, jnp.float32) if wb is None else jnp.sum(wb)
            return state, Steps(loss, weight, observed)

        state = state._replace(key=key)
        state, steps = jax.lax.scan(body, state, order[:whole].reshape(-1, batch_size))
        if whole < examples:
            state, last = body(state, order[whole:])
            steps = jax.tree.map(lambda rows, row: jnp.concatenate([rows, row[None]]), steps, last)
        return state, steps

    return jax.jit(one_epoch, donate_argnums=0)


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
    observe: Callable[[Params, Any, Array], Any] | None = None,
    keyed: bool | None = None,
    weights: Any = None,
) -> Iterator[Epoch]:
    """Train for as long as you iterate, one epoch at a time.

    Args:
        net: The network.
        loss: The loss of one example; steps descend its mean over a batch.
        x: All inputs, the examples on the first axis; an array or a dict of them.
        y: All targets, the examples on the first axis.
        optimizer: Any optax optimizer.
        batch_size: The number of examples in a step; the last step of an epoch may have fewer.
        state: Where to start, as from `init_state`; it is not used up.
        key: For a fresh state when there is none; `jax.random.key(0)` when None.
        gradient: `(params, x, y) -> (value, grads)`; explicit backpropagation when None.
        observe: As for `epoch`.
        keyed: Whether the gradient gets a fresh `key=` in each step; when None, if units have dropout and it takes one.
        weights: One weight for each example, for a gradient that takes `weights=`.

    Returns:
        An iterator over `Epoch(number, loss, state, steps, seconds)`, without end: `break` when it is good enough.

    Raises:
        TypeError, ValueError: Arguments that do not fit, a key beside a state, data on several devices, data with
            values that cannot be learned from, or an output that the loss has no value for.
        DivergedError: While iterating: a value was not finite; epochs yielded before it stay valid.

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
        check_kind(state, TrainState, "state", _A_STATE)
        if key is not None:
            raise ValueError("key is for a fresh state, and a state has one of its own; pass one of the two")
    start = state or init_state(jax.random.key(0) if key is None else key, net, optimizer)
    check_one_device(x=x, y=y, weights=weights, state=start)
    if keyed is None:
        keyed = any(unit.dropout for unit in net.units.values()) and takes(gradient, "key")
    # refuses what does not fit before anything is compiled
    jax.eval_shape(objective(without_dropout(net), loss), start.params, x, y, weights)
    check_precision(net, start.params, x)
    check_output(net, loss)
    check_data(net, loss, x, y)
    if weights is not None:
        check_weights(weights)
    x, y, weights = jax.tree.map(jnp.asarray, (x, y, weights))
    one_epoch = partial(
        epoch, x=x, y=y, gradient=gradient, optimizer=optimizer, batch_size=batch_size, keyed=keyed, weights=weights
    )

    def generate() -> Iterator[Epoch]:
        current = start
        for number in count(1):
            began = time.perf_counter()
            after, steps = one_epoch(_copy(current), observe=observe)
            losses = np.asarray(steps.loss, np.float64)
            if not (np.all(np.isfinite(losses)) and all_finite(after.params)):
                _, again = one_epoch(_copy(current), observe=partial(finite_units, net, loss))
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
    validation: tuple[Any, Array] | None = None,
    state: TrainState | None = None,
    weights: Any = None,
) -> Fit:
    """Train a network by explicit backpropagation.

    Args:
        net: The network.
        loss: The loss of one example.
        x: All inputs, the examples on the first axis; an array or a dict of them.
        y: All targets, the examples on the first axis.
        optimizer: Any optax optimizer; SGD with learning rate 0.1 and momentum 0.9 when None.
        epochs: How often to go through the data.
        batch_size: The number of examples in a step.
        seed: For the parameters and the permutations: the same seed gives the same numbers.
        params: Where to start; fresh ones when None.
        validation: `(x, y)` to evaluate on after each epoch.
        state: Where to go on from, such as the `state` of an earlier fit with the same optimizer.
        weights: One weight for each example.

    Returns:
        `Fit(params, history, state)`.

    Raises:
        TypeError, ValueError: Arguments that do not fit, or data with values that cannot be learned from.
        DivergedError: A value was not finite.

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
            scores = evaluate(net, loss, state.params, *validation)
            row |= {f"validation_{name}": float(score) for name, score in scores.items()}
        history.append(row)
    return Fit(state.params, history, state)


_A_STATE = "a jaxbp.train.TrainState, as init_state makes it"


def _check_step(state: Any, x: Any, y: Any, weights: Any, gradient: Any, optimizer: Any, keyed: Any) -> None:
    check_kind(state, TrainState, "state", _A_STATE)
    check_functions(gradient)
    check_optimizer(optimizer)
    check_flag(keyed, "keyed")
    check_arrays(x, y, weights)
    check_one_device(x=x, y=y, weights=weights, state=state)


def _copy(state: TrainState) -> TrainState:
    return jax.tree.map(jnp.copy, state)
