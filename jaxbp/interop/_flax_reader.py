"""How modules of flax are read, of nnx and of linen, which have the same names for the same things."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxbp import activations as ours
from jaxbp._attention import Attention
from jaxbp._checks import check_keys
from jaxbp.activations import with_epsilon
from jaxbp.connections import AvgPool, Conv, MaxPool
from jaxbp.interop._activations import FUNCTION_NAMES, FUNCTIONS, Activations, named, of_function
from jaxbp.interop._axes import Ends, alike, exchanged, plain
from jaxbp.interop._flax_own import own_modules
from jaxbp.interop._flax_writer import flatten
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

_TAKES = (
    f"from_flax takes the layers that it names in its documentation, {FUNCTION_NAMES}, and the variables of a compact "
    "linen MLP alone, from_flax(variables, hidden=…, output=…)"
)


def reader_of(nnx: Any, linen: Any, activations: Activations, layers: Layers | None) -> Reader:
    """A reader of flax's modules."""
    own = own_modules(nnx)
    sequential = {
        kind: lambda reader, module, place: reader.in_order(list(module.layers), f"{place}.layers")
        for kind in (nnx.Sequential, linen.Sequential)
    }
    kinds = {
        **sequential,
        **dict.fromkeys((nnx.Linear, linen.Dense), _of_linear),
        **dict.fromkeys((nnx.Conv, linen.Conv), _of_convolution),
        **dict.fromkeys((nnx.ConvTranspose, linen.ConvTranspose), _of_transposed),
        **dict.fromkeys((nnx.LayerNorm, linen.LayerNorm), partial(_of_norm, ours.layer_norm)),
        **dict.fromkeys((nnx.RMSNorm, linen.RMSNorm), partial(_of_norm, ours.rms_norm)),
        **dict.fromkeys((nnx.Embed, linen.Embed), _of_embedding),
        **dict.fromkeys((nnx.MultiHeadAttention, linen.MultiHeadDotProductAttention), _of_attention),
        **dict.fromkeys((nnx.Dropout, linen.Dropout), _of_dropout),
        own.Sum: of_sum,
        own.Stack: of_stack,
        own.SelfAttention: of_self_attention,
    }
    pools = {nnx.max_pool: MaxPool, nnx.avg_pool: AvgPool}
    otherwise, unstacked = partial(_function, pools, activations), partial(_unstacked, nnx)
    return Reader(kinds, otherwise, layers, containers=tuple(sequential), unstacked=unstacked)


def _unstacked(nnx: Any, reader: Reader, module: Any, depth: int, place: str) -> list[Any]:
    if not isinstance(module, nnx.Module):
        raise TypeError(f"{place} must be a module of nnx, whose arrays have {depth} layers, got {named(type(module))}")
    reader.hold(module, place)
    form, random, arrays = nnx.split(module, nnx.RngState, ...)
    return [nnx.merge(form, random, layer) for layer in by_layer(arrays, depth, place)]


def linear_of(arrays: Mapping[str, Any], place: str) -> Affine:
    """The linear map of a kernel and perhaps a bias."""
    b = as_array(arrays["bias"], f"{place}.bias") if "bias" in arrays else None
    return Affine(as_array(arrays["kernel"], f"{place}.kernel"), b)


def _function(pools: Mapping[Any, Any], activations: Activations, function: Any, place: str) -> Step:
    if isinstance(function, partial) and function.func is flatten and not function.args:
        return Step(place, Flattening())
    if isinstance(function, partial) and function.func in pools:
        return Step(place, _pooling(pools[function.func], function, place))
    return Step(place, Applied(of_function(function, place, _TAKES, activations, FUNCTIONS)))


def _pooling(kind: Any, function: Any, place: str) -> Pooling:
    options = dict(function.keywords)
    if function.args or "window_shape" not in options:
        raise ValueError(f"{place} is {named(function)}, which needs window_shape= by its name, and no other arguments")
    size = tuple(options.pop("window_shape"))
    stride = tuple(options.pop("strides", None) or (1,) * len(size))
    padding = options.pop("padding", "VALID")
    padding = padding if isinstance(padding, str) else plain(tuple((low, high) for low, high in padding))
    counted = options.pop("count_include_pad", True)
    if options or (not counted and padding != "VALID"):
        raise ValueError(f"{place} is {named(function)}, which has no counterpart in jaxbp")
    return Pooling(kind, kind(size, None if stride == size else alike(stride), padding))


