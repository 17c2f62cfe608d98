"""What a data set says of a network, and what is wrong with a data set."""

from collections.abc import Callable, Mapping
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxbp._cache import bounded_cache
from jaxbp._checks import check_batch_size, check_real, is_known
from jaxbp._dropout import without_dropout
from jaxbp._forward import check_inputs, forward
from jaxbp._network import Network
from jaxbp._objective import check_objective, objective
from jaxbp._parameters import Params, check_params
from jaxbp.losses import Loss
from jaxbp.train._arguments import check_arrays


def evaluate(
    net: Network, loss: Loss, params: Params, x: Any, y: Array, *, batch_size: int | None = None
) -> dict[str, Array]:
    """The mean loss, and for a classification loss the accuracy.

    Args:
        net: The network.
        loss: The loss of one example.
        params: The parameters.
        x: Inputs, as for `forward`.
        y: Targets, as for `backprop`.
        batch_size: How many examples of the first axis to look at at a time, which bounds the memory; all when None.

    Returns:
        `{"loss": …}` and, where the loss takes class ids, `"accuracy"`: the share of examples whose largest
        output is that of the class; for a single output, which lies on the target's side of the middle.

    Raises:
        TypeError, ValueError: As `backprop`; a batch size below 1.

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
    check_arrays(x, y)
    _check_targets(net, loss, x, y)
    if batch_size is not None:
        check_batch_size(batch_size)
    return _compiled_evaluation(net, loss, batch_size)(params, x, y)


@bounded_cache
def _compiled_evaluation(net: Network, loss: Loss, batch_size: int | None) -> Callable[..., dict[str, Array]]:
    return jax.jit(partial(_evaluation, net, loss, batch_size))


def _evaluation(net: Network, loss: Loss, batch_size: int | None, params: Params, x: Any, y: Array) -> dict[str, Array]:
    if batch_size is None:
        return _scores(net, loss, params, x, y)
    examples = y.shape[0]
    whole = examples // batch_size * batch_size
    # loss and accuracy are means over the examples, so means of batches count by their sizes
    parts: list[dict[str, Array]] = []
    if whole:
        batches = jax.tree.map(lambda v: jnp.reshape(v[:whole], (-1, batch_size, *v.shape[1:])), (x, y))
        means = jax.lax.map(lambda batch: _scores(net, loss, params, *batch), batches)
        parts.append({name: whole / examples * jnp.mean(values) for name, values in means.items()})
    if whole < examples:
        rest = jax.tree.map(lambda v: v[whole:], (x, y))
        scores = _scores(net, loss, params, *rest)
        parts.append({name: (1 - whole / examples) * value for name, value in scores.items()})
    return jax.tree.map(lambda *values: sum(values[1:], values[0]), *parts)


def _scores(net: Network, loss: Loss, params: Params, x: Any, y: Array) -> dict[str, Array]:
    scores = {"loss": objective(net, loss)(params, x, y)}
    if loss.encode is not None:
        o = forward(net, params, x).h[net.output]
        y = loss.targets(o, y)
        if o.shape[-1] == 1:
            middle = jnp.mean(loss.encode(jnp.array([0, 1]), 1))
            correct = (o > middle) == (y > middle)
        else:
            correct = jnp.argmax(o, axis=-1) == jnp.argmax(y, axis=-1)
        # of targets that do not exist nothing is right or wrong
        unknown = jnp.any(jnp.isnan(y), axis=-1) if o.shape[-1] > 1 else jnp.isnan(y)
        scores["accuracy"] = jnp.mean(jnp.where(unknown, jnp.nan, correct))
    return scores


def check_output(net: Network, loss: Loss) -> None:
    """Refuse an output that the loss has no value for: logarithms want probabilities.

    Raises:
        ValueError: The activation of the output gives values outside [0, 1], and the loss takes none.
    """
    if not loss.takes_probabilities:
        return
    activation, shape = net.units[net.output].activation, net.shapes[net.output]
    # rows of both signs, so that an activation with vector arguments shows its range, too
    row = jnp.linspace(-3, 3, prod(shape)).reshape(shape) if prod(shape) > 1 else jnp.full(shape, 3.0)
    values = np.asarray(activation.value(jnp.stack([row, -row])))
    outside = values[(values < 0) | (values > 1)]
    if outside.size:
        raise ValueError(
            f"{loss.name} takes probabilities, but the activation {activation.name} of the output {net.output!r} gives "
            f"values such as {outside[0]:.3g}; use output=jaxbp.{loss.simplifications[0].activation.name}"
            if loss.simplifications
            else f"{loss.name} takes probabilities, but {activation.name} gives values such as {outside[0]:.3g}"
        )


def check_data(net: Network, loss: Loss, x: Any, y: Any) -> None:
    """Look at the values of the data on the host, for what no shape can tell.

    Args:
        net: The network.
        loss: The loss of one example.
        x: All inputs, an array or a dict of them.
        y: All targets.

    Raises:
        TypeError, ValueError: Shapes or dtypes that do not fit.
        ValueError: A value of x that is not finite, a class id out of range, a target the loss cannot take.

    Example:
        >>> import jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([2, 3], hidden=(), output=jaxbp.softmax)
        >>> jaxbp.train.check_data(net, jaxbp.cross_entropy, jnp.ones((2, 2)), jnp.array([1, 3]))
        Traceback (most recent call last):
            ...
        ValueError: class id 3 at example 1 is outside 0…2; 1 of 2 are
    """
    check_objective(net, loss)
    check_real(y, "y")
    _check_targets(net, loss, x, y)
    for name, values in x.items() if isinstance(x, Mapping) else [("x", x)]:
        finite = np.isfinite(np.asarray(values))
        if not finite.all():
            first = ", ".join(map(str, np.argwhere(~finite)[0]))
            raise ValueError(
                f"{name}[{first}] is not finite; {np.count_nonzero(~finite)} of {finite.size} values are not"
            )


def _check_targets(net: Network, loss: Loss, x: Any, y: Any) -> None:
    """Refuse targets that do not fit the inputs, or whose values the loss cannot take, where these are known."""
    name, first = next(iter(check_inputs(net, x).items()))
    batch = first.shape[: first.ndim - len(net.shapes[name])]
    o = jax.ShapeDtypeStruct((*batch, *net.shapes[net.output]), jax.dtypes.canonicalize_dtype(first.dtype))
    jax.eval_shape(loss.targets, o, y)
    if is_known(y) and (complaint := loss.complaint_about(y, net.shapes[net.output])):
        raise ValueError(complaint)
