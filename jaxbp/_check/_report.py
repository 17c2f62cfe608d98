"""The report on a hand gradient: the verdict, where the gradient goes wrong, and which mistake explains it."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

Verdict = Literal["right", "precision", "close", "kink", "wrong"]
Status = Literal["right", "precision", "close", "wrong"]


@dataclass(frozen=True)
class Mistake:
    """A mistake that explains what was handed in.

    Attributes:
        slug: Its name, such as `missing-derivative`.
        units: The units in whose step it is made, or the leaves of a tree; none where it is made in the whole.
        text: What it is, with the right formula.
    """

    slug: str
    units: tuple[str, ...]
    text: str

    @property
    def unit(self) -> str | None:
        """The only unit in whose step it is made; None where it is made in several, or in the whole."""
        return self.units[0] if len(self.units) == 1 else None


@dataclass(frozen=True)
class Finding:
    """One quantity that was handed in, compared with the reference.

    `index` is its worst element, where `mine` was handed in and `expected` is right. The largest difference is relative
    to the largest element of the reference; `off` of its `size` elements are off. The status is `"precision"` where
    rounding explains the difference, `"close"` where it is larger than that, but no more than a part in a million, and
    the remark says what else is the matter, such as a transpose or a NaN.
    """

    name: str
    status: Status
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

    @property
    def distance(self) -> str:
        """The largest error in words: relative, or absolute where everything right is 0."""
        if np.isfinite(self.relative_error):
            return f"relative error {self.relative_error:.1e}"
        return f"off by {abs(self.mine - self.expected):.1e} where everything right is 0"

    def __str__(self) -> str:
        where = f"[{', '.join(map(str, self.index))}]" if self.index else ""
        name = f"{self.name}{where}".replace("][", ", ")  # in a layer of a stack
        text = f"{name} is {self.mine:.6g}, expected {self.expected:.6g} ({self.distance}"
        text += ")" if self.size == 1 else f"; {self.off} of {self.size} elements are off)"
        return f"{text}; {self.remark}" if self.remark else text


@dataclass(frozen=True)
class Report:
    """What a check found out; it prints as a few lines.

    Attributes:
        verdict: `"right"`; `"precision"`, right up to what the dtype explains; `"close"`, right to a part in a
            million, as finite differences, an ε in a logarithm or printed digits give; `"kink"`, different only where
            an activation sits exactly on its corner, and a valid subgradient there; `"wrong"`.
        findings: Every quantity that was handed in, in the order of computation.
        first_wrong: The first quantity that is wrong; None if none is.
        where: The step to look at.
        alternatives: Every explanation, the best first: the mistakes that together give what was handed in.
        same_as: For each of them the first that gives the same gradients on every input: the same in other words.
        notes: What else there is to know, in sentences.
    """

    verdict: Verdict
    findings: tuple[Finding, ...]
    first_wrong: str | None = None
    where: str = ""
    alternatives: tuple[tuple[Mistake, ...], ...] = ()
    notes: tuple[str, ...] = ()
    same_as: tuple[int, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.verdict != "wrong"

    @property
    def explanations(self) -> list[Mistake]:
        """The mistakes of all alternatives, the best first; of those that are the same in other words, of one."""
        return list(dict.fromkeys(mistake for i in self._apart for mistake in self.alternatives[i]))

    @property
    def _apart(self) -> list[int]:
        same_as = self.same_as or tuple(range(len(self.alternatives)))
        return [i for i, first in enumerate(same_as) if first == i]

    @property
    def right(self) -> list[str]:
        """The names of the quantities that are right."""
        return [finding.name for finding in self.findings if finding.status != "wrong"]

    def raise_if_wrong(self) -> None:
        """Raise an AssertionError with the report as its message if something is wrong."""
        if not self.ok:
            raise AssertionError(str(self))

    def __repr__(self) -> str:
        said = [repr(self.verdict), *([f"first_wrong={self.first_wrong!r}"] if self.first_wrong else [])]
        slugs = [_slugs(together) for together in self.alternatives[:3]]
        said += [f"because={' or '.join(slugs)!r}"] if slugs else []
        return f"Report({', '.join(said)}, {len(self.findings)} findings; print it for more)"

    def __str__(self) -> str:
        return "\n".join(self._lines(3, 3, 3))

    def details(self) -> str:
        """Everything there is to say; what prints is its beginning, in at most fifteen lines."""
        return "\n".join(self._lines(len(self.findings), len(self.alternatives), len(self.notes)))

    def _lines(self, most_findings: int, most_explanations: int, most_notes: int) -> list[str]:
        lines = [f"{self.verdict}: {_HEADLINES[self.verdict]}"]
        if self.verdict in ("precision", "close"):
            worst = max(self.findings, key=lambda finding: (finding.status == self.verdict, finding.relative_error))
            lines.append(f"  the largest: {worst.distance} in {worst.name}")
        if self.verdict == "wrong":
            lines += self._about_wrong(most_findings)
            lines += self._because(most_explanations)
        more = len(self.notes) - most_notes
        lines += [f"note: {note}" for note in self.notes[:most_notes]]
        return [*lines, *([f"and {more} more notes in report.notes"] if more > 0 else [])]

    def _about_wrong(self, most: int) -> list[str]:
        wrong = [finding for finding in self.findings if finding.status == "wrong"]
        lines = [f"  {self.where}", *(f"  {finding}" for finding in wrong[:most])]
        if len(wrong) > most:
            lines.append(f"  and {len(wrong) - most} more: {_some(f.name for f in wrong[most:])}")
        return [*lines, f"  right: {_some(self.right) or 'nothing'}"]

    def _because(self, most: int) -> list[str]:
        apart, lines = self._apart, list[str]()
        for i in apart[:most]:
            said = [f"{mistake.slug}: {mistake.text}" for mistake in self.alternatives[i]]
            same = [_slugs(self.alternatives[j]) for j, first in enumerate(self.same_as) if first == i != j]
            in_other_words = f" (the same in other words: {', '.join(dict.fromkeys(same))})" if same else ""
            lines.append(f"{'because' if not lines else 'or because'} {' and '.join(said)}{in_other_words}")
        if len(apart) > most:
            lines.append(f"or because of {len(apart) - most} more in report.alternatives")
        return lines or ["no mistake that is known here explains these numbers"]

    def _repr_html_(self) -> str:
        from jaxbp._notebook._reports import of_report

        return of_report(self, _HEADLINES[self.verdict], self._because(3) if self.verdict == "wrong" else [])

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
    statuses = {finding.status for finding in findings}
    verdict: Verdict = "close" if "close" in statuses else "precision" if "precision" in statuses else "right"
    return Report(verdict, findings, notes=notes)


def on_corner(count: int, size: int, name: str, of: str) -> str:
    """A note on elements that sit on a corner."""
    return (
        f"{count} of {size} elements of {name} sit on a corner of {of}, where every slope between those on its two "
        "sides is valid"
    )


_NAMES = 6


def _some(names: Iterable[str]) -> str:
    known = list(names)
    return ", ".join(known[:_NAMES]) + (f" and {len(known) - _NAMES} more" if len(known) > _NAMES else "")


def _slugs(mistakes: tuple[Mistake, ...]) -> str:
    return " and ".join(f"{m.slug} at {', '.join(m.units)}" if m.units else m.slug for m in mistakes)


_HEADLINES: Mapping[str, str] = {
    "right": "everything handed in agrees with jax.grad in float64",
    "precision": "right up to what the number format explains",
    "close": "right to a part in a million, as finite differences, an ε or printed digits give",
    "kink": "different only on a corner, where what was handed in is a valid subgradient too",
    "wrong": "this is not the gradient",
}


def _as_dict(finding: Finding) -> dict[str, Any]:
    parts = {**asdict(finding), "score": finding.score, "index": list(finding.index)}
    del parts["name"]
    # JSON has no NaN
    return {name: str(x) if isinstance(x, float) and not np.isfinite(x) else x for name, x in parts.items()}
