"""Chunks: one volume in C order, little-endian, followed by four bytes of CRC-32C.

A chunk is a whole file, or a part of a file that holds many of them, one after the other. A file appears
whole or not at all, and a chunk is read only together with a proof that it is the one that was stored: its
SHA-256, or its CRC-32C from the store's table.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import IntegrityError
from pipeline.files import write_parts
from pipeline.store.format import CRC_BYTES, REBUILD


class Chunk(NamedTuple):
    """Where a chunk lies: in this file, from this byte on. If ``alone``, the file holds nothing else."""

    file: Path
    start: int = 0
    alone: bool = True


def write_chunk(path: Path, volume: NDArray[Any]) -> str:
    """Write one volume as a chunk file that appears whole or not at all; return its SHA-256."""
    (sha256,) = _write(path, [volume], durable=True)
    return sha256


def write_chunks(path: Path, volumes: Iterable[NDArray[Any]]) -> list[str]:
    """Write volumes, one chunk after the other, to a file that appears whole or not at all; their SHA-256.

    No more than one of the volumes is held at a time. The file may be damaged when the machine loses its
    power: from there, chunks are proven and copied, never linked.
    """
    return _write(path, volumes, durable=False)


def _write(path: Path, volumes: Iterable[NDArray[Any]], *, durable: bool) -> list[str]:
    hashes = []

    def parts() -> Iterator[bytes]:
        for volume in volumes:
            # Zarr's codec `bytes` is told little-endian, whatever machine converted the volume.
            payload = np.ascontiguousarray(volume, volume.dtype.newbyteorder("<")).tobytes()
            hashes.append(hashlib.sha256(payload).hexdigest())
            yield payload
            yield crc_of(payload)

    write_parts(path, parts(), durable=durable)
    return hashes


def read_chunk(chunk: Chunk, volume_bytes: int, sha256: str, *, name: str) -> NDArray[np.uint8]:
    """Read the bytes of a chunk and prove that they are the volume with this hash.

    Raises IntegrityError with code missing-chunk, chunk-size, chunk-checksum or chunk-swapped.
    """
    where = describe_chunk(chunk.file, name)
    payload = np.empty(volume_bytes, np.uint8)
    read_whole(chunk, payload, where)
    if hashlib.sha256(payload.data).hexdigest() != sha256:
        raise swapped(where)
    return payload


def is_intact(chunk: Chunk, volume_bytes: int, sha256: str) -> bool:
    """Whether a chunk is there, can be read, and holds the volume with this hash."""
    try:
        read_chunk(chunk, volume_bytes, sha256, name=chunk.file.name)
    except (IntegrityError, OSError):
        return False
    return True


def describe_chunk(path: Path, name: str) -> str:
    """How messages name a chunk: its path and its sample."""
    return f"{path} (sample {name})"


def read_whole(chunk: Chunk, volume: NDArray[Any], where: str) -> int:
    """Fill ``volume`` with the bytes of a chunk; return their CRC-32C, computed and equal to the file's."""
    crc = bytearray(CRC_BYTES + chunk.alone)  # with room for one byte that should not be there
    try:
        descriptor = os.open(chunk.file, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise IntegrityError.of(where, "missing-chunk", "the volume is not there", REBUILD) from None
    try:
        size = _read_at(descriptor, volume, crc, chunk.start)  # straight into the batch: no second copy
        whole = os.fstat(descriptor).st_size if chunk.alone else size
    except IsADirectoryError:
        raise IntegrityError.of(where, "missing-chunk", "the volume is not there", REBUILD) from None
    finally:
        os.close(descriptor)
    if size != volume.nbytes + CRC_BYTES:
        reason = f"{whole} bytes instead of {volume.nbytes + CRC_BYTES}"
        raise IntegrityError.of(where, "chunk-size", reason, REBUILD)
    value = checksum(volume)
    # Cheaper than SHA-256, and so checked first where both are.
    if value != int.from_bytes(crc[:CRC_BYTES], "little"):
        raise IntegrityError.of(where, "chunk-checksum", "its bytes have changed", REBUILD)
    return value


def _read_at(descriptor: int, volume: NDArray[Any], rest: bytearray, start: int) -> int:
    """Fill ``volume`` and then ``rest`` from a byte of a file on; how many bytes there were."""
    # One call for all, as a rule; a signal or the system's limit of 2 GiB may cut it short.
    views = [volume.reshape(-1).view(np.uint8).data, memoryview(rest)]
    size = 0
    while views and (count := os.preadv(descriptor, views, start + size)):
        size += count
        while views and count >= len(views[0]):
            count -= len(views.pop(0))
        if views:
            views[0] = views[0][count:]
    return size


def swapped(where: str) -> IntegrityError:
    """The error for a chunk that is sound in itself, but not the one that was stored."""
    return IntegrityError.of(where, "chunk-swapped", "it holds another volume", REBUILD)


def checksum(payload: bytes | NDArray[Any]) -> int:
    """The CRC-32C of some bytes."""
    value: int = google_crc32c.value(payload)
    return value


def crc_of(payload: bytes | NDArray[Any]) -> bytes:
    """The CRC-32C of some bytes, as the four bytes that follow them."""
    return checksum(payload).to_bytes(CRC_BYTES, "little")


def checksum_of(chunk: Chunk, volume_bytes: int) -> int:
    """The checksum that a chunk ends with."""
    with chunk.file.open("rb", buffering=0) as file:
        return int.from_bytes(os.pread(file.fileno(), CRC_BYTES, chunk.start + volume_bytes), "little")
