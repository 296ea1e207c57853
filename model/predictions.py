"""Predictions and the forms they are written in: CSV table, JSON, ImageCLEF submission.

Probabilities are in the order of the run's classes. Importing this module needs no TensorFlow.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from pipeline.errors import ConfigError, Problem, table_cell
from pipeline.store import write_durably


@dataclass(frozen=True)
class Prediction:
    """The probabilities of a sample; ``source`` is its file, ``label`` an index into the classes.

    ``stack`` is the scan or clip that a picture is of, "" for samples that are no pictures. ``facts`` is the
    JSON text of what the reader found; ``truth`` the true label, None where it is not known.
    """

    id: str
    source: str
    probabilities: tuple[float, ...]
    stack: str = ""
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


# --- where they are written ---------------------------------------------------------------------


def check_targets(*files: Path | None, pictures: Path | None) -> None:
    """Refuse before the work what could not be written after it; make the folder of the pictures.

    Raises ConfigError if the folder of a file is not there, or that of the pictures cannot be made.
    """
    for path in files:
        if path and not path.absolute().parent.is_dir():
            raise ConfigError.of(
                path, "no-folder", "its folder does not exist", "make it, or correct the path"
            )
    try:
        if pictures:
            pictures.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError.of(
            pictures, "no-folder", str(error.strerror), "give another `--explain DIR`"
        ) from error


def write(
    found: Sequence[Prediction], classes: Sequence[str], *, out: Path | None, submission_file: Path | None
) -> None:
    """Write the table and the submission, each if there is a path for it."""
    if out:
        write_durably(out, f"{table(found, classes)}\n".encode())
    if submission_file:
        write_durably(submission_file, submission(found).encode())
