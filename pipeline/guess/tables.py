"""Which table in or beside a folder may hold the labels of its sources, and in which columns."""

import csv
import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.escape import printable
from pipeline.guess.inventory import Inventory
from pipeline.guess.labels import MANY_CLASSES, Guess, natural

MAX_TABLES = 50
MAX_BYTES = 64_000_000
MAX_EXCLUDED = 50
LABEL_NAMES = re.compile(
    r"label|class|type|target|diagnos|finding|categor|severity|grade|outcome|patholog|disease", re.IGNORECASE
)
GROUP_NAMES = re.compile(r"patient|subject|person|group|scene|individual|^pid$", re.IGNORECASE)
OTHER_TABLES = (".tsv", ".xlsx", ".xls", ".ods")


@dataclass(frozen=True)
class _Table:
    """A table with the column that names sources; ``named`` are those sources."""

    path: Path
    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    ids: int
    named: frozenset[str]


def by_table(inventory: Inventory) -> Iterator[Guess]:
    """Guesses from the tables that name at least half of the sources, the most complete first."""
    tables = [table for path in _paths(inventory) if (table := _read(path, inventory))]
    for table in sorted(tables, key=lambda table: (-len(table.named), len(table.lines), str(table.path))):
        if 2 * len(table.named) >= len(inventory.sources):
            yield from _guesses(table, inventory)


def unused_tables(inventory: Inventory) -> list[str]:
    """Tables of other kinds, which have to be saved as CSV first."""
    return [name for name in inventory.others if name.lower().endswith(OTHER_TABLES)]


def _paths(inventory: Inventory) -> list[Path]:
    inside = [inventory.folder / name for name in inventory.others if name.lower().endswith(".csv")]
    beside = sorted(inventory.folder.absolute().parent.glob("*.[cC][sS][vV]"))
    return [path for path in (*inside, *beside)[:MAX_TABLES] if path.is_file()]


def _read(path: Path, inventory: Inventory) -> _Table | None:
    """The table with its best column of names; nothing where it is none that `labels` could name."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        text = path.read_text("utf-8-sig")
        rows = [tuple(row) for row in csv.reader(text.splitlines(), strict=True) if row]
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    if len(rows) < 2 or len(set(rows[0])) != len(rows[0]) or {len(row) for row in rows} != {len(rows[0])}:
        return None
    header, lines = rows[0], tuple(rows[1:])
    by_name = {name: source for source in inventory.sources for name in inventory.names(source)}
    named = [
        frozenset(by_name[line[column]] for line in lines if line[column] in by_name)
        for column in range(len(header))
    ]
    best = max(range(len(header)), key=lambda column: len(named[column]))
    return _Table(path, header, lines, best, named[best])


def _guesses(table: _Table, inventory: Inventory) -> Iterator[Guess]:
    """One guess for each column that may hold the classes, the best first."""
    group = next((name for name in table.header if GROUP_NAMES.search(name)), None)
    columns = [
        (not LABEL_NAMES.search(name), len(values), name)
        for position, name in enumerate(table.header)
        if position != table.ids
        and name != group
        and _may_be_classes(name, values := {line[position] for line in table.lines} - {""}, table)
    ]
    for _, _, name in sorted(columns):
        yield _guess(table, inventory, name, group)


def _may_be_classes(name: str, values: set[str], table: _Table) -> bool:
    # A column that is called like a label may have as many values as a small table has lines.
    most = len(table.lines) - 1 if LABEL_NAMES.search(name) else len(table.lines) // 2
    return 2 <= len(values) <= min(MANY_CLASSES, most) and all(printable(text) == text for text in values)


def _guess(table: _Table, inventory: Inventory, label: str, group: str | None) -> Guess:
    column = table.header.index(label)
    values = {line[column] for line in table.lines}
    labels = {"file": str(table.path), "id": table.header[table.ids], "label": label}
    labels |= {"group": group} if group else {}
    labels |= {"others": "leave-out"} if "" in values else {}
    without = sorted(set(inventory.sources) - table.named)
    named = f"{len(table.named)} of {len(inventory.sources)} sources"
    reason = f"{table.path.name} names {named} in its column {labels['id']}; {label} has few values"
    why = f"the column {group}" if group else Guess.group_reason
    exclude = tuple(map(glob.escape, without)) if len(without) <= MAX_EXCLUDED else ()
    return Guess(labels, _classes(values), reason, why, exclude)


def _classes(values: Sequence[str] | set[str]) -> tuple[str, ...]:
    return tuple(sorted((value for value in values if value), key=natural))
