"""The right quantities of a network on a batch: both phases in float64, by autodiff, which uses no rule of ours."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxbp._check._session import in_float64
from jaxbp._checks import check_real
from jaxbp._forward import batch_of, check_inputs, forward
from jaxbp._names import Name, named
from jaxbp._network import Network
from jaxbp._objective import objective
from jaxbp._parameters import check_params
from jaxbp._plan import Edge, Place, Plan, at
from jaxbp.activations import Activation, Elementwise, softmax
from jaxbp.connections import Shape
from jaxbp.losses import Loss
from jaxbp.losses._class_ids import complaint_about_ids


@dataclass(frozen=True, eq=False)
class Facts:
    """A network, a batch and every right quantity; in each array the batch is one axis, whatever `batch` it came in."""

    net: Network
    loss: Loss
    params: dict[str, dict[str, np.ndarray]]
    a: dict[str, np.ndarray]
    h: dict[str, np.ndarray]
    y: np.ndarray
    right: dict[Name, np.ndarray]
    batch: tuple[int, ...]
    handed: Mapping[Name, np.ndarray] = field(default_factory=dict)
    """What was handed in of the backward quantities."""

    @classmethod
    def of(cls, net: Network, loss: Loss, params: Any, x: Any, y: Any) -> "Facts":
        """The facts for the arguments of `backprop`, which must fit each other; targets must be finite."""
        check_params(net, params)
        named, shape = check_inputs(net, x), net.shapes[net.output]
        batch = batch_of(net, named)
        check_real(y, "y")
        wide = {u: {s: _widened(params[u][s]) for s in weights} for u, weights in net.weight_shapes.items()}
        for s, h in named.items():
            if complaint := complaint_about_ids(np.asarray(h), net.ids[s], "id") if s in net.ids else None:
                raise ValueError(f"{s}: {complaint}")
        inputs = {
            s: (np.asarray(h) if s in net.ids else _widened(h)).reshape(-1, *net.shapes[s]) for s, h in named.items()
        }
        targets = in_float64(_targets, loss, (*batch, *shape))(y)
        if not np.all(np.isfinite(targets)):
            rows = np.reshape(y, (-1, shape[-1]) if np.shape(y) == targets.shape else -1)
            raise ValueError(f"y: {loss.complaint_about(rows, shape[-1:])}")
        right = in_float64(_by_autodiff, net, loss)(wide, inputs, targets.reshape(-1, *shape))
        return cls.from_right(net, loss, wide, right, batch)

    @classmethod
    def from_right(
        cls, net: Network, loss: Loss, params: Any, right: dict[str, Any], batch: tuple[int, ...]
    ) -> "Facts":
        """The facts, from the quantities by kind and the targets as `y` among them."""
        return cls(net, loss, params, right["a"], right["h"], right.pop("y"), named(right), batch)

    def elsewhere(self, seed: int, y: np.ndarray, examples: int) -> "Facts":
        """The same network and parameters on normally distributed inputs."""
        rng = np.random.default_rng(seed)
        net = self.net
        inputs: dict[str, np.ndarray] = {s: rng.normal(size=(examples, *net.shapes[s])) for s in net.inputs}
        inputs |= {s: rng.integers(0, size, (examples, *net.shapes[s])) for s, size in net.ids.items()}
        right = in_float64(_by_autodiff, self.net, self.loss)(self.params, inputs, y)
        return Facts.from_right(self.net, self.loss, self.params, right, (examples,))

    @property
    def examples(self) -> int:
        """The number of examples, N."""
        return prod(self.batch)

    @property
    def plan(self) -> Plan:
        """The plan of the network."""
        return self.net.plan

    def edge(self, u: str, s: str) -> Edge:
        """The edge from s to u."""
        return self.plan.edges[u][s]

    def weight(self, u: str, s: str) -> Any:
        """The weight by which u reads s, wherever it lies; None where there is none."""
        return self.edge(u, s).weight_in(self.params)

    def weight_at(self, place: Place) -> np.ndarray:
        """The weight at a place."""
        return at(place, self.params)

    def alike(self, grad: Name) -> dict[Name, np.ndarray]:
        """The other right gradients of the same shape."""
        return self._alike[grad]

    @cached_property
    def _alike(self) -> dict[Name, dict[Name, np.ndarray]]:
        grads = {name: array for name, array in self.right.items() if name.kind == "grad"}
        return {
            name: {other: array for other, array in grads.items() if other != name and array.shape == of.shape}
            for name, of in grads.items()
        }

    @cached_property
    def slopes(self) -> dict[str, np.ndarray]:
        """Φ'(a) of each element-wise unit."""
        return {
            u: slope(unit.activation, self.a[u], self.h[u])
            for u, unit in self.net.units.items()
            if isinstance(unit.activation, Elementwise)
        }

    @cached_property
    def diagonals(self) -> dict[str, np.ndarray]:
        """The diagonal ∂h_i/∂a_i of the Jacobian of each unit that is not element-wise."""
        return {
            u: h * (1 - h) if unit.activation.phi == softmax.phi else in_float64(_diagonal, unit.activation)(a, h)
            for u, unit in self.net.units.items()
            if not isinstance(unit.activation, Elementwise)
            for a, h in [(self.a[u], self.h[u])]
        }


