"""Networks described in TOML, and arrays in `.npz` and `.json` files: all read as data, and nothing of it executed."""

import json
import lzma
import math
import re
import tomllib
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, get_args

import jax
import jax.numpy as jnp
import numpy as np
from numpy.lib import format as npy

import jaxbp
from experiments.common.files import MOST_BYTES, opened, read_bytes
from experiments.common.messages import quoted, suggestion
from experiments.common.networks import ActivationName
from experiments.tools.config import DtypeName, LossName

MOST_TEXT = 2**24
"""How many bytes a TOML or Python file may have; larger arrays belong into `.npz` files."""
MOST_JSON = 2**26
MOST_UNITS = 10_000
MOST_NUMBERS = 10**8
"""What a network may have of weights, biases and widths together, and of values of its units for the whole batch."""

_MOST_PARTS = 8
_MOST_KEYS = 200_000
_LITTLE = 2**20
"""Bytes of an array that may be read before its shape is looked at: what is said of it then is more exact."""
_PART = r"""(?:"(?:\\.|[^"\\\n])*+"?|'[^'\n]*+'?|[\w-]++)"""
_KEYS = re.compile(rf"#[^\n]*+|{_PART}(?:[ \t]*+\.[ \t]*+{_PART})*+")
"""Comments, and runs of what may be parts of a key with dots between; each character is looked at about once."""

_NO_ZIP = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError),
    *(NotImplementedError, RuntimeError, UnicodeError),
)
"""Not a zip or a damaged one, an unknown compression, a password, an early end, names in no encoding."""
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
        net = self.net
        x = self.x if isinstance(self.x, dict) else {next(iter(net.inputs)): self.x}
        name, array = next(iter(x.items()))
        batch = array.size // math.prod(net.shapes[name])
        most = {"loss": 1}
        for u in net.units:
            most |= {f"grad.{u}.{s}": math.prod(shape) for s, shape in net.weight_shapes(u).items()}
        for u, shape in net.shapes.items():
            most |= {f"{kind}.{u}": batch * math.prod(shape) for kind in ("a", "h", "Delta", "delta")}
        return most


def read_description(path: Path) -> Description:
    """Read a network description; paths in it are relative to its own folder.

    Args:
        path: A TOML file.

    Returns:
        What it describes.

    Raises:
        ValueError: Something in it, or in a file that it names, cannot be read or does not fit. The message names
            the file and the place, and says what was expected.
    """
    content = read(path, MOST_TEXT)
    try:
        text = content.decode("utf-8-sig")
        _check_text(text, path)
        table = tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply to be read") from None
    except TooLargeError:
        raise
    except ValueError as error:
        raise ValueError(f"{path} is no TOML file: {error}") from error
    try:
        return _described(table, path)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


class TooLargeError(ValueError):
    """What a file asks for is past a limit."""


def _check_text(text: str, path: Path) -> None:
    """Refuse keys whose parsing would take more memory than there is: it grows with the square of their parts."""
    for match in _KEYS.finditer(text):
        run = match[0]
        if run.count(".") < _MOST_PARTS or run.startswith("#"):
            continue
        parts = re.sub(_PART, "_", run).count("_")
        if parts > _MOST_PARTS:
            raise TooLargeError(f"{path} has a key of {parts} parts, {run[:20]}…; no key of a network has more than 4")
    if text.count("=") + text.count("\n[") > _MOST_KEYS:
        raise TooLargeError(
            f"{path} has more than {_MOST_KEYS} keys; no network of at most {MOST_UNITS} units needs them"
        )


Most = Callable[[Mapping[str, tuple[int, ...]]], Mapping[str, int]]
"""From the shapes that a file says its arrays have, how many numbers each of them may have."""


def read_arrays(path: Path, most: Most | None = None) -> dict[str, Any]:
    """The arrays of an `.npz` file, or the lists of a `.json` file, by name.

    Args:
        path: The file; its suffix says which it is.
        most: How large the arrays may be; what is larger is refused before it is unpacked.

    Returns:
        Arrays by name, or what the JSON object holds.

    Raises:
        ValueError: It is no such file, or it holds what could only be read by executing something.
    """
    if path.suffix not in READERS:
        raise ValueError(f"{path} is none of {quoted(READERS)}, which hold arrays; name a file by what it holds")
    return READERS[path.suffix](path, most)


