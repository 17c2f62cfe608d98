"""What a loss is, L(o, y) with its gradient ∂L/∂o, and what it becomes at the output of a network."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from inspect import getdoc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxbp._checks import check_integer, check_kind, check_real, check_takes, check_text, described
from jaxbp._precision import are_ids, within_int32
from jaxbp.activations import Activation, check_activation
from jaxbp.losses._blocked import BlockedSignals
from jaxbp.losses._class_ids import complaint_about_ids


@dataclass(frozen=True)
class Simplification:
    """The closed form of a loss and an output activation together, from the pre-activation a (the logits).

    Attributes:
        activation: The output activation for which it holds.
        value: `(a, y) -> L`, of shape `(*batch,)`; a, o and y are `(*batch, width)`.
        delta: `(a, o, y) -> ∂L/∂a`, shaped like a; it may be wider than float16 or bfloat16.
        hessian_root: `(a, o, y) -> S`, columns `(K, *batch, width)` with Σ_k S_k S_kᵀ = ∂²L/∂a², for any K; where it is
            None, the Hessian with respect to the output serves.
        root_times: `(a, o, y, e) -> Σ_k e_k S_k`, shaped like a, for e `(*batch, width)` and the columns of
            `hessian_root`, which are then as many as the output has elements; where it is None, columns are formed.
        blocked: What makes the losses, and all that follows from δ, of a `Dense` output and class ids in blocks of
            classes, as `jaxbp.losses._blocked.blocked_signals` does; None where nothing does.
    """

    activation: Activation
    value: Callable[[Array, Array], Array]
    delta: Callable[[Array, Array, Array], Array]
    hessian_root: Callable[[Array, Array, Array], Array] | None = None
    root_times: Callable[[Array, Array, Array, Array], Array] | None = None
    blocked: Callable[..., BlockedSignals] | None = None

    def __post_init__(self):
        check_activation(self.activation, "activation")
        check_takes(self.value, "value", ("a", "y"), "lambda a, y: L")
        check_takes(self.delta, "delta", ("a", "o", "y"), "lambda a, o, y: o - y")
        if self.hessian_root is not None:
            check_takes(self.hessian_root, "hessian_root", ("a", "o", "y"), "lambda a, o, y: S")
        if self.root_times is not None:
            check_takes(self.root_times, "root_times", ("a", "o", "y", "e"), "lambda a, o, y, e: …")


@dataclass(frozen=True)
class Loss:
    """A loss for each example, L(o, y), and its gradient with respect to the output, ∂L/∂o.

    Attributes:
        value: `(o, y) -> L`, of shape `(*batch,)`; o and y are `(*batch, width)`.
        gradient: `(o, y) -> ∂L/∂o`, shaped like o.
        name: What messages and reports call it.
        simplifications: The output activations with which (∂o/∂a)ᵀ ∂L/∂o is known in closed form.
        encode: `(ids, width) -> y` for integer class ids of the batch shape; None where the loss takes none.
        complaint: `y -> str | None`, what is wrong with the values of targets that are on the host.
        hessian_root: `(o, y) -> S`, columns `(K, *batch, width)` with Σ_k S_k S_kᵀ = ∂²L/∂o², for any K; the collectors
            of curvature need it.
        root_times: `(o, y, e) -> Σ_k e_k S_k`, shaped like o, for e `(*batch, width)` and the columns of
            `hessian_root`, which are then as many as the output has elements; where it is None, columns are formed.
        takes_probabilities: Whether the output has to be in [0, 1], as for losses with a logarithm of it.
        block: How many classes a gradient looks at together where the output has more, so that it never has all logits
            at once; all of them when None. `in_blocks` makes a loss with another number.

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
    root_times: Callable[[Array, Array, Array], Array] | None = None
    takes_probabilities: bool = False
    block: int | None = None

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
        if self.root_times is not None:
            check_takes(self.root_times, "root_times", ("o", "y", "e"), "lambda o, y, e: …")
        if self.block is not None:
            check_integer(self.block, "block", 1)

    def __repr__(self) -> str:
        return self.name

    def at(self, activation: Activation) -> "Head":
        """The loss and the activation of the output as one, in closed form where one is known."""
        rule = next((rule for rule in self.simplifications if rule.activation.phi == activation.phi), None)
        return Head(self, activation, rule)

    def targets(self, o: Array, y: Any) -> Array:
        """The targets y as an array like the output o, with its dtype.

        Class ids, of shape `(*batch,)`, become rows where the loss takes them. One that is out of range gives NaN, not
        a silent zero.
        """
        check_real(y, "y")
        y = jnp.asarray(within_int32(y))
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
        if not are_ids(y):
            raise TypeError(
                f"class ids must be integers, but y has dtype {y.dtype}; pass y.astype(int), "
                f"or targets of shape {o.shape}"
            )
        return self.encode(y, width).astype(o.dtype)

    def complaint_about(self, y: Any, shape: tuple[int, ...], weights: Any = None) -> str | None:
        """What is wrong with the values of a data set's targets, or None.

        The targets are `(examples, *shape)`, for an output of this shape, or class ids `(examples, *shape[:-1])`. The
        weights, `(examples,)` or `(examples, *shape[:-1])`, say which targets count: one of weight 0 may be anything.
        Only values on the host can be looked at, so this runs before a jitted loop, not inside it.
        """
        values = np.asarray(y)
        ids = self.encode is not None and values.ndim == len(shape)
        counted = None if weights is None else np.asarray(weights) != 0
        if counted is not None:
            rows = values.shape if ids else values.shape[:-1]
            counted = np.broadcast_to(np.expand_dims(counted, tuple(range(counted.ndim, len(rows)))), rows)
        if ids:
            return complaint_about_ids(values, max(shape[-1], 2), counted=counted)
        if counted is not None and not counted.all():
            values, of = values[counted], "of the targets whose weight is not 0: "
        else:
            of = ""
        if not np.all(np.isfinite(values)):
            return f"{of}{np.count_nonzero(~np.isfinite(values))} of {values.size} values of y are not finite"
        complaint = self.complaint(values) if self.complaint else None
        return complaint and of + complaint


