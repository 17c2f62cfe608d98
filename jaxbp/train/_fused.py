"""Updates inside the backward scan: each layer of a stack is updated where its gradient is formed, and drops it."""

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
        factor = self._factor(_squared_norm(grads))
        return value, grads if factor is None else jax.tree.map(lambda grad: grad * factor.astype(grad.dtype), grads)

    @property
    def stacks(self) -> list[str]:
        """The stacks whose layers are updated one by one."""
        return [u for u, unit in self.net.units.items() if isinstance(unit, Stack) and not unit.shared]

    def check(self, optimizer: optax.GradientTransformation, params: Params, opt_state: Any) -> None:
        """Refuse an optimizer whose update of a layer needs more than what is there at this layer."""
        paths = [_keys(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        depth_of = {u: stack.depth for u in self.stacks if isinstance(stack := self.net.units[u], Stack)}
        fused, depths = [path[0] in depth_of for path in paths], [depth_of.get(path[0], 0) for path in paths]
        refuse_joint(optimizer, params, opt_state, _weights_in(opt_state, params), fused, depths, CLIPS)

    def update(
        self,
        optimizer: optax.GradientTransformation,
        params: Params,
        opt_state: Any,
        x: Any,
        y: Any,
        weights: Any = None,
        *,
        key: Array | None = None,
    ) -> tuple[Array, Params, Any]:
        """The value, and parameters and state of the optimizer after one update."""
        net = self.net
        check_key(net, key)
        self.check(optimizer, params, opt_state)
        start = Start.of(net, self.loss, params, x, y, weights, self.reduction, key)
        factor = None
        if self.clip_norm is not None:
            norms, grads = self._swept(start, params, key, dict.fromkeys(self.stacks, Formed(_norm_of_layer)))
            factor = self._factor(_squared_norm(grads) + sum(jnp.sum(norms[u]) for u in self.stacks))

        def scaled(grads: Any) -> Any:
            return grads if factor is None else jax.tree.map(lambda grad: grad * factor.astype(grad.dtype), grads)

        before, tree = jax.tree.flatten(opt_state)
        stack_of = [None if i is None else _groups(params)[i] for i in _weights_in(opt_state, params)]
        stack_of = [u if u in self.stacks else None for u in stack_of]

        def updated(grads: dict[str, Any], W: dict[str, Any], state: list[Any]) -> tuple[Any, list[Any]]:
            """The parameters and the state after an update; what has no gradient gets one of 0, and nobody reads it."""
            grads = {u: grads[u] if u in grads else jax.tree.map(jnp.zeros_like, W[u]) for u in W}
            updates, after = optimizer.update(grads, tree.unflatten(state), W)
            return optax.apply_updates(W, updates), jax.tree.leaves(after)

        def of_stack(u: str) -> Formed:
            own = [i for i, stack in enumerate(stack_of) if stack == u]

            def one(grads: Any, W: Any, kept: list[Any]) -> tuple[Any, list[Any]]:
                # the axis of layers stays, of length 1: a rule that looks at the number of axes finds as many as before
                grads, W, kept = jax.tree.map(lambda leaf: leaf[None], (grads, W, kept))
                here = {v: W if v == u else jax.tree.map(jnp.zeros_like, params[v]) for v in params}
                state = [leaf if stack is None else jnp.zeros_like(leaf) for leaf, stack in zip(before, stack_of, strict=True)]
                for i, leaf in zip(own, kept, strict=True):
                    state[i] = leaf
                after, state = updated({u: scaled(grads)}, here, state)
                return jax.tree.map(lambda leaf: leaf[0], (after[u], [state[i] for i in own]))

            return Formed(one, [before[i] for i in own])

        written, grads = self._swept(start, params, key, {u: of_stack(u) for u in self.stacks})
        # here, and not in the layers, the optimizer counts its steps
        after, state = updated(scaled(grads), params, before)
        for u, (W, kept) in written.items():
            after[u] = W
            for i, leaf in zip([i for i, stack in enumerate(stack_of) if stack == u], kept, strict=True):
                state[i] = leaf
        return start.value, after, tree.unflatten(state)

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
        if self.clip_norm is None:
            return None
        return jnp.minimum(1, self.clip_norm / jnp.sqrt(squared_norm))


def fused(net: Network, loss: Loss, reduction: Reduction = "mean", *, clip_norm: float | None = None) -> Fused:
    """A gradient for `step`, `epoch`, `run` and `fit` that is used up on the way: no two layers' exist together.

    W_l ← W_l + ΔW_l(h_{l−1}ᵀ δ_l) as soon as δ_l is there, and Δ_{l−1} = δ_l W_lᵀ of the W_l before

    The numbers are those of `value_and_grad(net, loss, reduction)` as the gradient, and so is the state; what lies
    beside one layer's weights, gradient and what the optimizer keeps of it is what the forward phase left behind.
    That is for stacks whose layers have weights of their own; all others are updated afterwards, together.

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
        check_number(clip_norm, "clip_norm")
    made = Fused(net, loss, reduction, clip_norm)
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


def _keys(path: Any) -> tuple[str, ...]:
    return tuple(key.key if hasattr(key, "key") else "" for key in path)


def _groups(params: Params) -> list[str]:
    """The unit, stack or group of shared weights that each leaf is in."""
    return [_keys(path)[0] for path, _ in jax.tree_util.tree_leaves_with_path(params)]


def _weights_in(opt_state: Any, params: Params) -> list[int | None]:
    """For each leaf of an optimizer's state the number of the weight that it has an element for each of; or None.

    An optimizer keeps such leaves in trees like the parameters, so a leaf's path ends like the weight's.
    """
    weights = jax.tree_util.tree_leaves_with_path(params)
    number_of = {_keys(path): (i, W.shape) for i, (path, W) in enumerate(weights)}

    def number(path: Any, leaf: Any) -> int | None:
        keys = _keys(path)
        for start in range(len(keys)):
            i, shape = number_of.get(keys[start:], (None, None))
            if i is not None:
                return i if leaf.shape == shape else None
        return None

    return [number(path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(opt_state)]
