"""Depth against width: units and parameters that relu networks of one to four hidden layers need for the same function.

    python -m experiments.depth
    python -m experiments.depth --quick
    python -m experiments.depth --folds 3 --target 0.1 --shallow-widths 8 12 16 24 --out runs/four_teeth

The function is a sawtooth: the tent map of [0, 1], applied to its own result a few times; k folds make 2^(k−1) teeth.
Every network is trained alike: weights by He, biases that put the corner of each unit at an example drawn at random,
the explicit gradient and Adam; of many restarts, the best few after a short training are trained on for long, and the
best of these counts. Errors are root mean squares relative to the standard deviation, so that a constant has error 1.
What is compared is what this training finds, not the least that could be set by hand, which is printed beside; a longer
one helps one hidden layer most (64 units, 193 parameters: error 0.05 after 20 000 steps). Writes `depth.png`; ends with
exit code 1 should no deeper network that reaches the target have both fewer units and fewer parameters than the
smallest network of one hidden layer that does, or than the largest that was tried.
"""

import dataclasses
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
import tyro
from jaxtyping import Array
from rich.console import Console
from rich.table import Table

import jaxbp

mpl.use("Agg")  # files only: no window system is needed
import matplotlib.pyplot as plt
from matplotlib.ticker import NullLocator

CLAIM = (
    "In fact, deeper networks are often preferred because they reduce the number of hidden units in each layer as well "
    "as the overall number of parameters."
)
PLACE = "The Multilayer Network as a Computational Graph"

Weights = dict[str, dict[str, np.ndarray]]
"""Parameters before they are JAX's."""

LOSS = jaxbp.squared_error
EXAMPLES, JUDGED = 256, 1000  # points of [0, 1]: to fit, and to measure the error at
ERRORS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)  # marked along the axis
QUICK = {
    "depths": (1, 4),
    "shallow_widths": (64, 128),
    "deep_widths": (8, 10),
    "restarts": 12,
    "screening": 0,
    "finalists": 12,
    "steps": 3000,
}


