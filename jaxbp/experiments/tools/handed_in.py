"""Programs that somebody handed in: run in a process of their own, which can neither stay for ever nor end ours.

Nothing is pickled on the way: arrays go in and come back as `.npz`, the structure around them as JSON. A program that
is not to be trusted gets a `Fence` (`fences.py`).
"""

import io
import json
import linecache
import os
import signal
import stat
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Literal, NoReturn

import numpy as np

from jaxbp.experiments.common.files import read_bytes
from jaxbp.experiments.tools import fences
from jaxbp.experiments.tools.fences import Fence

MOST_MEMORY = 2**33
"""What a program may take of memory, in bytes; of disk, for one file, an eighth of it."""
MOST_PRINTED = 2**20
"""What is kept of what a program prints, in bytes."""

_MOST_MESSAGE = 20_000
_MODULE = "__handed_in__"
_ARGUMENTS, _RESULT, _ARRAYS, _SOURCE = "arguments.npz", "result.json", "result.npz", "source"
_MOST_TRIED = 20
_PIPE = 2**16
_KEPT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "SYSTEMROOT", "VIRTUAL_ENV")
"""What of the environment a fenced program sees."""
_PACKAGE = str(Path(__file__).resolve().parents[2])
_START = """
import sys, types
sys.modules["jaxbp"] = package = types.ModuleType("jaxbp")
package.__path__ = [sys.argv[1]]
from jaxbp.experiments.tools import handed_in
for name in [name for name in sys.modules if name.partition(".")[0] == "jaxbp"]:
    del sys.modules[name]
handed_in.answer_and_end(sys.argv[2])
"""
"""How the process begins: jaxbp's own `__init__` would import jax, whose threads keep a process from putting up walls,
and a program that may not import them would find both there. So an empty package stands in for it at first."""
ONE_THREAD: dict[str, str] = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""For linear algebra. A process with threads cannot enter a namespace, and beside other busy ones they cost thrice."""


@dataclass(frozen=True)
class Outcome:
    """What came of a program.

    Attributes:
        result: Its result's structure, for `decoded`; None where there is none.
        arrays: Where the result's arrays are.
        failed: How it ended otherwise, or what it raised.
        how: The same in a word: it raised something or wanted too much memory, ended its process, took too much time,
            or returned what cannot be read.
        defines: The functions that it has, where the one asked for is not among them.
        printed: What it printed, as far as it is kept.
        cut: Whether it printed more.
        tried: What a fence has refused, each thing once.
        lacking: Which walls of the fence this system does not allow.
    """

    result: Any = None
    arrays: Path | None = None
    failed: str = ""
    how: Literal["", "raised", "memory", "ended", "time", "unreadable"] = ""
    defines: tuple[str, ...] | None = None
    printed: str = ""
    cut: bool = False
    tried: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()


def run(
    path: Path,
    source: bytes,
    function: str,
    arguments: Any,
    folder: Path,
    seconds: float,
    x64: bool,
    fence: Fence | None = None,
) -> Outcome:
    """Run a Python file and call its function, within limits of time, memory and output.

    Args:
        path: Where the file is; its neighbours can be imported. Behind a fence this is a name and nothing else.
        source: What is in it.
        function: What to call.
        arguments: Trees of NumPy arrays.
        folder: An empty folder to pass them through.
        seconds: How long it may take.
        x64: Whether JAX is to compute in float64.
        fence: What it may not do. Without one it may do everything that the user may.
    """
    (folder / _SOURCE).write_bytes(source)
    arrays: list[np.ndarray] = []
    structure = encoded(arguments, arrays)
    np.savez(folder / _ARGUMENTS, allow_pickle=False, **_named(arrays))
    read, write = os.pipe()  # what has gone through it cannot be taken back
    told = {"path": str(path), "function": function, "arguments": structure, "seconds": seconds}
    told |= {"fence": None if fence is None else asdict(fence), "tell": write}
    (folder / "task.json").write_text(json.dumps(told), encoding="utf-8")
    (folder / "work").mkdir()
    with open(read, "rb", buffering=0) as pipe:
        try:
            process = subprocess.Popen(
                [sys.executable, "-c", _START, _PACKAGE, str(folder)],
                env=_environment(x64, fence is not None),
                cwd=None if fence is None else folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[write],
            )
        finally:
            os.close(write)
        outcome = _waited_for(process, folder, seconds)
        return replace(outcome, tried=_tried(pipe))


def _waited_for(process: subprocess.Popen[bytes], folder: Path, seconds: float) -> Outcome:
    printed, cut = bytearray(), threading.Event()
    assert process.stdout is not None
    reader = threading.Thread(target=_keep, args=(process.stdout, printed, cut), daemon=True)
    reader.start()
    try:
        code = process.wait(seconds)
        ended = Outcome(failed=f"ended without a result, {_said(code)}", how="ended")
    except subprocess.TimeoutExpired:
        ended = Outcome(failed=f"ran for more than {seconds:g} s and was stopped", how="time")
        code = None
    finally:
        with suppress(ProcessLookupError, PermissionError):  # what it left behind goes with it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    reader.join(1)
    outcome = (_outcome(folder) if code == 0 else None) or ended
    return replace(outcome, printed=bytes(printed).decode(errors="replace"), cut=cut.is_set())


def _environment(x64: bool, fenced: bool) -> dict[str, str]:
    known = [os.path.dirname(_PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"JAX_ENABLE_X64": str(int(x64)), "PYTHONPATH": os.pathsep.join(known)}
    if fenced:
        own = {name: os.environ[name] for name in _KEPT if name in os.environ}
        return own | ONE_THREAD | {"JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": "1"} | environment
    environment = os.environ | environment
    environment.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # this process may have most of the device
    return environment


def _check_own(path: Path) -> None:
    """Refuse a file that is no longer the one that the process was given: a link may lead to what others wrote."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise ValueError(f"{path.name} is no longer the file that was made for it")


