"""The audit of installed libraries: each rule once, the worst that was said of it, and nothing silently left out."""

import io
import json

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console

from jaxbp.experiments.tools import custom_rules
from jaxbp.experiments.tools.custom_rule_calls import SOURCES, Call, of_namespace
from jaxbp.experiments.tools.custom_rules import Audit

X = jnp.array([-1.0, 0.0, 2.0])


@jax.custom_jvp
def wave(x):
    return jnp.sin(x)


@wave.defjvp
def _(primals, tangents):
    return jnp.sin(*primals), jnp.where(primals[0] > 1, 2.0, 1.0) * jnp.cos(*primals) * tangents[0]


def calls(_):
    yield Call("small", wave, (X / 10,))
    yield Call("large", wave, (X,))
    yield Call("relu", jax.nn.relu, (X,))
    yield Call("refused", lambda x: jnp.zeros(2) + x, (X,))


@pytest.fixture
def audited(monkeypatch, tmp_path):
    monkeypatch.setattr(custom_rules, "SOURCES", {"jax": calls, "nowhere.of": calls})
    console = Console(file=io.StringIO(), width=120)
    result = custom_rules.main(Audit(("jax", "nowhere.of"), out=tmp_path), console)
    return result, console.file.getvalue(), tmp_path


def test_each_rule_is_there_once_with_the_worst_that_was_said_of_it(audited):
    result, printed, _ = audited
    wrong, kink = result.rows
    assert (wrong.rule, wrong.uses, wrong.calls, wrong.verdict, wrong.call) == ("wave", 2, 2, "wrong", "large")
    assert wrong.place.startswith("tests/experiments/tools/test_custom_rules.py:")
    assert wrong.doubt.startswith("x[2] is ")
    assert "(relative error" in wrong.doubt
    assert (kink.rule, kink.verdict, kink.place.partition(":")[0]) == ("relu", "kink", "jax/_src/nn/functions.py")
    assert not result.ok
    assert "2 rules in 4 calls: 1 wrong, 1 kink" in printed
    assert f"wrong: wave, at large: {wrong.doubt}" in printed


def test_what_fails_or_is_not_installed_is_said_and_all_is_written(audited):
    result, printed, out = audited
    assert result.missing == ("nowhere.of",)
    (failed,) = result.failed
    assert failed.startswith("refused: TypeError")
    assert "not installed: nowhere.of" in printed
    assert f"failed: {failed}" in printed
    written = json.loads((out / "rules.json").read_text())
    assert [row["rule"] for row in written["rows"]] == ["wave", "relu"]
    assert "| wave | tests/experiments/tools/test\\_custom\\_rules.py:" in (out / "rules.md").read_text()


def test_a_namespace_is_called_with_what_each_function_takes():
    found = {call.name: call.arguments for call in of_namespace("jax.numpy.linalg", 1)}
    assert found["jax.numpy.linalg.det"][0].shape == (3, 3)
    assert "jax.numpy.linalg.lstsq" in found


def test_a_library_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match=r"only 'torch' is none of the libraries 'jax\.nn'"):
        Audit(("torch",))
    assert set(Audit(quick=True).sources) < set(SOURCES)
