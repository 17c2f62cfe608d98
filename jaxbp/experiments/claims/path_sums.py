"""Path sums against the sweep: "an exponential number of components", and dynamic programming, measured over depth.

    python -m experiments.path_sums
    python -m experiments.path_sums --quick
    python -m experiments.path_sums --widths 2 3 10 --max-seconds 1 --out runs/wider

For networks of equal layers, Δ of the input and of every unit for one example, in three ways: every path one after the
other (`textbook.accumulate_by_paths`, the heart of `textbook.path_sums`), node by node (`accumulate_by_nodes`), both
in plain Python from the same local derivatives, and by the jitted engine, from the parameters. All three, and
`textbook.pre_activation_recursion`, must give the same numbers. Writes `growth.png` and `measurements.json`; ends with
exit code 1 should the claim not hold. Seconds that are not as asked decide nothing where there were fewer of them than
when nothing is given.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table

import jaxbp
from jaxbp import textbook
from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.files import write_whole
from jaxbp.experiments.common.options import POSITIVE, check_options, full_size, listed, whole
from jaxbp.experiments.common.plots import plt, save
from jaxbp.experiments.common.records import as_json
from jaxbp.experiments.common.verdicts import conclude, in_a_word, verdict

CLAIM = (
    "Although this summation has an exponential number of components (paths), one can compute it efficiently using "
    "dynamic programming."
)
PLACE = "Training a Neural Network with Backpropagation"

T = TypeVar("T")

LOSS = jaxbp.squared_error
DEEPEST = 32  # nobody waits for the paths of this one, should their number grow at all
MEASURABLE = 5e-5  # seconds; of a shorter enumeration the call itself is a good part
LEAST_FACTOR = 0.7  # of the width, by which enumeration takes longer with every layer
MOST_BEND = 0.01  # of the power of depth that multiplications follow, from 1
MOST_POWER = 1.5  # of depth, that seconds follow
MOST_ERROR = 1e-9
QUICK = {"widths": (3, 6), "max_seconds": 0.3}


@dataclass(frozen=True)
class Growth:
    """Measure what enumerating the paths of a network costs, and what dynamic programming costs."""

    widths: tuple[int, ...] = (2, 4, 8)
    """Of all the layers of a network; each is measured over its depth."""
    max_seconds: float = 3.0
    """No enumeration is begun that would take longer."""
    repeats: int = 3
    """How often everything is timed, at least; the fastest counts."""
    quick: bool = False
    """Two widths and 0.3 seconds for an enumeration: seconds instead of a minute."""
    out: Path = Path("runs/path_sums")
    """The folder to write to."""

    def __post_init__(self):
        if not self.widths or min(self.widths) < 2:
            raise ValueError(
                f"widths must be at least 2, got {listed(self.widths)}: "
                "layers of one neuron have one path, not exponentially many"
            )
        if self.repeats < 2:
            raise ValueError(f"repeats must be at least 2, got {self.repeats}: the first one compiles")
        check_options(self, repeats=whole(2, 10_000), max_seconds=POSITIVE)


@dataclass(frozen=True)
class Measurement:
    """One network: x ⇒ h1 ⇒ … ⇒ o of layers of one width, with `depth` matrices between them."""

    width: int
    depth: int
    paths: int
    multiplications_by_paths: int
    multiplications_by_nodes: int
    seconds_by_paths: float | None
    """None where it would take too long."""
    seconds_by_nodes: float
    seconds_of_sweep: float
    error: float
    """The largest relative error of any other way to Δ and δ against the engine's."""


@dataclass(frozen=True)
class Claim:
    """How the cost grows with depth for one width, and whether that is what the chapter claims."""

    width: int
    factor_of_paths: float
    """By which enumeration takes longer for each further layer: exp of the slope of log seconds over depth."""
    power_of_multiplications: float
    """p of depth^p, which the multiplications of dynamic programming follow."""
    power_of_nodes: float
    """p of depth^p, which its seconds follow in plain Python."""
    power_of_sweep: float
    """p of depth^p, which the seconds of the jitted engine follow."""
    error: float
    full: bool = True
    """Whether the seconds of it were long enough to refute the claim."""

    @property
    def exponential(self) -> bool:
        """Enumeration grows by about the width with every layer."""
        return self.factor_of_paths > LEAST_FACTOR * self.width

    @property
    def linear(self) -> bool:
        """Dynamic programming takes time that grows certainly less than the square of depth."""
        return self.power_of_nodes < MOST_POWER and self.power_of_sweep < MOST_POWER

    @property
    def holds(self) -> bool | None:
        """Exponential, linear, and both with the same result."""
        facts = abs(self.power_of_multiplications - 1) < MOST_BEND, self.error < MOST_ERROR
        return verdict(facts, [self.exponential, self.linear], refutes=self.full)


