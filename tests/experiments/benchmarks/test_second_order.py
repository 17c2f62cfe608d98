"""The comparison of K-FAC with SGD and Adam: what it reports, and what it refuses."""

import numpy as np
import pytest

from jaxbp.experiments.benchmarks.second_order import GRID, Curve, SecondOrder, main


@pytest.mark.slow
def test_each_optimizer_is_trained_and_plotted(tmp_path):
    best = main(SecondOrder(networks=("classifier",), seconds=0.3, batch_size=256, out=tmp_path))
    assert [curve.optimizer for curve in best["classifier"]] == list(GRID)
    assert all(curve.last < curve.errors[0] for curve in best["classifier"])
    assert (tmp_path / "second_order.png").stat().st_size > 10_000


def test_every_optimizer_has_as_many_settings():
    assert len({len(settings) for settings in GRID.values()}) == 1


def test_a_curve_says_when_it_reached_an_error_and_a_diverged_one_is_last():
    curve = Curve("Adam", 0.1, (0, 5, 10), (0.0, 1.0, 2.0), (np.nan, 1.0, 0.5), (0.9, 0.3, 0.2))
    assert curve.reached(0.3) == (5, 1.0)
    assert curve.reached(0.1) is None
    assert Curve("SGD", 0.3, (0,), (0.0,), (np.nan,), (np.nan,)).last == np.inf


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="networks must be autoencoder, classifier or both"):
        SecondOrder(networks=())
    with pytest.raises(ValueError, match="seconds must be positive and finite, got 0"):
        SecondOrder(seconds=0)
