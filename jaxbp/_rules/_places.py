"""Where a rule is written and who uses it, as a person would say: libraries that wrap rules are looked through."""

from collections.abc import Iterator, Sequence
from itertools import chain

from jax.extend.core import Jaxpr, JaxprEqn

from jaxbp._check._lines import WRAPPERS, frames, is_in, is_own, own_frames


def place(step: JaxprEqn) -> tuple[str, str]:
    """The name of the function that has the rule, and its file and line."""
    info = step.params["call_jaxpr"].jaxpr.debug_info.func_src_info
    name, _, where = info.rpartition(" at ")
    if is_in(where, WRAPPERS):
        by_steps = _wrapped(step.params["call_jaxpr"].jaxpr, where.rpartition(":")[0])
        return next(chain(by_steps, _held(step)), (name, where))
    return name, where


def used_at(steps: Sequence[JaxprEqn]) -> tuple[str, ...]:
    """The lines that use a rule, the innermost ones that are neither of JAX nor of whoever wraps its rules."""
    places = [next((f"{frame.file_name}:{frame.line_num}" for frame in own_frames(step)), "") for step in steps]
    return tuple(dict.fromkeys(filter(None, places)))


def _wrapped(jaxpr: Jaxpr, wrapper: str) -> Iterator[tuple[str, str]]:
    """The functions that a wrapper called, as far as they have a step that remembers them."""
    for step in jaxpr.eqns:
        calls = frames(step)
        outside = next((i for i, frame in enumerate(calls) if frame.file_name == wrapper), 0)
        for frame in reversed(calls[:outside]):
            if is_own(frame.file_name):
                yield frame.function_name.rpartition(".")[2], f"{frame.file_name}:{frame.function_start_line}"
                break


def _held(step: JaxprEqn) -> Iterator[tuple[str, str]]:
    """The functions that a wrapped rule holds on to: a function without steps, as the identity is, has no others."""
    bwd = step.params.get("bwd")
    for cell in getattr(getattr(bwd, "f", None), "__closure__", None) or ():
        for held in getattr(cell.cell_contents, "__dict__", {}).values():
            code = getattr(held, "__code__", None)
            if code and is_own(code.co_filename):
                yield held.__name__, f"{code.co_filename}:{code.co_firstlineno}"
