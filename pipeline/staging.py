"""Where a store grows before it is published: a folder beside it, locked by the one who builds.

    NAME.zarr.building/
      viptt-staging.json     marks the folder as ours
      chunks/KEY             chunk file of one source
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
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.errors import BusyError, ConfigError, IntegrityError, Problem, ResourceError
from pipeline.store import (
    Header,
    Row,
    Store,
    canonical_json,
    is_store,
    open_store,
    sync_directory,
    write_durably,
    write_store,
)

MARKER = "viptt-staging.json"
FOLDERS = ("chunks", "journal")


@dataclass(frozen=True)
class Entry:
    """What became of one source under one recipe: a volume with this hash, or a problem."""

    source: str
    source_sha256: str
    recipe_sha256: str
    sha256: str
    facts: str
    problem: Problem | None = None


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
    _check_place(store)
    root = store.with_name(store.name + ".building")
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


def published(target: Path) -> tuple[Store | None, tuple[Problem, ...]]:
    """The store that is published now; one that is damaged is built anew, and said so."""
    if not is_store(target):
        return None, ()
    try:
        return open_store(target), ()
    except IntegrityError as error:
        if error.problems[0].code in ("store-format", "foreign-store"):
            raise
        return None, error.problems


def read_entry(path: Path) -> Entry | None:
    """A journal entry, or nothing where it is missing or cannot be read."""
    try:
        fields = json.loads(path.read_bytes())
        problem = fields.pop("problem")
        return Entry(**fields, problem=Problem(**problem) if problem else None)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write_entry(path: Path, entry: Entry) -> None:
    """Write a journal entry durably."""
    write_durably(path, canonical_json(asdict(entry)))


def publish(
    staging: Staging, store: Path, header: Header, rows: Sequence[Row], chunks: Sequence[Path]
) -> str:
    """Lay the store out, exchange it for the previous one, and return its digest.

    The previous store, if any, is never changed: it is renamed, replaced, and removed last.
    """
    tree, old = staging.root / "store", staging.root / "old"
    shutil.rmtree(tree, ignore_errors=True)
    digest = write_store(tree, header, rows, chunks)
    if store.exists():
        store.rename(old)
    tree.rename(store)
    sync_directory(store.parent)
    return digest


def publish_changes(
    staging: Staging,
    store: Path,
    previous: Store | None,
    header: Header,
    rows: Sequence[Row],
    chunks: Sequence[Path],
) -> tuple[str, bool]:
    """Publish unless the previous store is just that; its digest, and whether it was published."""
    if previous is not None:
        before = (previous.header.dataset, previous.header.recipe, previous.header.classes, previous.rows)
        in_place = all(chunk == previous.chunk(index) for index, chunk in enumerate(chunks))
        if in_place and before == (header.dataset, header.recipe, header.classes, tuple(rows)):
            return previous.digest, False
    return publish(staging, store, header, rows, chunks), True


def remove(staging: Staging) -> None:
    """Remove a staging folder that has served; its mark goes last, so that a kill leaves it ours."""
    for name in (*FOLDERS, "store", "old"):
        shutil.rmtree(staging.root / name, ignore_errors=True)
    for path in sorted(staging.root.iterdir(), key=lambda path: path.name == MARKER):
        path.unlink()
    staging.root.rmdir()


def _key(source: str) -> str:
    return hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _check_place(store: Path) -> None:
    """Refuse a target that exists and is not a store of ours: building would replace it."""
    if not store.exists() or is_store(store):
        return
    if store.is_dir() and not any(store.iterdir()):
        return
    reason = "something that is not a viptt store is in its place, and viptt does not delete it"
    raise ConfigError.of(store, "not-ours", reason, "choose another `store`, or move it away")


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
    """Undo half an exchange: the previous store was set aside, and then the build was killed."""
    old = root / "old"
    if old.exists() and not store.exists():
        old.rename(store)
        sync_directory(store.parent)
    shutil.rmtree(old, ignore_errors=True)
