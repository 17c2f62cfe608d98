"""The collectors against the plain gradient, against vmap(jax.grad), and against their peers in torch."""

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
from rich.table import Table

import jaxbp
from jaxbp import collect
from jaxbp.experiments.benchmarks.timing import FEWEST, TimedTable, alternate, in_words, seconds

NETWORKS = {
    "784-128-10": ([784, 128, 10], 128),
    "784-512-512-10": ([784, 512, 512, 10], 128),
    "1024-1024-1024-1024-10": ([1024, 1024, 1024, 1024, 10], 256),
}
MOST_SECONDS = 2.0  # for each comparison; what is slow gets fewer rounds
MOST_SECONDS_OF_VMAP = 1.0  # what is slower is called once: nobody needs its second digit
MOST_MEMORY = 1.5  # of the plain gradient's, for norms and clipped
TIMES_VMAP = 20  # how much faster than vmap(jax.grad) clipped must be
INSTALLED = all(importlib.util.find_spec(module) for module in ("torch", "backpack", "opacus"))


@dataclass(frozen=True)
class Problem:
    """A layered relu network with softmax and cross-entropy in float32, and a batch for it."""

    net: jaxbp.Network
    params: jaxbp.Params
    x: jax.Array
    y: jax.Array

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What all functions that are measured take."""
        return self.params, self.x, self.y, jax.random.key(3)

    @cached_property
    def max_norm(self) -> float:
        """The median norm of an example's own gradient: clipping to it changes half of them."""
        collectors = {"norms": collect.squared_norm}
        # of a sum, what an example adds is its own gradient
        back = partial(jaxbp.backprop, self.net, jaxbp.cross_entropy, reduction="sum", collect=collectors)
        norms = jax.jit(lambda *data: back(*data).collected["norms"].total)(self.params, self.x, self.y)
        return float(jnp.median(jnp.sqrt(norms)))


@dataclass(frozen=True)
class Measured:
    """A collector, what it is compared with, and what is claimed of it.

    Attributes:
        collectors: From C and a key to what is collected in place of the gradient alone.
        definition: From the own gradients of all examples and C to the same by name; None where it is not made of
            those.
        most: The claim for its time over the plain gradient's; None where there is none.
        lean: Whether there is a claim for its memory.
    """

    collectors: Callable[[float, jax.Array], dict[str, collect.Collector]]
    definition: Callable[[Any, float], dict[str, Any]] | None = None
    most: float | None = None
    lean: bool = False


def beside(
    collector: collect.Collector,
    definition: Callable[[Any], Any] | None = None,
    most: float | None = None,
    lean: bool = False,
) -> Measured:
    """A collector beside the gradient."""

    def both(gradients: Any, max_norm: float) -> dict[str, Any]:
        return {"grads": jax.tree.map(lambda g: jnp.mean(g, axis=0), gradients), "it": definition(gradients)}

    return Measured(lambda max_norm, key: {"grads": collect.gradient, "it": collector}, definition and both, most, lean)


def _squared_norms(gradients: Any) -> jax.Array:
    return sum(jnp.sum(g**2, axis=tuple(range(1, g.ndim))) for g in jax.tree.leaves(gradients))


def _norms(gradients: Any) -> jax.Array:
    squared = _squared_norms(gradients)
    return squared / squared.size**2  # of what an example adds to the mean


def _clipped(gradients: Any, max_norm: float) -> dict[str, Any]:
    factors = jnp.minimum(1, max_norm / jnp.sqrt(_squared_norms(gradients)))
    return {"grads": jax.tree.map(lambda g: jnp.tensordot(factors / factors.size, g, axes=1), gradients)}


def _second_moment(gradients: Any) -> Any:
    return jax.tree.map(lambda g: jnp.mean(g**2, axis=0), gradients)


def _variance(gradients: Any) -> Any:
    return jax.tree.map(lambda g: jnp.mean(g**2, axis=0) - jnp.mean(g, axis=0) ** 2, gradients)


def _gram(gradients: Any) -> jax.Array:
    flat = [g.reshape(g.shape[0], -1) for g in jax.tree.leaves(gradients)]
    return sum(g @ g.T for g in flat) / len(flat[0]) ** 2


MEASURED = {
    "norms": beside(collect.squared_norm, _norms, 1.1, lean=True),
    "clipped": Measured(lambda C, key: {"grads": collect.clipped(C)}, _clipped, 1.2, lean=True),
    "second moment": beside(collect.second_moment, _second_moment, 2.0),
    "variance": beside(collect.variance, _variance),
    "Kronecker": beside(collect.kronecker, most=2.0),
    "Gram": beside(collect.gram, _gram, 1.5),
    "diagonal GGN": beside(collect.diagonal_ggn),
    "sampled diag.": Measured(lambda C, key: {"grads": collect.gradient, "it": collect.sampled_diagonal_ggn(key)}),
    "Kronecker GGN": beside(collect.kronecker_ggn),
    "sampled Kron.": Measured(lambda C, key: {"grads": collect.gradient, "it": collect.sampled_kronecker_ggn(key)}),
}


def problem(widths: list[int], batch: int) -> Problem:
    """Random parameters and data."""
    net = jaxbp.layered(widths, hidden=jaxbp.relu, output=jaxbp.softmax)
    params = jaxbp.init_params(jax.random.key(0), net, jnp.float32)
    x = jax.random.normal(jax.random.key(1), (batch, widths[0]), jnp.float32)
    y = jax.random.randint(jax.random.key(2), (batch,), 0, widths[-1])
    return Problem(net, params, x, y)