@dataclass(frozen=True)
class Sawtooth:
    """Train networks of several depths and widths on a sawtooth, and compare what they need."""

    folds: int = 4
    """How often the tent map is applied: 4 make 8 teeth."""
    target: float = 0.1
    """The error to reach, as a root mean square relative to the standard deviation of the sawtooth."""
    depths: tuple[int, ...] = (1, 2, 3, 4)
    """The numbers of hidden layers, rising from 1."""
    shallow_widths: tuple[int, ...] = (32, 48, 64, 96)
    """Of the networks with one hidden layer, rising."""
    deep_widths: tuple[int, ...] = (5, 6, 8)
    """Of each hidden layer of the others, rising."""
    restarts: int = 120
    """Trainings of each network, from other weights."""
    screening: int = 1000
    """Steps of Adam after which the best are chosen; 0 trains all of them for long."""
    finalists: int = 6
    """How many are chosen."""
    steps: int = 8000
    """Of Adam that these take from there, each with all examples; the best of them counts."""
    learning_rates: tuple[float, ...] = (0.005, 0.01, 0.03)
    """Of the first step, by turns over the restarts; each of the two trainings lets it fall to 0 like a cosine."""
    seed: int = 0
    """Fixes all weights to start from."""
    quick: bool = False
    """Depths 1 and 4 alone, with few restarts and steps: seconds instead of a minute."""
    out: Path = Path("runs/depth")
    """The folder to write to."""

    def __post_init__(self):
        for field in ("folds", "restarts", "finalists", "steps"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        for field in ("depths", "shallow_widths", "deep_widths"):
            numbers = getattr(self, field)
            if not numbers or list(numbers) != sorted(set(numbers)) or numbers[0] < 1:
                raise ValueError(f"{field} must rise from at least 1, got {' '.join(map(str, numbers)) or 'none'}")
        if self.depths[0] != 1 or len(self.depths) < 2:
            raise ValueError(f"depths must be 1 and others to compare with it, got {' '.join(map(str, self.depths))}")
        if not self.learning_rates or not all(0 < rate < math.inf for rate in self.learning_rates):
            rates = " ".join(map(str, self.learning_rates)) or "none"
            raise ValueError(f"learning_rates must be positive and finite, got {rates}")
        if self.screening < 0:
            raise ValueError(f"screening must be 0 or more steps, got {self.screening}")
        if self.finalists > self.restarts:
            raise ValueError(f"finalists are some of the {self.restarts} restarts, got {self.finalists}")
        if not 0 < self.target < 1:
            raise ValueError(f"target must lie between 0 and 1, the error of a constant, got {self.target}")

    def widths(self, depth: int) -> tuple[int, ...]:
        """Of the networks of a depth."""
        return self.shallow_widths if depth == 1 else self.deep_widths


@dataclass(frozen=True)
class Trained:
    """The best network of one depth and width."""

    depth: int
    """Hidden layers."""
    width: int
    """Units in each."""
    parameters: int
    error: float
    """The root mean square of its error, relative to the standard deviation of the sawtooth."""

    @property
    def units(self) -> int:
        """All hidden ones."""
        return self.depth * self.width


@dataclass(frozen=True)
class Result:
    """Every network, and what the target needs."""

    networks: tuple[Trained, ...]
    target: float
    error_by_hand: float
    """Of the network whose weights were set by hand."""

    def smallest(self, depth: int) -> Trained | None:
        """The smallest network of a depth that reaches the target; None if none does."""
        # with equal widths in all layers, units and parameters rise together
        reaching = [net for net in self.networks if net.depth == depth and net.error <= self.target]
        return min(reaching, key=lambda net: net.parameters, default=None)

    @property
    def shallow(self) -> Trained:
        """What a deeper one must undercut: the smallest of one hidden layer with the target, or else the largest."""
        return self.smallest(1) or max((net for net in self.networks if net.depth == 1), key=lambda net: net.width)

    @property
    def deep(self) -> Trained | None:
        """The deeper network with the fewest parameters that reaches the target."""
        found = [self.smallest(depth) for depth in sorted({net.depth for net in self.networks} - {1})]
        return min((net for net in found if net), key=lambda net: net.parameters, default=None)

    @property
    def holds(self) -> bool:
        """Whether it needs fewer units, and fewer parameters."""
        deep, shallow = self.deep, self.shallow
        return deep is not None and deep.units < shallow.units and deep.parameters < shallow.parameters

    @property
    def decision(self) -> str:
        """The numbers and their bounds in a line."""
        deep, shallow = self.deep, self.shallow
        than = "" if self.smallest(1) else "more than "
        one = f"one hidden layer took {than}{shallow.units} units and {than}{shallow.parameters} parameters"
        if deep is None:
            others = "no deeper network reached it"
        else:
            others = f"{deep.depth} hidden layers took {deep.units} units and {deep.parameters} parameters"
        verdict = "holds" if self.holds else "does not hold"
        return f"trained to a relative error of {self.target:g}, {one}; {others}; both must be fewer: {verdict}"


def main(config: Sawtooth, console: Console | None = None) -> Result:
    """Train every network, print what each depth needs, and write the plot.

    Args:
        config: The sawtooth, the networks and their training.
        console: Where to print; the terminal when None.

    Returns:
        The best network of each depth and width.
    """
    console = console or Console()
    config = dataclasses.replace(config, **QUICK) if config.quick else config
    networks, outputs = [], {}
    for depth in config.depths:
        for network, o in trained(depth, config):
            networks.append(network)
            outputs[network] = o
    by_hand = folding(config.folds)
    x = points(JUDGED)
    error = relative_errors(np.asarray(jaxbp.apply(*by_hand, jnp.asarray(x, jnp.float32))), tent(config.folds, x))
    result = Result(tuple(networks), config.target, float(error))
    config.out.mkdir(parents=True, exist_ok=True)
    save_plot(result, outputs, config, config.out / "depth.png")
    console.print(_table(result, config))
    console.print(
        f"Set by hand, {2 * config.folds} units in {config.folds} hidden layers with {parameters_of(by_hand[0])} "
        f"parameters have error {result.error_by_hand:.0e}; {2**config.folds} straight pieces with one hidden layer "
        f"take at least {2**config.folds - 1} units.",
        highlight=False,
    )
    console.print(result.decision, style="green" if result.holds else "red", highlight=False)
    console.print(f"wrote {config.out}/: depth.png")
    return result


def tent(folds: int, x: np.ndarray) -> np.ndarray:
    """The tent map 1 − |1 − 2x|, so many times: 2^(folds−1) teeth over [0, 1]."""
    for _ in range(folds):
        x = 1 - np.abs(1 - 2 * x)
    return x


def points(number: int) -> np.ndarray:
    """The midpoints of equal parts of [0, 1], `(number, 1)`."""
    return (np.arange(number)[:, None] + 0.5) / number


def network(depth: int, width: int) -> jaxbp.Network:
    """Hidden layers of equal width from one number to another."""
    return jaxbp.layered([1, *[width] * depth, 1], hidden=jaxbp.relu, output=jaxbp.linear)


def parameters_of(net: jaxbp.Network) -> int:
    """The number of weights and biases."""
    return sum(math.prod(shape) for u in net.units for shape in net.weight_shapes(u).values())


def folding(folds: int) -> tuple[jaxbp.Network, jaxbp.Params]:
    """The sawtooth itself: tent(x) = 2 relu(x) − 4 relu(x − 1/2) on [0, 1], a hidden layer for each fold."""
    net = network(folds, 2)
    params: jaxbp.Params = {}
    for u, (source, (_, n)) in first_weights(net).items():
        W = np.ones((1, n)) if source == "x" else np.tile([[2.0], [-4.0]], (1, n))
        bias = [0.0] if u == net.output else [0.0, -0.5]
        params[u] = {source: jnp.asarray(W, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}
    return net, params


def trained(depth: int, config: Sawtooth) -> list[tuple[Trained, np.ndarray]]:
    """The best network of each width of a depth, with its outputs at the judged points."""
    widths = config.widths(depth)
    net = network(depth, widths[-1])
    x, x_judged = points(EXAMPLES), points(JUDGED)
    y, y_judged = tent(config.folds, x), tent(config.folds, x_judged)
    data = [jnp.asarray(array, jnp.float32) for array in (x, y, x_judged)]
    rng = np.random.default_rng((config.seed, depth))
    starts = [start(rng, depth, width, widths[-1], x) for width in widths for _ in range(config.restarts)]
    params = jax.tree.map(lambda *members: jnp.asarray(np.stack(members), jnp.float32), *starts)
    rates = jnp.asarray(np.tile(np.resize(config.learning_rates, config.restarts), len(widths)), jnp.float32)

    def errors_of(o: Array) -> np.ndarray:
        errors = relative_errors(np.asarray(o, np.float64), y_judged).reshape(len(widths), -1)
        return np.where(np.isnan(errors), np.inf, errors)

    if config.screening:
        params, o = train(net, config.screening, params, rates, *data)
        chosen = (
            np.argsort(errors_of(o), axis=1)[:, : config.finalists] + config.restarts * np.arange(len(widths))[:, None]
        )
        params, rates = jax.tree.map(lambda array: array[chosen.reshape(-1)], (params, rates))
    _, o = train(net, config.steps, params, rates, *data)
    errors = errors_of(o)
    best, o = errors.argmin(axis=1), np.asarray(o).reshape(*errors.shape, JUDGED)
    return [
        (Trained(depth, width, parameters_of(network(depth, width)), float(errors[i, best[i]])), o[i, best[i]])
        for i, width in enumerate(widths)
    ]


@partial(jax.jit, static_argnums=(0, 1))
def train(
    net: jaxbp.Network, steps: int, starts: jaxbp.Params, rates: Array, x: Array, y: Array, x_judged: Array
) -> tuple[jaxbp.Params, Array]:
    """Train networks of one depth and several widths at once.

    Args:
        net: The network of the largest width; the others are that one with zeros.
        steps: How many updates, each with all examples.
        starts: The parameters of all members, along a first axis.
        rates: The learning rate of each member's first step; it falls to 0 like a cosine.
        x: The examples, `(examples, 1)`.
        y: The targets, `(examples, 1)`.
        x_judged: Other points.

    Returns:
        The trained parameters, and their outputs at the other points, `(members, points, 1)`.
    """
    gradient = jaxbp.value_and_grad(net, LOSS)

    def one(params: jaxbp.Params, rate: Array) -> tuple[jaxbp.Params, Array]:
        optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))

        def body(state: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], None]:
            params, opt_state = state
            _, grads = gradient(params, x, y)
            updates, opt_state = optimizer.update(grads, opt_state)
            return (optax.apply_updates(params, updates), opt_state), None

        (params, _), _ = jax.lax.scan(body, (params, optimizer.init(params)), length=steps)
        return params, jaxbp.apply(net, params, x_judged)

    return jax.vmap(one)(starts, rates)


