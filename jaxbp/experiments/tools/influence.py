"""Influence: plant wrong labels among the training examples, and find them by what they did to other predictions.

    python -m experiments.influence --data-dir PATH/TO/MNIST
    python -m experiments.influence --quick
    python -m experiments.influence --data-dir PATH/TO/MNIST --wrong 0.2 --epochs 10 --out runs/a_fifth

A tenth of the training examples get another label, drawn at random, and a network learns all of them, most wrong ones
by heart. Then the training examples are sorted, the most suspicious first, and it is counted how many of the first
tenth are wrong. What they are sorted by:

* loss: L_i, what the network has not learned
* gradient norm: ‖∇L_i‖², influence on itself
* influence on the loss: −⟨∇L_i, v⟩, v the gradient of the mean loss on clean validation examples
* influence on margins: the same of the mean margin −log(p / (1 − p)), whose gradient does not vanish where the network
  is sure: the examples count 1 / (1 − p) times

and those of gradients in the metric of the damped curvature, (A ⊗ B)⁻¹ by Kronecker factors from the sweep. From rows
on disk, whose two sides are projected on leading eigenvectors of A and B, comes the harm that an example did to the
validation examples that it harmed most. All are shown at several epochs, and summed over these as in TracIn.

The influence on margins with curvature decides, after the last epoch. Writes `influence.png`, and the rows of the last
seed to `rows.npy`; ends with exit code 1 should it find less than 80 % of the wrong labels, or not more than the loss
finds. Margins and damping were chosen by eye on seed 0; `--seed 100` is a fair check. Without a folder of MNIST the
images are scikit-learn's digits, which decide nothing where the bar is missed.
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
from jaxbp.experiments.common.options import POSITIVE, check_options, full_size, listed, whole
from jaxbp.experiments.common.plots import plt, save
from jaxbp.experiments.common.verdicts import conclude, in_a_word, verdict

LOSS = jaxbp.cross_entropy
CLASSES = 10
LEAST_FOUND = 0.8
LEAST_SEEDS = 3
ROWS = 1024  # of the training part that are held against the validation part at a time
LOSS_ALONE, NORM, JUDGED = "loss", "gradient norm", "influence on margins, curvature"
PROJECTED, HARMED = "the same from rows on disk", "harm to the most harmed, rows on disk"
SCORES = (
    LOSS_ALONE, NORM, "influence on the loss", "influence on the loss, curvature", "influence on margins", JUDGED,
    PROJECTED, HARMED,
)  # fmt: skip
QUICK = {"examples": 2000, "validation": 500, "epochs": 20, "looks": (5, 20), "seeds": 1, "hidden": (64,)}


@dataclass(frozen=True)
class Influence:
    """Plant wrong labels, and find them by their influence."""

    data_dir: Path | None = None
    """The folder of MNIST's four IDX files; scikit-learn's digits when not given."""
    examples: int = 10_000
    """To train on, at most; the digits have 1437 for both parts."""
    validation: int = 2000
    """Further ones with right labels; at most a third of all."""
    wrong: float = 0.1
    """The share of the training examples that get another label."""
    hidden: tuple[int, ...] = (128,)
    """The widths of the hidden layers, of relu units."""
    epochs: int = 30
    """Over the training part."""
    looks: tuple[int, ...] = (3, 10, 30)
    """The epochs after which the examples are sorted; the last one decides."""
    batch_size: int = 128
    """Examples of a step."""
    learning_rate: float = 0.001
    """Adam's."""
    damping: float = 0.3
    """Of the curvature, a share of the mean eigenvalue of each factor."""
    rank: int = 32
    """How many eigenvectors of each factor the rows on disk are made of."""
    most_harmed: int = 100
    """How many validation examples those are that an example harmed most."""
    seeds: int = 3
    """Trainings, with other labels and weights."""
    seed: int = 0
    """The first seed."""
    quick: bool = False
    """Fewer examples and one seed, for a look: seconds."""
    out: Path = Path("runs/influence")
    """The folder to write to."""

    def __post_init__(self):
        if not 0 < self.wrong < 1:
            raise ValueError(f"wrong must be above 0 and below 1, got {self.wrong}")
        if not self.looks or list(self.looks) != sorted(set(self.looks)) or self.looks[0] < 1:
            raise ValueError(f"looks must be rising epochs of at least 1, got {listed(self.looks)}")
        if self.looks[-1] != self.epochs:
            raise ValueError(f"looks must end with the last epoch, {self.epochs}, got {listed(self.looks)}")
        ones = dict.fromkeys(("rank", "most_harmed"), whole(1))
        check_options(self, examples=whole(100), validation=whole(CLASSES), damping=POSITIVE, **ones)


