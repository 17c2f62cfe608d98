"""The marks of a class as files: for Gradescope, for otter-grader, and as a table.

* `results/NAME/results.json`, for each student, is what a Gradescope autograder writes
  (https://gradescope-autograders.readthedocs.io/en/latest/specs/).
* `final_grades.csv` is what `otter grade` writes: a row of what each question is worth, then one for each file.
* `grades.csv` has what there is to say too.
"""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxbp.experiments.common.files import is_one_of, write_whole
from jaxbp.experiments.tools.grading import Graded
from jaxbp.experiments.tools.marks import MEANING, Mark

_RUNS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a spreadsheet takes for a formula, or for a cell of its own, where a cell begins with it."""
_WORTH, _NO_STATUS = "points-per-question", "--"


def shown(text: str, kept: str = "\n") -> str:
    """A text from outside, in which what no terminal, page or table should obey is written out, but for these."""
    return "".join(c if c.isprintable() or c in kept else repr(c)[1:-1] for c in text)


def results(graded: Graded) -> dict[str, Any]:
    """The `results.json` of one student."""
    mark = graded.mark
    tests = [
        {
            "name": part.name,
            "score": part.score,
            "max_score": round(part.most, 4),
            "status": "passed" if part.right else "failed",
            "output": shown(part.words),
            "output_format": "text",
            "visibility": "visible",
        }
        for part in mark.parts
    ]
    return {
        "score": mark.score,
        "output": words(mark),
        "output_format": "text",
        "execution_time": round(graded.seconds, 3),
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
        "extra_data": {
            "max_score": mark.most,
            "status": mark.status,
            "verdict": mark.verdict,
            "mistakes": [{"slug": slug, "unit": unit} for slug, unit in mark.mistakes],
            "file": shown(graded.submission.file, ""),
        },
    }


def words(mark: Mark) -> str:
    """What a student reads."""
    return shown("\n".join([f"{mark.score:g} of {mark.most:g} points: {MEANING[mark.status]}", *mark.words]))


def files(out: Path, graded: Iterable[Graded]) -> dict[Path, str]:
    """Every file that is to be written, with its content."""
    all_of_them = list(graded)
    written = {
        out / "results" / one.submission.student / "results.json": json.dumps(results(one), indent=1, allow_nan=False)
        + "\n"
        for one in all_of_them
    }
    written[out / "final_grades.csv"] = _csv(_as_otter(all_of_them))
    written[out / "grades.csv"] = _csv(_as_table(all_of_them))
    return written


def write(contents: dict[Path, str], read: Iterable[Path]) -> None:
    """Write the files, each whole or not at all, and none of those that are read.

    Raises:
        ValueError: One of them is read.
        OSError: One of them cannot be written.
    """
    read = list(read)
    for path in contents:
        if is_one_of(path, read):
            raise ValueError(f"{path} would be overwritten, but it is read; name another --out")
    for path, content in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)


def _as_otter(graded: list[Graded]) -> Iterable[list[Any]]:
    questions = sorted(part.name for part in graded[0].mark.parts)
    most = {part.name: round(part.most, 4) for part in graded[0].mark.parts}
    whole = graded[0].mark.most
    yield ["file", *questions, "total_points_earned", "percent_correct", "grading_status"]
    yield [_WORTH, *(most[name] for name in questions), whole, 1.0, _NO_STATUS]
    for one in graded:
        scores = {part.name: part.score for part in one.mark.parts}
        ran = one.mark.status in ("right", "wrong", "incomplete")
        yield [
            shown(one.submission.file, ""),
            *(scores[name] for name in questions),
            one.mark.score,
            round(one.mark.score / whole, 4),
            "Completed" if ran else MEANING[one.mark.status],
        ]


def _as_table(graded: list[Graded]) -> Iterable[list[Any]]:
    yield ["student", "score", "max_score", "status", "mistakes", "words", *(p.name for p in graded[0].mark.parts)]
    for one in graded:
        mark = one.mark
        mistakes = ", ".join(f"{slug} ({unit})" if unit else slug for slug, unit in mark.mistakes)
        scores = (part.score for part in mark.parts)
        said = " | ".join(mark.words).replace("\n", " ")
        yield [shown(one.submission.student, ""), mark.score, mark.most, mark.status, mistakes, said, *scores]


def _csv(rows: Iterable[list[Any]]) -> str:
    """Rows as CSV, in which no text is a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_cell(cell) for cell in row] for row in rows)
    return text.getvalue()


def _cell(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    text = shown(cell)
    return f"'{text}" if text != _NO_STATUS and text.lstrip(" ").startswith(_RUNS) else text