def start(rng: np.random.Generator, depth: int, width: int, largest: int, x: np.ndarray) -> Weights:
    """Weights to start from, in arrays of the largest width; zero beyond the network's own.

    A unit whose weights are all zero keeps them: h = relu(0) = 0 leaves the gradient of its outgoing weights zero, and
    these that of its incoming ones. So one program serves all widths of a depth.

    Args:
        rng: For weights and corners; numpy's, because to compile jax's takes longer than the training.
        depth: The number of hidden layers.
        width: The units that each of them has.
        largest: The units that the arrays hold.
        x: The examples; the corner a = 0 of each unit goes through one of them.

    Returns:
        The parameters.
    """
    params: Weights = {}
    h = x
    for u, (source, shape) in first_weights(network(depth, largest)).items():
        n_in, n_out = h.shape[1], 1 if u == "o" else width
        W = rng.normal(scale=math.sqrt((1 if u == "o" else 2) / n_in), size=(n_in, n_out))
        b = np.zeros(n_out)
        if u != "o":
            b = -np.sum(h[rng.integers(len(h), size=n_out)] * W.T, axis=1)
            h = np.maximum(h @ W + b[None, :], 0)
        padding = ((0, shape[0] - n_in), (0, shape[1] - n_out))
        params[u] = {source: np.pad(W, padding), "bias": np.pad(b, padding[1])}
    return params


