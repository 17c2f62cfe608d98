"""A mapping that can be part of a hashable specification."""

from collections.abc import Iterator, Mapping
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class FrozenMapping(Mapping[K, V]):
    """An immutable mapping that keeps its order, and counts it in equality and hash.

    A plain dict cannot be hashed, hence not be static under `jit`. Order counts because the last unit of a
    network is its output.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[K, V]):
        self._items = dict(items)

    def __getitem__(self, key: K) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(tuple(self._items.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrozenMapping) and tuple(self.items()) == tuple(other.items())

    def __repr__(self) -> str:
        return repr(self._items)
