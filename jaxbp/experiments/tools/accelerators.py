"""Compile training steps ahead of time for TPUs and GPUs that need not be there, explicit beside jax.grad.

    python -m experiments.accelerators
    python -m experiments.accelerators --quick
    python -m experiments.accelerators --topologies h100:4 --networks gpt --grow depth
    python -m experiments.accelerators --run

Compiled is what `jaxbp.train.step` runs, for an MLP, a convolutional network and a GPT, with the batch divided among
the devices, with the state divided, too, and with the columns and rows of Megatron's split. For each the tables say
which memory the step takes on one device, what it computes, and what it sends to the others; and which batch, or depth,
is the largest that fits. At the end two proofs: on four devices of a TPU v5e and on four H100 the explicit step of
the GPT takes at most 0.6 of the memory of that of jax.grad, no more operations, and sends no more.

TPUs are compiled for by libtpu, pip install 'jaxbp[tpu]', and GPUs by jax's plugin, pip install 'jaxbp[cuda]'; which of
them is missing is said. No device is needed, and nothing is run: numbers and times are known only where there is one.
There `--run` runs the tests' comparisons and the benchmark, too. Writes `runs/accelerators-TIME/` with a line of JSON
for each step that was compiled, `result.json`, and all tables as `page.md`.
"""

import dataclasses
import importlib.metadata
import itertools
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.files import write_whole
from jaxbp.experiments.common.messages import quoted, suggestion
from jaxbp.experiments.common.options import check_options, whole
from jaxbp.experiments.common.records import append_line, as_json
from jaxbp.experiments.common.runs import make_folder
from jaxbp.experiments.tools.ahead_of_time import GRADIENTS, LAYOUTS, NETWORKS, Compiled, Compiler, Step
from jaxbp.experiments.tools.compiled_tables import Found, Proof, largest_table, markdown, proofs_of, topology_tables
from jaxbp.experiments.tools.largest import largest
from jaxbp.experiments.tools.on_device import Ran, run_here
from jaxbp.experiments.tools.topologies import PLATFORMS, TOPOLOGIES, installed, to_install

DTYPES = ("float32", "bfloat16")
PROVEN = ("v5e:2x2", "h100:4")
"""The topologies that the proofs are about."""


@dataclass(frozen=True)
class Accelerators:
    """Compile training steps ahead of time for accelerators, explicit beside jax.grad."""

    topologies: tuple[str, ...] = tuple(TOPOLOGIES)
    """v5e:2x2, v5e:4x4, v6e:2x2 and v5p:2x2x1 of TPUs; h100 and h100:4."""
    networks: tuple[str, ...] = tuple(NETWORKS)
    """mlp, convolutional and gpt."""
    layouts: tuple[str, ...] = tuple(LAYOUTS)
    """data, sharded and megatron; on one device all of them are data."""
    dtypes: tuple[str, ...] = DTYPES
    """float32 and bfloat16."""
    grow: Literal["batch", "depth", "nothing"] = "batch"
    """Of which the largest that fits is looked for: for each topology, of the last network, in the first layout and the
    last dtype. It takes a few compilations for each gradient."""
    vocabulary: int = 256
    """Of the GPT. Above 2,048 classes the explicit step never has all logits at once."""
    quick: bool = False
    """What the proofs are about and nothing else: two topologies, the GPT, in float32; nothing grows."""
    run: bool = False
    """Also run the tests' comparisons and the benchmark, on the device that is here."""
    name: str | None = None
    """The folder under runs/, in plain characters; made of the time when not given."""

    def __post_init__(self):
        check_options(self, vocabulary=whole(2, 2**20))
        known = {"topologies": TOPOLOGIES, "networks": NETWORKS, "layouts": LAYOUTS, "dtypes": DTYPES}
        for option, names in known.items():
            for name in getattr(self, option):
                if name not in names:
                    raise ValueError(f"{option}: {name!r} is none of {quoted(names)}{suggestion(name, names)}")
        if self.quick:
            short = {"topologies": PROVEN, "networks": ("gpt",), "dtypes": ("float32",), "grow": "nothing"}
            for option, value in short.items():
                object.__setattr__(self, option, value)
        if self.grow == "depth" and self.networks and NETWORKS[self.networks[-1]].depth is None:
            raise ValueError(f"{self.networks[-1]} has no depth that could grow: choose --grow batch")

    def steps(self, topology: str) -> list[Step]:
        """What is compiled for a topology, the explicit gradient beside that of jax."""
        layouts = self.layouts if TOPOLOGIES[topology].devices > 1 else ("data",)
        return [
            self.step(topology, network, layout, dtype, gradient)
            for network, dtype, layout, gradient in itertools.product(self.networks, self.dtypes, layouts, GRADIENTS)
        ]

    def step(self, topology: str, network: str, layout: str, dtype: str, gradient: str) -> Step:
        """A step, with the size that the network has when nothing is said."""
        of = NETWORKS[network]
        return Step(topology, network, layout, dtype, gradient, of.batch, of.depth, self.vocabulary)


