"""The numbers of a network: every quantity of one forward and backward phase, by its name, in float64."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxbp._backprop import backprop
from jaxbp._dropout import without_dropout
from jaxbp._explain._expressions import Index, Leaf, Partial
from jaxbp._explain._within import within
from jaxbp._forward import Trace, apply, batch_of, forward, sources
from jaxbp._function_unit import FunctionUnit
from jaxbp._names import Name, named
from jaxbp._network import Network
from jaxbp._objective import example_losses
from jaxbp._plan import Edge, at
from jaxbp._unit import Node
from jaxbp._unrolled import Unrolled, unrolled
from jaxbp.losses import Loss
from jaxbp.losses._class_ids import complaint_about_ids


@dataclass(frozen=True, eq=False)
class Numbers:
    """A network at one point: parameters, inputs and targets in float64, and all that follows from them.

    The network is the one that is shown: without dropout, with all pull-backs of functions by autodiff, and with its
    stacks written out. Quantities are called as in the network with stacks.
    """

    flat: Unrolled
    loss: Loss
    params: dict[str, dict[str, np.ndarray]]
    x: dict[str, np.ndarray]
    y: np.ndarray
    learning_rate: float | None

    @classmethod
    def of(cls, flat: Unrolled, loss: Loss, params: Any, x: Any, y: Any, learning_rate: float | None) -> "Numbers":
        """The numbers for arguments as they are given to `backprop`."""
        net = flat.net
        wide = flat.params(flat.stacked.plan.tree(lambda place: _widened(at(place, params))))
        with jax.enable_x64(True):
            o = jax.eval_shape(lambda params: apply(net, params, x), wide)  # refuses what does not fit
            targets = loss.targets(jnp.asarray(np.zeros(o.shape)), y)
        shape = net.shapes[net.output]
        if y.shape != targets.shape:
            complaint = loss.complaint_about(np.reshape(y, (-1, *shape[:-1])), shape)
            if complaint is not None:
                raise ValueError(f"y: {complaint}")
        named = x if isinstance(x, Mapping) else dict.fromkeys(net.inputs, x)
        for name, size in net.ids.items():
            if complaint := complaint_about_ids(np.asarray(named[name]), size, "id"):
                raise ValueError(f"{name}: {complaint}")
        return cls(
            flat,
            loss,
            wide,
            {name: np.asarray(named[name]) if name in net.ids else _widened(named[name]) for name in net.inputs},
            _widened(y) if jnp.issubdtype(y.dtype, jnp.floating) else np.asarray(targets),
            None if learning_rate is None else float(_widened(learning_rate)),
        )

    @property
    def net(self) -> Network:
        """The network that is shown."""
        return self.flat.net

    @cached_property
    def arrays(self) -> dict[Name, np.ndarray]:
        """Every quantity by name: those of `Backprop.quantities`, the weights, what is given, and the updates.

        Of what is in a stack there are the whole, with the layers as the first axis, and what each layer has.
        """
        if self.flat.is_original:
            return self.written_out
        arrays: dict[Name, np.ndarray] = {}
        for name, array in self.written_out.items():
            named = self.flat.original(name)
            if named.index:
                depths = [depth for _, depth in self.flat.stacks_around(named)]
                whole = arrays.setdefault(named.whole, np.empty((*depths, *array.shape), array.dtype))
                whole[named.index] = array
            arrays[named] = array
        return arrays

    @cached_property
    def written_out(self) -> dict[Name, np.ndarray]:
        """The same by the names of the network written out."""
        with jax.enable_x64(True):
            params = jax.tree.map(jnp.asarray, self.params)
            quantities, losses = _swept(self.net, self.loss, params, self.x, self.y)
            arrays = {Name.parse(name): np.asarray(array) for name, array in quantities.items()}
            if prod(self.batch) > 1:
                arrays[Name("losses")] = np.asarray(losses)
        for u, unit in self.net.units.items():
            for stages in within(u, unit, self.net.shapes).values():
                arrays |= {Name(kind, (u,)): array for kind, array in stages.arrays(arrays).items()}
        arrays[Name("y")] = self.y
        for u, weights in self.params.items():
            arrays |= named(weights, "W", u)
            if self.learning_rate is not None:
                arrays |= {
                    Name("updated", (u, s)): W - self.learning_rate * arrays[Name("grad", (u, s))]
                    for s, W in weights.items()
                }
        if self.learning_rate is not None:
            arrays[Name("learning_rate")] = np.asarray(self.learning_rate)
        return arrays

    @property
    def batch(self) -> tuple[int, ...]:
        """The batch shape."""
        return batch_of(self.net, self.x)

    def __call__(self, leaf: Leaf) -> float:
        """The number of one quantity."""
        return self._partial(leaf) if isinstance(leaf, Partial) else float(self.arrays[leaf.whole][leaf.index])

    @cached_property
    def column(self) -> Callable[[str, str, Index, Index], np.ndarray]:
        """∂a_u/∂h_s[i] of a function unit, shaped like the unit, from u, s, an example and i."""
        return cache(self._column)

    def _column(self, u: str, s: str, example: Index, i: Index) -> np.ndarray:
        unit = self.net.units[u]
        with jax.enable_x64(True):
            h = [jnp.asarray(self.written_out[Name("h", (t,))][example]) for t in unit.reads]
            # a whole Jacobian of a large unit would not fit into memory
            along = [np.zeros(array.shape) for array in h]
            along[list(unit.reads).index(s)][i] = 1
            return np.asarray(_along(unit, h, along))

    @cached_property
    def row(self) -> Callable[[str, Index], np.ndarray]:
        """∂h_u[i]/∂a_u, shaped like a_u, from u and i."""
        return cache(self._row)

    def _row(self, u: str, i: Index) -> np.ndarray:
        a, h = self.trace.a[u], self.trace.h[u]
        with jax.enable_x64(True):
            # between neighbours the rules of the sweep are the derivative; Jᵀ times a unit vector is a row of J
            return np.asarray(self.net.units[u].activation.pullback(a, h, _one_at(i, h.shape)))

    @cached_property
    def trace(self) -> Trace:
        """What the forward phase leaves behind, of the network written out."""
        traced = ("a", self.net.units), ("h", self.net.shapes)
        with jax.enable_x64(True):
            return Trace(*({n: jnp.asarray(self.written_out[Name(k, (n,))]) for n in names} for k, names in traced))

    def elsewhere(self, seed: int) -> "Numbers":
        """The same network at another point: other weights and inputs, and the targets of other outputs.

        An input of nothing but ones stays, it is the constant unit behind a bias; and so do ids, which say what is
        connected.
        """
        rng = np.random.default_rng(seed)

        def moved(array: np.ndarray, fan_in: int = 1) -> np.ndarray:
            # signs flip, so that each piece of a piecewise linear activation is seen; wide layers must not saturate
            return rng.choice([-1, 1], array.shape) * array + rng.normal(0, fan_in**-0.5, array.shape)

        return Numbers(
            self.flat,
            self.loss,
            jax.tree.map(lambda W: moved(W, prod(W.shape[:-1])), self.params),
            {name: x if name in self.net.ids or np.all(x == 1) else moved(x) for name, x in self.x.items()},
            self._other_targets(),
            self.learning_rate,
        )

    def _other_targets(self) -> np.ndarray:
        """Targets that differ and that the loss takes: those of other outputs, or the opposite; else the same."""
        for other in (np.roll(self.y, 1, axis=-1), 1 - self.y, -self.y):
            refused = self.loss.complaint is not None and self.loss.complaint(other)
            if not np.array_equal(other, self.y) and not refused:
                return other
        return self.y

    def _partial(self, leaf: Partial) -> float:
        leaf = Partial(self.flat.written_out(leaf.of), self.flat.written_out(leaf.by))
        kinds, u, of_index = (leaf.of.kind, leaf.by.kind), leaf.of.unit, leaf.of.index
        s, by_index = leaf.by.path[0], leaf.by.index
        edge = self.net.plan.edges.get(u, {}).get(s) if kinds == ("a", "h") else None
        if edge is not None and edge.connection is None:
            split = len(self.batch)
            column = self.column(u, s, by_index[:split], by_index[split:])
            return float(column[of_index[split:]]) if of_index[:split] == by_index[:split] else 0.0
        if kinds == ("h", "a") and u == s:
            return float(self.row(u, of_index)[by_index])
        with jax.enable_x64(True):
            trace, one = self.trace, _one_at(of_index, self.written_out[leaf.of.whole].shape)
            if edge is not None:
                W = jax.tree.map(jnp.asarray, edge.weight_in(self.params))
                return float(edge.linear.pull_back(W, trace.h[s], one)[by_index])
            edges = self.edges_by(u, leaf.by.path) if kinds == ("a", "W") else []
            if edges:
                read = sources(self.net, trace.h, self.batch)
                weight = jnp.asarray(edges[0].weight_in(self.params))
                return sum(float(edge.linear.contract(weight, read(edge), one)[by_index]) for edge in edges)
            return self._total(leaf, trace)

    def edges_by(self, u: str, weight: tuple[str, ...]) -> list[Edge]:
        """The edges into a unit that use a weight, given by group and name: one, unless it is shared."""
        return [edge for edge in self.net.plan.edges.get(u, {}).values() if edge.weight == weight]

    def _total(self, leaf: Partial, trace: Trace) -> float:
        of = leaf.of.kind, leaf.of.unit
        by_params, by_offsets = _gradient_of_element(self.net, of, leaf.of.index, self.params, self.x, trace)
        found = named({"W": by_params, "a": by_offsets.a, "h": by_offsets.h})
        return float(found[leaf.by.whole][leaf.by.index])


def as_shown(net: Network) -> Unrolled:
    """The network with its stacks written out, without noise, and without pull-backs by hand: these may be wrong."""
    flat = unrolled(without_dropout(net))
    units = {u: replace(v, rule=None) if isinstance(v, FunctionUnit) else v for u, v in flat.net.units.items()}
    return replace(flat, net=Network(net.inputs, units))


# One program for all quantities, and none for each operation.
@partial(jax.jit, static_argnums=(0, 1))
def _swept(net: Network, loss: Loss, params: Any, x: dict[str, Array], y: Array) -> tuple[dict[str, Array], Array]:
    """What there is in one forward and backward phase, by name, and the loss of each example."""
    back = backprop(net, loss, params, x, y)
    return back.quantities(), example_losses(net, loss, back.trace, y)


@partial(jax.jit, static_argnums=(0, 1))
def _gradient_of_element(net: Network, of: tuple[str, str], index: Index, params: Any, x: Any, trace: Trace) -> Any:
    """By autodiff, with respect to the parameters and to all that may be added on the way."""
    kind, u = of

    def element(params: Any, offsets: Trace) -> Array:
        return getattr(forward(net, params, x, offsets=offsets), kind)[u][index]

    return jax.grad(element, (0, 1))(params, trace.zeros())


def _one_at(index: Index, shape: Index) -> Array:
    """Zeros but for one element."""
    array = np.zeros(shape)
    array[index] = 1
    return jnp.asarray(array)


@partial(jax.jit, static_argnums=0)
def applied(unit: Node, h: list[Array]) -> Array:
    """What a function unit makes of its sources."""
    return unit.pre_activation((), h, 0)


@partial(jax.jit, static_argnums=0)
def _along(unit: Node, h: list[Array], along: list[np.ndarray]) -> Array:
    """The derivative of a along a direction of its sources."""
    return jax.jvp(lambda h: unit.pre_activation((), h, 0), (h,), (along,))[1]


def _widened(array: Any) -> np.ndarray:
    """An array in float64, where the 0.2 that somebody wrote is 0.2 and not the nearest number of a narrower dtype."""
    array = np.asarray(array)
    if array.dtype == np.float64:
        return array
    return np.array([float(str(number)) for number in array.flat]).reshape(array.shape)
