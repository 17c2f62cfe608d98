"""Activations: values, derivatives, the chapter's rules for δ, and what 30 layers of each do to the signal Δ.

    python -m experiments.activations
    python -m experiments.activations --depth 100 --width 32 --out runs/deeper

The five rules that the chapter prints, as `textbook.update` has them, are held against jax.grad through one layer, at
random pre-activations, and so is δ of the sweep. At the corners of hard tanh they are known to differ: the chapter lets
the signal through for −1 < a < 1, and jax.nn, which jaxbp follows, at −1 and 1 as well.

Writes `derivatives.png`, the curves with the rule for δ beside each, and `signals.png`, the size of Δ in each layer.
Weights are drawn by each activation's own initializer, biases are 0, and everything is float64: 30 layers of softmax
leave nothing that float32 could hold. Ends with exit code 1 should a rule not be the derivative, or Δ not vanish
through sigmoids, or do so through ReLUs. What becomes of Δ is not decided by few layers, or by narrow ones.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table

import jaxbp
from jaxbp import textbook
from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.options import check_options, whole
from jaxbp.experiments.common.plots import COLOURS, plt, save
from jaxbp.experiments.common.verdicts import conclude, in_a_word, verdict

CLAIM = (
    "In the following, we provide the instantiation of above Equation for different types of nodes: … For the ReLU "
    "function, the value of δ(h_r, o) can be computed in case-wise fashion: … A similar recurrence can be shown for "
    "the hard tanh function except that the update condition is slightly different"
)
PLACE = "Updates for Various Activations"

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

PRINTED = ("linear", "sigmoid", "tanh", "relu", "hard_tanh")
CORNERS = (-1.0, 0.0, 1.0)
MOST_ERROR = 1e-12  # relative, of δ
LEAST_KEPT, MOST_KEPT = 0.9, 1.1  # of Δ in a layer: a tenth less, or more, in each of 30 is about a twentyfold
LEAST_DEPTH, LEAST_WIDTH = 10, 32  # of fewer or narrower layers, what is kept is a matter of chance
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
        check_options(self, depth=whole(2, 10_000), width=whole(2, 2**14), examples=whole(1))


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
        """What becomes of it."""
        return "vanishes" if self.factor < LEAST_KEPT else "explodes" if self.factor > MOST_KEPT else "is kept"


@dataclass(frozen=True)
class Rule:
    """What the chapter prints for an activation, and what the sweep has, against jax.grad."""

    printed: float
    """The relative error of the printed rule,"""
    swept: float
    """and of the sweep's δ."""
    differs: tuple[float, ...]
    """The corners at which the printed rule has another derivative than jax.grad; nothing is decided by them."""


@dataclass(frozen=True)
class Result:
    """Every rule that the chapter prints, and what becomes of Δ."""

    rules: dict[str, Rule]
    signals: dict[str, Signal]
    points: int
    """At which each rule was computed."""
    enough: bool = True
    """Whether the layers are enough for what becomes of Δ to decide."""

    @property
    def holds(self) -> bool | None:
        """Whether every rule is the derivative, and Δ vanishes through sigmoids and is kept through ReLUs."""
        right = (rule.printed <= MOST_ERROR and rule.swept <= MOST_ERROR for rule in self.rules.values())
        fates = self.signals["sigmoid"].fate == "vanishes", self.signals["relu"].fate == "is kept"
        return verdict(right, fates, confirms=self.enough, refutes=self.enough)

    @property
    def decision(self) -> str:
        """The numbers beside their bounds, in a line."""
        rules, kept = self.rules, {name: of.factor for name, of in self.signals.items()}
        printed, swept = (np.max([getattr(of, way) for of in rules.values()]) for way in ("printed", "swept"))
        return (
            f"at {self.points} points each, δ by the printed rules for {', '.join(rules)} is within {printed:.1e} of "
            f"jax.grad, and that of the sweep within {swept:.1e} (at most {MOST_ERROR:.0e} allowed; known to differ: "
            f"{self.corners}); each layer leaves {kept['sigmoid']:.2f} of Δ with sigmoids (less than {LEAST_KEPT:g} "
            f"asked) and {kept['relu']:.2f} with ReLUs ({LEAST_KEPT:g} to {MOST_KEPT:g} asked): "
            f"{in_a_word(self.holds)}"
        )

    @property
    def corners(self) -> str:
        """Where a printed rule and jax.grad go different ways."""
        places = {name: " and ".join(f"{a:g}" for a in of.differs) for name, of in self.rules.items()}
        return "; ".join(f"{name} at {place}" for name, place in places.items() if place).replace("-", "−") or "none"


def main(config: Signals, console: Console | None = None) -> Result:
    """Compute rules and signals, print them, and write both figures."""
    console = console or terminal()
    with jax.enable_x64(True):
        curves = {name: sampled(getattr(jaxbp, name)) for name in RULES}
        rules = {name: rule(getattr(jaxbp, name), config) for name in PRINTED}
        signals = {name: signal(getattr(jaxbp, name), config) for name in RULES}
    enough = config.depth >= LEAST_DEPTH and config.width >= LEAST_WIDTH
    result = Result(rules, signals, config.examples * config.width, enough)
    save_derivatives(curves, config.out / "derivatives.png")
    save_signals(signals, config, config.out / "signals.png")
    console.print(_rules(rules))
    console.print(_table(signals, config))
    console.print(
        "A sigmoid's Φ' is at most 1/4, and the Jacobian of a wide softmax smaller still: each layer takes its share. "
        "Of a ReLU's it is 0 or 1, and He's weights make up for the zeros.",
        highlight=False,
    )
    conclude(console, result, config.out, "derivatives.png", "signals.png")
    return result


