"""Modules of flax's nnx of our own, of kinds that it has none of.

They are made when they are asked for, because the library is only then there.
"""

from functools import cache
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp

from jaxbp.interop._reading import imported


@cache
def own_modules(nnx: Any) -> Any:
    """`Sum`, `Stack` and causal `SelfAttention` as classes of nnx, which is only there when it is asked for."""

    class Sum(nnx.Module):
        """The sum of what each branch makes of the input; an empty one is the input itself."""

        def __init__(self, branches: Any):
            self.branches = nnx.List(branches)

        def __call__(self, x: Any) -> Any:
            first, *others = (branch(x) for branch in self.branches)
            return sum(others, start=first)

    class Stack(nnx.Module):
        """One layer after the other, by a scan.

        Attributes:
            layers: The layer, all of whose arrays have the layers as their first axis, as `nnx.vmap` makes it, unless
                they are shared.
            depth: How many layers there are.
            shared: Whether all are the same one.
        """

        def __init__(self, layers: Any, depth: int, shared: bool):
            self.layers, self.depth, self.shared = layers, depth, shared

        def __call__(self, x: Any) -> Any:
            axes = nnx.StateAxes({nnx.RngState: nnx.Carry, ...: None}) if self.shared else 0

            @nnx.scan(length=self.depth, in_axes=(nnx.Carry, axes), out_axes=nnx.Carry)
            def forward(x: Any, layer: Any) -> Any:
                return layer(x)

            return forward(x, self.layers)

    class SelfAttention(nnx.Module):
        """Attention of a sequence to itself, in which no row sees a later one."""

        def __init__(self, attention: Any):
            self.attention = attention

        def __call__(self, x: Any) -> Any:
            rows = x.shape[-2]
            return self.attention(x, mask=jnp.tri(rows, dtype=bool)[(None,) * (x.ndim - 1)])

    for kind in (Sum, Stack, SelfAttention):  # so that they can be pickled
        kind.__module__, kind.__qualname__ = __name__, kind.__name__
    return SimpleNamespace(Sum=Sum, Stack=Stack, SelfAttention=SelfAttention)


def __getattr__(name: str) -> Any:
    if name in ("Sum", "Stack", "SelfAttention"):
        return getattr(own_modules(imported("flax.nnx", "from_flax")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
