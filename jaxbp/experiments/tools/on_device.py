"""What is run where there is a device: the tests' comparisons with jax.grad, and the benchmark."""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).parents[3]
COMMANDS = (
    ("-m", "pytest", "-q", *(f"tests/test_{name}.py" for name in ("backprop", "collect", "connections", "stack"))),
    ("-m", "experiments.benchmark"),
)
ASK = "import jax; device = jax.devices()[0]; print(device.platform, device.device_kind, sep='|')"


@dataclass(frozen=True)
class Ran:
    """A command that was run.

    Attributes:
        device: What it ran on, as jax names it.
        command: The command.
        code: Its exit code.
        seconds: How long it took.
        output: What it printed.
    """

    device: str
    command: str
    code: int
    seconds: float
    output: str


def run_here(console: Console) -> list[Ran]:
    """Run the commands, each in a process of its own, which has the device for itself; none where there is no device.

    Raises:
        ValueError: jax cannot say which device it has.
    """
    asked = subprocess.run([sys.executable, "-c", ASK], cwd=ROOT, capture_output=True, text=True, check=False)
    if asked.returncode:
        raise ValueError(f"jax has no device that it can use: {asked.stderr.strip().splitlines()[-1]}")
    platform, device = asked.stdout.strip().splitlines()[-1].split("|")
    if platform == "cpu":
        console.print("no accelerator is here, so nothing is run", style="yellow")
        return []
    done: list[Ran] = []
    for arguments in COMMANDS:
        command = " ".join(("python", *arguments))
        console.print(f"{device}: {command}")
        began = time.perf_counter()
        ran = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        done.append(Ran(device, command, ran.returncode, time.perf_counter() - began, ran.stdout))
        console.print(ran.stdout[-2000:], highlight=False)
        console.print(f"exit code {ran.returncode}", style="red" if ran.returncode else "green")
    return done
