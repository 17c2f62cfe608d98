"""Values that are not finite: whether there are any, and which came first."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxbp._dropout import without_dropout
from jaxbp._forward import forward
from jaxbp._network import Network
from jaxbp._objective import objective
from jaxbp._parameters import Params
from jaxbp.losses import Loss


class DivergedError(FloatingPointError):
    """Training met a value that is not finite.

    Attributes:
        epoch: The epoch, counted from 1.
        step: The step within the epoch, counted from 1.
        where: The first unit, in the order of computation, whose value was not finite; `"loss"` if all units were;
            or the parameter that the last update left not finite, such as `"params.h1.x"`.
    """

    def __init__(self, epoch: int, step: int, where: str):
        self.epoch, self.step, self.where = epoch, step, where
        super().__init__(
            f"training diverged in epoch {epoch} at step {step}: {where} is the first that is not finite; "
            "a smaller learning rate, gradient clipping or scaled inputs may help"
        )


@jax.jit
def all_finite(tree: Any) -> Array:
    """Whether every value of a tree is finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def finite_units(net: Network, loss: Loss, params: Params, x: Any, y: Array, *, weights: Any = None) -> Array:
    """Whether the values of each unit, in order of computation, and then the loss are finite."""
    trace = forward(net, params, x)
    units = [all_finite((trace.a[u], trace.h[u])) for u in net.order]
    return jnp.stack([*units, jnp.isfinite(objective(without_dropout(net), loss)(params, x, y, weights))])


def first_bad(net: Network, finite: np.ndarray, names: list[str], after: Params) -> tuple[int, str]:
    """The first step, counted from 0, at which something was not finite, and its name.

    Args:
        net: The network.
        finite: What was finite in each step, `(steps, names)`.
        names: The names of it, in the order of computation.
        after: The parameters after the last step, in which it shows if nowhere before.
    """
    bad = np.argwhere(~finite)
    if bad.size:
        row, column = bad[0]
        return int(row), names[column]
    for group in (*net.order, *(group for group in net.plan.groups if group not in net.units)):
        for path, W in jax.tree.leaves_with_path(after[group]):
            if not np.all(np.isfinite(np.asarray(W))):
                return len(finite) - 1, ".".join(("params", group, *(key.key for key in path)))
    return len(finite) - 1, "loss"
