"""The layers of a stack, one after the other in one scan: upwards for the forward phase, downwards for the signals.

Upwards every layer leaves its own trace, stacked; what nobody reads XLA does not keep. Downwards a layer takes its
trace from there, or makes it again of what entered (`remat`), and contracts its own gradient, so that a plain gradient
never holds the signals of more than one layer. Where something else is to become of it than to be kept, such as an
update of the layer's own weights, that is done there too, and no two layers' gradients exist together.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxbp._stack import Stack
from jaxbp.connections import Shape

Phase = Callable[..., Any]


class Read(NamedTuple):
    """What the inputs of a block read, by their names.

    Attributes:
        start: What the first layer carries on.
        alike: What all layers read.
        slices: What each layer has a slice of, the layers as the first axis.
    """

    start: Array
    alike: dict[str, Array]
    slices: dict[str, Array]

    @classmethod
    def of(cls, stack: Stack, h: Mapping[str, Array], batch: Shape) -> "Read":
        """Of the post-activations around the stack."""
        alike = {name: h[source] for name, source in stack.sources.items() if name not in stack.slices}
        slices = {name: jnp.moveaxis(h[stack.sources[name]], len(batch) + i, 0) for name, i in stack.slices.items()}
        return cls(alike.pop(stack.carried), alike, slices)

    def over_layers(self, depth: int) -> dict[str, Array]:
        """What each layer read of all but what is carried, the layers as the first axis."""
        return {s: jnp.broadcast_to(h, (depth, *h.shape)) for s, h in self.alike.items()} | self.slices


class Formed(NamedTuple):
    """What becomes of the gradient of each layer where it is formed, in place of being kept.

    Attributes:
        make: `(grads, W, kept) -> made` of one layer. What is made is kept, or written over `(W, kept)` of the layer.
        kept: What each layer has beside its weights to be written over, the layers as the first axis of everything;
            None where nothing is to be.
    """

    make: Callable[[Any, Any, Any], Any]
    kept: Any = None


def upwards(stack: Stack, phase: Phase, W: Any, read: Read, batch: Shape, offsets: Any, key: Array | None) -> Any:
    """What the stack makes, and the traces of all layers, the layers as the first axis of everything."""
    floats = [leaf.dtype for leaf in jax.tree.leaves((W, read)) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    start = read.start.astype(jnp.result_type(*floats))  # layer by layer the dtype is the same
    own = None if stack.shared else W

    def layer(carried: Array, of_layer: Any) -> tuple[Array, Any]:
        own, slices, offsets, key = of_layer
        h = {stack.carried: carried, **read.alike, **slices}
        h = {name: h[name] for name in stack.block.inputs}
        trace = phase(stack.block, W if stack.shared else own, h, batch, offsets, key)
        return trace.h[stack.block.output], trace

    layers = (own, read.slices, offsets, keys_of_layers(stack, key))
    last, trace = lax.scan(layer, start, layers, stack.depth)
    if offsets is None:
        # what is read alike is not kept once for each layer
        trace.h.update(read.over_layers(stack.depth))
    # the last output of all would keep the others
    return jnp.moveaxis(trace.h[stack.block.output], 0, len(batch)) if stack.every_layer else last, trace


def downwards(
    stack: Stack,
    sweep: Phase,
    phase: Phase,
    W: Any,
    feedback: Any,
    trace: Any,
    read: Read,
    Delta: Array,
    batch: Shape,
    key: Array | None,
    form: Formed | None = None,
) -> tuple[dict[str, Array], Any]:
    """What flows back into each source, and Δ, δ and gradients of all layers, or what is made of these.

    Args:
        stack: The stack.
        sweep: The backward recursion of one layer.
        phase: The forward phase of one layer, to make it again.
        W: The parameters in the stack.
        feedback: What stands in for them on the way back, or None.
        trace: What the forward phase left behind, by the names in the block.
        read: What the block's inputs read.
        Delta: Δ of the stack.
        batch: The batch shape.
        key: The key of the stack's noise.
        form: What becomes of the gradients, where not all are to be kept; nothing of those that layers share.
    """
    block, kept = stack.block, stack.kept
    at_output = jnp.moveaxis(Delta, len(batch), 0) if stack.every_layer else None
    over = None if form is None or form.kept is None else _Written.of((W, form.kept), stack.depth - 1)
    own = (None if stack.shared or over else W, None if stack.shared else feedback)

    def layer(carried: Any, of_layer: Any) -> tuple[Any, Any]:
        Delta, into_alike, total, written = carried
        i, own, at_output, slices, x, rest, key = of_layer
        W_l, feedback_l = (W, feedback) if stack.shared else own
        kept_l = None
        if written is not None:
            W_l, kept_l = written.at
        if at_output is not None:
            Delta = Delta + at_output
        h = {stack.carried: x, **read.alike, **slices}
        if kept is None:
            trace = rest._replace(h={**h, **rest.h})
        else:
            h = {name: h[name] for name in block.inputs}
            trace = phase(block, W_l, h, batch, None, key, rest)
        back = sweep(block, W_l, trace, batch, Delta, feedback=feedback_l, key=key)
        signals = back.Delta
        into_alike = {s: into + signals[s] for s, into in into_alike.items()}
        grads = back.formed
        if stack.shared:
            total, grads = jax.tree.map(jnp.add, total, grads), None
        elif form is not None:
            grads = form.make(grads, W_l, kept_l)
        if written is not None:
            written, grads = written.over(i, grads, signals[stack.carried]), None
        return (signals[stack.carried], into_alike, total, written), (signals, back.delta, grads)

    signalled = [s for s in read.alike if jnp.issubdtype(read.alike[s].dtype, jnp.floating)]
    start = (
        jnp.zeros_like(at_output[0]) if at_output is not None else Delta,
        {s: jnp.zeros_like(read.alike[s]) for s in signalled},
        jax.tree.map(jnp.zeros_like, W) if stack.shared else None,
        over,
    )
    rest = trace if kept is None else _only(trace, kept)
    rest = rest._replace(h={u: h for u, h in rest.h.items() if u not in block.inputs})
    numbers = None if over is None else jnp.arange(stack.depth)
    layers = (numbers, own, at_output, read.slices, trace.h[stack.carried], rest, keys_of_layers(stack, key))
    (into_first, into_alike, total, written), (Delta_of, delta_of, grads) = lax.scan(
        layer, start, layers, stack.depth, reverse=True
    )
    into = by_source(stack, into_first, into_alike, Delta_of, batch)
    formed = total if stack.shared else grads if written is None else written.whole
    return into, (Delta_of, delta_of, formed)


class _Written(NamedTuple):
    """A tree that is written over layer by layer, the layers as its first axis.

    Attributes:
        whole: The tree.
        at: What the next layer reads.
    """

    whole: Any
    at: Any

    @classmethod
    def of(cls, whole: Any, i: Any) -> "_Written":
        """The tree, of which this layer is the next one."""
        return cls(whole, jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, i, keepdims=False), whole))

    def over(self, i: Array, made: Any, back: Array) -> "_Written":
        """With what was made of a layer in its place, and the layer below to be read; back is what flows there."""
        whole = jax.tree.map(lambda a, new: lax.dynamic_update_index_in_dim(a, new, i, 0), self.whole, made)
        # out of the tree as it is now: with two versions of it alive the compiler would copy all of it for each layer
        return self.of(whole, _known_after(i - 1, [*jax.tree.leaves(whole), back]))


def _known_after(i: Array, arrays: Sequence[Array]) -> Array:
    """The number i, which the compiler does not know before the arrays are complete.

    Else it may read the next layer before this one is done, and keeps a copy of each for that. A barrier would say it,
    but on the CPU barriers are gone before it is decided what is copied.
    """
    ends = [jnp.reshape(lax.slice(a, (0,) * a.ndim, (1,) * a.ndim), ()) for a in arrays if a.size]
    is_nan = jnp.any(jnp.stack([end != end for end in ends])).astype(i.dtype)
    return jnp.minimum(i, i + is_nan)


def by_source(
    stack: Stack, into_first: Array, into_alike: Mapping[str, Array], Delta: Mapping[str, Array], batch: Shape
) -> dict[str, Array]:
    """What flows back into each source, from what does into each input of the block."""
    into = {stack.carried: into_first, **into_alike}
    for name, axis in stack.slices.items():
        if name in Delta:
            into[name] = jnp.moveaxis(Delta[name], 0, len(batch) + axis)
    found: dict[str, Array] = {}
    for name, signal in into.items():
        s = stack.sources[name]
        found[s] = found[s] + signal if s in found else signal
    return found


def around(stack: Stack, Delta: Mapping[str, Array], batch: Shape) -> dict[str, Array]:
    """What flows back into each source where nothing flows from layer to layer, from Δ of the block's inputs."""
    alike = {s: jnp.sum(D, axis=0) for s, D in Delta.items() if s in stack.sources and s not in stack.slices}
    alike.pop(stack.carried, None)
    return by_source(stack, Delta[stack.carried][0], alike, Delta, batch)


def _only(trace: Any, kept: tuple[str, ...]) -> Any:
    """What a trace holds of some units, and of the blocks in them."""

    def of(by_name: Mapping[str, Array]) -> dict[str, Array]:
        return {name: array for name, array in by_name.items() if name.split(".")[0] in kept}

    return type(trace)(of(trace.a), of(trace.h), None if trace.noise is None else of(trace.noise) or None)


def keys_of_layers(stack: Stack, key: Array | None) -> Array | None:
    """A key for each layer, by its number."""
    return None if key is None else jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(stack.depth))
