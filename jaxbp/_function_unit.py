"""Units that make something else of what they read than a sum: any function of several inputs, with its pull-back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._activations import Activation, linear
from jaxbp._checks import check_callable, check_sequence, check_takes, check_text, name_of
from jaxbp._connections import Connection, Shape
from jaxbp._network import Unit

Pullback = Callable[[tuple[Array, ...], Array, Array], tuple[Array, ...]]
"""`(inputs, a, delta) -> signals`: the product of the transposed Jacobian by each input with δ."""


@dataclass(frozen=True)
class Argument(Connection):
    """The place of a source among the arguments of a unit's function; what comes of it the function alone knows."""

    def weight_shape(self, source: Shape, unit: Shape) -> None:
        """None: there is nothing to learn."""

    def apply(self, W: Any, h: Array) -> Array:
        """Refused: the function takes all its arguments at once."""
        raise TypeError("an argument of a function unit adds nothing by itself; only the whole unit can be computed")

    def pull_back(self, W: Any, h: Any, delta: Array) -> Array:
        """Refused: the function pulls back to all its arguments at once."""
        raise TypeError("an argument of a function unit has no signal by itself; only the whole unit pulls back")


@dataclass(frozen=True, kw_only=True)
class FunctionUnit(Unit):
    """A unit with a = f(h_s, h_t, …) in place of a sum, made by `function_unit`.

    Attributes:
        function: f, from arrays `(*batch, *shape)` of its sources to one of its own.
        rule: The pull-back of f; that of `jax.vjp` when None.
    """

    function: Callable[..., Array]
    rule: Pullback | None = None

    def __post_init__(self):
        super().__post_init__()
        check_callable(self.function, "function", "lambda gate, value: gate * value")
        if self.rule is not None:
            check_takes(self.rule, "pullback", ("inputs", "a", "delta"), "lambda inputs, a, delta: signals")

    def weight_shapes(self, sources: Mapping[str, Shape]) -> dict[str, Shape]:
        """None at all; but f, and its pull-back, are tried on these shapes with a batch axis before them.

        Raises:
            ValueError: f refuses such arrays or gives another shape than the unit's, or its pull-back does other than
                give a signal like each source.
        """
        inputs = tuple(_rows(sources[s]) for s in self.connections)
        shapes = " and ".join(str(i.shape) for i in inputs)
        try:
            a = jax.eval_shape(self.function, *inputs)
        except Exception as error:
            raise ValueError(f"has the function {name_of(self.function)!r}, which refuses {shapes}: {error}") from error
        expected = _rows(self.shape)
        if hasattr(a, "dtype") and not jnp.issubdtype(a.dtype, jnp.floating):
            raise ValueError(
                f"has the function {name_of(self.function)!r}, which makes {a.dtype}, expected floats: a function with "
                "other values has no derivative"
            )
        if not hasattr(a, "shape") or a.shape != expected.shape:
            raise ValueError(
                f"has the function {name_of(self.function)!r}, which makes {getattr(a, 'shape', a)} of {shapes}, "
                f"expected {expected.shape}: the unit's shape behind a batch axis"
            )
        if self.rule is not None:
            try:
                signals = jax.eval_shape(self.rule, inputs, expected, expected)
            except Exception as error:
                raise ValueError(
                    f"has a pull-back of {name_of(self.function)!r} that refuses sources of {shapes}: {error}"
                ) from error
            given = [signal.shape for signal in signals] if isinstance(signals, tuple | list) else signals
            if given != [i.shape for i in inputs]:
                raise ValueError(
                    f"has a pull-back of {name_of(self.function)!r} that makes {given} for sources of {shapes}; "
                    "it returns one signal for each source, of the source's shape"
                )
        return {}

    def pre_activation(self, weights: Mapping[str, Any], h: Mapping[str, Array]) -> Array:
        """The function of the sources, a = f(h_s, h_t, …)."""
        return self.function(*(h[s] for s in self.connections))

    def pull_back(self, weights: Mapping[str, Any], h: Mapping[str, Array], a: Array, delta: Array) -> dict[str, Array]:
        """The signals (∂f/∂h_s)ᵀ δ of each source."""
        inputs = tuple(h[s] for s in self.connections)
        signals = self.rule(inputs, a, delta) if self.rule else jax.vjp(self.function, *inputs)[1](delta)
        return {
            s: signal.astype(source.dtype) for s, source, signal in zip(self.connections, inputs, signals, strict=True)
        }


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
        function: f, from arrays `(*batch, *shape)`, one for each source, to `(*batch, *width)`. It treats examples
            apart, and has no parameters: these are on the connections into its sources.
        sources: The inputs and units that it reads, in the order of its arguments.
        width: The number of elements, or the shape, of what it returns.
        pullback: `(inputs, a, delta) -> signals`, a tuple like the inputs; that of `jax.vjp` when None.
        activation: Φ, after it.

    Returns:
        A unit for `Network`. Give module-level functions, not fresh lambdas, where two specifications made at
        different times should be equal (and share one compilation).

    Raises:
        TypeError: `function` cannot be called, `pullback` does not take `(inputs, a, delta)`, `sources` are no list of
            names, or `activation` is none.
        ValueError: No sources, or one twice; when a network is made of it, results or signals of the wrong shape.

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
        >>> back = jaxbp.backprop(net, jaxbp.squared_error, params, jnp.ones((5, 3)), jnp.ones((5, 1)))
        >>> bool(jnp.allclose(back.Delta["gate"], back.delta["both"] * back.trace.h["value"]))
        True

    Source: the chapter, "The Multilayer Network as a Computational Graph": any function may be computed at a node.
    """
    check_sequence(sources, "sources", "('gate', 'value')")
    for i, source in enumerate(sources):
        check_text(source, f"sources[{i}]")
    if len(set(sources)) != len(sources):
        raise ValueError(f"sources must be different names of inputs and units, got {sources!r}")
    arguments = {source: Argument() for source in sources}
    return FunctionUnit(width, activation, arguments, bias=False, function=function, rule=pullback)


def _rows(shape: Shape) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((2, *shape), jax.dtypes.canonicalize_dtype(float))
