"""Audit every custom derivative rule in the installed libraries: which are right, which are not, by how much.

    python -m experiments.custom_rules
    python -m experiments.custom_rules --only optax flax.linen
    python -m experiments.custom_rules --quick

Calls what is in jax.nn, jax.numpy, jax.scipy, optax, flax and equinox, and networks of jaxbp, as `custom_rule_calls`
has it, and holds each rule that they reach against autodiff of what it stands for, by `jaxbp.check_rules`. Prints a
table of all rules, the wrong ones first, each with its place in its library, and for whatever is not simply right the
call and the numbers; and writes it to `rules.json` and `rules.md`. Ends with exit code 1 if a rule is wrong.

`--quick` looks at one call of each function, in the libraries that take seconds.
"""

import importlib.metadata
import importlib.util
import json
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

import jaxbp
from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.files import write_whole
from jaxbp.experiments.common.options import listed
from jaxbp.experiments.tools.custom_rule_calls import SOURCES, Call
from jaxbp.testing import Rule

ORDER = ("wrong", "not judged", "on purpose", "kink", "precision", "right")
STYLES = {"wrong": "red", "not judged": "yellow", "on purpose": "cyan", "kink": "cyan"}
QUICK = ("jax.nn", "optax", "flax.nnx", "equinox", "jaxbp")
LIBRARIES = ("jax", "optax", "flax", "equinox", "jaxbp")
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Audit:
    """Audit every custom derivative rule in the installed libraries."""

    only: tuple[str, ...] = ()
    """The libraries to look at, such as jax.nn or optax; all where none is named."""
    quick: bool = False
    """Whether to look at less, in seconds."""
    out: Path = Path("runs/custom_rules")
    """The folder to write to."""

    def __post_init__(self) -> None:
        if unknown := [name for name in self.only if name not in SOURCES]:
            raise ValueError(f"only {listed(unknown)} is none of the libraries {listed(SOURCES)}")

    @property
    def sources(self) -> tuple[str, ...]:
        """The libraries that are looked at."""
        return self.only or (QUICK if self.quick else tuple(SOURCES))


@dataclass(frozen=True)
class Row:
    """A rule over all calls that reach it: how often, and the worst that came of it."""

    rule: str
    kind: str
    place: str
    uses: int
    calls: int
    verdict: str
    call: str
    doubt: str

    def beside(self, other: "Row") -> "Row":
        """Both together, with the worse verdict."""
        worse = min(self, other, key=lambda row: ORDER.index(row.verdict))
        return replace(worse, uses=self.uses + other.uses, calls=self.calls + other.calls)


@dataclass(frozen=True)
class Audited:
    """What was found.

    Attributes:
        rows: A row for each rule, the wrong ones first.
        calls: How many calls were made.
        failed: The calls at which nothing could be said, with what they raised.
        missing: The libraries that are not installed.
        versions: Those of the others.
    """

    rows: tuple[Row, ...]
    calls: int
    failed: tuple[str, ...]
    missing: tuple[str, ...]
    versions: dict[str, str]

    @property
    def ok(self) -> bool:
        """Whether no rule is wrong."""
        return not any(row.verdict == "wrong" for row in self.rows)


