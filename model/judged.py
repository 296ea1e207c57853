"""The predictions of an evaluation as ``predictions.csv``: a row per sample, in the order of the split.

Columns: id, label (the true class), predicted, the probability of each class, group ("" where there is
none), and for pictures stack and position. Names that a spreadsheet would take for a formula get a `'`.
Needs no TensorFlow.
"""

import csv
import io
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import IntegrityError, cell_text, table_cell

FIRST, GROUP = ("id", "label", "predicted"), "group"
PLACE = ("stack", "position")


Place = tuple[str, int]  # stack, position


@dataclass(frozen=True)
class Judged:
    """Samples with true and predicted class, int64 ``(n,)`` each, as ``read_table`` gives them.

    ``places`` are the stack and the position of each picture; there are none where samples are no pictures.
    """

    ids: tuple[str, ...]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    groups: tuple[str, ...]
    places: tuple[Place, ...] = ()

    @property
    def stacks(self) -> tuple[str, ...]:
        """The stack of each picture."""
        return tuple(stack for stack, _ in self.places)

    def in_order_of_ids(self) -> "Judged":
        """The same samples, sorted by id, so that two evaluations can be laid side by side."""
        return self.taken(sorted(range(len(self.ids)), key=self.ids.__getitem__))

    def only(self, ids: Collection[str]) -> "Judged":
        """The samples that have these ids."""
        return self.taken([index for index, sample in enumerate(self.ids) if sample in ids])

    def taken(self, order: list[int]) -> "Judged":
        """The samples at these positions, in this order."""
        ids, groups = (tuple(column[index] for index in order) for column in (self.ids, self.groups))
        places = tuple(self.places[index] for index in order) if self.places else ()
        return Judged(ids, self.truth[order], self.predicted[order], groups, places)


def table(
    ids: Sequence[str],
    labels: Sequence[int],
    probabilities: NDArray[np.floating],
    groups: Sequence[str],
    classes: Sequence[str],
    *,
    places: Sequence[Place] = (),
) -> bytes:
    """The table as CSV; ``probabilities`` is (n, classes), ``labels`` are indices into the classes."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    # The group comes last: scripts that take the classes by position still find them.
    writer.writerow([*FIRST, *map(table_cell, classes), GROUP, *(PLACE if places else ())])
    for index, (sample, label, row, group) in enumerate(zip(ids, labels, probabilities, groups, strict=True)):
        names = (sample, classes[label], classes[int(row.argmax())])
        place = (table_cell(places[index][0]), places[index][1]) if places else ()
        writer.writerow(
            [*map(table_cell, names), *(f"{value:.6g}" for value in row), table_cell(group), *place]
        )
    return text.getvalue().encode()


@dataclass(frozen=True)
class Mistake:
    """A sample that was taken for another class: the names of both, and the probability of each."""

    id: str
    truth: str
    predicted: str
    probability: float
    of_truth: float


def has_places(path: Path) -> bool:
    """Whether a file is a table of pictures, by its first line."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return tuple(file.readline().rstrip("\r\n").split(",")[-len(PLACE) :]) == PLACE


def read_table(path: Path, classes: Sequence[str]) -> Judged:
    """Read a table again, also one of viptt 0.2.0, which has neither groups nor places.

    Raises IntegrityError if the file is missing or is not such a table.
    """
    index_of = {table_cell(name): index for index, name in enumerate(classes)}
    with _table_errors(path):
        head, rows = _read_rows(path)
        truth, predicted = (np.array([index_of[row[column]] for row in rows], np.int64) for column in (1, 2))
        after = len(FIRST) + len(classes)
        groups = tuple(row[after] if GROUP in head[after:] else "" for row in rows)
        placed = tuple(head[after + 1 :]) == PLACE
        places = tuple((row[after + 1], int(row[after + 2])) for row in rows) if placed else ()
        return Judged(tuple(row[0] for row in rows), truth, predicted, groups, places)


def read_mistakes(path: Path, classes: Sequence[str]) -> list[Mistake]:
    """The samples of a table that were taken for another class, the most certain first; raises as above."""
    index_of = {table_cell(name): index for index, name in enumerate(classes)}
    found = []
    with _table_errors(path):
        for row in _read_rows(path)[1]:
            truth, predicted = index_of[row[1]], index_of[row[2]]
            chances = [float(row[len(FIRST) + label]) for label in (predicted, truth)]
            if truth != predicted:
                found.append(Mistake(cell_text(row[0]), classes[truth], classes[predicted], *chances))
    return sorted(found, key=lambda mistake: (-mistake.probability, mistake.id))


def _read_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    with path.open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    if head[: len(FIRST)] != list(FIRST):
        raise ValueError(f"its columns are {', '.join(head[:3])}")
    return head, rows


@contextmanager
def _table_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, IndexError, csv.Error) as error:
        reason = f"it cannot be read: {error!r}"
        raise IntegrityError.of(path, "metrics-damaged", reason, "run `viptt evaluate` again") from error
