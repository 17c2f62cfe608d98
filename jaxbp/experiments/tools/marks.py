"""The mark of one submission: the points of each quantity, and a few words on what is wrong."""

import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import jaxbp
from jaxbp.experiments.common.messages import suggestion
from jaxbp.experiments.tools.problem import Problem

Status = Literal[
    "right", "wrong", "incomplete", "none", "failed", "time", "memory", "ended", "forbidden", "unreadable", "ungraded"
]
MEANING: Mapping[Status, str] = {
    "right": "all that is asked for is right",
    "wrong": "something is wrong",
    "incomplete": "what is there is right, and something is missing or has no such form",
    "none": "there is no one file to grade",
    "failed": "the program raised an error",
    "time": "the program took too much time",
    "memory": "the program took too much memory",
    "ended": "the program ended its process",
    "forbidden": "the program tried what it may not do",
    "unreadable": "the file, or what the program returned, cannot be read",
    "ungraded": "the grader failed",
}
_IN_THE_WAY = (TypeError, ValueError, ArithmeticError, RecursionError, MemoryError)
_MOST_WORDS = 2000
_LOSS = "loss"
_ALTERNATIVES, _MOST_REASONS = 2, 5
_MOST_UNKNOWN, _LONG = 5, 60


@dataclass(frozen=True)
class Part:
    """The points of one quantity, what it is worth, and why."""

    name: str
    score: float
    most: float
    words: str

    @property
    def right(self) -> bool:
        """Whether it has all its points."""
        return self.score >= self.most


@dataclass(frozen=True)
class Mark:
    """What one submission gets.

    Attributes:
        status: What became of it, in a word of `MEANING`.
        parts: The points of each quantity that is asked for.
        words: What there is to say, in sentences.
        mistakes: The mistakes that explain what is wrong, by slug, each with its unit.
        verdict: That of `jaxbp.check`, where it came so far.
    """

    status: Status
    parts: tuple[Part, ...]
    words: tuple[str, ...] = ()
    mistakes: tuple[tuple[str, str | None], ...] = ()
    verdict: str = ""

    @property
    def score(self) -> float:
        """The sum of all points."""
        return round(sum(part.score for part in self.parts), 4)

    @property
    def most(self) -> float:
        """What all is worth."""
        return round(sum(part.most for part in self.parts), 4)


def nothing(problem: Problem, status: Status, *words: str) -> Mark:
    """The mark of what cannot be graded: no points, and why."""
    parts = tuple(Part(name, 0, most, "not graded") for name, most in problem.points.items())
    return Mark(status, parts, tuple(text[:_MOST_WORDS] for text in words))


def named(given: Any) -> dict[str, Any]:
    """The quantities in what was handed in, by name: also of gradients by unit and source, and of (loss, gradients)."""
    if isinstance(given, tuple) and len(given) == 2:
        return {"loss": given[0], **named(given[1])}
    if not isinstance(given, Mapping):
        raise TypeError(
            f"a {type(given).__name__} was handed in; expected gradients by unit and source, such as "
            "{'o': {'h1': …, 'bias': …}}, or quantities by name, such as {'grad.o.h1': …}"
        )
    if given and all(isinstance(weights, Mapping) for weights in given.values()):
        return {f"grad.{u}.{s}": W for u, weights in given.items() for s, W in weights.items()}
    return {str(name): value for name, value in given.items()}


def marked(problem: Problem, given: Mapping[str, Any]) -> Mark:
    """The mark for some quantities.

    A quantity that agrees gets all its points. One that is wrong gets the share of its elements that are right, beyond
    those that zeros would have right; and if
    known mistakes explain all numbers, a quantity that is only wrong because of what came before it gets at least the
    problem's share for following errors. The first wrong quantity, and the first of each unit in whose step one of the
    mistakes is made, are where the mistakes are, and follow from nothing.

    Args:
        problem: What is asked.
        given: What was handed in, by name. What is not asked for gets no points, but helps to find the mistake.
    """
    report, refused = _checked(problem, given)
    findings = {finding.name: finding for finding in report.findings} if report else {}
    following = _following(report) if report else frozenset()
    parts: list[Part] = []
    for name, most in problem.points.items():
        if name in refused:
            share, words = 0.0, refused[name]
        elif name not in findings:
            share, words = 0.0, "not handed in"
        else:
            assert report is not None
            share, words = _share(problem, report, findings[name], name in following)
        parts.append(Part(name, round(share * most, 4), most, words))
    complete = all(part.right for part in parts)
    if report is None:
        status: Status = "unreadable" if refused else "incomplete"
    else:
        status = "wrong" if not report.ok else "right" if complete else "incomplete"
    reasons = (words if words.startswith(name) else f"{name}: {words}" for name, words in refused.items())
    mistakes = report.alternatives[0] if report and report.alternatives else ()
    return Mark(
        status,
        tuple(parts),
        tuple(text[:_MOST_WORDS] for text in (*_words(report, complete), *islice(reasons, _MOST_REASONS))),
        tuple((mistake.slug, mistake.unit) for mistake in mistakes),
        report.verdict if report else "",
    )


