"""The explicit gradient against jax.grad on graphs that nobody chose."""

import jax
import jax.numpy as jnp
import numpy as np
from cases import Case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import autodiff, relative_error

import jaxbp
from jaxbp import Dense, Identity, Network, Unit

WIDTHS = [1, 2, 3]
SMOOTH = [jaxbp.linear, jaxbp.sigmoid, jaxbp.tanh, jaxbp.softmax, jaxbp.softplus, jaxbp.gelu, jaxbp.silu]
KINKED = [jaxbp.relu, jaxbp.hard_tanh, jaxbp.leaky_relu]
LOSSES = [
    (jaxbp.squared_error, jaxbp.linear, "normal"),
    (jaxbp.cross_entropy, jaxbp.softmax, "ids"),
    (jaxbp.cross_entropy, jaxbp.softmax, "soft"),
    (jaxbp.binary_cross_entropy, jaxbp.sigmoid, "bits"),
    (jaxbp.squared_error, jaxbp.tanh, "normal"),
]


@st.composite
def recipes(draw):
    """A network whose every unit reads a random choice of what comes before it, and whose loose ends meet in o.

    Plain data, since building the network inside a strategy would use the type checker's own random numbers.
    """
    inputs = {f"x{i}": draw(st.sampled_from(WIDTHS)) for i in range(draw(st.integers(1, 2)))}
    widths, units = dict(inputs), []
    for i in range(draw(st.integers(0, 4))):
        width = draw(st.sampled_from(WIDTHS))
        sources = draw(st.lists(st.sampled_from(sorted(widths)), min_size=1, max_size=3, unique=True))
        kinds = {s: draw(st.sampled_from([Dense, Identity])) if widths[s] == width else Dense for s in sources}
        units.append((f"h{i}", width, draw(st.sampled_from(SMOOTH + KINKED)), kinds, draw(st.booleans())))
        widths[f"h{i}"] = width
    loss, activation, targets = draw(st.sampled_from(LOSSES))
    read = {source for *_, kinds, _ in units for source in kinds}
    units.append(("o", 2, activation, {s: Dense for s in widths if s not in read}, draw(st.booleans())))
    batch = draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
    return inputs, units, loss, batch, targets, draw(st.booleans())


def build(inputs, units, loss, batch, targets, weighted):
    made = {name: Unit(w, act, {s: kind() for s, kind in kinds.items()}, bias) for name, w, act, kinds, bias in units}
    return Case(f"{batch}{sorted(made)}", Network(inputs, made), loss, batch, targets, weighted)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(recipes())
def test_any_graph_has_the_gradient_of_jax_grad(recipe):
    case = build(*recipe)

    def errors(params, x, y, weights):
        back = jaxbp.backprop(case.net, case.loss, params, x, y, weights=weights)
        return (back.value, back.grads, back.Delta, back.delta), autodiff(case, params, x, y, weights)

    arguments = case.arguments(jnp.float64)
    ours, theirs = jax.jit(errors)(*arguments)
    assert relative_error(ours, theirs) <= 1e-12
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(ours))
