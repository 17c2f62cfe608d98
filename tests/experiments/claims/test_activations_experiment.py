"""Activations and the signals through them: the numbers, what would change them, and what is refused."""

import io
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import jaxbp
from jaxbp import textbook
from jaxbp.experiments.claims.activations import (
    PRINTED,
    RULES,
    Result,
    Rule,
    Signal,
    Signals,
    main,
    rule,
    sampled,
    signal,
)

SMALL = Signals(depth=12, width=64, examples=16)
GOOD = Result(
    {"linear": Rule(0.0, 1e-16, ()), "hard_tanh": Rule(1e-16, 0.0, (-1.0, 1.0))},
    {"sigmoid": Signal((0.01, 1.0)), "relu": Signal((1.0, 1.0))},
    100,
)


def test_every_activation_of_the_library_is_shown():
    shipped = {name for name, value in vars(jaxbp).items() if isinstance(value, jaxbp.activations.Activation)}
    assert set(RULES) == shipped - {"layer_norm", "rms_norm"}  # which are no curve of one number


@pytest.mark.slow
def test_the_signals_are_printed_and_both_figures_written(tmp_path):
    console = Console(file=io.StringIO(), width=120)
    result = main(replace(SMALL, out=tmp_path / "out"), console)
    signals = result.signals
    assert set(signals) == set(RULES)
    assert all(len(s.rms) == 12 and np.all(np.isfinite(s.rms)) for s in signals.values())
    assert signals["softmax"].factor < signals["sigmoid"].factor < 0.3
    assert result.holds
    assert set(result.rules) == set(PRINTED)
    for name in ("derivatives", "signals"):
        assert (tmp_path / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    printed = console.file.getvalue()
    assert result.decision in " ".join(printed.split())
    assert "rms Δ(h1) / rms Δ(h12)" in printed
    assert f"{signals['sigmoid'].ratio:.2e}" in printed


def test_a_linear_network_has_the_signal_that_its_matrices_make():
    config = replace(SMALL, depth=3, width=4, examples=5)
    net = jaxbp.layered([4] * 5, hidden=jaxbp.linear, output=jaxbp.linear)
    of_params, of_x, of_y = jax.random.split(jax.random.key(0), 3)
    W = [jaxbp.init_params(of_params, net)[u][s] for s, u in (("x", "h1"), ("h1", "h2"), ("h2", "h3"), ("h3", "o"))]
    x, y = jax.random.normal(of_x, (5, 4)), jax.random.normal(of_y, (5, 4))
    Delta = (x @ W[0] @ W[1] @ W[2] @ W[3] - y) / 5 @ W[3].T
    expected = [Delta]
    for matrix in (W[2], W[1]):
        expected.insert(0, expected[0] @ matrix.T)
    rms = [float(jnp.sqrt(jnp.mean(D**2))) for D in expected]
    np.testing.assert_allclose(signal(jaxbp.linear, config).rms, rms, rtol=1e-12)


def test_a_sigmoid_that_passes_everything_back_changes_the_verdict(monkeypatch):
    kept = jaxbp.elementwise(jax.nn.sigmoid, lambda a, h: jnp.ones_like(a), name="kept")
    assert signal(jaxbp.sigmoid, SMALL).fate == "vanishes"
    assert signal(kept, SMALL).fate == "is kept"
    good = {"sigmoid": signal(jaxbp.sigmoid, SMALL), "relu": signal(jaxbp.relu, SMALL)}
    assert replace(GOOD, signals=good).holds
    for spoilt in ({"sigmoid": signal(kept, SMALL)}, {"relu": good["sigmoid"]}):
        assert replace(GOOD, signals=good | spoilt).decision.endswith(": does not hold")
        assert replace(GOOD, signals=good | spoilt, enough=False).holds is None
    assert replace(GOOD, signals=good, enough=False).decision.endswith(": not decided at this size")


@pytest.mark.parametrize("name", [*(pytest.param(n, marks=pytest.mark.slow) for n in PRINTED[:-1]), PRINTED[-1]])
def test_the_printed_rules_are_the_derivative_but_at_corners(name):
    with jax.enable_x64(True):
        of = rule(getattr(jaxbp, name), SMALL)
    assert max(of.printed, of.swept) < 1e-14
    assert of.differs == ((-1.0, 1.0) if name == "hard_tanh" else ())
    result = replace(GOOD, rules={name: of})
    assert result.corners == ("hard_tanh at −1 and 1" if name == "hard_tanh" else "none")
    assert result.decision.endswith(": holds")


def test_a_wrong_rule_decides_against_it(monkeypatch):
    right = textbook.update
    monkeypatch.setattr(textbook, "update", lambda activation, a, h, total: right(jaxbp.tanh, a, a, total))
    printed = rule(jaxbp.tanh, SMALL)
    monkeypatch.setattr(textbook, "update", right)
    pull_back = jaxbp.Dense.pull_back
    monkeypatch.setattr(jaxbp.Dense, "pull_back", lambda *of: -pull_back(*of))
    swept = rule(jaxbp.tanh, SMALL)
    assert printed.printed > 0.1 > 1e-12 > printed.swept
    assert swept.swept > 0.1 > 1e-12 > swept.printed
    for wrong in (printed, swept, Rule(float("nan"), 0.0, ()), Rule(0.0, float("nan"), ())):
        result = replace(GOOD, rules=GOOD.rules | {"tanh": wrong})
        assert result.holds is False
        assert result.decision.endswith(": does not hold")
        assert replace(result, enough=False).holds is False


def test_the_fate_is_that_of_a_layer():
    assert Signal((1.0, 10.0, 100.0)).factor == pytest.approx(0.1)
    assert Signal((1.0, 10.0, 100.0)).ratio == 0.01
    assert [Signal((f, 1.0)).fate for f in (0.89, 0.91, 1.09, 1.11)] == ["vanishes", "is kept", "is kept", "explodes"]


@pytest.mark.parametrize("name", RULES)
def test_the_curves_are_the_value_and_its_derivative(name):
    a, h, slopes = sampled(getattr(jaxbp, name))
    centred = (h[2:] - h[:-2]) / (a[2:] - a[:-2])
    smooth = np.all(np.abs(a[1:-1, None] - [0.0, -1.0, 1.0]) > 0.03, axis=-1)
    np.testing.assert_allclose(slopes[1:-1, 0][smooth], centred[smooth], atol=5e-4)
    if name == "softmax":
        np.testing.assert_allclose(slopes.sum(axis=-1), 0, atol=1e-15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 1}, "depth must be at least 2, got 1"),
        ({"width": 1}, "width must be at least 2, got 1"),
        ({"examples": 0}, "examples must be at least 1, got 0"),
    ],
)
def test_networks_without_a_signal_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Signals(**options)
