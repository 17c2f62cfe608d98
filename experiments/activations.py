"""Activations: values, derivatives, and what 30 layers of each do to the error signal Δ that travels back through them.

    python -m experiments.activations
    python -m experiments.activations --depth 100 --width 32 --out runs/deeper

Writes `derivatives.png`, the curves with the rule for δ beside each, and `signals.png`, the size of Δ in each layer.
Weights are drawn by each activation's own initializer, biases are 0, and everything is float64: 30 layers of softmax
leave nothing that float32 could hold. Ends with exit code 1 should Δ not vanish through sigmoids, or do so
through ReLUs.
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import jaxbp

mpl.use("Agg")  # files only: no window system is needed
import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator

RULES = {
    "linear": r"$\delta = \Delta$",
    "sigmoid": r"$\delta = h\,(1 - h)\,\Delta$",
    "tanh": r"$\delta = (1 - h^2)\,\Delta$",
    "relu": r"$\delta = \Delta$ if $a > 0$, else $0$",
    "hard_tanh": r"$\delta = \Delta$ if $-1 < a < 1$, else $0$",
    "leaky_relu": r"$\delta = \Delta$ if $a \geq 0$, else $0.01\,\Delta$",
    "softplus": r"$\delta = \sigma(a)\,\Delta$",
    "gelu": r"$\delta = (C + a\,C')\,\Delta$ with $h = a\,C(a)$",
    "silu": r"$\delta = \sigma(a)\,(1 + a\,(1 - \sigma(a)))\,\Delta$",
    "softmax": r"$\delta_i = h_i\,(\Delta_i - h \cdot \Delta)$",
}
"""δ from Δ = Σ w δ, by the name of the activation: the chapter's five first, as it prints them.

jaxbp's hard_tanh lets the signal through at −1 and 1 as well, because `jax.nn.hard_tanh` does.
"""

CLASSES = 3  # of the softmax that is drawn


@dataclass(frozen=True)
class Signals:
    """Plot activations with their derivatives, and the size of Δ through many layers of each."""

    depth: int = 30
    """The number of hidden layers."""
    width: int = 64
    """Of the input, the hidden layers and the output."""
    examples: int = 256
    """Over which the root mean square is taken."""
    seed: int = 0
    """Fixes weights, inputs and targets; they differ between activations by their initializers alone."""
    out: Path = Path("runs/activations")
    """The folder to write to."""

    def __post_init__(self):
        for field, least in (("depth", 2), ("width", 2), ("examples", 1)):
            if getattr(self, field) < least:
                raise ValueError(f"{field} must be at least {least}, got {getattr(self, field)}")


@dataclass(frozen=True)
class Signal:
    """The root mean square of Δ in the layers h1 … hk of one network."""

    rms: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """What is left of Δ in the first layer, as a share of the last hidden one's."""
        return self.rms[0] / self.rms[-1]

    @property
    def factor(self) -> float:
        """The same for one layer, on average."""
        return self.ratio ** (1 / (len(self.rms) - 1))

    @property
    def fate(self) -> str:
        """What becomes of it: a tenth less, or more, in each of 30 layers is about a twentyfold."""
        return "vanishes" if self.factor < 0.9 else "explodes" if self.factor > 1.1 else "is kept"


def main(config: Signals, console: Console | None = None) -> dict[str, Signal]:
    """Compute the signals, print them, and write both figures.

    Args:
        config: The networks.
        console: Where to print; the terminal when None.

    Returns:
        The signal by the name of the activation.
    """
    console = console or Console()
    with jax.enable_x64(True):
        curves = {name: sampled(getattr(jaxbp, name)) for name in RULES}
        signals = {name: signal(getattr(jaxbp, name), config) for name in RULES}
    config.out.mkdir(parents=True, exist_ok=True)
    save_derivatives(curves, config.out / "derivatives.png")
    save_signals(signals, config, config.out / "signals.png")
    console.print(_table(signals, config))
    console.print(
        "A sigmoid's Φ' is at most 1/4, and the Jacobian of a wide softmax smaller still: each layer takes its share. "
        "Of a ReLU's it is 0 or 1, and He's weights make up for the zeros.",
        highlight=False,
    )
    console.print(f"wrote {config.out}/: derivatives.png, signals.png")
    return signals


def holds(signals: dict[str, Signal]) -> bool:
    """Whether Δ vanishes through sigmoids and is kept through ReLUs."""
    return signals["sigmoid"].fate == "vanishes" and signals["relu"].fate == "is kept"


