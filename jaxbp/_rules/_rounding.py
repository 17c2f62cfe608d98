"""What rounding does to a program, compiled: every number in it is changed by up to its last digit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

# which steps round is one table
from jaxbp._check._noise import CALLS, ROUNDING, SUMS, steps

_APART = 4096  # how far apart two steps may begin in the same random numbers


def random_numbers(programs: Sequence[ClosedJaxpr], sample: int) -> np.ndarray:
    """As many, between -1 and 1, as the largest array in some programs takes; drawn here, for JAX compiles long."""
    variables = [v for each in programs for v in [*each.jaxpr.constvars, *each.jaxpr.invars]]
    variables += [v for each in programs for step in steps(each.jaxpr) for v in step.outvars]
    largest = max((getattr(v.aval, "size", 1) for v in variables), default=1)
    return np.random.default_rng(sample).uniform(-1, 1, largest + _APART)


def rounded(epsilon: Any, numbers: Any, programs: Sequence[ClosedJaxpr], inputs: Sequence[Any]) -> list[list[Any]]:
    """The outputs of programs in which inputs and all that a step rounds are changed by up to epsilon of themselves."""
    noise = _Noise(epsilon, numbers, np.random.default_rng(0))
    return [noise.run(program, inputs) for program in programs]


@dataclass(frozen=True, eq=False)
class _Noise:
    epsilon: Any
    numbers: Any
    rng: np.random.Generator

    def run(self, program: ClosedJaxpr, inputs: Sequence[Any]) -> list[Any]:
        consts, changed = ([self._changed(array) for array in given] for given in (program.consts, inputs))
        return self._run(program.jaxpr, consts, changed)

    def _changed(self, value: Any, by: Any = None) -> Any:
        dtype = getattr(value, "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            return value
        wide = jnp.promote_types(dtype, jnp.float32)
        by = (value if by is None else by).astype(wide)
        first = self.rng.integers(_APART)
        drawn = self.numbers[first : first + value.size].reshape(value.shape).astype(wide)
        return (value.astype(wide) + self.epsilon.astype(wide) * drawn * by).astype(dtype)

    def _run(self, jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        values: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs], strict=True))
        for step in jaxpr.eqns:
            operands = [v.val if isinstance(v, Literal) else values[v] for v in step.invars]
            values.update(zip(step.outvars, self._step(step, operands), strict=True))
        return [v.val if isinstance(v, Literal) else values[v] for v in jaxpr.outvars]

    def _step(self, step: JaxprEqn, operands: Sequence[Any]) -> list[Any]:
        primitive, name = step.primitive, step.primitive.name
        if name in CALLS:
            called = step.params["call_jaxpr" if "call_jaxpr" in step.params else "jaxpr"]
            body, consts = (called.jaxpr, called.consts) if isinstance(called, ClosedJaxpr) else (called, ())
            return self._run(body, consts, operands)
        params = primitive.get_bind_params(step.params)
        result = primitive.bind(*operands, **params)
        if name in SUMS:
            # every partial sum is rounded, and may be larger than the sum
            return [self._changed(result, by=primitive.bind(*map(jnp.abs, operands), **params))]
        results = result if primitive.multiple_results else [result]
        return [self._changed(each) for each in results] if name in ROUNDING else results
