"""Files that are whole and on disk when they appear, one JSON text for one value, and hashes."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.errors import ResourceError


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def write_durably(path: Path, *parts: bytes) -> None:
    """Write a file that is whole and on disk when it appears: temporary name, fsync, rename, fsync.

    Raises ResourceError where the disk is full or the folder cannot be written.
    """
    _write(path, parts, durable=True)


def write_whole(path: Path, *parts: bytes) -> None:
    """Write a file that is whole when it appears, also to a program that comes after a kill.

    It may be lost, or damaged, when the machine loses its power: for what can be told then, and made again.
    Raises ResourceError as above.
    """
    _write(path, parts, durable=False)


def write_parts(path: Path, parts: Iterable[bytes], *, durable: bool) -> None:
    """As ``write_durably`` or ``write_whole``, with parts that are made meanwhile.

    Raises what making them raises, too.
    """
    _write(path, parts, durable=durable)


def _write(path: Path, parts: Iterable[bytes], *, durable: bool) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.writelines(parts)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
        if durable:
            sync_directory(path.parent)
    except OSError as error:
        raise ResourceError.of(
            path, "cannot-write", str(error.strerror), "free space or fix permissions"
        ) from error


def sync_directory(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in lower-case hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
