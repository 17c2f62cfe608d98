"""Stacks of equal blocks against `jax.grad` of the same blocks in a plain JAX scan."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from rich.table import Table

import jaxbp
from jaxbp.experiments.benchmarks.graphs import transformer_block
from jaxbp.experiments.benchmarks.timing import TimedTable, in_words, paired

STACKS = {
    "12 blocks, 128 rows of 256, batch 8": (12, 128, 256, 8),
    "24 blocks, 64 rows of 128, batch 8": (24, 64, 128, 4),
}
BATCH = 8
DEPTHS = (8, 32, 128, 512)
MEBI = 2**20


def block_of(rows: int, width: int, heads: int) -> jaxbp.Network:
    """The block of a transformer without a readout."""
    net = transformer_block(rows, width, heads, width)
    return jaxbp.Network(net.inputs, {u: unit for u, unit in net.units.items() if u != "o"})


def stacked(block: jaxbp.Network, depth: int, *, remat: bool = False) -> jaxbp.Network:
    """The blocks one after the other."""
    return jaxbp.Network(block.inputs, {"blocks": jaxbp.stack(block, depth, "x", remat=remat)})


def plain(block: jaxbp.Network, *, remat: bool) -> Callable[..., Any]:
    """`jax.value_and_grad` of the same loss of the same blocks in a scan, with recomputation by `jax.checkpoint`."""

    def layer(h: Any, params: Any) -> tuple[Any, None]:
        return jaxbp.apply(block, params, h), None

    def value(params: Any, x: Any, y: Any) -> Any:
        body = jax.checkpoint(layer, prevent_cse=False) if remat else layer  # pyright: ignore[reportPrivateImportUsage]
        o, _ = jax.lax.scan(body, x, params["blocks"])
        return jnp.mean(jnp.sum((o - y) ** 2, axis=(1, 2))) / 2

    return jax.value_and_grad(value)


def stack_tables(rounds: int) -> Iterator[Table]:
    """Time and memory of the gradient, and what compiling takes at any depth."""
    yield gradient_table(rounds)
    yield blocks_table(rounds)
    yield depth_table(3)


def gradient_table(rounds: int) -> Table:
    """The jitted explicit gradient over that of `jax.value_and_grad` of a scan."""
    table = TimedTable(title="stacks: explicit gradient / jax.value_and_grad of a plain scan", title_justify="left")
    for column in ("stack", "milliseconds", "CPU time", "wall time", "temporary memory"):
        table.add_column(column, justify="right")
    for name, (depth, rows, width, heads) in STACKS.items():
        block = block_of(rows, width, heads)
        for remat in (False, True):
            net = stacked(block, depth, remat=remat)
            params = jaxbp.init_params(jax.random.key(0), net, jnp.float32)
            x, y = jax.random.normal(jax.random.key(1), (2, BATCH, rows, width), jnp.float32)
            both = jaxbp.value_and_grad(net, jaxbp.squared_error), plain(block, remat=remat)
            table.add_row(f"{name}{', recomputed' if remat else ''}", *compared(both, (params, x, y), rounds))
    return table


def compared(both: tuple[Callable[..., Any], ...], arguments: tuple[Any, ...], rounds: int) -> list[str]:
    """Milliseconds of the first of two functions, and the ratios of CPU time, wall time and memory."""
    compiled = [jax.jit(f).lower(*arguments).compile() for f in both]
    cpu, wall, seconds = paired(*(partial(run, *arguments) for run in compiled), rounds)
    ours, theirs = (run.memory_analysis().temp_size_in_bytes for run in compiled)
    memory = f"{ours / theirs:.3f} ({ours / MEBI:.0f} MiB)"
    return [f"{1e3 * seconds:.0f}", in_words(cpu), in_words(wall), memory]


def blocks_table(rounds: int) -> Table:
    """Classes and keys in blocks, against all at once."""
    table = TimedTable(title="in blocks / all at once: the explicit gradient", title_justify="left")
    for column in ("what", "milliseconds", "CPU time", "wall time", "temporary memory"):
        table.add_column(column, justify="right")
    rows, classes = 2048, 32_000
    net = jaxbp.layered([256, classes], output=jaxbp.softmax)
    losses = jaxbp.cross_entropy, jaxbp.losses.in_blocks(jaxbp.cross_entropy, None)
    params = jaxbp.init_params(jax.random.key(0), net, jnp.float32)
    x = jax.random.normal(jax.random.key(1), (rows, 256), jnp.float32)
    y = jax.random.randint(jax.random.key(2), (rows,), 0, classes)
    both = tuple(jaxbp.value_and_grad(net, loss) for loss in losses)
    table.add_row(f"cross-entropy, {classes} classes, {rows} rows of 256", *compared(both, (params, x, y), rounds))
    shape = (rows, 256)
    nets = [attending(shape, block) for block in (64, None)]
    both = tuple(jaxbp.value_and_grad(net, jaxbp.squared_error) for net in nets)
    params = jaxbp.init_params(jax.random.key(0), nets[0], jnp.float32)
    x, y = jax.random.normal(jax.random.key(1), (2, 1, *shape), jnp.float32)
    table.add_row(f"attention, {rows} rows, 4 heads of 64", *compared(both, (params, x, y), rounds))
    return table


def attending(shape: tuple[int, int], block: int | None) -> jaxbp.Network:
    """Causal attention of four heads with its projections."""

    def dense(source: str) -> jaxbp.Unit:
        return jaxbp.Unit(shape, jaxbp.linear, {source: jaxbp.Dense()})

    mix = jaxbp.attention("q", "k", "v", shape, heads=4, causal=True, block=block)
    return jaxbp.Network(
        {"x": shape}, {"q": dense("x"), "k": dense("x"), "v": dense("x"), "mix": mix, "o": dense("mix")}
    )


def depth_table(rounds: int) -> Table:
    """What tracing and compiling takes, over that of the least depth."""
    table = TimedTable(title="stacks: CPU seconds to trace and compile the gradient", title_justify="left")
    for column in ("blocks of 64 rows of 128", "seconds", f"over that of {DEPTHS[0]}"):
        table.add_column(column, justify="right")
    block, taken = block_of(64, 128, 4), {depth: float("inf") for depth in DEPTHS}
    for _ in range(rounds):
        for depth in DEPTHS:
            net = stacked(block, depth)
            params = jax.eval_shape(lambda net=net: jaxbp.init_params(jax.random.key(0), net, jnp.float32))
            x = jax.ShapeDtypeStruct((BATCH, 64, 128), jnp.float32)
            jax.clear_caches()
            start = time.process_time()
            jax.jit(jaxbp.value_and_grad(net, jaxbp.squared_error)).lower(params, x, x).compile()
            taken[depth] = min(taken[depth], time.process_time() - start)
    for depth, seconds in taken.items():
        table.add_row(str(depth), f"{seconds:.2f}", f"{seconds / taken[DEPTHS[0]]:.2f}")
    return table
