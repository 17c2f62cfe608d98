"""Overfitting: more parameters than examples memorise these, random labels too; three remedies lower the test loss.

    python -m experiments.overfitting
    python -m experiments.overfitting --examples 300 --noise 0.1 --out runs/more

Networks of one hidden layer learn a few digits, part of them with a random label, from the whole batch by explicit
backpropagation. Three things are asked. With the width the training error must fall to 0 while the test error stays
well above. The widest must learn shuffled labels by heart, which tell nothing of the test part. And weight decay, early
stopping (by a validation part that has random labels too) and dropout must each lower the mean test loss of the widest.
The strength of decay and dropout was chosen by eye, by the test loss of seeds 0 and 1; `--seed 100` is a fair check.
So no two seeds decide, and `--quick`, which has no more, only shows.

The chapter goes on: "Clearly, increasing the number of nodes in the neural network tends to encourage overfitting." The
plot shows how far this goes: the gap between test and training error grows until the training part is fitted, and then
shrinks again, since the test error falls with further width. So the gap is held against a bound, not asked to grow.
Writes `overfitting.png`; ends with exit code 1 should the claim not hold.
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
from scipy.special import logsumexp

import jaxbp
from jaxbp.experiments.claims.noisy_digits import CLASSES, DIGITS, Parts, split
from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.options import POSITIVE, check_options, full_size, listed
from jaxbp.experiments.common.plots import plt, save
from jaxbp.experiments.common.verdicts import conclude, in_a_word, verdict

CLAIM = (
    "Overfitting is a pervasive problem in neural network design, so that the network often performs very well on the "
    "training data, but it generalizes poorly to unseen test data. This problem occurs when the number of free "
    "parameters, (which is typically equal to the number of weight connections), is too large compared to the size of "
    "the training data. In such cases, the large number of parameters memorize the specific nuances of the training "
    "data, but fail to recognize the statistically significant patterns for classifying unseen test data."
)
PLACE = "Mutli Layer Neural Networks, back propagation"

LOSS = jaxbp.cross_entropy
EVERY = 5  # steps between two looks at the errors
LEAST_NARROW = 0.2  # training error of the narrowest, so that there is something to fall
LEAST_GAP = 0.1  # test error − training error of the widest
MOST_CHANCE = 0.2  # test accuracy after shuffled labels; chance is 0.1
LEAST_GAIN = 0.1  # by how much of it a remedy lowers the mean test loss
LEAST_SEEDS = 3  # to confirm by: the remedies were chosen by two of them


@dataclass(frozen=True)
class Overfitting:
    """Let networks of growing width memorise a few digits, and show what helps."""

    widths: tuple[int, ...] = (1, 2, 4, 8, 16, 64, 256)
    """Of the hidden layer, from narrow to wide."""
    examples: int = 150
    """To train on."""
    validation: int = 50
    """Further examples, to stop early by. The rest is the test part."""
    noise: float = 0.2
    """The share of training and validation labels that are drawn at random."""
    steps: int = 500
    """Updates, each from the whole training part."""
    learning_rate: float = 0.005
    """Adam's."""
    weight_decay: float = 5.0
    """AdamW's: times the learning rate, the share of each weight that a step takes away."""
    dropout: float = 0.8
    """The share of hidden elements that are 0 in a step."""
    seeds: int = 5
    """Over how many splits, labels and starts to average."""
    seed: int = 0
    """The first of them."""
    quick: bool = False
    """The narrowest and the widest, and at most two seeds and 250 steps, for a look: seconds."""
    out: Path = Path("runs/overfitting")
    """The folder to write to."""

    def __post_init__(self):
        if len(self.widths) < 2 or min(self.widths) < 1 or sorted(set(self.widths)) != list(self.widths):
            raise ValueError(f"widths must be two or more growing numbers of at least 1, got {listed(self.widths)}")
        for field in ("examples", "validation"):
            if getattr(self, field) < CLASSES:
                raise ValueError(f"{field} must be at least {CLASSES}, one for each digit, got {getattr(self, field)}")
        if self.examples + self.validation > DIGITS - CLASSES:
            raise ValueError(
                f"examples and validation must leave {CLASSES} of the {DIGITS} digits for the test, "
                f"got {self.examples} and {self.validation}"
            )
        if self.steps < EVERY or self.steps % EVERY:
            raise ValueError(f"steps must be a multiple of {EVERY}, got {self.steps}")
        if not 0 <= self.noise <= 1:
            raise ValueError(f"noise must be at least 0 and at most 1, got {self.noise}")
        if not 0 < self.dropout < 1:
            raise ValueError(f"dropout must be above 0 and below 1, got {self.dropout}")
        check_options(self, weight_decay=POSITIVE)


