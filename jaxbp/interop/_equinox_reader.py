"""How modules of equinox are read."""

from collections.abc import Iterator
from functools import partial
from inspect import signature
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp import activations as ours
from jaxbp._attention import Attention
from jaxbp.activations import Elementwise, linear, with_epsilon
from jaxbp.connections import AvgPool, Conv, MaxPool
from jaxbp.interop._activations import FUNCTION_NAMES, FUNCTIONS, Activations, Known, of_function
from jaxbp.interop._axes import alike, exchanged, plain
from jaxbp.interop._equinox_own import own_modules
from jaxbp.interop._layers import (
    Affine,
    Applied,
    Convolution,
    Dropping,
    Flattening,
    Lookup,
    Norm,
    Pooling,
    SelfAttention,
    Step,
    TransposedConvolution,
)
from jaxbp.interop._reading import Layers, Reader, as_array, by_layer, of_self_attention, of_stack, of_sum, unsuited

_TAKES = f"from_equinox takes the layers that it names in its documentation, and Lambda of {FUNCTION_NAMES}"


def reader_of(nn: Any, activations: Activations, layers: Layers | None) -> Reader:
    """A reader of equinox's modules."""
    # the default is a lambda of equinox's own
    unchanged = signature(nn.MLP.__init__).parameters["final_activation"].default
    known = (*FUNCTIONS, Known(unchanged, linear))
    otherwise = partial(_function, activations, known)
    own = own_modules(nn)
    kinds = {
        nn.Sequential: lambda reader, module, place: reader.in_order(module.layers, f"{place}.layers"),
        nn.MLP: partial(_of_mlp, otherwise),
        nn.Linear: _of_linear,
        **dict.fromkeys((nn.Conv, nn.Conv1d, nn.Conv2d, nn.Conv3d), _of_convolution),
        **dict.fromkeys((nn.ConvTranspose, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), _of_transposed),
        **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), partial(_of_pool, MaxPool)),
        **dict.fromkeys((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), partial(_of_pool, AvgPool)),
        nn.LayerNorm: partial(_of_norm, ours.layer_norm),
        nn.RMSNorm: partial(_of_norm, ours.rms_norm),
        nn.Embedding: _of_embedding,
        nn.MultiheadAttention: _of_attention,
        nn.Dropout: _of_dropout,
        nn.Identity: lambda reader, module, place: iter(()),
        nn.Lambda: lambda reader, module, place: iter((otherwise(module.fn, place),)),
        own.Sum: of_sum,
        own.Stack: of_stack,
        own.Rows: lambda reader, module, place: reader.read(module.layer, f"{place}.layer"),
        own.SelfAttention: of_self_attention,
    }
    return Reader(kinds, otherwise, layers, containers=(nn.Sequential, nn.MLP), unstacked=_unstacked)


def _unstacked(reader: Reader, module: Any, depth: int, place: str) -> list[Any]:
    return by_layer(module, depth, place)


def _function(activations: Activations, known: Any, function: Any, place: str) -> Step:
    if function is jnp.ravel:
        return Step(place, Flattening())
    if isinstance(function, partial) and function.func is jax.nn.softmax and [*function.keywords] == ["axis"]:
        axis = function.keywords["axis"]
        if isinstance(axis, int) and not function.args:
            return Step(place, Applied(ours.softmax, axis))
    return Step(place, Applied(of_function(function, place, _TAKES, activations, known)))


def _of_mlp(otherwise: Any, reader: Reader, mlp: Any, place: str) -> Iterator[Step]:
    first, *hidden = mlp.layers
    if getattr(mlp, "scan", False) and hidden:
        stacked, last = hidden
        hidden = [*(jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(mlp.depth - 1)), last]
    for i, layer in enumerate([first, *hidden]):
        yield from _of_linear(reader, layer, f"{place}.layers[{i}]")
        which = "activation" if i < mlp.depth else "final_activation"
        if mlp.depth == 0:  # equinox leaves its final activation out
            return
        step = otherwise(getattr(mlp, which), f"{place}.{which}")
        if not isinstance(step.layer, Applied) or not isinstance(step.layer.activation, Elementwise):
            what = step.layer.activation if isinstance(step.layer, Applied) else "ravel"
            raise ValueError(f"{step.place} is {what}, but an MLP applies it to each element; use Sequential")
        yield step


def _of_linear(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    yield Step(place, _affine(module, place))


def _affine(module: Any, place: str) -> Affine:
    return Affine(as_array(module.weight, f"{place}.weight").T, _optional(module, "bias", place))


def _of_convolution(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    _zeros_alone(module, place)
    padding: Any = module.padding if isinstance(module.padding, str) else plain(_pairs(module.padding))
    if padding == "SAME_LOWER":
        raise unsuited(place, module, "padding='SAME_LOWER'")
    conv = Conv(tuple(module.kernel_size), alike(module.stride), padding, alike(module.dilation), module.groups)
    yield Step(place, Convolution(_channels_last(module, place), _map_bias(module, place), conv))


def _of_transposed(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    _zeros_alone(module, place)
    W, groups = exchanged(_channels_last(module, place), module.groups), module.groups
    ends = module._padding_transpose()
    yield Step(
        place,
        TransposedConvolution(
            W, _map_bias(module, place), tuple(module.stride), tuple(module.dilation), groups, _pairs(ends)
        ),
    )


def _zeros_alone(module: Any, place: str) -> None:
    if module.padding_mode != "ZEROS":
        raise unsuited(place, module, f"padding_mode={module.padding_mode!r}")


def _of_pool(kind: Any, reader: Reader, module: Any, place: str) -> Iterator[Step]:
    if module.use_ceil:
        raise unsuited(place, module, "use_ceil=True")
    size, stride = tuple(module.kernel_size), tuple(module.stride)
    pool = kind(size, None if stride == size else alike(stride), plain(_pairs(module.padding)))
    yield Step(place, Pooling(kind, pool))


def _of_norm(norm: Any, reader: Reader, module: Any, place: str) -> Iterator[Step]:
    if len(module.shape) != 1:
        raise unsuited(place, module, f"more than one axis, {module.shape}")
    w, b = _optional(module, "weight", place), _optional(module, "bias", place)
    yield Step(place, Norm(with_epsilon(norm, module.eps), w, b))


def _of_embedding(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    yield Step(place, Lookup(as_array(module.weight, f"{place}.weight")))


def _of_attention(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    if module.dropout.p > 0 and not module.dropout.inference:
        raise ValueError(
            f"{place} drops attention weights while training; make it do nothing with eqx.nn.inference_mode"
        )
    q, k, v, o = (
        _affine(getattr(module, f"{name}_proj"), f"{place}.{name}_proj") for name in ("query", "key", "value", "output")
    )
    yield Step(place, SelfAttention(q, k, v, o, Attention(module.num_heads, False, module.num_heads)))


def _of_dropout(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    if module.p > 0 and not module.inference:
        yield Step(place, Dropping(float(module.p)))


def _channels_last(module: Any, place: str) -> Array:
    W = as_array(module.weight, f"{place}.weight")
    return W.transpose(*range(2, W.ndim), 1, 0)


def _map_bias(module: Any, place: str) -> Array | None:
    b = _optional(module, "bias", place)
    return None if b is None else b.ravel()


def _optional(module: Any, name: str, place: str) -> Array | None:
    value = getattr(module, name)
    return None if value is None else as_array(value, f"{place}.{name}")


def _pairs(padding: Any) -> tuple[tuple[int, int], ...]:
    return tuple((int(low), int(high)) for low, high in padding)
