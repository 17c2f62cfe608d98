"""Check: whether a gradient that somebody computed, or a custom rule, is right, and if not, where and why.

    python -m experiments.check mine.npz --network net.toml
    python -m experiments.check mine.json --network net.toml --json report.json
    python -m experiments.check mine.py:gradients --network net.toml
    python -m experiments.check mine.py:gradients --network net.toml --layout torch
    python -m experiments.check model.py:loss

Prints the report of `jaxbp.check`, or without a network that of `jaxbp.check_rules`. The exit code is 0 when nothing is
wrong, 1 when something is, and 2 when a file cannot be read or does not fit the network.

Without a network, every `custom_vjp` and `custom_jvp` that a JAX function reaches is held against autodiff of what it
stands for. The file has that function, `loss` in `model.py:loss`, and a function `arguments()` which returns a tuple
of what it is called with: arrays, or trees of them such as parameters.

What can be handed in for a network:

* `.npz`: arrays by the names of quantities: `grad.h1.x`, `grad.o.bias`, `delta.o`, `Delta.h1`, `a.h1`, `h.o`, `loss`;
  some of them or all. The more there are, the closer a mistake can be located.
* `.json`: the same as nested lists, `{"delta.o": [[0.1, -0.1]]}`; or all gradients by unit and source,
  `{"h1": {"x": [[…]], "bias": […]}, "o": …}`. NaN and Infinity are numbers here.
* `.py`: a file with a function `gradients(params, x, y)`, or with the one named behind a colon. It takes NumPy arrays
  and returns the gradients by unit and source, or `(loss, gradients)`, or quantities by name.

Gradients may have other keys, such as `W1` and `b1`: they are taken for those of the weights that they fit by shape and
order, and the report says which for which. Whatever is handed in has weights `(in, out)` and a row for each example;
with `--layout torch` weights are `(out, in)`, and with `--layout columns` examples are columns too, and biases columns
of one. A function of a `.py` file is then called with parameters and data in this layout; all that is in the
network's file is in rows.

All files are read as data, and nothing is unpickled, but for a `.py` file: it is executed, with all that it may do,
in a process of its own that may take `--seconds` and 8 GiB. What it prints goes to the standard error.

The network, its loss, its parameters and a batch, here in `net.toml`:

    loss = "cross_entropy"
    dtype = "float64"

    [network]
    layers = [3, 2, 2]
    hidden = "sigmoid"
    output = "softmax"

    [params.h1]
    x = [[0.1, 0.4], [-0.2, 0.3], [0.2, -0.5]]
    bias = [0.1, -0.1]

    [params.o]
    h1 = [[0.3, -0.4], [0.5, 0.2]]
    bias = [0.0, 0.2]

    [data]
    x = [[1.0, 2.0, -1.0], [0.5, 0.0, 1.0]]
    y = [0, 1]

`dtype` is the number format in which the gradient was computed; float64 unless said otherwise. `hidden` may be a list,
one for each layer, and `bias = false` leaves the biases out. Weights have a row for each element of the source. `y`
holds class ids, or rows like the output. For arrays in files, write above the first table `data = "batch.npz"`, with
arrays `x` and `y`, and `params = "params.npz"`, with `W.h1.x`, `W.h1.bias` and so on; these may be `.json`
files too, and their paths are relative to the TOML file. `seed = 0` in place of params takes
`jaxbp.init_params(jax.random.key(0), net, dtype)`.

Any other graph is described by its units, of which the last is the output:

    [inputs]
    x = 3

    [units.h1]
    width = 3
    activation = "tanh"
    from = ["x"]

    [units.o]
    width = 3
    activation = "linear"
    bias = false
    [units.o.connections]
    h1 = "Dense"
    x = "Identity"

With several inputs, `[data.x]` is a table of them; in files they are called `x.NAME`.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.text import Text

import jaxbp
from jaxbp.experiments.common.command_line import MENDABLE, end, exit_code
from jaxbp.experiments.common.files import is_one_of, write_whole
from jaxbp.experiments.common.messages import ProgramError, quoted, suggestion
from jaxbp.experiments.common.progress import progress
from jaxbp.experiments.tools import handed_in
from jaxbp.experiments.tools.array_files import MOST_TEXT, READERS, read, read_arrays
from jaxbp.experiments.tools.audited import Audited, audited
from jaxbp.experiments.tools.description import Description, read_description
from jaxbp.experiments.tools.laid_out import Layout, arguments

STYLES = {
    "right": "bold green",
    "precision": "bold green",
    "close": "bold green",
    "kink": "bold yellow",
    "wrong": "bold red",
}
FUNCTION = "gradients"
MOST_SECONDS = 86_400


@dataclass(frozen=True)
class Check:
    """Check a gradient that somebody computed, or the custom rules of a function."""

    mine: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MINE")]
    """What to check: a .npz or .json file; or FILE.py or FILE.py:FUNCTION, which is executed."""
    network: Annotated[Path | None, tyro.conf.arg(metavar="NET.toml")] = None
    """The description of the network, its loss, its parameters and a batch; without it custom rules are checked."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to write the report for other programs."""
    seconds: float = 60
    """How long a Python file may run."""
    layout: Layout = "rows"
    """How the arrays lie that are handed in, and those that a Python file's function is called with."""

    def __post_init__(self) -> None:
        if self.network is None and self.layout != "rows":
            raise ValueError(f"--layout {self.layout} is of the gradients of a network; describe it by --network")
        if not 0 < self.seconds <= MOST_SECONDS:
            raise ValueError(f"--seconds is {self.seconds}, expected a number above 0, at most {MOST_SECONDS}")

    @property
    def file(self) -> Path:
        """The file that is handed in, without the name of a function."""
        return Path(self._parts[0])

    @property
    def function(self) -> str:
        """The function to call in a Python file."""
        return self.named or FUNCTION

    @property
    def named(self) -> str:
        """The function that is named, if one is."""
        return self._parts[1]

    @property
    def _parts(self) -> tuple[str, str]:
        head, _, function = self.mine.rpartition(":")
        return (head, function) if head.endswith(".py") else (self.mine, "")