class Curves(NamedTuple):
    """What was seen after every fifth step, each `(runs, steps / 5)`.

    Attributes:
        train_error: The share of the training part whose label the network does not give.
        test_error: That of the test part.
        validation_loss: The mean cross entropy on the validation part.
        test_loss: That on the test part.
    """

    train_error: np.ndarray
    test_error: np.ndarray
    validation_loss: np.ndarray
    test_loss: np.ndarray


@dataclass(frozen=True, eq=False)  # arrays have no single truth value to compare by
class Width:
    """What became of one width.

    Attributes:
        width: Of the hidden layer.
        parameters: How many the network has.
        train_error: In the end, `(seeds,)`.
        test_error: In the end, `(seeds,)`.
    """

    width: int
    parameters: int
    train_error: np.ndarray
    test_error: np.ndarray

    @property
    def gap(self) -> float:
        """The mean test error less the mean training error."""
        return float(np.mean(self.test_error) - np.mean(self.train_error))


@dataclass(frozen=True, eq=False)
class Remedy:
    """The test loss of the widest network, with a remedy or without.

    Attributes:
        name: What reports call it.
        curves: The test loss after every fifth step, `(seeds, steps / 5)`.
        stops: Which of them each seed ends with, `(seeds,)`.
    """

    name: str
    curves: np.ndarray
    stops: np.ndarray

    @property
    def final(self) -> np.ndarray:
        """The test loss that each seed ends with, `(seeds,)`."""
        return np.take_along_axis(self.curves, self.stops[:, None], axis=1)[:, 0]

    @property
    def loss(self) -> float:
        """Its mean."""
        return float(np.mean(self.final))


@dataclass(frozen=True, eq=False)
class Result:
    """Every width, the shuffled labels and the remedies.

    Attributes:
        widths: From narrow to wide.
        examples: How many were trained on.
        memorised: The training accuracy of the widest network on shuffled labels, `(seeds,)`.
        chance: Its test accuracy, `(seeds,)`.
        plain: The widest network without a remedy.
        remedies: Weight decay, early stopping, dropout.
        full: Whether there were steps, seeds and units enough to refute the claim.
    """

    widths: tuple[Width, ...]
    examples: int
    memorised: np.ndarray
    chance: np.ndarray
    plain: Remedy
    remedies: tuple[Remedy, ...]
    full: bool = True

    @property
    def gains(self) -> tuple[float, ...]:
        """The share of the mean test loss that each remedy takes away."""
        return tuple(1 - remedy.loss / self.plain.loss for remedy in self.remedies)

    @property
    def holds(self) -> bool | None:
        """The training part is memorised, random labels too, and every remedy helps."""
        narrow, wide = self.widths[0], self.widths[-1]
        fitted = np.mean(narrow.train_error) >= LEAST_NARROW and bool(np.all(wide.train_error == 0))
        shuffled = bool(np.all(self.memorised == 1)) and np.mean(self.chance) <= MOST_CHANCE
        too_many = narrow.parameters < wide.parameters and wide.parameters > self.examples
        measured = fitted, too_many, wide.gap >= LEAST_GAP, shuffled, *(g >= LEAST_GAIN for g in self.gains)
        return verdict((), measured, confirms=len(self.memorised) >= LEAST_SEEDS, refutes=self.full)

    @property
    def decision(self) -> str:
        """The numbers beside their bounds, in a line."""
        narrow, wide = self.widths[0], self.widths[-1]
        helped = ", ".join(f"{r.name} {-gain:+.0%}" for r, gain in zip(self.remedies, self.gains, strict=True))
        return (
            f"from {narrow.parameters} to {wide.parameters} parameters the training error on {self.examples} examples "
            f"falls from {np.mean(narrow.train_error):.1%} (at least {LEAST_NARROW:.0%} asked) to "
            f"{np.max(wide.train_error):.1%} (0 asked) and the test error stays {wide.gap:.1%} above (at least "
            f"{LEAST_GAP:.0%}); {np.min(self.memorised):.1%} of shuffled labels memorised (all asked) at test accuracy "
            f"{np.mean(self.chance):.1%} (at most {MOST_CHANCE:.0%}); mean test loss {self.plain.loss:.3f}, with "
            f"{helped} (at least {LEAST_GAIN:.0%} less), over {len(self.memorised)} seeds: {in_a_word(self.holds)}"
        )


