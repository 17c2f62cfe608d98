"""What a training of `second_order` looked like: kept in a file, compared, and drawn."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxbp.experiments.common.files import write_whole
from jaxbp.experiments.common.plots import plt, save
from jaxbp.experiments.common.records import as_json

COLORS = {"SGD": "tab:gray", "Adam": "tab:blue", "Muon": "tab:green", "K-FAC": "tab:red", "kfac-jax": "tab:orange"}


@dataclass(frozen=True)
class Curve:
    """What a training looked like, from its start: one entry for each evaluation."""

    optimizer: str
    setting: float
    seed: int
    steps: tuple[int, ...]
    seconds: tuple[float, ...]
    """Of CPU time where that is what computes, without compilation and evaluation."""
    wall: tuple[float, ...]
    """By the clock."""
    losses: tuple[float, ...]
    """The mean loss of the batches since the evaluation before."""
    errors: tuple[float, ...]
    """On data that is not trained on."""

    @property
    def last(self) -> float:
        """The error at the end; infinite where it is no number."""
        return self.errors[-1] if np.isfinite(self.errors[-1]) else np.inf

    @property
    def least(self) -> float:
        """The least error on the way; infinite where there is none."""
        found = [error for error in self.errors if np.isfinite(error)]
        return min(found, default=np.inf)

    def reached(self, error: float) -> tuple[int, float] | None:
        """Steps and seconds to an error, if it was reached."""
        return next(((s, t) for s, t, e in zip(self.steps, self.seconds, self.errors, strict=True) if e <= error), None)


def kept(path: Path, conditions: dict[str, Any]) -> Curve | None:
    """The curve in a file, if it is there and was made under the same conditions."""
    if not path.is_file():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["conditions"] != conditions:
        return None
    curve = record["curve"]
    for name, value in curve.items():
        if isinstance(value, list):
            curve[name] = tuple(float("nan") if number is None else number for number in value)
    return Curve(**curve)


def keep(curve: Curve, path: Path, conditions: dict[str, Any]) -> None:
    """Write a curve to a file, so that it need not be made again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, as_json({"conditions": conditions, "curve": dataclasses.asdict(curve)}))


def save_plot(name: str, measure: str, best: dict[str, list[Curve]], path: Path) -> None:
    """The error by steps and by seconds: a line for each seed, and the optimizer's name where its first one ends."""
    with plt.rc_context({"font.size": 20, "axes.titlesize": 24, "lines.linewidth": 4}):
        figure, both = plt.subplots(1, 2, figsize=(20, 9), layout="constrained", sharey=True)
        for optimizer, curves in best.items():
            for curve in curves:
                label = f"{optimizer} ({curve.setting:g})" if curve is curves[0] else None
                style = {"color": COLORS[optimizer], "alpha": 1.0 if label else 0.4, "label": label}
                both[0].plot(curve.steps[1:], curve.errors[1:], **style)
                both[1].plot(curve.seconds[1:], curve.errors[1:], **style)
        # a first look at a bad setting must not hide what happens at the end
        ends = [curve.errors[len(curve.errors) // 5] for curves in best.values() for curve in curves]
        least = min(curve.least for curves in best.values() for curve in curves)
        top = 1.2 * max((end for end in ends if np.isfinite(end)), default=1.0)
        for axes, across in zip(both, ("steps", "seconds of CPU time"), strict=True):
            axes.set(xlabel=across, yscale="log", ylim=(0.9 * least, max(top, 1.2 * least)))
            axes.grid(visible=True, which="both", alpha=0.3)
        both[0].set(xscale="log", ylabel=measure)
        figure.legend(*both[1].get_legend_handles_labels(), loc="outside lower center", ncols=len(best))
        figure.suptitle(name)
        save(figure, path)