def read(path: Path, most: int) -> bytes:
    """All of an ordinary file of limited size; that there is none is a ValueError too."""
    try:
        return read_bytes(path, most)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


def _read_npz(path: Path, most: Most | None) -> dict[str, Any]:
    try:
        with opened(path) as file:
            return _unpacked(file, path, most)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


def _unpacked(file: BinaryIO, path: Path, most: Most | None) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(file) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            size = sum(member.file_size for member in archive.infolist())
            if size > MOST_BYTES:
                raise ValueError(f"{path} would take up {size} bytes, more than {MOST_BYTES}; hand in less")
            shapes = {name: _shape(archive, member, path) for name, member in members.items()}
            if most is not None:
                _check_sizes(members, shapes, most(shapes), path)
            return {name: _read_member(archive, member) for name, member in members.items()}
    except _NO_ZIP as error:
        raise ValueError(f"{path} is no .npz file ({error}); write one with numpy.savez(path, **arrays)") from error


def _check_sizes(
    members: Mapping[str, zipfile.ZipInfo],
    shapes: Mapping[str, tuple[int, ...]],
    most: Mapping[str, int],
    path: Path,
) -> None:
    for name, member in members.items():
        numbers = most.get(name, 0)
        if member.file_size > 16 * numbers + _LITTLE:
            expected = f"expected {numbers} numbers" if name in most else f"expected one of {quoted(most)}"
            raise TooLargeError(
                f"{name!r:.60} in {path} has shape {shapes[name]}, {member.file_size} bytes; {expected}"
            )


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as stream:
        return npy.read_array(stream, allow_pickle=False)


def _shape(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> tuple[int, ...]:
    """An array's shape. A header is a claim, which must agree with the member's size before memory is asked for."""
    place = f"{member.filename!r} in {path}"
    with archive.open(member) as stream:
        try:
            version = npy.read_magic(stream)
            read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
            shape, _, dtype = read_header(stream)
        except Exception as error:  # a header is parsed as Python's literals, which fails in many ways
            raise ValueError(f"{place} is no NumPy array ({error}); write it with numpy.savez") from error
        if dtype.hasobject:
            raise ValueError(
                f"{place} holds Python objects, which can only be unpickled; that would execute what is in them, "
                "and is not done here. Save arrays of numbers, all rows of one length"
            )
        if dtype.kind == "V":
            raise ValueError(
                f"{place} has dtype {dtype}, which is how NumPy saves bfloat16; save it as float32, "
                'and describe the network with dtype = "bfloat16"'
            )
        if min(shape, default=0) < 0 or dtype.itemsize * math.prod(shape) != member.file_size - stream.tell():
            raise ValueError(f"{place} is damaged: its size is not that of {dtype} of shape {shape}; write it again")
    return shape


def _read_json(path: Path, most: Most | None) -> dict[str, Any]:
    del most  # lists are in memory when they are read

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"{next(name for name in table if names.count(name) > 1)!r} is there twice")
        return table

    content = read(path, MOST_JSON)
    try:
        value = json.loads(content, object_pairs_hook=once)
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply to be read") from None
    except ValueError as error:
        raise ValueError(f"{path} is no JSON file: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a {type(value).__name__}, expected an object such as {{'delta.o': [[…]]}}")
    return value


READERS = {".npz": _read_npz, ".json": _read_json}
"""What reads a file, by its suffix."""


def _described(table: dict[str, Any], path: Path) -> Description:
    _check_keys(table, "the file", ("loss", "data"), _FILE)
    folder = path.parent
    net = _network(table)
    loss = getattr(jaxbp, _choice(table["loss"], get_args(LossName), "loss"))
    dtype = _choice(table.get("dtype", "float64"), get_args(DtypeName), "dtype")
    with jax.enable_x64(True):
        params = _params(table, net, folder, dtype)
        x, y = _data(_arrays(table["data"], "data", folder, partial(_most_data, net)), net, dtype)
        _check_values(net, x)
        o = jax.eval_shape(partial(jaxbp.apply, net), params, x)
        _check_targets(loss, o, y)
    named = [folder / table[key] for key in ("data", "params") if isinstance(table.get(key), str)]
    return Description(net, loss, params, x, y, dtype, (path, *named))


