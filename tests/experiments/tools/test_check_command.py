"""The command line of jaxbp.check: every form of input, every refusal, and that data is never executed."""

import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import textwrap
import warnings
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import jaxbp
from experiments.tools import array_files, check
from experiments.tools.array_files import read_arrays
from experiments.tools.check import Check, ProgramError
from experiments.tools.description import read_description

LAYERS, GRAPH = (
    textwrap.dedent(block) for block in re.findall(r"(?:^    .*\n|^\n(?=    [^\n]))+", check.__doc__, re.MULTILINE)[1:]
)
"""The two examples of the module's own documentation; the graph has no parameters and no data."""
NETWORK = LAYERS[LAYERS.index("[network]") : LAYERS.index("[params.h1]")]
PARAMS = LAYERS[LAYERS.index("[params.h1]") : LAYERS.index("[data]")]
DATA = LAYERS[LAYERS.index("[data]") :]

PROGRAM = """
import numpy as np

def gradients(params, x, y, slope=lambda h: h * (1 - h)):
    h = 1 / (1 + np.exp(-(x @ params["h1"]["x"] + params["h1"]["bias"])))
    e = np.exp(h @ params["o"]["h1"] + params["o"]["bias"])
    o = e / e.sum(1, keepdims=True)
    delta_o = (o - np.eye(2)[y]) / len(y)
    delta_h1 = delta_o @ params["o"]["h1"].T * slope(h)
    return {
        "h1": {"x": x.T @ delta_h1, "bias": delta_h1.sum(0)},
        "o": {"h1": h.T @ delta_o, "bias": delta_o.sum(0)},
    }

def forgetful(params, x, y):
    return gradients(params, x, y, lambda h: 1)
"""


@pytest.fixture(scope="module")
def gradients(tmp_path_factory):
    """The right gradients of the documented network by name, and those without Φ'."""
    path = tmp_path_factory.mktemp("network") / "net.toml"
    path.write_text(LAYERS, encoding="utf-8")
    read = read_description(path)
    back = jaxbp.backprop(read.net, read.loss, jax.tree.map(jnp.asarray, read.params), jnp.asarray(read.x), read.y)
    right = {f"grad.{u}.{s}": np.asarray(W) for u, weights in back.grads.items() for s, W in weights.items()}
    Delta = np.asarray(back.Delta["h1"])
    return {"right": right, "wrong": right | {"grad.h1.x": read.x.T @ Delta, "grad.h1.bias": Delta.sum(0)}}


@pytest.fixture
def folder(tmp_path, gradients):
    (tmp_path / "net.toml").write_text(LAYERS, encoding="utf-8")
    (tmp_path / "mine.py").write_text(PROGRAM, encoding="utf-8")
    for name, arrays in gradients.items():
        np.savez_compressed(tmp_path / f"{name}.npz", **arrays)
        lists = {key: array.tolist() for key, array in arrays.items()}
        (tmp_path / f"{name}.json").write_text(json.dumps(lists))
        tree = {u: {s: lists[f"grad.{u}.{s}"] for s in ("x" if u == "h1" else "h1", "bias")} for u in ("h1", "o")}
        (tmp_path / f"{name}_tree.json").write_text(json.dumps(tree))
    return tmp_path


def run(folder, mine, network="net.toml", **options):
    console = Console(file=io.StringIO(), width=40, color_system="standard", force_terminal=True)
    report = check.main(Check(mine=f"{folder / mine}", network=folder / network, **options), console)
    return report, console.file.getvalue()


