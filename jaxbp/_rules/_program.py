"""The jaxpr of what is checked: its arrays as inputs, in float64 or as they came, all else as it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr


@dataclass(frozen=True, eq=False)
class Program:
    """A function of arrays, its jaxpr, and the arrays that go into it with their names."""

    function: Callable[..., Any]
    jaxpr: ClosedJaxpr
    inputs: Sequence[Any]
    names: Sequence[str]


def traced(f: Callable[..., Any], args: Sequence[Any], *, wide: bool, as_rule: bool = False) -> Program:
    """The program of f at its arguments, with all floating arrays in float64 or as they came.

    What is no array, such as a number of Python or a function in a module of equinox, f gets as it is. As a rule f
    stands in the program as a function with a rule of its own, which is the gradient that JAX has for it.
    """
    paths, treedef = jax.tree_util.tree_flatten_with_path(tuple(args))
    leaves = [leaf for _, leaf in paths]
    where = [i for i, leaf in enumerate(leaves) if hasattr(leaf, "dtype") and hasattr(leaf, "shape")]
    arrays = [_array(leaves[i], wide) for i in where]

    # a new function: what JAX keeps for the caller's own would outlive this
    def of_arrays(*arrays: Any) -> Any:
        filled = list(leaves)
        for i, array in zip(where, arrays, strict=True):
            filled[i] = array
        out = f(*treedef.unflatten(filled))
        return [leaf for leaf in jax.tree.leaves(out) if hasattr(leaf, "dtype")]

    function = _with_its_gradient(of_arrays) if as_rule else of_arrays
    names = [f"args{jax.tree_util.keystr(paths[i][0])}" for i in where]
    return Program(of_arrays, jax.make_jaxpr(function)(*arrays), arrays, names)


def _with_its_gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    ruled = jax.custom_vjp(function)
    ruled.defvjp(lambda *arrays: jax.vjp(function, *arrays), lambda pull, cotangent: pull(cotangent))
    return ruled


def _array(leaf: Any, wide: bool) -> Any:
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    # by NumPy: JAX would compile a program for each shape
    return jnp.asarray(np.asarray(leaf).astype(float) if wide and floating else leaf)


# A program that is compiled to run a few times. Two of the options are internal, and asked for where they are known.
_QUICK: dict[str, str | int | bool] = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
_QUICKER = {**_QUICK, "xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}


def quickly_compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function as a program that is compiled in less time than it would take to make it fast."""
    options = _QUICKER if version("jaxlib") == "0.10.2" else _QUICK
    return jax.jit(function, compiler_options=options)
