"""The reader of IDX files: what it reads, and that it refuses the rest in words and without the memory it claims."""

import gzip
import math
import os
import re
import struct
import tracemalloc
import zlib
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxbp.experiments.common.idx import read_idx, read_idx_folder

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}
PACKINGS = {"plain": bytes, "gzip": lambda content: gzip.compress(content, 1, mtime=0)}
MEGABYTE = 1 << 20


def header(code: int, *shape: int) -> bytes:
    return struct.pack(f">HBB{len(shape)}I", 0, code, len(shape), *shape)


def idx_bytes(array: np.ndarray) -> bytes:
    return header(CODES[array.dtype.name], *array.shape) + array.astype(array.dtype.newbyteorder(">")).tobytes()


SMALL = idx_bytes(np.arange(6, dtype=np.int16).reshape(2, 3))


@contextmanager
def little_memory():
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 2 * MEGABYTE
    finally:
        tracemalloc.stop()


def with_limits(name: str) -> np.ndarray:
    dtype = np.dtype(name)
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return np.array([[[limits.min, 0, 1]], [[2, 3, limits.max]]], dtype)


LONGER_THAN_A_PIECE = np.random.default_rng(0).integers(0, 256, (3, 1000, 257), np.uint8)
READ = [
    *((idx_bytes(array), array) for array in map(with_limits, CODES)),
    (SMALL, np.arange(6, dtype=np.int16).reshape(2, 3)),
    (bytes.fromhex("0000 0B 02 00000001 00000002 0102 FFFE"), np.array([[258, -2]], np.int16)),
    (idx_bytes(LONGER_THAN_A_PIECE), LONGER_THAN_A_PIECE),
    (header(0x08, *[1] * 64) + b"\7", np.full((1,) * 64, 7, np.uint8)),  # as many dimensions as numpy has
]


@pytest.mark.parametrize("name", ["file.bin", "packed.gz"])
@pytest.mark.parametrize("packing", PACKINGS)
def test_what_was_written_comes_back_and_the_bytes_tell_what_a_file_is_not_its_name(packing, name, tmp_path):
    for content, expected in READ:
        (tmp_path / name).write_bytes(PACKINGS[packing](content))
        got = read_idx(str(tmp_path / name))
        assert got.dtype.isnative
        np.testing.assert_array_equal(got, expected, strict=True)
        got[0] = 0  # nobody needs a copy to work on it


SHORT = r"is too short: its header says int16 of shape \(2, 3\), so 12 bytes were expected after it, but {} came"
LONG = r"is too long: its header says int16 of shape \(2, 3\), so 12 bytes were expected after it, but more came"
REFUSED = [
    # what a file holds, plain or gzipped, and what is said of it
    *(
        (start, f"is no IDX file: it starts with the bytes {start[:4].hex(' ')}, expected 00 00")
        for start in (b"\x89PNG\r\n\x1a\n", b"\0\1" + SMALL[2:], b"\1\0" + SMALL[2:], b"P")
    ),
    *(
        (header(code, 1) + b"\0", rf"has the type code 0x{code:02X}, expected one of 0x08 \(uint8\), .*\(float64\)")
        for code in (0x00, 0x07, 0x0A, 0x0F, 0xFF)
    ),
    (header(0x08) + b"\0", "has 0 dimensions, expected 1 to 64"),
    (header(0x08, *[1] * 65) + b"\0", "has 65 dimensions, expected 1 to 64"),
    *(
        (header(0x08, *shape), f"is empty: its header says shape {re.escape(str(shape))}")
        for shape in [(0,), (0, 28, 28), (3, 0), (0, 2**32 - 1, 2**32 - 1)]
    ),
    *(
        (SMALL[:length], f"ends inside its header: {length} bytes came, expected {'more' if length < 4 else 12}")
        for length in range(12)
    ),
    *((SMALL[: 12 + held], SHORT.format(held)) for held in (0, 1, 11)),
    *((SMALL + bytes(extra), LONG) for extra in (1, 12, 3 * MEGABYTE)),
    (header(0x08, 2**30) + b"\1", rf"is too short: .* so {2**30} bytes were expected after it, but 1 came"),
    # the last two are 1 modulo 2³² and 1 modulo 2⁶⁴: a product of fixed width would find them right for one byte
    *(
        (header(code, *shape) + b"\1", f"claims too much: .* {size * math.prod(shape)} .*, more than the {2**30} that")
        for code, size, shape in [
            (0x08, 1, (2**30 + 1,)),
            (0x0E, 8, (2**27 + 1,)),
            (0x08, 1, (2**32 - 1,) * 64),
            (0x08, 1, (641, 6700417)),
            (0x08, 1, (641, 6700417, 2**32 - 1) * 2),
        ]
    ),
]


