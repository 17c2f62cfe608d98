"""IDX files, the format in which MNIST comes: big-endian `00 00 TT ND`, ND uint32 sizes, then the data.

A header is only a claim: memory here follows what a file holds, never what its header says it holds. What is refused
is a ValueError that names the file; what cannot be opened or read is an OSError.
"""

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from jaxbp.experiments.common.files import MOST_BYTES, opened, read_up_to

_CODES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_DIMENSIONS = 64  # numpy's own limit
_MOST_CLASSES = 10_000  # a network has one output for each, so one wrong id would make it any size
_LARGEST = float(np.finfo(np.float32).max)


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """One IDX file as an array of the header's shape and dtype, in native byte order.

    Its first bytes, not its name, tell whether it is gzipped. At most `MOST_BYTES` are read.
    """
    path = Path(path)
    with opened(path) as file:
        magic = file.read(2)
        file.seek(0)
        if magic != b"\x1f\x8b":
            return _read(file, path)
        try:
            with gzip.open(file) as stream:
                return _read(stream, path)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is a damaged gzip file ({error}); fetch or compress it again") from error


def read_idx_folder(folder: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The four files of a data set that is published the way MNIST is.

    They are `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
    `t10k-labels-idx1-ubyte`. A dot may stand before `idx`, and `.gz` at the end. Where a file is there under several
    of these names, a hyphen goes before a dot, and then plain before `.gz`.

    Returns:
        `(x_train, y_train, x_test, y_test)`: images `(examples, *shape)` and class ids `(examples,)`, as stored.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; pass the one that holds the four IDX files")
    # all four are found before one is read, so that a missing one is reported at once
    train, test = [[_find(folder, part, kind) for kind in ("images-idx3", "labels-idx1")] for part in ("train", "t10k")]
    (x_train, y_train), (x_test, y_test) = _read_pair(*train), _read_pair(*test)
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            f"images of {train[0]} have shape {x_train.shape[1:]}, but those of {test[0]} have {x_test.shape[1:]}; "
            "pass a folder whose files belong together"
        )
    examples = len(y_train) + len(y_test)
    most = min(_MOST_CLASSES, examples)
    for (_, labels), y in ((train, y_train), (test, y_test)):
        if y.max() >= most:
            raise ValueError(
                f"{labels} holds the class id {y.max()} at {y.argmax()}, expected ids below {most}, since there are "
                f"{examples} examples and at most {_MOST_CLASSES} classes; number the classes from 0"
            )
    return x_train, y_train, x_test, y_test


def _read(stream: BinaryIO, path: Path) -> np.ndarray:
    start = stream.read(4)
    if not b"\0\0".startswith(start[:2]):
        raise ValueError(
            f"{path} is no IDX file: it starts with the bytes {start.hex(' ')}, expected 00 00, a type code and the "
            f"number of dimensions; pass an IDX file, plain or gzipped"
        )
    if len(start) < 4:
        raise ValueError(f"{path} ends inside its header: {len(start)} bytes came, expected more; fetch it again")
    code, dimensions = start[2:]
    if code not in _CODES:
        known = ", ".join(f"0x{known:02X} ({np.dtype(kind).name})" for known, kind in _CODES.items())
        raise ValueError(f"{path} has the type code 0x{code:02X}, expected one of {known}; pass an IDX file")
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise ValueError(f"{path} has {dimensions} dimensions, expected 1 to {_MOST_DIMENSIONS}; reshape what it holds")
    sizes = stream.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise ValueError(
            f"{path} ends inside its header: {4 + len(sizes)} bytes came, expected {4 + 4 * dimensions} for "
            f"{dimensions} dimensions; fetch it again"
        )
    shape = struct.unpack(f">{dimensions}I", sizes)
    if 0 in shape:
        raise ValueError(f"{path} is empty: its header says shape {shape}; pass a file that holds data")

    dtype = np.dtype(_CODES[code])
    claim = dtype.itemsize * math.prod(shape)  # Python's integers, since numpy's overflow
    says = f"its header says {dtype.name} of shape {shape}, so {claim} bytes"
    if claim > MOST_BYTES:
        raise ValueError(f"{path} claims too much: {says} follow it, more than the {MOST_BYTES} that are read")
    # a byte more than claimed: it shows a body that is too long, and at the end of the stream gzip checks its sum
    body = read_up_to(stream, claim + 1)
    if len(body) != claim:
        fault, came = ("short", len(body)) if len(body) < claim else ("long", "more")
        raise ValueError(f"{path} is too {fault}: {says} were expected after it, but {came} came; fetch it again")
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _find(folder: Path, part: str, kind: str) -> Path:
    names = [f"{part}-{stem}-ubyte{end}" for stem in (kind, kind.replace("-", ".")) for end in ("", ".gz")]
    # what is no file, say a pipe, is taken only where no file is there, and refused by its name when it is opened
    there = sorted((folder / name for name in names if (folder / name).exists()), key=lambda path: not path.is_file())
    if there:
        return there[0]
    held = sorted(entry.name for entry in folder.iterdir())
    listed = ", ".join(held[:20]) + (f" and {len(held) - 20} more" if len(held) > 20 else "")
    raise FileNotFoundError(
        f"{folder} has no file {' or '.join(names)}; it holds {listed or 'nothing'}; add it, or pass another folder"
    )


def _read_pair(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    x, y = read_idx(images), read_idx(labels)
    if x.ndim < 2:
        raise ValueError(f"{images} has shape {x.shape}, expected images (examples, ...), at least 2-d")
    if np.issubdtype(x.dtype, np.floating) and not (fine := np.abs(x) <= _LARGEST).all():  # not a number is not either
        place = tuple(map(int, np.unravel_index(fine.argmin(), x.shape)))
        raise ValueError(f"{images} holds {x[place]} at {place}, expected numbers that are finite in float32")
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"{labels} holds {y.dtype} of shape {y.shape}, expected one integer class id per example")
    if y.min() < 0:
        raise ValueError(
            f"{labels} holds the class id {y.min()} at {y.argmin()}, expected ids from 0 on; renumber the classes"
        )
    if len(x) != len(y):
        raise ValueError(f"{images} holds {len(x)} images, but {labels} holds {len(y)} labels; expected as many")
    return x, y
