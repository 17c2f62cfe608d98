"""torch: an `nn.Sequential` into a network, and back."""

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
from jaxtyping import Array

from jaxbp import activations as ours
from jaxbp._network import Network
from jaxbp._parameters import Params
from jaxbp.activations import linear
from jaxbp.interop._activations import (
    Activations,
    Known,
    checked,
    gelu_exact,
    leaky_relu,
    no_counterpart,
    of_module,
    slope_of,
    to_module,
    told,
    unknown,
)
from jaxbp.interop._layers import Layer, Step, as_array, as_network, imported, in_layers, is_plain, layers_of


def from_torch(sequential: Any, *, activations: Activations | None = None) -> tuple[Network, Params]:
    """The network and the parameters of a torch MLP, with the same outputs.

    h = Φ(x W + b),  W = weightᵀ

    Torch disagrees in three places: its derivative is 0 for `Hardtanh` at ±1 and the slope for `LeakyReLU` at 0,
    where `jax.nn` has 1, and its `Softplus` is a itself above 20, which is 2e-9 less than log(1 + exp(a)).
    `jaxbp.interop` says what holds for all libraries.

    Args:
        sequential: An `nn.Sequential`, nested ones too, of `Linear` and the activations ReLU, LeakyReLU, Sigmoid,
            Tanh, Hardtanh, Softplus, GELU, SiLU, Softmax (over the last axis, or 1, the last of a batch of rows) and
            Identity, with the ranges of `jax.nn`. A `Flatten` may come first: x is then given as it leaves it. A
            `Dropout` must be in evaluation mode.
        activations: What your own modules stand for, by class.

    Example:
        >>> import jaxbp  # doctest: +SKIP
        >>> from torch import nn  # doctest: +SKIP
        >>> theirs = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))  # doctest: +SKIP
        >>> net, params = jaxbp.interop.from_torch(theirs)  # doctest: +SKIP
        >>> net.units["h1"].activation, params["h1"]["x"].shape  # doctest: +SKIP
        (tanh, (3, 4))

    Source: the chapter, the recursive equations of the feed-forward network.
    """
    activations = checked(activations)
    torch = imported("torch", "from_torch")
    nn = torch.nn
    if not is_plain(sequential, nn.Sequential, "forward") and type(sequential) is not nn.Linear:
        raise TypeError(
            f"from_torch takes an nn.Sequential, got {type(sequential).__name__}; what a hand-written forward does "
            "cannot be looked up, so write it as nn.Sequential"
        )
    return as_network(in_layers(_steps(torch, sequential, "sequential", activations), "from_torch"))


def to_torch(net: Network, params: Params, *, activations: Activations | None = None) -> Any:
    """The torch module of a layered network, with the same outputs.

    weight = Wᵀ

    It is an `nn.Sequential` on the CPU, whose weights require a gradient. The parameters must have a dtype that torch
    has.

    Example:
        >>> import jax, jaxbp  # doctest: +SKIP
        >>> net = jaxbp.layered([3, 4, 2], hidden=jaxbp.tanh, output=jaxbp.linear)  # doctest: +SKIP
        >>> jaxbp.interop.to_torch(net, jaxbp.init_params(jax.random.key(0), net))  # doctest: +SKIP
        Sequential(
          (0): Linear(in_features=3, out_features=4, bias=True)
          (1): Tanh()
          (2): Linear(in_features=4, out_features=2, bias=True)
        )
    """
    activations = checked(activations)
    torch = imported("torch", "to_torch")
    nn = torch.nn
    steps: list[Any] = []
    for u, layer in zip(net.order, layers_of(net, params, "to_torch"), strict=True):
        steps.append(_linear(torch, layer))
        if layer.activation.phi == linear.phi:
            continue
        module = to_module(layer.activation, _known(nn), activations)
        if module is None and (slope := slope_of(layer.activation)) is not None:
            module = nn.LeakyReLU(slope)
        if module is None:
            raise no_counterpart(layer.activation, u, "to_torch", "torch.nn")
        steps.append(module)
    return nn.Sequential(*steps)


def _known(nn: Any) -> tuple[Known, ...]:
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
        Known(nn.Softmax, ours.softmax, {"dim": -1}),
        Known(nn.Softmax, ours.softmax, {"dim": 1}),
    )


def _steps(torch: Any, module: Any, place: str, activations: Activations, first: bool = True) -> Iterator[Step]:
    nn = torch.nn
    if module._forward_hooks or module._forward_pre_hooks:
        raise ValueError(f"{place} has forward hooks, which may change what it computes; remove them first")
    if is_plain(module, nn.Sequential, "forward"):
        for i, layer in enumerate(module):
            yield from _steps(torch, layer, f"{place}[{i}]", activations, first and i == 0)
    elif type(module) is nn.Linear:
        b = None if module.bias is None else _array(torch, module.bias, f"{place}.bias")
        yield Step(place, Layer(_array(torch, module.weight, f"{place}.weight").T, b), module.weight)
    elif type(module) is nn.Dropout:
        if module.p > 0 and module.training:
            raise ValueError(f"{place} is a Dropout in training mode; make it do nothing with sequential.eval()")
    elif not (first and type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1)):
        yield Step(place, _activation(nn, module, place, activations))


def _activation(nn: Any, module: Any, place: str, activations: Activations) -> ours.Activation:
    if (activation := told(module, activations)) is not None:
        return activation
    if type(module) is nn.LeakyReLU:
        return leaky_relu(module.negative_slope)
    if (activation := of_module(module, _known(nn))) is not None:
        return activation
    raise unknown(place, module, _takes(nn))


def _takes(nn: Any) -> str:
    rows = ((entry.theirs.__name__, entry.options) for entry in _known(nn))
    names = (name + f"({', '.join(f'{k}={v}' for k, v in options.items())})" * bool(options) for name, options in rows)
    return f"from_torch takes Sequential, Linear, LeakyReLU, {', '.join(names)}, and a Flatten that comes first"


def _array(torch: Any, tensor: Any, place: str) -> Array:
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:  # numpy has no such dtype of its own: the bits are handed over
        return as_array(tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16), place)
    return as_array(tensor.numpy(), place)


def _tensor(torch: Any, array: Any) -> Any:
    values = np.array(array, order="C")
    if values.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(values)


def _linear(torch: Any, layer: Layer) -> Any:
    nn = torch.nn
    m, n = layer.W.shape
    module = nn.Linear(m, n, bias=layer.b is not None, device="meta")  # nothing is drawn from torch's generator
    module.weight = nn.Parameter(_tensor(torch, layer.W.T))
    if layer.b is not None:
        module.bias = nn.Parameter(_tensor(torch, layer.b))
    return module
