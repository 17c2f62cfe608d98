"""What was handed in for a network, in any form: read as named arrays, or refused in words that name the matter."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import jax
import numpy as np

from jaxbp._check._compare import Handed, as_numbers, value_and_gradients
from jaxbp._check._facts import Facts
from jaxbp._checks import quoted, suggestion
from jaxbp._graph import ONE
from jaxbp._names import Name


def handed_in(facts: Facts, params: Any, x: Any, y: Any, mine: Any) -> Handed[Name]:
    """Read a tree of gradients, a dict of quantities, or what a function returns: either, or (value, gradients)."""
    if callable(mine):
        mine = mine(*deepcopy((params, x, y)))  # the function may write into what it is given
        if isinstance(mine, tuple):
            value, gradients = value_and_gradients(mine)
            return _checked(facts, {Name("loss"): value, **_named_gradients(facts, gradients)}, params, x)
    if not isinstance(mine, Mapping):
        raise TypeError(
            f"what was handed in is of type {type(mine).__name__}; expected gradients as a dict by unit and source "
            "like the parameters, a dict of quantities such as {'delta.o': …}, or a function of (params, x, y)"
        )
    if not mine:
        raise ValueError("nothing was handed in: the dict is empty")
    is_tree = all(isinstance(value, Mapping) for value in mine.values())
    return _checked(facts, _named_gradients(facts, mine) if is_tree else dict(mine), params, x)


def _named_gradients(facts: Facts, tree: Any) -> dict[Name, Any]:
    if not isinstance(tree, Mapping):
        raise TypeError(f"the gradients are of type {type(tree).__name__}, expected a dict by unit like the parameters")
    named: dict[Name, Any] = {}
    with_weights = {u: weights for u, weights in facts.params.items() if weights or u in tree}
    _check_names(tree, with_weights, "the gradients hold", "units")
    for u, weights in facts.params.items():
        if u not in tree:
            continue  # a unit without weights
        if not isinstance(tree[u], Mapping):
            raise TypeError(f"the gradients of {u!r} are of type {type(tree[u]).__name__}, expected a dict by source")
        _check_names(tree[u], weights, f"the gradients of {u!r} hold", "sources")
        named |= {Name("grad", (u, s)): tree[u][s] for s in weights}
    return named


def _check_names(got: Mapping[str, Any], expected: Mapping[str, Any], holds: str, what: str) -> None:
    extra = [name for name in got if name not in expected]
    if extra:
        raise ValueError(
            f"{holds} {extra[0]!r}, which is none of the {what} {quoted(expected)}{suggestion(extra[0], expected)}"
        )
    missing = [name for name in expected if name not in got]
    if missing:
        raise ValueError(
            f"{holds} no {missing[0]!r}; expected {quoted(expected)}. To hand in some of them only, "
            "use a dict of quantities such as {'grad.o.bias': …}"
        )


def _checked(facts: Facts, mine: Mapping[Any, Any], params: Any, x: Any) -> Handed[Name]:
    arrays: dict[Name, np.ndarray] = {}
    known = {str(name): name for name in facts.right}
    dtypes = [np.asarray(W).dtype for W in jax.tree.leaves(params)]
    dtypes += [np.asarray(value).dtype for value in (x.values() if isinstance(x, Mapping) else [x])]
    for said, value in mine.items():
        name = known.get(str(said))
        if name is None:
            hint = suggestion(said, known)
            raise ValueError(f"there is no quantity {said!r}{hint}; known are {quoted(sorted(known))}")
        array = as_numbers(name, value)
        expected = shape_of(facts, name)
        is_gradient = name.kind == "grad" and name.path[-1] != ONE
        if array.shape != expected and not (is_gradient and array.shape == expected[::-1]):
            raise ValueError(f"{name} has shape {array.shape}, expected {expected}{_shape_hint(facts, name, array)}")
        arrays[name] = array
    return Handed.of(arrays, dtypes)


def shape_of(facts: Facts, name: Name) -> tuple[int, ...]:
    """The shape of a quantity with the batch axes that came in."""
    array = facts.right[name]
    return (*facts.batch, *array.shape[1:]) if name.is_of_unit else array.shape


def _shape_hint(facts: Facts, name: Name, array: np.ndarray) -> str:
    if facts.batch and array.shape == (*facts.batch, *shape_of(facts, name)):
        return ": it has a batch axis; a gradient is the sum over the examples"
    return ""
