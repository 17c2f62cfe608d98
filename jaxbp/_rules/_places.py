"""Where a rule is written and who uses it, as a person would say: libraries that wrap rules are looked through."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from jax.extend.core import Jaxpr, JaxprEqn

_WRAPPERS = ("/jax/_src/custom_derivatives.py", "/equinox/_ad.py", "/flax/nnx/transforms/", "/flax/core/lift.py")
_BETWEEN = ("/jax/_src/", "/jax/experimental/", "/jaxbp/_rules/", *_WRAPPERS)


def place(step: JaxprEqn) -> tuple[str, str]:
    """The name of the function that has the rule, and its file and line."""
    info = step.params["call_jaxpr"].jaxpr.debug_info.func_src_info
    name, _, where = info.rpartition(" at ")
    if _is_in(where, _WRAPPERS):
        by_steps = _wrapped(step.params["call_jaxpr"].jaxpr, where.rpartition(":")[0])
        return next(chain(by_steps, _held(step)), (name, where))
    return name, where


def used_at(steps: Sequence[JaxprEqn]) -> tuple[str, ...]:
    """The lines that use a rule, the innermost ones that are neither of JAX nor of whoever wraps its rules."""
    places = [
        next((f"{f.file_name}:{f.line_num}" for f in _frames(step) if not _is_in(f.file_name, _BETWEEN)), "")
        for step in steps
    ]
    return tuple(dict.fromkeys(filter(None, places)))


def _wrapped(jaxpr: Jaxpr, wrapper: str) -> Iterator[tuple[str, str]]:
    """The functions that a wrapper called, as far as they have a step that remembers them."""
    for step in jaxpr.eqns:
        frames = _frames(step)
        outside = next((i for i, frame in enumerate(frames) if frame.file_name == wrapper), 0)
        for frame in reversed(frames[:outside]):
            if not _is_in(frame.file_name, _BETWEEN):
                yield frame.function_name.rpartition(".")[2], f"{frame.file_name}:{frame.function_start_line}"
                break


def _held(step: JaxprEqn) -> Iterator[tuple[str, str]]:
    """The functions that a wrapped rule holds on to: a function without steps, as the identity is, has no others."""
    bwd = step.params.get("bwd")
    for cell in getattr(getattr(bwd, "f", None), "__closure__", None) or ():
        for held in getattr(cell.cell_contents, "__dict__", {}).values():
            code = getattr(held, "__code__", None)
            if code and not _is_in(code.co_filename, _BETWEEN):
                yield held.__name__, f"{code.co_filename}:{code.co_firstlineno}"


def _frames(step: JaxprEqn) -> list[Any]:
    """The calls that made a step, the innermost first."""
    raw = step.source_info.traceback
    return list(raw.frames) if raw else []


def _is_in(place: str, parts: Sequence[str]) -> bool:
    return any(part in place for part in parts)
