"""Losses L(o, y) with their gradient ∂L/∂o, and the known simplifications with an output activation.

A loss states its gradient with respect to the output of the network; δ_o = (∂o/∂a)ᵀ ∂L/∂o then holds for any
output activation. For a few pairs the product collapses to something simpler, and numerically safer, which the
loss lists as a `Simplification`.
"""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from inspect import getdoc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxbp._checks import check_kind, check_real, check_takes, check_text, described
from jaxbp._precision import widened
from jaxbp.activations import Activation, check_activation, sigmoid, softmax

__all__ = [
    "Head",
    "Loss",
    "Simplification",
    "binary_cross_entropy",
    "cross_entropy",
    "perceptron",
    "squared_error",
    "unfused",
]


@dataclass(frozen=True)
class Simplification:
    """What a loss and an output activation are together, from the pre-activation (the logits).

    Attributes:
        activation: The output activation for which it holds.
        value: `(a, y) -> L` for each example: `(*batch, width), (*batch, width) -> (*batch,)`.
        delta: `(a, o, y) -> ∂L/∂a`, all of shape `(*batch, width)`; it may be wider than float16 or bfloat16.
        hessian_root: `(a, o, y) -> S`, columns `(K, *batch, width)` with Σ_k S_k S_kᵀ = ∂²L/∂a², for any K; None where
            that is not known, and the Hessian with respect to the output serves.

    Raises:
        TypeError: A part that is something else, or a function of other arguments.
    """

    activation: Activation
    value: Callable[[Array, Array], Array]
    delta: Callable[[Array, Array, Array], Array]
    hessian_root: Callable[[Array, Array, Array], Array] | None = None

    def __post_init__(self):
        check_activation(self.activation, "activation")
        check_takes(self.value, "value", ("a", "y"), "lambda a, y: L")
        check_takes(self.delta, "delta", ("a", "o", "y"), "lambda a, o, y: o - y")
        if self.hessian_root is not None:
            check_takes(self.hessian_root, "hessian_root", ("a", "o", "y"), "lambda a, o, y: S")


