"""Networks described in TOML, with their loss, parameters and batch: read as data, and nothing of it executed."""

import math
import re
import tomllib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

import jaxbp
from jaxbp.experiments.common.messages import quoted, suggestion
from jaxbp.experiments.common.networks import ActivationName
from jaxbp.experiments.tools.array_files import MOST_TEXT, Most, parsed, read, read_arrays
from jaxbp.experiments.tools.config import DtypeName, LossName

MOST_UNITS = 10_000
MOST_NUMBERS = 10**8
"""What a network may have of weights, biases and widths together, and of values of its units for the whole batch."""

_MOST_PARTS = 8
_MOST_KEYS = 200_000
_PART = r"""(?:"(?:\\.|[^"\\\n])*+"?|'[^'\n]*+'?|[\w-]++)"""
_KEYS = re.compile(rf"#[^\n]*+|{_PART}(?:[ \t]*+\.[ \t]*+{_PART})*+")
"""Comments, and runs of what may be parts of a key with dots between; each character is looked at about once."""

_ACTIVATIONS = (*get_args(ActivationName), "softmax")
_CONNECTIONS = {"Dense": jaxbp.Dense(), "Identity": jaxbp.Identity()}
_HOW = {
    "loss": 'loss = "cross_entropy"',
    "dtype": 'dtype = "float64"',
    "seed": "seed = 0",
    "data": '[data] with x = [[…]] and y = […], or data = "batch.npz" above the first table',
    "params": '[params.UNIT] with SOURCE = [[…]] and bias = […], or params = "params.npz" above the first table',
    "network": '[network] with layers = [3, 2, 2] and output = "softmax"',
    "inputs": "[inputs] with x = 3",
    "units": '[units.o] with width = 2, activation = "softmax" and from = ["x"]',
    "layers": "layers = [3, 2, 2]",
    "output": 'output = "softmax"',
    "width": "width = 5",
    "activation": 'activation = "tanh"',
    "x": "x = [[1.0, 2.0, -1.0]]",
    "y": "y = [0], class ids or rows like the output",
}
_FILE = ("loss", "dtype", "seed", "data", "params", "network", "inputs", "units")


