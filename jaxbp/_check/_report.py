"""The report on a hand gradient: the verdict, where the gradient goes wrong, and which mistake explains it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

Verdict = Literal["right", "wrong", "precision", "kink"]


@dataclass(frozen=True)
class Mistake:
    """A mistake that explains what was handed in.

    Attributes:
        slug: Its name, such as `missing-derivative`.
        unit: The unit in whose step it is made; None where it is made in the whole.
        text: What it is, with the right formula.
    """

    slug: str
    unit: str | None
    text: str


@dataclass(frozen=True)
class Finding:
    """One quantity that was handed in, compared with the reference.

    `index` is its worst element, where `mine` was handed in and `expected` is right. The largest difference is relative
    to the largest element of the reference; `off` of its `size` elements are off. The status is `"precision"` where
    rounding explains the difference, and the remark says what else is the matter, such as a transpose or a NaN.
    """

    name: str
    status: Literal["right", "precision", "wrong"]
    index: tuple[int, ...]
    mine: float
    expected: float
    relative_error: float
    off: int
    size: int
    remark: str = ""

    @property
    def score(self) -> float:
        """The share of its elements that are right."""
        return 1 - self.off / self.size

    def __str__(self) -> str:
        where = f"[{', '.join(map(str, self.index))}]" if self.index else ""
        name = f"{self.name}{where}".replace("][", ", ")  # in a layer of a stack
        text = f"{name} is {self.mine:.6g}, expected {self.expected:.6g} (relative error "
        text += f"{self.relative_error:.1e}"
        text += ")" if self.size == 1 else f"; {self.off} of {self.size} elements are off)"
        return f"{text}; {self.remark}" if self.remark else text


@dataclass(frozen=True)
class Report:
    """What a check found out; it prints as a few lines.

    Attributes:
        verdict: `"right"`; `"precision"`, right up to what the dtype explains; `"kink"`, different only where an
            activation sits exactly on its corner, and a valid subgradient there; `"wrong"`.
        findings: Every quantity that was handed in, in the order of computation.
        first_wrong: The first quantity that is wrong; None if none is.
        where: The step to look at.
        alternatives: Every explanation, the best first: the mistakes that together give what was handed in.
        notes: What else there is to know, in sentences.
    """

    verdict: Verdict
    findings: tuple[Finding, ...]
    first_wrong: str | None = None
    where: str = ""
    alternatives: tuple[tuple[Mistake, ...], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.verdict != "wrong"

    @property
    def explanations(self) -> list[Mistake]:
        """The mistakes of all alternatives, the best first."""
        return list(dict.fromkeys(mistake for together in self.alternatives for mistake in together))

    @property
    def right(self) -> list[str]:
        """The names of the quantities that are right."""
        return [finding.name for finding in self.findings if finding.status != "wrong"]

    def raise_if_wrong(self) -> None:
        """Raise an AssertionError with the report as its message if something is wrong."""
        if not self.ok:
            raise AssertionError(str(self))

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> list[str]:
        wrong = [finding for finding in self.findings if finding.status == "wrong"]
        lines = [f"{self.verdict}: {_HEADLINES[self.verdict]}"]
        if self.verdict == "precision":
            worst = max(self.findings, key=lambda finding: finding.relative_error)
            lines.append(f"  the largest relative error is {worst.relative_error:.1e}, in {worst.name}")
        if wrong and self.verdict == "wrong":
            lines.append(f"  {self.where}")
            lines += [f"  {finding}" for finding in wrong[:_SHOWN]]
            if len(wrong) > _SHOWN:
                lines.append(f"  and {len(wrong) - _SHOWN} more: {', '.join(f.name for f in wrong[_SHOWN:])}")
            lines.append(f"  right: {', '.join(self.right) or 'nothing'}")
        for i, together in enumerate(self.alternatives[:_SHOWN]):
            lines.append("because:" if i == 0 else "or because:")
            for j, mistake in enumerate(together):
                lines.append(f"  {'and ' if j else ''}{mistake.slug}: {mistake.text}")
        if self.verdict == "wrong" and not self.alternatives:
            lines.append("no mistake that is known here explains these numbers")
        return [*lines, *(f"note: {note}" for note in self.notes)]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain numbers, texts, lists and dicts, for tools; each quantity has a `score` from 0 to 1."""
        return {
            **{name: getattr(self, name) for name in ("verdict", "ok", "first_wrong", "where")},
            "score": float(np.mean([finding.score for finding in self.findings])) if self.findings else 1.0,
            "quantities": {finding.name: _as_dict(finding) for finding in self.findings},
            "explanations": [[asdict(mistake) for mistake in together] for together in self.alternatives],
            "notes": list(self.notes),
        }


def nothing_wrong(findings: tuple[Finding, ...], notes: tuple[str, ...] = ()) -> Report:
    """The report where nothing is wrong."""
    rounded = any(finding.status == "precision" for finding in findings)
    return Report("precision" if rounded else "right", findings, notes=notes)


def on_corner(count: int, size: int, name: str, of: str) -> str:
    """A note on elements that sit on a corner."""
    return (
        f"{count} of {size} elements of {name} sit on a corner of {of}, where every slope between those on its two "
        "sides is valid"
    )


_SHOWN = 6
_HEADLINES: Mapping[str, str] = {
    "right": "everything handed in agrees with jax.grad in float64",
    "precision": "right up to what the number format explains",
    "kink": "different only on a corner, where what was handed in is a valid subgradient too",
    "wrong": "this is not the gradient",
}


def _as_dict(finding: Finding) -> dict[str, Any]:
    parts = {**asdict(finding), "score": finding.score, "index": list(finding.index)}
    del parts["name"]
    # JSON has no NaN
    return {name: str(x) if isinstance(x, float) and not np.isfinite(x) else x for name, x in parts.items()}
