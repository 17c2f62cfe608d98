"""equinox: modules into a network, and back."""

from typing import Any

from jaxbp._ids import Ids
from jaxbp._network import Network
from jaxbp._parameters import Params
from jaxbp.connections import Shape
from jaxbp.interop._activations import Activations, checked
from jaxbp.interop._assembled import as_network, input_of
from jaxbp.interop._equinox_reader import reader_of
from jaxbp.interop._equinox_writer import EquinoxWriter, as_mlp
from jaxbp.interop._order import reordered
from jaxbp.interop._reading import Layers, imported
from jaxbp.interop._taken_apart import steps_of
from jaxbp.interop._writing import written


def from_equinox(
    module: Any,
    *,
    shape: int | Shape | Ids | None = None,
    activations: Activations | None = None,
    layers: Layers | None = None,
) -> tuple[Network, Params]:
    """The network and the parameters of an equinox module, with the same outputs.

    h = Φ(x W + b),  W = weightᵀ

    The network takes batches, where the equinox module takes one example, and has channels last, as all networks here:
    x is `(*batch, height, width, channels)` where equinox has `(channels, height, width)`, and so is an output that is
    a map. What reads a flattened map has its weights in our order. Linear layers, norms and embeddings act on each row
    of a sequence, as with `jax.vmap`. `jaxbp.interop` says what holds for all libraries.

    Args:
        module: An `eqx.nn.MLP` or `eqx.nn.Sequential`, nested ones too, or a single module: `Linear`, `Conv1d` to
            `Conv3d`, `ConvTranspose1d` to `ConvTranspose3d`, `MaxPool1d` to `3d`, `AvgPool1d` to `3d`, `LayerNorm`,
            `RMSNorm`, `Embedding`, `MultiheadAttention` (of a sequence to itself), `Dropout`, `Identity`, and `Lambda`
            of `jnp.ravel` and functions of `jax.nn`. A size `"scalar"` becomes a width of one.
        shape: The shape of one example of x, channels last, which a convolution, a pool, attention and an embedding
            need.
        activations: What your own functions and modules stand for.
        layers: What your own modules are made of, by class.

    Example:
        >>> import equinox as eqx, jax, jaxbp
        >>> mlp = eqx.nn.MLP(3, 2, width_size=4, depth=1, activation=jax.nn.tanh, key=jax.random.key(0))
        >>> net, params = jaxbp.interop.from_equinox(mlp)
        >>> net.units["h1"].activation, params["h1"]["x"].shape
        (tanh, (3, 4))

    Source: the chapter, the recursive equations of the feed-forward network.
    """
    activations = checked(activations)
    nn = imported("equinox", "from_equinox").nn
    steps = [*reader_of(nn, activations, layers).read(module, "module")]
    steps, x = input_of(steps, shape, "from_equinox")
    steps = reordered(steps, x.shape if isinstance(x, Ids) else x, theirs=False)
    return as_network(steps, x, "from_equinox")


def to_equinox(net: Network, params: Params, *, activations: Activations | None = None) -> Any:
    """The equinox module of a network, with the same outputs.

    weight = Wᵀ

    Returns:
        An `eqx.nn.MLP` where it fits: the hidden units have one width, one element-wise activation and all of them
        or none a bias, and the output is element-wise (linear if there is no hidden unit). Otherwise it is an
        `eqx.nn.Sequential`, whose maps have channels first, as equinox has them. Sums of branches, stacks (run by
        `jax.lax.scan`), attention of a sequence to itself and layers for each row are modules `Sum`, `Stack`,
        `SelfAttention` and `Rows` in it, which equinox has none of; `from_equinox` knows them. It takes one
        example; `jax.vmap` makes it take a batch.

    Example:
        >>> import jax, jaxbp
        >>> net = jaxbp.layered([3, 4, 4, 2], hidden=jaxbp.tanh, output=jaxbp.linear)
        >>> mlp = jaxbp.interop.to_equinox(net, jaxbp.init_params(jax.random.key(0), net))
        >>> type(mlp).__name__, mlp.depth, mlp.layers[0].weight.shape
        ('MLP', 2, (4, 3))
    """
    activations = checked(activations)
    eqx = imported("equinox", "to_equinox")
    steps = steps_of(net, params, "to_equinox")
    [shape] = (net.shapes[x] for x in net.inputs)
    steps = reordered(steps, shape, theirs=True)
    writer = EquinoxWriter(eqx, activations)
    mlp = as_mlp(writer, steps, shape)
    return eqx.nn.Sequential(written(steps, shape, writer)) if mlp is None else mlp