@pytest.mark.parametrize("packing", PACKINGS)
def test_what_is_refused_takes_no_memory_and_is_named(packing, tmp_path):
    path = tmp_path / "some-file"
    for content, message in REFUSED:
        path.write_bytes(PACKINGS[packing](content))
        with little_memory(), pytest.raises(ValueError, match=f"^{re.escape(str(path))} {message}"):
            read_idx(path)


@pytest.mark.parametrize(
    ("size", "message"), [(2**30, "more came"), (2**30 + 1, f"holds {2**30 + 1} bytes, more than the {2**30} that")]
)
def test_a_large_file_is_not_read(size, message, tmp_path):
    path = tmp_path / "large"
    path.write_bytes(header(0x08, 1000))
    os.truncate(path, size)  # sparse: it takes no room
    with little_memory(), pytest.raises(ValueError, match=f"large .*{message}"):
        read_idx(path)


@pytest.mark.parametrize("target", [None, "/dev/zero"])
def test_only_an_ordinary_file_is_read(target, tmp_path):
    path = write_folder(tmp_path) / "train-labels-idx1-ubyte"
    path.unlink()
    path.symlink_to(target) if target else os.mkfifo(path)
    for read, where in ((read_idx, path), (read_idx_folder, tmp_path)):
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))} is a pipe, a device or the like, expected"):
            read(where)


def test_a_folder_in_the_place_of_a_file(tmp_path):
    path = write_folder(tmp_path) / "train-labels-idx1-ubyte"
    path.rename(tmp_path / "kept")
    path.mkdir()
    with pytest.raises(IsADirectoryError, match=str(path)):
        read_idx_folder(tmp_path)
    (tmp_path / "train-labels.idx1-ubyte").symlink_to("kept")  # a file that does goes before it
    np.testing.assert_array_equal(read_idx_folder(tmp_path)[1], Y_TRAIN)


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """64 MB of zeros behind a header that claims 1000."""
    packer = zlib.compressobj(level=1, wbits=31)
    zeros = bytes(MEGABYTE)
    pieces = [packer.compress(header(0x08, 10, 100)), *(packer.compress(zeros) for _ in range(64)), packer.flush()]
    return b"".join(pieces)


@pytest.mark.parametrize("tail", ["whole", "damaged"])
def test_a_gzip_bomb_is_refused_without_reading_it(tail, bomb, tmp_path):
    path = tmp_path / "bomb"
    # whoever reads on finds the damage, and says so instead
    path.write_bytes(bomb if tail == "whole" else bomb[: len(bomb) // 2] + b"\xff" * 1000)
    with little_memory(), pytest.raises(ValueError, match=r"bomb is too long: .* so 1000 bytes .* but more came"):
        read_idx(path)


PACKED = gzip.compress(SMALL, mtime=0)  # it names tests, so it must not hold the time


DAMAGED = [
    *(PACKED[:length] for length in range(2, len(PACKED))),
    PACKED[:2] + b"\x07" + PACKED[3:],  # an unknown method
    PACKED[:10] + b"\xff" * 8 + PACKED[18:],  # no deflate stream
    PACKED[:-8] + bytes([PACKED[-8] ^ 1]) + PACKED[-7:],  # another check sum
    PACKED[:-1] + b"\x01",  # another length
    PACKED + b"more",
]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *((content, r"a is a damaged gzip file \(.+\); fetch or compress it again") for content in DAMAGED),
        (gzip.compress(PACKED, mtime=0), "a is no IDX file: it starts with the bytes 1f 8b 08 00"),
    ],
)
def test_a_gzip_file_that_is_damaged_or_packed_twice(content, message, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_idx(tmp_path / "a")


def test_no_file_stays_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "nothing")