def plain(of: Problem) -> Callable[..., Any]:
    """The value and the gradient, nothing else."""
    gradient = jaxbp.value_and_grad(of.net, jaxbp.cross_entropy)
    return lambda params, x, y, key: gradient(params, x, y)


def collected(measured: Measured, of: Problem) -> Callable[..., Any]:
    """The value and what is collected. Δ, δ and the trace are not returned, so that XLA need not keep them."""
    max_norm = of.max_norm

    def run(params: Any, x: Any, y: Any, key: Any) -> Any:
        collectors = measured.collectors(max_norm, key)
        back = jaxbp.backprop(of.net, jaxbp.cross_entropy, params, x, y, collect=collectors)
        return back.value, back.collected

    return run


def by_vmap(measured: Measured, of: Problem) -> Callable[..., Any]:
    """The same from the gradients of all examples."""
    each = jax.vmap(jax.value_and_grad(jaxbp.objective(of.net, jaxbp.cross_entropy)), in_axes=(None, 0, 0))
    max_norm = of.max_norm

    def run(params: Any, x: Any, y: Any, key: Any) -> Any:
        values, gradients = each(params, x, y)
        return jnp.mean(values), measured.definition(gradients, max_norm)

    return run


def collector_tables(rounds: int) -> Iterator[Table]:
    """One table for each network, as soon as it is measured."""
    for name, (widths, batch) in NETWORKS.items():
        yield collector_table(f"{name}, batch {batch}", problem(widths, batch), rounds)


def collector_table(name: str, of: Problem, rounds: int) -> Table:
    """Time and memory of every collector on one network, and whether they are what is claimed."""
    gradient = jax.jit(plain(of)).lower(*of.arguments).compile()
    run_plain = partial(gradient, *of.arguments)
    table = TimedTable(title_justify="left", caption_justify="left", show_lines=True)
    for column in ("collector", "ms", "time", "memory", "vmap(jax.grad)", "peer"):
        table.add_column(column, justify="left" if column == "collector" else "right")
    torch_plain, peers, threads = _peers(of)
    for key, measured in MEASURED.items():
        compiled = jax.jit(collected(measured, of)).lower(*of.arguments).compile()
        ours, theirs, ratio = alternate([partial(compiled, *of.arguments), run_plain], rounds, MOST_SECONDS)
        table.add_row(
            key,
            f"{1e3 * ours[1]:.2f}",
            _cell(in_words(ratio), _claim(ratio[1], measured.most)),
            _memory(compiled, gradient, measured.lean),
            _vmap(key, measured, of, run_plain, theirs[1], ratio[1]),
            _peer(peers.get(key), torch_plain, ratio[1], rounds) if peers else "not installed",
        )
    table.title = f"{name}: collectors over the plain gradient, which takes {1e3 * theirs[1]:.2f} ms"
    table.caption = (
        "time, memory (of compiled temporaries): over those of the plain jitted gradient, times measured in turn; "
        "≤: the target, and whether it is met.\nvmap(jax.grad): the time of the same result from it, over that of the "
        "plain gradient, and over ours.\npeer: its time over that of torch's own gradient"
        f"{f', {threads} threads' if peers else ''}; whether our ratio is the better one."
    )
    return table


def _peers(of: Problem) -> tuple[Any, Any, int]:
    """Torch's plain gradient, the peers by collector, and torch's threads; nothing without the extra `peers`."""
    if not INSTALLED:
        return None, None, 0
    import torch

    from jaxbp.experiments.benchmarks.peers import of_collectors

    return *of_collectors(of.net, of.params, of.x, of.y, of.max_norm), torch.get_num_threads()


def _vmap(
    key: str, measured: Measured, of: Problem, run_plain: Callable[[], Any], plain_time: float, ours: float
) -> str:
    if measured.definition is None:
        return "–"
    compiled = jax.jit(by_vmap(measured, of)).lower(*of.arguments).compile()
    run = partial(compiled, *of.arguments)
    once = seconds(run)  # compiled before, so that the first call is like any other
    if once > MOST_SECONDS_OF_VMAP:
        ratio = once / plain_time
    else:
        ratio = alternate([run, run_plain], FEWEST, MOST_SECONDS_OF_VMAP)[2][1]
    times = ratio / ours
    claim = f" ≥ {TIMES_VMAP}: {_yes(times >= TIMES_VMAP)}" if key == "clipped" else ""
    return _cell(f"{ratio:.0f}", f"{times:.0f} × ours{claim}")


def _peer(peers: dict[str, Callable[[], Any]], torch_plain: Callable[[], Any], ours: float, rounds: int) -> str:
    with warnings.catch_warnings():
        # what torch says to hooks such as theirs where no gradient of the input is asked for
        warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
        ratios = {name: alternate([run, torch_plain], rounds, MOST_SECONDS)[2] for name, run in peers.items()}
    best = min(ratios, key=lambda name: ratios[name][1])
    return _cell(in_words(ratios[best]), f"{best}: {_yes(ours < ratios[best][1])}")


def _memory(compiled: Any, gradient: Any, lean: bool) -> str:
    ratio = compiled.memory_analysis().temp_size_in_bytes / gradient.memory_analysis().temp_size_in_bytes
    return _cell(f"{ratio:.2f}", _claim(ratio, MOST_MEMORY if lean else None))


def _claim(figure: float, most: float | None) -> str:
    return "" if most is None else f"≤ {most:.2f}: {_yes(figure <= most)}"


def _yes(holds: bool) -> str:
    return "[green]yes[/]" if holds else "[red]no[/]"


def _cell(*lines: str) -> str:
    return "\n".join(filter(None, lines))
