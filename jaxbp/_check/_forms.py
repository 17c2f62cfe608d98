"""What was handed in for a network, in whatever form: read as quantities by name, in rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from jaxbp._check._keys import Key, are_keys, by_name, leaves, said_of
from jaxbp._check._layouts import LAYOUTS, Layout
from jaxbp._check._tensors import numbers_in, parameters_of
from jaxbp._checks import quoted, suggestion
from jaxbp._graph import ONE
from jaxbp._names import Name
from jaxbp._plan import Place, Plan
from jaxbp.connections import Shape

_LOSS = "loss"


def quantities(layout: Layout, params: Any, x: Any, y: Any, mine: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The quantities by name, and how they were told apart where their names did not say it.

    Read are a tree of gradients, a dict of quantities, gradients in a list or by other keys, a module, and what a
    function returns: any of these, or (value, gradients).
    """
    parameters = parameters_of(mine)
    if callable(mine) and parameters is None:
        mine = mine(*deepcopy(layout.arguments(params, x, y)))  # the function may write into what it is given
        parameters = parameters_of(mine)
        if isinstance(mine, tuple) and all(_is_scalar(part) for _, part in leaves(mine)):
            raise ValueError(f"the function returned {len(mine)} results; return the gradients, or (value, gradients)")
    if isinstance(mine, tuple) and len(mine) == 2 and _is_scalar(mine[0]):
        named, notes = _of_gradients(layout, mine[1])
        return {_LOSS: _rows(layout, Name(_LOSS), mine[0]), **named}, notes
    return _of_gradients(layout, mine if parameters is None else parameters, or_quantities=True)


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, list | tuple | Mapping) and getattr(value, "ndim", 0) == 0


def _of_gradients(layout: Layout, mine: Any, or_quantities: bool = False) -> tuple[dict[str, Any], tuple[str, ...]]:
    groups = layout.flat.stacked.plan.groups
    if isinstance(mine, list | tuple) and not all(_is_scalar(array) for _, array in leaves(mine)):
        return _by_keys(layout, dict(leaves(mine)))
    if not isinstance(mine, Mapping):
        if not or_quantities:
            like = "expected a dict by unit like the parameters"
            raise TypeError(f"the gradients are of type {type(mine).__name__}, {like}")
        raise TypeError(
            f"what was handed in is of type {type(mine).__name__}; expected gradients as a dict by unit and source "
            "like the parameters, a dict of quantities such as {'delta.o': …}, a list of gradients, or a function of "
            "(params, x, y)"
        )
    if not mine:
        raise ValueError("nothing was handed in: the dict is empty")
    keys = dict(leaves(mine))
    if are_keys(list(keys)) and not _are_ours(layout, list(keys)):
        return _by_keys(layout, keys)
    if not or_quantities or all(isinstance(value, Mapping) for value in mine.values()):
        named = {str(name): _rows(layout, name, array) for name, array in _of_tree(mine, groups, ())}
        return named, ()
    known = {str(name): name for name in _known(layout)}
    named: dict[str, Any] = {}
    for said, value in mine.items():
        name = _parsed(str(said))
        around = len(layout.flat.stacks_around(name)) if name is not None and str(name.whole) in known else None
        if name is None or around is None or len(name.index) not in (0, around):
            hint = suggestion(said, known)
            raise ValueError(f"there is no quantity {said!r}{hint}; known are {quoted(sorted(known))}")
        named[str(said)] = _rows(layout, name, value)
    return named, ()


def _are_ours(layout: Layout, keys: Sequence[Key]) -> bool:
    """Whether keys are names of the network's, of which everybody has those of biases."""
    places = layout.flat.stacked.plan.weight_shapes
    ours = [key for key in keys if key.path in places or (len(key.path) == 1 and _parsed(str(key)) is not None)]
    return len(ours) == len(keys) or any(key.path[-1] != ONE for key in ours)


def _parsed(text: str) -> Name | None:
    try:
        return Name.parse(text)
    except ValueError:
        return None


def _known(layout: Layout) -> Iterator[Name]:
    plan = layout.flat.stacked.plan
    yield Name(_LOSS)
    for u in plan.shapes:
        inner = ("a", "h", "Delta", "delta") if u in plan.nodes else ("h", "Delta")
        yield from (Name(kind, (u,)) for kind in inner if kind == "h" or u not in plan.ids)
    yield from (Name("grad", place) for place in plan.weight_shapes)


# A tree like the parameters.


