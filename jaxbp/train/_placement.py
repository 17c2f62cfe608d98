"""Where training lies on several devices: the batch divided among them, the state replicated, sharded or by a rule."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxbp._checks import check_kind, described, is_known
from jaxbp.train._kept import kept_of

ByName = Callable[[str, tuple[int, ...]], P | None]
"""From the name of a parameter, as `"o.h1"`, and its shape to how it lies on the mesh; None where it is replicated."""

Layout = Literal["replicated", "sharded"] | ByName
"""How parameters, and what the optimizer keeps of each, lie on a mesh."""

BATCH_AXIS = "data"


@dataclass(frozen=True)
class Placement:
    """A mesh, and how the state lies on it; the batch is divided along the axis `"data"`, or the only one."""

    mesh: Mesh
    layout: Layout

    @property
    def axis(self) -> str:
        """The axis of the mesh that divides the batch."""
        return BATCH_AXIS if BATCH_AXIS in self.mesh.axis_names else self.mesh.axis_names[0]

    @property
    def parts(self) -> int:
        """How many parts the batch is divided into."""
        return self.mesh.shape[self.axis]

    @property
    def replicated(self) -> NamedSharding:
        """The same on every device."""
        return NamedSharding(self.mesh, P())

    def rows(self, axes_before: int = 0) -> NamedSharding:
        """A batch whose examples stand behind so many axes."""
        return NamedSharding(self.mesh, P(*[None] * axes_before, self.axis))

    def of_params(self, params: Any) -> Any:
        """The sharding of each parameter."""

        def of(path: Any, W: Any) -> NamedSharding:
            name, shape = ".".join(str(key.key if hasattr(key, "key") else key.idx) for key in path), W.shape
            spec = self._divided(shape) if self.layout == "sharded" else None
            if callable(self.layout):
                spec = self.layout(name, shape)
                _check_spec(self.mesh, name, shape, spec)
            return NamedSharding(self.mesh, P() if spec is None else spec)

        return jax.tree.map_with_path(of, params)

    def _divided(self, shape: tuple[int, ...]) -> P:
        """Along the longest axis that can be divided, the last of equals."""
        axes = [i for i, size in enumerate(shape) if size % self.parts == 0 and size]
        if not axes:
            return P()
        longest = max(axes, key=lambda i: (shape[i], i))
        return P(*[self.axis if i == longest else None for i in range(longest + 1)])

    def of_state(self, state: Any) -> Any:
        """The sharding of each leaf of a state: what the optimizer keeps of a parameter lies as the parameter does."""
        of_params = self.of_params(state.params)
        lie, leaves = jax.tree.leaves(of_params), kept_of(state.opt_state, state.params)
        of_optimizer = [self.replicated if i is None else lie[i] for i in leaves]
        of_optimizer = jax.tree.unflatten(jax.tree.structure(state.opt_state), of_optimizer)
        return type(state)(of_params, of_optimizer, self.replicated, self.replicated)

    def put(self, tree: Any, shardings: Any) -> Any:
        """A tree whose leaves lie so; of what is on the host each process puts its own part on its own devices."""
        if not all(map(is_known, jax.tree.leaves(tree))):  # within a program of the caller's
            return self.constrained(tree, shardings)
        if jax.process_count() == 1:
            return jax.device_put(tree, shardings)
        return jax.tree.map(_part_of, tree, shardings)

    @property
    def explicit(self) -> bool:
        """Whether shardings are part of types, and each product has to say its own."""
        return set(self.mesh.axis_types) == {AxisType.Explicit}

    def constrained(self, tree: Any, shardings: Any) -> Any:
        """A tree of which each leaf is to lie so; each kind of axis has its own call for it."""
        constrain = jax.sharding.reshard if self.explicit else jax.lax.with_sharding_constraint
        return jax.tree.map(constrain, tree, shardings)

    def gradient(self, gradient: Callable[..., Any], params: Any, x: Any, y: Any, extra: dict[str, Any]) -> Any:
        """The value and the gradient, which lies as the parameters do.

        Parameters that are sharded for the sake of memory alone are made whole.
        """
        lie = self.of_params(params)
        seen = self.constrained(params, self.all(params)) if self.layout == "sharded" else params
        computed = self.automatic(lambda params, x, y, extra: gradient(params, x, y, **extra), (self.replicated, lie))
        value, grads = computed(seen, x, y, extra)
        return value, self.constrained(grads, lie)

    def updated(self, update: Callable[..., Any], state: Any, arguments: Any) -> Any:
        """The value, and parameters and state of the optimizer, which lie as before, of an update that is one piece."""
        lie = self.of_state(state)
        return self.automatic(update, (self.replicated, lie.params, lie.opt_state))(*arguments)

    def seen_update(self, optimizer: Any, grads: Any, state: Any, seen: Any) -> Any:
        """The updates and the state of an optimizer that sees the batch too."""

        def update(grads: Any, opt_state: Any, params: Any, seen: Any) -> Any:
            return optimizer.update(grads, opt_state, params, **seen)

        lie = self.of_state(state)
        return self.automatic(update, (lie.params, lie.opt_state))(grads, state.opt_state, state.params, seen)

    def observed(self, observe: Callable[..., Any], params: Any, x: Any, y: Any, extra: dict[str, Any]) -> Any:
        """What is looked at, on every device."""
        return self.automatic(lambda params, x, y, extra: observe(params, x, y, **extra), self.replicated)(
            params, x, y, extra
        )

    def automatic(self, f: Callable[..., Any], shardings: Any) -> Callable[..., Any]:
        """A function whose results lie so, and within which the compiler decides how everything does.

        Within a gradient it has to on explicit axes too: rows of a table by sharded ids, and a sum of which every
        device has some terms, have no sharding of their own there.
        """
        return jax.sharding.auto_axes(f, out_sharding=shardings) if self.explicit else f

    def all(self, tree: Any) -> Any:
        """The sharding of a tree that every device has."""
        return jax.tree.map(lambda _: self.replicated, tree)

    def take(self, data: Any, rows: Any) -> Any:
        """These rows of data that every device has, divided among the devices."""
        rows = self.constrained(rows, self.rows())
        at = {"out_sharding": self.rows()} if self.explicit else {}
        taken = jax.tree.map(lambda v: v.at[rows].get(mode="promise_in_bounds", **at), data)
        return taken if self.explicit else self.constrained(taken, jax.tree.map(lambda _: self.rows(), taken))

    def check_batch(self, examples: int, place: str = "the batch") -> None:
        """Refuse a batch that cannot be divided evenly."""
        if examples % self.parts:
            raise ValueError(
                f"{place} has {examples} examples, which the {self.parts} devices along the axis {self.axis!r} cannot "
                "divide evenly; choose a multiple, or drop_last=True where it is the rest of the data"
            )


def _part_of(leaf: Any, sharding: NamedSharding) -> Any:
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        words = _part_of(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(words, impl=jax.random.key_impl(leaf))
    values = np.asarray(leaf)
    return jax.make_array_from_callback(values.shape, sharding, lambda at: values[at])


def placement_of(mesh: Mesh | None, layout: Layout, params: Any) -> Placement | None:
    """The placement on a mesh, None where there is no mesh; refused where devices would only repeat each other's work.

    Args:
        mesh: The devices, or None.
        layout: How the state lies on them.
        params: The parameters, whose shapes a rule is asked for.
    """
    if mesh is None:
        if layout != "replicated":
            raise ValueError("a layout is how the state lies on a mesh, and there is none; pass mesh= too")
        return None
    check_kind(mesh, Mesh, "mesh", "a jax.sharding.Mesh such as jax.make_mesh((4,), ('data',))")
    if not (callable(layout) or layout in ("replicated", "sharded")):
        raise ValueError(
            f"layout must be 'replicated', 'sharded', or a function of a parameter's name and shape, got "
            f"{described(layout)}"
        )
    if len(set(mesh.axis_types)) > 1:
        raise ValueError(f"the axes of the mesh are of different kinds, {mesh.axis_types}; make them all Auto")
    if BATCH_AXIS not in mesh.axis_names and len(mesh.axis_names) > 1:
        raise ValueError(
            f"the mesh has the axes {mesh.axis_names}, so which of them divides the batch? Call that one 'data'"
        )
    placement = Placement(mesh, layout)
    used = {placement.axis}
    for sharding in jax.tree.leaves(placement.of_params(params)):
        used |= {name for part in sharding.spec for name in (part if isinstance(part, tuple) else (part,)) if name}
    if idle := [name for name, size in mesh.shape.items() if size > 1 and name not in used]:
        raise ValueError(
            f"nothing is divided along {', '.join(map(repr, idle))} of the mesh, so its devices would repeat each "
            "other's work; leave the axis out, or pass a rule as layout= that shards parameters along it"
        )
    return placement


def _check_spec(mesh: Mesh, name: str, shape: tuple[int, ...], spec: Any) -> None:
    if spec is None:
        return
    check_kind(spec, P, f"the layout of {name!r}", "a jax.sharding.PartitionSpec, or None")
    if len(spec) > len(shape):
        raise ValueError(f"the layout of {name!r} is {spec}, which has more axes than its shape {shape}")
    for size, part in zip(shape, spec, strict=False):
        names = () if part is None else part if isinstance(part, tuple) else (part,)
        for axis in names:
            if axis not in mesh.shape:
                raise ValueError(f"the layout of {name!r} names the axis {axis!r}; the mesh has {mesh.axis_names}")
        parts = 1
        for axis in names:
            parts *= mesh.shape[axis]
        if size % parts:
            raise ValueError(f"the layout of {name!r} divides an axis of {size} by {parts}; expected a multiple of it")
