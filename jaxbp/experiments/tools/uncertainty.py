"""Uncertainty: is a network as sure as it may be? The posterior of its weights by the factors of K-FAC, beside without.

    python -m experiments.uncertainty --data-dir PATH/TO/MNIST
    python -m experiments.uncertainty --quick

A network learns a few examples until it is surer than it should be. Then `jaxbp.train.laplace` puts a normal
distribution around its weights, of the last layer or of all, and the outputs a, with their variance v, become the
probabilities softmax(a / √(1 + π v / 8)), MacKay's approximation to their mean. The precision τ of the prior is that of
a grid with the least loss on validation examples. What is shown, in the mean over the seeds:

* loss: −log p of the right class, on test examples
* calibration error: how far the confidence in 15 bins is from the share that is right
* error: the share of wrong classes
* told apart: how often what was never seen, negatives of the test images, has a larger entropy than a test image

Writes `uncertainty.json`. Nothing is decided. Without a folder of MNIST the images are scikit-learn's digits.

Source: Daxberger et al., Laplace redux, 2021; MacKay, The evidence framework applied to classification networks, 1992.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import jaxbp
from jaxbp import train
from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.data import pixels
from jaxbp.experiments.common.files import write_whole
from jaxbp.experiments.common.options import POSITIVE, check_options, whole
from jaxbp.experiments.common.records import as_json

BINS = 15
ROWS = 500  # examples that are predicted at a time
GRID = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
QUICK = {"examples": 200, "epochs": 20, "hidden": 32, "seeds": 1}
KINDS = ("without", "last layer", "all layers")

Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Uncertainty:
    """Train on few examples, and say how sure the network may be."""

    data_dir: Path | None = None
    """The folder of MNIST's four IDX files; scikit-learn's digits when not given."""
    examples: int = 1000
    """To train on, and as many others to choose the prior by."""
    hidden: int = 128
    """The width of the hidden layer, of relu units."""
    epochs: int = 60
    """Over the examples."""
    learning_rate: float = 0.001
    """Of Adam, with weight decay."""
    seeds: int = 3
    """Trainings, with other weights and examples."""
    quick: bool = False
    """One training on 200 examples, for a look: seconds."""
    out: Path = Path("runs/uncertainty")
    """The folder to write to."""

    def __post_init__(self):
        check_options(self, examples=whole(BINS), hidden=whole(1), learning_rate=POSITIVE)


@dataclass(frozen=True)
class Scores:
    """What probabilities are worth.

    Attributes:
        loss: −log p of the right class, in the mean.
        calibration_error: The mean distance of confidence and share of right answers, over bins of confidence.
        error: The share of wrong classes.
        told_apart: How often what was never seen is the less sure one of two, of it and a test image.
        prior_precision: τ; 0 without a posterior.
    """

    loss: float
    calibration_error: float
    error: float
    told_apart: float
    prior_precision: float


@dataclass(frozen=True, eq=False)
class Images:
    """Images to train on, to choose by, and to be tested with."""

    x: np.ndarray
    y: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def main(config: Uncertainty, console: Console | None = None) -> dict[str, list[Scores]]:
    """Train, print the table and write what was found, by seed."""
    console = console or terminal()
    config = replace(config, **QUICK) if config.quick else config
    found: dict[str, list[Scores]] = {kind: [] for kind in KINDS}
    for seed in range(config.seeds):
        for kind, scores in scores_of(config, images(config, seed), seed).items():
            found[kind].append(scores)
            console.print(f"seed {seed}, {kind}: loss {scores.loss:.3f}")
    console.print(table(found))
    config.out.mkdir(parents=True, exist_ok=True)
    path = config.out / "uncertainty.json"
    write_whole(path, as_json({kind: [asdict(scores) for scores in of] for kind, of in found.items()}, indent=1))
    console.print(f"Wrote {path}")
    return found


def images(config: Uncertainty, seed: int) -> Images:
    """Pixels from 0 to 1, in parts drawn at random but for the test examples."""
    x, y, x_test, y_test = pixels(config.data_dir)
    number = min(config.examples, len(x) // 2)
    learned, others = np.split(np.random.default_rng(seed).permutation(len(x))[: 2 * number], 2)
    return Images(x[learned], y[learned], x[others], y[others], x_test, y_test)


def scores_of(config: Uncertainty, data: Images, seed: int) -> dict[str, Scores]:
    """Those of one training, by kind."""
    widths = [data.x.shape[1], config.hidden, int(data.y_test.max()) + 1]
    net = jaxbp.layered(widths, hidden=jaxbp.relu, output=jaxbp.softmax)
    optimizer = optax.adamw(config.learning_rate, weight_decay=0.01)
    fitted = train.fit(
        net, jaxbp.cross_entropy, data.x, data.y, optimizer=optimizer, epochs=config.epochs, batch_size=50, seed=seed
    )
    apply = jax.jit(lambda params, x: jaxbp.apply(net, params, x))
    scores = {"without": judged(lambda x: np.asarray(apply(fitted.params, x)), data, 0.0)}
    for kind, last in (("last layer", True), ("all layers", False)):

        def predict(tau: float, last: bool = last) -> Predict:
            posterior = train.laplace(
                net, jaxbp.cross_entropy, fitted.params, data.x, data.y, prior_precision=tau, last=last
            )
            return lambda x: np.concatenate([_mean(posterior, x[i : i + ROWS]) for i in range(0, len(x), ROWS)])

        tau = min(GRID, key=lambda tau: loss_of(predict(tau)(data.x_validation), data.y_validation))
        scores[kind] = judged(predict(tau), data, tau)
    return scores


@jax.jit
def _probabilities(posterior: Any, x: Any) -> jax.Array:
    a, covariance = posterior.predict(x)
    variance = jnp.diagonal(covariance, axis1=-2, axis2=-1)
    return jax.nn.softmax(a / jnp.sqrt(1 + jnp.pi / 8 * variance))


def _mean(posterior: Any, x: np.ndarray) -> np.ndarray:
    return np.asarray(_probabilities(posterior, x))


def judged(predict: Predict, data: Images, prior_precision: float) -> Scores:
    """What predictions are worth on test images and their negatives."""
    p, unseen = predict(data.x_test), predict(1 - data.x_test)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == data.y_test
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [np.sum(right[bins == b]) - np.sum(confidence[bins == b]) for b in range(BINS)]
    return Scores(
        loss_of(p, data.y_test),
        float(np.sum(np.abs(gaps)) / len(p)),
        float(1 - right.mean()),
        larger(entropy(unseen), entropy(p)),
        prior_precision,
    )


def loss_of(p: np.ndarray, y: np.ndarray) -> float:
    """−log p of the right class, in the mean."""
    return float(-np.mean(np.log(np.maximum(p[np.arange(len(y)), y], np.finfo(p.dtype).tiny))))


def entropy(p: np.ndarray) -> np.ndarray:
    """−Σ p log p."""
    return -np.sum(p * np.log(np.maximum(p, np.finfo(p.dtype).tiny)), axis=1)


def larger(these: np.ndarray, those: np.ndarray) -> float:
    """How often one of these is larger than one of those, ties as a half: the area under the curve."""
    ordered = np.sort(those)
    below, upto = (np.searchsorted(ordered, these, side=side) for side in ("left", "right"))
    return float(np.mean(below + upto) / 2 / len(those))


def table(found: dict[str, list[Scores]]) -> Table:
    """A row for each kind, in the mean over the seeds."""
    seeds = len(found["without"])
    rows = Table(title=f"with a posterior of the weights, and without; mean of {seeds}", title_justify="left")
    for column in ("posterior", "loss", "calibration\nerror", "error", "told\napart", "τ"):
        rows.add_column(column, justify="left" if column == "posterior" else "right")
    for kind, of in found.items():
        mean = {name: float(np.mean([getattr(scores, name) for scores in of])) for name in asdict(of[0])}
        taus = sorted({f"{scores.prior_precision:g}" for scores in of}) if kind != "without" else ["–"]
        rows.add_row(
            kind, f"{mean['loss']:.3f}", f"{mean['calibration_error']:.3f}", f"{mean['error']:.3f}",
            f"{mean['told_apart']:.2f}", ", ".join(taus),
        )  # fmt: skip
    return rows


if __name__ == "__main__":
    command_line(main, Uncertainty)
