"""How sure a trained network is: a normal distribution around its weights, by the factors that K-FAC trains with."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._backprop import backprop
from jaxbp._checks import check_flag, check_number
from jaxbp._contraction import weights_of
from jaxbp._forward import forward
from jaxbp._network import Network
from jaxbp._objective import check_objective, head
from jaxbp._parameters import Params, check_params
from jaxbp._plan import at
from jaxbp._recursion import error_signals
from jaxbp.collect._curvature import Columns
from jaxbp.losses import Loss
from jaxbp.train._kfac_blocks import Block, blocks_of
from jaxbp.train._kfac_factors import BlockFactors


class Axes(NamedTuple):
    """The axes along which the weights of a block are independent, and the variance along each.

    Attributes:
        source: The eigenvectors of A, `(s, s)`.
        unit: Those of G, `(u, u)`.
        variance: 1 / (N λ_i λ_j + τ), `(s, u)`.
    """

    source: Array
    unit: Array
    variance: Array


@partial(jax.tree_util.register_dataclass, data_fields=["params", "axes"], meta_fields=["net", "blocks"])
@dataclass(frozen=True)
class Laplace:
    """What `laplace` finds: weights that are normally distributed around `params`, each block by itself.

    Attributes:
        net: The network.
        blocks: Its blocks that are not held fixed.
        params: The mean.
        axes: The axes of each of these blocks, by its name.
    """

    net: Network
    blocks: tuple[Block, ...]
    params: Params
    axes: dict[str, Axes]

    def predict(self, x: Any) -> tuple[Array, Array]:
        """The mean of the output's pre-activations, `(*batch, k)`, and their covariance, `(*batch, k, k)`.

        J Σ Jᵀ, for the network made linear in its weights around the mean. The noise of the data comes on top.
        """
        net = self.net
        trace = forward(net, self.params, x)
        a = trace.a[net.output]
        columns = jnp.reshape(jnp.eye(a.shape[-1], dtype=a.dtype), (a.shape[-1], *[1] * (a.ndim - 1), a.shape[-1]))

        def of_column(column: Array) -> dict[str, Array]:
            return error_signals(net, self.params, trace, jnp.zeros_like(a), jnp.broadcast_to(column, a.shape)).delta

        delta = jax.vmap(of_column)(columns)
        first = {u: signals[0] for u, signals in delta.items()}
        pairs = weights_of(net, self.params, trace, first, jnp.ones(a.shape[:-1], a.dtype), {})
        covariance = jnp.zeros((*a.shape, a.shape[-1]), a.dtype)
        for block in self.blocks:
            (pair,), axes = at(block.place, pairs).pairs, self.axes[block.name]
            h = pair.h
            if block.bias is not None:
                h = jnp.concatenate([h, jnp.ones((*h.shape[:-1], 1), h.dtype)], axis=-1)
            spread = (h @ axes.source) ** 2 @ axes.variance
            signals = delta[pair.unit] @ axes.unit
            covariance = covariance + jnp.einsum("...u,k...u,l...u->...kl", spread, signals, signals)
        return a, covariance

    def sample(self, key: Array) -> Params:
        """Parameters at random; those of blocks that are held fixed are the mean's."""
        drawn: dict[Any, Array] = {}
        for block, subkey in zip(self.blocks, jax.random.split(key, len(self.blocks)), strict=True):
            axes, W = self.axes[block.name], block.matrix(self.params)
            z = jnp.sqrt(axes.variance) * jax.random.normal(subkey, axes.variance.shape, axes.variance.dtype)
            drawn |= block.parts(W + (axes.source @ z @ axes.unit.T).astype(W.dtype))
        return self.net.plan.tree(lambda place: drawn.get(place, at(place, self.params)))


def laplace(
    net: Network,
    loss: Loss,
    params: Params,
    x: Any,
    y: Any,
    *,
    prior_precision: float = 1.0,
    last: bool = False,
) -> Laplace:
    """A Laplace approximation to the posterior of the weights, with the Kronecker factors of the Gauss-Newton matrix.

    Σ = (N A ⊗ G + τ 1)⁻¹ of each block,  A = E[h hᵀ],  G = E[Σ_k δ_k δ_kᵀ]

    The loss is minus the log likelihood of an example: `squared_error` for noise of variance 1. A and G are those of
    `kfac`, of all columns of the curvature; what it adds to each for damping is not needed, because A ⊗ G + τ 1 is
    inverted along the eigenvectors. All examples go through one sweep.

    Args:
        net: The network, of `Dense` connections alone, without rows, stacks or shared weights.
        loss: The loss of one example; it has to state a root of its Hessian.
        params: The weights, where the loss with ½ τ/N ‖W‖² is least.
        x: The inputs that they were trained on.
        y: The targets.
        prior_precision: τ, of weights that are normally distributed around 0 before any data is seen. Choose it by the
            loss on validation data, as `python -m experiments.uncertainty` does: with too small a one predictions are
            less sure than they should be.
        last: Whether all but the weights into the output are held fixed.

    Raises:
        TypeError, ValueError: A connection or a use of a weight that has no rule, or a loss without a root.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([1, 8, 1], hidden=jaxbp.tanh, output=jaxbp.linear)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> x = jnp.linspace(-1, 1, 20)[:, None]
        >>> posterior = jaxbp.train.laplace(net, jaxbp.squared_error, params, x, jnp.sin(x))
        >>> mean, covariance = posterior.predict(jnp.array([[0.0], [10.0]]))
        >>> bool(covariance[1, 0, 0] > covariance[0, 0, 0])  # it is less sure where it saw nothing
        True

    Source: Ritter, Botev and Barber, A scalable Laplace approximation for neural networks, 2018; Immer, Korzepa and
    Bauer, Improving predictions of Bayesian neural nets via local linearization, 2021.
    """
    check_objective(net, loss)
    check_number(prior_precision, "prior_precision", above=0, finite=True)
    check_flag(last, "last")
    check_params(net, params)
    head(net, loss).check_root()
    blocks = tuple(block for block in blocks_of(net) if not last or block.edges[0].unit == net.output)
    for block in blocks:
        _check(net, block)
    collect = {"factors": BlockFactors(blocks, Columns(), "expand")}
    back = backprop(net, loss, params, x, y, collect=collect)
    number = back.trace.a[net.output][..., 0].size

    def axes_of(name: str) -> Axes:
        (a, source), (g, unit) = (jnp.linalg.eigh(factor) for factor in back.collected["factors"][name])
        # rounding leaves what is a little below 0
        sizes = jnp.maximum(a, 0)[:, None] * jnp.maximum(g, 0)[None, :]
        return Axes(source, unit, 1 / (number * sizes + prior_precision))

    return Laplace(net, blocks, params, {block.name: axes_of(block.name) for block in blocks})


def _check(net: Network, block: Block) -> None:
    edge, *others = block.edges
    if not block.factored:
        raise TypeError(f"laplace has no rule for {type(edge.linear).__name__} connections, only for Dense and Bias")
    if others or block.depths:
        raise ValueError(f"laplace has no rule for the weight {block.name!r}, which is shared or stands in a stack")
    if len(net.shapes[edge.unit]) != 1:
        raise ValueError(
            f"laplace has no rule for {edge.unit!r}, of shape {net.shapes[edge.unit]}: the rows of an example share "
            "its weights"
        )
