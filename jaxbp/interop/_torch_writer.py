"""How modules of torch are made."""

from typing import Any

import ml_dtypes
import numpy as np
from jaxtyping import Array

from jaxbp import activations as ours
from jaxbp.activations import epsilon_of, linear
from jaxbp.connections import MaxPool, Shape
from jaxbp.interop._activations import Activations, Known, gelu_exact, is_rms, no_counterpart, slope_of, to_module
from jaxbp.interop._axes import Ends, spelled_out
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
from jaxbp.interop._torch_own import own_modules
from jaxbp.interop._writing import lacking


class TorchWriter:
    """Makes torch's modules, on the meta device first, so that nothing is drawn from torch's generator."""

    def __init__(self, torch: Any, activations: Activations):
        self.torch, self.nn, self.activations = torch, torch.nn, activations

    def sum(self, branches: list[list[Any]]) -> Any:
        return own_modules(self.torch).Sum(*(self.nn.Sequential(*branch) for branch in branches))

    def stack(self, layers: list[list[Any]], depth: int) -> Any:
        made = [self.nn.Sequential(*layer) for layer in layers]
        return own_modules(self.torch).Stack(*(made * depth)[:depth])

    def write(self, place: str, layer: Layer, source: Shape) -> list[Any]:
        nn = self.nn
        match layer:
            case Affine():
                return [self.linear(layer)]
            case Convolution():
                return self.convolution(place, layer, source)
            case TransposedConvolution():
                return [self.transposed(place, layer)]
            case Pooling():
                return self.pool(place, layer, source)
            case Flattening():
                return [nn.Flatten()]
            case Lookup():
                return [self.filled(nn.Embedding(*layer.W.shape, device="meta"), weight=layer.W)]
            case Norm():
                return [self.norm(place, layer, source)]
            case SelfAttention():
                return [self.attention(place, layer)]
            case Dropping(share):
                return [nn.Dropout(share)]
            case Applied(activation, axis):
                return [self.activation(place, activation, axis)]
            case _:
                raise lacking(place, "torch.nn", "a gain that follows no norm")

    def linear(self, layer: Affine) -> Any:
        module = self.nn.Linear(*layer.W.shape, bias=layer.b is not None, device="meta")
        return self.filled(module, weight=layer.W.T, bias=layer.b)

    def filled(self, module: Any, **weights: Any) -> Any:
        for name, value in weights.items():
            if value is not None:
                setattr(module, name, self.nn.Parameter(self.tensor(value)))
        return module

    def tensor(self, array: Any) -> Any:
        values = np.array(array, order="C")
        if values.dtype == ml_dtypes.bfloat16:
            return self.torch.from_numpy(values.view(np.int16)).view(self.torch.bfloat16)
        return self.torch.from_numpy(values)

    def of_axes(self, kind: str, axes: int, place: str) -> Any:
        if not 1 <= axes <= 3:
            raise lacking(place, "torch.nn", f"windows over {axes} axes")
        return getattr(self.nn, f"{kind}{axes}d")

    def convolution(self, place: str, layer: Convolution, source: Shape) -> list[Any]:
        conv, (*kernel, d, c) = layer.conv, layer.W.shape
        windows = spelled_out(conv, source[:-1])
        make = self.of_axes("Conv", len(kernel), place)
        before, padding = self.padding(windows.padding, len(kernel), place)
        if conv.padding == "SAME" and set(windows.stride) == {1} and not before:
            padding = "same"
        module = make(
            d * conv.groups, c, tuple(kernel), windows.stride, padding, windows.dilation, conv.groups,
            layer.b is not None, device="meta",
        )  # fmt: skip
        return [*before, self.filled(module, weight=_channels_first(layer.W), bias=layer.b)]

    def padding(self, ends: Ends, axes: int, place: str) -> tuple[list[Any], Any]:
        """What must come before a module, and its own padding, which is the same on both sides."""
        if all(low == high for low, high in ends):
            return [], tuple(low for low, _ in ends)
        last_first = tuple(n for pair in reversed(ends) for n in pair)
        return [self.of_axes("ZeroPad", axes, place)(last_first)], (0,) * axes

    def transposed(self, place: str, layer: TransposedConvolution) -> Any:
        *kernel, d, c = layer.W.shape
        padding = tuple(r - 1 - low for r, (low, _) in zip(layer.reach, layer.ends, strict=True))
        more = tuple(high - low for low, high in layer.ends)
        if any(not 0 <= n < max(s, e) for n, s, e in zip(more, layer.stride, layer.dilation, strict=True)):
            raise lacking(place, "torch.nn", f"a transposed convolution with padding of its own before, {layer.ends}")
        make = self.of_axes("ConvTranspose", len(kernel), place)
        module = make(
            c, d * layer.groups, tuple(kernel), layer.stride, padding, more, layer.groups, layer.b is not None,
            layer.dilation, device="meta",
        )  # fmt: skip
        return self.filled(module, weight=_channels_first(layer.W), bias=layer.b)

    def pool(self, place: str, layer: Pooling, source: Shape) -> list[Any]:
        pool, _ = layer.joined(source)
        windows = spelled_out(pool, source[:-1])
        axes, kind = len(windows.size), layer.kind.__name__
        before, padding = self.padding(windows.padding, axes, place)
        if (before and layer.kind is MaxPool) or any(2 * n > k for n, k in zip(padding, windows.size, strict=True)):
            raise lacking(place, "torch.nn", f"a pool with the padding {windows.padding}")
        return [*before, self.of_axes(kind, axes, place)(windows.size, windows.stride, padding)]

    def norm(self, place: str, norm: Norm, source: Shape) -> Any:
        epsilon, width = epsilon_of(norm.activation), source[-1]
        if is_rms(norm.activation):
            if norm.b is not None:
                raise lacking(place, "torch.nn", "an RMS norm with a shift")
            made = self.nn.RMSNorm(width, epsilon, norm.w is not None, device="meta")
        elif norm.w is None and norm.b is not None:
            raise lacking(place, "torch.nn", "a norm with a shift and no gain")
        else:
            made = self.nn.LayerNorm(width, epsilon, norm.w is not None, norm.b is not None, device="meta")
        return self.filled(made, weight=norm.w, bias=norm.b)

    def attention(self, place: str, layer: SelfAttention) -> Any:
        heads, maps = layer.attention, (layer.q, layer.k, layer.v, layer.o)
        if heads.key_heads != heads.heads:
            raise lacking(place, "torch.nn", "grouped queries")
        widths = {n for part in maps for n in part.W.shape}
        if len(widths) > 1:
            raise lacking(place, "torch.nn", f"attention with maps of the widths {sorted(widths)}, not of one")
        has_bias = {part.b is not None for part in maps}
        if len(has_bias) > 1:
            raise lacking(place, "torch.nn", "attention with a bias of some of its four maps and not of all")
        [width], [biased] = widths, has_bias
        made = self.nn.MultiheadAttention(width, heads.heads, bias=biased, batch_first=True, device="meta")
        b = np.concatenate([np.asarray(part.b) for part in maps[:3]]) if biased else None
        self.filled(made, in_proj_weight=np.concatenate([np.asarray(part.W).T for part in maps[:3]]), in_proj_bias=b)
        self.filled(made.out_proj, weight=layer.o.W.T, bias=layer.o.b)
        return own_modules(self.torch).SelfAttention(made, heads.causal)

    def activation(self, place: str, activation: Any, axis: int) -> Any:
        nn = self.nn
        module = to_module(activation, known(nn), self.activations)
        if module is None and activation.phi == ours.softmax.phi:
            module = nn.Softmax(1 if axis != -1 else -1)  # the channels of a map come first
        if module is None and (slope := slope_of(activation)) is not None:
            module = nn.LeakyReLU(slope)
        if module is None:
            raise no_counterpart(activation, place, "to_torch", "torch.nn")
        return module


def known(nn: Any) -> tuple[Known, ...]:
    """The modules of torch that are activations."""
    return (
        Known(nn.Identity, linear),
        Known(nn.ReLU, ours.relu),
        Known(nn.Sigmoid, ours.sigmoid),
        Known(nn.Tanh, ours.tanh),
        Known(nn.Hardtanh, ours.hard_tanh, {"min_val": -1.0, "max_val": 1.0}),
        Known(nn.Softplus, ours.softplus, {"beta": 1.0, "threshold": 20.0}),
        Known(nn.SiLU, ours.silu),
        Known(nn.GELU, ours.gelu, {"approximate": "tanh"}),
        Known(nn.GELU, gelu_exact, {"approximate": "none"}),
    )


def _channels_first(W: Array) -> Array:
    return W.transpose(W.ndim - 1, W.ndim - 2, *range(W.ndim - 2))
