"""Records: JSON that is JSON, and lines that are there whole or not at all."""

import errno
import json
import os

import numpy as np
import pytest

from jaxbp.experiments.common.records import append_line, as_json


def no_constant(name):
    raise AssertionError(f"{name} is no JSON")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float64("nan")])
def test_what_is_not_finite_is_null_wherever_it_stands(value):
    text = as_json({"a": value, "b": [1.5, (value, {"c": value})], "d": None}, indent=1)
    expected = {"a": None, "b": [1.5, [None, {"c": None}]], "d": None}
    assert json.loads(text, parse_constant=no_constant) == expected


def test_a_line_that_does_not_fit_is_taken_back_and_the_error_names_the_file(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    append_line(path, '{"epoch": 0}')
    write = os.write
    room = 5

    def on_a_full_disk(file, content):
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(file, content[:room])
        room -= written
        return written

    monkeypatch.setattr(os, "write", on_a_full_disk)
    with pytest.raises(OSError, match=r"No space left on device, while writing: '.*metrics.jsonl'"):
        append_line(path, '{"epoch": 1}')
    assert path.read_text() == '{"epoch": 0}\n'
    monkeypatch.setattr(os, "write", lambda file, content: write(file, content[:3]))
    append_line(path, '{"epoch": 1}')
    assert path.read_text() == '{"epoch": 0}\n{"epoch": 1}\n'
