"""The quadratic model of the loss along a few directions, by exact products with the Gauss-Newton matrix."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._forward import forward
from jaxbp._network import Network
from jaxbp._objective import head, scale_of
from jaxbp._parameters import Params
from jaxbp.losses import Loss


class Model(NamedTuple):
    """M(c) = L + cᵀ b + ½ cᵀ (C + γ N) c of a step Σ_i c_i v_i, for the few directions v_i.

    Attributes:
        slope: b_i = ∇Lᵀ v_i.
        curvature: C_ij = v_iᵀ G v_j, of the Gauss-Newton matrix G.
        inner: N_ij = v_iᵀ v_j.
    """

    slope: Array
    curvature: Array
    inner: Array

    def along(self, c: Array, damping: Array | float = 0.0) -> Array:
        """M(c) − M(0)."""
        return c @ self.slope + 0.5 * c @ (self.curvature + damping * self.inner) @ c

    def bent(self, c: Array) -> Array:
        """The curvature of the step itself, without damping."""
        return c @ self.curvature @ c

    def within(self, c: Array, damping: Array, most: Array) -> Array:
        """The share f of a step, at most 1, of which M(0) − M(f c) is no more than there is to gain.

        The smaller root of f s − ½ f² q = most, with s = −cᵀ b and q = cᵀ (C + γ N) c.
        """
        s, q = -c @ self.slope, c @ (self.curvature + damping * self.inner) @ c
        most = jnp.asarray(most, s.dtype)
        left = s**2 - 2 * q * most
        is_less = (most > 0) & (s > 0) & (left > 0)
        share = 2 * most / (s + jnp.sqrt(jnp.where(is_less, left, 1)))
        return jnp.where(is_less, jnp.minimum(share, 1), 1)

    def least(self, damping: Array, learning_rate: float | None, momentum: float | None) -> Array:
        """The c of the least M, for two directions, or with what is given of c as it is."""
        H = self.curvature + damping * self.inner
        b = self.slope
        if learning_rate is not None:
            alpha = jnp.asarray(learning_rate, b.dtype)
            mu = -_over(b[1] + alpha * H[0, 1], H[1, 1]) if momentum is None else jnp.asarray(momentum, b.dtype)
            return jnp.stack([alpha, mu])
        if momentum is not None:
            mu = jnp.asarray(momentum, b.dtype)
            return jnp.stack([-_over(b[0] + mu * H[0, 1], H[0, 0]), mu])
        # in directions of length 1, so that what is left of the determinant says how parallel they are
        size = jnp.sqrt(jnp.diagonal(H))
        slope = _over(b, size)
        cosine = _over(H[0, 1], size[0] * size[1])
        left = 1 - cosine**2
        apart = (left > 100 * jnp.finfo(b.dtype).eps) & (size[1] > 0)
        both = -jnp.stack([slope[0] - cosine * slope[1], slope[1] - cosine * slope[0]]) / jnp.where(apart, left, 1)
        alone = -jnp.stack([slope[0], jnp.zeros_like(cosine)])
        return _over(jnp.where(apart, both, alone), size)


def model_along(
    net: Network,
    loss: Loss,
    params: Params,
    grads: Params,
    x: Any,
    y: Any,
    directions: Sequence[Params],
    weights: Any,
    key: Array | None,
    weight_decay: float,
) -> Model:
    """The model along directions, in one forward phase with as many derivatives and no backward phase.

    v_iᵀ G v_j = Σ scale (J v_i)ᵀ H (J v_j), with J v forward mode and H of the loss at the output. Weight decay adds
    ½ η ‖W‖² to the loss, whose gradient `grads` has already.
    """
    u = net.output

    def at_output(W: Params) -> tuple[Array, Array]:
        trace = forward(net, W, x, key=key)
        return trace.a[u], trace.h[u]

    along = jax.tree.map(lambda *leaves: jnp.stack(leaves), *directions)
    trace = forward(net, params, x, key=key)
    scale = scale_of(net, trace, weights, "mean")
    y = scale.targets(loss, trace.h[u], y)
    along_a, along_o = jax.vmap(lambda v: jax.jvp(at_output, (params,), (v,))[1])(along)
    of = head(net, loss)
    bent = jax.vmap(lambda da, do: scale.times(of.bent(trace.a[u], trace.h[u], y, da, do)))(along_a, along_o)
    curvature = inner(along_a, bent)
    products = _products(directions, directions)
    slope = _products(directions, [grads])[:, 0]
    dtype = jnp.result_type(curvature, products)
    return Model(slope.astype(dtype), curvature.astype(dtype) + weight_decay * products, products.astype(dtype))


def inner(left: Array, right: Array) -> Array:
    """⟨l_i, r_j⟩ of the entries of two arrays, in float32 at least."""
    dtype = jnp.promote_types(jnp.result_type(left, right), jnp.float32)
    rows = [jnp.reshape(array, (array.shape[0], -1)).astype(dtype) for array in (left, right)]
    return jnp.einsum("is,js->ij", *rows)


def dot(left: Any, right: Any) -> Array:
    """The inner product of two trees, in float32 at least."""
    return _products([left], [right])[0, 0]


def _products(left: Sequence[Any], right: Sequence[Any]) -> Array:
    def of(v: Any, w: Any) -> Array:
        total = jnp.zeros((), jnp.float32)
        for a, b in zip(jax.tree.leaves(v), jax.tree.leaves(w), strict=True):
            dtype = jnp.promote_types(a.dtype, jnp.float32)
            total = total + jnp.sum(a.astype(dtype) * b.astype(dtype))
        return total

    return jnp.stack([jnp.stack([of(v, w) for w in right]) for v in left])


def _over(number: Array, by: Array) -> Array:
    """The quotient, 0 where there is nothing to divide by."""
    return jnp.where(by > 0, number / jnp.where(by > 0, by, 1), 0)
