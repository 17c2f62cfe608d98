"""Wrong labels found by influence: the decision and what would change it, what is planted and counted, and a run."""

import io
from dataclasses import replace

import jax
import numpy as np
import pytest
from rich.console import Console

import jaxbp
from jaxbp.experiments.tools.influence import (
    HARMED,
    JUDGED,
    LOSS_ALONE,
    PROJECTED,
    SCORES,
    Influence,
    Result,
    main,
    of_pairs,
    planted,
    share_found,
    suspicions,
)

SMALL = Influence(examples=200, validation=60, hidden=(8,), epochs=2, looks=(1, 2), seeds=1, rank=200)
GOOD = Result(
    found=dict.fromkeys(SCORES, ((0.5, 0.6), (0.5, 0.5))) | {JUDGED: ((0.8, 0.85), (0.8, 0.8))},
    summed=dict.fromkeys(SCORES, (0.8, 0.8)),
    looks=(1, 2), wrong=0.1, examples=1000, fitted=0.95,
)  # fmt: skip


def test_influence_must_find_enough_and_more_than_the_loss_with_every_seed():
    assert GOOD.holds
    assert GOOD.decision.endswith(": holds")
    for spoilt in ({JUDGED: ((0.9, 0.78), (0.9, 0.81))}, {LOSS_ALONE: ((0.5, 0.6), (0.5, 0.8))}):
        assert replace(GOOD, found=GOOD.found | spoilt).holds is False
        assert replace(GOOD, found=GOOD.found | spoilt, full=False).holds is None


def test_wrong_labels_are_planted_in_the_training_part_alone():
    parts = planted(3, SMALL)
    right = planted(3, replace(SMALL, wrong=1e-9))
    assert parts.wrong.sum() == 20
    np.testing.assert_array_equal(parts.x, right.x)
    np.testing.assert_array_equal(parts.y_validation, right.y_validation)
    differ = parts.y != right.y
    np.testing.assert_array_equal(differ[~right.wrong], parts.wrong[~right.wrong])
    assert parts.y.max() < 10


def test_what_is_found_is_counted_among_as_many_as_are_wrong():
    wrong = np.array([True, False, True, False])
    assert share_found(np.array([4.0, 3.0, 2.0, 1.0]), wrong) == 0.5
    assert share_found(np.array([4.0, 1.0, 2.0, 1.0]), wrong) == 1.0
    harms = of_pairs(np.array([[-4.0, 1.0, -2.0, 1.0]]), 2)
    assert (harms[PROJECTED][0], harms[HARMED][0]) == (1.0, 3.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wrong": 0.0}, "wrong must be above 0 and below 1, got 0.0"),
        ({"looks": (2, 1)}, "looks must be rising epochs of at least 1, got 2 1"),
        ({"looks": (1,)}, "looks must end with the last epoch, 2, got 1"),
        ({"damping": 0.0}, "damping must be positive and finite, got 0.0"),
        ({"rank": 0}, "rank must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_done_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **options)


@pytest.mark.slow
def test_a_run_sorts_by_every_score_and_rows_of_full_rank_say_what_one_pass_does(tmp_path):
    config, console = replace(SMALL, out=tmp_path / "out"), Console(file=io.StringIO(), width=600)
    result = main(config, console)
    assert result.holds is None
    assert tuple(result.found) == tuple(result.summed) == SCORES
    assert result.decision in console.file.getvalue()
    assert sorted(file.name for file in config.out.iterdir()) == ["influence.png", "rows.npy"]
    assert np.load(config.out / "rows.npy").shape == (200, 64 * 8 + 8 + 8 * 10 + 10)
    net = jaxbp.layered([64, 8, 10], hidden=jaxbp.relu, output=jaxbp.softmax)
    params = jaxbp.init_params(jax.random.key(0), net, np.float32)
    scores = suspicions(net, params, planted(0, config), jax.random.key(0), config)
    largest = np.abs(scores[JUDGED]).max()
    np.testing.assert_allclose(scores[JUDGED], scores[PROJECTED], atol=1e-3 * largest)
