"""Chunk files: one volume in C order, little-endian, followed by four bytes of CRC-32C.

A chunk appears whole or not at all, and is read only together with a proof that it is the one that was
stored: its SHA-256, or its CRC-32C from the store's table.
"""

import hashlib
import os
import struct
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import IntegrityError
from pipeline.files import write_durably
from pipeline.store.format import CRC_BYTES, REBUILD


def write_chunk(path: Path, volume: NDArray[Any]) -> str:
    """Write one volume as a chunk file that appears whole or not at all; return its SHA-256."""
    # Zarr's codec `bytes` is told little-endian, whatever machine converted the volume.
    payload = np.ascontiguousarray(volume, volume.dtype.newbyteorder("<")).tobytes()
    write_durably(path, payload, _crc(payload))
    return hashlib.sha256(payload).hexdigest()


def read_chunk(path: Path, volume_bytes: int, sha256: str, *, name: str) -> NDArray[np.uint8]:
    """Read the bytes of a chunk file and prove that they are the volume with this hash.

    Raises IntegrityError with code missing-chunk, chunk-size, chunk-checksum or chunk-swapped.
    """
    where = describe_chunk(path, name)
    payload = np.empty(volume_bytes, np.uint8)
    read_whole(path, payload, where)
    if hashlib.sha256(payload.data).hexdigest() != sha256:
        raise swapped(where)
    return payload


def is_intact(path: Path, volume_bytes: int, sha256: str) -> bool:
    """Whether a chunk file is there, can be read, and holds the volume with this hash."""
    try:
        read_chunk(path, volume_bytes, sha256, name=path.name)
    except (IntegrityError, OSError):
        return False
    return True


def describe_chunk(path: Path, name: str) -> str:
    """How messages name a chunk: its path and its sample."""
    return f"{path} (sample {name})"


def read_whole(path: Path, volume: NDArray[Any], where: str) -> bytes:
    """Fill ``volume`` with the bytes of a chunk; return their CRC-32C, computed and equal to the file's."""
    try:
        with path.open("rb") as file:
            size, crc = file.readinto(volume.data), file.read()  # straight into the batch: no second copy
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise IntegrityError.of(where, "missing-chunk", "the volume is not there", REBUILD) from None
    if (size, len(crc)) != (volume.nbytes, CRC_BYTES):
        reason = f"{size + len(crc)} bytes instead of {volume.nbytes + CRC_BYTES}"
        raise IntegrityError.of(where, "chunk-size", reason, REBUILD)
    # Cheaper than SHA-256, and so checked first where both are.
    if crc != _crc(volume):
        raise IntegrityError.of(where, "chunk-checksum", "its bytes have changed", REBUILD)
    return crc


def swapped(where: str) -> IntegrityError:
    """The error for a chunk that is sound in itself, but not the one that was stored."""
    return IntegrityError.of(where, "chunk-swapped", "it holds another volume", REBUILD)


def _crc(payload: bytes | NDArray[Any]) -> bytes:
    return packed_checksum(google_crc32c.value(payload))


def packed_checksum(checksum: int) -> bytes:
    """A CRC-32C as the four bytes that a chunk ends with."""
    return struct.pack("<I", checksum)


def checksum_of(chunk: Path) -> int:
    """The checksum that a chunk file ends with."""
    with chunk.open("rb") as file:
        file.seek(-CRC_BYTES, os.SEEK_END)
        return int.from_bytes(file.read(), "little")