@dataclass(frozen=True)
class Loss:
    """A loss for each example, L(o, y), and its gradient with respect to the output, ∂L/∂o.

    Attributes:
        value: `(o, y) -> L`: `(*batch, width), (*batch, width) -> (*batch,)`.
        gradient: `(o, y) -> ∂L/∂o`, all of shape `(*batch, width)`.
        name: What messages and reports call it.
        simplifications: The output activations with which the product (∂o/∂a)ᵀ ∂L/∂o is known in closed form.
        encode: `(ids, width) -> y` for integer class ids of the batch shape; None where the loss takes none.
        complaint: `y -> str | None`, what is wrong with the values of targets that are on the host.
        hessian_root: `(o, y) -> S`, columns `(K, *batch, width)` with Σ_k S_k S_kᵀ = ∂²L/∂o², for any K; curvature
            collectors ask for it.
        takes_probabilities: Whether the output has to be in [0, 1], as for losses with a logarithm of it.

    Raises:
        TypeError: A part that is something else, or a function of other arguments.

    Example:
        >>> import jax.numpy as jnp, jaxbp
        >>> absolute = jaxbp.Loss(
        ...     lambda o, y: jnp.sum(jnp.abs(o - y), axis=-1), lambda o, y: jnp.sign(o - y), name="absolute"
        ... )
        >>> absolute.value(jnp.array([[1.0, 2.0]]), jnp.array([[0.0, 4.0]])).tolist()
        [3.0]
    """

    value: Callable[[Array, Array], Array]
    gradient: Callable[[Array, Array], Array]
    _: KW_ONLY
    name: str = "loss"
    simplifications: tuple[Simplification, ...] = ()
    encode: Callable[[Array, int], Array] | None = None
    complaint: Callable[[np.ndarray], str | None] | None = None
    hessian_root: Callable[[Array, Array], Array] | None = None
    takes_probabilities: bool = False

    def __post_init__(self):
        object.__setattr__(self, "__doc__", getdoc(self.value) or type(self).__doc__)  # what help shows of a loss
        check_takes(self.value, "value", ("o", "y"), "lambda o, y: jnp.sum((o - y) ** 2, axis=-1)")
        check_takes(self.gradient, "gradient", ("o", "y"), "lambda o, y: 2 * (o - y)")
        check_text(self.name, "name")
        if not isinstance(self.simplifications, tuple):
            raise TypeError(f"simplifications must be a tuple, got {described(self.simplifications)}")
        for i, rule in enumerate(self.simplifications):
            check_kind(rule, Simplification, f"simplifications[{i}]", "a jaxbp.losses.Simplification")
        if self.encode is not None:
            check_takes(self.encode, "encode", ("ids", "width"), "lambda ids, width: jax.nn.one_hot(ids, width)")
        if self.complaint is not None:
            check_takes(self.complaint, "complaint", ("y",), "lambda y: None")
        if self.hessian_root is not None:
            check_takes(self.hessian_root, "hessian_root", ("o", "y"), "lambda o, y: S")

    def __repr__(self) -> str:
        return self.name

    def at(self, activation: Activation) -> "Head":
        """The loss and the activation of the output as one, in closed form where one is known."""
        return Head(
            self, activation, next((r for r in self.simplifications if r.activation.phi == activation.phi), None)
        )

    def targets(self, o: Array, y: Any) -> Array:
        """The targets y as an array like the output, with its dtype; class ids become rows.

        Args:
            o: The output, of shape `(*batch, width)`.
            y: An array of o's shape, or integer class ids of shape `(*batch,)` if the loss takes them.

        Returns:
            Targets of o's shape and dtype. A class id out of range gives NaN, never a silent zero.

        Raises:
            ValueError: y has neither shape.
            TypeError: y is no array, or holds ids where the loss takes none, or ids that are not integers.
        """
        check_real(y, "y")
        y = jnp.asarray(_within_int32(y))
        if y.shape == o.shape:
            return y.astype(o.dtype)
        batch, width = o.shape[:-1], o.shape[-1]
        if y.shape != batch:
            takes = f" or integer class ids of shape {batch}" if self.encode else ""
            raise ValueError(
                f"y has shape {y.shape}, but the output has shape {o.shape}; "
                f"{self.name} takes y of shape {o.shape}{takes}"
            )
        if self.encode is None:
            raise TypeError(
                f"y has the batch shape {batch}, but {self.name} takes no class ids; pass targets of shape {o.shape}"
                + (", e.g. y[..., None]" if width == 1 else "")
            )
        if not _are_ids(y):
            raise TypeError(
                f"class ids must be integers, but y has dtype {y.dtype}; pass y.astype(int), "
                f"or targets of shape {o.shape}"
            )
        return self.encode(y, width).astype(o.dtype)

    def complaint_about(self, y: Any, shape: tuple[int, ...]) -> str | None:
        """What is wrong with the values of a data set's targets, or None.

        Only values on the host can be looked at, so this runs before a jitted loop, not inside it.

        Args:
            y: All targets, `(examples, *shape)`, or class ids, `(examples, *shape[:-1])`.
            shape: The shape of the output for one example.

        Returns:
            A sentence for an error message.
        """
        values = np.asarray(y)
        if self.encode is not None and values.ndim == len(shape):
            classes = max(shape[-1], 2)
            outside = np.flatnonzero((values < 0) | (values >= classes))
            if not outside.size:
                return None
            return (
                f"class id {values.flat[outside[0]]} at example {outside[0]} is outside 0…{classes - 1}; "
                f"{outside.size} of {values.size} are"
            )
        if not np.all(np.isfinite(values)):
            return f"{np.count_nonzero(~np.isfinite(values))} of {values.size} values of y are not finite"
        return self.complaint(values) if self.complaint else None


