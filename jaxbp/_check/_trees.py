"""Trees of arrays: what their leaves are called, and what was handed in read along with them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxbp._check._compare import Handed, value_and_gradients
from jaxbp._check._tensors import numbers_in, parameters_of
from jaxbp._checks import check_floating, quoted, suggestion

VALUE = "f(params)"  # no path has this name: a key that is no identifier stands in brackets


@dataclass(frozen=True, eq=False)
class Tree:
    """A tree of floating arrays, its leaves by path in the order of JAX, and what puts such a tree together."""

    params: Any
    leaves: dict[str, Any]
    of_leaves: Callable[[Sequence[Any]], Any]

    @classmethod
    def of(cls, params: Any) -> "Tree":
        """The tree of params, which must have leaves, all of them floating arrays."""
        with_paths, treedef = jax.tree_util.tree_flatten_with_path(params)
        if not with_paths:
            raise ValueError("params holds no arrays, expected a tree of at least one")
        leaves = {_name(path): leaf for path, leaf in with_paths}
        for name, leaf in leaves.items():
            check_floating(leaf, name)
        return cls(params, leaves, treedef.unflatten)


def _name(path: Sequence[Any]) -> str:
    """A key path as one would write it: `h1.W`, `layers[0].b`; `params` for the whole."""
    return "".join(map(_key, path)).removeprefix(".") or "params"


def _key(key: Any) -> str:
    if isinstance(key, jax.tree_util.GetAttrKey):
        return f".{key.name}"
    inner = getattr(key, "key", getattr(key, "idx", key))
    return f".{inner}" if isinstance(inner, str) and inner.isidentifier() else f"[{inner!r}]"


def handed_in(tree: Tree, mine: Any) -> Handed[str]:
    """Read gradients, or what a function of params returns: gradients, or (value, gradients)."""
    if (parameters := parameters_of(mine)) is not None:  # a module, which can be called too
        read = _read(tree, parameters)
    else:
        # a copy, for the function may write into what it is given
        read = _returned(tree, mine(deepcopy(tree.params))) if callable(mine) else _read(tree, mine)
    # JAX computes in no more than this, even where NumPy's float64 came in
    return Handed.of(read, [jax.dtypes.canonicalize_dtype(leaf.dtype) for leaf in tree.leaves.values()])


def _returned(tree: Tree, result: Any) -> dict[str, np.ndarray]:
    if type(result) is not tuple:
        return _read(tree, result)
    if isinstance(tree.params, tuple):  # then both can be meant
        try:
            return _read(tree, result)
        except (TypeError, ValueError):
            if len(result) != 2 or (len(tree.params) == 2 and np.ndim(result[0]) != 0):
                raise
    returned, gradients = value_and_gradients(result)
    value = numbers_in(VALUE, returned, of_gradient=False)
    if value.shape != ():
        raise ValueError(f"{VALUE} has shape {value.shape}, expected a scalar; return (value, gradients)")
    return {VALUE: value, **_read(tree, gradients)}


def _read(tree: Tree, mine: Any) -> dict[str, np.ndarray]:
    read = dict(_walk((), tree.params, mine))
    for name, leaf in tree.leaves.items():
        shape = read[name].shape
        if shape not in (leaf.shape, leaf.shape[::-1]) and not broadcast_axes(shape, leaf.shape):
            raise ValueError(f"{name} has shape {shape}, expected {leaf.shape}")
    return {name: read[name] for name in tree.leaves}


def _walk(path: tuple[Any, ...], params: Any, mine: Any) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays by name, from both trees side by side: nested lists may be arrays, and tuples lists."""
    name, expected, got = _name(path), _children(params), _children(mine)
    if expected is None:
        if isinstance(mine, Mapping):
            raise TypeError(f"{name} is a dict, expected an array of shape {params.shape} as in params")
        yield name, numbers_in(name, mine, of_gradient=True)
        return
    holder = name if path else "what was handed in"
    labels = {key: _key(key).removeprefix(".") for key in [*expected, *(got or ())]}
    like = f"{type(params).__name__} of {quoted(labels[key] for key in expected)} as in params"
    if got is None or isinstance(params, Mapping) != isinstance(mine, Mapping):
        what = "an array" if hasattr(mine, "dtype") else f"of type {type(mine).__name__}"
        raise TypeError(f"{holder} is {what}, expected a {like}")
    for key in got:
        if key not in expected:
            near = suggestion(labels[key], [labels[other] for other in expected])
            raise ValueError(f"{holder} holds {labels[key]!r}, expected a {like}{near}")
    for key, child in expected.items():
        if key not in got:
            raise ValueError(f"{holder} holds no {labels[key]!r}, expected a {like}")
        yield from _walk((*path, key), child, got[key])


def _children(node: Any) -> dict[Any, Any] | None:
    """The nodes directly below a node of a tree, by key; None for a leaf."""
    if isinstance(node, Mapping) and type(node) is not dict:
        node = dict(node)
    below, _ = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda other: other is not node)
    if len(below) == 1 and below[0][0] == ():
        return None
    return {path[0]: child for path, child in below}


def broadcast_axes(shape: tuple[int, ...], expected: tuple[int, ...]) -> tuple[int, ...]:
    """The axes along which an array of the expected shape is broadcast to a shape; none where it is not."""
    leading = len(shape) - len(expected)
    if leading < 0:
        return ()
    axes = list(range(leading))
    for axis, (got, length) in enumerate(zip(shape[leading:], expected, strict=True), leading):
        if length == 1 and got != 1:
            axes.append(axis)
        elif got != length:
            return ()
    return tuple(axes)
