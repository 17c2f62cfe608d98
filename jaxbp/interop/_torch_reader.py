"""How modules of torch are read."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jaxtyping import Array

from jaxbp import activations as ours
from jaxbp._attention import Attention
from jaxbp.activations import with_epsilon
from jaxbp.connections import AvgPool, Conv, MaxPool
from jaxbp.interop._activations import (
    Activations,
    Known,
    gelu_exact,
    leaky_relu,
    of_function,
    of_module,
    told,
    unknown,
)
from jaxbp.interop._axes import alike, plain
from jaxbp.interop._layers import (
    Affine,
    Applied,
    Convolution,
    Dropping,
    Flattening,
    Lookup,
    Norm,
    Padded,
    Pooling,
    SelfAttention,
    Step,
    Summed,
    TransposedConvolution,
)
from jaxbp.interop._reading import Layers, Reader, as_array, imported, of_self_attention, of_sum, unsuited
from jaxbp.interop._torch_own import own_modules
from jaxbp.interop._torch_writer import known


def reader_of(torch: Any, activations: Activations, layers: Layers | None) -> Reader:
    """A reader of torch's modules."""
    return Reader(
        _kinds(torch),
        partial(_activation, torch, activations),
        layers,
        containers=(torch.nn.Sequential,),
        method="forward",
        check=_no_hooks,
        unstacked=_unstacked,
    )


def _kinds(torch: Any) -> Any:
    nn, own = torch.nn, own_modules(torch)
    return {
        nn.Sequential: lambda reader, module, place: reader.in_order(list(module), place),
        nn.Linear: _of_linear,
        **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), _of_convolution),
        **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), _of_transposed),
        **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), _of_max_pool),
        **dict.fromkeys((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), _of_mean_pool),
        **dict.fromkeys(
            (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d), partial(_of_adaptive_pool, AvgPool)
        ),
        **dict.fromkeys(
            (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d), partial(_of_adaptive_pool, MaxPool)
        ),
        **dict.fromkeys((nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d), _of_padding),
        nn.Flatten: _of_flatten,
        nn.LayerNorm: partial(_of_norm, ours.layer_norm),
        nn.RMSNorm: partial(_of_norm, ours.rms_norm),
        nn.Embedding: _of_embedding,
        nn.MultiheadAttention: _of_attention,
        nn.TransformerEncoderLayer: _of_encoder_layer,
        nn.TransformerEncoder: _of_encoder,
        **dict.fromkeys((nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d), _of_dropout),
        own.Sum: of_sum,
        own.Stack: lambda reader, module, place: iter((reader.stack(list(module.layers), f"{place}.layers"),)),
        own.SelfAttention: of_self_attention,
    }


def _unstacked(reader: Reader, module: Any, depth: int, place: str) -> list[Any]:
    raise TypeError(f"{place} is one module for {depth} layers, which torch has none of; give a Stack the list of them")


def _no_hooks(module: Any, place: str) -> None:
    if getattr(module, "_forward_hooks", None) or getattr(module, "_forward_pre_hooks", None):
        raise ValueError(f"{place} has forward hooks, which may change what it computes; remove them first")