@dataclass(frozen=True, eq=False)
class Description:
    """A network with its loss, parameters and batch, all checked to fit each other.

    Attributes:
        net: The network.
        loss: The loss of one example.
        params: The parameters, NumPy arrays of the dtype.
        x: The input, or a dict of inputs by name, likewise.
        y: Class ids, or targets of the output's shape.
        dtype: The number format.
        files: What was read, by whatever name.
    """

    net: jaxbp.Network
    loss: jaxbp.Loss
    params: dict[str, dict[str, np.ndarray]]
    x: np.ndarray | dict[str, np.ndarray]
    y: np.ndarray
    dtype: str
    files: tuple[Path, ...] = ()

    def most_handed_in(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
        """How many numbers each quantity that can be handed in has."""
        batch = _examples(self.net, self.x)
        most = {"loss": 1} | _most_weights(self.net, "grad")
        for u, shape in self.net.shapes.items():
            most |= {f"{kind}.{u}": batch * math.prod(shape) for kind in ("a", "h", "Delta", "delta")}
        return most

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a quantity that can be handed in."""
        kind, _, rest = name.partition(".")
        if kind == "loss":
            return ()
        if kind == "grad":
            u, _, s = rest.partition(".")
            return self.net.weight_shapes[u][s]
        source, x = next(iter(_inputs(self.net, self.x).items()))
        return (*x.shape[: x.ndim - len(self.net.shapes[source])], *self.net.shapes[rest])


def read_description(path: Path) -> Description:
    """What a TOML file describes; paths in it are relative to its own folder.

    Raises:
        ValueError: Something in it, or in a file that it names, cannot be read or does not fit. The message names
            the file and the place, and says what was expected.
    """
    return described(read_table(path), path)


def read_table(path: Path) -> dict[str, Any]:
    """The table in a TOML file."""
    text = parsed(bytes.decode, read(path, MOST_TEXT), path, "TOML").removeprefix("\ufeff")
    with blamed(path):
        _check_text(text)
    return parsed(tomllib.loads, text, path, "TOML")


def described(table: dict[str, Any], path: Path) -> Description:
    """What the table of a file describes."""
    with blamed(path):
        return _described(table, path)


@contextmanager
def blamed(place: Path | str) -> Generator[None]:
    """Errors that say first where in a file they are."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from error


def _check_text(text: str) -> None:
    """Refuse keys whose parsing would take more memory than there is: it grows with the square of their parts."""
    for match in _KEYS.finditer(text):
        run = match[0]
        if run.count(".") < _MOST_PARTS or run.startswith("#"):
            continue
        parts = sum(1 for _ in re.finditer(_PART, run))
        if parts > _MOST_PARTS:
            raise ValueError(f"it has a key of {parts} parts, {run[:20]}…; no key of a network has more than 4")
    if text.count("=") + text.count("\n[") > _MOST_KEYS:
        raise ValueError(f"it has more than {_MOST_KEYS} keys; no network of at most {MOST_UNITS} units needs them")


def _described(table: dict[str, Any], path: Path) -> Description:
    _check_keys(table, "the file", ("loss", "data"), _FILE)
    folder = path.parent
    net = _network(table)
    loss = getattr(jaxbp, _choice(table["loss"], get_args(LossName), "loss"))
    dtype = _choice(table.get("dtype", "float64"), get_args(DtypeName), "dtype")
    with jax.enable_x64(True):
        params = _params(table, net, folder, dtype)
        x, y = _data(_arrays(table["data"], "data", folder, partial(_most_data, net)), net, dtype)
        batch = _examples(net, x)
        values = batch * sum(map(math.prod, net.shapes.values()))
        if values > MOST_NUMBERS:
            raise ValueError(
                f"the units have {values} values for {batch} examples, more than {MOST_NUMBERS}; hand in fewer examples"
            )
        o = jax.eval_shape(partial(jaxbp.apply, net), params, x)
        _check_targets(loss, o, y)
    named = [folder / table[key] for key in ("data", "params") if isinstance(table.get(key), str)]
    return Description(net, loss, params, x, y, dtype, (path, *named))


def _most_weights(net: jaxbp.Network, kind: str) -> dict[str, int]:
    return {f"{kind}.{u}.{s}": math.prod(shape) for u in net.units for s, shape in net.weight_shapes[u].items()}


def _most_data(net: jaxbp.Network, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Any batch of the inputs, and targets for as many examples."""
    sizes = {key: net.shapes[name] for name in net.inputs for key in ("x", f"x.{name}")}
    fitting = {key: size for key, size in sizes.items() if shapes.get(key, ())[-len(size) :] == size}
    batch = max((math.prod(shapes[key]) // math.prod(size) for key, size in fitting.items()), default=1)
    return {key: batch * math.prod(size) for key, size in {**sizes, "y": net.shapes[net.output]}.items()}


def _inputs(net: jaxbp.Network, x: np.ndarray | dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return x if isinstance(x, dict) else {next(iter(net.inputs)): x}


def _examples(net: jaxbp.Network, x: np.ndarray | dict[str, np.ndarray]) -> int:
    sizes = (v.size // math.prod(net.shapes[name]) for name, v in _inputs(net, x).items() if name in net.shapes)
    return max(sizes, default=1)


def _check_network_size(widths: Mapping[str, Any], connections: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse what would not fit into memory, from the widths, before there is anything.

    Widths that are none are left to whoever says so better.
    """
    shapes = {name: width if isinstance(width, tuple) else (width,) for name, width in widths.items()}
    shapes = {name: s for name, s in shapes.items() if s and all(isinstance(w, int) and w > 0 for w in s)}
    numbers = sum(map(math.prod, shapes.values()))
    for u, kinds in connections.items():
        dense = (s for s, kind in kinds.items() if isinstance(kind, jaxbp.Dense) and {u, s} <= shapes.keys())
        numbers += sum(shapes[u][-1] * shapes[s][-1] for s in dense)  # the last axes are joined
    if numbers > MOST_NUMBERS:
        shown = numbers if numbers < 10**30 else "more than 10³⁰"
        raise ValueError(f"the network has {shown} weights, biases and values of units, more than {MOST_NUMBERS}")


def _check_count(count: int) -> None:
    if count > MOST_UNITS:
        raise ValueError(f"the network has {count} layers or units, more than {MOST_UNITS}")


def _network(table: dict[str, Any]) -> jaxbp.Network:
    if "network" in table:
        if graph := [key for key in ("inputs", "units") if key in table]:
            raise ValueError(f"there are both [network], for layers, and [{graph[0]}], for any graph; choose one")
        return _layered(table["network"])
    if "inputs" not in table and "units" not in table:
        raise ValueError(
            f"there is no network; add {_HOW['network']}, or for any graph {_HOW['inputs']} and {_HOW['units']}"
        )
    _check_keys(table, "the file", ("inputs", "units"), _FILE)
    _check_table(table["inputs"], "inputs")
    _check_table(table["units"], "units")
    _check_count(len(table["inputs"]) + len(table["units"]))
    inputs = {name: _width(width) for name, width in table["inputs"].items()}
    units = {name: _unit(unit, f"units.{name}") for name, unit in table["units"].items()}
    widths = {**inputs, **{name: unit.width for name, unit in units.items()}}
    _check_network_size(widths, {name: unit.connections for name, unit in units.items()})
    return jaxbp.Network(inputs, units)


def _layered(table: Any) -> jaxbp.Network:
    place = "network"
    _check_keys(table, place, ("layers", "output"), ("layers", "hidden", "output", "bias"))
    widths, hidden = table["layers"], table.get("hidden", "sigmoid")
    if not isinstance(widths, list):
        raise TypeError(f"{place}.layers is {widths!r}, expected widths such as [3, 2, 2], the input's first")
    _check_count(len(widths))
    sizes = {f"{i}": _width(width) for i, width in enumerate(widths)}
    _check_network_size(sizes, {f"{i + 1}": {f"{i}": jaxbp.Dense()} for i in range(len(widths) - 1)})
    activations = [_activation(name) for name in hidden] if isinstance(hidden, list) else _activation(hidden)
    output = _activation(table["output"])
    bias = _bias(table, place)
    with blamed(place):
        return jaxbp.layered(widths, hidden=activations, output=output, bias=bias)


def _unit(table: Any, place: str) -> jaxbp.Unit:
    keys = ("width", "activation", "from", "connections", "bias")
    _check_keys(table, place, ("width", "activation"), keys)
    if ("from" in table) == ("connections" in table):
        raise ValueError(
            f'{place} needs either from = ["x", …], for dense connections, or [{place}.connections] with '
            f'x = "Dense" or x = "Identity"; it has {"both" if "from" in table else "neither"}'
        )
    kinds = table.get("connections", {})
    _check_table(kinds, f"{place}.connections")
    if "from" in table:
        sources = table["from"]
        if not isinstance(sources, list) or not all(isinstance(source, str) for source in sources):
            raise TypeError(f'{place}.from is {sources!r}, expected names such as ["x"]')
        kinds = dict.fromkeys(sources, "Dense")
    connections = {source: _CONNECTIONS[_choice(kind, _CONNECTIONS, "connection")] for source, kind in kinds.items()}
    activation, bias = _activation(table["activation"]), _bias(table, place)
    with blamed(place):
        return jaxbp.Unit(_width(table["width"]), activation, connections, bias)


def _width(width: Any) -> Any:
    return tuple(width) if isinstance(width, list) else width


def _activation(name: Any) -> jaxbp.activations.Activation:
    return getattr(jaxbp, _choice(name, _ACTIVATIONS, "activation"))


def _bias(table: dict[str, Any], place: str) -> bool:
    bias = table.get("bias", True)
    if not isinstance(bias, bool):
        raise TypeError(f"{place}.bias is {bias!r}, expected true or false: whether there is one")
    return bias


def _params(table: dict[str, Any], net: jaxbp.Network, folder: Path, dtype: str) -> dict[str, dict[str, np.ndarray]]:
    if ("params" in table) == ("seed" in table):
        both = "both params and seed" if "seed" in table else "neither params nor seed"
        raise ValueError(f"there are {both}; give the parameters as {_HOW['params']}, or random ones by {_HOW['seed']}")
    if "seed" in table:
        seed = table["seed"]
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
            raise ValueError(f"seed is {seed!r}, expected an integer from 0 to 2³² − 1")
        return jax.tree.map(np.asarray, jaxbp.init_params(jax.random.key(seed), net, jnp.dtype(dtype)))
    tree = _as_tree(_arrays(table["params"], "params", folder, lambda _: _most_weights(net, "W")))
    params = {
        u: {s: _numbers(value, f"params.{u}.{s}", dtype) for s, value in weights.items()} for u, weights in tree.items()
    }
    for u in net.units:
        shapes = net.weight_shapes[u]
        for s, W in params.get(u, {}).items():
            if s in shapes and W.shape == shapes[s][::-1] != shapes[s]:
                raise ValueError(
                    f"params.{u}.{s} has shape {W.shape}, expected {shapes[s]}: its transpose, "
                    f"with a row for each element of {s} and a column for each of {u}"
                )
    return {u: {} for u in net.units if not net.weight_shapes[u]} | params


def _as_tree(given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Weights by unit and source, from a tree of them or from names such as `W.h1.x`."""
    if all(isinstance(value, Mapping) for value in given.values()):
        return given
    tree: dict[str, dict[str, Any]] = {}
    for name, value in given.items():
        match name.split("."):
            case ["W", u, s]:
                tree.setdefault(u, {})[s] = value
            case _:
                raise ValueError(f"the params hold {name!r}, expected names such as 'W.h1.x' and 'W.h1.bias'")
    return tree


def _data(given: dict[str, Any], net: jaxbp.Network, dtype: str) -> tuple[Any, np.ndarray]:
    named = {name.removeprefix("x."): value for name, value in given.items() if name.startswith("x.")}
    _check_keys(given, "data", ("y",) if named else ("x", "y"), ("x", "y", *(f"x.{name}" for name in net.inputs)))
    if named and "x" in given:
        raise ValueError(f"data holds both 'x' and {quoted(f'x.{name}' for name in named)}; drop one of them")
    x = named or given["x"]
    if isinstance(x, Mapping):
        x = {name: _numbers(value, f"data.x.{name}", dtype) for name, value in x.items()}
    elif len(net.inputs) > 1:
        raise ValueError(f"data.x is one array, but the network has the inputs {quoted(net.inputs)}; write [data.x]")
    else:
        x = _numbers(x, "data.x", dtype)
    y = _numbers(given["y"], "data.y")
    return x, _numbers(y, "data.y", dtype) if y.dtype.kind == "f" else y


def _check_targets(loss: jaxbp.Loss, o: Any, y: np.ndarray) -> None:
    if y.shape == o.shape[:-1] and y.dtype.kind == "f" and loss.encode is not None:
        raise TypeError(f"data.y holds class ids of dtype {y.dtype}, expected integers: 1 for 1.0")
    rows = np.asarray(loss.targets(jnp.zeros(o.shape, o.dtype), y))
    if y.shape != o.shape and np.isnan(rows).any():
        classes = max(o.shape[-1], 2)
        outside = y[(y < 0) | (y >= classes)]
        raise ValueError(f"data.y holds the class id {outside[0]}, expected 0 to {classes - 1}")


def _arrays(value: Any, place: str, folder: Path, most: Most) -> dict[str, Any]:
    if isinstance(value, str):
        return read_arrays(folder / value, most)
    _check_table(value, place)
    return value


def _numbers(value: Any, place: str, dtype: str | None = None) -> np.ndarray:
    """An array of numbers, in the dtype if there is one."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{place} has rows of different lengths, expected an array of numbers") from None
    if array.dtype.kind not in "iuf" or not array.size:
        shown = f"an array of {array.dtype}" if isinstance(value, np.ndarray) else f"{value!r:.60}"
        raise TypeError(f"{place} is {shown}, expected an array of numbers")
    if dtype is None:
        return array
    with np.errstate(over="ignore"):
        cast = array.astype(jnp.dtype(dtype))
    if np.any(np.isfinite(array) & np.isinf(cast)):
        raise ValueError(f"{place} holds {np.abs(array[np.isfinite(array)]).max():g}, which is too large for {dtype}")
    return cast


def _choice(name: Any, known: Any, what: str) -> str:
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"there is no {what} {name!r}{suggestion(name, known)}; known are {quoted(known)}")
    return name


def _check_table(value: Any, place: str) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{place} is {value!r:.60}, expected a table: [{place}]")


def _check_keys(table: Any, place: str, required: tuple[str, ...], known: tuple[str, ...]) -> None:
    _check_table(table, place)
    for key in table:
        if key not in known:
            hint = suggestion(key, known)
            if not hint and place != "the file" and key in _FILE:
                hint = f" (it is one of the whole file: write it above the first [table], here [{place}])"
            raise ValueError(f"{place} has the unknown key {key!r}{hint}; known are {quoted(known)}")
    for key in required:
        if key not in table:
            raise ValueError(f"{place} has no {key!r}; add {_HOW[key]}")
