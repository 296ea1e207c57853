"""Volumes to features: what a network makes of every volume of a store, kept as a store of its own.

The same promises as of a build, by the same code: one durable chunk and one line of the journal per
sample, ``zarr.json`` last, one process at a time. The network comes as a function over arrays; nothing
here knows its framework. It gets one volume at a time: in a batch, the last bits of one sample's features may
depend on how many others there are, and then on where an earlier run was stopped.

Features are made again where the volume's bytes or the recipe have changed, or where their own bytes
are not those that were hashed.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.build.reuse import Earlier, Key, published_result, reusable, unfinished_result
from pipeline.build.staging import Entry, Staging, open_staging, remove, write_entry
from pipeline.build.versions import FIRST
from pipeline.build.versions import created_with as versions_of
from pipeline.errors import ConfigError, IntegrityError, Problem
from pipeline.files import canonical_json
from pipeline.store import FEATURES, Chunk, Header, Json, Row, Store, features_of, write_chunk
from pipeline.store.publish import publish_changes, published

Compute = Callable[[NDArray[Any]], NDArray[Any]]
Report = Callable[[int], None]


@dataclass(frozen=True)
class Derived:
    """What ``derive`` did; ``computed`` and ``reused`` count samples."""

    path: Path
    digest: str
    samples: int
    computed: int
    reused: int
    published: bool
    seconds: float
    warnings: tuple[Problem, ...]


@dataclass(frozen=True)
class _Made:
    """The features of one volume: their SHA-256, what made them, and the chunk file that holds them."""

    sha256: str
    made_with: str
    chunk: Chunk


def derive(
    volumes: Store,
    compute: Compute,
    recipe: Json,
    *,
    created_with: Json,
    report: Report = lambda nbytes: None,
) -> Derived:
    """Make the features of a store, or find that they are there already.

    ``compute`` takes a volume as it is stored, (depth, height, width), and gives an array of the
    ``shape`` in ``recipe``, which also holds the ``dtype`` to store, and whatever else decides the
    bytes. ``report`` gets the bytes of volumes read, once per sample.

    Raises IntegrityError if a volume is damaged or its features are not finite, BusyError,
    ResourceError, ConfigError. Then published features, if any, are as they were, and the work done
    so far is kept for the next time.
    """
    start = time.perf_counter()
    target = features_of(volumes.path)
    whole = {"type": FEATURES, **recipe, "store_digest": volumes.digest}
    header = Header(volumes.header.dataset, whole, volumes.header.classes, created_with)
    with open_staging(target) as staging:
        previous, warnings = published(target)
        _check_kind(target, previous)
        made = _made_before(volumes, header, staging, previous)
        reused = len(made)
        for _ in made:
            report(0)
        for index in range(len(volumes.rows)):
            if index not in made:
                made[index] = _make(volumes, header, staging, compute, index)
                report(volumes.header.volume_bytes)
        rows = [_row(row, made[index]) for index, row in enumerate(volumes.rows)]
        chunks = [made[index].chunk for index in range(len(rows))]
        header = replace(header, created_with=versions_of(row.made_with for row in rows))
        digest, changed = publish_changes(staging.root, target, previous, header, rows, chunks)
        remove(staging)
    seconds = time.perf_counter() - start
    return Derived(target, digest, len(rows), len(rows) - reused, reused, changed, seconds, warnings)


def derived_text(derived: Derived) -> str:
    """What was done, in a line."""
    if not derived.published:
        return f"nothing to do, features of {derived.samples} samples are up to date"
    rate = f", {derived.seconds / derived.computed:.2f} s each" if derived.computed else ""
    counts = f"{derived.computed} computed{rate}, {derived.reused} kept from before"
    return f"features of {derived.samples} samples in {derived.path}; {counts}"


def _check_kind(target: Path, previous: Store | None) -> None:
    if previous is not None and previous.header.array != FEATURES:
        reason = "a store of volumes lies where the features would go, and viptt does not delete it"
        raise ConfigError.of(target, "not-ours", reason, "move it away")


def _row(volume: Row, made: _Made) -> Row:
    return replace(
        volume,
        source=volume.id,
        source_sha256=volume.sha256,
        sha256=made.sha256,
        facts="{}",
        made_with=made.made_with,
        statistics="{}",
    )


# --- what is there ------------------------------------------------------------------------------


def _made_before(
    volumes: Store, header: Header, staging: Staging, previous: Store | None
) -> dict[int, _Made]:
    """Row to the features that an earlier run made of this very volume by this recipe, if intact."""
    wanted, before, made = _fingerprint(header.recipe), _published(previous), {}
    for index, row in enumerate(volumes.rows):
        key = Key(row.sha256, wanted, FIRST)
        for earlier in filter(
            None, (before.get(row.id), unfinished_result(staging, row.id, header.chunk_bytes))
        ):
            if earlier.chunks and reusable(earlier, key, header.volume_bytes):
                made[index] = _Made(earlier.entry.sha256, earlier.entry.made_with, earlier.chunks[0])
                break
    return made


def _published(previous: Store | None) -> Mapping[str, Earlier]:
    if previous is None:
        return {}
    recipe = _fingerprint(previous.header.recipe)
    return {row.id: published_result(previous, index, recipe) for index, row in enumerate(previous.rows)}


def _fingerprint(recipe: Json) -> str:
    """Of all that decides the features of one volume: a sample more or less changes none of the others."""
    bare = {name: value for name, value in recipe.items() if name != "store_digest"}
    return hashlib.sha256(canonical_json(bare)).hexdigest()


# --- what is not --------------------------------------------------------------------------------


def _make(volumes: Store, header: Header, staging: Staging, compute: Compute, index: int) -> _Made:
    """Compute the features of a row; write the chunk, then its line of the journal."""
    row = volumes.rows[index]
    values = compute(volumes.read(index))
    _check(values, header, where=f"{volumes.path} (sample {row.id})")
    chunk = staging.chunk(row.id)
    sha256 = write_chunk(chunk, values.astype(header.dtype, copy=False))
    made_with = canonical_json(header.created_with).decode()
    entry = Entry(row.id, row.sha256, _fingerprint(header.recipe), sha256, "{}", made_with=made_with)
    write_entry(staging.journal(row.id), entry)
    return _Made(sha256, made_with, Chunk(chunk))


def _check(values: NDArray[Any], header: Header, *, where: str) -> None:
    if values.shape != header.shape:
        raise ValueError(f"features of shape {values.shape}, the recipe says {header.shape}")
    if not np.isfinite(values).all():
        reason = "the network gives NaN or infinity for it"
        raise IntegrityError.of(where, "non-finite", reason, "give other `--weights`")
