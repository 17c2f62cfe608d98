"""Plots: nothing is hidden, nothing looks like a trend that is none, all can be told apart, and said in words."""

from itertools import combinations, product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jaxbp.experiments.claims import approximation, chapter, overfitting, pruning, worked_example
from jaxbp.experiments.common import plots
from jaxbp.experiments.tools import report


@pytest.fixture
def drawn(monkeypatch):
    """The figures that would have been written."""
    figures = []
    for module in (plots, pruning, overfitting, approximation):
        monkeypatch.setattr(module, "save", lambda figure, path: figures.append(figure))
    yield figures
    for figure in figures:
        plots.plt.close(figure)


def lines(axis):
    """The lines of more than one point that join data."""
    return [one for one in axis.lines if one.get_linestyle() not in ("None", "") and len(one.get_xdata()) > 1]


def epochs(accuracies):
    return [
        {
            "epoch": i,
            "train_loss": 3.0 / (i + 1),
            "test_loss": 2.9 / (i + 1),
            "test_accuracy": each,
            "delta_rms": {"o": 0.1},
        }
        for i, each in enumerate(accuracies)
    ]


def test_the_legend_of_a_training_covers_nothing_and_its_scores_have_room(drawn):
    plots.save_curves(epochs([0.17, 0.94, 0.96, 0.97]), "a title", Path("nowhere"))
    (figure,) = drawn
    figure.canvas.draw()
    left, middle, _ = figure.axes
    legend = left.get_legend().get_window_extent()
    for line in left.lines:
        for point in left.transData.transform(line.get_xydata()):
            assert not legend.contains(*point)
    low, high = middle.get_ylim()
    assert low > 0.9
    assert high <= 1
    assert "untrained 0.1700" in middle.get_title("left")
    assert "best 0.9700" in middle.get_title("left")


def test_an_untrained_network_alone_has_its_score_in_the_plot(drawn):
    plots.save_curves(epochs([0.17]), "a title", Path("nowhere"))
    assert drawn[0].axes[1].lines[0].get_ydata() == [0.17]


@pytest.mark.parametrize("rounds", [2, 4])
def test_optimizers_that_agree_are_beside_each_other_and_two_rounds_are_no_trend(drawn, rounds):
    done = tuple(
        pruning.Round(share, 100, 0.95, dict.fromkeys(("sgd", "adamw", pruning.NOISY), 0.95))
        for share in (1.0, 0.5, 0.2, 0.1)[:rounds]
    )
    result = pruning.Result(done, judged=0.5, strays_by_noise=1, tested=360, full=False)
    pruning.save_plot(result, "a title", Path("nowhere"))
    (axis,) = drawn[0].axes
    marked = [line for line in axis.lines if line.get_marker() not in ("None", "")]
    assert len(marked) == 4
    for one, other in combinations(marked, 2):
        shown = axis.transData.transform(one.get_xydata()) - axis.transData.transform(other.get_xydata())
        assert np.all(np.abs(shown).max(axis=1) > 10)  # pixels
        assert one.get_marker() != other.get_marker()
    joining = [line for line in marked if line in lines(axis)]
    assert len(joining) == (0 if rounds == 2 else 4)


@pytest.mark.parametrize("widths", [2, 3])
def test_two_widths_are_no_trend(drawn, widths):
    errors = np.array([0.1, 0.2])
    remedies = [
        overfitting.Remedy(name, np.ones((2, 4)), np.array(stops))
        for name, stops in (("none", [3, 3]), ("weight decay", [3, 3]), ("early stopping", [1, 2]), ("dropout", [3, 3]))
    ]
    of = tuple(overfitting.Width(width, 100 * width, errors, errors + 0.1) for width in range(1, widths + 1))
    overfitting.save_plot(
        overfitting.Result(of, 150, errors, errors, remedies[0], tuple(remedies[1:])), Path("nowhere")
    )
    left = drawn[0].axes[0]
    joining = [line for line in lines(left) if len(line.get_xdata()) == widths and line.get_color() != "grey"]
    assert len(joining) == (0 if widths == 2 else 2)


