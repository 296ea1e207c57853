"""Predictions and the forms they are written in: CSV table, JSON, ImageCLEF submission.

Probabilities are in the order of the run's classes. Importing this module needs no TensorFlow.
"""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, Problem, table_cell
from pipeline.store import write_durably

TIMELINES = "--timelines"


@dataclass(frozen=True)
class Prediction:
    """The probabilities of a sample; ``source`` is its file, ``label`` an index into the classes.

    ``stack`` is the scan or clip that a picture is of, "" for samples that are no pictures, and
    ``position`` its place there, from 0 on; of a window, that of its last picture. ``facts`` is the JSON text
    of what the reader found; ``truth`` the true label, None where it is not known.
    """

    id: str
    source: str
    probabilities: tuple[float, ...]
    stack: str = ""
    position: int = 0
    facts: str = "{}"
    truth: int | None = None

    @property
    def label(self) -> int:
        """The class with the highest probability; the first of them if there are several."""
        return self.probabilities.index(max(self.probabilities))


class Refused(Protocol):
    """A file that could not be predicted, and why."""

    @property
    def source(self) -> str: ...
    @property
    def problem(self) -> Problem: ...


def table(predictions: Iterable[Prediction], classes: Sequence[str]) -> str:
    """CSV: id, predicted class, the probability of each class. Names that look like formulas get a `'`."""
    # `table_cell` puts a quote before what a spreadsheet would run as a formula.
    rows = [["id", "predicted", *map(table_cell, classes)]]
    for item in predictions:
        numbers = [f"{value:.6g}" for value in item.probabilities]
        rows.append([table_cell(item.id), table_cell(classes[item.label]), *numbers])
    # Before Python 3.13, csv quotes a CR only where lines end with one.
    has_return = any("\r" in cell for row in rows for cell in row)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if has_return else csv.QUOTE_MINIMAL)
    writer.writerows(rows)
    return text.getvalue().removesuffix("\n")


def document(
    runs: Sequence[Path], classes: Sequence[str], found: Iterable[Prediction], bad: Iterable[Refused]
) -> dict[str, Any]:
    """The JSON document of ``viptt predict``."""
    return {
        "runs": [str(folder) for folder in runs],
        "predictions": [_as_json(item, classes) for item in found],
        "quarantined": [{"source": item.source, **asdict(item.problem)} for item in bad],
    }


def _as_json(prediction: Prediction, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "id": prediction.id,
        "source": prediction.source,
        "predicted": classes[prediction.label],
        "probabilities": dict(zip(classes, prediction.probabilities, strict=True)),
    }


# --- the submission -----------------------------------------------------------------------------


def check_submission(sources: Sequence[str]) -> None:
    """Raise ConfigError unless file names alone, without folders and quotes, tell the sources apart."""
    names = [PurePosixPath(source).name for source in sources]
    # ImageCLEF lists files by name; two of the same name could not be told apart.
    twice = [name for name, count in Counter(names).items() if count > 1]
    unwritable = [name for name in names if "," in name or not name.isprintable()]
    if twice or unwritable:
        reason = (
            f"files share the name {twice[0]!r}"
            if twice
            else f"{unwritable[0]!r} has a comma or a line break"
        )
        raise ConfigError.of("--submission", "bad-name", reason, "rename it, or predict without --submission")


def submission(predictions: Iterable[Prediction]) -> str:
    """What ImageCLEF takes: file name, comma, class from 1, a line each, no header."""
    lines = [f"{PurePosixPath(item.source).name},{item.label + 1}\n" for item in predictions]
    return "".join(lines)


# --- over time ----------------------------------------------------------------------------------


def draw_timelines(
    folder: Path, found: Iterable[Prediction], classes: Sequence[str], runs: Sequence[Path]
) -> list[Path]:
    """Draw for each stack what its pictures were taken for, as ``STACK.png`` and ``STACK.svg``.

    Raises ResourceError if the folder cannot be written.
    """
    from model.plots import file_name, writing_pictures
    from model.timeline import draw_predicted

    names = ", ".join(run.resolve().name for run in runs)
    judge = names if len(runs) == 1 else f"the mean of {names}"
    stacks: defaultdict[str, list[Prediction]] = defaultdict(list)
    for prediction in found:
        stacks[prediction.stack or prediction.id].append(prediction)
    drawn: list[Path] = []
    with writing_pictures(folder, TIMELINES):
        for stack, inside in stacks.items():
            inside.sort(key=lambda prediction: prediction.position)
            labels = np.array([prediction.label for prediction in inside])
            title = f"{stack}: classes predicted by {judge}"
            drawn += draw_predicted(folder / file_name(stack), labels, _positions(inside), classes, title)
    return drawn


def _positions(inside: Sequence[Prediction]) -> NDArray[np.int64]:
    """The positions of the pictures of a stack, in their order."""
    positions = np.array([prediction.position for prediction in inside])
    # Slices that are given as single files do not know their places: they count as they come.
    return positions if len(np.unique(positions)) == len(inside) else np.arange(len(inside))


# --- where they are written ---------------------------------------------------------------------


def check_targets(*files: Path | None, **pictures: Path | None) -> None:
    """Refuse before the work what could not be written after it; make the folders of pictures.

    ``pictures`` are the folders by the names of their options. Raises ConfigError if the folder of a file is
    not there, or one of pictures cannot be made.
    """
    for path in files:
        if path and not path.absolute().parent.is_dir():
            raise ConfigError.of(
                path, "no-folder", "its folder does not exist", "make it, or correct the path"
            )
    for option, folder in pictures.items():
        try:
            if folder:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            remedy = f"give another `--{option} DIR`"
            raise ConfigError.of(folder, "no-folder", str(error.strerror), remedy) from error


def write(
    runs: Sequence[Path],
    classes: Sequence[str],
    found: Sequence[Prediction],
    *,
    out: Path | None,
    submission_file: Path | None,
    timelines: Path | None,
) -> None:
    """Write the table, the submission and the pictures over time, each if there is a path for it."""
    if out:
        write_durably(out, f"{table(found, classes)}\n".encode())
    if submission_file:
        write_durably(submission_file, submission(found).encode())
    if timelines:
        draw_timelines(timelines, found, classes, runs)
