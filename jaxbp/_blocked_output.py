"""Where an output of many classes is looked at in blocks, so that a gradient never needs all of its logits at once.

What the blocks make takes the place of what follows from δ of the output: the value, the signal of what it reads, and
the gradients of its weights. The logits and δ themselves are there all the same, for whoever asks for them; under `jit`
XLA does not compute what nobody does.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._forward import Trace
from jaxbp._graph import ONE
from jaxbp._network import Network
from jaxbp._objective import LossScale, head
from jaxbp._parameters import Params
from jaxbp._precision import are_ids
from jaxbp._unit import Unit
from jaxbp.connections import Bias, Dense, Transposed
from jaxbp.losses import Loss


class BlockedOutput(NamedTuple):
    """What the blocks make of an output.

    Attributes:
        losses: L_ip of each row, `(*batch, *rows)`.
        signals: What flows back into each source.
        formed: The gradient of the weight of each edge into the output, by its source.
    """

    losses: Array
    signals: dict[str, Array]
    formed: dict[str, Array]


def output_in_blocks(
    net: Network, loss: Loss, params: Params, trace: Trace, y: Any, scale: LossScale
) -> BlockedOutput | None:
    """What the blocks make of the output and class ids y; None where these are not looked at in blocks."""
    u, unit = net.output, net.units[net.output]
    of_ids = hasattr(y, "ndim") and y.ndim == trace.a[u].ndim - 1 and are_ids(y)
    if loss.block is None or not isinstance(unit, Unit) or unit.shape[-1] <= loss.block or not of_ids:
        return None
    rule = head(net, loss).simplification
    if rule is None or rule.blocked is None or len(unit.connections) > 1:
        return None
    ((s, connection),) = unit.connections.items()
    bias = unit.reads.get(ONE, Bias())
    if type(connection) not in (Dense, Transposed) or not isinstance(bias, Bias) or bias.whole:
        return None
    edges = net.plan.edges[u]
    b = edges[ONE].weight_in(params) if ONE in edges else None
    of_rows = scale.of_rows
    of_rows = jnp.broadcast_to(jnp.expand_dims(of_rows, tuple(range(of_rows.ndim, y.ndim))), y.shape)
    losses, Delta, grad_W, grad_b = rule.blocked(
        trace.h[s], edges[s].weight_in(params), b, y, of_rows, block=loss.block,
        transposed=isinstance(connection, Transposed),
    )  # fmt: skip
    return BlockedOutput(losses, {s: Delta}, {s: grad_W} | ({} if grad_b is None else {ONE: grad_b}))