def _of_linear(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    reader.hold(module.weight, place)
    yield Step(place, Affine(_array(module.weight, f"{place}.weight").T, _bias(module, place)))


def _of_convolution(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    _zeros_alone(module, place)
    reader.hold(module.weight, place)
    padding: Any = module.padding
    padding = padding.upper() if isinstance(padding, str) else plain(tuple((n, n) for n in padding))
    conv = Conv(module.kernel_size, alike(module.stride), padding, alike(module.dilation), module.groups)
    yield Step(place, Convolution(_channels_last(module, place), _bias(module, place), conv))


def _of_transposed(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    _zeros_alone(module, place)
    reader.hold(module.weight, place)
    reach = ((k - 1) * d for k, d in zip(module.kernel_size, module.dilation, strict=True))
    rows = zip(reach, module.padding, module.output_padding, strict=True)
    ends = tuple((r - n, r - n + more) for r, n, more in rows)
    W, b = _channels_last(module, place), _bias(module, place)
    yield Step(place, TransposedConvolution(W, b, module.stride, module.dilation, module.groups, ends))


def _zeros_alone(module: Any, place: str) -> None:
    if module.padding_mode != "zeros":
        raise unsuited(place, module, f"padding_mode={module.padding_mode!r}")


def _of_max_pool(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    options = {"ceil_mode": False, "return_indices": False}
    _usual(module, place, options)
    if any(n != 1 for n in np.atleast_1d(module.dilation)):
        raise unsuited(place, module, f"dilation={module.dilation}")
    yield Step(place, Pooling(MaxPool, _pool(MaxPool, module)))


def _of_mean_pool(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    _usual(module, place, {"ceil_mode": False, "divisor_override": None})
    if not module.count_include_pad and any(np.atleast_1d(module.padding)):
        raise unsuited(place, module, "count_include_pad=False")
    yield Step(place, Pooling(AvgPool, _pool(AvgPool, module)))


def _pool(kind: Any, module: Any) -> MaxPool | AvgPool:
    axes = int(type(module).__name__[-2])
    size, stride, padding = (
        tuple(map(int, np.broadcast_to(value, axes))) for value in (module.kernel_size, module.stride, module.padding)
    )
    return kind(size, None if stride == size else alike(stride), plain(tuple((n, n) for n in padding)))


def _of_adaptive_pool(kind: Any, reader: Reader, module: Any, place: str) -> Iterator[Step]:
    if any(n != 1 for n in np.atleast_1d(module.output_size)) or getattr(module, "return_indices", False):
        raise unsuited(place, module, "more than one element; only pools of the whole extent are known")
    yield Step(place, Pooling(kind, None))


def _of_padding(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    last_first = list(zip(module.padding[::2], module.padding[1::2], strict=True))
    yield Step(place, Padded(tuple(reversed(last_first))))


def padding_joined(steps: Sequence[Step]) -> list[Step]:
    """Zeros around a map as the padding of the convolution, or of the mean, that comes next."""
    joined: list[Step] = []
    for step in steps:
        place, layer = step.place, step.layer.within(padding_joined)
        step = Step(place, layer)
        last = joined[-1] if joined else None
        if last is not None and isinstance(last.layer, Padded):
            joined.pop()
            step = Step(place, last.layer.before(layer, last.place))
        joined.append(step)
    if joined and isinstance(joined[-1].layer, Padded):
        raise joined[-1].layer.alone(joined[-1].place)
    return joined


def _of_flatten(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    if (module.start_dim, module.end_dim) != (1, -1):
        raise unsuited(place, module, "other axes than all of an example")
    yield Step(place, Flattening())


def _of_norm(norm: Any, reader: Reader, module: Any, place: str) -> Iterator[Step]:
    if len(module.normalized_shape) != 1:
        raise unsuited(place, module, f"more than one axis, {tuple(module.normalized_shape)}")
    w, b = _optional(module, "weight", place), _optional(module, "bias", place)
    epsilon = module.eps
    if epsilon is None:
        if w is None:
            raise unsuited(place, module, "an eps that depends on the dtype of x; give it a number")
        epsilon = float(jnp.finfo(w.dtype).eps)
    if w is not None:
        reader.hold(module.weight, place)
    yield Step(place, Norm(with_epsilon(norm, epsilon), w, b))


def _of_embedding(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    _usual(module, place, {"padding_idx": None, "max_norm": None, "scale_grad_by_freq": False, "sparse": False})
    reader.hold(module.weight, place)
    yield Step(place, Lookup(_array(module.weight, f"{place}.weight")))


def _of_attention(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    _usual(module, place, {"bias_k": None, "bias_v": None, "add_zero_attn": False})
    if not module.batch_first:
        raise ValueError(
            f"{place} has batch_first=False, but networks here have the batch first; set {place}.batch_first = True, "
            "which leaves its weights as they are"
        )
    if module.dropout > 0 and module.training:
        raise ValueError(f"{place} drops attention weights in training mode; make it do nothing with {place}.eval()")
    if module.in_proj_weight is None:
        raise unsuited(place, module, "keys or values of another width")
    reader.hold(module.in_proj_weight, place)
    W = _array(module.in_proj_weight, f"{place}.in_proj_weight")
    b = _optional(module, "in_proj_bias", place)
    E = module.embed_dim
    parts = [slice(i * E, (i + 1) * E) for i in range(3)]
    q, k, v = (Affine(W[part].T, None if b is None else b[part]) for part in parts)
    out = module.out_proj
    o = Affine(_array(out.weight, f"{place}.out_proj.weight").T, _bias(out, f"{place}.out_proj"))
    yield Step(place, SelfAttention(q, k, v, o, Attention(module.num_heads, False, module.num_heads)))


def _of_encoder_layer(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    def parts(*names: str) -> tuple[Step, ...]:
        return tuple(step for name in names for step in reader.read(getattr(module, name), f"{place}.{name}"))

    attention = parts("self_attn", "dropout1")
    feed_forward = parts("linear1", "activation", "dropout", "linear2", "dropout2")
    norm1, norm2 = parts("norm1"), parts("norm2")
    if module.norm_first:
        yield Step(place, Summed(((), (*norm1, *attention))))
        yield Step(place, Summed(((), (*norm2, *feed_forward))))
    else:
        yield Step(place, Summed(((), attention)))
        yield from norm1
        yield Step(place, Summed(((), feed_forward)))
        yield from norm2


def _of_encoder(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    yield from reader.in_order(list(module.layers), f"{place}.layers")
    if module.norm is not None:
        yield from reader.read(module.norm, f"{place}.norm")


def _of_dropout(reader: Reader, module: Any, place: str) -> Iterator[Step]:
    if module.p > 0 and module.training:
        if type(module).__name__ != "Dropout":
            raise unsuited(place, module, "whole channels that are dropped")
        yield Step(place, Dropping(module.p))


def _activation(torch: Any, activations: Activations, module: Any, place: str) -> Step:
    nn = torch.nn
    if (activation := told(module, activations)) is not None:
        return Step(place, Applied(activation))
    if type(module) is nn.LeakyReLU:
        return Step(place, Applied(leaky_relu(module.negative_slope)))
    if type(module) is nn.Softmax and module.dim:  # of a batch, whose axis comes first
        return Step(place, Applied(ours.softmax, module.dim - (module.dim > 0)))
    if (activation := of_module(module, known(nn))) is not None:
        return Step(place, Applied(activation))
    if isinstance(module, nn.Module):
        raise unknown(place, module, _takes(nn))
    takes = "of torch's functions from_torch takes relu, gelu, silu, tanh and sigmoid"
    return Step(place, Applied(of_function(module, place, takes, {}, _functions(torch))))


def _functions(torch: Any) -> tuple[Known, ...]:
    """What the activation of an encoder layer may be."""
    functional = torch.nn.functional
    return (
        *(Known(f, ours.relu) for f in (functional.relu, torch.relu)),
        *(Known(f, ours.tanh) for f in (functional.tanh, torch.tanh)),
        *(Known(f, ours.sigmoid) for f in (functional.sigmoid, torch.sigmoid)),
        Known(functional.silu, ours.silu),
        Known(functional.gelu, gelu_exact),
        Known(functional.gelu, gelu_exact, {"approximate": "none"}),
        Known(functional.gelu, ours.gelu, {"approximate": "tanh"}),
    )


def _takes(nn: Any) -> str:
    rows = ((entry.theirs.__name__, entry.options) for entry in known(nn))
    names = (name + f"({', '.join(f'{k}={v}' for k, v in options.items())})" * bool(options) for name, options in rows)
    return f"from_torch takes the layers that it names in its documentation, LeakyReLU, Softmax, {', '.join(names)}"


def _usual(module: Any, place: str, options: dict[str, Any]) -> None:
    """Refuse an option that has no counterpart, but for its usual value."""
    for name, usual in options.items():
        value = getattr(module, name, usual)
        if value is not usual and (usual is None or value != usual):
            raise unsuited(place, module, f"{name}={value}")


def _channels_last(module: Any, place: str) -> Array:
    """(*kernel, channels of one side, of the other), which for a transposed convolution are exchanged."""
    W = _array(module.weight, f"{place}.weight")
    return W.transpose(*range(2, W.ndim), 1, 0)


def _bias(module: Any, place: str) -> Array | None:
    return _optional(module, "bias", place)


def _optional(module: Any, name: str, place: str) -> Array | None:
    value = getattr(module, name, None)
    return None if value is None else _array(value, f"{place}.{name}")


def _array(tensor: Any, place: str) -> Array:
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":  # numpy has no such dtype of its own: the bits are handed over
        return as_array(tensor.view(imported("torch", "from_torch").int16).numpy().view(ml_dtypes.bfloat16), place)
    return as_array(tensor.numpy(), place)
