"""Updates inside the backward scan against `jax.grad` of a plain JAX scan and an update of all weights after it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from rich.table import Table

import jaxbp
from jaxbp import train
from jaxbp.experiments.benchmarks.timing import TimedTable, in_words, paired

DEPTH, WIDTH, BATCH = 48, 1024, 16
ADAM = optax.adam(1e-3)
OPTIMIZERS = {"SGD": (optax.sgd(1e-3), None), "Adam": (ADAM, None), "Adam, clipped by the norm of all": (ADAM, 1.0)}
"""The optimizer, and the most that the norm of all gradients may be."""
MEBI = 2**20


def network(depth: int = DEPTH, width: int = WIDTH) -> jaxbp.Network:
    """Layers of tanh with a skip connection around each."""
    block = jaxbp.Network(
        inputs={"x": width},
        units={
            "h": jaxbp.Unit(width, jaxbp.tanh, {"x": jaxbp.Dense()}, bias=False),
            "sum": jaxbp.Unit(width, jaxbp.linear, {"h": jaxbp.Identity(), "x": jaxbp.Identity()}, bias=False),
        },
    )
    return jaxbp.Network(inputs={"x": width}, units={"blocks": jaxbp.stack(block, depth, "x")})


def fused_step(
    net: jaxbp.Network, optimizer: optax.GradientTransformation, clip_norm: float | None = None
) -> Callable[..., Any]:
    """`(params, opt_state, x, y) -> (params, opt_state, loss)` as `train.step` makes it of a fused gradient."""
    gradient = train.fused(net, jaxbp.squared_error, clip_norm=clip_norm)
    zero, key = jnp.zeros((), jnp.int32), jax.random.key(0)

    def step(params: Any, opt_state: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
        state = train.TrainState(params, opt_state, key, zero)
        after, loss = train.step(state, x, y, gradient=gradient, optimizer=optimizer)
        return after.params, after.opt_state, loss

    return step


def plain_step(optimizer: optax.GradientTransformation) -> Callable[..., Any]:
    """The same of `jax.value_and_grad` of a scan."""

    def value(params: Any, x: Any, y: Any) -> Any:
        def layer(h: Any, W: Any) -> tuple[Any, None]:
            return h + jnp.tanh(h @ W), None

        o, _ = jax.lax.scan(layer, x, params["blocks"]["h"]["x"])
        return jnp.mean(jnp.sum((o - y) ** 2, axis=-1)) / 2

    def step(params: Any, opt_state: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
        loss, grads = jax.value_and_grad(value)(params, x, y)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    return step


def fused_table(rounds: int) -> Table:
    """Memory and time of a step whose updates are fused, over those of one that has all gradients first."""
    table = TimedTable(
        title="a step with fused updates / jax.grad of a plain scan, then optax; both donated", title_justify="left"
    )
    for column in (f"{DEPTH} layers of {WIDTH}, batch {BATCH}", "milliseconds", "CPU time", "wall time", "temporaries"):
        table.add_column(column, justify="right")
    net = network()
    for name, (optimizer, most) in OPTIMIZERS.items():
        whole = optimizer if most is None else optax.chain(optax.clip_by_global_norm(most), optimizer)
        both = (fused_step(net, optimizer, most), optimizer), (plain_step(whole), whole)
        table.add_row(name, *compared(both, net, rounds))
    return table


def compared(
    steps: tuple[tuple[Callable[..., Any], optax.GradientTransformation], ...], net: jaxbp.Network, rounds: int
) -> list[str]:
    """Milliseconds of the first of two steps, and the ratios of CPU time, wall time and memory."""
    x, y = jax.random.normal(jax.random.key(1), (2, BATCH, WIDTH), jnp.float32)
    compiled, runs = [], []
    for step, optimizer in steps:
        params = jax.tree.map(lambda W: W / 8, jaxbp.init_params(jax.random.key(0), net, jnp.float32))
        state = params, optimizer.init(params)
        program = jax.jit(step, donate_argnums=(0, 1)).lower(*state, x, y).compile()
        compiled.append(program)
        runs.append(partial(_again, program, [*state], x, y))
    cpu, wall, seconds = paired(runs[0], runs[1], rounds)
    ours, theirs = (program.memory_analysis().temp_size_in_bytes for program in compiled)
    memory = f"{ours / theirs:.3f} ({ours / MEBI:.0f} of {theirs / MEBI:.0f} MiB)"
    return [f"{1e3 * seconds:.0f}", in_words(cpu), in_words(wall), memory]


def _again(program: Callable[..., Any], state: list[Any], x: Any, y: Any) -> Any:
    """One more step of a state, which is used up."""
    state[0], state[1], loss = program(*state, x, y)
    return loss, state[0]
