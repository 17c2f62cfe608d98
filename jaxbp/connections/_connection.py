"""What a connection is: a linear map from a unit to a unit, with the two halves of its backward pass."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from jaxbp._graph import check_share
from jaxbp._initializers import check_initializer

Shape = tuple[int, ...]


class Connection(ABC):
    """A linear map from a unit s to a unit u, and the two halves of its backward pass.

    a_u += h_s W,  Δ_s += δ_u Wᵀ,  ∂L/∂W = h_sᵀ δ_u

    A kind of connection is a frozen dataclass that implements these methods (`contract` only where there is a W).
    """

    initializer: str | Callable[..., Array] | None = None
    share: str | None = None  # the name of a weight that several connections use
    reads_ids: bool = False  # whether its source holds ids, and no numbers
    takes_rows: bool = (
        True  # whether what collectors ask for may have axes between the batch and the shape, to sum over
    )

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

    def constrain(self, W: Array) -> Array:
        """W with what this connection never uses set to 0."""
        return W

    # What collectors ask for, with one batch axis. A kind of connection that need not form the gradient of each example
    # overrides these.

    def contract_each(self, W: Any, h: Any, delta: Array) -> Array:
        """The gradient of each example, g_i = h_iᵀ δ_i: `(N, *shape)`."""
        return jax.vmap(self.contract, in_axes=(None, 0, 0))(W, h, delta)

    def project_each(self, W: Any, h: Any, delta: Array, P: Array, Q: Array) -> Array:
        """The gradient of each example as a matrix between two others, Pᵀ g_i Q: `(N, k, l)`."""
        g = self.contract_each(W, h, delta)
        return jnp.einsum("nsu,sk,ul->nkl", jnp.reshape(g, (g.shape[0], -1, g.shape[-1])), P, Q)

    def squared_norms(self, W: Any, h: Any, delta: Array) -> Array:
        """The squared norm ‖g_i‖² of the gradient of each example, `(N,)`."""
        return a_few_at_a_time(lambda h, delta: _sum_but_first(self.contract_each(W, h, delta) ** 2), W.size, h, delta)

    def sum_of_squares(self, W: Any, h: Any, delta: Array) -> Array:
        """The sum Σ_ki g_ki² of the squared elements over K signals δ, `(K, N, *shape)`; shaped like W."""
        return _sum_over_signals(lambda signal: jnp.sum(self.contract_each(W, h, signal) ** 2, axis=0), delta)

    def gram(self, W: Any, h: Any, delta: Array) -> Array:
        """The inner products ⟨g_i, g_j⟩, `(N, N)`."""
        gradients = self.contract_each(W, h, delta).reshape(delta.shape[0], -1)
        return inner_products(gradients)


class Wrapper(Connection):
    """A connection made of another one, which says how its weight is drawn and shared."""

    connection: Any

    @property
    def initializer(self) -> str | Callable[..., Array] | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The initializer of the other connection."""
        return self.connection.initializer

    @property
    def share(self) -> str | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The name that the other connection shares its weight by."""
        return self.connection.share

    @property
    def takes_rows(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the other connection does."""
        return self.connection.takes_rows


@dataclass(frozen=True)
class OverRows(Wrapper):
    """A connection whose every example has several h and δ, whose contributions to the gradient add up.

    Axes that stand between the batch and the shape are to `contract` what batch axes are, so the general methods of
    `Connection` serve collectors, where the connection's own take one batch axis.
    """

    connection: Connection

    @property
    def takes_rows(self) -> bool:
        """It does."""
        return True

    def weight_shape(self, source: Shape, unit: Shape) -> Shape | None:
        """That of the connection."""
        return self.connection.weight_shape(source, unit)

    def apply(self, W: Any, h: Array) -> Array:
        """The connection's contribution."""
        return self.connection.apply(W, h)

    def pull_back(self, W: Any, h: Any, delta: Array) -> Array:
        """The connection's signal."""
        return self.connection.pull_back(W, h, delta)

    def contract(self, W: Any, h: Any, delta: Array) -> Array:
        """The connection's gradient."""
        return self.connection.contract(W, h, delta)


def a_few_at_a_time(of_examples: Callable[..., Any], size: int, *arrays: Array) -> Any:
    """What a function makes of arrays of examples `(N, …)`, for each of them one result.

    It is given a few of them at a time, where the `size` elements that it forms for each example would else be more
    than the arrays have.
    """
    N = arrays[0].shape[0]
    block = sum(array.size for array in arrays) // max(N * size, 1)
    if max(block, 1) >= N or any(is_split(array) for array in arrays):
        return of_examples(*arrays)

    def of_one(one: tuple[Array, ...]) -> Any:
        return jax.tree.map(lambda made: made[0], of_examples(*(array[None] for array in one)))

    return lax.map(of_one, arrays, batch_size=block if block > 1 else None)


def is_split(array: Array) -> bool:
    """Whether devices have parts of an array of their own, by a sharding that is part of its type."""
    return any(axis is not None for axis in jax.typeof(array).sharding.spec)


def _sum_over_signals(make: Callable[[Array], Array], signals: Array) -> Array:
    """Σ_k make(δ_k), one after the other, because each term may need memory for the batch times the weights."""
    first = make(signals[0])
    return lax.scan(lambda total, signal: (total + make(signal), None), first, signals[1:])[0]


def _sum_but_first(array: Array) -> Array:
    return jnp.sum(array, axis=tuple(range(1, array.ndim)))


def check_weight(connection: Connection) -> None:
    """Refuse an initializer that draws no weights, or a name that no shared weight can have; None is fine for both."""
    if connection.initializer is not None:
        check_initializer(connection.initializer)
    check_share(connection.share)


def as_cotangent_of(primal: Array, cotangent: Array) -> Array:
    """What autodiff does to a cotangent in passing: the dtype and sharding of the primal, and a sum over its shards."""
    varying = jax.typeof(cotangent).manual_axis_type.varying - jax.typeof(primal).manual_axis_type.varying
    if varying:
        cotangent = lax.psum(cotangent, tuple(sorted(varying)))
    ours, theirs = (jax.typeof(array).sharding for array in (cotangent, primal))
    if ours.spec != theirs.spec:  # where shardings are part of types
        cotangent = jax.sharding.reshard(cotangent, theirs)
    return cotangent.astype(primal.dtype)


def inner_products(rows: Array) -> Array:
    """⟨r_i, r_j⟩ of all rows, `(N, N)`, divided among devices as the rows are."""
    sharding = jax.typeof(rows).sharding
    return jnp.einsum("is,js->ij", rows, rows, out_sharding=NamedSharding(sharding.mesh, P(sharding.spec[0], None)))


def on_every_device(like: Array) -> NamedSharding:
    """The sharding of what every device has, on the mesh of an array."""
    return NamedSharding(jax.typeof(like).sharding.mesh, P())
