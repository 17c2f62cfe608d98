"""Every element of a source joined to every element of a unit by a matrix."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import add

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxbp.connections._connection import Connection, Shape, as_cotangent_of, check_weight, inner_products, is_split

_TERM_BY_TERM = 32


@dataclass(frozen=True)
class Dense(Connection):
    """Every element of the source joined to every element of the unit by a matrix.

    a_u += h_s W,  Δ_s += δ_u Wᵀ,  ∂L/∂W = h_sᵀ δ_u,  W : (width_s, width_u)

    Between units with a shape of several axes it acts on the last one, and the others must agree.

    Attributes:
        initializer: The name of a factory in `jax.nn.initializers`, or an initializer
            `(key, shape, dtype) -> array`; None takes the one that suits the unit's activation.
        share: The name of a weight that several connections use; their gradients add up.

    Example:
        >>> import jax.numpy as jnp, jaxbp
        >>> W, h, delta = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1.0, 10.0]), jnp.array([1.0, 0.0])
        >>> dense = jaxbp.Dense()
        >>> dense.apply(W, h).tolist(), dense.pull_back(W, h, delta).tolist(), dense.contract(W, h, delta).tolist()
        ([31.0, 42.0], [1.0, 3.0], [[1.0, 0.0], [10.0, 0.0]])

    Source: the chapter, ∂L/∂w(h_{r−1}, h_r) = δ(h_r, o) · h_{r−1}.
    """

    initializer: str | Callable[..., Array] | None = None
    share: str | None = None

    def __post_init__(self):
        check_weight(self)

    def weight_shape(self, source: Shape, unit: Shape) -> Shape:
        """(width_s, width_u)."""
        if source[:-1] != unit[:-1]:
            raise ValueError(
                f"Dense acts on the last axis, so all others must agree, but shapes {source} and {unit} differ there"
            )
        return (source[-1], unit[-1])

    def apply(self, W: Float[Array, "s u"], h: Float[Array, "*batch s"]) -> Float[Array, "*batch u"]:
        """The contribution h W."""
        return h @ W

    def pull_back(
        self, W: Float[Array, "s u"], h: Float[Array, "*batch s"], delta: Float[Array, "*batch u"]
    ) -> Float[Array, "*batch s"]:
        """The contribution δ Wᵀ."""
        Delta = jnp.einsum("...u,su->...s", delta, W, out_sharding=jax.typeof(h).sharding)
        return as_cotangent_of(h, Delta)

    def contract(
        self, W: Float[Array, "s u"], h: Float[Array, "*batch s"], delta: Float[Array, "*batch u"]
    ) -> Float[Array, "s u"]:
        """The product hᵀ δ over the whole batch: a sum of outer products would not be compiled to one."""
        if h.ndim > 2 and not is_split(h) and not is_split(delta):
            # one axis for batch and rows: of two that are summed over, the compiler makes a slower product
            h, delta = (jnp.reshape(array, (-1, array.shape[-1])) for array in (h, delta))
        *batch, s, u = range(h.ndim + 1)
        sharding = jax.typeof(W).sharding
        gradient = jnp.einsum(h, [*batch, s], delta, [*batch, u], [s, u], out_sharding=sharding)
        return as_cotangent_of(W, gradient)

    def contract_each(
        self, W: Float[Array, "s u"], h: Float[Array, "n *rows s"], delta: Float[Array, "n *rows u"]
    ) -> Float[Array, "n s u"]:
        """The outer product of each example, or their sum over its rows."""
        n, *rows, s, u = range(h.ndim + 1)
        return jnp.einsum(h, [n, *rows, s], delta, [n, *rows, u], [n, s, u])

    def project_each(
        self,
        W: Float[Array, "s u"],
        h: Float[Array, "n *rows s"],
        delta: Float[Array, "n *rows u"],
        P: Float[Array, "s k"],
        Q: Float[Array, "u l"],
    ) -> Float[Array, "n k l"]:
        """(h P)ᵀ (δ Q) of each example."""
        n, *rows, s, u = range(h.ndim + 1)
        return jnp.einsum(h @ P, [n, *rows, s], delta @ Q, [n, *rows, u], [n, s, u])

    def squared_norms(
        self, W: Float[Array, "s u"], h: Float[Array, "n *rows s"], delta: Float[Array, "n *rows u"]
    ) -> Float[Array, " n"]:
        """‖h_i‖² ‖δ_i‖²; with rows p, Σ_pq (h_ip · h_iq)(δ_ip · δ_iq), if that is less work than the gradient."""
        H, D = (array.reshape(array.shape[0], -1, array.shape[-1]) for array in (h, delta))
        rows = H.shape[1]
        if rows == 1:
            return jnp.sum(H**2, axis=(1, 2)) * jnp.sum(D**2, axis=(1, 2))
        # rows² (s + u) products against rows · s · u, which is as well what of the pair and the gradient is smaller
        if rows * (W.shape[0] + W.shape[1]) >= W.size:
            return super().squared_norms(W, h, delta)
        return jnp.sum(jnp.einsum("nps,nqs->npq", H, H) * jnp.einsum("npu,nqu->npq", D, D), axis=(1, 2))

    def sum_of_squares(
        self, W: Float[Array, "s u"], h: Float[Array, "n *rows s"], delta: Float[Array, "k n *rows u"]
    ) -> Float[Array, "s u"]:
        """The product (h²)ᵀ Σ_k δ_k², of elements squared."""
        if h.ndim > 2:
            return super().sum_of_squares(W, h, delta)
        squares = delta**2
        if len(delta) <= _TERM_BY_TERM:
            # term by term it fuses: as one sum over K it is 50 times slower on CPUs
            return self.contract(W, h**2, reduce(add, list(squares)))
        return self.contract(W, h**2, jnp.sum(squares, axis=0))

    def gram(
        self, W: Float[Array, "s u"], h: Float[Array, "n *rows s"], delta: Float[Array, "n *rows u"]
    ) -> Float[Array, "n n"]:
        """(h hᵀ) ⊙ (δ δᵀ)."""
        return inner_products(h) * inner_products(delta) if h.ndim == 2 else super().gram(W, h, delta)
