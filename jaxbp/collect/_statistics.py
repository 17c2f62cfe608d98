"""What one wants to see of each unit while training: how large its signals are, and how much of it still responds."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._checks import check_number
from jaxbp._names import Name
from jaxbp._precision import widened
from jaxbp.activations import Elementwise
from jaxbp.collect._sweep import Sweep, UnitSignals


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class UnitStatistics:
    """What one unit is like on one batch, all scalars; `(depth,)` in stacks, a number for each layer.

    Attributes:
        Delta_norm: ‖Δ‖ over batch and unit.
        delta_norm: ‖δ‖ over batch and unit.
        dead: The share of the unit's elements whose Φ' is 0 at every example, so that nothing reaches their
            weights: dead ReLUs. None for an activation that is not element-wise.
        saturated: The share of elements and examples at which |Φ'| is nearly 0, as that of sigmoids near 0 or 1. None
            for an activation that is not element-wise.
        finite: Whether all values of `a`, `h`, `Delta` and `delta` are finite, by these names.
    """

    Delta_norm: Array
    delta_norm: Array
    dead: Array | None
    saturated: Array | None
    finite: dict[str, Array]


@partial(jax.tree_util.register_dataclass, data_fields=["units"], meta_fields=["order"])
@dataclass(frozen=True)
class NetworkStatistics:
    """What each unit is like on one batch.

    Attributes:
        units: By unit.
        order: The names of the units in the order of computation.
    """

    units: dict[str, UnitStatistics]
    order: tuple[str, ...]

    @property
    def first_non_finite(self) -> str | None:
        """The name of the first quantity that is not finite, such as `"a.h1"`, or None; the forward phase comes first.

        It looks at values, so it works on the results of a compiled function, and not inside one.
        """
        forward = list(self._in_order(self.order))
        places = [(kind, *place) for place in forward for kind in ("a", "h")]
        places += [(kind, *place) for place in reversed(forward) for kind in ("Delta", "delta")]
        bad = ((kind, u, layer) for kind, u, layer in places if not self.units[u].finite[kind][layer])
        return next((str(Name(kind, tuple(u.split(".")), layer)) for kind, u, layer in bad), None)

    def _in_order(self, names: Iterable[str], layer: tuple[int, ...] = ()) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Each unit with its layer in the order of computation: in a stack layer after layer."""
        for _, of in groupby(names, key=lambda u: u.split(".")[len(layer)]):
            units = list(of)
            inside = [u for u in units if u.count(".") > len(layer)]
            depth = self.units[inside[0]].delta_norm.shape[len(layer)] if inside else 0
            for i in range(depth):
                yield from self._in_order(inside, (*layer, i))
            yield from ((u, layer) for u in units if u not in inside)


@dataclass(frozen=True)
class Statistics:
    flat: float = 0.01

    def __post_init__(self):
        check_number(self.flat, "flat", above=0)

    def __call__(self, sweep: Sweep) -> NetworkStatistics:
        axes = tuple(range(sweep.scale.ndim))

        def statistics(u: str, signals: UnitSignals) -> UnitStatistics:
            activation, *arrays = signals

            def of_layer(*arrays: Array) -> UnitStatistics:
                return _of_unit(UnitSignals(activation, *arrays), axes, self.flat)

            return sweep.in_each_layer(of_layer, u, *arrays)

        units = {u: statistics(u, signals) for u, signals in sweep.units.items()}
        return NetworkStatistics(units, tuple(sweep.units))


def _of_unit(signals: UnitSignals, batch_axes: tuple[int, ...], flat: float) -> UnitStatistics:
    a, h, Delta, delta = signals.a, signals.h, signals.Delta, signals.delta
    dead = saturated = None
    if isinstance(signals.activation, Elementwise):
        slope = widened(signals.activation.derivative(a, signals.activation.value(a)))  # h may have noise in it
        dead = jnp.mean(jnp.all(slope == 0, axis=batch_axes), dtype=slope.dtype)
        saturated = jnp.mean(jnp.abs(slope) < flat, dtype=slope.dtype)
    values = {"a": a, "h": h, "Delta": Delta, "delta": delta}
    finite = {kind: jnp.all(jnp.isfinite(value)) for kind, value in values.items()}
    return UnitStatistics(_norm(Delta), _norm(delta), dead, saturated, finite)


def _norm(signal: Array) -> Array:
    return jnp.sqrt(jnp.sum(widened(signal) ** 2))


def statistics(flat: float = 0.01) -> Statistics:
    """The `NetworkStatistics`: norms of Δ and δ, shares of dead and saturated elements, and what is not finite.

    An element counts as saturated where |Φ'| is below `flat`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([2, 3, 1], hidden=jaxbp.relu, output=jaxbp.linear)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> params["h1"]["bias"] = jnp.array([0.0, 0.0, -100.0])  # no input of this batch reaches the third element
        >>> x, y, wanted = jnp.ones((4, 2)), jnp.ones((4, 1)), {"it": jaxbp.collect.statistics()}
        >>> sweep = jax.jit(lambda params: jaxbp.backprop(net, jaxbp.squared_error, params, x, y, collect=wanted))
        >>> found = sweep(params).collected["it"]
        >>> float(found.units["h1"].dead) >= 0.33
        True
        >>> print(found.first_non_finite)
        None

    Source: the chapter, on vanishing and exploding gradients.
    """
    return Statistics(flat)
