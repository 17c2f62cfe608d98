"""The linear maps between units: apply them, pull the signal back through them, contract it into a gradient.

A connection holds no weights; W comes in as an argument, which is None where the connection has none. Every
rule broadcasts over leading batch axes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Shape = tuple[int, ...]


class Connection(ABC):
    """A linear map from a unit s to a unit u, and the two halves of its backward pass.

    a_u += h_s W,  Δ_s += δ_u Wᵀ,  ∂L/∂W = h_sᵀ δ_u

    A kind of connection is a frozen dataclass that implements these methods (`contract` only where there is a W).
    """

    initializer: str | Callable[..., Array] | None = None

    @abstractmethod
    def weight_shape(self, source: Shape, unit: Shape) -> Shape | None:
        """The shape of W between a source and a unit of these shapes, None where there is no W.

        Raises:
            ValueError: No such connection can join the two shapes.
        """

    @abstractmethod
    def apply(self, W: Any, h: Array) -> Array:
        """The contribution h_s W to the pre-activation a_u."""

    @abstractmethod
    def pull_back(self, W: Any, h: Any, delta: Array) -> Array:
        """The contribution δ_u Wᵀ to Δ_s, shaped and typed like h_s."""

    def contract(self, W: Any, h: Any, delta: Array) -> Array:
        """The gradient ∂L/∂W = h_sᵀ δ_u, summed over the batch, shaped and typed like W."""
        raise TypeError(f"{type(self).__name__} has no weights to take a gradient of")

    # What collectors ask for, of one batch axis; a kind of connection that can do without forming the gradient of
    # each example says so.

    def contract_each(self, W: Any, h: Any, delta: Array) -> Array:
        """The gradient of each example, g_i = h_iᵀ δ_i: `(N, *shape)`."""
        return jax.vmap(self.contract, in_axes=(None, 0, 0))(W, h, delta)

    def squared_norms(self, W: Any, h: Any, delta: Array) -> Array:
        """The squared norm ‖g_i‖² of the gradient of each example, `(N,)`."""
        return _sum_but_first(self.contract_each(W, h, delta) ** 2)

    def sum_of_squares(self, W: Any, h: Any, delta: Array) -> Array:
        """The sum Σ_ki g_ki² of the squared elements over K signals δ, `(K, N, *shape)`; shaped like W."""
        return _sum_over_signals(lambda signal: jnp.sum(self.contract_each(W, h, signal) ** 2, axis=0), delta)

    def gram(self, W: Any, h: Any, delta: Array) -> Array:
        """The inner products ⟨g_i, g_j⟩, `(N, N)`."""
        gradients = self.contract_each(W, h, delta).reshape(delta.shape[0], -1)
        return gradients @ gradients.T


@dataclass(frozen=True)
class Dense(Connection):
    """Every element of the source joined to every element of the unit by a matrix.

    a_u += h_s W,  Δ_s += δ_u Wᵀ,  ∂L/∂W = h_sᵀ δ_u,  W : (width_s, width_u)

    Between units with a shape of several axes it acts on the last one, and the others must agree.

    Attributes:
        initializer: The name of a factory in `jax.nn.initializers`, or an initializer
            `(key, shape, dtype) -> array`; None takes the one that suits the unit's activation.

    Example:
        >>> import jaxbp
        >>> jaxbp.Dense().weight_shape((784,), (128,))
        (784, 128)

    Source: the chapter, ∂L/∂w(h_{r−1}, h_r) = δ(h_r, o) · h_{r−1}.
    """

    initializer: str | Callable[..., Array] | None = None

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
        return _as_cotangent_of(h, Delta)

    def contract(
        self, W: Float[Array, "s u"], h: Float[Array, "*batch s"], delta: Float[Array, "*batch u"]
    ) -> Float[Array, "s u"]:
        """The product hᵀ δ over the whole batch: a sum of outer products would not be compiled to one."""
        batch = ascii_lowercase[: h.ndim - 1]
        gradient = jnp.einsum(f"{batch}S,{batch}U->SU", h, delta, out_sharding=jax.typeof(W).sharding)
        return _as_cotangent_of(W, gradient)

    def contract_each(
        self, W: Float[Array, "s u"], h: Float[Array, "n *rows s"], delta: Float[Array, "n *rows u"]
    ) -> Float[Array, "n s u"]:
        """The outer product of each example, or their sum over its rows."""
        rows = ascii_lowercase[: h.ndim - 2]
        return jnp.einsum(f"N{rows}S,N{rows}U->NSU", h, delta)

    def squared_norms(
        self, W: Float[Array, "s u"], h: Float[Array, "n *rows s"], delta: Float[Array, "n *rows u"]
    ) -> Float[Array, " n"]:
        """‖h_i‖² ‖δ_i‖²; with rows p, Σ_pq (h_ip · h_iq)(δ_ip · δ_iq), if that is smaller than the gradient."""
        H, D = (array.reshape(array.shape[0], -1, array.shape[-1]) for array in (h, delta))
        rows = H.shape[1]
        if rows == 1:
            return jnp.sum(H**2, axis=(1, 2)) * jnp.sum(D**2, axis=(1, 2))
        if rows**2 > W.size:
            return super().squared_norms(W, h, delta)
        return jnp.sum(jnp.einsum("nps,nqs->npq", H, H) * jnp.einsum("npu,nqu->npq", D, D), axis=(1, 2))

    def sum_of_squares(
        self, W: Float[Array, "s u"], h: Float[Array, "n *rows s"], delta: Float[Array, "k n *rows u"]
    ) -> Float[Array, "s u"]:
        """The product (h²)ᵀ Σ_k δ_k², of elements squared."""
        if h.ndim > 2:
            return super().sum_of_squares(W, h, delta)
        return self.contract(W, h**2, jnp.sum(delta**2, axis=0))

    def gram(
        self, W: Float[Array, "s u"], h: Float[Array, "n *rows s"], delta: Float[Array, "n *rows u"]
    ) -> Float[Array, "n n"]:
        """(h hᵀ) ⊙ (δ δᵀ)."""
        return (h @ h.T) * (delta @ delta.T) if h.ndim == 2 else super().gram(W, h, delta)


@dataclass(frozen=True)
class Identity(Connection):
    """The source added to the unit as it is: a skip connection without parameters.

    a_u += h_s,  Δ_s += δ_u

    Example:
        >>> import jaxbp
        >>> print(jaxbp.Identity().weight_shape((8,), (8,)))
        None
    """

    def weight_shape(self, source: Shape, unit: Shape) -> None:
        """None: there is nothing to learn."""
        if source != unit:
            raise ValueError(
                f"Identity joins equal shapes, but these are {source} and {unit}; use Dense() to change the width"
            )

    def apply(self, W: Any, h: Float[Array, "*batch u"]) -> Float[Array, "*batch u"]:
        """The contribution h, as it is."""
        return h

    def pull_back(
        self, W: Any, h: Float[Array, "*batch u"], delta: Float[Array, "*batch u"]
    ) -> Float[Array, "*batch u"]:
        """The contribution δ, as it is."""
        return _as_cotangent_of(h, delta)


@dataclass(frozen=True)
class Bias:
    """The weights b from a unit that is always +1, which is written as h = None; nothing flows back into it.

    a_u += b,  ∂L/∂b = 1ᵀ δ_u,  b : (width_u,)

    Source: the chapter, "bias neurons are always activated at a value of +1".
    """

    def weight_shape(self, unit: Shape) -> Shape:
        """(width_u,): one weight for each element of the unit's last axis."""
        return unit[-1:]

    def apply(self, b: Float[Array, " u"], a: Float[Array, "*batch u"]) -> Float[Array, "*batch u"]:
        """The pre-activation a, with b added."""
        return a + jnp.broadcast_to(b, a.shape)

    def contract(self, b: Float[Array, " u"], h: Any, delta: Float[Array, "*batch u"]) -> Float[Array, " u"]:
        """The sum 1ᵀ δ over the batch."""
        return _as_cotangent_of(b, jnp.sum(delta, axis=tuple(range(delta.ndim - 1))))

    def contract_each(self, b: Float[Array, " u"], h: Any, delta: Float[Array, "n *rows u"]) -> Float[Array, "n u"]:
        """δ of each example, summed over its rows."""
        return jnp.sum(delta, axis=tuple(range(1, delta.ndim - 1)))

    def squared_norms(self, b: Float[Array, " u"], h: Any, delta: Float[Array, "n *rows u"]) -> Float[Array, " n"]:
        """‖δ_i‖²."""
        return jnp.sum(self.contract_each(b, h, delta) ** 2, axis=1)

    def sum_of_squares(self, b: Float[Array, " u"], h: Any, delta: Float[Array, "k n *rows u"]) -> Float[Array, " u"]:
        """1ᵀ Σ_k δ_k²."""
        each = jnp.sum(delta, axis=tuple(range(2, delta.ndim - 1)))
        return jnp.sum(each**2, axis=(0, 1))

    def gram(self, b: Float[Array, " u"], h: Any, delta: Float[Array, "n *rows u"]) -> Float[Array, "n n"]:
        """The product δ δᵀ: the constant unit is +1 for every example."""
        each = self.contract_each(b, h, delta)
        return each @ each.T


def _sum_over_signals(make: Callable[[Array], Array], signals: Array) -> Array:
    """Σ_k make(δ_k), one after the other: what each makes may be as large as the batch times the weights."""
    first = make(signals[0])
    return lax.scan(lambda total, signal: (total + make(signal), None), first, signals[1:])[0]


def _sum_but_first(array: Array) -> Array:
    return jnp.sum(array, axis=tuple(range(1, array.ndim)))


def _as_cotangent_of(primal: Array, cotangent: Array) -> Array:
    """What autodiff does to a cotangent in passing: the primal's dtype, summed over the shards that share it."""
    varying = jax.typeof(cotangent).manual_axis_type.varying - jax.typeof(primal).manual_axis_type.varying
    if varying:
        cotangent = lax.psum(cotangent, tuple(sorted(varying)))
    return cotangent.astype(primal.dtype)