def main(config: Audit, console: Console | None = None) -> Audited:
    """Audit the rules, print the table, and write it."""
    console = console or terminal()
    rows: dict[tuple[str, str], Row] = {}
    calls, failed, missing = 0, list[str](), list[str]()
    for source in config.sources:
        if importlib.util.find_spec(source.partition(".")[0]) is None:
            missing.append(source)
            continue
        began, before = time.perf_counter(), calls
        for call in SOURCES[source](1 if config.quick else 2):
            calls += 1
            try:
                found = rows_of(call)
            except Exception as error:  # whatever a library raises at arguments that it has not seen
                failed.append(f"{call.name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
                continue
            for row in found:
                at = row.rule, row.place
                rows[at] = rows[at].beside(row) if at in rows else row
        seconds = time.perf_counter() - began
        terminal(stderr=True).print(f"{source}: {calls - before} calls in {seconds:.0f} s, {len(rows)} rules so far")
    ordered = sorted(rows.values(), key=lambda row: (ORDER.index(row.verdict), row.place))
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES if importlib.util.find_spec(name)}
    result = Audited(tuple(ordered), calls, tuple(failed), tuple(missing), versions)
    _print(result, console)
    config.out.mkdir(parents=True, exist_ok=True)
    write_whole(config.out / "rules.json", json.dumps({**asdict(result), "ok": result.ok}, indent=1) + "\n")
    write_whole(config.out / "rules.md", as_markdown(result))
    console.print(f"wrote {config.out}/: rules.json, rules.md")
    return result


def rows_of(call: Call) -> list[Row]:
    """What a call says of the rules that it reaches."""
    report = jaxbp.check_rules(call.function, *call.arguments)
    return [
        Row(rule.name, rule.kind, place(rule.place), rule.uses, 1, rule.verdict, call.name, doubt(rule))
        for rule in report.rules
    ]


def place(where: str) -> str:
    """A file and line as its library has them, whatever the machine."""
    where = where.rpartition("site-packages/")[2]
    return where.removeprefix(f"{ROOT}/")


def doubt(rule: Rule) -> str:
    """Why a rule is not simply right, with numbers; nothing where it is."""
    if rule.verdict == "right":
        return ""
    reasons, said = dict(rule.why), []
    for finding in rule.findings:
        why = reasons.pop(finding.name, "")
        if finding.relative_error and (why or finding.status != "right"):
            said.append(f"{finding}: {why}" if why else str(finding))
        elif why:
            said.append(f"{finding.name}: {why}")
    return "; ".join([*said, *(f"{name}: {why}" if name else why for name, why in reasons.items())])


def counted(result: Audited) -> str:
    """How many rules got which verdict."""
    numbers = {verdict: sum(row.verdict == verdict for row in result.rows) for verdict in ORDER}
    said = ", ".join(f"{number} {verdict}" for verdict, number in numbers.items() if number)
    return f"{len(result.rows)} rules in {result.calls} calls: {said or 'none'}"


def _notes(result: Audited) -> Iterable[str]:
    yield ", ".join(f"{name} {version}" for name, version in result.versions.items())
    if result.missing:
        yield f"not installed: {', '.join(result.missing)}"
    yield from (f"failed: {failed}" for failed in result.failed)


def _print(result: Audited, console: Console) -> None:
    columns = ("rule", Column("place", overflow="fold"), Column("uses", justify="right"), "verdict")
    table = Table(*columns, title=counted(result), title_justify="left")
    for row in result.rows:
        table.add_row(row.rule, row.place, str(row.uses), row.verdict, style=STYLES.get(row.verdict))
    console.print(table)
    for row in result.rows:
        if row.doubt:
            console.print(f"{row.verdict}: {row.rule}, at {row.call}: {row.doubt}", soft_wrap=True)
    for note in _notes(result):
        console.print(note, soft_wrap=True)


def as_markdown(result: Audited) -> str:
    """The table as a page."""
    lines = [f"# Custom rules\n\n{counted(result)}.\n", _cells("rule", "place", "uses", "verdict", "at", "doubt")]
    lines.append(f"|{'---|' * 6}")
    for row in result.rows:
        at = row.call if row.doubt else ""
        lines.append(_cells(row.rule, row.place, str(row.uses), row.verdict, at, row.doubt))
    return "\n".join([*lines, "", *(f"* {note}" for note in _notes(result)), ""])


def _cells(*cells: str) -> str:
    return " ".join(["|", *(re.sub(r"([|<>*_])", r"\\\1", cell) + " |" for cell in cells)])


if __name__ == "__main__":
    command_line(main, Audit, succeeded=lambda result: result.ok)
