"""How modules of equinox are made."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxbp import activations as ours
from jaxbp.activations import Elementwise, epsilon_of, linear
from jaxbp.connections import Shape
from jaxbp.interop._activations import Activations, is_rms, to_function
from jaxbp.interop._axes import exchanged, spelled_out
from jaxbp.interop._equinox_own import own_modules
from jaxbp.interop._layers import (
    Affine,
    Applied,
    Convolution,
    Dropping,
    Flattening,
    Layer,
    Lookup,
    Norm,
    Pooling,
    SelfAttention,
    Steps,
    TransposedConvolution,
)
from jaxbp.interop._reading import as_array
from jaxbp.interop._writing import lacking


class EquinoxWriter:
    """Makes equinox's modules."""

    def __init__(self, eqx: Any, activations: Activations):
        self.eqx, self.nn, self.own, self.activations = eqx, eqx.nn, own_modules(eqx.nn), activations

    def sum(self, branches: list[list[Any]]) -> Any:
        """The module of a sum."""
        return self.own.Sum(tuple(self.nn.Sequential(branch) for branch in branches))

    def stack(self, layers: list[list[Any]], depth: int) -> Any:
        """The module of a stack."""
        made, shared = [self.nn.Sequential(layer) for layer in layers], len(layers) < depth

        def over_layers(first: Any, *others: Any) -> Any:
            return jnp.stack([first, *others]) if self.eqx.is_array(first) else first

        return self.own.Stack(made[0] if shared else jax.tree.map(over_layers, *made), depth, shared)

    def write(self, place: str, layer: Layer, source: Shape) -> list[Any]:
        """The modules of a layer."""
        nn = self.nn
        match layer:
            case Affine():
                return [self.by_rows(self.linear(layer, place), len(source) - 1)]
            case Convolution():
                return [self.convolution(place, layer, source)]
            case TransposedConvolution():
                return [self.transposed(place, layer)]
            case Pooling():
                return [self.pool(place, layer, source)]
            case Flattening():
                return [nn.Lambda(jnp.ravel)]
            case Lookup(W):
                return [self.by_rows(nn.Embedding(weight=as_array(W, place)), len(source))]
            case Norm():
                return [self.by_rows(self.norm(place, layer, source), len(source) - 1)]
            case SelfAttention():
                return [self.attention(place, layer)]
            case Dropping(share):
                return [nn.Dropout(share)]
            case Applied(activation, axis):
                return [nn.Lambda(self.function(place, activation, axis))]
            case _:
                raise lacking(place, "equinox.nn", "a gain that follows no norm")

    def function(self, place: str, activation: Any, axis: int = -1) -> Any:
        """The function of an activation."""
        if activation.phi == ours.softmax.phi and axis != -1:
            return partial(jax.nn.softmax, axis=0)  # the channels of a map come first
        return to_function(activation, place, "to_equinox", self.activations)

    def by_rows(self, layer: Any, axes: int) -> Any:
        for _ in range(axes):
            layer = self.own.Rows(layer)
        return layer

    def filled(self, make: Any, place: str, **weights: Any) -> Any:
        """A module with these weights, of which nothing is drawn."""
        module = self.eqx.filter_eval_shape(lambda: make(key=jax.random.key(0)))
        given = {name: value for name, value in weights.items() if value is not None}
        arrays = [as_array(value, f"the {name} of {place}") for name, value in given.items()]
        return self.eqx.tree_at(lambda m: [getattr(m, name) for name in given], module, arrays) if given else module

    def linear(self, layer: Affine, place: str) -> Any:
        """The module of a linear part."""
        make = partial(self.nn.Linear, *layer.W.shape, use_bias=layer.b is not None)
        return self.filled(make, place, weight=jnp.asarray(layer.W).T, bias=layer.b)

    def convolution(self, place: str, layer: Convolution, source: Shape) -> Any:
        conv, (*kernel, d, c) = layer.conv, layer.W.shape
        windows = spelled_out(conv, source[:-1])
        make = partial(
            self.of_axes("Conv", len(kernel), place), d * conv.groups, c, kernel, windows.stride,
            "SAME" if conv.padding == "SAME" else windows.padding, windows.dilation, conv.groups, layer.b is not None,
        )  # fmt: skip
        return self.of_map(make, place, layer.W, layer.b)

    def transposed(self, place: str, layer: TransposedConvolution) -> Any:
        *kernel, d, c = layer.W.shape
        padding = tuple((r - 1 - low, r - 1 - high) for r, (low, high) in zip(layer.reach, layer.ends, strict=True))
        make = partial(
            self.of_axes("ConvTranspose", len(kernel), place),
            c,
            d * layer.groups,
            kernel,
            layer.stride,
            padding=padding,
            dilation=layer.dilation,
            groups=layer.groups,
            use_bias=layer.b is not None,
        )
        return self.of_map(make, place, exchanged(layer.W, layer.groups), layer.b)

    def of_map(self, make: Any, place: str, W: Any, b: Any) -> Any:
        axes = W.ndim - 2
        weight = jnp.transpose(W, (axes + 1, axes, *range(axes)))
        return self.filled(make, place, weight=weight, bias=None if b is None else jnp.reshape(b, (-1, *(1,) * axes)))

    def of_axes(self, kind: str, axes: int, place: str) -> Any:
        if not 1 <= axes <= 3:
            raise lacking(place, "equinox.nn", f"windows over {axes} axes")
        return getattr(self.nn, f"{kind}{axes}d")

    def pool(self, place: str, layer: Pooling, source: Shape) -> Any:
        pool, _ = layer.joined(source)
        windows = spelled_out(pool, source[:-1])
        make = self.of_axes(layer.kind.__name__, len(windows.size), place)
        return make(windows.size, windows.stride, windows.padding)

    def norm(self, place: str, norm: Norm, source: Shape) -> Any:
        kind = self.nn.RMSNorm if is_rms(norm.activation) else self.nn.LayerNorm
        has = {"use_weight": norm.w is not None, "use_bias": norm.b is not None}

        def make(key: Any) -> Any:
            return kind(source[-1], epsilon_of(norm.activation), **has)

        return self.filled(make, place, weight=norm.w, bias=norm.b)

    def attention(self, place: str, layer: SelfAttention) -> Any:
        heads, (q, k, v, o) = layer.attention, (layer.q, layer.k, layer.v, layer.o)
        if heads.key_heads != heads.heads:
            raise lacking(place, "equinox.nn", "grouped queries")
        width, n = q.W.shape[0], heads.heads
        has = {f"use_{name}_bias": part.b is not None for name, part in zip(_MAPS, (q, k, v, o), strict=True)}
        made = self.eqx.filter_eval_shape(
            lambda: self.nn.MultiheadAttention(
                n, width, width, width, o.W.shape[1], q.W.shape[1] // n, v.W.shape[1] // n, key=jax.random.key(0), **has
            )
        )
        made = self.eqx.tree_at(
            lambda m: [getattr(m, f"{name}_proj") for name in _MAPS],
            made,
            [self.linear(part, place) for part in (q, k, v, o)],
        )
        return self.own.SelfAttention(made, heads.causal)


