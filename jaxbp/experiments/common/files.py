"""Files: read only where they are ordinary ones and within limits, and written whole or not at all."""

import os
import secrets
import stat
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

MOST_BYTES = 2**30
"""What is read of one file at most, and what the arrays in it may take up together."""


@contextmanager
def opened(path: Path, most: int = MOST_BYTES) -> Generator[BinaryIO]:
    """An ordinary file, open for reading in a `with` statement; a link leads to its file.

    Args:
        path: The file.
        most: How many bytes it may have.

    Raises:
        OSError: It cannot be opened or read, as the system says; the error names it.
        ValueError: It is a pipe, a device or the like, which may never end, or larger than that.
    """
    # without NONBLOCK a pipe would be waited for, whatever it turns out to be
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        status = os.fstat(file.fileno())
        _check_ordinary(path, status)
        if status.st_size > most:
            raise ValueError(f"{path} holds {status.st_size} bytes, more than the {most} that are read; hand in less")
        try:
            yield file
        except OSError as error:
            if error.errno is None or error.filename is not None:
                raise
            raise type(error)(error.errno, f"{error.strerror}, while reading", str(path)) from error


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """All of an ordinary file, as `opened` has it."""
    with opened(path, most) as file:
        content = file.read(most + 1)
    if len(content) > most:  # it has grown, or is one of those that the system makes up and whose size is 0
        raise ValueError(f"{path} holds more than the {most} bytes that are read; hand in less")
    return content


def read_up_to(stream: BinaryIO, size: int) -> bytearray:
    """At most `size` bytes, piece by piece: one large read would allocate them all, whether they come or not."""
    body = bytearray()
    while len(body) < size and (piece := stream.read(min(size - len(body), 1 << 18))):
        body += piece
    return body


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all: what stood there before stays until all of the new content is on the disk.

    A link is replaced and not followed, and of a hard link the other names keep what they had.

    Args:
        path: The file; its folder is there.
        content: Its bytes, or its text, which is written in UTF-8.

    Raises:
        OSError: It cannot be written; the error names it.
        ValueError: There is a pipe, a device or the like in its place.
    """
    path = Path(path)
    if path.exists():
        _check_ordinary(path, path.stat())
    beside = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with beside.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise type(error)(error.errno, f"{error.strerror}, while writing", str(path)) from error
    finally:
        with suppress(OSError):
            beside.unlink()


def is_one_of(path: Path, others: Iterable[Path]) -> bool:
    """Whether a path leads to one of these files, by whatever name or link."""
    return path.exists() and any(other.exists() and os.path.samefile(path, other) for other in others)


def _check_ordinary(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, a device or the like"
        raise ValueError(f"{path} is {kind}, expected an ordinary file")
