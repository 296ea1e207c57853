"""Tensors that a pickle speaks of, found without executing it.

A pickle is a program for a small stack machine, and may call any function of Python. The machine here
knows just the instructions and names that ``torch.save`` needs for a dict of tensors; on any other it
raises ValueError. Values are dicts by text, lists, tuples, texts, numbers and ``Tensor``; a tensor is
where its items lie, not the items themselves.
"""

import io
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

MOST_AXES = 8
DTYPES = {
    "torch DoubleStorage": "f8",
    "torch FloatStorage": "f4",
    "torch HalfStorage": "f2",
    "torch LongStorage": "i8",
    "torch IntStorage": "i4",
    "torch ShortStorage": "i2",
    "torch CharStorage": "i1",
    "torch ByteStorage": "u1",
}


@dataclass(frozen=True)
class Storage:
    """``length`` items of ``dtype`` that a file keeps under ``key``."""

    key: str
    dtype: np.dtype[Any]
    length: int

    @property
    def nbytes(self) -> int:
        """Bytes of all items."""
        return self.length * self.dtype.itemsize


@dataclass(frozen=True)
class Tensor:
    """Items of a storage from number ``offset`` on; ``strides`` are counted in items, too."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor as an array of its own."""
        return prod(self.shape) * self.storage.dtype.itemsize

    def of(self, items: NDArray[Any]) -> NDArray[Any]:
        """The tensor as an array; ``items`` are all those of its storage."""
        strides = [step * items.itemsize for step in self.strides]
        return as_strided(items[self.offset :], self.shape, strides, writeable=False).copy()


@dataclass(frozen=True)
class _Function:
    """One of the few that a checkpoint may name; it is never imported."""

    name: str


_MARK = object()


class Machine:
    """Runs pickles of protocol 2; what an instruction does to the stack is told by ``pickletools.dis``.

    ``storages`` are those that the pickles run so far referred to, by key. ``legacy`` tells that a
    reference has one field more, as before PyTorch 1.6.
    """

    def __init__(self, *, legacy: bool) -> None:
        self.legacy = legacy
        self.storages: dict[str, Storage] = {}
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: io.BytesIO) -> Any:
        """The value of the pickle that begins here; ``file`` then stands behind it."""
        self.stack, self.memo = [], {}
        while (instruction := _instruction(file)) != "STOP":
            self._step(instruction, _argument(instruction, file))
        (value,) = self.stack
        return value

    def _step(self, instruction: str, argument: Any) -> None:
        if instruction in _CONSTANTS:
            self.stack.append(_CONSTANTS[instruction]())
        elif instruction in ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"):
            self.stack.append(argument)
        elif instruction in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif instruction in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif instruction in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self.stack.append(self._last(int(instruction[-1])))
        elif instruction == "GLOBAL":
            self.stack.append(_known(argument))
        elif instruction in _ACTIONS:
            _ACTIONS[instruction](self)
        elif instruction != "PROTO":
            raise ValueError(f"its pickle has the instruction {instruction}")

    def _last(self, count: int) -> tuple[Any, ...]:
        """Take that many values off the stack."""
        first = len(self.stack) - count
        if first < 0:
            raise ValueError("its pickle takes more values than there are")
        taken = tuple(self.stack[first:])
        del self.stack[first:]
        return taken

    def _since_mark(self) -> tuple[Any, ...]:
        for count, value in enumerate(reversed(self.stack), start=1):
            if value is _MARK:
                return self._last(count)[1:]
        raise ValueError("its pickle has no mark where one is needed")

    def _top(self, kind: type) -> Any:
        if not self.stack or type(self.stack[-1]) is not kind:
            raise ValueError(f"its pickle has no {kind.__name__} where one is needed")
        return self.stack[-1]

    def tuple_(self) -> None:
        """Make the values since the last mark a tuple."""
        self.stack.append(self._since_mark())

    def appends(self) -> None:
        """Add the values since the last mark to the list before it."""
        values = self._since_mark()
        self._top(list).extend(values)

    def set_item(self) -> None:
        """Add the last two values, key and value, to the dict before them."""
        self._set(self._last(2))

    def set_items(self) -> None:
        """Add the values since the last mark, key by value, to the dict before it."""
        self._set(self._since_mark())

    def _set(self, pairs: tuple[Any, ...]) -> None:
        target = self._top(dict)
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            # Python itself would crash on the hash of a very deeply nested tuple.
            if type(key) is not str:
                raise ValueError("its pickle has a key that is not a text")
            target[key] = value

    def build(self) -> None:
        """Leave out the attributes of a dict: the versions of layers, which are not needed."""
        self._last(1)
        self._top(dict)

    def call(self) -> None:
        """Do what one of the known functions would."""
        function, arguments = self._last(2)
        if type(function) is not _Function or type(arguments) is not tuple:
            raise ValueError("its pickle calls what is no function")
        self.stack.append(_FUNCTIONS[function.name](*arguments))

    def refer(self) -> None:
        """Read a reference to a storage: ("storage", type, key, device, length)."""
        ((word, dtype, key, device, length, *rest),) = self._last(1)
        if any(type(text) is not str for text in (word, key, device)) or not isinstance(dtype, np.dtype):
            raise ValueError("its pickle refers to what is no storage")
        if word != "storage" or rest != [None] * self.legacy:
            raise ValueError("its pickle refers to what is no storage")
        storage = Storage(key, dtype, _natural(length))
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError(f"storage {key!r} is told to be of two kinds")
        self.stack.append(storage)


