"""Stochastic gradient descent over a `TrainState`: a step, and many of them in one compiled loop."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array

from jaxbp._cache import bounded_cache
from jaxbp._checks import check_batch_size, check_flag, takes
from jaxbp.train._arguments import check_arrays, check_examples, check_functions, check_one_device, check_optimizer
from jaxbp.train._data import Batch
from jaxbp.train._fused import Fused
from jaxbp.train._order import key_of_step, order_of_epoch
from jaxbp.train._placement import Layout, Placement, placement_of
from jaxbp.train._state import TrainState, check_state

Gradient = Callable[..., tuple[Array, Any]]
"""`(params, x, y) -> (value, grads)`: `jaxbp.value_and_grad(net, loss)`, or one of jax's own.

The parameters are those of the network, or any tree that the gradient is of.
"""

Observe = Callable[..., Any]
"""`(params, x, y) -> pytree`, or `(params, x, y, *, weights=None)` to see the weights too."""


class Steps(NamedTuple):
    """What was seen, one row for each step.

    Attributes:
        loss: The mean loss of each step's batch, before its update, `(steps,)`.
        weight: What the batch weighs, its number of examples or the sum of their weights, `(steps,)`.
        observed: What `observe` returned, stacked over steps; None without it.
    """

    loss: Array
    weight: Array
    observed: Any


@dataclass(frozen=True)
class Rule:
    """What a step does with a batch: hashable, so that it is compiled once.

    Attributes:
        gradient: The value and the gradient.
        optimizer: What is made of the gradient.
        keyed: Whether the gradient takes a key.
        observe: What is looked at before the update, or None.
        placement: Where state and batch lie, or None for one device.
    """

    gradient: Gradient
    optimizer: optax.GradientTransformation
    keyed: bool = False
    observe: Observe | None = None
    placement: Placement | None = None

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Steps]:
        """The state after one step, and what was seen in it."""
        x, y, weights = batch
        place = self.placement
        observed = None if self.observe is None else self._observed(state.params, batch)
        extra: dict[str, Any] = {"key": key_of_step(state.key, state.step)} if self.keyed else {}
        if weights is not None:
            extra["weights"] = weights
        loss, params, opt_state = self._updated(state, x, y, extra)
        after = TrainState(params, opt_state, state.key, state.step + 1)
        if place is not None:
            after = place.constrained(after, place.of_state(after))
        weight = jnp.asarray(_examples(y), jnp.float32) if weights is None else jnp.sum(weights)
        seen = Steps(loss, weight, observed)
        return after, seen if place is None else place.constrained(seen, place.all(seen))

    def _updated(self, state: TrainState, x: Any, y: Any, extra: dict[str, Any]) -> tuple[Array, Any, Any]:
        place = self.placement
        if isinstance(self.gradient, Fused):
            update = partial(self.gradient.update, self.optimizer)
            arguments = state.params, state.opt_state, x, y, extra
            return update(*arguments) if place is None else place.updated(update, state, arguments)
        if place is None:
            loss, grads = self.gradient(state.params, x, y, **extra)
        else:
            loss, grads = place.gradient(self.gradient, state.params, x, y, extra)
        if not isinstance(self.optimizer, optax.GradientTransformationExtraArgs):
            updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
            return loss, optax.apply_updates(state.params, updates), opt_state
        seen = {"x": x, "y": y, "value": loss, **extra}
        if place is None:
            updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params, **seen)
        else:
            updates, opt_state = place.seen_update(self.optimizer, grads, state, seen)
        return loss, optax.apply_updates(state.params, updates), opt_state

    def _observed(self, params: Any, batch: Batch) -> Any:
        assert self.observe is not None
        x, y, weights = batch
        extra = {"weights": weights} if weights is not None and takes(self.observe, "weights") else {}
        if self.placement is None:
            return self.observe(params, x, y, **extra)
        return self.placement.observed(self.observe, params, x, y, extra)

    def rows(self, data: Batch, numbers: Array) -> Batch:
        """The batch of these rows of the data."""
        if self.placement is not None:
            return self.placement.take(data, numbers)
        return jax.tree.map(lambda v: v.at[numbers].get(mode="promise_in_bounds"), data)


def _examples(y: Array) -> int:
    return y.shape[0] if y.ndim else 1


def step(
    state: TrainState,
    x: Any,
    y: Array,
    *,
    gradient: Gradient,
    optimizer: optax.GradientTransformation,
    keyed: bool = False,
    weights: Any = None,
    mesh: Mesh | None = None,
    layout: Layout = "replicated",
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
    placement = _check_step(state, x, y, weights, gradient, optimizer, keyed, mesh, layout)
    if placement is not None:
        placement.check_batch(_examples(y))
    rule, batch = Rule(gradient, optimizer, keyed, None, placement), Batch(x, y, weights)
    if placement is not None:
        lie = placement.of_state(state), jax.tree.map(lambda _: placement.rows(), batch)
        state, batch = placement.put((state, batch), lie)
    return _compiled_step(rule)(state, batch)


@bounded_cache
def _compiled_step(rule: Rule) -> Callable[..., Any]:
    def one(state: TrainState, batch: Batch) -> tuple[TrainState, Array]:
        after, seen = rule(state, batch)
        return after, seen.loss

    return jax.jit(one)


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
    drop_last: bool = False,
    mesh: Mesh | None = None,
    layout: Layout = "replicated",
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
    placement = _check_step(state, x, y, weights, gradient, optimizer, keyed, mesh, layout)
    check_functions(gradient, observe)
    check_examples(x, y, weights)
    check_batch_size(batch_size)
    check_flag(drop_last, "drop_last")
    examples = y.shape[0]
    if placement is not None:
        placement.check_batch(batch_size, "a batch")
        placement.check_batch(0 if drop_last else examples % batch_size, "the last batch of an epoch")
    rule = Rule(gradient, optimizer, keyed, observe, placement)
    data = Batch(x, y, weights)
    if placement is not None:
        lie = placement.of_state(state), placement.all(data)
        state, data = placement.put((state, data), lie)
    return _compiled_epoch(rule, batch_size, drop_last)(state, data)


@bounded_cache
def _compiled_epoch(rule: Rule, batch_size: int, drop_last: bool) -> Callable[..., Any]:
    def one_epoch(state: TrainState, data: Batch) -> tuple[TrainState, Steps]:
        examples = data.y.shape[0]
        whole = examples // batch_size
        steps = whole if drop_last or not examples % batch_size else whole + 1
        order = order_of_epoch(state.key, state.step // steps, examples)
        cut = whole * batch_size

        def body(state: TrainState, rows: Array) -> tuple[TrainState, Steps]:
            return rule(state, rule.rows(data, rows))

        state, seen = jax.lax.scan(body, state, order[:cut].reshape(-1, batch_size))
        if steps > whole:
            state, last = body(state, order[cut:])
            seen = jax.tree.map(lambda rows, row: jnp.concatenate([rows, row[None]]), seen, last)
        return state, seen

    return jax.jit(one_epoch, donate_argnums=0)


@bounded_cache
def compiled_steps(rule: Rule) -> Callable[..., tuple[TrainState, Steps]]:
    """`(state, data, batches, first, number) -> (state, steps)`: some of the steps of a chunk; the state is donated.

    How many they are is no part of the program, so that a chunk that is cut in two gives the same bits.
    """
    one = jax.jit(rule, inline=True)  # so that looking at what it gives, and doing it, trace it once

    def some(state: TrainState, data: Batch | None, batches: Any, first: Array, number: Array) -> Any:
        def at(i: Any) -> Batch:
            rows = jax.tree.map(lambda v: jax.lax.dynamic_index_in_dim(v, i, keepdims=False), batches)
            return rows if data is None else rule.rows(data, rows)

        def body(i: Any, carried: Any) -> Any:
            state, seen = carried
            state, row = one(state, at(first + i))
            return state, jax.tree.map(lambda rows, row: rows.at[i].set(row), seen, row)

        row = jax.eval_shape(lambda: one(state, at(0))[1])
        most = jax.tree.leaves(batches)[0].shape[0]
        seen = jax.tree.map(lambda row: jnp.zeros((most, *row.shape), row.dtype), row)
        return jax.lax.fori_loop(0, number, body, (state, seen))

    return jax.jit(some, donate_argnums=0)


def _check_step(
    state: Any, x: Any, y: Any, weights: Any, gradient: Any, optimizer: Any, keyed: Any, mesh: Any, layout: Any
) -> Placement | None:
    check_state(state)
    check_functions(gradient)
    check_optimizer(optimizer)
    check_flag(keyed, "keyed")
    check_arrays(x, y, weights)
    placement = placement_of(mesh, layout, state.params)
    if placement is None:
        check_one_device(x=x, y=y, weights=weights, state=state)
    return placement
