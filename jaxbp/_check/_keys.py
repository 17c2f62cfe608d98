"""Gradients without the network's names: which weight each belongs to, by shapes, order, and what their keys say."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jaxbp._check._tensors import is_array
from jaxbp._graph import ONE, SHARED
from jaxbp._names import Name
from jaxbp.connections import Shape

_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
_BEFORE = r"(?:grad|nabla|dl|d|g)?"
_WEIGHT = re.compile(rf"{_BEFORE}(?:w|weights?|kernel|theta)")
_BIAS = re.compile(rf"{_BEFORE}(?:b|bias|biases)")
_SHOWN = 6


@dataclass(frozen=True)
class Key:
    """What a gradient is called, or where in a list it stands."""

    path: tuple[str | int, ...]

    def __str__(self) -> str:
        first, *others = self.path
        text = first if isinstance(first, str) else f"[{first}]"
        return text + "".join(f".{key}" if isinstance(key, str) else f"[{key}]" for key in others)

    @cached_property
    def _words(self) -> list[str]:
        return [word for key in self.path if isinstance(key, str) for word in _WORDS.findall(key)]

    @property
    def is_bias(self) -> bool | None:
        """Whether it is called a bias, or a weight; None where it says neither."""
        for word in reversed(self._words):
            for said, words in ((True, _BIAS), (False, _WEIGHT)):
                if words.fullmatch(word.lower()):
                    return said
        return None

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers in it, such as that of a layer."""
        in_list = (key for key in self.path if isinstance(key, int))
        return (*(int(word) for word in self._words if word.isdigit()), *in_list)

    @property
    def is_numbered(self) -> bool:
        """Whether it has a number of its own, apart from its place in the whole."""
        return any(isinstance(key, str) for key in self.path) and bool(self.numbers)

    def says(self, unit: str) -> bool:
        """Whether the name of a unit is in it."""
        return any(
            isinstance(key, str) and re.search(rf"(?<![A-Za-z0-9]){re.escape(unit)}(?![A-Za-z0-9])", key)
            for key in self.path
        )


def leaves(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[Key, Any]]:
    """The arrays in dicts and lists; a list is an array, unless there are arrays in it, or it is the whole."""
    if isinstance(node, Mapping):
        for key, inner in node.items():
            yield from leaves(inner, (*path, str(key)))
    elif isinstance(node, list | tuple) and (not path or _holds_arrays(node)):
        for i, inner in enumerate(node):
            yield from leaves(inner, (*path, i))
    else:
        yield Key(path), node


def _holds_arrays(node: Any) -> bool:
    if isinstance(node, list | tuple):
        is_row = bool(node) and isinstance(node[0], int | float)  # which may be long
        return not is_row and any(_holds_arrays(inner) for inner in node)
    return isinstance(node, Mapping) or node is None or is_array(node)


def are_keys(keys: Sequence[Key]) -> bool:
    """Whether all of them say what they are, or stand in a list."""
    return all(key.is_bias is not None or any(isinstance(part, int) for part in key.path) for key in keys)


