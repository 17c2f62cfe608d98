"""Train privately: clipped, noised gradients (DP-SGD), with the accuracy that is left and the ε that it costs.

    python -m experiments.private
    python -m experiments.private --noise-multiplier 3 --epochs 20
    python -m experiments.private --data-dir PATH/TO/MNIST --hidden 256 --batch-size 4096 --noise-multiplier 2.5

Trains a network by `jaxbp.collect.clipped`, which takes one backward sweep for the norms and the clipped sum, and
beside it, epoch by epoch, the same network by its plain gradient. Before that it checks on a first batch, against
jax.grad, that the private gradient without noise and clipping is the plain one, and that no example adds more than C;
it ends with exit code 1 if either is not so. Writes `private.png` and `private.json`.

ε is dp-accounting's: pip install 'jaxbp[private]'. It is that of the training alone, and of every epoch's parameters
together. Not paid for, and so taken as public: the number of examples, the mean and scale by which `common.data`
standardises all of them, the test part, and options that were chosen by looking at results. Noise is that of a seed
that is written down, in float32; before you release a network, take a seed that nobody knows.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table

import jaxbp
from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.data import load
from jaxbp.experiments.common.files import write_whole
from jaxbp.experiments.common.networks import ActivationName
from jaxbp.experiments.common.options import POSITIVE, check_options
from jaxbp.experiments.common.plots import plt, save
from jaxbp.experiments.common.progress import progress
from jaxbp.experiments.common.records import as_json
from jaxbp.experiments.tools import privacy
from jaxbp.experiments.tools.config import Config
from jaxbp.experiments.tools.privacy import LOSS, Mechanism, Proof
from jaxbp.train import TrainState

SHOWN = 10  # epochs for which ε is counted
OVERFLOW = 1e-6  # of δ: at ε = 7 it adds about a thousandth to it, see `capacity_for`


@dataclass(frozen=True)
class Private:
    """Train with differential privacy, and plainly beside it."""

    data: str = "digits"
    """digits, iris, wine, breast_cancer, or mnist with --data-dir."""
    data_dir: Path | None = None
    """A folder of IDX files under their usual names, plain or gzipped."""
    hidden: tuple[int, ...] = (64,)
    """The widths of the hidden layers, first to last; every weight gets its share of the noise."""
    activation: ActivationName = "tanh"
    """Of the hidden layers. What is bounded keeps gradients short: tanh is known to suit clipping better than relu."""
    max_norm: float = 1.0
    """C, to which the gradient of each example is clipped, over all weights."""
    noise_multiplier: float = 6.0
    """σ: the noise on the sum of clipped gradients has the standard deviation σ C. 0 for clipping alone."""
    batch_size: int = 512
    """How many examples are expected in a step; each is in it with probability batch_size / examples."""
    epochs: int = 50
    """Of as many steps as it takes to go through the examples once, on average."""
    optimizer: str = "sgd"
    """By its name in optax."""
    learning_rate: float = 0.25
    """Of the private and the plain training."""
    momentum: float | None = None
    """For the optimizers that take one; 0.9 for sgd when not given."""
    delta: float | None = None
    """δ, a probability with which ε need not hold; examples^-1.1 when not given, for it should be below 1/examples."""
    seed: int = 0
    """Fixes the split, the parameters, the samples and the noise."""
    out: Path = Path("runs/private")
    """The folder to write to."""

    def __post_init__(self):
        check_options(self, max_norm=POSITIVE)
        if not 0 <= self.noise_multiplier < math.inf:
            raise ValueError(f"noise_multiplier must be 0 or more and finite, got {self.noise_multiplier}")
        if self.delta is not None and not 0 < self.delta < 1:
            raise ValueError(f"delta must be above 0 and below 1, got {self.delta}")

    def delta_for(self, examples: int) -> float:
        """δ for so many examples."""
        return examples**-1.1 if self.delta is None else self.delta

    def mechanism(self, examples: int) -> Mechanism:
        """What is done in a step on so many examples.

        Raises:
            ValueError: The batch is larger than the data.
        """
        if self.batch_size > examples:
            raise ValueError(f"batch_size is {self.batch_size}, but there are only {examples} training examples")
        steps = self.epochs * math.ceil(examples / self.batch_size)
        chance = OVERFLOW * self.delta_for(examples)
        capacity = privacy.capacity_for(examples, self.batch_size, steps, chance)
        return Mechanism(examples, self.batch_size, self.max_norm, self.noise_multiplier, capacity)


@dataclass(frozen=True)
class Row:
    """What was seen after an epoch: accuracies on the test part, and the seconds that both took."""

    epoch: int
    private_accuracy: float
    plain_accuracy: float
    private_seconds: float
    plain_seconds: float


@dataclass(frozen=True)
class Report:
    """A finished experiment.

    Attributes:
        proof: What was checked first.
        rows: One for each epoch; none if the proof fails.
        epsilons: ε by epoch, for some of them with the last; infinite without noise, and None where it is not known.
        delta: δ.
    """

    proof: Proof
    rows: list[Row]
    epsilons: dict[int, float | None]
    delta: float


def main(config: Private, console: Console | None = None) -> Report:
    """Prove, train, account, print, and write the figure and the numbers.

    If the proof does not hold, nothing is trained or written.

    Raises:
        ValueError: A choice that does not exist or does not fit the data, before anything is compiled.
        jaxbp.train.DivergedError: A loss was not finite.
    """
    console = console or terminal()
    plainly = Config(
        hidden=config.hidden,
        activation=config.activation,
        optimizer=config.optimizer,
        learning_rate=config.learning_rate,
        momentum=config.momentum,
    )
    optimizer = plainly.transformation()
    data = load(config.data, data_dir=config.data_dir, seed=config.seed)
    if data.classes is None:
        raise ValueError(f"{data.name} is a regression, but accuracy is what is shown here: choose e.g. digits or wine")
    mechanism, delta = config.mechanism(len(data.y_train)), config.delta_for(len(data.y_train))
    net = plainly.network(data.x_train.shape[1], data.classes, classification=True)
    x, y, x_test, y_test = (jnp.asarray(part) for part in (data.x_train, data.y_train, data.x_test, data.y_test))
    jaxbp.train.check_data(net, LOSS, x, y)
    state = jaxbp.train.init_state(jax.random.key(config.seed), net, optimizer, dtype=jnp.float32)

    widths = " ⇒ ".join(str(width) for (width,) in net.shapes.values())
    console.print(f"{data.name}: {len(y)} training and {len(y_test)} test examples, {widths}, {LOSS}", markup=False)
    console.print(_in_words(mechanism, config.epochs, delta), highlight=False)
    proof = privacy.prove(net, state.params, x, y, mechanism)
    console.print(_table_of_proof(proof))
    report = Report(proof, [], {}, delta)
    if not proof.holds:
        console.print("the private gradient is not what it should be: nothing was trained", style="red")
        return report

    gradient = jaxbp.value_and_grad(net, LOSS)

    def private_epoch(state: TrainState) -> TrainState:
        return privacy.epoch(state, x, y, net=net, optimizer=optimizer, mechanism=mechanism)

    def plain_epoch(state: TrainState) -> TrainState:
        return jaxbp.train.epoch(state, x, y, gradient=gradient, optimizer=optimizer, batch_size=config.batch_size)[0]

    def accuracy(state: TrainState, epoch: int) -> float:
        scores = jaxbp.train.evaluate(net, LOSS, state.params, x_test, y_test)
        if not math.isfinite(scores["loss"]):
            raise jaxbp.train.DivergedError(epoch, mechanism.steps, "the loss on the test part")
        return float(scores["accuracy"])

    private, plain = state, jax.tree.map(jnp.copy, state)
    with progress("the first epoch", config.epochs) as step:
        for epoch in range(1, config.epochs + 1):
            private, private_seconds = _timed(private_epoch, private)
            plain, plain_seconds = _timed(plain_epoch, plain)
            scores = (accuracy(private, epoch), accuracy(plain, epoch))
            report.rows.append(Row(epoch, *scores, private_seconds, plain_seconds))
            step(1, f"epoch {epoch}/{config.epochs}  accuracy {scores[0]:.4f}, without privacy {scores[1]:.4f}")
    for epoch in np.unique(np.linspace(1, config.epochs, SHOWN).round().astype(int)).tolist():
        report.epsilons[epoch] = privacy.epsilon(mechanism, epoch * mechanism.steps, delta)

    config.out.mkdir(parents=True, exist_ok=True)
    save_plot(report, f"{data.name}, {widths}, C = {config.max_norm}, σ = {config.noise_multiplier}", config.out)
    _save_numbers(report, config, mechanism, config.out / "private.json")
    console.print(_table(report))
    console.print(_cost_in_words(report, mechanism), highlight=False, markup=False)  # [private] is no style
    console.print(f"wrote {config.out}/: private.png, private.json", markup=False)
    return report


def save_plot(report: Report, title: str, folder: Path) -> None:
    """Accuracy over the epochs, private and plain, and the ε that the epochs cost, if it is known."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    figure.suptitle(title, parse_math=False)
    epochs = [row.epoch for row in report.rows]
    marker = "." if len(epochs) <= SHOWN else None  # one epoch alone would draw no line
    left.plot(epochs, [row.plain_accuracy for row in report.rows], label="plain", color="C1", marker=marker)
    left.plot(epochs, [row.private_accuracy for row in report.rows], label="private", color="C0", marker=marker)
    left.set(ylabel="accuracy on the test part")
    left.legend(loc="lower right")
    known = {epoch: value for epoch, value in report.epsilons.items() if value is not None and math.isfinite(value)}
    if known:
        right.plot(list(known), list(known.values()), marker=".", color="C0")
        right.set_ylim(bottom=0)
    else:
        why = "infinite: there is no noise" if math.inf in report.epsilons.values() else "not known"
        right.text(0.5, 0.5, f"ε is {why}", ha="center", va="center", transform=right.transAxes)
        right.set(xlim=left.get_xlim(), yticks=[])
    right.set(ylabel=f"ε so far, at δ = {report.delta:.2g}")
    for axis in (left, right):
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    save(figure, folder / "private.png")


