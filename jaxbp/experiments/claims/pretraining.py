"""Pretraining: layers that first learned to give back what they read, against training from scratch, on few labels.

    python -m experiments.pretraining
    python -m experiments.pretraining --quick
    python -m experiments.pretraining --data-dir PATH/TO/MNIST --width 256 --out runs/on_mnist

Each hidden layer in turn is the encoder of an autoencoder: it reads the layer below with a share of the elements set to
0 and learns, by the explicit gradient of the squared error, to give back all of them; labels are not looked at. Then
the network is trained on a few labelled examples. Beside it the same network, from the same first weights, is trained
on these labels alone with the budget of both, as many steps of as many examples. Both use Adam, with rates that fall to
0 like a cosine, and initialisers that suit the activation.

What decides is the deepest relu network with the fewest labels: pretraining must raise the test accuracy by a point
in the mean over the seeds, and by two standard errors of that. The other networks show where it does and where it
does not: fewer layers, more labels, sigmoid units; and what the best of all reaches without it, which may be as much.
Rates, steps and noise were chosen by eye on seeds 0 to 4 and 100 to 102, and the ten seeds of a full run hold the
first five of these; `--seed 200` is a fair check, of which five seeds gave +2.9 ± 1.6 points: less than two standard
errors. Without a folder of MNIST the images are scikit-learn's digits, 8 × 8 pixels. Writes `pretraining.png`; ends
with exit code 1 should the claim not hold. Fewer seeds or steps than when nothing is given refute nothing, and fewer
than five seeds decide nothing.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from rich.console import Console
from rich.table import Table

import jaxbp
from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.data import load
from jaxbp.experiments.common.options import FRACTION, check_options, full_size, listed, whole
from jaxbp.experiments.common.plots import plt, save
from jaxbp.experiments.common.verdicts import conclude, in_a_word, verdict

CLAIM = (
    "Furthermore, the way in which the neural network is trained also has an impact on the quality of the final "
    "solution. Many clever methods, such as pretraining, have been proposed in recent years in order to improve the "
    "quality of the learned solution."
)
PLACE = "Mutli Layer Neural Networks, back propagation"

CLASSES = 10
ACTIVATIONS = {"relu": jaxbp.relu, "sigmoid": jaxbp.sigmoid}
LEAST_GAIN = 0.01  # of the test accuracy, in the mean over the seeds
LEAST_ERRORS = 2  # standard errors that the mean must be above 0
TEST_SHARE = 0.4  # of the digits, so that one test image is 0.14 points
LEAST_SEEDS = 5
QUICK = {"depths": (3,), "labels": (50,), "seeds": 2, "layer_steps": 150, "steps": 150}


@dataclass(frozen=True)
class Pretraining:
    """Train deep networks on few labels, with layers that were autoencoders before and from scratch."""

    data_dir: Path | None = None
    """The folder of MNIST's four IDX files; scikit-learn's digits when not given."""
    depths: tuple[int, ...] = (1, 5)
    """Hidden layers, rising; the last one decides."""
    labels: tuple[int, ...] = (50, 200, 1000)
    """How many examples have one, the same number of each digit, rising; the first one decides."""
    width: int = 128
    """Of each hidden layer."""
    layer_steps: int = 1000
    """Updates of each autoencoder."""
    steps: int = 1000
    """Updates on the labels after that; from scratch, those of the autoencoders are added."""
    batch_size: int = 64
    """Examples of an update, drawn at random."""
    learning_rate: float = 0.001
    """Adam's, of the first step; it falls to 0 like a cosine."""
    noise: float = 0.25
    """The share of its inputs that an autoencoder does not see."""
    examples: int = 10_000
    """To pretrain on at most: as many as there are of the digits."""
    seeds: int = 10
    """Trainings of each kind, with other weights and other labels."""
    seed: int = 0
    """The first seed."""
    quick: bool = False
    """Two seeds, three layers, the fewest labels and fewer steps, for a look: seconds."""
    out: Path = Path("runs/pretraining")
    """The folder to write to."""

    def __post_init__(self):
        for field, least in (("depths", 1), ("labels", CLASSES)):
            numbers = getattr(self, field)
            if not numbers or list(numbers) != sorted(set(numbers)) or numbers[0] < least:
                raise ValueError(f"{field} must rise from at least {least}, got {listed(numbers)}")
        if any(count % CLASSES for count in self.labels):
            raise ValueError(f"labels must be multiples of {CLASSES}, one for each digit, got {listed(self.labels)}")
        check_options(
            self,
            layer_steps=whole(1),
            noise=FRACTION,
            examples=whole(CLASSES),
            depths=whole(1, 50),
            width=whole(1, 4096),
        )


