"""Figures of a run, as PNG and SVG: learning curves, confusion matrix. Of a decision, as PNG: its slices."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

if TYPE_CHECKING:
    from model.explain import Explanation

SLICES_WIDTH, HEAT_WIDTH = 8.0, 4.0  # inches
STRIP = 10  # slices
PANELS = {"loss": ("loss", "val_loss"), "accuracy": ("accuracy", "val_accuracy")}
# The same data give the same SVG file: no date, and below no random ids.
REPRODUCIBLE: dict[str, dict[str, Any]] = {"svg": {"metadata": {"Date": None}}, "png": {"dpi": 150}}


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
    # Shaded by row: with rare classes, counts alone would leave their rows white.
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


def draw_explanation(path: Path, volume: NDArray[np.float32], found: "Explanation", title: str) -> None:
    """Draw a strip of slices above the drop in probability without them; beside it the decisive slice.

    ``volume`` is (depth, height, width) in [0, 1]; ``path`` is that of the PNG.
    """
    figure = Figure(figsize=(SLICES_WIDTH + HEAT_WIDTH, 4.2), layout="constrained")
    figure.suptitle(title, parse_math=False)
    left, right = np.asarray(figure.subfigures(1, 2, width_ratios=(SLICES_WIDTH, HEAT_WIDTH)))
    strip, curve = left.subplots(2, 1, sharex=True, height_ratios=(1, 4))
    _draw_strip(strip, volume)
    _draw_drops(curve, found)
    _draw_heat(right.subplots(), volume[found.decisive], found)
    with catch_warnings():
        simplefilter("ignore", UserWarning)  # the font may lack the script of a name
        figure.savefig(path, format="png", **REPRODUCIBLE["png"])


def _draw_strip(axes: Axes, volume: NDArray[np.float32]) -> None:
    """Every n-th slice, above its place on the axis."""
    ends = np.linspace(0, len(volume), min(STRIP, len(volume)) + 1)
    for first, last in pairwise(ends):
        slice_ = volume[int((first + last) / 2)]
        axes.imshow(slice_, cmap="gray", vmin=0, vmax=1, extent=(first - 0.5, last - 0.5, 0, 1))
    axes.set(xlim=(-0.5, len(volume) - 0.5), ylim=(0, 1), yticks=[], aspect="auto")


def _draw_drops(axes: Axes, found: "Explanation") -> None:
    axes.bar(range(len(found.drops)), found.drops, width=1)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.axvline(found.decisive, color="tab:red", linewidth=1)
    axes.set(xlabel="slice", ylabel="drop in probability\nwithout the slices around")


def _draw_heat(axes: Axes, frame: NDArray[np.float32], found: "Explanation") -> None:
    axes.imshow(frame, cmap="gray", vmin=0, vmax=1)
    axes.imshow(found.heat, cmap="inferno", vmin=0, vmax=1, alpha=0.7 * found.heat)
    axes.set_axis_off()
    axes.set_title(f"slice {found.decisive}, drop {found.drops[found.decisive]:.2g}; Grad-CAM")


def _save(path: Path, inches: tuple[float, float], draw: Callable[[Figure], None]) -> list[Path]:
    paths = [path.with_name(f"{path.name}.{suffix}") for suffix in REPRODUCIBLE]
    with rc_context({"svg.hashsalt": path.name}):
        figure = Figure(figsize=inches, layout="constrained")
        draw(figure)
        for target in paths:
            figure.savefig(target, **REPRODUCIBLE[target.suffix[1:]])
    return paths
