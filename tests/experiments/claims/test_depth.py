"""Depth against width: the bound of one hidden layer, how networks grow, what decides, and what is refused."""

import io
from dataclasses import replace
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import jaxbp
from jaxbp.experiments.claims import segments
from jaxbp.experiments.claims.depth import (
    CLAIM,
    Result,
    Sawtooth,
    Trained,
    from_random_weights,
    main,
    shallow_parameters,
)
from jaxbp.experiments.claims.growing import network, new_layers, on_top, outputs, stacked, start, train
from jaxbp.experiments.claims.sawtooth import folding, judged, least_units, points, relative_errors, tent

SMALL = Sawtooth(folds=3, widths=(2,), seeds=2, starts=24, steps=500, plain_folds=(2,), plain_width=3, shallow_folds=2)


def run(config, tmp_path):
    console = Console(file=io.StringIO(), width=200)
    return main(replace(config, out=tmp_path / "out"), console), " ".join(console.file.getvalue().split())


def of_lines(x, y):
    """The squared error of the best line through points, by numpy's own least squares."""
    return np.sum((y - np.polyval(np.polyfit(x, y, min(1, len(x) - 1)), x)) ** 2)


def random_units(rng, units, x):
    """What a hidden layer computes whose corners lie anywhere in [0, 1] and open to either side."""
    signs, corners = rng.choice([-1.0, 1.0], units), rng.uniform(size=units)
    return np.maximum(signs[None, :] * (x[:, None] - corners[None, :]), 0)


def fitted(h, y):
    """The output of the best linear layer upon a hidden one."""
    h = np.concatenate([h, np.ones((len(h), 1))], axis=1)
    return h @ np.linalg.lstsq(h, y, rcond=None)[0]


def apply(net, params, x):
    return np.asarray(jaxbp.apply(net, jax.tree.map(jnp.asarray, params), x))


# the bound


@pytest.mark.parametrize("of", ["noise", "sawtooth", "line"])
def test_the_bound_is_the_least_over_all_segmentations(of):
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(size=9))
    y = {"noise": rng.normal(size=9), "sawtooth": tent(2, x), "line": 3 - 2 * x}[of]
    sums = segments.least_errors(x, y, 9)
    for pieces in range(1, 10):
        ways = combinations(range(1, 9), pieces - 1)
        least = min(sum(of_lines(x[i:j], y[i:j]) for i, j in zip((0, *cuts), (*cuts, 9), strict=True)) for cuts in ways)
        np.testing.assert_allclose(sums[pieces - 1], least, rtol=1e-9, atol=1e-13)
        fit = segments.best_fit(x, y, pieces)
        np.testing.assert_allclose(np.sum((fit - y) ** 2), least, rtol=1e-9, atol=1e-13)


def undercutting(folds):
    """The bound over the error of a network with as many units, for the network where that is largest."""
    x = judged(folds)[:, 0]
    y = tent(folds, x)
    sums = segments.least_errors(x, y, 2**folds)
    rng = np.random.default_rng(folds)
    ratios = []
    for units in range(1, 2**folds):
        everywhere = [random_units(rng, units, x) for _ in range(20)]
        at_the_kinks = np.maximum(x[:, None] - np.arange(2**folds)[None, :units] / 2**folds, 0)  # exact on the left
        for h in (*everywhere, at_the_kinks):
            error = np.sum((fitted(h, y) - y) ** 2)
            ratios.append((sums[units] + 1e-12) / (error + 1e-12))
    return max(ratios)


@pytest.mark.parametrize("folds", [1, 2, 3, 4])
def test_no_network_of_one_hidden_layer_undercuts_the_bound(folds):
    assert undercutting(folds) <= 1 + 1e-9


def of_steps(x, y):
    n = len(y) + 1
    return np.array(
        [[len(y[i:j]) * np.var(y[i:j]) if j > i else (0 if i == j else np.inf) for j in range(n)] for i in range(n)]
    )


def of_equal_lengths(x, y, pieces):
    groups = [list(zip(np.array_split(x, p), np.array_split(y, p), strict=True)) for p in range(1, pieces + 1)]
    return np.array([sum(of_lines(*group) for group in of_p) for of_p in groups])


@pytest.mark.parametrize(
    ("name", "bug"),
    [
        ("line_costs", of_steps),
        ("least_errors", of_equal_lengths),
        (
            "least_errors",
            lambda x, y, pieces, right=segments.least_errors: right(x, y, pieces)[[0, *range(pieces - 1)]],
        ),
    ],
    ids=["steps instead of lines", "pieces of equal lengths", "a piece too few"],
)
def test_a_bound_that_is_none_is_undercut(name, bug, monkeypatch):
    monkeypatch.setattr(segments, name, bug)
    assert undercutting(3) > 1.01


