"""The figure of a language model's run: its losses, its layers, and the windows that surprise it most."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxbp.experiments.common.plots import legend_above, plt, save

SHOWN = 56  # characters of a window


def save_figure(
    rows: Sequence[dict[str, Any]], surprising: Sequence[tuple[float, str]], title: str, path: Path
) -> None:
    """Losses, ‖Δ‖ and noise scale by layer over the steps, and the most surprising windows as text.

    Args:
        rows: One for each look: `step`, `loss`, `validation_loss`, and by layer `Delta_norm` and `noise_scale`.
        surprising: The norm of its gradient and the text of each window.
        title: Of the whole figure.
        path: The PNG to write.
    """
    steps = [row["step"] for row in rows]
    figure, ((losses, sizes), (noise, words)) = plt.subplots(2, 2, figsize=(13, 8), layout="constrained")
    figure.suptitle(title, parse_math=False)
    after = [row for row in rows if row["loss"] is not None]
    losses.plot([row["step"] for row in after], [row["loss"] for row in after], label="training, mean since the last")
    losses.plot(steps, [row["validation_loss"] for row in rows], linestyle="--", label="validation")
    losses.set(xlabel="step", ylabel="loss for each character, in nats")
    legend_above(losses)
    colors = plt.get_cmap("viridis")
    for axis, quantity, label in (
        (sizes, "Delta_norm", "‖Δ‖ of what enters the layer"),
        (noise, "noise_scale", "noise scale, in windows"),
    ):
        of_layers = np.array([row[quantity] for row in rows], float).T
        for layer, values in enumerate(of_layers):
            color = colors(0.9 * layer / max(len(of_layers) - 1, 1))
            axis.plot(steps, values, color=color, label=f"{layer}")
        axis.set(xlabel="step", ylabel=label)
        if np.any(of_layers > 0):
            axis.set_yscale("log")
    handles, labels = sizes.get_legend_handles_labels()
    if len(labels) <= 16:  # of both axes, beside them: inside it would cover their lines
        figure.legend(handles[::-1], labels[::-1], title="layer", loc="outside right center")
    for axis in (losses, sizes, noise):
        axis.grid(alpha=0.3)
    words.axis("off")
    words.set_title("the training windows with the largest gradients")
    for i, (norm, window) in enumerate(surprising):
        line = window[:SHOWN].replace("\n", "⏎").replace("\t", "⇥")
        words.text(
            0, 1 - (i + 1) / (len(surprising) + 1), f"{norm:8.2f}  {line}", family="monospace", fontsize=8,
            parse_math=False, transform=words.transAxes,
        )  # fmt: skip
    save(figure, path)
