"""Activation functions h = Φ(a) and their pull-backs δ = (∂h/∂a)ᵀ Δ."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, fields
from functools import partial
from inspect import getdoc
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxbp._as_one import as_one
from jaxbp._checks import check_kind, check_made, check_number, check_takes, check_text, name_of
from jaxbp._initializers import check_initializer
from jaxbp._precision import widened

__all__ = [
    "Activation",
    "Elementwise",
    "VectorActivation",
    "elementwise",
    "gelu",
    "hard_tanh",
    "layer_norm",
    "leaky_relu",
    "linear",
    "relu",
    "rms_norm",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
    "vector_activation",
    "with_epsilon",
]


@dataclass(frozen=True)
class Activation(ABC):
    """The non-linearity Φ of a unit: a value, and a rule that pulls the error signal back through it.

    h = Φ(a),  δ = (∂h/∂a)ᵀ Δ

    Made by `elementwise` or `vector_activation`; two activations of equal parts are equal.

    Attributes:
        value: Φ, from an array `(*batch, width)` to one of the same shape and dtype.
        name: What messages, reports and plots call it.
        initializer: What the weights that lead into such a unit start from: the name of a factory in
            `jax.nn.initializers` that needs no arguments, or an initializer `(key, shape, dtype) -> array`.
    """

    value: Callable[[Array], Array]
    _: KW_ONLY
    name: str
    initializer: str | Callable[..., Array] = "glorot_uniform"

    def __post_init__(self):
        object.__setattr__(self, "__doc__", getdoc(self.value) or type(self).__doc__)  # what help shows of gelu
        check_takes(self.value, "value", ("a",), "lambda a: jnp.sin(a)")
        check_text(self.name, "name")
        check_initializer(self.initializer)

    @abstractmethod
    def pullback(
        self,
        a: Float[Array, "*batch width"],
        h: Float[Array, "*batch width"],
        Delta: Float[Array, "*batch width"],
    ) -> Float[Array, "*batch width"]:
        """δ = (∂h/∂a)ᵀ Δ, from the unit's input, its output and the error signal at its output."""

    @property
    def phi(self) -> tuple[Any, ...]:
        """What it computes, apart from its name and initializer: activations of the same function have equal ones."""
        parts = (getattr(self, field.name) for field in fields(self) if field.name not in ("name", "initializer"))
        return (type(self), *parts)

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, repr=False)
class Elementwise(Activation):
    """An activation with h_i = Φ(a_i), whose Jacobian is diagonal: δ = Φ'(a) ⊙ Δ.

    Attributes:
        derivative: Φ' as a function of `(a, h)`. A derivative of 0 or 1 may be a boolean mask, which lets the
            signal through or stops it (also where the signal is infinite).
    """

    derivative: Callable[[Array, Array], Array]

    def __post_init__(self):
        super().__post_init__()
        check_takes(self.derivative, "derivative", ("a", "h"), "lambda a, h: jnp.cos(a)")

    def pullback(
        self,
        a: Float[Array, "*batch width"],
        h: Float[Array, "*batch width"],
        Delta: Float[Array, "*batch width"],
    ) -> Float[Array, "*batch width"]:
        """δ = Φ'(a) ⊙ Δ."""
        slope = self.derivative(a, h)
        if slope.shape != a.shape:
            raise ValueError(
                f"the derivative of activation {self.name!r} has shape {slope.shape} at a of shape {a.shape}; "
                "an element-wise derivative has a's shape. Make a vector-valued one with vector_activation."
            )
        if slope.dtype == jnp.bool_:
            return jnp.where(slope, Delta, 0)
        return slope * Delta


