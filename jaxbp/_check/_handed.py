"""What was handed in for a network, by name and in rows: compared in shape with what is right."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxbp._check._compare import Handed, as_numbers
from jaxbp._check._facts import Facts
from jaxbp._checks import quoted, suggestion
from jaxbp._graph import ONE
from jaxbp._names import Name


def handed_in(facts: Facts, params: Any, x: Any, mine: Mapping[str, Any], digits: int = 0) -> Handed[Name]:
    """The quantities that were handed in, where parameters and inputs have a number format too."""
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
    return Handed.of(arrays, dtypes, digits)


def shape_of(facts: Facts, name: Name) -> tuple[int, ...]:
    """The shape of a quantity with the batch axes that came in."""
    array = facts.right[name]
    return (*facts.batch, *array.shape[1:]) if name.is_of_unit else array.shape


def _shape_hint(facts: Facts, name: Name, array: np.ndarray) -> str:
    if facts.batch and array.shape == (*facts.batch, *shape_of(facts, name)):
        return ": it has a batch axis; a gradient is the sum over the examples"
    return ""
