"""What a class handed in: one file for each student, in a folder or in a folder of the student's own."""

import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from jaxbp.experiments.common.messages import quoted
from jaxbp.experiments.tools.array_files import READERS, read_arrays

SUFFIXES = (*READERS, ".py")
SEED = "seed"
"""Under which answers say whose exercise they are to."""
_LEFT_OUT = ("__pycache__", "__MACOSX")


@dataclass(frozen=True)
class Submission:
    """What one student handed in, or why it is nothing.

    Attributes:
        student: The name of the file without its suffix, or of the folder.
        path: The file.
        complaint: Why there is none to grade.
    """

    student: str
    path: Path
    complaint: str = ""

    @property
    def file(self) -> str:
        """What a flat folder of all submissions would call it."""
        return f"{self.student}{self.path.suffix}" if self.path.suffix in SUFFIXES else self.student


def submissions(folder: Path) -> tuple[list[Submission], list[str]]:
    """The submissions in a folder by students' names, and the names of the files there that are none.

    A link is followed nowhere: it may lead to another student's file. What begins with a dot is left out.

    Raises:
        ValueError: There is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; name the one with the submissions")
    found: dict[str, list[Submission]] = {}
    others: list[str] = []
    for path in _entries(folder):
        if path.is_dir() and not path.is_symlink():
            one = _in_folder(path)
        elif path.suffix in SUFFIXES:
            one = Submission(path.stem, path, _complaint(path))
        else:
            others.append(path.name)
            continue
        found.setdefault(one.student, []).append(one)
    if not found:
        raise ValueError(f"{folder} holds no submissions: files {quoted(f'NAME{s}' for s in SUFFIXES)}, or folders")
    return [_only(of, folder) for _, of in sorted(found.items())], others


def by_problem(found: list[Submission], problems: Mapping[int, Path]) -> dict[Path, list[Submission]]:
    """The submissions to each problem of a class in which everyone has one of their own, by its file.

    Where there is no seed, or no exercise of it, it stands with the first problem and says so.
    """
    sorted_out: dict[Path, list[Submission]] = {path: [] for path in problems.values()}
    for submission in found:
        seed, complaint = min(problems), submission.complaint
        if not complaint:
            seed, complaint = _seed_in(submission.path, problems)
        sorted_out[problems[seed]].append(replace(submission, complaint=complaint))
    return {path: of for path, of in sorted_out.items() if of}


def _seed_in(path: Path, problems: Mapping[int, Path]) -> tuple[int, str]:
    """The seed that answers name, or the first one and what is the matter."""
    first = min(problems)
    try:
        seed = read_arrays(path).get(SEED) if path.suffix == ".json" else None
    except ValueError as error:
        return first, str(error).replace(str(path), path.name)
    if type(seed) is int and seed in problems:
        return seed, ""
    return first, f'{path.name} has no exercise: "{SEED}" is {seed!r:.60}, expected one from {first} to {max(problems)}'


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in _LEFT_OUT)


def _in_folder(folder: Path) -> Submission:
    files = [path for path in _entries(folder) if path.suffix in SUFFIXES]
    if len(files) == 1:
        return Submission(folder.name, files[0], _complaint(files[0]))
    what = f"{len(files)} files ({quoted(path.name for path in files)})" if files else "no file"
    return Submission(folder.name, folder, f"the folder holds {what}, expected one that ends in {quoted(SUFFIXES)}")


def _complaint(path: Path) -> str:
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        return f"{path.name} cannot be read: {error.strerror}"
    if stat.S_ISLNK(mode):
        return f"{path.name} is a link; hand in the file itself"
    return "" if stat.S_ISREG(mode) else f"{path.name} is no ordinary file"


def _only(of: list[Submission], folder: Path) -> Submission:
    if len(of) == 1:
        return of[0]
    names = quoted(str(one.path.relative_to(folder)) for one in of)
    return Submission(of[0].student, of[0].path, f"this was handed in {len(of)} times ({names}); leave one")
