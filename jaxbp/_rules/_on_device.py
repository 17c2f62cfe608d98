"""A rule on a device in the dtypes that came, beside autodiff of its function in float64 on the host."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from jaxbp._rules._applied import Applied, Rule
from jaxbp._rules._found import Use


@contextmanager
def at_device(device: Any) -> Generator[None]:
    """In here JAX runs on a device, which rounds products as its format says: some round more unless told."""
    with jax.default_device(device), jax.default_matmul_precision("highest"):
        yield


def host() -> Any:
    """The device of the host."""
    return jax.local_devices(backend="cpu")[0]


@contextmanager
def at_host() -> Generator[None]:
    """In here JAX runs in float64 on the host."""
    with jax.enable_x64(True), jax.default_device(host()):
        yield


@dataclass(frozen=True, eq=False, kw_only=True)
class RuleOnDevice(Rule):
    """A rule on a device, and the same rule in float64 on the host, where its function is differentiated."""

    twin: Rule

    @property
    def _both(self) -> list[ClosedJaxpr]:
        return [self._mine]

    def applied(self, operands: Sequence[Any]) -> Applied:
        """What the rule gives on the device, and autodiff on the host."""
        here = super().applied(operands)
        step = self.twin.use.step
        cotangents = [self._on_host(each, [step.outvars[k] for k in self.results]) for each in self.drawn_cotangents()]
        with at_host():
            right = self.twin.of_function(self._on_host(operands, step.invars), cotangents)
        return replace(here, outputs=right[0], expected=right[1]) if right else here

    def slopes(self, operands: Sequence[Any], argument: int, direction: np.ndarray, step: float) -> np.ndarray:
        """Those of the function on the host."""
        with at_host():
            return self.twin.slopes(self._on_host(operands, self.twin.use.step.invars), argument, direction, step)

    def has_values(self, operands: Sequence[Any]) -> bool:
        """Whether the function is finite there on the host."""
        with at_host():
            return self.twin.has_values(self._on_host(operands, self.twin.use.step.invars))

    def _on_host(self, arrays: Sequence[Any], like: Sequence[Any]) -> list[Any]:
        """The same numbers on the host, in the dtypes of some variables of the twin."""

        def of(array: Any, variable: Any) -> Any:
            if jnp.issubdtype(array.dtype, jax.dtypes.extended):  # a key, say
                return jax.device_put(array, host())
            return jnp.asarray(np.asarray(array).astype(variable.aval.dtype))

        with at_host():
            return [of(*pair) for pair in zip(arrays, like, strict=True)]


def twin_of(use: Use, others: Sequence[Use]) -> Use | None:
    """The same use in the program in float64, where that has the same steps."""
    same = [other for other in others if other.path == use.path and not use.over and not other.over]
    shapes = [
        [getattr(v.aval, "shape", None) for v in (*each.step.invars, *each.step.outvars)] for each in (use, *same)
    ]
    return same[0] if same and shapes[0] == shapes[1] else None
