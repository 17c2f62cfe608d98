"""Programs that are handed in: what they may do, what is said of those that fail, and that none of them stays."""

import sys
import textwrap
from pathlib import Path

import pytest
from described import LAYERS, PROGRAM, complaint, run

from jaxbp.experiments.tools import check
from jaxbp.experiments.tools.check import ProgramError


def fails(folder, program):
    (folder / "mine.py").write_text(program)
    with pytest.raises(ProgramError) as caught:
        run(folder, "mine.py")
    return str(caught.value)


@pytest.mark.parametrize("name", ["mine.txt", "mine.json", "mine.npz", "mine", "mine.PY", "mine.pyc"])
def test_a_program_runs_only_under_its_own_suffix(folder, name):
    trap = folder / "executed"
    program = f"open({str(trap)!r}, 'w').close()\n{PROGRAM}"
    (folder / name).write_text(program)
    complaint(folder, name)
    complaint(folder, f"{name}:gradients")
    assert not trap.exists()
    (folder / "mine.py").write_text(program)
    assert run(folder, "mine.py")[0].ok
    assert trap.exists()


def test_a_program_that_fails_is_blamed_with_its_own_traceback(folder):
    message = fails(folder, "def gradients(params, x, y):\n    return x @ params['h2']\n")
    assert message.startswith(f'{folder / "mine.py"} failed:\nTraceback (most recent call last):\n  File "{folder}')
    assert message.endswith("KeyError: 'h2'")
    assert "line 2, in gradients\n    return x @ params" in message
    inner = "import jax\n\ndef gradients(params, x, y):\n    return jax.jit(lambda x: x @ x[0, 0])(x)\n"
    assert fails(folder, inner).count("File ") == 2  # the function and its lambda, and nothing of jax
    for program, end in (
        ("raise ValueError('at import')\n", "ValueError: at import"),
        ("raise SystemExit(0)\n", "SystemExit: 0"),
        ("def gradients(*args):\n    raise SystemExit(0)\n", "SystemExit: 0"),
    ):
        assert fails(folder, program).endswith(end)
    assert "SyntaxError" in fails(folder, "def gradients(:\n")


def test_a_program_without_the_function_or_with_another_result(folder):
    message = complaint(folder, "mine.py:forgetfull")
    assert "no function 'forgetfull' (did you mean 'forgetful'?); it defines 'gradients', 'forgetful'. Name" in message
    (folder / "mine.py").write_text("gradients = 3\ndef nothing(*args): pass\ndef three(*args): return 1, 2, 3\n")
    for name, says in (
        ("mine.py", "has no function 'gradients'; it defines 'nothing', 'three'"),
        ("mine.py:nothing", "mine.py:nothing: what was handed in is of type NoneType"),
        ("mine.py:three", "the function returned 3 results"),
    ):
        assert says in complaint(folder, name)


def test_a_program_may_return_the_loss_and_write_into_its_arguments(folder):
    back = "(-np.log(o[range(2), y]).mean(), {"
    program = PROGRAM.replace("return {", f"result = {back}").replace(
        '"bias": delta_o.sum(0)},\n    }',
        ('"bias": delta_o.sum(0)},\n    })\n    x[:] = params["o"]["h1"][:] = y[:] = 0\n    return result'),
    )
    (folder / "mine.py").write_text(program)
    report, _ = run(folder, "mine.py")
    assert report.ok
    assert report.findings[0].name == "loss"


def test_a_program_has_its_own_neighbours_and_leaves_nothing_behind(folder):
    before = sys.path.copy(), set(sys.modules)
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "helper.py").write_text(f"NAME = {name!r}\n")
        program = "from dataclasses import dataclass\nfrom helper import NAME\n" + PROGRAM
        program += '@dataclass\nclass Named:\n    name: "str"\ndef named(*args):\n    raise RuntimeError(NAME)\n'
        (folder / name / "mine.py").write_text(program)
        (folder / name / "net.toml").write_text(LAYERS, encoding="utf-8")
        with pytest.raises(ProgramError, match=f"RuntimeError: {name}"):
            run(folder / name, "mine.py:named")
    assert sys.path == before[0]
    assert not {"helper", "mine", "__handed_in__"} & (set(sys.modules) - before[1])


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import os; os._exit(0)", "ended without a result, with exit code 0"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_a_program_that_ends_its_process_is_no_right_gradient(folder, capfd, program, message):
    (folder / "mine.py").write_text(f"def gradients(*args):\n    {program}\n")
    assert check.command([str(folder / "mine.py"), "--network", str(folder / "net.toml")]) == 2
    err = capfd.readouterr().err
    assert err.endswith(f"{message}\n")
    assert "site-packages" not in err
    assert "handed_in.py" not in err


def test_a_program_that_goes_on_is_stopped_with_all_that_it_left(folder, capfd):
    program = """
        import subprocess, sys
        print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
        while True: pass
    """
    (folder / "mine.py").write_text(textwrap.dedent(program))
    with pytest.raises(ProgramError, match=r"mine\.py ran for more than 2 s and was stopped"):
        run(folder, "mine.py", seconds=2)
    state = Path(f"/proc/{int(capfd.readouterr().err)}/stat")  # a zombie is dead, whoever reaps it
    assert not Path("/proc").exists() or not state.exists() or state.read_text().rpartition(")")[2].split()[0] in "ZX"


@pytest.mark.slow
def test_a_program_may_leave_threads_and_print_without_end(folder, capfd):
    threads = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\n"
    (folder / "mine.py").write_text(f"{threads}print('x' * 3_000_000)\n{PROGRAM}")
    assert run(folder, "mine.py", seconds=30)[0].ok
    err = capfd.readouterr().err
    assert 2**20 < len(err) < 2**20 + 200
    assert "(it printed more than 1048576 bytes; the rest is left out)" in err


@pytest.mark.slow
def test_a_program_that_asks_for_all_memory_gets_a_memory_error(folder):
    assert "MemoryError" in fails(folder, "x = bytearray(2**36)\n")


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_time_that_is_none(folder, seconds):
    assert "--seconds is" in complaint(folder, "mine.py", seconds=seconds)
