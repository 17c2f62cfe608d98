"""Stochastic gradient descent over a `TrainState`: a step, and a whole epoch in one compiled scan."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from jaxbp._cache import bounded_cache
from jaxbp._checks import check_batch_size, check_flag, takes
from jaxbp.train._arguments import check_arrays, check_examples, check_functions, check_one_device, check_optimizer
from jaxbp.train._state import TrainState, check_state

Gradient = Callable[..., tuple[Array, Any]]
"""`(params, x, y) -> (value, grads)`: `jaxbp.value_and_grad(net, loss)`, or one of jax's own.

The parameters are those of the network, or any tree that the gradient is of.
"""

Observe = Callable[..., Any]
"""`(params, x, y) -> pytree`, or `(params, x, y, *, weights=None)` to see the weights too."""


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

    `jaxbp.train` says what the arguments are. The loss that is returned is that of the batch before the update.

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
    observe: Observe | None = None,
    keyed: bool = False,
    weights: Any = None,
) -> tuple[TrainState, Steps]:
    """One pass over the data in a fresh order, as one compiled scan.

    `jaxbp.train` says what the arguments are. The state is donated: copy it if you need it again. Each batch is
    gathered on the device, and a last, smaller one takes part too. With `batch_size=1` this is the chapter's
    pattern-by-pattern descent. A batch whose weights are all 0 has no mean.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp, optax
        >>> net, sgd = jaxbp.layered([3, 2, 1], output=jaxbp.linear), optax.sgd(0.1)
        >>> state = jaxbp.train.init_state(jax.random.key(0), net, sgd)
        >>> gradient = jaxbp.value_and_grad(net, jaxbp.squared_error)
        >>> state, steps = jaxbp.train.epoch(
        ...     state, jnp.ones((5, 3)), jnp.ones((5, 1)), gradient=gradient, optimizer=sgd, batch_size=2
        ... )
        >>> steps.weight.tolist()
        [2.0, 2.0, 1.0]
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
    observe: Observe | None,
) -> Callable[..., Any]:
    weighs = observe is not None and takes(observe, "weights")

    def one_epoch(state: TrainState, x: Any, y: Array, weights: Any) -> tuple[TrainState, Steps]:
        examples = y.shape[0]
        key, permutation_key = jax.random.split(state.key)
        order = jax.random.permutation(permutation_key, examples)
        whole = examples // batch_size * batch_size

        def body(state: TrainState, batch: Array) -> tuple[TrainState, Steps]:
            xb, yb, wb = jax.tree.map(lambda v: v.at[batch].get(mode="promise_in_bounds"), (x, y, weights))
            also = {"weights": wb} if weighs and wb is not None else {}
            observed = None if observe is None else observe(state.params, xb, yb, **also)
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


def _check_step(state: Any, x: Any, y: Any, weights: Any, gradient: Any, optimizer: Any, keyed: Any) -> None:
    check_state(state)
    check_functions(gradient)
    check_optimizer(optimizer)
    check_flag(keyed, "keyed")
    check_arrays(x, y, weights)
    check_one_device(x=x, y=y, weights=weights, state=state)