def by_name(
    handed: Mapping[Key, np.ndarray], weights: Mapping[Name, Shape], fits: Callable[[Name, Shape], bool]
) -> dict[Key, Name]:
    """The weight that each gradient is of.

    A gradient fits where its shape does, and where its key says of which unit it is, and whether it is a bias. All
    together are in an order that people have, of units from below or from above, with biases before or after weights:
    an array for each weight, or some of them.

    Raises:
        ValueError: There is no such assignment, or more than one.
    """
    candidates = {key: _fitting(key, array.shape, weights, fits) for key, array in handed.items()}
    numbered = all(key.is_numbered for key in handed)
    keys = sorted(handed, key=lambda key: key.numbers) if numbered else list(handed)
    orders = list(_orders(list(weights), numbered))
    found = _found(keys, orders, candidates)
    if len(found) > 1 and numbered:  # some of them only, of layers alike
        units = list(dict.fromkeys(name.unit for name in weights))
        of_layer = {
            k: frozenset(n for n in of if units.index(n.unit) + 1 == k.numbers[-1]) for k, of in candidates.items()
        }
        found = _found(keys, orders, of_layer) or found
    if len(found) == 1:
        return found[0]
    shown = [f"{key} of shape {handed[key].shape}" for key in keys]
    of = f"{'; '.join(shown[:_SHOWN])}{'; …' if len(shown) > _SHOWN else ''}"
    like = f"hand them in by name, such as {{'{next(iter(weights))}': …}}"
    if not found:
        expected = "; ".join(f"{name} of {shape}" for name, shape in list(weights.items())[:_SHOWN])
        raise ValueError(f"the gradients fit the weights in no usual order: got {of}; expected {expected}; {like}")
    several = "; or ".join(_said(one, 3) for one in found[:2])
    raise ValueError(f"it is not clear which gradients these are ({several}); {like}")


def said_of(assigned: Mapping[Key, Name]) -> str:
    """A note on what was taken for what."""
    return f"taken by shape and order: {_said(assigned, _SHOWN)}"


def _said(assigned: Mapping[Key, Name], most: int) -> str:
    texts = [f"{key} for {name}" for key, name in assigned.items()]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def _fitting(
    key: Key, shape: Shape, weights: Mapping[Name, Shape], fits: Callable[[Name, Shape], bool]
) -> frozenset[Name]:
    fitting = [name for name in weights if fits(name, shape)]
    if key.is_bias is not None:
        fitting = [name for name in fitting if (name.path[-1] == ONE) == key.is_bias]
    if any(key.says(name.unit) for name in weights):
        fitting = [name for name in fitting if key.says(name.unit)]
    return frozenset([name for name in fitting if key.says(name.path[-1])] or fitting)


def _orders(weights: Sequence[Name], numbered: bool) -> Iterator[list[Name]]:
    """The orders that people have; where keys have numbers only those from below."""
    units: dict[tuple[Any, ...], list[Name]] = {}
    for name in weights:
        shared = name.path[-1] if name.unit.split(".")[-1] == SHARED else ""
        units.setdefault((name.unit, shared, name.index), []).append(name)
    for directed in (list(units.values()), *([] if numbered else [list(reversed(units.values()))])):
        biases = [[name for name in unit if name.path[-1] == ONE] for unit in directed]
        others = [[name for name in unit if name.path[-1] != ONE] for unit in directed]
        by_unit = list(zip(others, biases, strict=True))
        yield [name for W, b in by_unit for name in (*W, *b)]
        yield [name for W, b in by_unit for name in (*b, *W)]
        yield [name for unit in (*others, *biases) for name in unit]
        yield [name for unit in (*biases, *others) for name in unit]
    if not numbered:
        yield sorted(weights, key=lambda name: name.path)  # as JAX flattens a dict


def _found(
    keys: Sequence[Key], orders: Sequence[Sequence[Name]], candidates: Mapping[Key, frozenset[Name]]
) -> list[dict[Key, Name]]:
    """The assignments in one of the orders, or two of them where there are several."""
    found: list[dict[Key, Name]] = []
    for order in orders:
        last_first = _first(keys[::-1], order[::-1], candidates)
        for assigned in (_first(keys, order, candidates), last_first and {key: last_first[key] for key in keys}):
            if assigned is not None and assigned not in found:
                found.append(assigned)
    return found


def _first(
    keys: Sequence[Key], order: Sequence[Name], candidates: Mapping[Key, frozenset[Name]]
) -> dict[Key, Name] | None:
    """The keys among the names, one after the other, each as early as can be."""
    names = iter(order)
    assigned = {key: next((name for name in names if name in candidates[key]), None) for key in keys}
    return None if None in assigned.values() else assigned  # pyright: ignore[reportReturnType]