FLIPS = st.lists(st.tuples(st.integers(0, 80), st.integers(1, 255)), max_size=3)
REMOVALS = st.lists(st.tuples(st.integers(0, 80), st.integers(1, 8)), max_size=2)


@pytest.mark.parametrize("packing", PACKINGS)
@given(name=st.sampled_from(list(CODES)), flips=FLIPS, removals=REMOVALS, more=st.binary(max_size=8))
@example(name="uint8", flips=[(2, 1)], removals=[], more=b"")  # now int8, and sound
@example(name="uint8", flips=[(7, 1), (11, 1)], removals=[], more=b"")  # now (3, 2), and sound
@example(name="int16", flips=[], removals=[(12, 1)], more=b"1")
@settings(deadline=None, max_examples=200)
def test_an_edited_file_is_read_by_its_header_or_refused(tmp_path_factory, packing, name, flips, removals, more):
    content = bytearray(PACKINGS[packing](idx_bytes(np.arange(6, dtype=name).reshape(2, 3))))
    for place, bits in flips:
        content[min(place, len(content) - 1)] ^= bits
    for place, count in removals:
        place = min(place, len(content) - 1)
        del content[place : place + count]
    content = bytes(content + more)
    path = tmp_path_factory.getbasetemp() / "edited"
    path.write_bytes(content)
    try:
        got = read_idx(path)
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017  both ends are fine, and both are checked
        return
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    code, dimensions = content[2:4]
    body = content[4 + 4 * dimensions :]
    assert CODES[got.dtype.name] == code
    assert got.shape == struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
    assert got.astype(got.dtype.newbyteorder(">")).tobytes() == body


X_TRAIN, Y_TRAIN = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3), np.array([0, 1, 2, 1, 0], np.uint8)
X_TEST, Y_TEST = X_TRAIN[:2] + 100, Y_TRAIN[:2]
CONTENTS = {"train-images": X_TRAIN, "train-labels": Y_TRAIN, "t10k-images": X_TEST, "t10k-labels": Y_TEST}
FORMATS = ["{}-{}-ubyte", "{}-{}-ubyte.gz", "{}.{}-ubyte", "{}.{}-ubyte.gz"]