@dataclass(frozen=True)
class Result:
    """Every network, and the claim for each width."""

    measurements: tuple[Measurement, ...]
    claims: tuple[Claim, ...]

    @property
    def holds(self) -> bool | None:
        """Whether the claim does for every width."""
        of_widths = [c.holds for c in self.claims]
        return verdict([holds is not False for holds in of_widths], of_widths, refutes=False)

    @property
    def decision(self) -> str:
        """The numbers beside their bounds, in a line."""
        of = self.claims
        widths = ", ".join(str(c.width) for c in of)
        factors = ", ".join(f"{c.factor_of_paths:.2f}" for c in of)
        least = ", ".join(f"{LEAST_FACTOR * c.width:.1f}" for c in of)
        multiplications = max((c.power_of_multiplications for c in of), key=lambda power: abs(power - 1))
        nodes, sweep = (np.max([getattr(c, f"power_of_{way}") for c in of]) for way in ("nodes", "sweep"))
        return (
            f"one more layer of width {widths} makes enumerating the paths take {factors} times as long (more than "
            f"{least} asked); dynamic programming takes multiplications like depth^{multiplications:.2f} "
            f"(1 ± {MOST_BEND:g} asked), and seconds like depth^{nodes:.2f} node by node and depth^{sweep:.2f} in the "
            f"jitted sweep (below {MOST_POWER:g} asked); their Δ and δ differ by {np.max([c.error for c in of]):.0e} "
            f"(below {MOST_ERROR:.0e} asked): {in_a_word(self.holds)}"
        )


def main(config: Growth, console: Console | None = None) -> Result:
    """Measure, print a table and write the plot.

    Raises:
        ValueError: Too little time to see how the enumeration grows.
    """
    console = console or terminal()
    config = dataclasses.replace(config, **QUICK) if config.quick else config
    console.print(f"enumerating the paths, for at most {config.max_seconds:g} seconds at a time …")
    with jax.enable_x64(True):
        enumerated = {width: enumerations(width, config) for width in config.widths}
        deepest = max(map(len, enumerated.values()))
        rows = [
            measure(width, depth, enumerated[width], config.repeats)
            for width in config.widths
            for depth in range(1, deepest + 1)
        ]
    full = full_size(config, "max_seconds", "repeats")
    claims = tuple(
        dataclasses.replace(claim([row for row in rows if row.width == width]), full=full) for width in config.widths
    )
    result = Result(tuple(rows), claims)
    config.out.mkdir(parents=True, exist_ok=True)
    write_whole(config.out / "measurements.json", as_json([*map(dataclasses.asdict, rows)], indent=1) + "\n")
    save_plot(rows, claims, config.out / "growth.png")
    console.print(_costs(rows))
    console.print(_growth(claims))
    conclude(console, result, config.out, "growth.png", "measurements.json")
    return result


Enumeration = tuple[float, list[list[float]]]
"""The seconds it took, and Δ of every layer."""


def enumerations(width: int, config: Growth) -> list[Enumeration]:
    """Every path of ever deeper networks, depth 1 first, for as long as none is expected to take too long.

    Raises:
        ValueError: Fewer than three of them take long enough to be fitted.
    """
    done: list[Enumeration] = []
    rate = 1e-6  # seconds for a multiplication: a first guess, then what the last depth took
    for depth in range(1, DEEPEST + 1):
        multiplications = textbook.count_work(network(width, depth)).multiplications_by_paths
        if multiplications * rate > config.max_seconds:
            break
        edges, dL_do = local_problem(width, depth)
        done.append(timed(lambda: textbook.accumulate_by_paths(edges, dL_do), config.repeats))  # noqa: B023
        rate = done[-1][0] / multiplications
    found = sum(seconds >= MEASURABLE for seconds, _ in done)
    if found < 3:
        raise ValueError(
            f"width {width} has {found} depths whose paths take {MEASURABLE:g} to {config.max_seconds:g} seconds to "
            "enumerate, but a growth shows in three at least; raise --max-seconds, or take smaller --widths"
        )
    return done


