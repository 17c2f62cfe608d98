"""torch: modules into a network, and back."""

from typing import Any

from jaxbp._ids import Ids
from jaxbp._network import Network
from jaxbp._parameters import Params
from jaxbp.connections import Shape
from jaxbp.interop._activations import Activations, checked
from jaxbp.interop._assembled import as_network, input_of
from jaxbp.interop._order import reordered
from jaxbp.interop._reading import Layers, imported
from jaxbp.interop._taken_apart import steps_of
from jaxbp.interop._torch_reader import padding_joined, reader_of
from jaxbp.interop._torch_writer import TorchWriter
from jaxbp.interop._writing import written


def from_torch(
    module: Any,
    *,
    shape: int | Shape | Ids | None = None,
    activations: Activations | None = None,
    layers: Layers | None = None,
) -> tuple[Network, Params]:
    """The network and the parameters of a torch module, with the same outputs.

    h = Φ(x W + b),  W = weightᵀ

    The network has channels last, as all networks here: x is `(*batch, height, width, channels)` where torch has
    `(batch, channels, height, width)`, and so is an output that is a map. What reads a flattened map has its weights
    in our order. Torch disagrees in three places: its derivative is 0 for `Hardtanh` at ±1 and the slope for
    `LeakyReLU` at 0, where `jax.nn` has 1, and its `Softplus` is a itself above 20, which is 2e-9 less than
    log(1 + exp(a)). `jaxbp.interop` says what holds for all libraries.

    Args:
        module: An `nn.Sequential`, nested ones too, or a single module: `Linear`, `Conv1d` to `Conv3d`,
            `ConvTranspose1d` to `ConvTranspose3d`, `MaxPool1d` to `3d`, `AvgPool1d` to `3d`, adaptive pools to one
            element, `Flatten`, `LayerNorm`, `RMSNorm`, `Embedding`, `MultiheadAttention` (of a sequence to itself),
            `TransformerEncoderLayer`, `TransformerEncoder`, `Dropout`, `ZeroPad1d` to `3d` before a convolution, and
            the activations ReLU, LeakyReLU, Sigmoid, Tanh, Hardtanh, Softplus, GELU, SiLU, Softmax (over channels)
            and Identity, with the ranges of `jax.nn`. Attention must have `batch_first=True`.
        shape: The shape of one example of x, channels last, which a convolution, a pool, attention and an embedding
            need. Where it is not given and a `Flatten` comes first, x is given as it leaves it.
        activations: What your own modules stand for, by class.
        layers: What your own modules are made of, by class.

    Example:
        >>> import jaxbp  # doctest: +SKIP
        >>> from torch import nn  # doctest: +SKIP
        >>> theirs = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))  # doctest: +SKIP
        >>> net, params = jaxbp.interop.from_torch(theirs, shape=(8, 8, 1))  # doctest: +SKIP
        >>> print(net)  # doctest: +SKIP
        Network of x 8×8×1: 3 units, 330 parameters
          h1: 6×6×4 relu of x (Conv), bias
          h2: 144 linear of h1 (Flatten)
          o: 2 linear of h2 (Dense), bias

    Source: the chapter, the recursive equations of the feed-forward network.
    """
    activations = checked(activations)
    torch = imported("torch", "from_torch")
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, such as an nn.Sequential, got {type(module).__name__}")
    steps = padding_joined([*reader_of(torch, activations, layers).read(module, "module")])
    steps, x = input_of(steps, shape, "from_torch")
    steps = reordered(steps, x.shape if isinstance(x, Ids) else x, theirs=False)
    return as_network(steps, x, "from_torch")


def to_torch(net: Network, params: Params, *, activations: Activations | None = None) -> Any:
    """The torch module of a network, with the same outputs.

    weight = Wᵀ

    It is an `nn.Sequential` on the CPU, whose weights require a gradient, and whose maps have channels first, as torch
    has them. Sums of branches, stacks (an `nn.ModuleList` run in a loop) and attention of a sequence to itself are
    modules `Sum`, `Stack` and `SelfAttention` in it, which torch has none of; `from_torch` knows them. The
    parameters must have a dtype that torch has.

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
    steps = steps_of(net, params, "to_torch")
    [shape] = (net.shapes[x] for x in net.inputs)
    steps = reordered(steps, shape, theirs=True)
    writer = TorchWriter(torch, activations)
    return torch.nn.Sequential(*written(steps, shape, writer))
