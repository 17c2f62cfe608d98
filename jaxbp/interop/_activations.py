"""Which function or module of another library stands for which activation."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp import activations as ours
from jaxbp._checks import check_mapping
from jaxbp.activations import Activation, check_activation, elementwise

Activations = Mapping[Any, Activation]
"""What a user says of activations that are not known: a function or module class of theirs, and our activation."""


class Known(NamedTuple):
    """A function or module class of another library, with the options that make it our activation."""

    theirs: Any
    activation: Activation
    options: Mapping[str, Any] = {}


# Activations that others have and jaxbp has no name for. They hash by value, so that two conversions of one network
# give equal specifications; at kinks the derivatives are again those that jax.grad gives for the jax.nn function.


@dataclass(frozen=True)
class _LeakyRelu:
    slope: float

    def __call__(self, a: Array) -> Array:
        return jax.nn.leaky_relu(a, self.slope)


@dataclass(frozen=True)
class _LeakyReluDerivative:
    slope: float

    def __call__(self, a: Array, h: Array) -> Array:
        return jnp.where(a >= 0, 1.0, self.slope).astype(a.dtype)


def leaky_relu(slope: float) -> Activation:
    """The leaky rectifier of any slope; ours where the slope is the usual one."""
    slope = float(slope)  # 2 and 2.0 are to have one name
    if slope == 0.01:
        return ours.leaky_relu
    return elementwise(
        _LeakyRelu(slope), _LeakyReluDerivative(slope), name=f"leaky_relu({slope})", initializer="he_normal"
    )


def slope_of(activation: Activation) -> float | None:
    """The slope of a leaky rectifier, None for any other activation."""
    slope = activation.value.slope if isinstance(activation.value, _LeakyRelu) else 0.01
    return slope if activation.phi == leaky_relu(slope).phi else None


def _gelu_exact(a: Array) -> Array:
    return jax.nn.gelu(a, approximate=False)


def _gelu_exact_derivative(a: Array, h: Array) -> Array:
    # h = a C(a) with the distribution function C of the normal distribution, whose density is C'
    return 0.5 * jax.lax.erfc(-a * math.sqrt(0.5)) + a * jnp.exp(-(a**2) / 2) / math.sqrt(2 * math.pi)


gelu_exact = elementwise(_gelu_exact, _gelu_exact_derivative, name="gelu_exact", initializer="he_normal")

FUNCTIONS = (
    Known(jax.nn.identity, ours.linear),
    Known(jax.nn.relu, ours.relu),
    Known(jax.nn.sigmoid, ours.sigmoid),
    Known(jax.nn.tanh, ours.tanh),
    Known(jax.nn.hard_tanh, ours.hard_tanh),
    Known(jax.nn.leaky_relu, ours.leaky_relu),
    Known(jax.nn.softplus, ours.softplus),
    Known(jax.nn.silu, ours.silu),
    Known(jax.nn.gelu, ours.gelu),
    Known(jax.nn.gelu, ours.gelu, {"approximate": True}),
    Known(jax.nn.gelu, gelu_exact, {"approximate": False}),
    Known(jax.nn.softmax, ours.softmax),
    Known(jax.nn.softmax, ours.softmax, {"axis": -1}),
)
"""The functions of `jax.nn`, which equinox and flax use; options are bound by `functools.partial`."""

FUNCTION_NAMES = f"jax.nn's {', '.join(dict.fromkeys(entry.theirs.__name__ for entry in FUNCTIONS))}"
"""What a message says of them."""


def of_function(function: Any, place: str, takes: str, activations: Activations, known: Sequence[Known]) -> Activation:
    """Our activation for a JAX function or a user's module class."""
    if (activation := told(function, activations)) is not None:
        return activation
    bare, options = function, {}
    if isinstance(function, partial) and not function.args:
        bare, options = function.func, function.keywords
    slope = options.get("negative_slope")
    if bare is jax.nn.leaky_relu and len(options) == 1 and isinstance(slope, int | float):
        return leaky_relu(slope)
    for entry in known:
        if entry.theirs is bare and _same_options(entry.options, options):
            return entry.activation
    raise unknown(place, function, takes)


