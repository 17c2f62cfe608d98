"""One use of a rule applied, and autodiff of the function that it stands for, to the same cotangents."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray, Tracer
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jaxbp._check._noise import steps
from jaxbp._rules._flow import Flow, is_floating
from jaxbp._rules._found import Use
from jaxbp._rules._program import quickly_compiled
from jaxbp._rules._rounding import random_numbers, rounded

# a derivative is linear: what holds for a small one and for a large one of another direction is no chance
_SIZES = (1.0, 100.0)
_SEED = 982_451_653  # nobody else's: cotangents that are an argument too would hide a transpose
_SAFETY = 8.0
Arrays = dict[int, np.ndarray]


class RuleError(Exception):
    """What a rule raises when it is applied."""


@dataclass(frozen=True, eq=False)
class Applied:
    """Both derivatives at some operands, by the position of the argument, for each of a few cotangents."""

    operands: Sequence[np.ndarray]
    cotangents: Sequence[Arrays]
    mine: Sequence[Arrays]
    expected: Sequence[Arrays] | None
    """None where autodiff cannot say."""
    outputs: Arrays
    outputs_of_rule: Arrays


@dataclass(frozen=True, eq=False)
class Programs:
    """Compiled programs by their text: many uses of a rule differ in their numbers alone."""

    device: Any = None
    compiler: Callable[[Callable[..., Any]], Any] = quickly_compiled
    compiled: dict[str, Any] = field(default_factory=dict)
    texts: dict[int, tuple[ClosedJaxpr, str]] = field(default_factory=dict)
    drawn: dict[Any, list[list[Any]]] = field(default_factory=dict)

    def run(self, programs: Sequence[ClosedJaxpr], inputs: Sequence[Any]) -> list[list[Any]]:
        """The outputs of programs of the same inputs, compiled as one."""

        def run(programs: Sequence[ClosedJaxpr], inputs: Sequence[Any]) -> list[list[Any]]:
            return [jaxpr_as_fun(each)(*inputs) for each in programs]

        return self._run("", run, programs, inputs)

    def run_rounded(
        self, programs: Sequence[ClosedJaxpr], inputs: Sequence[Any], *, epsilon: float, sample: int
    ) -> Any:
        """The same with every number changed by up to epsilon of it."""

        def run(programs: Sequence[ClosedJaxpr], inputs: Sequence[Any], epsilon: Any, numbers: Any) -> list[list[Any]]:
            return rounded(epsilon, numbers, programs, inputs)

        return self._run("rounded", run, programs, inputs, jnp.asarray(epsilon), random_numbers(programs, sample))

    def _run(self, how: str, run: Callable[..., Any], programs: Sequence[ClosedJaxpr], *arguments: Any) -> Any:
        text = how + "".join(map(self._text, programs))
        if text not in self.compiled:

            def with_consts(consts: Sequence[Sequence[Any]], *arguments: Any) -> Any:
                return run([ClosedJaxpr(each.jaxpr, c) for each, c in zip(programs, consts, strict=True)], *arguments)

            self.compiled[text] = self.compiler(with_consts)
        given = [each.consts for each in programs], *arguments
        return self.compiled[text](*(given if self.device is None else jax.device_put(given, self.device)))

    def _text(self, program: ClosedJaxpr) -> str:
        if id(program) not in self.texts:
            text = f"{program.jaxpr} {[(np.shape(c), c.dtype) for c in program.consts]}"
            self.texts[id(program)] = program, text  # held, so that nothing else is given its id
        return self.texts[id(program)][1]


@dataclass(frozen=True, eq=False)
class Rule:
    """A rule as one step of a program applies it, for operands of fixed shapes and dtypes.

    `alone` is an argument that alone is differentiated, as far as a rule with symbolic zeros can tell; None for all.
    Through `silent` outputs nothing comes back.
    """

    use: Use
    programs: Programs
    alone: int | None = None
    silent: frozenset[int] = frozenset()

    @cached_property
    def arguments(self) -> tuple[int, ...]:
        """The arguments that have a derivative: floating ones, and none that the function closes over."""
        closed_over, variables = self.use.step.params["num_consts"], self.use.step.invars
        return tuple(i for i, v in enumerate(variables) if i >= closed_over and is_floating(v.aval))

    @cached_property
    def differentiated(self) -> tuple[int, ...]:
        """Those that are differentiated."""
        return self.arguments if self.alone is None else (self.alone,)

    @cached_property
    def results(self) -> tuple[int, ...]:
        """The floating outputs."""
        return tuple(k for k, v in enumerate(self.use.step.outvars) if is_floating(v.aval))

    @cached_property
    def epsilon(self) -> float:
        """The rounding of the coarsest format in the function or among its arguments."""
        inside = [v for step in steps(self.primal.jaxpr) for v in step.outvars]
        dtypes = [aval.dtype for aval in _avals([*self.use.step.invars, *self.use.step.outvars, *inside])]
        return max((float(jnp.finfo(d).eps) for d in dtypes if jnp.issubdtype(d, jnp.inexact)), default=0.0)

    @property
    def primal(self) -> ClosedJaxpr:
        """The function that the rule stands for."""
        return self.use.step.params["call_jaxpr"]

    def _ruled(self, *operands: Any) -> list[Any]:
        primitive = self.use.step.primitive
        return primitive.bind(*operands, **primitive.get_bind_params(self.use.step.params))

    def _pulled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The outputs of a function, and what it sends back of cotangents of them."""

        def pulled(operands: Sequence[Any], cotangents: Sequence[Any]) -> Any:
            def of(*differentiated: Any) -> list[Any]:
                given = list(operands)
                for i, x in zip(self.differentiated, differentiated, strict=True):
                    given[i] = x
                outputs = function(*given)
                return [outputs[k] for k in self.results]

            outputs, pull = jax.vjp(of, *(operands[i] for i in self.differentiated))
            return outputs, pull(list(cotangents))

        return self._over_devices(pulled, [self.use.step.outvars[k] for k in self.results])

    def _over_devices(self, function: Callable[..., Any], cotangents: Any) -> Callable[..., Any]:
        """A function of operands and of cotangents of some variables, run by all devices where they run the rule."""
        over = self.use.over
        if over is None:
            return function

        def spec(variable: Any) -> Any:
            # what is equal on all devices has its type for that, and no other will do
            return jax.sharding.PartitionSpec(over.axes if _varies(variable.aval) else None)

        def of_parts(*parts: Any) -> Any:
            results = function(*jax.tree.map(lambda part: part[0], parts))
            return jax.tree.map(lambda result: result[None], results)

        specs = [spec(v) for v in self.use.step.invars], jax.tree.map(spec, cotangents)
        return jax.shard_map(
            of_parts, mesh=over.mesh, in_specs=specs, out_specs=jax.sharding.PartitionSpec(over.axes),
            axis_names=set(over.axes), check_vma=over.check_vma,
        )  # fmt: skip

    def drawn_cotangents(self) -> list[list[Any]]:
        """Random cotangents of every floating output, of each size; they are the same for all uses of these shapes.

        Those of a silent output are 0.
        """
        avals = [_avals(self.use.step.outvars)[k] for k in self.results]
        shapes = tuple(((self._devices, *aval.shape) if self.use.over else aval.shape, aval.dtype) for aval in avals)
        if shapes not in self.programs.drawn:
            rng = np.random.default_rng(_SEED)
            self.programs.drawn[shapes] = [[_drawn(rng, size, *each) for each in shapes] for size in _SIZES]
        drawn = self.programs.drawn[shapes]
        if not self.silent:
            return drawn
        return [[0 * ct if k in self.silent else ct for k, ct in zip(self.results, of, strict=True)] for of in drawn]

    @property
    def _devices(self) -> int:
        over = self.use.over
        return int(np.prod([over.mesh.shape[axis] for axis in over.axes])) if over else 1

    @cached_property
    def _mine(self) -> ClosedJaxpr:
        try:
            program = jax.make_jaxpr(self._pulled(self._ruled))(self.use.operands[0], self.drawn_cotangents()[0])
            if any(isinstance(each, Tracer) for each in program.consts):
                raise jax.errors.UnexpectedTracerError("the rule closes over what is traced")
            return program
        except Exception as error:
            raise RuleError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error

    @cached_property
    def _expected(self) -> ClosedJaxpr | None:
        pulled = self._pulled(jaxpr_as_fun(self.primal))
        try:
            return jax.make_jaxpr(pulled)(self.use.operands[0], self.drawn_cotangents()[0])
        except Exception:
            return None

    @property
    def _both(self) -> list[ClosedJaxpr]:
        """What is run here: the rule, and autodiff where it can."""
        return [self._mine, *filter(None, [self._expected])]

    def applied(self, operands: Sequence[Any]) -> Applied:
        """Both derivatives at some operands."""
        cotangents = self.drawn_cotangents()
        run = partial(self._run, self._both)
        (outputs_of_rule, mine), *of_autodiff = self._on_each(run, operands)
        outputs, expected = of_autodiff[0] if of_autodiff else (outputs_of_rule, None)
        by_output = [dict(zip(self.results, map(as_reals, each), strict=True)) for each in cotangents]
        return Applied([_array(x) for x in operands], by_output, mine, expected, outputs, outputs_of_rule)

    def sends_back(self) -> list[bool]:
        """For each argument whether what it is sent back depends on what comes back to the function."""
        program, many = self._mine.jaxpr, len(self.results)
        comes = [False] * (len(program.invars) - many) + [True] * many
        sent = Flow(lambda _, step: [True] * len(step.invars)).through(program, comes)[many:]
        by_argument = dict(zip(self.differentiated, sent, strict=True))
        return [by_argument.get(i, False) for i in range(len(self.use.step.invars))]

    def _run(self, programs: Sequence[ClosedJaxpr], inputs: Sequence[Any]) -> list[list[Any]]:
        try:
            return self.programs.run(programs, inputs)
        except Exception as error:
            raise RuleError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error

    def of_function(self, operands: Sequence[Any], cotangents: Sequence[Any]) -> tuple[Arrays, list[Arrays]] | None:
        """The outputs of the function, and what autodiff of it sends back of each cotangent; None where it cannot."""
        if self._expected is None:
            return None
        return self._on_each(partial(self._run, [self._expected]), operands, cotangents)[0]

    def _on_each(
        self,
        run: Callable[[Sequence[Any]], list[list[Any]]],
        operands: Sequence[Any],
        cotangents: Sequence[Any] | None = None,
    ) -> list[tuple[Arrays, list[Arrays]]]:
        """For each program that is run its outputs, and what it sends back of each cotangent."""
        by_cotangent = [run([*operands, *each]) for each in cotangents or self.drawn_cotangents()]
        n = len(self.results)

        def of(flat: Sequence[Sequence[Any]]) -> tuple[Arrays, list[Arrays]]:
            arrays = [list(map(as_reals, each)) for each in flat]
            outputs = dict(zip(self.results, arrays[0][:n], strict=True))
            return outputs, [dict(zip(self.differentiated, each[n:], strict=True)) for each in arrays]

        return list(map(of, zip(*by_cotangent, strict=True)))

    def rounding_errors(self, operands: Sequence[Any], samples: int) -> list[Arrays]:
        """What rounding explains of each element, by cotangent and argument, of all that is run here together.

        That of the k-th output has, for the first cotangent, the position −1 − k.

        One element may be hopeless and the others well, so that each has its own; few samples may miss what it is, so
        that what is usual among the others is allowed as well.
        """
        exact = self._on_each(partial(self._run, self._both), operands)
        errors: list[Arrays] = [dict.fromkeys(each, np.zeros(())) for each in _positions(*exact[0])]
        for sample in range(samples):
            run = partial(self.programs.run_rounded, self._both, epsilon=2 * self.epsilon, sample=sample)
            try:
                noisy = self._on_each(run, operands)
            except Exception:  # not all runs so: what several devices do at once does not
                break
            for here, there in zip(exact, noisy, strict=True):
                for of, before, after in zip(errors, _positions(*here), _positions(*there), strict=True):
                    for i in of:
                        change = np.nan_to_num(np.abs(after[i] - before[i]), nan=0.0, posinf=np.inf)
                        of[i] = np.maximum(of[i], change)
        return [{i: _SAFETY * (each + _usual(each)) for i, each in of.items()} for of in errors]

    @cached_property
    def _outputs(self) -> ClosedJaxpr:
        run = self._over_devices(lambda operands, _: jaxpr_as_fun(self.primal)(*operands), [])
        return jax.make_jaxpr(lambda *operands: run(list(operands), []))(*self.use.operands[0])

    def slopes(self, operands: Sequence[Any], argument: int, direction: np.ndarray, step: float) -> np.ndarray:
        """Of ⟨first cotangent, output⟩ along a direction of an argument: the slopes to the left, right and across."""
        cotangent = [np.asarray(ct).astype(np.float64) for ct in self.drawn_cotangents()[0]]
        x = np.asarray(operands[argument]).astype(np.float64)
        here: list[np.ndarray] = []

        def run(h: float) -> list[np.ndarray]:
            moved = list(operands)
            moved[argument] = jnp.asarray(x + h * direction, operands[argument].dtype)
            (outputs,) = self._run([self._outputs], moved)
            return [np.asarray(outputs[k]).astype(np.float64) for k in self.results]

        def change(h: float) -> float:
            # element by element, so that what does not change cancels before it is summed
            pairs = list(zip(run(h), here, strict=True))
            stays = [(now == before) | (np.isnan(now) & np.isnan(before)) for now, before in pairs]
            changes = [np.where(same, 0.0, now - before) for same, (now, before) in zip(stays, pairs, strict=True)]
            return sum(
                float(np.sum(ct * d) if self._is_apart(self.use.step.outvars[k]) else np.sum(ct[0] * d[0]))
                for k, ct, d in zip(self.results, cotangent, changes, strict=True)
            )

        here += run(0.0)
        once, twice, back, far_back = change(step), change(2 * step), change(-step), change(-2 * step)
        left, right = -(4 * back - far_back) / (2 * step), (4 * once - twice) / (2 * step)
        return np.array([left, right, (once - back) / (2 * step)])

    def has_values(self, operands: Sequence[Any]) -> bool:
        """Whether the function itself is finite there: a rule may give a value of its own where it is not."""
        (outputs,) = self._run([self._outputs], list(operands))
        return all(np.all(np.isfinite(np.asarray(outputs[k]).astype(np.float64))) for k in self.results)

    def _is_apart(self, variable: Any) -> bool:
        """Whether each element of an array counts: what is equal on all devices is there once for each."""
        return self.use.over is None or _varies(variable.aval)

    def counts_all(self, argument: int) -> bool:
        """Whether all elements of an argument count, and not the first copy of what is equal on all devices."""
        return self._is_apart(self.use.step.invars[argument])

    def counted(self, argument: int, size: int) -> int:
        """How many elements of an argument count, which are the first ones."""
        return size if self.counts_all(argument) else size // self._devices

    def elsewhere(self, seed: int) -> list[Any]:
        """Random operands of the same shapes; what is not floating stays."""
        rng = np.random.default_rng(_SEED + seed + 1)

        def drawn(x: Any) -> Any:
            if not jnp.issubdtype(x.dtype, jnp.floating):
                return x
            return jnp.asarray(3 * rng.normal(size=x.shape), x.dtype)

        return [drawn(x) for x in self.use.operands[0]]

    @cached_property
    def quantises(self) -> bool:
        """Whether the function casts to a format of so few bits that it is stairs."""
        outputs = _avals([v for step in steps(self.primal.jaxpr) for v in step.outvars])
        floating = [aval.dtype for aval in outputs if jnp.issubdtype(aval.dtype, jnp.floating)]
        return any(jnp.finfo(dtype).bits <= 8 for dtype in floating)

    @cached_property
    def loops(self) -> bool:
        """Whether the function goes in loops, as one that solves an equation does."""
        return any(step.primitive.name in ("scan", "while") for step in steps(self.primal.jaxpr))


