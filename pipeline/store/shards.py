"""Files of a store that hold chunks: one chunk each, or a shard of many.

A shard is what Zarr's codec ``sharding_indexed`` reads: chunks one after the other, then for each of them
where it begins and how many bytes it has (two uint64, little-endian), then the CRC-32C of this index. Where
the last shard has fewer chunks than it could, the others are marked as missing.

Source: "Sharding codec", version 1.0, of the Zarr v3 specification.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from pipeline.files import sync_directory, write_parts
from pipeline.store.chunks import Chunk, crc_of
from pipeline.store.format import Header

MISSING = (1 << 64) - 1
PIECE_BYTES = 4 << 20  # that are copied at once


def put_file(chunks: Sequence[Chunk], target: Path, header: Header) -> None:
    """Put the chunks of consecutive rows into the file that belongs to them.

    A file that holds just these chunks already is linked, not copied. Raises ResourceError.
    """
    if _is_their_file(chunks, header):
        link_file(chunks[0].file, target)
    else:
        write_parts(target, _parts(chunks, header), durable=True)


def shard_index(count: int, header: Header) -> bytes:
    """The end of a shard that holds ``count`` chunks: its index and the index's CRC-32C."""
    entries = np.full((header.per_file, 2), MISSING, "<u8")
    entries[:count, 0] = np.arange(count) * header.chunk_bytes
    entries[:count, 1] = header.chunk_bytes
    index = entries.tobytes()
    return index + crc_of(index)


def file_bytes(count: int, header: Header) -> int:
    """Size of a file that holds ``count`` chunks."""
    index = len(shard_index(0, header)) if header.per_file > 1 else 0
    return count * header.chunk_bytes + index


def has_index(file: Path, count: int, header: Header) -> bool:
    """Whether a shard of ``count`` chunks ends with the index that it was written with."""
    with file.open("rb", buffering=0) as opened:
        opened.seek(count * header.chunk_bytes)
        return opened.read() == shard_index(count, header)


def link_file(source: Path, target: Path) -> None:
    """Link a file to its place, or copy it where the file system has no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
        sync_directory(target)


def _is_their_file(chunks: Sequence[Chunk], header: Header) -> bool:
    """Whether these chunks are all that is in one file, in this order: one chunk, or an earlier shard."""
    if header.per_file == 1:
        return chunks[0].alone
    file = chunks[0].file
    expected = (Chunk(file, index * header.chunk_bytes, alone=False) for index in range(len(chunks)))
    if any(chunk != wanted for chunk, wanted in zip(chunks, expected, strict=True)):
        return False
    return has_index(file, len(chunks), header)


def _parts(chunks: Sequence[Chunk], header: Header) -> Iterator[bytes]:
    for file, found in groupby(chunks, key=lambda chunk: chunk.file):
        with file.open("rb", buffering=0) as opened:
            for start, size in _runs([chunk.start for chunk in found], header.chunk_bytes):
                yield from _pieces(opened.fileno(), start, size)
    if header.per_file > 1:
        yield shard_index(len(chunks), header)


def _runs(starts: Sequence[int], size: int) -> Iterator[tuple[int, int]]:
    """Chunks that follow each other in a file, together: where they begin, and their bytes."""
    begin = end = starts[0]
    for start in starts:
        if start != end:
            yield begin, end - begin
            begin = start
        end = start + size
    yield begin, end - begin


def _pieces(descriptor: int, start: int, size: int) -> Iterator[bytes]:
    end = start + size
    while start < end:
        piece = os.pread(descriptor, min(PIECE_BYTES, end - start), start)
        if not piece:
            raise EOFError("a file of chunks has become shorter")
        yield piece
        start += len(piece)
