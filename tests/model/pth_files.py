"""Small PyTorch checkpoints, written instruction by instruction, so that each can be bent."""

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

STORAGES = {"f8": "Double", "f4": "Float", "f2": "Half", "i8": "Long", "i4": "Int", "u1": "Byte"}
EMPTY = b"ccollections\nOrderedDict\n)R"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def sequence(*values: bytes) -> bytes:
    return b"(" + b"".join(values) + b"t"


def numbers(*values: int) -> bytes:
    return sequence(*map(number, values))


def call(function: str, *arguments: bytes) -> bytes:
    return b"c" + function.replace(" ", "\n").encode() + b"\n" + sequence(*arguments) + b"R"


def storage(key: str, length: int, *, kind: str = "Float", legacy: bool = False) -> bytes:
    more = [b"N"] * legacy
    name = f"ctorch\n{kind}Storage\n".encode()
    return sequence(text("storage"), name, text(key), text("cpu"), number(length), *more) + b"Q"


def tensor(kept: bytes, shape: tuple[int, ...], strides: tuple[int, ...], *, offset: int = 0) -> bytes:
    place = (number(offset), numbers(*shape), numbers(*strides))
    return call("torch._utils _rebuild_tensor_v2", kept, *place, b"\x89", EMPTY)


def pickled(items: Mapping[str, bytes]) -> bytes:
    """A pickle of a dict, of pickled values by name."""
    return whole(EMPTY + b"(" + b"".join(text(name) + value for name, value in items.items()) + b"u")


def whole(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def whole_tensor(key: str, values: NDArray[np.generic], *, legacy: bool = False) -> bytes:
    strides = tuple(step // values.itemsize for step in values.strides)
    kind = STORAGES[values.dtype.str[1:]]
    return tensor(storage(key, values.size, kind=kind, legacy=legacy), values.shape, strides)


def write_zip(
    path: Path,
    values: Mapping[str, NDArray[np.generic]],
    *,
    pickle: bytes | None = None,
    order: str = "little",
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """A checkpoint of today; the tensor of number n is kept under the key n."""
    told = pickled({name: whole_tensor(str(key), value) for key, (name, value) in enumerate(values.items())})
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("net/data.pkl", told if pickle is None else pickle)
        archive.writestr("net/byteorder", order)
        for key, value in enumerate(values.values()):
            stored = value.astype(value.dtype.newbyteorder(">" if order == "big" else "<"))
            archive.writestr(f"net/data/{key}", stored.tobytes())
    return path


def write_legacy(
    path: Path,
    values: Mapping[str, NDArray[np.generic]],
    *,
    keys: bytes | None = None,
    little: bool = True,
    cut: int = 0,
) -> Path:
    """A checkpoint of before PyTorch 1.6, without its last ``cut`` bytes."""
    magic = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
    system = b"}" + text("little_endian") + (b"\x88" if little else b"\x89") + b"s"
    told = {name: whole_tensor(name, value, legacy=True) for name, value in values.items()}
    listed = b"](" + b"".join(map(text, values)) + b"e" if keys is None else keys
    content = whole(magic) + whole(number(1001)) + whole(system) + pickled(told) + whole(listed)
    for value in values.values():
        content += struct.pack("<q", value.size) + value.tobytes()
    path.write_bytes(content[: len(content) - cut])
    return path
