"""Every custom rule that a program reaches, and the operands that flow into it.

The program is rewritten into one that returns these operands too, and runs once, compiled as a whole. A loop keeps
those of a few of its iterations, and a branch that is not taken reaches nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun, jaxprs_in_params

from jaxbp._rules._program import Program, quickly_compiled

RULES = {"custom_jvp_call", "custom_vjp_call"}
_CALLS = {"jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2"}
_NEWER = {"call_hi_primitive"}
_KEPT_OF_A_LOOP, KEPT = 3, 8

Path = tuple[int, ...]
Records = dict[Path, tuple[Any, list[Any]]]  # how often each rule was reached, and its operands, behind the loops' axes


@dataclass(frozen=True, eq=False)
class Use:
    """A rule in a program: where it is, the step that applies it, how often it runs, and operands that reach it."""

    path: Path
    step: JaxprEqn
    times: int
    operands: tuple[list[Any], ...]
    over: "Devices | None" = None  # then the first axis of each operand has the parts of the devices
    unread: frozenset[int] = frozenset()  # the outputs that the program makes no use of


@dataclass(frozen=True)
class Devices:
    """The axes of a mesh over which a `shard_map` runs a rule."""

    mesh: Any
    axes: tuple[str, ...]
    check_vma: bool


@dataclass(frozen=True, eq=False)
class Found:
    """All uses of rules in a program, and the kinds of step inside of which rules could not be looked at."""

    uses: tuple[Use, ...]
    unseen: tuple[str, ...]


def found(program: Program, device: Any = None) -> Found:
    """Run a program, and return every rule in it with what flows there."""
    recorder = _Recorder()

    def run(consts: Sequence[Any], inputs: Sequence[Any]) -> Records:
        return recorder.run(program.jaxpr.jaxpr, consts, inputs, ())[1]

    if not _has_rules(program.jaxpr.jaxpr):
        return Found((), tuple(sorted(_newer(program.jaxpr.jaxpr))))
    records = quickly_compiled(run)(*jax.device_put((program.jaxpr.consts, program.inputs), device))
    uses = tuple(
        replace(_use(path, *recorder.steps[path], *records[path]), unread=recorder.unread[path])
        for path in sorted(records)
    )
    return Found(uses, tuple(sorted(recorder.unseen | _newer(program.jaxpr.jaxpr))))


def _use(path: Path, step: JaxprEqn, within: tuple[Devices | None, ...], times: Any, operands: Sequence[Any]) -> Use:
    times, over = np.asarray(times), None
    if any(within):
        axis = next(i for i, devices in enumerate(within) if devices)
        times, over = times.max(axis), within[axis]
        operands = [jnp.moveaxis(operand, axis, times.ndim) for operand in operands]
    reached = np.argwhere(times > 0)
    chosen = reached[np.unique(np.linspace(0, len(reached) - 1, min(KEPT, len(reached))).astype(int))]
    kept = tuple([operand[tuple(index)] for operand in operands] for index in chosen)
    return Use(path, step, int(times.sum()), kept, over)


def called(params: Mapping[str, Any]) -> Any:
    """The program that a step calls."""
    return params["call_jaxpr" if "call_jaxpr" in params else "jaxpr"]


def _has_rules(jaxpr: Jaxpr) -> bool:
    return any(
        step.primitive.name in RULES or any(map(_has_rules, jaxprs_in_params(step.params))) for step in jaxpr.eqns
    )


def _newer(jaxpr: Jaxpr) -> set[str]:
    """The kinds of step that have rules in a way of their own, as `jax_custom_vjp3` makes them."""
    inner = (_newer(each) for step in jaxpr.eqns for each in jaxprs_in_params(step.params))
    return {step.primitive.name for step in jaxpr.eqns if step.primitive.name in _NEWER}.union(*inner)


@dataclass(frozen=True, eq=False)
class _Recorder:
    steps: dict[Path, tuple[JaxprEqn, tuple[Devices | None, ...]]] = field(default_factory=dict)
    unread: dict[Path, frozenset[int]] = field(default_factory=dict)
    unseen: set[str] = field(default_factory=set)
    within: list[Devices | None] = field(default_factory=list)  # a loop, or devices, for each axis of a record

    def run(self, jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Any], path: Path) -> tuple[list[Any], Records]:
        """The outputs of a program, and what its rules were given."""
        values: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs], strict=True))
        records: Records = {}
        read = {id(v) for of in (*(step.invars for step in jaxpr.eqns), jaxpr.outvars) for v in of}
        for i, step in enumerate(jaxpr.eqns):
            operands = [v.val if isinstance(v, Literal) else values[v] for v in step.invars]
            results, inner = self._step(step, operands, (*path, i))
            values.update(zip(step.outvars, results, strict=True))
            records |= inner
            self.unread[*path, i] = frozenset(k for k, v in enumerate(step.outvars) if id(v) not in read)
        return [v.val if isinstance(v, Literal) else values[v] for v in jaxpr.outvars], records

    def _inside(self, of: Devices | None, closed: Any, inputs: Sequence[Any], path: Path) -> tuple[list[Any], Records]:
        self.within.append(of)
        try:
            return self._closed(closed, inputs, path)
        finally:
            self.within.pop()

    def _closed(self, closed: Any, inputs: Sequence[Any], path: Path) -> tuple[list[Any], Records]:
        jaxpr, consts = (closed.jaxpr, closed.consts) if isinstance(closed, ClosedJaxpr) else (closed, ())
        return self.run(jaxpr, consts, inputs, path)

    def _step(self, step: JaxprEqn, operands: Sequence[Any], path: Path) -> tuple[Sequence[Any], Records]:
        name, params = step.primitive.name, step.params
        if name in RULES:
            results, records = self._closed(params["call_jaxpr"], operands, path)
            self.steps[path] = step, tuple(self.within)
            return results, {path: (jnp.ones((), int), list(map(jnp.asarray, operands))), **records}
        if any(map(_has_rules, jaxprs_in_params(params))):
            if name in _CALLS:
                return self._closed(called(params), operands, path)
            if into := self._into.get(name):
                return into(step, operands, path)
            self.unseen.add(name)
        results = step.primitive.bind(*operands, **step.primitive.get_bind_params(params))
        return results if step.primitive.multiple_results else [results], {}

    @property
    def _into(self) -> dict[str, Callable[..., tuple[Sequence[Any], Records]]]:
        return {"scan": self._scan, "while": self._while, "cond": self._cond, "shard_map": self._shard_map}

    def _scan(self, step: JaxprEqn, operands: Sequence[Any], path: Path) -> tuple[Sequence[Any], Records]:
        params = step.params
        n, m = params["num_consts"], params["num_consts"] + params["num_carry"]
        consts, first, xs = operands[:n], operands[n:m], operands[m:]
        kept = min(_KEPT_OF_A_LOOP, params["length"])

        def body(state: Any, x: Any) -> Any:
            i, carry, held = state
            results, records = self._inside(None, params["jaxpr"], [*consts, *carry, *x], path)
            held = _held(held, records, i * kept // params["length"])
            return (i + 1, results[: m - n], held), results[m - n :]

        one = [jax.eval_shape(lambda x: x[0], x) for x in xs] if params["length"] else []
        shapes = jax.eval_shape(
            lambda c, x: self._inside(None, params["jaxpr"], [*consts, *c, *x], path)[1], first, one
        )
        (_, carry, held), ys = jax.lax.scan(
            body, (jnp.zeros((), int), list(first), _empty(shapes, kept)), list(xs), params["length"], params["reverse"]
        )
        return [*carry, *ys], held

    def _while(self, step: JaxprEqn, operands: Sequence[Any], path: Path) -> tuple[Sequence[Any], Records]:
        params = step.params
        n, m = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        of_cond, of_body, first = operands[:n], operands[n:m], operands[m:]

        def goes_on(state: Any) -> Any:
            return jaxpr_as_fun(params["cond_jaxpr"])(*of_cond, *state[1])[0]

        def body(state: Any) -> Any:
            i, carry, held = state
            carry, records = self._inside(None, params["body_jaxpr"], [*of_body, *carry], path)
            return i + 1, carry, _held(held, records, jnp.minimum(i, _KEPT_OF_A_LOOP - 1))

        shapes = jax.eval_shape(lambda c: self._inside(None, params["body_jaxpr"], [*of_body, *c], path)[1], first)
        state = jnp.zeros((), int), list(first), _empty(shapes, _KEPT_OF_A_LOOP)
        _, carry, held = jax.lax.while_loop(goes_on, body, state)
        return carry, held

    def _cond(self, step: JaxprEqn, operands: Sequence[Any], path: Path) -> tuple[Sequence[Any], Records]:
        index, *inputs = operands

        def branch(k: int) -> Callable[..., Any]:
            return lambda *inputs: self._closed(step.params["branches"][k], inputs, (*path, k))

        branches = [branch(k) for k in range(len(step.params["branches"]))]
        shapes = [jax.eval_shape(lambda *a, b=b: b(*a)[1], *inputs) for b in branches]

        def with_the_others(k: int) -> Callable[..., Any]:
            def run(*inputs: Any) -> Any:
                results, records = branches[k](*inputs)
                others = {p: r for j, of in enumerate(shapes) if j != k for p, r in of.items()}
                return results, records | jax.tree.map(lambda r: jnp.zeros(r.shape, r.dtype), others)

            return run

        return jax.lax.switch(index, [with_the_others(k) for k in range(len(branches))], *inputs)

    def _shard_map(self, step: JaxprEqn, operands: Sequence[Any], path: Path) -> tuple[Sequence[Any], Records]:
        params = step.params
        axes = tuple(sorted(params["newly_manual_axes" if "newly_manual_axes" in params else "manual_axes"]))
        devices = Devices(params["mesh"], axes, params["check_vma"])

        def body(*inputs: Any) -> Any:
            results, records = self._inside(devices, params["jaxpr"], inputs, path)
            return results, jax.tree.map(lambda r: r[None], records)

        return jax.shard_map(
            body,
            mesh=params["mesh"],
            in_specs=tuple(params["in_specs"]),
            out_specs=(list(params["out_specs"]), jax.sharding.PartitionSpec(axes)),
            axis_names=set(axes),
            check_vma=params["check_vma"],
        )(*operands)


def _empty(shapes: Any, kept: int) -> Any:
    return jax.tree.map(lambda r: jnp.zeros((kept, *r.shape), r.dtype), shapes)


def _held(held: Records, records: Records, slot: Any) -> Records:
    """What a loop keeps after one more iteration, whose rules may not all have been reached."""

    def kept(path: Path) -> tuple[Any, list[Any]]:
        (old_times, old), (times, new) = held[path], records[path]

        def of(before: Any, after: Any) -> Any:
            reached = jnp.reshape(times > 0, times.shape + (1,) * (after.ndim - times.ndim))
            return before.at[slot].set(jnp.where(reached, after, before[slot]))

        return old_times.at[slot].add(times), [of(*pair) for pair in zip(old, new, strict=True)]

    return {path: kept(path) for path in held}
