"""Is it done already? The one place that decides whether a volume made earlier can be used again.

A volume is decided by the bytes of its source, by the recipe, and by the converter: a number that is
raised whenever the bytes of a volume may change for the same source and recipe.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from pipeline.build.staging import Entry, PictureEntry, Staging, read_entry
from pipeline.build.versions import converter_of
from pipeline.files import canonical_json
from pipeline.sources import Quarantined
from pipeline.store import Chunk, Row, Store, is_intact

STACK_SHA256, PICTURES = "stack_sha256", "pictures"  # facts of a picture: hash and size of its stack

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
    """An earlier result for a source, and where the volumes lie that it tells of."""

    entry: Entry
    chunks: tuple[Chunk, ...]


def published_results(
    store: Store, recipe_sha256: str, quarantined: Iterable[Quarantined]
) -> Mapping[str, list[Earlier]]:
    """What a published store and its quarantine say of each source; of pictures, of each stack by its id."""
    earlier: defaultdict[str, list[Earlier]] = defaultdict(list)
    quarantined = list(quarantined)
    if store.header.pictures:
        for stack, entry, chunks in _stacks(store, recipe_sha256, quarantined):
            earlier[stack].append(Earlier(entry, chunks))
    else:
        for index, row in enumerate(store.rows):
            earlier[row.source].append(published_result(store, index, recipe_sha256))
    for item in quarantined:
        entry = Entry(item.source, item.source_sha256, recipe_sha256, "", "{}", item.problem)
        earlier[item.source].append(Earlier(entry, ()))
    return earlier


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
    return Earlier(entry, (store.chunk_at(index),))


def _stacks(
    store: Store, recipe_sha256: str, quarantined: Iterable[Quarantined]
) -> Iterator[tuple[str, Entry, tuple[Chunk, ...]]]:
    """The id of each stack, its pictures as an entry, good and bad ones, and where their volumes lie."""
    bad: defaultdict[str, list[Quarantined]] = defaultdict(list)
    for item in quarantined:
        bad[item.source_sha256].append(item)
    for stack, found in groupby(enumerate(store.rows), key=lambda item: item[1].stack):
        indexed = list(found)
        first = indexed[0][1]
        facts = json.loads(first.facts)
        pictures = [
            PictureEntry(name_of(row), row.position, row.source, row.source_sha256, row.sha256, row.selected)
            for _, row in indexed
        ]
        pictures += [
            PictureEntry("", -1, item.source, "", problem=item.problem) for item in bad[facts[STACK_SHA256]]
        ]
        entry = Entry(
            source=stack,
            source_sha256=facts[STACK_SHA256],
            recipe_sha256=recipe_sha256,
            sha256="",
            facts=first.facts,
            made_with=first.made_with,
            statistics=first.statistics,
            # A list of bad pictures that is gone, or not whole, makes the entry worthless.
            pictures=tuple(pictures) if len(pictures) == facts[PICTURES] else (),
        )
        yield stack, entry, tuple(store.chunk_at(index) for index, _ in indexed)


def name_of(row: Row) -> str:
    """What a picture is called in its stack: its number, or the name of a listed slice."""
    return row.id.removeprefix(f"{row.stack}/")


def unfinished_result(staging: Staging, source: str, chunk_bytes: int) -> Earlier | None:
    """What a build that was stopped has made of a source."""
    entry = read_entry(staging.journal(source))
    if entry is None:
        return None
    return Earlier(entry, staged_chunks(staging.chunk(source), entry, chunk_bytes))


def staged_chunks(file: Path, entry: Entry, chunk_bytes: int) -> tuple[Chunk, ...]:
    """Where the volumes of a source lie in its file of the staging folder."""
    alone = not entry.pictures
    return tuple(Chunk(file, place * chunk_bytes, alone) for place in range(len(entry.hashes)))


def difference(entry: Entry, key: Key) -> str:
    """Why an earlier result does not have this key, in two words; "" if it has."""
    if entry.recipe_sha256 != key.recipe_sha256:
        return "another recipe"
    if entry.source_sha256 != key.source_sha256:
        return "other content"
    problems = [entry.problem, *(picture.problem for picture in entry.pictures)]
    if any(problem is not None and problem.code in RETRIED for problem in problems):
        return "another try"
    if entry.problem is not None:
        return ""
    return "" if converter_of(entry.made_with) == key.converter else "another converter"


def reusable(earlier: Earlier, key: Key, volume_bytes: int) -> bool:
    """Whether an earlier result has this key, and its volumes are intact, byte for byte."""
    entry = earlier.entry
    if difference(entry, key):
        return False
    if entry.problem is not None:
        return True
    if len(earlier.chunks) != len(entry.hashes) or not entry.hashes:
        return False
    found = zip(earlier.chunks, entry.hashes, strict=True)
    return all(is_intact(chunk, volume_bytes, sha256) for chunk, sha256 in found)