def complaint(folder, mine, **options):
    with pytest.raises((TypeError, ValueError)) as caught:
        run(folder, mine, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("mine", ["right.npz", "right.json", "right_tree.json", "mine.py", "mine.py:gradients"])
def test_a_right_gradient_in_every_form(folder, mine):
    report, printed = run(folder, mine)
    assert report.ok
    assert len(report.findings) == 4
    assert printed.startswith("\x1b[1;32mright: everything")


@pytest.mark.parametrize("mine", ["wrong.npz", "wrong.json", "wrong_tree.json", "mine.py:forgetful"])
def test_a_wrong_gradient_in_every_form(folder, mine):
    report, printed = run(folder, mine)
    assert [(m.slug, m.unit) for m in report.explanations] == [("missing-derivative", "h1")]
    assert printed.startswith("\x1b[1;31mwrong: ")
    # nothing is broken into lines, and no name in brackets is taken for markup
    assert re.sub(r"\x1b\[[0-9;]*m", "", printed) == f"{report}\n"
    assert re.search(r"grad\.h1\.x\[\d, \d\] is", printed)


def test_the_exit_code_and_the_report_for_other_programs(folder, capsys):
    def command(mine):
        arguments = [str(folder / mine), "--network", str(folder / "net.toml"), "--json", str(folder / "report.json")]
        return check.command(arguments), *capsys.readouterr()

    code, out, err = command("right.npz")
    assert (code, out, err) == (0, "right: everything handed in agrees with jax.grad in float64\n", "")
    code, out, err = command("mine.py:forgetful")
    assert (code, err) == (1, "")
    assert out.startswith("wrong: ")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert (report["verdict"], report["first_wrong"], report["score"]) == ("wrong", "grad.h1.x", 0.5)
    (folder / "mine.py").write_text("raise ValueError('two\\nlines [bold] of it')")
    code, out, err = command("mine.py")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {folder / 'mine.py'} failed:\nTraceback")
    assert err.endswith("ValueError: two\nlines [bold] of it\n")
    (folder / "net.toml").write_text(GRAPH.replace("[units.h1]", "[units.h1]\nbiass = 0"), encoding="utf-8")
    code, out, err = command("right.npz")
    assert (code, out) == (2, "")
    assert err == f"error: {folder / 'net.toml'}: the file has no 'loss'; add loss = \"cross_entropy\"\n"
    (folder / "net.toml").write_text(LAYERS + "[network.bold]\n", encoding="utf-8")
    code, _, err = command("right.npz")
    assert (code, err.count("\n")) == (2, 1)
    (folder / "net.toml").write_text(LAYERS.replace("[params.o]", "[params.o]\nx = 0"), encoding="utf-8")
    assert "params['o'] holds weights from" in command("right.npz")[2]


def test_the_process_ends_with_the_exit_code(folder):
    root = Path(__file__).parents[3]
    words = [sys.executable, "-m", "experiments.check", str(folder / "wrong.npz"), "--network", folder / "net.toml"]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert "missing-derivative: Φ' is left out" in done.stdout


def test_help_says_what_is_executed_and_shows_a_network(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as ended:
        check.command(["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "[params.h1]\n" in printed
    assert 'output = "softmax"' in printed
    assert "it is executed, with all that it may do" in printed


# descriptions


def test_files_that_a_description_names_are_found_beside_it(folder, monkeypatch):
    inline = read_description(folder / "net.toml")
    inner = folder / "inner"
    inner.mkdir()
    np.savez(inner / "batch.npz", x=inline.x, y=inline.y)
    named = {f"W.{u}.{s}": W for u, weights in inline.params.items() for s, W in weights.items()}
    np.savez(inner / "params.npz", **named)
    (inner / "params.json").write_text(json.dumps(inline.params, default=np.ndarray.tolist))
    monkeypatch.chdir(folder)
    for params in ("params.npz", "params.json"):
        text = f'loss = "cross_entropy"\ndata = "batch.npz"\nparams = "{params}"\n{NETWORK}'
        (inner / "net.toml").write_text("\ufeff" + text, encoding="utf-8")
        read = read_description(Path("inner/net.toml"))
        assert (read.net, read.loss, read.dtype) == (inline.net, inline.loss, "float64")
        for ours, theirs in zip(
            *map(jax.tree.leaves, ((read.params, read.x, read.y), inline_parts(inline))), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype


def inline_parts(described):
    return described.params, described.x, described.y


def test_the_documented_graph_with_random_parameters(tmp_path):
    path = tmp_path / "net.toml"
    text = f'loss = "squared_error"\nseed = 7\n[data]\nx = [1, 2, 3]\ny = [0, 1, 0.5]\n{GRAPH}'
    path.write_text(text)
    read = read_description(path)
    Dense, Identity = jaxbp.Dense(), jaxbp.Identity()
    assert read.net == jaxbp.Network(
        {"x": 3},
        {
            "h1": jaxbp.Unit(3, jaxbp.tanh, {"x": Dense}),
            "o": jaxbp.Unit(3, jaxbp.linear, {"h1": Dense, "x": Identity}, bias=False),
        },
    )
    with jax.enable_x64(False):  # as in a process of its own
        for dtype in ("float64", "float32"):
            path.write_text(f'dtype = "{dtype}"\n{text}')
            read = read_description(path)
            with jax.enable_x64(dtype == "float64"):
                expected = jaxbp.init_params(jax.random.key(7), read.net, dtype)
            jax.tree.map(np.testing.assert_array_equal, read.params, expected)
            assert {array.dtype.name for array in (read.x, read.y, *jax.tree.leaves(read.params))} == {dtype}


def test_several_inputs_by_table_and_by_name(tmp_path):
    units = '[inputs]\nx = 2\nlate = 2\n[units.h]\nwidth = 2\nactivation = "relu"\nfrom = ["late"]\n'
    units += '[units.o]\nwidth = 2\nactivation = "linear"\nbias = false\n'
    units += 'connections = {x = "Identity", h = "Identity"}\n'
    top = 'loss = "squared_error"\nseed = 0\n'
    x, late, y = np.ones((4, 2)), np.zeros((4, 2)), np.ones((4, 2))
    np.savez(tmp_path / "batch.npz", **{"x.x": x, "x.late": late, "y": y})
    table = {"x": x.tolist(), "late": late.tolist()}
    inline = f"[data]\ny = {y.tolist()}\nx.x = {table['x']}\nx.late = {table['late']}\n"
    for text in (f'{top}data = "batch.npz"\n{units}', top + inline + units):
        (tmp_path / "net.toml").write_text(text)
        read = read_description(tmp_path / "net.toml")
        assert read.net.shapes["late"] == (2,)
        assert {name: array.shape for name, array in read.x.items()} == {"x": (4, 2), "late": (4, 2)}
    # a unit without weights needs no parameters
    (tmp_path / "net.toml").write_text(
        text.replace("seed = 0", "params = {h = {late = [[1, 2], [3, 4]], bias = [0, 0]}}")
    )
    assert set(read_description(tmp_path / "net.toml").params) == {"h", "o"}
    for inputs, message in (
        ({"x": x}, "data.x is one array, but the network has the inputs 'x', 'late'; write [data.x]"),
        ({"x": x, "x.late": late}, "data holds both 'x' and 'x.late'"),
        ({"x.x": x, "x.lat": late}, "data has the unknown key 'x.lat' (did you mean 'x.late'?)"),
        ({"x.x": x}, "x holds the inputs 'x', but the network has 'x', 'late'"),
        ({"x.x": x, "x.late": late[:3]}, "the inputs have different batch shapes"),
    ):
        np.savez(tmp_path / "batch.npz", y=y, **inputs)
        (tmp_path / "net.toml").write_text(f'{top}data = "batch.npz"\n{units}')
        with pytest.raises(ValueError, match=re.escape(message)):
            read_description(tmp_path / "net.toml")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_number_format_is_that_of_the_program(folder, dtype):
    single = {name: np.asarray(array, np.float32) for name, array in read_arrays(folder / "right.npz").items()}
    (folder / "single.json").write_text(json.dumps({name: array.tolist() for name, array in single.items()}))
    report, printed = run(folder, "single.json")
    assert report.verdict == "wrong"
    assert printed.endswith("the network's file\n")
    assert 'write dtype = "float32"' in printed
    (folder / "odd.json").write_text('{"delta.o": [[0.123, 1.7], [0.4, 0.1]]}')
    assert "note" not in run(folder, "odd.json")[1]
    (folder / "net.toml").write_text(LAYERS.replace("float64", dtype), encoding="utf-8")
    seen = """
        import jax.numpy as jnp
        def f(params, x, y):
            return {"grad.o.bias": params["o"]["bias"] * 0, "loss": jnp.ones(1).dtype.itemsize + x.dtype.itemsize}
    """
    (folder / "seen.py").write_text(textwrap.dedent(seen))
    assert run(folder, "seen.py:f")[0].findings[0].mine == {"float32": 8, "bfloat16": 6}[dtype]
    if dtype == "float32":
        report, printed = run(folder, "single.json")
        assert report.ok
        assert "note" not in printed


BAD = [
    ("", "", "has no 'loss'; add loss = "),
    ('loss = "cross_entropy"', 'loss = "cross_entrpy"', "no loss 'cross_entrpy' (did you mean 'cross_entropy'?)"),
    ('loss = "cross_entropy"', "loss = 3", "there is no loss 3; known are 'cross_entropy', "),
    ('loss = "cross_entropy"', 'loss = "perceptron', "net.toml is no TOML file: "),
    ("float64", "float63", "there is no dtype 'float63' (did you mean 'float64'?)"),
    ("[network]", "[netwrk]", "the file has the unknown key 'netwrk' (did you mean 'network'?)"),
    (NETWORK, "", "there is no network; add [network] with layers"),
    (NETWORK, NETWORK + "[inputs]\nx = 3\n", "both [network], for layers, and [inputs]"),
    (NETWORK, "[inputs]\nx = 3\n", "has no 'units'; add [units.o] with"),
    (NETWORK, "network = 3\n", "network is 3, expected a table: [network]"),
    (
        NETWORK,
        NETWORK + "seed = 0\n",
        "network has the unknown key 'seed' (it is one of the whole file: write it above",
    ),
    ("hidden", "hiden", "network has the unknown key 'hiden' (did you mean 'hidden'?)"),
    ('hidden = "sigmoid"', 'hidden = "sigmod"', "no activation 'sigmod' (did you mean 'sigmoid'?)"),
    ('hidden = "sigmoid"', 'hidden = ["relu", "relu"]', "network: 1 hidden layers need one activation, or 1; got 2"),
    ('hidden = "sigmoid"', 'bias = "no"', "network.bias is 'no', expected true or false"),
    ("[3, 2, 2]", '"3-2-2"', "network.layers is '3-2-2', expected widths such as [3, 2, 2]"),
    ("[3, 2, 2]", "[3, 2.0, 2]", "network: widths[1] must be a positive integer"),
    (PARAMS, "", "there are neither params nor seed; give the parameters as [params.UNIT]"),
    (PARAMS, PARAMS.replace("[params.o]", "[params.0]"), "params holds the units '0', 'h1', but the network has"),
    ('dtype = "float64"', "seed = 1", "there are both params and seed"),
    ('dtype = "float64"', 'dtype = "float64"\ndata = "b.npz"', "is no TOML file: "),
    ("[[0.1, 0.4], [-0.2, 0.3], [0.2, -0.5]]", "[[0.1, -0.2, 0.2], [0.4, 0.3, -0.5]]", "(3, 2): its transpose, with a"),
    ("[[0.3, -0.4], [0.5, 0.2]]", "[[0.3, -0.4], [0.5]]", "params.o.h1 has rows of different lengths"),
    ("[[0.3, -0.4], [0.5, 0.2]]", '[["0.3"]]', "params.o.h1 is [['0.3']], expected an array of numbers"),
    ("[[0.3, -0.4], [0.5, 0.2]]", "[]", "params.o.h1 is [], expected an array of numbers"),
    ("[[0.3, -0.4], [0.5, 0.2]]", "[0.3, -0.4]", "params['o']['h1'] has shape (2,), expected (2, 2)"),
    (DATA, "", "the file has no 'data'; add [data] with"),
    ("y = [0, 1]", "z = [0, 1]", "data has the unknown key 'z'"),
    ("y = [0, 1]", "", "data has no 'y'; add y = [0]"),
    ("y = [0, 1]", "y = [0, 2]", "data.y holds the class id 2, expected 0 to 1"),
    ("y = [0, 1]", "y = [0.0, 1.0]", "data.y holds class ids of dtype float64, expected integers: 1 for 1.0"),
    ("y = [0, 1]", "y = [0, 1, 1]", "y has shape (3,), but the output has shape (2, 2)"),
    ("y = [0, 1]", "y = [true, false]", "data.y is [True, False], expected an array of numbers"),
    ("x = [[1.0, 2.0, -1.0]", "x = [[1.0, 2.0]", "data.x has rows of different lengths"),
    ("x = [[1.0, 2.0, -1.0], [0.5, 0.0, 1.0]]", "x = [1.0, 2.0]", "x has shape (2,), but input 'x' of the network has"),
    ("x = [[1.0, 2.0, -1.0], [0.5, 0.0, 1.0]]", "x.z = [1.0]", "x holds the inputs 'z', but the network has 'x'"),
]


@pytest.mark.parametrize(("old", "new", "message"), BAD)
def test_what_a_description_cannot_be(tmp_path, old, new, message):
    assert old in LAYERS
    path = tmp_path / "net.toml"
    path.write_text(LAYERS.replace(old, new) if old else new, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_description(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('from = ["x"]', "", 'units.h1 needs either from = ["x", …], for dense connections, or [units.h1.connections]'),
        ('from = ["x"]', 'from = ["x"]\nconnections = {x = "Dense"}', "it has both"),
        ('from = ["x"]', 'from = "x"', "units.h1.from is 'x', expected names such as [\"x\"]"),
        ('from = ["x"]', "from = []", "units.h1: a unit's connections must be a non-empty dict"),
        (
            'from = ["x"]',
            'from = ["xx"]',
            "unit 'h1' reads 'xx', which is neither an input nor a unit (did you mean 'x'?)",
        ),
        ('h1 = "Dense"', 'h1 = "dense"', "there is no connection 'dense' (did you mean 'Dense'?)"),
        ('h1 = "Dense"', "h1 = 1", "there is no connection 1; known are 'Dense', 'Identity'"),
        ("[units.h1]\nwidth = 3", "[units.h1]\nwidth = 0", "units.h1: a unit's width must be a positive integer"),
        ("[units.h1]\nwidth = 3", "[units.h1]", "units.h1 has no 'width'; add width = 5"),
        ("[inputs]\nx = 3", "[inputs]\nx = 4", "unit 'o' cannot read 'x': Identity joins equal shapes"),
        ("[inputs]\nx = 3", "inputs = 3", "inputs is 3, expected a table: [inputs]"),
    ],
)
def test_what_a_graph_cannot_be(tmp_path, old, new, message):
    assert old in GRAPH
    path = tmp_path / "net.toml"
    path.write_text(f'loss = "squared_error"\nseed = 7\ndata = "b.npz"\n{GRAPH.replace(old, new)}')
    with pytest.raises(ValueError, match=re.escape(message)):
        read_description(path)


def test_files_that_are_not_there_or_do_not_fit_a_description(folder):
    top = f'loss = "cross_entropy"\ndata = "batch.npz"\nparams = "params.json"\n{NETWORK}'
    (folder / "net.toml").write_text(top)
    missing = folder / "params.json"
    assert complaint(folder, "right.npz") == (
        f"{folder / 'net.toml'}: {missing} cannot be read: No such file or directory"
    )
    missing.write_text('{"h1.x": [[1]]}')
    assert "the params hold 'h1.x', expected names such as 'W.h1.x'" in complaint(folder, "right.npz")
    assert "nothere.toml cannot be read: No such file" in complaint(folder, "right.npz", network="nothere.toml")
    (folder / "net.toml").write_text(top.replace("params.json", "params.txt"))
    assert "params.txt is none of '.npz', '.json', which hold arrays" in complaint(folder, "right.npz")
    (folder / "net.toml").write_text(LAYERS.replace("float64", "float16").replace("[0.0, 0.2]", "[1e9, 0.2]"))
    assert "params.o.bias holds 1e+09, which is too large for float16" in complaint(folder, "right.npz")


# data that is handed in


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
    for name in ("trap.npz", "trap.json"):
        (folder / name).write_bytes(pickle.dumps(Payload(trap)))
        assert f"{name} is no " in complaint(folder, name)
    (folder / "net.toml").write_bytes(pickle.dumps(Payload(trap)))
    assert "net.toml is no TOML file" in complaint(folder, "right.npz")
    assert not trap.exists()
    pickle.loads((folder / "trap.json").read_bytes())
    assert trap.exists()  # the trap is one


@pytest.mark.parametrize("name", ["mine.txt", "mine.json", "mine.npz", "mine", "mine.PY", "mine.pyc"])
def test_a_program_runs_only_under_its_own_suffix(folder, name):
    trap = folder / "executed"
    program = f"open({str(trap)!r}, 'w').close()\n{PROGRAM}"
    (folder / name).write_text(program)
    complaint(folder, name)
    complaint(folder, f"{name}:gradients")
    assert not trap.exists()
    (folder / "mine.py").write_text(program)
    assert run(folder, "mine.py")[0].ok
    assert trap.exists()


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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy((2**40,)), "'loss.npy' in PATH is damaged: its size is not that of float64 of shape (1099511627776,)"),
        (npy((-1, -1), b"12345678"), "is damaged: its size is not that"),
        (npy((), b"12345678").replace(b"}", b"["), "is no NumPy array ("),
        (npy((), b"12345678").replace(b"\x01\x00", b"\x07\x00", 1), "is no NumPy array ("),
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


def test_an_npz_file_that_claims_to_be_huge_or_is_damaged(folder):
    path = folder / "mine.npz"
    np.savez_compressed(path, loss=np.zeros(1000))
    content = path.read_bytes()
    directory = content.index(b"PK\x01\x02")
    path.write_bytes(content[: directory + 24] + struct.pack("<I", 2**32 - 2) + content[directory + 28 :])
    assert complaint(folder, "mine.npz").endswith("more than 1073741824; hand in less")
    for damaged in (content[:-30], content[:20] + content[60:], b"", content[:60] + b"\0" * 8 + content[68:]):
        path.write_bytes(damaged)
        assert re.search(r"mine.npz is no .npz file \(|in .*mine.npz is", complaint(folder, "mine.npz"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("loss.npy", npy((), bytes(8)))
    assert "is compressed as NumPy compresses nothing" in complaint(folder, "mine.npz")


def test_names_that_are_none(folder):
    assert "none.npz cannot be read: No such file" in complaint(folder, "none.npz")
    assert "none.py cannot be read: No such file" in complaint(folder, "none.py")
    assert "right.json:f names a function, which only a .py file has" in complaint(folder, "right.json:f")
    assert "net.toml is none of '.npz', '.json', '.py'" in complaint(folder, "net.toml")
    for name in ("net.toml", "right.npz"):
        before = (folder / name).read_bytes()
        assert "would overwrite what is read" in complaint(folder, "right.npz", json=folder / name)
        assert (folder / name).read_bytes() == before


# programs


def fails(folder, program, mine="mine.py"):
    (folder / "mine.py").write_text(textwrap.dedent(program))
    with pytest.raises(ProgramError) as caught:
        run(folder, mine)
    return str(caught.value)


def test_a_program_that_fails_is_blamed_with_its_own_traceback(folder):
    message = fails(folder, "def gradients(params, x, y):\n    return x @ params['h2']\n")
    assert message.startswith(f'{folder / "mine.py"} failed:\nTraceback (most recent call last):\n  File "{folder}')
    assert message.endswith("KeyError: 'h2'")
    assert "line 2, in gradients\n    return x @ params" in message
    message = fails(
        folder, "import jax\n\ndef gradients(params, x, y):\n    return jax.jit(lambda x: x @ x[0, 0])(x)\n"
    )
    assert message.count("File ") == 2  # the function and its lambda, and nothing of jax
    assert "SyntaxError" in fails(folder, "def gradients(:\n")
    assert message != fails(folder, "raise ValueError('at import')\n")
    assert fails(folder, "raise SystemExit(0)\n").endswith("SystemExit: 0")
    assert fails(folder, "def gradients(*args):\n    raise SystemExit(0)\n").endswith("SystemExit: 0")


def test_a_program_without_the_function_or_with_another_result(folder):
    message = complaint(folder, "mine.py:forgetfull")
    assert "no function 'forgetfull' (did you mean 'forgetful'?); it defines 'gradients', 'forgetful'. Name" in message
    (folder / "mine.py").write_text("gradients = 3\ndef nothing(*args): pass\ndef three(*args): return 1, 2, 3\n")
    assert "has no function 'gradients'; it defines 'nothing', 'three'" in complaint(folder, "mine.py")
    assert "mine.py:nothing: what was handed in is of type NoneType" in complaint(folder, "mine.py:nothing")
    assert "the function returned 3 results" in complaint(folder, "mine.py:three")


def test_a_program_may_return_the_loss_and_write_into_its_arguments(folder):
    back = "(-np.log(o[range(2), y]).mean(), {"
    program = PROGRAM.replace("return {", f"result = {back}").replace(
        '"bias": delta_o.sum(0)},\n    }',
        ('"bias": delta_o.sum(0)},\n    })\n    x[:] = params["o"]["h1"][:] = y[:] = 0\n    return result'),
    )
    (folder / "mine.py").write_text(program)
    report, _ = run(folder, "mine.py")
    assert report.ok
    assert report.findings[0].name == "loss"


def test_a_program_has_its_own_neighbours_and_leaves_nothing_behind(folder):
    before = sys.path.copy(), set(sys.modules)
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "helper.py").write_text(f"NAME = {name!r}\n")
        program = "from dataclasses import dataclass\nfrom helper import NAME\n" + PROGRAM
        program += '@dataclass\nclass Named:\n    name: "str"\ndef named(*args):\n    raise RuntimeError(NAME)\n'
        (folder / name / "mine.py").write_text(program)
        (folder / name / "net.toml").write_text(LAYERS, encoding="utf-8")
        with pytest.raises(ProgramError, match=f"RuntimeError: {name}"):
            run(folder / name, "mine.py:named")
    assert sys.path == before[0]
    assert not {"helper", "mine", "__handed_in__"} & (set(sys.modules) - before[1])


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import os\nos._exit(0)", "ended without a result, with exit code 0"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_a_program_that_ends_its_process_is_no_right_gradient(folder, capfd, program, message):
    (folder / "mine.py").write_text(f"def gradients(*args):\n    {program.replace(chr(10), chr(10) + '    ')}\n")
    assert check.command([str(folder / "mine.py"), "--network", str(folder / "net.toml")]) == 2
    err = capfd.readouterr().err
    assert err.endswith(f"{message}\n")
    assert "site-packages" not in err
    assert "handed_in.py" not in err


def test_a_program_that_goes_on_is_stopped_with_all_that_it_left(folder, capfd):
    program = """
        import subprocess, sys
        print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
        while True: pass
    """
    (folder / "mine.py").write_text(textwrap.dedent(program))
    with pytest.raises(ProgramError, match=r"mine\.py ran for more than 2 s and was stopped"):
        run(folder, "mine.py", seconds=2)
    state = Path(f"/proc/{int(capfd.readouterr().err)}/stat")  # a zombie is dead, whoever reaps it
    assert not Path("/proc").exists() or not state.exists() or state.read_text().rpartition(")")[2].split()[0] in "ZX"


@pytest.mark.slow
def test_a_program_may_leave_threads_and_print_without_end(folder, capfd):
    program = (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\nprint('x' * 3_000_000)\n"
    )
    (folder / "mine.py").write_text(program + PROGRAM)
    assert run(folder, "mine.py", seconds=30)[0].ok
    err = capfd.readouterr().err
    assert 2**20 < len(err) < 2**20 + 200
    assert "(it printed more than 1048576 bytes; the rest is left out)" in err


@pytest.mark.slow
def test_a_program_that_asks_for_all_memory_gets_a_memory_error(folder):
    assert "MemoryError" in fails(folder, "x = bytearray(2**36)\n")


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_time_that_is_none(folder, seconds):
    assert "--seconds is" in complaint(folder, "mine.py", seconds=seconds)


# limits


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[3, 2, 2]", "[3, 1_000_000_000, 2]", "the network has 6000000005 weights, biases and values of units"),
        ("[3, 2, 2]", f"[3, {10**4000}, 2]", "the network has more than 10³⁰ weights"),
        ("[3, 2, 2]", f"[{'1,' * 10_001}]", "the network has 10001 layers or units, more than 10000"),
        ("[network]", f"{'a.' * 49_999}a = 1\n[network]", "has a key of 50000 parts, a.a.a.a.a.a.a.a.a.a.…; no key"),
        ("[network]", f"[{'a . ' * 49_999}a]\n[network]", "has a key of 50000 parts"),
        ("[network]", f"""b = {{{'"a.b".' * 20}a = 1}}\n[network]""", "has a key of 21 parts"),
        ("[network]", "a = 1\n" * 200_001, "has more than 200000 keys"),
        ("[network]", " " * 2**24, "more than the 16777216 that are read"),
        ("[3, 2, 2]", f"[3, {10**5}, 2]\n#{'a.' * 100}", "params holds"),
        ("[network]", f"seed = {'9' * 5000}\n[network]", "is no TOML file: Exceeds the limit"),
    ],
)
def test_what_is_too_large_is_refused_before_it_is_built(tmp_path, monkeypatch, old, new, message):
    if "params" not in message:
        monkeypatch.setattr(jaxbp, "Network", None)
        monkeypatch.setattr(jaxbp, "layered", None)
    else:
        message = "params['h1']"  # a comment has no keys, and this size is none too large
    path = tmp_path / "net.toml"
    path.write_text(LAYERS.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_description(path)
    assert len(str(caught.value)) < 500


def test_a_graph_and_a_batch_that_are_too_large(tmp_path):
    path = tmp_path / "net.toml"
    top = 'loss = "squared_error"\nseed = 7\ndata = "b.npz"\n'
    path.write_text(top + GRAPH.replace("[units.h1]\nwidth = 3", "[units.h1]\nwidth = [100000, 100000]"))
    with pytest.raises(ValueError, match="the network has 10000600006 weights"):
        read_description(path)
    path.write_text(top + GRAPH)
    np.savez(tmp_path / "b.npz", x=np.ones((1000, 3)), y=np.ones((1000, 3)))
    assert read_description(path).x.shape == (1000, 3)
    path.write_text(top + GRAPH.replace("[units.h1]\nwidth = 3", "[units.h1]\nwidth = 1000000"))
    with pytest.raises(ValueError, match="the units have 1000006000 values for 1000 examples"):
        read_description(path)


def test_arrays_of_a_wrong_size_are_not_unpacked(folder, monkeypatch):
    big = np.zeros(2**22)
    np.savez_compressed(folder / "mine.npz", **{"grad.o.h1": big, "loss": 1.0})
    np.savez_compressed(folder / "other.npz", **{"grad.o.h2": big})
    np.savez_compressed(folder / "batch.npz", x=np.ones((2, 3)), y=big)
    np.savez_compressed(folder / "wide.npz", x=big.reshape(-1, 4), y=[0, 1])
    np.savez_compressed(folder / "params.npz", **{"W.h1.x": big})
    monkeypatch.setattr(array_files, "_read_member", None)
    assert "'grad.o.h1' in " in (message := complaint(folder, "mine.npz"))
    assert message.endswith("has shape (4194304,), 33554560 bytes; expected 4 numbers")
    assert "expected one of 'loss', 'grad.h1.x'" in complaint(folder, "other.npz")
    for named, head in (("data", "batch"), ("data", "wide"), ("params", "params")):
        blocks = {"data": DATA, "params": PARAMS} | {named: ""}
        text = f'loss = "cross_entropy"\n{named} = "{head}.npz"\n{NETWORK}{blocks["params"]}{blocks["data"]}'
        (folder / "net.toml").write_text(text, encoding="utf-8")
        assert f"{head}.npz has shape (" in complaint(folder, "right.npz")


@pytest.mark.parametrize("name", ["net.toml", "mine.npz", "mine.json", "mine.py"])
def test_what_is_no_ordinary_file_is_not_waited_for(folder, name):
    path = folder / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert f"{name} is a pipe, a device or the like" in complaint(folder, "right.npz" if name == "net.toml" else name)
    path.unlink()
    path.symlink_to("/dev/zero")
    assert f"{name} is a pipe, a device or the like" in complaint(folder, "right.npz" if name == "net.toml" else name)


def test_the_report_overwrites_nothing_that_is_read(folder):
    read = read_description(folder / "net.toml")
    np.savez(folder / "batch.npz", x=read.x, y=read.y)
    (folder / "params.json").write_text(json.dumps(read.params, default=np.ndarray.tolist))
    text = f'loss = "cross_entropy"\ndata = "batch.npz"\nparams = "params.json"\n{NETWORK}'
    (folder / "net.toml").write_text(text, encoding="utf-8")
    for name in ("net.toml", "right.npz", "batch.npz", "params.json"):
        before = (folder / name).read_bytes()
        os.link(folder / name, folder / f"hard {name}")
        (folder / f"soft {name}").symlink_to(folder / name)
        for other in (name, f"hard {name}", f"soft {name}"):
            assert "would overwrite what is read" in complaint(folder, "right.npz", json=folder / other)
        assert (folder / name).read_bytes() == before


def test_values_that_overflow_show_no_traceback(folder, capsys):
    (folder / "mine.json").write_text('{"grad.h1.x": [[1e308, 1e308], [1e308, 1e308], [1e308, 1e308]]}')
    with warnings.catch_warnings(action="ignore"):
        assert check.command([str(folder / "mine.json"), "--network", str(folder / "net.toml")]) in (1, 2)
    assert "Traceback" not in capsys.readouterr().err


def test_progress_is_shown_on_a_terminal_only(monkeypatch):
    file = io.StringIO()
    for terminal in (False, True):
        monkeypatch.setattr(
            check, "Console", lambda terminal=terminal, **_: Console(file=file, force_terminal=terminal)
        )
        with check._progress("checking [3000] units"):
            pass
        assert ("checking [3000] units" in file.getvalue()) == terminal