@dataclass(frozen=True, repr=False)
class VectorActivation(Activation):
    """An activation whose outputs each depend on all inputs of the unit, such as softmax.

    Attributes:
        rule: `(a, h, Delta) -> delta`, the product of the Jacobian's transpose with Δ.
    """

    rule: Callable[[Array, Array, Array], Array]

    def __post_init__(self):
        super().__post_init__()
        check_takes(self.rule, "pullback", ("a", "h", "Delta"), "lambda a, h, Delta: ...")

    def pullback(
        self,
        a: Float[Array, "*batch width"],
        h: Float[Array, "*batch width"],
        Delta: Float[Array, "*batch width"],
    ) -> Float[Array, "*batch width"]:
        """δ = (∂h/∂a)ᵀ Δ, by the rule."""
        delta = self.rule(a, h, Delta)
        check_made(delta, a, f"what the pull-back of activation {self.name!r} makes")
        return delta


def elementwise(
    value: Callable[[Array], Array],
    derivative: Callable[[Array, Array], Array],
    *,
    name: str | None = None,
    initializer: str | Callable[..., Array] = "glorot_uniform",
) -> Elementwise:
    """An activation that acts on each element alone.

    h_i = Φ(a_i),  δ_i = Φ'(a_i) Δ_i

    `Activation` says what the arguments are. The derivative is a function of `(a, h)` with `h = Φ(a)`: write it in
    whichever is handier. Give module-level functions, not fresh lambdas, where two specifications made at different
    times should be equal (and share one compilation). The name is by default that of `value`.

    Example:
        >>> import jax.numpy as jnp, jaxbp
        >>> sine = jaxbp.elementwise(jnp.sin, lambda a, h: jnp.cos(a), name="sine")
        >>> jaxbp.layered([2, 3, 1], hidden=sine, output=jaxbp.linear).units["h1"].activation
        sine

    Source: the chapter, "Training a Neural Network with Backpropagation", h = Φ(a_h).
    """
    return Elementwise(value, derivative, name=name_of(value) if name is None else name, initializer=initializer)


def vector_activation(
    value: Callable[[Array], Array],
    pullback: Callable[[Array, Array, Array], Array],
    *,
    name: str | None = None,
    initializer: str | Callable[..., Array] = "glorot_uniform",
) -> VectorActivation:
    """An activation with vector arguments, from its value and its pull-back.

    h = Φ(a),  δ_j = Σ_i ∂h_i/∂a_j Δ_i

    `Activation` says what the arguments are. The pull-back is `(a, h, Delta) -> delta`, all of shape `(*batch, width)`.
    The name is by default that of `value`.

    Example:
        >>> import jax.numpy as jnp, jaxbp
        >>> def centred(a):
        ...     return a - jnp.mean(a, axis=-1, keepdims=True)
        >>> jaxbp.vector_activation(centred, lambda a, h, Delta: centred(Delta))
        centred

    Source: the chapter, "The Special Case of Softmax".
    """
    return VectorActivation(value, pullback, name=name_of(value) if name is None else name, initializer=initializer)


# Each value stands beside its derivative. At a kink the derivative is what jax.grad gives for the jax.nn function,
# and where Φ' can be written in h alone it is: then a need not be kept for the backward pass. The values are
# functions of this module because jax's own, being jitted, cannot be pickled.

_GELU_SCALE = math.sqrt(2 / math.pi)
_NORM_EPSILON = 1e-5  # as in torch; flax has 1e-6


def _linear(a: Array) -> Array:
    """The identity, h = a."""
    return a


def _linear_derivative(a: Array, h: Array) -> Array:
    return jnp.ones_like(a)


def _sigmoid(a: Array) -> Array:
    """The logistic sigmoid of each element, h = 1 / (1 + e^−a)."""
    return jax.nn.sigmoid(a)


@as_one
def _sigmoid_derivative(a: Array, h: Array) -> Array:
    return h * (1 - h)


def _tanh(a: Array) -> Array:
    """The hyperbolic tangent of each element, h = tanh a."""
    return jnp.tanh(a)


@as_one
def _tanh_derivative(a: Array, h: Array) -> Array:
    return (1 + h) * (1 - h)  # 1 − h², which cancels near ±1


def _relu(a: Array) -> Array:
    """The rectifier of each element, h = max(0, a); its derivative at 0 is 0, as in `jax.nn.relu`."""
    return jax.nn.relu(a)


def _relu_derivative(a: Array, h: Array) -> Array:
    return h > 0


