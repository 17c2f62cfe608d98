"""Explain: a page on which one can step through the backpropagation of a network, change its numbers and fill them in.

    python -m experiments.explain
    python -m experiments.explain net.toml --learning-rate 0.5 --out page.html

Writes one HTML file that loads nothing: open it in any browser, also from a disk. Without a file it is of the network
of the slides whose worked example the library checks. The network is described as for `python -m experiments.check`,
whose `--help` says how; and the file may have two tables more, of what is claimed of quantities and of how they are
called:

    [claims]
    "a.h1[0]" = "-0.3"
    "delta.o[0]" = { "slide 7" = "h.o[0] - y[0]" }

    [names]
    "W.h1.x[0, 0]" = "w_1"

The exit code is 0 when the page is written, and 2 when a file cannot be read or does not fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.text import Text

import jaxbp
from jaxbp.experiments.common.command_line import MENDABLE, end, exit_code, terminal
from jaxbp.experiments.common.files import is_one_of, write_whole
from jaxbp.experiments.tools.description import blamed, described, read_table

TABLES = ("claims", "names")
SLIDES = Path(__file__).with_name("slides.toml")


@dataclass(frozen=True)
class Explain:
    """Write the page on which a network's backpropagation can be stepped through."""

    network: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="[NETWORK.toml]", help_behavior_hint="")] = (
        SLIDES
    )
    """The description of the network, its loss, its parameters and a batch; that of the slides unless one is given."""
    learning_rate: float = 0.1
    """The learning rate η with which the page starts."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to write the page; NETWORK.html in this folder unless said otherwise."""
    title: str | None = None
    """The heading of the page; the name of the file unless said otherwise."""


def main(config: Explain, console: Console | None = None) -> Path:
    """Write the page, and say where it is.

    Raises:
        TypeError, ValueError: The description cannot be read, or does not fit. The message names the file.
        OSError: The page cannot be written.
    """
    console = console or terminal()
    out = Path(f"{config.network.stem}.html") if config.out is None else config.out
    work, files = explained(config.network, config.learning_rate)
    if is_one_of(out, files):
        raise ValueError(f"--out {out} would overwrite what is read; name another file")
    title = f"Backpropagation, step by step: {config.network.stem}" if config.title is None else config.title
    page = work.page(title)
    write_whole(out, page)
    console.print(Text(f"{out}: {len(page.encode()) / 1000:.0f} kB, open it in a browser"), soft_wrap=True)
    return out


def explained(path: Path, learning_rate: float) -> tuple[jaxbp.Explanation, tuple[Path, ...]]:
    """The explanation of what a file describes, and all files that were read for it."""
    table = read_table(path)
    extra: dict[str, Any] = {key: table.pop(key) for key in TABLES if key in table}
    given = described(table, path)
    with blamed(path):
        work = jaxbp.explain(given.net, given.loss, given.params, given.x, given.y, learning_rate, **extra)
    return work, given.files


def command(arguments: Sequence[str] | None = None) -> int:
    """The command line.

    Args:
        arguments: Its words; those of the process when None.

    Returns:
        The exit code: 0 when the page is written, 2 when a file cannot be read or does not fit, 130 after Ctrl-C.
    """
    return exit_code(main, Explain, lambda page: True, arguments, (*MENDABLE, TypeError), refused=2)


if __name__ == "__main__":
    end(command())