def sampled(activation: jaxbp.Activation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An activation and its derivative over a range of pre-activations.

    Softmax is no function of one number: of several logits the first one varies and the others are 0.

    Returns:
        a, `(points,)`; Φ(a), `(points,)`; and ∂h_i/∂a, `(points, outputs)`, with one output but for softmax.
    """
    along = jnp.linspace(-5, 5, 501)
    if activation == jaxbp.softmax:
        a = jnp.zeros((along.size, CLASSES)).at[:, 0].set(along)
        h = activation.value(a)
        # (∂h/∂a)ᵀ e_i is row i of the Jacobian, whose first element is ∂h_i/∂a_0
        rows = [activation.pullback(a, h, jnp.zeros_like(a).at[:, i].set(1))[:, 0] for i in range(CLASSES)]
        return np.asarray(along), np.asarray(h[:, 0]), np.stack(rows, axis=-1)
    h = activation.value(along)
    return np.asarray(along), np.asarray(h), np.asarray(activation.pullback(along, h, jnp.ones_like(along)))[:, None]


def signal(activation: jaxbp.Activation, config: Signals) -> Signal:
    """Δ of every hidden layer of a freshly initialised network, with a linear output and squared error."""
    net = jaxbp.layered([config.width] * (config.depth + 2), hidden=activation, output=jaxbp.linear)
    of_params, of_x, of_y = jax.random.split(jax.random.key(config.seed), 3)
    params = jaxbp.init_params(of_params, net)
    x, y = (jax.random.normal(key, (config.examples, config.width)) for key in (of_x, of_y))
    Delta = jaxbp.backprop(net, jaxbp.squared_error, params, x, y, collect={}).Delta
    return Signal(tuple(math.sqrt(jnp.mean(Delta[f"h{r}"] ** 2)) for r in range(1, config.depth + 1)))


def save_derivatives(curves: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], path: Path) -> None:
    """Each activation with its derivative, and its rule for δ.

    Args:
        curves: a, Φ(a) and ∂h_i/∂a, as from `sampled`, by name.
        path: The PNG to write.
    """
    figure, axes = plt.subplots(2, 5, figsize=(17, 7), sharex=True, sharey=True, layout="constrained")
    figure.suptitle("Activations, their derivatives, and what they make of the signal Δ", fontsize=15)
    for axis, (name, (a, h, slopes)) in zip(axes.flat, curves.items(), strict=True):
        axis.plot(a, h, label="value $h$")
        axis.plot(a, slopes[:, 0], label="derivative of $h$ by $a$", color="C1")
        if slopes.shape[1] > 1:
            axis.plot(a, slopes[:, 1], label="derivative of another output by $a$", color="C1", linestyle="--")
        of_what = rf" of $(a{', 0' * (CLASSES - 1)})$" if name == "softmax" else ""
        axis.set_title(f"{name}{of_what}\n{RULES[name]}", fontsize=11)
        axis.set_ylim(-1.4, 2.4)
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("pre-activation $a$")
    # softmax, the last, has every kind of line
    figure.legend(*axes.flat[-1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def save_signals(signals: dict[str, Signal], config: Signals, path: Path) -> None:
    """The root mean square of Δ over the layers, for all activations and for the gentler ones.

    Args:
        signals: By name.
        config: What the networks are like.
        path: The PNG to write.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), sharex=True, layout="constrained")
    figure.suptitle(f"Δ travels back, from right to left, through {config.depth} layers of width {config.width}")
    layers = range(1, config.depth + 1)
    for i, (name, of_layers) in enumerate(signals.items()):
        style = {"color": f"C{i}", "linestyle": ("-", "--")[i % 2], "label": name}
        left.plot(layers, of_layers.rms, **style)
        if of_layers.factor > 0.5:
            right.plot(layers, of_layers.rms, **style)
    left.set_title("all activations")
    right.set_title("those that take less than half of it in a layer")
    for axis in (left, right):
        axis.set(yscale="log", xlabel="hidden layer", ylabel="root mean square of Δ = ∂L/∂h")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _table(signals: dict[str, Signal], config: Signals) -> Table:
    first, last = "rms Δ(h1)", f"rms Δ(h{config.depth})"
    table = Table(title=f"the error signal, {config.depth} layers of width {config.width}", title_justify="left")
    table.add_column("activation")
    table.add_column("weights by")
    for column in (first, last, f"{first} / {last}", "factor of a layer"):
        table.add_column(column, justify="right")
    table.add_column("Δ")
    for name, of_layers in signals.items():
        numbers = (of_layers.rms[0], of_layers.rms[-1], of_layers.ratio)
        cells = (*(f"{number:.2e}" for number in numbers), f"{of_layers.factor:.3f}")
        table.add_row(name, str(getattr(jaxbp, name).initializer), *cells, of_layers.fate)
    return table


if __name__ == "__main__":
    try:
        sys.exit(0 if holds(main(tyro.cli(Signals))) else 1)
    except (ValueError, OSError) as error:
        Console(stderr=True).print(f"[red]error:[/] {error}", highlight=False)
        sys.exit(1)
