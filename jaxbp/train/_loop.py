"""Training for as long as one iterates over its epochs, and a fit that does."""

from collections.abc import Callable, Generator
from contextlib import nullcontext
from typing import Any

import jax
import optax
from jax.sharding import Mesh
from jaxtyping import Array

from jaxbp._backprop import value_and_grad
from jaxbp._checks import check_batch_size, check_flag, check_integer, check_kind, check_takes, takes
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
from jaxbp.train._checkpoints import Checkpoints, Position, check_empty, has_any, identity_of, latest, opened
from jaxbp.train._data import Batch, Source, divided, source_of
from jaxbp.train._epoch import Epoch, Fit, Score
from jaxbp.train._evaluation import evaluate
from jaxbp.train._fused import Fused
from jaxbp.train._placement import Layout, Placement, placement_of
from jaxbp.train._running import Loop
from jaxbp.train._state import TrainState, check_state, init_state
from jaxbp.train._steps import Gradient, Observe, Rule

DEFAULT_OPTIMIZER = optax.sgd(0.1, momentum=0.9)


def run(
    net: Network,
    loss: Loss,
    x: Any,
    y: Any = None,
    *,
    optimizer: optax.GradientTransformation,
    batch_size: int = 32,
    state: TrainState | None = None,
    key: Array | None = None,
    gradient: Gradient | None = None,
    observe: Observe | None = None,
    keyed: bool | None = None,
    weights: Any = None,
    drop_last: bool = False,
    chunk: int | None = None,
    every: int | None = None,
    epochs: int | None = None,
    score: Score | None = None,
    mesh: Mesh | None = None,
    layout: Layout = "replicated",
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    stop: Callable[[], bool] | None = None,
) -> Generator[Epoch]:
    """Train for as long as you iterate, one epoch at a time: `break` when it is good enough.

    `jaxbp.train` says what the other arguments are. They are checked at once, before anything is compiled.

    Args:
        state: Where to start, as from `init_state`; it is not used up. An epoch begins at each multiple of its number
            of steps, so a state from the middle of one goes on with the rest.
        key: For a fresh state when there is none; `jax.random.key(0)` when None.
        gradient: Explicit backpropagation when None.
        keyed: When None, whether units have dropout and the gradient takes a key.
        every: After how many steps to yield; after each epoch when None.
        epochs: After how many epochs to end, those before a restart too; for ever when None.
        score: `params -> scores` by name, called before each yield.
        checkpoints: Where and when to write what another run needs to go on.
        resume: Whether to go on from the last of these checkpoints, if there is one. Where it was written right after
            an epoch, that one is yielded once more, without its steps.
        stop: Asked after each chunk of steps whether to write a checkpoint and end, as `until_terminated` gives it.

    Raises:
        TypeError, ValueError: The data has values that cannot be learned from, or the output values that the loss has
            no logarithm of; a key was given beside a state; the devices of the mesh cannot divide the work; the
            checkpoints are another run's, or damaged.
        FileExistsError: There are checkpoints already, and this is not to go on from them.
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
    check_flag(drop_last, "drop_last")
    check_flag(resume, "resume")
    for name, number in (("chunk", chunk), ("every", every), ("epochs", epochs)):
        if number is not None:
            check_integer(number, name, 0 if name == "epochs" else 1)
    gradient = value_and_grad(net, loss) if gradient is None else gradient
    check_functions(gradient, observe)
    if score is not None:
        check_takes(score, "score", ("params",), "lambda params: {…}", hashable=False)
    if stop is not None:
        check_takes(stop, "stop", (), "lambda: False", hashable=False)
    if checkpoints is not None:
        check_kind(checkpoints, Checkpoints, "checkpoints", "jaxbp.train.Checkpoints(folder, every=…)")
    elif resume:
        raise ValueError("resume goes on from checkpoints; pass checkpoints= too")
    if y is not None:
        check_arrays(x, y, weights)
    if state is not None:
        check_state(state)
        if key is not None:
            raise ValueError("key is for a fresh state, and a state has one of its own; pass one of the two")
    start = state or init_state(jax.random.key(0) if key is None else key, net, optimizer)
    placement = placement_of(mesh, layout, start.params)
    if placement is None:
        check_one_device(x=x if y is not None else None, y=y, weights=weights, state=start)
    if keyed is not None:
        check_flag(keyed, "keyed")
    else:
        keyed = bool(noisy_units(net)) and takes(gradient, "key")
    if y is not None:
        jax.eval_shape(objective(without_dropout(net), loss), start.params, x, y, weights)
    if weights is not None:
        check_weights(weights)
    source = source_of(x, y, weights, batch_size=batch_size, drop_last=drop_last, chunk=chunk, placement=placement)
    _check_source(net, loss, start.params, source)
    if isinstance(gradient, Fused):
        gradient.check(optimizer, start.params, start.opt_state)
    rule = Rule(gradient, optimizer, keyed, observe, placement)
    shardings = None if placement is None else placement.of_state(start)
    identity = identity_of(start, network=repr(net), loss=loss, batch_size=batch_size, steps_in_an_epoch=source.steps)
    position = Position(*divmod(int(start.step), source.steps), []) if source.steps else Position(0, 0, [])
    until = None if epochs is None else position.epoch + epochs
    if checkpoints is not None:
        if not resume:
            check_empty(checkpoints)
        elif has_any(checkpoints):
            start, position = latest(checkpoints, start, shardings, identity)
    if placement is not None:
        start = placement.put(start, shardings)
    loop = Loop(net, loss, rule, source, every, until, score, stop)

    def generate() -> Generator[Epoch]:
        with nullcontext() if checkpoints is None else opened(checkpoints, identity) as writer:
            yield from loop(start, position, writer)

    return generate()


def _check_source(net: Network, loss: Loss, params: Params, source: Source) -> None:
    """Refuse what does not fit before anything is compiled; of data on the host only the first batch is looked at."""
    x, y, weights = source.first()
    jax.eval_shape(objective(without_dropout(net), loss), params, x, y, weights)
    check_precision(net, params, x)
    check_output(net, loss)
    check_data(net, loss, *source.known())


def fit(
    net: Network,
    loss: Loss,
    x: Any,
    y: Any = None,
    *,
    optimizer: optax.GradientTransformation | None = None,
    epochs: int = 10,
    batch_size: int = 32,
    seed: int = 0,
    params: Params | None = None,
    validation: tuple[Any, Array] | tuple[Any, Array, Any] | None = None,
    patience: int | None = None,
    callback: Callable[[Epoch], Any] | None = None,
    state: TrainState | None = None,
    gradient: Gradient | None = None,
    weights: Any = None,
    drop_last: bool = False,
    chunk: int | None = None,
    every: int | None = None,
    mesh: Mesh | None = None,
    layout: Layout = "replicated",
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    stop: Callable[[], bool] | None = None,
) -> Fit:
    """Train a network by explicit backpropagation for some epochs.

    `jaxbp.train` says what the other arguments are; what `run` takes means the same, and what it raises, this raises.

    Args:
        optimizer: SGD with learning rate 0.1 and momentum 0.9 when None.
        epochs: How many to go through; with `resume` those before the restart count.
        seed: For the parameters and the permutations: the same seed gives the same numbers.
        params: Where to start; fresh ones when None.
        validation: `(x, y)`, or `(x, y, weights)`, to evaluate on after each epoch, or as `every` says.
        patience: After how many evaluations without a better validation loss to stop; for ever when None.
        callback: Called with each `Epoch`.
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
    if callback is not None:
        check_takes(callback, "callback", ("epoch",), "lambda epoch: …", hashable=False)
    if patience is not None:
        check_integer(patience, "patience", 1)
        if validation is None:
            raise ValueError("patience waits for a better validation loss; pass validation= too")
    optimizer = optimizer or DEFAULT_OPTIMIZER
    if state is not None:
        check_state(state)
        if params is not None:
            raise ValueError("params are where a fresh state starts, and a state has its own; pass one of the two")
    state = state or init_state(jax.random.key(seed), net, optimizer, params=params)
    history: list[dict[str, Any]] = []
    placement = placement_of(mesh, layout, state.params)
    score = None if validation is None else _on(net, loss, validation, placement)
    running = run(
        net, loss, x, y, optimizer=optimizer, batch_size=batch_size, state=state, gradient=gradient, weights=weights,
        drop_last=drop_last, chunk=chunk, every=every, epochs=epochs, score=score, mesh=mesh, layout=layout,
        checkpoints=checkpoints, resume=resume, stop=stop,
    )  # fmt: skip
    for done in running:
        state, history = done.state, done.history
        if callback is not None:
            callback(done)
        if patience is not None and _waited(history) >= patience:
            running.close()  # the checkpoints are on the disk before this returns
    return Fit(state.params, history, state)


def _on(net: Network, loss: Loss, validation: tuple[Any, ...], placement: Placement | None) -> Score:
    """What `evaluate` says of the validation data, which the devices of a mesh divide."""
    x, y, weights = (*validation, None)[:3]
    if placement is not None:
        x, y, weights = divided(Batch(x, y, weights), placement)

    def score(params: Params) -> dict[str, Any]:
        def scores(params: Params, x: Any, y: Any, weights: Any) -> dict[str, Array]:
            return evaluate(net, loss, params, x, y, weights=weights)

        if placement is not None:
            found = placement.automatic(scores, placement.replicated)(params, x, y, weights)
        else:
            found = scores(params, x, y, weights)
        return {f"validation_{name}": value for name, value in found.items()}

    return score


def _waited(history: list[dict[str, Any]]) -> int:
    """How many evaluations there were since the best validation loss."""
    losses = [row["validation_loss"] for row in history]
    return len(losses) - 1 - losses.index(min(losses))
