"""Compile training steps for devices that are not there: the memory they take, what they compute and what they send.

    python -m experiments.tools.ahead_of_time

is a process that compiles for one platform, whose compiler wants its settings before jax is imported: it reads a `Step`
as a line of JSON, and answers with a line of what came of it. `Compiler` starts it and asks it.
"""

import dataclasses
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend.core import jaxprs_in_params
from jax.interpreters import partial_eval
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

import jaxbp
from jaxbp.experiments.claims.convolution import network as convolutional
from jaxbp.experiments.common.gpt import gpt
from jaxbp.experiments.tools.collectives import Sent, collectives
from jaxbp.experiments.tools.topologies import PLATFORMS, TOPOLOGIES, devices_of

LOSS = jaxbp.cross_entropy
CONTEXT, HEAD, WIDTH = 1024, 64, 768
HIDDEN = 4096


@dataclass(frozen=True)
class Step:
    """A training step to compile: one update by Adam, whose state is donated as `jaxbp.train.epoch` does.

    Attributes:
        topology: What for, a key of `TOPOLOGIES`.
        network: A key of `NETWORKS`.
        layout: A key of `LAYOUTS`.
        dtype: Of parameters, optimizer and activations.
        gradient: Explicit, or that of `jax.value_and_grad` of the same objective.
        batch: Examples for each device.
        depth: Layers; None for a network that has no other.
        vocabulary: Of the GPT.
    """

    topology: str
    network: str
    layout: str
    dtype: str
    gradient: str
    batch: int
    depth: int | None = None
    vocabulary: int = 256


@dataclass(frozen=True)
class Compiled:
    """What came of a step, for one device where nothing else is said.

    Attributes:
        step: What was compiled.
        refused: Why it was not, where the compiler refused it: memory, most of the time.
        peak: The most bytes that are needed at once.
        arguments: Bytes of state and batch.
        temporary: Bytes that the step needs beside these.
        products: Floating-point operations in products and convolutions on all devices together, as the program asks
            for them, those of a loop as often as it runs.
        flops: Of all operations, as XLA counts them, the body of a loop once; None where it does not.
        sent: Collectives by kind.
        seconds: That compiling took.
    """

    step: Step
    refused: str | None = None
    peak: int = 0
    arguments: int = 0
    temporary: int = 0
    products: int = 0
    flops: float | None = None
    sent: dict[str, Sent] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def too_large(self) -> bool:
        """Whether it was refused because it needs more memory than there is."""
        return self.refused is not None and "RESOURCE_EXHAUSTED" in self.refused


@dataclass(frozen=True)
class Kind:
    """A network to compile.

    Attributes:
        make: From depth and vocabulary.
        depth: The layers it has when nothing is said; None for one that comes as it is.
        batch: Examples for each device.
        columns: The units whose weights and biases a Megatron split divides by columns.
        rows: Those whose weights it divides by rows.
    """

    make: Callable[[int | None, int], jaxbp.Network]
    depth: int | None
    batch: int
    columns: Callable[[str], bool]
    rows: Callable[[str], bool]


def _mlp(depth: int | None, vocabulary: int) -> jaxbp.Network:
    return jaxbp.layered([784, *[HIDDEN] * (depth or 0), 10], hidden=jaxbp.relu, output=jaxbp.softmax)


