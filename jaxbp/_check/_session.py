"""What the checker runs in float64 leaves nothing behind in a session that goes on in float32.

JAX keeps one converted copy of a NumPy array for as long as a program holds it, and hands it out in whatever precision
the next caller works: a function that closes over the array could then run in one precision only.
"""

import gc
import sys
import weakref
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxprs_in_params

from jaxbp._backprop import backprop
from jaxbp._network import Network
from jaxbp._objective import objective
from jaxbp.losses import Loss

_KEPT = 96
_OURS = 3  # references to what only a copy is made of: its own, that of the variable, and that of the count


def in_float64(function: Callable[..., Any], *specifications: Any) -> Callable[..., Any]:
    """What a function of specifications and trees of arrays does with the latter in float64, as NumPy arrays.

    It is one program, and the last few programs are kept: what JAX runs step by step it keeps for ever, by shapes.
    """

    def run(*arguments: Any) -> Any:
        shapes = tuple((np.shape(leaf), np.asarray(leaf).dtype) for leaf in jax.tree.leaves(arguments))
        with jax.enable_x64(True):
            return jax.tree.map(np.asarray, compiled(function, specifications, shapes)(*arguments))

    return run


@lru_cache(maxsize=_KEPT)
def compiled(function: Callable[..., Any], specifications: tuple[Any, ...], shapes: Any) -> Any:
    """The jitted function after its specifications, for arguments of these shapes and dtypes alone."""
    return jax.jit(partial(function, *specifications))


@dataclass(frozen=True, eq=False)
class Session:
    """The session of a caller, beside a program that the checker runs in float64."""

    trace: Callable[[], ClosedJaxpr]
    """Makes the program, anew and from new functions, in the precision of whoever calls it."""

    @classmethod
    def of(cls, net: Network, loss: Loss, params: Any, x: Any, y: Any) -> "Session":
        """The session beside all that a network and a loss consist of."""
        return cls(partial(_program, net, loss, params, x, y))

    @cached_property
    def _is_at_risk(self) -> bool:
        return jax.dtypes.canonicalize_dtype(float) != np.float64 and bool(_copies(self.trace()))

    @contextmanager
    def undisturbed(self) -> Generator[None]:
        """In here float64 works as if JAX had never seen the arrays that the program holds.

        Where JAX holds on to a copy of such an array in another precision, before or after, its caches are cleared, and
        what was compiled is compiled again. A session in float64 has nothing to fear.
        """
        if not self._is_at_risk:
            yield
            return
        _forget(_copies(self.trace()))
        with jax.enable_x64(True):
            program = self.trace()  # lives as long as what runs in here, so that JAX makes no other copies for that
        copies = _copies(program)
        try:
            yield
        finally:
            compiled.cache_clear()
            del program
            _forget(copies)


def _program(net: Network, loss: Loss, params: Any, x: Any, y: Any) -> ClosedJaxpr:
    """All that the network and the loss consist of, each with its own derivative and with that of autodiff."""

    def everything(params: Any, x: Any, y: Any) -> Any:
        return jax.value_and_grad(objective(net, loss))(params, x, y), backprop(net, loss, params, x, y).grads

    given = params, dict(x) if isinstance(x, Mapping) else x, y
    return jax.make_jaxpr(everything)(*jax.tree.map(_in_the_precision_of_now, given))


def _in_the_precision_of_now(leaf: Any) -> Any:
    floating = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
    return jnp.asarray(leaf, float) if floating else leaf


def _copies(program: ClosedJaxpr) -> list[weakref.ref[Any]]:
    """The converted NumPy arrays that a program holds, with the programs that it calls."""
    held = list(program.consts)

    def search(jaxpr: Jaxpr) -> None:
        for step in jaxpr.eqns:
            for inner in jax.tree.leaves(list(step.params.values()), is_leaf=lambda p: isinstance(p, ClosedJaxpr)):
                held.extend(inner.consts if isinstance(inner, ClosedJaxpr) else ())
            for inner in jaxprs_in_params(step.params):
                search(inner)

    search(program.jaxpr)
    return [weakref.ref(value) for value in held if isinstance(value, np.ndarray) and value.ndim and _depends(value)]


def _depends(copy: np.ndarray) -> bool:
    """Whether a copy would be another in the other precision: it has 64 bits, or owns its numbers alone."""
    base = copy.base
    own = isinstance(base, np.ndarray) and base.flags.owndata and sys.getrefcount(base) <= _OURS
    return own or copy.dtype.name.endswith("64")


def _forget(copies: list[weakref.ref[Any]]) -> None:
    """Let go of the converted arrays, by ever stronger means."""
    for let_go in (gc.collect, jax.clear_caches, gc.collect):
        if all(copy() is None for copy in copies):
            return
        let_go()