def _tried(pipe: io.FileIO) -> tuple[str, ...]:
    os.set_blocking(pipe.fileno(), False)  # somebody whom it started may live, and have the other end
    try:
        lines = (pipe.read(_PIPE) or b"").splitlines()
        return tuple(dict.fromkeys(str(json.loads(line)) for line in lines))
    except (ValueError, RecursionError):
        return ("write where what it tries is written",)


def _outcome(folder: Path) -> Outcome | None:
    """What the process wrote; None where it wrote nothing."""
    try:
        _check_own(folder / _RESULT)
        written = read_bytes(folder / _RESULT, 2**26)
        if not written:
            return None
        told = json.loads(written)
        lacking = tuple(map(str, told.get("lacking", ())))
        if "failed" in told:
            how = "memory" if told.get("memory") else "raised"
            return Outcome(failed=f"failed:\n{told['failed']}", how=how, lacking=lacking)
        if "defines" in told:
            return Outcome(defines=tuple(map(str, told["defines"])), lacking=lacking)
        _check_own(folder / _ARRAYS)
        return Outcome(told["result"], folder / _ARRAYS, lacking=lacking)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError) as error:
        return Outcome(failed=f"returned what cannot be passed on: {error}", how="unreadable")


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
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    with np.load(folder / _ARGUMENTS, allow_pickle=False) as archive:
        arguments = decoded(task["arguments"], dict(archive))
    path, source = Path(task["path"]), (folder / _SOURCE).read_bytes()
    told: dict[str, Any] = {}
    # all is open before there is a fence: behind it the folder may not be there
    with open(folder / _RESULT, "wb") as result, open(folder / _ARRAYS, "wb") as archive:
        if task["fence"] is None:
            fences.limit(MOST_MEMORY, MOST_MEMORY // 8)
            sys.path.insert(0, str(path.parent.resolve()))
        else:
            fence = Fence(**task["fence"])
            told["lacking"] = fences.put_up(fence, folder / "work", task["seconds"], _Told(task["tell"]))
            text = source.decode(errors="replace")
            linecache.cache[str(path)] = len(text), None, text.splitlines(True), str(path)  # there is no file to read
        try:
            function, own = _function(path, source, task["function"])
            if function is None:
                told["defines"] = own
            else:
                arrays: list[np.ndarray] = []
                told["result"] = encoded(function(*arguments), arrays)
                np.savez(archive, allow_pickle=False, **_named(arrays))
        except BaseException as error:  # an exit with code 0 would pass for a right gradient
            told |= {"failed": _tail(error, path)[-_MOST_MESSAGE:], "memory": isinstance(error, MemoryError)}
        result.write(json.dumps(told).encode())


class _Told:
    """What passes on what was tried, as far as there is room for it."""

    def __init__(self, pipe: int) -> None:
        self._pipe, self._left = pipe, _MOST_TRIED

    def __call__(self, what: str) -> None:
        if self._left:
            self._left -= 1
            os.write(self._pipe, f"{json.dumps(what[:200])}\n".encode())


def _function(path: Path, source: bytes, name: str) -> tuple[Callable[..., Any] | None, list[str]]:
    module = ModuleType(_MODULE)
    module.__file__ = str(path)
    sys.modules[_MODULE] = module  # a dataclass looks its module up
    exec(compile(source, str(path), "exec"), module.__dict__)
    function = getattr(module, name, None)
    own = [name for name, v in vars(module).items() if callable(v) and getattr(v, "__module__", None) == _MODULE]
    return (function if callable(function) else None), own


def _tail(error: BaseException, path: Path) -> str:
    """The end of a traceback, from the handed in file on, without the insides of libraries."""
    shown = traceback.TracebackException.from_exception(error, lookup_lines=False)  # ours may be behind the fence
    frames = list(shown.stack)
    first = next((i for i, frame in enumerate(frames) if frame.filename == str(path)), len(frames))
    theirs = [f for f in frames[first:] if not f.filename.startswith("<frozen") and f.filename != fences.__file__]
    theirs = [f for f in theirs if "site-packages" not in f.filename]
    shown.stack = traceback.StackSummary.from_list(theirs)
    return "".join(shown.format(chain=False)).rstrip()


def answer_and_end(folder: str) -> NoReturn:
    """All that the process does."""
    answer(Path(folder))
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(0)  # threads that are left would be waited for
