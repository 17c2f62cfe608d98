"""Rules of one's own that make something else than they should are refused: it would broadcast in silence."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest
from cases import params_of
from reference import relative_error

import jaxbp


def network(activation=jaxbp.linear, connection=None):
    """An input, a unit with an activation of one's own, and an output that reads it by a connection of one's own."""
    first, second = {"x": jaxbp.Dense()}, {"h": connection or jaxbp.Dense(), "x": jaxbp.Dense()}
    units = {"h": jaxbp.Unit(4, activation, first), "o": jaxbp.Unit(2, jaxbp.linear, second)}
    return jaxbp.Network(inputs={"x": 3}, units=units)


@dataclass(frozen=True)
class Narrow(jaxbp.Dense):
    """A matrix of which one method gives the first column alone, or integers."""

    wrong: str = ""

    def apply(self, W, h):
        a = super().apply(W, h)
        return a[..., :1] if self.wrong == "apply" else a

    def pull_back(self, W, h, delta):
        Delta = super().pull_back(W, h, delta)
        return Delta[..., :1] if self.wrong == "pull_back" else Delta

    def contract(self, W, h, delta):
        gradient = super().contract(W, h, delta)
        return {"contract": gradient[:, :1], "integers": gradient.astype(int)}.get(self.wrong, gradient)


def first_column(a, h, Delta):
    return Delta[..., :1]


WRONG = {
    "pull-back of a vector activation": (
        lambda: network(jaxbp.vector_activation(jnp.tanh, first_column)),
        r"what the pull-back of activation 'tanh' makes has shape \(5, 1\), expected \(5, 4\)",
    ),
    "value of an activation": (
        lambda: network(jaxbp.vector_activation(lambda a: a[..., :1], first_column, name="first")),
        r"what activation 'first' makes at unit 'h' has shape \(5, 1\), expected \(5, 4\)",
    ),
    "value in integers": (
        lambda: network(jaxbp.elementwise(lambda a: jnp.round(a).astype(int), lambda a, h: a, name="whole")),
        r"what activation 'whole' makes at unit 'h' has dtype int64, expected a floating one",
    ),
    "apply": (
        lambda: network(connection=Narrow(wrong="apply")),
        r"make {'h': \(5, 1\), 'x': \(5, 2\), 'bias': \(5, 2\)}, expected one shape",
    ),
    "pull_back": (lambda: network(connection=Narrow(wrong="pull_back")), r"Narrow.pull_back makes for 'h' has shape"),
    "contract": (
        lambda: network(connection=Narrow(wrong="contract")),
        r"what Narrow.contract makes.* has shape \(4, 1\), expected \(4, 2\)",
    ),
    "contract in integers": (
        lambda: network(connection=Narrow(wrong="integers")),
        "Narrow.contract makes.*has dtype int",
    ),
}


@pytest.mark.parametrize(("make", "message"), WRONG.values(), ids=WRONG)
def test_what_would_broadcast_is_refused(make, message):
    net = make()
    params = params_of(net)
    x, y = jnp.ones((5, 3)), jnp.ones((5, 2))
    with pytest.raises((TypeError, ValueError), match=message):
        jaxbp.value_and_grad(net, jaxbp.squared_error)(params, x, y)
    if "contract" in message:
        with pytest.raises((TypeError, ValueError), match=message):
            jax.grad(lambda params: jnp.sum(jaxbp.as_function(net)(params, x)))(params)


def test_the_rules_are_right_otherwise():
    net = network(connection=Narrow())
    params = params_of(net)
    jaxbp.value_and_grad(net, jaxbp.squared_error)(params, jnp.ones((5, 3)), jnp.ones((5, 2)))


def test_a_function_of_integers_is_refused():
    whole = jaxbp.function_unit(lambda x: jnp.round(x).astype(int), ("x",), 3)
    with pytest.raises(ValueError, match=r"unit 'o' has the function .* makes int64, expected floats"):
        jaxbp.Network(inputs={"x": 3}, units={"o": whole})


def test_more_batch_axes_than_letters():
    axes = 30
    net = jaxbp.layered([3, 2], output=jaxbp.softmax)
    params = params_of(net)
    x, y = jnp.ones((*[1] * axes, 2, 3)), jnp.zeros((*[1] * axes, 2), int)

    @jax.jit
    def both(*arguments):
        _, grads = jaxbp.value_and_grad(net, jaxbp.cross_entropy)(*arguments)
        return grads, jax.grad(jaxbp.objective(net, jaxbp.cross_entropy))(*arguments)

    assert relative_error(*both(params, x, y)) <= 1e-12
