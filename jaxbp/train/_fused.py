"""Updates inside the backward scan: each layer of a stack is updated where its gradient is formed, and drops it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from jaxbp._backprop import Start, value_and_grad
from jaxbp._checks import check_number
from jaxbp._contraction import weights_of
from jaxbp._dropout import check_key
from jaxbp._layers import Formed
from jaxbp._network import Network
from jaxbp._objective import Reduction, check_objective
from jaxbp._parameters import Params
from jaxbp._recursion import error_signals
from jaxbp._stack import Stack
from jaxbp.collect import Weight
from jaxbp.collect._sweep import map_weights
from jaxbp.losses import Loss
from jaxbp.train._elementwise import refuse_joint
from jaxbp.train._kept import kept_of, paths

CLIPS = "or leave it out and use jaxbp.train.fused(net, loss, clip_norm=…), which goes through the layers twice"


@dataclass(frozen=True)
class Fused:
    """A gradient that also knows how to be used up on the way, made by `fused`, which says what the attributes are."""

    net: Network
    loss: Loss
    reduction: Reduction = "mean"
    clip_norm: float | None = None

    def __call__(
        self, params: Params, x: Any, y: Any, weights: Any = None, *, key: Array | None = None
    ) -> tuple[Array, Params]:
        """The value and the gradient of all weights, clipped where they are to be."""
        value, grads = value_and_grad(self.net, self.loss, self.reduction)(params, x, y, weights, key=key)
        return value, grads if self.clip_norm is None else _scaled(grads, self._factor(_squared_norm(grads)))

    @property
    def stacks(self) -> list[str]:
        """The stacks whose layers are updated one by one."""
        return [u for u, unit in self.net.units.items() if isinstance(unit, Stack) and not unit.shared]

    def check(self, optimizer: optax.GradientTransformation, params: Params, opt_state: Any) -> None:
        """Refuse an optimizer whose update of a layer needs more than what is there at this layer."""
        depth_of = {u: stack.depth for u in self.stacks if isinstance(stack := self.net.units[u], Stack)}
        depths = [depth_of.get(path[0].key) for path in paths(params)]
        refuse_joint(optimizer, params, opt_state, kept_of(opt_state, params), depths, CLIPS)

    def update(
        self,
        optimizer: optax.GradientTransformation,
        params: Params,
        opt_state: Any,
        x: Any,
        y: Any,
        extra: Mapping[str, Any],
    ) -> tuple[Array, Params, Any]:
        """The value, and parameters and state of the optimizer after one update; weights and a key may be extra."""
        weights, key = extra.get("weights"), extra.get("key")
        check_key(self.net, key)
        self.check(optimizer, params, opt_state)
        start = Start.of(self.net, self.loss, params, x, y, weights, self.reduction, key)
        factor = None
        if self.clip_norm is not None:
            norms, grads = self._swept(start, params, key, dict.fromkeys(self.stacks, Formed(_norm_of_layer)))
            factor = self._factor(_squared_norm(grads) + sum(jnp.sum(norms[u]) for u in self.stacks))
        before = _Parts.of(optimizer, params, opt_state, factor)
        written, grads = self._swept(start, params, key, {u: before.layer_by_layer(u) for u in self.stacks})
        # here, and not in the layers, the optimizer counts its steps
        after, kept = before.updated(grads, params, before.kept)
        for u, (W, of_stack) in written.items():
            after[u] = W
            kept = before.replaced(kept, u, of_stack)
        return start.value, after, before.tree.unflatten(kept)

    def _swept(
        self, start: Start, params: Params, key: Array | None, forms: dict[str, Formed]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What is made of the gradients in stacks, by the name of the stack, and the gradients of all other weights."""
        net = self.net
        swept = error_signals(
            net, params, start.trace, start.Delta_o, start.delta_o, key=key, known=start.known, forms=forms
        )
        made = {u: swept.formed.pop(u) for u in forms}
        formed = swept.formed | ({} if start.blocks is None else {net.output: start.blocks.formed})
        found = weights_of(net, params, start.trace, swept.delta, start.scale.of_examples, formed)
        others = {u: weights for u, weights in found.items() if u not in forms}
        return made, {u: map_weights(Weight.gradient, weights) for u, weights in others.items()}

    def _factor(self, squared_norm: Array) -> Array | None:
        """What the gradient is to be multiplied by, so that its norm is at most C."""
        return None if self.clip_norm is None else jnp.minimum(1, self.clip_norm / jnp.sqrt(squared_norm))


