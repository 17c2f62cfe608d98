"""Figures that are written to a file, and those of a training run."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # files only: no window system is needed
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxbp.experiments.common.files import write_whole


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, to a folder that is made where it is not there, and be done with it.

    It is written whole or not at all, and an OSError names it.
    """
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    plt.close(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, picture.getvalue())


def save_curves(rows: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Loss, score and the size of δ in each unit, over the epochs.

    Args:
        rows: One for each epoch: `epoch`, `train_loss`, `test_loss`, `test_accuracy` or `test_r2` where there is
            one, and `delta_rms` by unit.
        title: Of the whole figure, as it is: a folder may be called $x$.
        path: The PNG to write.
    """
    epochs = [row["epoch"] for row in rows]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    figure.suptitle(title, parse_math=False)

    left.plot(epochs, [row["train_loss"] for row in rows], label="training, mean over the epoch")
    left.plot(epochs, [row["test_loss"] for row in rows], label="test")
    left.set(ylabel="loss for each example", yscale="log")
    left.legend()

    for name, label in (("test_accuracy", "test accuracy"), ("test_r2", "test R²")):
        if name in rows[0]:
            scores = [row[name] for row in rows]
            middle.plot(epochs, scores, color="C1")
            middle.set(ylabel=label)
            middle.axhline(max(scores), color="grey", linewidth=0.8, linestyle=":")
            middle.annotate(f"best {max(scores):.4f}", (epochs[-1], max(scores)), ha="right", va="bottom")

    units = list(rows[0]["delta_rms"])
    colors = plt.get_cmap("viridis")
    for i, unit in enumerate(units):
        norms = [row["delta_rms"][unit] for row in rows]
        right.plot(epochs, norms, label=unit, color=colors(0.9 * i / max(len(units) - 1, 1)))
    right.set(ylabel="root mean square of δ, first batch", yscale="log")
    handles, labels = right.get_legend_handles_labels()
    # beside the axes, the output first as in the sweep: inside it would cover the lines of a deep network
    figure.legend(handles[::-1], labels[::-1], title="unit", loc="outside right center", ncols=1 + len(units) // 16)

    for axis in (left, middle, right):
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    save(figure, path)
