"""Pretraining, run: the decision and what would change it, the autoencoders, the plot, and what is refused."""

import io
from dataclasses import replace

import jax
import numpy as np
import pytest
from rich.console import Console

import jaxbp
from jaxbp.experiments.claims import pretraining
from jaxbp.experiments.claims.pretraining import (
    PLACE,
    Network,
    Pretraining,
    Result,
    classifier,
    compared,
    load_images,
    main,
    pretrained,
    train,
)

SMALL = Pretraining(depths=(2,), labels=(20,), width=16, layer_steps=60, steps=60, seeds=1)
GOOD = Result(
    tuple(
        Network(name, depth, labels, np.array([0.8, 0.83, 0.82, 0.84, 0.79]), np.array([0.77, 0.8, 0.8, 0.8, 0.8]))
        for name in ("relu", "sigmoid")
        for depth in (1, 5)
        for labels in (50, 1000)
    )
)


def with_judged(**spoilt):
    return replace(GOOD, networks=tuple(replace(n, **spoilt) if n is GOOD.judged else n for n in GOOD.networks))


def test_the_deepest_relu_network_with_the_fewest_labels_decides():
    judged = GOOD.judged
    assert (judged.activation, judged.depth, judged.labels) == ("relu", 5, 50)
    assert GOOD.holds
    assert GOOD.decision.endswith(": holds")
    assert "relu with 1 and 1000 labels" in GOOD.decision
    for spoilt in (
        {"pretrained": judged.scratch + 0.009},
        {"pretrained": judged.scratch + np.array([0.2, 0, 0, 0.01, 0])},
        {"pretrained": np.full(5, np.nan)},
    ):
        assert with_judged(**spoilt).holds is False
        assert replace(with_judged(**spoilt), full=False).holds is None
    few = with_judged(pretrained=judged.pretrained[:4], scratch=judged.scratch[:4])
    assert few.holds is None
    assert PLACE  # for the page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": (3, 1)}, "depths must rise from at least 1, got 3 1"),
        ({"labels": ()}, "labels must rise from at least 10, got none"),
        ({"labels": (25,)}, "labels must be multiples of 10, one for each digit, got 25"),
        ({"noise": 1.0}, "noise must be at least 0 and below 1, got 1.0"),
        ({"layer_steps": 0}, "layer_steps must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_trained_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **options)


@pytest.mark.slow
def test_a_run_prints_a_decision_and_writes_a_plot(tmp_path):
    console = Console(file=io.StringIO(), width=400)
    result = main(replace(SMALL, out=tmp_path / "out"), console)
    assert result.holds is None
    assert result.decision in console.file.getvalue()
    assert [(net.activation, net.depth, net.labels) for net in result.networks] == [
        ("relu", 2, 20),
        ("sigmoid", 2, 20),
    ]
    assert (tmp_path / "out" / "pretraining.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"labels must be at most 10\d0, of a digit as many as there are, got 1190"):
        main(replace(SMALL, labels=(1190,), out=tmp_path / "none"), console)


@pytest.mark.slow
def test_each_autoencoder_learns_to_give_back_what_its_layer_reads():
    images, net = load_images(SMALL), classifier(64, 16, 2, "relu")
    params = jaxbp.init_params(jax.random.key(0), net, np.float32)
    errors = []
    for steps in (1, 1000):
        config = replace(SMALL, layer_steps=steps, learning_rate=0.003)
        encoders = pretrained("relu", params, images.x, jax.random.key(1), config)
        assert set(encoders) == {"h1", "h2"}
        h = np.asarray(jaxbp.forward(net, params | encoders, images.x).h["h2"])
        h = np.concatenate([h, np.ones((len(h), 1))], axis=1)
        errors.append(np.linalg.norm(images.x - h @ np.linalg.lstsq(h, images.x, rcond=None)[0]))
    assert errors[1] < 0.75 * errors[0]  # it is 0.65 of it


@pytest.mark.slow
def test_both_ways_take_as_many_steps_from_the_same_weights_on_the_same_labels(monkeypatch):
    calls = []

    def watched(net, loss, params, x, y, **settings):
        calls.append((loss, x, params, settings))
        return train(net, loss, params, x, y, **settings)

    monkeypatch.setattr(pretraining, "train", watched)
    compared("relu", load_images(SMALL), 0, SMALL)
    assert sum(settings["steps"] for *_, settings in calls[:3]) == calls[3][-1]["steps"] == 180
    (of_labels, x, started, _), (_, x_scratch, scratch, _) = calls[2:]
    assert of_labels is jaxbp.cross_entropy
    assert len(x) == 20
    np.testing.assert_array_equal(x, x_scratch)
    np.testing.assert_array_equal(started["o"]["h2"], scratch["o"]["h2"])
    np.testing.assert_array_equal(calls[0][2]["h1"]["x"], scratch["h1"]["x"])
    assert np.any(started["h1"]["x"] != scratch["h1"]["x"])
