"""Is it done already? The one place that decides whether a volume made earlier can be used again.

A volume is decided by the bytes of its source, by the recipe, and by the converter: a number that is
raised whenever the bytes of a volume may change for the same source and recipe.
"""

from dataclasses import dataclass
from pathlib import Path

from pipeline.build.staging import Entry
from pipeline.build.versions import converter_of
from pipeline.store import is_intact

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


def reusable(earlier: Earlier, key: Key, volume_bytes: int) -> bool:
    """Whether an earlier result has this key, and its volume is intact, byte for byte."""
    entry = earlier.entry
    if (entry.source_sha256, entry.recipe_sha256) != (key.source_sha256, key.recipe_sha256):
        return False
    if entry.problem is not None:
        return entry.problem.code not in RETRIED
    if converter_of(entry.made_with) != key.converter or earlier.chunk is None:
        return False
    return is_intact(earlier.chunk, volume_bytes, entry.sha256)
