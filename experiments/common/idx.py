"""IDX files, the format in which MNIST comes: big-endian `00 00 TT ND`, ND uint32 sizes, then the data.

A header is only a claim: memory here follows what a file holds, never what its header says it holds.
"""

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from experiments.common.files import MOST_BYTES, opened, read_up_to

_DTYPES = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_GZIP_MAGIC = b"\x1f\x8b"
_MOST_DIMENSIONS = 64  # numpy's own limit
_MOST_CLASSES = 10_000  # a network has one output for each, so one wrong id would make it any size
_LARGEST = float(np.finfo(np.float32).max)


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """One IDX file as an array.

    Args:
        path: The file, plain or gzipped. Its first bytes tell which, not its name.

    Returns:
        An array of the header's shape: uint8, int8, int16, int32, float32 or float64, in native byte order.

    Raises:
        ValueError: The file is no ordinary file, is no IDX file, is empty, is a damaged gzip file, holds or claims to
            hold more than `MOST_BYTES`, or its body is not as long as its header says. The message names the file.
        OSError: The file cannot be opened or read.
    """
    path = Path(path)
    with opened(path) as file:
        magic = file.read(2)
        file.seek(0)
        if magic != _GZIP_MAGIC:
            return _read(file, path)
        try:
            with gzip.GzipFile(fileobj=file) as stream:
                return _read(cast(BinaryIO, stream), path)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is a damaged gzip file ({error}); fetch or compress it again") from error


def read_idx_folder(folder: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The four files of a data set that is published the way MNIST is.

    Args:
        folder: Holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
            `t10k-labels-idx1-ubyte`. A dot may stand before `idx`, and `.gz` at the end. Where a file is there
            under several of these names, a hyphen goes before a dot, and then plain before `.gz`.

    Returns:
        `(x_train, y_train, x_test, y_test)`: images `(examples, *shape)` and class ids `(examples,)`, as stored.

    Raises:
        FileNotFoundError: There is no such folder, or a file is missing.
        ValueError: A file is refused by `read_idx`, images are not at least 2-d or hold what is not finite in float32,
            labels are not 1-d integers from 0 on, there are more classes than examples or than 10,000, or files do
            not belong together.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; pass the one that holds the four IDX files")
    # all four are found before one is read, so that a missing one is reported at once
    train_paths, test_paths = (
        (_find(folder, part, "images-idx3"), _find(folder, part, "labels-idx1")) for part in ("train", "t10k")
    )
    x_train, y_train = _read_pair(*train_paths)
    x_test, y_test = _read_pair(*test_paths)
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            f"images of {train_paths[0]} have shape {x_train.shape[1:]}, but those of {test_paths[0]} have "
            f"{x_test.shape[1:]}; pass a folder whose files belong together"
        )
    most = min(_MOST_CLASSES, len(y_train) + len(y_test))
    for (_, labels), y in ((train_paths, y_train), (test_paths, y_test)):
        if y.max() >= most:
            raise ValueError(
                f"{labels} holds the class id {y.max()} at {y.argmax()}, expected ids below {most}, since there are "
                f"{len(y_train) + len(y_test)} examples and at most {_MOST_CLASSES} classes; number the classes from 0"
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
    if code not in _DTYPES:
        known = ", ".join(f"0x{known:02X} ({dtype.name})" for known, dtype in _DTYPES.items())
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

    dtype = _DTYPES[code]
    claim = dtype.itemsize * math.prod(shape)  # Python's integers, since numpy's overflow
    says = f"its header says {dtype.name} of shape {shape}, so {claim} bytes"
    if claim > MOST_BYTES:
        raise ValueError(f"{path} claims too much: {says} follow it, more than the {MOST_BYTES} that are read")
    # a byte more than claimed: it shows a body that is too long, and at the end of the stream gzip checks its sum
    body = read_up_to(stream, claim + 1)
    if len(body) != claim:
        fault, came = ("short", f"{len(body)}") if len(body) < claim else ("long", "more")
        raise ValueError(f"{path} is too {fault}: {says} were expected after it, but {came} came; fetch it again")
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _find(folder: Path, part: str, kind: str) -> Path:
    names = [f"{part}-{stem}-ubyte{end}" for stem in (kind, kind.replace("-", ".")) for end in ("", ".gz")]
    # what is no file, say a pipe, is taken only where no file is there, and refused by its name when it is opened
    for is_there in (Path.is_file, Path.exists):
        for name in names:
            if is_there(folder / name):
                return folder / name
    held = sorted(entry.name for entry in folder.iterdir())
    listed = ", ".join(held[:20]) + (f" and {len(held) - 20} more" if len(held) > 20 else "")
    raise FileNotFoundError(
        f"{folder} has no file {' or '.join(names)}; it holds {listed or 'nothing'}; "
        f"add the file, or pass another folder"
    )


def _read_pair(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    x, y = read_idx(images), read_idx(labels)
    if x.ndim < 2:
        raise ValueError(f"{images} has shape {x.shape}, expected images (examples, ...), at least 2-d")
    if np.issubdtype(x.dtype, np.floating) and not (fine := np.abs(x) <= _LARGEST).all():  # not a number is not either
        place = tuple(int(index) for index in np.unravel_index(fine.argmin(), x.shape))
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
