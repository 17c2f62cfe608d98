"""Stacks: equal to the same network written out flat, in everything that there is."""

import chex
import jax
import jax.numpy as jnp
import pytest
from cases import NESTED, case_named
from reference import relative_error

import jaxbp
from jaxbp import collect
from jaxbp._unrolled import unrolled

STACKS = [
    pytest.param(case_named(name), id=name, marks=pytest.mark.xdist_group(name))
    for name in ("stacks", "nested stacks", "recurrent", "recurrent convolution")
]
COLLECTORS = {
    "gradient": collect.gradient,
    "each": collect.per_example_gradient,
    "norms": collect.squared_norm,
    "clipped": collect.clipped(0.5),
    "second": collect.second_moment,
    "noise": collect.gradient_noise_scale,
    "gram": collect.gram,
    "ggn": collect.diagonal_ggn,
    "statistics": collect.statistics(),
}
BY_WEIGHT = ("gradient", "each", "clipped", "second", "ggn")


def everything(net, case, params, x, y, weights, other, products):
    extra = {"weights": weights, "reduction": case.reduction}
    collectors = COLLECTORS | {"dot": collect.per_example_dot(other)}
    back = jaxbp.backprop(net, case.loss, params, x, y, collect=collectors, **extra)
    products = [product(net, case.loss, params, x, y, other, **extra) for product in products]
    of_output = jax.grad(lambda params: jnp.sum(jnp.sin(jaxbp.as_function(net)(params, x))))(params)
    return back, [*products, of_output]


@pytest.mark.parametrize("case", STACKS)
def test_a_stack_is_the_network_written_out(case):
    flat, (params, x, y, weights) = unrolled(case.net), case.arguments(jnp.float64)
    other = jax.tree.map(lambda W: jnp.cos(W + 1), params)
    second_order = (jaxbp.curvature.hessian_vector_product, jaxbp.curvature.ggn_vector_product)
    products = second_order if case.net is NESTED else ()  # which compile for long

    @jax.jit
    def both(params, other, x, y, weights):
        mine = everything(case.net, case, params, x, y, weights, other, products)
        return mine, everything(flat.net, case, flat.params(params), x, y, weights, flat.params(other), products)

    (ours, our_trees), (theirs, their_trees) = both(params, other, x, y, weights)

    def named(by_unit):
        """What there is of each unit or input, by its name in the network written out."""
        return {u: by_unit[name][layer] for u, (name, layer) in flat.units.items() if name in by_unit}

    def units(by_unit):
        """Without the inputs of blocks, which are units in the network written out."""
        return {u: of for u, of in by_unit.items() if flat.units[u][0] in case.net.plan.nodes}

    pairs = {
        "value": (ours.value, theirs.value),
        "a": (named(ours.trace.a), units(theirs.trace.a)),
        "h": (named(ours.trace.h), theirs.trace.h),
        "Delta": (named(ours.Delta), theirs.Delta),
        "delta": (named(ours.delta), units(theirs.delta)),
        "trees": ([flat.params(tree) for tree in our_trees], their_trees),
    }
    ours, theirs = ours.collected, theirs.collected
    pairs |= {name: (flat.params(ours[name]), theirs[name]) for name in BY_WEIGHT}
    pairs |= {
        "norms": (flat.params(ours["norms"].weights), theirs["norms"].weights),
        "norm": (ours["norms"].total, theirs["norms"].total),
        "gram": (ours["gram"].total, theirs["gram"].total),
        "noise": (ours["noise"], theirs["noise"]),
        "dot": (ours["dot"], theirs["dot"]),
        # what the weights into a unit give; into each unit of layers that share them they give the same
        "norms by unit": (_by_unit(flat, ours["norms"].units), theirs["norms"].units),
        "gram by unit": (_by_unit(flat, ours["gram"].units), theirs["gram"].units),
    }
    for name, (mine, flats) in pairs.items():
        assert relative_error(mine, flats) <= 1e-12, name
    for u, statistics in units(theirs["statistics"].units).items():
        name, layer = flat.units[u]
        mine = jax.tree.map(lambda s, layer=layer: s[layer], ours["statistics"].units[name])
        chex.assert_trees_all_close(mine, statistics, rtol=1e-12)


def _by_unit(flat, by_unit):
    plan, found = flat.net.plan, {}
    for place, edges in plan.uses.items():
        for edge in edges:
            found[edge.unit] = by_unit[flat.units[edge.unit][0]][flat.weights[place][1]]
    return found
