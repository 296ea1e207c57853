"""Open a published store: everything but the volumes is checked now, each volume when it is read."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from pipeline.errors import IntegrityError, Problem
from pipeline.files import file_sha256
from pipeline.store.chunks import Chunk, describe_chunk, read_chunk, read_whole, swapped
from pipeline.store.format import (
    BESIDE_DIGEST,
    CHECKSUMS,
    COLUMNS,
    COPY,
    OF_PICTURES,
    REBUILD,
    ROOT,
    Header,
    Row,
    digest_of,
)
from pipeline.store.open_shards import OpenShards
from pipeline.store.root import NO_FILE, Root, published_digest, read_root, sound_roots

ALIGNMENT = 64  # bytes: others are copied once more on their way into a tensor
EXCHANGES = 10  # by other builds, that opening a store may meet
EXCHANGE_SECONDS = 0.05
TABLE = tuple(f"{column}/" for column in (*COLUMNS, *OF_PICTURES))


@dataclass(frozen=True)
class Store:
    """A published store, opened and checked except for its volumes (each is checked when read).

    ``checksums`` are the CRC-32C of the volumes, in the order of the rows. ``damage`` is empty but for
    a store that was recovered from what is left of it.
    """

    path: Path
    header: Header
    rows: tuple[Row, ...]
    digest: str
    checksums: tuple[int, ...]
    damage: tuple[Problem, ...] = ()

    def __repr__(self) -> str:
        """One line: the rows alone would fill the screen."""
        shape, dtype = " x ".join(map(str, self.header.shape)), self.header.dtype.name
        samples, classes = len(self.rows), len(self.header.classes)
        return f"Store({str(self.path)!r}, {samples} samples of {shape} {dtype}, {classes} classes)"

    def chunk(self, index: int) -> Path:
        """Path of the file that holds the chunk of row ``index``; pictures share files."""
        return self.path / self.header.file_key(index)

    def chunk_at(self, index: int) -> Chunk:
        """Where the chunk of row ``index`` lies."""
        return Chunk(self.chunk(index), self.header.start(index), alone=self.header.per_file <= 1)

    def read(self, index: int) -> NDArray[Any]:
        """Volume or features of row ``index``, in the store's shape and dtype, proven by SHA-256.

        Raises IntegrityError, naming the sample, if the chunk is missing or is not byte for byte
        the one that was stored; with the code "rebuilt" if that is because of a new build.
        """
        row, header = self.rows[index], self.header
        with self._unless_rebuilt():
            payload = read_chunk(self.chunk_at(index), header.volume_bytes, row.sha256, name=row.id)
        return payload.view(header.dtype).reshape(header.shape)

    def read_batch(self, indices: Sequence[int]) -> NDArray[Any]:
        """Volumes or features of some rows, shape (rows, …), as fast as a training wants them.

        Their bytes must have the CRC-32C in the store's table, whatever their files say. It finds every
        change of up to three bits, every burst of up to 32, and all but one in 2^32 of any others, such
        as another volume. Raises as ``read``. Threads may share a store.
        """
        batch = _aligned((len(indices), *self.header.shape), self.header.dtype)
        with self._unless_rebuilt():
            for index, volume in zip(indices, batch, strict=True):
                if not self._filled(index, volume):
                    self._fill(index, volume)
        return batch

    def _filled(self, index: int, volume: NDArray[Any]) -> bool:
        """Read a picture from a shard that is open already; whether its checksum is the right one."""
        if self.header.per_file <= 1:
            return False
        crc = self._shards.read(index // self.header.per_file, volume, self.header.start(index))
        return crc == self.checksums[index]

    def _fill(self, index: int, volume: NDArray[Any]) -> None:
        where = describe_chunk(self.chunk(index), self.rows[index].id)
        if read_whole(self.chunk_at(index), volume, where) != self.checksums[index]:
            raise swapped(where)

    @cached_property
    def _shards(self) -> OpenShards:
        path, header = self.path, self.header  # not self: a cycle would keep the files open
        return OpenShards(lambda number: path / header.file_key(number * header.per_file))

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


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array to be filled that begins at a multiple of ALIGNMENT: TensorFlow takes such a one as it is."""
    nbytes = int(np.prod(shape)) * dtype.itemsize
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes].view(dtype).reshape(shape)