def _timed(epoch: Callable[[TrainState], TrainState], state: TrainState) -> tuple[TrainState, float]:
    began = time.perf_counter()
    state = jax.block_until_ready(epoch(state))
    return state, time.perf_counter() - began


def _save_numbers(report: Report, config: Private, mechanism: Mechanism, path: Path) -> None:
    numbers = {
        "config": dataclasses.asdict(config),
        "mechanism": dataclasses.asdict(mechanism),
        "delta": report.delta,
        "proof": dataclasses.asdict(report.proof),
        "epsilon": {epoch: str(value) if value == math.inf else value for epoch, value in report.epsilons.items()},
        "epochs": [dataclasses.asdict(row) for row in report.rows],
    }
    write_whole(path, as_json(numbers, indent=2, default=str) + "\n")


def _in_words(mechanism: Mechanism, epochs: int, delta: float) -> str:
    steps = epochs * mechanism.steps
    return (
        f"{steps} steps, in each of which an example takes part with probability q = {mechanism.rate:.4g}; "
        f"C = {mechanism.max_norm:g}, σ = {mechanism.noise_multiplier:g}, δ = {delta:.3g}\n"
        f"{mechanism.capacity} rows for {mechanism.batch_size} examples expected: in no step will more take part, but "
        f"for a chance below {max(mechanism.chance_of_overflow(steps), 1e-300):.1e}"
    )


