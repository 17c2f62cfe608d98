"""flax: modules of nnx or linen, or the variables of a compact MLP, into a network; and back into nnx."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxbp._checks import check_keys, quoted
from jaxbp._ids import Ids
from jaxbp._network import Network
from jaxbp._parameters import Params
from jaxbp.activations import Activation
from jaxbp.connections import Shape
from jaxbp.interop._activations import Activations, checked
from jaxbp.interop._assembled import as_network, input_of
from jaxbp.interop._flax_reader import linear_of, reader_of
from jaxbp.interop._flax_writer import FlaxWriter
from jaxbp.interop._layers import Applied, Step
from jaxbp.interop._reading import Layers, imported
from jaxbp.interop._taken_apart import steps_of
from jaxbp.interop._writing import written


def from_flax(
    module: Any,
    variables: Any = None,
    *,
    shape: int | Shape | Ids | None = None,
    hidden: Activation | Sequence[Activation] = (),
    output: Activation | None = None,
    activations: Activations | None = None,
    layers: Layers | None = None,
) -> tuple[Network, Params]:
    """The network and the parameters of a flax module, with the same outputs.

    h = Φ(x W + b),  W = kernel

    What a hand-written `__call__` does cannot be looked up; say what such a module is made of. For a compact linen
    MLP, give the variables instead of the module, with the activations: that its layers `Dense_0`, `Dense_1`, …
    follow each other is then taken on trust. `jaxbp.interop` says what holds for all libraries.

    In any precision flax itself has the weights of attention in float32, where nothing drops them.

    Args:
        module: An `nnx.Sequential` or `linen.Sequential`, nested ones too, or a single module: `Linear` (linen's
            `Dense`), `Conv`, `ConvTranspose`, `LayerNorm`, `RMSNorm`, `Embed`, `MultiHeadAttention` (of a sequence to
            itself), `Dropout`; `functools.partial` of `max_pool` and `avg_pool`, and functions of `jax.nn`. Or the
            variables of a compact linen MLP. The mean of a pool must count its padding.
        variables: The variables of a linen module, as from `module.init`.
        shape: The shape of one example of x, which a convolution, a pool, attention and an embedding need.
        hidden: For variables alone: the activation of the hidden layers, or one for each.
        output: For variables alone: the activation of the output.
        activations: What your own functions and modules stand for.
        layers: What your own functions and modules are made of, such as `{flatten: lambda _: [jaxbp.Flatten()]}`.

    Example:
        >>> import jaxbp
        >>> from flax import nnx
        >>> rngs = nnx.Rngs(0)
        >>> mlp = nnx.Sequential(nnx.Linear(3, 4, rngs=rngs), nnx.relu, nnx.Linear(4, 2, rngs=rngs))
        >>> net, params = jaxbp.interop.from_flax(mlp)
        >>> net.units["h1"].activation, params["h1"]["x"].shape
        (relu, (3, 4))

        The variables of a compact MLP:

        >>> import numpy as np
        >>> variables = {"params": {"Dense_0": {"kernel": np.ones((3, 4), np.float32)},
        ...                         "Dense_1": {"kernel": np.ones((4, 2), np.float32)}}}
        >>> net, params = jaxbp.interop.from_flax(variables, hidden=jaxbp.relu, output=jaxbp.softmax)
        >>> net.units["o"].activation
        softmax

    Source: the chapter, the recursive equations of the feed-forward network.
    """
    activations = checked(activations)
    if isinstance(module, Mapping):
        if variables is not None:
            raise TypeError("from_flax takes variables alone, or a linen module and its variables; got variables twice")
        steps = _compact_steps(module, hidden, output)
    else:
        if output is not None or hidden != ():
            raise TypeError("hidden= and output= are for variables alone: a Sequential says itself what it applies")
        nnx, linen = imported("flax.nnx", "from_flax"), imported("flax.linen", "from_flax")
        if isinstance(module, linen.Module):
            if not isinstance(variables, Mapping):
                raise TypeError(
                    "a linen module holds no weights: pass its variables, as from module.init(key, x); "
                    f"got {variables!r}"
                )
            module = module.bind(variables if "params" in variables else {"params": variables})
        elif variables is not None:
            raise TypeError(
                f"an nnx module holds its own weights, but variables were given with {type(module).__name__}"
            )
        steps = [*reader_of(nnx, linen, activations, layers).read(module, "module")]
    steps, x = input_of(steps, shape, "from_flax")
    return as_network(steps, x, "from_flax")


def to_flax(net: Network, params: Params, *, activations: Activations | None = None) -> Any:
    """The flax module of a network, with the same outputs.

    kernel = W

    It is an `nnx.Sequential`, because a module of nnx holds its weights, and those of a linen one would have to be
    returned beside it. Sums of branches, stacks (run by `nnx.scan`) and causal attention are modules `Sum`, `Stack` and
    `SelfAttention` in it, and flattening is a partial of `flatten`, which flax has none of; `from_flax` knows them.

    Example:
        >>> import jax, jaxbp
        >>> net = jaxbp.layered([3, 4, 2], hidden=jaxbp.tanh, output=jaxbp.linear)
        >>> mlp = jaxbp.interop.to_flax(net, jaxbp.init_params(jax.random.key(0), net))
        >>> mlp.layers[0].kernel.shape, mlp(jax.numpy.ones((5, 3))).shape
        ((3, 4), (5, 2))
    """
    activations = checked(activations)
    nnx = imported("flax.nnx", "to_flax")
    steps = steps_of(net, params, "to_flax")
    [shape] = (net.shapes[x] for x in net.inputs)
    writer = FlaxWriter(nnx, activations)
    return nnx.Sequential(*written(steps, shape, writer))


def _compact_steps(
    variables: Mapping[str, Any], hidden: Activation | Sequence[Activation], output: Activation | None
) -> list[Step]:
    params = variables.get("params", variables)
    if "params" in variables and len(variables) > 1:
        raise ValueError(f"the variables hold the collections {quoted(variables)}, but an MLP has 'params' alone")
    if not params:
        raise ValueError("the variables hold no layer")
    names = [f"Dense_{i}" for i in range(len(params))]  # in the order of their numbers, not of the alphabet
    check_keys(params, names, "the variables hold the layers", "those of a compact MLP are")
    depth = len(names) - 1
    chosen = [hidden] * depth if isinstance(hidden, Activation) else list(hidden)
    if len(chosen) != depth or output is None:
        raise ValueError(
            f"variables do not say what is applied: pass hidden=, one activation or {depth}, and output=; "
            f"got hidden={hidden!r}, output={output!r}"
        )
    for name in names:
        expected = ["kernel", "bias"] if "bias" in params[name] else ["kernel"]
        check_keys(params[name], expected, f"{name} holds", "a Dense has")
    steps: list[Step] = []
    for u, activation in zip(names, [*chosen, output], strict=True):
        steps += [Step(u, linear_of(params[u], u)), Step(u, Applied(activation))]
    return steps
