"""Arrays in `.npz` and `.json` files, read as data: nothing is executed, and no memory taken for what is too large.

What cannot be read is a ValueError that names the file and says what was expected.
"""

import json
import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.lib import format as npy

from jaxbp.experiments.common.files import MOST_BYTES, opened, read_bytes
from jaxbp.experiments.common.messages import quoted

MOST_TEXT = 2**24
"""How many bytes a TOML or Python file may have; larger arrays belong into `.npz` files."""
MOST_JSON = 2**26

_LITTLE = 2**20
"""Bytes of an array that may be read before its shape is looked at: what is said of it then is more exact."""
_NO_ZIP = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, UnicodeError)
"""Not a zip or a damaged one, an early end, a password or a feature that Python lacks, names in no encoding."""
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}

Most = Callable[[Mapping[str, tuple[int, ...]]], Mapping[str, int]]
"""From the shapes that a file says its arrays have, how many numbers each of them may have."""
Content = TypeVar("Content")


def read_arrays(path: Path, most: Most = lambda shapes: dict.fromkeys(shapes, MOST_BYTES)) -> dict[str, Any]:
    """The arrays of an `.npz` file, or what the object in a `.json` file holds, by name; its suffix says which it is.

    What is larger than `most` is refused before it is unpacked.
    """
    if path.suffix not in READERS:
        raise ValueError(f"{path} is none of {quoted(READERS)}, which hold arrays; name a file by what it holds")
    return READERS[path.suffix](path, most)


def read(path: Path, most: int) -> bytes:
    """All of an ordinary file of limited size; that there is none is a ValueError too."""
    with _named(path):
        return read_bytes(path, most)


@contextmanager
def _named(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


def parsed(parse: Callable[[Content], Any], content: Content, path: Path, kind: str) -> Any:
    """What a parser makes of a file's content."""
    try:
        return parse(content)
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply to be read") from None
    except ValueError as error:
        raise ValueError(f"{path} is no {kind} file: {error}") from error


def _read_npz(path: Path, most: Most) -> dict[str, Any]:
    with _named(path), opened(path) as file:
        return _unpacked(file, path, most)


def _unpacked(file: BinaryIO, path: Path, most: Most) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(file) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            size = sum(member.file_size for member in archive.infolist())
            if size > MOST_BYTES:
                raise ValueError(f"{path} would take up {size} bytes, more than {MOST_BYTES}; hand in less")
            shapes = {name: _shape(archive, member, path) for name, member in members.items()}
            allowed = most(shapes)
            for name, member in members.items():
                if member.file_size > 16 * allowed.get(name, 0) + _LITTLE:
                    expected = f"{allowed[name]} numbers" if name in allowed else f"one of {quoted(allowed)}"
                    claimed = f"{name!r:.60} in {path} has shape {shapes[name]}, {member.file_size} bytes"
                    raise ValueError(f"{claimed}; expected {expected}")
            return {name: _read_member(archive, member) for name, member in members.items()}
    except _NO_ZIP as error:
        raise ValueError(f"{path} is no .npz file ({error}); write one with numpy.savez(path, **arrays)") from error


def _shape(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> tuple[int, ...]:
    """An array's shape. A header is a claim, which must agree with the member's size before memory is asked for."""
    place = f"{member.filename!r} in {path}"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{place} is compressed as NumPy compresses nothing; write it with numpy.savez_compressed")
    with archive.open(member) as stream:
        try:
            shape, _, dtype = _HEADERS[npy.read_magic(stream)](stream)
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


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as stream:
        return npy.read_array(stream, allow_pickle=False)


def _read_json(path: Path, most: Most) -> dict[str, Any]:
    del most  # lists are in memory when they are read
    value = parsed(partial(json.loads, object_pairs_hook=_once), read(path, MOST_JSON), path, "JSON")
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a {type(value).__name__}, expected an object such as {{'delta.o': [[…]]}}")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{name!r} is there twice")
    return table


READERS = {".npz": _read_npz, ".json": _read_json}
"""What reads a file, by its suffix."""
