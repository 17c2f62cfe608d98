"""Programs that somebody handed in: run in a process of their own, which can neither stay for ever nor end ours.

Nothing is pickled on the way: arrays go in and come back as `.npz`, the structure around them as JSON.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np

from experiments.common.files import read_bytes

MOST_MEMORY = 2**33
"""What a program may take of memory, in bytes; of disk, for one file, an eighth of it."""
MOST_PRINTED = 2**20
"""What is kept of what a program prints, in bytes."""

_MOST_MESSAGE = 20_000
_MODULE = "__handed_in__"
_ARGUMENTS, _RESULT, _ARRAYS, _SOURCE = "arguments.npz", "result.json", "result.npz", "source"


@dataclass(frozen=True)
class Outcome:
    """What came of a program.

    Attributes:
        result: Its result's structure, for `decoded`; None where there is none.
        arrays: Where the result's arrays are.
        failed: How it ended otherwise, or what it raised.
        defines: The functions that it has, where the one asked for is not among them.
        printed: What it printed, as far as it is kept.
        cut: Whether it printed more.
    """

    result: Any = None
    arrays: Path | None = None
    failed: str = ""
    defines: tuple[str, ...] | None = None
    printed: str = ""
    cut: bool = False


def run(path: Path, source: bytes, function: str, arguments: Any, folder: Path, seconds: float, x64: bool) -> Outcome:
    """Run a Python file and call its function, within limits of time, memory and output.

    Args:
        path: Where the file is; its neighbours can be imported.
        source: What is in it.
        function: What to call.
        arguments: Trees of NumPy arrays.
        folder: An empty folder to pass them through.
        seconds: How long it may take.
        x64: Whether JAX is to compute in float64.
    """
    (folder / _SOURCE).write_bytes(source)
    arrays: list[np.ndarray] = []
    structure = encoded(arguments, arrays)
    np.savez(folder / _ARGUMENTS, allow_pickle=False, **_named(arrays))
    told = json.dumps({"path": str(path), "function": function, "arguments": structure})
    (folder / "task.json").write_text(told, encoding="utf-8")
    root = str(Path(__file__).resolve().parents[2])
    known = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"JAX_ENABLE_X64": str(int(x64)), "PYTHONPATH": os.pathsep.join(known)}
    environment.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # this process may have most of the device
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.tools.handed_in", str(folder)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    printed, cut = bytearray(), threading.Event()
    assert process.stdout is not None
    reader = threading.Thread(target=_keep, args=(process.stdout, printed, cut), daemon=True)
    reader.start()
    try:
        code = process.wait(seconds)
        ended = f"ended without a result, {_said(code)}"
    except subprocess.TimeoutExpired:
        ended = f"ran for more than {seconds:g} s and was stopped"
        code = None
    finally:
        with suppress(ProcessLookupError, PermissionError):  # what it left behind goes with it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    reader.join(1)
    complete = code == 0 and (folder / _RESULT).exists()
    outcome = _outcome(folder) if complete else Outcome(failed=ended)
    return replace(outcome, printed=bytes(printed).decode(errors="replace"), cut=cut.is_set())


def _outcome(folder: Path) -> Outcome:
    try:
        told = json.loads(read_bytes(folder / _RESULT, 2**26))
        if "failed" in told:
            return Outcome(failed=f"failed:\n{told['failed']}")
        if "defines" in told:
            return Outcome(defines=tuple(map(str, told["defines"])))
        return Outcome(told["result"], folder / _ARRAYS)
    except (ValueError, TypeError, KeyError, RecursionError, OSError) as error:
        return Outcome(failed=f"returned what cannot be passed on: {error}")


def encoded(value: Any, arrays: list[np.ndarray]) -> Any:
    """The structure of a value, as JSON has it; what is an array goes to the list."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {"dict": [[encoded(key, arrays), encoded(item, arrays)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [encoded(item, arrays) for item in value]}
    if isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array__"):
        array = np.asarray(value)
        bits = array.dtype.name == "bfloat16"  # which NumPy has no name for in files
        if bits or array.dtype.kind in "biufc":
            arrays.append(array.view(np.uint16) if bits else array)
            return {"bfloat16" if bits else "array": len(arrays) - 1}
    return {"other": type(value).__name__}


