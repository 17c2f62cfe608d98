"""How the arrays of a hand gradient lie: in rows as everywhere here, as torch has them, or with examples as columns."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Literal

import numpy as np

from jaxbp._check._axes import Axes
from jaxbp._check._report import Report
from jaxbp._forward import batch_of, check_inputs
from jaxbp._function_unit import FunctionUnit
from jaxbp._names import Name
from jaxbp._network import Network
from jaxbp._plan import Place, at
from jaxbp._unrolled import Unrolled
from jaxbp.connections import (
    AvgPool,
    Bias,
    Connection,
    Conv,
    ConvTransposed,
    Dense,
    Embedding,
    Flatten,
    Identity,
    MaxPool,
    Scale,
    Shape,
    Transposed,
)
from jaxbp.connections._connection import Wrapper

LayoutName = Literal["rows", "torch", "columns"]
LAYOUTS: tuple[LayoutName, ...] = ("rows", "torch", "columns")


@dataclass(frozen=True, eq=False)
class Layout:
    """A layout of the quantities of a network on a batch.

    Weights are (in, out) in rows, and (out, in) else. Torch has the channels of images first, and convolutions as
    (out, in, *kernel); what flattens an image has its elements in another order, and so has what reads it. Columns have
    the batch after the axes of an example, and biases as columns of one.
    """

    name: LayoutName
    flat: Unrolled
    batch: Shape

    def axes(self, name: Name) -> Axes:
        """The axes of a quantity, or of what some layers of a stack have of it."""
        net = self.flat.stacked
        if not name.path:
            return Axes((), ())
        own = self.flat.stacks_around(name)[len(name.index) :]
        layers = tuple(depth for _, depth in own)
        if name.is_of_unit:
            shape = net.plan.shapes[name.unit]
            return self._moved(layers, self.batch, shape, *self._of_unit(name.unit, shape))
        shape = net.plan.weight_shapes[name.path]
        shape = shape[len(self.flat.stacks_around(name)) :]
        order, elements, ones = self._of_weight(name.path, shape)
        return self._moved(layers, (), shape, order, elements, ones)

    def _moved(
        self, layers: Shape, batch: Shape, shape: Shape, order: Shape, elements: Mapping[int, np.ndarray], ones: int
    ) -> Axes:
        """The axes after those of the layers and the batch."""
        start = len(layers) + len(batch)
        of_batch = tuple(range(len(layers), start))
        of_example = tuple(start + axis for axis in order)
        moved = (*of_example, *of_batch) if self.name == "columns" else (*of_batch, *of_example)
        of_layers = tuple(range(len(layers)))
        places = {start + axis: where for axis, where in elements.items()}
        return Axes((*layers, *batch, *shape), (*of_layers, *moved), places, ones)

    def _of_unit(self, u: str, shape: Shape) -> tuple[Shape, Mapping[int, np.ndarray], int]:
        order = tuple(range(len(shape)))
        if self.name == "columns":
            return order, {}, 0 if self.batch else 1  # one example is one column
        if self.name == "torch" and u in self._maps:
            order = (order[-1], *order[:-1])
        return order, self._elements(len(shape) - 1, u), 0

    def _of_weight(self, place: Place, shape: Shape) -> tuple[Shape, Mapping[int, np.ndarray], int]:
        order = tuple(range(len(shape)))
        if self.name == "rows":
            return order, {}, 0
        edges = self.flat.stacked.plan.uses[place]
        kinds = [_plain(edge.connection) for edge in edges]
        # of a weight that several units use torch has the form of a table, or of the layer that has it
        tables = [i for i, (kind, _) in enumerate(kinds) if isinstance(kind, Embedding)]
        layers = [i for i, (kind, turned) in enumerate(kinds) if isinstance(kind, Dense) and not turned]
        i = (*tables, *layers, 0)[0]
        (kind, turned), edge = kinds[i], edges[i]
        match kind:
            case Dense():
                s, u = (1, 0) if turned else (0, 1)
                return (u, s), {**self._elements(s, edge.source), **self._elements(u, edge.unit)}, 0
            case Conv() | ConvTransposed() if self.name == "torch":
                return (order[-1], order[-2], *order[:-2]), {}, 0
            case Bias() | Scale():
                of_unit, elements, _ = self._of_unit(edge.unit, shape)
                return of_unit, elements, max(1, len(self.batch)) if self.name == "columns" else 0
            case _:
                return order, {}, 0

    def _elements(self, axis: int, u: str) -> Mapping[int, np.ndarray]:
        return {axis: self._flattened[u]} if self.name == "torch" and u in self._flattened else {}

    # What torch has as images.

    @cached_property
    def _maps(self) -> frozenset[str]:
        """The units and inputs that are images: what windows slide over, or make, and what has their elements."""
        net, found, joined = self.flat.net, set[str](), list[tuple[str, str]]()
        for u, edges in net.plan.edges.items():
            for s, edge in edges.items():
                kind, _ = _plain(edge.connection)
                if isinstance(kind, Conv | ConvTransposed | MaxPool | AvgPool):
                    found |= {s, u}
                elif isinstance(kind, Identity | Scale) or self._is_alike(u, s):
                    joined.append((s, u))
        while more := {name for pair in joined if found & set(pair) for name in pair} - found:
            found |= more
        return frozenset(self.flat.units[u][0] for u in found if len(net.shapes[u]) > 1)

    @cached_property
    def _flattened(self) -> Mapping[str, np.ndarray]:
        """Where torch has each element of what is, or has the elements of, a flattened image."""
        net, found = self.flat.net, dict[str, np.ndarray]()
        for u in self.flat.order:
            for s, edge in net.plan.edges[u].items():
                kind, _ = _plain(edge.connection)
                if isinstance(kind, Flatten) and self.flat.units[s][0] in self._maps:
                    *spatial, channels = net.shapes[s]
                    first = np.arange(prod(net.shapes[s])).reshape(channels, *spatial)
                    found[u] = np.moveaxis(first, 0, -1).ravel()
                elif s in found and (isinstance(kind, Identity | Scale) or self._is_alike(u, s)):
                    found[u] = found[s]
        return {self.flat.units[u][0]: places for u, places in found.items()}

    def _is_alike(self, u: str, s: str) -> bool:
        """Whether a unit is a function of sources of its shape, such as a product."""
        net = self.flat.net
        return isinstance(net.units[u], FunctionUnit) and net.shapes[s] == net.shapes[u]

    # What a function of one's own is called with.

    def arguments(self, params: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
        """The parameters, inputs and targets in the layout."""
        net = self.flat.stacked
        if self.name == "rows":
            return params, x, y
        weights = net.plan.tree(lambda place: self.axes(Name("W", place)).laid_out(at(place, params)))
        of_inputs = {s: self.axes(Name("h", (s,))).laid_out(h) for s, h in check_inputs(net, x).items()}
        inputs = of_inputs if isinstance(x, Mapping) else next(iter(of_inputs.values()))
        return weights, inputs, self._targets(y)

    def _targets(self, y: Any) -> Any:
        axes = self.axes(Name("h", (self.flat.stacked.output,)))
        if np.shape(y) == axes.shape:
            return axes.laid_out(y)
        n = len(self.batch)
        if self.name == "columns" and np.ndim(y) > n:  # ids of the rows of each example
            return y.transpose((*range(n, y.ndim), *range(n)))
        return y


def layout_of(name: LayoutName, flat: Unrolled, x: Any) -> Layout:
    """The layout of this name, for inputs that must fit the network."""
    net = flat.stacked
    return Layout(name, flat, batch_of(net, check_inputs(net, x)))


def _plain(connection: Connection | None) -> tuple[Connection | None, bool]:
    """A connection without what is wrapped around it, and whether its weight is read transposed."""
    turned = False
    while isinstance(connection, Wrapper):
        turned ^= isinstance(connection, Transposed)
        connection = connection.connection
    return connection, turned


def about_layout(layout: Layout) -> Iterator[str]:
    """How a report on another layout is to be read."""
    if layout.name != "rows":
        yield f"read with layout={layout.name!r}; names, shapes and indices here are in rows, as those of params are"


def about_transposed(layout: Layout, report: Report) -> Iterator[str]:
    """What to do where matrices are transposed, and nothing else is the matter."""
    best = report.alternatives[0] if report.alternatives else ()
    if layout.name == "rows" and best and all("transposed" in mistake.slug.split("-") for mistake in best):
        yield "layout='torch' and layout='columns' take weights as (out, in)"


@contextmanager
def explained_data(net: Network, x: Any, y: Any) -> Generator[None]:
    """Errors on inputs and targets that say what to do where examples are columns."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if hint := _on_data(net, x, y):
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{error}; {hint}, for params, x and y are in rows whatever the layout") from None
        raise


