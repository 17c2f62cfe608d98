"""What is true of a network on a batch: both phases in float64, by autodiff, which uses none of our backward rules."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxbp._activations import Activation, Elementwise, softmax
from jaxbp._check._session import compiled
from jaxbp._forward import batch_shape, forward
from jaxbp._losses import Loss
from jaxbp._names import Name, named
from jaxbp._network import Network
from jaxbp._objective import objective
from jaxbp._parameters import check_params, places, uses, weights_of


@dataclass(frozen=True, eq=False)
class Facts:
    """A network, a batch and all right quantities; in every array the batch is one axis, also where it was none.

    Attributes:
        net: The network.
        loss: The loss of one example.
        params: The parameters, by group.
        a: The pre-activations by unit, `(N, *shape)`.
        h: The post-activations by unit and input, likewise.
        y: The targets, of the output's shape.
        right: Every quantity, as autodiff has it.
        batch: The batch shape as it came.
    """

    net: Network
    loss: Loss
    params: dict[str, dict[str, np.ndarray]]
    a: dict[str, np.ndarray]
    h: dict[str, np.ndarray]
    y: np.ndarray
    right: dict[Name, np.ndarray]
    batch: tuple[int, ...]

    @classmethod
    def of(cls, net: Network, loss: Loss, params: Any, x: Any, y: Any) -> "Facts":
        """The facts for the arguments of `backprop`.

        Raises:
            TypeError, ValueError: Arguments that do not fit, or targets that are not finite.
        """
        check_params(net, params)
        with jax.enable_x64(True):
            wide = {
                u: {s: jnp.asarray(params[u][s], float) for s in net.weight_shapes[u]} for u in net.plan.weight_shapes
            }
            trace = forward(net, wide, x)
            batch = batch_shape(net, trace)
            given, y = y, loss.targets(trace.h[net.output].astype(float), y)
            if not np.all(np.isfinite(y)):
                rows = np.reshape(given, (-1, y.shape[-1]) if np.shape(given) == y.shape else -1)
                raise ValueError(f"y: {loss.complaint_about(rows, y.shape[-1:])}")
            inputs = {s: trace.h[s].astype(float).reshape(-1, *net.shapes[s]) for s in net.inputs}
            right = compiled(_by_autodiff, net, loss)(wide, inputs, y.reshape(-1, *net.shapes[net.output]))
        # in the order of the specification: jax sorts the keys of a dict
        ours = {u: {s: np.asarray(W) for s, W in weights.items()} for u, weights in wide.items()}
        return cls.from_right(net, loss, ours, right, batch)

    @classmethod
    def from_right(
        cls, net: Network, loss: Loss, params: Any, right: dict[str, Any], batch: tuple[int, ...]
    ) -> "Facts":
        """The facts, from the quantities by kind and the targets as `y` among them."""
        right = jax.tree.map(np.asarray, right)
        a = {u: right["a"][u] for u in net.units}
        h = {s: right["h"][s] for s in net.shapes}
        return cls(net, loss, params, a, h, right.pop("y"), named(right), batch)

    def elsewhere(self, seed: int, y: np.ndarray, examples: int) -> "Facts":
        """The same network and parameters on normally distributed inputs."""
        rng = np.random.default_rng(seed)
        inputs = {s: rng.normal(size=(examples, *self.net.shapes[s])) for s in self.net.inputs}
        with jax.enable_x64(True):
            right = compiled(_by_autodiff, self.net, self.loss)(self.params, inputs, y)
        return Facts.from_right(self.net, self.loss, self.params, right, (examples,))

    @property
    def examples(self) -> int:
        """The number of examples, N."""
        return prod(self.batch)

    @cached_property
    def readers(self) -> dict[str, tuple[str, ...]]:
        """The units that read each unit or input, in backward order."""
        order = tuple(reversed(self.net.order))
        return {s: tuple(u for u in order if s in self.net.units[u].reads) for s in self.net.shapes}

    @cached_property
    def places(self) -> dict[tuple[str, str], tuple[str, str]]:
        """By unit and source of each connection that has a weight, the group and the name under which it is kept."""
        return places(self.net)

    @cached_property
    def sources(self) -> dict[str, tuple[str, ...]]:
        """The sources that each unit reads by a weight, that of its bias among them."""
        return {u: tuple(s for v, s in self.places if v == u) for u in self.net.units}

    @cached_property
    def weights(self) -> dict[str, dict[str, np.ndarray]]:
        """The weights that lead into each unit, by source, wherever they are kept."""
        return {u: weights_of(self.net, self.params, u) for u in self.net.units}

    @cached_property
    def due(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """The weights, by group and name, whose gradients are complete with δ of each unit.

        A weight that several connections share has to wait for the last of them.
        """
        at: dict[str, list[tuple[str, str]]] = {u: [] for u in self.net.order}
        for place in dict.fromkeys(self.places.values()):
            at[min((u for u, _ in uses(self.net, *place)), key=self.net.order.index)].append(place)
        return {u: tuple(weights) for u, weights in at.items()}

    @cached_property
    def slopes(self) -> dict[str, np.ndarray]:
        """Φ'(a) of each element-wise unit."""
        units = self.net.units.items()
        return {
            u: slope(unit.activation, self.a[u], self.h[u])
            for u, unit in units
            if isinstance(unit.activation, Elementwise)
        }

    @cached_property
    def diagonals(self) -> dict[str, np.ndarray]:
        """The diagonal ∂h_i/∂a_i of the Jacobian of each unit that is not element-wise."""
        units = self.net.units.items()
        return {
            u: _diagonal(unit.activation, self.a[u], self.h[u])
            for u, unit in units
            if not isinstance(unit.activation, Elementwise)
        }


