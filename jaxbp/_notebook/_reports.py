"""Reports on gradients and rules in a notebook: what they print, with all quantities and rules in a table."""

from collections.abc import Sequence

from jaxbp._check._report import Finding, Report
from jaxbp._notebook._parts import Column, cell, listed, number, paragraph, shown, table
from jaxbp._rules._report import Rule, RulesReport

_MOST_ROWS = 30
_CLASSES = {"wrong": "wrong", "kink": "here", "not judged": "here", "on purpose": "here"}


def of_report(report: Report, headline: str, because: Sequence[str]) -> str:
    """The verdict, where to look and why, and every quantity with its worst element."""
    columns = [Column("quantity"), Column("verdict"), *(Column(c, "number") for c in ("yours", "expected"))]
    columns += [Column("distance"), Column("elements off", "number"), Column("remark", "words")]
    return shown(
        paragraph(f"{report.verdict}: {headline}", f"verdict {_class(report.verdict)}"),
        paragraph(report.where) if report.where else "",
        listed(because),
        table(columns, _worst_first(report.findings), "Quantities that were handed in"),
        listed(f"note: {note}" for note in report.notes),
    )


def of_rules(report: RulesReport) -> str:
    """The verdict on each rule, the wrong ones first."""
    head, *_ = str(report).splitlines()
    columns = [Column("verdict"), Column("rule"), Column("kind"), Column("uses", "number"), Column("place", "words")]
    columns += [Column("why", "words")]
    rows = [_rule(rule) for rule in report.rules[:_MOST_ROWS]]
    more = len(report.rules) - len(rows)
    return shown(
        paragraph(head, f"verdict {'right' if report.ok else 'wrong'}"),
        table(columns, [*rows, *([[cell(f"and {more} more")]] if more else [])], "Custom rules") if rows else "",
        listed(f"note: {note}" for note in report.notes),
    )


def _class(verdict: str) -> str:
    return _CLASSES.get(verdict, "right")


def _worst_first(findings: Sequence[Finding]) -> list[list[str]]:
    """In the order of computation; of very many those that are wrong come first."""
    chosen = list(findings)
    if len(chosen) > _MOST_ROWS:
        chosen.sort(key=lambda finding: finding.status != "wrong")
    rows = [_finding(finding) for finding in chosen[:_MOST_ROWS]]
    more = len(chosen) - len(rows)
    return [*rows, [cell(f"and {more} more")]] if more else rows


def _finding(finding: Finding) -> list[str]:
    place = f"{finding.name}[{', '.join(map(str, finding.index))}]" if finding.index else finding.name
    place = place.replace("][", ", ")  # in a layer of a stack
    off = f"{finding.off} of {finding.size}"
    return [
        cell(finding.name if finding.status == "right" else place),
        cell(finding.status, _class(finding.status)),
        *(cell(number(value)) for value in (finding.mine, finding.expected)),
        cell("" if finding.status == "right" else finding.distance),
        cell("" if finding.off == 0 else off),
        cell(finding.remark),
    ]


def _rule(rule: Rule) -> list[str]:
    why = [f"{name}: {reason}" if name else reason for name, reason in rule.why]
    why += [str(finding) for finding in rule.findings if finding.status == "wrong"]
    cells = (rule.name, rule.kind, str(rule.uses), rule.place, "; ".join(why))
    return [cell(rule.verdict, _class(rule.verdict)), *map(cell, cells)]
