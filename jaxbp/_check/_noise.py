"""What rounding does to a JAX program: it is run step by step, with every number changed by up to its last digit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxprs_in_params

CALLS = {"jit", "pjit", "closed_call", "core_call", "checkpoint", "custom_jvp_call", "custom_vjp_call"}
# the other steps round nothing: they copy, choose and compare, and equal numbers have to stay equal for them
SUMS = {"cumsum", "dot_general", "reduce_sum"}
ROUNDING = {
    "acos", "acosh", "add", "add_any", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cholesky", "cond",
    "conv_general_dilated", "cos", "cosh", "cumlogsumexp", "cumprod", "custom_linear_solve", "digamma", "div", "eigh",
    "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "fft", "integer_pow", "lgamma", "log", "log1p", "logistic", "lu",
    "mul", "pow", "qr", "ragged_dot", "reduce_prod", "reduce_window_sum", "rsqrt", "scan", "scatter-add",
    "scatter_add", "sin", "sinh", "sqrt", "square", "sub", "svd", "tan", "tanh", "triangular_solve", "while",
}  # fmt: skip


def steps(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """All steps of a program and of the programs that it calls."""
    for step in jaxpr.eqns:
        yield step
        for inner in jaxprs_in_params(step.params):
            yield from steps(inner)


@dataclass(frozen=True, eq=False)
class Noise:
    """Runs a program with every number that goes in, and all that a step rounds, changed by up to epsilon of it."""

    epsilon: float
    rng: np.random.Generator

    def run(self, program: ClosedJaxpr, inputs: Sequence[Any]) -> list[Any]:
        """The outputs of a program."""
        consts, changed = ([self._changed(array) for array in given] for given in (program.consts, inputs))
        return self._run(program.jaxpr, consts, changed)

    def _changed(self, value: Any, by: Any = None) -> Any:
        dtype = getattr(value, "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            return value
        value, by = np.asarray(value), np.asarray(value if by is None else by)
        return (value + self.epsilon * self.rng.uniform(-1, 1, value.shape) * by).astype(dtype)

    def _run(self, jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        values: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs], strict=True))
        for step in jaxpr.eqns:
            operands = [v.val if isinstance(v, Literal) else values[v] for v in step.invars]
            results = self._step(step, operands)
            values.update(zip(step.outvars, results, strict=True))
        return [v.val if isinstance(v, Literal) else values[v] for v in jaxpr.outvars]

    def _step(self, step: JaxprEqn, operands: Sequence[Any]) -> list[Any]:
        primitive, name = step.primitive, step.primitive.name
        if name in CALLS:
            called = step.params["call_jaxpr" if "call_jaxpr" in step.params else "jaxpr"]
            body, consts = (called.jaxpr, called.consts) if isinstance(called, ClosedJaxpr) else (called, ())
            return self._run(body, consts, operands)
        result = primitive.bind(*operands, **step.params)
        if name in SUMS:
            # every partial sum is rounded, and may be larger than the sum
            return [self._changed(result, by=primitive.bind(*map(np.abs, operands), **step.params))]
        results = result if primitive.multiple_results else [result]
        return [self._changed(each) for each in results] if name in ROUNDING else results
