"""The losses that come with jaxbp: values, gradients, closed forms with an activation, complaints about targets."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxbp._checks import check_integer, check_kind
from jaxbp._precision import widened
from jaxbp.activations import sigmoid, softmax
from jaxbp.losses._blocked import blocked_signals
from jaxbp.losses._class_ids import one_hot, signs
from jaxbp.losses._loss import Loss, Simplification

Rows = Float[Array, "*batch k"]
Losses = Float[Array, "*batch"]
Columns = Float[Array, "k *batch k"]
_CLASSES_TOGETHER = 2048

# by itself one program and not one for each of its operations; within a traced one its operations, as without
_as_one = partial(jax.jit, inline=True)


@_as_one
def _squared_error(o: Rows, y: Rows) -> Losses:
    """½ ‖o − y‖² of each example, the sum over all axes of its output; a batch has the mean over examples."""
    return 0.5 * jnp.sum((o - y) ** 2, axis=-1)


def _squared_error_gradient(o: Rows, y: Rows) -> Rows:
    return o - y


def _squared_error_root(o: Rows, y: Rows) -> Columns:
    return _columns(jnp.ones_like(o))


def _squared_error_root_times(o: Rows, y: Rows, e: Rows) -> Rows:
    return e


def _columns(diagonal: Rows) -> Columns:
    """The columns of a diagonal matrix, one for each element."""
    unit_vectors = jnp.eye(diagonal.shape[-1], dtype=diagonal.dtype)
    return jnp.expand_dims(unit_vectors, tuple(range(1, diagonal.ndim))) * diagonal[None]


def _where_counted(y: Array, o: Array) -> Array:
    """The output o where its logarithm counts, else 1: 0 · log 0 is 0 here, and so is its derivative."""
    return jnp.where(y == 0, 1, o)


@_as_one
def _cross_entropy(o: Rows, y: Rows) -> Losses:
    """−Σ y ln o over the classes, the last axis of the output, which are probabilities (`output=jaxbp.softmax`).

    Targets are rows of probabilities, or integer class ids. An example whose output has rows has the sum over its rows,
    and a batch the mean over examples; weights by position make it the mean over positions, as `jaxbp.losses` says.
    With softmax it is computed from the logits.
    """
    return -jnp.sum(y * jnp.log(_where_counted(y, o)), axis=-1)


@_as_one
def _cross_entropy_gradient(o: Rows, y: Rows) -> Rows:
    return -y / _where_counted(y, o)


def _cross_entropy_root(o: Rows, y: Rows) -> Columns:
    return _columns(jnp.sqrt(y) / _where_counted(y, o))


def _cross_entropy_root_times(o: Rows, y: Rows, e: Rows) -> Array:
    return jnp.sqrt(y) / _where_counted(y, o) * e


@_as_one
def _softmax_cross_entropy(a: Rows, y: Rows) -> Losses:
    return -jnp.sum(y * jax.nn.log_softmax(a), axis=-1)


@_as_one
def _softmax_cross_entropy_delta(a: Array, o: Rows, y: Rows) -> Array:
    # o Σy − y, as o_i Σ_{j≠i} y_j − y_i (1 − o_i): where o is nearly 1, 1 − o is the sum of the others
    a, y = widened(a), widened(y)
    top = jnp.max(a, axis=-1, keepdims=True)
    e = jnp.exp(a - top)
    largest = a == top
    below = jnp.sum(jnp.where(largest, 0, e), axis=-1, keepdims=True)
    # how many were left out of that sum: XLA may compute a twice, and a == top may be another elsewhere
    left_out = jnp.round(jnp.sum(e, axis=-1, keepdims=True) - below)
    besides_one = below + (left_out - 1)
    total = 1 + besides_one
    others = jnp.where(largest, besides_one, total - e)
    return (e * (jnp.sum(y, axis=-1, keepdims=True) - y) - y * others) / total


def _softmax_cross_entropy_root(a: Array, o: Rows, y: Rows) -> Columns:
    # Σy (diag o − o oᵀ) = Σy Σ_k o_k (e_k − o) (e_k − o)ᵀ, because Σ_k o_k = 1
    weight = jnp.sqrt(o * jnp.sum(y, axis=-1, keepdims=True))
    return _columns(weight) - jnp.moveaxis(weight, -1, 0)[..., None] * o[None]


def _softmax_cross_entropy_root_times(a: Array, o: Rows, y: Rows, e: Rows) -> Array:
    along = jnp.sqrt(o * jnp.sum(y, axis=-1, keepdims=True)) * e
    return along - jnp.sum(along, axis=-1, keepdims=True) * o


@_as_one
def _binary_cross_entropy(o: Rows, y: Rows) -> Losses:
    """−Σ (y ln o + (1 − y) ln(1 − o)) over the outputs, which are probabilities (`output=jaxbp.sigmoid`).

    Targets are probabilities of the output's shape, or 0 and 1 of the batch shape for a single output. An example has
    the sum over its outputs and rows; a batch has the mean over examples. With sigmoid it is computed from the logits.
    """
    return _cross_entropy(o, y) + _cross_entropy(1 - o, 1 - y)


@_as_one
def _binary_cross_entropy_gradient(o: Rows, y: Rows) -> Array:
    return _cross_entropy_gradient(o, y) - _cross_entropy_gradient(1 - o, 1 - y)


def _binary_cross_entropy_root(o: Rows, y: Rows) -> Columns:
    return _columns(_binary_cross_entropy_root_diagonal(o, y))


def _binary_cross_entropy_root_times(o: Rows, y: Rows, e: Rows) -> Array:
    return _binary_cross_entropy_root_diagonal(o, y) * e


def _binary_cross_entropy_root_diagonal(o: Rows, y: Rows) -> Array:
    return jnp.sqrt(y / _where_counted(y, o) ** 2 + (1 - y) / _where_counted(1 - y, 1 - o) ** 2)


@_as_one
def _sigmoid_cross_entropy(a: Rows, y: Rows) -> Losses:
    # −y log σ(a) − (1 − y) log σ(−a), with log σ(a) = −softplus(−a)
    return jnp.sum(y * jax.nn.softplus(-a) + (1 - y) * jax.nn.softplus(a), axis=-1)


@_as_one
def _sigmoid_cross_entropy_delta(a: Array, o: Rows, y: Rows) -> Array:
    # o − y, without the rounding of o where it is nearly 1
    a, y = widened(a), widened(y)
    return (1 - y) * jax.nn.sigmoid(a) - y * jax.nn.sigmoid(-a)


def _sigmoid_cross_entropy_root(a: Rows, o: Rows, y: Array) -> Columns:
    return _columns(jnp.sqrt(o * jax.nn.sigmoid(-a)))


def _sigmoid_cross_entropy_root_times(a: Rows, o: Rows, y: Array, e: Rows) -> Array:
    return jnp.sqrt(o * jax.nn.sigmoid(-a)) * e


@_as_one
def _perceptron(o: Rows, y: Rows) -> Losses:
    """Σ max(0, −y o) over the outputs, with targets of −1 and +1, or integer class ids: the perceptron criterion.

    At a margin of 0 it moves on, as the perceptron does. A batch has the mean over examples.
    """
    return -jnp.sum(jnp.where(y * o > 0, 0, y * o), axis=-1)


@_as_one
def _perceptron_gradient(o: Rows, y: Rows) -> Rows:
    return jnp.where(y * o > 0, 0, -y)  # −y at a margin of 0 too, or weights of 0 would never move


def _perceptron_root(o: Rows, y: Array) -> Float[Array, "1 *batch k"]:
    return jnp.zeros_like(o)[None]  # piecewise linear


def _distribution_complaint(y: np.ndarray) -> str | None:
    if np.any(y < 0):
        return f"{np.count_nonzero(y < 0)} targets are negative; cross_entropy takes probabilities or one-hot rows"
    empty = np.flatnonzero(y.reshape(-1, y.shape[-1]).sum(axis=-1) == 0)
    if empty.size:
        return f"the target row of example {empty[0]} sums to 0, so it teaches nothing; {empty.size} rows do"
    return None


def _probability_complaint(y: np.ndarray) -> str | None:
    outside = np.count_nonzero((y < 0) | (y > 1))
    return f"{outside} targets are outside [0, 1]; binary_cross_entropy takes probabilities" if outside else None


def _sign_complaint(y: np.ndarray) -> str | None:
    wrong = np.count_nonzero(np.abs(y) != 1)
    return f"{wrong} targets are neither −1 nor +1; the perceptron criterion takes signs" if wrong else None


squared_error = Loss(
    _squared_error,
    _squared_error_gradient,
    name="squared_error",
    hessian_root=_squared_error_root,
    root_times=_squared_error_root_times,
)
cross_entropy = Loss(
    _cross_entropy,
    _cross_entropy_gradient,
    name="cross_entropy",
    simplifications=(
        Simplification(
            softmax,
            _softmax_cross_entropy,
            _softmax_cross_entropy_delta,
            _softmax_cross_entropy_root,
            _softmax_cross_entropy_root_times,
            blocked_signals,
        ),
    ),
    encode=one_hot,
    complaint=_distribution_complaint,
    hessian_root=_cross_entropy_root,
    root_times=_cross_entropy_root_times,
    takes_probabilities=True,
    block=_CLASSES_TOGETHER,
)
binary_cross_entropy = Loss(
    _binary_cross_entropy,
    _binary_cross_entropy_gradient,
    name="binary_cross_entropy",
    simplifications=(
        Simplification(
            sigmoid,
            _sigmoid_cross_entropy,
            _sigmoid_cross_entropy_delta,
            _sigmoid_cross_entropy_root,
            _sigmoid_cross_entropy_root_times,
        ),
    ),
    encode=one_hot,
    complaint=_probability_complaint,
    hessian_root=_binary_cross_entropy_root,
    root_times=_binary_cross_entropy_root_times,
    takes_probabilities=True,
)
perceptron = Loss(
    _perceptron,
    _perceptron_gradient,
    name="perceptron",
    encode=signs,
    complaint=_sign_complaint,
    hessian_root=_perceptron_root,
)


def unfused(loss: Loss) -> Loss:
    """The same loss without its simplifications: δ_o is always the product (∂o/∂a)ᵀ ∂L/∂o.

    Its value is computed from the output instead of the logits. Where the output saturates, value and gradient may
    overflow, as the product itself does.

    Example:
        >>> import jaxbp
        >>> jaxbp.unfused(jaxbp.cross_entropy).at(jaxbp.softmax).simplification is None
        True

    Source: the question of how a softmax layer fits the element-wise rule.
    """
    check_loss(loss)
    return replace(loss, simplifications=())


def check_loss(loss: Any) -> None:
    """Refuse what is no loss; a name, or a function of another library, may stand for one of ours."""
    check_kind(loss, Loss, "loss", "a jaxbp.Loss, with a value and a gradient", globals())


def in_blocks(loss: Loss, classes: int | None) -> Loss:
    """The same loss, whose gradient looks at so many classes together where the output has more; None for all at once.

    Then a jitted gradient never has all logits at once, which for 32,000 classes saves nine tenths of its memory, and
    on CPUs a quarter of its time. It is the same up to rounding, and works where a single `Dense` or `Transposed`
    connection with or without a bias makes the logits, softmax the output, and targets are class ids. `cross_entropy`
    itself looks at 2,048 together. Whoever asks for the output, its signals, or gradients of single examples has all
    logits all the same.

    Raises:
        TypeError: A loss that no output is known to be made for in blocks, as all are but `cross_entropy`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 100], output=jaxbp.softmax)
        >>> params, x, y = jaxbp.init_params(jax.random.key(0), net), jnp.ones((4, 3)), jnp.array([7, 0, 99, 7])
        >>> blocked = jaxbp.losses.in_blocks(jaxbp.cross_entropy, 10)
        >>> plain, ours = (jaxbp.value_and_grad(net, of)(params, x, y)[1] for of in (jaxbp.cross_entropy, blocked))
        >>> bool(jnp.allclose(plain["o"]["x"], ours["o"]["x"]))
        True

    Source: Wijmans et al., Cut your losses in large-vocabulary language models, 2024.
    """
    check_loss(loss)
    if classes is not None:
        check_integer(classes, "classes", 1)
    if all(rule.blocked is None for rule in loss.simplifications):
        raise TypeError(f"no output is known to be made in blocks for loss {loss.name!r}, only for cross_entropy")
    return replace(loss, block=classes)
