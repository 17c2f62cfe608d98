"""What was compiled as tables of 80 columns and as a page, and what follows from it: the proofs."""

import dataclasses
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

from rich import box
from rich.table import Table

from jaxbp.experiments.common.verdicts import in_a_word
from jaxbp.experiments.tools.ahead_of_time import GRADIENTS, LAYOUTS, Compiled, Step
from jaxbp.experiments.tools.largest import Largest
from jaxbp.experiments.tools.on_device import Ran
from jaxbp.experiments.tools.topologies import TOPOLOGIES

WIDTH = 80
MEBI, GIGA = 2**20, 10**9
MOST_MEMORY, MOST_FLOPS = 0.6, 1.0
COLUMNS = ("split", "gradient", "peak\nMiB", "args\nMiB", "prod.\nGFLOP", "XLA\nGFLOP", "collectives")
LEFT = ("split", "gradient", "collectives", "network")
NOTES = """Peak and arguments are the memory of one device. Products are the floating-point operations in matrix
products and convolutions of a step on all devices together, those of a loop as often as it runs; XLA's own number is of
all operations on one device, the body of a loop counted once, and there is none for CUDA. Collectives: how often in a
step, and the bytes of their results on one device, added up. The peak of a small step on a TPU is memory on the chip.
"""


@dataclass(frozen=True)
class Tabular:
    """A table, for a terminal and for a page; a row of one cell is a heading within it."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def rich(self) -> Table:
        """For a terminal of 80 columns."""
        table = Table(title=self.title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), width=WIDTH)
        for column in self.columns:
            left = column in LEFT
            ratio = 1 if column in ("collectives", "network") else None
            table.add_column(column, justify="left" if left else "right", overflow="fold", ratio=ratio)
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a page."""
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        rows = ["| " + " | ".join(cell.replace("\n", "<br>") for cell in line) + " |" for line in lines]
        return "\n".join([f"## {self.title}", "", *rows, ""])


@dataclass(frozen=True)
class Found:
    """The largest size of a step that fits.

    Attributes:
        step: The step that grew.
        grown: What of it did, "batch" or "depth".
        largest: What was found.
        other: Why sizes were refused for other reasons than memory.
    """

    step: Step
    grown: str
    largest: Largest
    other: dict[int, str]


@dataclass(frozen=True)
class Proof:
    """The explicit step over that of jax.grad, at the worst of the splits and dtypes that were compiled.

    Attributes:
        topology: What for.
        network: Of which network.
        pairs: How many pairs of steps were compared.
        memory: Ratio of the peak.
        temporary: Ratio of what is needed beside the arguments.
        products: Ratio of the operations in products.
        flops: Ratio of XLA's operations; None where it does not count them.
        times: Ratio of the number of collectives.
        sent: Ratio of their bytes.
        refused: Whether a step of these was not compiled.
    """

    topology: str
    network: str
    pairs: int
    memory: float = math.inf
    temporary: float = math.inf
    products: float = math.inf
    flops: float | None = None
    times: float = math.inf
    sent: float = math.inf
    refused: bool = False

    @property
    def holds(self) -> bool | None:
        """Whether memory, operations and collectives are within their bounds; None where a step was not compiled."""
        if self.refused:
            return None
        flops = max(self.products, self.flops or 0.0)
        few = self.times <= 1 and self.sent <= 1
        return self.memory <= MOST_MEMORY and flops <= MOST_FLOPS and few

    @property
    def decision(self) -> str:
        """The numbers beside their bounds."""
        if self.refused:
            return f"{self.topology}, {self.network}: not decided, for a step was not compiled"
        flops = "not counted" if self.flops is None else f"{self.flops:.3f}"
        return (
            f"{self.topology}, {self.network}, explicit / jax.grad, the worst of {self.pairs}: memory "
            f"{self.memory:.3f} <= {MOST_MEMORY} (beside the arguments {self.temporary:.3f}); flops of products "
            f"{self.products:.3f}, XLA's {flops}, <= {MOST_FLOPS:.1f}; collectives {self.times:.3f}, their bytes "
            f"{self.sent:.3f}, <= 1: {in_a_word(self.holds)}"
        )


def pairs_of(compiled: Iterable[Compiled]) -> list[tuple[Compiled, Compiled]]:
    """Steps that differ in the gradient alone, the explicit one first."""
    by_step = {done.step: done for done in compiled}
    explicit, auto = GRADIENTS
    return [
        (done, by_step[other])
        for step, done in by_step.items()
        if step.gradient == explicit and (other := dataclasses.replace(step, gradient=auto)) in by_step
    ]


def proofs_of(topology: str, network: str, compiled: Iterable[Compiled]) -> Proof | None:
    """What is proven about a network on a topology; None where nothing was compiled that could."""
    wanted = [done for done in compiled if (done.step.topology, done.step.network) == (topology, network)]
    pairs = pairs_of(wanted)
    if not pairs:
        return None
    if any(done.refused for pair in pairs for done in pair):
        return Proof(topology, network, len(pairs), refused=True)
    flops = [ours.flops / theirs.flops for ours, theirs in pairs if ours.flops and theirs.flops]
    return Proof(
        topology,
        network,
        len(pairs),
        max(ours.peak / theirs.peak for ours, theirs in pairs),
        max(ours.temporary / theirs.temporary for ours, theirs in pairs),
        max(ours.products / theirs.products for ours, theirs in pairs),
        max(flops, default=None),
        max(_over(_times(ours), _times(theirs)) for ours, theirs in pairs),
        max(_over(_sent(ours), _sent(theirs)) for ours, theirs in pairs),
    )