def _hard_tanh(a: Array) -> Array:
    """Each element between −1 and 1, h = max(−1, min(1, a)); its derivative at ±1 is 1, as in `jax.nn.hard_tanh`."""
    return jax.nn.hard_tanh(a)


@as_one
def _hard_tanh_derivative(a: Array, h: Array) -> Array:
    return ~((a < -1) | (a > 1))  # 1 at ±1 and at NaN, as jax.nn has it


def _leaky_relu(a: Array) -> Array:
    """The leaky rectifier of each element, h = a where a ≥ 0, else 0.01 a."""
    return jax.nn.leaky_relu(a)


@as_one
def _leaky_relu_derivative(a: Array, h: Array) -> Array:
    return jnp.where(a >= 0, 1.0, 0.01).astype(a.dtype)


def _softplus(a: Array) -> Array:
    """The softplus of each element, h = ln(1 + e^a)."""
    return jax.nn.softplus(a)


def _softplus_derivative(a: Array, h: Array) -> Array:
    return jax.nn.sigmoid(a)


def _silu(a: Array) -> Array:
    """The SiLU, or swish, of each element, h = a σ(a)."""
    return jax.nn.silu(a)


@as_one
def _silu_derivative(a: Array, h: Array) -> Array:
    s = jax.nn.sigmoid(a)
    return s + a * (s * (1 - s))


def _gelu(a: Array) -> Array:
    """The GELU by tanh, `jax.nn.gelu`'s default, of each element: h = ½ a (1 + tanh(√(2/π) (a + 0.044715 a³)))."""
    return jax.nn.gelu(a)


@as_one
def _gelu_derivative(a: Array, h: Array) -> Array:
    # h = a C(a) with C(a) = ½ (1 + tanh u(a)), u(a) = √(2/π) (a + 0.044715 a³)
    t = jnp.tanh(_GELU_SCALE * (a + 0.044715 * a**3))
    return 0.5 * (1 + t) + a * (0.5 * _GELU_SCALE) * ((1 + t) * (1 - t)) * (1 + 3 * 0.044715 * a**2)


@as_one
def _softmax(a: Array) -> Array:
    """The softmax over the last axis, h_i = e^a_i / Σ_j e^a_j."""
    return jax.nn.softmax(a)


@as_one
def _softmax_pullback(a: Array, h: Array, Delta: Array) -> Array:
    # (diag h − h hᵀ) Δ: the Jacobian is symmetric and never written out
    return h * (Delta - jnp.sum(h * Delta, axis=-1, keepdims=True))


@dataclass(frozen=True)
class _LayerNorm:
    """Normalisation over the last axis, without gain and shift: h = (a − mean a) / √(var a + 1e-5)."""

    epsilon: float

    @partial(jax.jit, static_argnums=0, inline=True)
    def __call__(self, a: Array) -> Array:
        return self.normalised(widened(a))[0].astype(a.dtype)

    def normalised(self, a: Array) -> tuple[Array, Array]:
        spread = jnp.sqrt(jnp.var(a, axis=-1, keepdims=True) + self.epsilon)
        return (a - jnp.mean(a, axis=-1, keepdims=True)) / spread, spread


@dataclass(frozen=True)
class _LayerNormPullback:
    norm: _LayerNorm

    @partial(jax.jit, static_argnums=0, inline=True)
    def __call__(self, a: Array, h: Array, Delta: Array) -> Array:
        h, spread = self.norm.normalised(widened(a))  # in bfloat16 the unit's own h has been rounded
        Delta = widened(Delta)
        # a change of the mean of a has no effect on h, and a change of its spread next to none
        centred = Delta - jnp.mean(Delta, axis=-1, keepdims=True)
        return ((centred - h * jnp.mean(h * Delta, axis=-1, keepdims=True)) / spread).astype(a.dtype)


@dataclass(frozen=True)
class _RmsNorm:
    """Division by the root of the mean square over the last axis, without gain: h = a / √(mean a² + 1e-5)."""

    epsilon: float

    @partial(jax.jit, static_argnums=0, inline=True)
    def __call__(self, a: Array) -> Array:
        return self.over_root(widened(a))[0].astype(a.dtype)

    def over_root(self, a: Array) -> tuple[Array, Array]:
        root = jnp.sqrt(jnp.mean(a**2, axis=-1, keepdims=True) + self.epsilon)
        return a / root, root


