"""The picture of one stack over time: its true classes, and what runs take each picture for.

A lane per class from top to bottom; position in the stack from left to right. True segments are wide gray
bars, the predictions of each run thin ones, in the order and the colours of the legend. The colours are
those that people with any colour vision tell apart, and the order tells them apart without any colour.
Of a stack whose true classes are not known, only predictions are drawn. Labels are int64 ``(n,)``, indices
into the classes; positions are int64 ``(n,)``, in ascending order.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from model.judged import Judged
from model.plots import COLOURS, save_figure
from model.stacks import Int64

DRAWN = 3  # stacks
LANE = 0.84  # height of a true segment, where lanes are 1 apart
Bar = tuple[float, float]  # where it begins, and its width


def draw_timelines(
    folder: Path, runs: Mapping[str, Judged], classes: Sequence[str], dataset: str
) -> list[Path]:
    """Draw the first stacks that all runs judged, as ``timeline_1.png`` and so on; the paths of the files.

    The samples of all runs are pictures with places. Only pictures that all runs judged are drawn.
    """
    first, *others = [set(judged.stacks) for judged in runs.values()]
    drawn: list[Path] = []
    for number, stack in enumerate(sorted(first.intersection(*others))[:DRAWN], start=1):
        inside = {name: _of_stack(judged, stack) for name, judged in runs.items()}
        title = f"{dataset}, {stack}"
        drawn += draw_timeline(folder / f"timeline_{number}", inside, classes, title)
    return drawn


def _of_stack(judged: Judged, stack: str) -> Judged:
    """The pictures of one stack, in the order of their positions."""
    inside = [index for index, (name, _) in enumerate(judged.places) if name == stack]
    return judged.taken(sorted(inside, key=lambda index: judged.places[index][1]))


def draw_timeline(path: Path, runs: Mapping[str, Judged], classes: Sequence[str], title: str) -> list[Path]:
    """Draw the pictures of one stack, in their order, as each run judged them; ``path`` has no suffix."""

    def draw(figure: Figure) -> None:
        axes: Axes = figure.subplots()
        handles = [_draw_truth(axes, next(iter(runs.values())))]
        height = LANE / (len(runs) + 1)
        for index, (name, judged) in enumerate(runs.items()):
            offset = (index - (len(runs) - 1) / 2) * height
            colour = COLOURS[index % len(COLOURS)]
            for label, bars in _bars(judged.predicted, _positions(judged)):
                axes.broken_barh(bars, (label + offset - 0.4 * height, 0.8 * height), facecolor=colour)
            share = float(np.mean(judged.predicted == judged.truth))
            handles.append(Patch(facecolor=colour, label=f"{name}, accuracy {share:.2f}"))
        _label_axes(axes, classes, title)
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)

    return save_figure(path, _inches(classes), draw)


def draw_predicted(
    path: Path, labels: Int64, positions: Int64, classes: Sequence[str], title: str
) -> list[Path]:
    """Draw what the pictures of one stack were taken for, without a truth; ``path`` has no suffix.

    The axis begins at the first picture of the stack: where no window ends, there is no bar.
    """

    def draw(figure: Figure) -> None:
        axes: Axes = figure.subplots()
        for label, bars in _bars(labels, positions):
            axes.broken_barh(bars, (label - LANE / 2, LANE), facecolor=COLOURS[0])
        _label_axes(axes, classes, title)
        axes.set_xlim(-0.5, positions.max() + 0.5)

    return save_figure(path, _inches(classes), draw)


def _inches(classes: Sequence[str]) -> tuple[float, float]:
    return 10, 1.6 + 0.5 * len(classes)


def _draw_truth(axes: Axes, judged: Judged) -> Patch:
    style: dict[str, Any] = {"facecolor": "#DDDDDD", "edgecolor": "#666666", "linewidth": 0.8}
    for label, bars in _bars(judged.truth, _positions(judged)):
        axes.broken_barh(bars, (label - LANE / 2, LANE), **style)
    return Patch(**style, label="true class")


def _label_axes(axes: Axes, classes: Sequence[str], title: str) -> None:
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="position of the picture in its stack", ylim=(len(classes) - 0.5, -0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for lane in range(1, len(classes)):
        axes.axhline(lane - 0.5, color="#EEEEEE", linewidth=0.8, zorder=0)
    axes.set_title(title, fontsize=11, loc="left")


def _positions(judged: Judged) -> Int64:
    return np.array([position for _, position in judged.places])


def _bars(labels: Int64, positions: Int64) -> Iterator[tuple[int, list[Bar]]]:
    """For each class that occurs, the bars of its pictures; those that follow each other share one."""
    for label in np.unique(labels):
        found = positions[labels == label]
        # Neighbours have the same difference to their rank.
        groups = [list(run) for _, run in groupby(enumerate(found), key=lambda item: item[1] - item[0])]
        yield int(label), [(run[0][1] - 0.5, float(len(run))) for run in groups]
