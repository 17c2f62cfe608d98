"""The jaxpr of what is checked: its arrays as inputs, in float64 or as they came, all else as it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr


@dataclass(frozen=True, eq=False)
class Program:
    """A jaxpr and the arrays that go into it."""

    jaxpr: ClosedJaxpr
    inputs: Sequence[Any]


def traced(f: Callable[..., Any], args: Sequence[Any]) -> Program:
    """The program of f at its arguments, floating arrays as wide as the session of whoever calls it.

    What is no array, such as a number of Python or a function in a module of equinox, f gets as it is.
    """
    leaves, treedef = jax.tree.flatten(tuple(args))
    where = [i for i, leaf in enumerate(leaves) if hasattr(leaf, "dtype") and hasattr(leaf, "shape")]
    arrays = [_widened(leaves[i]) for i in where]

    # a new function: what JAX keeps for the caller's own would outlive this
    def of_arrays(*arrays: Any) -> Any:
        filled = list(leaves)
        for i, array in zip(where, arrays, strict=True):
            filled[i] = array
        out = f(*treedef.unflatten(filled))
        return [leaf for leaf in jax.tree.leaves(out) if hasattr(leaf, "dtype")]

    return Program(jax.make_jaxpr(of_arrays)(*arrays), arrays)


def _widened(leaf: Any) -> Any:
    # whoever asks for float64 is in a session that has it
    wide = jax.dtypes.canonicalize_dtype(float) == jnp.float64 and jnp.issubdtype(leaf.dtype, jnp.floating)
    # by NumPy: JAX would compile a program for each shape
    return jnp.asarray(np.asarray(leaf).astype(float) if wide else leaf)