@dataclass(frozen=True)
class Head:
    """A loss and the activation of the output, made by `Loss.at`; a is the pre-activation of the output, o = Φ(a).

    Attributes:
        loss: L.
        activation: Φ.
        simplification: The closed form of the two together, if one is known for what Φ computes.
    """

    loss: Loss
    activation: Activation
    simplification: Simplification | None

    def value(self, a: Array, o: Array, y: Array) -> Array:
        """L of each example or row, `(*batch,)`; from the logits where a closed form is known."""
        values = self.loss.value(o, y) if self.simplification is None else self.simplification.value(a, y)
        if values.shape != o.shape[:-1]:
            raise ValueError(
                f"the value of loss {self.loss.name!r} has shape {values.shape} for an output of shape {o.shape}, "
                f"expected {o.shape[:-1]}: sum it over the last axis"
            )
        return values

    def signals(self, a: Array, o: Array, y: Array) -> tuple[Array, Array]:
        """Δ_o = ∂L/∂o and δ_o = (∂o/∂a)ᵀ Δ_o of each example, `(*batch, width)`."""
        Delta = self.loss.gradient(o, y)
        if Delta.shape != o.shape:
            raise ValueError(
                f"the gradient of loss {self.loss.name!r} has shape {Delta.shape} for an output of shape {o.shape}; "
                "∂L/∂o has the output's shape"
            )
        rule = self.simplification
        return Delta, self.activation.pullback(a, o, Delta) if rule is None else rule.delta(a, o, y)

    def root(self, a: Array, o: Array, y: Array) -> Array:
        """Columns S_k at a, `(K, *batch, width)`, with Σ_k S_k S_kᵀ the curvature of each example's loss.

        It is that with respect to a where that is known; else with respect to o, pulled back through Φ.

        Raises:
            TypeError: The loss states no root of its Hessian.
        """
        rule = self.simplification
        if rule is not None and rule.hessian_root is not None:
            return rule.hessian_root(a, o, y)
        if self.loss.hessian_root is None:
            raise TypeError(
                f"loss {self.loss.name!r} does not state a root of its Hessian, which curvature is made of; give it "
                "one: Loss(…, hessian_root=lambda o, y: S), with Σ_k S_k S_kᵀ = ∂²L/∂o²"
            )
        return jax.vmap(lambda column: self.activation.pullback(a, o, column))(self.loss.hessian_root(o, y))

    def bent(self, a: Array, o: Array, y: Array, along_a: Array, along_o: Array) -> Array:
        """The same curvature times a direction, as a signal at a, `(*batch, width)`."""
        rule = self.simplification
        if rule is not None:
            return jax.jvp(lambda a: rule.delta(a, self.activation.value(a), y), (a,), (along_a,))[1]
        return self.activation.pullback(a, o, jax.jvp(lambda o: self.loss.gradient(o, y), (o,), (along_o,))[1])


def _are_ids(y: Any) -> bool:
    return bool(jnp.issubdtype(y.dtype, jnp.integer) or y.dtype == jnp.bool_)


def _within_int32(y: Any) -> Any:
    """Integers on the host as JAX can hold them: without float64 it has no int64, to which 2³² is 0."""
    if not isinstance(y, np.ndarray) or not _are_ids(y) or jax.dtypes.canonicalize_dtype(y.dtype) == y.dtype:
        return y
    # what does not fit is out of range, as it was
    return np.clip(y, -1, np.iinfo(np.int32).max).astype(np.int32)


def unfused(loss: Loss) -> Loss:
    """The same loss without its known simplifications: δ_o by the product (∂o/∂a)ᵀ ∂L/∂o, always.

    Args:
        loss: Any loss.

    Returns:
        A loss whose value is computed from the output instead of the logits. Where the output saturates its
        value and gradient may overflow, as the product itself does.

    Raises:
        TypeError: No loss.

    Example:
        >>> import jaxbp
        >>> jaxbp.unfused(jaxbp.cross_entropy).at(jaxbp.softmax).simplification is None
        True

    Source: the question of how a softmax layer fits the element-wise rule.
    """
    check_loss(loss)
    return replace(loss, simplifications=())


def _one_hot(ids: Array, width: int) -> Array:
    """One row for each id; for a single output the id itself, 0 or 1. NaN where an id is out of range."""
    # not a narrower dtype than that of the ids, in which those out of range would wrap around
    dtype = jnp.promote_types(ids.dtype, jnp.uint32 if jnp.issubdtype(ids.dtype, jnp.unsignedinteger) else jnp.int32)
    ids = ids.astype(dtype)
    classes = jnp.arange(max(width, 2), dtype=dtype)
    rows = ids[..., None] == jnp.expand_dims(classes, tuple(range(ids.ndim)))
    if width == 1:
        rows = rows[..., 1:]
    inside = (ids >= 0) & (ids < classes.size)
    return jnp.where(inside[..., None], rows, jnp.nan)