def _most_params(net: jaxbp.Network, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    return {f"W.{u}.{s}": math.prod(shape) for u in net.units for s, shape in net.weight_shapes(u).items()}


def _most_data(net: jaxbp.Network, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Any batch of the inputs, and targets for as many examples."""
    most, batch = {}, 1
    for name in net.inputs:
        for key in ("x", f"x.{name}"):
            shape, size = shapes.get(key, ()), net.shapes[name]
            fits = shape[len(shape) - len(size) :] == size
            most[key] = max(most.get(key, 0), math.prod(shape) if fits else math.prod(size))
            batch = max(batch, most[key] // math.prod(size))
    return {**most, "y": batch * math.prod(net.shapes[net.output])}


def _check_values(net: jaxbp.Network, x: Any) -> None:
    inputs = x if isinstance(x, dict) else {next(iter(net.inputs)): x}
    batch = max((v.size // math.prod(net.shapes[name]) for name, v in inputs.items() if name in net.shapes), default=1)
    numbers = batch * sum(map(math.prod, net.shapes.values()))
    if numbers > MOST_NUMBERS:
        raise ValueError(
            f"the units have {numbers} values for {batch} examples, more than {MOST_NUMBERS}; hand in fewer examples"
        )


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
        raise TooLargeError(f"the network has {shown} weights, biases and values of units, more than {MOST_NUMBERS}")


def _check_count(count: int) -> None:
    if count > MOST_UNITS:
        raise TooLargeError(f"the network has {count} layers or units, more than {MOST_UNITS}")


def _network(table: dict[str, Any]) -> jaxbp.Network:
    if "network" in table:
        for key in ("inputs", "units"):
            if key in table:
                raise ValueError(
                    f"there are both [network], for layers, and [{key}], for any graph; choose one of them"
                )
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
    sizes = {str(i): _width(width) for i, width in enumerate(widths)}
    _check_network_size(sizes, {str(i): {str(i - 1): jaxbp.Dense()} for i in range(1, len(widths))})
    activations = [_activation(name) for name in hidden] if isinstance(hidden, list) else _activation(hidden)
    output = _activation(table["output"])
    try:
        return jaxbp.layered(widths, hidden=activations, output=output, bias=_bias(table, place))
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


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
    try:
        return jaxbp.Unit(_width(table["width"]), activation, connections, bias)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _width(width: Any) -> Any:
    return tuple(width) if isinstance(width, list) else width


def _activation(name: Any) -> jaxbp.Activation:
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
    tree = _as_tree(_arrays(table["params"], "params", folder, partial(_most_params, net)))
    params = {
        u: {s: _numbers(value, f"params.{u}.{s}", dtype) for s, value in weights.items()} for u, weights in tree.items()
    }
    for u in net.units:
        shapes = net.weight_shapes(u)
        weights = params.setdefault(u, {}) if not shapes else params.get(u, {})
        for s, shape in shapes.items():
            if s in weights and weights[s].shape == shape[::-1] != shape:
                raise ValueError(
                    f"params.{u}.{s} has shape {weights[s].shape}, expected {shape}: its transpose, "
                    f"with a row for each element of {s} and a column for each of {u}"
                )
    return params


def _as_tree(given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Weights by unit and source, from a tree of them or from names such as `W.h1.x`."""
    if all(isinstance(value, Mapping) for value in given.values()):
        return given
    tree: dict[str, dict[str, Any]] = {}
    for name, value in given.items():
        kind, *path = name.split(".")
        if kind != "W" or len(path) != 2:
            raise ValueError(f"the params hold {name!r}, expected names such as 'W.h1.x' and 'W.h1.bias'")
        u, s = path
        tree.setdefault(u, {})[s] = value
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