def _on_data(net: Network, x: Any, y: Any) -> str:
    """What would fit, where something does not."""
    of_inputs: dict[str, Any] = dict(x) if isinstance(x, Mapping) else dict.fromkeys(net.inputs, x)
    arrays = (*of_inputs.values(), y)
    if of_inputs.keys() != net.inputs.keys() or not all(isinstance(getattr(h, "ndim", None), int) for h in arrays):
        return ""
    columns = [s for s, h in of_inputs.items() if _is_in_columns(net.shapes[s], h)]
    if columns:
        places = [f"x[{s!r}].T" if isinstance(x, Mapping) else "x.T" for s in columns]
        return f"columns for rows? hand in {' and '.join(places)}"
    shape = net.shapes[net.output]
    s, h = next(iter(of_inputs.items()))
    batch = np.shape(h)[: np.ndim(h) - len(net.shapes[s])]
    if np.shape(y) != (*batch, *shape) and np.shape(y) == (*shape, *batch):
        return "columns for rows? hand in y.T"
    one = sum(n != 1 for n in np.shape(y)) <= 1 and np.ndim(y) == 2 and len(batch) == 1 and np.size(y) == batch[0]
    return "a row or a column of class ids? hand in y.ravel()" if one and shape[-1] > 1 else ""


def _is_in_columns(shape: Shape, h: Any) -> bool:
    return len(shape) == 1 and np.ndim(h) == 2 and np.shape(h)[-1:] != shape and np.shape(h)[:1] == shape
