"""What a run's folder tells, as frozen values for its page and its card; nothing is computed anew.

Scores are fractions, None where one is not known or not defined.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.mistakes import MOST, Mistakes, worst_mistakes
from model.run_folder import (
    EVALUATE_AGAIN,
    METRICS,
    NETWORK,
    Config,
    is_outdated,
    read_config,
    read_history,
    read_metrics,
)
from pipeline.errors import IntegrityError

# Scores of a class, as metrics.json and people call them.
OF_CLASSES = {
    "precision": "precision",
    "recall": "recall",
    "specificity": "specificity",
    "f1": "F1",
    "auc": "AUC",
    "average_precision": "average precision",
}
WHOLE = {"accuracy": "accuracy", "kappa": "kappa", "calibration_error": "calibration error"}
LEVELS = {"mean": "mean probability", "any": "most suspicious sample"}
LARGE = 400_000  # bytes of an SVG file, from which its PNG is taken
# What a figure shows, for those who do not see it.
FIGURES = {
    "curves": "Loss and accuracy over the epochs; the numbers are in the table of epochs",
    "confusion": "Confusion matrix; the numbers are in the table of true and predicted classes",
    "roc": "ROC curve of each class against all others; the areas are in the table of classes",
    "precision_recall": "Precision-recall curve of each class; the areas are in the table of classes",
    "reliability": "How often predictions are right, by their probability",
}
TIMELINE = "timeline"


@dataclass(frozen=True)
class Cell:
    """A score with its 95 % interval; ``low`` and ``high`` are None where there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ClassRow:
    """One class: how many samples it has, its scores in the order of ``OF_CLASSES``."""

    name: str
    samples: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class LevelRow:
    """Decisions for what belongs together, such as groups: the number of units, three scores."""

    name: str
    samples: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Evaluated:
    """What ``viptt evaluate`` found; ``stacks`` is accuracy per stack, mean and deviation, of pictures."""

    dataset: str
    split: str
    samples: int
    groups: int | None
    whole: Mapping[str, Cell]
    classes: tuple[ClassRow, ...]
    mean: tuple[Cell, ...]
    confusion: tuple[tuple[int, ...], ...]
    levels: tuple[LevelRow, ...]
    stacks: tuple[float, float] | None
    outdated: bool
    mistakes: Mistakes


@dataclass(frozen=True)
class Figure:
    """A picture of the run's folder as a data URI, with a text for those who do not see it."""

    name: str
    text: str
    uri: str


@dataclass(frozen=True)
class RunFacts:
    """A run: what it was trained on and how, what came of it; ``diagram`` is a data URI, or ""."""

    name: str
    folder: Path
    config: Config
    history: tuple[Mapping[str, float], ...]
    evaluated: Evaluated | None
    figures: tuple[Figure, ...]
    diagram: str

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that were given or have a default, by name."""
        return {name: value for name, value in asdict(self.config.settings).items() if value is not None}

    @property
    def best(self) -> Mapping[str, float] | None:
        """The epoch with the lowest validation loss; None where no epoch was finished."""
        return min(self.history, key=lambda row: row["val_loss"], default=None)


def read_facts(folder: Path, *, name: str, of: int) -> RunFacts:
    """Read a run for a page about ``of`` runs.

    Raises ConfigError if the folder holds no run, IntegrityError if a file of it is damaged.
    """
    config, metrics = read_config(folder), read_metrics(folder)
    try:
        evaluated = None if metrics is None else _evaluated(folder, config, metrics, most=max(4, MOST // of))
        files = tuple(metrics.get("files", ())) if metrics else ()
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise IntegrityError.of(folder / METRICS, "metrics-damaged", repr(error), EVALUATE_AGAIN) from error
    return RunFacts(
        name=name,
        folder=folder,
        config=config,
        history=tuple(read_history(folder)),
        evaluated=evaluated,
        figures=tuple(_figures(folder, files)),
        diagram=_diagram(folder),
    )


def _evaluated(folder: Path, config: Config, metrics: Mapping[str, Any], *, most: int) -> Evaluated:
    scores, stacks = metrics["scores"], metrics.get("stacks")
    return Evaluated(
        dataset=metrics.get("dataset", config.data.dataset),
        split=metrics["split"] if "split" in metrics else metrics["part"],
        samples=scores["samples"],
        groups=scores.get("groups"),
        whole={name: _cell(scores, name, scores.get(name)) for name in WHOLE},
        classes=tuple(_class_rows(scores, config.data.classes)),
        mean=tuple(_cell(scores, f"macro {kind}", scores.get("macro", {}).get(kind)) for kind in OF_CLASSES),
        confusion=tuple(tuple(row) for row in scores["confusion"]),
        levels=tuple(_level_rows(metrics.get("levels", ()))),
        stacks=(stacks["mean"], stacks["deviation"]) if stacks else None,
        outdated=is_outdated(folder, metrics),
        mistakes=worst_mistakes(folder, config.data, metrics, most=most),
    )


def _cell(scores: Mapping[str, Any], name: str, value: float | None) -> Cell:
    return Cell(value, *scores.get("intervals", {}).get(name, (None, None)))


def _class_rows(scores: Mapping[str, Any], classes: Sequence[str]) -> Iterable[ClassRow]:
    for name, counts in zip(classes, scores["confusion"], strict=True):
        cells = (_cell(scores, f"{kind} {name}", scores.get(kind, {}).get(name)) for kind in OF_CLASSES)
        yield ClassRow(name, sum(counts), tuple(cells))


def _level_rows(levels: Iterable[Mapping[str, Any]]) -> Iterable[LevelRow]:
    for level in levels:
        scores = level["scores"]
        cells = [_cell(scores, name, scores[name]) for name in ("accuracy", "kappa")]
        mean = _cell(scores, "macro f1", scores["macro"]["f1"])
        yield LevelRow(f"{level['unit']}, {LEVELS[level['rule']]}", scores["samples"], (*cells, mean))


# --- pictures -----------------------------------------------------------------------------------


def _figures(folder: Path, files: Sequence[str]) -> Iterable[Figure]:
    """The figures that an evaluation named and that are still there, curves first."""
    timelines = sorted(
        Path(name).stem for name in files if name.startswith(TIMELINE) and name.endswith("svg")
    )
    for name in (*FIGURES, *timelines):
        path = folder / f"{name}.svg"
        if path.name in files and path.is_file():
            text = FIGURES.get(name, "True classes of one stack over time, and what the run took them for")
            yield Figure(name, text, _uri(path))


def _uri(path: Path) -> str:
    if path.stat().st_size > LARGE and path.with_suffix(".png").is_file():
        path = path.with_suffix(".png")
    kind = "svg+xml" if path.suffix == ".svg" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _diagram(folder: Path) -> str:
    path = folder / NETWORK
    return _uri(path) if path.is_file() else ""
