"""Training with masks: masked weights stay exactly 0, and the others are trained as without `keep_masked`."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import params_of

import jaxbp
from jaxbp import train

RNG = np.random.default_rng(0)
MASKS = {"x": RNG.random((4, 5)) < 0.5, "h": RNG.random((5, 3)) < 0.5, "W": RNG.random((4, 3)) < 0.5}
NET = jaxbp.Network(
    inputs={"x": 4},
    units={
        "h": jaxbp.Unit(5, jaxbp.tanh, {"x": jaxbp.Masked(jaxbp.Dense(), MASKS["x"])}),
        "o": jaxbp.Unit(
            3,
            jaxbp.softmax,
            {
                "h": jaxbp.Masked(jaxbp.Dense(), MASKS["h"]),
                "x": jaxbp.Masked(jaxbp.Dense(share="W"), MASKS["W"]),  # one of a shared weight, used once
            },
        ),
    },
)
GRADIENT = jaxbp.value_and_grad(NET, jaxbp.cross_entropy)
X, Y = jax.device_put(RNG.normal(size=(12, 4))), jax.device_put(RNG.integers(0, 3, 12))
PLACES = {"x": ("h", "x"), "h": ("o", "h"), "W": ("shared", "W")}


def masked_weights(params):
    return {name: np.asarray(params[group][key])[~MASKS[name]] for name, (group, key) in PLACES.items()}


def after_an_epoch(optimizer, **start):
    state = train.init_state(jax.random.key(0), NET, optimizer, **start)
    return train.epoch(state, X, Y, gradient=GRADIENT, optimizer=optimizer, batch_size=4)[0].params


def noisy():
    return optax.noisy_sgd(0.1, eta=0.1, key=jax.random.key(1))  # a key of its own: its state is donated


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_optimizers_without_noise_leave_masked_weights_at_zero_by_themselves(name):
    optimizer = {"sgd": optax.sgd(0.1, momentum=0.9), "adamw": optax.adamw(0.01, weight_decay=0.1)}[name]
    for name, W in masked_weights(after_an_epoch(optimizer)).items():
        assert W.size > 0
        np.testing.assert_array_equal(W, 0, err_msg=name)


def test_noise_moves_masked_weights_unless_they_are_kept():
    plain, kept = after_an_epoch(noisy()), after_an_epoch(optax.chain(noisy(), train.keep_masked(NET)))
    for W, of_kept in zip(masked_weights(plain).values(), masked_weights(kept).values(), strict=True):
        assert np.all(W != 0)  # the planted bug: nothing keeps them
        np.testing.assert_array_equal(of_kept, 0)
    # nothing else is changed by it: masked weights never entered the gradient
    chex.assert_trees_all_close(kept, jaxbp.constrain(NET, plain), rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float64])
def test_weights_that_are_not_zero_become_so_in_one_step_and_the_other_updates_are_not_rounded(dtype):
    shapes = {group: NET.weight_shapes[group] for group in NET.weight_shapes}
    params, updates = (
        {
            u: {s: jnp.asarray(scale * RNG.normal(size=shape), dtype) for s, shape in of.items()}
            for u, of in shapes.items()
        }
        for scale in (1, 1e-3)
    )
    optimizer = train.keep_masked(NET)
    changed, _ = optimizer.update(updates, optimizer.init(params), params)
    chex.assert_trees_all_equal(jaxbp.constrain(NET, changed), jaxbp.constrain(NET, updates))
    after = optax.apply_updates(params, changed)
    chex.assert_trees_all_equal(after, jaxbp.constrain(NET, optax.apply_updates(params, updates)))
    chex.assert_trees_all_equal_dtypes(after, params)
    assert all(np.all(W == 0) for W in masked_weights(after).values())


def test_it_needs_the_parameters_of_this_network():
    optimizer = train.keep_masked(NET)
    params = params_of(NET)
    with pytest.raises(
        ValueError, match=r"keep_masked needs the parameters .* optimizer\.update\(grads, state, params\)"
    ):
        optimizer.update(params, optimizer.init(params))
    with pytest.raises(ValueError, match="params holds the units 'h', but the network has 'h', 'o', 'shared'"):
        optimizer.update(params, optimizer.init(params), {"h": params["h"]})