def measure(width: int, depth: int, enumerated: Sequence[Enumeration], repeats: int) -> Measurement:
    """One network in every way, compared with each other."""
    net, arguments = network(width, depth), problem(width, depth)
    edges, dL_do = local_problem(width, depth)
    sweep = jax.jit(lambda *arguments: jaxbp.backprop(net, LOSS, *arguments, collect={}).Delta)
    seconds_by_nodes, by_nodes = timed(lambda: textbook.accumulate_by_nodes(edges, dL_do), repeats)
    seconds_of_sweep, Delta = timed(lambda: jax.block_until_ready(sweep(*arguments)), repeats)
    seconds_by_paths, by_paths = enumerated[depth - 1] if depth <= len(enumerated) else (None, by_nodes)
    engine = [Delta[name] for name in net.shapes]
    delta = jaxbp.backprop(net, LOSS, *arguments, collect={}).delta
    recursion = textbook.pre_activation_recursion(net, LOSS, *arguments).delta
    return Measurement(
        width=width,
        depth=depth,
        **textbook.count_work(net)._asdict(),
        seconds_by_paths=seconds_by_paths,
        seconds_by_nodes=seconds_by_nodes,
        seconds_of_sweep=seconds_of_sweep,
        error=largest_error(
            [*by_paths, *by_nodes, *(recursion[u] for u in net.units)],
            [*engine, *engine, *(delta[u] for u in net.units)],
        ),
    )


def network(width: int, depth: int) -> jaxbp.Network:
    """`depth` matrices between layers of equal width."""
    return jaxbp.layered([width] * (depth + 1), hidden=jaxbp.tanh, output=jaxbp.linear)


def problem(width: int, depth: int) -> tuple[jaxbp.Params, jax.Array, jax.Array]:
    """Parameters, an input and a target, all random."""
    of_params, of_x, of_y = jax.random.split(jax.random.key(depth), 3)
    params = jaxbp.init_params(of_params, network(width, depth))
    return params, jax.random.normal(of_x, (width,)), jax.random.normal(of_y, (width,))


def local_problem(width: int, depth: int) -> tuple[list[list[list[float]]], list[float]]:
    """The local derivatives of that problem and ∂L/∂o, as Python numbers: what the backward phase begins with."""
    net, (params, x, y) = network(width, depth), problem(width, depth)
    trace = jaxbp.forward(net, params, x)
    edges = [edge.tolist() for edge in textbook.local_derivatives(net, params, trace).values()]
    return edges, LOSS.gradient(trace.h[net.output], y).tolist()


def timed(f: Callable[[], T], repeats: int) -> tuple[float, T]:
    """The seconds of the fastest of at least so many calls, and the result of the last."""
    seconds: list[float] = []
    # what is short is called until it was seen undisturbed; the first call, which may compile, does not count for that
    while len(seconds) < repeats or sum(seconds[1:]) < 0.03:
        start = time.perf_counter()
        result = f()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def largest_error(ours: Sequence[Any], theirs: Sequence[Any]) -> float:
    """The largest ‖a − b‖ / ‖b‖ of two lists of vectors; NaN if one is."""
    pairs = ((np.asarray(a), np.asarray(b)) for a, b in zip(ours, theirs, strict=True))
    return float(np.max([np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in pairs]))


def claim(rows: Sequence[Measurement]) -> Claim:
    """Fit how the cost grows over the depths of one width."""
    depths = [row.depth for row in rows]
    powers = {
        name: slope(np.log(depths), [getattr(row, name) for row in rows])
        for name in ("multiplications_by_nodes", "seconds_by_nodes", "seconds_of_sweep")
    }
    return Claim(
        width=rows[0].width,
        factor_of_paths=math.exp(slope(*enumeration(rows))),
        power_of_multiplications=powers["multiplications_by_nodes"],
        power_of_nodes=powers["seconds_by_nodes"],
        power_of_sweep=powers["seconds_of_sweep"],
        error=float(np.max([row.error for row in rows])),
    )


def enumeration(rows: Sequence[Measurement]) -> tuple[list[int], list[float]]:
    """The depths at which the enumeration was measured, and its seconds."""
    points = [(row.depth, row.seconds_by_paths) for row in rows if (row.seconds_by_paths or 0) >= MEASURABLE]
    return [depth for depth, _ in points], [seconds for _, seconds in points]