@dataclass(frozen=True)
class Head:
    """A loss L and the activation Φ of the output, made by `Loss.at`; a is the pre-activation of the output, o = Φ(a).

    The simplification is the closed form of the two together, if one is known for what Φ computes.
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

        This is the Hessian with respect to a where a root of it is known; else that with respect to o, pulled back
        through Φ. A loss that states neither root is refused.
        """
        rule = self.simplification
        if rule is not None and rule.hessian_root is not None:
            return rule.hessian_root(a, o, y)
        self.check_root()
        assert self.loss.hessian_root is not None
        return jax.vmap(lambda column: self.activation.pullback(a, o, column))(self.loss.hessian_root(o, y))

    def random_root(self, a: Array, o: Array, y: Array, key: Array) -> Array:
        """A random sum s = Σ_k ±S_k of the columns for each example or row, `(*batch, width)`; E[s sᵀ] = Σ_k S_k S_kᵀ.

        It is what the gradient at targets drawn from the model is, with the same covariance. The columns are formed
        only where the loss does not say how to do without.
        """

        def signs(shape: tuple[int, ...]) -> Array:
            return jax.random.rademacher(key, shape, o.dtype)

        rule = self.simplification
        if rule is not None and rule.hessian_root is not None:
            times, root = rule.root_times, rule.hessian_root
            return _random_sum(root(a, o, y), signs) if times is None else times(a, o, y, signs(o.shape))
        self.check_root()
        assert self.loss.hessian_root is not None
        times, root = self.loss.root_times, self.loss.hessian_root
        column = _random_sum(root(o, y), signs) if times is None else times(o, y, signs(o.shape))
        return self.activation.pullback(a, o, column)

    def check_root(self) -> None:
        """Refuse a loss that states no root of its Hessian, neither at a nor at o."""
        rule = self.simplification
        if (rule is None or rule.hessian_root is None) and self.loss.hessian_root is None:
            raise TypeError(
                f"loss {self.loss.name!r} does not state a root of its Hessian, which curvature is made of; give it "
                "one: Loss(…, hessian_root=lambda o, y: S), with Σ_k S_k S_kᵀ = ∂²L/∂o²"
            )

    def bent(self, a: Array, o: Array, y: Array, along_a: Array, along_o: Array) -> Array:
        """The same curvature times a direction, as a signal at a, `(*batch, width)`."""
        rule = self.simplification
        if rule is not None:
            return jax.jvp(lambda a: rule.delta(a, self.activation.value(a), y), (a,), (along_a,))[1]
        return self.activation.pullback(a, o, jax.jvp(lambda o: self.loss.gradient(o, y), (o,), (along_o,))[1])


def _random_sum(columns: Array, signs: Callable[[tuple[int, ...]], Array]) -> Array:
    return jnp.sum(columns * signs(columns.shape[:-1])[..., None].astype(columns.dtype), axis=0)