def _signs(ids: Array, width: int) -> Array:
    return 2 * _one_hot(ids, width) - 1


def _squared_error(o: Float[Array, "*batch k"], y: Float[Array, "*batch k"]) -> Float[Array, "*batch"]:
    """½ ‖o − y‖² of each example, the sum over all axes of its output; a batch has the mean over examples."""
    return 0.5 * jnp.sum((o - y) ** 2, axis=-1)


def _squared_error_gradient(o: Float[Array, "*batch k"], y: Float[Array, "*batch k"]) -> Float[Array, "*batch k"]:
    return o - y


def _squared_error_root(o: Float[Array, "*batch k"], y: Float[Array, "*batch k"]) -> Float[Array, "k *batch k"]:
    return _columns(jnp.ones_like(o))


def _columns(diagonal: Float[Array, "*batch k"]) -> Float[Array, "k *batch k"]:
    """The columns of a diagonal matrix, one for each element."""
    unit_vectors = jnp.eye(diagonal.shape[-1], dtype=diagonal.dtype)
    return jnp.expand_dims(unit_vectors, tuple(range(1, diagonal.ndim))) * diagonal[None]


def _where_counted(y: Array, o: Array) -> Array:
    """The output o where its logarithm counts, else 1: 0 · log 0 is 0 here, and so is its derivative."""
    return jnp.where(y == 0, 1, o)


def _cross_entropy(o: Float[Array, "*batch k"], y: Float[Array, "*batch k"]) -> Float[Array, "*batch"]:
    """−Σ y ln o over the classes, the last axis of the output, which are probabilities (`output=jaxbp.softmax`).

    Targets are rows of probabilities, or integer class ids. An example whose output has rows has the sum over its rows;
    a batch has the mean over examples. With softmax it is computed from the logits.
    """
    return -jnp.sum(y * jnp.log(_where_counted(y, o)), axis=-1)


def _cross_entropy_gradient(o: Float[Array, "*batch k"], y: Float[Array, "*batch k"]) -> Float[Array, "*batch k"]:
    return -y / _where_counted(y, o)


def _cross_entropy_root(o: Float[Array, "*batch k"], y: Float[Array, "*batch k"]) -> Float[Array, "k *batch k"]:
    return _columns(jnp.sqrt(y) / _where_counted(y, o))


def _softmax_cross_entropy(a: Float[Array, "*batch k"], y: Float[Array, "*batch k"]) -> Float[Array, "*batch"]:
    return -jnp.sum(y * jax.nn.log_softmax(a), axis=-1)


def _softmax_cross_entropy_delta(a: Array, o: Float[Array, "*batch k"], y: Float[Array, "*batch k"]) -> Array:
    # o Σy − y, as o_i Σ_{j≠i} y_j − y_i (1 − o_i): where o is nearly 1, 1 − o is the sum of the others
    a, y = widened(a), widened(y)
    top = jnp.max(a, axis=-1, keepdims=True)
    e = jnp.exp(a - top)
    largest = a == top
    below = jnp.sum(jnp.where(largest, 0, e), axis=-1, keepdims=True)
    besides_one = below + (jnp.sum(largest, axis=-1, keepdims=True, dtype=a.dtype) - 1)
    total = 1 + besides_one
    others = jnp.where(largest, besides_one, total - e)
    return (e * (jnp.sum(y, axis=-1, keepdims=True) - y) - y * others) / total


def _softmax_cross_entropy_root(
    a: Array, o: Float[Array, "*batch k"], y: Float[Array, "*batch k"]
) -> Float[Array, "k *batch k"]:
    # Σy (diag o − o oᵀ) = Σy Σ_k o_k (e_k − o) (e_k − o)ᵀ, because Σ_k o_k = 1
    weight = jnp.sqrt(o * jnp.sum(y, axis=-1, keepdims=True))
    return _columns(weight) - jnp.moveaxis(weight, -1, 0)[..., None] * o[None]


