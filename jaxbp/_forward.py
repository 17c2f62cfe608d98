"""The forward phase: the pre- and post-activation of every unit."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._brief import called
from jaxbp._checks import check_by, check_floating, check_keys, check_kind, check_made, check_random_key, quoted
from jaxbp._dropout import Phi, drawn, with_noise
from jaxbp._graph import ONE
from jaxbp._ids import check_ids
from jaxbp._layers import Read, upwards
from jaxbp._names import inside, under
from jaxbp._network import Network
from jaxbp._parameters import Params, check_params
from jaxbp._plan import Edge
from jaxbp._precision import within_int32
from jaxbp._stack import Stack
from jaxbp.connections import Shape


class Trace(NamedTuple):
    """What the forward phase leaves behind for the backward phase, by unit and of shape `(*batch, *shape)`.

    What is in the block of a stack has its layers before the batch, and a name with a dot: `blocks.up`.

    Attributes:
        a: The pre-activations.
        h: The post-activations, and the inputs.
        noise: What the post-activations of units with dropout were multiplied by, 0 or 1 / (1 − dropout); None where
            there was no key.
    """

    a: dict[str, Array]
    h: dict[str, Array]
    noise: dict[str, Array] | None = None

    def inside(self, stack: str) -> "Trace":
        """What is in the block of a stack, by the names in it."""
        noise = None if self.noise is None else inside(stack, self.noise)
        return Trace(inside(stack, self.a), inside(stack, self.h), noise or None)

    def __repr__(self) -> str:
        return called(self, a=self.a, h=self.h, **({} if self.noise is None else {"noise": self.noise}))

    def _repr_html_(self) -> str | None:
        from jaxbp._notebook._passes import of_trace

        return of_trace(self)

    def zeros(self) -> "Trace":
        """Offsets that change nothing, for all that has a signal: ids have none."""
        numbers = {s: h for s, h in self.h.items() if jnp.issubdtype(h.dtype, jnp.floating)}
        return Trace(jax.tree.map(jnp.zeros_like, self.a), jax.tree.map(jnp.zeros_like, numbers))


def forward(net: Network, params: Params, x: Any, *, offsets: Trace | None = None, key: Array | None = None) -> Trace:
    """The forward phase: the pre- and post-activation of every unit.

    a_u = Σ_{s ⇒ u} h_s W_su + b_u,  h_u = Φ_u(a_u), times the noise of a unit with dropout

    The arguments are those of `backprop`, but without a key there is no noise, which is what one wants when evaluating.
    Where x and the parameters differ in dtype everything is computed in the wider of the two, as JAX promotes them.

    Args:
        offsets: Something to add to each pre- and post-activation but ids, shaped like the result. With `trace.zeros()`
            here, `jax.grad` with respect to them is δ and Δ; with other values one can intervene in a unit.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 2, 1], output=jaxbp.linear)
        >>> trace = jaxbp.forward(net, jaxbp.init_params(jax.random.key(0), net), jnp.ones((5, 3)))
        >>> trace.h["h1"].shape
        (5, 2)

    Source: the chapter, forward phase.
    """
    check_params(net, params)
    if key is not None:
        check_random_key(key)
    h = {name: jnp.asarray(within_int32(value)) for name, value in check_inputs(net, x).items()}
    batch = batch_of(net, h)
    if offsets is not None:
        _check_offsets(net, offsets, batch)
    return phase(net, params, h, batch, offsets, key)


def phase(
    net: Network,
    params: Params,
    h: Mapping[str, Array],
    batch: Shape,
    offsets: Trace | None,
    key: Array | None,
    kept: Trace | None = None,
) -> Trace:
    """The forward phase of arguments that are known to fit; what is kept of an earlier one is not computed again."""
    a: dict[str, Array] = {}
    noise: dict[str, Array] = {}
    h = dict(h)
    if offsets is not None:
        h = {name: value if name in net.ids else value + offsets.h[name] for name, value in h.items()}
    source = sources(net, h, batch)
    for i, u in enumerate(net.order):
        unit, edges = net.units[u], net.plan.edges[u].values()
        subkey = None if key is None else jax.random.fold_in(key, i)
        if kept is not None and u in kept.a:
            for of_net, of_kept in ((a, kept.a), (h, kept.h), (noise, kept.noise or {})):
                of_net |= {v: value for v, value in of_kept.items() if v == u or v.startswith(under(u, ""))}
        elif isinstance(unit, Stack):
            within = None if offsets is None else offsets.inside(u)
            a[u], layers = upwards(unit, phase, params[u], Read.of(unit, h, batch), batch, within, subkey)
            for of_net, of_block in ((a, layers.a), (h, layers.h), (noise, layers.noise or {})):
                of_net |= {under(u, v): value for v, value in of_block.items()}
        else:
            a[u] = unit.pre_activation(net.plan.weights_into(params, u), [source(edge) for edge in edges], len(batch))
        if a[u].shape != (*batch, *unit.shape):
            expected = (*batch, *unit.shape)
            raise ValueError(f"the pre-activation of unit {u!r} has shape {a[u].shape}, expected {expected}")
        if offsets is not None:
            a[u] = a[u] + offsets.a[u]
        if subkey is not None and unit.dropout:
            noise[u] = drawn(subkey, unit.dropout, a[u])
        if u not in h:
            h[u] = with_noise(unit.activation, noise.get(u)).value(a[u])
        check_made(h[u], a[u], f"what activation {unit.activation.name!r} makes at unit {u!r}")
        if offsets is not None:
            h[u] = h[u] + offsets.h[u]
    return Trace(a, h, noise or None)


def sources(net: Network, h: Mapping[str, Array], batch: Shape) -> Callable[[Edge], Array]:
    """The post-activation h_s at the start of each edge; the unit that is always +1 has no entry in h."""
    dtypes = [value.dtype for value in h.values() if jnp.issubdtype(value.dtype, jnp.floating)]
    dtype = dtypes[0] if dtypes else jnp.result_type(float)
    ones = cache(lambda shape: jnp.ones(shape, dtype))
    layers = net.plan.layers
    return lambda e: ones((*layers[e.unit], *batch, *e.shape)) if e.source == ONE else h[e.source]


def phi(net: Network, trace: Trace, u: str) -> Phi:
    """Φ of a unit, with the noise that it had in this forward phase."""
    return with_noise(net.plan.nodes[u].activation, None if trace.noise is None else trace.noise.get(u))


def apply(net: Network, params: Params, x: Any) -> Array:
    """The output o of the network alone, `(*batch, width)`, as `forward` computes it, without noise.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 2, 1], output=jaxbp.linear)
        >>> jaxbp.apply(net, jaxbp.init_params(jax.random.key(0), net), jnp.ones(3)).shape
        (1,)
    """
    return forward(net, params, x).h[net.output]


def batch_shape(net: Network, trace: Trace) -> Shape:
    """The leading axes of a trace: one entry for each example."""
    return batch_of(net, trace.h)


def batch_of(net: Network, h: Mapping[str, Any]) -> Shape:
    """The leading axes of inputs or post-activations."""
    name, value = next(iter(h.items()))
    return value.shape[: value.ndim - len(net.shapes[name])]


def check_inputs(net: Network, x: Any) -> dict[str, Any]:
    """The inputs by name, as they came; what does not fit the network is refused."""
    named: dict[str, Any] = {}
    if isinstance(x, Mapping):
        check_keys(x, net.inputs, "x holds the inputs", "the network has")
        named = {name: x[name] for name in net.inputs}
    elif len(net.inputs) == 1:
        named = dict.fromkeys(net.inputs, x)
    else:
        raise TypeError(f"the network has the inputs {quoted(net.inputs)}; pass x as a dict of arrays by these names")
    batches: dict[str, Shape] = {}
    for name, value in named.items():
        place = f"x[{name!r}]" if isinstance(x, Mapping) else "x"
        if name in net.ids:
            check_ids(value, place, net.ids[name])
        else:
            check_floating(value, place)
        shape = net.shapes[name]
        if value.ndim < len(shape) or value.shape[value.ndim - len(shape) :] != shape:
            expected = ", ".join(("*batch", *map(str, shape)))
            raise ValueError(f"{place} has shape {value.shape}, but input {name!r} of the network has ({expected})")
        batches[name] = value.shape[: value.ndim - len(shape)]
        if 0 in batches[name]:
            raise ValueError(f"{place} has shape {value.shape}: an empty batch has no mean loss")
    if len(set(batches.values())) > 1:
        raise ValueError(f"the inputs have different batch shapes: {batches}; each example needs all of them")
    return named


def _check_offsets(net: Network, offsets: Any, batch: Shape) -> None:
    """Refuse offsets that are not shaped like the trace: what broadcasts would add up where nobody sees it."""
    check_kind(offsets, Trace, "offsets", "a jaxbp.Trace, such as jaxbp.forward gives")
    nodes, shapes, layers = net.plan.nodes, net.plan.shapes, net.plan.layers
    for part, names in (("a", nodes), ("h", [s for s in shapes if s not in net.plan.ids])):
        arrays, place = getattr(offsets, part), f"offsets.{part}"
        check_by(arrays, place, "unit")
        check_keys(arrays, names, f"{place} holds", "the network has")
        for u in names:
            check_floating(arrays[u], f"{place}[{u!r}]")
            expected = (*layers[u], *batch, *shapes[u])
            if arrays[u].shape != expected:
                raise ValueError(f"{place}[{u!r}] has shape {arrays[u].shape}, expected {expected}")
