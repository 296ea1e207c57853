"""Figures of a training, as PNG and SVG: its curves. Of a decision, as PNG: its slices, its heat."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from model.depth_axis import DepthAxis
from pipeline.errors import ResourceError

if TYPE_CHECKING:
    from model.explain import Explanation

SLICES_WIDTH, HEAT_WIDTH = 8.0, 4.0  # inches
STRIP = 10  # slices
# Colours that people with any colour vision tell apart: M. Okabe, K. Ito, "Color universal design", 2008.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
# Name, label and limits of the axis; None fits the values.
PANELS: tuple[tuple[str, str, tuple[float, float] | None], ...] = (
    ("loss", "loss", None),
    ("accuracy", "accuracy (share that is right)", (0, 1)),
)
LINES = (("", "training", "-"), ("val_", "validation", "--"))
# The same data give the same SVG file: no date, and below no random ids.
REPRODUCIBLE: dict[str, dict[str, Any]] = {"png": {"dpi": 150}, "svg": {"metadata": {"Date": None}}}


def draw_curves(path: Path, history: Sequence[Mapping[str, float]], title: str) -> list[Path]:
    """Draw loss and accuracy over the epochs, the best one marked; ``path`` has no suffix."""
    epochs = [row["epoch"] for row in history]
    best = min(history, key=lambda row: row["val_loss"])

    def draw(figure: Figure) -> None:
        for axes, (name, label, limits) in zip(figure.subplots(1, 2), PANELS, strict=True):
            for colour, (prefix, split, dashes) in zip(COLOURS, LINES, strict=False):
                values = [row[prefix + name] for row in history]
                # Not clipped: a perfect accuracy lies on the frame.
                axes.plot(epochs, values, dashes, marker=".", color=colour, label=split, clip_on=False)
            axes.axvline(best["epoch"], color="grey", linewidth=0.8, linestyle=":")
            marked = (best["epoch"], best[f"val_{name}"])
            ring = {"color": "black", "fillstyle": "none", "markersize": 10, "clip_on": False}
            axes.plot(*marked, "o", label=_best_text(best), **ring)
            axes.set(xlabel="epoch", ylabel=label, xlim=(min(epochs) - 0.5, max(epochs) + 0.5), ylim=limits)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            axes.legend(frameon=False)
        figure.suptitle(title, fontsize=11)

    return save_figure(path, (9, 3.8), draw)


def _best_text(best: Mapping[str, float]) -> str:
    return f"best epoch, {best['epoch']:.0f}"


def draw_explanation(
    path: Path, volume: NDArray[np.float32], found: "Explanation", axis: DepthAxis, title: str
) -> None:
    """Draw a strip of slices above the drop in probability without them; beside it the decisive slice.

    ``volume`` is (depth, height, width) in [0, 1]; ``path`` is that of the PNG. Where no drop is more than
    noise, no slice is decisive: that is told in its place.
    """
    figure = Figure(figsize=(SLICES_WIDTH + HEAT_WIDTH, 4.6), layout="constrained")
    figure.suptitle(title, parse_math=False, fontsize=11)
    left, right = np.asarray(figure.subfigures(1, 2, width_ratios=(SLICES_WIDTH, HEAT_WIDTH)))
    strip, curve = left.subplots(2, 1, sharex=True, height_ratios=(1, 4))
    _draw_strip(strip, volume, axis)
    _draw_drops(curve, found, axis)
    if found.lowers:
        _draw_heat(right, volume[found.decisive], found, axis)
    else:
        told = f"no window of {axis.word}s\nlowers this probability"
        right.text(0.5, 0.5, told, ha="center", va="center")
    _save_png(figure, path)


def draw_slice(path: Path, picture: NDArray[np.float32], heat: NDArray[np.float32], title: str) -> None:
    """Draw a picture, and beside it the same under its heat, both (height, width) in [0, 1], as PNG.

    The heat is brought to the pixels of the picture before; where there is little, the picture shows.
    """
    figure = Figure(figsize=(8.6, 4.4), layout="constrained")
    figure.suptitle(title, parse_math=False, fontsize=11)
    plain, heated = figure.subplots(1, 2)
    for axes in (plain, heated):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
        axes.set_axis_off()
    plain.set_title("as the network sees it", fontsize=9)
    heated.set_title("Grad-CAM", fontsize=9)
    _overlay(figure, heated, heat)
    _save_png(figure, path)


def draw_scan(path: Path, probabilities: NDArray[np.floating], classes: Sequence[str], title: str) -> None:
    """Draw a bar for each slice of a scan, from first to last, of its probabilities (slices, classes)."""
    figure = Figure(figsize=(8.6, 3.2), layout="constrained")
    axes = figure.subplots()
    positions = np.arange(1, len(probabilities) + 1)
    below = np.zeros(len(probabilities))
    colours = cycle(COLOURS)
    for name, column, colour in zip(classes, probabilities.T, colours, strict=False):
        axes.bar(positions, column, bottom=below, width=1, color=colour, label=name, linewidth=0)
        below += column
    axes.set(xlabel="slice", ylabel="probability", xlim=(0.5, len(probabilities) + 0.5), ylim=(0, 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    legend = axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    axes.set_title(title, parse_math=False, fontsize=11)
    _save_png(figure, path)


def _save_png(figure: Figure, path: Path) -> None:
    with catch_warnings():
        simplefilter("ignore", UserWarning)  # the font may lack the script of a name
        figure.savefig(path, format="png", **REPRODUCIBLE["png"])


def _overlay(figure: Figure | SubFigure, axes: Axes, heat: NDArray[np.float32]) -> None:
    """Lay heat over a picture, smooth between its pixels, and draw a bar of its colours."""
    shown = axes.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=0.7 * heat, interpolation="bilinear")
    # The colours of the bar are opaque; over the picture they are not.
    scale = ScalarMappable(shown.norm, shown.cmap)
    figure.colorbar(scale, ax=axes, shrink=0.85, label="speaks for the class (1: most)")


def _draw_strip(axes: Axes, volume: NDArray[np.float32], axis: DepthAxis) -> None:
    """Every n-th slice, above its place on the axis."""
    ends = np.linspace(0, len(volume), min(STRIP, len(volume)) + 1)
    for first, last in pairwise(ends):
        slice_ = volume[int((first + last) / 2)]
        axes.imshow(slice_, cmap="gray", vmin=0, vmax=1, extent=(first + 0.5, last + 0.5, 0, 1))
    axes.set(xlim=(0.5, len(volume) + 0.5), ylim=(0, 1), yticks=[], aspect="auto")
    if axis.ends:
        axes.set_title(axis.ends[0], loc="left", fontsize=9)
        axes.set_title(axis.ends[1], loc="right", fontsize=9)


def _draw_drops(axes: Axes, found: "Explanation", axis: DepthAxis) -> None:
    axes.bar(np.arange(1, len(found.drops) + 1), found.drops, width=1)
    axes.axhline(0, color="grey", linewidth=0.8)
    if found.lowers:
        axes.axvline(found.decisive + 1, color="tab:red", linewidth=1)
    axes.set(xlabel=axis.word, ylabel=f"drop in probability\nwithout the {axis.word}s around")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if axis.scale:
        _draw_source_axis(axes, axis, axis.scale)


def _draw_source_axis(axes: Axes, axis: DepthAxis, scale: float) -> None:
    """A second axis below: millimetres where the spacing is known, else numbers of the source's pictures."""
    step, start = (scale, 1.0) if axis.spacing is None else (scale * axis.spacing, 0.0)
    ways = (lambda x: (x - 1) * step + start, lambda place: (place - start) / step + 1)
    below = axes.secondary_xaxis(-0.28, functions=ways)
    unit = f"source {axis.word}" if axis.spacing is None else "mm along the axis, in the source"
    below.set_xlabel(unit)


