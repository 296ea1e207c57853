"""Is a store still what was published? Every byte is compared with the hashes it was published with."""

import os
from collections.abc import Container
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import Code, IntegrityError, Problem
from pipeline.store.chunks import describe_chunk
from pipeline.store.contents import entries, membership
from pipeline.store.format import REBUILD
from pipeline.store.open import Store, open_store
from pipeline.store.shards import file_bytes, has_index


@dataclass(frozen=True)
class Verification:
    """What was found. ``damaged`` makes a store unfit; ``unexpected`` are files that do not belong."""

    store: Path
    samples: int
    nbytes: int
    damaged: tuple[Problem, ...]
    unexpected: tuple[str, ...]


def verify(path: Path, *, quick: bool = False, threads: int = 1) -> Verification:
    """Check a store: its table and metadata always, its volumes byte by byte, or ``quick`` by size.

    Raises IntegrityError if there is no store. Damage is returned, not raised.
    """
    try:
        store = open_store(path)
    except IntegrityError as error:
        if error.problems[0].code in ("not-built", "foreign-store", "store-format"):
            raise
        return Verification(path, 0, 0, error.problems, ())
    damaged = check_files(store)
    unusable = {problem.where for problem in damaged if problem.code != Code.SHARD_INDEX}
    if not quick:
        damaged += _check_volumes(store, unusable, threads)
    links, unexpected = _strangers(store)
    nbytes = len(store.rows) * store.header.chunk_bytes
    return Verification(path, len(store.rows), nbytes, (*damaged, *links), tuple(unexpected))


def check_files(store: Store) -> list[Problem]:
    """What sizes and the indexes of shards tell: files that are missing, cut, too long, or damaged there."""
    found = (_check_file(store, first) for first in range(0, len(store.rows), store.header.per_file or 1))
    return [problem for problem in found if problem]


def _check_volumes(store: Store, unusable: Container[str], threads: int) -> list[Problem]:
    """Read each volume, but for those in files that are known to be ``unusable``."""
    with ThreadPoolExecutor(threads) as pool:
        whole = [index for index in range(len(store.rows)) if _where(store, index) not in unusable]
        found = list(pool.map(lambda index: _check_bytes(store, index), whole))
    return [problem for problem in found if problem]


def _check_bytes(store: Store, index: int) -> Problem | None:
    try:
        store.read(index)
    except IntegrityError as error:
        return error.problems[0]
    except OSError as error:
        where = describe_chunk(store.chunk(index), store.rows[index].id)
        return Problem(where, "unreadable", str(error.strerror), "check permissions and the disk")
    return None


def _check_file(store: Store, first: int) -> Problem | None:
    """What is wrong with the file that begins with this row."""
    header = store.header
    count = min(header.per_file or 1, len(store.rows) - first)
    expected = file_bytes(count, header)
    # Text, not a Path: ten thousand of them in less than a second.
    file = f"{store.path}/{header.file_key(first)}"
    try:
        size = os.stat(file).st_size  # noqa: PTH116
    except OSError:
        return Problem(_where(store, first), "missing-chunk", "the volume is not there", REBUILD)
    if size != expected:
        return Problem(_where(store, first), "chunk-size", f"{size} bytes instead of {expected}", REBUILD)
    if header.per_file > 1 and not has_index(Path(file), count, header):
        return Problem(_where(store, first), "shard-index", "its index has changed", REBUILD)
    return None


def _where(store: Store, index: int) -> str:
    """The file that holds a row, and the sample or the samples in it."""
    per_file = store.header.per_file
    if per_file <= 1:
        return describe_chunk(store.chunk(index), store.rows[index].id)
    first = index // per_file * per_file
    last = min(first + per_file, len(store.rows)) - 1
    return describe_chunk(store.chunk(index), f"{store.rows[first].id} to {store.rows[last].id}")


def _strangers(store: Store) -> tuple[list[Problem], list[str]]:
    """Links, which may lead out of the store, and files that are no part of it."""
    belongs = membership(store.path)  # the sound root's own list, not the form of names
    links, unexpected = [], []
    for name, is_link in entries(store.path):
        if is_link:
            reason = "it is a link, and may lead out of the store"
            links.append(Problem(str(store.path / name), "link", reason, REBUILD))
        elif not belongs(name):
            unexpected.append(name)
    return links, sorted(unexpected)