@dataclass(frozen=True)
class _Parts:
    """Parameters and what an optimizer keeps, which is updated a part at a time; every part is a whole tree.

    So a mask sees all names, wherever it looks. What is not in the part has a gradient of 0, and nobody reads what
    becomes of it, so that no program computes it.

    Attributes:
        optimizer: The optimizer.
        params: The parameters.
        kept: The leaves of its state.
        tree: How they hang together.
        units: The unit or stack with the weight that each leaf is kept of; None for counts and the like.
        factor: What the gradients are multiplied by; None for 1.
    """

    optimizer: optax.GradientTransformation
    params: Params
    kept: list[Any]
    tree: Any
    units: list[str | None]
    factor: Array | None

    @classmethod
    def of(
        cls, optimizer: optax.GradientTransformation, params: Params, opt_state: Any, factor: Array | None
    ) -> "_Parts":
        unit_of = [path[0].key for path in paths(params)]
        units = [None if i is None else unit_of[i] for i in kept_of(opt_state, params)]
        return cls(optimizer, params, *jax.tree.flatten(opt_state), units, factor)

    def updated(self, grads: Mapping[str, Any], params: Mapping[str, Any], kept: list[Any]) -> tuple[Any, list[Any]]:
        """The parameters and the leaves of the state after an update with the gradients of a part."""
        whole = {
            u: _scaled(grads[u], self.factor) if u in grads else jax.tree.map(jnp.zeros_like, W)
            for u, W in params.items()
        }
        updates, state = self.optimizer.update(whole, self.tree.unflatten(kept), dict(params))
        return optax.apply_updates(dict(params), updates), jax.tree.leaves(state)

    def layer_by_layer(self, u: str) -> Formed:
        """The update of a layer of a stack, from its gradient, its weights and what is kept of these."""
        own = [i for i, unit in enumerate(self.units) if unit == u]

        def update(*of_layer: Any) -> tuple[Any, list[Any]]:
            # the axis of layers stays, of length 1, for rules that look at the number of axes
            grads, W, kept = jax.tree.map(lambda leaf: leaf[None], of_layer)
            after, leaves = self.updated({u: grads}, {**self.params, u: W}, self.replaced(self.kept, u, kept))
            return jax.tree.map(lambda leaf: leaf[0], (after[u], [leaves[i] for i in own]))

        return Formed(update, [self.kept[i] for i in own])

    def replaced(self, leaves: list[Any], u: str, of_stack: Iterable[Any]) -> list[Any]:
        """The leaves of a state, with others for those that are kept of the weights in a stack."""
        others = iter(of_stack)
        return [next(others) if unit == u else leaf for leaf, unit in zip(leaves, self.units, strict=True)]


def fused(net: Network, loss: Loss, reduction: Reduction = "mean", *, clip_norm: float | None = None) -> Fused:
    """A gradient for `step`, `epoch`, `run` and `fit` that is used up on the way: no two layers' exist together.

    W_l ← W_l + ΔW_l(h_{l−1}ᵀ δ_l) as soon as δ_l is there, and Δ_{l−1} = δ_l W_lᵀ of the W_l before

    The numbers are those of `value_and_grad(net, loss, reduction)` as the gradient, and so is the state; what lies
    beside one layer's weights, gradient and what the optimizer keeps of it is what the forward phase left behind.
    That is for stacks whose layers have weights of their own; all others are updated afterwards, together. Where the
    state is not donated, as in `step` outside of a `jit` with `donate_argnums`, its copy is as large as all gradients.

    Args:
        net: The network, with a stack at least.
        loss: The loss of one example.
        reduction: What becomes of the losses, as in `value_and_grad`.
        clip_norm: C, the most that the norm of all gradients together may be: they are multiplied by min(1, C / norm),
            as `optax.clip_by_global_norm(C)` does first in a chain. It takes a second backward phase, as the norm is
            known after the first. None where nothing is clipped.

    Raises:
        ValueError: The network has no such stack; or, while training, the optimizer does not treat each element by
            itself: what needs all gradients, or those of all layers, is refused by its name.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp, optax
        >>> block = jaxbp.Network(inputs={"x": 4}, units={"h": jaxbp.Unit(4, jaxbp.tanh, {"x": jaxbp.Dense()})})
        >>> net = jaxbp.Network(
        ...     inputs={"x": 4},
        ...     units={
        ...         "blocks": jaxbp.stack(block, 8, "x"),
        ...         "o": jaxbp.Unit(1, jaxbp.linear, {"blocks": jaxbp.Dense()}),
        ...     },
        ... )
        >>> adam = optax.adam(0.01)
        >>> state = jaxbp.train.init_state(jax.random.key(0), net, adam)
        >>> gradient = jaxbp.train.fused(net, jaxbp.squared_error)
        >>> x, y = jnp.ones((5, 4)), jnp.ones((5, 1))
        >>> state, loss = jaxbp.train.step(state, x, y, gradient=gradient, optimizer=adam)
    """
    check_objective(net, loss, reduction)
    if clip_norm is not None:
        check_number(clip_norm, "clip_norm", above=0, finite=True)
    made = Fused(net, loss, reduction, None if clip_norm is None else float(clip_norm))
    if not made.stacks:
        raise ValueError(
            "the network has no stack whose layers have weights of their own, so there is nothing to fuse; use "
            "jaxbp.value_and_grad(net, loss)"
        )
    return made


def _norm_of_layer(grads: Any, W: Any, kept: Any) -> Array:
    del W, kept
    return _squared_norm(grads)


def _squared_norm(tree: Any) -> Array:
    """The sum of all squares in a tree, in float32 at least."""
    total = jnp.zeros((), jnp.float32)
    for leaf in jax.tree.leaves(tree):
        total = total + jnp.sum(jnp.square(leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))))
    return total


def _scaled(tree: Any, factor: Array | None) -> Any:
    return tree if factor is None else jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), tree)
