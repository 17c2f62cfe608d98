"""Autoencoders, run: the decision and what would change it, the plot, and what is refused."""

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

import jaxbp
from jaxbp.experiments.claims.autoencoder import (
    DEEP,
    LINEAR,
    PLACE,
    TIED,
    Errors,
    Reduction,
    angle_to,
    decoder,
    gradient_difference,
    load_images,
    lost,
    main,
    networks,
    trained,
)

pytestmark = pytest.mark.slow

SMALL = Reduction(hidden=(12,), steps=300)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """One run of the whole experiment: the result, what was printed, and the folder."""
    out, console = tmp_path_factory.mktemp("run") / "out", Console(file=io.StringIO(), width=400)
    return main(replace(SMALL, out=out), console), console.file.getvalue(), out


def test_the_linear_ones_are_the_decomposition_and_the_deep_one_is_better(done):
    result, printed, out = done
    assert result.holds
    assert result.decision.endswith(": holds")
    assert result.decision in printed
    assert list(result.errors) == [LINEAR, TIED, DEEP]
    for name in (LINEAR, TIED):  # the decomposition is the best that there is
        assert -1e-12 < result.excess(name) < 0.01
    assert result.errors[DEEP].train < 0.8 * result.svd.train
    assert (out / "autoencoder.png").read_bytes().startswith(b"\x89PNG")
    assert PLACE  # for the page


def test_a_signal_of_the_wrong_sign_is_noticed(done, monkeypatch):
    right = jaxbp.Dense.pull_back
    monkeypatch.setattr(jaxbp.Dense, "pull_back", lambda *of: -right(*of))
    config = replace(SMALL, code=3)  # networks of which nothing is compiled yet
    nets, images = networks(config), load_images(0)
    V = np.linalg.svd(images.x[images.train], full_matrices=False)[2][:3].T
    linear = trained(LINEAR, nets[LINEAR], images, config)
    spoilt = {
        "angles": done[0].angles | {LINEAR: angle_to(V, decoder(linear))},
        "errors": done[0].errors | {LINEAR: Errors(lost(images.x[images.train], linear.output[images.train]), 0)},
        "gradient_difference": gradient_difference(nets[TIED], images.x[images.train], 0),
    }
    for field, value in spoilt.items():
        assert not replace(done[0], **{field: value}).holds, field


@pytest.mark.parametrize(
    "spoilt",
    [
        {"angles": {LINEAR: 0.1, TIED: 1.0}},
        {"angles": {LINEAR: np.nan, TIED: 0.1}},
        {"errors": {LINEAR: Errors(0.7071, 0), TIED: Errors(0.7, 0), DEEP: Errors(0.3, 0.6)}},
        {"errors": {LINEAR: Errors(0.7, 0), TIED: Errors(0.7, 0), DEEP: Errors(0.3, 0.71)}},
        {"gradient_difference": 1e-9},
    ],
)
def test_each_number_decides(done, spoilt):
    errors = {LINEAR: Errors(0.7, 0), TIED: Errors(0.7069, 0), DEEP: Errors(0.3, 0.7)}
    good = replace(done[0], svd=Errors(0.7, 0.71), angles={LINEAR: 0.1, TIED: 0.9}, errors=errors, full=True)
    assert good.holds
    assert replace(good, **spoilt).holds is False
    assert replace(good, **spoilt).decision.endswith(": does not hold")
    # more steps could bring all nearer but the gradient
    assert replace(good, **spoilt, full=False).holds is (False if "gradient_difference" in spoilt else None)


def test_a_subspace_is_not_a_matter_of_its_basis_and_an_angle_is_one():
    V, turn = np.eye(4)[:, :2], np.deg2rad(30)
    basis = np.array([[1.0, 2.0], [0.0, 1.0]])
    assert angle_to(V, basis @ V.T) < 1e-6
    turned = np.array([[1, 0, 0, 0], [0, np.cos(turn), np.sin(turn), 0]])
    assert angle_to(V, basis @ turned) == pytest.approx(30)


def test_a_run_that_diverges_says_which(done, tmp_path):
    with pytest.raises(
        jaxbp.train.DivergedError, match=r"in epoch 2 .* the loss of the autoencoder 'linear' is the first"
    ):
        main(replace(SMALL, learning_rate=1e200, out=tmp_path / "out"), Console(file=io.StringIO()))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"code": 1}, "code must be at least 2, to be drawn, and below 64 pixels, got 1"),
        ({"code": 64}, "code must be at least 2, to be drawn, and below 64 pixels, got 64"),
        ({"hidden": ()}, "hidden must be widths of at least 1, got none"),
        ({"hidden": (8, 0)}, "hidden must be widths of at least 1, got 8 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive and finite, got nan"),
    ],
)
def test_what_cannot_be_trained_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **options)
