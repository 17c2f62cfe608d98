"""The command line of `check`: every form of input, the exit code, and what is said of what cannot be checked."""

import json
import os
import re
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
from described import GRAPH, LAYERS, NETWORK, complaint, run

from jaxbp.experiments.tools import check
from jaxbp.experiments.tools.array_files import read_arrays
from jaxbp.experiments.tools.audited import audit
from jaxbp.experiments.tools.description import read_description


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
    network, written = folder / "net.toml", folder / "report.json"

    def command(mine):
        code = check.command([str(folder / mine), "--network", str(network), "--json", str(written)])
        return code, *capsys.readouterr()

    assert command("right.npz") == (0, "right: everything handed in agrees with jax.grad in float64\n", "")
    code, out, err = command("mine.py:forgetful")
    assert (code, err) == (1, "")
    assert out.startswith("wrong: ")
    report = json.loads(written.read_text(encoding="utf-8"))
    assert (report["verdict"], report["first_wrong"], report["score"]) == ("wrong", "grad.h1.x", 0.5)
    (folder / "mine.py").write_text("raise ValueError('two\\nlines [bold] of it')")
    code, out, err = command("mine.py")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {folder / 'mine.py'} failed:\nTraceback")
    assert err.endswith("ValueError: two\nlines [bold] of it\n")
    for text, message in (
        (GRAPH.replace("width", "biass", 1), "the file has no 'loss'; add loss = \"cross_entropy\"\n"),
        (LAYERS + "[network.bold]\n", "network has the unknown key 'bold'"),
        (LAYERS.replace("[params.o]", "[params.o]\nx = 0"), "params['o'] holds weights from"),
    ):
        network.write_text(text, encoding="utf-8")
        code, out, err = command("right.npz")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"error: {network}: {message}")


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
    assert "it is executed, with all that it may do" in " ".join(printed.split())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_number_format_is_that_of_the_program(folder, dtype):
    rng = np.random.default_rng(0)
    right = read_arrays(folder / "right.npz")
    # as a longer program in float32 rounds
    single = {n: np.asarray(a * (1 + 5e-6 * rng.uniform(-1, 1, np.shape(a))), np.float32) for n, a in right.items()}
    (folder / "single.json").write_text(json.dumps({name: array.tolist() for name, array in single.items()}))
    report, printed = run(folder, "single.json")
    assert report.verdict == "wrong"
    assert printed.endswith("the network's file\n")
    assert 'write dtype = "float32"' in printed
    (folder / "odd.json").write_text('{"delta.o": [[0.123, 1.7], [0.4, 0.1]]}')
    assert "write dtype" not in run(folder, "odd.json")[1]
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
        assert "write dtype" not in printed


@pytest.mark.parametrize(
    ("mine", "message"),
    [
        ("none.npz", "none.npz cannot be read: No such file"),
        ("none.py", "none.py cannot be read: No such file"),
        ("right.json:f", "right.json:f names a function, which only a .py file has"),
        ("net.toml", "net.toml is none of '.npz', '.json', '.py'"),
    ],
)
def test_names_that_are_none(folder, mine, message):
    assert message in complaint(folder, mine)


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


MODEL = """
import jax, jax.numpy as jnp

@jax.custom_vjp
def wave(x, w):
    return w * jnp.sin(x)

wave.defvjp(lambda x, w: (wave(x, w), (x, w)), lambda r, g: (g * jnp.cos(r[0]), g * jnp.sin(r[0])))

def loss(x, w):
    print("it runs")
    return wave(x, w).sum()

def arguments():
    return jnp.ones(3), 2 * jnp.ones(3)
"""


def test_without_a_network_the_rules_of_a_function_are_checked_in_a_process_of_its_own(tmp_path, capsys):
    model, written = tmp_path / "model.py", tmp_path / "report.json"
    model.write_text(MODEL)
    assert check.command([f"{model}:loss", "--json", str(written)]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"1 custom rules: 1 wrong\nwrong: custom_vjp wave at {model}:4, used once from {model}:12\n")
    assert "factor: 1/2 times the right one" in out
    assert "it runs" in err
    (rule,) = json.loads(written.read_text())["rules"]
    assert (rule["name"], rule["verdict"]) == ("wave", "wrong")


def test_what_no_rules_can_be_checked_of_is_refused_in_words(tmp_path, capsys):
    model = tmp_path / "model.py"
    model.write_text(MODEL)
    for mine, message in (
        ("gradient.npz", f"{tmp_path / 'gradient.npz'} is checked for a network; describe one by --network NET.toml"),
        ("model.py", f"{model} has no name of a function: {model}:FUNCTION; or name --network NET.toml"),
        ("none.py:loss", "No such file or directory"),
    ):
        assert check.command([str(tmp_path / mine)]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    assert check.command([f"{model}:loss", "--json", str(model)]) == 2
    assert "would overwrite what is read" in capsys.readouterr().err
    # what the process answers
    assert audit(str(model), "los")["missing"] == "los"
    model.write_text(MODEL.replace("return jnp.ones(3), 2", "return 2"))
    with pytest.raises(TypeError, match=r"arguments\(\) returned a ArrayImpl, expected a tuple: \(x,\)"):
        audit(str(model), "loss")
