"""Rules that close over what is traced: the function runs once more, step by step, so that they close over numbers."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Trace
from jax.extend.core import JaxprEqn, Literal, jaxpr_as_fun, set_current_trace

from jaxbp._rules._found import Use


def found_eagerly(f: Callable[..., Any], inputs: Sequence[Any]) -> tuple[Use, ...]:
    """Every use of a rule that f of arrays meets, in the order in which it meets them; each is one of its own."""
    recording = _Recording()
    with jax.disable_jit(), set_current_trace(recording):
        f(*inputs)
    return tuple(Use((), step, 1, (operands,)) for step, operands in recording.seen)


class _Recording(Trace):
    """Runs what it is given, and keeps each rule with what flows into it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[JaxprEqn, list[Any]]] = []

    def stage_value(self, val: Any) -> Any:
        return jnp.asarray(val)

    def process_primitive(self, primitive: Any, tracers: Any, params: Any, /) -> Any:
        return primitive.bind(*tracers, **params)

    def process_call(self, call_primitive: Any, f: Any, tracers: Any, params: Any, /) -> Any:
        return f.call_wrapped(*tracers)

    def process_custom_jvp_call(self, primitive: Any, fun: Any, jvp: Any, tracers: Any, /, **params: Any) -> Any:
        return self._seen(primitive, (fun, jvp), tracers, params)

    def process_custom_vjp_call(
        self, primitive: Any, fun: Any, fwd: Any, bwd: Any, tracers: Any, /, **params: Any
    ) -> Any:
        return self._seen(primitive, (fun, fwd, bwd), tracers, params)

    def _seen(self, primitive: Any, functions: Sequence[Any], operands: Sequence[Any], params: Any) -> Any:
        def alone(*operands: Any) -> Any:
            return primitive.bind(*operands, subfuns=tuple(functions), **params)

        program = jax.make_jaxpr(alone)(*operands)
        jaxpr = program.jaxpr
        step = next(step for step in jaxpr.eqns if step.primitive is primitive)
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*program.consts, *operands], strict=True))
        given = [jnp.asarray(v.val if isinstance(v, Literal) else values[v]) for v in step.invars]
        self.seen.append((step, given))
        with set_current_trace(self):  # from the program, for the function itself runs only once
            return jaxpr_as_fun(step.params["call_jaxpr"])(*given)