def test_formulas_are_set_as_formulas(drawn):
    claim = SimpleNamespace(holds=True, claimed=1.0, value=1.0)
    formulas = tuple(worked_example.Formula(passage, claim, claim) for passage in chapter.passages())
    worked_example.save_plot(worked_example.Result((), formulas, 0.0), Path("nowhere"))
    drawn[0].canvas.draw()  # matplotlib can read it
    labels = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert len(labels) == len(formulas)
    for label, formula in zip(labels, formulas, strict=True):
        outside = label.split("$")[::2]
        assert not any("_" in text for text in outside)
        assert label.replace("$", "").replace("\\mathdefault{", "").count("_") == formula.passage.formula.count("_")


@pytest.mark.parametrize(
    "names", [("smooth", "kink", "oscillating", "product", "ripple"), ("smooth", "kink"), ("product",)]
)
def test_no_part_of_the_approximations_is_empty(drawn, names):
    config = approximation.Approximation(functions=names)
    widths = (1, 6, 32)
    result = approximation.Result(widths, {name: np.array([0.9, 0.1, 0.01]) for name in names}, bound=0.05)
    fits = {}
    for name in names:
        of = approximation.FUNCTIONS[name]
        points = approximation.POINTS[of.inputs][1] ** of.inputs
        fits[name] = approximation.Fits(np.zeros((3, points, 1)), np.zeros(3))
    approximation.save_errors(result, fits, config, Path("nowhere"))
    figure = drawn[0]
    figure.canvas.draw()
    seen = np.zeros((100, 100), bool)
    renderer = figure.canvas.get_renderer()
    for part in (*figure.axes, *figure.legends):
        points = part.get_tightbbox(renderer).get_points()
        (left, low), (right, high) = figure.transFigure.inverted().transform(points)
        seen[max(int(100 * low), 0) : int(100 * high), max(int(100 * left), 0) : int(100 * right)] = True
    assert np.mean(seen) > 0.8
    for legend, part in product(figure.legends, figure.axes):
        assert not legend.get_tightbbox(renderer).overlaps(part.get_tightbbox(renderer).padded(-2))


def test_a_picture_says_what_it_shows(tmp_path):
    plots.save_curves(epochs([0.17, 0.94]), "digits, $x$", tmp_path / "curves.png")
    words = plots.described(tmp_path / "curves.png")
    for part in (
        "digits, x",
        "loss for each example over epoch",
        "training, mean over the epoch, test",
        "test accuracy",
    ):
        assert part in words
    one = report.Outcome("a_claim", "", "", "", True, "1 < 2: holds", (tmp_path / "curves.png",), 1.0)
    assert f'alt="{words.replace(chr(39), "&#x27;")}"' in report.page([one])
    (tmp_path / "other.png").write_bytes(b"no picture")
    assert plots.described(tmp_path / "other.png") == ""


def test_a_verdict_is_read_fact_by_fact():
    decision = "the error is 0.1 (at most 0.2 allowed; known: h.o), wide; 3 of 4 seeds helped: holds"
    one = report.Outcome("a_claim", "", "", "", True, decision, (), 1.0)
    assert one.facts == ["The error is 0.1 (at most 0.2 allowed; known: h.o), wide", "3 of 4 seeds helped"]
    assert "<li>3 of 4 seeds helped</li>" in report.page([one])
    assert report.page([one]).count("holds") == 2  # in the table and in its section


def test_colours_are_told_apart_by_the_colour_blind():
    colours = plots.mpl.rcParams["axes.prop_cycle"].by_key()["color"][:5]
    rgb = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    # Machado, Oliveira, Fernandes, A physiologically-based model for simulation of color vision deficiency, 2009
    seen_by = {
        "all": np.eye(3),
        "protanopia": [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        "deuteranopia": [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
    }
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    for matrix in seen_by.values():
        x, y, z = np.cbrt(np.clip(linear @ np.transpose(matrix), 1e-4, 1) @ to_xyz.T / to_xyz.sum(1)).T
        lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
        assert min(np.linalg.norm(one - other) for one, other in combinations(lab, 2)) > 12
        assert lab[:, 0].max() < 72  # dark enough on white paper
