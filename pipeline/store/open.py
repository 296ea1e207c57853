"""Open a published store: everything but the volumes is checked now, each volume when it is read."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from pipeline.errors import IntegrityError
from pipeline.files import file_sha256
from pipeline.store.chunks import describe_chunk, packed_checksum, read_chunk, read_whole, swapped
from pipeline.store.format import (
    BESIDE_DIGEST,
    CHECKSUMS,
    COLUMNS,
    FORMAT,
    REBUILD,
    ROOT,
    Header,
    Json,
    Row,
    digest_of,
    document_sha256,
    rendered,
)


@dataclass(frozen=True)
class Store:
    """A published store, opened and checked except for its volumes (each is checked when read).

    ``checksums`` are the CRC-32C of the volumes, in the order of the rows.
    """

    path: Path
    header: Header
    rows: tuple[Row, ...]
    digest: str
    checksums: tuple[int, ...]

    def chunk(self, index: int) -> Path:
        """Path of the chunk file of row ``index``."""
        return self.path / self.header.chunk_key(index)

    def read(self, index: int) -> NDArray[Any]:
        """Volume or features of row ``index``, in the store's shape and dtype, proven by SHA-256.

        Raises IntegrityError, naming the sample, if the chunk is missing or is not byte for byte
        the one that was stored.
        """
        row, header = self.rows[index], self.header
        payload = read_chunk(self.chunk(index), header.volume_bytes, row.sha256, name=row.id)
        return payload.view(header.dtype).reshape(header.shape)

    def read_batch(self, indices: Sequence[int]) -> NDArray[Any]:
        """Volumes or features of some rows, shape (rows, …), as fast as a training wants them.

        Their bytes must have the CRC-32C in the store's table, whatever their files say. It finds every
        change of up to three bits, every burst of up to 32, and all but one in 2^32 of any others, such
        as another volume. Raises as ``read``. Threads may share a store.
        """
        batch = np.empty((len(indices), *self.header.shape), self.header.dtype)
        for index, volume in zip(indices, batch, strict=True):
            where = describe_chunk(self.chunk(index), self.rows[index].id)
            if read_whole(self.chunk(index), volume, where) != packed_checksum(self.checksums[index]):
                raise swapped(where)
        return batch


def open_store(path: Path | str) -> Store:
    """Open a published store, checking all of it but the volumes.

    Raises IntegrityError if there is no store, if it was made by something else or in another
    format, or if its metadata or table have changed since it was published.
    """
    path = Path(path)
    document, text = _read_root(path)
    viptt = _checked_attributes(path, document, text)
    header = Header(viptt["dataset"], viptt["recipe"], tuple(viptt["classes"]), viptt["created_with"])
    rows = _read_rows(path)
    if digest_of(header.recipe, header.classes, rows) != viptt["digest"] or len(rows) != viptt["samples"]:
        raise IntegrityError.of(
            path, "digest-mismatch", "the table is not the one that was published", REBUILD
        )
    return Store(path, header, rows, viptt["digest"], tuple(read_column(path / CHECKSUMS)))


def is_store(path: Path) -> bool:
    """True where a published viptt store lies, whatever its condition."""
    try:
        return "viptt" in json.loads((path / ROOT).read_bytes())["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _read_root(path: Path) -> tuple[dict[str, Any], bytes]:
    try:
        text = (path / ROOT).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        reason = "there is no finished store" if path.exists() else "there is nothing at this path"
        raise IntegrityError.of(path, "not-built", reason, "run `viptt build` first") from None
    try:
        document = json.loads(text)
    except ValueError:
        raise IntegrityError.of(path / ROOT, "metadata-damaged", "it is not JSON any more", REBUILD) from None
    if not isinstance(document, dict):
        raise IntegrityError.of(path / ROOT, "metadata-damaged", "it is not a JSON object", REBUILD)
    return document, text


def _checked_attributes(path: Path, document: dict[str, Any], text: bytes) -> Json:
    attributes = document.get("attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    viptt = attributes.get("viptt")
    if not isinstance(viptt, dict):
        remedy = "give the path of a store that `viptt build` made"
        raise IntegrityError.of(path, "foreign-store", "this Zarr group was not made by viptt", remedy)
    if viptt.get("format") != FORMAT:
        reason = f"format {viptt.get('format')!r}; this version reads format {FORMAT}"
        raise IntegrityError.of(path, "store-format", reason, "build it again with this version")
    _check_document(path, document, attributes, text)
    for name, sha256 in attributes["viptt_integrity"]["files"].items():
        _check_file(path / name, sha256)
    return viptt


def _check_document(path: Path, document: dict[str, Any], attributes: dict[str, Any], text: bytes) -> None:
    """Compare the document with its own hash, and the text with the one way in which we write it."""
    damaged = IntegrityError.of(path / ROOT, "metadata-damaged", "its content has changed", REBUILD)
    integrity = attributes.get("viptt_integrity")
    if not isinstance(integrity, dict) or not isinstance(integrity.get("files"), dict):
        raise damaged
    bare = {**document, "attributes": {**attributes, "viptt_integrity": {"files": integrity["files"]}}}
    if text != rendered(document) or document_sha256(bare) != integrity.get("document"):
        raise damaged


def _check_file(path: Path, sha256: str) -> None:
    try:
        actual = file_sha256(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise IntegrityError.of(path, "metadata-missing", "the file is not there", REBUILD) from None
    if actual != sha256:
        raise IntegrityError.of(path, "metadata-damaged", "its content has changed", REBUILD)


def _read_rows(path: Path) -> tuple[Row, ...]:
    there = [column for column in COLUMNS if column not in BESIDE_DIGEST or (path / column).is_dir()]
    columns = [read_column(path / column) for column in there]
    return tuple(Row(**dict(zip(there, values, strict=True))) for values in zip(*columns, strict=True))


def read_column(path: Path) -> list[Any]:
    """The values of one column, in the order of the rows."""
    array = zarr.open_array(LocalStore(path, read_only=True), mode="r", zarr_format=3)
    return list(np.asarray(array[:]).tolist())