def _of_tree(tree: Any, groups: Any, path: tuple[str, ...]) -> Iterator[tuple[Name, Any]]:
    holder = f"the gradients of {'.'.join(path)!r}" if path else "the gradients"
    if not isinstance(groups, Mapping):
        yield Name("grad", path), tree
        return
    in_unit = bool(path) and not any(isinstance(inner, Mapping) for inner in groups.values())
    what = "sources" if in_unit else "units"
    if not isinstance(tree, Mapping):
        raise TypeError(f"{holder} are of type {type(tree).__name__}, expected a dict by {what[:-1]}")
    # a unit without weights may be there, or not
    expected = [key for key, inner in groups.items() if not isinstance(inner, Mapping) or inner or key in tree]
    extra = [key for key in tree if key not in expected]
    if extra:
        raise ValueError(
            f"{holder} hold {extra[0]!r}, which is none of the {what} {quoted(expected)}"
            f"{suggestion(extra[0], expected)}"
        )
    missing = [key for key in expected if key not in tree]
    if missing:
        raise ValueError(
            f"{holder} hold no {missing[0]!r}; expected {quoted(expected)}. To hand in some of them only, "
            "use a dict of quantities such as {'grad.o.bias': …}"
        )
    for key in expected:
        yield from _of_tree(tree[key], groups[key], (*path, key))


# Keys of other people.


def _by_keys(layout: Layout, handed: Mapping[Key, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    arrays: dict[Key, np.ndarray] = {}
    for key, value in handed.items():
        if value is None:
            raise ValueError(f"{key} is None: there is no gradient; was loss.backward() called?")
        arrays[key] = numbers_in(str(key), value, of_gradient=True)
    weights = _weights(layout, len(arrays))
    ways: tuple[Callable[[Name, Shape], bool], ...] = (
        lambda name, shape: layout.axes(name).is_of(shape),
        lambda name, shape: layout.axes(name).is_of(shape) or _is_transposed(layout, name, shape),
        lambda name, shape: layout.axes(name).is_of(shape) or _is_transposed(layout, name, shape)
        or (name.path[-1] == ONE and shape in _as_matrices(layout.axes(name).theirs)),
    )  # fmt: skip
    complaint: ValueError | None = None
    for fits in ways:
        try:
            assigned = by_name(arrays, {name: layout.axes(name).theirs for name in weights}, fits)
        except ValueError as error:
            complaint = complaint or error
            if "not clear" in str(error):
                break
        else:
            return {str(name): _rows(layout, name, arrays[k]) for k, name in assigned.items()}, (said_of(assigned),)
    assert complaint is not None
    raise complaint


def _weights(layout: Layout, count: int) -> list[Name]:
    """The weights in the order of their first use; those of each layer of a stack where so many were handed in."""
    flat = layout.flat
    of_layers = [Name("grad", *flat.weights[place]) for place in _by_use(flat.net.plan, flat.order)]
    whole = list(dict.fromkeys(name.whole for name in of_layers))
    return whole if count <= len(whole) else of_layers


def _by_use(plan: Plan, order: Sequence[str]) -> list[Place]:
    return sorted(plan.uses, key=lambda place: min(order.index(edge.unit) for edge in plan.uses[place]))


# Arrays in rows.


def _rows(layout: Layout, name: Name, value: Any) -> np.ndarray:
    """An array as it is in rows; what does not fit is left to who knows more, unless another layout has this form."""
    array = numbers_in(name, value, of_gradient=name.kind == "grad")
    axes = layout.axes(name)
    if axes.is_of(array.shape):
        return axes.in_rows(array)
    if _is_transposed(layout, name, array.shape):
        return axes.in_rows(array.T).T
    if hint := _hint(layout, name, array.shape):
        raise ValueError(f"{name} has shape {array.shape}, expected {_expected(layout, axes)}: {hint}")
    if layout.name != "rows":
        raise ValueError(f"{name} has shape {array.shape}, expected {_expected(layout, axes)}")
    return array


def _expected(layout: Layout, axes: Any) -> str:
    return f"{axes.theirs}{'' if layout.name == 'rows' else f' in layout={layout.name!r}'}"


def _is_transposed(layout: Layout, name: Name, shape: Shape) -> bool:
    """Whether it is the gradient of a matrix, transposed, which is a mistake that has a name."""
    axes = layout.axes(name)
    return name.kind == "grad" and name.path[-1] != ONE and len(shape) == 2 and shape == axes.theirs[::-1]


def _as_matrices(shape: Shape) -> Sequence[Shape]:
    return ((1, *shape), (*shape, 1)) if len(shape) == 1 else ()


def _hint(layout: Layout, name: Name, shape: Shape) -> str:
    """What an array of a shape that does not fit may be."""
    expected = layout.axes(name).theirs
    others = [Layout(other, layout.flat, layout.batch) for other in LAYOUTS if other != layout.name]
    fitting = [other for other in others if other.axes(name).is_of(shape)]
    names = " or ".join(f"layout={other.name!r}" for other in fitting)
    if shape in _as_matrices(expected) and name.path[-1:] == (ONE,):
        index = "[0]" if shape[0] == 1 and shape[-1] != 1 else "[:, 0]"
        columns = f", or {names}" if names and index != "[0]" else ""
        why = "does a sum keep its axis?" if index == "[0]" else "columns for rows?"
        return f"{why} hand in {name}{index}{columns}"
    if len(shape) == 2 and shape == expected[::-1] and name.is_of_unit:
        what = "rows for columns?" if layout.name == "columns" else "columns for rows?"
        return f"{what} hand in {name}.T{f', or {names}' if names else ''}"
    return f"hand in {names}, whose shape this is" if names else ""
