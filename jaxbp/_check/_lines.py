"""Which lines of a person's own made a step of a program: libraries are looked through."""

from collections.abc import Iterator, Sequence
from typing import Any

from jax.extend.core import JaxprEqn

WRAPPERS = ("/jax/_src/custom_derivatives.py", "/equinox/_ad.py", "/flax/nnx/transforms/", "/flax/core/lift.py")
_BETWEEN = ("/jax/_src/", "/jax/experimental/", "/jaxbp/_check/", "/jaxbp/_rules/", *WRAPPERS)


def frames(step: JaxprEqn) -> list[Any]:
    """The calls that made a step, the innermost first."""
    raw = step.source_info.traceback
    return list(raw.frames) if raw else []


def own_frames(step: JaxprEqn) -> Iterator[Any]:
    """Those of them that are neither of JAX, nor of whoever wraps its rules, nor of what looks at the program."""
    return (frame for frame in frames(step) if not is_in(frame.file_name, _BETWEEN))


def is_own(place: str) -> bool:
    """Whether a file is none of theirs."""
    return not is_in(place, _BETWEEN)


def is_in(place: str, parts: Sequence[str]) -> bool:
    """Whether a path has one of these parts."""
    return any(part in place for part in parts)