def open_store(path: Path | str) -> Store:
    """Open a published store, checking all of it but the volumes.

    Raises IntegrityError if there is no store, if it was made by something else or in another
    format, or if its metadata or table have changed since it was published.

    Examples:
        >>> store = open_store("cache/ct.zarr")
        >>> store
        Store('cache/ct.zarr', 6 samples of 5 x 16 x 16 float16, 2 classes)
        >>> store.rows[0].id, store.read(0).shape
        ('TRN_0000', (5, 16, 16))
    """
    path = Path(path)
    for _ in range(EXCHANGES):
        before = _identity(path)
        try:
            return _open(path)
        except (FileNotFoundError, IntegrityError):
            # A build may have put another store here in the middle: then the files were of two stores.
            if before == _identity(path):
                break
            time.sleep(EXCHANGE_SECONDS)
    try:
        return _open(path)
    except FileNotFoundError as error:
        reason = str(error)
        raise IntegrityError.of(path, "metadata-missing", reason, REBUILD) from None


def _identity(path: Path) -> tuple[int, int] | None:
    """Which folder lies at a path now."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _open(path: Path) -> Store:
    root = read_root(path)
    for name, sha256 in root.files.items():
        _check_file(path / name, sha256)
    rows = _read_rows(path, root.header)
    if not _holds(root, rows):
        raise IntegrityError.of(
            path, "digest-mismatch", "the table is not the one that was published", REBUILD
        )
    return Store(path, root.header, rows, root.digest, tuple(read_column(path / CHECKSUMS)))


def recover_store(path: Path, damage: tuple[Problem, ...]) -> Store | None:
    """A store whose table is proven although something else of it is damaged; nothing if it is not.

    The root, its copy, the metadata of the volumes and the checksums may be damaged, since they can be
    written again from the rest. The store has no ``checksums``; its volumes must be read one by one.
    """
    for root in sound_roots(path):
        # Each file by its hash first: Zarr might read a damaged column without complaint, or not at all.
        try:
            for name, sha256 in root.files.items():
                if name.startswith(TABLE) and name != COPY:
                    _check_file(path / name, sha256)
        except (IntegrityError, OSError):
            continue
        rows = _read_rows(path, root.header)
        if _holds(root, rows):
            return Store(path, root.header, rows, root.digest, (), damage)
    return None


def surviving_column(path: Path, root: Root, column: str) -> list[Any] | None:
    """The values of a column whose files are still those that the root lists; else nothing."""
    try:
        for name in (f"{column}/{ROOT}", f"{column}/c/0"):
            _check_file(path / name, root.files[name])
    except (IntegrityError, OSError):
        return None
    return read_column(path / column)


def _holds(root: Root, rows: Sequence[Row]) -> bool:
    """Whether these rows are those that a root was written for."""
    return (
        len(rows) == root.samples and digest_of(root.header.recipe, root.header.classes, rows) == root.digest
    )


def _check_file(path: Path, sha256: str) -> None:
    try:
        actual = file_sha256(path)
    except NO_FILE:
        raise IntegrityError.of(path, "metadata-missing", "the file is not there", REBUILD) from None
    if actual != sha256:
        raise IntegrityError.of(path, "metadata-damaged", "its content has changed", REBUILD)


def _read_rows(path: Path, header: Header) -> tuple[Row, ...]:
    there = [column for column in header.columns if column not in BESIDE_DIGEST or (path / column).is_dir()]
    columns = [read_column(path / column) for column in there]
    return tuple(Row(**dict(zip(there, values, strict=True))) for values in zip(*columns, strict=True))


def read_column(path: Path) -> list[Any]:
    """The values of one column, in the order of the rows."""
    array = zarr.open_array(LocalStore(path, read_only=True), mode="r", zarr_format=3)
    return list(np.asarray(array[:]).tolist())
