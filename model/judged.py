"""The predictions of an evaluation as ``predictions.csv``: a row per sample, in the order of the split.

Columns: id, label (the true class), predicted, the probability of each class, group ("" where there is
none). Names that a spreadsheet would take for a formula get a `'`. Needs no TensorFlow.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import IntegrityError, inert

FIRST, GROUP = ("id", "label", "predicted"), "group"


@dataclass(frozen=True)
class Judged:
    """Samples with true and predicted class, int64 ``(n,)`` each, as ``read_table`` gives them."""

    ids: tuple[str, ...]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    groups: tuple[str, ...]

    def in_order_of_ids(self) -> "Judged":
        """The same samples, sorted by id, so that two evaluations can be laid side by side."""
        order = sorted(range(len(self.ids)), key=self.ids.__getitem__)
        ids, groups = (tuple(column[index] for index in order) for column in (self.ids, self.groups))
        return Judged(ids, self.truth[order], self.predicted[order], groups)


def table(
    ids: Sequence[str],
    labels: Sequence[int],
    probabilities: NDArray[np.floating],
    groups: Sequence[str],
    classes: Sequence[str],
) -> bytes:
    """The table as CSV; ``probabilities`` is (n, classes), ``labels`` are indices into the classes."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    # The group comes last: scripts that take the classes by position still find them.
    writer.writerow([*FIRST, *map(inert, classes), GROUP])
    for sample, label, row, group in zip(ids, labels, probabilities, groups, strict=True):
        names = (sample, classes[label], classes[int(row.argmax())])
        writer.writerow([*map(inert, names), *(f"{value:.6g}" for value in row), inert(group)])
    return text.getvalue().encode()


def read_table(path: Path, classes: Sequence[str]) -> Judged:
    """Read a table again, also one of viptt 0.2.0, which has no groups.

    Raises IntegrityError if the file is missing or is not such a table.
    """
    index_of = {inert(name): index for index, name in enumerate(classes)}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            head, *rows = csv.reader(file)
        if head[: len(FIRST)] != list(FIRST):
            raise ValueError(f"its columns are {', '.join(head[:3])}")
        truth, predicted = (np.array([index_of[row[column]] for row in rows], np.int64) for column in (1, 2))
        grouped = len(head) == len(FIRST) + len(classes) + 1
        groups = tuple(row[-1] if grouped else "" for row in rows)
        return Judged(tuple(row[0] for row in rows), truth, predicted, groups)
    except (OSError, ValueError, KeyError, IndexError, csv.Error) as error:
        reason = f"it cannot be read: {error!r}"
        raise IntegrityError.of(path, "metrics-damaged", reason, "run `viptt evaluate` again") from error
