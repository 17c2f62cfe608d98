"""The closed forms of the library's activations and losses, as the chapter prints them.

What a user has made shows as a function by its name, with the same numbers.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp import activations, losses
from jaxbp._explain._expressions import (
    FUNCTIONS,
    Bracket,
    Call,
    Expression,
    Function,
    Leaf,
    Negative,
    Number,
    Partial,
    Power,
    Product,
    Quotient,
    Rest,
    Sum,
    evaluate,
)
from jaxbp._explain._symbols import upright
from jaxbp._names import Name
from jaxbp.activations import Activation, Elementwise
from jaxbp.losses import Loss

Leaves = Sequence[Name]
ValueOf = Callable[[Leaf], float]

ONE = Number(1)
SHOWN_TERMS = 8
EDGE_TERMS = 3


def summed(terms: Sequence[Expression]) -> Expression:
    """A sum; of a long one the terms in the middle are left out in print."""
    if not terms:
        return Number(0)
    if len(terms) > SHOWN_TERMS:
        terms = (*terms[:EDGE_TERMS], Rest(tuple(terms[EDGE_TERMS:-EDGE_TERMS])), *terms[-EDGE_TERMS:])
    return terms[0] if len(terms) == 1 else Sum(tuple(terms))


def times(*factors: Expression) -> Expression:
    """A product without its ones."""
    flat = [part for factor in factors for part in (factor.factors if isinstance(factor, Product) else (factor,))]
    kept = tuple(factor for factor in flat if factor != ONE)
    return kept[0] if len(kept) == 1 else Product(kept) if kept else ONE


def minus(left: Expression, right: Expression) -> Expression:
    """A difference."""
    return Sum((left, Negative(right)))


def call(name: str, *arguments: Expression) -> Expression:
    """One of the functions that have a name."""
    return Call(FUNCTIONS[name], arguments)


def activated(activation: Activation, a: Leaves, j: int) -> Expression:
    """An element of h = Φ(a), from a row of pre-activations."""
    if activation.phi == activations.softmax.phi:
        return Quotient(call("exp", a[j]), summed([call("exp", a_i) for a_i in a]))
    form = _VALUES.get(activation.phi)
    if form is not None:
        return form(a[j])
    if isinstance(activation, Elementwise):
        return Call(Function(activation.name, _in_float64(lambda a: activation.value(a)[0], 1)), (a[j],))
    return Call(Function(f"{activation.name}_{j}", _in_float64(lambda a: activation.value(a)[j], len(a))), tuple(a))


def derivative(activation: Activation, a: Leaves, h: Leaves, i: int, j: int) -> Expression:
    """The element ∂h_i/∂a_j of the Jacobian of a row."""
    if activation.phi == activations.softmax.phi:
        return times(h[i], minus(ONE, h[i])) if i == j else Negative(times(h[i], h[j]))
    if not isinstance(activation, Elementwise):
        return Partial(h[i], a[j])
    if i != j:
        return Number(0)
    form = _DERIVATIVES.get(activation.phi)
    if form is not None:
        return form(a[j], h[j])
    slope = _in_float64(lambda a: activation.derivative(a, activation.value(a))[0], 1)
    return Call(Function(f"{activation.name}′", slope, f"{upright(activation.name)}'"), (a[j],))


def pulled_back(activation: Activation, a: Leaves, h: Leaves, Delta: Leaves, j: int) -> Expression:
    """An element of δ = (∂h/∂a)ᵀ Δ, from rows."""
    if isinstance(activation, Elementwise):
        return times(derivative(activation, a, h, j, j), Delta[j])
    if activation.phi == activations.softmax.phi:
        # one subtraction for each of the others, instead of a sum of negative terms in parentheses
        terms = [
            times(h[j], minus(ONE, h[j]), Delta[j]) if i == j else Negative(times(h[i], h[j], Delta[i]))
            for i in range(len(a))
        ]
        return summed(terms)
    return summed([times(derivative(activation, a, h, i, j), Delta[i]) for i in range(len(a))])


def loss_of(loss: Loss, o: Leaves, y: Leaves, value_of: ValueOf) -> Expression:
    """The loss of one row of outputs."""
    pairs = list(zip(o, y, strict=True))
    if loss.value == losses.squared_error.value:
        return times(Quotient(ONE, Number(2)), summed([Power(minus(o_i, y_i), Number(2)) for o_i, y_i in pairs]))
    if loss.value == losses.cross_entropy.value:
        return Negative(summed([_log_term(y_i, o_i, value_of) for o_i, y_i in pairs]))
    if loss.value == losses.binary_cross_entropy.value:
        terms: list[Expression] = []
        for o_i, y_i in pairs:
            terms += [_log_term(y_i, o_i, value_of), _log_term(minus(ONE, y_i), minus(ONE, o_i), value_of)]
        return Negative(summed(terms))
    if loss.value == losses.perceptron.value:
        return summed([call("max", Number(0), Negative(times(y_i, o_i))) for o_i, y_i in pairs])
    return Call(Function(loss.name, _in_float64(loss.value, len(o), len(y))), (*o, *y))


def loss_gradient(loss: Loss, o: Leaves, y: Leaves, j: int, value_of: ValueOf) -> Expression:
    """An element of ∂L/∂o for one row of outputs."""
    if loss.gradient == losses.squared_error.gradient:
        return minus(o[j], y[j])
    if loss.gradient in (losses.cross_entropy.gradient, losses.binary_cross_entropy.gradient):
        # 0 · log 0 is 0 here, and so is its derivative
        first = Number(0) if value_of(y[j]) == value_of(o[j]) == 0 else Negative(Quotient(y[j], o[j]))
        if loss.gradient == losses.cross_entropy.gradient:
            return first
        if value_of(y[j]) == value_of(o[j]) == 1:
            return first
        return Sum((first, Quotient(minus(ONE, y[j]), minus(ONE, o[j]))))
    if loss.gradient == losses.perceptron.gradient:
        return times(Negative(y[j]), Bracket((times(y[j], o[j]), Number(0)), ("≤",)))
    element = _in_float64(lambda o, y: loss.gradient(o, y)[j], len(o), len(y))
    return Call(Function(f"∂{loss.name}_{j}", element, rf"\partial_{{{j}}} {upright(loss.name)}"), (*o, *y))


def simplified(
    loss: Loss, activation: Activation, a: Leaves, o: Leaves, y: Leaves, j: int, value_of: ValueOf
) -> Expression | None:
    """An element of δ_o by the known simplification of loss and output activation, if there is one."""
    rule = loss.at(activation).simplification
    if rule is None:
        return None
    if rule == losses.binary_cross_entropy.simplifications[0]:
        return minus(o[j], y[j])
    if rule == losses.cross_entropy.simplifications[0]:
        whole = sum(map(value_of, y))
        return minus(o[j] if abs(whole - 1) < 1e-14 * len(y) else times(o[j], summed(y)), y[j])
    element = _in_float64(lambda a, y: rule.delta(a, activation.value(a), y)[j], len(a), len(y))
    return Call(Function(f"delta_{j}", element, rf"\delta_{{{j}}}"), (*a, *y))


def _sigmoid(a: Expression) -> Expression:
    return Quotient(ONE, Sum((ONE, call("exp", Negative(a)))))


def _gelu(a: Expression) -> Expression:
    return Product((Quotient(ONE, Number(2)), a, Sum((ONE, _tanh_of_gelu(a)))))


def _slope_of_gelu(a: Expression) -> Expression:
    half, tanh = Quotient(ONE, Number(2)), _tanh_of_gelu(a)
    inner = Product((call("sqrt", Number(2 / np.pi)), Sum((ONE, Product((Number(0.134145), Power(a, Number(2))))))))
    return Sum(
        (Product((half, Sum((ONE, tanh)))), Product((half, a, minus(ONE, Power(tanh, Number(2))), inner))),
    )


def _tanh_of_gelu(a: Expression) -> Expression:
    """The tanh that stands for the normal distribution, as in jax.nn.gelu."""
    cubic = Sum((a, Product((Number(0.044715), Power(a, Number(3))))))
    return call("tanh", Product((call("sqrt", Number(2 / np.pi)), cubic)))


_VALUES: dict[tuple[Any, ...], Callable[[Expression], Expression]] = {
    activations.linear.phi: lambda a: a,
    activations.sigmoid.phi: _sigmoid,
    activations.tanh.phi: lambda a: call("tanh", a),
    activations.relu.phi: lambda a: call("max", Number(0), a),
    activations.hard_tanh.phi: lambda a: call("max", Number(-1), call("min", ONE, a)),
    activations.leaky_relu.phi: lambda a: call("max", a, Product((Number(0.01), a))),
    activations.softplus.phi: lambda a: call("ln", Sum((ONE, call("exp", a)))),
    activations.silu.phi: lambda a: Product((a, call("sigmoid", a))),
    activations.gelu.phi: _gelu,
}

_DERIVATIVES: dict[tuple[Any, ...], Callable[[Expression, Expression], Expression]] = {
    activations.linear.phi: lambda a, h: ONE,
    activations.sigmoid.phi: lambda a, h: Product((h, minus(ONE, h))),
    activations.tanh.phi: lambda a, h: minus(ONE, Power(h, Number(2))),
    activations.relu.phi: lambda a, h: Bracket((a, Number(0)), (">",)),
    activations.hard_tanh.phi: lambda a, h: Bracket((Number(-1), a, ONE), ("≤", "≤")),
    activations.leaky_relu.phi: lambda a, h: Sum(
        (Number(0.01), Product((Number(0.99), Bracket((a, Number(0)), ("≥",)))))
    ),
    activations.softplus.phi: lambda a, h: _sigmoid(a),
    activations.gelu.phi: lambda a, h: _slope_of_gelu(a),
    activations.silu.phi: lambda a, h: Sum((call("sigmoid", a), Product((h, minus(ONE, call("sigmoid", a)))))),
}


def _log_term(y: Expression, o: Expression, value_of: ValueOf) -> Expression:
    """The term y ln o, where 0 · log 0 is 0."""
    return Number(0) if evaluate(y, value_of) == evaluate(o, value_of) == 0 else Product((y, call("ln", o)))


def _in_float64(function: Callable[..., jax.Array], *widths: int) -> Callable[..., float]:
    """A function of arrays of these widths as one of their elements, one after the other."""

    def evaluated(*elements: float) -> float:
        with jax.enable_x64(True):
            arrays = np.split(np.array(elements, np.float64), np.cumsum(widths)[:-1])
            return float(function(*map(jnp.asarray, arrays)))

    return evaluated
