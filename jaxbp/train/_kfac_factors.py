"""What K-FAC keeps of each block: its factors from a sweep, their moving average, and their damped inverses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._plan import at
from jaxbp.collect import Pair, Sweep
from jaxbp.collect._curvature import Columns
from jaxbp.collect._layer_weight import LayerWeight
from jaxbp.connections import Bias, Conv
from jaxbp.connections._connection import OverRows
from jaxbp.train._kfac_blocks import Block

Rows = Literal["expand", "reduce"]
BLOCK = 256  # the most rows that are solved for together


class Factors(NamedTuple):
    """A = E[h hᵀ] and G = E[δ δᵀ] of a block, or their damped inverses; A ⊗ G stands for its curvature."""

    A: Array
    G: Array


@dataclass(frozen=True)
class BlockFactors:
    """A collector: the factors of each block with such, and the diagonal of the curvature of each other, by name.

    δ is that of the columns, of an example's own loss, and E the mean over the examples by their weights. An example
    with R rows (or windows, layers or units that share the weight) has

        expand:  A = 1/R Σ_r h_r h_rᵀ,        G = Σ_r δ_r δ_rᵀ
        reduce:  A = h̄ h̄ᵀ, h̄ = 1/R Σ_r h_r,   G = δ̄ δ̄ᵀ, δ̄ = Σ_r δ_r

    Expand is exact for rows that have losses of their own and do not mix, reduce for outputs that are sums over rows.
    A bias alone, whose h is 1, needs neither, for reduce is exact there.

    Source: Martens and Grosse, 2015; Grosse and Martens, A Kronecker-factored approximate Fisher matrix for
    convolution layers, 2016; Martens, Ba and Johnson, Kronecker-factored curvature approximations for recurrent neural
    networks, 2018; Eschenhagen et al., K-FAC for modern neural network architectures, 2023.
    """

    blocks: tuple[Block, ...]
    columns: Columns
    rows: Rows

    def __call__(self, sweep: Sweep) -> dict[str, Any]:
        signals, p = self.columns(sweep), sweep.probabilities()
        # blocks that read the same rows have one A, and those into the same units one G
        sources: dict[Any, Array] = {}
        units: dict[Any, Array] = {}

        def of_block(block: Block) -> Any:
            weight = at(block.place, sweep.weights)
            if not block.factored:
                return _wide(weight.sum_of_squares(signals, jnp.sqrt(p)))
            connections = [edge.linear for edge in block.edges]
            rows = "reduce" if isinstance(connections[0], Bias) else self.rows
            windows = [c if isinstance(c, Conv) else None for c in connections]
            layers = (block.edges[0].layers, block.depths)
            source = (*((edge.source, edge.shape) for edge in block.edges), *map(_laid, windows), layers, rows)
            source = (*source, block.bias is not None)
            unit = (*(edge.unit for edge in block.edges), layers, rows)
            if source not in sources:
                of_source = partial(_of_source, p=p, rows=rows, homogeneous=block.bias is not None)
                sources[source] = weight.in_each_layer(of_source)
            if unit not in units:
                units[unit] = weight.in_each_layer(partial(_of_unit, p=p, rows=rows), signals)
            return Factors(sources[source], units[unit])

        return {block.name: of_block(block) for block in self.blocks}


def _laid(conv: Conv | None) -> Any:
    return None if conv is None else (conv.kernel, conv.stride, conv.padding, conv.dilation)


def _of_source(weight: LayerWeight, *, p: Array, rows: Rows, homogeneous: bool) -> Array:
    h = jnp.concatenate(
        [jnp.reshape(seen := _seen(pair), (p.size, -1, seen.shape[-1])) for pair in weight.pairs], axis=1
    )
    if rows == "reduce":
        h = jnp.mean(h, axis=1, keepdims=True)
    shares = jnp.repeat(jnp.reshape(p, -1) / h.shape[1], h.shape[1])[:, None].astype(h.dtype)
    h = jnp.reshape(h, (-1, h.shape[-1]))
    A = _wide_product(h, shares * h)
    if not homogeneous:
        return A
    mean = _wide_product(h, shares)
    return jnp.block([[A, mean], [mean.T, jnp.sum(shares, keepdims=True).astype(A.dtype)]])


def _of_unit(weight: LayerWeight, deltas: Sequence[Array], *, p: Array, rows: Rows) -> Array:
    delta = jnp.concatenate([jnp.reshape(d, (d.shape[0], p.size, -1, d.shape[-1])) for d in deltas], axis=2)
    if rows == "reduce":
        delta = jnp.sum(delta, axis=2, keepdims=True)
    weighted = delta * jnp.sqrt(jnp.reshape(p, -1))[None, :, None, None].astype(delta.dtype)
    weighted = jnp.reshape(weighted, (-1, weighted.shape[-1]))
    return _wide_product(weighted, weighted)


def _seen(pair: Pair) -> Array:
    """What W in rows is multiplied by, `(*batch, *rows, width)`: h, or what each window sees of it."""
    connection = pair.connection.connection if isinstance(pair.connection, OverRows) else pair.connection
    return connection.seen(pair.h) if isinstance(connection, Conv) else pair.h


def _wide(array: Array) -> Array:
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def _wide_product(left: Array, right: Array) -> Array:
    """leftᵀ right, in float32 at least."""
    dtype = jnp.promote_types(jnp.result_type(left, right), jnp.float32)
    return jnp.einsum("ns,nt->st", left, right, preferred_element_type=dtype)


def no_factors(block: Block, dtype: Any) -> Any:
    """Zeros in the place of what a block's curvature is."""
    if not block.factored:
        return jnp.zeros((*block.depths, *block.shape), dtype)
    rows, columns = block.sizes
    return Factors(jnp.zeros((*block.depths, rows, rows), dtype), jnp.zeros((*block.depths, columns, columns), dtype))