def _binary_cross_entropy(o: Float[Array, "*batch k"], y: Float[Array, "*batch k"]) -> Float[Array, "*batch"]:
    """−Σ (y ln o + (1 − y) ln(1 − o)) over the outputs, which are probabilities (`output=jaxbp.sigmoid`).

    Targets are probabilities of the output's shape, or 0 and 1 of the batch shape for a single output. An example has
    the sum over its outputs and rows; a batch has the mean over examples. With sigmoid it is computed from the logits.
    """
    return _cross_entropy(o, y) + _cross_entropy(1 - o, 1 - y)


def _binary_cross_entropy_gradient(o: Float[Array, "*batch k"], y: Float[Array, "*batch k"]) -> Array:
    return _cross_entropy_gradient(o, y) - _cross_entropy_gradient(1 - o, 1 - y)


def _binary_cross_entropy_root(o: Float[Array, "*batch k"], y: Float[Array, "*batch k"]) -> Float[Array, "k *batch k"]:
    return _columns(jnp.sqrt(y / _where_counted(y, o) ** 2 + (1 - y) / _where_counted(1 - y, 1 - o) ** 2))


def _sigmoid_binary_cross_entropy(a: Float[Array, "*batch k"], y: Float[Array, "*batch k"]) -> Float[Array, "*batch"]:
    # −y log σ(a) − (1 − y) log σ(−a), with log σ(a) = −softplus(−a)
    return jnp.sum(y * jax.nn.softplus(-a) + (1 - y) * jax.nn.softplus(a), axis=-1)


def _sigmoid_binary_cross_entropy_delta(a: Array, o: Float[Array, "*batch k"], y: Float[Array, "*batch k"]) -> Array:
    # o − y, without the rounding of o where it is nearly 1
    a, y = widened(a), widened(y)
    return (1 - y) * jax.nn.sigmoid(a) - y * jax.nn.sigmoid(-a)


def _sigmoid_binary_cross_entropy_root(
    a: Float[Array, "*batch k"], o: Float[Array, "*batch k"], y: Array
) -> Float[Array, "k *batch k"]:
    return _columns(jnp.sqrt(o * jax.nn.sigmoid(-a)))


def _perceptron(o: Float[Array, "*batch k"], y: Float[Array, "*batch k"]) -> Float[Array, "*batch"]:
    """Σ max(0, −y o) over the outputs, with targets of −1 and +1, or integer class ids: the perceptron criterion.

    At a margin of 0 it moves on, as the perceptron does. A batch has the mean over examples.
    """
    return -jnp.sum(jnp.where(y * o > 0, 0, y * o), axis=-1)


def _perceptron_gradient(o: Float[Array, "*batch k"], y: Float[Array, "*batch k"]) -> Float[Array, "*batch k"]:
    return jnp.where(y * o > 0, 0, -y)  # −y at a margin of 0 too, or weights of 0 would never move


def _perceptron_root(o: Float[Array, "*batch k"], y: Array) -> Float[Array, "1 *batch k"]:
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


squared_error = Loss(_squared_error, _squared_error_gradient, name="squared_error", hessian_root=_squared_error_root)
cross_entropy = Loss(
    _cross_entropy,
    _cross_entropy_gradient,
    name="cross_entropy",
    simplifications=(
        Simplification(softmax, _softmax_cross_entropy, _softmax_cross_entropy_delta, _softmax_cross_entropy_root),
    ),
    encode=_one_hot,
    complaint=_distribution_complaint,
    hessian_root=_cross_entropy_root,
    takes_probabilities=True,
)
binary_cross_entropy = Loss(
    _binary_cross_entropy,
    _binary_cross_entropy_gradient,
    name="binary_cross_entropy",
    simplifications=(
        Simplification(
            sigmoid,
            _sigmoid_binary_cross_entropy,
            _sigmoid_binary_cross_entropy_delta,
            _sigmoid_binary_cross_entropy_root,
        ),
    ),
    encode=_one_hot,
    complaint=_probability_complaint,
    hessian_root=_binary_cross_entropy_root,
    takes_probabilities=True,
)
perceptron = Loss(
    _perceptron,
    _perceptron_gradient,
    name="perceptron",
    encode=_signs,
    complaint=_sign_complaint,
    hessian_root=_perceptron_root,
)


def check_loss(loss: Any) -> None:
    """Refuse what is no loss; a name, or a function of another library, may stand for one of ours."""
    check_kind(loss, Loss, "loss", "a jaxbp.Loss, with a value and a gradient", globals())
