"""A convolutional network by explicit backpropagation: what sharing weights gains, and that it is nothing but sharing.

    python -m experiments.convolution
    python -m experiments.convolution --data-dir PATH/TO/MNIST --out runs/convolution_mnist

Two convolutions with max pooling and a dense layer learn MNIST, or without it scikit-learn's digits of 8 × 8 pixels,
and beside them a fully connected network of as many parameters, in the same number of steps. Then both kernels, as they
were learned, are written out as dense matrices in which each entry is an element of the kernel or 0: δ and Δ must be
the same, and so must the gradient, once it is summed over the entries that share an element. Writes `convolution.png`;
ends with exit code 1 should an error of the dense form be too large, or on MNIST the test accuracy too low or that of
the fully connected network as high. On the digits, which show 360 images to judge by, and after fewer epochs on MNIST
than when nothing is given, the accuracies do not decide: only that sharing is a matrix of equal entries then is.
"""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table

import jaxbp
from jaxbp.experiments.claims.dense_form import dense_form_errors
from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.data import Data, load
from jaxbp.experiments.common.options import check_options
from jaxbp.experiments.common.plots import plt, save
from jaxbp.experiments.common.verdicts import conclude, in_a_word, verdict

CLAIM = (
    "Although a fully connected architecture is able to perform well in many settings, better performance is often "
    "achieved by pruning many of the connections or sharing them in an insightful way. … A classical example of this "
    "type of weight pruning and sharing is that of the convolutional neural network architecture"
)
PLACE = "Mutli Layer Neural Networks, back propagation"  # the chapter's own title, in its own spelling

LOSS = jaxbp.cross_entropy
CHANNELS = (8, 16)
FLOORS = {"digits": None, "mnist": 0.988}
EPOCHS = {"digits": 15, "mnist": 8}
LEARNING_RATES = {"digits": 0.004, "mnist": 0.002}
BATCHES = {"digits": 32, "mnist": 128}
LARGEST_ERROR = 1e-10
COMPARED = 4  # examples that the dense form is compared on
JUDGED = 1000  # examples at a time: the maps of ten thousand take a gigabyte


@dataclass(frozen=True)
class Convolution:
    """Train a convolutional network, and write its shared weights out as dense matrices."""

    data_dir: Path | None = None
    """The folder of MNIST's four IDX files; scikit-learn's digits when not given."""
    epochs: int | None = None
    """8 for MNIST and 15 for the digits when not given."""
    batch_size: int | None = None
    """128 for MNIST and 32 for the digits when not given."""
    learning_rate: float | None = None
    """Of the first step of Adam, from which it falls to 0 like a cosine; 0.002 for MNIST and 0.004 for the digits."""
    seed: int = 0
    """Fixes the split of the digits, the weights to start from, and the order of the examples."""
    quick: bool = False
    """The digits, whatever the data_dir: less than a minute instead of ten."""
    out: Path = Path("runs/convolution")
    """The folder to write to."""

    def __post_init__(self):
        check_options(self)


@dataclass(frozen=True)
class Trained:
    """One network after each epoch."""

    parameters: int
    accuracies: tuple[float, ...]
    """On the test data, before the first epoch and after each."""
    seconds: float
    """For all epochs, with compilation."""

    @property
    def accuracy(self) -> float:
        """After the last epoch: none is picked by the test data."""
        return self.accuracies[-1]


@dataclass(frozen=True)
class Result:
    """Both networks, and how far the dense form is from the convolution."""

    data: str
    convolutional: Trained
    connected: Trained
    floor: float | None
    """The test accuracy to reach; None on the digits, whose 8 × 8 pixels leave little to share."""
    errors: dict[str, float]
    """The largest |a − b| / max |b| of each quantity in its dense form."""
    full: bool = True
    """Whether it was large enough to refute the claim by what it measured."""

    @property
    def error(self) -> float:
        """The largest of them; NaN if one is."""
        return float(np.max(list(self.errors.values())))

    @property
    def holds(self) -> bool | None:
        """The same in its dense form; and on MNIST accurate enough, and better than the fully connected network."""
        ours, theirs = self.convolutional.accuracy, self.connected.accuracy
        same, better = self.error <= LARGEST_ERROR, self.floor is None or (ours >= self.floor and ours > theirs)
        return verdict([same], [better], confirms=self.floor is not None, refutes=self.full)

    @property
    def decision(self) -> str:
        """The numbers and their bounds in a line."""
        ours, theirs = (f"{trained.accuracy:.4f}" for trained in (self.convolutional, self.connected))
        accuracies = (
            f"{ours} beside the {theirs} of a fully connected network, between which so few images do not decide"
        )
        if self.floor is not None:
            asked = f"at least {self.floor:g} asked for"
            accuracies = f"{ours}, {asked} and more than the {theirs} of a fully connected network"
        alone = ", which alone is decided," if self.floor is None else ""
        return (
            f"test accuracy on {self.data} {accuracies}; largest relative error of the dense form{alone} "
            f"{self.error:.1e}, at most {LARGEST_ERROR:.0e} allowed: {in_a_word(self.holds)}"
        )