def _of_linear(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    yield Step(place, linear_of(_arrays(reader, module, place), place))


def _of_convolution(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    arrays = _arrays(reader, module, place)
    W, b = as_array(arrays["kernel"], f"{place}.kernel"), _optional(arrays, "bias", place)
    axes = W.ndim - 2
    if any(n != 1 for n in _each(module.input_dilation, axes)):
        raise unsuited(place, module, f"input_dilation={module.input_dilation}")
    stride, dilation = _each(module.strides, axes), _each(module.kernel_dilation, axes)
    padding = _padding(module, axes)
    if padding == "CAUSAL":
        padding = (((W.shape[0] - 1) * dilation[0], 0),)
    if isinstance(padding, str) and padding not in ("SAME", "VALID"):
        raise unsuited(place, module, f"padding={padding!r}")
    padding = padding if isinstance(padding, str) else plain(padding)
    conv = Conv(W.shape[:-2], alike(stride), padding, alike(dilation), module.feature_group_count)
    yield Step(place, Convolution(W, b, conv))


def _of_transposed(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    arrays = _arrays(reader, module, place)
    kernel, b = as_array(arrays["kernel"], f"{place}.kernel"), _optional(arrays, "bias", place)
    W = kernel if module.transpose_kernel else exchanged(kernel, 1)
    axes = W.ndim - 2
    stride, dilation = _each(module.strides, axes), _each(module.kernel_dilation, axes)
    padding = _padding(module, axes)
    reach = [(k - 1) * d + 1 for k, d in zip(W.shape, dilation, strict=False)]
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise unsuited(place, module, f"padding={padding!r}")
        padding = tuple(_ends(padding, k, s) for k, s in zip(reach, stride, strict=True))
    yield Step(place, TransposedConvolution(W, b, stride, dilation, 1, padding))


def _ends(padding: str, reach: int, stride: int) -> tuple[int, int]:
    """What `lax.conv_transpose` adds before and after its spread source."""
    if padding == "VALID":
        return reach - 1, max(reach, stride) - 1
    both = reach + stride - 2
    before = reach - 1 if stride > reach - 1 else -(-both // 2)
    return before, both - before


def _padding(module: Any, axes: int) -> str | Ends:
    padding = module.padding
    if isinstance(padding, str):
        return padding.upper()
    return tuple((n, n) if isinstance(n, int) else tuple(n) for n in _each(padding, axes))


def _each(value: Any, axes: int) -> Any:
    """A number, None for 1, or a sequence of such as a tuple with one for each axis."""
    if value is None or isinstance(value, int):
        return (1 if value is None else value,) * axes
    value = tuple(value)
    return value * axes if len(value) == 1 else value


def _of_norm(norm: Any, reader: Reader, module: Any, place: str) -> Iterator[Step]:
    arrays = _arrays(reader, module, place)
    usual = {"axis_name": None, "axis_index_groups": None}
    _usual(module, place, usual)
    for axes in (module.reduction_axes, module.feature_axes):
        if axes not in (-1, (-1,), [-1]):
            raise unsuited(place, module, f"axes {axes}, expected the last one alone")
    w, b = (_optional(arrays, name, place) for name in ("scale", "bias"))
    yield Step(place, Norm(with_epsilon(norm, module.epsilon), w, b))


def _of_embedding(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    yield Step(place, Lookup(as_array(_arrays(reader, module, place)["embedding"], f"{place}.embedding")))


def _of_attention(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    _usual(module, place, {"normalize_qk": False, "decode": False})
    _of_promotion(module, place, ("qkv_promote_dtype", "out_promote_dtype"))
    function = getattr(module.attention_fn, "__name__", None)
    if function != "dot_product_attention":
        raise unsuited(place, module, f"attention_fn={function}")
    if module.dropout_rate > 0 and not module.deterministic:
        raise ValueError(f"{place} drops attention weights while training; make it do nothing with deterministic=True")
    maps = ("query", "key", "value", "out")
    if hasattr(module, "variables"):
        reader.hold(module, place)
        arrays = {name: dict(module.variables.get("params", {}).get(name, {})) for name in maps}
    else:
        reader.hold(module.query.kernel, place)
        arrays = {name: _values(getattr(module, name)) for name in maps}
    for name in maps:
        check_keys(
            arrays[name],
            ["kernel", "bias"] if module.use_bias else ["kernel"],
            f"the variables of {place}.{name} hold",
            "its module has",
        )
    heads, key_heads = (arrays[name]["kernel"].shape[-2] for name in ("query", "key"))
    q, k, v = (_joined(arrays[name], f"{place}.{name}") for name in maps[:3])
    kernel = as_array(arrays["out"]["kernel"], f"{place}.out.kernel")
    o = Affine(jnp.reshape(kernel, (-1, kernel.shape[-1])), _optional(arrays["out"], "bias", f"{place}.out"))
    yield Step(place, SelfAttention(q, k, v, o, Attention(heads, False, key_heads)))


def _joined(arrays: Mapping[str, Any], place: str) -> Affine:
    """The map to all heads, one after the other."""
    W, b = as_array(arrays["kernel"], f"{place}.kernel"), _optional(arrays, "bias", place)
    return Affine(jnp.reshape(W, (W.shape[0], -1)), None if b is None else b.ravel())


def _of_dropout(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    if module.rate > 0 and not module.deterministic:
        if tuple(module.broadcast_dims):
            raise unsuited(place, module, f"broadcast_dims={module.broadcast_dims}")
        yield Step(place, Dropping(module.rate))


_WEIGHTS = {"use_bias": "bias", "use_scale": "scale"}


def _arrays(reader: Reader, module: Any, place: str) -> Mapping[str, Any]:
    """The weights of a module by name, once it is known that it computes with them in the usual way."""
    if hasattr(module, "variables"):  # a linen module, bound to its variables
        reader.hold(module, place)
        arrays = dict(module.variables.get("params", {}))
    else:
        arrays = _values(module)
        for name in arrays:
            reader.hold(getattr(module, name), place)
    first = "embedding" if hasattr(module, "num_embeddings") else None if hasattr(module, "epsilon") else "kernel"
    expected = [name for option, name in _WEIGHTS.items() if getattr(module, option, False)]
    check_keys(arrays, [*([first] if first else []), *expected], f"the variables of {place} hold", "its module has")
    _of_promotion(module, place, ("promote_dtype",))
    dtype = next(iter(arrays.values())).dtype if arrays else None
    for option in ("dtype", "preferred_element_type"):
        value = getattr(module, option, None)
        if value not in (None, dtype):
            raise _other(place, option, value)
    usual = {"dot_general": lax.dot_general, "conv_general_dilated": lax.conv_general_dilated}
    for option in ("dot_general", "dot_general_cls", "conv_general_dilated", "conv_general_dilated_cls", "mask"):
        value = getattr(module, option, None)
        if value is not None and value is not usual.get(option):
            raise _other(place, option, value)
    return arrays


def _other(place: str, option: str, value: Any) -> ValueError:
    return ValueError(f"{place} computes with {option}={named(value)}, which has no counterpart in jaxbp")


def _of_promotion(module: Any, place: str, options: tuple[str, ...]) -> None:
    for option in options:
        value = getattr(module, option, None)
        if value is not None and getattr(value, "__name__", None) != "promote_dtype":
            raise _other(place, option, value)


def _values(module: Any) -> dict[str, Any]:
    found = {name: getattr(module, name, None) for name in ("kernel", "bias", "scale", "embedding")}
    return {name: value[...] for name, value in found.items() if value is not None}


def _usual(module: Any, place: str, options: Mapping[str, Any]) -> None:
    for option, usual in options.items():
        value = getattr(module, option, usual)
        if value not in (usual, None):
            raise unsuited(place, module, f"{option}={value}")


def _optional(arrays: Mapping[str, Any], name: str, place: str) -> Any:
    return as_array(arrays[name], f"{place}.{name}") if name in arrays else None