class Images(NamedTuple):
    """Images to learn from, `(examples, pixels)`, and to be tested on, with what they show."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


@dataclass(frozen=True, eq=False)  # arrays have no single truth value to compare by
class Network:
    """Test accuracies of one network on one number of labels, by seed.

    Attributes:
        activation: The name of that of the hidden layers.
        depth: How many there are.
        labels: How many examples had a label.
        pretrained: With layers that were autoencoders before, `(seeds,)`.
        scratch: Without, in as many steps, `(seeds,)`.
    """

    activation: str
    depth: int
    labels: int
    pretrained: np.ndarray
    scratch: np.ndarray

    @property
    def gains(self) -> np.ndarray:
        """What pretraining adds to the accuracy, `(seeds,)`."""
        return self.pretrained - self.scratch

    @property
    def gain(self) -> float:
        """In the mean."""
        return float(np.mean(self.gains))

    @property
    def error(self) -> float:
        """The standard error of that."""
        return float(np.std(self.gains, ddof=1) / len(self.gains) ** 0.5) if len(self.gains) > 1 else float("nan")


@dataclass(frozen=True, eq=False)
class Result:
    """What was trained."""

    networks: tuple[Network, ...]
    """Of each activation, depth and number of labels."""
    full: bool = True
    """Whether it was large enough to refute the claim by what it measured."""

    @property
    def judged(self) -> Network:
        """The deepest relu network with the fewest labels."""
        return max((net for net in self.networks if net.activation == "relu"), key=lambda net: (net.depth, -net.labels))

    @property
    def best_from_scratch(self) -> Network:
        """The network that learned most from as few labels without pretraining, of any depth and activation."""
        alike = [net for net in self.networks if net.labels == self.judged.labels]
        return max(alike, key=lambda net: float(np.mean(net.scratch)))

    @property
    def holds(self) -> bool | None:
        """Whether pretraining raises its accuracy, by enough and by more than the seeds differ."""
        judged = self.judged
        measured = judged.gain >= LEAST_GAIN, judged.gain >= LEAST_ERRORS * judged.error
        return verdict((), measured, confirms=len(judged.gains) >= LEAST_SEEDS, refutes=self.full)

    @property
    def decision(self) -> str:
        """The numbers beside their bounds, in a line."""
        judged, best = self.judged, self.best_from_scratch
        elsewhere = ", ".join(
            f"{net.activation} with {net.depth} and {net.labels} labels {net.gain:+.1%}"
            for net in self.networks
            if net is not judged and (net.depth, net.labels) in self._corners
        )
        return (
            f"with {judged.depth} hidden layers of relu units and {judged.labels} labels, pretraining takes the test "
            f"accuracy from {np.mean(judged.scratch):.1%} to {np.mean(judged.pretrained):.1%} in as many steps, "
            f"{judged.gain:+.1%} ± {judged.error:.1%} (at least {LEAST_GAIN:+.0%} asked, and {LEAST_ERRORS} standard "
            f"errors), a gain with {np.count_nonzero(judged.gains > 0)} of {len(judged.gains)} seeds; "
            f"the best from scratch on as few labels, {best.activation} with {best.depth}, reaches "
            f"{np.mean(best.scratch):.1%}; elsewhere {elsewhere or 'nothing was trained'}: {in_a_word(self.holds)}"
        )

    @property
    def _corners(self) -> set[tuple[int, int]]:
        depths, labels = ([getattr(net, of) for net in self.networks] for of in ("depth", "labels"))
        return {(depth, count) for depth in (min(depths), max(depths)) for count in (min(labels), max(labels))}


def main(config: Pretraining, console: Console | None = None) -> Result:
    """Train every network both ways, print a table and write the plot."""
    console = console or terminal()
    config = replace(config, **QUICK) if config.quick else config
    images = load_images(config)
    found: dict[tuple[str, int, int], list[tuple[float, float]]] = {}
    for name in ACTIVATIONS:
        for seed in range(config.seed, config.seed + config.seeds):
            for at, accuracies in compared(name, images, seed, config):
                found.setdefault((name, *at), []).append(accuracies)
    networks = [Network(*at, *np.array(both).T) for at, both in found.items()]
    full = full_size(config, "seeds", "steps", "layer_steps") and config.depths[-1] >= Pretraining.depths[-1]
    result = Result(tuple(networks), full)
    save_plot(result, config.out / "pretraining.png")
    console.print(_table(result))
    conclude(console, result, config.out, "pretraining.png")
    return result


def load_images(config: Pretraining) -> Images:
    """The digits or MNIST, and an error where there are not as many labels as asked for."""
    data = load("mnist" if config.data_dir else "digits", data_dir=config.data_dir, test_share=TEST_SHARE)
    chosen = np.random.default_rng(0).permutation(len(data.x_train))[: config.examples]
    images = Images(data.x_train[chosen], data.y_train[chosen], data.x_test, data.y_test)
    least = int(np.bincount(images.y, minlength=CLASSES)[:CLASSES].min())
    if config.labels[-1] > CLASSES * least:
        raise ValueError(
            f"labels must be at most {CLASSES * least}, of a digit as many as there are, got {listed(config.labels)}"
        )
    return images


def compared(
    activation: str, images: Images, seed: int, config: Pretraining
) -> list[tuple[tuple[int, int], tuple[float, float]]]:
    """Test accuracies with pretraining and from scratch, for each depth and number of labels."""
    depth = config.depths[-1]
    key, pretraining, training = jax.random.split(jax.random.key(seed), 3)
    fresh = _start(key, classifier(images.x.shape[1], config.width, depth, activation))
    encoders = pretrained(activation, fresh, images.x, pretraining, config)
    order = np.random.default_rng(seed).permutation(len(images.y))
    found = []
    for depth in config.depths:
        net = classifier(images.x.shape[1], config.width, depth, activation)
        hidden = list(net.units)[:-1]
        # of one depth only the first layers, and an output of its own
        scratch = {u: fresh[u] for u in hidden} | {"o": _start(key, net)["o"]}
        start = scratch | {u: encoders[u] for u in hidden}
        for labels in config.labels:
            chosen = np.concatenate([order[images.y[order] == c][: labels // CLASSES] for c in range(CLASSES)])
            x, y = images.x[chosen], images.y[chosen]
            settings = {"key": training, "batch": min(config.batch_size, labels), "rate": config.learning_rate}
            accuracies = []
            for params, steps in ((start, config.steps), (scratch, config.steps + depth * config.layer_steps)):
                learned = train(net, jaxbp.cross_entropy, params, x, y, steps=steps, **settings)
                accuracies.append(float(_accuracy(net, learned, images.x_test, images.y_test)))
            found.append(((depth, labels), tuple(accuracies)))
    return found


def classifier(pixels: int, width: int, depth: int, activation: str) -> jaxbp.Network:
    """So many hidden layers under a softmax."""
    return jaxbp.layered([pixels, *[width] * depth, CLASSES], hidden=ACTIVATIONS[activation], output=jaxbp.softmax)


def pretrained(
    activation: str, params: jaxbp.Params, x: np.ndarray, key: Array, config: Pretraining
) -> dict[str, dict[str, Array]]:
    """The weights of all hidden layers after each was the encoder of an autoencoder of the layer below."""
    encoders: dict[str, dict[str, Array]] = {}
    h: Array | np.ndarray = x
    hidden = [u for u in params if u != "o"]
    for u, below in zip(hidden, ["x", *hidden], strict=False):
        width = h.shape[1]
        net = jaxbp.layered([width, config.width, width], hidden=ACTIVATIONS[activation], output=jaxbp.linear)
        key, start, learn = jax.random.split(key, 3)
        autoencoder = _start(start, net) | {"h1": {"x": params[u][below], "bias": params[u]["bias"]}}
        autoencoder = train(
            net, jaxbp.squared_error, autoencoder, h, h, key=learn, steps=config.layer_steps, noise=config.noise,
            batch=min(config.batch_size, len(x)), rate=config.learning_rate,
        )  # fmt: skip
        encoders[u] = {below: autoencoder["h1"]["x"], "bias": autoencoder["h1"]["bias"]}
        h = _hidden(net, autoencoder, h)
    return encoders


@partial(jax.jit, static_argnames=("net", "loss", "batch", "noise"))
def train(
    net: jaxbp.Network,
    loss: jaxbp.Loss,
    params: jaxbp.Params,
    x: Array,
    y: Array,
    *,
    key: Array,
    steps: Array,
    batch: int,
    rate: Array,
    noise: float = 0.0,
) -> jaxbp.Params:
    """So many steps of Adam, each with examples drawn at random, and a share of their inputs set to 0."""
    gradient = jaxbp.value_and_grad(net, loss)
    optimizer = optax.adam(lambda count: rate * (1 + jnp.cos(jnp.pi * count / steps)) / 2)

    def body(i: Array, state: jaxbp.train.TrainState) -> jaxbp.train.TrainState:
        which, seen = jax.random.split(jax.random.fold_in(key, i))
        drawn = jax.random.randint(which, (batch,), 0, len(x))
        inputs = x[drawn]
        if noise:
            inputs = jnp.where(jax.random.bernoulli(seen, noise, inputs.shape), 0, inputs)
        return jaxbp.train.step(state, inputs, y[drawn], gradient=gradient, optimizer=optimizer)[0]

    start = jaxbp.train.init_state(key, net, optimizer, params=params)
    return jax.lax.fori_loop(0, steps, body, start).params


@partial(jax.jit, static_argnums=1)
def _start(key: Array, net: jaxbp.Network) -> jaxbp.Params:
    return jaxbp.init_params(key, net, jnp.float32)


@partial(jax.jit, static_argnums=0)
def _hidden(net: jaxbp.Network, params: jaxbp.Params, x: Array) -> Array:
    return jaxbp.forward(net, params, x).h["h1"]


@partial(jax.jit, static_argnums=0)
def _accuracy(net: jaxbp.Network, params: jaxbp.Params, x: Array, y: Array) -> Array:
    return jnp.mean(jnp.argmax(jaxbp.forward(net, params, x).a[net.output], axis=1) == y)


def save_plot(result: Result, path: Path) -> None:
    """What pretraining adds to the accuracy over the number of labels, for each activation and depth."""
    names, depths, counts = (
        list(dict.fromkeys(getattr(net, of) for net in result.networks)) for of in ("activation", "depth", "labels")
    )
    figure, axes = plt.subplots(1, len(names), figsize=(13, 5.6), layout="constrained", sharey=True, squeeze=False)
    judged = result.judged
    figure.suptitle(
        f"Pretraining adds {100 * judged.gain:+.1f} points of accuracy where it is judged: "
        f"{judged.depth} relu layers, {judged.labels} labels",
        fontsize=17,
    )
    for axis, name in zip(axes[0], names, strict=True):
        for i, depth in enumerate(depths):
            row = [net for net in result.networks if (net.activation, net.depth) == (name, depth)]
            places = np.array(counts) * 1.06 ** (i - (len(depths) - 1) / 2)  # beside each other
            layers = f"{depth} hidden layer{'s' * (depth > 1)}"
            axis.plot(
                places, [100 * net.gain for net in row], "o-", color=f"C{i}", linewidth=3, markersize=9, label=layers
            )
            for place, net in zip(places, row, strict=True):
                axis.plot([place] * len(net.gains), 100 * net.gains, ".", color=f"C{i}", markersize=9, alpha=0.45)
        axis.axhline(0, color="black", linewidth=1.5)
        axis.set_title(f"{name} units", fontsize=16)
        axis.set(xscale="log")
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.minorticks_off()
        axis.set_xlabel("labelled examples", fontsize=15)
        axis.tick_params(labelsize=14)
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("points of test accuracy that\npretraining adds, in as many steps", fontsize=15)
    axes[0, -1].legend(fontsize=14)
    save(figure, path)


def _table(result: Result) -> Table:
    table = Table(title="test accuracy, in the mean over the seeds", title_justify="left")
    table.add_column("units")
    for column in ("hidden layers", "labels", "from scratch", "pretrained", "gain", "seeds\nthat gain"):
        table.add_column(column, justify="right")
    for net in result.networks:
        table.add_row(
            net.activation, str(net.depth), str(net.labels), f"{np.mean(net.scratch):.1%}",
            f"{np.mean(net.pretrained):.1%}", f"{net.gain:+.1%} ± {net.error:.1%}",
            f"{np.count_nonzero(net.gains > 0)} of {len(net.gains)}",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    command_line(main, Pretraining)