def main(config: Convolution, console: Console | None = None) -> Result:
    """Train both networks, compare the convolution with its dense form, and write the plot.

    Raises:
        ValueError: Images that are no squares of 8 × 8 pixels or more.
    """
    console = console or terminal()
    mnist = config.data_dir is not None and not config.quick
    name = "mnist" if mnist else "digits"
    data = load(name, data_dir=config.data_dir if mnist else None, seed=config.seed)
    size = side_of(data)
    assert data.classes is not None
    epochs, batch_size = config.epochs or EPOCHS[name], config.batch_size or BATCHES[name]
    if batch_size > len(data.x_train):
        raise ValueError(f"batch_size is {batch_size}, but {name} has {len(data.x_train)} training images")
    rate = config.learning_rate or LEARNING_RATES[name]
    config = dataclasses.replace(config, epochs=epochs, batch_size=batch_size, learning_rate=rate)
    net, flat = network(size, data.classes), fully_connected(size, data.classes)
    console.print(f"{name}: {len(data.y_train)} training and {len(data.y_test)} test images, {epochs} epochs")
    images = tuple(x.reshape(-1, size, size, 1) for x in (data.x_train, data.x_test))
    trained, params = train(net, *images, data, config)
    connected, _ = train(flat, data.x_train, data.x_test, data, config)
    with jax.enable_x64(True):
        kernels = {u: np.asarray(params[u][s], np.float64) for u, s in (("c1", "x"), ("c2", "p1"))}
        errors = dense_form_errors(kernels, np.asarray(images[0][:COMPARED], np.float64), config.seed)
    result = Result(name, trained, connected, FLOORS[name], errors, epochs >= EPOCHS[name])
    save_plot(result, kernels["c1"], config.out / "convolution.png")
    console.print(_training(result))
    console.print(_errors(result))
    conclude(console, result, config.out, "convolution.png")
    return result


def side_of(data: Data) -> int:
    """The height and width of square images."""
    side = math.isqrt(data.x_train.shape[1])
    if side**2 != data.x_train.shape[1] or side < 8 or data.classes is None:
        raise ValueError(
            f"{data.name} has {data.x_train.shape[1]} pixels, expected square images of at least 8 × 8 with classes"
        )
    return side


def network(side: int, classes: int) -> jaxbp.Network:
    """Convolution, pool, convolution, pool, dense layer, softmax."""
    kernel = _kernel(side)
    pool = jaxbp.MaxPool((2, 2))
    first, second = CHANNELS
    half, quarter = side // 2, side // 4
    units = {
        "c1": jaxbp.Unit((side, side, first), jaxbp.relu, {"x": jaxbp.Conv(kernel)}),
        "p1": jaxbp.Unit((half, half, first), jaxbp.linear, {"c1": pool}, bias=False),
        "c2": jaxbp.Unit((half, half, second), jaxbp.relu, {"p1": jaxbp.Conv(kernel)}),
        "p2": jaxbp.Unit((quarter, quarter, second), jaxbp.linear, {"c2": pool}, bias=False),
        "flat": jaxbp.Unit(quarter**2 * second, jaxbp.linear, {"p2": jaxbp.Flatten()}, bias=False),
        "h": jaxbp.Unit(64, jaxbp.relu, {"flat": jaxbp.Dense()}),
        "o": jaxbp.Unit(classes, jaxbp.softmax, {"h": jaxbp.Dense()}),
    }
    return jaxbp.Network(inputs={"x": (side, side, 1)}, units=units)