def _drawn(rng: np.random.Generator, size: float, shape: tuple[int, ...], dtype: Any) -> Any:
    imaginary = 1j * rng.normal(size=shape) if jnp.issubdtype(dtype, jnp.complexfloating) else 0
    return jnp.asarray(size * (rng.normal(size=shape) + imaginary), dtype)


def _positions(outputs: Arrays, sent: Sequence[Arrays]) -> list[Arrays]:
    """What was sent back, by argument, for each cotangent, and beside the first the outputs, below 0."""
    return [sent[0] | {-1 - k: output for k, output in outputs.items()}, *sent[1:]]


def _usual(errors: np.ndarray) -> float:
    return float(np.median(errors[np.isfinite(errors)])) if np.isfinite(errors).any() else 0.0


def _avals(variables: Sequence[Any]) -> list[Any]:
    """The shapes and dtypes of variables; those of what has none, as an effect, are those of no floating array."""
    return [v.aval if hasattr(v.aval, "dtype") else ShapedArray((), jnp.bool_) for v in variables]


def _varies(aval: Any) -> bool:
    """Whether a value may differ between devices, as far as its type says."""
    kind = getattr(aval, "mat", None)
    return kind is None or bool(kind.varying)


def as_reals(array: Any) -> np.ndarray:
    """An array in float64; a complex number is two, along a last axis."""
    array = np.asarray(array)
    if array.dtype.kind == "c":
        array = np.stack([array.real, array.imag], -1)
    return array.astype(np.float64)


def _array(x: Any) -> np.ndarray:
    return np.asarray(x) if not jnp.issubdtype(x.dtype, jax.dtypes.extended) else np.zeros(x.shape)