_MAPS = ("query", "key", "value", "output")


def as_mlp(writer: EquinoxWriter, steps: Steps, shape: Shape) -> Any:
    """The `eqx.nn.MLP` of a description, None where it is none."""
    layers: list[Affine] = []
    activations: list[Any] = []
    places: list[str] = []
    for place, layer in steps:
        match layer:
            case Affine():
                layers.append(layer)
                activations.append(linear)
                places.append(place)
            case Applied(activation) if layers and activations[-1] is linear:
                activations[-1] = activation
            case _:
                return None
    if len(shape) != 1 or not layers or not _fits_mlp(layers, activations):
        return None
    eqx, (*_, output) = writer.eqx, layers
    functions = [writer.function(place, phi) for place, phi in zip(places, activations, strict=True)]
    options = {"activation": functions[0]} if len(layers) > 1 else {}
    if activations[-1].phi != linear.phi:
        options["final_activation"] = functions[-1]
    empty = eqx.filter_eval_shape(
        lambda: eqx.nn.MLP(
            layers[0].W.shape[0],
            output.W.shape[1],
            layers[0].W.shape[1],
            len(layers) - 1,
            use_bias=layers[0].b is not None,
            use_final_bias=output.b is not None,
            key=jax.random.key(0),
            **options,
        )
    )
    linears = tuple(writer.linear(layer, place) for layer, place in zip(layers, places, strict=True))
    return eqx.tree_at(lambda mlp: mlp.layers, empty, linears)


def _fits_mlp(layers: list[Affine], activations: list[Any]) -> bool:
    if len(layers) == 1:
        return activations[0].phi == linear.phi
    alike = {
        (layer.W.shape[1], layer.b is None, phi.phi) for layer, phi in zip(layers[:-1], activations[:-1], strict=True)
    }
    return len(alike) == 1 and all(isinstance(phi, Elementwise) for phi in activations)