def _table_of_proof(proof: Proof) -> Table:
    table = Table(title="on the first batch, without noise", title_justify="left")
    table.add_column("claim")
    table.add_column("measured", justify="right")
    table.add_row("with C = ∞ it is the plain gradient: relative error against jax.grad", f"{proof.plain_error:.1e}")
    table.add_row("relative error against vmap(jax.grad), clipped and added up", f"{proof.clipped_error:.1e}")
    table.add_row("the most that one example adds, over C", f"{proof.largest_norm:.7f}")
    table.add_row("examples with a gradient longer than C", f"{proof.share_clipped:.0%}")
    return table


def _table(report: Report) -> Table:
    table = Table(title="accuracy on the test part", title_justify="left")
    for column in ("epoch", "private", f"ε at δ = {report.delta:.3g}", "plain"):
        table.add_column(column, justify="right")
    for epoch, value in report.epsilons.items():
        row = report.rows[epoch - 1]
        cost = "not known" if value is None else "∞" if value == math.inf else f"{value:.3f}"
        table.add_row(str(epoch), f"{row.private_accuracy:.4f}", cost, f"{row.plain_accuracy:.4f}")
    return table


def _cost_in_words(report: Report, mechanism: Mechanism) -> str:
    parts: list[str] = []
    last = report.epsilons[len(report.rows)]
    if last is None:
        parts.append("ε is not known: pip install 'jaxbp[private]', which brings dp-accounting")
    elif last == math.inf:
        parts.append("without noise ε is infinite: clipping alone is not private")
    timed = report.rows[1:]  # the first epoch compiles
    if timed:
        private, plain = (np.array([getattr(row, f"{kind}_seconds") for row in timed]) for kind in ("private", "plain"))
        low, middle, high = np.quantile(private / plain, [0.25, 0.5, 0.75])
        parts.append(
            f"an epoch takes {np.median(private):.3f} s privately and {np.median(plain):.3f} s plainly, "
            f"{middle:.2f} × [{low:.2f}–{high:.2f}] (medians and quartiles of {len(timed)}); "
            f"{mechanism.capacity / mechanism.batch_size:.2f} × as many rows are in it"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    command_line(main, Private, succeeded=lambda report: report.proof.holds)