def rule(activation: jaxbp.activations.Activation, config: Signals) -> Rule:
    """The printed rule of an activation and the sweep's δ through one layer, at random pre-activations.

    δ(h_r, o) = Φ'(a_{h_r}) Σ w(h_r, o) δ(o, o), for a linear output and squared error
    """
    n, N = config.width, config.examples
    # the layer's input is its pre-activation, so that jax.grad by x is δ
    hidden = jaxbp.Unit(n, activation, {"x": jaxbp.Identity()}, bias=False)
    net = jaxbp.Network(
        inputs={"x": n}, units={"h": hidden, "o": jaxbp.Unit(n, jaxbp.linear, {"h": jaxbp.Dense()}, bias=False)}
    )
    of_params, of_a, of_y = jax.random.split(jax.random.key(config.seed), 3)
    params = jaxbp.init_params(of_params, net)
    a, y = 2 * jax.random.normal(of_a, (N, n)), jax.random.normal(of_y, (N, n))
    true = jax.grad(jaxbp.objective(net, jaxbp.squared_error), argnums=1)(params, a, y)
    h, W = activation.value(a), params["o"]["h"]
    printed = textbook.update(activation, a, h, (h @ W - y) / N @ W.T)
    swept = jaxbp.backprop(net, jaxbp.squared_error, params, a, y).delta["h"]

    corners = jnp.array(CORNERS)
    theirs = jax.vmap(jax.grad(activation.value))(corners)
    ours = textbook.update(activation, corners, activation.value(corners), jnp.ones_like(corners))
    differs = np.abs(ours - theirs) > MOST_ERROR
    at = tuple(a for a, other in zip(CORNERS, differs, strict=True) if other)
    return Rule(_relative_error(printed, true), _relative_error(swept, true), at)


def sampled(activation: jaxbp.activations.Activation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An activation and its derivative over a range of pre-activations.

    Softmax is no function of one number: of several logits the first one varies and the others are 0.

    Returns:
        a, `(points,)`; Φ(a), `(points,)`; and ∂h_i/∂a, `(points, outputs)`, with one output but for softmax.
    """
    along = jnp.linspace(-5, 5, 501)
    if activation.phi == jaxbp.softmax.phi:
        a = jnp.zeros((along.size, CLASSES)).at[:, 0].set(along)
        h = activation.value(a)
        # (∂h/∂a)ᵀ e_i is row i of the Jacobian, whose first element is ∂h_i/∂a_0
        rows = [activation.pullback(a, h, jnp.zeros_like(a).at[:, i].set(1))[:, 0] for i in range(CLASSES)]
        return np.asarray(along), np.asarray(h[:, 0]), np.stack(rows, axis=-1)
    h = activation.value(along)
    return np.asarray(along), np.asarray(h), np.asarray(activation.pullback(along, h, jnp.ones_like(along)))[:, None]


def signal(activation: jaxbp.activations.Activation, config: Signals) -> Signal:
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
    save(figure, path)


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
        style = {"color": f"C{i}", "linestyle": ("-", "--", ":")[i // COLOURS % 3], "label": name}
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
    save(figure, path)


def _relative_error(ours: jax.Array, theirs: jax.Array) -> float:
    return float(jnp.linalg.norm(ours - theirs) / jnp.linalg.norm(theirs))


def _rules(rules: dict[str, Rule]) -> Table:
    table = Table(title="δ through one layer, relative error against jax.grad", title_justify="left")
    table.add_column("activation")
    for column in ("printed rule", "sweep", "another derivative\nat the corner a ="):
        table.add_column(column, justify="right")
    for name, of in rules.items():
        table.add_row(name, f"{of.printed:.1e}", f"{of.swept:.1e}", ", ".join(f"{a:g}" for a in of.differs))
    return table


def _table(signals: dict[str, Signal], config: Signals) -> Table:
    first, last = "rms Δ(h1)", f"rms Δ(h{config.depth})"
    table = Table(title=f"the error signal, {config.depth} layers of width {config.width}", title_justify="left")
    table.add_column("activation")
    table.add_column("weights")
    for column in (first, last, f"{first} / {last}", "factor of a layer"):
        table.add_column(column, justify="right")
    table.add_column("Δ")
    for name, of_layers in signals.items():
        numbers = (of_layers.rms[0], of_layers.rms[-1], of_layers.ratio)
        cells = (*(f"{number:.2e}" for number in numbers), f"{of_layers.factor:.3f}")
        table.add_row(name, str(getattr(jaxbp, name).initializer).partition("_")[0], *cells, of_layers.fate)
    return table


if __name__ == "__main__":
    command_line(main, Signals)