def _checked(problem: Problem, given: Mapping[str, Any]) -> tuple[jaxbp.Report | None, dict[str, str]]:
    """The report on all quantities that can be read, and for each other one why it cannot."""
    known = problem.described.most_handed_in({})
    if not any(name in known for name in given if name != _LOSS):
        with suppress(*_IN_THE_WAY):  # keys of one's own, which are told apart by their shapes
            return _check(problem, given), {}
    unknown = list(islice((name for name in given if name not in known), _MOST_UNKNOWN))
    refused = {name[:_LONG]: f"there is no quantity of this name{suggestion(name[:_LONG], known)}" for name in unknown}
    named = {name: value for name, value in given.items() if name in known}
    if not named:
        return None, refused
    try:
        return _check(problem, named), refused
    except _IN_THE_WAY as error:
        whole = _said(error)
    for name, value in named.items():
        try:
            _check(problem, {name: value})
        except _IN_THE_WAY as error:
            refused[name] = _said(error)
    rest = {name: value for name, value in named.items() if name not in refused}
    try:
        return _check(problem, rest) if rest else None, refused
    except _IN_THE_WAY:
        return None, dict.fromkeys(named, whole)


def _check(problem: Problem, given: Mapping[str, Any]) -> jaxbp.Report:
    at = problem.described
    mine: Any = dict(given)
    if _LOSS in mine and not any("." in name for name in mine):  # beside gradients with keys of one's own
        value = mine.pop(_LOSS)
        mine = (value, mine) if mine else {_LOSS: value}
    with warnings.catch_warnings(action="ignore"):  # numbers at the end of the format overflow
        return jaxbp.check(at.net, at.loss, at.params, at.x, at.y, mine, layout=problem.layout, digits=problem.digits)


def _said(error: Exception) -> str:
    return str(error)[:_MOST_WORDS] or type(error).__name__


_NOTHING = ("missing-gradient", "zeroed-block", "detached")


def _following(report: jaxbp.Report) -> frozenset[str]:
    """What is wrong only because of a mistake that was made before."""
    if not report.alternatives:
        return frozenset()
    wrong = [finding.name for finding in report.findings if finding.status == "wrong"]
    where = {report.first_wrong}
    if any(mistake.slug in _NOTHING for mistake in report.alternatives[0]):
        return frozenset()  # what is not there follows from nothing
    for mistake in report.alternatives[0]:
        if mistake.unit is not None:
            where.add(next((name for name in wrong if name.split(".")[1:2] == mistake.unit.split(".")[:1]), None))
    return frozenset(wrong) - where


def _share(problem: Problem, report: jaxbp.Report, finding: jaxbp.Finding, follows: bool) -> tuple[float, str]:
    """The share of its points that a quantity gets, and why."""
    if report.ok or finding.status != "wrong":
        return 1.0, "right"
    right = _right_elements(finding, problem.numbers.get(finding.name, 0)) if problem.by_element else 0.0
    words = f"{finding.off} of {finding.size} elements are wrong" if finding.size > 1 else "wrong"
    if finding.remark:
        words += f"; {finding.remark}"
    if follows and problem.follow_through > right:
        return problem.follow_through, f"{words}, which follows from the mistake before it"
    return right, words


def _right_elements(finding: jaxbp.Finding, numbers: int) -> float:
    """The share of elements that are right, counted so that zeros, of which ReLU leaves many, have none of it."""
    return max(0.0, 1 - finding.off / numbers) if numbers else finding.score


def _words(report: jaxbp.Report | None, complete: bool) -> list[str]:
    if report is None:
        return ["there is nothing that can be graded"]
    if report.ok:
        kind = {"right": "", "precision": ", up to rounding"}.get(report.verdict, f" ({report.verdict})")
        return [f"{'everything' if complete else 'what was handed in'} is right{kind}"]
    words = [report.where]
    for i, together in enumerate(report.alternatives[:_ALTERNATIVES]):
        said = " and ".join(f"{mistake.slug}: {mistake.text}" for mistake in together)
        words.append(f"{'or ' if i else ''}{said}")
    return words if report.alternatives else [*words, "no mistake that is known explains these numbers"]
