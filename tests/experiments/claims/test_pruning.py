"""Pruning, run: the decision and what would change it, the masks, the plot, and what is refused."""

import io
from dataclasses import replace

import jax
import numpy as np
import pytest
from rich.console import Console

import jaxbp
from jaxbp.experiments.claims.pruning import (
    NOISY,
    Pruning,
    Result,
    Round,
    accuracy_of,
    constrained,
    largest,
    main,
    masked,
    optimizers,
    trained,
)
from jaxbp.experiments.common.data import load

pytestmark = pytest.mark.slow

SMALL = Pruning(hidden=(24,), shares=(0.5,), judged=0.5, epochs=8, retraining=4, batch_size=32)


def dense(hidden):
    return jaxbp.layered([64, hidden, 10], hidden=jaxbp.relu, output=jaxbp.softmax)


def everything(net):
    return {(u, s): np.ones(net.weight_shapes[u][s], bool) for u in net.units for s in net.units[u].connections}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """One run of the whole experiment: the result, what was printed, and the folder."""
    out, console = tmp_path_factory.mktemp("run") / "out", Console(file=io.StringIO(), width=400)
    return main(replace(SMALL, out=out), console), console.file.getvalue(), out


def test_half_of_the_weights_do_and_the_others_stay_at_zero(done):
    result, printed, out = done
    assert result.holds is None  # by 360 digits
    assert result.decision in printed
    assert f"here of {len(load('digits').y_test)}" in printed
    assert [(r.share, r.weights, r.strays) for r in result.rounds] == [(1, 64 * 24 + 240, 0), (0.5, 32 * 24 + 120, 0)]
    assert list(result.rounds[1].accuracy) == ["sgd", "adamw", NOISY]
    assert result.strays_by_noise > 0.9 * 888
    assert (out / "pruning.png").read_bytes().startswith(b"\x89PNG")


def test_signals_of_the_wrong_sign_are_noticed(done, monkeypatch):
    right = jaxbp.Dense.pull_back
    monkeypatch.setattr(jaxbp.Dense, "pull_back", lambda *of: -right(*of))
    data, net = load("digits"), dense(9)  # a network of which nothing is compiled yet
    params, _ = trained(net, optimizers(0)["sgd"](net), everything(net), data, SMALL, 3)  # a few more diverge
    spoilt = replace(done[0].rounds[0], at_once=accuracy_of(net, params, data))
    assert not replace(done[0], rounds=(spoilt, *done[0].rounds[1:])).holds


def test_gradients_of_masked_weights_are_noticed(done, monkeypatch):
    monkeypatch.setattr(jaxbp.Masked, "contract", lambda self, *of: self.connection.contract(*of))
    data, net = load("digits"), dense(7)
    start = jaxbp.init_params(jax.random.key(0), net, np.float32)
    masks = largest(everything(net), start, 100)
    pruned = masked(net, masks)
    _, strays = trained(pruned, optimizers(0)["sgd"](pruned), masks, data, SMALL, 1, constrained(start, masks))
    assert strays > 0
    assert not replace(done[0], rounds=(*done[0].rounds[:1], replace(done[0].rounds[1], strays=strays))).holds


def test_the_largest_weights_stay_and_what_was_taken_out_stays_out():
    masks = {("h", "x"): np.array([[True, False, True]]), ("o", "h"): np.array([[True], [True]])}
    params = {"h": {"x": np.array([[0.0, 9.0, -3.0]])}, "o": {"h": np.array([[2.0], [-1.0]]), "bias": np.array([5.0])}}
    left = {place: mask.ravel().tolist() for place, mask in largest(masks, params, 2).items()}
    assert left == {("h", "x"): [False, False, True], ("o", "h"): [True, False]}
    # a weight that happens to be 0 still goes after those that are out already
    left = {place: mask.ravel().tolist() for place, mask in largest(masks, params, 4).items()}
    assert left == {place: mask.ravel().tolist() for place, mask in masks.items()}
    kept = constrained(params, largest(masks, params, 2))
    assert [W.ravel().tolist() for of in kept.values() for W in of.values()] == [[0, 0, -3], [2, 0], [5]]


GOOD = Result(
    (Round(1.0, 100, 0.95, {"sgd": 0.95, NOISY: 0.95}), Round(0.2, 20, 0.5, {"sgd": 0.951, NOISY: 0.96})), 0.2, 70
)


@pytest.mark.parametrize(
    "rounds",
    [
        {0: {"at_once": 0.89}},
        {0: {"strays": 1}},
        {1: {"strays": 1}},
        {1: {"accuracy": {"sgd": 0.929, NOISY: 0.96}}},
        {1: {"accuracy": {"sgd": 0.94, NOISY: float("nan")}}},
    ],
)
def test_each_number_decides(rounds):
    assert GOOD.holds
    assert GOOD.decision.endswith("(70 after a step of noisy_sgd without keep_masked): holds")
    spoilt = replace(GOOD, rounds=tuple(replace(r, **rounds.get(i, {})) for i, r in enumerate(GOOD.rounds)))
    assert spoilt.holds is False
    assert spoilt.decision.endswith(": does not hold")
    assert replace(GOOD, strays_by_noise=0).holds is False  # nothing was tested then
    assert replace(spoilt, full=False).holds is (False if any("strays" in r for r in rounds.values()) else None)


def test_a_little_lost_or_told_by_a_few_examples_is_no_better_performance():
    dense, judged = GOOD.rounds
    for lost in (0.95, 0.94):
        one = replace(GOOD, rounds=(dense, replace(judged, accuracy={"sgd": lost, NOISY: 0.96})))
        assert one.holds is None
        assert one.decision.endswith(": not decided at this size")
    assert replace(GOOD, tested=360).holds is None
    assert "to perform better; here of 360)" in replace(GOOD, tested=360).decision


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shares": (0.2, 0.5)}, "shares must fall from below 1 to above 0, got 0.2 0.5"),
        ({"shares": (1.0, 0.5)}, "shares must fall from below 1 to above 0, got 1.0 0.5"),
        ({"shares": (0.5, 0.0)}, "shares must fall from below 1 to above 0, got 0.5 0.0"),
        ({"shares": ()}, "shares must fall from below 1 to above 0, got none"),
        ({"judged": 0.3}, "judged must be one of the shares 0.5, got 0.3"),
        ({"hidden": (8, 0)}, "hidden must be at least 1, got 8 0"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"retraining": 0}, "retraining must be at least 1, got 0"),
        ({"data": "diabetes"}, "diabetes is a regression, .* pass one of digits, iris, wine, breast_cancer"),
        ({"data": "mnist"}, "pass their folder with --data-dir"),
    ],
)
def test_what_cannot_be_pruned_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        main(replace(SMALL, **options, out=tmp_path / "out"), Console(file=io.StringIO()))
    assert not (tmp_path / "out").exists()
