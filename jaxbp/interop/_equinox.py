"""equinox: an `MLP` or a `Sequential` into a network, and back."""

from collections.abc import Iterator, Sequence
from inspect import signature
from typing import Any

import jax

from jaxbp._network import Network
from jaxbp._parameters import Params
from jaxbp.activations import Elementwise, linear
from jaxbp.interop._activations import FUNCTION_NAMES, FUNCTIONS, Activations, Known, checked, of_function, to_function
from jaxbp.interop._layers import Layer, Step, as_array, as_network, imported, in_layers, is_plain, layers_of


def from_equinox(mlp: Any, *, activations: Activations | None = None) -> tuple[Network, Params]:
    """The network and the parameters of an equinox MLP, with the same outputs.

    h = Φ(x W + b),  W = weightᵀ

    The network takes batches, where the equinox module takes one example. `jaxbp.interop` says what holds for all
    libraries.

    Args:
        mlp: An `eqx.nn.MLP`, an `eqx.nn.Linear`, or an `eqx.nn.Sequential` of them, `Lambda` and `Identity`. A size
            `"scalar"` becomes a width of one. A `Dropout` must be in inference mode.
        activations: What your own functions and modules stand for.

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
    # the default is a lambda of equinox's own
    unchanged = signature(nn.MLP.__init__).parameters["final_activation"].default
    known = (*FUNCTIONS, Known(unchanged, linear))
    return as_network(in_layers(_steps(nn, mlp, "mlp", activations, known), "from_equinox"))


def to_equinox(net: Network, params: Params, *, activations: Activations | None = None) -> Any:
    """The equinox module of a layered network, with the same outputs.

    weight = Wᵀ

    Returns:
        An `eqx.nn.MLP` where it fits: the hidden units have one width, one element-wise activation and all of them
        or none a bias, and the output is element-wise (linear if there is no hidden unit). Otherwise it is an
        `eqx.nn.Sequential`. It takes one example; `jax.vmap` makes it take a batch.

    Example:
        >>> import jax, jaxbp
        >>> net = jaxbp.layered([3, 4, 4, 2], hidden=jaxbp.tanh, output=jaxbp.linear)
        >>> mlp = jaxbp.interop.to_equinox(net, jaxbp.init_params(jax.random.key(0), net))
        >>> type(mlp).__name__, mlp.depth, mlp.layers[0].weight.shape
        ('MLP', 2, (4, 3))
    """
    activations = checked(activations)
    eqx = imported("equinox", "to_equinox")
    layers = layers_of(net, params, "to_equinox")
    functions = [
        to_function(layer.activation, u, "to_equinox", activations) for u, layer in zip(net.order, layers, strict=True)
    ]
    linears = tuple(_linear(eqx, layer, u) for u, layer in zip(net.order, layers, strict=True))
    if _fits_mlp(layers):
        return eqx.tree_at(lambda mlp: mlp.layers, _empty_mlp(eqx, layers, functions), linears)
    steps: list[Any] = []
    for layer, module, function in zip(layers, linears, functions, strict=True):
        steps += [module] if layer.activation.phi == linear.phi else [module, eqx.nn.Lambda(function)]
    return eqx.nn.Sequential(steps)


def _steps(nn: Any, module: Any, place: str, activations: Activations, known: Sequence[Known]) -> Iterator[Step]:
    if is_plain(module, nn.Sequential):
        for i, layer in enumerate(module.layers):
            yield from _steps(nn, layer, f"{place}.layers[{i}]", activations, known)
    elif is_plain(module, nn.MLP):
        yield from _mlp_steps(module, place, activations, known)
    elif type(module) is nn.Linear:
        yield _linear_step(module, place)
    elif type(module) is nn.Dropout:
        if module.p > 0 and not module.inference:
            raise ValueError(f"{place} is a Dropout that is active; make it do nothing with eqx.nn.inference_mode")
    elif type(module) is not nn.Identity:
        function = module.fn if type(module) is nn.Lambda else module
        yield Step(place, of_function(function, place, _TAKES, activations, known))


_TAKES = f"from_equinox takes MLP, Sequential, Linear, Identity, and Lambda of {FUNCTION_NAMES}"


def _mlp_steps(mlp: Any, place: str, activations: Activations, known: Sequence[Known]) -> Iterator[Step]:
    first, *hidden = mlp.layers
    if getattr(mlp, "scan", False) and hidden:
        stacked, last = hidden
        hidden = [*(jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(mlp.depth - 1)), last]
    for i, layer in enumerate([first, *hidden]):
        yield _linear_step(layer, f"{place}.layers[{i}]")
        which = "activation" if i < mlp.depth else "final_activation"
        if mlp.depth == 0:  # equinox leaves its final activation out
            return
        activation = of_function(getattr(mlp, which), f"{place}.{which}", _TAKES, activations, known)
        if not isinstance(activation, Elementwise):
            raise ValueError(f"{place}.{which} is {activation}, but an MLP applies it to each element; use Sequential")
        yield Step(f"{place}.{which}", activation)


def _linear_step(module: Any, place: str) -> Step:
    b = None if module.bias is None else as_array(module.bias, f"{place}.bias")
    return Step(place, Layer(as_array(module.weight, f"{place}.weight").T, b))


def _linear(eqx: Any, layer: Layer, u: str) -> Any:
    m, n = layer.W.shape
    has_bias = layer.b is not None
    empty = eqx.filter_eval_shape(lambda: eqx.nn.Linear(m, n, use_bias=has_bias, key=jax.random.key(0)))
    module = eqx.tree_at(lambda linear: linear.weight, empty, as_array(layer.W, f"the weights of unit {u!r}").T)
    if not has_bias:
        return module
    return eqx.tree_at(lambda linear: linear.bias, module, as_array(layer.b, f"the bias of unit {u!r}"))


def _fits_mlp(layers: Sequence[Layer]) -> bool:
    *hidden, output = layers
    if not hidden:
        return output.activation.phi == linear.phi
    alike = {(layer.W.shape[1], layer.b is None, layer.activation.phi) for layer in hidden}
    return len(alike) == 1 and all(isinstance(layer.activation, Elementwise) for layer in layers)


def _empty_mlp(eqx: Any, layers: Sequence[Layer], functions: Sequence[Any]) -> Any:
    first, output = layers[0], layers[-1]
    options = {"activation": functions[0]} if len(layers) > 1 else {}
    if output.activation != linear:
        options["final_activation"] = functions[-1]
    return eqx.filter_eval_shape(
        lambda: eqx.nn.MLP(
            first.W.shape[0],
            output.W.shape[1],
            first.W.shape[1],
            len(layers) - 1,
            use_bias=first.b is not None,
            use_final_bias=output.b is not None,
            key=jax.random.key(0),
            **options,
        )
    )
