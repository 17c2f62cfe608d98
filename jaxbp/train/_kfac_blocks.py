"""The blocks of a network's curvature that K-FAC inverts: which weights are in one, and what stands for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._checks import quoted
from jaxbp._network import Network
from jaxbp._plan import Edge, Place, at
from jaxbp.connections import Bias, Conv, Dense, Embedding, Scale, Shape, Transposed

FACTORED = (Dense, Conv, Bias)
DIAGONAL = (Scale, Embedding)
TABLE = {Embedding, Transposed}  # one that is read by ids and reads out: no Kronecker product, but a diagonal


@dataclass(frozen=True)
class Block:
    """Weights whose curvature is inverted together: one, with the bias of its unit as a last row where it has one.

    Attributes:
        place: Where the weight lies among the parameters.
        bias: Where the bias does; None where it is a block of its own, or there is none.
        edges: The edges that use the weight.
        shape: The shape of the weight, in one layer.
        depths: How many layers have weights of their own, for each stack around it.
    """

    place: Place
    bias: Place | None
    edges: tuple[Edge, ...]
    shape: Shape
    depths: Shape

    @property
    def name(self) -> str:
        """The name of the weight, as `"o.h1"`."""
        return ".".join(self.place)

    @property
    def factored(self) -> bool:
        """Whether A ⊗ G stands for the curvature, or else its diagonal."""
        return _is_factored(self.edges[0])

    @property
    def sizes(self) -> tuple[int, int]:
        """How many rows and columns the matrix of a block with factors has."""
        *rows, columns = self.shape
        size = 1
        for n in rows:
            size *= n
        return size + (self.bias is not None), columns

    def matrix(self, tree: Any) -> Array:
        """What a tree like the parameters holds of it, `(*depths, rows, columns)`; as it is, of a diagonal block."""
        W = at(self.place, tree)
        if not self.factored:
            return W
        matrix = jnp.reshape(W, (*self.depths, -1, self.shape[-1]))
        if self.bias is None:
            return matrix
        return jnp.concatenate([matrix, at(self.bias, tree)[..., None, :].astype(matrix.dtype)], axis=-2)

    def parts(self, matrix: Array) -> dict[Place, Array]:
        """The weight, and the bias, of such a matrix, by place."""
        if not self.factored:
            return {self.place: matrix}
        W = matrix if self.bias is None else matrix[..., :-1, :]
        parts = {self.place: jnp.reshape(W, (*self.depths, *self.shape))}
        return parts if self.bias is None else parts | {self.bias: matrix[..., -1, :]}


def blocks_of(net: Network) -> tuple[Block, ...]:
    """The blocks of a network, which hold each of its weights once; what there is no rule for is refused by name."""
    uses = net.plan.uses
    if not uses:
        raise ValueError("the network has no weights, so there is nothing that kfac could train")
    for place, edges in uses.items():
        _check(place, edges)
    into: dict[str, list[Place]] = {}
    for place, edges in uses.items():
        for edge in edges:
            into.setdefault(edge.unit, []).append(place)
    bias_of = {}
    for places in into.values():
        factored = [place for place in places if _is_factored(uses[place][0])]
        biases = [place for place in factored if isinstance(uses[place][0].linear, Bias)]
        matrices = [place for place in factored if place not in biases]
        # with two matrices into one unit, or other units that use one of both, no row is the bias's alone
        if len(matrices) == len(biases) == 1 and all(len(uses[place]) == 1 for place in (*matrices, *biases)):
            bias_of[matrices[0]] = biases[0]
    joined = set(bias_of.values())

    def block(place: Place, edges: tuple[Edge, ...]) -> Block:
        shape, layers = net.plan.weight_shapes[place], sum(edges[0].layers)
        return Block(place, bias_of.get(place), edges, shape[layers:], shape[:layers])

    return tuple(block(place, edges) for place, edges in uses.items() if place not in joined)


def _is_factored(edge: Edge) -> bool:
    return isinstance(edge.linear, FACTORED) and not (isinstance(edge.linear, Bias) and edge.linear.whole)


def _check(place: Place, edges: Sequence[Edge]) -> None:
    name, first = ".".join(place), edges[0].linear
    if {type(edge.linear) for edge in edges} == TABLE:
        return
    for edge in edges:
        if not isinstance(edge.linear, (*FACTORED, *DIAGONAL)):
            raise TypeError(
                f"kfac has no rule for {type(edge.linear).__name__} connections, as {edge.source!r} ⇒ {edge.unit!r} "
                "is, only for Dense, Conv, Bias, Scale and Embedding"
            )
        if isinstance(edge.linear, Conv) and edge.linear.groups > 1:
            raise ValueError(
                f"kfac has no rule for convolutions in groups, as {edge.source!r} ⇒ {edge.unit!r} is, of "
                f"{edge.linear.groups} groups"
            )
    if any(type(edge.linear) is not type(first) for edge in edges):
        kinds = ", ".join(dict.fromkeys(type(edge.linear).__name__ for edge in edges))
        raise ValueError(
            f"kfac has no rule for the weight {name!r}, which {quoted(edge.unit for edge in edges)} share through "
            f"connections of several kinds: {kinds}"
        )
