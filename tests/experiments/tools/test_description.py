"""Descriptions of networks: what they mean, what is wrong with the others, and what is too large to be built."""

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from described import DATA, GRAPH, LAYERS, NETWORK, PARAMS

import jaxbp
from jaxbp.experiments.tools.description import read_description

TOP = 'loss = "squared_error"\nseed = 7\n'


def described(folder, text):
    (folder / "net.toml").write_text(text, encoding="utf-8")
    return read_description(folder / "net.toml")


def test_files_that_a_description_names_are_found_beside_it(tmp_path, monkeypatch):
    inline = described(tmp_path, LAYERS)
    inner = tmp_path / "inner"
    inner.mkdir()
    np.savez(inner / "batch.npz", x=inline.x, y=inline.y)
    named = {f"W.{u}.{s}": W for u, weights in inline.params.items() for s, W in weights.items()}
    np.savez(inner / "params.npz", **named)
    (inner / "params.json").write_text(json.dumps(inline.params, default=np.ndarray.tolist))
    monkeypatch.chdir(tmp_path)
    for params in ("params.npz", "params.json"):
        text = f'\ufeffloss = "cross_entropy"\ndata = "batch.npz"\nparams = "{params}"\n{NETWORK}'
        read = described(Path("inner"), text)
        assert (read.net, read.loss, read.dtype) == (inline.net, inline.loss, "float64")
        for ours, theirs in zip(*(jax.tree.leaves((d.params, d.x, d.y)) for d in (read, inline)), strict=True):
            np.testing.assert_array_equal(ours, theirs, strict=True)


def test_the_documented_graph_with_random_parameters(tmp_path):
    Dense, Identity = jaxbp.Dense(), jaxbp.Identity()
    net = jaxbp.Network(
        {"x": 3},
        {
            "h1": jaxbp.Unit(3, jaxbp.tanh, {"x": Dense}),
            "o": jaxbp.Unit(3, jaxbp.linear, {"h1": Dense, "x": Identity}, bias=False),
        },
    )
    text = f"{TOP}[data]\nx = [1, 2, 3]\ny = [0, 1, 0.5]\n{GRAPH}"
    assert described(tmp_path, text).net == net
    with jax.enable_x64(False):  # as in a process of its own
        for dtype in ("float64", "float32"):
            read = described(tmp_path, f'dtype = "{dtype}"\n{text}')
            with jax.enable_x64(dtype == "float64"):
                expected = jaxbp.init_params(jax.random.key(7), net, dtype)
            jax.tree.map(np.testing.assert_array_equal, read.params, expected)
            assert {array.dtype.name for array in (read.x, read.y, *jax.tree.leaves(read.params))} == {dtype}


def test_several_inputs_by_table_and_by_name(tmp_path):
    units = '[inputs]\nx = 2\nlate = 2\n[units.h]\nwidth = 2\nactivation = "relu"\nfrom = ["late"]\n'
    units += '[units.o]\nwidth = 2\nactivation = "linear"\nbias = false\n'
    units += 'connections = {x = "Identity", h = "Identity"}\n'
    x, late, y = np.ones((4, 2)), np.zeros((4, 2)), np.ones((4, 2))
    np.savez(tmp_path / "batch.npz", **{"x.x": x, "x.late": late, "y": y})
    inline = f"{TOP}[data]\ny = {y.tolist()}\nx.x = {x.tolist()}\nx.late = {late.tolist()}\n{units}"
    named = f'{TOP}data = "batch.npz"\n{units}'
    for text in (named, inline):
        read = described(tmp_path, text)
        assert read.net.shapes["late"] == (2,)
        assert {name: array.shape for name, array in read.x.items()} == {"x": (4, 2), "late": (4, 2)}
    # a unit without weights needs no parameters
    weights = "params = {h = {late = [[1, 2], [3, 4]], bias = [0, 0]}}"
    assert set(described(tmp_path, inline.replace("seed = 7", weights)).params) == {"h", "o"}
    for inputs, message in (
        ({"x": x}, "data.x is one array, but the network has the inputs 'x', 'late'; write [data.x]"),
        ({"x": x, "x.late": late}, "data holds both 'x' and 'x.late'"),
        ({"x.x": x, "x.lat": late}, "data has the unknown key 'x.lat' (did you mean 'x.late'?)"),
        ({"x.x": x}, "x holds the inputs 'x', but the network has 'x', 'late'"),
        ({"x.x": x, "x.late": late[:3]}, "the inputs have different batch shapes"),
    ):
        np.savez(tmp_path / "batch.npz", y=y, **inputs)
        with pytest.raises(ValueError, match=re.escape(message)):
            described(tmp_path, named)


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
        *(NETWORK, f"{NETWORK}seed = 0\n"),
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
    # a comment has no keys, and this size is none too large
    ("[3, 2, 2]", f"[3, {10**5}, 2]\n#{'a.' * 100}", "params['h1']"),
]
GRAPHS = [
    ('from = ["x"]', "", 'units.h1 needs either from = ["x", …], for dense connections, or [units.h1.connections]'),
    ('from = ["x"]', 'from = ["x"]\nconnections = {x = "Dense"}', "it has both"),
    ('from = ["x"]', 'from = "x"', "units.h1.from is 'x', expected names such as [\"x\"]"),
    ('from = ["x"]', "from = []", "units.h1: a unit's connections must be a non-empty dict"),
    ('["x"]', '["xx"]', "unit 'h1' reads 'xx', which is neither an input nor a unit (did you mean 'x'?)"),
    ('h1 = "Dense"', 'h1 = "dense"', "there is no connection 'dense' (did you mean 'Dense'?)"),
    ('h1 = "Dense"', "h1 = 1", "there is no connection 1; known are 'Dense', 'Identity'"),
    ("[units.h1]\nwidth = 3", "[units.h1]\nwidth = 0", "units.h1: a unit's width must be a positive integer"),
    ("[units.h1]\nwidth = 3", "[units.h1]", "units.h1 has no 'width'; add width = 5"),
    ("[inputs]\nx = 3", "[inputs]\nx = 4", "unit 'o' cannot read 'x': Identity joins equal shapes"),
    ("[inputs]\nx = 3", "inputs = 3", "inputs is 3, expected a table: [inputs]"),
]


