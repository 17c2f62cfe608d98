"""Modules of equinox of our own, of kinds that it has none of.

They are made when they are asked for, because the library is only then there.
"""

from functools import cache
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp

from jaxbp.interop._reading import imported


@cache
def own_modules(nn: Any) -> Any:
    """`Sum`, `Stack`, `SelfAttention` and `Rows` as classes of equinox, which is only there when it is asked for."""
    eqx = imported("equinox", "from_equinox")

    class Sum(eqx.Module):
        """The sum of what each branch makes of the input; an empty one is the input itself."""

        branches: tuple[Any, ...]

        def __call__(self, x: Any, *, key: Any = None) -> Any:
            keys = [None] * len(self.branches) if key is None else jax.random.split(key, len(self.branches))
            first, *others = (branch(x, key=k) for branch, k in zip(self.branches, keys, strict=True))
            return sum(others, start=first)

    class Stack(eqx.Module):
        """One layer after the other, by a scan.

        Attributes:
            layers: The layer, all of whose arrays have the layers as their first axis, as `eqx.filter_vmap` makes it,
                unless they are shared.
            depth: How many layers there are.
            shared: Whether all are the same one.
        """

        layers: Any
        depth: int = eqx.field(static=True)
        shared: bool = eqx.field(static=True)

        def __call__(self, x: Any, *, key: Any = None) -> Any:
            keys = None if key is None else jax.random.split(key, self.depth)
            arrays, functions = eqx.partition(self.layers, eqx.is_array)

            def layer(x: Any, of_layer: Any) -> Any:
                own, key = of_layer
                return eqx.combine(arrays if self.shared else own, functions)(x, key=key), None

            return jax.lax.scan(layer, x, (None if self.shared else arrays, keys), self.depth)[0]

    class Rows(eqx.Module):
        """A layer for each row of a sequence."""

        layer: Any

        def __call__(self, x: Any, *, key: Any = None) -> Any:
            return jax.vmap(self.layer)(x)

    class SelfAttention(eqx.Module):
        """Attention of a sequence `(rows, width)` to itself."""

        attention: Any
        causal: bool = eqx.field(static=True)

        def __call__(self, x: Any, *, key: Any = None) -> Any:
            mask = jnp.tri(len(x), dtype=bool) if self.causal else None
            return self.attention(x, x, x, mask, key=key)

    own = SimpleNamespace(Sum=Sum, Stack=Stack, Rows=Rows, SelfAttention=SelfAttention)
    for name, kind in vars(own).items():  # so that they can be pickled
        kind.__module__, kind.__qualname__ = __name__, name
    return own


def __getattr__(name: str) -> Any:
    if name in ("Sum", "Stack", "Rows", "SelfAttention"):
        return getattr(own_modules(imported("equinox", "from_equinox").nn), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
