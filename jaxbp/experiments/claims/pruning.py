"""Pruning: most weights of a trained network can be taken out, if those that are left are trained again.

    python -m experiments.pruning
    python -m experiments.pruning --quick
    python -m experiments.pruning --data-dir PATH/TO/MNIST --hidden 128 64

Trains a network, and in each round takes out the weights of smallest magnitude, over all matrices together, by the
masks of `jaxbp.Masked`; then it trains the others on. Biases stay. This from the same dense network by three
optimizers: sgd with momentum and adamw with weight decay, which leave a masked weight at 0 by themselves, and
noisy_sgd, which needs `jaxbp.train.keep_masked` for that. Before each update, and after the last of an epoch, masked
weights that are not exactly 0 are counted.

The chapter's better performance comes of insight, and magnitudes have none but what training gave them. What is decided
here is that pruning by them loses next to nothing: with the share of weights that `--judged` names, accuracy on the
test part is at most two points below that of the dense network, by each optimizer, and no masked weight ever leaves 0.
The dense network must have learned its task, with an accuracy of 0.9 at least. Writes `pruning.png`; ends with exit
code 1 should that not hold. That the claim holds is said only of a better performance, by each optimizer and on a
thousand examples at least: a few hundred digits tell accuracies apart to a point, and no claim is decided by them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import Array
from rich.console import Console
from rich.table import Table
from rich.text import Text

import jaxbp
from jaxbp import train
from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.data import CLASSIFICATION, Data, load
from jaxbp.experiments.common.networks import ActivationName, affordable
from jaxbp.experiments.common.options import check_options, listed, whole
from jaxbp.experiments.common.plots import plt, save
from jaxbp.experiments.common.verdicts import conclude, in_a_word, verdict

CLAIM = (
    "Although a fully connected architecture is able to perform well in many settings, better performance is often "
    "achieved by pruning many of the connections or sharing them in an insightful way."
)
PLACE = "Mutli Layer Neural Networks, back propagation"  # the chapter's title, as it is spelt there

LOSS = jaxbp.cross_entropy
LEAST_ACCURACY = 0.9  # of the dense network: of one that has learned nothing, nothing is lost
MOST_LOST = 0.02  # of accuracy, against the dense network
LEAST_TESTED = 1000  # examples by which a better performance can be told
NOISY = "noisy_sgd"
BESIDE = 0.08  # of the way from round to round, so that what agrees is still seen
QUICK_EPOCHS, QUICK_RETRAINING = 12, 6

Masks = Mapping[tuple[str, str], np.ndarray]
"""Booleans by unit and source: which weights are left."""


@dataclass(frozen=True)
class Pruning:
    """Prune a trained network in several rounds, with training after each, and see what is lost."""

    data: str = "digits"
    """digits, iris, wine, breast_cancer, or mnist with --data-dir."""
    data_dir: Path | None = None
    """A folder of IDX files under their usual names, plain or gzipped."""
    hidden: tuple[int, ...] = (64, 64)
    """The widths of the hidden layers, first to last."""
    activation: ActivationName = "relu"
    """Of the hidden layers."""
    shares: tuple[float, ...] = (0.5, 0.2, 0.1, 0.05, 0.025)
    """Of the weights that are left after each round, falling."""
    judged: float = 0.2
    """The one of them at which the accuracy is compared with that of the dense network."""
    epochs: int | None = None
    """Of the dense network; 20, and 3 for MNIST, when not given."""
    retraining: int | None = None
    """Epochs after each round; 10, and 3 for MNIST, when not given."""
    batch_size: int | None = None
    """32, and 128 for MNIST, when not given."""
    seed: int = 0
    """Fixes the split, the weights, the order of the examples and the noise."""
    quick: bool = False
    """Small data whatever the data_dir, one hidden layer, the judged round alone and fewer epochs, for a look: seconds
    instead of a minute."""
    out: Path = Path("runs/pruning")
    """The folder to write to."""

    def __post_init__(self):
        check_options(self, retraining=whole(1))
        falling = all(after < before for before, after in zip((1, *self.shares), self.shares, strict=False))
        if not self.shares or not falling or not self.shares[-1] > 0:
            raise ValueError(f"shares must fall from below 1 to above 0, got {listed(self.shares)}")
        if self.judged not in self.shares:
            raise ValueError(f"judged must be one of the shares {listed(self.shares)}, got {self.judged}")

    @property
    def full_size(self) -> bool:
        """Whether there are no fewer epochs than when nothing is given."""
        usual, own = replace(self, epochs=None, retraining=None).settled(), self.settled()
        return not self.quick and own.epochs >= usual.epochs and own.retraining >= usual.retraining

    def settled(self) -> "Pruning":
        """With nothing left open."""
        data_dir = None if self.quick else self.data_dir
        epochs, retraining, batch_size = (20, 10, 32) if data_dir is None else (3, 3, 128)
        config = replace(
            self,
            data_dir=data_dir,
            epochs=self.epochs or epochs,
            retraining=self.retraining or retraining,
            batch_size=self.batch_size or batch_size,
        )
        return config.shortened() if self.quick else config

    def shortened(self) -> "Pruning":
        """The first hidden layer and the judged round alone, with fewer epochs."""
        return replace(
            self,
            hidden=self.hidden[:1],
            shares=(self.judged,),
            epochs=min(self.epochs or QUICK_EPOCHS, QUICK_EPOCHS),
            retraining=min(self.retraining or QUICK_RETRAINING, QUICK_RETRAINING),
        )


@dataclass(frozen=True)
class Round:
    """Networks with a share of the weights."""

    share: float
    """Of the weights that are left: 1 for the dense network."""
    weights: int
    """How many that is."""
    at_once: float
    """Accuracy on the test part of the dense network, of whose weights only the largest are left, so many."""
    accuracy: dict[str, float]
    """The same after every round up to this one, with training after each; by optimizer."""
    strays: int = 0
    """The most masked weights that were not 0 at any time of it."""


@dataclass(frozen=True)
class Result:
    """What decides."""

    rounds: tuple[Round, ...]
    """The dense network first."""
    judged: float
    """The share at which accuracies are compared."""
    strays_by_noise: int
    """Masked weights that one step of noisy_sgd moves, without `keep_masked`."""
    tested: int = LEAST_TESTED
    """Examples that accuracies are of."""
    full: bool = True
    """Whether it was large enough to refute the claim by what it measured."""

    @property
    def losses(self) -> dict[str, float]:
        """Of accuracy at the judged share, by optimizer; negative for a gain."""
        judged = next(r for r in self.rounds if r.share == self.judged)
        return {name: self.rounds[0].at_once - accuracy for name, accuracy in judged.accuracy.items()}

    @property
    def strays(self) -> int:
        """The most masked weights that were not 0 at any time, in any training."""
        return max(r.strays for r in self.rounds)

    @property
    def holds(self) -> bool | None:
        """Whether accuracy is gained, or hardly any lost, and masked weights stay at 0 though noise would move them."""
        learned = self.rounds[0].at_once >= LEAST_ACCURACY
        kept = (lost <= MOST_LOST for lost in self.losses.values())
        better = self.tested >= LEAST_TESTED and all(lost < 0 for lost in self.losses.values())
        still = self.strays == 0 < self.strays_by_noise
        return verdict([still], [learned, *kept], confirms=better, refutes=self.full)

    @property
    def decision(self) -> str:
        """The numbers and their bounds in a line."""
        lost = ", ".join(f"{100 * lost:.1f} ({name})" for name, lost in self.losses.items())
        return (
            f"the dense network has accuracy {self.rounds[0].at_once:.4f}, at least {LEAST_ACCURACY:g} needed; with "
            f"{self.judged:.0%} of its weights {lost} points are lost, at most {100 * MOST_LOST:g} allowed "
            f"(less than 0, of {LEAST_TESTED} test examples or more, to perform better; here of {self.tested}); "
            f"{self.strays} masked weights were ever not 0, none allowed ({self.strays_by_noise} after a step of "
            f"{NOISY} without keep_masked): {in_a_word(self.holds)}"
        )


def main(config: Pruning, console: Console | None = None) -> Result:
    """Prune by each optimizer, print a table and write the plot.

    Raises:
        ValueError: A choice that does not exist or does not fit the data, before anything is compiled.
        jaxbp.train.DivergedError: A loss was not finite.
    """
    console = console or terminal()
    config = config.settled()
    data = load(config.data, data_dir=config.data_dir, seed=config.seed)
    if data.classes is None:
        known = ", ".join(CLASSIFICATION)
        raise ValueError(f"{data.name} is a regression, which has no accuracy; pass one of {known}")
    widths = (data.x_train.shape[1], *config.hidden, data.classes)
    dense = affordable(jaxbp.layered(widths, hidden=getattr(jaxbp, config.activation), output=jaxbp.softmax))
    result = replace(pruned(dense, data, config), tested=len(data.y_test), full=config.full_size)
    title = f"{data.name}, {' ⇒ '.join(map(str, widths))}, {config.activation}"
    save_plot(result, title, config.out / "pruning.png")
    console.print(_table(result, title))
    conclude(console, result, config.out, "pruning.png")
    return result


def optimizers(seed: int) -> dict[str, Callable[[jaxbp.Network], optax.GradientTransformation]]:
    """The optimizer for a network with masks, by name; the first one trains the dense network too."""
    return {
        "sgd": lambda net: optax.sgd(0.05, momentum=0.9),
        "adamw": lambda net: optax.adamw(2e-3, weight_decay=0.01),
        NOISY: lambda net: optax.chain(noisy_sgd(seed), train.keep_masked(net)),
    }


def noisy_sgd(seed: int) -> optax.GradientTransformation:
    """Descent with Gaussian noise on every gradient, which fades."""
    # the generator of XLA, which compiles faster than threefry
    return optax.noisy_sgd(0.1, eta=1e-3, key=jax.random.key(seed, impl="unsafe_rbg"))


def pruned(dense: jaxbp.Network, data: Data, config: Pruning) -> Result:
    """The dense network and every round of pruning it, by each optimizer.

    Raises:
        jaxbp.train.DivergedError: A loss was not finite.
    """
    makers = optimizers(config.seed)
    whole: Masks = {
        (u, s): np.ones(dense.weight_shapes[u][s], bool) for u in dense.units for s in dense.units[u].connections
    }
    weights = sum(mask.size for mask in whole.values())
    start, _ = trained(dense, next(iter(makers.values()))(dense), whole, data, config, config.epochs)
    accuracy = accuracy_of(dense, start, data)
    rounds = [Round(1.0, weights, accuracy, dict.fromkeys(makers, accuracy))]
    current = dict.fromkeys(makers, (whole, start))
    for share in config.shares:
        left = max(round(share * weights), 1)
        # all by the dense network, which a masked weight would reach if it were not 0
        at_once = accuracy_of(dense, constrained(start, largest(whole, start, left)), data)
        accuracies, most = {}, 0
        for name, make in makers.items():
            masks, params = current[name]
            masks = largest(masks, params, left)
            net = masked(dense, masks)
            params, strays = trained(net, make(net), masks, data, config, config.retraining, constrained(params, masks))
            current[name] = masks, params
            accuracies[name], most = accuracy_of(dense, params, data), max(most, strays)
        rounds.append(Round(share, left, at_once, accuracies, most))
    return Result(tuple(rounds), config.judged, strays_by_noise(dense, *current[NOISY], data, config))


def largest(masks: Masks, params: jaxbp.Params, left: int) -> dict[tuple[str, str], np.ndarray]:
    """The masks of the largest weights, so many, of those that the given masks have left."""
    magnitudes = np.concatenate([np.where(mask, np.abs(params[u][s]), -1).ravel() for (u, s), mask in masks.items()])
    kept = np.zeros(magnitudes.size, bool)
    kept[np.argsort(-magnitudes, stable=True)[:left]] = True
    ends = np.cumsum([mask.size for mask in masks.values()])[:-1]
    parts = np.split(kept, ends)
    return {place: part.reshape(mask.shape) for (place, mask), part in zip(masks.items(), parts, strict=True)}


def masked(dense: jaxbp.Network, masks: Masks) -> jaxbp.Network:
    """The same network, with a mask on each connection."""
    units = {
        u: replace(unit, connections={s: jaxbp.Masked(c, masks[u, s]) for s, c in unit.connections.items()})
        for u, unit in dense.units.items()
    }
    return jaxbp.Network(inputs=dense.inputs, units=units)


def constrained(params: jaxbp.Params, masks: Masks) -> jaxbp.Params:
    """The parameters, 0 where a mask is false."""
    return {
        u: {s: np.where(masks[u, s], W, np.zeros_like(W)) if (u, s) in masks else W for s, W in of.items()}
        for u, of in params.items()
    }


def trained(
    net: jaxbp.Network,
    optimizer: optax.GradientTransformation,
    masks: Masks,
    data: Data,
    config: Pruning,
    epochs: int,
    params: jaxbp.Params | None = None,
) -> tuple[jaxbp.Params, int]:
    """The parameters after so many epochs, and the most masked weights that were not 0 on the way or at the end.

    Raises:
        jaxbp.train.DivergedError: A loss was not finite.
    """

    def strays(params: jaxbp.Params, *_: Any) -> Array:
        return strays_in(params, masks)

    batch_size = min(config.batch_size, len(data.y_train))
    # whole batches only: a smaller last one is a second step to compile for each network
    examples = len(data.y_train) // batch_size * batch_size
    state = train.init_state(jax.random.key(config.seed), net, optimizer, params=params, dtype=np.float32)
    running = train.run(
        net,
        LOSS,
        data.x_train[:examples],
        data.y_train[:examples],
        optimizer=optimizer,
        batch_size=batch_size,
        state=state,
        observe=strays,
    )
    most = 0
    for _, done in zip(range(epochs), running, strict=False):
        state = done.state
        most = max(most, int(np.max(done.steps.observed)), int(strays_in(jax.device_get(state.params), masks)))
    return state.params, most


def strays_in(params: jaxbp.Params, masks: Masks) -> Any:
    """How many weights are not 0 where the masks are false."""
    return sum(((params[u][s] != 0) & ~mask).sum() for (u, s), mask in masks.items())


def strays_by_noise(dense: jaxbp.Network, masks: Masks, params: jaxbp.Params, data: Data, config: Pruning) -> int:
    """Masked weights that are not 0 after a step of noisy_sgd, which nothing keeps from moving them."""
    optimizer, gradient = noisy_sgd(config.seed), jaxbp.value_and_grad(masked(dense, masks), LOSS)
    step = jax.jit(partial(train.step, gradient=gradient, optimizer=optimizer))
    state = train.init_state(jax.random.key(config.seed), dense, optimizer, params=params)
    state, _ = step(state, data.x_train[: config.batch_size], data.y_train[: config.batch_size])
    return int(strays_in(jax.device_get(state.params), masks))


def accuracy_of(net: jaxbp.Network, params: jaxbp.Params, data: Data) -> float:
    """On the test part."""
    return float(train.evaluate(net, LOSS, params, data.x_test, data.y_test)["accuracy"])


def save_plot(result: Result, title: str, path: Path) -> None:
    """Test accuracy over the share of weights left, with and without training after pruning.

    The optimizers stand beside each other, and lines join the rounds where there are enough of them for a trend.
    """
    figure, axis = plt.subplots(figsize=(9, 5.5), layout="constrained")
    figure.suptitle(title, parse_math=False)
    rounds, names = np.arange(len(result.rounds)), list(result.rounds[0].accuracy)
    joined = len(rounds) > 2
    for i, (name, marker, dashes) in enumerate(zip(names, ("o", "s", "^"), ("-", "-.", ":"), strict=True)):
        accuracies = [r.accuracy[name] for r in result.rounds]
        beside = rounds + BESIDE * (i - 1.5)
        axis.plot(
            beside, accuracies, marker=marker, linestyle=dashes if joined else "", label=f"trained again by {name}"
        )
    at_once = [r.at_once for r in result.rounds]
    axis.plot(
        rounds + 1.5 * BESIDE,
        at_once,
        marker="x",
        color="black",
        linestyle="--" if joined else "",
        label="pruned at once, not trained again",
    )
    least = result.rounds[0].at_once - MOST_LOST
    axis.axhline(least, color="grey", linestyle=":", label=f"{100 * MOST_LOST:g} points below the dense network")
    judged = [r.share for r in result.rounds].index(result.judged)
    axis.axvspan(judged - 2 * BESIDE, judged + 2 * BESIDE, color="grey", alpha=0.15, linewidth=0, label="judged here")
    axis.set_xticks(rounds, [f"{100 * r.share:g}" for r in result.rounds])
    axis.set(xlabel="weights left, % of the dense network's", ylabel="test accuracy")
    figure.legend(loc="outside lower center", ncols=2)
    axis.grid(alpha=0.3)
    save(figure, path)


def _table(result: Result, title: str) -> Table:
    table = Table(title=Text(f"accuracy on the test part: {title}"), title_justify="left")
    for column in ("share", "weights", "not trained again", *result.rounds[0].accuracy, "masked, not 0"):
        table.add_column(column, justify="right")
    for r in result.rounds:
        cells = (f"{accuracy:.4f}" for accuracy in (r.at_once, *r.accuracy.values()))
        table.add_row(f"{100 * r.share:g} %", str(r.weights), *cells, str(r.strays))
    return table


if __name__ == "__main__":
    command_line(main, Pruning)