def _gpt(depth: int | None, vocabulary: int) -> jaxbp.Network:
    return gpt(vocabulary, CONTEXT, layers=depth or 0, heads=WIDTH // HEAD, width=WIDTH)


NETWORKS = {
    # every second layer of an MLP is divided by columns, and the next by rows, so that what is between stays divided
    "mlp": Kind(_mlp, 4, 512, lambda u: u[1:].isdigit() and int(u[1:]) % 2 == 1, lambda u: u[1:].isdigit()),
    "convolutional": Kind(
        lambda depth, vocabulary: convolutional(28, 10),
        None,
        32,  # for hundreds of them libtpu takes minutes, whatever the gradient
        lambda u: u in ("c1", "h"),
        lambda u: u in ("c2",),
    ),
    "gpt": Kind(
        _gpt,
        12,
        2,
        lambda u: u in ("blocks.query", "blocks.key", "blocks.value", "blocks.up"),
        lambda u: u in ("blocks.attended", "blocks.out"),
    ),
}
LAYOUTS = {"data": "batch divided", "sharded": "batch and state divided", "megatron": "columns and rows divided"}
GRADIENTS = ("explicit", "jax.grad")


def megatron(of: Kind) -> Callable[[str, tuple[int, ...]], P | None]:
    """The rule by which columns of one layer, and rows of the next, lie along the axis "model"; biases as columns.

    Source: Shoeybi et al., Megatron-LM, 2019.
    """

    def rule(name: str, shape: tuple[int, ...]) -> P | None:
        unit, _, source = name.rpartition(".")
        before = [None] * (len(shape) - 1)
        if of.columns(unit):
            return P(*before, "model")
        if of.rows(unit) and source != "bias" and len(shape) >= 2:
            return P(*before[1:], "model", None)
        return None

    return rule


def compile_step(step: Step) -> Compiled:
    """Compile what `jaxbp.train.step` runs, for devices that need not be there."""
    began = time.perf_counter()
    try:
        traced = _traced(step)
        compiled = traced.lower().compile()
    except Exception as error:  # of whatever kind it is, it belongs in the table
        return Compiled(step, refused=_first_line(error), seconds=time.perf_counter() - began)
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    return Compiled(
        step,
        None,
        memory.peak_memory_in_bytes,
        memory.argument_size_in_bytes,
        memory.temp_size_in_bytes,
        products(traced.jaxpr.jaxpr),
        (cost or {}).get("flops"),
        collectives(compiled.as_text()),
        time.perf_counter() - began,
    )


def _traced(step: Step) -> Any:
    topology, of = TOPOLOGIES[step.topology], NETWORKS[step.network]
    net = of.make(step.depth, step.vocabulary)
    optimizer, dtype = optax.adam(1e-3), jnp.dtype(step.dtype)
    explicit = step.gradient == "explicit"
    gradient = jaxbp.value_and_grad(net, LOSS) if explicit else jax.value_and_grad(jaxbp.objective(net, LOSS))
    devices = np.array(devices_of(topology))
    parts, names = (
        ((-1,), ("data",)) if step.layout != "megatron" else ((-1, math.isqrt(topology.devices)), ("data", "model"))
    )
    mesh = Mesh(devices.reshape(parts), names, axis_types=(AxisType.Auto,) * len(names))
    layout: Any = {"data": "replicated", "sharded": "sharded", "megatron": megatron(of)}[step.layout]

    def run(state: Any, x: Any, y: Any) -> Any:
        return jaxbp.train.step(state, x, y, gradient=gradient, optimizer=optimizer, mesh=mesh, layout=layout)

    examples = step.batch * len(devices)
    [(name, _)] = net.inputs.items()
    tokens = step.network == "gpt"
    x = jax.ShapeDtypeStruct((examples, *net.shapes[name]), jnp.int32 if tokens else dtype)
    y = jax.ShapeDtypeStruct((examples, *net.shapes[net.output][:-1]), jnp.int32)
    state = jax.eval_shape(lambda: jaxbp.train.init_state(jax.random.key(0), net, optimizer, dtype=dtype))
    jitted = jax.jit(run, donate_argnums=0)
    arguments = jax.tree.map(_lying, (state, x, y), _places(jitted.trace(state, x, y).jaxpr.jaxpr, (state, x, y)))
    return jitted.trace(*arguments)


def _places(jaxpr: Any, arguments: Any) -> Any:
    """Where a step puts what it is given, before it does anything with it: what is there already stays."""
    places = {
        variable: place
        for equation in jaxpr.eqns
        if equation.primitive.name == "device_put"
        for variable, place in zip(equation.invars, equation.params["devices"], strict=True)
    }
    return jax.tree.unflatten(jax.tree.structure(arguments), [places[variable] for variable in jaxpr.invars])


def _lying(shaped: Any, sharding: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shaped.shape, shaped.dtype, sharding=sharding)


def products(jaxpr: Any) -> int:
    """Floating-point operations in the products and convolutions of a program, a loop's as often as it runs."""
    return _products(partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0])


def _products(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * math.prod(shape[i] for i in contracted)
        elif equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval
            out_features = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
            total += 2 * equation.outvars[0].aval.size * kernel.size // out_features
        inner = [_products(part) for part in jaxprs_in_params(equation.params)]
        if equation.primitive.name == "cond":
            total += max(inner)
        else:
            total += sum(inner) * equation.params.get("length", 1)
    return total


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:300]


class Compiler:
    """A process that compiles for one platform; it is started when it is first asked, and again when it has died."""

    def __init__(self, platform: str, log: Path):
        self.platform, self.log = platform, log
        self._process: subprocess.Popen[str] | None = None

    def __call__(self, step: Step) -> Compiled:
        """Compile a step; what ends the process is a refusal, too."""
        began = time.perf_counter()
        if self._process is None:
            self._process = self._started()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps(dataclasses.asdict(step)), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            why = f"the compiler's process ended with exit code {self._ended(self._process)}; see {self.log}"
            return Compiled(step, refused=why, seconds=time.perf_counter() - began)
        read = json.loads(answer)
        sent = {kind: Sent(*of) for kind, of in read.pop("sent").items()}
        return Compiled(Step(**read.pop("step")), sent=sent, **read)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._ended(self._process)

    def _ended(self, process: subprocess.Popen[str]) -> int:
        process.communicate()  # closes the pipes
        self._process = None
        return process.returncode

    def _started(self) -> subprocess.Popen[str]:
        environment = os.environ | PLATFORMS[self.platform].environment | {"JAX_PLATFORMS": "cpu"}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "jaxbp.experiments.tools.ahead_of_time"],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )


def answer_all() -> None:
    """Compile what stdin asks for until it ends."""
    # compilers print what they like; the answers have a way of their own
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            print(json.dumps(dataclasses.asdict(compile_step(Step(**json.loads(line))))), file=answers, flush=True)


if __name__ == "__main__":
    answer_all()
