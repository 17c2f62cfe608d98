"""Where a derivative goes on: what of a program depends on what it was given, by steps that send a derivative back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxprs_in_params

from jaxbp._rules._found import RULES, Path, called

_FLAT = {"ceil", "floor", "round", "sign", "stop_gradient"}
_LOOPS = {"scan", "while"}

Flags = Sequence[bool]


@dataclass(frozen=True, eq=False)
class Flow:
    """Flags for the variables of a program.

    `sends_back` says for each operand of the rule at a path whether it sends back what depends on what comes back; and
    `reached` has for each of these operands whether it depends on what the program was given.
    """

    sends_back: Callable[[Path, JaxprEqn], Flags]
    reached: dict[Path, Flags] = field(default_factory=dict)

    def through(self, jaxpr: Jaxpr, given: Flags, path: Path = ()) -> list[bool]:
        """The flags of the outputs, by those of the inputs."""
        flags: dict[Any, bool] = dict(zip(jaxpr.invars, given, strict=True))

        def of(variables: Sequence[Any]) -> list[bool]:
            return [not isinstance(v, Literal) and flags.get(v, False) for v in variables]

        for i, step in enumerate(jaxpr.eqns):
            outs = self._step(step, of(step.invars), (*path, i))
            flags.update(zip(step.outvars, map(_and_floating, outs, step.outvars), strict=True))
        return of(jaxpr.outvars)

    def _step(self, step: JaxprEqn, given: Flags, path: Path) -> Flags:
        name, params = step.primitive.name, step.params
        some = [any(given) and name not in _FLAT] * len(step.outvars)
        if name in RULES:
            self.reached[path] = given
            self._inside(called(params), given, path)
            back = self.sends_back(path, step)
            return [any(g and b for g, b in zip(given, back, strict=True))] * len(step.outvars)
        if name == "cond":
            outs = [self._inside(each, given[1:], (*path, k)) for k, each in enumerate(params["branches"])]
            return [any(of) for of in zip(*outs, strict=True)]
        inner = [params["body_jaxpr"]] if name == "while" else list(jaxprs_in_params(params))
        if not any(given) or len(inner) != 1:
            return some
        if name in _LOOPS:
            return self._loop(step, given, path, inner[0])
        return self._inside(inner[0], given, path) if len(_invars(inner[0])) == len(given) else some

    def _loop(self, step: JaxprEqn, given: Flags, path: Path, body: Any) -> Flags:
        params = step.params
        if step.primitive.name == "while":
            given = given[params["cond_nconsts"] :]
            n, m = params["body_nconsts"], len(given)
        else:
            n, m = params["num_consts"], params["num_consts"] + params["num_carry"]
        carry = list(given[n:m])
        while True:
            outs = self._inside(body, [*given[:n], *carry, *given[m:]], path)
            further = [a or b for a, b in zip(carry, outs, strict=False)]
            if further == carry:
                return [*carry, *outs[m - n :]]
            carry = further

    def _inside(self, inner: Any, given: Flags, path: Path) -> list[bool]:
        return self.through(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner, given, path)


def _invars(inner: Any) -> Sequence[Any]:
    return (inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner).invars


def _and_floating(flag: bool, variable: Any) -> bool:
    return flag and is_floating(variable.aval)


def is_floating(aval: Any) -> bool:
    """Whether a value can have a derivative."""
    return hasattr(aval, "dtype") and jnp.issubdtype(aval.dtype, jnp.inexact)