def fully_connected(side: int, classes: int) -> jaxbp.Network:
    """One hidden layer, as wide as it takes to have no fewer parameters than `network`."""
    width = math.ceil((network(side, classes).parameter_count - classes) / (side**2 + 1 + classes))
    return jaxbp.layered([side**2, width, classes], hidden=jaxbp.relu, output=jaxbp.softmax)


def train(
    net: jaxbp.Network, x: np.ndarray, x_test: np.ndarray, data: Data, config: Convolution
) -> tuple[Trained, jaxbp.Params]:
    """Train one network by the explicit backward pass.

    Args:
        net: The network.
        x: The training inputs.
        x_test: The inputs to judge by.
        data: The targets of both.
        config: How to train, with nothing left open.

    Returns:
        What came of it, and the parameters.
    """
    epochs, batch_size, rate = config.epochs, config.batch_size, config.learning_rate
    assert epochs is not None
    assert batch_size is not None
    assert rate is not None
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, epochs * math.ceil(len(x) / batch_size)))
    state = jaxbp.train.init_state(jax.random.key(config.seed), net, optimizer, dtype=jnp.float32)

    def accuracy(params: jaxbp.Params) -> float:
        return float(jaxbp.train.evaluate(net, LOSS, params, x_test, data.y_test, batch_size=JUDGED)["accuracy"])

    accuracies, seconds = [accuracy(state.params)], 0.0
    running = jaxbp.train.run(net, LOSS, x, data.y_train, optimizer=optimizer, batch_size=batch_size, state=state)
    for _, done in zip(range(epochs), running, strict=False):
        state = done.state
        accuracies.append(accuracy(state.params))
        seconds += done.seconds
    return Trained(net.parameter_count, tuple(accuracies), seconds), state.params


def _kernel(side: int) -> tuple[int, int]:
    return (5, 5) if side >= 16 else (3, 3)


def save_plot(result: Result, kernel: np.ndarray, path: Path) -> None:
    """The kernels of the first layer, `(height, width, 1, channels)`, and the test accuracy over the epochs."""
    figure = plt.figure(figsize=(12, 4.8), layout="constrained")
    left, right = figure.subfigures(1, 2)
    left.suptitle("learned kernels of the first convolution")
    largest = float(np.max(np.abs(kernel)))
    axes = left.subplots(2, kernel.shape[-1] // 2)
    for i, axis in enumerate(axes.flat):
        image = axis.imshow(kernel[:, :, 0, i], cmap="RdBu_r", vmin=-largest, vmax=largest)
        axis.set(title=f"channel {i}", xticks=[], yticks=[])
    left.colorbar(image, ax=axes, location="bottom", shrink=0.8, label="weight")
    axis = right.subplots()
    for label, trained in (("convolutional", result.convolutional), ("fully connected", result.connected)):
        text = f"{label}, {trained.parameters} parameters: {trained.accuracy:.4f}"
        axis.plot(range(len(trained.accuracies)), [1 - accuracy for accuracy in trained.accuracies], "o-", label=text)
    if result.floor is not None:
        axis.axhline(1 - result.floor, color="grey", linestyle=":", label=f"asked for: {result.floor:g}")
    axis.set(xlabel="epoch", ylabel="test error, 1 − accuracy", yscale="log", title=f"test data of {result.data}")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3, which="both")
    axis.legend(title="test accuracy after the last epoch")
    save(figure, path)


def _training(result: Result) -> Table:
    table = Table(title=f"trained by explicit backpropagation on {result.data}", title_justify="left")
    table.add_column("network")
    for column in ("parameters", "epochs", "seconds", "test accuracy"):
        table.add_column(column, justify="right")
    for label, trained in (("convolutional", result.convolutional), ("fully connected", result.connected)):
        epochs = str(len(trained.accuracies) - 1)
        table.add_row(label, str(trained.parameters), epochs, f"{trained.seconds:.1f}", f"{trained.accuracy:.4f}")
    return table


def _errors(result: Result) -> Table:
    table = Table(title="the dense form of both convolutions, against them", title_justify="left")
    table.add_column("quantity")
    table.add_column("relative error", justify="right")
    for name, error in result.errors.items():
        table.add_row(name, f"{error:.1e}")
    return table


if __name__ == "__main__":
    command_line(main, Convolution)
