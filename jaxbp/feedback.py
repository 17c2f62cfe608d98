"""Matrices that stand in for the network's own in the backward recursion, and there alone: feedback alignment.

`backprop(…, feedback=B)` takes what is made here; `alignment_angles` says how far its signals point away.
"""

from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._backprop import backprop
from jaxbp._checks import check_random_key, check_tree, floating_dtype
from jaxbp._direct_feedback import DirectFeedback, Feedback, check_feedback, matrix_shapes
from jaxbp._forward import batch_shape
from jaxbp._network import Network, check_network
from jaxbp._parameters import Params, init_params
from jaxbp._precision import widened
from jaxbp.connections import Shape
from jaxbp.losses import Loss

__all__ = [
    "DirectFeedback", "Feedback", "alignment_angles", "direct_feedback", "random_feedback", "sign_symmetric",
]  # fmt: skip


def random_feedback(key: Array, net: Network, dtype: Any = float) -> Params:
    """Fixed random matrices in place of the weights in the backward recursion: feedback alignment.

    Δ_u = Σ_{u ⇒ v} δ_v B_uvᵀ

    They are a tree like the parameters, drawn as those are by `init_params`. Use another key than for the parameters.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 2, 1], output=jaxbp.linear)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> B = jaxbp.feedback.random_feedback(jax.random.key(1), net)
        >>> x, y = jnp.ones((4, 3)), jnp.ones((4, 1))
        >>> back = jaxbp.backprop(net, jaxbp.squared_error, params, x, y, feedback=B)
        >>> bool(jnp.allclose(back.Delta["h1"], back.delta["o"] @ B["o"]["h1"].T))
        True

    Source: Lillicrap et al., Random synaptic feedback weights support error backpropagation for deep learning, 2016.
    """
    return init_params(key, net, dtype)


def sign_symmetric(params: Params, magnitudes: Params) -> Params:
    """Feedback with the signs of the weights and magnitudes of its own: sign(W) ⊙ |B|.

    W are the parameters as they are in this step, and B is a tree like them that stays, as from `random_feedback`.

    Example:
        >>> import jax.numpy as jnp, jaxbp
        >>> W, B = {"o": {"x": jnp.array([[2.0], [-3.0]])}}, {"o": {"x": jnp.array([[-0.5], [0.25]])}}
        >>> jaxbp.feedback.sign_symmetric(W, B)["o"]["x"].ravel().tolist()
        [0.5, -0.25]

    Source: Liao, Leibo and Poggio, How important is weight symmetry in backpropagation?, 2016.
    """
    check_tree(params, "params")
    check_tree(magnitudes, "magnitudes")
    if jax.tree.map(jnp.shape, params) != jax.tree.map(jnp.shape, magnitudes):
        raise ValueError(
            f"params have the shapes {jax.tree.map(jnp.shape, params)}, magnitudes "
            f"{jax.tree.map(jnp.shape, magnitudes)}; take both from the same network"
        )
    return jax.tree.map(lambda W, B: jnp.sign(W) * jnp.abs(B), params, magnitudes)


def direct_feedback(key: Array, net: Network, dtype: Any = float) -> DirectFeedback:
    """A fixed random matrix from the output's error signal straight to each unit: direct feedback alignment.

    Δ_u = δ_o B_u

    B_u is drawn by Glorot's rule; use another key than for the parameters. The Δ of an input, which nothing learns
    from, still comes from its readers.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 5, 4, 2], output=jaxbp.softmax)
        >>> B = jaxbp.feedback.direct_feedback(jax.random.key(1), net)
        >>> {unit: matrix.shape for unit, matrix in B.matrices.items()}
        {'h1': (2, 5), 'h2': (2, 4)}

    Source: Nøkland, Direct feedback alignment provides learning in deep neural networks, 2016.
    """
    check_random_key(key)
    check_network(net)
    dtype = floating_dtype(dtype)
    shapes = matrix_shapes(net)
    keys = jax.random.split(key, max(len(shapes), 1))
    draw = jax.nn.initializers.glorot_uniform()

    def drawn(key: Array, shape: Shape) -> Array:
        *layers, outputs, width = shape
        of_layers = jax.vmap(lambda key: draw(key, (outputs, width), dtype))(jax.random.split(key, prod(layers)))
        return jnp.reshape(of_layers, shape)

    return DirectFeedback(
        {u: drawn(k, s) if len(s) > 2 else draw(k, s, dtype) for k, (u, s) in zip(keys, shapes.items(), strict=False)}
    )


def alignment_angles(
    net: Network, loss: Loss, params: Params, feedback: Feedback, x: Any, y: Any, *, key: Array | None = None
) -> dict[str, Array]:
    """The angle between δ under feedback and δ by backpropagation, for each unit below the output.

    cos φ_u = ⟨δ_u, δ'_u⟩ / (‖δ_u‖ ‖δ'_u‖) of each example, and the mean of φ_u over the examples, in degrees

    Below 90° the unit learns in a direction that backpropagation agrees with; signals in random directions are at
    about 90°. Both signals share the noise of units with dropout. Examples at which either signal is 0 have no angle
    and do not count; where all are so the mean is NaN. The units come from the output down; those of a stack's block
    have an angle for each layer.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 4, 2], output=jaxbp.softmax)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> x, y = jnp.ones((5, 3)), jnp.zeros(5, int)
        >>> opposite = jax.tree.map(lambda W: -W, params)
        >>> angles = jaxbp.feedback.alignment_angles(net, jaxbp.cross_entropy, params, opposite, x, y)
        >>> round(float(angles["h1"]))
        180

    Source: Lillicrap et al., Random synaptic feedback weights support error backpropagation for deep learning, 2016.
    """
    check_feedback(net, feedback)
    ours = backprop(net, loss, params, x, y, feedback=feedback, collect={}, key=key)
    theirs = backprop(net, loss, params, x, y, collect={}, key=key).delta
    axes = len(batch_shape(net, ours.trace))
    angles: dict[str, Array] = {}
    for u in reversed(list(net.plan.nodes)):
        angle = partial(_mean_angle, batch_axes=axes)
        for _ in net.plan.layers[u]:
            angle = jax.vmap(angle)
        if u != net.output:
            angles[u] = angle(ours.delta[u], theirs[u])
    return angles


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