def to_function(activation: Activation, place: str, caller: str, activations: Activations) -> Any:
    """The JAX function that is our activation, or what the user says it is."""
    if (theirs := _chosen(activation, activations)) is not None:
        return theirs() if isinstance(theirs, type) else theirs
    for entry in FUNCTIONS:
        if activation.phi == entry.activation.phi:
            return partial(entry.theirs, **entry.options) if entry.options else entry.theirs
    if (slope := slope_of(activation)) is not None:
        return partial(jax.nn.leaky_relu, negative_slope=slope)
    raise no_counterpart(activation, place, caller, "jax.nn")


def checked(activations: Any) -> Activations:
    """What the user says of activations, which may be nothing; anything but a dict of our activations is refused."""
    if activations is None:
        return {}
    check_mapping(activations, "activations", "{jnp.sin: jaxbp.elementwise(…)}")
    for theirs, activation in activations.items():
        check_activation(activation, f"activations[{named(theirs)}]")
    return activations


def told(thing: Any, activations: Activations) -> Activation | None:
    """What the user says a function, or a module by its class, stands for."""
    for theirs, activation in activations.items():
        if theirs is thing or theirs is type(thing):
            return activation
    return None


def _chosen(activation: Activation, activations: Activations) -> Any:
    return next((theirs for theirs, named_ours in activations.items() if named_ours.phi == activation.phi), None)


def of_module(module: Any, known: Sequence[Known]) -> Activation | None:
    """Our activation for a module whose attributes are its options."""
    for entry in known:
        options = {name: getattr(module, name, None) for name in entry.options}
        if type(module) is entry.theirs and options == entry.options:
            return entry.activation
    return None


def to_module(activation: Activation, known: Sequence[Known], activations: Activations) -> Any:
    """A new module that is our activation, None where there is none."""
    if (theirs := _chosen(activation, activations)) is not None:
        return theirs()
    entry = next((entry for entry in known if activation.phi == entry.activation.phi), None)
    return None if entry is None else entry.theirs(**entry.options)


def unknown(place: str, thing: Any, takes: str) -> ValueError:
    """The error for something without a known counterpart."""
    return ValueError(
        f"{place} is {named(thing)}, which has no counterpart in jaxbp; {takes}. If it is an activation, say which one "
        "with activations={its function or class: jaxbp.elementwise(…)}; what a hand-written module does cannot be "
        "looked up, so say what it is made of, layers={its class: lambda module: [module.first, module.second]}"
    )


def no_counterpart(activation: Activation, place: str, caller: str, library: str) -> ValueError:
    """The error for an activation of ours that a library does not have."""
    return ValueError(
        f"{place} has the activation {activation!r}, for which {caller} knows nothing in {library}; "
        f"say what it is there: activations={{a function or module class: {activation!r}}}"
    )


def is_rms(norm: Activation) -> bool:
    """Whether a norm is `rms_norm`, with any epsilon."""
    epsilon = ours.epsilon_of(norm)
    return epsilon is not None and norm.phi == ours.with_epsilon(ours.rms_norm, epsilon).phi


def named(thing: Any) -> str:
    """The name of a function, or how a module prints itself; its class where that is long."""
    if isinstance(thing, partial):
        return repr(thing)
    text = getattr(thing, "__name__", None) or repr(thing)
    return text if "\n" not in text and len(text) < 80 else type(thing).__name__


def _same_options(known: Mapping[str, Any], got: Mapping[str, Any]) -> bool:
    # the type first: an array among the options does not compare to one bool
    return set(known) == set(got) and all(
        type(got[name]) is type(value) and got[name] == value for name, value in known.items()
    )
