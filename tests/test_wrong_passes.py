"""The generator of wrong backward passes: what is right in it is right, and what is wrong is wrong."""

from functools import cache

import jax
import numpy as np
import pytest
from mistakes import AT_A_UNIT, EVERYWHERE, IN_THE_WHOLE
from plain_phases import backward_phase, forward_phase
from wrong_networks import ALL, example
from wrong_passes import Store, differing, one_of_each, outside, pairs, right_pass, wrong_passes

import jaxbp

QUICK = [  # in which every mistake can be made
    "distinct relu layers", "tanh output", "skip connections", "residual", "tied", "gated, by hand", "convolutions",
    "overlapping pools", "max pool with ties", "layer norm", "causal attention", "tokens",
]  # fmt: skip
QUICK_OR_SLOW = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ALL]


@cache
def problem_of(name):
    return example(name, 0)


@cache
def some_of(name):
    return one_of_each(problem_of(name), np.random.default_rng(0))


@pytest.mark.parametrize("name", QUICK_OR_SLOW)
def test_the_generators_right_pass_is_that_of_jax_grad(name):
    problem = problem_of(name)
    arguments = (problem.params, problem.x, problem.y)
    value, grads = jax.jit(jax.value_and_grad(jaxbp.objective(problem.net, problem.loss)))(*arguments)
    theirs = {"loss": value} | {f"grad.{u}.{s}": g for u, of_u in grads.items() for s, g in of_u.items()}
    right = right_pass(problem)
    assert theirs.keys() == {name for name in right if name == "loss" or name.startswith("grad.")}
    for quantity, array in theirs.items():
        np.testing.assert_allclose(right[quantity], array, rtol=1e-10, atol=1e-12, err_msg=quantity)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_the_generators_right_pass_has_the_quantities_of_backprop(name):
    problem = problem_of(name)

    def quantities(params, x, y):
        return jaxbp.backprop(problem.net, problem.loss, params, x, y).quantities()

    theirs = jax.jit(quantities)(problem.params, problem.x, problem.y)
    for quantity, array in right_pass(problem).items():
        np.testing.assert_allclose(array, theirs[quantity], rtol=1e-10, atol=1e-12, err_msg=quantity)


def is_wrong_where_it_says(problem, wrong):
    names = differing(wrong.quantities, right_pass(problem))
    return (
        any(quantity.startswith("grad.") for quantity in names)
        and wrong.first_wrong
        and wrong.first_wrong <= names
        and (wrong.unit is None or wrong.units == (wrong.unit,))
    )


def test_what_is_wrong_differs_in_its_gradients_and_says_where():
    for name in QUICK:
        assert all(is_wrong_where_it_says(problem_of(name), wrong) for wrong in some_of(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_all_that_is_wrong_differs_in_its_gradients_and_says_where(name):
    for seed in (0, 1, 2):
        problem = example(name, seed)
        wrong = list(wrong_passes(problem))
        assert len(wrong) >= 100
        assert all(is_wrong_where_it_says(problem, one) for one in wrong)


def test_every_mistake_of_the_tables_is_made_somewhere():
    some = [wrong for name in QUICK for wrong in some_of(name)]
    assert IN_THE_WHOLE.keys() | {slug for slug, _ in AT_A_UNIT} == {wrong.slug for wrong in some}
    assert EVERYWHERE.keys() | {"gradients-swapped"} == {wrong.slug for wrong in some if len(wrong.units) > 1}


@pytest.mark.parametrize("name", ["skip connections", "tied", "layer norm"])
def test_what_comes_before_a_mistake_is_as_when_all_is_computed(name):
    """What comes before is copied from the right pass."""
    problem = problem_of(name)
    for wrong in some_of(name):
        q = Store(wrong.changes)
        forward_phase(problem, q)
        backward_phase(problem, q, list(reversed(problem.net.order)))
        q.finish()
        assert not differing(wrong.quantities, outside(q))


def test_two_mistakes_are_at_two_places_and_differ_from_each_alone():
    problem = problem_of("tokens")
    both = list(pairs(problem, np.random.default_rng(0), 20))
    assert len(both) == 20
    for pair in both:
        assert (pair.unit[0] or "o") != (pair.unit[1] or "o")
        assert differing(pair.quantities, right_pass(problem))
        assert len(pair.changes) > 1