def topology_tables(name: str, compiled: Iterable[Compiled]) -> list[Tabular]:
    """What was compiled for a topology, a table for each network, dtype and size."""
    mine = [done for done in compiled if done.step.topology == name]
    tables: list[Tabular] = []
    for (network, dtype, batch, depth), group in itertools.groupby(mine, key=_heading):
        rows: list[tuple[str, ...]] = []
        for layout, steps in itertools.groupby(group, key=lambda done: done.step.layout):
            together = list(steps)
            rows += [_row(layout if i == 0 else "", done) for i, done in enumerate(together)]
            rows += [_ratios(*pair) for pair in pairs_of(together) if not (pair[0].refused or pair[1].refused)]
        size = f"{batch} examples for each device" + ("" if depth is None else f", depth {depth}")
        tables.append(Tabular(f"{described(name)}\n{network}, {dtype}, {size}", COLUMNS, rows))
    return tables


def described(name: str) -> str:
    """A topology in words."""
    of = TOPOLOGIES[name]
    devices = "1 device" if of.devices == 1 else f"{of.devices} devices"
    return f"{name}: {devices} of {of.memory / 2**30:.0f} GiB"


def largest_table(found: Iterable[Found], topology: str) -> Tabular:
    """The largest sizes that fit a topology."""
    rows: list[tuple[str, ...]] = []
    for one in found:
        if one.step.topology == topology:
            fits, too_large, needs = one.largest
            peak = needs.get(fits)
            size = f"{fits}" if one.largest.known else f"{fits} or more"
            beyond = "-" if too_large is None else str(too_large)
            if too_large in one.other:
                beyond += ", not for memory"
            rows.append(
                (
                    f"{one.step.network}, {one.step.dtype}, {one.step.layout}",
                    one.step.gradient,
                    size,
                    beyond,
                    "-" if peak is None else f"{peak / 2**30:.2f}",
                    str(len(needs)),
                )
            )
    of = {one.grown for one in found if one.step.topology == topology}
    what = "depth" if of == {"depth"} else "batch for each device"
    columns = ("network", "gradient", "largest", "too\nlarge", "peak\nGiB", "compiled")
    return Tabular(f"{described(topology)}: the largest {what} that fits", columns, rows)


def markdown(
    tables: Iterable[Tabular],
    proofs: Iterable[Proof],
    missing: Iterable[str],
    ran: Iterable[Ran],
    versions: dict[str, str | None],
) -> str:
    """All of it as a page: what was compiled, and what was run."""
    used = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    runs = [
        f"`{one.command}` on {one.device}: exit code {one.code}, {one.seconds:.0f} s\n\n"
        f"```\n{one.output.strip()}\n```\n"
        for one in ran
    ]
    layouts = "; ".join(f"{name}: {words}" for name, words in LAYOUTS.items())
    return "\n".join(
        [
            "# Training steps compiled ahead of time",
            "",
            f"With {used}. Splits are {layouts}.",
            "",
            *[f"- {proof.decision}" for proof in proofs],
            *[f"- {words}" for words in missing],
            "",
            "What is in these tables was compiled, and not run.",
            NOTES,
            *[table.markdown() for table in tables],
            "## Run",
            "",
            *(runs or ["Nothing: there was no device, or `--run` was not asked for."]),
            "",
        ]
    )


def _heading(done: Compiled) -> tuple[str, str, int, int | None]:
    return done.step.network, done.step.dtype, done.step.batch, done.step.depth


def _row(layout: str, done: Compiled) -> tuple[str, ...]:
    if done.refused:
        return (layout, done.step.gradient, "-", "-", "-", "-", done.refused)
    sent = "\n".join(f"{kind} {of.times}× {_bytes(of.size)}" for kind, of in done.sent.items()) or "none"
    return (
        layout,
        done.step.gradient,
        f"{done.peak / MEBI:,.0f}",
        f"{done.arguments / MEBI:,.0f}",
        f"{done.products / GIGA:,.0f}",
        "-" if done.flops is None else f"{done.flops / GIGA:,.0f}",
        sent,
    )


def _ratios(ours: Compiled, theirs: Compiled) -> tuple[str, ...]:
    flops = f"{ours.flops / theirs.flops:.3f}" if ours.flops and theirs.flops else "-"
    return (
        "",
        "ratio",
        f"{ours.peak / theirs.peak:.3f}",
        f"{ours.arguments / theirs.arguments:.3f}",
        f"{ours.products / theirs.products:.3f}",
        flops,
        f"{_over(_times(ours), _times(theirs)):.3f}×, bytes {_over(_sent(ours), _sent(theirs)):.3f}",
    )


def _bytes(size: int) -> str:
    return f"{size} B" if size < 1000 else f"{size / 2**10:.0f} KiB" if size < MEBI else f"{size / MEBI:,.0f} MiB"


def _times(done: Compiled) -> int:
    return sum(of.times for of in done.sent.values())


def _sent(done: Compiled) -> int:
    return sum(of.size for of in done.sent.values())


def _over(ours: int, theirs: int) -> float:
    return ours / theirs if theirs else 1.0 if not ours else float("inf")
