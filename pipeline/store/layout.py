"""Lay out a whole store in a folder: arrays and columns first, the root ``zarr.json`` last."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec
from zarr.storage import LocalStore

from pipeline.files import file_sha256, sync_directory, write_durably
from pipeline.store.chunks import Chunk, checksum_of
from pipeline.store.format import (
    CHECKSUMS,
    COPY,
    DIMENSIONS,
    NUMBERS,
    ROOT,
    Header,
    Row,
    digest_of,
    small_names,
)
from pipeline.store.root import Root, documents
from pipeline.store.shards import put_file

AT_ONCE = 4  # shards that are written


def write_store(tree: Path, header: Header, rows: Sequence[Row], chunks: Sequence[Chunk]) -> str:
    """Lay out a whole store at ``tree`` from chunks on the same disk; return its digest.

    ``rows`` are in the order of the table and ``chunks[i]`` is where the chunk of ``rows[i]`` lies. Whole
    files are linked, not copied, where the file system can. The root ``zarr.json`` comes last.
    """
    header = header.with_files()
    tree.mkdir(parents=True)
    _create_samples(tree / header.array, header, len(rows))
    _put_files(tree, header, chunks)
    for column in header.columns:
        _write_column(tree / column, [getattr(row, column) for row in rows])
    _write_column(tree / CHECKSUMS, [checksum_of(chunk, header.volume_bytes) for chunk in chunks])
    names = [name for name in small_names(header.array, header.columns) if name != COPY]
    files = {name: file_sha256(tree / name) for name in names}
    digest = digest_of(header.recipe, header.classes, rows)
    # The copy first: a root is never there without it.
    copy, root = documents(Root(header, len(rows), digest, files))
    (tree / COPY).write_bytes(copy)
    _sync_tree(tree, [*names, COPY])
    write_durably(tree / ROOT, root)
    return digest


def _put_files(tree: Path, header: Header, chunks: Sequence[Chunk]) -> None:
    """The files of the samples. While the disk takes one shard, others are put together."""

    def put(first: int) -> None:
        put_file(chunks[first : first + header.per_file], tree / header.file_key(first), header)

    firsts = range(0, len(chunks), header.per_file)
    if header.per_file == 1:
        for first in firsts:
            put(first)
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(put, firsts):
            pass


def _create_samples(path: Path, header: Header, samples: int) -> None:
    """The metadata of the array that holds the samples."""
    floating = np.issubdtype(header.dtype, np.floating)
    zarr.create_array(
        LocalStore(path),
        shape=(samples, *header.shape),
        chunks=(1, *header.shape),
        shards=(header.per_file, *header.shape) if header.per_file > 1 else None,
        dtype=header.dtype,
        compressors=(Crc32cCodec(),),
        fill_value=float("nan") if floating else None,
        dimension_names=DIMENSIONS[header.array],
        chunk_key_encoding={"name": "default", "separator": "."},  # no folder for each axis
    )


def _write_column(path: Path, values: list[Any]) -> None:
    dtype: Any = NUMBERS.get(path.name, str)
    array = zarr.create_array(
        LocalStore(path),
        shape=(len(values),),
        chunks=(max(1, len(values)),),
        dtype=dtype,
        compressors=(Crc32cCodec(),),
        dimension_names=("sample",),
        config={"write_empty_chunks": True},  # else a column of zeros has no file, and its loss goes unseen
    )
    array[:] = np.array(values, dtype=object if dtype is str else dtype)


def _sync_tree(tree: Path, names: Iterable[str]) -> None:
    """Make every small file and every folder of a tree durable; files of chunks already are."""
    for name in names:
        sync_directory(tree / name)
    for folder, _, _ in os.walk(tree, topdown=False):
        sync_directory(Path(folder))
