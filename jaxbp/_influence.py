"""Influence: which examples helped or harmed a prediction, by the inner products of their gradients with its own.

The metric of these products is the identity, or that of projections: G = (P Pᵀ) ⊗ (Q Qᵀ) of each weight.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxbp import collect
from jaxbp._backprop import backprop
from jaxbp._cache import bounded_cache
from jaxbp._checks import (
    check_batch_size,
    check_integer,
    check_kind,
    check_mapping,
    check_number,
    check_random_key,
    check_real,
    described,
)
from jaxbp._dropout import without_dropout
from jaxbp._network import Network, check_network
from jaxbp._objective import check_objective
from jaxbp._parameters import Params, check_params, check_vector
from jaxbp._plan import Place, at
from jaxbp.collect import KroneckerFactors, Projection
from jaxbp.collect._projected import check_projection
from jaxbp.losses import Loss


def influence(
    net: Network, loss: Loss, params: Params, x: Any, y: Any, vector: Params, *, projections: Any = None
) -> Array:
    """What a small step against the gradient of each example takes from another value: ⟨∇L_i, v⟩, `(*batch,)`.

    The vector v = ∇F is the gradient of what the examples are judged by: the mean loss on validation data, the loss or
    the margin of one prediction. A step W − η ∇L_i changes F by −η ⟨∇L_i, v⟩, to first order in η. Examples of positive
    influence helped, those of negative influence harmed.

    With projections it is the inner product in their metric, ⟨∇L_i, P Pᵀ v Q Qᵀ⟩, which is that of the rows that
    `projected_gradients` keeps. With those of `whitening` it is the step of a damped natural gradient, the influence
    function with Kronecker-factored curvature. Dropout is off.

    Example:
        >>> import jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([1, 1], output=jaxbp.linear, bias=False)
        >>> W, x, y = {"o": {"x": jnp.array([[2.0]])}}, jnp.array([[1.0], [3.0]]), jnp.array([[0.0], [9.0]])
        >>> v = jaxbp.value_and_grad(net, jaxbp.squared_error)(W, jnp.ones(1), jnp.ones(1))[1]  # 2 is larger than 1
        >>> jaxbp.curvature.influence(net, jaxbp.squared_error, W, x, y, v).tolist()  # the second asks for a larger W
        [2.0, -9.0]

    Source: Koh and Liang, Understanding black-box predictions via influence functions, 2017; Pruthi et al., Estimating
    training data influence by tracing gradient descent, 2020, for the sum over several sets of parameters.
    """
    check_objective(net, loss)
    check_vector(net, params, vector)
    if projections is not None:
        _check_projections(net, projections)
        vector = _in_metric(net, vector, projections)
    wanted = {"dot": collect.per_example_dot(vector)}
    return backprop(without_dropout(net), loss, params, x, y, reduction="sum", collect=wanted).collected["dot"]


def projected_gradients(
    path: str | os.PathLike[str],
    net: Network,
    loss: Loss,
    params: Params,
    x: Any,
    y: Any,
    projections: Any,
    *,
    batch_size: int = 1024,
) -> np.ndarray:
    """The projected gradient of each example's own loss, Pᵀ ∇L_i Q, as rows of a file: `(examples, features)`.

    What `jaxbp.collect.projected` gives, batch by batch, so that a training set of any size takes little memory. The
    inner product of two rows is the influence of one example on the other: `rows @ others.T`, or a part of the rows
    after the other.

    Args:
        path: The `.npy` file to write; it is there only when it is whole.
        net: The network; dropout is off.
        loss: The loss.
        params: The parameters.
        x: The examples, along the first axis: an array, or a dict of them by input.
        y: Their targets.
        projections: A tree like the parameters with a `jaxbp.collect.Projection` for each weight.
        batch_size: How many examples are looked at together.

    Returns:
        The rows, mapped from the file and read-only: `np.load(path, mmap_mode="r")` gives them again.
    """
    check_objective(net, loss)
    check_params(net, params)
    _check_projections(net, projections)
    check_batch_size(batch_size)
    examples = _number_of_examples(x, y)
    make = _compiled_rows(without_dropout(net), loss)
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a path, got {described(path)}")
    path = Path(path)
    part = path.with_name(path.name + ".part")
    rows: np.ndarray | None = None
    try:
        for start in range(0, examples, batch_size):
            batch = slice(start, start + batch_size)
            made = np.asarray(make(params, *jax.tree.map(lambda array, b=batch: array[b], (x, y)), projections))
            if rows is None:
                shape = (examples, *made.shape[1:])
                rows = np.lib.format.open_memmap(part, mode="w+", dtype=made.dtype, shape=shape)
            rows[batch] = made
        del rows  # all is written to the file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return np.load(path, mmap_mode="r")


@bounded_cache
def _compiled_rows(net: Network, loss: Loss) -> Callable[..., Array]:
    @jax.jit
    def rows(params: Params, x: Any, y: Any, projections: Any) -> Array:
        wanted = {"rows": collect.projected(projections)}
        return backprop(net, loss, params, x, y, reduction="sum", collect=wanted).collected["rows"]

    return rows


def _number_of_examples(x: Any, y: Any) -> int:
    check_real(y, "y")
    arrays = {f"x[{name!r}]": array for name, array in x.items()} if isinstance(x, Mapping) else {"x": x}
    for name, array in arrays.items():
        check_real(array, name)
    arrays["y"] = y
    lengths = {name: array.shape[0] if array.ndim else None for name, array in arrays.items()}
    examples = lengths["y"]
    if not examples or set(lengths.values()) != {examples}:
        shapes = ", ".join(f"{name} has shape {array.shape}" for name, array in arrays.items())
        raise ValueError(f"{shapes}; expected as many examples, at least one, along the first axis of each")
    return examples


# Projections.


def random_projections(key: Array, net: Network, rank: int) -> Any:
    """Random projections of every weight, whose inner products are right in the mean: E[P Pᵀ] = E[Q Qᵀ] = 1.

    The elements are normal, of variance 1/rank. A side that is no wider than the rank is left as it is, and so is the
    inner product where all are. Rows can be compared where both are made with the same key.

    Args:
        key: For the elements.
        net: The network.
        rank: The columns of each P and Q: a weight adds at most rank² features.

    Returns:
        A tree like the parameters with a `jaxbp.collect.Projection` for each weight.

    Example:
        >>> import jax, jaxbp
        >>> net = jaxbp.layered([100, 50, 3], output=jaxbp.softmax)
        >>> of = jaxbp.curvature.random_projections(jax.random.key(0), net, 8)
        >>> [matrix.shape for matrix in of["h1"]["x"]], [matrix.shape for matrix in of["o"]["bias"]]
        ([(100, 8), (50, 8)], [(1, 1), (3, 3)])
    """
    check_random_key(key)
    check_network(net)
    check_integer(rank, "rank", 1)
    keys = dict(zip(net.plan.uses, jax.random.split(key, max(1, len(net.plan.uses))), strict=False))

    def of(place: Place) -> Projection:
        layers, shape = _layers_and_shape(net, place)
        sizes = (int(np.prod(shape[:-1])), shape[-1])
        return Projection(*(_random(keys[place], side, layers, size, rank) for side, size in enumerate(sizes)))

    return net.plan.tree(of)


@partial(jax.jit, static_argnums=(2, 3, 4))
def _random(key: Array, side: int, layers: tuple[int, ...], size: int, rank: int) -> Array:
    if size <= rank:
        return jnp.broadcast_to(jnp.eye(size), (*layers, size, size))
    return jax.random.normal(jax.random.fold_in(key, side), (*layers, size, rank)) / rank**0.5


def whitening(factors: Any, damping: float, *, rank: int | None = None) -> Any:
    """Projections by the inverse roots of damped Kronecker factors: P Pᵀ = (E[h hᵀ] + γ s)⁻¹, Q Qᵀ likewise.

    s is the mean eigenvalue of the factor, so γ has no unit. In the metric of all columns a gradient is preconditioned
    by the damped curvature, (A ⊗ B)⁻¹, which is what influence functions ask for.

    Args:
        factors: What `jaxbp.collect.kronecker`, `kronecker_ggn` or `sampled_kronecker_ggn` collects.
        damping: γ, above 0.
        rank: How many of the eigenvectors are kept, those of the largest eigenvalues; all when None.

    Returns:
        A tree like the parameters with a `jaxbp.collect.Projection` for each weight.

    Example:
        >>> import jax.numpy as jnp, jaxbp
        >>> factors = jaxbp.collect.KroneckerFactors(jnp.diag(jnp.array([1.0, 3.0])), jnp.array([[4.0]]))
        >>> of = jaxbp.curvature.whitening({"o": {"x": factors}}, damping=1.0)["o"]["x"]  # of 1 + 2, 3 + 2 and 4 + 4
        >>> inverse = jnp.array([[1 / 3, 0.0], [0.0, 1 / 5]])
        >>> bool(jnp.allclose(of.source @ of.source.T, inverse)), bool(jnp.allclose(of.unit @ of.unit.T, 1 / 8))
        (True, True)

    Source: Grosse et al., Studying large language model generalization with influence functions, 2023, for the metric;
    Choe et al., 2024, for the leading eigenvectors.
    """
    check_number(damping, "damping", above=0, finite=True)
    if rank is not None:
        check_integer(rank, "rank", 1)
    check_mapping(factors, "factors", "{'o': {'h1': KroneckerFactors(…)}}, as collect.kronecker_ggn makes it")

    def of(tree: Any, place: str) -> Any:
        if isinstance(tree, Mapping):
            return {name: of(inner, f"{place}[{name!r}]") for name, inner in tree.items()}
        check_kind(tree, KroneckerFactors, place, "a jaxbp.collect.KroneckerFactors")
        return Projection(*(_inverse_root(factor, damping, rank) for factor in tree))

    return of(factors, "factors")


@partial(jax.jit, static_argnums=2)
def _inverse_root(factor: Array, damping: float, rank: int | None) -> Array:
    """U (λ + γ s)^(−½) of the eigenvectors U, those of the largest eigenvalues first; 0 where there is nothing."""
    eigenvalues, U = jnp.linalg.eigh(factor)
    eigenvalues, leading = jnp.flip(eigenvalues, -1)[..., :rank], jnp.flip(U, -1)[..., :rank]
    mean = jnp.trace(factor, axis1=-2, axis2=-1)[..., None] / factor.shape[-1]
    damped = jnp.maximum(eigenvalues, 0) + damping * mean
    scale = jnp.where(damped > 0, 1 / jnp.sqrt(jnp.where(damped > 0, damped, 1)), 0)
    return leading * scale[..., None, :]


def _in_metric(net: Network, vector: Params, projections: Any) -> Params:
    """P Pᵀ v Q Qᵀ of every weight."""

    def of(place: Place) -> Array:
        v, (P, Q) = at(place, vector), at(place, projections)
        inside = P @ (jnp.swapaxes(P, -1, -2) @ jnp.reshape(v, (*P.shape[:-1], -1)) @ Q) @ jnp.swapaxes(Q, -1, -2)
        return jnp.reshape(inside, v.shape).astype(v.dtype)

    return net.plan.tree(of)


def _check_projections(net: Network, projections: Any) -> None:
    for place, shape in net.plan.weight_shapes.items():
        try:
            projection = at(place, projections)
        except (KeyError, TypeError, IndexError):
            name = ".".join(place)
            raise ValueError(f"projections has nothing for the weight {name!r} of the network") from None
        check_projection(projection, shape, len(_layers_and_shape(net, place)[0]), ".".join(place))


def _layers_and_shape(net: Network, place: Place) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of layers of a weight, and its shape in one of them."""
    shape, layers = net.plan.weight_shapes[place], sum(net.plan.uses[place][0].layers)
    return shape[:layers], shape[layers:]
