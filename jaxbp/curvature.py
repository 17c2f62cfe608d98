"""Products of a vector with the Hessian and with the generalised Gauss-Newton matrix, which never form the matrix.

The vector v and the product are trees like `params`, of its dtypes; the other arguments are those of `jaxbp.backprop`.

`influence` says which examples helped or harmed a prediction, in the metric of the curvature if asked to;
`projected_gradients` keeps rows of a whole training set on disk, of which any two give the influence of one example on
the other. Projections are made by `random_projections` and `whitening`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._backprop import value_and_grad
from jaxbp._contraction import gradient_from
from jaxbp._dropout import check_key
from jaxbp._forward import forward
from jaxbp._influence import influence, projected_gradients, random_projections, whitening
from jaxbp._network import Network
from jaxbp._objective import Reduction, check_objective, head, scale_of
from jaxbp._parameters import Params, check_vector
from jaxbp._recursion import error_signals
from jaxbp.losses import Loss

__all__ = [
    "ggn_vector_product",
    "hessian_vector_product",
    "influence",
    "projected_gradients",
    "random_projections",
    "whitening",
]


def hessian_vector_product(
    net: Network,
    loss: Loss,
    params: Params,
    x: Any,
    y: Any,
    vector: Params,
    *,
    weights: Any = None,
    reduction: Reduction = "mean",
    key: Array | None = None,
) -> Params:
    """The Hessian of the value times a vector: the explicit gradient, differentiated along it.

    H v = d/dε ∇L(W + ε v) at ε = 0

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([1, 1], output=jaxbp.linear, bias=False)
        >>> W, v = {"o": {"x": jnp.array([[2.0]])}}, {"o": {"x": jnp.array([[1.0]])}}
        >>> x, y = jnp.array([3.0]), jnp.array([0.0])  # L = ½ (3 W)², whose second derivative is 9
        >>> jaxbp.curvature.hessian_vector_product(net, jaxbp.squared_error, W, x, y, v)["o"]["x"].tolist()
        [[9.0]]

    Source: Pearlmutter, Fast exact multiplication by the Hessian, 1994.
    """
    check_objective(net, loss, reduction)
    check_vector(net, params, vector)
    gradient = value_and_grad(net, loss, reduction)
    return jax.jvp(lambda W: gradient(W, x, y, weights, key=key)[1], (params,), (vector,))[1]


def ggn_vector_product(
    net: Network,
    loss: Loss,
    params: Params,
    x: Any,
    y: Any,
    vector: Params,
    *,
    weights: Any = None,
    reduction: Reduction = "mean",
    key: Array | None = None,
) -> Params:
    """The generalised Gauss-Newton matrix of the value times a vector: forward along it, bent by the loss, swept back.

    G v = Σ_i scale_i J_iᵀ H_i J_i v

    scale_i = ∂L/∂L_i is what an example counts, 1/N in a mean, and L_i its own loss, both as `jaxbp.collect` has them.
    J_i is the Jacobian of its pre-activation at the output, and H_i the Hessian of its loss with respect to that, where
    loss and activation have a closed form together; else the output itself takes the place of its pre-activation.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([1, 1], output=jaxbp.linear, bias=False)
        >>> W, v = {"o": {"x": jnp.array([[2.0]])}}, {"o": {"x": jnp.array([[1.0]])}}
        >>> x, y = jnp.array([3.0]), jnp.array([0.0])
        >>> jaxbp.curvature.ggn_vector_product(net, jaxbp.squared_error, W, x, y, v)["o"]["x"].tolist()
        [[9.0]]

    Source: Schraudolph, Fast curvature matrix-vector products for second-order gradient descent, 2002.
    """
    check_objective(net, loss, reduction)
    check_vector(net, params, vector)
    check_key(net, key)
    trace, along = jax.jvp(lambda W: forward(net, W, x, key=key), (params,), (vector,))
    a, o = trace.a[net.output], trace.h[net.output]
    scale = scale_of(net, trace, weights, reduction)
    y = scale.targets(loss, o, y)
    delta_o = scale.weighed(head(net, loss).bent(a, o, y, along.a[net.output], along.h[net.output]), like=a)
    _, delta, formed = error_signals(net, params, trace, jnp.zeros_like(o), delta_o, key=key)
    return gradient_from(net, params, trace, delta, scale.of_examples.shape, formed)