def moved(average: Any, fresh: Any, keeps: Array) -> Any:
    """The moving average, of which a share is kept."""
    return jax.tree.map(
        lambda old, new: keeps.astype(old.dtype) * old + (1 - keeps).astype(old.dtype) * new, average, fresh
    )


def inverses_of(factors: Mapping[str, Any], damping: Array) -> dict[str, Any]:
    """(A + π √γ 1)⁻¹ and (G + √γ / π 1)⁻¹ of each block, or 1 / (d + γ) of a diagonal, by name.

    π² = (tr A / dim A) / (tr G / dim G) makes the least of what stands between A ⊗ G + γ 1 and the damped product.
    """
    damped = {
        name: _damped(of, damping.astype(of.A.dtype)) if isinstance(of, Factors) else of for name, of in factors.items()
    }
    # matrices of one size are inverted by one program, and all one after the other: on CPUs, LAPACK called from several
    # threads of XLA at once may wait for itself for ever
    leaves, tree = jax.tree.flatten([of for of in damped.values() if isinstance(of, Factors)])
    sizes = dict.fromkeys(leaf.shape[-1] for leaf in leaves)
    inverted: list[Any] = [None] * len(leaves)
    before: Array | None = None
    for n in sizes:
        places = [i for i, leaf in enumerate(leaves) if leaf.shape[-1] == n]
        together = jnp.concatenate([jnp.reshape(leaves[i], (-1, n, n)) for i in places])
        after = 0 if before is None else 0 * before[-1, -1, -1].astype(together.dtype)
        before = inverses = jax.lax.map(_inverse, together + after)
        first = 0
        for i in places:
            number = leaves[i].size // n**2
            inverted[i] = jnp.reshape(inverses[first : first + number], leaves[i].shape)
            first += number
    of_blocks = iter(jax.tree.unflatten(tree, inverted))
    return {
        name: next(of_blocks) if isinstance(of, Factors) else 1 / (of + damping.astype(of.dtype))
        for name, of in damped.items()
    }


def _damped(of: Factors, damping: Array) -> Factors:
    """A + π √γ 1 and G + √γ / π 1, in each layer."""
    mean_A, mean_G = (jnp.trace(factor, axis1=-2, axis2=-1) / factor.shape[-1] for factor in of)
    # where nothing came through, neither has a size to be compared by
    both = (mean_A > 0) & (mean_G > 0)
    pi = jnp.sqrt(jnp.where(both, mean_A, 1) / jnp.where(both, mean_G, 1))

    def added(factor: Array, number: Array) -> Array:
        n = factor.shape[-1]
        # rounding leaves no less than this of an eigenvalue of 0
        least = 4 * jnp.finfo(factor.dtype).eps * jnp.trace(factor, axis1=-2, axis2=-1)
        number = jnp.maximum(number, least)[..., None, None]
        return factor + number * jnp.broadcast_to(jnp.eye(n, dtype=factor.dtype), factor.shape)

    root = jnp.sqrt(damping)
    return Factors(added(of.A, pi * root), added(of.G, root / pi))


def _inverse(matrix: Array) -> Array:
    """M⁻¹ = Xᵀ X of X = L⁻¹, for the Cholesky factor L of M = L Lᵀ."""
    return _with_root(matrix)[1]


def _with_root(matrix: Array) -> tuple[Array, Array]:
    """X = L⁻¹ and M⁻¹, by halves, for products take a fifth of the time of one large solver.

    With X_11 of M_11, Y = L_21 = M_21 X_11ᵀ, X_22 of M_22 − Y Yᵀ and X_21 = −X_22 Y X_11. The 2 n³ operations are a
    third of what products of whole triangles take.
    """
    n = len(matrix)
    if n <= BLOCK:
        one = jnp.eye(n, dtype=matrix.dtype)
        root = jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(matrix), one, lower=True)
        return root, root.T @ root
    half = -(-n // 2)
    X_11, inverse_11 = _with_root(matrix[:half, :half])
    Y = matrix[half:, :half] @ X_11.T
    X_22, inverse_22 = _with_root(matrix[half:, half:] - Y @ Y.T)
    X_21 = -X_22 @ (Y @ X_11)
    below = X_22.T @ X_21
    X = jnp.block([[X_11, jnp.zeros_like(X_21.T)], [X_21, X_22]])
    return X, jnp.block([[inverse_11 + X_21.T @ X_21, below.T], [below, inverse_22]])


def preconditioned(blocks: Sequence[Block], inverses: Mapping[str, Any], tree: Any) -> dict[Any, Array]:
    """A⁻¹ V G⁻¹ of each block of a tree like the parameters, and the elements over those of a diagonal; by place."""
    made: dict[Any, Array] = {}
    for block in blocks:
        V, inverse = block.matrix(tree), inverses[block.name]
        wide = V.astype(jnp.promote_types(V.dtype, jnp.float32))
        product = inverse.A @ wide @ inverse.G if isinstance(inverse, Factors) else wide * inverse
        made |= block.parts(product.astype(V.dtype))
    return made