# --- instructions -------------------------------------------------------------------------------

_NAMES = {instruction.code: instruction.name for instruction in pickletools.opcodes}
_FORMATS = {
    "PROTO": "<B",
    "BININT": "<i",
    "BININT1": "<B",
    "BININT2": "<H",
    "BINPUT": "<B",
    "BINGET": "<B",
    "LONG_BINPUT": "<I",
    "LONG_BINGET": "<I",
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "MARK": lambda: _MARK,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_ACTIONS: dict[str, Callable[[Machine], None]] = {
    "TUPLE": Machine.tuple_,
    "APPENDS": Machine.appends,
    "SETITEM": Machine.set_item,
    "SETITEMS": Machine.set_items,
    "BUILD": Machine.build,
    "REDUCE": Machine.call,
    "BINPERSID": Machine.refer,
}


def _instruction(file: io.BytesIO) -> str:
    code = file.read(1).decode("latin-1")
    if code not in _NAMES:
        raise ValueError("its pickle ends early, or is none")
    return _NAMES[code]


def _argument(instruction: str, file: io.BytesIO) -> Any:
    """What stands behind an instruction; None behind those that have none, or are not known here."""
    if instruction in _FORMATS:
        return _unpacked(_FORMATS[instruction], file)
    if instruction == "LONG1":
        return int.from_bytes(_bytes(_unpacked("<B", file), file), "little", signed=True)
    if instruction == "BINUNICODE":
        return _bytes(_unpacked("<I", file), file).decode()
    if instruction == "GLOBAL":
        return b" ".join(file.readline().removesuffix(b"\n") for _ in range(2)).decode()
    return None


def _unpacked(form: str, file: io.BytesIO) -> int:
    (value,) = struct.unpack(form, _bytes(struct.calcsize(form), file))
    return int(value)


def _bytes(count: int, file: io.BytesIO) -> bytes:
    found = file.read(count)
    if len(found) < count:
        raise ValueError("its pickle ends early")
    return found


def _known(name: str) -> Any:
    if name in DTYPES:
        return np.dtype(DTYPES[name])
    if name in _FUNCTIONS:
        return _Function(name)
    raise ValueError(f"its pickle names {name!r:.60}, which is not needed for tensors")


# --- what the known functions give --------------------------------------------------------------


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *flags: Any) -> Tensor:
    """A tensor, checked to lie within its storage; ``flags`` are about gradients."""
    if type(storage) is not Storage or len(shape) != len(strides) or len(shape) > MOST_AXES:
        raise ValueError("its pickle has a tensor without a storage or a shape")
    found = Tensor(storage, _natural(offset), tuple(map(_natural, shape)), tuple(map(_natural, strides)))
    last = found.offset + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    if 0 in found.shape or last >= storage.length:
        raise ValueError(f"a tensor {found.shape} does not fit into a storage of {storage.length} items")
    return found


def _parameter(tensor: Any, *flags: Any) -> Tensor:
    if type(tensor) is not Tensor:
        raise ValueError("its pickle has a parameter without a tensor")
    return tensor


def _empty() -> dict[str, Any]:
    return {}


def _natural(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"its pickle has {number!r:.60} for a number of items")
    return number


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": _empty,
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
}
