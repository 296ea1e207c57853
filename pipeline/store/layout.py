"""Lay out a whole store in a folder: arrays and columns first, the root ``zarr.json`` last."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec
from zarr.storage import LocalStore

from pipeline.files import file_sha256, sync_directory, write_durably
from pipeline.store.chunks import checksum_of
from pipeline.store.format import (
    CHECKSUMS,
    COLUMNS,
    COPY,
    DIMENSIONS,
    NUMBERS,
    ROOT,
    Header,
    Row,
    digest_of,
    small_files,
    small_names,
)
from pipeline.store.root import Root, documents


def write_store(tree: Path, header: Header, rows: Sequence[Row], chunks: Sequence[Path]) -> str:
    """Lay out a whole store at ``tree`` from chunk files on the same disk; return its digest.

    ``rows`` are sorted by id and ``chunks[i]`` is the file that belongs to ``rows[i]``. Chunk files
    are linked, not copied, where the file system can. The root ``zarr.json`` comes last.
    """
    tree.mkdir(parents=True)
    axes = DIMENSIONS[header.array]
    _create_array(tree / header.array, (len(rows), *header.shape), header.dtype, (1, *header.shape), axes)
    for index, chunk in enumerate(chunks):
        link_chunk(chunk, tree / header.chunk_key(index))
    for column in COLUMNS:
        _write_column(tree / column, [getattr(row, column) for row in rows])
    _write_column(tree / CHECKSUMS, [checksum_of(chunk) for chunk in chunks])
    names = [name for name in small_names(header.array) if name != COPY]
    files = {name: file_sha256(tree / name) for name in names}
    digest = digest_of(header.recipe, header.classes, rows)
    # The copy first: a root is never there without it.
    copy, root = documents(Root(header, len(rows), digest, files))
    (tree / COPY).write_bytes(copy)
    _sync_tree(tree, header)
    write_durably(tree / ROOT, root)
    return digest


def _create_array(
    path: Path, shape: tuple[int, ...], dtype: Any, chunks: tuple[int, ...], names: tuple[str, ...]
) -> zarr.Array[Any]:
    floating = dtype is not str and np.issubdtype(dtype, np.floating)
    return zarr.create_array(
        LocalStore(path),
        shape=shape,
        chunks=tuple(max(1, size) for size in chunks),
        dtype=dtype,
        compressors=(Crc32cCodec(),),
        fill_value=float("nan") if floating else None,
        dimension_names=names,
        config={"write_empty_chunks": True},  # else a column of zeros has no file, and its loss goes unseen
    )


def _write_column(path: Path, values: list[Any]) -> None:
    dtype: Any = NUMBERS.get(path.name, str)
    array = _create_array(path, (len(values),), dtype, (len(values),), ("sample",))
    array[:] = np.array(values, dtype=object if dtype is str else dtype)


def _sync_tree(tree: Path, header: Header) -> None:
    """Make every small file and every folder of a tree durable; chunk files already are."""
    for path in small_files(tree, header):
        sync_directory(path)
    for folder, _, _ in os.walk(tree, topdown=False):
        sync_directory(Path(folder))


def link_chunk(source: Path, target: Path) -> None:
    """Link a chunk file to its place, or copy it where the file system has no hard links."""
    target.parent.mkdir(parents=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
        sync_directory(target)