def slope(x: Any, y: Any) -> float:
    """Of the straight line through log y over x."""
    return float(np.polyfit(x, np.log(np.asarray(y, np.float64)), 1)[0])


def save_plot(rows: Sequence[Measurement], claims: Sequence[Claim], path: Path) -> None:
    """Seconds and multiplications over depth, both on a log scale, with the fitted growth."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5.5), layout="constrained")
    figure.suptitle("Δ of every neuron for one example: enumerating the paths, and dynamic programming")
    for i, c in enumerate(claims):
        color = f"C{i}"
        of_width = [row for row in rows if row.width == c.width]
        depths = [row.depth for row in of_width]
        measured = [row for row in of_width if row.seconds_by_paths is not None]
        left.plot([row.depth for row in measured], [row.seconds_by_paths for row in measured], "o", color=color)
        left.plot(*_fit(*enumeration(of_width)), "-", color=color)
        left.plot(depths, [row.seconds_by_nodes for row in of_width], "--", color=color)
        left.plot(depths, [row.seconds_of_sweep for row in of_width], ":", color=color, linewidth=2)
        right.plot(depths, [row.multiplications_by_paths for row in of_width], "o-", color=color, markersize=4)
        right.plot(depths, [row.paths for row in of_width], "-", color=color, alpha=0.4)
        right.plot(depths, [row.multiplications_by_nodes for row in of_width], "--", color=color)

    def line(label: str, color: str = "grey", **options: Any) -> Line2D:
        return Line2D([], [], color=color, label=label, **options)

    widths = [
        line(f"width {c.width}: × {c.factor_of_paths:.1f} for each layer", color=f"C{i}", linewidth=3)
        for i, c in enumerate(claims)
    ]
    left.set(ylabel="seconds", yscale="log")
    ways = [
        line("every path, in Python, with its fit", marker="o"),
        line("node by node, in Python", linestyle="--"),
        line("jitted sweep, with the forward phase", linestyle=":", linewidth=2),
    ]
    left.legend(handles=[*widths, *ways], loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    right.set(ylabel="number for one example", yscale="log")
    ways = [
        line("multiplications, path by path", marker="o", markersize=4),
        line("paths", alpha=0.6),
        line("multiplications, node by node", linestyle="--"),
    ]
    right.legend(handles=ways, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    for axis in (left, right):
        axis.set_xlabel("depth: matrices between the input and the output")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    save(figure, path)


def _fit(x: Sequence[float], y: Sequence[float]) -> tuple[Sequence[float], np.ndarray]:
    return x, np.exp(np.polyval(np.polyfit(x, np.log(y), 1), x))


def _costs(rows: Sequence[Measurement]) -> Table:
    table = Table(title="the deepest network whose paths were enumerated, for one example", title_justify="left")
    multiplications = ("multiplications\nby paths", "multiplications\nby nodes")
    for column in ("width", "depth", "paths", *multiplications, "by paths,\ns", "by nodes,\nms", "jitted sweep,\nµs"):
        table.add_column(column, justify="right")
    for row in rows:
        following = next((r for r in rows if (r.width, r.depth) == (row.width, row.depth + 1)), None)
        if row.seconds_by_paths is None or (following and following.seconds_by_paths is not None):
            continue
        counts = (row.width, row.depth, row.paths, row.multiplications_by_paths, row.multiplications_by_nodes)
        seconds = (f"{row.seconds_by_paths:.2f}", f"{1e3 * row.seconds_by_nodes:.3f}")
        table.add_row(*(f"{count:,}" for count in counts), *seconds, f"{1e6 * row.seconds_of_sweep:.1f}")
    return table


def _growth(claims: Sequence[Claim]) -> Table:
    table = Table(title="how it grows with depth d, fitted", title_justify="left")
    for column in ("width", "seconds by paths", "claimed", "multiplications by nodes", "seconds by nodes", "sweep"):
        table.add_column(column, justify="right")
    for c in claims:
        powers = (c.power_of_multiplications, c.power_of_nodes, c.power_of_sweep)
        factor, bound = f"× {c.factor_of_paths:.2f} for each layer", f"more than {LEAST_FACTOR * c.width:.1f}"
        table.add_row(str(c.width), factor, bound, *(f"d^{power:.2f}" for power in powers))
    return table


if __name__ == "__main__":
    command_line(main, Growth)
