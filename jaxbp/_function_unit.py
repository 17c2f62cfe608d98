"""Units that make something else of what they read than a sum: any function of several inputs, with its pull-back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._checks import check_callable, check_sequence, check_takes, check_text, name_of
from jaxbp._unit import Node
from jaxbp.activations import Activation, linear
from jaxbp.connections import Shape

Pullback = Callable[[tuple[Array, ...], Array, Array], tuple[Array, ...]]
"""`(inputs, a, delta) -> signals`: (∂a/∂h_s)ᵀ δ for each input h_s."""


@dataclass(frozen=True)
class FunctionUnit(Node):
    """A unit with a = f(h_s, h_t, …) in place of a sum, made by `function_unit`, which says what the attributes are.

    f and its pull-back, the rule, see one example at a time: `jax.vmap` takes them over the batch, so no example can
    have a part in what becomes of another.
    """

    width: int | Shape
    activation: Activation
    sources: tuple[str, ...]
    function: Callable[..., Array]
    rule: Pullback | None = None
    dropout: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        check_sequence(self.sources, "sources", "('gate', 'value')")
        for i, source in enumerate(self.sources):
            check_text(source, f"sources[{i}]")
        if not self.sources or len(set(self.sources)) != len(self.sources):
            raise ValueError(f"sources must be different names of inputs and units, got {self.sources!r}")
        check_callable(self.function, "function", "lambda gate, value: gate * value")
        if self.rule is not None:
            check_takes(self.rule, "pullback", ("inputs", "a", "delta"), "lambda inputs, a, delta: signals")
        object.__setattr__(self, "sources", tuple(self.sources))

    @property
    def reads(self) -> dict[str, None]:
        """The sources, without connections."""
        return dict.fromkeys(self.sources)

    def check(self, sources: Mapping[str, Shape]) -> None:
        """Try f on these shapes, and its pull-back, which has to make a signal like each source."""
        inputs, expected = tuple(_one(sources[s]) for s in self.sources), _one(self.shape)
        shapes = " and ".join(str(i.shape) for i in inputs)
        function = f"has the function {name_of(self.function)!r}, which"
        pull_back = f"has a pull-back of {name_of(self.function)!r} that"
        try:
            # of a new function: what JAX keeps of this one would be in the precision of the moment
            a = jax.eval_shape(lambda *inputs: self.function(*inputs), *inputs)
        except Exception as error:
            raise ValueError(f"{function} refuses {shapes}: {error}") from error
        if hasattr(a, "dtype") and not jnp.issubdtype(a.dtype, jnp.floating):
            raise ValueError(
                f"{function} makes {a.dtype}, expected floats: a function with other values has no derivative"
            )
        if not hasattr(a, "shape") or a.shape != expected.shape:
            raise ValueError(
                f"{function} makes {getattr(a, 'shape', a)} of {shapes}, expected the unit's shape {expected.shape}: "
                "it sees one example, without batch axes"
            )
        if self.rule is None:
            return
        rule = self.rule
        try:
            signals = jax.eval_shape(lambda *given: rule(*given), inputs, expected, expected)
        except Exception as error:
            raise ValueError(f"{pull_back} refuses sources of {shapes}: {error}") from error
        given = [signal.shape for signal in signals] if isinstance(signals, tuple | list) else signals
        if given != [i.shape for i in inputs]:
            raise ValueError(
                f"{pull_back} makes {given} for sources of {shapes}; it returns one signal for each source, of the "
                "source's shape"
            )

    def pre_activation(self, W: Sequence[Any], h: Sequence[Array], batch_axes: int) -> Array:
        """The function of the sources, a = f(h_s, h_t, …)."""
        return over_examples(self.function, batch_axes)(*h)

    def pull_back(self, W: Sequence[Any], h: Sequence[Array], a: Array, delta: Array) -> tuple[Array, ...]:
        """The signals (∂f/∂h_s)ᵀ δ of each source."""
        signals = over_examples(self._pulled_back, delta.ndim - len(self.shape))(tuple(h), a, delta)
        return tuple(signal.astype(source.dtype) for source, signal in zip(h, signals, strict=True))

    def _pulled_back(self, h: tuple[Array, ...], a: Array, delta: Array) -> tuple[Array, ...]:
        return tuple(self.rule(h, a, delta) if self.rule else jax.vjp(self.function, *h)[1](delta))


def over_examples(function: Callable[..., Any], batch_axes: int) -> Callable[..., Any]:
    """A function of one example, over as many batch axes."""
    for _ in range(batch_axes):
        function = jax.vmap(function)
    return function


def function_unit(
    function: Callable[..., Array],
    sources: Sequence[str],
    width: int | Shape,
    *,
    pullback: Pullback | None = None,
    activation: Activation = linear,
) -> FunctionUnit:
    """A unit made from any JAX function of several inputs: a product, a concatenation, attention.

    a_u = f(h_s, h_t, …),  h_u = Φ(a_u),  Δ_s += (∂f/∂h_s)ᵀ δ_u

    Args:
        function: f, from one array for each source, of the source's shape, to one of the unit's. It sees one example,
            and has no parameters: these are on the connections into its sources. Networks of a function defined in a
            module are equal and share one compilation, those of a fresh lambda do not.
        sources: The inputs and units that it reads, in the order of its arguments.
        width: The number of elements, or the shape, of what it returns.
        pullback: `(inputs, a, delta) -> signals` of one example, a tuple like the inputs; `jax.vjp`'s when None.
        activation: Φ, after it.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> def product(gate, value):
        ...     return gate * value
        >>> net = jaxbp.Network(
        ...     inputs={"x": 3},
        ...     units={
        ...         "gate": jaxbp.Unit(4, jaxbp.sigmoid, {"x": jaxbp.Dense()}),
        ...         "value": jaxbp.Unit(4, jaxbp.tanh, {"x": jaxbp.Dense()}),
        ...         "both": jaxbp.function_unit(product, ("gate", "value"), 4),
        ...         "o": jaxbp.Unit(1, jaxbp.linear, {"both": jaxbp.Dense()}),
        ...     },
        ... )
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> x, y = jnp.ones((5, 3)), jnp.ones((5, 1))
        >>> back = jax.jit(jaxbp.backprop, static_argnums=(0, 1))(net, jaxbp.squared_error, params, x, y)
        >>> bool(jnp.allclose(back.Delta["gate"], back.delta["both"] * back.trace.h["value"]))
        True

    Source: the chapter, "The Multilayer Network as a Computational Graph": any function may be computed at a node.
    """
    return FunctionUnit(width, activation, sources, function, pullback)  # pyright: ignore[reportArgumentType]


def _one(shape: Shape) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(float))
