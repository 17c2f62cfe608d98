"""Several processes of one run on this machine: started, watched, and started again when one of them dies.

    python -m experiments.tools.together COORDINATOR PROCESSES INDEX FOLDER

is what each of them is; `experiments.train --processes` starts them.
"""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
from rich.console import Console

import jaxbp
from jaxbp.experiments.common.command_line import terminal
from jaxbp.experiments.tools.config import Config, resumed
from jaxbp.experiments.tools.job import Job

TRIES = 3
"""How often they are started again without one more checkpoint between two deaths."""
PATIENCE = 0.1  # seconds between two looks


def together(folder: Path, processes: int, console: Console) -> None:
    """Start the processes of a run and watch them until it is done.

    Raises:
        ChildProcessError: They died again and again, without a step forward.
        KeyboardInterrupt: By Ctrl-C.
        SystemExit: SIGTERM has come, and they have written a last checkpoint.
    """
    tries, reached = TRIES, _reached(folder)
    with jaxbp.train.until_terminated() as stop:
        while True:
            code = _watched(_started(folder, processes), stop)
            if code == 0:
                return
            if stop():
                raise SystemExit(code)
            reached, before = _reached(folder), reached
            tries = TRIES if reached > before else tries - 1
            if not tries:
                raise ChildProcessError(f"a process of {folder} ended with exit code {code}, {TRIES} times; see above")
            console.print(f"a process ended with exit code {code}; all start again from step {reached}", style="bold")


def _started(folder: Path, processes: int) -> list[subprocess.Popen[bytes]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "jaxbp.experiments.tools.together", place, str(processes)]
    return [subprocess.Popen([*command, str(index), str(folder)], start_new_session=True) for index in range(processes)]


def _watched(running: list[subprocess.Popen[bytes]], stop: Callable[[], bool]) -> int:
    """The exit code of all, or of the first that failed, when none of them runs any more."""
    asked = False
    try:
        while None in [process.poll() for process in running]:
            failed = [process.returncode for process in running if process.returncode]
            if failed and not asked:
                return failed[0]
            if stop() and not asked:
                asked = True
                for process in running:
                    process.terminate()
            time.sleep(PATIENCE)
        return next((process.returncode for process in running if process.returncode), 0)
    finally:
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()


def _reached(folder: Path) -> int:
    """The step of the last checkpoint."""
    checkpoints = folder / "checkpoints"
    names = [part.name for part in checkpoints.iterdir()] if checkpoints.exists() else []
    return max((int(name) for name in names if name.isdecimal()), default=0)


def one_of_them(place: str, processes: str, index: str, folder: str) -> None:
    """One of the processes."""
    with jaxbp.train.initialize(place, int(processes), int(index)):
        mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
        config = resumed(Config(resume=Path(folder), processes=int(processes)))
        console = terminal(quiet=index != "0")
        Job(config).done_in(Path(folder), console, mesh)


if __name__ == "__main__":
    one_of_them(*sys.argv[1:])
