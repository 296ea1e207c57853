"""Figures of an evaluation, as PNG and SVG: confusion matrix, ROC, precision-recall and reliability curves.

Truth is int64 ``(n,)``, indices of classes; probabilities are float ``(n, classes)``. The colours are those
that people with any colour vision tell apart, and lines differ by their dashes as well: M. Okabe, K. Ito,
"Color universal design", 2008. Yellow, which is hard to see on white, is left out.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from model.curves import BINS, Curve, precision_recall, reliability, roc
from model.plots import COLOURS, save_figure
from model.scores import Score, Scores, percentages

Float = NDArray[np.floating]
Int64 = NDArray[np.int64]
DASHES = ("-", "--", "-.", ":")
READABLE = 30  # classes: beyond, numbers in the cells of a matrix would not be readable
AREAS = {"auc": "AUC", "average_precision": "av. precision"}
SQUARE = {"xlim": (-0.02, 1.02), "ylim": (-0.02, 1.02), "aspect": "equal"}


def draw_scores(folder: Path, scores: Scores, truth: Int64, probabilities: Float, title: str) -> list[Path]:
    """Draw all figures of an evaluation into a folder; the paths of what was written."""
    number = f"{scores.samples} sample{'s' * (scores.samples != 1)}"
    kappa = f"{title}\n{number}, kappa {_with_interval(scores.kappa)}"
    classes = list(scores.per_class)
    return [
        *draw_confusion(folder / "confusion", scores.confusion, classes, kappa),
        *draw_roc(folder / "roc", scores, truth, probabilities, f"{title}\n{number}"),
        *draw_precision_recall(
            folder / "precision_recall", scores, truth, probabilities, f"{title}\n{number}"
        ),
        *draw_reliability(folder / "reliability", scores, truth, probabilities, title),
    ]


def draw_confusion(
    path: Path, counts: Sequence[Sequence[int]], classes: Sequence[str], title: str
) -> list[Path]:
    """Draw a confusion matrix: counts and per cent of the true class as text, the latter also as shade.

    ``path`` has no suffix.
    """
    matrix = np.array(counts)
    # Shaded by row: with rare classes, counts alone would leave their rows white.
    share = np.nan_to_num(percentages(matrix))
    side = 2.6 + min(len(classes), READABLE) * 0.7

    def draw(figure: Figure) -> None:
        axes: Axes = figure.subplots()
        picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
        bar = figure.colorbar(picture, ax=axes, shrink=0.8)
        bar.set_label("% of the true class")
        if len(classes) <= READABLE:
            _write_cells(axes, matrix, share)
        ticks = range(len(classes))
        axes.set_xticks(ticks, classes, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(ticks, classes)
        axes.set(xlabel="predicted class", ylabel="true class")
        figure.suptitle(title, fontsize=11)

    return save_figure(path, (side + 1.4, side), draw)


def _write_cells(axes: Axes, matrix: Int64, share: Float) -> None:
    for (row, column), count in np.ndenumerate(matrix):
        colour = "white" if share[row, column] > 55 else "black"
        text = f"{count}\n{share[row, column]:.0f} %" if count else "0"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)


def draw_roc(path: Path, scores: Scores, truth: Int64, probabilities: Float, title: str) -> list[Path]:
    """Draw the ROC curve of each class against all others; ``path`` has no suffix."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, label="guessing, 0.50")
        axes.set(xlabel="1 − specificity (false positive rate)", ylabel="recall (sensitivity)")

    curves = _curves(roc, truth, probabilities)
    return _draw_of_classes(path, scores, "auc", curves, draw, title)


def draw_precision_recall(
    path: Path, scores: Scores, truth: Int64, probabilities: Float, title: str
) -> list[Path]:
    """Draw the precision-recall curve of each class against all others; ``path`` has no suffix."""

    def draw(axes: Axes) -> None:
        axes.set(xlabel="recall (sensitivity)", ylabel="precision")

    curves = [curve and _steps(curve) for curve in _curves(precision_recall, truth, probabilities)]
    return _draw_of_classes(path, scores, "average_precision", curves, draw, title)


def _steps(curve: Curve) -> Curve:
    """The points where recall rises: the area under their steps is the average precision."""
    rises = np.append(curve.x[1:] != curve.x[:-1], True)
    x, y, threshold = (column[rises] for column in (curve.x, curve.y, curve.threshold))
    # The curve's last point, precision 1 where nothing is predicted, is a convention and no measurement.
    return Curve(x, np.append(y[:-1], y[-2]), threshold)


def _curves(
    kind: Callable[[NDArray[np.bool_], NDArray[np.float64]], Curve | None], truth: Int64, probabilities: Float
) -> list[Curve | None]:
    columns = probabilities.T.astype(np.float64)
    return [kind(truth == label, column) for label, column in enumerate(columns)]


def _draw_of_classes(
    path: Path,
    scores: Scores,
    area: str,
    curves: Sequence[Curve | None],
    draw_axes: Callable[[Axes], None],
    title: str,
) -> list[Path]:
    """A line per class, whose area stands in the legend; classes without a curve are told there, too."""

    def draw(figure: Figure) -> None:
        axes: Axes = figure.subplots()
        for index, (name, curve) in enumerate(zip(scores.per_class, curves, strict=True)):
            axes.plot(
                curve.x if curve else [],
                curve.y if curve else [],
                drawstyle="steps-post" if area == "average_precision" else "default",
                color=COLOURS[index % len(COLOURS)],
                linestyle=DASHES[index % len(DASHES)],
                # Later lines are thinner, so that equal curves are all seen.
                linewidth=2.5 - 1.3 * index / len(curves),
                label=f"{name}, {_number(scores.per_class[name][area])}",
            )
        draw_axes(axes)
        axes.set(**SQUARE)
        axes.set_anchor("W")
        axes.legend(title=f"class, {AREAS[area]}", loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
        axes.set_title(
            f"{title}, mean {AREAS[area]} {_with_interval(scores.macro[area])}", fontsize=11, loc="left"
        )

    return save_figure(path, (7.6, 5), draw)


def draw_reliability(
    path: Path, scores: Scores, truth: Int64, probabilities: Float, title: str
) -> list[Path]:
    """Draw how often predictions are right, by their probability, above how many there are of each.

    ``path`` has no suffix.
    """
    found = reliability(truth, probabilities.astype(np.float64))
    error = f"expected calibration error {_with_interval(scores.calibration_error)}"

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        above.plot([0, 1], [0, 1], color="grey", linewidth=0.8, label="well calibrated")
        filled = found.samples > 0
        points = found.confidence[filled], found.accuracy[filled]
        above.plot(*points, "o-", color=COLOURS[0], label="this run", clip_on=False)
        above.set(ylabel="share that is right", ylim=(-0.02, 1.02), xlim=(0, 1))
        above.legend(loc="upper left", frameon=False)
        above.set_title(f"{title}\n{error}", fontsize=11)
        below.bar((np.arange(BINS) + 0.5) / BINS, found.samples, 0.9 / BINS, color=COLOURS[0])
        below.set(xlabel="probability of the predicted class", ylabel="samples")
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))

    return save_figure(path, (5.5, 6), draw)


def _number(score: Score) -> str:
    return "not defined" if score.value is None else f"{score.value:.2f}"


def _with_interval(score: Score) -> str:
    if score.value is None:
        return "not defined"
    return f"{score.value:.2f} (95 % interval {score.low:.2f} to {score.high:.2f})"
