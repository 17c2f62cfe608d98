"""How results of many arrays print: their shapes, of which a notebook keeps a line and not a megabyte."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

_MOST, _LONGEST = 6, 60


def brief(value: Any) -> str:
    """A tree with a shape for each array: `{'h1': float32[5, 4], 'o': float32[5, 2]}`; a scalar is its number."""
    if isinstance(value, Mapping):
        shown = [f"{name!r}: {brief(part)}" for name, part in list(value.items())[:_MOST]]
        more = [f"… {len(value) - _MOST} more"] if len(value) > _MOST else []
        return f"{{{', '.join([*shown, *more])}}}"
    if isinstance(value, (np.ndarray, np.generic, jax.Array, jax.ShapeDtypeStruct)):
        if value.shape == () and not isinstance(value, (Tracer, jax.ShapeDtypeStruct)):
            return str(value)
        return f"{value.dtype}{list(value.shape)}"
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def called(value: Any, /, **parts: Any) -> str:
    """What `repr` says of an object: its type, and some of its parts in brief."""
    return f"{type(value).__name__}({', '.join(f'{name}={brief(part)}' for name, part in parts.items())})"
