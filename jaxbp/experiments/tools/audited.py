"""Custom derivative rules of a function in somebody's file: held against autodiff in a process of its own."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxbp.experiments.common.messages import ProgramError, quoted, suggestion
from jaxbp.experiments.tools import handed_in
from jaxbp.experiments.tools.array_files import MOST_TEXT, read, read_arrays

ARGUMENTS = "arguments"
_SOURCE = b"from jaxbp.experiments.tools.audited import audit\n"


@dataclass(frozen=True)
class Audited:
    """A report on rules, as it came out of the process: its text, and its numbers as JSON has them."""

    ok: bool
    text: str
    numbers: dict[str, Any]

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """The numbers, like those of the report itself."""
        return self.numbers


def audited(path: Path, function: str, seconds: float, show: Callable[[handed_in.Outcome], None]) -> Audited:
    """Execute a Python file, and check the rules that its function reaches.

    Args:
        path: The file. It also has a function `arguments` of nothing, which returns those of the function.
        function: Its name.
        seconds: How long that may take.
        show: Is given what the program printed.

    Raises:
        ValueError: The file cannot be read, or has no such function.
        ProgramError: It raised something, or took too much of time or memory.
    """
    read(path, MOST_TEXT)  # refused here where it is none
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        outcome = handed_in.run(path, _SOURCE, "audit", (str(path), function), folder, seconds, x64=False)
        show(outcome)
        if outcome.failed:
            raise ProgramError(f"{path} {outcome.failed}")
        told = handed_in.decoded(outcome.result, read_arrays(folder / "result.npz"))
    if "missing" in told:
        missing, defines = told["missing"], told["defines"]
        raise ValueError(
            f"{path} has no function {missing!r}{suggestion(missing, defines)}; it defines {quoted(defines)}. Name one "
            f"as {path}:FUNCTION, beside a function {ARGUMENTS} that returns a tuple of what it is called with"
        )
    return Audited(told["report"]["ok"], told["text"], told["report"])


def audit(path: str, function: str) -> dict[str, Any]:
    """What the process does."""
    import jaxbp  # which the process that waits for this one may do without

    module = ModuleType("__audited__")
    module.__file__ = path
    exec(compile(Path(path).read_bytes(), path, "exec"), module.__dict__)
    defines = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    for name in (function, ARGUMENTS):
        if not callable(getattr(module, name, None)):
            return {"missing": name, "defines": defines}
    given = getattr(module, ARGUMENTS)()
    if not isinstance(given, tuple):
        raise TypeError(f"{ARGUMENTS}() returned a {type(given).__name__}, expected a tuple: (x,) for one argument x")
    report = jaxbp.check_rules(getattr(module, function), *given)
    return {"report": report.to_dict(), "text": str(report)}
