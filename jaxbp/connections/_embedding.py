"""Rows of a table, looked up by integers: tokens."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxbp._checks import check_integer
from jaxbp._precision import widened_ids
from jaxbp.connections._connection import Connection, Shape, as_cotangent_of, check_weight


@dataclass(frozen=True)
class Embedding(Connection):
    """The rows of a table at the places that an input of ids says.

    a_u[p] += W[h_s[p]],  ∂L/∂W[i] = Σ_{p: h_s[p] = i} δ_u[p],  W : (size, width)

    An id has no Δ: nothing flows back into it. One that is out of range gives NaN. Where the output is to use the same
    table, read it by `Transposed(Dense(share=…))` of the same name.

    Attributes:
        size: How many rows the table has; ids are 0 to size − 1.
        initializer: As for `Dense`.
        share: As for `Dense`.

    Example:
        >>> import jax.numpy as jnp, jaxbp
        >>> W = jnp.array([[1.0, 2.0], [3.0, 4.0]])
        >>> jaxbp.Embedding(2).apply(W, jnp.array([1, 0, 1])).tolist()
        [[3.0, 4.0], [1.0, 2.0], [3.0, 4.0]]
        >>> jaxbp.Embedding(2).contract(W, jnp.array([1, 0, 1]), jnp.ones((3, 2))).tolist()
        [[1.0, 1.0], [2.0, 2.0]]

    Source: Bengio et al., A neural probabilistic language model, 2003.
    """

    size: int
    initializer: str | Callable[..., Array] | None = "normal"
    share: str | None = None
    reads_ids = True

    def __post_init__(self):
        check_integer(self.size, "size", 1)
        check_weight(self)

    def weight_shape(self, source: Shape, unit: Shape) -> Shape:
        """(size, width)."""
        if unit[:-1] != source:
            raise ValueError(
                f"Embedding makes a row of each id, so ids of shape {source} make {(*source, 'width')}, not {unit}"
            )
        return (self.size, unit[-1])

    def apply(self, W: Float[Array, "size u"], h: Int[Array, "*batch"]) -> Float[Array, "*batch u"]:
        """The rows, NaN where there is none."""
        places = self._places(h)
        return jnp.where((places < self.size)[..., None], W[jnp.minimum(places, self.size - 1)], jnp.nan)

    def pull_back(self, W: Any, h: Any, delta: Array) -> Array:
        """Refused: ids have no Δ, and the sweep never asks."""
        raise TypeError("what an Embedding reads are ids, into which nothing flows back")

    def contract(
        self, W: Float[Array, "size u"], h: Int[Array, "*batch"], delta: Float[Array, "*batch u"]
    ) -> Float[Array, "size u"]:
        """δ added up at the row of each id."""
        rows = jnp.reshape(delta, (-1, delta.shape[-1]))
        return as_cotangent_of(W, jnp.zeros_like(W, rows.dtype).at[jnp.ravel(self._places(h))].add(rows, mode="drop"))

    # The gradient of an example is 0 but in the rows of its ids, so nothing here forms a table for each: δ of equal ids
    # is added up first, among the few that the example has.

    def project_each(
        self,
        W: Float[Array, "size u"],
        h: Int[Array, "n ..."],
        delta: Float[Array, "n *rows u"],
        P: Float[Array, "size k"],
        Q: Float[Array, "u l"],
    ) -> Float[Array, "n k l"]:
        """The rows of P at the ids of each example, with δ Q."""
        rows = P.at[self._places(h)].get(mode="fill", fill_value=0)
        rows, signals = (jnp.reshape(array, (h.shape[0], -1, array.shape[-1])) for array in (rows, delta @ Q))
        return jnp.einsum("npk,npl->nkl", rows, signals)

    def squared_norms(
        self, W: Float[Array, "size u"], h: Int[Array, "n ..."], delta: Float[Array, "n *rows u"]
    ) -> Float[Array, " n"]:
        """The sum of squares over δ added up by id."""
        return jnp.sum(self._by_id(h, delta)[1] ** 2, axis=(1, 2))

    def sum_of_squares(
        self, W: Float[Array, "size u"], h: Int[Array, "n ..."], delta: Float[Array, "k n *rows u"]
    ) -> Float[Array, "size u"]:
        """The squares of δ added up by id in each example, at the rows of the ids."""

        def one_signal(total: Array, signal: Array) -> tuple[Array, None]:
            places, sums = self._by_id(h, signal)
            squares = jnp.reshape(sums**2, (-1, sums.shape[-1]))
            return total.at[jnp.reshape(places, -1)].add(squares, mode="drop"), None

        return lax.scan(one_signal, jnp.zeros_like(W, delta.dtype), delta)[0]

    def gram(
        self, W: Float[Array, "size u"], h: Int[Array, "n ..."], delta: Float[Array, "n *rows u"]
    ) -> Float[Array, "n n"]:
        """Σ_pq (δ_ip · δ_jq) over the places p and q with equal ids, an example i after the other."""
        places = jnp.reshape(self._places(h), (h.shape[0], -1))
        signals = jnp.reshape(delta, (h.shape[0], -1, delta.shape[-1]))
        counted = jnp.where((places < self.size)[..., None], signals, 0)

        def with_all(of: tuple[Array, Array]) -> Array:
            p, d = of
            alike = p[:, None, None] == places[None]
            return jnp.einsum("pjq,pu,jqu->j", alike.astype(d.dtype), d, counted)

        return lax.map(with_all, (places, counted))

    def _places(self, h: Array) -> Array:
        """The row of each id, one past the last where there is none: a negative one would count from the end."""
        h = widened_ids(h)
        return jnp.where((h >= 0) & (h < self.size), h, self.size)

    def _by_id(self, h: Array, delta: Array) -> tuple[Array, Array]:
        """For each example its ids, `(n, rows)`, each but once, and δ added up over equal ones, `(n, rows, u)`."""
        n = h.shape[0]
        places = jnp.reshape(self._places(h), (n, -1))
        signals = jnp.reshape(delta, (n, -1, delta.shape[-1]))

        def of_example(p: Array, d: Array) -> tuple[Array, Array]:
            order = jnp.argsort(p)
            p, d = p[order], d[order]
            first = jnp.concatenate([jnp.ones(1, bool), p[1:] != p[:-1]])
            segment = jnp.cumsum(first) - 1
            sums = jax.ops.segment_sum(jnp.where((p < self.size)[:, None], d, 0), segment, p.size)
            return jnp.full_like(p, self.size).at[segment].set(p), sums

        return jax.vmap(of_example)(places, signals)
