"""Depth against width: the decision at small size, what would change it, and what is refused."""

import io
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import jaxbp
from experiments import depth
from experiments.depth import (
    Result,
    Sawtooth,
    Trained,
    equally_large,
    folding,
    main,
    network,
    parameters_of,
    points,
    relative_errors,
    start,
    tent,
    train,
)

pytestmark = pytest.mark.slow  # training takes its time

SMALL = Sawtooth(
    folds=3,
    depths=(1, 2),
    shallow_widths=(24,),
    deep_widths=(6,),
    restarts=24,
    screening=0,
    finalists=24,
    steps=800,
    learning_rates=(0.01, 0.02),
)


def run(config, tmp_path):
    console = Console(file=io.StringIO(), width=120)
    return main(replace(config, out=tmp_path / "out"), console), " ".join(console.file.getvalue().split())


def test_the_sawtooth_has_its_teeth_and_the_folding_network_computes_it():
    x = points(4096)
    for folds in (1, 3, 4):
        y = tent(folds, x)[:, 0]
        assert np.sum((y[1:-1] > y[:-2]) & (y[1:-1] >= y[2:])) == 2 ** (folds - 1)
        net, params = folding(folds)
        assert sum(net.shapes[u][0] for u in net.units if u != "o") == 2 * folds
        assert relative_errors(np.asarray(jaxbp.apply(net, params, jnp.asarray(x))), tent(folds, x)) < 1e-5


def test_a_narrower_network_stays_one_when_trained_among_zeros():
    x = points(16)
    narrow, padded = (start(np.random.default_rng(0), 2, 2, largest, x) for largest in (2, 5))
    outputs = []
    for largest, params in ((2, narrow), (5, padded)):
        members = jax.tree.map(lambda array: jnp.asarray(array, jnp.float32)[None], params)
        arrays = (jnp.asarray(array, jnp.float32) for array in (x, tent(2, x), x))
        trained = train(network(2, largest), 20, members, jnp.array([0.01], jnp.float32), *arrays)
        outputs.append(trained[1])
    hidden = trained[0]["h2"]["h1"][0]
    assert np.all(hidden[:2, :2]) and not np.any(hidden[2:]) and not np.any(hidden[:, 2:])  # noqa: PT018
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-4, atol=1e-5)


def test_the_finalists_of_a_width_are_of_that_width():
    config = Sawtooth(folds=2, shallow_widths=(1, 2, 3), restarts=5, screening=3, finalists=2, steps=3)
    for network_found, o in depth.trained(1, config):
        bends = np.abs(np.diff(o, 2)) > 1e-5
        corners = np.sum(bends[1:] & ~bends[:-1]) + bends[0]  # a corner between two points bends at both
        assert 0 < corners <= network_found.width
        error = relative_errors(o[:, None], tent(2, points(len(o))))
        np.testing.assert_allclose(network_found.error, error, rtol=1e-6)


def test_corners_begin_at_examples():
    x = points(16)
    params = start(np.random.default_rng(0), 3, 4, 4, x)
    h = x
    for u, source in (("h1", "x"), ("h2", "h1"), ("h3", "h2")):
        a = h @ params[u][source] + params[u]["bias"][None]
        assert np.abs(a).min(axis=0).max() < 1e-12
        h = np.maximum(a, 0)


def test_the_decision_holds_and_not_with_a_wrong_backward_pass(tmp_path, monkeypatch):
    monkeypatch.setattr(depth, "EXAMPLES", 64)
    result, printed = run(SMALL, tmp_path)
    assert result.holds, result.decision
    assert result.decision in printed
    assert (tmp_path / "out" / "depth.png").read_bytes().startswith(b"\x89PNG")
    right = jaxbp.Dense.pull_back
    monkeypatch.setattr(jaxbp.Dense, "pull_back", lambda self, *arguments: -right(self, *arguments))
    jax.clear_caches()
    wrong, printed = run(SMALL, tmp_path)
    jax.clear_caches()
    assert not wrong.holds
    assert "does not hold" in printed


SHALLOW = (Trained(1, 8, 25, 0.8), Trained(1, 16, 49, 0.2), Trained(1, 32, 97, 0.1))


@pytest.mark.parametrize(
    ("networks", "holds", "words"),
    [
        ([*SHALLOW, Trained(2, 4, 33, 0.2)], True, "took 16 units and 49 parameters; 2 hidden layers took 8 units"),
        ([*SHALLOW, Trained(2, 6, 61, 0.2)], False, "2 hidden layers took 12 units and 61 parameters"),
        ([*SHALLOW, Trained(2, 4, 33, 0.3)], False, "no deeper network reached it"),
        ([*SHALLOW, Trained(2, 4, 33, float("inf")), Trained(4, 3, 46, 0.2)], True, "4 hidden layers took 12 units"),
        ([SHALLOW[0], Trained(2, 3, 22, 0.2)], True, "took more than 8 units and more than 25 parameters"),
        ([SHALLOW[0], Trained(2, 4, 33, 0.2)], False, "took more than 8 units and more than 25 parameters"),
    ],
)
def test_fewer_of_both_decides(networks, holds, words):
    result = Result(tuple(networks), 0.25, 0.0)
    assert result.holds == holds
    assert words in result.decision
    assert result.decision.endswith(": holds" if holds else ": does not hold")


def test_fits_of_one_size_are_shown():
    deep = (Trained(2, 4, 33, 0.3), Trained(2, 6, 61, 0.2), Trained(2, 12, 193, 0.01))
    assert equally_large(Result((*SHALLOW, *deep), 0.25, 0.0)) == (SHALLOW[2], deep[1])


def test_parameters_are_counted():
    assert parameters_of(network(1, 16)) == 16 + 16 + 16 + 1
    assert parameters_of(network(3, 4)) == 8 + 2 * 20 + 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 0}, "folds must be at least 1, got 0"),
        ({"restarts": 0}, "restarts must be at least 1, got 0"),
        ({"finalists": 0}, "finalists must be at least 1, got 0"),
        ({"finalists": 121}, "finalists are some of the 120 restarts, got 121"),
        ({"screening": -1}, "screening must be 0 or more steps, got -1"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"depths": (2, 3)}, "depths must be 1 and others to compare with it, got 2 3"),
        ({"depths": (1,)}, "depths must be 1 and others to compare with it, got 1"),
        ({"depths": (1, 3, 2)}, "depths must rise from at least 1, got 1 3 2"),
        ({"shallow_widths": ()}, "shallow_widths must rise from at least 1, got none"),
        ({"deep_widths": (0, 4)}, "deep_widths must rise from at least 1, got 0 4"),
        ({"learning_rates": (0.01, 0.0)}, "learning_rates must be positive and finite, got 0.01 0.0"),
        ({"target": 1.0}, "target must lie between 0 and 1, the error of a constant, got 1.0"),
    ],
)
def test_what_cannot_be_compared_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Sawtooth(**options)