@dataclass(frozen=True)
class _RmsNormPullback:
    norm: _RmsNorm

    @partial(jax.jit, static_argnums=0, inline=True)
    def __call__(self, a: Array, h: Array, Delta: Array) -> Array:
        h, root = self.norm.over_root(widened(a))
        Delta = widened(Delta)
        # a change of the size of a has next to no effect on h
        return ((Delta - h * jnp.mean(h * Delta, axis=-1, keepdims=True)) / root).astype(a.dtype)


linear = elementwise(_linear, _linear_derivative, name="linear")
sigmoid = elementwise(_sigmoid, _sigmoid_derivative, name="sigmoid")
tanh = elementwise(_tanh, _tanh_derivative, name="tanh")
relu = elementwise(_relu, _relu_derivative, name="relu", initializer="he_normal")
hard_tanh = elementwise(_hard_tanh, _hard_tanh_derivative, name="hard_tanh")
leaky_relu = elementwise(_leaky_relu, _leaky_relu_derivative, name="leaky_relu", initializer="he_normal")
softplus = elementwise(_softplus, _softplus_derivative, name="softplus", initializer="he_normal")
gelu = elementwise(_gelu, _gelu_derivative, name="gelu", initializer="he_normal")
silu = elementwise(_silu, _silu_derivative, name="silu", initializer="he_normal")
softmax = vector_activation(_softmax, _softmax_pullback, name="softmax")
_layer, _rms = _LayerNorm(_NORM_EPSILON), _RmsNorm(_NORM_EPSILON)
layer_norm = vector_activation(_layer, _LayerNormPullback(_layer), name="layer_norm")
rms_norm = vector_activation(_rms, _RmsNormPullback(_rms), name="rms_norm")


def with_epsilon(norm: Activation, epsilon: float) -> Activation:
    """`layer_norm` or `rms_norm` with another number in the root than 1e-5.

    h = (a − mean a) / √(var a + ε),  h = a / √(mean a² + ε)

    Example:
        >>> import jaxbp
        >>> as_in_flax = jaxbp.activations.with_epsilon(jaxbp.layer_norm, 1e-6)
        >>> as_in_flax
        layer_norm(1e-06)
        >>> jaxbp.activations.with_epsilon(as_in_flax, 1e-5) is jaxbp.layer_norm
        True
    """
    check_activation(norm, "norm")
    check_number(epsilon, "epsilon", least=0, finite=True)
    if epsilon_of(norm) is None:
        raise ValueError(f"norm must be jaxbp.layer_norm or jaxbp.rms_norm, got {norm!r}, which has no epsilon")
    epsilon = float(epsilon)
    is_layer = is_centred(norm)
    if epsilon == _NORM_EPSILON:
        return layer_norm if is_layer else rms_norm
    name = f"{'layer' if is_layer else 'rms'}_norm({epsilon})"
    if is_layer:
        layer = _LayerNorm(epsilon)
        return vector_activation(layer, _LayerNormPullback(layer), name=name)
    rms = _RmsNorm(epsilon)
    return vector_activation(rms, _RmsNormPullback(rms), name=name)


def epsilon_of(activation: Activation) -> float | None:
    """The number in the root of a norm, None for any other activation."""
    return activation.value.epsilon if isinstance(activation.value, _LayerNorm | _RmsNorm) else None


def is_centred(norm: Activation) -> bool:
    """Whether a norm takes the mean away first, as `layer_norm` does."""
    return isinstance(norm.value, _LayerNorm)


def check_activation(value: Any, place: str) -> None:
    """Refuse anything but an activation; for a name, or a function of another library, the message proposes one."""
    expected = "a jaxbp activation, made by jaxbp.elementwise or jaxbp.vector_activation where jaxbp has none"
    check_kind(value, Activation, place, expected, globals())
