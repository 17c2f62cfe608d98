"""Runs in processes of their own: killed at any moment, and by any signal, they end as if they never had been.

Most of it is slow, for each start of a process takes seconds; two kills are in the quick run.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from trained_in_a_process import train_until_done

PROGRAM = Path(__file__).parent / "trained_in_a_process.py"
ENVIRONMENT = os.environ | {"JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu"}
LAST = 200


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def begun(folder, processes=1, before=()):
    """The processes of a run that goes on from the checkpoints of the folder, and what their commands begin with."""
    place = f"127.0.0.1:{free_port()}"
    together = [[]] if processes == 1 else [[place, str(processes), str(i)] for i in range(processes)]
    command = [*before, sys.executable, str(PROGRAM), str(folder / "checkpoints"), str(folder / "result.json")]
    return [
        subprocess.Popen([*command, *which], env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for which in together
    ]


def ended(processes, timeout=200):
    """The exit codes, with what was said on stderr; nobody is left behind."""
    try:
        said = [process.communicate(timeout=timeout)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], said


def result(folder):
    return json.loads((folder / "result.json").read_text())


def finished(folder, processes=1):
    """The result of a run that nobody ends; of one process alone it is this one, for a start takes seconds."""
    if processes == 1:
        train_until_done(folder / "checkpoints", folder / "result.json", None)
    else:
        codes, said = ended(begun(folder, processes))
        assert codes == [0] * processes, said
    return result(folder)


def steps_in(folder):
    return sorted(int(part.name) for part in (folder / "checkpoints").iterdir() if part.name.isdecimal())


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("alone"))


def wait_for_step(process, least):
    """Until a run says that it has made so many steps; how many it says."""
    for line in process.stdout:
        if line.startswith("step") and (step := int(line.split()[1])) >= least:
            return step
    raise AssertionError(process.stderr.read())


def test_killed_and_started_again_it_ends_the_same(tmp_path, alone):
    (process,) = begun(tmp_path)
    wait_for_step(process, 70)
    process.kill()
    ended([process])
    assert not (tmp_path / "result.json").exists()
    assert finished(tmp_path) == alone


@pytest.mark.slow
def test_asked_to_end_it_writes_a_checkpoint_and_does(tmp_path, alone):
    (process,) = begun(tmp_path)
    wait_for_step(process, 50)
    process.terminate()
    codes, said = ended([process])
    assert codes == [0], said
    last = steps_in(tmp_path)[-1]
    assert 50 <= last < LAST
    assert finished(tmp_path) == alone


@pytest.mark.slow
def test_a_full_disk_is_an_error_and_no_checkpoint_is_lost(tmp_path, alone):
    (process,) = begun(tmp_path)
    wait_for_step(process, 40)
    process.terminate()
    ended([process])
    before = steps_in(tmp_path)

    small_files = ["bash", "-c", 'trap "" XFSZ; ulimit -f 1; exec "$@"', "bash"]
    codes, said = ended(begun(tmp_path, before=small_files))
    assert codes == [1]
    assert "File too large" in said[0] or "FILE" in said[0].upper()
    assert before[-1] in steps_in(tmp_path)
    assert finished(tmp_path) == alone


def assert_equal(ours, theirs):
    """Up to the order in which two processes add."""
    assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-12)
    close = partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-14)
    jax.tree.map(lambda a, b: close(np.asarray(a), np.asarray(b)), ours["params"], theirs["params"])


@pytest.mark.parametrize("killed", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_of_two_processes_either_may_be_killed(tmp_path, alone, killed):
    processes = begun(tmp_path, 2)
    wait_for_step(processes[0], 20)  # after the first checkpoint
    began = time.monotonic()
    processes[killed].kill()
    codes, said = ended(processes)
    assert codes[killed] == -signal.SIGKILL
    assert codes[1 - killed] not in (0, None), said
    assert time.monotonic() - began < 25, "the survivor waited for the dead"
    assert_equal(finished(tmp_path), alone)


@pytest.mark.slow
def test_from_two_processes_to_one(tmp_path, alone):
    processes = begun(tmp_path, 2)
    wait_for_step(processes[0], 60)
    processes[1].terminate()  # that one was asked, and both end
    codes, said = ended(processes)
    assert codes == [0, 0], said
    assert_equal(finished(tmp_path), alone)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_at_30_random_moments_it_ends_the_same(tmp_path, processes, alone):
    """With two processes either is killed; the other ends by itself."""
    rng = random.Random(processes)
    (tmp_path / "whole").mkdir()
    expected = alone if processes == 1 else finished(tmp_path / "whole", processes)
    kills = 0
    for attempt in range(100):  # a run may be over before it is killed, and another begins
        folder = tmp_path / str(attempt)
        folder.mkdir()
        while not (folder / "result.json").exists():
            running = begun(folder, processes)
            until = time.monotonic() + (rng.uniform(1.0, 8.0) if kills < 30 else 1e9)
            while time.monotonic() < until and any(process.poll() is None for process in running):
                time.sleep(0.02)
            kills += any(process.poll() is None for process in running)
            running[rng.randrange(processes)].kill()
            ended(running)
        assert result(folder) == expected
        if kills >= 30:
            return
    raise AssertionError(f"only {kills} kills before the runs were over")