def _diagonal(activation: Activation, a: Array, h: Array) -> Array:
    # Jᵀ times a unit vector is a row of J
    rows = jax.vmap(lambda e: activation.pullback(a, h, jnp.broadcast_to(e, h.shape)))(jnp.eye(h.shape[-1]))
    return jnp.einsum("i...i->...i", rows)


def slope(activation: Elementwise, a: np.ndarray, h: np.ndarray | None = None) -> np.ndarray:
    """Φ'(a) as numbers."""
    return in_float64(activation.derivative)(a, phi(activation, a) if h is None else h).astype(np.float64)


def phi(activation: Activation, a: np.ndarray) -> np.ndarray:
    """Φ(a) as numbers."""
    return in_float64(activation.value)(a)


def _widened(array: Any) -> np.ndarray:
    return np.asarray(array).astype(np.float64)


def _targets(loss: Loss, shape: Shape, y: Any) -> Array:
    return loss.targets(jnp.zeros(shape), y)


def _by_autodiff(net: Network, loss: Loss, params: Any, x: dict[str, Array], y: Array) -> dict[str, Any]:
    trace = forward(net, params, x)
    of_both = partial(objective(net, loss), x=x, y=y)
    of_all = jax.value_and_grad(lambda params, offsets: of_both(params, offsets=offsets), argnums=(0, 1))
    value, (grads, offsets) = of_all(params, trace.zeros())
    # a simplified loss is computed from the logits, past the output: ∂L/∂o is that of the loss itself
    at_output = jax.grad(lambda o: jnp.sum(loss.value(o, y)) / o.shape[0])(trace.h[net.output])
    backward = {"Delta": {**offsets.h, net.output: at_output}, "delta": offsets.a, "grad": grads}
    return {"loss": value, "y": y, "a": trace.a, "h": trace.h, **backward}


def central_difference(facts: Facts, grad: Name, direction: np.ndarray, step: float = 1e-5) -> float:
    """The derivative of the loss along a direction of one weight, from two values."""
    u, s = grad.path
    inputs = {s: facts.h[s] for s in facts.net.inputs}

    def value(sign: int) -> float:
        moved = {**facts.params[u], s: facts.params[u][s] + sign * step * direction}
        return float(in_float64(_value, facts.net, facts.loss)({**facts.params, u: moved}, inputs, facts.y))

    return (value(1) - value(-1)) / (2 * step)


def _value(net: Network, loss: Loss, params: Any, x: Any, y: Any) -> Array:
    return objective(net, loss)(params, x, y)


@dataclass(frozen=True, eq=False)
class Corner:
    """Which elements of a unit sit on a corner of its activation, and the slopes below and above each element."""

    mask: np.ndarray
    left: np.ndarray
    right: np.ndarray


def corners(facts: Facts, epsilon: float) -> dict[str, Corner]:
    """Where units sit on a corner of their activation, up to roundings."""
    found: dict[str, Corner] = {}
    for u, unit in facts.net.units.items():
        if not isinstance(unit.activation, Elementwise):
            continue
        a = facts.a[u]
        step = float(np.clip(8 * epsilon * np.max(np.abs(a)), 1e-7, 1e-5))
        far_below, below, above, far_above = (phi(unit.activation, a + k * step) for k in (-2, -1, 1, 2))
        left, right = (below - far_below) / step, (far_above - above) / step
        on_corner = np.abs(left - right) > 1e-3
        if on_corner.any():
            found[u] = Corner(on_corner, left, right)
    return found