def main(config: Overfitting, console: Console | None = None) -> Result:
    """Train every width and every remedy, print two tables and write the plot."""
    console = console or terminal()
    if config.quick:
        ends = (config.widths[0], config.widths[-1])
        config = replace(config, widths=ends, seeds=min(config.seeds, 2), steps=min(config.steps, 250))
    splits = [split(config.seed + s, config.examples, config.validation, config.noise) for s in range(config.seeds)]
    parts = Parts(*map(np.stack, zip(*splits, strict=True)))
    shuffled = np.stack([np.random.default_rng([config.seed, s]).permutation(y) for s, y in enumerate(parts.y)])

    # the widest network as it is, with weight decay, and with shuffled labels: one program for all three
    network, n = classifier(config.widths[-1]), config.seeds
    thrice = Parts(*(np.concatenate([part] * 3) for part in parts))
    thrice = thrice._replace(y=np.concatenate([parts.y, parts.y, shuffled]))
    decays = np.repeat(np.float32([0, config.weight_decay, 0]), n)
    together = trained(network, thrice, decays, config)
    plain, decayed, random = (Curves(*(rows[i : i + n] for rows in together)) for i in (0, n, 2 * n))
    dropped = trained(classifier(config.widths[-1], config.dropout), parts, decays[:n], config)

    narrower = [trained(classifier(width), parts, decays[:n], config) for width in config.widths[:-1]]
    end = np.full(n, config.steps // EVERY - 1)
    result = Result(
        widths=tuple(
            Width(width, classifier(width).parameter_count, curves.train_error[:, -1], curves.test_error[:, -1])
            for width, curves in zip(config.widths, [*narrower, plain], strict=True)
        ),
        examples=config.examples,
        memorised=1 - random.train_error[:, -1],
        chance=1 - random.test_error[:, -1],
        plain=Remedy("none", plain.test_loss, end),
        remedies=(
            Remedy("weight decay", decayed.test_loss, end),
            Remedy("early stopping", plain.test_loss, np.argmin(plain.validation_loss, axis=1)),
            Remedy("dropout", dropped.test_loss, end),
        ),
        full=full_size(config, "steps", "seeds") and config.widths[-1] >= Overfitting.widths[-1],
    )
    save_plot(result, config.out / "overfitting.png")
    for table in _tables(result):
        console.print(table)
    conclude(console, result, config.out, "overfitting.png")
    return result


def classifier(width: int, dropout: float = 0.0) -> jaxbp.Network:
    """One hidden layer of ReLUs, with dropout or without, under a softmax."""
    hidden = jaxbp.Unit(width, jaxbp.relu, {"x": jaxbp.Dense()}, dropout=dropout)
    output = jaxbp.Unit(CLASSES, jaxbp.softmax, {"h1": jaxbp.Dense()})
    return jaxbp.Network(inputs={"x": 64}, units={"h1": hidden, "o": output})


def trained(net: jaxbp.Network, parts: Parts, decays: np.ndarray, config: Overfitting) -> Curves:
    """Several runs at once, each step from the whole training part by explicit backpropagation.

    Args:
        net: The network.
        parts: What each run learns from and is tested on, the runs on the first axis.
        decays: The weight decay of each run, `(runs,)`, float32.
        config: How to train.

    Returns:
        What was seen on the way.
    """
    gradient = jaxbp.value_and_grad(net, LOSS)
    keyed = any(unit.dropout for unit in net.units.values())

    def one(params: jaxbp.Params, key: Array, part: Parts, decay: Array) -> Array:
        optimizer = optax.adamw(config.learning_rate, weight_decay=decay)

        def step(state: jaxbp.train.TrainState, _: None) -> tuple[jaxbp.train.TrainState, None]:
            after, _ = jaxbp.train.step(state, part.x, part.y, gradient=gradient, optimizer=optimizer, keyed=keyed)
            return after, None

        def look(state: jaxbp.train.TrainState, _: None) -> tuple[jaxbp.train.TrainState, Array]:
            state, _ = jax.lax.scan(step, state, length=EVERY)
            return state, jaxbp.forward(net, state.params, everywhere).a[net.output]

        everywhere = jnp.concatenate([part.x, part.x_validation, part.x_test])
        start = jaxbp.train.init_state(key, net, optimizer, params=params)
        return jax.lax.scan(look, start, length=config.steps // EVERY)[1]

    seeds = config.seed + np.arange(len(decays)) % config.seeds  # with every remedy the same starts
    starts = [_start(s, classifier(net.units["h1"].width)) for s in seeds]
    params = jax.tree.map(lambda *leaves: np.stack(leaves), *starts)
    logits = np.asarray(jax.jit(jax.vmap(one))(params, jax.vmap(jax.random.key)(seeds), parts, decays))
    ends = np.cumsum([part.shape[1] for part in (parts.y, parts.y_validation)])
    train, validation, test = np.split(logits, ends, axis=2)
    return Curves(
        error(train, parts.y), error(test, parts.y_test), loss(validation, parts.y_validation), loss(test, parts.y_test)
    )


@partial(jax.jit, static_argnums=1)
def _start(seed: Array, net: jaxbp.Network) -> jaxbp.Params:
    return jaxbp.init_params(jax.random.key(seed), net, jnp.float32)


def error(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The share of wrong classes: logits `(runs, looks, examples, classes)`, y `(runs, examples)`."""
    return np.mean(np.argmax(logits, axis=-1) != y[:, None], axis=-1)


def loss(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The mean cross entropy of the same, in nats: log Σ_k exp(a_k) − a_y."""
    wide = logits.astype(np.float64)
    of_label = np.take_along_axis(wide, y[:, None, :, None], axis=-1)[..., 0]
    return np.mean(logsumexp(wide, axis=-1) - of_label, axis=-1)


def save_plot(result: Result, path: Path) -> None:
    """The errors against the number of parameters, and the test loss over the steps with every remedy.

    Lines join the widths where there are enough of them for a trend.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
    figure.suptitle(f"Networks of one hidden layer on {result.examples} digits, some with a random label")

    numbers = [w.parameters for w in result.widths]
    joined = len(numbers) > 2
    for name, color, marker in (("test", "C3", "s"), ("train", "C0", "o")):
        errors = np.array([getattr(w, f"{name}_error") for w in result.widths])
        label = {"test": "test part", "train": "training part"}[name]
        mean, low, high = (100 * of(errors, axis=1) for of in (np.mean, np.min, np.max))
        left.errorbar(
            numbers,
            mean,
            (mean - low, high - mean),
            fmt=marker,
            linestyle="-" if joined else "",
            capsize=3,
            color=color,
            label=label,
        )
    left.axvline(result.examples, color="grey", linestyle="--", label="as many parameters as examples")
    left.set(
        title="error in the end: mean, and range over seeds", xlabel="parameters", ylabel="error, in %", xscale="log"
    )
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)

    steps = EVERY * np.arange(1, result.plain.curves.shape[1] + 1)
    looks = zip(("black", "C0", "C1", "C2"), ("-", "--", "", "-."), strict=True)
    for remedy, (color, dashes) in zip((result.plain, *result.remedies), looks, strict=True):
        label = f"{remedy.name}: {remedy.loss:.2f}"
        if np.all(remedy.stops == len(steps) - 1):
            right.plot(steps, remedy.curves.mean(axis=0), color=color, linestyle=dashes, label=label)
        else:
            right.plot(steps[remedy.stops], remedy.final, "D", color=color, label=f"{label} (one point for each seed)")
    right.set(
        title=f"{result.widths[-1].width} hidden elements: mean over seeds",
        xlabel="step",
        ylabel="cross entropy on the test part, in nats",
        xscale="log",
    )
    right.legend(
        title="remedy, and mean test loss in the end", loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2
    )
    for axis in (left, right):
        axis.grid(alpha=0.3)
    save(figure, path)


def _tables(result: Result) -> tuple[Table, Table]:
    errors = Table(title=f"mean error after {result.examples} examples", title_justify="left")
    for column in ("width", "parameters", "training", "test", "gap"):
        errors.add_column(column, justify="right")
    for w in result.widths:
        shares = (np.mean(w.train_error), np.mean(w.test_error), w.gap)
        errors.add_row(str(w.width), str(w.parameters), *(f"{share:.1%}" for share in shares))
    losses = Table(title="test loss of the widest network", title_justify="left")
    for column in ("remedy", "mean", "least", "largest", "seeds\nhelped"):
        losses.add_column(column, justify="left" if column == "remedy" else "right")
    for r in (result.plain, *result.remedies):
        numbers = (f"{number:.3f}" for number in (r.loss, np.min(r.final), np.max(r.final)))
        helped = np.count_nonzero(r.final < result.plain.final)
        losses.add_row(r.name, *numbers, "" if r is result.plain else f"{helped} of {len(r.final)}")
    return errors, losses


if __name__ == "__main__":
    command_line(main, Overfitting)
