"""Matrices that stand in for the network's own in the backward recursion, and there alone: feedback alignment."""

from dataclasses import dataclass
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._checks import check_by, check_floating, check_keys, check_random_key, check_tree, floating_dtype
from jaxbp._connections import Shape
from jaxbp._forward import Trace
from jaxbp._network import Network, check_network
from jaxbp._parameters import Params, check_params, init_params
from jaxbp._recursion import Signals, error_signals, through_edges, through_unit


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DirectFeedback:
    """A matrix from the output to each other unit: Δ_u = δ_o B_u.

    Attributes:
        matrices: B_u by unit, `(width_o, width_u)`; for units with several axes, of all their elements in a row.
    """

    matrices: dict[str, Array]


Feedback = Params | DirectFeedback
"""What `backprop` takes as `feedback`: matrices in place of W in each step, or from the output to each unit."""


def random_feedback(key: Array, net: Network, dtype: Any = float) -> Params:
    """Fixed random matrices in place of the weights in the backward recursion: feedback alignment.

    Δ_u = Σ_{u ⇒ v} δ_v B_uvᵀ

    Args:
        key: A key from `jax.random.key`; another one than for the parameters.
        net: The network.
        dtype: A floating dtype.

    Returns:
        A tree like the parameters, drawn as they are by `init_params`.

    Raises:
        TypeError: No key, no network, or a dtype that is not floating.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 2, 1], output=jaxbp.linear)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> B = jaxbp.random_feedback(jax.random.key(1), net)
        >>> x, y = jnp.ones((4, 3)), jnp.ones((4, 1))
        >>> back = jaxbp.backprop(net, jaxbp.squared_error, params, x, y, feedback=B)
        >>> bool(jnp.allclose(back.Delta["h1"], back.delta["o"] @ B["o"]["h1"].T))
        True

    Source: Lillicrap et al., Random synaptic feedback weights support error backpropagation for deep learning, 2016.
    """
    return init_params(key, net, dtype)


def sign_symmetric(params: Params, magnitudes: Params) -> Params:
    """Feedback with the signs of the weights and magnitudes of its own: sign(W) ⊙ |B|.

    Args:
        params: W, as they are in this step.
        magnitudes: B, a tree like the parameters, fixed, as from `random_feedback`.

    Returns:
        A tree like the parameters.

    Raises:
        TypeError: What is no tree of floating arrays.
        ValueError: Trees of different networks.

    Example:
        >>> import jax.numpy as jnp, jaxbp
        >>> W, B = {"o": {"x": jnp.array([[2.0], [-3.0]])}}, {"o": {"x": jnp.array([[-0.5], [0.25]])}}
        >>> jaxbp.sign_symmetric(W, B)["o"]["x"].ravel().tolist()
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

    Args:
        key: A key from `jax.random.key`; another one than for the parameters.
        net: The network.
        dtype: A floating dtype.

    Returns:
        `DirectFeedback(matrices)`, B_u drawn by Glorot's rule. The Δ of an input, which nothing learns from, still
        comes from its readers.

    Raises:
        TypeError: No key, no network, or a dtype that is not floating.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 5, 4, 2], output=jaxbp.softmax)
        >>> B = jaxbp.direct_feedback(jax.random.key(1), net)
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
    return DirectFeedback({u: draw(k, shape, dtype) for k, (u, shape) in zip(keys, shapes.items(), strict=False)})


def signals_under(
    feedback: Feedback | None, net: Network, params: Params, trace: Trace, Delta_o: Array, delta_o: Array
) -> tuple[Signals, Signals]:
    """Δ and δ by the recursion, with W or what stands in for it; or straight from the output."""
    if not isinstance(feedback, DirectFeedback):
        return error_signals(net, params if feedback is None else feedback, trace, Delta_o, delta_o)
    Delta, delta = {net.output: Delta_o}, {net.output: delta_o}
    rows = jnp.reshape(delta_o, (*delta_o.shape[: delta_o.ndim - len(net.shapes[net.output])], -1))
    for u, B in feedback.matrices.items():
        h = trace.h[u]
        Delta[u] = jnp.reshape(rows @ B, h.shape).astype(h.dtype)
        delta[u] = through_unit(net, trace, u, Delta[u])
    for v in reversed(net.order):
        for s, signal in through_edges(net, params, trace, v, delta[v]).items():
            if s in net.inputs:
                Delta[s] = Delta[s] + signal if s in Delta else signal
    return Delta, delta


def matrix_shapes(net: Network) -> dict[str, Shape]:
    """The shapes of direct feedback, in the order of computation."""
    outputs = prod(net.shapes[net.output])
    return {u: (outputs, prod(net.shapes[u])) for u in net.order if u != net.output}


def check_feedback(net: Network, feedback: Any) -> None:
    """Refuse feedback that belongs to another network, by names and shapes."""
    check_network(net)
    if not isinstance(feedback, DirectFeedback):
        check_params(net, feedback, "feedback")
        return
    matrices: Any = feedback.matrices
    check_by(matrices, "feedback.matrices", "unit")
    expected = matrix_shapes(net)
    check_keys(matrices, expected, "direct feedback holds matrices to", "below its output the network has")
    for u, shape in expected.items():
        place = f"feedback.matrices[{u!r}]"
        check_floating(matrices[u], place)
        if matrices[u].shape != shape:
            raise ValueError(
                f"{place} has shape {matrices[u].shape}, expected {shape}; is this feedback of another network?"
            )
