"""The generator of wrong backward passes: what is right in it is right, and what is wrong is wrong."""

from functools import cache

import jax
import numpy as np
import pytest
from wrong_networks import NETWORKS, example
from wrong_passes import AT_A_UNIT, EVERYWHERE, IN_THE_WHOLE, differing, pairs, right_pass, wrong_passes

import jaxbp

QUICK = ["skip connections", "residual", "tied", "tanh output", "gated, by hand"]
made = cache(lambda name: tuple(wrong_passes(example(name, 0))))


def quick(names):
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", quick(NETWORKS))
def test_the_generators_right_pass_is_that_of_jax_grad(name):
    problem = example(name, 0)
    arguments = (problem.params, problem.x, problem.y)
    value, grads = jax.jit(jax.value_and_grad(jaxbp.objective(problem.net, problem.loss)))(*arguments)
    theirs = {"loss": value} | {f"grad.{u}.{s}": g for u, of_u in grads.items() for s, g in of_u.items()}
    right = right_pass(problem)
    assert theirs.keys() == {name for name in right if name == "loss" or name.startswith("grad.")}
    for quantity, array in theirs.items():
        np.testing.assert_allclose(right[quantity], array, rtol=1e-10, atol=1e-12, err_msg=quantity)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_generators_right_pass_has_the_quantities_of_backprop(name):
    problem = example(name, 0)

    def quantities(params, x, y):
        return jaxbp.backprop(problem.net, problem.loss, params, x, y).quantities()

    theirs = jax.jit(quantities)(problem.params, problem.x, problem.y)
    for quantity, array in right_pass(problem).items():
        np.testing.assert_allclose(array, theirs[quantity], rtol=1e-10, atol=1e-12, err_msg=quantity)


@pytest.mark.parametrize("name", quick(NETWORKS))
def test_what_is_wrong_differs_in_its_gradients_and_says_where(name):
    right = right_pass(example(name, 0))
    for wrong in made(name):
        names = differing(wrong.quantities, right)
        assert any(quantity.startswith("grad.") for quantity in names)
        assert wrong.first_wrong
        assert wrong.first_wrong <= names
        assert wrong.unit is None or wrong.units == (wrong.unit,)


def test_every_mistake_of_the_tables_is_made_somewhere():
    slugs = {wrong.slug for name in QUICK for wrong in made(name)}
    at_many = {wrong.slug for name in QUICK for wrong in made(name) if len(wrong.units) > 1}
    assert IN_THE_WHOLE.keys() | AT_A_UNIT.keys() == slugs
    assert EVERYWHERE.keys() | {"gradients-swapped"} == at_many


def test_pairs_are_of_two_units_and_different():
    problem = example("residual", 0)
    drawn = list(pairs(problem, np.random.default_rng(0), 20))
    assert len({frozenset(pair.changes) | {str(pair.slug)} for pair in drawn}) >= 19
    for pair in drawn:
        assert (pair.unit[0] or "o") != (pair.unit[1] or "o")
        assert differing(pair.quantities, right_pass(problem))