def test_trained_networks_of_one_hidden_layer_stay_above_the_bound():
    config = Sawtooth(seeds=2, steps=30)
    x = judged(3)[:, 0]
    y = tent(3, x)
    bounds = np.sqrt(segments.least_errors(x, y, 8) / len(x)) / np.std(y)
    for net in from_random_weights(3, 1, [1, 3, 6], config):
        assert 0.1 < bounds[net.width] <= net.best < 1.5


def test_one_hidden_layer_needs_a_unit_for_nearly_every_kink():
    assert [least_units(k, 0.1) for k in range(1, 6)] == [1, 3, 7, 15, 31]
    assert least_units(5, 0.5) < 31
    assert [shallow_parameters(n) for n in (1, 16)] == [network(1, n).parameter_count for n in (1, 16)] == [4, 49]


# the sawtooth and its networks


def test_the_sawtooth_has_its_pieces_and_the_folding_network_computes_it():
    x = points(4096)
    for folds in (1, 3, 4):
        y = tent(folds, x)[:, 0]
        assert np.sum((y[1:-1] > y[:-2]) & (y[1:-1] >= y[2:])) == 2 ** (folds - 1)
        net, params = folding(folds)
        assert sum(net.shapes[u][0] for u in net.units if u != "o") == 2 * folds
        assert relative_errors(outputs(net, params, x), tent(folds, x)) < 1e-5


def test_parameters_are_counted():
    assert network(3, 4).parameter_count == 8 + 2 * 20 + 5


def test_corners_begin_at_examples():
    x = points(16)
    params = start(np.random.default_rng(0), 3, 4, 4, x)
    h = x
    for u, source in (("h1", "x"), ("h2", "h1"), ("h3", "h2")):
        a = h @ params[u][source] + params[u]["bias"][None]
        assert np.abs(a).min(axis=0).max() < 1e-12
        h = np.maximum(a, 0)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_layer_on_top_reads_what_the_network_below_computes(depth):
    x = points(32)
    rng = np.random.default_rng(depth)
    below, layer = (start(rng, d, 3, 3, points(32)) for d in (depth, 1))
    below["o"]["bias"], layer["o"]["bias"] = np.array([0.3]), np.array([-0.7])
    grown, net = on_top(below, layer), network(depth + 1, 3)
    z = apply(network(depth, 3), below, x)
    np.testing.assert_allclose(apply(net, grown, x), apply(network(1, 3), layer, z), rtol=1e-12, atol=1e-12)
    for u in (f"h{i}" for i in range(1, depth + 1)):
        assert grown[u] is below[u]
    several = on_top(*(jax.tree.map(lambda array: np.stack([2 * array, array]), params) for params in (below, layer)))
    jax.tree.map(lambda array, one: np.testing.assert_allclose(array[1], one, rtol=1e-12), several, grown)


def test_of_several_starts_the_one_with_the_least_loss_is_kept_for_each_seed():
    x = np.broadcast_to(points(32).astype(np.float32), (2, 32, 1))
    y = tent(1, points(32)).astype(np.float32)
    layers = new_layers([np.random.default_rng(i) for i in range(2)], 2, 6, 20, 0.03, x, y)
    rngs = [np.random.default_rng(i) for i in range(2)]
    members = stacked([start(rng, 1, 2, 2, points(32)) for rng in rngs for _ in range(6)])
    _, losses = train(network(1, 2), 20, 0.03, members, np.repeat(x, 6, axis=0), y)  # compiled before, for new_layers
    for i, of_seed in enumerate(np.asarray(losses).reshape(2, 6)):
        kept = np.mean((outputs(network(1, 2), layers, points(32))[i] - y) ** 2) / 2
        np.testing.assert_allclose(kept, np.min(of_seed), rtol=1e-4)
        assert np.sort(of_seed)[1] > 1.001 * np.min(of_seed)  # so that no other would do


def test_a_narrower_network_stays_one_when_trained_among_zeros():
    x = points(16)
    trained = {}
    for largest in (2, 5):
        members = stacked([start(np.random.default_rng(0), 2, 2, largest, x)])
        y = tent(2, x).astype(np.float32)
        trained[largest], _ = train(network(2, largest), 20, 0.01, members, x.astype(np.float32)[None], y)
    hidden = trained[5]["h2"]["h1"][0]
    assert np.all(hidden[:2, :2])
    assert not np.any(hidden[2:])
    assert not np.any(hidden[:, 2:])
    o = [outputs(network(2, largest), params, x) for largest, params in trained.items()]
    np.testing.assert_allclose(o[0], o[1], rtol=1e-4, atol=1e-5)


# the decision


