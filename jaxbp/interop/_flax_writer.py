"""How modules of flax's nnx are made."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp.activations import epsilon_of
from jaxbp.connections import MaxPool, Shape
from jaxbp.interop._activations import Activations, is_rms, to_function
from jaxbp.interop._axes import spelled_out
from jaxbp.interop._flax_own import own_modules
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
    TransposedConvolution,
)
from jaxbp.interop._reading import as_array
from jaxbp.interop._writing import lacking


def flatten(x: Array, axes: int) -> Array:
    """All elements of the last so many axes in a row."""
    return jnp.reshape(x, (*x.shape[: x.ndim - axes], -1))


class FlaxWriter:
    """Makes nnx's modules, which ask for random numbers, though nothing is drawn."""

    def __init__(self, nnx: Any, activations: Activations):
        self.nnx, self.activations, self.rngs = nnx, activations, nnx.Rngs(0)

    def sum(self, branches: list[list[Any]]) -> Any:
        """The module of a sum."""
        return own_modules(self.nnx).Sum([self.nnx.Sequential(*branch) for branch in branches])

    def stack(self, layers: list[list[Any]], depth: int) -> Any:
        """The module of a stack."""
        made, shared = [self.nnx.Sequential(*layer) for layer in layers], len(layers) < depth
        if not shared:
            self.nnx.update(made[0], jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(self.nnx.state, made)))
        return own_modules(self.nnx).Stack(made[0], depth, shared)

    def write(self, place: str, layer: Layer, source: Shape) -> list[Any]:
        """The modules of a layer."""
        nnx = self.nnx
        match layer:
            case Affine():
                return [nnx.Linear(*layer.W.shape, **self.weights(place, layer.W, layer.b))]
            case Convolution():
                return [self.convolution(place, layer, source)]
            case TransposedConvolution():
                return [self.transposed(place, layer)]
            case Pooling():
                return [self.pool(layer, source)]
            case Flattening():
                return [partial(flatten, axes=len(source))]
            case Lookup():
                table = as_array(layer.W, f"the table of {place}")
                options = {"param_dtype": table.dtype, "embedding_init": lambda *_: table}
                return [nnx.Embed(*table.shape, rngs=self.rngs, **options)]
            case Norm():
                return [self.norm(place, layer, source)]
            case SelfAttention():
                return [self.attention(place, layer)]
            case Dropping(share):
                return [nnx.Dropout(share, rngs=self.rngs)]
            case Applied(activation):
                return [to_function(activation, place, "to_flax", self.activations)]
            case _:
                raise lacking(place, "flax.nnx", "a gain that follows no norm")

    def weights(self, place: str, W: Any, b: Any) -> dict[str, Any]:
        kernel = as_array(W, f"the weights of {place}")
        bias = None if b is None else as_array(b, f"the bias of {place}")
        return {
            "use_bias": bias is not None,
            "param_dtype": kernel.dtype,
            "kernel_init": lambda *_: kernel,
            "bias_init": lambda *_: bias,
            "rngs": self.rngs,
        }

    def convolution(self, place: str, layer: Convolution, source: Shape) -> Any:
        conv, (*kernel, d, c) = layer.conv, layer.W.shape
        windows = spelled_out(conv, source[:-1])
        return self.nnx.Conv(
            d * conv.groups,
            c,
            tuple(kernel),
            windows.stride,
            padding=conv.padding if isinstance(conv.padding, str) else windows.padding,
            kernel_dilation=windows.dilation,
            feature_group_count=conv.groups,
            **self.weights(place, layer.W, layer.b),
        )

    def transposed(self, place: str, layer: TransposedConvolution) -> Any:
        *kernel, d, c = layer.W.shape
        if layer.groups > 1:
            raise lacking(place, "flax.nnx", f"a transposed convolution in {layer.groups} groups")
        return self.nnx.ConvTranspose(
            c,
            d,
            tuple(kernel),
            layer.stride,
            padding=layer.ends,
            kernel_dilation=layer.dilation,
            transpose_kernel=True,
            **self.weights(place, layer.W, layer.b),
        )

    def pool(self, layer: Pooling, source: Shape) -> Any:
        pool, _ = layer.joined(source)
        windows = spelled_out(pool, source[:-1])
        padding = pool.padding if isinstance(pool.padding, str) else windows.padding
        function = self.nnx.max_pool if layer.kind is MaxPool else self.nnx.avg_pool
        return partial(function, window_shape=windows.size, strides=windows.stride, padding=padding)

    def norm(self, place: str, norm: Norm, source: Shape) -> Any:
        w, b = (None if value is None else as_array(value, f"a weight of {place}") for value in (norm.w, norm.b))
        options: dict[str, Any] = {"epsilon": epsilon_of(norm.activation), "use_scale": w is not None}
        dtype = next((value.dtype for value in (w, b) if value is not None), jnp.float32)
        options |= {"scale_init": lambda *_: w, "param_dtype": dtype, "rngs": self.rngs}
        if not is_rms(norm.activation):
            return self.nnx.LayerNorm(source[-1], use_bias=b is not None, bias_init=lambda *_: b, **options)
        if b is not None:
            raise lacking(place, "flax.nnx", "an RMS norm with a shift")
        return self.nnx.RMSNorm(source[-1], **options)

    def attention(self, place: str, layer: SelfAttention) -> Any:
        heads, maps = layer.attention, (layer.q, layer.k, layer.v, layer.o)
        has_bias = {part.b is not None for part in maps}
        if len(has_bias) > 1:
            raise lacking(place, "flax.nnx", "attention with a bias of some of its four maps and not of all")
        width, d = layer.q.W.shape[1], layer.q.W.shape[1] // heads.heads
        if layer.v.W.shape[1] != heads.key_heads * d:
            raise lacking(place, "flax.nnx", "attention with values of another width than the keys")
        made = self.nnx.MultiHeadAttention(
            heads.heads,
            layer.q.W.shape[0],
            width,
            layer.o.W.shape[1],
            heads.key_heads,
            decode=False,
            use_bias=has_bias.pop(),
            keep_rngs=False,
            rngs=self.rngs,
        )
        for name, part in zip(("query", "key", "value", "out"), maps, strict=True):
            inner = getattr(made, name)
            W = as_array(part.W, f"the weights of {place}")
            inner.kernel = self.nnx.Param(jnp.reshape(W, inner.kernel.shape))
            if part.b is not None:
                b = as_array(part.b, f"the bias of {place}")
                inner.bias = self.nnx.Param(jnp.reshape(b, inner.bias.shape))
        return own_modules(self.nnx).SelfAttention(made) if heads.causal else made