class Parts(NamedTuple):
    """A training part of which some labels are wrong, and a validation part of which none is.

    Attributes:
        x: `(examples, pixels)`.
        y: `(examples,)`.
        wrong: Whether each of these is wrong, `(examples,)`.
        x_validation: Like x.
        y_validation: Like y.
    """

    x: np.ndarray
    y: np.ndarray
    wrong: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray


@dataclass(frozen=True)
class Result:
    """What was found."""

    found: dict[str, tuple[tuple[float, ...], ...]]
    """The share of wrong labels among the first, by what they are sorted by, seed and look."""
    summed: dict[str, tuple[float, ...]]
    """That of the sums over the looks, by seed."""
    looks: tuple[int, ...]
    wrong: float
    """The share of the labels that are wrong, and of the examples that are looked at."""
    examples: int
    """On which the networks were trained."""
    fitted: float
    """The training accuracy in the end, in the mean over the seeds: above 1 − wrong, some are learned by heart."""
    full: bool = True
    """Whether it was large enough to say that the bar is missed."""

    def at_the_end(self, name: str) -> float:
        """The share that is found after the last epoch, in the mean over the seeds."""
        return float(np.mean([of_seed[-1] for of_seed in self.found[name]]))

    @property
    def holds(self) -> bool | None:
        """Whether influence finds enough, and more than the loss does with every seed."""
        ours, theirs = self.found[JUDGED], self.found[LOSS_ALONE]
        more = all(our[-1] > their[-1] for our, their in zip(ours, theirs, strict=True))
        return verdict((), [self.at_the_end(JUDGED) >= LEAST_FOUND, more], refutes=self.full)

    @property
    def decision(self) -> str:
        """The numbers beside their bounds, in a line."""
        best, when = max((np.mean([s[i] for s in self.found[LOSS_ALONE]]), n) for i, n in enumerate(self.looks))
        return (
            f"of {self.wrong:.0%} wrong labels among {self.examples} examples, the first {self.wrong:.0%} by "
            f"{JUDGED} hold {self.at_the_end(JUDGED):.1%} (at least {LEAST_FOUND:.0%} asked), by gradient norm "
            f"{self.at_the_end(NORM):.1%}, by loss {self.at_the_end(LOSS_ALONE):.1%} (less asked, with each of "
            f"{len(self.found[JUDGED])} seeds) after epoch {self.looks[-1]}; the loss at its best, after epoch {when}: "
            f"{best:.1%}; summed over the looks: {np.mean(self.summed[JUDGED]):.1%} by influence, "
            f"{np.mean(self.summed[HARMED]):.1%} by harm to the most harmed, {np.mean(self.summed[LOSS_ALONE]):.1%} by "
            f"loss: {in_a_word(self.holds)}"
        )


def main(config: Influence, console: Console | None = None) -> Result:
    """Plant wrong labels, train, sort the examples by each score, print a table and write the plot."""
    console = console or terminal()
    config = replace(config, **QUICK) if config.quick else config
    config.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[tuple[float, ...]]] = {}
    summed: dict[str, list[float]] = {}
    fitted = []
    parts, scores = None, {}
    for seed in range(config.seed, config.seed + config.seeds):
        parts = planted(seed, config)
        looks, accuracy = scored(parts, seed, config)
        fitted.append(accuracy)
        for name in SCORES:
            by_look = np.stack([look[name] for look in looks])
            found.setdefault(name, []).append(tuple(share_found(look, parts.wrong) for look in by_look))
            summed.setdefault(name, []).append(share_found(by_look.sum(axis=0), parts.wrong))
        scores = looks[-1]
    assert parts is not None
    full = full_size(config, "examples", "validation", "epochs", "seeds") and config.data_dir is not None
    result = Result(
        found={name: tuple(of) for name, of in found.items()},
        summed={name: tuple(of) for name, of in summed.items()},
        looks=config.looks,
        wrong=config.wrong,
        examples=len(parts.y),
        fitted=float(np.mean(fitted)),
        full=full,
    )
    save_plot(result, parts, scores[JUDGED], config.out / "influence.png")
    console.print(_table(result))
    conclude(console, result, config.out, "influence.png", "rows.npy")
    return result


