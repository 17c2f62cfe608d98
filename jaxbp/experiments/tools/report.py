"""Run every experiment that decides a claim of the chapter, and write one page of them.

    python -m experiments.report
    python -m experiments.report --quick
    python -m experiments.report --data-dir PATH/TO/MNIST
    python -m experiments.report --only perceptron depth

Each claim stands on the page with its place, the number that decides it, whether it holds, the plot, the command and
the time. An experiment that raises is on it with its error; none is left out. Writes `report.html`, which needs
nothing else, and ends with exit code 1 if a claim does not hold or an experiment failed. A claim that is not decided at
the size of its experiment is neither: it is counted by itself. After Ctrl-C the page has what was run until then.
"""

import ast
import base64
import dataclasses
import html
import inspect
import shlex
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxbp.experiments.common.command_line import as_typed, command_line, print_error, terminal
from jaxbp.experiments.common.files import write_whole
from jaxbp.experiments.common.messages import quoted, suggestion
from jaxbp.experiments.common.progress import progress
from jaxbp.experiments.common.verdicts import decided, in_a_word

CLAIMS = "jaxbp.experiments.claims"
SECONDS, SECONDS_OF = 15, {"pretraining": 300}
"""About what an experiment takes, and those that take longer unless they are quick, for the time left."""


@dataclass(frozen=True)
class Report:
    """Run the claims of the chapter, and write one page."""

    only: tuple[str, ...] = ()
    """The experiments to run, by their names; all when none are given."""
    quick: bool = False
    """The small size of each experiment that has one."""
    data_dir: Path | None = None
    """The folder of MNIST's four IDX files, for the experiments that take one; smaller data when not given."""
    out: Path = Path("runs/report")
    """The folder to write to; each experiment writes its plots to a folder in it."""


@dataclass(frozen=True)
class Outcome:
    """What became of one experiment.

    Attributes:
        name: The module's.
        claim: The chapter's words.
        place: Where they stand.
        command: What runs it alone.
        holds: Whether the claim does; None where that is not decided.
        decision: The number that decides, in words, or the error.
        plots: The PNG files that it wrote.
        seconds: How long it took.
        failed: Whether the experiment raised.
    """

    name: str
    claim: str
    place: str
    command: str
    holds: bool | None
    decision: str
    plots: tuple[Path, ...]
    seconds: float
    failed: bool = False

    @property
    def word(self) -> str:
        """What became of it."""
        return "failed" if self.failed else in_a_word(self.holds)

    @property
    def facts(self) -> list[str]:
        """What decides, one by one, without the verdict that the decision ends with."""
        parts = apart(self.decision.removesuffix(f": {self.word}"))
        return [part[:1].upper() + part[1:] for part in parts]

    @property
    def wrong(self) -> bool:
        """Whether that is a reason to look at it."""
        return self.failed or self.holds is False


def main(config: Report, console: Console | None = None, package: str = CLAIMS) -> list[Outcome]:
    """Run the experiments one after the other, and write the page.

    Raises:
        ValueError: An experiment that does not exist, or does not decide a claim.
        KeyboardInterrupt: Ctrl-C; the page is written of what was done.
    """
    console = console or terminal()
    names = deciding(package)
    for name in config.only:
        if name not in names:
            raise ValueError(f"no experiment {name!r} decides a claim{suggestion(name, names)}; known: {quoted(names)}")
    config.out.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    asked = config.only or names
    seconds = {name: SECONDS if config.quick else SECONDS_OF.get(name, SECONDS) for name in asked}
    try:
        with progress("starting", sum(seconds.values()), lines=True) as step:
            for name in asked:
                step(what=f"running {name}")
                outcomes.append(outcome(f"{package}.{name}", config))
                step(seconds[name])
                if outcomes[-1].failed:
                    with step.aside():
                        print_error(f"{name}: {outcomes[-1].decision} (alone, with --debug, it shows where)")
    except KeyboardInterrupt:
        write_whole(config.out / "report.html", page(outcomes))
        done = f"by Ctrl-C after {len(outcomes)} of {len(asked)} experiments"
        raise KeyboardInterrupt(f"{done}; wrote {config.out}/report.html") from None
    write_whole(config.out / "report.html", page(outcomes))
    table = Table(title="the chapter's claims", title_justify="left")
    for column in ("experiment", "verdict", "seconds", "what decides"):
        table.add_column(column, justify="right" if column == "seconds" else "left")
    for one in outcomes:
        word = Text(one.word, {"yes": "green", "no": "red", "open": "yellow"}[_class(one)])
        table.add_row(one.name, word, f"{one.seconds:.1f}", Text(one.decision))
    console.print(table)
    console.print(f"{counted(outcomes)}; wrote {config.out}/report.html", markup=False)
    return outcomes


def deciding(package: str = CLAIMS) -> list[str]:
    """The names of a package's modules that state a claim: read, not imported."""
    (folder,) = import_module(package).__path__
    return [
        source.stem
        for source in sorted(Path(folder).glob("*.py"))
        if any("CLAIM" in _assigned(node) for node in ast.parse(source.read_text(encoding="utf-8")).body)
    ]


