"""What the gradient of each weight is made of, layer by layer where it stands in a stack."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxbp.collect._layer_weight import LayerWeight
from jaxbp.collect._pair import Pair
from jaxbp.connections import Connection
from jaxbp.connections._connection import OverRows


class Weight(NamedTuple):
    """What the gradient of one weight is made of: ∂L/∂W = Σ h_sᵀ δ_u over the pairs that share it, mostly one.

    What is not linear in the gradient has cross terms between the pairs, and so adds them up for each example first.
    In a stack W is one for each layer, `(depth, …)`, and so is what is made of it: the layers are the first axes of all
    results. Where the layers share a W, its gradient sums over them.

    Attributes:
        value: W.
        pairs: The places where it is used.
        scale: ∂L/∂L_i of each example, `(*batch,)`: 1/N in a mean, its weight in a weighted one.
        formed: The gradient, where the sweep has formed it on its way.
    """

    value: Array
    pairs: tuple[Pair, ...]
    scale: Array
    formed: Array | None = None

    @property
    def layers(self) -> int:
        """How many axes of layers W has."""
        return sum(self.pairs[0].layers)

    def gradient(self, factors: Array | None = None) -> Array:
        """Σ_i f_i g_i, shaped like W: the gradient, with each example's part times a factor `(*batch,)`.

        An example with a factor of 0 has no part in it, also where its g_i is not finite.
        """
        if self.formed is not None and factors is None:
            return self.formed
        return self.in_each_layer(lambda weight: weight.gradient(factors))

    def gradient_of_each(self) -> Array:
        """The gradient, beside norms: the sum of the gradients of all examples where they are kept."""
        if not LayerWeight(self.value, self.pairs, self.scale).keeps:
            return self.gradient()
        return self.in_each_layer(LayerWeight.gradient_of_each)

    def gradients(self) -> Array:
        """What each example adds to the gradient, g_i: `(N, *shape)`, with the batch as one axis."""
        return self.in_each_layer(LayerWeight.gradients)

    def dot(self, V: Array) -> Array:
        """⟨g_i, V⟩ for an array like W, `(N,)`: V takes the place of the weight, because ⟨hᵀ δ, V⟩ = h V · δ."""
        return self._replace(value=V).in_each_layer(LayerWeight.dot)

    def squared_norms(self) -> Array:
        """‖g_i‖², `(N,)`, in float32 at least."""
        return self.in_each_layer(LayerWeight.squared_norms)

    def norm_bounds(self) -> Array:
        """What ‖g_i‖ is at most, `(N,)`, in float32 at least: the norm, and what rounding may have taken from it.

        Terms that cancel, or whose squares vanish, leave a norm that is too small; nothing that is clipped by this
        bound is ever larger than it should be.
        """
        return self.in_each_layer(LayerWeight.norm_bounds)

    def projected(self, P: Array, Q: Array) -> Array:
        """Pᵀ g_i Q of the gradients as matrices, `(N, k, l)`; matrices of each layer have its axis first."""
        return self.in_each_layer(LayerWeight.projected, beside=(P, Q))

    def gram(self) -> Array:
        """⟨g_i, g_j⟩, `(N, N)`."""
        return self.in_each_layer(LayerWeight.gram)

    def sum_of_squares(self, signals: Mapping[str, Array], factors: Array) -> Array:
        """Σ_ki f_i² g_ki², shaped like W: over K signals δ_k, by unit `(K, *layers, *batch, *shape)`, and examples."""
        return self.in_each_layer(lambda weight, deltas: weight.sum_of_squares(deltas, factors), signals)

    def in_each_layer(
        self, make: Callable[..., Any], signals: Mapping[str, Array] | None = None, beside: tuple[Array, ...] = ()
    ) -> Any:
        """What is made of the weight of each layer, one layer after the other; of the weight itself without layers.

        Layers that share the weight become rows of the examples. With signals, `(K, *layers, *batch, *shape)` by unit,
        `make` gets them for each pair, `(K, *batch, *shape)`, and of arrays beside the weight the part of its layer.
        """
        axes = self.pairs[0].layers
        given = None if signals is None else [signals[pair.unit] for pair in self.pairs]
        if not axes:
            alone = LayerWeight(self.value, self.pairs, self.scale)
            return make(alone, *beside) if given is None else make(alone, given, *beside)
        batch_axes = self.scale.ndim
        h = [by_layer(p.h, axes, batch_axes) for p in self.pairs]
        delta = [by_layer(p.delta, axes, batch_axes) for p in self.pairs]
        if given is not None:
            given = [by_layer(d, axes, batch_axes, before=1) for d in given]
        in_rows = not all(axes)

        def of_layer(layer: Any) -> Any:
            value, h, delta, given, beside = layer
            pairs = tuple(
                pair._replace(h=h_l, delta=delta_l, layers=(), connection=_in_rows(pair.connection, in_rows))
                for pair, h_l, delta_l in zip(self.pairs, h, delta, strict=True)
            )
            weight = LayerWeight(value, pairs, self.scale)
            return make(weight, *beside) if given is None else make(weight, given, *beside)

        made: Callable[[Any], Any] = of_layer
        for _ in range(self.layers):
            made = partial(lax.map, made)
        return made((self.value, h, delta, given, beside))


def by_layer(array: Array, layers: tuple[bool, ...], batch_axes: int, before: int = 0) -> Array:
    """Layers that have weights of their own first, and those that share one after the batch, as rows.

    `(*before, *layers, *batch, *shape)` becomes `(*own, *before, *batch, *sharing, *shape)`.
    """
    own = [before + i for i, has_own in enumerate(layers) if has_own]
    sharing = [before + i for i, has_own in enumerate(layers) if not has_own]
    end = before + len(layers) + batch_axes
    batch = range(before + len(layers), end)
    return jnp.transpose(array, (*own, *range(before), *batch, *sharing, *range(end, array.ndim)))


def _in_rows(connection: Connection, rows: bool) -> Connection:
    return OverRows(connection) if rows and not connection.takes_rows else connection