@dataclass(frozen=True)
class Result:
    """What was compiled, found, proven and run.

    Attributes:
        missing: For each platform that was asked for and has no compiler here, what to install.
        compiled: Every step of the tables.
        found: The largest sizes.
        ran: What was run on the device that is here; none where that was not asked for.
    """

    missing: list[str] = field(default_factory=list)
    compiled: list[Compiled] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    ran: list[Ran] = field(default_factory=list)

    @property
    def proofs(self) -> list[Proof]:
        """Of the topologies that they are about, as far as these were compiled."""
        return [proof for name in PROVEN if (proof := proofs_of(name, "gpt", self.compiled))]

    @property
    def succeeded(self) -> bool:
        """Whether no proof fails, nothing that was run, and no compilation but for memory."""
        compiled = all(done.refused is None or done.too_large for done in self.compiled)
        return compiled and not any(proof.holds is False for proof in self.proofs) and not any(r.code for r in self.ran)


def main(config: Accelerators, console: Console | None = None) -> Result:
    """Compile, show, and write the files.

    Raises:
        ValueError: A choice that does not exist, before anything is compiled.
        FileExistsError: There is a folder of this name.
        KeyboardInterrupt: By Ctrl-C; what was compiled until then is written.
    """
    console = console or terminal()
    result = Result()
    if config.run:  # before jax is asked for its devices here, which would keep them from what is run
        result.ran.extend(run_here(console))
    folder = make_folder(config, "accelerators")
    for platform in PLATFORMS:
        asked = [name for name in config.topologies if TOPOLOGIES[name].platform == platform]
        if asked and not installed(platform):
            result.missing.append(to_install(platform, asked))
    for words in result.missing:
        console.print(words, style="yellow")
    there = [name for name in config.topologies if installed(TOPOLOGIES[name].platform)]
    try:
        with _compilers(folder) as compilers:
            for name in there:
                _compile_all(config, name, compilers[TOPOLOGIES[name].platform], folder, console, result)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"by Ctrl-C; wrote {folder}/: {_write(config, result, folder)}") from None
    for proof in result.proofs:
        console.print(proof.decision, style={True: "green", False: "red", None: "yellow"}[proof.holds], highlight=False)
    console.print(f"wrote {folder}/: {_write(config, result, folder)}")
    return result


@contextmanager
def _compilers(folder: Path) -> Generator[dict[str, Compiler]]:
    compilers = {name: Compiler(name, folder / f"{name}.log") for name in PLATFORMS}
    try:
        yield compilers
    finally:
        for compiler in compilers.values():
            compiler.close()


def _compile_all(
    config: Accelerators, name: str, compiler: Compiler, folder: Path, console: Console, result: Result
) -> None:
    """Compile the steps of a topology, and look for the largest; what is done is in the files at once."""

    def one(step: Step, place: str) -> Compiled:
        done = compiler(step)
        append_line(folder / "compiled.jsonl", as_json(dataclasses.asdict(done)))
        outcome = done.refused or f"{done.peak / 2**30:.2f} GiB"
        size = f"batch {step.batch}" + ("" if step.depth is None else f", depth {step.depth}")
        console.print(
            f"{place} {name} {step.network} {step.layout} {step.dtype} {step.gradient}, {size}: {outcome} "
            f"({done.seconds:.0f} s)",
            highlight=False,
            style="dim",
        )
        return done

    steps = config.steps(name)
    result.compiled.extend(one(step, f"{i}/{len(steps)}") for i, step in enumerate(steps, 1))
    for table in topology_tables(name, result.compiled):
        console.print(table.rich())
    if config.grow == "nothing" or not steps:
        return
    for gradient in GRADIENTS:
        of = dataclasses.replace(steps[-1], layout=steps[0].layout, gradient=gradient)

        other: dict[int, str] = {}

        def needs(size: int, of: Step = of, other: dict[int, str] = other) -> int | None:
            done = one(dataclasses.replace(of, **{config.grow: size}), "largest")
            if done.refused and not done.too_large:
                other[size] = done.refused
            return None if done.refused else done.peak

        found = largest(needs, TOPOLOGIES[name].memory, start=getattr(of, config.grow))
        result.found.append(Found(of, config.grow, found, other))
    console.print(largest_table(result.found, name).rich())


def _write(config: Accelerators, result: Result, folder: Path) -> str:
    versions = {name: _version(name) for name in ("jax", "libtpu", "jax_cuda12_plugin")}
    content: dict[str, Any] = {
        "config": dataclasses.asdict(config),
        "versions": versions,
        "missing": result.missing,
        "proofs": [dataclasses.asdict(proof) | {"holds": proof.holds} for proof in result.proofs],
        "largest": [dataclasses.asdict(found) for found in result.found],
        "ran": [dataclasses.asdict(ran) for ran in result.ran],
        "compiled": [dataclasses.asdict(done) for done in result.compiled],
    }
    write_whole(folder / "result.json", as_json(content, indent=2, default=str) + "\n")
    names = list(dict.fromkeys(done.step.topology for done in result.compiled))
    tables = [table for name in names for table in topology_tables(name, result.compiled)]
    tables += [
        largest_table(result.found, name) for name in names if any(f.step.topology == name for f in result.found)
    ]
    write_whole(folder / "page.md", markdown(tables, result.proofs, result.missing, result.ran, versions))
    compiled = "compiled.jsonl, " if (folder / "compiled.jsonl").exists() else ""
    return f"config.json, {compiled}result.json, page.md"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    command_line(main, Accelerators, succeeded=lambda result: result.succeeded)
