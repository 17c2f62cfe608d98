"""The comparison of K-FAC with other optimizers: what it reports and keeps, and what it refuses."""

import numpy as np
import pytest
from rich.console import Console

from jaxbp.experiments.benchmarks.second_order import GRID, Curve, SecondOrder, main
from jaxbp.experiments.benchmarks.second_order_curves import keep, kept

NAN = float("nan")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classifier", "gpt"])
def test_each_optimizer_is_trained_plotted_and_not_trained_again(name, tmp_path):
    optimizers = tuple(name for name in GRID if name != "kfac-jax")
    config = SecondOrder((name,), optimizers, seconds=0.3, batch_size=64, seeds=2, settings=1, out=tmp_path)
    found = main(config)[name]
    assert list(found) == list(optimizers)
    assert all(len(curves) == 2 for curves in found.values())
    assert all(curve.least < curve.errors[0] for curves in found.values() for curve in curves)
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    console = Console(record=True, quiet=True)
    assert repr(main(config, console)[name]) == repr(found)
    assert "seed" not in console.export_text().replace("seeds", "")


def test_every_optimizer_has_as_many_settings():
    assert len({len(settings) for settings in GRID.values()}) == 1


def test_a_curve_says_when_it_reached_an_error_and_a_diverged_one_is_last():
    curve = Curve("Adam", 0.1, 0, (0, 5, 10), (0.0, 1.0, 2.0), (0.0, 2.0, 4.0), (NAN, 1.0, 0.5), (0.9, 0.2, 0.3))
    assert curve.reached(0.3) == (5, 1.0)
    assert curve.reached(0.1) is None
    assert (curve.least, curve.last) == (0.2, 0.3)
    assert Curve("SGD", 0.3, 0, (0,), (0.0,), (0.0,), (NAN,), (NAN,)).last == np.inf


def test_a_kept_curve_comes_back_under_the_same_conditions_alone(tmp_path):
    path = tmp_path / "curves" / "one.json"
    curve = Curve("Adam", 0.1, 0, (0, 5), (0.0, 1.0), (0.0, 2.0), (NAN, 1.0), (0.9, 0.3))
    assert kept(path, {"seconds": "1"}) is None
    keep(curve, path, {"seconds": "1"})
    assert repr(kept(path, {"seconds": "1"})) == repr(curve)
    assert kept(path, {"seconds": "2"}) is None


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="networks must name at least one, got none"):
        SecondOrder(networks=())
    with pytest.raises(ValueError, match="seconds must be positive and finite, got 0"):
        SecondOrder(seconds=0)
    with pytest.raises(ValueError, match="kfac-jax, got Shampoo"):
        SecondOrder(optimizers=("Shampoo",))
