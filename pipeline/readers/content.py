"""What a source consists of on disk: one file, or a folder of files.

Everything that has to know the bytes of a source asks here: hashes, sizes, whether it has changed.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import SourceError
from pipeline.files import canonical_json, file_sha256


@dataclass(frozen=True)
class Signature:
    """What changes when a file is replaced or written: size and times (ns) of its inode.

    The time of the last change of the inode is the one that no program can set back.
    """

    size: int
    modified: int
    changed: int
    inode: tuple[int, int]


def files_in(folder: Path, suffixes: tuple[str, ...]) -> tuple[Path, ...]:
    """The files directly in a folder whose names end so in any letter case, sorted by name.

    Names that start with a dot are left out. Raises SourceError if the folder cannot be read.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if not entry.is_dir())
    except OSError as error:
        reason = str(error.strerror)
        raise SourceError.of(folder, "unreadable", reason, "fix its permissions or its disk") from None
    return tuple(folder / name for name in names if _is_one(name, suffixes))


def _is_one(name: str, suffixes: tuple[str, ...]) -> bool:
    return name.lower().endswith(suffixes) and not name.startswith(".")


def check_regular_file(path: Path) -> os.stat_result:
    """Let only regular, non-empty files pass (links to them too): a pipe or a device would block.

    Returns its status. Raises SourceError with code not-a-regular-file, unreadable or empty-file.
    """
    try:
        status = path.stat()
    except OSError as error:
        code = "unreadable" if isinstance(error, PermissionError) else "not-a-regular-file"
        raise SourceError.of(path, code, str(error.strerror), "replace it by the file itself") from None
    if not stat.S_ISREG(status.st_mode):
        reason = "it is a folder, a pipe or a device"
        raise SourceError.of(path, "not-a-regular-file", reason, "replace it by the file itself")
    if status.st_size == 0:
        raise SourceError.of(path, "empty-file", "it has 0 bytes", "fetch or export it again")
    return status


def signatures(files: Sequence[Path]) -> tuple[Signature, ...]:
    """The signature of each file. Raises SourceError where one is not a regular file with content."""
    return tuple(_signature(check_regular_file(path)) for path in files)


def _signature(status: os.stat_result) -> Signature:
    inode = (status.st_dev, status.st_ino)
    return Signature(status.st_size, status.st_mtime_ns, status.st_ctime_ns, inode)


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes. Raises SourceError if it cannot be read."""
    with _readable(path):
        return file_sha256(path)


def read_file(path: Path) -> bytes:
    """A file's bytes. Raises SourceError if it cannot be read."""
    with _readable(path):
        return path.read_bytes()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = str(error.strerror)
        raise SourceError.of(path, "unreadable", reason, "fix its permissions or its disk") from None


def hash_names(named: Sequence[Sequence[Any]]) -> str:
    """SHA-256 of what a source of several files consists of: a name and a hash for each of them."""
    return hashlib.sha256(canonical_json(named)).hexdigest()