def _draw_heat(figure: SubFigure, frame: NDArray[np.float32], found: "Explanation", axis: DepthAxis) -> None:
    axes: Axes = figure.subplots()
    axes.imshow(frame, cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()
    place = axis.place(found.decisive).replace("; ", "\n").replace(", ", "\n")
    axes.set_title(f"{place}\ndrop {found.drops[found.decisive]:.2g}; Grad-CAM", fontsize=9)
    _overlay(figure, axes, found.heat)


def save_figure(path: Path, inches: tuple[float, float], draw: Callable[[Figure], None]) -> list[Path]:
    """Draw a figure and write it as PNG and SVG; ``path`` has no suffix. The paths of both."""
    paths = [path.with_name(f"{path.name}.{suffix}") for suffix in REPRODUCIBLE]
    # A class may have any name: no part of it is a formula, and the font may lack its script.
    with rc_context({"svg.hashsalt": path.name, "text.parse_math": False}), catch_warnings():
        simplefilter("ignore", UserWarning)
        figure = Figure(figsize=inches, layout="constrained")
        draw(figure)
        for target in paths:
            figure.savefig(target, **REPRODUCIBLE[target.suffix[1:]])
    return paths


# --- files --------------------------------------------------------------------------------------


def file_name(sample: str) -> str:
    """An id as a file name without folders; different ids give different names.

    >>> file_name("a/b")
    'a%2Fb'
    """
    # As in URLs; % itself is escaped too, or `a%2Fb` and `a/b` would share a name.
    return "".join(f"%{ord(sign):02X}" if sign in "/\\%" or sign < " " else sign for sign in sample)


@contextmanager
def writing_pictures(folder: Path, option: str) -> Iterator[None]:
    """Raise ResourceError if pictures cannot be written into the folder that an option names."""
    try:
        yield
    except OSError as error:
        remedy = f"free space, fix permissions, or give another `{option} DIR`"
        raise ResourceError.of(folder, "cannot-write", str(error.strerror), remedy) from error
