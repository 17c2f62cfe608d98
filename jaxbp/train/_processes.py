"""Several processes that train one network: how they find each other, agree, and end."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from jaxbp._checks import check_integer, check_text


@contextmanager
def initialize(coordinator: str, processes: int, index: int, *, patience: int = 30) -> Generator[None]:
    """Join the processes that train together, in a `with` statement before anything else of JAX is used.

    What each of them passes to `run` is the same: the same data, options and seeds; a process reads only the rows that
    its own devices take. The mesh goes over all devices, `jax.make_mesh((jax.device_count(),), ("data",))`:

        with jaxbp.train.initialize("127.0.0.1:1234", processes=2, index=index):
            mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
            fitted = jaxbp.train.fit(net, loss, x, y, mesh=mesh, checkpoints=checkpoints, resume=True)

    It is `jax.distributed.initialize` with the settings that CPUs need: with asynchronous dispatch two devices in one
    process can wait for each other for ever. When another process has died, this one meets an error at its next sum;
    an error that leaves the `with` statement is printed and the process ends at once with exit code 1, where it would
    otherwise wait for the dead.

    Args:
        coordinator: Where the first of them listens, as `"127.0.0.1:1234"`.
        processes: How many there are.
        index: Which one this is, from 0.
        patience: Seconds without a sign of life after which a process counts as dead; all have twice as many to come.
    """
    check_text(coordinator, "coordinator")
    check_integer(processes, "processes", 1)
    check_integer(index, "index", 0)
    check_integer(patience, "patience", 1)
    if index >= processes:
        raise ValueError(f"index must be less than processes, got {index} of {processes}")
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    jax.distributed.initialize(
        coordinator,
        num_processes=processes,
        process_id=index,
        initialization_timeout=2 * patience,
        heartbeat_timeout_seconds=patience,
    )
    try:
        yield
    except (Exception, KeyboardInterrupt):
        if processes > 1:
            traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)
        raise
    finally:
        jax.distributed.shutdown()


def agreed(mine: bool) -> bool:
    """Whether any process says so, in all of them alike."""
    if jax.process_count() == 1:
        return mine
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.asarray(mine))))


@contextmanager
def until_terminated() -> Generator[Callable[[], bool]]:
    """Whether SIGTERM has come, for `run(stop=…)`, which then writes a last checkpoint and ends.

    The signal's old handler is back at the end. Only the main thread gets signals; in another one nothing is changed
    and the answer is always no.

    Example:
        >>> import os, signal, jaxbp
        >>> with jaxbp.train.until_terminated() as stop:
        ...     before = stop()
        ...     os.kill(os.getpid(), signal.SIGTERM)
        ...     before, stop()
        (False, True)
    """
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return

    def note(*_: Any) -> None:
        came.set()

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