def main(config: Check, console: Console | None = None) -> jaxbp.Report | Audited:
    """Check what was handed in, print the report, and write it where asked to.

    Raises:
        TypeError, ValueError: A file cannot be read, or its contents do not fit. The message names the file.
        OSError: The report cannot be written.
        ProgramError: The Python file that was handed in, or its function, raised something.
    """
    console = console or Console()
    report, advice = _rules(config) if config.network is None else _gradients(config, config.network)
    # lines of a report are not broken: what reads them may be a program
    console.print(coloured(report), soft_wrap=True)
    if advice:
        console.print(Text(advice), soft_wrap=True)
    if config.json is not None:
        written = json.dumps(report.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        write_whole(config.json, f"{written}\n")
    return report


def _gradients(config: Check, network: Path) -> tuple[jaxbp.Report, str]:
    """The report on a gradient of a network, and what to try."""
    described = read_description(network)
    _check_written(config, (config.file, network, *described.files))
    mine = read_mine(config, described)
    try:
        with progress(f"checking {len(described.net.units)} units"):
            report = jaxbp.check(
                described.net, described.loss, described.params, described.x, described.y, mine, layout=config.layout
            )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{config.mine}: {error}") from error
    except (ArithmeticError, RecursionError, MemoryError) as error:
        raise ValueError(f"{config.mine} cannot be checked in float64: {error or type(error).__name__}") from error
    return report, _advice(report, described)


def _rules(config: Check) -> tuple[Audited, str]:
    """The report on the rules that a function reaches."""
    if config.file.suffix != ".py":
        raise ValueError(f"{config.mine} is checked for a network; describe one by --network NET.toml")
    if not config.named:
        raise ValueError(f"{config.mine} has no name of a function: {config.mine}:FUNCTION; or name --network NET.toml")
    _check_written(config, (config.file,))
    with progress(f"running {config.file}"):
        return audited(config.file, config.named, config.seconds, _show), ""


def _check_written(config: Check, read: Sequence[Path]) -> None:
    if config.json is not None and is_one_of(config.json, read):
        raise ValueError(f"--json {config.json} would overwrite what is read; name another file")


def read_mine(config: Check, described: Description) -> Any:
    """What `jaxbp.check` takes as a hand gradient, from the file that was handed in.

    A Python file is run only when its suffix says that it is one, and its function is called once.

    Args:
        config: Names the file and the function.
        described: What the function is called with, as copies.

    Returns:
        A dict; or for a Python file, a function that returns what its function has returned.

    Raises:
        ValueError: The file cannot be read, or has no such function.
        ProgramError: It raised something.
    """
    if config.file.suffix == ".py":
        returned = _run(config, described)
        return lambda params, x, y: returned
    head, colon, _ = config.mine.rpartition(":")
    if colon and Path(head).suffix in READERS:
        raise ValueError(f"{config.mine} names a function, which only a .py file has; write {head}")
    if config.file.suffix not in READERS:
        raise ValueError(f"{config.file} is none of {quoted([*READERS, '.py'])}; name a file by what it holds")
    return read_arrays(config.file, partial(_most, described))


def _most(described: Description, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """How many numbers each array may have: what has a key of its own, as many as the largest of those with names."""
    known = described.most_handed_in(shapes)
    return dict.fromkeys(shapes, max(known.values())) | known


def coloured(report: jaxbp.Report | Audited) -> Text:
    """The report with its first line, the verdict, in colour."""
    text = Text(str(report))
    verdict = report.verdict if isinstance(report, jaxbp.Report) else "right" if report.ok else "wrong"
    text.stylize(STYLES[verdict], 0, len(text.plain.partition("\n")[0]))
    return text


def _advice(report: jaxbp.Report, described: Description) -> str:
    """What to try where all that is wrong looks like rounding."""
    wrong = [finding.relative_error for finding in report.findings if finding.status == "wrong"]
    if described.dtype != "float64" or report.ok or report.alternatives or max(wrong) > 1e-4:
        return ""
    return 'note: if this was computed in float32, write dtype = "float32" above the first table of the network\'s file'


def _run(config: Check, described: Description) -> Any:
    """Execute a Python file in a process of its own, and return what its function returns."""
    path = config.file
    source = read(path, MOST_TEXT)
    given = arguments(described, config.layout)
    with tempfile.TemporaryDirectory() as name, progress(f"running {path}"):
        folder = Path(name)
        x64 = described.dtype == "float64"
        outcome = handed_in.run(path, source, config.function, given, folder, config.seconds, x64)
        _show(outcome)
        if outcome.failed:
            raise ProgramError(f"{path} {outcome.failed}")
        if outcome.defines is not None:
            raise ValueError(
                f"{path} has no function {config.function!r}{suggestion(config.function, outcome.defines)}; it defines "
                f"{quoted(outcome.defines)}. Name one as {path}:FUNCTION"
            )
        try:
            return handed_in.decoded(outcome.result, read_arrays(folder / "result.npz"))
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
            raise ProgramError(f"{path} returned what cannot be passed on: {error}") from error


def _show(outcome: handed_in.Outcome) -> None:
    """What a program printed, apart from the report."""
    if not outcome.printed:
        return
    console = Console(stderr=True)
    console.print(Text(outcome.printed.removesuffix("\n")), soft_wrap=True)
    if outcome.cut:
        console.print(f"(it printed more than {handed_in.MOST_PRINTED} bytes; the rest is left out)", soft_wrap=True)


def command(arguments: Sequence[str] | None = None) -> int:
    """The command line.

    Args:
        arguments: Its words; those of the process when None.

    Returns:
        The exit code: 0 when nothing is wrong, 1 when something is, 2 when something cannot be read, 130 after Ctrl-C.
    """
    return exit_code(main, Check, lambda report: report.ok, arguments, (*MENDABLE, TypeError), refused=2)


if __name__ == "__main__":
    end(command())