@pytest.mark.slow
@pytest.mark.clears_what_jax_keeps
def test_the_decision_holds_and_not_with_a_wrong_backward_pass(tmp_path, monkeypatch):
    result, printed = run(SMALL, tmp_path)
    assert result.holds, result.decision
    assert result.decision in printed
    assert (tmp_path / "out" / "depth.png").read_bytes().startswith(b"\x89PNG")
    assert {(net.depth, net.width) for net in result.plain} == {(1, 3), (1, 6), (1, 12), (1, 24), (2, 2), (2, 3)}
    right = jaxbp.Dense.pull_back
    monkeypatch.setattr(jaxbp.Dense, "pull_back", lambda self, *arguments: -right(self, *arguments))
    jax.clear_caches()
    wrong, printed = run(SMALL, tmp_path)
    jax.clear_caches()
    assert wrong.holds is None  # of so few pieces
    assert wrong.grown[-1].folds < 3  # and it stopped there
    assert "not decided at this size" in printed
    assert replace(wrong, full=True).decision.endswith(": does not hold")


LEAST = (1, 3, 7, 15)


def deep(width, *errors, folds=4):
    return Trained(folds, folds, width, errors)


@pytest.mark.parametrize(
    ("grown", "holds", "words"),
    [
        ([deep(2, 0.1, 0.05)], True, "4 hidden layers of 2, trained, took 8 units and 25 parameters with each of 2"),
        ([deep(3, 0.1, 0.05)], False, "took 12 units and 46 parameters"),  # 46 are no fewer than 46
        ([deep(4, 0.1, 0.05)], False, "took 16 units and 73 parameters"),
        ([deep(2, 0.01, 0.11)], False, "no width of 4 hidden layers reached it with every seed"),
        ([deep(2, float("nan"), 0.01)], False, "no width of 4 hidden layers reached it with every seed"),
        ([deep(2, 0.01, folds=3)], False, "no width of 4 hidden layers reached it with every seed"),
        ([deep(1, 0.9, 0.9), deep(2, 0.01, 0.02), deep(3, 0.01, 0.01)], True, "hidden layers of 2, trained"),
    ],
)
def test_fewer_of_both_with_every_seed_decides(grown, holds, words):
    result = Result(0.1, LEAST, tuple(grown))
    assert result.holds == holds
    assert words in result.decision
    assert "one hidden layer takes at least 15 units and 46 parameters" in result.decision
    assert result.decision.endswith(": holds" if holds else ": does not hold")
    assert replace(result, full=False).decision.endswith(": holds" if holds else ": not decided at this size")


def test_fewer_units_alone_or_fewer_parameters_alone_do_not_decide():
    assert not Result(0.1, (1, 3, 7, 12), (deep(2, 0.01), deep(3, 0.01))[1:]).holds
    assert not Result(0.1, (1, 3, 7, 8), (deep(2, 0.01),)).holds  # 8 units, and 25 parameters are those of 8


def test_what_was_trained_beside_does_not_decide():
    shallow = (Trained(4, 1, 2, (0.0, 0.0)), Trained(4, 1, 60, (float("nan"), 0.1)))
    result = Result(0.1, LEAST, (deep(2, 0.1),), shallow)
    assert result.decision == replace(result, plain=()).decision
    assert result.one_hidden_layer(4).width == 2
    assert replace(result, plain=shallow[1:]).one_hidden_layer(4).best == 0.1
    assert result.one_hidden_layer(3) is None


def test_the_claim_is_quoted_as_it_stands():
    assert "the overall number of parameters" in CLAIM


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "folds must lie between 2 and 7, which 1000 examples show, got 1"),
        ({"folds": 8}, "folds must lie between 2 and 7, which 1000 examples show, got 8"),
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"starts": 0}, "starts must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"plain_width": 0}, "plain_width must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"shallow_folds": -1}, "shallow_folds must be at least 0, got -1"),
        ({"widths": ()}, "widths must rise from at least 1, got none"),
        ({"widths": (0, 4)}, "widths must rise from at least 1, got 0 4"),
        ({"widths": (4, 2)}, "widths must rise from at least 1, got 4 2"),
        ({"plain_folds": (1, 2)}, "plain_folds must rise from at least 2, got 1 2"),
        ({"learning_rate": 0.0}, "learning_rate must be positive and finite, got 0.0"),
        ({"joint_rate": float("inf")}, "joint_rate must be positive and finite, got inf"),
        ({"plain_rate": float("nan")}, "plain_rate must be positive and finite, got nan"),
        ({"target": 1.0}, "target must lie between 0 and 1, the error of a constant, got 1.0"),
    ],
)
def test_what_cannot_be_compared_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Sawtooth(**options)
