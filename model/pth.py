"""PyTorch checkpoints as arrays: ``.pth`` files, both the zip of today and the plain file of before 1.6.

Nothing in a file is executed (see ``pickled``), and nothing larger than the file is made of it.
Result: ``{name: array}`` in the order of the file, each of the shape and dtype that was saved.
"""

import io
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from model.pickled import Machine, Storage, Tensor
from pipeline.errors import IntegrityError

LONGEST_PICKLE = 1 << 20  # bytes; that of the largest SonoNet has 29,000
ZIP = b"PK\x03\x04"
LEGACY = [0x1950A86A20F9469CFC6C, 1001]  # the number and the version that a file of before 1.6 begins with
OTHER_FILE = "give weights as `torch.save` writes a state_dict"
DAMAGE = (
    OSError,
    EOFError,
    LookupError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
)

Read = Callable[[Storage], bytes]
Order = Literal["<", ">"]  # of bytes, as NumPy writes it
ORDERS: Mapping[bytes, Order] = {b"little": "<", b"big": ">"}


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """All tensors of a checkpoint by name; IntegrityError if it is damaged or holds anything else."""
    with _readable(path), path.open("rb") as file:
        size = path.stat().st_size
        if file.read(len(ZIP)) != ZIP:
            return _arrays(*_legacy(file, size), size)
        with zipfile.ZipFile(file) as archive:
            return _arrays(*_zip(archive, size), size)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Damage to a zip, a pickle or a text is reported in as many ways as it can be met."""
    try:
        yield
    except DAMAGE as error:
        reason = f"not a checkpoint that can be read without executing it: {str(error) or repr(error):.200}"
        raise IntegrityError.of(path, "weights-unreadable", reason, OTHER_FILE) from error


def _arrays(found: Any, read: Read, order: Order, size: int) -> dict[str, NDArray[Any]]:
    """Copy the tensors out of their storages."""
    tensors = _tensors(found)
    # A tensor may repeat an item, and many may share one storage: few bytes could become terabytes.
    if sum(tensor.nbytes for tensor in tensors.values()) > size:
        raise ValueError("its tensors are larger than the file")
    storages = {tensor.storage for tensor in tensors.values()}
    items = {storage: _items(storage, read, order) for storage in storages}
    return {name: tensor.of(items[tensor.storage]) for name, tensor in tensors.items()}


def _tensors(found: Any) -> Mapping[str, Tensor]:
    if not isinstance(found, dict) or not found:
        raise ValueError("it does not hold tensors by name")
    for name, value in found.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{name!r:.60} is not a tensor")
    return found


def _items(storage: Storage, read: Read, order: Order) -> NDArray[Any]:
    content = read(storage)
    # Tensors were checked against the length that the pickle tells; here, that it tells the truth.
    if len(content) != storage.nbytes:
        reason = f"storage {storage.key!r:.60} has {len(content)} bytes instead of {storage.nbytes}"
        raise ValueError(reason)
    return np.frombuffer(content, storage.dtype.newbyteorder(order)).astype(storage.dtype)


# --- today's file: a zip with a pickle, and an entry for each storage ---------------------------


def _zip(archive: zipfile.ZipFile, size: int) -> tuple[Any, Read, Order]:
    """What the pickle says, how to read a storage, and the byte order."""
    sizes = _entries(archive, size)
    pickles = [name for name in sizes if name.endswith("/data.pkl")]
    if len(pickles) != 1 or sizes[pickles[0]] > LONGEST_PICKLE:
        raise ValueError(f"its zip has not one data.pkl, of at most {LONGEST_PICKLE} bytes")
    root = pickles[0].removesuffix("/data.pkl")
    order = archive.read(f"{root}/byteorder") if f"{root}/byteorder" in sizes else b"little"
    if order not in ORDERS:
        raise ValueError(f"its byte order is {order!r:.60}")
    found = Machine(legacy=False).run(io.BytesIO(archive.read(f"{root}/data.pkl")))

    def read(storage: Storage) -> bytes:
        return archive.read(f"{root}/data/{storage.key}")

    return found, read, ORDERS[order]


def _entries(archive: zipfile.ZipFile, size: int) -> dict[str, int]:
    """Bytes of each entry; as ``torch.save`` writes them, none is packed, and none lies in another."""
    entries = archive.infolist()
    sizes = {entry.filename: entry.file_size for entry in entries}
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("its zip has packed entries")
    if len(sizes) < len(entries) or sum(sizes.values()) > size:
        raise ValueError("its zip has entries of one name, or more bytes than the file")
    return sizes


# --- the file of before 1.6: five pickles, then the storages one after the other ----------------


def _legacy(file: BinaryIO, size: int) -> tuple[Any, Read, Order]:
    """As ``_zip``; the pickles are number, version, system, tensors, and the keys of the storages."""
    file.seek(0)
    head = io.BytesIO(file.read(LONGEST_PICKLE))
    machine = Machine(legacy=True)
    if [machine.run(head), machine.run(head)] != LEGACY:
        raise ValueError("neither a zip nor a file of PyTorch before 1.6")
    system, found, keys = (machine.run(head) for _ in range(3))
    if type(system) is not dict or system.get("little_endian") is not True:
        raise ValueError("its byte order is not known")
    places = _places(file, keys, machine.storages, head.tell())

    def read(storage: Storage) -> bytes:
        file.seek(places[storage.key])
        return file.read(min(storage.nbytes, size))

    return found, read, "<"


def _places(file: BinaryIO, keys: Any, storages: Mapping[str, Storage], place: int) -> dict[str, int]:
    """Where the items of each storage begin: behind their number, an int64."""
    places = {}
    for key in keys:
        if type(key) is not str:
            raise ValueError("a storage whose key is not a text")
        file.seek(place)
        (length,) = struct.unpack("<q", file.read(8))
        if length != storages[key].length:
            raise ValueError(f"storage {key!r:.60} has {length} items instead of {storages[key].length}")
        places[key] = place + 8
        place += 8 + storages[key].nbytes
    return places
