"""Records: numbers as JSON that any reader takes, added to a file whole or not at all."""

import json
import math
import os
from pathlib import Path
from typing import Any


def as_json(value: Any, **options: Any) -> str:
    """JSON, with null for a number that is not finite: JSON has no NaN, and a file with the bare word is none.

    Args:
        value: Of dictionaries, lists, tuples, and what `json` takes.
        options: Of `json.dumps`.

    Example:
        >>> as_json({"loss": float("nan"), "seconds": 0.5})
        '{"loss": null, "seconds": 0.5}'
    """
    return json.dumps(_finite(value), allow_nan=False, **options)


def append_line(path: Path, line: str) -> None:
    """Add a line to a file, which is made where it is not there; if that fails, the file is as it was before.

    Raises:
        OSError: It cannot be written; the error names it.
    """
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            before, left = os.fstat(file).st_size, f"{line}\n".encode()
            try:
                while left:  # what a nearly full disk takes is a part of it
                    left = left[os.write(file, left) :]
            except BaseException:
                os.ftruncate(file, before)
                raise
        finally:
            os.close(file)
    except OSError as error:
        raise type(error)(error.errno, f"{error.strerror}, while writing", str(path)) from error


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
