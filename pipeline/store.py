"""What a store is: a Zarr v3 group with one chunk per sample and a table, complete or not there at all.

    NAME.zarr/
      volume/             (sample, depth, height, width); one chunk = one sample; codecs bytes, crc32c
      id/ label/ group/ source/ source_sha256/ sha256/ facts/      (sample,); rows sorted by id
      crc32c/             (sample,); the checksum that each chunk ends with
      zarr.json           written last: header, digest over recipe, classes and rows, hashes of small files

A chunk file is the volume in C order, little-endian, followed by four bytes of CRC-32C, which is
exactly what Zarr's codecs ``bytes`` and ``crc32c`` give. Volumes are not compressed: resampled
float16 shrinks by a sixth only, and plain chunks can be checked and fed at the speed of the disk.

Values are in [0, 1]. A missing chunk is an error here, never a fill value.

Beside it there may be ``NAME.features.zarr``, what a network made of every volume: a store like it,
whose array is ``features`` (sample, depth, feature). Its recipe's type is "features", and its rows
have the ids, labels and groups of the volumes; ``source`` is the id, ``source_sha256`` the volume's.
"""

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec
from zarr.storage import LocalStore

from pipeline.errors import IntegrityError, ResourceError

FORMAT = 1
FEATURES = "features"
DIMENSIONS = {
    "volume": ("sample", "depth", "height", "width"),
    FEATURES: ("sample", "depth", "feature"),
}
ROOT = "zarr.json"
CRC_BYTES = 4
REBUILD = "make it again from its sources: `viptt verify --repair`, or for features `viptt features`"

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One sample of the table.

    ``label`` is an index into the header's classes, ``group`` is "" where there is none, ``source``
    is a path below the dataset's folder, the hashes are lower-case SHA-256 of the source's bytes and
    of the volume's bytes, ``facts`` is a JSON object with what the reader found (shape, spacing,
    frames, warnings).
    """

    id: str
    label: int
    group: str
    source: str
    source_sha256: str
    sha256: str
    facts: str


COLUMNS = tuple(column.name for column in fields(Row))
CHECKSUMS = "crc32c"
NUMBERS = {"label": np.dtype("<i8"), CHECKSUMS: np.dtype("<u4")}  # of the columns; the others are text


@dataclass(frozen=True)
class Header:
    """What the store says of itself: every parameter that decides its bytes, and who made it."""

    dataset: str
    recipe: Json
    classes: tuple[str, ...]
    created_with: Json

    @property
    def array(self) -> str:
        """Name of the array that holds the samples: "volume", or "features"."""
        return FEATURES if self.recipe.get("type") == FEATURES else "volume"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of every sample: (depth, height, width), or (depth, feature)."""
        return tuple(self.recipe["shape"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Little-endian dtype of the volumes: float16, float32 or uint8."""
        return np.dtype(self.recipe["dtype"]).newbyteorder("<")

    @property
    def volume_bytes(self) -> int:
        """Bytes of one volume, without its checksum."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def chunk_key(self, index: int) -> str:
        """Zarr's key of one sample's chunk."""
        return f"{self.array}/c/{index}{'/0' * len(self.shape)}"


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
        the one that was stored; with the code "rebuilt" if that is because of a new build.
        """
        row, header = self.rows[index], self.header
        with self._unless_rebuilt():
            payload = read_chunk(self.chunk(index), header.volume_bytes, row.sha256, name=row.id)
        return payload.view(header.dtype).reshape(header.shape)

    def read_batch(self, indices: Sequence[int]) -> NDArray[Any]:
        """Volumes or features of some rows, shape (rows, …), as fast as a training wants them.

        Their bytes must have the CRC-32C in the store's table, whatever their files say. It finds every
        change of up to three bits, every burst of up to 32, and all but one in 2^32 of any others, such
        as another volume. Raises as ``read``. Threads may share a store.
        """
        batch = np.empty((len(indices), *self.header.shape), self.header.dtype)
        with self._unless_rebuilt():
            for index, volume in zip(indices, batch, strict=True):
                where = _where(self.chunk(index), self.rows[index].id)
                if _read_whole(self.chunk(index), volume, where) != _packed(self.checksums[index]):
                    raise _swapped(where)
        return batch

    @contextmanager
    def _unless_rebuilt(self) -> Iterator[None]:
        """Say "rebuilt" where a chunk is not the expected one because another store now lies here.

        A chunk that is read is always the one of this store's table, so two stores are never mixed.
        """
        try:
            yield
        except IntegrityError as error:
            now = published_digest(self.path)
            if now == self.digest or (now is None and self.path.exists()):
                raise
            # While a build exchanges the trees, there is for a moment no store at all.
            reason = "the store was rebuilt, or removed, while it was read"
            raise IntegrityError.of(self.path, "rebuilt", reason, "start again") from error


def features_of(store: Path) -> Path:
    """Where the features of a store lie: beside it, wherever a link may lead to it."""
    store = store.resolve()
    return store.with_name(f"{store.name.removesuffix('.zarr')}.{FEATURES}.zarr")


# --- chunks -------------------------------------------------------------------------------------


def write_chunk(path: Path, volume: NDArray[Any]) -> str:
    """Write one volume as a chunk file that appears whole or not at all; return its SHA-256."""
    payload = np.ascontiguousarray(volume, volume.dtype.newbyteorder("<")).tobytes()
    write_durably(path, payload, _crc(payload))
    return hashlib.sha256(payload).hexdigest()


def read_chunk(path: Path, volume_bytes: int, sha256: str, *, name: str) -> NDArray[np.uint8]:
    """Read the bytes of a chunk file and prove that they are the volume with this hash.

    Raises IntegrityError with code missing-chunk, chunk-size, chunk-checksum or chunk-swapped.
    """
    where = _where(path, name)
    payload = np.empty(volume_bytes, np.uint8)
    _read_whole(path, payload, where)
    if hashlib.sha256(payload.data).hexdigest() != sha256:
        raise _swapped(where)
    return payload


def is_intact(path: Path, volume_bytes: int, sha256: str) -> bool:
    """Whether a chunk file is there, can be read, and holds the volume with this hash."""
    try:
        read_chunk(path, volume_bytes, sha256, name=path.name)
    except (IntegrityError, OSError):
        return False
    return True


def _where(path: Path, name: str) -> str:
    return f"{path} (sample {name})"


def _read_whole(path: Path, volume: NDArray[Any], where: str) -> bytes:
    """Fill ``volume`` with the bytes of a chunk; return their CRC-32C, computed and equal to the file's."""
    try:
        with path.open("rb") as file:
            size, crc = file.readinto(volume.data), file.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise IntegrityError.of(where, "missing-chunk", "the volume is not there", REBUILD) from None
    if (size, len(crc)) != (volume.nbytes, CRC_BYTES):
        reason = f"{size + len(crc)} bytes instead of {volume.nbytes + CRC_BYTES}"
        raise IntegrityError.of(where, "chunk-size", reason, REBUILD)
    if crc != _crc(volume):
        raise IntegrityError.of(where, "chunk-checksum", "its bytes have changed", REBUILD)
    return crc


def _swapped(where: str) -> IntegrityError:
    return IntegrityError.of(where, "chunk-swapped", "it holds another volume", REBUILD)


def _crc(payload: bytes | NDArray[Any]) -> bytes:
    return _packed(google_crc32c.value(payload))


def _packed(checksum: int) -> bytes:
    return struct.pack("<I", checksum)


def _checksum(chunk: Path) -> int:
    """The checksum that a chunk file ends with."""
    with chunk.open("rb") as file:
        file.seek(-CRC_BYTES, os.SEEK_END)
        return int.from_bytes(file.read(), "little")


# --- publishing ---------------------------------------------------------------------------------


def digest_of(recipe: Json, classes: Sequence[str], rows: Iterable[Row]) -> str:
    """``sha256:…`` over recipe, classes and every row; what a split is bound to."""
    hasher = hashlib.sha256(canonical_json({"classes": list(classes), "recipe": recipe}))
    for row in rows:
        hasher.update(b"\n" + canonical_json(asdict(row)))
    return f"sha256:{hasher.hexdigest()}"


def write_store(tree: Path, header: Header, rows: Sequence[Row], chunks: Sequence[Path]) -> str:
    """Lay out a whole store at ``tree`` from chunk files on the same disk; return its digest.

    ``rows`` are sorted by id and ``chunks[i]`` is the file that belongs to ``rows[i]``. Chunk files
    are linked, not copied, where the file system can. The root ``zarr.json`` comes last.
    """
    tree.mkdir(parents=True)
    names = DIMENSIONS[header.array]
    _create_array(tree / header.array, (len(rows), *header.shape), header.dtype, (1, *header.shape), names)
    for index, chunk in enumerate(chunks):
        _link(chunk, tree / header.chunk_key(index))
    for column in COLUMNS:
        _write_column(tree / column, [getattr(row, column) for row in rows])
    _write_column(tree / CHECKSUMS, [_checksum(chunk) for chunk in chunks])
    files = {path.relative_to(tree).as_posix(): _file_sha256(path) for path in small_files(tree, header)}
    _sync_tree(tree, header)
    digest = digest_of(header.recipe, header.classes, rows)
    write_durably(tree / ROOT, _root_document(header, len(rows), digest, files))
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
        config={"write_empty_chunks": True},
    )


def _write_column(path: Path, values: list[Any]) -> None:
    dtype: Any = NUMBERS.get(path.name, str)
    array = _create_array(path, (len(values),), dtype, (len(values),), ("sample",))
    array[:] = np.array(values, dtype=object if dtype is str else dtype)


def small_files(tree: Path, header: Header) -> list[Path]:
    """Every file of a store but the chunks and the root: they are few and small."""
    arrays = [tree / header.array / ROOT]
    for column in (*COLUMNS, CHECKSUMS):
        arrays += [tree / column / ROOT, tree / column / "c" / "0"]
    return arrays


def _root_document(header: Header, samples: int, digest: str, files: Json) -> bytes:
    """The root ``zarr.json``; its own hash is taken over the document without that hash."""
    viptt = {
        "format": FORMAT,
        "dataset": header.dataset,
        "recipe": header.recipe,
        "classes": list(header.classes),
        "samples": samples,
        "digest": digest,
        "created_with": header.created_with,
    }
    attributes: dict[str, Any] = {"viptt": viptt, "viptt_integrity": {"files": files}}
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    attributes["viptt_integrity"]["document"] = _sha256(document)
    return _rendered(document)


def _sha256(document: Json) -> str:
    return hashlib.sha256(canonical_json(document)).hexdigest()


def _rendered(document: Json) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


# --- opening ------------------------------------------------------------------------------------


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
    return Store(path, header, rows, viptt["digest"], tuple(_read_column(path / CHECKSUMS)))


def is_store(path: Path) -> bool:
    """True where a published viptt store lies, whatever its condition."""
    try:
        return "viptt" in json.loads((path / ROOT).read_bytes())["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def published_digest(path: Path) -> str | None:
    """The digest of the store that lies at a path now, unchecked; None where none can be read."""
    try:
        return str(json.loads((path / ROOT).read_bytes())["attributes"]["viptt"]["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


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
    if text != _rendered(document) or _sha256(bare) != integrity.get("document"):
        raise damaged


def _check_file(path: Path, sha256: str) -> None:
    try:
        actual = _file_sha256(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise IntegrityError.of(path, "metadata-missing", "the file is not there", REBUILD) from None
    if actual != sha256:
        raise IntegrityError.of(path, "metadata-damaged", "its content has changed", REBUILD)


def _read_rows(path: Path) -> tuple[Row, ...]:
    columns = [_read_column(path / column) for column in COLUMNS]
    return tuple(Row(*values) for values in zip(*columns, strict=True))


def _read_column(path: Path) -> list[Any]:
    array = zarr.open_array(LocalStore(path, read_only=True), mode="r", zarr_format=3)
    return list(np.asarray(array[:]).tolist())


# --- files --------------------------------------------------------------------------------------


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def write_durably(path: Path, *parts: bytes) -> None:
    """Write a file that is whole and on disk when it appears: temporary name, fsync, rename, fsync.

    Raises ResourceError where the disk is full or the folder cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
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


def _sync_tree(tree: Path, header: Header) -> None:
    """Make every small file and every folder of a tree durable; chunk files already are."""
    for path in small_files(tree, header):
        sync_directory(path)
    for folder, _, _ in os.walk(tree, topdown=False):
        sync_directory(Path(folder))


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
        sync_directory(target)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
