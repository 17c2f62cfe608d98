"""What the gradient of a function is where some of its sums are taken for constants.

Mean, variance, norm and the denominator of softmax are sums that everything depends on, and the paths back through them
are what people forget. A sum is one that f writes, or is in a function of JAX that f calls, such as `jnp.var`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxprs_in_params

from jaxbp._check._lines import frames, is_own
from jaxbp._check._noise import CALLS, steps

_SUM = "reduce_sum"
_MOST = 8  # places, of which up to two are taken together


@dataclass(frozen=True, eq=False)
class Paths:
    """A scalar function of arrays as a program in float64, at its arguments, and its right gradient."""

    program: ClosedJaxpr
    inputs: Mapping[str, Any]
    right: Mapping[str, np.ndarray]

    def without(self, name: str) -> dict[str, Callable[[], np.ndarray]]:
        """The gradient with respect to an argument without the paths through some sums, by what these are."""
        return {" and ".join(some): partial(self._gradient, some, name) for some in self._left_out}

    @cached_property
    def _places(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_sums(self.program.jaxpr, "")))

    @cached_property
    def _left_out(self) -> list[tuple[str, ...]]:
        some = [some for many in (1, 2) for some in combinations(self._places[:_MOST], many)]
        # a rule of f's own may be another than the derivative of what it stands for
        return some if some and all(map(self._is_right, self.inputs)) else []

    def _is_right(self, name: str) -> bool:
        right = self.right[name]
        return np.allclose(self._gradient((), name), right, rtol=1e-6, atol=1e-9 * np.max(np.abs(right), initial=0))

    def _gradient(self, left_out: tuple[str, ...], name: str) -> np.ndarray:
        if left_out not in self._made:
            with jax.enable_x64(True):
                flags = {place: jnp.asarray(place in left_out) for place in self._places}
                gradient = self._compiled(list(self.inputs.values()), flags)
            self._made[left_out] = dict(zip(self.inputs, map(np.asarray, gradient), strict=True))
        return self._made[left_out][name]

    @cached_property
    def _made(self) -> dict[tuple[str, ...], dict[str, np.ndarray]]:
        return {}

    @cached_property
    def _compiled(self) -> Any:
        def value(inputs: Sequence[Any], flags: Mapping[str, Any]) -> Any:
            return _run(self.program, inputs, flags, "")[0]

        return jax.jit(jax.grad(value))


def _sums(jaxpr: Jaxpr, caller: str) -> Iterator[str]:
    """Where the sums of a program are, and those of what it calls."""
    for step in jaxpr.eqns:
        place = _place(step) or caller
        if step.primitive.name == _SUM:
            yield place
        elif step.primitive.name in CALLS:
            for inner in jaxprs_in_params(step.params):
                yield from _sums(inner, place)


def _place(step: JaxprEqn) -> str:
    """What a line of the caller's calls where it makes a step; nothing where no such line does."""
    calls = frames(step)
    own = next((i for i, call in enumerate(calls) if is_own(call.file_name)), None)
    if own is None:
        return ""
    function, line = calls[own].function_name.rpartition(".")[2], calls[own].line_num
    of_jax = [call.function_name for call in calls[:own] if call.function_name.isidentifier()]
    name = step.params.get("name") or (of_jax or [_SUM])[-1]
    return f"{str(name).removeprefix('_')} (line {line} of {function})"


def _run(closed: Any, inputs: Sequence[Any], flags: Mapping[str, Any], caller: str) -> list[Any]:
    """The outputs of a program, in which the sums that are flagged are constants."""
    jaxpr, consts = (closed.jaxpr, closed.consts) if isinstance(closed, ClosedJaxpr) else (closed, ())
    values: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs], strict=True))
    for step in jaxpr.eqns:
        operands = [v.val if isinstance(v, Literal) else values[v] for v in step.invars]
        results = _step(step, operands, flags, caller)
        values.update(zip(step.outvars, results, strict=True))
    return [v.val if isinstance(v, Literal) else values[v] for v in jaxpr.outvars]


def _step(step: JaxprEqn, operands: Sequence[Any], flags: Mapping[str, Any], caller: str) -> Sequence[Any]:
    name, params, place = step.primitive.name, step.params, _place(step) or caller
    # a rule that has no sum in it stays
    if name in CALLS and any(
        inner.primitive.name == _SUM for each in jaxprs_in_params(params) for inner in steps(each)
    ):
        return _run(params["call_jaxpr" if "call_jaxpr" in params else "jaxpr"], operands, flags, place)
    results = step.primitive.bind(*operands, **step.primitive.get_bind_params(params))
    results = results if step.primitive.multiple_results else [results]
    if name == _SUM:
        return [jnp.where(flags[place], jax.lax.stop_gradient(results[0]), results[0])]
    return results
