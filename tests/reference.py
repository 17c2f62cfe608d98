"""Opinions on a gradient that share nothing with the library's backward pass, and how to compare with them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxbp


def autodiff(case: Any, params: Any, x: Any, y: Any, weights: Any, key: Any = None) -> tuple[Any, Any, dict, dict]:
    """value, grads, Delta and delta by jax.grad of the objective, the latter two by adding zeros at each unit."""
    trace = jaxbp.forward(case.net, params, x)
    zeros = trace.zeros()

    def value(loss: jaxbp.Loss) -> Any:
        f = jaxbp.objective(case.net, loss, case.reduction)
        return lambda params, offsets: f(params, x, y, weights, key=key, offsets=offsets)

    loss, (grads, offsets) = jax.value_and_grad(value(case.loss), argnums=(0, 1))(params, zeros)
    # a fused value is computed from the logits, past the output: ∂L/∂o is then that of the unfused one
    at_output = jax.grad(value(jaxbp.unfused(case.loss)), argnums=1)(params, zeros)
    Delta = offsets.h | {case.net.output: at_output.h[case.net.output]}
    return loss, grads, Delta, offsets.a


def central_differences(f: Any, params: Any, eps: float = 1e-5) -> Any:
    """(f(W + eps) − f(W − eps)) / 2 eps for every coordinate of every leaf, in float64."""
    leaves, treedef = jax.tree.flatten(params)
    shapes, sizes = [leaf.shape for leaf in leaves], [leaf.size for leaf in leaves]

    def at(flat: jax.Array) -> jax.Array:
        pieces = jnp.split(flat, np.cumsum(sizes)[:-1])
        return f(treedef.unflatten([p.reshape(s) for p, s in zip(pieces, shapes, strict=True)]))

    flat = np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in leaves])
    nearby = flat + eps * np.concatenate([np.eye(flat.size), -np.eye(flat.size)])
    above, below = np.split(np.asarray(jax.jit(jax.vmap(at))(nearby)), 2)
    pieces = np.split((above - below) / (2 * eps), np.cumsum(sizes)[:-1])
    return treedef.unflatten([p.reshape(s) for p, s in zip(pieces, shapes, strict=True)])


def relative_error(ours: Any, theirs: Any) -> float:
    """The largest over leaves of ‖ours − theirs‖ / ‖theirs‖; infinite where structures or shapes differ."""
    if jax.tree.structure(ours) != jax.tree.structure(theirs):
        return np.inf
    errors = [0.0]
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        if a.shape != b.shape:
            return np.inf
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        norm = np.linalg.norm(b)
        errors.append(np.linalg.norm(a - b) / norm if norm else np.linalg.norm(a))
    return float(np.max(errors))
