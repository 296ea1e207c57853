"""A CSV table of labels, read strictly: every fault has its line."""

import csv
import io
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.catalog.schema import TableLabels
from pipeline.errors import Code, ConfigError, Problem
from pipeline.nearest import nearest

MAX_TABLE_BYTES = 64_000_000


FIX_TABLE = "correct the table"


@dataclass(frozen=True)
class TableLine:
    """One line of a label table."""

    where: str
    id: str
    label: str
    group: str
    sha256: str

    @property
    def number(self) -> str:
        """Its number in the file."""
        return self.where.rpartition(":")[2]


def unique_lines(lines: list[TableLine]) -> tuple[list[TableLine], list[Problem]]:
    """Drop lines that repeat an earlier one, with a warning each.

    Raises ConfigError for lines that contradict an earlier one.
    """
    first: dict[str, TableLine] = {}
    problems, warnings = [], []
    for line in lines:
        earlier = first.setdefault(line.id, line)
        if earlier is line:
            continue
        if replace(line, where=earlier.where) == earlier:
            warnings.append(
                Problem(line.where, Code.DUPLICATE_ID, f"`{line.id}` is listed twice", "remove one line")
            )
        else:
            reason = f"`{line.id}` has another label, group or hash in {earlier.where}"
            problems.append(Problem(line.where, Code.CONTRADICTION, reason, "keep the right line"))
    if problems:
        raise ConfigError(*problems)
    return list(first.values()), warnings


def read_table(labels: TableLabels) -> list[TableLine]:
    """The lines of a label table. Raises ConfigError with file and line."""
    text = _table_text(labels.file)
    rows = list(_csv_rows(labels.file, text))
    wanted = [labels.id, labels.label, labels.group, labels.sha256]
    _, header = rows[0] if rows else (1, [])
    _check_header(labels.file, header, [name for name in wanted if name])
    if len(rows) == 1:
        raise ConfigError.of(labels.file, Code.EMPTY_TABLE, "it has a header but no lines", FIX_TABLE)
    # A missing comma shifts all cells after it: such a line is never guessed at.
    ragged = [str(number) for number, cells in rows if len(cells) != len(header)]
    if ragged:
        reason = f"line {', '.join(ragged)}: not {len(header)} columns as in the header"
        raise ConfigError.of(labels.file, Code.RAGGED_TABLE, reason, FIX_TABLE)
    columns = [header.index(name) if name else len(header) for name in wanted]
    table = [(number, [*cells, ""]) for number, cells in rows[1:]]
    return [
        TableLine(f"{labels.file}:{number}", *(cells[column] for column in columns))
        for number, cells in table
    ]


def _table_text(file: Path) -> str:
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError.of(file, Code.NO_TABLE, "it is not a file", "correct `labels.file`")
        data = file.read_bytes() if status.st_size <= MAX_TABLE_BYTES else None
    except OSError as error:
        raise ConfigError.of(file, Code.NO_TABLE, str(error.strerror), "correct `labels.file`") from None
    if data is None:
        raise ConfigError.of(
            file, Code.TOO_LARGE, f"over {MAX_TABLE_BYTES} bytes", "give a table of labels only"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = _where(file, data, error.start)
        raise ConfigError.of(
            where, Code.NOT_UTF_8, f"byte {error.start} is not UTF-8", "save it as UTF-8"
        ) from None
    if "\0" in text:
        where = _where(file, data, data.index(0))
        raise ConfigError.of(where, Code.NUL_BYTE, "it holds a NUL byte", "save it as plain text, UTF-8")
    # The csv module would take such a file for one line.
    if "\r" in text.replace("\r\n", ""):
        raise ConfigError.of(
            file, Code.LINE_ENDS, "its lines end with CR alone", "save it with LF or CRLF line ends"
        )
    return text


def _where(file: Path, data: bytes, offset: int) -> str:
    newlines = data[:offset].count(b"\n")
    return f"{file}:{newlines + 1}"


def _csv_rows(file: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with the number of its first line."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            remedy = "balance the quotes; give a table of labels only"
            raise ConfigError.of(f"{file}:{number}", Code.NOT_CSV, str(error), remedy) from None
        if cells is None:
            return
        if cells:
            yield number, cells


def _check_header(file: Path, header: list[str], wanted: list[str]) -> None:
    if not header:
        raise ConfigError.of(file, Code.EMPTY_TABLE, "the file is empty", FIX_TABLE)
    # csv.DictReader would silently keep the last one.
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise ConfigError.of(f"{file}:1", Code.DUPLICATE_COLUMN, f"`{twice[0]}` is given twice", FIX_TABLE)
    missing = [name for name in wanted if name not in header]
    if missing:
        found = f"{len(header)} column{'s' * (len(header) > 1)}: {', '.join(map(repr, header))}"
        reason = f"no column {', '.join(map(repr, missing))} (found {found})"
        close = [repr(name) for name in (nearest(name, header) for name in missing) if name]
        meant = f"did you mean {', '.join(close)}? Else s" if close else "s"
        remedy = f"{meant}eparate columns by commas, or correct `labels`"
        raise ConfigError.of(f"{file}:1", Code.NO_COLUMN, reason, remedy)
