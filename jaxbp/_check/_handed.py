"""What was handed in, whatever form it came in: named arrays, or a complaint that names what is the matter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxbp._check._facts import Facts
from jaxbp._checks import quoted, suggestion
from jaxbp._graph import BIAS


@dataclass(frozen=True, eq=False)
class Handed:
    """Quantities by name, as float64 arrays in the shape in which they came.

    Attributes:
        arrays: The quantities.
        transposed: The gradients that came in the shape of their transpose.
        epsilon: The rounding of the coarsest number format that took part.
        largest: The largest number that all the formats have.
        resolution: Half a unit of the last decimal, where all numbers are rounded decimals; else 0.
    """

    arrays: dict[str, np.ndarray]
    transposed: frozenset[str]
    epsilon: float
    largest: float
    resolution: float


def handed_in(facts: Facts, params: Any, x: Any, y: Any, mine: Any) -> Handed:
    """Read what was handed in.

    Raises:
        TypeError: Something that is no tree, no function and no dict of quantities, or an array that is not of numbers.
        ValueError: A missing or unknown name, or a shape that does not fit.
    """
    if callable(mine):
        mine = mine(params, x, y)
        if isinstance(mine, tuple):
            if len(mine) != 2:
                raise ValueError(
                    f"the function returned {len(mine)} results; return the gradients, or (value, gradients)"
                )
            value, gradients = mine
            named = {"loss": value, **_named_gradients(facts, gradients)}
            return _checked(facts, named, params, x)
    if not isinstance(mine, Mapping):
        raise TypeError(
            f"what was handed in is of type {type(mine).__name__}; expected gradients as a dict by unit and source "
            "like the parameters, a dict of quantities such as {'delta.o': …}, or a function of (params, x, y)"
        )
    if not mine:
        raise ValueError("nothing was handed in: the dict is empty")
    is_tree = all(isinstance(value, Mapping) for value in mine.values())
    return _checked(facts, _named_gradients(facts, mine) if is_tree else dict(mine), params, x)


def _named_gradients(facts: Facts, tree: Any) -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        raise TypeError(f"the gradients are of type {type(tree).__name__}, expected a dict by unit like the parameters")
    named: dict[str, Any] = {}
    with_weights = {u: weights for u, weights in facts.params.items() if weights or u in tree}
    _check_names(tree, with_weights, "the gradients hold", "units")
    for u, weights in facts.params.items():
        if u not in tree:
            continue  # a unit without weights
        if not isinstance(tree[u], Mapping):
            raise TypeError(f"the gradients of {u!r} are of type {type(tree[u]).__name__}, expected a dict by source")
        _check_names(tree[u], weights, f"the gradients of {u!r} hold", "sources")
        named |= {f"grad.{u}.{s}": tree[u][s] for s in weights}
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


def _checked(facts: Facts, named: Mapping[str, Any], params: Any, x: Any) -> Handed:
    arrays: dict[str, np.ndarray] = {}
    transposed: set[str] = set()
    dtypes = [np.asarray(W).dtype for weights in params.values() for W in weights.values()]
    dtypes += [np.asarray(value).dtype for value in (x.values() if isinstance(x, Mapping) else [x])]
    for name, value in named.items():
        if name not in facts.right:
            raise ValueError(
                f"there is no quantity {name!r}{suggestion(name, facts.right)}; known are {quoted(facts.right)}"
            )
        array = _as_numbers(name, value)
        expected = shape_of(facts, name)
        is_gradient = name.startswith("grad.") and not name.endswith(f".{BIAS}")
        if array.shape != expected and is_gradient and array.shape == expected[::-1]:
            transposed.add(name)
        elif array.shape != expected:
            raise ValueError(f"{name} has shape {array.shape}, expected {expected}{_shape_hint(facts, name, array)}")
        dtypes.append(array.dtype)
        arrays[name] = array.astype(np.float64)
    formats = [jnp.finfo(dtype) for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)]
    epsilon, largest = max(float(f.eps) for f in formats), min(float(f.max) for f in formats)
    return Handed(arrays, frozenset(transposed), epsilon, largest, _resolution(list(arrays.values())))


def shape_of(facts: Facts, name: str) -> tuple[int, ...]:
    """The shape of a quantity with the batch axes that came in."""
    array = facts.right[name]
    if name.partition(".")[0] in ("a", "h", "Delta", "delta"):
        return (*facts.batch, *array.shape[1:])
    return array.shape


def _as_numbers(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} cannot be read as an array: {error}") from None
    if array.dtype == np.bool_ or not (
        jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)
    ):
        what = f"an array of {array.dtype}" if array.dtype != object else f"{value!r:.80}"
        raise TypeError(f"{name} is {what}, expected an array of real numbers, all rows of one length")
    return array


def _shape_hint(facts: Facts, name: str, array: np.ndarray) -> str:
    if facts.batch and array.shape == (*facts.batch, *shape_of(facts, name)):
        return ": it has a batch axis; a gradient is the sum over the examples"
    return ""


def _resolution(arrays: Sequence[np.ndarray]) -> float:
    """Numbers that somebody printed with a few decimals are right as far as these go."""
    numbers = np.concatenate([array.ravel() for array in arrays])
    numbers = numbers[np.isfinite(numbers) & (numbers != 0)]
    for decimals in range(1, 11):
        if numbers.size and np.all(np.abs(np.round(numbers, decimals) - numbers) <= 1e-15 * np.abs(numbers)):
            return 0.5 * 10.0**-decimals
    return 0.0
