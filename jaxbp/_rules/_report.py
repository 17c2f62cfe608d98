"""The report on the rules of a program: each rule with its verdict, the wrong ones first."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from jaxbp._check._report import Finding

RuleVerdict = Literal["right", "precision", "kink", "on purpose", "not judged", "wrong"]
_ORDER: tuple[RuleVerdict, ...] = ("wrong", "not judged", "on purpose", "kink", "precision", "right")
_WIDEST = 48


@dataclass(frozen=True)
class Rule:
    """A custom derivative rule of a program.

    Attributes:
        name: The name of the function that it belongs to.
        place: The file and line where that is defined.
        kind: `"custom_vjp"` or `"custom_jvp"`; or `"gradient"`, that of the checked function itself on a device.
        uses: How often the program runs it.
        verdict: `"right"`; `"precision"`, right up to rounding or to a part in a million; `"kink"`, another valid
            subgradient on a corner; `"on purpose"`, what autodiff cannot give; `"not judged"`; `"wrong"`.
        findings: The derivative with respect to each argument, at the use where it is worst.
        why: For each finding that is not simply right its name and the reason, in words.
        used_at: The lines that use it.
    """

    name: str
    place: str
    kind: Literal["custom_vjp", "custom_jvp", "gradient"]
    uses: int
    verdict: RuleVerdict
    findings: tuple[Finding, ...] = ()
    why: tuple[tuple[str, str], ...] = ()
    used_at: tuple[str, ...] = ()

    def __str__(self) -> str:
        times = "once" if self.uses == 1 else f"{self.uses} times"
        place = f" at {self.place}, used {times}" if self.place else ""
        head = f"{self.verdict}: {self.kind} {'of ' if self.kind == 'gradient' else ''}{self.name}{place}"
        head += f" from {self.used_at[0]}" if self.used_at else ""
        reasons = dict(self.why)
        lines = [
            f"  {'' if finding.status == 'right' else finding}{_reason(finding, reasons)}"
            for finding in self.findings
            if finding.status != "right" or finding.name in reasons
        ]
        named = {finding.name for finding in self.findings}
        lines += [f"  {name}: {why}" if name else f"  {why}" for name, why in self.why if name not in named]
        return "\n".join([head, *lines])


def _as_dict(rule: Rule) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(each) for each in value]
        # JSON has no NaN
        return str(value) if isinstance(value, float) and not math.isfinite(value) else value

    def of(finding: Finding) -> dict[str, Any]:
        return {name: plain(value) for name, value in asdict(finding).items()}

    parts = {name: plain(getattr(rule, name)) for name in ("name", "place", "kind", "uses", "verdict", "used_at")}
    return {**parts, "findings": [of(finding) for finding in rule.findings], "why": dict(rule.why)}


def _reason(finding: Finding, reasons: dict[str, str]) -> str:
    why = reasons.get(finding.name, "")
    if finding.status == "right":
        return f"{finding.name}: {why}"
    return f"\n    {why}" if why else ""


@dataclass(frozen=True)
class RulesReport:
    """What is known of every custom rule in a program; it prints as a short table.

    Attributes:
        rules: The rules, the wrong ones first.
        notes: What else there is to know, in sentences.
    """

    rules: tuple[Rule, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no rule is wrong."""
        return not self.wrong

    @property
    def wrong(self) -> tuple[Rule, ...]:
        """The rules that are wrong."""
        return tuple(rule for rule in self.rules if rule.verdict == "wrong")

    def raise_if_wrong(self) -> None:
        """Raise an AssertionError with the report as its message if a rule is wrong."""
        if not self.ok:
            raise AssertionError(str(self))

    def __repr__(self) -> str:
        return f"RulesReport({len(self.rules)} rules, {len(self.wrong)} wrong; print it for more)"

    def _repr_html_(self) -> str:
        from jaxbp._notebook._reports import of_rules

        return of_rules(self)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain numbers, texts, lists and dicts, for tools."""
        return {"ok": self.ok, "rules": [_as_dict(rule) for rule in self.rules], "notes": list(self.notes)}

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> list[str]:
        counts = {verdict: sum(rule.verdict == verdict for rule in self.rules) for verdict in _ORDER}
        said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
        gradients = sum(rule.kind == "gradient" for rule in self.rules)
        beside = " and a gradient" if gradients else ""
        lines = [f"{len(self.rules) - gradients} custom rules{beside}: {said or 'none to judge'}"]
        ordered = sorted(self.rules, key=lambda rule: _ORDER.index(rule.verdict))
        lines += [str(rule) for rule in ordered if rule.verdict == "wrong"]
        rest = [rule for rule in ordered if rule.verdict != "wrong"]
        names = max((len(rule.name) for rule in rest), default=0)
        for rule in rest:
            why = next((why for _, why in rule.why), "")
            if rule.verdict == "precision":
                worst = max(rule.findings, key=lambda finding: finding.relative_error)
                why = f"the largest relative error is {worst.relative_error:.1e}, in {worst.name}"
            uses = f"{rule.uses}×"
            line = f"{rule.verdict:<10} {rule.name:<{min(names, _WIDEST)}} {uses:>5}  {rule.place or rule.kind}"
            lines.append(f"{line}  ({why})" if why else line)
        return [*lines, *(f"note: {note}" for note in self.notes)]
