"""Figures that are written to a file with a description in words, and those of a training run."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # files only: no window system is needed
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, UnidentifiedImageError

from jaxbp.experiments.common.files import write_whole

# told apart by the colour-blind, and in print; lines that cross have other markers or dashes beside
mpl.rcParams["axes.prop_cycle"] = mpl.cycler(color=["#0173b2", "#de8f05", "#029e73", "#c03a00", "#cc78bc", "#6e6e6e"])
COLOURS = len(mpl.rcParams["axes.prop_cycle"])
"""How many curves there are before a colour comes again, which needs other dashes then."""

_DESCRIPTION = "Description"  # a keyword of the PNG standard


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, to a folder that is made where it is not there, and be done with it.

    It is written whole or not at all, and an OSError names it. The file holds its description.
    """
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png", metadata={_DESCRIPTION: description(figure)})
    plt.close(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, picture.getvalue())


def description(figure: Figure) -> str:
    """A figure in words, for those who do not see it: its title, and of each part what is drawn over what."""
    title = figure.get_suptitle()
    parts = [_part(axis) for axis in figure.axes if axis.get_label() != "<colorbar>"]
    return _plain("; ".join(part for part in (title, *dict.fromkeys(parts)) if part))


def described(path: Path) -> str:
    """The description that `save` wrote into a file; empty where there is none."""
    try:
        with Image.open(path) as picture:
            return str(getattr(picture, "text", {}).get(_DESCRIPTION, ""))
    except UnidentifiedImageError:
        return ""


def _part(axis: Axes) -> str:
    over = " over ".join(label for label in (axis.get_ylabel(), axis.get_xlabel()) if label)
    handles, labels = axis.get_legend_handles_labels()
    said = [axis.get_title(), over, ", ".join(dict.fromkeys(labels)) if handles else ""]
    return ": ".join(part for part in said if part)


def _plain(text: str) -> str:
    """Without the signs of mathtext."""
    return " ".join(text.replace("$", "").replace("\\pi", "π").replace("\\", "").split())


def legend_above(axis: Axes, columns: int = 2) -> None:
    """The legend over the axes, where it covers nothing that is drawn."""
    axis.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns, frameon=False, borderaxespad=0.2)


def save_curves(rows: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Loss, score and the size of δ in each unit, over the epochs.

    Args:
        rows: One for each epoch: `epoch`, `train_loss`, `test_loss`, `test_accuracy` or `test_r2` where there is
            one, and `delta_rms` by unit.
        title: Of the whole figure, as it is: a folder may be called $x$.
        path: The PNG to write.
    """
    epochs = [row["epoch"] for row in rows]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    figure.suptitle(title, parse_math=False)

    left.plot(epochs, [row["train_loss"] for row in rows], label="training, mean over the epoch")
    left.plot(epochs, [row["test_loss"] for row in rows], linestyle="--", label="test")
    left.set(ylabel="loss for each example", yscale="log")
    legend_above(left)

    for name, label in (("test_accuracy", "test accuracy"), ("test_r2", "test R²")):
        if name in rows[0]:
            scores = [row[name] for row in rows]
            # that of the untrained network is said in words: beside it, all others would be one line at the top
            trained = slice(1, None) if len(rows) > 1 and epochs[0] == 0 else slice(None)
            middle.plot(epochs[trained], scores[trained], marker="." if len(rows) < 30 else "")
            untrained = f"untrained {scores[0]:.4f}, " if trained.start else ""
            middle.set_title(f"{untrained}best {max(scores):.4f}", fontsize="medium", loc="left")
            middle.set(ylabel=label, xlim=left.get_xlim())

    units = list(rows[0]["delta_rms"])
    colors = plt.get_cmap("viridis")
    for i, unit in enumerate(units):
        norms = [row["delta_rms"][unit] for row in rows]
        right.plot(epochs, norms, label=unit, color=colors(0.8 * i / max(len(units) - 1, 1)))
    right.set(ylabel="root mean square of δ, first batch", yscale="log")
    handles, labels = right.get_legend_handles_labels()
    # beside the axes, the output first as in the sweep: inside it would cover the lines of a deep network
    figure.legend(handles[::-1], labels[::-1], title="unit", loc="outside right center", ncols=1 + len(units) // 16)

    for axis in (left, middle, right):
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    save(figure, path)