@pytest.mark.parametrize(
    ("kind", "old", "new", "message"),
    [
        *(("layers", *row) for row in BAD),
        *(("graph", *row) for row in GRAPHS),
        ("float16", "[0.0, 0.2]", "[1e9, 0.2]", "params.o.bias holds 1e+09, which is too large for float16"),
    ],
)
def test_what_a_description_cannot_be(tmp_path, kind, old, new, message):
    text = f'{TOP}data = "b.npz"\n{GRAPH}' if kind == "graph" else LAYERS
    text = text.replace("float64", "float16") if kind == "float16" else text
    assert old in text
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        described(tmp_path, text.replace(old, new) if old else new)
    assert str(caught.value).startswith(str(tmp_path / "net.toml"))
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there_or_do_not_fit_a_description(tmp_path):
    text = f'loss = "cross_entropy"\ndata = "batch.npz"\nparams = "params.json"\n{NETWORK}'
    params = tmp_path / "params.json"
    with pytest.raises(ValueError, match=r"No such file or directory$") as caught:
        described(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'net.toml'}: {params} cannot be read: No such")
    params.write_text('{"h1.x": [[1]]}')
    with pytest.raises(ValueError, match=r"the params hold 'h1.x', expected names such as 'W.h1.x'"):
        described(tmp_path, text)
    with pytest.raises(ValueError, match=r"params.txt is none of '.npz', '.json', which hold arrays"):
        described(tmp_path, text.replace("params.json", "params.txt"))
    with pytest.raises(ValueError, match=r"nothere.toml cannot be read: No such file"):
        read_description(tmp_path / "nothere.toml")


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
        ("[network]", f"seed = {'9' * 5000}\n[network]", "is no TOML file: Exceeds the limit"),
    ],
)
def test_what_is_too_large_is_refused_before_it_is_built(tmp_path, monkeypatch, old, new, message):
    monkeypatch.setattr(jaxbp, "Network", None)
    monkeypatch.setattr(jaxbp, "layered", None)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        described(tmp_path, LAYERS.replace(old, new))
    assert len(str(caught.value)) < 500


def test_a_graph_and_a_batch_that_are_too_large(tmp_path):
    np.savez(tmp_path / "b.npz", x=np.ones((1000, 3)), y=np.ones((1000, 3)))
    text = f'{TOP}data = "b.npz"\n{GRAPH}'
    assert described(tmp_path, text).x.shape == (1000, 3)
    for width, message in (
        ("[100000, 100000]", "the network has 10000600006 weights"),
        ("1000000", "the units have 1000006000 values for 1000 examples"),
    ):
        with pytest.raises(ValueError, match=message):
            described(tmp_path, text.replace("[units.h1]\nwidth = 3", f"[units.h1]\nwidth = {width}"))