def planted(seed: int, config: Influence) -> Parts:
    """The two parts of the data, some labels of the first one changed."""
    data = load("mnist" if config.data_dir else "digits", data_dir=config.data_dir)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(data.y_train))
    validation = min(config.validation, len(order) // 3)
    clean, chosen = order[:validation], order[validation:][: config.examples]
    y = data.y_train[chosen].copy()
    wrong = np.zeros(len(y), bool)
    wrong[rng.choice(len(y), max(1, round(config.wrong * len(y))), replace=False)] = True
    y[wrong] = (y[wrong] + rng.integers(1, CLASSES, wrong.sum())) % CLASSES
    return Parts(data.x_train[chosen], y, wrong, data.x_train[clean], data.y_train[clean])


def share_found(suspicion: np.ndarray, wrong: np.ndarray) -> float:
    """The share of wrong ones among as many as there are, the most suspicious first."""
    first = np.argsort(-suspicion, kind="stable")[: np.count_nonzero(wrong)]
    return float(np.mean(wrong[first]))


def scored(parts: Parts, seed: int, config: Influence) -> tuple[list[dict[str, np.ndarray]], float]:
    """How suspicious each example is by each score after each look's epoch, and the training accuracy in the end."""
    net = jaxbp.layered([parts.x.shape[1], *config.hidden, CLASSES], hidden=jaxbp.relu, output=jaxbp.softmax)
    gradient, optimizer = jaxbp.value_and_grad(net, LOSS), optax.adam(config.learning_rate)
    state = jaxbp.train.init_state(jax.random.key(seed), net, optimizer, dtype=jnp.float32)
    x, y = jnp.asarray(parts.x), jnp.asarray(parts.y)
    looks = []
    for epoch in range(1, config.epochs + 1):
        state, _ = jaxbp.train.epoch(state, x, y, gradient=gradient, optimizer=optimizer, batch_size=config.batch_size)
        if epoch in config.looks:
            looks.append(suspicions(net, state.params, parts, jax.random.key(seed), config))
    return looks, float(jaxbp.train.evaluate(net, LOSS, state.params, x, y)["accuracy"])


def suspicions(
    net: jaxbp.Network, params: jaxbp.Params, parts: Parts, key: Array, config: Influence
) -> dict[str, np.ndarray]:
    """How suspicious each training example is, `(examples,)`, by each score."""
    of = jax.device_get(_scores(net, params, parts, key, config.damping))
    leading = jaxbp.curvature.whitening(of.pop("factors"), config.damping, rank=config.rank)
    path = config.out / "rows.npy"
    rows = jaxbp.curvature.projected_gradients(path, net, LOSS, params, parts.x, parts.y, leading)
    others = jaxbp.curvature.projected_gradients(
        config.out / "others.npy", net, LOSS, params, parts.x_validation, parts.y_validation, leading
    )
    on_margins = of.pop("counts")[:, None] * others
    harms = [of_pairs(rows[i : i + ROWS] @ on_margins.T, config.most_harmed) for i in range(0, len(rows), ROWS)]
    (config.out / "others.npy").unlink()
    return of | {name: np.concatenate([harm[name] for harm in harms]) for name in (PROJECTED, HARMED)}


def of_pairs(influences: np.ndarray, most: int) -> dict[str, np.ndarray]:
    """What a few examples did to the margins of all validation examples, `(few, validation)`, in two numbers each."""
    most = min(most, influences.shape[1])
    lowest = np.partition(influences, most - 1, axis=1)[:, :most]
    return {PROJECTED: -influences.mean(axis=1), HARMED: -lowest.mean(axis=1)}


@partial(jax.jit, static_argnums=0)
def _scores(net: jaxbp.Network, params: jaxbp.Params, parts: Parts, key: Array, damping: float) -> dict[str, Array]:
    """The scores that need no rows, the Kronecker factors, and what each validation example counts in the margins."""
    x, y, _, x_validation, y_validation = parts
    curved = jaxbp.collect.sampled_kronecker_ggn(key)
    factors = jaxbp.backprop(net, LOSS, params, x, y, collect={"it": curved}).collected["it"]
    whitening = jaxbp.curvature.whitening(factors, damping)
    wanted = {"norms": jaxbp.collect.squared_norm}
    back = jaxbp.backprop(net, LOSS, params, x, y, reduction="sum", collect=wanted)
    p = _probability(jaxbp.forward(net, params, x_validation).a[net.output], y_validation)
    counts = 1 / jnp.maximum(1 - p, 1e-6)
    on_loss = jaxbp.value_and_grad(net, LOSS)(params, x_validation, y_validation)[1]
    in_the_mean = counts / len(counts)
    on_margins = jaxbp.value_and_grad(net, LOSS, "sum")(params, x_validation, y_validation, in_the_mean)[1]

    def harm(vector: jaxbp.Params, projections: object = None) -> Array:
        return -jaxbp.curvature.influence(net, LOSS, params, x, y, vector, projections=projections)

    return {
        LOSS_ALONE: -jnp.log(jnp.maximum(_probability(back.trace.a[net.output], y), 1e-30)),
        NORM: back.collected["norms"].total,
        "influence on the loss": harm(on_loss),
        "influence on the loss, curvature": harm(on_loss, whitening),
        "influence on margins": harm(on_margins),
        JUDGED: harm(on_margins, whitening),
        "factors": factors,
        "counts": counts,
    }


def _probability(logits: Array, y: Array | np.ndarray) -> Array:
    """What the network gives to each label."""
    return jnp.take_along_axis(jax.nn.softmax(logits), y[:, None], axis=1)[:, 0]


def save_plot(result: Result, parts: Parts, suspicion: np.ndarray, path: Path) -> None:
    """What each score finds after the last epoch and on the way, and the most suspicious images."""
    figure = plt.figure(figsize=(15, 9), layout="constrained")
    figure.suptitle(
        f"{result.wrong:.0%} wrong labels among {result.examples} examples: influence finds "
        f"{result.at_the_end(JUDGED):.0%} of them in the first {result.wrong:.0%}, "
        f"the loss {result.at_the_end(LOSS_ALONE):.0%}",
        fontsize=19,
    )
    top, bottom = (figure.add_subfigure(row) for row in figure.add_gridspec(2, 1, height_ratios=(3, 1)))
    left, right = top.subplots(1, 2, width_ratios=(1.25, 1))
    names = list(result.found)[::-1]
    colors = dict.fromkeys(names, "0.6") | {LOSS_ALONE: "C3", NORM: "C1", JUDGED: "C0", HARMED: "C2"}
    ends = [100 * result.at_the_end(name) for name in names]
    left.barh(names, ends, color=[colors[name] for name in names])
    for i, (name, end) in enumerate(zip(names, ends, strict=True)):
        left.plot([100 * of_seed[-1] for of_seed in result.found[name]], [i] * len(result.found[name]), "k.", alpha=0.6)
        left.text(2, i, f"{end:.0f} %", va="center", fontsize=15, color="white", weight="bold")
    left.axvline(100 * LEAST_FOUND, color="black", linestyle="--")
    left.set_title(f"found after epoch {result.looks[-1]} (dots: seeds)", fontsize=15)
    left.set_xlim(0, 100)
    left.set_xlabel("wrong labels found, in %", fontsize=15)
    left.tick_params(labelsize=14)
    for name in (JUDGED, HARMED, NORM, LOSS_ALONE):
        means = 100 * np.mean(result.found[name], axis=0)
        right.plot(result.looks, means, "o-", color=colors[name], linewidth=3, markersize=9, label=name)
    right.axhline(100 * LEAST_FOUND, color="black", linestyle="--")
    right.set_xlabel("epoch", fontsize=15)
    right.set_xticks(result.looks)
    right.set_ylim(0, 100)
    right.set_title(f"on the way to {result.fitted:.0%} training accuracy", fontsize=15)
    right.tick_params(labelsize=14)
    right.legend(fontsize=13, loc="lower left")
    right.grid(alpha=0.3)
    side, first = round(parts.x.shape[1] ** 0.5), np.argsort(-suspicion, kind="stable")[:12]
    bottom.suptitle("the most suspicious, with their labels (red: planted)", fontsize=15)
    for axis, i in zip(bottom.subplots(1, len(first)), first, strict=True):
        axis.imshow(parts.x[i].reshape(side, side), cmap="gray_r")
        axis.set_title(str(parts.y[i]), fontsize=20, color="C3" if parts.wrong[i] else "black")
        axis.axis("off")
    save(figure, path)


def _table(result: Result) -> Table:
    title = f"share of wrong labels among the first {result.wrong:.0%}, in the mean over the seeds"
    table = Table(title=title, title_justify="left")
    table.add_column("sorted by")
    for look in result.looks:
        table.add_column(f"epoch {look}", justify="right")
    table.add_column("summed", justify="right")
    for name, of in result.found.items():
        table.add_row(name, *(f"{share:.1%}" for share in np.mean(of, axis=0)), f"{np.mean(result.summed[name]):.1%}")
    return table


if __name__ == "__main__":
    command_line(main, Influence)
