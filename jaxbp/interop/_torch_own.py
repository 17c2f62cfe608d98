"""Modules of torch of our own, of kinds that it has none of.

They are made when they are asked for, because the library is only then there.
"""

from functools import cache
from types import SimpleNamespace
from typing import Any

from jaxbp.interop._reading import imported


@cache
def own_modules(torch: Any) -> Any:
    """`Sum`, `Stack` and `SelfAttention` as classes of torch, which is only there when it is asked for."""
    nn = torch.nn

    class Sum(nn.Module):
        """The sum of what each branch makes of the input; an empty one is the input itself."""

        def __init__(self, *branches: Any):
            super().__init__()
            self.branches = nn.ModuleList(branches)

        def forward(self, x: Any) -> Any:
            first, *others = (branch(x) for branch in self.branches)
            return sum(others, start=first)

    class Stack(nn.Module):
        """Layers alike, one after the other; all of them may be the same one."""

        def __init__(self, *layers: Any):
            super().__init__()
            self.layers = nn.ModuleList(layers)

        def forward(self, x: Any) -> Any:
            for layer in self.layers:
                x = layer(x)
            return x

    class SelfAttention(nn.Module):
        """Attention of a sequence `(batch, rows, width)` to itself."""

        def __init__(self, attention: Any, causal: bool):
            super().__init__()
            self.attention, self.causal = attention, causal

        def forward(self, x: Any) -> Any:
            rows = x.shape[-2]
            mask = torch.ones(rows, rows, dtype=torch.bool, device=x.device).triu(1) if self.causal else None
            return self.attention(x, x, x, attn_mask=mask, need_weights=False)[0]

    for kind in (Sum, Stack, SelfAttention):  # so that they can be pickled
        kind.__module__, kind.__qualname__ = __name__, kind.__name__
    return SimpleNamespace(Sum=Sum, Stack=Stack, SelfAttention=SelfAttention)


def __getattr__(name: str) -> Any:
    if name in ("Sum", "Stack", "SelfAttention"):
        return getattr(own_modules(imported("torch", "from_torch")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
