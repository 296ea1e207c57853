"""Is a store still what was published? Every byte is compared with the hashes it was published with."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import IntegrityError, Problem
from pipeline.store.contents import entries, membership
from pipeline.store.format import CRC_BYTES, REBUILD
from pipeline.store.open import Store, open_store


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
    indices = range(len(store.rows))
    if quick:
        damaged = check_sizes(store)
    else:
        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(lambda index: _check_bytes(store, index), indices))
        damaged = [problem for problem in found if problem]
    links, unexpected = _strangers(store)
    nbytes = len(store.rows) * (store.header.volume_bytes + CRC_BYTES)
    return Verification(path, len(store.rows), nbytes, (*damaged, *links), tuple(unexpected))


def check_sizes(store: Store) -> list[Problem]:
    """What the sizes of a store's volumes tell: those that are missing, cut or too long."""
    found = (_check_size(store, index) for index in range(len(store.rows)))
    return [problem for problem in found if problem]


def _check_bytes(store: Store, index: int) -> Problem | None:
    try:
        store.read(index)
    except IntegrityError as error:
        return error.problems[0]
    except OSError as error:
        return Problem(
            _where(store, index), "unreadable", str(error.strerror), "check permissions and the disk"
        )
    return None


def _check_size(store: Store, index: int) -> Problem | None:
    expected = store.header.volume_bytes + CRC_BYTES
    try:
        # Text, not a Path: ten thousand of them in less than a second.
        size = os.stat(f"{store.path}/{store.header.chunk_key(index)}").st_size  # noqa: PTH116
    except OSError:
        return Problem(_where(store, index), "missing-chunk", "the volume is not there", REBUILD)
    if size != expected:
        return Problem(_where(store, index), "chunk-size", f"{size} bytes instead of {expected}", REBUILD)
    return None


def _where(store: Store, index: int) -> str:
    return f"{store.chunk(index)} (sample {store.rows[index].id})"


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