def _diagonal(activation: Activation, a: np.ndarray, h: np.ndarray) -> np.ndarray:
    if activation.phi == softmax.phi:
        return h * (1 - h)
    with jax.enable_x64(True):
        # Jᵀ times a unit vector is a row of J
        unit_vectors = jnp.eye(h.shape[-1])
        rows = [activation.pullback(jnp.asarray(a), jnp.asarray(h), jnp.broadcast_to(e, h.shape)) for e in unit_vectors]
        return np.stack([np.asarray(row)[..., i] for i, row in enumerate(rows)], axis=-1)


def slope(activation: Elementwise, a: np.ndarray, h: np.ndarray | None = None) -> np.ndarray:
    """Φ'(a) as numbers."""
    with jax.enable_x64(True):
        at = jnp.asarray(a)
        value = activation.value(at) if h is None else jnp.asarray(h)
        return np.asarray(activation.derivative(at, value)).astype(float)


def _by_autodiff(net: Network, loss: Loss) -> Callable[..., dict[str, Any]]:
    def quantities(params: Any, x: dict[str, Array], y: Array) -> dict[str, Any]:
        trace = forward(net, params, x)
        zeros = jax.tree.map(jnp.zeros_like, trace)
        of_both = partial(objective(net, loss), x=x, y=y)
        of_all = jax.value_and_grad(lambda params, offsets: of_both(params, offsets=offsets), argnums=(0, 1))
        value, (grads, offsets) = of_all(params, zeros)
        # a simplified loss is computed from the logits, past the output: ∂L/∂o is that of the loss itself
        o = trace.h[net.output]
        at_output = jax.grad(lambda o: jnp.sum(loss.value(o, y)) / o.shape[0])(o)
        Delta = {**offsets.h, net.output: at_output}
        backward = {"Delta": Delta, "delta": offsets.a, "grad": grads}
        return {"loss": value, "y": y, "a": trace.a, "h": trace.h, **backward}

    return quantities


def central_difference(facts: Facts, grad: Name, direction: np.ndarray, step: float = 1e-5) -> float:
    """The derivative of the loss along a direction of one weight, from two values."""
    u, s = grad.path
    inputs = {s: facts.h[s] for s in facts.net.inputs}

    def value(sign: int) -> float:
        moved = {**facts.params[u], s: facts.params[u][s] + sign * step * direction}
        with jax.enable_x64(True):
            return float(compiled(_value, facts.net, facts.loss)({**facts.params, u: moved}, inputs, facts.y))

    return (value(1) - value(-1)) / (2 * step)


def _value(net: Network, loss: Loss) -> Callable[..., Array]:
    return lambda params, x, y: objective(net, loss)(params, x, y)


@dataclass(frozen=True, eq=False)
class Corner:
    """Where a unit sits on a corner of its activation.

    Attributes:
        mask: Which of its elements do.
        left: The slope on the lower side of each element.
        right: The slope on its upper side.
    """

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
        with jax.enable_x64(True):
            far_below, below, above, far_above = (
                np.asarray(unit.activation.value(jnp.asarray(a + k * step))) for k in (-2, -1, 1, 2)
            )
        left, right = (below - far_below) / step, (far_above - above) / step
        on_corner = np.abs(left - right) > 1e-3
        if on_corner.any():
            found[u] = Corner(on_corner, left, right)
    return found
