"""How far the error signals under feedback point away from those of backpropagation."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._backprop import backprop
from jaxbp._feedback import Feedback, check_feedback
from jaxbp._forward import batch_shape
from jaxbp._losses import Loss
from jaxbp._network import Network
from jaxbp._parameters import Params
from jaxbp._precision import widened


def alignment_angles(
    net: Network, loss: Loss, params: Params, feedback: Feedback, x: Any, y: Any, *, key: Array | None = None
) -> dict[str, Array]:
    """The angle between δ under feedback and δ by backpropagation, for each unit below the output.

    cos φ_u = ⟨δ_u, δ'_u⟩ / (‖δ_u‖ ‖δ'_u‖) of each example, and the mean of φ_u over the examples

    Below 90° the unit learns in a direction that backpropagation agrees with; signals in random directions are at
    about 90°.

    Args:
        net: The network.
        loss: The loss of one example.
        params: W.
        feedback: As for `backprop`.
        x: The input, as for `backprop`.
        y: What the loss takes.
        key: For the noise of units with dropout, which both signals then share.

    Returns:
        The mean angle in degrees by unit, scalars, from the output down. Examples at which either signal is 0 have
        no angle and do not count; where all are so it is NaN.

    Raises:
        TypeError, ValueError: As `backprop`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 4, 2], output=jaxbp.softmax)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> x, y = jnp.ones((5, 3)), jnp.zeros(5, int)
        >>> opposite = jax.tree.map(lambda W: -W, params)
        >>> angles = jaxbp.alignment_angles(net, jaxbp.cross_entropy, params, opposite, x, y)
        >>> round(float(angles["h1"]))
        180

    Source: Lillicrap et al., Random synaptic feedback weights support error backpropagation for deep learning, 2016.
    """
    check_feedback(net, feedback)
    ours = backprop(net, loss, params, x, y, feedback=feedback, collect={}, key=key)
    theirs = backprop(net, loss, params, x, y, collect={}, key=key).delta
    axes = len(batch_shape(net, ours.trace))
    return {u: _mean_angle(ours.delta[u], theirs[u], axes) for u in reversed(net.order) if u != net.output}


def _mean_angle(ours: Array, theirs: Array, batch_axes: int) -> Array:
    def direction(delta: Array) -> tuple[Array, Array]:
        wide = widened(delta)
        rows = jnp.reshape(wide, (-1, wide[(0,) * batch_axes].size))
        # by the largest element first: the squares of a signal that has nearly vanished are 0
        largest = jnp.max(jnp.abs(rows), axis=1, keepdims=True)
        scaled = rows / jnp.where(largest > 0, largest, 1)
        norm = jnp.linalg.norm(scaled, axis=1, keepdims=True)
        return scaled / jnp.where(norm > 0, norm, 1), norm[:, 0] > 0

    (u, known_u), (v, known_v) = direction(ours), direction(theirs)
    known = known_u & known_v
    # not arccos of the product, which has no digits left near 0° and 180°
    apart, together = jnp.linalg.norm(u - v, axis=1), jnp.linalg.norm(u + v, axis=1)
    angles = jnp.degrees(2 * jnp.arctan2(apart, together))
    return jnp.sum(jnp.where(known, angles, 0)) / jnp.sum(known)