def write_folder(folder: Path, spelling: str = FORMATS[0], **changed: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    for part, array in (CONTENTS | {name.replace("_", "-"): array for name, array in changed.items()}).items():
        content = idx_bytes(array)
        name = spelling.format(part, "idx3" if "images" in part else "idx1")
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder


@pytest.mark.parametrize("spelling", FORMATS)
def test_a_folder_in_every_spelling(spelling, tmp_path):
    write_folder(tmp_path, spelling)
    for other in FORMATS:  # they may be mixed
        next(tmp_path.glob("train-images*")).rename(tmp_path / other.format("train-images", "idx3"))
        for got, expected in zip(read_idx_folder(str(tmp_path)), CONTENTS.values(), strict=True):
            np.testing.assert_array_equal(got, expected, strict=True)


def test_which_of_several_spellings_is_taken(tmp_path):
    for value, spelling in enumerate(FORMATS):
        write_folder(tmp_path, spelling, train_images=np.full_like(X_TRAIN, value))
    for value, spelling in enumerate(FORMATS):
        assert read_idx_folder(tmp_path)[0][0, 0, 0] == value
        (tmp_path / spelling.format("train-images", "idx3")).unlink()


@pytest.mark.parametrize("part", CONTENTS)
def test_a_missing_file_is_reported_before_any_is_read(part, tmp_path):
    name = FORMATS[0].format(part, "idx3" if "images" in part else "idx1")
    (write_folder(tmp_path) / name).unlink()
    for path in tmp_path.iterdir():
        path.write_bytes(b"damaged")
    dotted = name.replace("-idx", ".idx")
    others = ", ".join(sorted(path.name for path in tmp_path.iterdir()))
    message = f"{tmp_path} has no file {name} or {name}.gz or {dotted} or {dotted}.gz; it holds {others};"
    with pytest.raises(FileNotFoundError, match=re.escape(message)):
        read_idx_folder(tmp_path)


def test_no_folder_and_an_empty_and_a_crowded_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="it holds nothing"):
        read_idx_folder(tmp_path)
    for number in range(30):
        (tmp_path / f"{number:02}").touch()
    with pytest.raises(FileNotFoundError, match=r"it holds 00, 01, .*, 19 and 10 more;"):
        read_idx_folder(tmp_path)
    for path in (tmp_path / "missing", tmp_path / "00"):
        with pytest.raises(FileNotFoundError, match=f"{re.escape(str(path))} is no folder; pass the one"):
            read_idx_folder(path)


UNFIT = [
    ("images", np.zeros(5, np.uint8), r"has shape \(5,\), expected images .* at least 2-d"),
    *(
        ("images", np.array([[1, 0], [3, bad]]), rf"holds {re.escape(str(np.float64(bad)))} at \(1, 1\), expected")
        for bad in (np.nan, np.inf, -np.inf, 1e200, -1e200, 3.5e38)
    ),
    ("images", np.array([[1, np.nan]], np.float32), r"holds nan at \(0, 1\), expected numbers that are finite"),
    ("images", X_TRAIN[:1], r"holds 1 images, but .*-labels-idx1-ubyte holds \d labels; expected as many"),
    ("labels", np.zeros((5, 1), np.uint8), r"holds uint8 of shape \(5, 1\), expected one integer"),
    ("labels", np.zeros(5, np.float32), r"holds float32 of shape \(5,\), expected one integer"),
    ("labels", np.array([0, -1], np.int8), "holds the class id -1 at 1, expected ids from 0 on"),
]


@pytest.mark.parametrize("part", ["train", "t10k"])
@pytest.mark.parametrize(("kind", "array", "message"), UNFIT)
def test_arrays_that_do_not_do(part, kind, array, message, tmp_path):
    write_folder(tmp_path, **{f"{part}_{kind}": array})
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / part}-{kind}-idx") + "[13]-ubyte " + message):
        read_idx_folder(tmp_path)


@pytest.mark.parametrize("part", ["train", "t10k"])
@pytest.mark.parametrize(("examples", "most"), [(4, 7), (20_000, 10_000)])
def test_one_wrong_class_id_makes_no_network_of_any_size(part, examples, most, tmp_path):
    arrays = {}
    for name in ("train", "t10k"):
        count = examples if name == part else 3
        arrays |= {f"{name}_images": np.zeros((count, 1), np.uint8), f"{name}_labels": np.zeros(count, np.int32)}
    for wrong in (most - 1, most, 10**7):
        arrays[f"{part}_labels"][2] = wrong
        write_folder(tmp_path, **arrays)
        message = re.escape(f"{part}-labels-idx1-ubyte holds the class id {wrong} at 2, expected ids below {most}, ")
        with pytest.raises(ValueError, match=message) if wrong >= most else nullcontext():
            read_idx_folder(tmp_path)


def test_images_of_two_sizes(tmp_path):
    write_folder(tmp_path, t10k_images=np.zeros((2, 3, 3), np.uint8))
    message = r"train-images-.* have shape \(2, 3\), but those of .*t10k-images-.* \(3, 3\)"
    with pytest.raises(ValueError, match=message):
        read_idx_folder(tmp_path)
