"""The list of sources that could not be converted, each with a reason, as a CSV file."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import Problem
from pipeline.escape import cell_text, printable, table_cell
from pipeline.files import write_durably

COLUMNS = ("source", "code", "reason", "remedy", "source_sha256")


@dataclass(frozen=True)
class Quarantined:
    """A source that has no row, and why. ``source_sha256`` is "" where it is not known."""

    source: str
    problem: Problem
    source_sha256: str = ""


def write_quarantine(path: Path, quarantined: Sequence[Quarantined]) -> None:
    """Write the list, sorted by source; without entries there is no file."""
    if not quarantined:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for item in sorted(quarantined, key=lambda item: item.source):
        problem = item.problem
        # A source's name is printable, or it would have been refused; a library's message may be anything.
        said = (printable(problem.reason), printable(problem.remedy))
        cells = (item.source, problem.code, *said, item.source_sha256)
        writer.writerow([table_cell(cell) for cell in cells])
    content = text.getvalue().encode("utf-8", "surrogateescape")
    # An unchanged list keeps its date, so that a build that does nothing changes no file.
    if not path.exists() or path.read_bytes() != content:
        write_durably(path, content)


def read_quarantine(path: Path) -> tuple[Quarantined, ...]:
    """The entries of a list; nothing where there is no file or it is not one of ours."""
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except (OSError, csv.Error):
        return ()
    # The list only saves work: whatever cannot be read is converted again.
    if not rows or tuple(rows[0]) != COLUMNS:
        return ()
    return tuple(_entry(cells) for cells in rows[1:] if len(cells) == len(COLUMNS))


def _entry(cells: list[str]) -> Quarantined:
    source, code, reason, remedy, sha256 = (cell_text(cell) for cell in cells)
    return Quarantined(source, Problem(source, code, reason, remedy), sha256)
