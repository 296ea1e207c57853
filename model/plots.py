"""Figures of a run, each as PNG and SVG: the learning curves and the confusion matrix."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PANELS = {"loss": ("loss", "val_loss"), "accuracy": ("accuracy", "val_accuracy")}
# The SVG of the same data is the same file: no date, no random ids.
STEADY: dict[str, dict[str, Any]] = {"svg": {"metadata": {"Date": None}}, "png": {"dpi": 150}}


def draw_curves(path: Path, history: Sequence[Mapping[str, float]]) -> list[Path]:
    """Draw loss and accuracy over the epochs, a line at the best one; ``path`` has no suffix."""

    def draw(figure: Figure) -> None:
        best = min(history, key=lambda row: row["val_loss"])["epoch"]
        for axes, (title, names) in zip(figure.subplots(1, 2), PANELS.items(), strict=True):
            for name in names:
                axes.plot(
                    [row["epoch"] for row in history], [row[name] for row in history], marker=".", label=name
                )
            axes.axvline(best, color="grey", linewidth=0.8, linestyle=":", label="best weights")
            axes.set(title=title, xlabel="epoch")
            axes.legend()

    return _save(path, (9, 3.5), draw)


def draw_confusion(
    path: Path, counts: Sequence[Sequence[int]], classes: Sequence[str], title: str
) -> list[Path]:
    """Draw a confusion matrix: counts as numbers, the share of the true class as shade."""
    matrix = np.array(counts)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)

    def draw(figure: Figure) -> None:
        axes: Axes = figure.subplots()
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(matrix):
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour)
        ticks = range(len(classes))
        axes.set_xticks(ticks, classes, rotation=45, ha="right")
        axes.set_yticks(ticks, classes)
        axes.set(title=title, xlabel="predicted", ylabel="true")

    side = 2.5 + 0.5 * len(classes)
    return _save(path, (side + 0.5, side), draw)


def _save(path: Path, inches: tuple[float, float], draw: Callable[[Figure], None]) -> list[Path]:
    paths = [path.with_name(f"{path.name}.{suffix}") for suffix in STEADY]
    with rc_context({"svg.hashsalt": path.name}):
        figure = Figure(figsize=inches, layout="constrained")
        draw(figure)
        for target in paths:
            figure.savefig(target, **STEADY[target.suffix[1:]])
    return paths
