"""The one bound on what is kept of functions made for a network, so that equal arguments give the same function.

JAX keeps the programs of a function for as long as it lives, so whoever keeps the function keeps them too. A few serve
those who alternate between networks, and a thousand networks leave no more behind than these few.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")

KEPT = 8


def bounded_cache(make: Callable[..., T]) -> Callable[..., T]:
    """Keep the last few results of a function of hashable arguments."""
    return lru_cache(maxsize=KEPT)(make)
