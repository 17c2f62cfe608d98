"""flax: an nnx or linen `Sequential`, or the variables of a compact MLP, into a network; and back into nnx."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jax import lax
from jaxtyping import Array

from jaxbp._checks import check_keys, quoted
from jaxbp._network import Network
from jaxbp._parameters import Params
from jaxbp.activations import Activation, linear
from jaxbp.interop._activations import FUNCTION_NAMES, FUNCTIONS, Activations, checked, named, of_function, to_function
from jaxbp.interop._layers import Layer, Step, as_array, as_network, imported, in_layers, is_plain, layers_of


def from_flax(
    module: Any,
    variables: Any = None,
    *,
    hidden: Activation | Sequence[Activation] = (),
    output: Activation | None = None,
    activations: Activations | None = None,
) -> tuple[Network, Params]:
    """The network and the parameters of a flax MLP, with the same outputs.

    h = Φ(x W + b),  W = kernel

    What a hand-written `__call__` does cannot be looked up. For a compact linen MLP, give the variables instead of the
    module, with the activations: that its layers `Dense_0`, `Dense_1`, … follow each other is then taken on trust.
    `jaxbp.interop` says what holds for all libraries.

    Args:
        module: An `nnx.Sequential` of `nnx.Linear` and functions, a `linen.Sequential` of `linen.Dense` and
            functions, or the variables of a compact linen MLP. A `Dropout` must be deterministic.
        variables: The variables of a linen module, as from `module.init`.
        hidden: For variables alone: the activation of the hidden layers, or one for each.
        output: For variables alone: the activation of the output.
        activations: What your own functions and modules stand for.

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
        return as_network(_compact_layers(module, hidden, output))
    if output is not None or hidden != ():
        raise TypeError("hidden= and output= are for variables alone: a Sequential says itself what it applies")
    nnx, linen = imported("flax.nnx", "from_flax"), imported("flax.linen", "from_flax")
    if isinstance(module, linen.Module):
        _check_known_form(module, (linen.Sequential, linen.Dense))
        if not isinstance(variables, Mapping):
            raise TypeError(
                f"a linen module holds no weights: pass its variables, as from module.init(key, x); got {variables!r}"
            )
        module = module.bind(variables if "params" in variables else {"params": variables})
    elif variables is not None:
        raise TypeError(f"an nnx module holds its own weights, but variables were given with {type(module).__name__}")
    else:
        _check_known_form(module, (nnx.Sequential, nnx.Linear))
    return as_network(in_layers(_steps(nnx, linen, module, "module", activations), "from_flax"))


def to_flax(net: Network, params: Params, *, activations: Activations | None = None) -> Any:
    """The flax module of a layered network, with the same outputs.

    kernel = W

    It is an `nnx.Sequential` of `nnx.Linear` and functions, because a module of nnx holds its weights, and those of a
    linen one would have to be returned beside it.

    Example:
        >>> import jax, jaxbp
        >>> net = jaxbp.layered([3, 4, 2], hidden=jaxbp.tanh, output=jaxbp.linear)
        >>> mlp = jaxbp.interop.to_flax(net, jaxbp.init_params(jax.random.key(0), net))
        >>> mlp.layers[0].kernel.shape, mlp(jax.numpy.ones((5, 3))).shape
        ((3, 4), (5, 2))
    """
    activations = checked(activations)
    nnx = imported("flax.nnx", "to_flax")
    layers = layers_of(net, params, "to_flax")
    rngs = nnx.Rngs(0)  # nnx asks for them, though nothing is drawn
    steps: list[Any] = []
    for u, layer in zip(net.order, layers, strict=True):
        steps.append(_linear(nnx, layer, u, rngs))
        if layer.activation != linear:
            steps.append(to_function(layer.activation, u, "to_flax", activations))
    return nnx.Sequential(*steps)


_TAKES = f"from_flax takes Sequential, nnx.Linear or linen.Dense, and {FUNCTION_NAMES}"


def _check_known_form(module: Any, kinds: tuple[Any, ...]) -> None:
    if not any(is_plain(module, kind) for kind in kinds):
        raise TypeError(
            f"{type(module).__name__} is no Sequential, and what a hand-written module does cannot be looked up; write "
            "it as nnx.Sequential or linen.Sequential, or pass the variables of a compact linen module alone, with "
            "the activations: from_flax(variables, hidden=…, output=…)"
        )


def _steps(nnx: Any, linen: Any, module: Any, place: str, activations: Activations) -> Iterator[Step]:
    if is_plain(module, nnx.Sequential) or is_plain(module, linen.Sequential):
        for i, layer in enumerate(module.layers):
            yield from _steps(nnx, linen, layer, f"{place}.layers[{i}]", activations)
    elif type(module) is nnx.Linear:
        arrays = {"kernel": module.kernel[...]} | ({"bias": module.bias[...]} if module.use_bias else {})
        yield Step(place, _layer(module, arrays, place), module.kernel)
    elif type(module) is linen.Dense:
        yield Step(place, _layer(module, module.variables.get("params", {}), place), module)
    elif type(module) in (nnx.Dropout, linen.Dropout):
        if module.rate > 0 and not module.deterministic:
            raise ValueError(f"{place} is a Dropout that is active; make it do nothing with deterministic=True")
    else:
        yield Step(place, of_function(module, place, _TAKES, activations, FUNCTIONS))


def _layer(module: Any, arrays: Mapping[str, Any], place: str) -> Layer:
    expected = ["kernel", "bias"] if module.use_bias else ["kernel"]
    check_keys(arrays, expected, f"the variables of {place} hold", "its module has")
    layer = _layer_of(arrays, place)
    W: Array = layer.W
    usual = {
        "dtype": (None, W.dtype),
        "preferred_element_type": (None, W.dtype),
        "dot_general": (None, lax.dot_general),
        "dot_general_cls": (None,),
    }
    for option, values in usual.items():
        value = getattr(module, option, None)
        if value not in values:
            raise ValueError(f"{place} computes with {option}={named(value)}, which has no counterpart in jaxbp")
    return layer


def _layer_of(arrays: Mapping[str, Any], place: str, activation: Activation = linear) -> Layer:
    b = as_array(arrays["bias"], f"{place}.bias") if "bias" in arrays else None
    return Layer(as_array(arrays["kernel"], f"{place}.kernel"), b, activation)


def _compact_layers(
    variables: Mapping[str, Any], hidden: Activation | Sequence[Activation], output: Activation | None
) -> list[Layer]:
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
    return [_layer_of(params[u], u, activation) for u, activation in zip(names, [*chosen, output], strict=True)]


def _linear(nnx: Any, layer: Layer, u: str, rngs: Any) -> Any:
    W = as_array(layer.W, f"the weights of unit {u!r}")
    b = None if layer.b is None else as_array(layer.b, f"the bias of unit {u!r}")
    return nnx.Linear(
        *W.shape,
        use_bias=b is not None,
        param_dtype=W.dtype,
        kernel_init=lambda *_: W,
        bias_init=lambda *_: b,
        rngs=rngs,
    )
