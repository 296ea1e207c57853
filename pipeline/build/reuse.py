"""Is it done already? The one place that decides whether a volume made earlier can be used again.

A volume is decided by the bytes of its source, by the recipe, and by the converter: a number that is
raised whenever the bytes of a volume may change for the same source and recipe.
"""

from dataclasses import dataclass
from pathlib import Path

from pipeline.build.staging import Entry, Staging, read_entry
from pipeline.build.versions import converter_of
from pipeline.files import canonical_json
from pipeline.store import Store, is_intact

# Not a property of the source's bytes, so worth another try when nothing about the source has changed.
RETRIED = frozenset(
    {"hash-mismatch", "unreadable", "changed-during-read", "memory", "crash", "timeout", "duplicate-content"}
)


@dataclass(frozen=True)
class Key:
    """What decides the bytes of a volume."""

    source_sha256: str
    recipe_sha256: str
    converter: int


@dataclass(frozen=True)
class Earlier:
    """An earlier result for a source, and the chunk file that holds its volume, if it has one."""

    entry: Entry
    chunk: Path | None


def published_result(store: Store, index: int, recipe_sha256: str) -> Earlier:
    """What a published store holds of the source of row ``index``."""
    row = store.rows[index]
    entry = Entry(
        source=row.source,
        source_sha256=row.source_sha256,
        recipe_sha256=recipe_sha256,
        sha256=row.sha256,
        facts=row.facts,
        made_with=row.made_with or canonical_json(store.header.created_with).decode(),
        statistics=row.statistics,
    )
    return Earlier(entry, store.chunk(index))


def unfinished_result(staging: Staging, source: str) -> Earlier | None:
    """What a build that was stopped has made of a source."""
    entry = read_entry(staging.journal(source))
    if entry is None:
        return None
    return Earlier(entry, None if entry.problem else staging.chunk(source))


def difference(entry: Entry, key: Key) -> str:
    """Why an earlier result does not have this key, in two words; "" if it has."""
    if entry.recipe_sha256 != key.recipe_sha256:
        return "another recipe"
    if entry.source_sha256 != key.source_sha256:
        return "other content"
    if entry.problem is not None:
        return "another try" if entry.problem.code in RETRIED else ""
    return "" if converter_of(entry.made_with) == key.converter else "another converter"


def reusable(earlier: Earlier, key: Key, volume_bytes: int) -> bool:
    """Whether an earlier result has this key, and its volume is intact, byte for byte."""
    entry = earlier.entry
    if difference(entry, key):
        return False
    if entry.problem is not None:
        return True
    return earlier.chunk is not None and is_intact(earlier.chunk, volume_bytes, entry.sha256)