def decoded(structure: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The value of a structure; of anything that was no data, an empty object whose type has the same name."""
    if not isinstance(structure, dict):
        return structure
    [(kind, content)] = structure.items()
    if kind == "dict":
        return {decoded(key, arrays): decoded(item, arrays) for key, item in content}
    if kind in ("tuple", "list"):
        items = [decoded(item, arrays) for item in content]
        return tuple(items) if kind == "tuple" else items
    if kind == "other":
        return type(str(content), (), {})()
    array = arrays[f"a{content}"]
    if kind == "array":
        return array
    import ml_dtypes

    return array.view(ml_dtypes.bfloat16)


def _named(arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"a{i}": array for i, array in enumerate(arrays)}


def _keep(stream: IO[bytes], printed: bytearray, cut: threading.Event) -> None:
    with stream:
        while piece := os.read(stream.fileno(), 1 << 16):
            room = MOST_PRINTED - len(printed)
            printed += piece[:room]
            if len(piece) > room:
                cut.set()


def _said(code: int) -> str:
    if code >= 0:
        return f"with exit code {code}"
    names = {s.value: s.name for s in signal.Signals}
    return f"by the signal {names.get(-code, -code)}"


# in the process of its own; without jax, which only some programs need


def answer(folder: Path) -> None:
    """What the process does: read the arguments, run, write the result."""
    _limit()
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    with np.load(folder / _ARGUMENTS, allow_pickle=False) as archive:
        arguments = decoded(task["arguments"], dict(archive))
    path = Path(task["path"])
    try:
        function, own = _function(path, (folder / _SOURCE).read_bytes(), task["function"])
        if function is None:
            told: dict[str, Any] = {"defines": own}
        else:
            arrays: list[np.ndarray] = []
            told = {"result": encoded(function(*arguments), arrays)}
            np.savez(folder / _ARRAYS, allow_pickle=False, **_named(arrays))
    except BaseException as error:  # an exit with code 0 would pass for a right gradient
        told = {"failed": _tail(error, path)[-_MOST_MESSAGE:]}
    beside = folder / "part"
    beside.write_text(json.dumps(told), encoding="utf-8")
    beside.replace(folder / _RESULT)


def _limit() -> None:
    try:
        import resource
    except ImportError:  # a system that has no such limits
        return
    for kind, most in (
        (resource.RLIMIT_DATA, MOST_MEMORY),
        (resource.RLIMIT_FSIZE, MOST_MEMORY // 8),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _function(path: Path, source: bytes, name: str) -> tuple[Callable[..., Any] | None, list[str]]:
    module = ModuleType(_MODULE)
    module.__file__ = str(path)
    sys.modules[_MODULE] = module  # a dataclass looks its module up
    sys.path.insert(0, str(path.parent.resolve()))
    exec(compile(source, str(path), "exec"), module.__dict__)
    function = getattr(module, name, None)
    own = [name for name, v in vars(module).items() if callable(v) and getattr(v, "__module__", None) == _MODULE]
    return (function if callable(function) else None), own


def _tail(error: BaseException, path: Path) -> str:
    """The end of a traceback, from the handed in file on, without the insides of libraries."""
    shown = traceback.TracebackException.from_exception(error)
    frames = list(shown.stack)
    first = next((i for i, frame in enumerate(frames) if frame.filename == str(path)), len(frames))
    theirs = [f for f in frames[first:] if "site-packages" not in f.filename and not f.filename.startswith("<frozen")]
    shown.stack = traceback.StackSummary.from_list(theirs)
    return "".join(shown.format(chain=False)).rstrip()


if __name__ == "__main__":
    answer(Path(sys.argv[1]))
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(0)  # threads that are left would be waited for
