"""What a data set says of a network: its mean loss, and its accuracy."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._cache import bounded_cache
from jaxbp._checks import check_batch_size, is_known
from jaxbp._dropout import without_dropout
from jaxbp._forward import forward
from jaxbp._network import Network
from jaxbp._objective import check_objective, objective
from jaxbp._parameters import Params, check_params
from jaxbp.losses import Loss
from jaxbp.train._arguments import check_arrays, check_targets, check_weights


def evaluate(
    net: Network, loss: Loss, params: Params, x: Any, y: Array, *, weights: Any = None, batch_size: int | None = None
) -> dict[str, Array]:
    """The mean loss and, where the loss takes class ids, the accuracy.

    The accuracy is the share of examples, or rows, whose largest output is that of the class; a single output is right
    where it lies on the target's side of the middle. With weights, those of `jaxbp.backprop`, both are weighted means.
    `batch_size` bounds the memory: it is how many examples of the first axis are looked at together, all when None.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 2], hidden=(), output=jaxbp.softmax)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> sorted(jaxbp.train.evaluate(net, jaxbp.cross_entropy, params, jnp.ones((5, 3)), jnp.zeros(5, int)))
        ['accuracy', 'loss']
    """
    check_objective(net, loss)
    net = without_dropout(net)
    check_params(net, params)
    check_arrays(x, y, weights)
    check_targets(net, loss, x, y, weights)
    if weights is not None and is_known(weights):
        check_weights(weights)
    if batch_size is not None:
        check_batch_size(batch_size)
    return _compiled_evaluation(net, loss, batch_size)(params, x, y, weights)


@bounded_cache
def _compiled_evaluation(net: Network, loss: Loss, batch_size: int | None) -> Callable[..., dict[str, Array]]:
    return jax.jit(partial(_evaluation, net, loss, batch_size))


def _evaluation(
    net: Network, loss: Loss, batch_size: int | None, params: Params, x: Any, y: Array, weights: Any
) -> dict[str, Array]:
    if batch_size is None:
        return _scores(net, loss, params, x, y, weights)
    examples = y.shape[0]
    whole = examples // batch_size * batch_size
    everything = examples if weights is None else jnp.sum(weights)

    def part(x: Any, y: Array, weights: Any) -> dict[str, Array]:
        # loss and accuracy are means, so means of batches count by their sizes, and not where nothing counts
        share = (y.shape[0] if weights is None else jnp.sum(weights)) / everything
        scores = _scores(net, loss, params, x, y, weights)
        return {name: jnp.where(share == 0, 0, share * score).astype(score.dtype) for name, score in scores.items()}

    parts: list[dict[str, Array]] = []
    if whole:
        batches = jax.tree.map(lambda v: jnp.reshape(v[:whole], (-1, batch_size, *v.shape[1:])), (x, y, weights))
        each = jax.lax.map(lambda batch: part(*batch), batches)
        parts.append({name: jnp.sum(values) for name, values in each.items()})
    if whole < examples:
        parts.append(part(*jax.tree.map(lambda v: v[whole:], (x, y, weights))))
    return jax.tree.map(lambda *values: sum(values[1:], values[0]), *parts)


def _scores(net: Network, loss: Loss, params: Params, x: Any, y: Array, weights: Any) -> dict[str, Array]:
    scores = {"loss": objective(net, loss)(params, x, y, weights)}
    if loss.encode is not None:
        o = forward(net, params, x).h[net.output]
        y = loss.targets(o, y)
        if o.shape[-1] == 1:
            middle = jnp.mean(loss.encode(jnp.array([0, 1]), 1))
            correct = (o > middle) == (y > middle)
        else:
            correct = (jnp.argmax(o, axis=-1) == jnp.argmax(y, axis=-1))[..., None]
        # of targets that do not exist nothing is right or wrong
        correct = jnp.where(jnp.any(jnp.isnan(y), axis=-1, keepdims=True), jnp.nan, correct)
        if weights is None:
            scores["accuracy"] = jnp.mean(correct)
        else:
            w = jnp.broadcast_to(jnp.expand_dims(weights, tuple(range(weights.ndim, correct.ndim))), correct.shape)
            scores["accuracy"] = jnp.sum(jnp.where(w == 0, 0, w * correct)) / jnp.sum(w)
    return scores
