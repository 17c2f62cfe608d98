"""δ of an output layer in every way there is, and how far one is from another."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import jaxbp


@dataclass(frozen=True, eq=False)  # arrays have no single truth value to compare by
class Deltas:
    """δ = ∂L/∂a of an output layer in every way there is, with what it is made of.

    Attributes:
        o: The output, `(n,)`, like everything but the Jacobian.
        gradient: ∂L/∂o.
        jacobian: ∂o_i/∂a_j in row i and column j, `(n, n)`.
        product: Jᵀ ∂L/∂o.
        diagonal: J's diagonal .* ∂L/∂o.
        backprop: The library's.
        automatic: That of `jax.grad`, which uses none of our rules.
    """

    o: np.ndarray
    gradient: np.ndarray
    jacobian: np.ndarray
    product: np.ndarray
    diagonal: np.ndarray
    backprop: np.ndarray
    automatic: np.ndarray

    @property
    def finite(self) -> bool:
        """Whether the product has a meaning: 0 · ∞ says nothing."""
        return bool(np.all(np.isfinite(self.gradient)))


def deltas(activation: jaxbp.activations.Activation, loss: jaxbp.Loss, a: Array, y: Array) -> Deltas:
    """δ = ∂L/∂a of an output layer in every way there is.

    Args:
        activation: Of the output layer.
        loss: Of one example.
        a: The logits, `(n,)`.
        y: The target, `(n,)`.
    """
    o = activation.value(a)
    dL_do, J = loss.gradient(o, y), jacobian(activation, a)
    # the output layer alone: its input is its pre-activation, and there are no parameters
    layer = jaxbp.Unit(a.size, activation, {"x": jaxbp.Identity()}, bias=False)
    net, params = jaxbp.Network(inputs={"x": a.size}, units={"o": layer}), {"o": {}}
    forms = {
        "o": o,
        "gradient": dL_do,
        "jacobian": J,
        "product": J.T @ dL_do,
        "diagonal": jnp.diag(J) * dL_do,
        "backprop": jaxbp.backprop(net, loss, params, a, y).delta["o"],
        "automatic": jax.grad(jaxbp.objective(net, loss), argnums=1)(params, a, y),
    }
    return Deltas(**{name: np.asarray(value) for name, value in forms.items()})


def jacobian(activation: jaxbp.activations.Activation, a: Array) -> Array:
    """∂o_i/∂a_j in row i and column j, `(n, n)`."""
    # the pull-back gives Jᵀ Δ; with a unit vector for Δ that is one row of J, and the batch is all of them
    unit_vectors = jnp.eye(a.size, dtype=a.dtype)
    rows = jnp.broadcast_to(a, unit_vectors.shape)
    return activation.pullback(rows, activation.value(rows), unit_vectors)


def relative_error(ours: Any, theirs: Any) -> float:
    """‖ours − theirs‖ / ‖theirs‖."""
    return float(np.linalg.norm(np.subtract(ours, theirs)) / (np.linalg.norm(theirs) or 1))


def distance(ours: Any, theirs: Any) -> float:
    """The same, but for rounding: o and y are of order one, so that 1 − o loses 1e-16 however small the result."""
    return float(np.linalg.norm(np.subtract(ours, theirs)) / (np.linalg.norm(theirs) + 1e-3))