def first_weights(net: jaxbp.Network) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The one source of each unit of a layered network, and the shape of its weights."""
    return {u: next(iter(net.weight_shapes(u).items())) for u in net.order}


def relative_errors(o: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The root mean square of o − truth over the points, relative to the standard deviation of truth."""
    return np.sqrt(np.mean((o - truth) ** 2, axis=(-2, -1))) / np.std(truth)


def equally_large(result: Result) -> tuple[Trained, Trained]:
    """A shallow and a deeper network of about as many parameters: of those no larger than the shallow, the best."""
    shallow = max((net for net in result.networks if net.depth == 1), key=lambda net: net.width)
    others = [net for net in result.networks if net.depth > 1]
    fitting = [net for net in others if net.parameters <= shallow.parameters]
    deep = min(fitting or others, key=lambda net: net.error)
    larger = [net for net in result.networks if net.depth == 1 and net.parameters >= deep.parameters]
    return min(larger, key=lambda net: net.width, default=shallow), deep


def save_plot(result: Result, outputs: dict[Trained, np.ndarray], config: Sawtooth, path: Path) -> None:
    """The error over parameters and units, and the fits of a shallow and a deeper network of one size.

    Args:
        result: The networks.
        outputs: Of each, at the judged points.
        config: What was trained.
        path: The PNG to write.
    """
    figure, axes = plt.subplots(2, 2, figsize=(12, 8), layout="constrained")
    figure.suptitle(f"A sawtooth of {2 ** (config.folds - 1)} teeth, fitted by relu networks")
    for axis, quantity in zip(axes[0], ("parameters", "units"), strict=True):
        for depth in config.depths:
            of_depth = [net for net in result.networks if net.depth == depth]
            sizes = [getattr(net, quantity) for net in of_depth]
            axis.plot(sizes, [net.error for net in of_depth], marker="o", label=_layers(depth))
        axis.axhline(result.target, color="grey", linestyle=":", label="target")
        what = "parameters" if quantity == "parameters" else "hidden units"
        axis.set(xscale="log", yscale="log", xlabel=what, ylabel="RMS error / standard deviation")
        ticks = sorted({size for i in range(12) if (size := 4 * 2**i) and _covers(result.networks, quantity, size)})
        axis.set_xticks(ticks, map(str, ticks))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_yticks(ERRORS, map(str, ERRORS))
        axis.set_ylim(min(min(net.error for net in result.networks), result.target) / 1.3, 1.3)
        axis.yaxis.set_minor_locator(NullLocator())
        axis.grid(alpha=0.3)
    axes[0, 0].legend(loc="lower left", fontsize=9)
    x = points(JUDGED)
    for axis, net in zip(axes[1], equally_large(result), strict=True):
        axis.plot(x[:, 0], tent(config.folds, x)[:, 0], color="black", linewidth=3, alpha=0.3, label="sawtooth")
        axis.plot(x[:, 0], outputs[net], color="C3", linewidth=1.2, label="network")
        size = f"{net.units} units, {net.parameters} parameters, error {net.error:.2g}"
        axis.set(title=f"{_layers(net.depth)}: {size}", xlabel="input $x$", ylabel="output")
        axis.set_ylim(-0.25, 1.25)
        axis.grid(alpha=0.3)
    axes[1, 0].legend(loc="lower left", ncols=2, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _covers(networks: Sequence[Trained], quantity: str, size: int) -> bool:
    sizes = [getattr(net, quantity) for net in networks]
    return min(sizes) <= size <= max(sizes)


def _layers(depth: int) -> str:
    return "1 hidden layer" if depth == 1 else f"{depth} hidden layers"


def _table(result: Result, config: Sawtooth) -> Table:
    title = f"the smallest network with a relative error of at most {result.target:g}"
    table = Table(title=title, title_justify="left")
    for column in ("hidden layers", "widths tried", "units", "parameters", "its error", "least error"):
        table.add_column(column, justify="right")
    for depth in config.depths:
        of_depth = [net for net in result.networks if net.depth == depth]
        least = f"{min(net.error for net in of_depth):.3f}"
        tried = " ".join(str(net.width) for net in of_depth)
        if net := result.smallest(depth):
            cells = (str(net.units), str(net.parameters), f"{net.error:.3f}")
        else:
            cells = (f"> {of_depth[-1].units}", f"> {of_depth[-1].parameters}", "")
        table.add_row(str(depth), tried, *cells, least)
    return table


if __name__ == "__main__":
    try:
        sys.exit(0 if main(tyro.cli(Sawtooth)).holds else 1)
    except (ValueError, OSError) as error:
        Console(stderr=True).print(f"[red]error:[/] {error}", highlight=False)
        sys.exit(1)
