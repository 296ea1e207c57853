"""Where a store grows before it is published: a folder beside it, locked by the one who builds.

    NAME.zarr.building/
      viptt-staging.json     marks the folder as ours
      chunks/KEY             volumes of one source: its stack, or its pictures one after the other
      journal/KEY.json       what became of one source; written after its chunk is on disk
      store/                 the whole store, laid out by links, just before it is published
      old/                   the previous store, for the moment of the exchange

KEY is a hash of the source's path. Whatever is here survives a kill, and the next build goes on
from it; nothing here ever looks like a store under its final name.
"""

import fcntl
import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import BusyError, ConfigError, Problem, ResourceError
from pipeline.files import canonical_json, sync_directory, write_durably, write_whole
from pipeline.store.contents import remove_empty_folders, remove_store
from pipeline.store.publish import check_place, clear_store

MARKER = "viptt-staging.json"


FOLDERS = ("chunks", "journal")


OURS = re.compile(r"[0-9a-f]{32}(\.[a-z]+)*")  # names in these folders: a source's key, and what it is


@dataclass(frozen=True)
class PictureEntry:
    """What became of one picture of a source: a volume with this hash, or a problem.

    ``source`` is the file of the picture, as a path below the dataset's folder.
    """

    name: str
    position: int
    source: str
    source_sha256: str
    sha256: str = ""
    selected: int = 1
    problem: Problem | None = None


@dataclass(frozen=True)
class Entry:
    """What became of one source under one recipe: a volume with this hash, its pictures, or a problem."""

    source: str
    source_sha256: str
    recipe_sha256: str
    sha256: str
    facts: str
    problem: Problem | None = None
    made_with: str = ""
    statistics: str = "{}"
    pictures: tuple[PictureEntry, ...] = ()

    @property
    def hashes(self) -> tuple[str, ...]:
        """SHA-256 of its volumes, in the order in which they lie in its chunk file."""
        if self.pictures:
            return tuple(picture.sha256 for picture in self.pictures if picture.problem is None)
        return () if self.problem else (self.sha256,)


@dataclass(frozen=True)
class Staging:
    """The paths inside a staging folder."""

    root: Path

    def chunk(self, source: str) -> Path:
        """Chunk file of a source."""
        return self.root / "chunks" / _key(source)

    def journal(self, source: str) -> Path:
        """Journal file of a source."""
        return self.root / "journal" / f"{_key(source)}.json"


@contextmanager
def open_staging(store: Path) -> Iterator[Staging]:
    """Hold the staging folder of a store for as long as the block runs.

    Raises BusyError if another process holds it, ConfigError if a folder or file of somebody else
    is in the way, ResourceError if the place cannot be written.
    """
    check_place(store)
    root = folder_of(store)
    try:
        with _locked(root, store):
            if not _is_ours(root):
                raise ConfigError.of(root, "not-ours", "it was not made by viptt", "move it away")
            for folder in FOLDERS:
                (root / folder).mkdir(exist_ok=True)
            _restore_old(root, store)
            yield Staging(root)
    except OSError as error:
        reason = str(error.strerror or error)
        where = error.filename or store
        raise ResourceError.of(where, "cannot-write", reason, "free space or fix permissions") from error


def read_entry(path: Path) -> Entry | None:
    """A journal entry, or nothing where it is missing or cannot be read."""
    try:
        fields = json.loads(path.read_bytes())
        pictures = tuple(PictureEntry(**_with_problem(picture)) for picture in fields.pop("pictures", ()))
        return Entry(**_with_problem(fields), pictures=pictures)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _with_problem(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "problem": Problem(**fields["problem"]) if fields["problem"] else None}


def unfinished(store: Path, recipe_sha256: str) -> int:
    """Number of sources that a build of this recipe had done when it was stopped; the next one keeps them."""
    journal = folder_of(store) / "journal"
    entries = (read_entry(path) for path in journal.glob("*.json"))
    return sum(entry is not None and entry.recipe_sha256 == recipe_sha256 for entry in entries)


def is_in_use(staging: Staging) -> bool:
    """Whether a build that was stopped has left results in a staging folder."""
    return any((staging.root / "journal").glob("*.json"))


def folder_of(store: Path) -> Path:
    """Where the staging folder of a store lies: beside it."""
    return store.with_name(store.name + ".building")


def write_entry(path: Path, entry: Entry) -> None:
    """Write a journal entry; not durably, since a chunk is used again only if it has the entry's hash."""
    pictures = [_plain(picture) for picture in entry.pictures]
    write_whole(path, canonical_json(_plain(entry) | ({"pictures": pictures} if pictures else {})))


def _plain(found: Entry | PictureEntry) -> dict[str, Any]:
    """Fields as JSON values; ``dataclasses.asdict`` copies deeply, which takes longer than hashing."""
    return {**vars(found), "problem": found.problem and vars(found.problem)}


def remove(staging: Staging) -> None:
    """Remove a staging folder that has served, but for files that are not ours: they stay, and it with them.

    The mark goes last, so that a kill leaves the folder ours.
    """
    for name in ("store", "old"):
        remove_store(staging.root / name)
    for name in FOLDERS:
        for path in (staging.root / name).iterdir():
            if OURS.fullmatch(path.name):
                path.unlink()
    remove_empty_folders(staging.root)
    if [path.name for path in staging.root.iterdir()] == [MARKER]:
        (staging.root / MARKER).unlink()
        staging.root.rmdir()


def _key(source: str) -> str:
    return hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()[:32]


@contextmanager
def _locked(root: Path, store: Path) -> Iterator[None]:
    """Lock the staging folder itself: the system frees the lock when its holder ends, however it ends."""
    descriptor = _lock(root)
    if descriptor is None:
        reason = f"another build holds it ({_owner(root)})"
        raise BusyError.of(store, "busy", reason, "wait for it, or stop it")
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(root: Path) -> int | None:
    """Descriptor of the locked folder, or nothing if somebody else holds it."""
    while True:
        root.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if _is_at(descriptor, root):
            if _is_ours(root):
                owner = {"pid": os.getpid(), "host": socket.gethostname()}
                write_durably(root / MARKER, canonical_json(owner))
            return descriptor
        os.close(descriptor)  # its last holder removed the folder in between


def _is_ours(root: Path) -> bool:
    """Whether the folder is marked, or was just made and its maker killed before the mark was complete."""
    names = {path.name for path in root.iterdir()}
    return MARKER in names or names <= {f"{MARKER}.partial"}


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _owner(root: Path) -> str:
    try:
        owner = json.loads((root / MARKER).read_bytes())
        return f"process {owner['pid']} on {owner['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "just started"


def _restore_old(root: Path, store: Path) -> None:
    """Undo half an exchange: the previous store was set aside, and then the build was killed.

    Raises IntegrityError where the old store holds a file that is not ours.
    """
    old = root / "old"
    if old.exists() and not store.exists():
        old.rename(store)
        sync_directory(store.parent)
    clear_store(old)
