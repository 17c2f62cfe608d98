"""The generalised Gauss-Newton matrix of each weight, from columns of the loss's curvature pulled back by the sweep."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._checks import check_integer, check_random_key
from jaxbp.collect._gradient import Tree
from jaxbp.collect._sweep import Sweep, for_each, hashed


@dataclass(frozen=True)
class Columns:
    """Which columns S_k of Σ_k S_k S_kᵀ = H, the Hessian of the loss, are pulled back through the network.

    Attributes:
        samples: How many random sums Σ_k ±S_k stand for all columns; their products have the same mean. All columns,
            one for each element of the output, when None.
        key: A key for the signs, fresh in every step; it is needed if and only if there are samples.
    """

    samples: int | None = None
    key: Array | None = field(default=None, repr=False)
    __hash__ = hashed

    @classmethod
    def sampled(cls, key: Array, samples: int) -> "Columns":
        """Some random sums in place of all columns."""
        check_integer(samples, "samples", 1)
        check_random_key(key)
        return cls(samples, key)

    def __call__(self, sweep: Sweep) -> dict[str, Array]:
        """δ_k of each example's own loss, `(K, *layers, *batch, *shape)` by unit."""
        if self.key is None:
            return sweep.from_output(sweep.loss_root())
        samples = self.samples or 1
        S = jax.vmap(sweep.random_root)(jax.random.split(self.key, samples))
        return sweep.from_output(S / jnp.asarray(samples**0.5, S.dtype))


@dataclass(frozen=True)
class DiagonalGGN:
    """The diagonal of the generalised Gauss-Newton matrix of the value, Σ_i scale_i J_iᵀ H_i J_i; it is never negative.

    J_i is the Jacobian of an example's pre-activation at the output with respect to the parameters, and H_i the
    Hessian of its loss with respect to that pre-activation, where loss and activation have a closed form together
    (softmax and cross-entropy, sigmoid and binary cross-entropy); otherwise the output takes the place of its
    pre-activation. A loss that does not state a root of its Hessian is refused.

    Source: Schraudolph, Fast curvature matrix-vector products, 2002; Dangel et al., BackPACK, 2020.
    """

    columns: Columns = Columns()

    def __call__(self, sweep: Sweep) -> Tree:
        columns = self.columns(sweep)
        factors = jnp.sqrt(sweep.probabilities() * jnp.sum(sweep.scale))
        return for_each(sweep, lambda weight: weight.sum_of_squares(columns, factors))


diagonal_ggn = DiagonalGGN()


def sampled_diagonal_ggn(key: Array, samples: int = 1) -> DiagonalGGN:
    """An unbiased estimate of `diagonal_ggn` that pulls back a few random columns in place of all.

    The cost grows, and the variance falls, in proportion to the number of samples. Use a fresh key in every step.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 2, 1], output=jaxbp.linear)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> both = {"all": jaxbp.collect.diagonal_ggn, "few": jaxbp.collect.sampled_diagonal_ggn(jax.random.key(1))}
        >>> x, y = jnp.ones((4, 3)), jnp.ones((4, 1))
        >>> sweep = jax.jit(lambda params: jaxbp.backprop(net, jaxbp.squared_error, params, x, y, collect=both))
        >>> found = sweep(params).collected
        >>> bool(jnp.allclose(found["all"]["o"]["h1"], found["few"]["o"]["h1"]))  # one output has one column
        True
    """
    return DiagonalGGN(Columns.sampled(key, samples))
