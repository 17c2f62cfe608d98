"""Files of arrays: what they cannot hold, and that nothing of them is executed or unpacked before it is looked at."""

import json
import os
import pickle
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from described import DATA, NETWORK, PARAMS, complaint, run

from jaxbp.experiments.tools import array_files


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_nothing_is_unpickled(folder):
    trap = folder / "executed"
    np.savez(folder / "trap.npz", **{"delta.o": np.array([Payload(trap)], object)}, allow_pickle=True)
    assert "'delta.o.npy' in " in (message := complaint(folder, "trap.npz"))
    assert "holds Python objects, which can only be unpickled" in message
    pickled = pickle.dumps(Payload(trap))
    for name, mine in (("trap.npz", "trap.npz"), ("trap.json", "trap.json"), ("net.toml", "right.npz")):
        (folder / name).write_bytes(pickled)
        assert f"{name} is no " in complaint(folder, mine)
    assert not trap.exists()
    pickle.loads(pickled)
    assert trap.exists()  # the trap is one


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", "mine.json holds a list, expected an object such as {'delta.o': [[…]]}"),
        ('{"loss": 1, "loss": 2}', "mine.json is no JSON file: 'loss' is there twice"),
        ('{"loss": ', "mine.json is no JSON file: Expecting value"),
        ("\udcff", "mine.json is no JSON file: "),
        ("[" * 100_000, "mine.json is nested too deeply"),
        ("{}", "mine.json: nothing was handed in"),
        ('{"grad.h1": 1}', "mine.json: there is no quantity 'grad.h1' (did you mean"),
        ('{"delta.o": [[1, 2]]}', "mine.json: delta.o has shape (1, 2), expected (2, 2)"),
        ('{"delta.o": [[1, 2], [3]]}', "mine.json: delta.o cannot be read as an array"),
        ('{"loss": null}', "mine.json: loss is None, expected an array of real numbers"),
    ],
)
def test_what_a_json_file_cannot_be(folder, content, message):
    (folder / "mine.json").write_text(content, encoding="utf-8", errors="surrogateescape")
    assert message in complaint(folder, "mine.json")


def test_nan_is_a_number_and_a_wrong_one(folder):
    (folder / "mine.json").write_text('{"delta.o": [[NaN, 1], [-Infinity, 0]]}')
    report, printed = run(folder, "mine.json", json=folder / "report.json")
    assert report.verdict == "wrong"
    assert "2 of its 4 elements are NaN or infinite" in printed
    assert json.loads((folder / "report.json").read_text())["quantities"]["delta.o"]["mine"] == "nan"


def npy(shape, data=b"", descr="<f8"):
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


NUMBER = npy((), b"12345678")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy((2**40,)), "'loss.npy' in PATH is damaged: its size is not that of float64 of shape (1099511627776,)"),
        (npy((-1, -1), b"12345678"), "is damaged: its size is not that"),
        (NUMBER.replace(b"}", b"["), "is no NumPy array ("),
        (NUMBER.replace(b"\x01\x00", b"\x07\x00", 1), "is no NumPy array ("),
        (npy((), b"12345678", "|O"), "holds Python objects"),
        (npy((), b"12", "|V2"), 'save it as float32, and describe the network with dtype = "bfloat16"'),
        (npy((3,), b"123", "|S1"), "loss is an array of |S1, expected an array of real numbers"),
        (b"hello", "is no NumPy array ("),
    ],
)
def test_what_an_npz_file_cannot_hold(folder, content, message):
    with zipfile.ZipFile(folder / "mine.npz", "w") as archive:
        archive.writestr("loss.npy", content)
    assert message.replace("PATH", str(folder / "mine.npz")) in complaint(folder, "mine.npz")


def test_an_npz_file_that_numpy_did_not_write(folder):
    path = folder / "mine.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("loss.npy", NUMBER)
    assert "is compressed as NumPy compresses nothing" in complaint(folder, "mine.npz")
    np.savez_compressed(path, loss=np.zeros(1000))
    content = path.read_bytes()
    directory = content.index(b"PK\x01\x02")
    path.write_bytes(content[: directory + 24] + struct.pack("<I", 2**32 - 2) + content[directory + 28 :])
    assert complaint(folder, "mine.npz").endswith("more than 1073741824; hand in less")
    for damaged in (content[:-30], content[:20] + content[60:], b"", content[:60] + b"\0" * 8 + content[68:]):
        path.write_bytes(damaged)
        assert re.search(r"mine.npz is no .npz file \(|in .*mine.npz is", complaint(folder, "mine.npz"))


def test_arrays_of_a_wrong_size_are_not_unpacked(folder, monkeypatch):
    big = np.zeros(2**22)
    for name, arrays in {
        "mine": {"grad.o.h1": big, "loss": 1.0},
        "other": {"grad.o.h2": big},
        "batch": {"x": np.ones((2, 3)), "y": big},
        "wide": {"x": big.reshape(-1, 4), "y": [0, 1]},
        "params": {"W.h1.x": big},
    }.items():
        np.savez_compressed(folder / f"{name}.npz", **arrays)
    monkeypatch.setattr(array_files, "_read_member", None)
    assert "'grad.o.h1' in " in (message := complaint(folder, "mine.npz"))
    assert message.endswith("has shape (4194304,), 33554560 bytes; expected 4 numbers")
    assert "'grad.o.h2' in " in (message := complaint(folder, "other.npz"))
    assert message.endswith("expected 6 numbers")  # the most that any weight has: keys may be others' names
    for named, head in (("data", "batch"), ("data", "wide"), ("params", "params")):
        blocks = {"data": DATA, "params": PARAMS} | {named: ""}
        text = f'loss = "cross_entropy"\n{named} = "{head}.npz"\n{NETWORK}{blocks["params"]}{blocks["data"]}'
        (folder / "net.toml").write_text(text, encoding="utf-8")
        assert f"{head}.npz has shape (" in complaint(folder, "right.npz")


@pytest.mark.parametrize("name", ["net.toml", "mine.npz", "mine.json", "mine.py"])
def test_what_is_no_ordinary_file_is_not_waited_for(folder, name):
    path = folder / name
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        path.unlink(missing_ok=True)
        make(path)
        mine = "right.npz" if name == "net.toml" else name
        assert f"{name} is a pipe, a device or the like" in complaint(folder, mine)
