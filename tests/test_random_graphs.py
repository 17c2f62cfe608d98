"""The explicit gradient against jax.grad on graphs that nobody chose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import Case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import autodiff, relative_error

import jaxbp
from jaxbp import Dense, Identity, Masked, Network, Scale, Transposed, Unit, function_unit

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
# by the widths that they join; what has one name has one shape
ANY_WIDTH = {
    "dense": lambda s, u: Dense(),
    "shared": lambda s, u: Dense(share=f"W{s}{u}"),
    "transposed": lambda s, u: Transposed(Dense(share=f"W{u}{s}")),
    "masked": lambda s, u: Masked(Dense(), np.arange(s * u).reshape(s, u) % 2 == 0),
}
ONE_WIDTH = {"identity": lambda s, u: Identity(), "scale": lambda s, u: Scale()}


def product(*sources):
    return jnp.prod(jnp.stack(sources), axis=0)


def joined(*sources):
    return jnp.concatenate(sources, axis=-1)


def apart(inputs, a, delta):
    return tuple(jnp.split(delta, np.cumsum([h.shape[-1] for h in inputs])[:-1], axis=-1))


@st.composite
def recipes(draw):
    """A network whose every unit reads a random choice of what comes before it, and whose loose ends meet in o.

    Plain data, since building the network inside a strategy would use the type checker's own random numbers.
    """
    inputs = {f"x{i}": draw(st.sampled_from(WIDTHS)) for i in range(draw(st.integers(1, 2)))}
    widths, units = dict(inputs), []
    for i in range(draw(st.integers(0, 4))):
        sources = draw(st.lists(st.sampled_from(sorted(widths)), min_size=1, max_size=3, unique=True))
        activation = draw(st.sampled_from(SMOOTH + KINKED))
        if draw(st.integers(0, 3)):
            width = draw(st.sampled_from(WIDTHS))
            kinds = {
                s: draw(st.sampled_from([*ANY_WIDTH, *(ONE_WIDTH if widths[s] == width else ())])) for s in sources
            }
            bias = draw(st.sampled_from([True, False, f"b{width}"]))
            units.append((f"h{i}", width, activation, kinds, bias, draw(st.sampled_from([0.0, 0.0, 0.5]))))
        elif draw(st.booleans()):
            sources, width = sources[:2], widths[sources[0]]
            options = {"shared": draw(st.booleans()), "remat": draw(st.sampled_from([False, True, ["up"]]))}
            dropout = draw(st.sampled_from([0.0, 0.5]))
            units.append((f"h{i}", width, activation, tuple(sources), draw(st.integers(1, 3)), options, dropout))
        elif len({widths[s] for s in sources}) == 1 and draw(st.booleans()):
            width = widths[sources[0]]
            units.append((f"h{i}", width, activation, sources, product, None))
        else:
            width = sum(widths[s] for s in sources)
            units.append((f"h{i}", width, activation, sources, joined, apart))
        widths[f"h{i}"] = width
    loss, activation, targets = draw(st.sampled_from(LOSSES))
    read = {source for _, _, _, sources, *_ in units for source in sources}
    units.append(("o", 2, activation, {s: "dense" for s in widths if s not in read}, draw(st.booleans()), 0.0))
    batch = draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
    return widths, inputs, units, loss, batch, targets, draw(st.booleans())


def build(widths, inputs, units, loss, batch, targets, weighted):
    made = {}
    for name, width, activation, sources, *rest in units:
        if isinstance(sources, tuple):
            depth, options, dropout = rest
            block = block_of(activation, width, [widths[s] for s in sources[1:]], dropout)
            made[name] = jaxbp.stack(block, depth, dict(zip(block.inputs, sources, strict=True)), **options)
        elif isinstance(sources, list):
            function, pullback = rest
            made[name] = function_unit(function, sources, width, pullback=pullback, activation=activation)
        else:
            connections = {s: (ANY_WIDTH | ONE_WIDTH)[kind](widths[s], width) for s, kind in sources.items()}
            made[name] = Unit(width, activation, connections, *rest)
    return Case(f"{batch}{sorted(made)}", Network(inputs, made), loss, batch, targets, weighted)


def block_of(activation, width, others, dropout):
    """A block that carries its first input, and reads the others alike in all layers."""
    inputs = {"x": width, **{f"other{i}": n for i, n in enumerate(others)}}
    return Network(
        inputs,
        {
            "up": Unit(3, activation, {s: Dense() for s in inputs}, dropout=dropout),
            "sum": Unit(width, jaxbp.tanh, {"up": Dense(share="down"), "x": Identity()}, bias="b"),
        },
    )


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(recipes())
def test_any_graph_has_the_gradient_of_jax_grad(recipe):
    compared(build(*recipe))


@pytest.mark.slow  # each is a program of its own; the 12 above run by default
@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(recipes())
def test_many_graphs_have_the_gradient_of_jax_grad(recipe):
    compared(build(*recipe))


def compared(case):

    def errors(params, x, y, weights, key):
        back = jaxbp.backprop(case.net, case.loss, params, x, y, weights=weights, key=key)
        return (back.value, back.grads, back.Delta, back.delta), autodiff(case, params, x, y, weights, key)

    ours, theirs = jax.jit(errors)(*case.arguments(jnp.float64), jax.random.key(0))
    assert relative_error(ours, theirs) <= 1e-12
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(ours))