def outcome(module_name: str, config: Report) -> Outcome:
    """Run one experiment with its own defaults."""
    module = import_module(module_name)
    package, _, name = module_name.rpartition(".")
    kind = get_type_hints(module.main)[next(iter(inspect.signature(module.main).parameters))]
    fields = {field.name for field in dataclasses.fields(kind)}
    out = config.out / name
    options: dict[str, Any] = {"out": out}
    command = ["python", "-m", f"{package.removeprefix('jaxbp.').partition('.')[0]}.{name}"]  # as it is typed
    if config.quick and "quick" in fields:
        options["quick"] = True
        command.append("--quick")
    if config.data_dir is not None and "data_dir" in fields:
        options["data_dir"] = config.data_dir
        command += ["--data-dir", str(config.data_dir)]
    started, failed = time.perf_counter(), False
    try:
        result = module.main(kind(**options), terminal(quiet=True))
        holds, decision = decided(result), str(result.decision)
    except Exception as error:  # whatever it is, it belongs on the page
        holds, decision, failed = None, f"{type(error).__name__}: {error}", True
    seconds = time.perf_counter() - started
    plots = tuple(sorted(out.glob("*.png"))) if out.is_dir() else ()
    return Outcome(
        name, module.CLAIM, module.PLACE, as_typed(shlex.join(command)), holds, decision, plots, seconds, failed
    )


def nothing_wrong(outcomes: list[Outcome]) -> bool:
    """Whether no claim does not hold, and no experiment failed."""
    return not any(one.wrong for one in outcomes)


def counted(outcomes: list[Outcome]) -> str:
    """How many claims came to which verdict."""
    holding, open_, failed = (
        sum(one.holds is True for one in outcomes),
        sum(one.holds is None and not one.failed for one in outcomes),
        sum(one.failed for one in outcomes),
    )
    not_holding = len(outcomes) - holding - open_ - failed
    words = f"of {len(outcomes)} claims {holding} hold, {open_} not decided at this size, {not_holding} do not hold"
    return words + (f", {failed} failed" if failed else "")


def apart(text: str) -> list[str]:
    """The parts of a text between semicolons, but for those within brackets."""
    depth, parts = 0, [""]
    for character in text:
        depth += (character in "([") - (character in ")]")
        if character == ";" and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def page(outcomes: list[Outcome]) -> str:
    """One HTML page with its plots in it."""
    rows = "\n".join(
        f'<tr><td><a href="#{one.name}">{one.name}</a></td><td class="{_class(one)}">{one.word}</td>'
        f"<td>{_first(one)}</td><td class='n'>{one.seconds:.1f}</td></tr>"
        for one in outcomes
    )
    sections = "\n".join(_section(one) for one in outcomes)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>The chapter's claims</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body><main>
<h1>The chapter's claims, run</h1>
<p>{counted(outcomes).capitalize()}. Each is decided by a number that an experiment measures; the command beside it
measures it again.</p>
<table><thead><tr><th>experiment</th><th>verdict</th><th>what decides</th><th class="n">seconds</th></tr></thead>
<tbody>
{rows}
</tbody></table>
{sections}
</main></body></html>
"""


def _section(one: Outcome) -> str:
    pictures = [(_in_words(one, plot), base64.b64encode(plot.read_bytes()).decode()) for plot in one.plots]
    figures = "\n".join(
        f'<img alt="{html.escape(words)}" src="data:image/png;base64,{data}">' for words, data in pictures
    )
    facts = "".join(f"<li>{html.escape(fact)}</li>" for fact in one.facts)
    return f"""<section id="{one.name}"><h2>{one.name.replace("_", " ")}</h2>
<blockquote>{html.escape(one.claim)}<footer>{html.escape(one.place)}</footer></blockquote>
<p class="{_class(one)}"><b>{one.word}</b></p>
<ul>{facts}</ul>
{figures or "<p>It wrote no plot.</p>"}
<p><code>{html.escape(one.command)}</code>, {one.seconds:.1f} s</p></section>"""


def _first(one: Outcome) -> str:
    """The first fact, and a link to the others."""
    first, *others = one.facts or [""]
    more = f' <a href="#{one.name}">and {len(others)} more</a>' if others else ""
    return html.escape(first) + more


def _in_words(one: Outcome, plot: Path) -> str:
    """What a plot shows, for those who do not see it."""
    from jaxbp.experiments.common.plots import described  # where there is a plot, there is matplotlib

    return described(plot) or f"{plot.stem.replace('_', ' ')}, a plot of {one.name.replace('_', ' ')}"


def _class(one: Outcome) -> str:
    return "no" if one.wrong else "open" if one.holds is None else "yes"


def _assigned(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


_STYLE = """
html { color-scheme: light dark; color: #222; background: #fff; } .open { color: light-dark(#7a5b00, #e3b341); }
@media (prefers-color-scheme: dark) { html { color: #e6edf3; background: #0d1117; } img { background: #fff; } }
body { font: 16px/1.5 Georgia, serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: 0.95rem; } a { color: light-dark(#0550ae, #6cb6ff); }
th, td { text-align: left; padding: 0.35rem 0.7rem; border-bottom: 1px solid #8886; vertical-align: top; }
.n { text-align: right; } .yes { color: light-dark(#1b6b3a, #56d364); } .no { color: light-dark(#a3261b, #ff8f87); }
td.yes, td.no, td.open, td:first-child { white-space: nowrap; } th { overflow-wrap: normal; }
section { margin-top: 2.5rem; border-top: 2px solid #8888; }
blockquote { margin: 0.5rem 0; padding-left: 1rem; border-left: 3px solid #8aa; font-style: italic; }
blockquote footer { font-style: normal; opacity: 0.85; } img { max-width: 100%; margin: 0.5rem 0; }
code { background: light-dark(#f3f3f3, #21262d); padding: 0.1rem 0.3rem; }
@media (max-width: 40rem) { thead { display: none; } table, tbody, tr, td { display: block; } .n { text-align: left; }
td { border: none; padding: 0.1rem 0; } tr { border-bottom: 1px solid #8886; padding: 0.4rem 0; } }
"""


if __name__ == "__main__":
    command_line(main, Report, succeeded=nothing_wrong)
