"""Layered networks trained by kfac-jax, with the settings of ours: factors each step, inverses every 20.

Nothing here is imported unless kfac-jax is installed. Its release 0.0.8 calls a function of jax that has changed since;
what it needs of that is mended here.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import kfac_jax
from kfac_jax._src import tag_graph_matcher

import jaxbp
from jaxbp.experiments.benchmarks.second_order_problems import Problem

INVERSES_EVERY, ADAPT_EVERY = 20, 5


def _evaluated(eqn: Any, values: list[Any]) -> list[Any]:
    made = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(eqn.params))
    return made if isinstance(made, list) else [made]


# jax 0.10 gives the parameters alone, not a pair of functions and parameters
tag_graph_matcher.eval_jaxpr_eqn = _evaluated


def steps_of(problem: Problem, damping: float, seed: int) -> Callable[[], Iterator[tuple[Any, jaxbp.Params]]]:
    """A start to a generator that is sent batches, and gives the loss and the parameters after each."""
    optimizer = optimizer_of(problem, damping)

    def steps() -> Iterator[tuple[Any, jaxbp.Params]]:
        key, params = jax.random.PRNGKey(seed), jaxbp.init_params(jax.random.key(seed), problem.net, jnp.float32)
        batch = yield jnp.float32(0), params
        state = optimizer.init(params, key, batch)
        while True:
            key, now = jax.random.split(key)
            params, state, seen = optimizer.step(params, state, now, batch=batch)
            # the next step may take their memory
            batch = yield seen["loss"], jax.tree.map(jnp.array, params)

    return steps


def optimizer_of(problem: Problem, damping: float) -> Any:
    """Its optimizer, with learning rate, momentum and damping by the quadratic model."""
    return kfac_jax.Optimizer(
        jax.value_and_grad(_loss_of(problem)),
        l2_reg=0.0,
        use_adaptive_learning_rate=True,
        use_adaptive_momentum=True,
        use_adaptive_damping=True,
        initial_damping=damping,
        damping_adaptation_interval=ADAPT_EVERY,
        inverse_update_period=INVERSES_EVERY,
        curvature_ema=0.95,
        num_burnin_steps=0,
        multi_device=False,
    )


def _loss_of(problem: Problem) -> Callable[..., jax.Array]:
    """The mean loss in plain jax, from which it reads the layers."""
    net, bernoulli = problem.net, problem.loss == jaxbp.binary_cross_entropy

    def loss(params: jaxbp.Params, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        h, y = batch
        a = h
        for u, unit in net.units.items():
            (source,) = (s for s in params[u] if s != "bias")
            a = h @ params[u][source] + params[u]["bias"]
            h = a if u == net.output else unit.activation.value(a)
        if bernoulli:
            kfac_jax.register_multi_bernoulli_predictive_distribution(a, y)
            return jnp.mean(jnp.sum(jax.nn.softplus(a) - y * a, axis=-1))
        kfac_jax.register_softmax_cross_entropy_loss(a, y)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(a), y[:, None], axis=-1))

    return loss
