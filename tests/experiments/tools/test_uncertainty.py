"""What probabilities are worth: the scores by hand, and that a posterior makes a network that is too sure less so."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from jaxbp.experiments.tools import uncertainty
from jaxbp.experiments.tools.uncertainty import Images, Uncertainty, judged, larger, main


def test_larger_is_how_often_ties_as_a_half():
    assert larger(np.array([1.0, 3.0]), np.array([0.0, 1.0, 2.0, 4.0])) == pytest.approx((1.5 + 3) / 8)


def test_scores_are_those_by_hand():
    """Two of three are right with 0.9, and the third wrong with 0.6."""
    x = np.array([[0.0], [0.0], [1.0]])
    data = Images(x, x, x, x, x, np.array([0, 0, 0]))
    p = {0.0: [0.9, 0.1], 1.0: [0.4, 0.6]}
    scores = judged(lambda x: np.array([p[float(row[0])] for row in x]), data, 2.0)
    assert scores.loss == pytest.approx(-(2 * np.log(0.9) + np.log(0.4)) / 3)
    assert scores.calibration_error == pytest.approx((2 * 0.1 + 0.6) / 3)
    assert (scores.error, scores.prior_precision) == (pytest.approx(1 / 3), 2.0)
    # two negatives are less sure than two images and as sure as one; the third is as sure as two
    assert scores.told_apart == pytest.approx((2 * (1 + 1 + 0.5) + (0.5 + 0.5 + 0)) / 9)


def test_a_posterior_lowers_the_loss_of_what_is_too_sure(tmp_path, monkeypatch):
    monkeypatch.setattr(uncertainty, "GRID", (1e-3, 30.0))
    text = io.StringIO()
    config = Uncertainty(examples=60, hidden=8, epochs=40, learning_rate=0.03, seeds=1, out=tmp_path)
    found = main(config, Console(file=text, width=80))
    without, last, of_all = (of[0] for of in found.values())
    assert max(last.loss, of_all.loss) < without.loss
    assert (last.prior_precision, of_all.prior_precision) == (30, 30)
    assert json.loads((tmp_path / "uncertainty.json").read_text())["last layer"][0]["loss"] == pytest.approx(last.loss)
    assert "calibration" in text.getvalue()


def test_too_few_examples_are_refused():
    with pytest.raises(ValueError, match="examples"):
        Uncertainty(examples=3)
